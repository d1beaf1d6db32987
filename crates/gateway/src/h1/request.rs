//! Request heads: the request line, the target's form, `Host`, and how the body is framed (RFC 9112, 3, 6 and 7).
//!
//! A head that comes out of [`RequestParser::parse`] is unambiguous: one host, one framing, one target form. One empty
//! line before a request is skipped (RFC 9112, 2.2), no more. `CONNECT` parses, so that it can be answered.

use super::grammar::{self, TARGET};
use super::head::{Cursor, HeadError, HeadLimits, Line, Name, Span};

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// `Content-Length`, in bytes, at least 1.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The form of the request target (RFC 9112, 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`.
    #[default]
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `host:port`, with `CONNECT` only.
    Authority,
    /// `*`, with `OPTIONS` only.
    Asterisk,
}

/// A parsed request head. Its spans point into the buffer it was parsed from.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Span,
    /// The target as it was sent.
    pub target: Span,
    /// Path and query: the target without scheme and authority. Empty for an absolute target without a path.
    pub path_and_query: Span,
    /// The host (with port) that the request is for: the target's authority, else `Host`. Empty in HTTP/1.0 without one.
    pub host: Span,
    /// The form of the target.
    pub form: Target,
    /// True for HTTP/1.1, false for HTTP/1.0.
    pub http11: bool,
    /// How the body is framed.
    pub framing: Framing,
    /// Whether the client wants the connection kept.
    pub keep_alive: bool,
    /// Whether `Connection` holds `upgrade` and an `Upgrade` field is there (HTTP/1.1 only) that does not offer HTTP/2:
    /// a tunnel of HTTP/2 would carry requests past every rule, and clients that offer it go on without (RFC 9110, 7.8).
    pub upgrade: bool,
    /// Whether `Expect: 100-continue` was sent (HTTP/1.1 only).
    pub expects_continue: bool,
    /// Whether `Expect` holds anything else.
    pub unknown_expectation: bool,
    /// Whether `Connection` names fields beyond `close`, `keep-alive`, `upgrade` and `te`.
    pub names_fields: bool,
    /// The header lines.
    pub lines: Vec<Line>,
    /// Length of the whole head, empty line included.
    pub length: usize,
}

/// Parses one request after another from a buffer that grows.
#[derive(Debug, Default)]
pub struct RequestParser {
    head: RequestHead,
    cursor: Cursor,
    /// Where header lines begin; 0 while the request line is not there.
    headers_at: usize,
}

impl RequestParser {
    /// The head that was parsed last; meaningful after [`RequestParser::parse`] gave true.
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// Forgets everything: the next head begins at the start of the buffer.
    pub fn reset(&mut self) {
        let mut lines = std::mem::take(&mut self.head.lines);
        lines.clear();
        self.head = RequestHead { lines, ..RequestHead::default() };
        self.cursor = Cursor::default();
        self.headers_at = 0;
    }

