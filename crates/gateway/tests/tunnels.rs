//! Upgraded connections: WebSocket and whatever else a client and a service agree on (RFC 9110, 7.8).

use kernel::DrainPhase;
use testkit::{Gate, Script, Upstream};

use crate::support::{SOON, Setup, get, ms, noise};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nContent-Length: 5\r\n\r\n";

#[test]
fn bytes_pass_both_ways_and_the_client_may_end_first() {
    let script = Script::new().read_head().send(AGREED).read_until("ping").send("pong").read_end().send("bye").close();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send(ASK).unwrap();
    let answer = client.read_response_head(SOON).unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    assert_eq!((answer.header("connection"), answer.header("sec-websocket-accept").is_some()), (Some("upgrade"), true));
    client.send("ping").unwrap();
    assert_eq!(client.read_exact(4, SOON).unwrap(), b"pong");
    client.half_close().unwrap();
    assert_eq!(client.read_until_close(SOON).unwrap(), b"bye");
    let received = upstream.finish(SOON).unwrap().remove(0).text();
    assert!(
        received.contains("\r\nConnection: upgrade\r\n") && received.contains("\r\nUpgrade: websocket\r\n"),
        "{received}"
    );
    assert_eq!(running.metric("evenkeel_gateway_tunnels_total", &[]), 1.0);
    testkit::eventually(SOON, "the request to end", || (running.view().routes[0].by_class[0] == 1).then_some(()));
}

#[test]
fn the_service_may_end_first() {
    let script = Script::new().read_head().send(AGREED).send("bye").half_close().read_until("later").read_end();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send(ASK).unwrap();
    client.read_response_head(SOON).unwrap();
    assert_eq!(client.read_until_close(SOON).unwrap(), b"bye");
    client.send("later").unwrap();
    client.half_close().unwrap();
    upstream.finish(SOON).unwrap();
}

/// Frames in the same segment as a head belong to the tunnel.
#[test]
fn what_comes_with_the_heads_is_not_lost() {
    let script = Script::new().read_head().send(format!("{AGREED}hello")).read_until("early").hold();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send(format!("{ASK}early")).unwrap();
    assert_eq!(client.read_response_head(SOON).unwrap().status, 101);
    assert_eq!(client.read_exact(5, SOON).unwrap(), b"hello");
    upstream.finish(SOON).unwrap();
}

#[test]
fn large_streams_pass_both_ways_at_once() {
    let body = noise(3_000_000);
    let script = Script::new().read_head().send(AGREED).send(body.clone()).read_body(body.len()).send("end").close();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send(ASK).unwrap();
    client.read_response_head(SOON).unwrap();
    let sent = body.clone();
    let mut expected = body;
    expected.extend(b"end");
    // The service sends before it reads: with both directions blocked on each other this would never end.
    client.send(&sent).unwrap();
    assert!(client.read_until_close(SOON).unwrap() == expected);
    let received = upstream.finish(SOON).unwrap().remove(0);
    assert!(received.received.ends_with(&sent));
}

#[test]
fn a_reset_on_one_side_ends_the_other() {
    let broken = Gate::new();
    let scripts = vec![
        Script::new().read_head().send(AGREED).wait(&broken).reset(),
        Script::new().read_head().send(AGREED).hold(),
    ];
    let upstream = Upstream::script(scripts).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send(ASK).unwrap();
    client.read_response_head(SOON).unwrap();
    broken.open();
    client.expect_end(SOON).unwrap();
    let mut client = running.client();
    client.send(ASK).unwrap();
    client.read_response_head(SOON).unwrap();
    client.reset().unwrap();
    testkit::eventually(SOON, "the tunnel to end", || (running.view().connections == 0).then_some(()));
    upstream.finish(SOON).unwrap();
}

#[test]
fn a_tunnel_that_falls_silent_is_closed_and_one_that_talks_is_not() {
    let script = Script::new().read_head().send(AGREED).send_slowly(vec![b'.'; 12], 1, ms(50)).hold();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).edge(|e| e.tunnel_idle_timeout = ms(300)).start();
    let mut client = running.client();
    client.send(ASK).unwrap();
    client.read_response_head(SOON).unwrap();
    // Twice as long as the silence that ends it, and then that silence.
    assert_eq!(client.read_until_close(SOON).unwrap(), [b'.'; 12]);
    upstream.finish(SOON).unwrap();
}

/// A tunnel has no end of its own, so the drain waits for it, and cuts it at the deadline.
#[test]
fn a_drain_leaves_a_tunnel_until_the_deadline() {
    let script = Script::new().read_head().send(AGREED).read_until("ping").send("pong").hold();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send(ASK).unwrap();
    client.read_response_head(SOON).unwrap();
    running.trigger.advance(DrainPhase::Draining);
    client.send("ping").unwrap();
    assert_eq!(client.read_exact(4, SOON).unwrap(), b"pong");
    running.stop(DrainPhase::Closed);
    client.expect_end(SOON).unwrap();
}

/// A service that refuses is answered for as with any request, and the connection lives on.
#[test]
fn an_upgrade_that_is_refused_is_an_ordinary_exchange() {
    let refusal =
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo/2\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let upstream = Upstream::script(vec![Script::new().read_head().send(refusal).read_head().send(ok).hold()]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send(ASK).unwrap();
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, answer.header("upgrade"), answer.closes()), (426, Some("foo/2"), false));
    client.send(get("/")).unwrap();
    assert_eq!(client.read_response(SOON).unwrap().text(), "ok");
    upstream.finish(SOON).unwrap();
}
