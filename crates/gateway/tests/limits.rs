//! Limits on clients, each met exactly and exceeded by one.

use std::net::{IpAddr, Ipv4Addr};

use testkit::{Ending, RawClient, RawOptions, Reply, ServingUpstream, Upstream, eventually};

use crate::support::{Running, SOON, Setup, code, get};

fn start() -> (ServingUpstream, Running) {
    let upstream = Upstream::serving(|r| Reply::ok(r.body.len().to_string())).unwrap();
    let running = Setup::to(upstream.addr())
        .edge(|e| {
            (e.max_request_line, e.max_uri, e.max_header_bytes, e.max_headers, e.max_body) = (200, 100, 300, 10, 1000);
        })
        .start();
    (upstream, running)
}

/// Sends `request` and gives the status, the code if it is an error, and whether the connection ended.
#[track_caller]
fn outcome(running: &Running, request: &str) -> (u16, String, bool) {
    let mut client = running.client();
    client.send(request).unwrap();
    let answer = client.read_response(SOON).unwrap();
    let closes = answer.closes();
    if closes {
        client.expect_close(SOON).unwrap();
    }
    (answer.status, if answer.status < 400 { String::new() } else { code(&answer) }, closes)
}

fn fine() -> (u16, String, bool) {
    (200, String::new(), false)
}

fn refused(status: u16, code: &str) -> (u16, String, bool) {
    (status, code.to_owned(), true)
}

#[test]
fn the_target() {
    let (upstream, running) = start();
    let request = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n - 1));
    assert_eq!(outcome(&running, &request(100)), fine());
    assert_eq!(outcome(&running, &request(101)), refused(414, "uri-too-long"));
    // Without an end, it is refused as soon as it is too long.
    assert_eq!(outcome(&running, &format!("GET /{}", "a".repeat(300))), refused(414, "uri-too-long"));
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn the_request_line() {
    let (_upstream, running) = start();
    let request = |n: usize| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(n - 11));
    assert_eq!(outcome(&running, &request(200)), fine());
    assert_eq!(outcome(&running, &request(201)), refused(414, "uri-too-long"));
}

