//! One attempt: a request goes to one connection, and the head of an answer comes back. The body of the request, if it
//! is still coming, is sent on meanwhile; an answer may come before the body has ended.
//!
//! While it waits it watches three things: the time the request has, a client that goes away, and, on a new
//! connection, a first byte that is far later than usual (the connection may starve behind our own idle ones).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use kernel::Moment;
use tokio::io::AsyncWrite;

use crate::buf::{BUFFER_BYTES, Buf};
use crate::conn::Client;
use crate::core::Core;
use crate::h1::{HeadError, HeadLimits, ResponseParser};
use crate::pace::Verdict;
use crate::plan::EdgePlan;
use crate::pool::UpConn;
use crate::state::EndpointState;
use crate::upload::{Side, Upload, UploadFault};

/// Limits on an answer's head: fixed, because the service is ours; 128 KiB of headers is twice what clients may send.
pub(crate) const ANSWER_LIMITS: HeadLimits =
    HeadLimits { first_line: 8 * 1024, target: 0, headers: 128 * 1024, lines: 256 };

/// How an attempt ended, other than with an answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection ended before the answer's head was whole. `silent`: before its first byte.
    Closed { silent: bool },
    /// The answer is not HTTP/1.1.
    Malformed(HeadError),
    /// No answer in time.
    Timeout,
    /// The client went away.
    ClientGone,
    /// The client sends its body too slowly.
    ClientSlow,
    /// The request body failed.
    Body(UploadFault),
}

/// An attempt and what it works on.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) core: &'a Rc<Core>,
    pub(crate) client: &'a mut Client,
    pub(crate) buf: &'a mut Buf,
    pub(crate) conn: &'a mut UpConn,
    pub(crate) edge: &'a EdgePlan,
    /// The request's head, with its body if that was small.
    pub(crate) out: &'a [u8],
    pub(crate) sent: usize,
    pub(crate) upload: &'a mut Upload,
    pub(crate) response: &'a mut ResponseParser,
    pub(crate) to_head: bool,
    /// The request must be answered by then; counted anew from the end of a streamed body.
    pub(crate) until: Moment,
    pub(crate) timeout: Duration,
    /// When the first byte on a new connection is so late that the connection may be starving. Counted from the end
    /// of the body, because an answer is not expected before.
    pub(crate) starves_at: Moment,
    /// The client waits for 100 (Continue) before it sends its body: it is not slow.
    pub(crate) awaits_continue: bool,
    /// The connection is new and its first byte far later than usual.
    pub(crate) starving: Option<Starving>,
    /// Whether the upstream refused to take more; its answer may be there all the same.
    pub(crate) refused: bool,
}

/// Counts a starving connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Starving(std::sync::Arc<EndpointState>);

impl Starving {
    fn new(endpoint: &std::sync::Arc<EndpointState>) -> Starving {
        endpoint.starving.fetch_add(1, Ordering::Relaxed);
        Starving(endpoint.clone())
    }
}

impl Drop for Starving {
    fn drop(&mut self) {
        self.0.starving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Attempt<'_> {
    /// Runs until the head of an answer (interim ones too) is parsed. Call again after an interim answer.
    pub(crate) async fn head(&mut self) -> Result<(), Fault> {
        if self.conn.buf.is_none() {
            self.conn.buf = Some(self.core.buffers.take());
        }
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            if let Poll::Ready(Err(fault)) = self.poll_send(cx) {
                return Poll::Ready(Err(fault));
            }
            if let Poll::Ready(result) = self.poll_answer(cx) {
                return Poll::Ready(result);
            }
            if self.upload.is_over() && self.sent == self.out.len() && self.client.poll_gone(cx, self.buf) {
                return Poll::Ready(Err(Fault::ClientGone));
            }
            // Whom it waits for changes as the request goes out, and the time with it.
            let due = self.due();
            if self.client.deadline.at() != due {
                self.client.deadline.set(due);
            }
            if self.client.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(fault) = self.overdue() {
                return Poll::Ready(Err(fault));
            }
        }
    }

