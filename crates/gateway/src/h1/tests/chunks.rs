//! Chunked bodies: sizes, extensions, delimiters, trailers (RFC 9112, 7.1; RFC 9110, 6.5).

use super::support::{ChunkCase, check, chunked};
use crate::h1::ChunkError as E;
use crate::h1::HeadError as H;

#[rustfmt::skip]
pub(super) const TABLE: &[ChunkCase] = &[
    // Sizes.
    ("no data", b"0\r\n\r\n", Ok("")),
    ("one chunk", b"5\r\nhello\r\n0\r\n\r\n", Ok("hello")),
    ("several chunks", b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", Ok("abcdef")),
    ("hex digits in both cases", b"a\r\n0123456789\r\nB\r\nabcdefghijk\r\n0\r\n\r\n", Ok("0123456789abcdefghijk")),
    ("data that looks like chunks", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", Ok("0\\r\\n\\r\\n")),
    ("data of CR and LF", b"3\r\n\r\n\r\r\n0\r\n\r\n", Ok("\\r\\n\\r")),
    ("leading zeros", b"0005\r\nhello\r\n000\r\n\r\n", Ok("hello")),
    ("fifteen digits", b"000000000000005\r\nhello\r\n000000000000000\r\n\r\n", Ok("hello")),
    ("bytes behind the body", b"0\r\n\r\nGET /", Ok(" +5")),
    ("a size only", b"5", Ok(" (more)")),
    ("half a chunk", b"5\r\nhel", Ok("hel (more)")),
    ("a chunk without its CRLF", b"5\r\nhello", Ok("hello (more)")),
    ("no last chunk", b"5\r\nhello\r\n", Ok("hello (more)")),
    ("no end of trailers", b"5\r\nhello\r\n0\r\n", Ok("hello (more)")),
    ("half the last CRLF", b"0\r\n\r", Ok(" (more)")),
    ("the greatest size", b"fffffffffffffff\r\nx", Ok("x (more)")),
    ("sixteen digits", b"0000000000000005\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a size that overflows 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("no size", b"\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("no size at the end", b"5\r\nhello\r\n\r\n", Err(E::Size)),
    ("no size but an extension", b";a\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a size with a prefix", b"0x5\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a size with an h", b"5h\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a size with a plus", b"+5\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a size with a minus", b"-5\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("minus zero", b"-0\r\n\r\n", Err(E::Size)),
    ("a size with an underscore", b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", Err(E::Size)),
    ("a size with a dot", b"5.0\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a quoted size", b"\"5\"\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a letter beyond hex", b"g\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a space before the size", b" 5\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a space behind the size", b"5 \r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a tab behind the size", b"5\t\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a space behind the last size", b"0 \r\n\r\n", Err(E::Size)),
    ("two sizes", b"5 5\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a list of sizes", b"5,5\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a NUL in the size", b"5\0\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a digit beyond ASCII", b"\xd9\xa5\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("an empty line before", b"\r\n5\r\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a bare LF behind the size", b"5\nhello\r\n0\r\n\r\n", Err(E::Size)),
    ("a bare LF behind the last size", b"0\n\r\n", Err(E::Size)),
    ("a bare CR behind the size", b"5\rhello\r\n0\r\n\r\n", Err(E::Delimiter)),
    ("two CR behind the size", b"5\r\r\nhello\r\n0\r\n\r\n", Err(E::Delimiter)),

    // Delimiters.
    ("data longer than its size", b"4\r\nhello\r\n0\r\n\r\n", Err(E::Delimiter)),
    ("data shorter than its size", b"6\r\nhello\r\n0\r\n\r\n", Err(E::Delimiter)),
    ("nothing behind the data", b"5\r\nhello0\r\n\r\n", Err(E::Delimiter)),
    ("a bare LF behind the data", b"5\r\nhello\n0\r\n\r\n", Err(E::Delimiter)),
    ("a bare CR behind the data", b"5\r\nhello\r0\r\n\r\n", Err(E::Delimiter)),
    ("two CR behind the data", b"5\r\nhello\r\r\n0\r\n\r\n", Err(E::Delimiter)),
    ("LF and CR behind the data", b"5\r\nhello\n\r0\r\n\r\n", Err(E::Delimiter)),
    ("a space behind the data", b"5\r\nhello \r\n0\r\n\r\n", Err(E::Delimiter)),

    // Extensions.
    ("an extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", Ok("hello")),
    ("an empty extension", b"5;\r\nhello\r\n0\r\n\r\n", Ok("hello")),
    ("a quoted extension", b"5;a=\"b;c, d\\\"\"\r\nhello\r\n0\r\n\r\n", Ok("hello")),
    ("an extension with white space", b"5; a\t=\tb\r\nhello\r\n0\r\n\r\n", Ok("hello")),
    ("a bare LF in an extension", b"5;a\nhello\r\n0\r\n\r\n", Err(E::Extension)),
    ("a bare LF in a quoted extension", b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", Err(E::Extension)),
    ("a bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n", Err(E::Delimiter)),
    ("a CRLF in a quoted extension ends the line all the same", b"5;a=\"\r\nhello\r\n0\r\n\r\n", Ok("hello")),
    ("a NUL in an extension", b"5;a\0\r\nhello\r\n0\r\n\r\n", Err(E::Extension)),
    ("DEL in an extension", b"5;\x7f\r\nhello\r\n0\r\n\r\n", Err(E::Extension)),
    ("a space before the extension", b"5 ;a\r\nhello\r\n0\r\n\r\n", Err(E::Size)),

    // Trailers.
    ("a trailer", b"0\r\nA: b\r\n\r\n", Ok(" | A: b\\r\\n")),
    ("two trailers", b"1\r\nx\r\n0\r\nA: b\r\nC:d\r\n\r\n", Ok("x | A: b\\r\\nC:d\\r\\n")),
    ("a checksum and a date", b"0\r\nDigest: x\r\nDate: y\r\n\r\n", Ok(" | Digest: x\\r\\nDate: y\\r\\n")),
    ("framing in trailers is dropped", b"0\r\nContent-Length: 5\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n", Ok(" | A: b\\r\\n")),
    ("routing in trailers is dropped", b"0\r\nHost: evil\r\nConnection: close\r\nX-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n\r\n", Ok("")),
    ("authentication in trailers is dropped", b"0\r\nAuthorization: x\r\ncookie: a=b\r\nSet-Cookie: a=b\r\n\r\n", Ok("")),
    ("controls and content format in trailers are dropped", b"0\r\nCache-Control: x\r\nContent-Type: a/b\r\nContent-Encoding: gzip\r\nRange: bytes=0-1\r\nExpect: 100-continue\r\n\r\n", Ok("")),
    ("a dropped trailer between others", b"0\r\nA: 1\r\nTE: x\r\nB: 2\r\nTrailer: B\r\n\r\n", Ok(" | A: 1\\r\\nB: 2\\r\\n")),
    ("bytes behind the trailers", b"0\r\nA: b\r\n\r\nGET", Ok(" | A: b\\r\\n +3")),
    ("half a trailer", b"0\r\nA: b", Ok(" (more)")),
    ("a bare LF ends a trailer", b"0\r\nA: b\n\r\n", Err(E::Trailer(H::BareLf))),
    ("a bare LF ends the body", b"0\r\n\n", Err(E::Trailer(H::BareLf))),
    ("a bare LF ends the body behind a trailer", b"0\r\nA: b\r\n\n", Err(E::Trailer(H::BareLf))),
    ("a bare CR in a trailer", b"0\r\nA: b\rc\r\n\r\n", Err(E::Trailer(H::Control))),
    ("a bare CR ends the body", b"0\r\n\rGET / HTTP/1.1\r\n", Err(E::Trailer(H::BadName))),
    ("a NUL in a trailer", b"0\r\nA: \0\r\n\r\n", Err(E::Trailer(H::Control))),
    ("folding in trailers", b"0\r\nA: b\r\n c\r\n\r\n", Err(E::Trailer(H::Folded))),
    ("folding behind the last chunk", b"0\r\n A: b\r\n\r\n", Err(E::Trailer(H::Folded))),
    ("a space before a trailer's colon", b"0\r\nA : b\r\n\r\n", Err(E::Trailer(H::SpaceBeforeColon))),
    ("a trailer without a colon", b"0\r\nA\r\n\r\n", Err(E::Trailer(H::NoColon))),
    ("a trailer without a name", b"0\r\n: b\r\n\r\n", Err(E::Trailer(H::BadName))),
    ("a request behind a last chunk that does not end", b"0\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Err(E::Trailer(H::SpaceBeforeColon))),
    ("a chunk behind the last", b"0\r\n5\r\nhello\r\n", Err(E::Trailer(H::NoColon))),
];

#[test]
fn chunked_bodies() {
    check(TABLE, chunked);
}
