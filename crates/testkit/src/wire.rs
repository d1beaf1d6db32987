//! HTTP/1.1 messages on a blocking socket, for tests: a buffered reader with deadlines and a parser that takes only
//! what RFC 9112 lets a sender send. Bare line feeds, folded lines, spaces before a colon, repeated or combined body
//! lengths, chunk extensions and a body where none may be are all errors here, because what this reads was written by
//! the product under test. Limits: heads 256 KiB, whole bodies 256 MiB (longer ones are read in parts).
//!
//! Bytes of a head become characters one to one (ISO 8859-1), so nothing is lost and an assertion reads well.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::poll::Deadline;

/// The longest head that is read.
const HEAD_LIMIT: usize = 256 * 1024;
/// The longest body that is kept in memory.
const BODY_LIMIT: u64 = 256 * 1024 * 1024;
/// How much is read from the socket at once.
const READ_SIZE: usize = 16 * 1024;
/// How much of what was received an error shows.
const SHOWN: usize = 400;

/// What went wrong on the wire. Each says what was attempted and what had been received until then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WireError {
    /// The deadline passed.
    #[error("timed out while {attempt}; unread so far: {got}")]
    TimedOut {
        /// What was attempted.
        attempt: String,
        /// What was received and not used.
        got: String,
    },
    /// The peer closed in the middle.
    #[error("the peer closed the connection while {attempt}; unread so far: {got}")]
    Closed {
        /// What was attempted.
        attempt: String,
        /// What was received and not used.
        got: String,
    },
    /// The peer reset the connection.
    #[error("the peer reset the connection while {attempt}; unread so far: {got}")]
    Reset {
        /// What was attempted.
        attempt: String,
        /// What was received and not used.
        got: String,
    },
    /// The peer sent what RFC 9112 does not allow.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The socket failed in another way.
    #[error("socket error while {attempt}: {error}")]
    Io {
        /// What was attempted.
        attempt: String,
        /// What the system said.
        error: String,
    },
}

/// The first line of a message and its header lines, as they came and without their line ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The request or status line.
    pub first: String,
    /// The header lines.
    pub lines: Vec<String>,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body and no length.
    None,
    /// By `Content-Length`.
    Length(u64),
    /// By `Transfer-Encoding: chunked`.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A body as it was framed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) chunks: Vec<usize>,
    pub(crate) trailers: Vec<String>,
}

/// A socket with a read buffer.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    record: Option<Record>,
}

/// What was received, as long as it is not too much.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) bytes: Vec<u8>,
    pub(crate) total: u64,
}

/// How much a [`Record`] keeps; the rest is only counted.
const RECORD_LIMIT: usize = 8 * 1024 * 1024;

impl WireError {
    /// Whether the peer is gone: it closed or reset the connection.
    pub fn is_gone(&self) -> bool {
        matches!(self, WireError::Closed { .. } | WireError::Reset { .. })
    }

    /// Whether the deadline passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, WireError::TimedOut { .. })
    }

    fn from_io(error: &std::io::Error, attempt: &str, got: &[u8]) -> WireError {
        let (attempt, got) = (attempt.to_owned(), show(got));
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => WireError::TimedOut { attempt, got },
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => WireError::Reset { attempt, got },
            ErrorKind::BrokenPipe => WireError::Closed { attempt, got },
            _ => WireError::Io { attempt, error: error.to_string() },
        }
    }
}

