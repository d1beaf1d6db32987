//! Requests that pass, and what becomes of their heads on the way (RFC 9110, 7.6; RFC 9112, 3.2). The service's answer
//! shows that the connection lives on, so each case also shows that nothing was read beyond its request.

use testkit::{ReceivedRequest, Reply, ServingUpstream, Upstream};

use crate::support::{Running, SOON, Setup, get};

/// A request, and what the service must receive of it.
struct Case {
    name: &'static str,
    request: &'static str,
    /// Method and target.
    first: &'static str,
    /// Headers that must be there just once, with this value. An empty value stands for any.
    has: &'static [(&'static str, &'static str)],
    /// Headers that must not be there.
    lacks: &'static [&'static str],
    body: &'static str,
    /// Whether the connection ends with the answer.
    closes: bool,
}

const PLAIN: Case =
    Case { name: "", request: "", first: "GET /", has: &[("Host", "a.test")], lacks: &[], body: "", closes: false };

const TARGETS: &[Case] = &[
    Case { name: "a plain request", request: "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", ..PLAIN },
    Case { name: "an empty line first", request: "\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", ..PLAIN },
    Case {
        name: "a path and a query pass as they are",
        request: "GET /a/%62%2F;c=1/?d=%20&e=/../&f={|}^ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "GET /a/%62%2F;c=1/?d=%20&e=/../&f={|}^",
        ..PLAIN
    },
    Case {
        name: "doubled slashes pass as they are",
        request: "GET //a///b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "GET //a///b",
        ..PLAIN
    },
    Case {
        name: "a question mark alone",
        request: "GET /? HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "GET /?",
        ..PLAIN
    },
    Case {
        name: "a method of its own",
        request: "PROPFIND / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "PROPFIND /",
        ..PLAIN
    },
    Case { name: "a method in lower case", request: "get / HTTP/1.1\r\nHost: a.test\r\n\r\n", first: "get /", ..PLAIN },
    Case {
        name: "absolute form becomes origin form",
        request: "GET http://a.test/b?c HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "GET /b?c",
        ..PLAIN
    },
    Case {
        name: "absolute form in capitals",
        request: "GET HTTP://A.TEST/b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "GET /b",
        has: &[("Host", "A.TEST")],
        ..PLAIN
    },
    Case {
        name: "absolute form without a path",
        request: "GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ..PLAIN
    },
    Case {
        name: "absolute form with a query alone",
        request: "GET http://a.test?b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "GET /?b",
        ..PLAIN
    },
    Case {
        name: "absolute form with a port",
        request: "GET http://a.test:8080/b HTTP/1.1\r\nHost: a.test:8080\r\n\r\n",
        first: "GET /b",
        has: &[("Host", "a.test:8080"), ("X-Forwarded-Host", "a.test:8080")],
        ..PLAIN
    },
    Case { name: "OPTIONS *", request: "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", first: "OPTIONS *", ..PLAIN },
    Case {
        name: "OPTIONS in absolute form without a path is OPTIONS *",
        request: "OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "OPTIONS *",
        ..PLAIN
    },
    Case {
        name: "an IPv6 host",
        request: "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        has: &[("Host", "[::1]:8080")],
        ..PLAIN
    },
];

