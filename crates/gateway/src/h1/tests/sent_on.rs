//! What is sent on for an accepted head is itself a head that nobody can read in two ways: it is accepted, says the same,
//! and holds nothing of what was meant for the gateway alone.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::generate::{near, run};
use super::messages::{REQUESTS, RESPONSES};
use super::support::LIMITS;
use super::{framing, request_fields, request_line, responses};
use crate::forward::{Answer, Outgoing, is_chunked_for};
use crate::h1::{
    AnswerFraming, Framing, HeadLimits, Line, Name, RequestHead, RequestParser, ResponseHead, ResponseParser, Target,
    grammar,
};
use crate::plan::{EndpointPlan, HeaderEdits};

/// What is sent on is longer than what came.
const ROOM: HeadLimits = HeadLimits { first_line: 16_384, target: 16_384, headers: 131_072, lines: 200 };

fn count(lines: &[Line], kind: Name) -> usize {
    lines.iter().filter(|l| l.kind == kind).count()
}

/// Fields that `Connection` named in what came must not be in what is sent on, unless the gateway wrote them itself.
fn no_named(from: (&[Line], &[u8]), to: (&[Line], &[u8])) -> Result<(), String> {
    let (lines, buf) = from;
    let options = lines.iter().filter(|l| l.kind == Name::Connection).flat_map(|l| grammar::list(l.value.of(buf)));
    for option in options {
        let known = [&b"close"[..], b"keep-alive", b"upgrade", b"te"].iter().any(|k| option.eq_ignore_ascii_case(k));
        let mut passed = to.0.iter().filter(|l| l.kind == Name::Other && l.name.of(to.1).eq_ignore_ascii_case(option));
        if !known && passed.next().is_some() {
            return Err(format!("{} was named by Connection and is sent on", option.escape_ascii()));
        }
    }
    Ok(())
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Sends `wire` on if it is accepted, and reads what is sent; tells whether it was.
fn request(wire: &[u8], trusted: bool) -> Result<bool, String> {
    let mut parser = RequestParser::default();
    if parser.parse(wire, &LIMITS) != Ok(true) {
        return Ok(false);
    }
    let head = parser.head();
    // CONNECT and expectations that nobody knows are answered by the gateway itself.
    if head.form == Target::Authority || head.unknown_expectation {
        return Ok(false);
    }
    let endpoint = EndpointPlan { name: "upstream:80".to_owned(), addresses: Vec::new(), weight: 1, tier: 0 };
    let mut out = Vec::new();
    let outgoing = Outgoing {
        buf: wire,
        head,
        trusted,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        request_id: b"id",
        traceparent: None,
        path: None,
        host: None,
        edits: &HeaderEdits::default(),
        deadline: None,
    };
    outgoing.write(&endpoint, &mut out);
    let mut again = RequestParser::default();
    match again.parse(&out, &ROOM) {
        Ok(true) => same_request((head, wire), (again.head(), &out)).map(|()| true),
        other => Err(format!("{other:?}")),
    }
    .map_err(|e| format!("{e}\n{}", out.escape_ascii()))
}

fn same_request((head, wire): (&RequestHead, &[u8]), (again, out): (&RequestHead, &[u8])) -> Result<(), String> {
    ensure(again.length == out.len(), "the head ends early")?;
    ensure(again.method.of(out) == head.method.of(wire), "another method")?;
    ensure(again.form == if again.target.of(out) == b"*" { Target::Asterisk } else { Target::Origin }, "another form")?;
    let path = head.path_and_query.of(wire);
    ensure(again.target.of(out).ends_with(path), "another path")?;
    ensure(again.target.of(out).len() <= path.len() + 1, "more of a path")?;
    let host = Some(head.host.of(wire)).filter(|h| !h.is_empty()).unwrap_or(b"upstream:80");
    ensure(again.host.of(out) == host, "another host")?;
    ensure(again.http11 && again.framing == head.framing, "another framing")?;
    let framed = count(&again.lines, Name::ContentLength) + count(&again.lines, Name::TransferEncoding);
    ensure(framed <= 1 && (framed == 1 || head.framing == Framing::None), "framed in two ways, or in none")?;
    ensure(again.keep_alive && again.upgrade == head.upgrade && !again.names_fields, "another connection")?;
    ensure(again.expects_continue == head.expects_continue && !again.unknown_expectation, "another expectation")?;
    for kind in [Name::KeepAlive, Name::ProxyConnection, Name::ProxyAuthorization, Name::Http2Settings] {
        ensure(count(&again.lines, kind) == 0, "a field of this hop only")?;
    }
    for kind in [Name::XForwardedFor, Name::XRequestId] {
        ensure(count(&again.lines, kind) == 1, "a field of ours is not there once")?;
    }
    no_named((&head.lines, wire), (&again.lines, out))
}

/// Sends an answer on, to a client of HTTP/1.1 or 1.0, and reads what is sent.
fn answer(wire: &[u8], http11: bool) -> Result<bool, String> {
    let mut parser = ResponseParser::default();
    if parser.parse(wire, &LIMITS, false) != Ok(true) {
        return Ok(false);
    }
    let head = parser.head();
    let mut out = Vec::new();
    let answer = Answer {
        buf: wire,
        head,
        request_id: b"id",
        chunked: is_chunked_for(head.framing, http11),
        close: false,
        http10: !http11,
        edits: &HeaderEdits::default(),
        extra: &[],
    };
    answer.write(&mut out);
    let mut again = ResponseParser::default();
    match again.parse(&out, &ROOM, false) {
        Ok(true) => same_answer((head, wire), (again.head(), &out), http11).map(|()| true),
        other => Err(format!("{other:?}")),
    }
    .map_err(|e| format!("{e}\n{}", out.escape_ascii()))
}

fn same_answer(
    (head, wire): (&ResponseHead, &[u8]),
    (again, out): (&ResponseHead, &[u8]),
    http11: bool,
) -> Result<(), String> {
    ensure(again.length == out.len(), "the head ends early")?;
    ensure(again.status == head.status, "another status")?;
    let text = (again.status_text.of(out).trim_ascii(), head.status_text.of(wire).trim_ascii());
    ensure(text.0 == text.1, "another reason")?;
    let expected = match head.framing {
        AnswerFraming::Chunked | AnswerFraming::UntilClose if http11 => AnswerFraming::Chunked,
        AnswerFraming::Chunked => AnswerFraming::UntilClose,
        same => same,
    };
    ensure(again.framing == expected, "another framing")?;
    for kind in [Name::KeepAlive, Name::ProxyConnection, Name::ProxyAuthenticate] {
        ensure(count(&again.lines, kind) == 0, "a field of this hop only")?;
    }
    no_named((&head.lines, wire), (&again.lines, out))
}

#[test]
fn the_tables() {
    for (name, wire, _) in [request_line::TABLE, request_fields::TABLE, framing::TABLE].concat() {
        for trusted in [false, true] {
            assert_eq!(request(wire, trusted).err(), None, "{name}");
        }
    }
    for (name, wire, _) in responses::TABLE {
        assert_eq!(answer(wire, true).err(), None, "{name}");
        assert_eq!(answer(wire, false).err(), None, "{name}, to HTTP/1.0");
    }
}

#[test]
fn spoiled_messages() {
    let sent = Cell::new(0);
    let tell = |result: Result<bool, String>| match result {
        Ok(was) => {
            sent.set(sent.get() + u32::from(was));
            Ok(())
        }
        Err(why) => Err(TestCaseError::fail(why)),
    };
    run(5000, &(near(REQUESTS), any::<bool>()), |(wire, trusted)| tell(request(&wire, trusted)));
    assert!(sent.replace(0) > 1000, "too few requests were sent on");
    run(3000, &(near(RESPONSES), any::<bool>()), |(wire, http11)| tell(answer(&wire, http11)));
    assert!(sent.get() > 600, "too few answers were sent on");
}