/// The beginning of `bytes`, escaped.
pub(crate) fn show(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(SHOWN)].escape_ascii();
    match bytes.len() {
        0 => "nothing".to_owned(),
        n if n > SHOWN => format!("\"{shown}\"… ({n} bytes)"),
        _ => format!("\"{shown}\""),
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        Wire { stream, buffer: Vec::new(), start: 0, record: None }
    }

    /// Keeps what is received from now on.
    pub(crate) fn recording(stream: TcpStream) -> Wire {
        Wire { record: Some(Record::default()), ..Wire::new(stream) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn record(&self) -> Record {
        self.record.clone().unwrap_or_default()
    }

    /// What was received and not used yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        let taken = self.buffer[self.start..self.start + n].to_vec();
        self.start += n;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        taken
    }

    /// Reads once; `false` at the end of the stream.
    pub(crate) fn fill(&mut self, deadline: &Deadline, attempt: &str) -> Result<bool, WireError> {
        if self.start > READ_SIZE {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let timeout = (!deadline.is_never()).then(|| deadline.left().max(Duration::from_micros(1)));
        self.stream.set_read_timeout(timeout).map_err(|e| WireError::from_io(&e, attempt, self.pending()))?;
        let mut piece = [0; READ_SIZE];
        loop {
            match self.stream.read(&mut piece) {
                Ok(n) => {
                    self.buffer.extend_from_slice(&piece[..n]);
                    if let Some(record) = &mut self.record {
                        record.total += n as u64;
                        let room = RECORD_LIMIT - record.bytes.len();
                        record.bytes.extend_from_slice(&piece[..n.min(room)]);
                    }
                    return Ok(n > 0);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(WireError::from_io(&e, attempt, self.pending())),
            }
        }
    }

    fn fill_some(&mut self, deadline: &Deadline, attempt: &str) -> Result<(), WireError> {
        match self.fill(deadline, attempt)? {
            true => Ok(()),
            false => Err(WireError::Closed { attempt: attempt.to_owned(), got: show(self.pending()) }),
        }
    }

    pub(crate) fn read_exact(&mut self, n: usize, deadline: &Deadline, attempt: &str) -> Result<Vec<u8>, WireError> {
        while self.pending().len() < n {
            self.fill_some(deadline, attempt)?;
        }
        Ok(self.take(n))
    }

    /// Everything up to and including `end`.
    pub(crate) fn read_until(&mut self, end: &[u8], limit: usize, deadline: &Deadline) -> Result<Vec<u8>, WireError> {
        let mut from = 0;
        loop {
            let pending = self.pending();
            if let Some(at) = pending[from..].windows(end.len()).position(|w| w == end) {
                return Ok(self.take(from + at + end.len()));
            }
            if pending.len() > limit {
                return Err(WireError::Malformed(format!("no {} within {limit} bytes: {}", show(end), show(pending))));
            }
            from = pending.len().saturating_sub(end.len() - 1);
            self.fill_some(deadline, "reading up to a delimiter")?;
        }
    }

    fn read_line(&mut self, limit: usize, deadline: &Deadline) -> Result<String, WireError> {
        let mut line = self.read_until(b"\n", limit, deadline)?;
        line.pop();
        if line.pop() != Some(b'\r') || line.contains(&b'\r') {
            return Err(WireError::Malformed(format!("a line with a bare CR or LF: {}", show(&line))));
        }
        Ok(latin(&line))
    }

    fn read_lines(&mut self, deadline: &Deadline) -> Result<Vec<String>, WireError> {
        let mut lines: Vec<String> = Vec::new();
        let mut left = HEAD_LIMIT;
        loop {
            let line = self.read_line(left, deadline)?;
            if line.is_empty() {
                return Ok(lines);
            }
            left = left.saturating_sub(line.len() + 2);
            check_field_line(&line)?;
            lines.push(line);
        }
    }

    /// Reads a head, its empty line included.
    pub(crate) fn read_head(&mut self, deadline: &Deadline) -> Result<Head, WireError> {
        let first = self.read_line(HEAD_LIMIT, deadline)?;
        if first.is_empty() {
            return Err(WireError::Malformed("an empty line where a message should start".to_owned()));
        }
        Ok(Head { first, lines: self.read_lines(deadline)? })
    }

    /// The next chunk; `None` is the last one, after which come the trailers.
    pub(crate) fn read_chunk(&mut self, deadline: &Deadline) -> Result<Option<Vec<u8>>, WireError> {
        let line = self.read_line(64, deadline)?;
        let digits = line.bytes().all(|b| b.is_ascii_hexdigit()) && (1..=15).contains(&line.len());
        let size = if digits { usize::from_str_radix(&line, 16).ok() } else { None };
        let Some(size) = size else {
            return Err(WireError::Malformed(format!("{line:?} is not a plain chunk size")));
        };
        if size as u64 > BODY_LIMIT {
            return Err(WireError::Malformed(format!("a chunk of {size} bytes is beyond the kit's {BODY_LIMIT}")));
        }
        if size == 0 {
            return Ok(None);
        }
        let chunk = self.read_exact(size, deadline, "reading a chunk")?;
        match self.read_exact(2, deadline, "reading the end of a chunk")?.as_slice() {
            b"\r\n" => Ok(Some(chunk)),
            other => Err(WireError::Malformed(format!("a chunk of {size} bytes is followed by {}", show(other)))),
        }
    }

    pub(crate) fn read_trailers(&mut self, deadline: &Deadline) -> Result<Vec<String>, WireError> {
        self.read_lines(deadline)
    }

    pub(crate) fn read_body(&mut self, framing: Framing, deadline: &Deadline) -> Result<Body, WireError> {
        let mut body = Body::default();
        match framing {
            Framing::None => {}
            Framing::Length(n) if n > BODY_LIMIT => return Err(too_large(n)),
            Framing::Length(n) => {
                body.bytes = self.read_exact(n as usize, deadline, "reading a body of known length")?
            }
            Framing::Chunked => {
                while let Some(chunk) = self.read_chunk(deadline)? {
                    body.chunks.push(chunk.len());
                    body.bytes.extend(chunk);
                    if body.bytes.len() as u64 > BODY_LIMIT {
                        return Err(too_large(body.bytes.len() as u64));
                    }
                }
                body.trailers = self.read_trailers(deadline)?;
            }
            Framing::UntilClose => {
                while self.fill(deadline, "reading a body up to the end of the connection")? {
                    if self.pending().len() as u64 > BODY_LIMIT {
                        return Err(too_large(self.pending().len() as u64));
                    }
                }
                body.bytes = self.take(self.pending().len());
            }
        }
        Ok(body)
    }

    /// Writes all of `bytes`; on failure gives how many were taken by the socket.
    pub(crate) fn write(&mut self, bytes: &[u8], deadline: &Deadline) -> Result<(), (usize, WireError)> {
        let mut sent = 0;
        while sent < bytes.len() {
            let attempt = || format!("sending {} bytes ({sent} are sent)", bytes.len());
            let timeout = (!deadline.is_never()).then(|| deadline.left().max(Duration::from_micros(1)));
            let result = self.stream.set_write_timeout(timeout).and_then(|()| self.stream.write(&bytes[sent..]));
            match result {
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err((sent, WireError::from_io(&e, &attempt(), self.pending()))),
            }
        }
        Ok(())
    }
}

fn too_large(n: u64) -> WireError {
    WireError::Malformed(format!("a body of {n} bytes or more is beyond the kit's {BODY_LIMIT}; read it in parts"))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn check_field_line(line: &str) -> Result<(), WireError> {
    let sound = line
        .split_once(':')
        .is_some_and(|(name, value)| is_token(name) && value.chars().all(|c| c == '\t' || (c >= ' ' && c != '\u{7f}')));
    if sound { Ok(()) } else { Err(WireError::Malformed(format!("{line:?} is not a header line"))) }
}

/// The values of every line in `lines` named `name`, without the spaces around them.
pub(crate) fn values<'a>(lines: &'a [String], name: &str) -> Vec<&'a str> {
    let field = |line: &'a String| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| value.trim_matches([' ', '\t']))
    };
    lines.iter().filter_map(field).collect()
}