const HEADERS: &[Case] = &[
    Case {
        name: "unknown headers pass as they are, in order",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nx-A:b\r\nX-Empty:\r\nX-Spaced: \t c d \t\r\n\r\n",
        has: &[("Host", "a.test"), ("X-A", "b"), ("X-Spaced", "c d")],
        ..PLAIN
    },
    Case {
        name: "hop-by-hop headers end here",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nKeep-Alive: timeout=9\r\nProxy-Connection: keep-alive\r\n\
                  Proxy-Authorization: Basic eA==\r\nProxy-Authenticate: Basic\r\nX-A: b\r\n\r\n",
        has: &[("X-A", "b")],
        lacks: &["Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "Connection"],
        ..PLAIN
    },
    Case {
        name: "headers that Connection names end here",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nX-Hop: 1\r\nConnection: x-hop, X-OTHER\r\nx-other: 2\r\nX-A: b\r\n\r\n",
        has: &[("X-A", "b")],
        lacks: &["X-Hop", "X-Other", "Connection"],
        ..PLAIN
    },
    Case {
        name: "headers that a second Connection names end here",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\nX-Hop: 1\r\nConnection: X-Hop\r\nX-A: b\r\n\r\n",
        has: &[("X-A", "b")],
        lacks: &["X-Hop", "Connection"],
        ..PLAIN
    },
    Case {
        name: "what Connection names cannot undo what the gateway adds",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: x-forwarded-for, x-request-id\r\n\r\n",
        has: &[("X-Forwarded-For", "127.0.0.1"), ("X-Request-Id", "")],
        lacks: &["Connection"],
        ..PLAIN
    },
    Case {
        name: "TE: trailers passes",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
        has: &[("TE", "trailers")],
        lacks: &["Connection"],
        ..PLAIN
    },
    Case {
        name: "any other TE ends here",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers, gzip\r\nConnection: TE\r\n\r\n",
        lacks: &["TE", "Connection"],
        ..PLAIN
    },
    Case {
        name: "an upgrade without Connection is none",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n",
        lacks: &["Upgrade", "Connection"],
        ..PLAIN
    },
    Case {
        name: "an upgrade to HTTP/2 would carry requests past the rules",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                  HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
        lacks: &["Upgrade", "Connection", "HTTP2-Settings"],
        ..PLAIN
    },
    Case {
        name: "an upgrade that the service does not make",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        has: &[("Upgrade", "websocket"), ("Connection", "upgrade")],
        ..PLAIN
    },
    Case {
        name: "what an unknown peer says about forwarding is not believed",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Host: b.test\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\
                  X-Request-Id: mine\r\n\r\n",
        has: &[("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "a.test")],
        lacks: &["X-Forwarded-Port", "X-Real-IP", "Forwarded"],
        ..PLAIN
    },
    Case {
        name: "a known field with underscores is dropped, another one passes",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nX_Forwarded_For: 1.2.3.4\r\nTransfer_Encoding: chunked\r\n\
                  content_length: 5\r\nx-real_ip: 1.2.3.4\r\nmy_own: 1\r\n\r\n",
        has: &[("X-Forwarded-For", "127.0.0.1"), ("my_own", "1")],
        lacks: &["X_Forwarded_For", "Transfer_Encoding", "content_length", "x-real_ip"],
        ..PLAIN
    },
    Case {
        name: "a traceparent passes",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
                  tracestate: a=b\r\n\r\n",
        has: &[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "a=b")],
        ..PLAIN
    },
    Case {
        name: "a traceparent of zeros is replaced, and its state dropped",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\ntraceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01\r\n\
                  tracestate: a=b\r\n\r\n",
        has: &[("traceparent", "")],
        lacks: &["tracestate"],
        ..PLAIN
    },
    Case {
        name: "two traceparents are none",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
                  traceparent: 00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
        has: &[("traceparent", "")],
        ..PLAIN
    },
    Case {
        name: "a client that wants to close",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        lacks: &["Connection"],
        closes: true,
        ..PLAIN
    },
    Case {
        name: "close in a list, in capitals",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, CLOSE\r\n\r\n",
        closes: true,
        ..PLAIN
    },
    Case {
        name: "an expectation without a body is dropped",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\n\r\n",
        lacks: &["Expect"],
        ..PLAIN
    },
];

const BODIES: &[Case] = &[
    Case {
        name: "a body with a length",
        request: "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
        first: "POST /",
        has: &[("Content-Length", "3")],
        lacks: &["Transfer-Encoding"],
        body: "abc",
        ..PLAIN
    },
    Case {
        name: "a length of 0",
        request: "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
        first: "POST /",
        has: &[("Content-Length", "0")],
        ..PLAIN
    },
    Case {
        name: "a POST without a body",
        request: "POST / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "POST /",
        lacks: &["Content-Length", "Transfer-Encoding"],
        ..PLAIN
    },
    Case {
        name: "a length with spaces around",
        request: "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: \t 3 \t\r\n\r\nabc",
        first: "POST /",
        has: &[("Content-Length", "3")],
        body: "abc",
        ..PLAIN
    },
    Case {
        name: "a body with a GET",
        request: "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
        body: "abc",
        ..PLAIN
    },
    Case {
        name: "a body that looks like a request",
        request: "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 33\r\n\r\nGET /x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        first: "POST /",
        body: "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ..PLAIN
    },
    Case {
        name: "chunked in capitals",
        request: "POST / HTTP/1.1\r\nHost: a.test\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        first: "POST /",
        has: &[("Transfer-Encoding", "chunked")],
        body: "abc",
        ..PLAIN
    },
    Case {
        name: "a chunked body with DELETE",
        request: "DELETE /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        first: "DELETE /a",
        body: "abc",
        ..PLAIN
    },
];

const OLD: &[Case] = &[
    Case {
        name: "HTTP/1.0",
        request: "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n",
        lacks: &["Connection"],
        closes: true,
        ..PLAIN
    },
    Case {
        name: "HTTP/1.0 that keeps the connection",
        request: "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n",
        lacks: &["Connection"],
        ..PLAIN
    },
    Case {
        name: "HTTP/1.0 with a body",
        request: "POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
        first: "POST /",
        body: "abc",
        ..PLAIN
    },
    Case {
        name: "HTTP/1.0 cannot upgrade and cannot expect",
        request: "POST / HTTP/1.0\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nExpect: 100-continue\r\n\
                  Content-Length: 3\r\n\r\nabc",
        first: "POST /",
        lacks: &["Upgrade", "Expect", "Connection"],
        body: "abc",
        closes: true,
        ..PLAIN
    },
];

/// How many cases there are.
pub(crate) fn count() -> usize {
    [TARGETS, HEADERS, BODIES, OLD].iter().map(|table| table.len()).sum()
}

fn start() -> (ServingUpstream, Running) {
    let upstream = Upstream::serving(|_| Reply::ok("served")).unwrap();
    let running = Setup::to(upstream.addr()).start();
    (upstream, running)
}

fn run(table: &[Case]) {
    let (upstream, running) = start();
    for case in table {
        let name = case.name;
        let mut client = running.client();
        client.send(case.request).unwrap();
        let answer = client.read_response(SOON).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "served"), "{name}");
        assert_eq!(answer.closes(), case.closes, "{name}: {:?}", answer.lines);
        judge(case, &upstream.received().pop().unwrap());
        if case.closes {
            client.expect_close(SOON).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        } else {
            client.send(get("/next")).unwrap();
            assert_eq!(client.read_response(SOON).unwrap().status, 200, "{name}");
            assert_eq!(upstream.received().pop().unwrap().target, "/next", "{name}");
        }
    }
    assert_eq!(upstream.problems(), [""; 0]);
}

