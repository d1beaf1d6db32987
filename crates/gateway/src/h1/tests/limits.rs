//! Each limit exactly and by one more. One more is refused whether or not the rest of the message has arrived.

use crate::h1::{ChunkError, HeadError, HeadLimits, RequestParser, ResponseParser};

use super::support::{MORE, chunked};

const LIMITS: HeadLimits = HeadLimits { first_line: 64, target: 32, headers: 96, lines: 4 };

fn request(wire: &str) -> Result<bool, HeadError> {
    RequestParser::default().parse(wire.as_bytes(), &LIMITS)
}

fn response(wire: &str) -> Result<bool, HeadError> {
    ResponseParser::default().parse(wire.as_bytes(), &LIMITS, false)
}

/// Header lines of exactly `bytes` bytes, CRLFs included, in `lines` lines.
fn headers(bytes: usize, lines: usize) -> String {
    let mut out = "Host: h\r\n".to_owned();
    (2..lines).for_each(|_| out.push_str("A:\r\n"));
    let left = bytes - out.len() - "B:\r\n".len();
    format!("{out}B:{}\r\n", "x".repeat(left))
}

#[test]
fn the_request_line() {
    let line = |length: usize| format!("{} / HTTP/1.1", "M".repeat(length - " / HTTP/1.1".len()));
    assert_eq!(request(&format!("{}\r\nHost: h\r\n\r\n", line(64))), Ok(true));
    assert_eq!(request(&format!("\r\n{}\r\nHost: h\r\n\r\n", line(64))), Ok(true), "an empty line does not count");
    assert_eq!(request(&format!("{}\r\nHost: h\r\n\r\n", line(65))), Err(HeadError::FirstLineTooLong));
    assert_eq!(request(&format!("\r\n{}\r\n", line(65))), Err(HeadError::FirstLineTooLong));
    assert_eq!(
        request(&"M".repeat(66)),
        Ok(false),
        "a line of 64 and its CRLF could still come of it, if they were those"
    );
    assert_eq!(request(&"M".repeat(67)), Err(HeadError::FirstLineTooLong), "nobody waits for the end of the line");
    assert_eq!(request(&format!("{}\n", "M".repeat(67))), Err(HeadError::FirstLineTooLong));
}

#[test]
fn the_target() {
    let wire = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(length - 1));
    assert_eq!(request(&wire(32)), Ok(true));
    assert_eq!(request(&wire(33)), Err(HeadError::TargetTooLong));
    let absolute = |length: usize| format!("GET http://h/{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(length - 9));
    assert_eq!(request(&absolute(32)), Ok(true));
    assert_eq!(request(&absolute(33)), Err(HeadError::TargetTooLong));
}

#[test]
fn the_size_of_the_headers() {
    let get = |bytes, end: &str| format!("GET / HTTP/1.1\r\n{}{end}", headers(bytes, 2));
    assert_eq!(request(&get(96, "\r\n")), Ok(true));
    assert_eq!(request(&get(97, "\r\n")), Err(HeadError::HeadersTooLarge));
    assert_eq!(request(&get(98, "")), Ok(false), "not known yet to be too much");
    assert_eq!(request(&get(98, "\r\n")), Err(HeadError::HeadersTooLarge));
    assert_eq!(request(&get(99, "")), Err(HeadError::HeadersTooLarge));
    let endless = format!("GET / HTTP/1.1\r\nHost: {}", "h".repeat(99 - 6));
    assert_eq!(request(&endless), Err(HeadError::HeadersTooLarge), "nobody waits for the end of the line");
    assert_eq!(request(&endless[..endless.len() - 1]), Ok(false));
    assert_eq!(request(&format!("{endless}\n")), Err(HeadError::HeadersTooLarge));

    let answer = |bytes, end: &str| format!("HTTP/1.1 200 OK\r\n{}{end}", headers(bytes, 2));
    assert_eq!(response(&answer(96, "\r\n")), Ok(true));
    assert_eq!(response(&answer(97, "\r\n")), Err(HeadError::HeadersTooLarge));
}