    /// Goes on with `buf`, which begins with the request and holds all that has arrived so far. True: the head is whole.
    ///
    /// # Errors
    /// When the head can no longer become a valid one; the connection is then of no further use.
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
        if self.headers_at == 0 {
            if self.cursor.line == 0 && buf.starts_with(b"\r\n") {
                self.cursor = Cursor { line: 2, scanned: 2 };
            }
            let begin = self.cursor.line;
            let found = self.cursor.next_line(buf);
            if self.cursor.scanned - begin > limits.first_line + 2 {
                return Err(HeadError::FirstLineTooLong);
            }
            let Some(line) = found? else { return Ok(false) };
            self.request_line(buf, line, limits)?;
            self.headers_at = self.cursor.line;
        }
        if !self.cursor.headers(buf, self.headers_at, limits, &mut self.head.lines)? {
            return Ok(false);
        }
        self.head.length = self.cursor.line;
        self.judge(buf)?;
        Ok(true)
    }

    fn request_line(&mut self, buf: &[u8], span: Span, limits: &HeadLimits) -> Result<(), HeadError> {
        let line = span.of(buf);
        let at = span.start as usize;
        let first = memchr::memchr(b' ', line).ok_or(HeadError::FirstLine)?;
        let last = memchr::memrchr(b' ', line).ok_or(HeadError::FirstLine)?;
        if first == last {
            return Err(HeadError::FirstLine);
        }
        if !grammar::is_token(&line[..first]) {
            return Err(HeadError::Method);
        }
        let target = &line[first + 1..last];
        if target.len() > limits.target {
            return Err(HeadError::TargetTooLong);
        }
        if target.is_empty() || !grammar::all(target, TARGET) {
            return Err(HeadError::Target);
        }
        self.head.http11 = match &line[last + 1..] {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                return Err(HeadError::Version);
            }
            _ => return Err(HeadError::VersionSyntax),
        };
        self.head.method = Span::new(at, at + first);
        self.head.target = Span::new(at + first + 1, at + last);
        self.target_form(buf)
    }

    fn target_form(&mut self, buf: &[u8]) -> Result<(), HeadError> {
        let head = &mut self.head;
        let target = head.target.of(buf);
        head.path_and_query = head.target;
        match head.method.of(buf) {
            b"CONNECT" => {
                grammar::host(target).and_then(|(_, port)| port).ok_or(HeadError::Target)?;
                head.form = Target::Authority;
                head.host = head.target;
                return Ok(());
            }
            b"OPTIONS" if target == b"*" => {
                head.form = Target::Asterisk;
                return Ok(());
            }
            _ => {}
        }
        if target[0] != b'/' {
            let scheme = target.len() > 7 && target[..7].eq_ignore_ascii_case(b"http://");
            if !scheme {
                return Err(HeadError::Target);
            }
            let authority = &target[7..];
            let length = authority.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(authority.len());
            grammar::host(&authority[..length]).ok_or(HeadError::Target)?;
            let start = head.target.start as usize + 7;
            head.form = Target::Absolute;
            head.host = Span::new(start, start + length);
            head.path_and_query = Span::new(start + length, head.target.end as usize);
        }
        // A backslash is a slash to some servers; in a query it is only a character.
        let path = head.path_and_query.of(buf).split(|b| *b == b'?').next().unwrap_or_default();
        if path.contains(&b'\\') {
            return Err(HeadError::Target);
        }
        Ok(())
    }

    /// What the header lines say together.
    fn judge(&mut self, buf: &[u8]) -> Result<(), HeadError> {
        let head = &mut self.head;
        let mut host: Option<Span> = None;
        let mut length: Option<u64> = None;
        let mut chunked = false;
        let mut options = 0;
        let (mut close, mut keep) = (false, false);
        let (mut upgrade_option, mut upgrade_field, mut http2) = (false, false, false);
        for line in &head.lines {
            match line.kind {
                Name::Other => {}
                Name::Host => {
                    if host.is_some() {
                        return Err(HeadError::TwoHosts);
                    }
                    host = Some(line.value);
                }
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
                        match option {
                            o if o.eq_ignore_ascii_case(b"close") => close = true,
                            o if o.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                            o if o.eq_ignore_ascii_case(b"upgrade") => upgrade_option = true,
                            o if o.eq_ignore_ascii_case(b"te") => {}
                            o => {
                                connection_option(o)?;
                                head.names_fields = true;
                            }
                        }
                    }
                }
                Name::Upgrade => {
                    for protocol in grammar::list(line.value.of(buf)) {
                        upgrade_field = true;
                        http2 |= protocol.get(..2).is_some_and(|p| p.eq_ignore_ascii_case(b"h2"));
                    }
                }
                Name::Expect if head.http11 => {
                    if line.value.of(buf).eq_ignore_ascii_case(b"100-continue") {
                        head.expects_continue = true;
                    } else {
                        head.unknown_expectation = true;
                    }
                }
                _ => {}
            }
        }
        match (host, head.form) {
            (None, _) if head.http11 => return Err(HeadError::NoHost),
            (None, _) => {}
            (Some(host), form) => {
                grammar::host(host.of(buf)).ok_or(HeadError::BadHost)?;
                match form {
                    Target::Absolute | Target::Authority => {
                        if !host.of(buf).eq_ignore_ascii_case(head.host.of(buf)) {
                            return Err(HeadError::HostMismatch);
                        }
                    }
                    Target::Origin | Target::Asterisk => head.host = host,
                }
            }
        }
        head.framing = match (length, chunked) {
            (Some(_), true) => return Err(HeadError::LengthAndCoding),
            (None, true) if !head.http11 => return Err(HeadError::CodingInHttp10),
            (None, true) => Framing::Chunked,
            (None | Some(0), false) => Framing::None,
            (Some(n), false) => Framing::Length(n),
        };
        head.keep_alive = !close && (head.http11 || keep);
        head.upgrade = head.http11 && upgrade_option && upgrade_field && !http2;
        head.expects_continue &= head.framing != Framing::None;
        Ok(())
    }
}

/// All values of `Connection` together, in bytes. Each other line is held against each of them when it is sent on, so
/// without a bound a request of 64 KiB would cost what thousands do.
pub(super) const OPTIONS_MAX: usize = 1024;

/// A field that `Connection` names will be dropped; dropping these would change what the message is.
fn connection_option(option: &[u8]) -> Result<(), HeadError> {
    if !grammar::is_token(option) || frames_or_routes(option) {
        return Err(HeadError::BadConnectionOption);
    }
    Ok(())
}

/// Whether this is the name of a field without which a message means something else.
pub(super) fn frames_or_routes(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"host", b"content-length", b"transfer-encoding", b"connection"];
    NAMES.iter().any(|n| name.eq_ignore_ascii_case(n))
}
