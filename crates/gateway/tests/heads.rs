//! Heads that are refused. Behind each one stands a second, sound request that must never be served: after a refusal
//! nobody knows where a message ends, so the connection ends as well (RFC 9112, 2.2, 3, 5, 6.3; RFC 9110, 7.2).

use testkit::Upstream;

use crate::support::{SOON, Setup, code, get};

/// What it is, the head, and the status and code of the answer.
type Case = (&'static str, &'static str, u16, &'static str);

const FRAMING: &str = "ambiguous-framing";
const GRAMMAR: &str = "malformed-request";
const HOST: &str = "bad-host";
const VERSION: &str = "version-not-supported";

/// How long the body is must be said once and plainly.
#[rustfmt::skip] // One case, one line.
const LENGTHS: &[Case] = &[
    ("length and coding", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("coding and length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("length 0 and coding", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("two equal lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, FRAMING),
    ("two different lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400, FRAMING),
    ("two lengths of 0", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\ncontent-length: 0\r\n\r\n", 400, FRAMING),
    ("a list of equal lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400, FRAMING),
    ("a length with a comma", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3,\r\n\r\nabc", 400, FRAMING),
    ("a length with a plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400, FRAMING),
    ("a length with a minus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", 400, FRAMING),
    ("a hexadecimal length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", 400, FRAMING),
    ("a length with letters", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3a\r\n\r\nabc", 400, FRAMING),
    ("a length with a space inside", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 4\r\n\r\nabc", 400, FRAMING),
    ("a length with a fraction", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3.0\r\n\r\nabc", 400, FRAMING),
    ("a length with an exponent", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\nabc", 400, FRAMING),
    ("a quoted length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"3\"\r\n\r\nabc", 400, FRAMING),
    ("an empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc", 400, FRAMING),
    ("a length of 2^64 + 3", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551619\r\n\r\nabc", 400, FRAMING),
    ("a length of 30 zeros and 3", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000000000000000000000000003\r\n\r\nabc", 400, FRAMING),
    ("a length in full-width digits", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \u{ff13}\r\n\r\nabc", 400, FRAMING),
    ("another coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("chunked behind another coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("chunked before another coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("chunked twice in a list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("chunked twice in two lines", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("chunked and identity in two lines", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("chunked with a parameter", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("chunked with a comma behind", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("chunked with a comma before", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("quoted chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("something like chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("chunked with a letter too many", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunkedd\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("an empty coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("an empty coding and a length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc", 400, FRAMING),
    ("chunked behind a vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", 400, GRAMMAR),
    ("a coding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, FRAMING),
    ("a coding and a length in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400, FRAMING),
    ("a coding in a GET with a length", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, FRAMING),
];

/// Lines end in CRLF, start with a name, and hold no control characters.
#[rustfmt::skip] // One case, one line.
const LINES: &[Case] = &[
    ("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", 400, GRAMMAR),
    ("a line folded with a tab", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tc\r\n\r\n", 400, GRAMMAR),
    ("a folded length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 3\r\n\r\nabc", 400, GRAMMAR),
    ("a folded coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400, GRAMMAR),
    ("a first line that begins with a space", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, GRAMMAR),
    ("a line of a space", "GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", 400, GRAMMAR),
    ("LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("LF behind a header", "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", 400, GRAMMAR),
    ("LF as the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, GRAMMAR),
    ("LF everywhere", "GET / HTTP/1.1\nHost: a\n\n", 400, GRAMMAR),
    ("LF that hides a coding", "POST / HTTP/1.1\r\nHost: a\r\nX-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400, GRAMMAR),
    ("CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-C: d\r\n\r\n", 400, GRAMMAR),
    ("CR that hides a coding", "POST / HTTP/1.1\r\nHost: a\r\nX-A: b\rTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400, GRAMMAR),
    ("CR before CRLF", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\r\n\r\n", 400, GRAMMAR),
    ("CR in a name", "GET / HTTP/1.1\r\nHost: a\r\nX-\rA: b\r\n\r\n", 400, GRAMMAR),
    ("CR in the request line", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("CR CRLF as the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", 400, GRAMMAR),
    ("NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n", 400, GRAMMAR),
    ("NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n", 400, GRAMMAR),
    ("an escape character in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: \u{1b}[2J\r\n\r\n", 400, GRAMMAR),
    ("DEL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: \u{7f}\r\n\r\n", 400, GRAMMAR),
    ("a space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", 400, GRAMMAR),
    ("a tab before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\t: b\r\n\r\n", 400, GRAMMAR),
    ("a space before the colon of a length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", 400, GRAMMAR),
    ("a space before the colon of a coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, GRAMMAR),
    ("an empty name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400, GRAMMAR),
    ("a name with a space", "GET / HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n", 400, GRAMMAR),
    ("a name with a parenthesis", "GET / HTTP/1.1\r\nHost: a\r\nX(A): b\r\n\r\n", 400, GRAMMAR),
    ("a name with an at sign", "GET / HTTP/1.1\r\nHost: a\r\nX@A: b\r\n\r\n", 400, GRAMMAR),
    ("a name beyond ASCII", "GET / HTTP/1.1\r\nHost: a\r\nX-\u{e9}: b\r\n\r\n", 400, GRAMMAR),
    ("a line without a colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", 400, GRAMMAR),
    ("a request line as a header", "GET / HTTP/1.1\r\nHost: a\r\nGET /b HTTP/1.1\r\n\r\n", 400, GRAMMAR),
];

/// Method, one space, target, one space, version.
#[rustfmt::skip] // One case, one line.
const REQUEST_LINES: &[Case] = &[
    ("no version", "GET /\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("an empty target", "GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("two spaces before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a space at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a space at the start", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("tabs for spaces", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("an LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a method with a parenthesis", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a method with a colon", "GET: / HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a method with NUL", "GE\0T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a target with a space", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a target with a tab", "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a target with NUL", "GET /a\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a target beyond ASCII", "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a target with a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a target with a quote", "GET /\"a HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a target with an angle", "GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a target with a backslash", "GET /a\\..\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a relative target", "GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a star with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("an authority with GET", "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 400, GRAMMAR),
    ("another scheme", "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a scheme without an authority", "GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("user information", "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("CONNECT without a port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("CONNECT with a path", "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a version in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a version of three digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a version with zeros", "GET / HTTP/01.1\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a version without a dot", "GET / HTTP/11\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("another protocol", "GET / ICAP/1.0\r\nHost: a\r\n\r\n", 400, GRAMMAR),
    ("a TLS hello", "\u{16}\u{3}\u{1}\u{0}\u{0}\r\n", 400, GRAMMAR),
    ("version 0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, VERSION),
    ("version 1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, VERSION),
    ("version 2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, VERSION),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, VERSION),
];

/// One host, and the same one everywhere.
#[rustfmt::skip] // One case, one line.
const HOSTS: &[Case] = &[
    ("no host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n", 400, HOST),
    ("no host, absolute form", "GET http://a/ HTTP/1.1\r\nX-A: b\r\n\r\n", 400, HOST),
    ("no header at all", "GET / HTTP/1.1\r\n\r\n", 400, HOST),
    ("two equal hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, HOST),
    ("two different hosts", "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400, HOST),
    ("two hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, HOST),
    ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, HOST),
    ("a list of hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, HOST),
    ("a host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, HOST),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, HOST),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, HOST),
    ("a host with a query", "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", 400, HOST),
    ("a port beyond 65535", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400, HOST),
    ("a port that is no number", "GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", 400, HOST),
    ("an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n", 400, HOST),
    ("two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400, HOST),
    ("a port alone", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400, HOST),
    ("an open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, HOST),
    ("a bad address in brackets", "GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", 400, HOST),
    ("a name in brackets", "GET / HTTP/1.1\r\nHost: [a]\r\n\r\n", 400, HOST),
    ("a host beyond ASCII", "GET / HTTP/1.1\r\nHost: \u{e9}.test\r\n\r\n", 400, HOST),
    ("a bad host in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400, HOST),
    ("another host in the target", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, HOST),
    ("another port in the target", "GET http://a:81/ HTTP/1.1\r\nHost: a:80\r\n\r\n", 400, HOST),
    ("another host in CONNECT", "CONNECT b:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 400, HOST),
];

/// `Connection` may not name what a message cannot do without.
#[rustfmt::skip] // One case, one line.
const OPTIONS: &[Case] = &[
    ("Connection: host", "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", 400, GRAMMAR),
    ("Connection: content-length", "POST / HTTP/1.1\r\nHost: a\r\nConnection: close, content-length\r\nContent-Length: 3\r\n\r\nabc", 400, GRAMMAR),
    ("Connection: transfer-encoding", "POST / HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, GRAMMAR),
    ("Connection: connection", "GET / HTTP/1.1\r\nHost: a\r\nConnection: connection\r\n\r\n", 400, GRAMMAR),
    ("Connection with no token", "GET / HTTP/1.1\r\nHost: a\r\nConnection: a b\r\n\r\n", 400, GRAMMAR),
];

/// How many cases there are.
pub(crate) fn count() -> usize {
    [LENGTHS, LINES, REQUEST_LINES, HOSTS, OPTIONS].iter().map(|table| table.len()).sum()
}

fn run(table: &[Case]) {
    let upstream = Upstream::script(Vec::new()).unwrap();
    let running = Setup::to(upstream.addr()).start();
    for (name, head, status, expected) in table {
        let before = running.errors(expected);
        let mut client = running.client();
        client.send(format!("{head}{}", get("/smuggled"))).unwrap();
        let response = client.read_response(SOON).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!((response.status, code(&response).as_str()), (*status, *expected), "{name}: {}", response.text());
        assert!(response.closes(), "{name}: {:?}", response.lines);
        client.expect_close(SOON).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!(running.errors(expected), before + 1, "{name}: not counted");
    }
    // No connection was made, not even one that was given up.
    upstream.finish(SOON).unwrap();
}

#[test]
fn ambiguous_lengths_are_refused() {
    run(LENGTHS);
}

#[test]
fn bad_lines_are_refused() {
    run(LINES);
}

#[test]
fn bad_request_lines_are_refused() {
    run(REQUEST_LINES);
}

#[test]
fn doubtful_hosts_are_refused() {
    run(HOSTS);
}

#[test]
fn connection_options_that_would_undo_the_message_are_refused() {
    run(OPTIONS);
}
