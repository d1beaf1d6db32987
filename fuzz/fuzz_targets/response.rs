//! Heads of answers. Whole or in pieces they mean the same; one that is accepted is framed in one way; and what is sent on
//! for it is read as the same answer.

#![no_main]

use fuzz::{TIGHT, WIDE, check_lines, check_within, copy_lines, count, cuts};
use gateway::h1::{AnswerFraming, HeadError, HeadLimits, Name, ResponseHead, ResponseParser, grammar};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let cuts = cuts(data);
    for (limits, to_head) in [(&WIDE, false), (&WIDE, true), (&TIGHT, false)] {
        let mut parser = ResponseParser::default();
        let whole = parse(&mut parser, data, &[], limits, to_head);
        let mut other = ResponseParser::default();
        assert_eq!(parse(&mut other, data, &cuts, limits, to_head), whole, "cut at {cuts:?}");
        if whole == Ok(true) {
            assert_eq!(format!("{:?}", other.head()), format!("{:?}", parser.head()), "cut at {cuts:?}");
            check(parser.head(), data, limits, to_head);
            send_on(parser.head(), data, to_head);
        }
    }
});

fn parse(
    parser: &mut ResponseParser,
    data: &[u8],
    cuts: &[usize],
    limits: &HeadLimits,
    to_head: bool,
) -> Result<bool, HeadError> {
    for end in cuts {
        if parser.parse(&data[..*end], limits, to_head)? {
            return Ok(true);
        }
    }
    parser.parse(data, limits, to_head)
}

/// What must hold of a head that was accepted.
fn check(head: &ResponseHead, buf: &[u8], limits: &HeadLimits, to_head: bool) {
    check_lines(buf, &head.lines, head.length, limits);
    check_within(head.status_text, head.status_text, head.length);
    assert!((100..600).contains(&head.status));
    let text = head.status_text.of(buf);
    assert!(text.starts_with(head.status.to_string().as_bytes()) && grammar::all(text, grammar::VALUE));
    assert!(text.get(3).is_none_or(|b| *b == b' '));

    let (lengths, codings) = (count(&head.lines, Name::ContentLength), count(&head.lines, Name::TransferEncoding));
    assert!(lengths + codings <= 1);
    let bodyless = to_head || head.status < 200 || matches!(head.status, 204 | 304);
    match head.framing {
        AnswerFraming::None => assert!(bodyless || lengths == 1),
        AnswerFraming::Length(n) => assert!(!bodyless && lengths == 1 && n > 0),
        AnswerFraming::Chunked => assert!(!bodyless && codings == 1),
        AnswerFraming::UntilClose => assert!(!bodyless && lengths + codings == 0 && !head.keep_alive),
    }
}

/// Writes the head as it is sent on, and reads that.
fn send_on(head: &ResponseHead, buf: &[u8], to_head: bool) {
    let mut out = [b"HTTP/1.1 ", head.status_text.of(buf), b"\r\n"].concat();
    copy_lines(buf, &head.lines, &mut out);
    match head.framing {
        AnswerFraming::Length(n) => out.extend_from_slice(format!("Content-Length: {n}\r\n").as_bytes()),
        AnswerFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        AnswerFraming::None => out.extend_from_slice(b"Content-Length: 0\r\n"),
        AnswerFraming::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");

    let limits = HeadLimits { first_line: 16_384, target: 0, headers: 131_072, lines: 200 };
    let mut parser = ResponseParser::default();
    assert_eq!(parser.parse(&out, &limits, to_head), Ok(true), "{}", out.escape_ascii());
    let again = parser.head();
    assert_eq!(again.length, out.len());
    assert_eq!(again.status, head.status);
    assert_eq!(again.status_text.of(&out), head.status_text.of(buf));
    assert_eq!(again.framing, head.framing);
    assert!(!again.names_fields);
    check(again, &out, &limits, to_head);
}
