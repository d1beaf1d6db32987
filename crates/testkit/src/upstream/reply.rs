//! What a serving peer received and what it answers: a whole, well-framed message, or on purpose something worse.

use std::time::Duration;

use crate::poll::Gate;
use crate::wire::{self, Framing};

/// A request as the peer received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedRequest {
    /// The method.
    pub method: String,
    /// The target, as it came.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The header lines as they came.
    pub lines: Vec<String>,
    /// How the body was framed.
    pub framing: Framing,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer lines.
    pub trailers: Vec<String>,
    /// On which connection it came, from 0.
    pub connection: usize,
    /// Which request of its connection it is, from 0.
    pub nth: usize,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) lines: Vec<String>,
    pub(super) body: ReplyBody,
    pub(super) delay: Duration,
    pub(super) gate: Option<Gate>,
    pub(super) close: bool,
}

#[derive(Debug, Clone)]
pub(super) enum ReplyBody {
    Whole(Vec<u8>),
    Chunked(Chunks),
    UntilClose(Vec<u8>),
    Raw(Vec<u8>),
    Nothing { reset: bool },
}

#[derive(Debug, Clone)]
pub(super) struct Chunks {
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) pause: Duration,
    pub(super) trailers: Vec<String>,
}

impl ReceivedRequest {
    /// The values of every header named `name`, in order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        wire::values(&self.lines, name)
    }

    /// The value of the one header named `name`; `None` if there is none or more than one.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.headers(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The path: the target up to its question mark.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Reply {
    /// 200 with this body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply::status(200, body)
    }

    /// This status with this body.
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            lines: Vec::new(),
            body: ReplyBody::Whole(body.into()),
            delay: Duration::ZERO,
            gate: None,
            close: false,
        }
    }

    /// 200 with a chunked body: one chunk for each piece, `pause` between them.
    pub fn chunked(pieces: Vec<Vec<u8>>, pause: Duration) -> Reply {
        Reply { body: ReplyBody::Chunked(Chunks { pieces, pause, trailers: Vec::new() }), ..Reply::ok("") }
    }

    /// 200 with a body that the end of the connection delimits.
    pub fn until_close(body: impl Into<Vec<u8>>) -> Reply {
        Reply { body: ReplyBody::UntilClose(body.into()), close: true, ..Reply::ok("") }
    }

    /// Exactly these bytes instead of an answer; then the connection is closed.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply { body: ReplyBody::Raw(bytes.into()), close: true, ..Reply::ok("") }
    }

    /// No answer: the connection is closed.
    pub fn hang_up() -> Reply {
        Reply { body: ReplyBody::Nothing { reset: false }, close: true, ..Reply::ok("") }
    }

    /// No answer: the connection is reset.
    pub fn reset() -> Reply {
        Reply { body: ReplyBody::Nothing { reset: true }, close: true, ..Reply::ok("") }
    }

    /// With this header line as well.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.lines.push(format!("{name}: {value}"));
        self
    }

    /// With this trailer line as well; only a chunked answer has trailers.
    ///
    /// # Panics
    /// If the answer is not chunked.
    #[must_use]
    #[track_caller]
    pub fn trailer(mut self, name: &str, value: &str) -> Reply {
        match &mut self.body {
            ReplyBody::Chunked(chunks) => chunks.trailers.push(format!("{name}: {value}")),
            other => panic!("an answer with the body {other:?} has no trailers; make it with Reply::chunked"),
        }
        self
    }

    /// After this long.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Reply {
        self.delay = delay;
        self
    }

    /// Not before `gate` is open.
    #[must_use]
    pub fn wait(mut self, gate: &Gate) -> Reply {
        self.gate = Some(gate.clone());
        self
    }

    /// With `Connection: close`, and so it is.
    #[must_use]
    pub fn close(mut self) -> Reply {
        self.close = true;
        self.header("Connection", "close")
    }

    /// The head, and the body unless it is chunked (those are sent chunk by chunk).
    pub(super) fn start(&self, method: &str) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for line in &self.lines {
            out.push_str(line);
            out.push_str("\r\n");
        }
        let bodiless = self.status < 200 || self.status == 204 || self.status == 304;
        match &self.body {
            ReplyBody::Whole(body) if !bodiless => out.push_str(&format!("Content-Length: {}\r\n", body.len())),
            ReplyBody::Chunked(_) if !bodiless => out.push_str("Transfer-Encoding: chunked\r\n"),
            _ => {}
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        match &self.body {
            ReplyBody::Whole(body) | ReplyBody::UntilClose(body) if !bodiless && method != "HEAD" => out.extend(body),
            ReplyBody::Raw(bytes) => out = bytes.clone(),
            ReplyBody::Nothing { .. } => out.clear(),
            _ => {}
        }
        out
    }

    /// The chunks to send after the start, if there are any.
    pub(super) fn chunks(&self, method: &str) -> Option<&Chunks> {
        match &self.body {
            ReplyBody::Chunked(chunks) if method != "HEAD" => Some(chunks),
            _ => None,
        }
    }
}
