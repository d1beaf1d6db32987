//! Time limits, each shortened so far that a test can wait for it, and none met too early: what keeps moving is left
//! alone. A test waits on its socket; only how long it had to wait at least is judged.

use std::time::Duration;

use kernel::Clock;
use testkit::{Gate, RawClient, RawOptions, Reply, Script, Upstream, WireError, eventually};

use crate::support::{Running, SOON, Setup, code, get, ms};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Runs `wait` and makes sure that it took `least` at least.
#[track_caller]
fn after<T>(least: Duration, wait: impl FnOnce() -> T) -> T {
    let clock = Clock::real();
    let start = clock.now();
    let result = wait();
    let took = clock.now().since(start);
    assert!(took >= least, "it took {took:?} and not {least:?}");
    result
}

fn serving(change: impl FnOnce(Setup) -> Setup) -> (testkit::ServingUpstream, Running) {
    let upstream = Upstream::serving(|r| Reply::ok(r.body.clone())).unwrap();
    let running = change(Setup::to(upstream.addr())).start();
    (upstream, running)
}

/// Reads the answer to a request that took too long to come.
#[track_caller]
fn timed_out(client: &mut RawClient) {
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (408, "request-timeout", true));
    client.expect_end(SOON).unwrap();
}

#[test]
fn a_head_that_does_not_come_to_an_end() {
    let (upstream, running) = serving(|s| s.edge(|e| e.header_timeout = ms(150)));
    for part in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r", "\r\n"] {
        let mut client = running.client();
        after(ms(150), || {
            client.send(part).unwrap();
            timed_out(&mut client);
        });
    }
    // A second head on a connection gets no more time than the first.
    let mut client = running.client();
    client.send(format!("{}GET /2 HT", get("/1"))).unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 200);
    timed_out(&mut client);
    assert_eq!(upstream.requests(), 1);
    running.counted("request-timeout", 5);
}

/// The time counts from the first byte to the last, so bytes now and then do not win any.
#[test]
fn a_head_that_trickles() {
    let (upstream, running) = serving(|s| s.edge(|e| e.header_timeout = ms(200)));
    let mut client = running.client();
    let mut sent = 0;
    let head = format!("GET / HTTP/1.1\r\nX-A: {}", "b".repeat(1000));
    let silent = |client: &mut RawClient| client.expect_silence(ms(20)).is_ok();
    // The silence is the pause between bytes; it ends with the answer.
    while sent < head.len() && silent(&mut client) {
        client.send_until_refused(&head.as_bytes()[sent..=sent], SOON).unwrap();
        sent += 1;
    }
    assert!((1..200).contains(&sent), "{sent} bytes were taken");
    assert_eq!(upstream.requests(), 0);
    running.counted("request-timeout", 1);
}

#[test]
fn a_connection_without_a_request_is_closed_without_a_word() {
    let (_upstream, running) = serving(|s| {
        s.edge(|e| {
            e.header_timeout = ms(150);
            e.idle_timeout = ms(300);
        })
    });
    let mut client = running.client();
    after(ms(100), || client.expect_close(SOON).unwrap());
    let mut client = running.client();
    for _ in 0..2 {
        assert_eq!(client.get("/", SOON).unwrap().status, 200);
    }
    after(ms(250), || client.expect_close(SOON).unwrap());
    eventually(SOON, "no connection", || (running.view().connections == 0).then_some(()));
}

