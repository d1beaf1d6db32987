//! Message heads as they are sent on. Lines pass verbatim unless a rule touches them: runs of untouched lines are
//! copied in one piece. What is dropped and added follows RFC 9110, 7.6 (hop-by-hop fields), and the field's habits
//! (`X-Forwarded-*`, `X-Request-Id`, W3C Trace Context).

use std::net::IpAddr;

use crate::h1::grammar;
use crate::h1::{AnswerFraming, Framing, Line, Name, RequestHead, ResponseHead};
use crate::plan::{EndpointPlan, HeaderEdits};

/// What a request's head needs to be sent on.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    /// The buffer that `head` points into.
    pub(crate) buf: &'a [u8],
    pub(crate) head: &'a RequestHead,
    /// Whether the peer's `X-Forwarded-*` and `X-Request-Id` are believed.
    pub(crate) trusted: bool,
    pub(crate) peer: IpAddr,
    pub(crate) request_id: &'a [u8],
    /// Written if the client sent no valid one.
    pub(crate) traceparent: Option<&'a [u8]>,
    /// Path and query, if they differ from what was sent.
    pub(crate) path: Option<&'a [u8]>,
    pub(crate) host: Option<&'a str>,
    pub(crate) edits: &'a HeaderEdits,
    /// The header that says how many milliseconds are left.
    pub(crate) deadline: Option<&'a str>,
}

/// Room for the digits of a deadline: 31 years in milliseconds.
const DEADLINE_DIGITS: usize = 12;

impl Outgoing<'_> {
    /// Writes the head for `endpoint` behind what is in `out`. Gives where the number of a deadline goes, if there is one
    /// ([`write_deadline`]).
    pub(crate) fn write(&self, endpoint: &EndpointPlan, out: &mut Vec<u8>) -> Option<usize> {
        let (buf, head) = (self.buf, self.head);
        out.extend_from_slice(head.method.of(buf));
        out.push(b' ');
        match self.path.unwrap_or_else(|| head.path_and_query.of(buf)) {
            [] if head.method.of(buf) == b"OPTIONS" => out.push(b'*'),
            path => {
                // An absolute target may have no path, or only a query.
                if path.first().is_none_or(|b| *b == b'?') {
                    out.push(b'/');
                }
                out.extend_from_slice(path);
            }
        }
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        match self.host {
            Some(host) => out.extend_from_slice(host.as_bytes()),
            None if head.host.start == head.host.end => out.extend_from_slice(endpoint.name.as_bytes()),
            None => out.extend_from_slice(head.host.of(buf)),
        }
        out.extend_from_slice(b"\r\n");
        copy_lines(buf, &head.lines, out, |line| self.keeps(line));
        for (name, value) in &self.edits.set {
            add(out, name.as_bytes(), value.as_bytes());
        }
        if head.framing == Framing::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        self.write_forwarded(out);
        if head.upgrade {
            out.extend_from_slice(b"Connection: upgrade\r\n");
            head.lines.iter().filter(|l| l.kind == Name::Upgrade).for_each(|l| add(out, b"Upgrade", l.value.of(buf)));
        }
        let deadline = self.deadline.map(|name| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            let at = out.len();
            out.extend_from_slice(&[b' '; DEADLINE_DIGITS - 1]);
            out.extend_from_slice(b"0\r\n");
            at
        });
        out.extend_from_slice(b"\r\n");
        deadline
    }

    fn write_forwarded(&self, out: &mut Vec<u8>) {
        let (buf, head) = (self.buf, self.head);
        out.extend_from_slice(b"X-Forwarded-For: ");
        if self.trusted {
            for line in head.lines.iter().filter(|l| l.kind == Name::XForwardedFor) {
                out.extend_from_slice(line.value.of(buf));
                out.extend_from_slice(b", ");
            }
        }
        write_ip(self.peer, out);
        out.extend_from_slice(b"\r\n");
        let given = |kind| self.trusted && head.lines.iter().any(|l| l.kind == kind);
        if !given(Name::XForwardedProto) {
            out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
        }
        if !given(Name::XForwardedHost) && head.host.start != head.host.end {
            add(out, b"X-Forwarded-Host", head.host.of(buf));
        }
        add(out, b"X-Request-Id", self.request_id);
        if let Some(traceparent) = self.traceparent {
            add(out, b"traceparent", traceparent);
        }
    }

    #[inline]
    fn keeps(&self, line: &Line) -> bool {
        let name = line.name.of(self.buf);
        let kept = match line.kind {
            // Trace Context, 3.3: the state belongs to the parent that it came with.
            Name::Other => {
                (self.traceparent.is_none() || !name.eq_ignore_ascii_case(b"tracestate"))
                    && self.deadline.is_none_or(|d| !name.eq_ignore_ascii_case(d.as_bytes()))
            }
            Name::ContentLength | Name::Origin | Name::Accept | Name::Date | Name::Trailer => true,
            Name::RequestMethod | Name::RequestHeaders => true,
            // Meant for the next hop only, and forwarded because we pass 100 (Continue) on.
            Name::Expect => self.head.expects_continue,
            Name::Forwarded | Name::XForwardedPort | Name::XRealIp => self.trusted,
            Name::XForwardedProto | Name::XForwardedHost => self.trusted,
            Name::Traceparent => self.traceparent.is_none(),
            // RFC 9110, 10.1.4: only this one member may pass, and only if we keep trailers, which we do.
            Name::Te => line.value.of(self.buf).eq_ignore_ascii_case(b"trailers"),
            Name::Host
            | Name::Disguised
            | Name::XForwardedFor
            | Name::XRequestId
            | Name::TransferEncoding
            | Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::ProxyAuthenticate
            | Name::ProxyAuthorization
            | Name::Upgrade
            | Name::Http2Settings => false,
        };
        kept && !(self.head.names_fields && is_named(self.buf, &self.head.lines, name)) && !touched(self.edits, name)
    }
}

