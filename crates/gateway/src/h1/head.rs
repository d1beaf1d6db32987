//! The lines of a message head, found incrementally: each byte is looked at once however the message is cut up, so a
//! client that sends one byte at a time costs no more than one that sends all at once. A [`Line`] points into the
//! buffer; nothing is copied.
//!
//! Refused here (RFC 9112, 2.2, 5.1, 5.2): a line that ends in a bare LF, a bare CR or any other control character,
//! a line that begins with white space (obsolete folding), white space before the colon, an empty or invalid name.

use super::grammar::{self, TOKEN, VALUE};

/// A range of the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

/// A header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The name as it was sent; the line begins with it.
    pub name: Span,
    /// The value without white space at its ends.
    pub value: Span,
    /// Behind the line's CRLF.
    pub end: u32,
    /// Which field it is, of those that matter to a proxy.
    pub kind: Name,
}

/// Limits on a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// The first line, in bytes, without its CRLF.
    pub first_line: usize,
    /// The request target, in bytes.
    pub target: usize,
    /// All header lines together, in bytes.
    pub headers: usize,
    /// How many header lines.
    pub lines: usize,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message is its documentation")]
pub enum HeadError {
    #[error("a line ends in LF without CR")]
    BareLf,
    #[error("a line holds a control character")]
    Control,
    #[error("a header line begins with white space (obsolete line folding)")]
    Folded,
    #[error("white space before the colon of a header")]
    SpaceBeforeColon,
    #[error("a header name is empty or holds an invalid character")]
    BadName,
    #[error("a header line has no colon")]
    NoColon,
    #[error("the first line is malformed")]
    FirstLine,
    #[error("the method is not a token")]
    Method,
    #[error("the request target is malformed")]
    Target,
    #[error("the HTTP version is malformed")]
    VersionSyntax,
    #[error("the HTTP version is not 1.0 or 1.1")]
    Version,
    #[error("the first line is too long")]
    FirstLineTooLong,
    #[error("the request target is too long")]
    TargetTooLong,
    #[error("the header lines are too large")]
    HeadersTooLarge,
    #[error("there are too many header lines")]
    TooManyLines,
    #[error("there is no Host header")]
    NoHost,
    #[error("there is more than one Host header")]
    TwoHosts,
    #[error("the Host header is invalid")]
    BadHost,
    #[error("the target's authority and the Host header differ")]
    HostMismatch,
    #[error("there is more than one Content-Length")]
    TwoLengths,
    #[error("the Content-Length is not a number")]
    BadLength,
    #[error("both Content-Length and Transfer-Encoding are given")]
    LengthAndCoding,
    #[error("the transfer coding is not a single final chunked")]
    BadCoding,
    #[error("a transfer coding in an HTTP/1.0 message")]
    CodingInHttp10,
    #[error("the Connection header is malformed, too long, or names a field that frames or routes the message")]
    BadConnectionOption,
    #[error("the status code is malformed")]
    Status,
}

