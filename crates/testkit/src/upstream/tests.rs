//! The peers, tried with the kit's own client.

use super::*;
use crate::poll::{Gate, eventually};
use crate::raw::{Ending, RawClient};
use crate::wire::Framing;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_script_is_followed_and_what_came_is_kept() {
    let gate = Gate::new();
    let script = Script::new()
        .read_head()
        .read_body(3)
        .wait(&gate)
        .send("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n")
        .send_slowly("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 7, Duration::ZERO)
        .close();
    let upstream = Upstream::script(vec![script]).unwrap();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").unwrap();
    gate.open();
    let response = client.read_response(SOON).unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(response.interim[0].status, 103);
    client.expect_close(SOON).unwrap();
    let transcripts = upstream.finish(SOON).unwrap();
    assert!(transcripts[0].text().ends_with("\r\n\r\nabc"));
}

#[test]
fn a_script_that_is_not_met_or_not_reached_is_told() {
    let scripts = vec![Script::new().read_until("never").close(), Script::new().close()];
    let upstream = Upstream::script(scripts).unwrap();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    client.send("something else").unwrap();
    client.half_close().unwrap();
    eventually(SOON, "the first script to fail", || client.expect_end(Duration::ZERO).ok());
    let told = upstream.finish(SOON).unwrap_err().to_string();
    assert!(told.contains("connection 0: step 0") && told.contains("something else"), "{told}");
    assert!(told.contains("connection 1 was never made"), "{told}");
}

#[test]
fn a_connection_beyond_the_scripts_is_told() {
    let upstream = Upstream::script(vec![Script::new().hold()]).unwrap();
    let _held = RawClient::connect(upstream.addr()).unwrap();
    let mut extra = RawClient::connect(upstream.addr()).unwrap();
    extra.expect_end(SOON).unwrap();
    assert_eq!(upstream.connections(), 2);
    let told = upstream.finish(SOON).unwrap_err().to_string();
    assert!(told.contains("1 connection(s) more"), "{told}");
}

#[test]
fn a_close_and_a_reset_are_told_apart() {
    let scripts = vec![Script::new().close(), Script::new().reset(), Script::new().read_until("x").hold()];
    let upstream = Upstream::script(scripts).unwrap();
    let connect = || RawClient::connect(upstream.addr()).unwrap();
    assert_eq!(connect().expect_end(SOON).unwrap(), Ending::Closed);
    // The reset may already have come when the client connects, which then reports it.
    if let Ok(mut client) = RawClient::connect(upstream.addr()) {
        assert_eq!(client.expect_end(SOON).unwrap(), Ending::Reset);
    }
    let mut held = connect();
    held.send("x").unwrap();
    upstream.finish(SOON).unwrap();
    held.expect_end(SOON).unwrap();
}

#[test]
fn a_server_keeps_connections_alive_and_counts() {
    let upstream = Upstream::serving(|request| match request.path() {
        "/chunked" => Reply::chunked(vec![b"ab".to_vec(), b"c".to_vec()], Duration::ZERO).trailer("X-End", "yes"),
        "/raw" => Reply::raw("nonsense"),
        "/reset" => Reply::reset(),
        _ => Reply::ok(request.body.clone()).header("X-Nth", &request.nth.to_string()),
    })
    .unwrap();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    let echo = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.send(format!("{echo}{echo}")).unwrap();
    let answers = client.read_responses(2, SOON).unwrap();
    assert_eq!((answers[1].text().as_str(), answers[1].header("x-nth")), ("abc", Some("1")));
    let chunked = client.get("/chunked", SOON).unwrap();
    assert_eq!((chunked.text().as_str(), chunked.chunks), ("abc", vec![2, 1]));
    assert_eq!(chunked.trailers, ["X-End: yes"]);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.read_response_to("HEAD", SOON).unwrap().framing, None);
    client.send("GET /raw HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.read_until_close(SOON).unwrap(), b"nonsense");
    let mut second = RawClient::connect(upstream.addr()).unwrap();
    second.send("GET /reset HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(second.expect_end(SOON).unwrap(), Ending::Reset);
    assert_eq!((upstream.requests(), upstream.connections()), (6, 2));
    assert_eq!(upstream.requests_by_connection(), [5, 1]);
    assert_eq!(upstream.received()[0].framing, Framing::Chunked);
    assert!(upstream.problems().is_empty());
}

#[test]
fn a_malformed_request_is_a_problem() {
    let upstream = Upstream::serving(|_| Reply::ok("")).unwrap();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 400);
    assert_eq!(upstream.problems().len(), 1);
}

#[test]
fn a_worker_serves_one_connection_until_it_closes() {
    let options = ServingOptions { workers: Some(1), ..ServingOptions::default() };
    let upstream = Upstream::serving_with(options, |_| Reply::ok("x")).unwrap();
    let mut first = RawClient::connect(upstream.addr()).unwrap();
    assert_eq!(first.get("/", SOON).unwrap().status, 200);
    let mut second = RawClient::connect(upstream.addr()).unwrap();
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    second.expect_silence(Duration::from_millis(50)).unwrap();
    drop(first);
    assert_eq!(second.read_response(SOON).unwrap().status, 200);
    assert_eq!(upstream.peak_connections(), 1);
}

#[test]
fn an_idle_connection_is_closed_in_time_and_a_worn_one_too() {
    // Long enough that a busy machine does not close the connection before its first request.
    let idle_timeout = Some(Duration::from_millis(500));
    let options = ServingOptions { idle_timeout, announce_idle_timeout: Some(1), ..ServingOptions::default() };
    let upstream = Upstream::serving_with(options, |_| Reply::ok("x")).unwrap();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    assert_eq!(client.get("/", SOON).unwrap().header("keep-alive"), Some("timeout=1"));
    client.expect_close(SOON).unwrap();

    let options = ServingOptions { requests_per_connection: Some(2), ..ServingOptions::default() };
    let upstream = Upstream::serving_with(options, |_| Reply::ok("x")).unwrap();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2)).unwrap();
    client.read_responses(2, SOON).unwrap();
    client.expect_close(SOON).unwrap();
}

#[test]
fn a_server_goes_down_and_comes_back_at_its_address() {
    let upstream = Upstream::serving(|_| Reply::ok("x")).unwrap();
    for _ in 0..3 {
        let mut client = RawClient::connect(upstream.addr()).unwrap();
        assert_eq!(client.get("/", SOON).unwrap().status, 200);
        upstream.down();
        client.expect_end(SOON).unwrap();
        assert!(RawClient::connect(upstream.addr()).is_err());
        assert_eq!(upstream.open_connections(), 0);
        upstream.up().unwrap();
    }
}

#[test]
fn some_addresses_cannot_be_reached() {
    let refusing = Upstream::refusing().unwrap();
    let refused = std::net::TcpStream::connect(refusing.addr()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let deaf = Upstream::deaf().unwrap();
    let timed_out = std::net::TcpStream::connect_timeout(&deaf.addr(), Duration::from_millis(100)).unwrap_err();
    assert_eq!(timed_out.kind(), std::io::ErrorKind::TimedOut);
}