/// Whether a comma-separated list header holds `token`.
pub(crate) fn lists(lines: &[String], name: &str, token: &str) -> bool {
    values(lines, name).iter().flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
}

impl Head {
    /// The values of every header named `name`, in order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        values(&self.lines, name)
    }

    /// What the lines say about the body, whatever the kind of message; `None` if they say nothing.
    fn declared(&self) -> Result<Option<Framing>, WireError> {
        let (lengths, codings) = (self.headers("content-length"), self.headers("transfer-encoding"));
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(None),
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
            ([n], []) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => match n.parse() {
                Ok(n) => Ok(Some(Framing::Length(n))),
                Err(_) => Err(WireError::Malformed(format!("Content-Length {n} is too large"))),
            },
            _ => Err(WireError::Malformed(format!(
                "ambiguous length: Content-Length {lengths:?}, Transfer-Encoding {codings:?}"
            ))),
        }
    }

    /// Splits a request line and finds the framing of its body.
    pub(crate) fn as_request(&self) -> Result<([String; 3], Framing), WireError> {
        let parts: Vec<&str> = self.first.split(' ').collect();
        let [method, target, version] = parts.as_slice() else {
            return Err(WireError::Malformed(format!("{:?} is not a request line", self.first)));
        };
        let visible = !target.is_empty() && target.bytes().all(|b| b.is_ascii_graphic());
        if !is_token(method) || !visible || !matches!(*version, "HTTP/1.1" | "HTTP/1.0") {
            return Err(WireError::Malformed(format!("{:?} is not a request line", self.first)));
        }
        if *version == "HTTP/1.1" && self.headers("host").len() != 1 {
            return Err(WireError::Malformed(format!("{} Host headers in a request", self.headers("host").len())));
        }
        let framing = self.declared()?.unwrap_or(Framing::None);
        Ok(([(*method).to_owned(), (*target).to_owned(), (*version).to_owned()], framing))
    }

    /// Splits a status line and finds the framing of the body, given the method of the request.
    pub(crate) fn as_response(&self, method: &str) -> Result<(u16, String, Framing), WireError> {
        let bad = || WireError::Malformed(format!("{:?} is not a status line", self.first));
        let rest = self.first.strip_prefix("HTTP/1.1 ").ok_or_else(bad)?;
        let (code, reason) = rest.split_once(' ').ok_or_else(bad)?;
        let status: u16 = code.parse().map_err(|_| bad())?;
        if code.len() != 3 || !(100..600).contains(&status) {
            return Err(bad());
        }
        let declared = self.declared()?;
        let bodiless = status < 200 || status == 204;
        if bodiless && declared.is_some() {
            return Err(WireError::Malformed(format!("a {status} answer that declares a body: {:?}", self.lines)));
        }
        let none = bodiless || status == 304 || method == "HEAD" || (method == "CONNECT" && status < 300);
        let framing = if none { Framing::None } else { declared.unwrap_or(Framing::UntilClose) };
        Ok((status, reason.to_owned(), framing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(first: &str, lines: &[&str]) -> Head {
        Head { first: first.to_owned(), lines: lines.iter().map(|l| (*l).to_owned()).collect() }
    }

    #[test]
    fn the_length_of_an_answer_follows_rfc_9112_6_3() {
        let of = |status: u16, method: &str, lines: &[&str]| {
            head(&format!("HTTP/1.1 {status} x"), lines).as_response(method).map(|(_, _, framing)| framing).ok()
        };
        assert_eq!(of(200, "GET", &["Content-Length: 5"]), Some(Framing::Length(5)));
        assert_eq!(of(200, "GET", &["transfer-encoding: Chunked"]), Some(Framing::Chunked));
        assert_eq!(of(200, "GET", &[]), Some(Framing::UntilClose));
        assert_eq!(of(200, "HEAD", &["Content-Length: 5"]), Some(Framing::None));
        assert_eq!(of(304, "GET", &["Content-Length: 5"]), Some(Framing::None));
        assert_eq!(of(204, "GET", &[]), Some(Framing::None));
        for bad in [
            &["Content-Length: 5", "Content-Length: 5"][..],
            &["Content-Length: 5", "Transfer-Encoding: chunked"],
            &["Transfer-Encoding: gzip, chunked"],
            &["Content-Length: +5"],
            &["Content-Length:"],
        ] {
            assert_eq!(of(200, "GET", bad), None, "{bad:?}");
        }
        assert_eq!(of(204, "GET", &["Content-Length: 0"]), None);
    }

    #[test]
    fn lines_that_no_sender_may_send_are_refused() {
        for line in ["Name : x", " folded", "no colon", ": x", "N\u{e4}me: x", "Name: a\u{0}b"] {
            assert!(check_field_line(line).is_err(), "{line:?}");
        }
        assert!(check_field_line("Name:\tx \u{e4}").is_ok());
        for first in ["GET  / HTTP/1.1", "GET / HTTP/2", "GET /", "G(T / HTTP/1.1"] {
            assert!(head(first, &["Host: a"]).as_request().is_err(), "{first:?}");
        }
        assert!(head("GET / HTTP/1.1", &[]).as_request().is_err());
        assert!(head("GET / HTTP/1.1", &["Host: a"]).as_request().is_ok());
    }
}
