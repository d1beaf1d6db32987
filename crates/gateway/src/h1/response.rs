//! Response heads: the status line and how the body is framed (RFC 9112, 4 and 6.3).
//!
//! As strict as for requests: a service whose answer two parsers could read differently is answered for with 502.

use super::grammar::{self, VALUE};
use super::head::{Cursor, HeadError, HeadLimits, Line, Name, Span};
use super::request::{OPTIONS_MAX, frames_or_routes};

/// How an answer's body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerFraming {
    /// No body: HEAD, 1xx, 204, 304, or a length of 0.
    #[default]
    None,
    /// `Content-Length`, in bytes, at least 1.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the service closes the connection.
    UntilClose,
}

/// A parsed response head. Its spans point into the buffer it was parsed from.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// 100 to 599.
    pub status: u16,
    /// Status code and reason, as in the status line behind the version.
    pub status_text: Span,
    /// How the body is framed.
    pub framing: AnswerFraming,
    /// Whether the service keeps the connection.
    pub keep_alive: bool,
    /// Whether `Connection` names fields beyond `close`, `keep-alive` and `upgrade`.
    pub names_fields: bool,
    /// The value of `Keep-Alive`, if it was sent.
    pub keep_alive_value: Option<Span>,
    /// The header lines.
    pub lines: Vec<Line>,
    /// Length of the whole head, empty line included.
    pub length: usize,
}

/// Parses one response head from a buffer that grows.
#[derive(Debug, Default)]
pub struct ResponseParser {
    head: ResponseHead,
    cursor: Cursor,
    headers_at: usize,
    http11: bool,
}

impl ResponseParser {
    /// The head that was parsed last; meaningful after [`ResponseParser::parse`] gave true.
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// Forgets everything: the next head begins at the start of the buffer.
    pub fn reset(&mut self) {
        let mut lines = std::mem::take(&mut self.head.lines);
        lines.clear();
        self.head = ResponseHead { lines, ..ResponseHead::default() };
        self.cursor = Cursor::default();
        self.headers_at = 0;
    }

    /// Goes on with `buf`, which begins with the response. True: the head is whole. `to_head`: it answers a HEAD.
    ///
    /// # Errors
    /// When the head can no longer become a valid one.
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits, to_head: bool) -> Result<bool, HeadError> {
        if self.headers_at == 0 {
            let found = self.cursor.next_line(buf);
            if self.cursor.scanned > limits.first_line + 2 {
                return Err(HeadError::FirstLineTooLong);
            }
            let Some(line) = found? else { return Ok(false) };
            self.status_line(buf, line)?;
            self.headers_at = self.cursor.line;
        }
        if !self.cursor.headers(buf, self.headers_at, limits, &mut self.head.lines)? {
            return Ok(false);
        }
        self.head.length = self.cursor.line;
        self.judge(buf, to_head)?;
        Ok(true)
    }

    fn status_line(&mut self, buf: &[u8], span: Span) -> Result<(), HeadError> {
        let line = span.of(buf);
        if line.len() < 12 {
            return Err(HeadError::FirstLine);
        }
        self.http11 = match &line[..9] {
            b"HTTP/1.1 " => true,
            b"HTTP/1.0 " => false,
            other if other.starts_with(b"HTTP/") => return Err(HeadError::Version),
            _ => return Err(HeadError::FirstLine),
        };
        let code = &line[9..12];
        // Some servers leave out the space behind the code when there is no reason; nothing hangs on it.
        if line.len() > 12 && line[12] != b' ' {
            return Err(HeadError::Status);
        }
        if !grammar::all(&line[12..], VALUE) {
            return Err(HeadError::Control);
        }
        self.head.status = match grammar::decimal(code) {
            Some(n @ 100..=599) => n as u16,
            _ => return Err(HeadError::Status),
        };
        self.head.status_text = Span::new(span.start as usize + 9, span.end as usize);
        Ok(())
    }

    fn judge(&mut self, buf: &[u8], to_head: bool) -> Result<(), HeadError> {
        let head = &mut self.head;
        let mut length: Option<u64> = None;
        let mut chunked = false;
        let (mut close, mut keep, mut options) = (false, false, 0);
        for line in &head.lines {
            match line.kind {
                Name::ContentLength => {
                    let n = grammar::decimal(line.value.of(buf)).ok_or(HeadError::BadLength)?;
                    if length.replace(n).is_some() {
                        return Err(HeadError::TwoLengths);
                    }
                }
                Name::TransferEncoding => {
                    if chunked || !line.value.of(buf).eq_ignore_ascii_case(b"chunked") {
                        return Err(HeadError::BadCoding);
                    }
                    chunked = true;
                }
                Name::Connection => {
                    options += line.value.of(buf).len();
                    if options > OPTIONS_MAX {
                        return Err(HeadError::BadConnectionOption);
                    }
                    for option in grammar::list(line.value.of(buf)) {
                        if option.eq_ignore_ascii_case(b"close") {
                            close = true;
                        } else if option.eq_ignore_ascii_case(b"keep-alive") {
                            keep = true;
                        } else if frames_or_routes(option) {
                            return Err(HeadError::BadConnectionOption);
                        } else if !option.eq_ignore_ascii_case(b"upgrade") {
                            head.names_fields = true;
                        }
                    }
                }
                Name::KeepAlive => head.keep_alive_value = Some(line.value),
                _ => {}
            }
        }
        let bodyless = to_head || head.status < 200 || matches!(head.status, 204 | 304);
        head.framing = match (length, chunked) {
            (Some(_), true) => return Err(HeadError::LengthAndCoding),
            (None, true) if !self.http11 => return Err(HeadError::CodingInHttp10),
            _ if bodyless => AnswerFraming::None,
            (None, true) => AnswerFraming::Chunked,
            (Some(0), false) => AnswerFraming::None,
            (Some(n), false) => AnswerFraming::Length(n),
            (None, false) => AnswerFraming::UntilClose,
        };
        head.keep_alive = !close && (self.http11 || keep) && head.framing != AnswerFraming::UntilClose;
        Ok(())
    }
}