    /// Sends what can be sent. Ready: there is nothing more to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while self.sent < self.out.len() && !self.refused {
            match Pin::new(&mut self.conn.io).poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(n)) => self.sent += n,
                Poll::Ready(Err(_)) => self.refuse(),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.upload.is_over() {
            return Poll::Ready(Ok(()));
        }
        match self.upload.poll(cx, &mut self.client.io, self.buf, &mut self.conn.io) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                let now = self.core.clock().now();
                self.until = now + self.timeout;
                self.watch_for_starving(now);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(UploadFault::Upstream(_))) => {
                self.refuse();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(UploadFault::ClientGone)) => Poll::Ready(Err(Fault::ClientGone)),
            Poll::Ready(Err(fault)) => Poll::Ready(Err(Fault::Body(fault))),
        }
    }

    /// From now on the first byte on a new connection is expected.
    pub(crate) fn watch_for_starving(&mut self, now: Moment) {
        if !self.conn.reused {
            self.starves_at = now + self.conn.slot.endpoint().starving_after();
        }
    }

    /// 100 (Continue) has been passed on: from now on the body is expected.
    pub(crate) fn continued(&mut self) {
        if self.awaits_continue {
            self.awaits_continue = false;
            self.upload.restart_pace(self.edge, self.core.clock().now());
        }
    }

    fn refuse(&mut self) {
        self.refused = true;
        self.upload.abandon();
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(buf) = self.conn.buf.as_mut() else { return Poll::Pending };
        loop {
            if !buf.is_empty() {
                match self.response.parse(buf.filled(), &ANSWER_LIMITS, self.to_head) {
                    Ok(true) => return Poll::Ready(Ok(())),
                    Ok(false) => {}
                    Err(error) => return Poll::Ready(Err(Fault::Malformed(error))),
                }
            }
            if !buf.make_room(ANSWER_LIMITS.headers + BUFFER_BYTES) {
                return Poll::Ready(Err(Fault::Malformed(HeadError::HeadersTooLarge)));
            }
            match buf.poll_fill(cx, &mut self.conn.io) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.starving = None;
                    self.starves_at = Moment::MAX;
                }
                Poll::Ready(end) => {
                    let silent = buf.is_empty();
                    tracing::debug!(error = ?end.err().map(|e: io::Error| e.kind()), silent, "upstream ended");
                    return Poll::Ready(Err(Fault::Closed { silent }));
                }
            }
        }
    }

    /// What the present wait may last at most.
    #[inline]
    fn due(&self) -> Moment {
        let at = if self.body_is_coming() { self.upload.pace.next_look() } else { self.until };
        at.min(self.starves_at)
    }

    fn body_is_coming(&self) -> bool {
        let waits = self.awaits_continue && self.upload.has_not_begun();
        self.sent == self.out.len() && !self.upload.is_over() && !waits
    }

    /// The deadline has passed: a fault, or `None` if there is another.
    fn overdue(&mut self) -> Option<Fault> {
        let now = self.core.clock().now();
        if self.starves_at <= now {
            let endpoint = self.conn.slot.endpoint().clone();
            if self.starving.is_none() {
                self.starving = Some(Starving::new(&endpoint));
            }
            self.core.demand_one(&endpoint);
            self.starves_at = now + endpoint.starving_after();
        }
        if !self.body_is_coming() {
            return (self.until <= now).then_some(Fault::Timeout);
        }
        let side = self.upload.waits_for;
        match self.upload.pace.look(self.edge, self.edge.body_idle_timeout, side == Side::Client, now) {
            Verdict::Fine => None,
            Verdict::Idle | Verdict::TooSlow if side == Side::Client => Some(Fault::ClientSlow),
            Verdict::Idle | Verdict::TooSlow => Some(Fault::Timeout),
        }
    }
}
