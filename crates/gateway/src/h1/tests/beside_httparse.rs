//! Our heads and chunked bodies beside `httparse`: what we accept it accepts, and reads the same. We may only be stricter.
//!
//! Differences that are known and right, beyond our being stricter:
//!
//! | what | we | httparse | why it is right |
//! |---|---|---|---|
//! | a reason phrase with bytes beyond ASCII | kept | read as empty | RFC 9112, 4 allows obs-text, and it is passed on as it is |

use std::cell::Cell;

use proptest::prelude::*;

use super::generate::{near, run};
use super::messages::{BODIES, REQUESTS, RESPONSES};
use super::support::{LIMITS, decode};
use super::{chunks, framing, request_fields, request_line, responses};
use crate::h1::{Line, RequestParser, ResponseParser};

/// Whether we accepted.
type Verdict = Result<bool, String>;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}: we read {ours:?}, httparse {theirs:?}")) }
}

fn same_lines(wire: &[u8], ours: &[Line], theirs: &[httparse::Header<'_>]) -> Result<(), String> {
    let ours: Vec<_> = ours.iter().map(|l| (l.name.of(wire), l.value.of(wire))).collect();
    let theirs: Vec<_> = theirs.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
    same("header lines", ours, theirs)
}

fn request(wire: &[u8]) -> Verdict {
    let mut parser = RequestParser::default();
    if parser.parse(wire, &LIMITS) != Ok(true) {
        return Ok(false);
    }
    let head = parser.head();
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Request::new(&mut lines);
    same("length", Ok(httparse::Status::Complete(head.length)), other.parse(wire))?;
    same("method", Some(head.method.of(wire)), other.method.map(str::as_bytes))?;
    same("target", Some(head.target.of(wire)), other.path.map(str::as_bytes))?;
    same("version", Some(u8::from(head.http11)), other.version)?;
    same_lines(wire, &head.lines, other.headers)?;
    Ok(true)
}

fn response(wire: &[u8]) -> Verdict {
    let mut parser = ResponseParser::default();
    if parser.parse(wire, &LIMITS, false) != Ok(true) {
        return Ok(false);
    }
    let head = parser.head();
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Response::new(&mut lines);
    same("length", Ok(httparse::Status::Complete(head.length)), other.parse(wire))?;
    same("status", Some(head.status), other.code)?;
    let reason = head.status_text.of(wire)[3..].strip_prefix(b" ").unwrap_or_default();
    let reason = if reason.is_ascii() { reason } else { b"" };
    same("reason", Some(reason), other.reason.map(str::as_bytes))?;
    same_lines(wire, &head.lines, other.headers)?;
    Ok(true)
}

/// A chunked body as `httparse` sees it: it reads sizes and trailer lines, the rest is counting.
fn reference(wire: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let size = httparse::parse_chunk_size(&wire[at..]).map_err(|_| format!("no size at {at}"))?;
        let httparse::Status::Complete((length, size)) = size else { return Err(format!("no whole size at {at}")) };
        at += length;
        if size == 0 {
            let mut lines = [httparse::EMPTY_HEADER; 128];
            return match httparse::parse_headers(&wire[at..], &mut lines) {
                Ok(httparse::Status::Complete((length, _))) => Ok((data, at + length)),
                other => Err(format!("trailers at {at}: {other:?}")),
            };
        }
        let end = at + usize::try_from(size).map_err(|e| e.to_string())?;
        data.extend_from_slice(wire.get(at..end).ok_or("too short")?);
        if wire.get(end..end + 2) != Some(b"\r\n") {
            return Err(format!("no CRLF at {end}"));
        }
        at = end + 2;
    }
}

fn chunked(wire: &[u8]) -> Verdict {
    match decode(&[wire]) {
        Ok(ours) => match ours.end {
            Some(end) => same("body", Ok((ours.data, end)), reference(wire)).map(|()| true),
            None => Ok(false),
        },
        Err(_) => Ok(false),
    }
}

#[test]
fn the_tables() {
    let requests = [request_line::TABLE, request_fields::TABLE, framing::TABLE].concat();
    for (name, wire, _) in requests {
        assert_eq!(request(wire).err(), None, "{name}");
    }
    for (name, wire, _) in responses::TABLE {
        assert_eq!(response(wire).err(), None, "{name}");
    }
    for (name, wire, _) in chunks::TABLE {
        assert_eq!(chunked(wire).err(), None, "{name}");
    }
}

/// Runs `judge` on `cases` spoiled messages; a fifth at least must have been accepted, or the test says nothing.
fn beside(cases: u32, bases: &'static [&'static [u8]], judge: impl Fn(&[u8]) -> Verdict) {
    let (seen, accepted) = (Cell::new(0u32), Cell::new(0u32));
    run(cases, &near(bases), |wire| {
        let ok = judge(&wire).map_err(|e| TestCaseError::fail(format!("{e}\n{}", wire.escape_ascii())))?;
        seen.set(seen.get() + 1);
        accepted.set(accepted.get() + u32::from(ok));
        Ok(())
    });
    assert!(accepted.get() > seen.get() / 5, "only {} of {} were accepted", accepted.get(), seen.get());
}

#[test]
fn spoiled_requests() {
    beside(20_000, REQUESTS, request);
}

#[test]
fn spoiled_answers() {
    beside(10_000, RESPONSES, response);
}

#[test]
fn spoiled_chunked_bodies() {
    beside(10_000, BODIES, chunked);
}