fn judge(case: &Case, received: &ReceivedRequest) {
    let name = case.name;
    assert_eq!(format!("{} {}", received.method, received.target), case.first, "{name}");
    assert_eq!(received.version, "HTTP/1.1", "{name}");
    assert_eq!(received.text(), case.body, "{name}");
    for (header, value) in case.has {
        match received.headers(header).as_slice() {
            [found] if value.is_empty() || found == value => {}
            found => panic!("{name}: {header} is {found:?} and not {value:?}"),
        }
    }
    for header in case.lacks {
        assert_eq!(received.headers(header), [""; 0], "{name}: {header}");
    }
}

#[test]
fn targets_pass() {
    run(TARGETS);
}

#[test]
fn headers_pass_or_end_here() {
    run(HEADERS);
}

#[test]
fn bodies_pass() {
    run(BODIES);
}

#[test]
fn old_clients_are_served() {
    run(OLD);
    let (upstream, running) = start();
    let kept = running.ask("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(kept.header("connection"), Some("keep-alive"));
    // Without a Host the service is told the name that the configuration has for it.
    assert_eq!(running.ask("GET / HTTP/1.0\r\n\r\n").status, 200);
    let received = upstream.received().pop().unwrap();
    assert_eq!(received.header("host"), Some(upstream.addr().to_string().as_str()));
    assert_eq!(received.headers("x-forwarded-host"), [""; 0]);
}

#[test]
fn a_header_that_comes_twice_passes_twice() {
    let (upstream, running) = start();
    running.ask("GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nCookie: a\r\nX-A: 2\r\ncookie: b\r\n\r\n");
    let received = upstream.received().pop().unwrap();
    assert_eq!((received.headers("x-a"), received.headers("cookie")), (vec!["1", "2"], vec!["a", "b"]));
    let at = |line: &str| received.lines.iter().position(|l| l == line).unwrap();
    assert!(at("X-A: 1") < at("Cookie: a") && at("Cookie: a") < at("X-A: 2") && at("X-A: 2") < at("cookie: b"));
}

#[test]
fn every_request_has_an_id_and_a_trace_that_belong_together() {
    let (upstream, running) = start();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = running.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n");
        let received = upstream.received().pop().unwrap();
        let id = received.header("x-request-id").unwrap();
        assert_eq!(answer.header("x-request-id"), Some(id));
        let trace: Vec<&str> = received.header("traceparent").unwrap().split('-').collect();
        assert_eq!((trace.len(), trace[0], trace[1], trace[3]), (4, "00", id.replace('-', "").as_str(), "01"));
        ids.push(id.to_owned());
    }
    ids.dedup();
    assert!(ids.len() == 3 && ids.iter().all(|id| id.len() == 36), "{ids:?}");
}