#[test]
fn a_body_that_stops() {
    // One that is waited for as a whole, and two that are sent on as they come.
    for (head, part) in [
        ("Content-Length: 10", "abc"),
        ("Content-Length: 100000", "abc"),
        ("Transfer-Encoding: chunked", "a\r\nabc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
    ] {
        let (upstream, running) = serving(|s| s.edge(|e| e.body_idle_timeout = ms(200)));
        let mut client = running.client();
        after(ms(200), || {
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{part}")).unwrap();
            timed_out(&mut client);
        });
        // The service saw its connection end, and no end of the body.
        eventually(SOON, "the service's connection to end", || (upstream.open_connections() == 0).then_some(()));
        assert_eq!((upstream.requests(), upstream.problems().len()), (0, 0), "{head}");
    }
}

#[test]
fn a_body_that_comes_slowly_but_steadily_is_taken() {
    let (_upstream, running) = serving(|s| s.edge(|e| e.body_idle_timeout = ms(500)).service(|s| s.timeout = ms(600)));
    for head in ["Content-Length: 30", "Transfer-Encoding: chunked"] {
        let mut client = running.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n")).unwrap();
        let body = if head.starts_with('C') { "x".repeat(30) } else { "1\r\nx\r\n".repeat(5) };
        // In all it takes longer than either limit.
        client.send_in_pieces(&body, 1, ms(25)).unwrap();
        if !head.starts_with('C') {
            client.send("0\r\n\r\n").unwrap();
        }
        assert_eq!(client.read_response(SOON).unwrap().status, 200, "{head}");
    }
}

#[test]
fn a_body_below_the_least_rate() {
    for head in ["Content-Length: 1000", "Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let (upstream, running) = serving(|s| {
            s.edge(|e| {
                e.min_rate = 10_000;
                e.min_rate_grace = ms(200);
            })
        });
        let mut client = running.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n")).unwrap();
        let mut sent = 0;
        while sent < 900 && client.expect_silence(ms(10)).is_ok() {
            let piece = if head.starts_with('C') { "x" } else { "1\r\nx\r\n" };
            client.send_until_refused(piece, SOON).unwrap();
            sent += 1;
        }
        assert!(sent < 900, "{head}: all of it was taken");
        running.counted("request-timeout", 1);
        assert_eq!(upstream.requests(), 0, "{head}");
    }
}

/// A service that sends 48 MiB, and a client with a small receive buffer.
fn firehose(change: impl FnOnce(Setup) -> Setup) -> (testkit::ServingUpstream, Running, RawClient) {
    let upstream = Upstream::serving(|_| Reply::ok(vec![b'x'; 48 * 1024 * 1024])).unwrap();
    let running = change(Setup::to(upstream.addr())).start();
    let options = RawOptions { receive_buffer: Some(16 * 1024), ..RawOptions::default() };
    let mut client = RawClient::connect_with(running.addr, &options).unwrap();
    client.send(get("/")).unwrap();
    client.read_response_head(SOON).unwrap();
    (upstream, running, client)
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let (upstream, running, _client) = firehose(|s| s.edge(|e| e.body_idle_timeout = ms(300)));
    running.counted("request-timeout", 1);
    eventually(SOON, "the service's connection to end", || (upstream.open_connections() == 0).then_some(()));
    eventually(SOON, "the client's connection to end", || (running.view().connections == 0).then_some(()));
}

#[test]
fn a_client_that_reads_below_the_least_rate_is_cut_off() {
    let (upstream, running, mut client) = firehose(|s| {
        s.edge(|e| {
            e.min_rate = 20_000_000;
            e.min_rate_grace = ms(300);
        })
    });
    // 100 KB a second at most.
    while running.errors("request-timeout") == 0 {
        client.read_exact(2000, SOON).unwrap();
        testkit::pace(ms(20));
    }
    eventually(SOON, "the service's connection to end", || (upstream.open_connections() == 0).then_some(()));
}

#[test]
fn a_service_that_does_not_answer() {
    let script = Script::new().read_request().read_end();
    let upstream = Upstream::script(vec![script.clone(), script.clone(), script]).unwrap();
    let running = Setup::to(upstream.addr()).service(|s| s.timeout = ms(150)).start();
    let mut client = running.client();
    for request in [get("/"), crate::support::post("/", "abc")] {
        let answer = after(ms(150), || {
            client.send(&request).unwrap();
            client.read_response(SOON).unwrap()
        });
        assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (504, "upstream-timeout", false));
    }
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 504);
    upstream.finish(SOON).unwrap();
    drop(client);
    running.at_rest();
}

#[test]
fn a_route_may_have_less_time_or_more() {
    let upstream = Upstream::serving(|_| Reply::ok("ok").delay(ms(300))).unwrap();
    for (service, route, status) in [(ms(100), SOON, 200), (SOON, ms(100), 504)] {
        let running =
            Setup::to(upstream.addr()).service(|s| s.timeout = service).route(|r| r.timeout = Some(route)).start();
        assert_eq!(running.ask(get("/")).status, status);
    }
}

