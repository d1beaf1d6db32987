//! Request heads. Whole or in pieces they mean the same; one that is accepted has one host, one framing and a target of one
//! form; and what is sent on for it is read as the same request.

#![no_main]

use fuzz::{TIGHT, WIDE, check_lines, check_within, copy_lines, count, cuts};
use gateway::h1::{Framing, HeadError, HeadLimits, Name, RequestHead, RequestParser, Target, grammar};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let cuts = cuts(data);
    for limits in [&WIDE, &TIGHT] {
        let mut parser = RequestParser::default();
        let whole = parse(&mut parser, data, &[], limits);
        let mut other = RequestParser::default();
        assert_eq!(parse(&mut other, data, &cuts, limits), whole, "cut at {cuts:?}");
        if whole == Ok(true) {
            assert_eq!(format!("{:?}", other.head()), format!("{:?}", parser.head()), "cut at {cuts:?}");
            check(parser.head(), data, limits);
            send_on(parser.head(), data);
        }
    }
});

fn parse(parser: &mut RequestParser, data: &[u8], cuts: &[usize], limits: &HeadLimits) -> Result<bool, HeadError> {
    for end in cuts {
        if parser.parse(&data[..*end], limits)? {
            return Ok(true);
        }
    }
    parser.parse(data, limits)
}

/// What must hold of a head that was accepted.
fn check(head: &RequestHead, buf: &[u8], limits: &HeadLimits) {
    check_lines(buf, &head.lines, head.length, limits);
    check_within(head.method, head.method, head.length);
    check_within(head.path_and_query, head.target, head.length);
    assert!(grammar::is_token(head.method.of(buf)));
    let target = head.target.of(buf);
    assert!(!target.is_empty() && target.len() <= limits.target && grammar::all(target, grammar::TARGET));

    let (hosts, host) = (count(&head.lines, Name::Host), head.host.of(buf));
    assert!(if head.http11 { hosts == 1 } else { hosts <= 1 });
    assert!(host.is_empty() && !head.http11 || grammar::host(host).is_some());
    let path = head.path_and_query.of(buf);
    match head.form {
        Target::Origin => assert!(path == target && path[0] == b'/'),
        Target::Asterisk => assert!(path == b"*" && head.method.of(buf) == b"OPTIONS"),
        Target::Authority => assert!(host == target && head.method.of(buf) == b"CONNECT"),
        Target::Absolute => assert_eq!([&b"http://"[..], host, path].concat(), target.to_ascii_lowercase_scheme()),
    }

    let (lengths, codings) = (count(&head.lines, Name::ContentLength), count(&head.lines, Name::TransferEncoding));
    match head.framing {
        Framing::None | Framing::Length(_) => assert!(lengths <= 1 && codings == 0),
        Framing::Chunked => assert!(lengths == 0 && codings == 1 && head.http11),
    }
    if let Framing::Length(n) = head.framing {
        let line =
            head.lines.iter().find(|l| l.kind == Name::ContentLength).map(|l| l.value.of(buf)).unwrap_or_default();
        assert!(n > 0 && line.iter().all(u8::is_ascii_digit));
        assert_eq!(std::str::from_utf8(line).ok().and_then(|l| l.parse().ok()), Some(n));
    }
    assert!(!head.upgrade || head.http11 && count(&head.lines, Name::Upgrade) > 0);
    assert!(!head.expects_continue || head.http11 && head.framing != Framing::None);
}

/// Writes the head as it is sent on, and reads that.
fn send_on(head: &RequestHead, buf: &[u8]) {
    if head.form == Target::Authority {
        return;
    }
    let path = match head.path_and_query.of(buf) {
        [] if head.method.of(buf) == b"OPTIONS" => b"*".to_vec(),
        path if path.first().is_none_or(|b| *b == b'?') => [b"/", path].concat(),
        path => path.to_vec(),
    };
    let host = Some(head.host.of(buf)).filter(|h| !h.is_empty()).unwrap_or(b"upstream:80");
    let mut out = [head.method.of(buf), b" ", &path, b" HTTP/1.1\r\nHost: ", host, b"\r\n"].concat();
    copy_lines(buf, &head.lines, &mut out);
    match head.framing {
        Framing::None => {}
        Framing::Length(n) => out.extend_from_slice(format!("Content-Length: {n}\r\n").as_bytes()),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");

    let limits = HeadLimits { first_line: 16_384, target: 16_384, headers: 131_072, lines: 200 };
    let mut parser = RequestParser::default();
    assert_eq!(parser.parse(&out, &limits), Ok(true), "{}", out.escape_ascii());
    let again = parser.head();
    assert_eq!(again.length, out.len());
    assert_eq!(again.method.of(&out), head.method.of(buf));
    assert_eq!(again.path_and_query.of(&out), path);
    assert_eq!(again.host.of(&out), host);
    assert_eq!(again.framing, head.framing);
    assert!(again.keep_alive && !again.upgrade && !again.names_fields);
    check(again, &out, &limits);
}

/// The target with its scheme as it is usually written.
trait Scheme {
    fn to_ascii_lowercase_scheme(&self) -> Vec<u8>;
}

impl Scheme for [u8] {
    fn to_ascii_lowercase_scheme(&self) -> Vec<u8> {
        let (scheme, rest) = self.split_at(self.len().min(7));
        [&scheme.to_ascii_lowercase(), rest].concat()
    }
}
