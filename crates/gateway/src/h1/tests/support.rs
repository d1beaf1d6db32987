//! How a table is read: a case has a name, the bytes on the wire, and what they mean in one line of text or the error.

use std::fmt::Write as _;

use crate::h1::{
    AnswerFraming, ChunkError, ChunkedDecoder, Framing, HeadError, HeadLimits, Line, Name, Piece, RequestHead,
    RequestParser, ResponseHead, ResponseParser, Target,
};

/// A head: its name, the bytes, what they mean.
pub(super) type HeadCase = (&'static str, &'static [u8], Result<&'static str, HeadError>);
/// A chunked body: its name, the bytes, what they decode to.
pub(super) type ChunkCase = (&'static str, &'static [u8], Result<&'static str, ChunkError>);

/// The limits that hold in the tables: those of a gateway that was told nothing else.
pub(super) const LIMITS: HeadLimits = HeadLimits { first_line: 8192, target: 8192, headers: 65536, lines: 100 };

/// What an incomplete message means.
pub(super) const MORE: &str = "more";

/// Checks all of a table and reports all that is wrong with it.
pub(super) fn check<E: PartialEq + std::fmt::Debug + Copy>(
    table: &[(&'static str, &'static [u8], Result<&'static str, E>)],
    read: impl Fn(&[u8]) -> Result<String, E>,
) {
    let mut wrong = String::new();
    for (name, wire, expected) in table {
        let got = read(wire);
        if got.as_deref().map_err(|e| *e) != *expected {
            writeln!(wrong, "{name}: {}\n  expected {expected:?}\n  got      {got:?}", wire.escape_ascii()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    let mut names: Vec<_> = table.iter().map(|c| c.0).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), table.len(), "two cases have the same name");
}

/// A request head in one piece, described.
pub(super) fn request(wire: &[u8]) -> Result<String, HeadError> {
    let mut parser = RequestParser::default();
    Ok(match parser.parse(wire, &LIMITS)? {
        true => describe_request(parser.head(), wire),
        false => MORE.to_owned(),
    })
}

/// The head of an answer to GET in one piece, described.
pub(super) fn response(wire: &[u8]) -> Result<String, HeadError> {
    answer(wire, false)
}

/// The head of an answer to HEAD in one piece, described.
pub(super) fn response_to_head(wire: &[u8]) -> Result<String, HeadError> {
    answer(wire, true)
}

fn answer(wire: &[u8], to_head: bool) -> Result<String, HeadError> {
    let mut parser = ResponseParser::default();
    Ok(match parser.parse(wire, &LIMITS, to_head)? {
        true => describe_response(parser.head(), wire),
        false => MORE.to_owned(),
    })
}

/// A chunked body in one piece, described.
pub(super) fn chunked(wire: &[u8]) -> Result<String, ChunkError> {
    decode(&[wire]).map(|d| d.describe())
}

/// `method path host form version framing connection [flags] [| lines but Host]`
pub(super) fn describe_request(head: &RequestHead, buf: &[u8]) -> String {
    let form = match head.form {
        Target::Origin => "origin",
        Target::Absolute => "absolute",
        Target::Authority => "authority",
        Target::Asterisk => "asterisk",
    };
    let framing = match head.framing {
        Framing::None => "none".to_owned(),
        Framing::Length(n) => n.to_string(),
        Framing::Chunked => "chunked".to_owned(),
    };
    let part = |bytes: &[u8]| if bytes.is_empty() { "-".to_owned() } else { bytes.escape_ascii().to_string() };
    let mut out = format!(
        "{} {} {} {form} {} {framing} {}",
        part(head.method.of(buf)),
        part(head.path_and_query.of(buf)),
        part(head.host.of(buf)),
        if head.http11 { "1.1" } else { "1.0" },
        if head.keep_alive { "keep" } else { "close" },
    );
    for (set, flag) in [
        (head.upgrade, " upgrade"),
        (head.expects_continue, " continue"),
        (head.unknown_expectation, " expectation"),
        (head.names_fields, " names"),
    ] {
        if set {
            out.push_str(flag);
        }
    }
    describe_lines(&head.lines, buf, &mut out);
    if head.length != buf.len() {
        write!(out, " +{}", buf.len() - head.length).unwrap();
    }
    out
}

/// `status-text framing connection [flags] [| lines]`
pub(super) fn describe_response(head: &ResponseHead, buf: &[u8]) -> String {
    let framing = match head.framing {
        AnswerFraming::None => "none".to_owned(),
        AnswerFraming::Length(n) => n.to_string(),
        AnswerFraming::Chunked => "chunked".to_owned(),
        AnswerFraming::UntilClose => "until-close".to_owned(),
    };
    let text = head.status_text.of(buf);
    assert!(text.starts_with(head.status.to_string().as_bytes()));
    let mut out = format!("{} {framing} {}", text.escape_ascii(), if head.keep_alive { "keep" } else { "close" });
    if head.names_fields {
        out.push_str(" names");
    }
    if let Some(value) = head.keep_alive_value {
        write!(out, " <{}>", value.of(buf).escape_ascii()).unwrap();
    }
    describe_lines(&head.lines, buf, &mut out);
    if head.length != buf.len() {
        write!(out, " +{}", buf.len() - head.length).unwrap();
    }
    out
}

fn describe_lines(lines: &[Line], buf: &[u8], out: &mut String) {
    for line in lines.iter().filter(|l| l.kind != Name::Host) {
        write!(out, " | {}={}", line.name.of(buf).escape_ascii(), line.value.of(buf).escape_ascii()).unwrap();
        assert!(buf[..line.end as usize].ends_with(b"\r\n"), "a line does not end where it says");
    }
}

/// What a chunked body decoded to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) data: Vec<u8>,
    pub(super) trailers: Vec<u8>,
    /// Where the body ended in the whole input; `None`: it has not.
    pub(super) end: Option<usize>,
    total: usize,
}

impl Decoded {
    /// `data [| trailers] [+bytes behind]`
    pub(super) fn describe(&self) -> String {
        let Some(end) = self.end else { return format!("{} ({MORE})", self.data.escape_ascii()) };
        let mut out = self.data.escape_ascii().to_string();
        if !self.trailers.is_empty() {
            write!(out, " | {}", self.trailers.escape_ascii()).unwrap();
        }
        if end != self.total {
            write!(out, " +{}", self.total - end).unwrap();
        }
        out
    }
}

/// Decodes a body that arrives in these pieces.
pub(super) fn decode(pieces: &[&[u8]]) -> Result<Decoded, ChunkError> {
    let mut decoder = ChunkedDecoder::default();
    let mut data = Vec::new();
    let mut end = None;
    let mut before = 0;
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() && end.is_none() {
            match decoder.next(&piece[at..])? {
                Piece::Data { start, end } => {
                    assert!(start < end, "a piece of data is empty");
                    data.extend_from_slice(&piece[at + start..at + end]);
                    at += end;
                }
                Piece::More => at = piece.len(),
                Piece::Done(length) => {
                    at += length;
                    end = Some(before + at);
                }
            }
        }
        before += piece.len();
    }
    assert_eq!(decoder.is_done(), end.is_some());
    if end.is_some() {
        assert_eq!(decoder.next(b"0\r\n\r\n"), Ok(Piece::Done(0)), "a body that is complete takes more");
    }
    Ok(Decoded { data, trailers: decoder.trailers().to_vec(), end, total: before })
}
