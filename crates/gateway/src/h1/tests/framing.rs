//! How a request's body is framed, and every known way to have two parsers disagree about it (RFC 9112, 6).

use super::support::{HeadCase, check, request};
use crate::h1::HeadError as E;

#[rustfmt::skip]
pub(super) const TABLE: &[HeadCase] = &[
    // Content-Length.
    ("a length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", Ok("POST / h origin 1.1 5 keep | Content-Length=5 +5")),
    ("a length of zero", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", Ok("POST / h origin 1.1 none keep | Content-Length=0")),
    ("a length with leading zeros", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0010\r\n\r\n", Ok("POST / h origin 1.1 10 keep | Content-Length=0010")),
    ("a length with white space around", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \t5\t \r\n\r\n", Ok("POST / h origin 1.1 5 keep | Content-Length=5")),
    ("the greatest length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999999999\r\n\r\n", Ok("POST / h origin 1.1 999999999999999999 keep | Content-Length=999999999999999999")),
    ("a length with GET", b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", Ok("GET / h origin 1.1 5 keep | Content-Length=5")),
    ("a length in 1.0", b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", Ok("POST / - origin 1.0 5 close | Content-Length=5")),
    ("neither length nor coding", b"POST / HTTP/1.1\r\nHost: h\r\n\r\n", Ok("POST / h origin 1.1 none keep")),
    ("a field that only looks like a length", b"POST / HTTP/1.1\r\nHost: h\r\nX-Content-Length: 5\r\n\r\n", Ok("POST / h origin 1.1 none keep | X-Content-Length=5")),
    ("an empty length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", Err(E::BadLength)),
    ("a length with a plus", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n", Err(E::BadLength)),
    ("a length with a minus", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n", Err(E::BadLength)),
    ("minus zero", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -0\r\n\r\n", Err(E::BadLength)),
    ("a length in hex", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\n", Err(E::BadLength)),
    ("hex digits", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: a\r\n\r\n", Err(E::BadLength)),
    ("a length with a space", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1 0\r\n\r\n", Err(E::BadLength)),
    ("a length with an underscore", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1_0\r\n\r\n", Err(E::BadLength)),
    ("a fraction", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5.0\r\n\r\n", Err(E::BadLength)),
    ("an exponent", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1e1\r\n\r\n", Err(E::BadLength)),
    ("a quoted length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \"5\"\r\n\r\n", Err(E::BadLength)),
    ("a length with a parameter", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5;a\r\n\r\n", Err(E::BadLength)),
    ("digits beyond ASCII", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \xd9\xa5\r\n\r\n", Err(E::BadLength)),
    ("a superscript", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \xb2\r\n\r\n", Err(E::BadLength)),
    ("a NUL behind the length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\0\r\n\r\n", Err(E::Control)),
    ("a list of lengths", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\n", Err(E::BadLength)),
    ("a list of different lengths", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5,6\r\n\r\n", Err(E::BadLength)),
    ("a list with an empty member", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5,\r\n\r\n", Err(E::BadLength)),
    ("two equal lengths", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Err(E::TwoLengths)),
    ("two different lengths", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\ncontent-length: 6\r\n\r\n", Err(E::TwoLengths)),
    ("two lengths of zero", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", Err(E::TwoLengths)),
    ("a good length and a bad one", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: x\r\n\r\n", Err(E::BadLength)),
    ("a length with 19 digits", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000000000\r\n\r\n", Err(E::BadLength)),
    ("a length that overflows 64 bits", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551621\r\n\r\n", Err(E::BadLength)),
    ("a small length in many zeros", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0000000000000000005\r\n\r\n", Err(E::BadLength)),

    // Transfer-Encoding.
    ("chunked", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", Ok("POST / h origin 1.1 chunked keep | Transfer-Encoding=chunked")),
    ("chunked in any case", b"POST / HTTP/1.1\r\nHost: h\r\ntransfer-ENCODING: cHuNkEd\r\n\r\n", Ok("POST / h origin 1.1 chunked keep | transfer-ENCODING=cHuNkEd")),
    ("chunked without a space", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:chunked\r\n\r\n", Ok("POST / h origin 1.1 chunked keep | Transfer-Encoding=chunked")),
    ("chunked with leading white space", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \t  chunked\r\n\r\n", Ok("POST / h origin 1.1 chunked keep | Transfer-Encoding=chunked")),
    ("chunked with trailing white space", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked \t\r\n\r\n", Ok("POST / h origin 1.1 chunked keep | Transfer-Encoding=chunked")),
    ("chunked with GET", b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", Ok("GET / h origin 1.1 chunked keep | Transfer-Encoding=chunked")),
    ("an empty coding", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n", Err(E::BadCoding)),
    ("identity", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", Err(E::BadCoding)),
    ("gzip", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", Err(E::BadCoding)),
    ("gzip before chunked", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Err(E::BadCoding)),
    ("chunked before gzip", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", Err(E::BadCoding)),
    ("identity before chunked", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity, chunked\r\n\r\n", Err(E::BadCoding)),
    ("chunked twice in a list", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Err(E::BadCoding)),
    ("chunked twice in two lines", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::BadCoding)),
    ("chunked and then identity", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", Err(E::BadCoding)),
    ("identity and then chunked", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::BadCoding)),
    ("chunked and then nothing", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n", Err(E::BadCoding)),
    ("chunked with a parameter", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;foo\r\n\r\n", Err(E::BadCoding)),
    ("chunked with a comma", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked,\r\n\r\n", Err(E::BadCoding)),
    ("chunked behind a comma", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: ,chunked\r\n\r\n", Err(E::BadCoding)),
    ("chunked in quotes", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", Err(E::BadCoding)),
    ("xchunked", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", Err(E::BadCoding)),
    ("chunkedx", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunkedx\r\n\r\n", Err(E::BadCoding)),
    ("chunk", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunk\r\n\r\n", Err(E::BadCoding)),
    ("a Kelvin sign in chunked", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chun\xe2\x84\xaaed\r\n\r\n", Err(E::BadCoding)),
    ("chunked behind a vertical tab", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", Err(E::Control)),
    ("chunked behind a NUL", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \0chunked\r\n\r\n", Err(E::Control)),
    ("a space before the coding's colon", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n", Err(E::SpaceBeforeColon)),
    ("a space before the coding's name", b"POST / HTTP/1.1\r\nHost: h\r\n Transfer-Encoding: chunked\r\n\r\n", Err(E::Folded)),
    ("a coding in 1.0", b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::CodingInHttp10)),
    ("a coding in 1.0 with keep-alive", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::CodingInHttp10)),

    // Both.
    ("length, then coding", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::LengthAndCoding)),
    ("coding, then length", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", Err(E::LengthAndCoding)),
    ("a length of zero and a coding", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::LengthAndCoding)),
    ("length and coding in 1.0", b"POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::LengthAndCoding)),
    ("a length and a coding that nobody knows", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n", Err(E::BadCoding)),
    ("a bad length and a coding", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n", Err(E::BadLength)),
];

#[test]
fn request_framing() {
    check(TABLE, request);
}