#[test]
fn the_headers_in_bytes() {
    let (upstream, running) = start();
    // Each line counts with its CRLF; the empty line does not.
    let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "b".repeat(n - 9 - 7));
    assert_eq!(outcome(&running, &head(300)), fine());
    assert_eq!(outcome(&running, &head(301)), refused(431, "headers-too-large"));
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}", "b".repeat(400));
    assert_eq!(outcome(&running, &endless), refused(431, "headers-too-large"));
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn the_headers_in_number() {
    let (upstream, running) = start();
    let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(n - 1));
    assert_eq!(outcome(&running, &head(10)), fine());
    assert_eq!(outcome(&running, &head(11)), refused(431, "headers-too-large"));
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn the_body_with_a_length() {
    let (upstream, running) = start();
    let request = |n: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{}", "b".repeat(n));
    assert_eq!(outcome(&running, &request(1000)), fine());
    // All of it has come, so the connection can be kept; if some of it has not, it cannot.
    assert_eq!(outcome(&running, &request(1001)), (413, "body-too-large".to_owned(), false));
    let announced = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000000000\r\n\r\nbbb";
    assert_eq!(outcome(&running, announced), refused(413, "body-too-large"));
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn the_body_in_chunks() {
    let (upstream, running) = start();
    let request = |sizes: &[usize]| {
        let chunks: String = sizes.iter().map(|n| format!("{n:x}\r\n{}\r\n", "b".repeat(*n))).collect();
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    assert_eq!(outcome(&running, &request(&[1000])), fine());
    assert_eq!(outcome(&running, &request(&[999, 1])), fine());
    for beyond in [&[1001][..], &[999, 2], &[1000, 1]] {
        assert_eq!(outcome(&running, &request(beyond)), refused(413, "body-too-large"), "{beyond:?}");
    }
    // The service never saw the end of those.
    assert_eq!(upstream.requests(), 2);
    assert_eq!(upstream.problems(), [""; 0]);
}

#[test]
fn a_route_may_have_a_limit_of_its_own() {
    let upstream = Upstream::serving(|r| Reply::ok(r.body.len().to_string())).unwrap();
    for (route, n, status) in [(Some(2000), 2000, 200), (Some(2000), 2001, 413), (Some(10), 11, 413), (None, 1001, 413)]
    {
        let running = Setup::to(upstream.addr()).edge(|e| e.max_body = 1000).route(|r| r.max_body = route).start();
        let body = "b".repeat(n);
        let plain = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{body}");
        let chunked =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{n:x}\r\n{body}\r\n0\r\n\r\n");
        assert_eq!(running.ask(plain).status, status, "{route:?}, {n}");
        assert_eq!(running.ask(chunked).status, status, "{route:?}, {n}");
    }
}

/// 128 KiB of headers and 256 lines: twice what clients may send by default.
#[test]
fn the_heads_of_answers() {
    let upstream = Upstream::serving(|r| match r.path() {
        "/fits" => Reply::ok("ok").header("X-A", &"b".repeat(120 * 1024)),
        "/large" => Reply::ok("ok").header("X-A", &"b".repeat(129 * 1024)),
        "/many" => (0..256).fold(Reply::ok("ok"), |r, _| r.header("X", "y")),
        "/reason" => Reply::raw(format!("HTTP/1.1 200 {}\r\nContent-Length: 0\r\n\r\n", "r".repeat(9000))),
        _ => Reply::raw("HTTP/1.1 200 OK\r\nX: ".to_owned() + &"y".repeat(300 * 1024)),
    })
    .unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    let fits = client.get("/fits", SOON).unwrap();
    assert_eq!((fits.status, fits.header("x-a").unwrap().len()), (200, 120 * 1024));
    for path in ["/large", "/many", "/reason", "/endless"] {
        let answer = client.get(path, SOON).unwrap();
        assert_eq!((answer.status, code(&answer).as_str()), (502, "upstream-malformed"), "{path}");
    }
}

#[test]
fn connections_in_all() {
    let upstream = Upstream::serving(|_| Reply::ok("ok")).unwrap();
    let running = Setup::to(upstream.addr()).edge(|e| e.max_connections = 2).workers(2).start();
    let mut held: Vec<RawClient> = (0..2).map(|_| running.client()).collect();
    held.iter_mut().for_each(|c| assert_eq!(c.get("/", SOON).unwrap().status, 200));
    let mut third = running.client();
    let answer = third.read_response(SOON).unwrap();
    assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (503, "connection-limit", true));
    assert_eq!(answer.header("retry-after"), Some("1"));
    third.expect_close(SOON).unwrap();
    // Who is in stays in, and who leaves makes room.
    assert_eq!(held[0].get("/", SOON).unwrap().status, 200);
    drop(held.pop());
    eventually(SOON, "room", || (running.view().connections == 1).then_some(()));
    assert_eq!(running.ask(get("/")).status, 200);
    running.counted("connection-limit", 1);
}

#[test]
fn connections_of_one_client() {
    let upstream = Upstream::serving(|_| Reply::ok("ok")).unwrap();
    let running = Setup::to(upstream.addr()).edge(|e| e.max_connections_per_client = 1).start();
    let mut first = running.client();
    assert_eq!(first.get("/", SOON).unwrap().status, 200);
    let mut second = running.client();
    // What it has sent already does not turn the answer into a reset.
    second.send(get("/")).unwrap();
    let answer = second.read_response(SOON).unwrap();
    assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (429, "client-connection-limit", true));
    assert_eq!(second.read_to_ending(SOON).unwrap().1, Ending::Closed);
    let other = RawOptions { local: Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))), ..RawOptions::default() };
    let mut other = RawClient::connect_with(running.addr, &other).unwrap();
    assert_eq!(other.get("/", SOON).unwrap().status, 200);
    assert_eq!(upstream.requests(), 2);
    running.counted("client-connection-limit", 1);
}