macro_rules! names {
    ($( $variant:ident $text:literal )*) => {
        /// The fields that a proxy has to know; all others are [`Name::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "each variant is named after its field")]
        pub enum Name {
            Other,
            /// One of the known fields with `_` for `-`, which CGI-style services take for the field itself. It is
            /// never sent on: it would pass by every rule for that field.
            Disguised,
            $( #[doc = $text] $variant, )*
        }

        impl Name {
            #[inline]
            fn of(name: &[u8]) -> Name {
                $( if name.len() == $text.len() && name.eq_ignore_ascii_case($text.as_bytes()) { return Name::$variant; } )*
                if memchr::memchr(b'_', name).is_some() { Name::disguised(name) } else { Name::Other }
            }

            #[cold]
            fn disguised(name: &[u8]) -> Name {
                let is = |text: &[u8]| {
                    let mut pairs = name.iter().zip(text);
                    name.len() == text.len() && pairs.all(|(n, t)| n.eq_ignore_ascii_case(t) || (*n == b'_' && *t == b'-'))
                };
                if [$( $text ),*].iter().any(|text| is(text.as_bytes())) { Name::Disguised } else { Name::Other }
            }
        }
    };
}

names! {
    Host "host"
    Connection "connection"
    ContentLength "content-length"
    TransferEncoding "transfer-encoding"
    Expect "expect"
    Upgrade "upgrade"
    KeepAlive "keep-alive"
    ProxyConnection "proxy-connection"
    ProxyAuthenticate "proxy-authenticate"
    ProxyAuthorization "proxy-authorization"
    Te "te"
    Trailer "trailer"
    Forwarded "forwarded"
    XForwardedFor "x-forwarded-for"
    XForwardedProto "x-forwarded-proto"
    XForwardedHost "x-forwarded-host"
    XForwardedPort "x-forwarded-port"
    XRealIp "x-real-ip"
    XRequestId "x-request-id"
    Traceparent "traceparent"
    Origin "origin"
    Accept "accept"
    RequestMethod "access-control-request-method"
    RequestHeaders "access-control-request-headers"
    Date "date"
    Http2Settings "http2-settings"
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Span {
        // A head is bounded far below 4 GiB by its limits.
        Span { start: start as u32, end: end as u32 }
    }

    /// The bytes of this span.
    ///
    /// # Panics
    /// If `buf` is shorter than the buffer that was parsed.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }
}

/// How far the lines of a head have been read. One for each connection, reused.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// Where the line that is being read begins.
    pub(crate) line: usize,
    /// Up to here no LF was found in that line.
    pub(crate) scanned: usize,
}

impl Cursor {
    /// The next whole line without its CRLF, and moves behind it; `None` if it has not arrived yet.
    pub(crate) fn next_line(&mut self, buf: &[u8]) -> Result<Option<Span>, HeadError> {
        match memchr::memchr(b'\n', &buf[self.scanned..]) {
            None => {
                self.scanned = buf.len();
                Ok(None)
            }
            Some(at) => {
                let (start, lf) = (self.line, self.scanned + at);
                self.line = lf + 1;
                self.scanned = lf + 1;
                if lf == start || buf[lf - 1] != b'\r' {
                    return Err(HeadError::BareLf);
                }
                Ok(Some(Span::new(start, lf - 1)))
            }
        }
    }

    /// Reads header lines into `lines` until the empty line; true when that was seen. `first` is where they began.
    pub(crate) fn headers(
        &mut self,
        buf: &[u8],
        first: usize,
        limits: &HeadLimits,
        lines: &mut Vec<Line>,
    ) -> Result<bool, HeadError> {
        loop {
            let found = self.next_line(buf);
            // Before anything else about the line, so that the error does not depend on how the head was cut up.
            if self.scanned - first > limits.headers + 2 {
                return Err(HeadError::HeadersTooLarge);
            }
            let Some(span) = found? else { return Ok(false) };
            if span.start == span.end {
                return Ok(true);
            }
            if lines.len() == limits.lines {
                return Err(HeadError::TooManyLines);
            }
            lines.push(field(buf, span)?);
        }
    }
}

/// A header line without its CRLF.
pub(crate) fn field(buf: &[u8], span: Span) -> Result<Line, HeadError> {
    let line = span.of(buf);
    if matches!(line[0], b' ' | b'\t') {
        return Err(HeadError::Folded);
    }
    let colon = line.iter().position(|b| !grammar::is(*b, TOKEN)).ok_or(HeadError::NoColon)?;
    match line[colon] {
        b':' if colon > 0 => {}
        b' ' | b'\t' => return Err(HeadError::SpaceBeforeColon),
        _ => return Err(HeadError::BadName),
    }
    let raw = &line[colon + 1..];
    if !grammar::all(raw, VALUE) {
        return Err(HeadError::Control);
    }
    let value = grammar::trim(raw);
    let lead = raw.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let start = span.start as usize + colon + 1 + if value.is_empty() { 0 } else { lead };
    Ok(Line {
        name: Span::new(span.start as usize, span.start as usize + colon),
        value: Span::new(start, start + value.len()),
        end: span.end + 2,
        kind: Name::of(&line[..colon]),
    })
}