/// Interim answers win no time.
#[test]
fn a_service_that_only_promises() {
    let script =
        Script::new().read_request().send_slowly("HTTP/1.1 102 Processing\r\n\r\n".repeat(10), 27, ms(40)).hold();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).service(|s| s.timeout = ms(200)).start();
    let answer = after(ms(200), || running.ask(get("/")));
    assert_eq!((answer.status, code(&answer).as_str()), (504, "upstream-timeout"));
    assert!((1..10).contains(&answer.interim.len()), "{}", answer.interim.len());
}

#[test]
fn an_answer_that_stops() {
    let script = Script::new().read_request().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").read_end();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).service(|s| s.body_idle_timeout = ms(200)).start();
    let mut client = running.client();
    client.send(get("/")).unwrap();
    let mut answer = client.read_response_head(SOON).unwrap();
    let error = after(ms(100), || client.read_rest(&mut answer, SOON).unwrap_err());
    assert!(error.downcast_ref::<WireError>().is_some_and(WireError::is_gone), "{error:#}");
    running.counted("upstream-timeout", 1);
    upstream.finish(SOON).unwrap();
}

#[test]
fn an_answer_that_comes_slowly_but_steadily_is_passed_on() {
    let slow = format!("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{}", "x".repeat(30));
    let script = Script::new().read_request().send_slowly(slow, 2, ms(25)).hold();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).service(|s| s.body_idle_timeout = ms(500)).start();
    assert_eq!(running.ask(get("/")).body.len(), 30);
    upstream.finish(SOON).unwrap();
}

/// The time for an answer counts from the end of the request, however long that took to come.
#[test]
fn a_long_upload_leaves_time_for_the_answer() {
    let script = Script::new().read_request().send(OK).hold();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).service(|s| s.timeout = ms(800)).start();
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    client.send_in_pieces("1\r\nx\r\n".repeat(20), 6, ms(50)).unwrap();
    client.send("0\r\n\r\n").unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 200);
    upstream.finish(SOON).unwrap();
}

/// While the body goes up, an early answer may be silent: something moves.
#[test]
fn a_long_upload_keeps_an_early_answer_alive() {
    let script = Script::new()
        .read_head()
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        .read_until("0\r\n\r\n")
        .send("0\r\n\r\n")
        .hold();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).service(|s| s.body_idle_timeout = ms(500)).start();
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let mut answer = client.read_response_head(SOON).unwrap();
    client.send_in_pieces("1\r\nx\r\n".repeat(30), 6, ms(35)).unwrap();
    client.send("0\r\n\r\n").unwrap();
    client.read_rest(&mut answer, SOON).unwrap();
    assert_eq!(answer.text(), "ok");
    upstream.finish(SOON).unwrap();
}

#[test]
fn a_service_that_does_not_take_the_body() {
    let script = Script::new().read_head().wait(&Gate::new());
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr())
        .edge(|e| {
            e.body_idle_timeout = ms(300);
            e.max_body = 100_000_000;
        })
        .start();
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").unwrap();
    client.send_until_refused(vec![b'x'; 48 * 1024 * 1024], SOON).unwrap();
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (504, "upstream-timeout", true));
    running.counted("upstream-timeout", 1);
}

/// A client that waits for 100 (Continue) is not slow; once it has come, it has to send.
#[test]
fn a_client_that_waits_to_be_asked_for_its_body() {
    let script = |gate: &Gate| Script::new().read_head().wait(gate).send("HTTP/1.1 100 Continue\r\n\r\n");
    let (first, second) = (Gate::new(), Gate::new());
    let last = OK.replace("OK\r\n", "OK\r\nConnection: close\r\n");
    let scripts = vec![script(&first).read_body(3).send(last).close(), script(&second).read_end()];
    let upstream = Upstream::script(scripts).unwrap();
    let running = Setup::to(upstream.addr()).edge(|e| e.body_idle_timeout = ms(300)).start();
    let ask = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let mut client = running.client();
    client.send(ask).unwrap();
    client.expect_silence(ms(700)).unwrap();
    first.open();
    assert_eq!(client.read_interim(SOON).unwrap().status, 100);
    client.send("abc").unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 200);
    drop(client);
    let mut client = running.client();
    client.send(ask).unwrap();
    second.open();
    assert_eq!(client.read_interim(SOON).unwrap().status, 100);
    timed_out(&mut client);
    upstream.finish(SOON).unwrap();
}