/// What a trusted proxy says is kept and added to.
#[test]
fn a_trusted_proxy_is_believed() {
    let upstream = Upstream::serving(|_| Reply::ok("served").header("X-Request-Id", "theirs")).unwrap();
    let running = Setup::to(upstream.addr()).trusting(&["127.0.0.0/8"]).start();
    let answer = running.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8, 9.9.9.9\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: b.test\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 1.2.3.4\r\n\
         Forwarded: for=1.2.3.4\r\nX-Request-Id: proxy-1\r\n\r\n",
    );
    assert_eq!(answer.headers("x-request-id"), ["proxy-1"]);
    let received = upstream.received().pop().unwrap();
    for (name, value) in [
        ("x-forwarded-for", "1.2.3.4, 5.6.7.8, 9.9.9.9, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "b.test"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("x-request-id", "proxy-1"),
    ] {
        assert_eq!(received.headers(name), [value], "{name}");
    }
    // An id that could break a log line is not taken even from it.
    running.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\"b c\r\n\r\n");
    assert_eq!(upstream.received().pop().unwrap().header("x-request-id").unwrap().len(), 36);
}

/// Refused once the head is understood: the body can be told from the next request, so the connection lives on.
#[test]
fn requests_that_are_understood_and_refused_leave_the_connection_usable() {
    let upstream = Upstream::script(Vec::new()).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    for (request, status, expected) in [
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501, "method-not-supported"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "method-not-supported"),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"),
        ("GET /a/%2e%2E/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"),
        ("GET /a/..;x=1/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"),
        ("GET /a%2f..%2fb HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"),
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"),
        ("GET /%0d%0aX:y HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"),
        ("POST /.. HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400, "malformed-request"),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 3\r\n\r\nabc", 417, "expectation-failed"),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\n\r\n", 417, "expectation-failed"),
    ] {
        client.send(request).unwrap();
        let answer = client.read_response(SOON).unwrap_or_else(|e| panic!("{request:?}: {e:#}"));
        assert_eq!((answer.status, crate::support::code(&answer).as_str()), (status, expected), "{request:?}");
        assert!(!answer.closes(), "{request:?}: {:?}", answer.lines);
    }
    upstream.finish(SOON).unwrap();
}

/// Refused with a body still on its way: it cannot be told from the next request, so the connection ends.
#[test]
fn requests_that_are_refused_before_their_body_has_come_end_the_connection() {
    let upstream = Upstream::script(Vec::new()).unwrap();
    let running = Setup::to(upstream.addr()).start();
    for request in [
        "POST /.. HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /.. HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 3\r\n\r\n",
    ] {
        let mut client = running.client();
        client.send(request).unwrap();
        let answer = client.read_response(SOON).unwrap();
        assert!(answer.status >= 400 && answer.closes(), "{request:?}: {:?}", answer.lines);
        client.expect_close(SOON).unwrap();
    }
    upstream.finish(SOON).unwrap();
}
