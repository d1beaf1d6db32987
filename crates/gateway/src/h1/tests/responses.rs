//! Heads of answers: status lines, fields, framing (RFC 9112, 4 and 6.3).

use super::support::{HeadCase, check, response, response_to_head};
use crate::h1::HeadError as E;

#[rustfmt::skip]
pub(super) const TABLE: &[HeadCase] = &[
    // Status lines.
    ("a length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok("200 OK 5 keep | Content-Length=5 +5")),
    ("no reason", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", Ok("200  none keep | Content-Length=0")),
    ("no space behind the code", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Ok("200 none keep | Content-Length=0")),
    ("a reason of several words", b"HTTP/1.1 404 Not Found (yet)\r\nContent-Length: 1\r\n\r\n", Ok("404 Not Found (yet) 1 keep | Content-Length=1")),
    ("a reason with a tab and Latin-1", b"HTTP/1.1 200 \tZ\xfcrich\r\nContent-Length: 1\r\n\r\n", Ok("200 \\tZ\\xfcrich 1 keep | Content-Length=1")),
    ("a reason that looks like a code", b"HTTP/1.1 200 404\r\nContent-Length: 1\r\n\r\n", Ok("200 404 1 keep | Content-Length=1")),
    ("a code without a name", b"HTTP/1.1 599 Odd\r\nContent-Length: 1\r\n\r\n", Ok("599 Odd 1 keep | Content-Length=1")),
    ("half a status line", b"HTTP/1.1 20", Ok("more")),
    ("no empty line", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Ok("more")),
    ("http 2", b"HTTP/2 200 OK\r\n\r\n", Err(E::Version)),
    ("http 1.2", b"HTTP/1.2 200 OK\r\n\r\n", Err(E::Version)),
    ("http 0.9", b"<html>hello</html>\r\n\r\n", Err(E::FirstLine)),
    ("a version in small letters", b"http/1.1 200 OK\r\n\r\n", Err(E::FirstLine)),
    ("another protocol", b"ICY 200 OK ok\r\n\r\n", Err(E::FirstLine)),
    ("an empty line before", b"\r\nHTTP/1.1 200 OK\r\n\r\n", Err(E::FirstLine)),
    ("a space before", b" HTTP/1.1 200 OK\r\n\r\n", Err(E::FirstLine)),
    ("two spaces before the code", b"HTTP/1.1  200 OK\r\n\r\n", Err(E::Status)),
    ("a tab before the code", b"HTTP/1.1\t200 OK\r\n\r\n", Err(E::Version)),
    ("a tab behind the code", b"HTTP/1.1 200\tOK\r\n\r\n", Err(E::Status)),
    ("no code", b"HTTP/1.1 OK\r\n\r\n", Err(E::FirstLine)),
    ("a code of letters", b"HTTP/1.1 abc OK\r\n\r\n", Err(E::Status)),
    ("a code of two digits", b"HTTP/1.1 20 OK\r\n\r\n", Err(E::Status)),
    ("a code of four digits", b"HTTP/1.1 2000 OK\r\n\r\n", Err(E::Status)),
    ("a code with a sign", b"HTTP/1.1 +20 OK\r\n\r\n", Err(E::Status)),
    ("code 099", b"HTTP/1.1 099 Low\r\n\r\n", Err(E::Status)),
    ("code 600", b"HTTP/1.1 600 High\r\n\r\n", Err(E::Status)),
    ("a bare LF ends the status line", b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", Err(E::BareLf)),
    ("a bare CR in the reason", b"HTTP/1.1 200 O\rK\r\n\r\n", Err(E::Control)),
    ("a NUL in the reason", b"HTTP/1.1 200 O\0K\r\n\r\n", Err(E::Control)),
    ("ESC in the reason", b"HTTP/1.1 200 \x1b[1m\r\n\r\n", Err(E::Control)),

    // Fields.
    ("folding", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Err(E::Folded)),
    ("folding in the first line", b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Err(E::Folded)),
    ("a space before the colon", b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", Err(E::SpaceBeforeColon)),
    ("no colon", b"HTTP/1.1 200 OK\r\nA\r\n\r\n", Err(E::NoColon)),
    ("an empty name", b"HTTP/1.1 200 OK\r\n: a\r\n\r\n", Err(E::BadName)),
    ("UTF-8 in a name", b"HTTP/1.1 200 OK\r\n\xc3\xa9: a\r\n\r\n", Err(E::BadName)),
    ("a bare LF ends a header", b"HTTP/1.1 200 OK\r\nA: b\n\r\n", Err(E::BareLf)),
    ("a bare LF ends the head", b"HTTP/1.1 200 OK\r\nA: b\r\n\n", Err(E::BareLf)),
    ("a bare CR in a value", b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\n\r\n", Err(E::Control)),
    ("a NUL in a value", b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", Err(E::Control)),
    ("UTF-8 in a value", b"HTTP/1.1 200 OK\r\nA: \xc3\xa9\r\nContent-Length: 0\r\n\r\n", Ok("200 OK none keep | A=\\xc3\\xa9 | Content-Length=0")),

    // Framing.
    ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok("200 OK chunked keep | Transfer-Encoding=chunked")),
    ("until the connection ends", b"HTTP/1.1 200 OK\r\n\r\nhello", Ok("200 OK until-close close +5")),
    ("until the connection ends, in 1.0", b"HTTP/1.0 200 OK\r\n\r\n", Ok("200 OK until-close close")),
    ("a length in 1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Ok("200 OK 5 close | Content-Length=5")),
    ("204", b"HTTP/1.1 204 No Content\r\n\r\n", Ok("204 No Content none keep")),
    ("204 with a length", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Ok("204 No Content none keep | Content-Length=5")),
    ("204 chunked", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Ok("204 No Content none keep | Transfer-Encoding=chunked")),
    ("205 has a body like any other", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\n", Ok("205 Reset Content 2 keep | Content-Length=2")),
    ("304 with a length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Ok("304 Not Modified none keep | Content-Length=5")),
    ("100", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Ok("100 Continue none keep +19")),
    ("103 with fields", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", Ok("103 Early Hints none keep | Link=</a.css>; rel=preload")),
    ("101", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", Ok("101 Switching Protocols none keep | Connection=upgrade | Upgrade=websocket")),
    ("an empty length", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", Err(E::BadLength)),
    ("a length with a plus", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Err(E::BadLength)),
    ("a length of minus one", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Err(E::BadLength)),
    ("a list of lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", Err(E::BadLength)),
    ("a length that overflows", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\n", Err(E::BadLength)),
    ("two equal lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Err(E::TwoLengths)),
    ("two equal lengths for 304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Err(E::TwoLengths)),
    ("length and coding", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::LengthAndCoding)),
    ("coding and length for 204", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", Err(E::LengthAndCoding)),
    ("gzip before chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Err(E::BadCoding)),
    ("identity", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", Err(E::BadCoding)),
    ("an empty coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \r\n\r\n", Err(E::BadCoding)),
    ("chunked twice", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::BadCoding)),
    ("a coding in 1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::CodingInHttp10)),

    // Connection.
    ("close", b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 5\r\n\r\n", Ok("200 OK 5 close | Connection=Close | Content-Length=5")),
    ("keep-alive in 1.0", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", Ok("200 OK 5 keep | Connection=keep-alive | Content-Length=5")),
    ("keep-alive, but until the connection ends", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", Ok("200 OK until-close close | Connection=keep-alive")),
    ("Keep-Alive", b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n", Ok("200 OK none keep <timeout=5> | Keep-Alive=timeout=5 | Content-Length=0")),
    ("Connection names a field", b"HTTP/1.1 200 OK\r\nConnection: X-A\r\nContent-Length: 0\r\n\r\n", Ok("200 OK none keep names | Connection=X-A | Content-Length=0")),
    ("Connection names no token", b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n", Ok("200 OK none keep names | Connection=Keep-Alive: timeout=5 | Content-Length=0")),
    ("Connection names Content-Length", b"HTTP/1.1 200 OK\r\nConnection: content-Length\r\nContent-Length: 5\r\n\r\n", Err(E::BadConnectionOption)),
    ("Connection names Transfer-Encoding", b"HTTP/1.1 200 OK\r\nConnection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::BadConnectionOption)),
];

#[rustfmt::skip]
pub(super) const TO_HEAD: &[HeadCase] = &[
    ("a length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok("200 OK none keep | Content-Length=5")),
    ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok("200 OK none keep | Transfer-Encoding=chunked")),
    ("no framing", b"HTTP/1.1 200 OK\r\n\r\n", Ok("200 OK none keep")),
    ("no framing in 1.0", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", Ok("200 OK none keep | Connection=keep-alive")),
    ("both", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::LengthAndCoding)),
    ("a bad length", b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", Err(E::BadLength)),
];

#[test]
fn answers() {
    check(TABLE, response);
}

#[test]
fn answers_to_head() {
    check(TO_HEAD, response_to_head);
}