/// Puts a number of milliseconds in its place: right-aligned, behind blanks, which a value may begin with (RFC 9110, 5.5).
pub(crate) fn write_deadline(out: &mut [u8], at: usize, millis: u64) {
    let Some(field) = out.get_mut(at..at + DEADLINE_DIGITS) else { return };
    let mut left = millis.min(999_999_999_999);
    for (i, byte) in field.iter_mut().rev().enumerate() {
        *byte = if left > 0 || i == 0 { b'0' + (left % 10) as u8 } else { b' ' };
        left /= 10;
    }
}

/// What an answer's head needs to be sent on.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    /// The buffer that `head` points into.
    pub(crate) buf: &'a [u8],
    pub(crate) head: &'a ResponseHead,
    pub(crate) request_id: &'a [u8],
    /// Whether the body is sent chunked, whatever the service did.
    pub(crate) chunked: bool,
    /// Whether the client's connection is closed behind this answer.
    pub(crate) close: bool,
    /// Whether the client speaks HTTP/1.0 and has to be told that the connection is kept.
    pub(crate) http10: bool,
    pub(crate) edits: &'a HeaderEdits,
    /// Fields for cross-origin use.
    pub(crate) extra: &'a [(&'static str, String)],
}

impl Answer<'_> {
    /// Writes the head behind what is in `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (buf, head) = (self.buf, self.head);
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(head.status_text.of(buf));
        if head.status_text.end - head.status_text.start == 3 {
            out.push(b' ');
        }
        out.extend_from_slice(b"\r\n");
        copy_lines(buf, &head.lines, out, |line| self.keeps(line));
        for (name, value) in self.edits.set.iter() {
            add(out, name.as_bytes(), value.as_bytes());
        }
        for (name, value) in self.extra {
            add(out, name.as_bytes(), value.as_bytes());
        }
        if head.status == 101 {
            out.extend_from_slice(b"Connection: upgrade\r\n");
        } else if head.status >= 200 {
            if self.chunked {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            }
            add(out, b"X-Request-Id", self.request_id);
            // RFC 9110, 7.8: who sends Upgrade names it in Connection.
            if head.status == 426 {
                out.extend_from_slice(b"Connection: upgrade\r\n");
            }
            if self.close {
                out.extend_from_slice(b"Connection: close\r\n");
            } else if self.http10 {
                out.extend_from_slice(b"Connection: keep-alive\r\n");
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn keeps(&self, line: &Line) -> bool {
        let name = line.name.of(self.buf);
        let kept = match line.kind {
            Name::Upgrade => self.head.status == 101 || self.head.status == 426,
            // RFC 9110, 8.6: not in 1xx and 204; elsewhere it frames the body or, for HEAD and 304, describes it.
            Name::ContentLength => self.head.status >= 200 && self.head.status != 204,
            Name::TransferEncoding
            | Name::Disguised
            | Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::ProxyAuthenticate
            | Name::XRequestId
            | Name::Te => false,
            _ => true,
        };
        kept && !(self.head.names_fields && is_named(self.buf, &self.head.lines, name))
            && !touched(self.edits, name)
            && (self.extra.is_empty() || !is_cross_origin(name))
    }
}

/// Whether the field says who may read an answer. Where the gateway says so, the service does not.
#[cold]
fn is_cross_origin(name: &[u8]) -> bool {
    name.get(..15).is_some_and(|start| start.eq_ignore_ascii_case(b"access-control-"))
}

/// Whether the client can see where the body ends without the connection being closed, and how.
pub(crate) fn is_chunked_for(framing: AnswerFraming, http11: bool) -> bool {
    http11 && matches!(framing, AnswerFraming::Chunked | AnswerFraming::UntilClose)
}

/// Copies the lines that `keeps` says, runs of them in one piece.
#[inline]
fn copy_lines(buf: &[u8], lines: &[Line], out: &mut Vec<u8>, keeps: impl Fn(&Line) -> bool) {
    let mut run: Option<(u32, u32)> = None;
    for line in lines {
        if keeps(line) {
            run = Some((run.map_or(line.name.start, |(start, _)| start), line.end));
        } else if let Some((start, end)) = run.take() {
            out.extend_from_slice(&buf[start as usize..end as usize]);
        }
    }
    if let Some((start, end)) = run {
        out.extend_from_slice(&buf[start as usize..end as usize]);
    }
}

/// Whether a `Connection` line names this field.
#[cold]
fn is_named(buf: &[u8], lines: &[Line], name: &[u8]) -> bool {
    lines
        .iter()
        .filter(|l| l.kind == Name::Connection)
        .flat_map(|l| grammar::list(l.value.of(buf)))
        .any(|option| option.eq_ignore_ascii_case(name))
}

/// Whether the route's edits remove or replace this field.
#[inline]
fn touched(edits: &HeaderEdits, name: &[u8]) -> bool {
    (!edits.remove.is_empty() || !edits.set.is_empty())
        && (edits.remove.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
            || edits.set.iter().any(|(n, _)| name.eq_ignore_ascii_case(n.as_bytes())))
}

/// Writes one field.
#[inline]
pub(crate) fn add(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes an address; IPv4 without the formatting machinery, because every request has one.
pub(crate) fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            for (i, octet) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                write_number(u64::from(octet), out);
            }
        }
        IpAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
}

/// Writes a number in decimal.
pub(crate) fn write_number(mut n: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
