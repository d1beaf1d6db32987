//! What a request is, read once from its head: everything that is needed after the head's bytes are gone.

use std::net::IpAddr;
use std::time::Duration;

use kernel::Moment;
use policy::request::RequestView;
use policy::{forwarded, ids, retry};

use crate::core::{Core, Held, Scratch};
use crate::h1::{Framing, Line, Name, RequestHead};

/// Of a target, so much is kept for the access log.
const SEEN_TARGET_MAX: usize = 2048;

/// What a request is.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) started: Moment,
    pub(crate) to_head: bool,
    pub(crate) http11: bool,
    /// Whether the client wants the connection kept.
    pub(crate) keep_alive: bool,
    pub(crate) framing: Framing,
    pub(crate) idempotent: bool,
    pub(crate) upgrade: bool,
    pub(crate) expects_continue: bool,
    /// Whether the client prefers a page to a problem document.
    pub(crate) wants_html: bool,
    /// Whether the peer is a trusted proxy.
    pub(crate) trusted: bool,
    /// The client's address: the peer's, or what trusted proxies say.
    pub(crate) client: IpAddr,
    /// How long the client says that it waits.
    pub(crate) deadline: Option<Duration>,
    /// Length of the head in the buffer.
    pub(crate) head_length: usize,
    /// Lengths of method and target in [`Scratch::seen`]; the host is behind them.
    seen: (usize, usize),
    /// Length of the request id in [`Scratch::id`]; a new traceparent, if any, is behind it.
    id_length: usize,
}

impl Facts {
    pub(crate) fn read(core: &Core, held: &Held, peer: IpAddr, buf: &[u8], scratch: &mut Scratch) -> Facts {
        let Scratch { request, seen, id, .. } = scratch;
        let head = request.head();
        let started = core.clock().now();
        let plan = &held.snapshot.plan;
        let trusted = !plan.trusted_proxies.is_empty() && plan.trusted_proxies.contains(peer);
        let method = head.method.of(buf);
        let target = head.target.of(buf);
        seen.clear();
        seen.extend_from_slice(method);
        seen.extend_from_slice(&target[..target.len().min(SEEN_TARGET_MAX)]);
        let seen_lengths = (method.len(), seen.len());
        seen.extend_from_slice(head.host.of(buf));
        let client = if trusted {
            let lines = head.lines.iter().filter(|l| l.kind == Name::XForwardedFor).map(|l| l.value.of(buf));
            forwarded::client_address(peer, lines, &plan.trusted_proxies)
        } else {
            peer
        };
        let id_length = write_ids(core, head, buf, trusted, started, id);
        let deadline = plan.edge.deadline_header.as_deref().and_then(|name| {
            let named = |l: &&Line| l.kind == Name::Other && l.name.of(buf).eq_ignore_ascii_case(name.as_bytes());
            head.lines.iter().find(named).and_then(|l| parse_deadline(l.value.of(buf)))
        });
        let accept = find(head, Name::Accept).map(|l| l.value.of(buf));
        Facts {
            started,
            to_head: method == b"HEAD",
            http11: head.http11,
            keep_alive: head.keep_alive,
            framing: head.framing,
            idempotent: retry::is_idempotent(method),
            upgrade: head.upgrade,
            expects_continue: head.expects_continue,
            wants_html: accept.is_some_and(|a| memchr::memmem::find(a, b"text/html").is_some()),
            trusted,
            client,
            deadline,
            head_length: head.length,
            seen: seen_lengths,
            id_length,
        }
    }

    /// The request id.
    pub(crate) fn request_id<'a>(&self, id: &'a [u8]) -> &'a [u8] {
        &id[..self.id_length]
    }

    /// The traceparent to send, if the client sent none that is valid.
    pub(crate) fn traceparent<'a>(&self, id: &'a [u8]) -> Option<&'a [u8]> {
        Some(&id[self.id_length..]).filter(|t| !t.is_empty())
    }

    /// Method, target and host.
    pub(crate) fn seen<'a>(&self, seen: &'a [u8]) -> (&'a [u8], &'a [u8], &'a [u8]) {
        let (method, target) = self.seen;
        (&seen[..method], &seen[method..target], &seen[target..])
    }
}

/// Whole milliseconds; what is no such number is no deadline.
fn parse_deadline(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let digits = !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok().map(Duration::from_millis) } else { None }
}

/// The request id (a trusted peer's, else a new one), and behind it a new traceparent if there is no valid one.
fn write_ids(core: &Core, head: &RequestHead, buf: &[u8], trusted: bool, now: Moment, out: &mut Vec<u8>) -> usize {
    out.clear();
    let mut entropy = core.entropy.borrow_mut();
    let wall = core.clock().wall_at(now).duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let id = ids::RequestId::new(wall.as_millis() as u64, &mut entropy);
    let given = find(head, Name::XRequestId).map(|l| l.value.of(buf));
    match given.filter(|v| trusted && ids::valid_client_request_id(v)) {
        Some(given) => out.extend_from_slice(given),
        None => id.write(out),
    }
    let length = out.len();
    let mut traces = head.lines.iter().filter(|l| l.kind == Name::Traceparent).map(|l| l.value.of(buf));
    // Of two, nobody knows which one counts.
    if !(traces.next().is_some_and(ids::valid_traceparent) && traces.next().is_none()) {
        ids::write_traceparent(&id, &mut entropy, out);
    }
    length
}

/// The first line of this kind.
pub(crate) fn find(head: &RequestHead, kind: Name) -> Option<&Line> {
    head.lines.iter().find(|l| l.kind == kind)
}

/// A head as policies see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) buf: &'a [u8],
    pub(crate) head: &'a RequestHead,
}

impl RequestView for View<'_> {
    fn method(&self) -> &[u8] {
        self.head.method.of(self.buf)
    }

    fn host(&self) -> &[u8] {
        self.head.host.of(self.buf)
    }

    fn path(&self) -> &[u8] {
        let all = self.head.path_and_query.of(self.buf);
        match memchr::memchr(b'?', all).map_or(all, |at| &all[..at]) {
            [] => b"/",
            path => path,
        }
    }

    fn header(&self, lower_name: &str) -> Option<&[u8]> {
        let wanted = |l: &&Line| l.name.of(self.buf).eq_ignore_ascii_case(lower_name.as_bytes());
        self.head.lines.iter().find(wanted).map(|l| l.value.of(self.buf))
    }
}

impl View<'_> {
    /// The value of a cookie (RFC 6265, 5.4); of several with this name, the first.
    pub(crate) fn cookie(&self, name: &str) -> Option<&[u8]> {
        let lines = self.head.lines.iter().filter(|l| l.name.of(self.buf).eq_ignore_ascii_case(b"cookie"));
        lines.flat_map(|l| l.value.of(self.buf).split(|b| *b == b';')).find_map(|pair| {
            let at = memchr::memchr(b'=', pair)?;
            (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
        })
    }

    /// The query with its question mark; empty if there is none.
    pub(crate) fn query(&self) -> &[u8] {
        let all = self.head.path_and_query.of(self.buf);
        memchr::memchr(b'?', all).map_or(&[], |at| &all[at..])
    }
}
