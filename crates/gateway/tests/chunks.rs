//! Chunked request bodies: what is refused (the service must never see such a request end), and what passes, framed
//! anew (RFC 9112, 7.1).

use std::time::Duration;

use testkit::{Framing, Reply, Upstream};

use crate::support::{SOON, Setup, code, get};

const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What it is, and the body up to where it goes wrong.
#[rustfmt::skip] // One case, one line.
const REFUSED: &[(&str, &str)] = &[
    ("no size", "\r\nabc\r\n0\r\n\r\n"),
    ("a size that is no number", "x\r\nabc\r\n0\r\n\r\n"),
    ("a size with a letter beyond f", "3g\r\nabc\r\n0\r\n\r\n"),
    ("a size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("a size with a plus", "+3\r\nabc\r\n0\r\n\r\n"),
    ("a size with a minus", "-3\r\nabc\r\n0\r\n\r\n"),
    ("a size with an underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
    ("a space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
    ("a space behind the size", "3 \r\nabc\r\n0\r\n\r\n"),
    ("a tab behind the size", "3\t\r\nabc\r\n0\r\n\r\n"),
    ("a size of 2^64", "10000000000000000\r\nabc\r\n0\r\n\r\n"),
    ("a size of 16 digits", "0000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("LF behind the size", "3\nabc\r\n0\r\n\r\n"),
    ("CR behind the size", "3\rabc\r\n0\r\n\r\n"),
    ("CR twice behind the size", "3\r\r\nabc\r\n0\r\n\r\n"),
    ("LF behind the data", "3\r\nabc\n0\r\n\r\n"),
    ("CR behind the data", "3\r\nabc\r0\r\n\r\n"),
    ("nothing behind the data", "3\r\nabc0\r\n\r\n"),
    ("more data than announced", "3\r\nabcd\r\n0\r\n\r\n"),
    ("less data than announced", "4\r\nabc\r\n0\r\n\r\n"),
    ("LF in an extension", "3;a\nabc\r\n0\r\n\r\n"),
    ("CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("NUL in an extension", "3;a\0\r\nabc\r\n0\r\n\r\n"),
    ("LF behind the last size", "3\r\nabc\r\n0\n\r\n"),
    ("LF as the last line", "3\r\nabc\r\n0\r\n\n"),
    ("CR CRLF as the last line", "3\r\nabc\r\n0\r\n\r\r\n"),
    ("a trailer without a colon", "3\r\nabc\r\n0\r\nX-A\r\n\r\n"),
    ("a trailer with a space before the colon", "3\r\nabc\r\n0\r\nX-A : b\r\n\r\n"),
    ("a folded trailer", "3\r\nabc\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
    ("LF behind a trailer", "3\r\nabc\r\n0\r\nX-A: b\n\r\n"),
    ("CR in a trailer", "3\r\nabc\r\n0\r\nX-A: b\rc\r\n\r\n"),
    ("NUL in a trailer", "3\r\nabc\r\n0\r\nX-A: \0\r\n\r\n"),
    ("a request as a trailer", "3\r\nabc\r\n0\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"),
];

/// What it is, the body as it is sent, what the service gets of it, and its trailers.
#[rustfmt::skip] // One case, one line.
const PASSED: &[(&str, &str, &str, &[&str])] = &[
    ("one chunk", "3\r\nabc\r\n0\r\n\r\n", "abc", &[]),
    ("no chunk", "0\r\n\r\n", "", &[]),
    ("three chunks", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc", &[]),
    ("sizes with zeros", "003\r\nabc\r\n00\r\n\r\n", "abc", &[]),
    ("digits of either case", "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", &[]),
    ("extensions, which end here", "3;a;b=c;d=\"e f\"\r\nabc\r\n0;g\r\n\r\n", "abc", &[]),
    ("a trailer", "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", "abc", &["X-Sum: 1"]),
    ("two trailers", "3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Sign: 2\r\n\r\n", "abc", &["X-Sum: 1", "X-Sign: 2"]),
    ("trailers without a body", "0\r\nX-Sum: 1\r\n\r\n", "", &["X-Sum: 1"]),
    (
        "trailers that could be taken for headers",
        "3\r\nabc\r\n0\r\nContent-Length: 9\r\nX-Sum: 1\r\nTransfer-Encoding: chunked\r\nHost: b\r\nConnection: x\r\n\
         Authorization: x\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: x\r\nTE: gzip\r\nX-Request-Id: 1\r\n\r\n",
        "abc",
        &["X-Sum: 1"],
    ),
    ("data that looks like framing", "7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n\r\n", &[]),
    ("data that looks like a request", "10\r\nGET / HTTP/1.1\r\n\r\n0\r\n\r\n", "GET / HTTP/1.1\r\n", &[]),
];

/// How many cases there are.
pub(crate) fn count() -> usize {
    REFUSED.len() + PASSED.len() + 5
}

fn refuse(bodies: impl Iterator<Item = (String, String)>) {
    let upstream = Upstream::serving(|_| Reply::ok("served")).unwrap();
    let running = Setup::to(upstream.addr()).start();
    for (name, body) in bodies {
        let mut client = running.client();
        client.send(format!("{HEAD}{body}{}", get("/smuggled"))).unwrap();
        let response = client.read_response(SOON).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!((response.status, code(&response).as_str()), (400, "malformed-request"), "{name}");
        assert!(response.closes(), "{name}: {:?}", response.lines);
        client.expect_close(SOON).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        // The service saw a head at most, and then the end of its connection.
        assert_eq!(upstream.requests(), 0, "{name}: {:?}", upstream.received());
    }
    assert_eq!(upstream.problems(), [""; 0]);
}

#[test]
fn bad_chunks_are_refused_and_never_end_a_request() {
    refuse(REFUSED.iter().map(|(name, body)| ((*name).to_owned(), (*body).to_owned())));
}

#[test]
fn extensions_and_trailers_have_bounds() {
    let trailer = |n: usize| format!("X-{n}: {}\r\n", "b".repeat(100));
    let cases = [
        ("an extension of 257 bytes", format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(257))),
        ("extensions of more than 16 KiB", format!("1;{}\r\na\r\n", "b".repeat(250)).repeat(66)),
        ("65 trailers", format!("0\r\n{}\r\n", "X: y\r\n".repeat(65))),
        ("trailers of more than 8 KiB", format!("0\r\n{}\r\n", (0..90).map(trailer).collect::<String>())),
    ];
    refuse(cases.into_iter().map(|(name, body)| (name.to_owned(), body)));
}

#[test]
fn sound_chunks_pass_framed_anew() {
    let upstream = Upstream::serving(|_| Reply::ok("served")).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    for (name, body, expected, trailers) in PASSED {
        client.send(format!("{HEAD}{body}")).unwrap();
        let response = client.read_response(SOON).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!((response.status, response.closes()), (200, false), "{name}: {}", response.text());
        let received = upstream.received().pop().unwrap();
        assert_eq!((received.text().as_str(), received.framing), (*expected, Framing::Chunked), "{name}");
        assert_eq!(received.trailers, *trailers, "{name}");
        assert_eq!(received.headers("content-length"), [""; 0], "{name}");
    }
    // Up to the bounds, too, and in pieces of one byte.
    let most = format!("3;{}\r\nabc\r\n0\r\n{}\r\n", "a".repeat(256), "X: y\r\n".repeat(64));
    client.send_in_pieces(format!("{HEAD}{most}"), 1, Duration::ZERO).unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 200);
    assert_eq!(upstream.received().pop().unwrap().trailers.len(), 64);
    assert_eq!(upstream.problems(), [""; 0]);
}