#[test]
fn bytes_behind_the_head_do_not_count() {
    let wire = format!("GET / HTTP/1.1\r\n{}\r\n{}", headers(96, 2), "x".repeat(1000));
    assert_eq!(request(&wire), Ok(true));
}

#[test]
fn the_number_of_header_lines() {
    let get = |lines| format!("GET / HTTP/1.1\r\n{}\r\n", headers(60, lines));
    assert_eq!(request(&get(4)), Ok(true));
    assert_eq!(request(&get(5)), Err(HeadError::TooManyLines));
    let answer = |lines| format!("HTTP/1.1 200 OK\r\n{}\r\n", headers(60, lines));
    assert_eq!(response(&answer(4)), Ok(true));
    assert_eq!(response(&answer(5)), Err(HeadError::TooManyLines));
}

#[test]
fn the_values_of_connection() {
    let lines =
        |length: usize| format!("Connection: {}\r\nConnection:{}\r\n", "a".repeat(1000), ",".repeat(length - 1000));
    for length in [1024, 1025] {
        let expected = if length == 1024 { Ok(true) } else { Err(HeadError::BadConnectionOption) };
        let get = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", lines(length));
        assert_eq!(RequestParser::default().parse(get.as_bytes(), &super::support::LIMITS), expected);
        let answer = format!("HTTP/1.1 200 OK\r\n{}\r\n", lines(length));
        assert_eq!(ResponseParser::default().parse(answer.as_bytes(), &super::support::LIMITS, false), expected);
    }
}

#[test]
fn the_status_line() {
    let wire = |length: usize| format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(length - "HTTP/1.1 200 ".len()));
    assert_eq!(response(&wire(64)), Ok(true));
    assert_eq!(response(&wire(65)), Err(HeadError::FirstLineTooLong));
    assert_eq!(response(&"x".repeat(67)), Err(HeadError::FirstLineTooLong), "nobody waits for the end of the line");
}

#[test]
fn a_chunk_extension() {
    let wire = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length));
    assert_eq!(chunked(wire(256).as_bytes()).as_deref(), Ok("x"));
    assert_eq!(chunked(wire(257).as_bytes()), Err(ChunkError::Extension));
}

#[test]
fn the_extensions_of_a_body() {
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(256));
    let whole = chunk.repeat(64);
    assert_eq!(chunked(format!("{whole}0\r\n\r\n").as_bytes()), Ok("x".repeat(64)));
    assert_eq!(chunked(format!("{whole}0;a\r\n\r\n").as_bytes()), Err(ChunkError::Extension));
}

#[test]
fn trailers_in_bytes() {
    let wire = |name: &str, bytes: usize| format!("0\r\n{name}:{}\r\n\r\n", "x".repeat(bytes - name.len() - 3));
    let got = chunked(wire("A", 8192).as_bytes()).unwrap();
    assert!(got.starts_with(" | A:xxx"), "{got}");
    assert_eq!(chunked(wire("A", 8193).as_bytes()), Err(ChunkError::TrailersTooLarge));
    assert_eq!(chunked(wire("Host", 8192).as_bytes()).as_deref(), Ok(""), "dropped, but it counts");
    assert_eq!(chunked(wire("Host", 8193).as_bytes()), Err(ChunkError::TrailersTooLarge));
    let half = format!("Host:{}\r\n", "x".repeat(4096 - 7));
    assert_eq!(chunked(format!("0\r\n{half}{half}\r\n").as_bytes()).as_deref(), Ok(""));
    assert_eq!(chunked(format!("0\r\n{half}{half}A:\r\n\r\n").as_bytes()), Err(ChunkError::TrailersTooLarge));
    let endless = format!("0\r\nA:{}", "x".repeat(8193));
    assert_eq!(chunked(endless.as_bytes()), Err(ChunkError::TrailersTooLarge), "nobody waits for the end of the line");
}

#[test]
fn trailers_in_lines() {
    for name in ["A", "Host"] {
        let wire = |lines: usize| format!("0\r\n{}\r\n", format!("{name}:\r\n").repeat(lines));
        assert!(!chunked(wire(64).as_bytes()).unwrap().contains(MORE));
        assert_eq!(chunked(wire(65).as_bytes()), Err(ChunkError::TrailersTooLarge), "{name}");
    }
}
