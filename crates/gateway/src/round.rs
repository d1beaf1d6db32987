//! Waiting for the tries of one request: each is moved as far as it goes, until there is something to decide. Meanwhile
//! the time the request has is watched, the client, the pace of a body that is coming, new connections that starve, and
//! silence.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use kernel::Moment;
use policy::hold;
use tokio::io::AsyncWrite;

use crate::buf::{BUFFER_BYTES, Buf};
use crate::conn::Client;
use crate::core::Core;
use crate::h1::{AnswerFraming, HeadError, ResponseParser};
use crate::pace::Verdict;
use crate::plan::{EdgePlan, ServicePlan};
use crate::pool::AcquireError;
use crate::service::ServiceState;
use crate::tries::{ANSWER_LIMITS, Event, Fault, LOOK_MIN, Over, Stage, Starving, Tries, Try};
use crate::upload::{Side, Upload, UploadFault};

/// What the tries of one request share while they are waited for.
#[derive(Debug)]
pub(crate) struct Round<'r, 'a> {
    pub(crate) core: &'a Rc<Core>,
    pub(crate) client: &'r mut Client,
    pub(crate) buf: &'r mut Buf,
    pub(crate) edge: &'a EdgePlan,
    pub(crate) service: &'a ServicePlan,
    pub(crate) state: &'a ServiceState,
    /// The request's head, with its body if that was small.
    pub(crate) out: &'r [u8],
    pub(crate) upload: &'r mut Upload,
    pub(crate) to_head: bool,
    /// Whether the client asked for another protocol.
    pub(crate) upgrade: bool,
    /// Whether an answer that breaks could be tried elsewhere.
    pub(crate) may_hold: bool,
    /// The request must be answered by then; counted anew from the end of a streamed body.
    pub(crate) until: &'r mut Moment,
    /// However long a body takes: the client waits until then.
    pub(crate) latest: Moment,
    pub(crate) timeout: Duration,
    /// The client waits for 100 (Continue) before it sends its body: it is not slow.
    pub(crate) awaits_continue: &'r mut bool,
}

impl Round<'_, '_> {
    /// Waits until there is something to decide.
    pub(crate) async fn wait(mut self, tries: &mut Tries<'_>) -> Event {
        poll_fn(|cx| self.poll(tries, cx)).await
    }

    fn poll(&mut self, tries: &mut Tries<'_>, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            for (i, one) in tries.under_way() {
                let polled = self.poll_try(i, one, cx);
                if polled.is_ready() {
                    return polled;
                }
            }
            if self.may_look_at_client(tries) && self.client.poll_gone(cx, self.buf) {
                return Poll::Ready(Event::Over(Over::ClientGone));
            }
            // Whom it waits for changes as the request goes out, and the time with it.
            let due = self.due(tries);
            if self.client.deadline.at() != due {
                self.client.deadline.set(due);
            }
            if self.client.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(event) = self.overdue(tries) {
                return Poll::Ready(event);
            }
        }
    }

    /// While a body is being sent on, the upload reads from the client; at any other time nobody does.
    fn may_look_at_client(&self, tries: &Tries<'_>) -> bool {
        self.upload.is_over() || !tries.0.iter().flatten().any(|t| matches!(t.stage, Stage::Waiting(_)))
    }

    fn poll_try(&mut self, i: usize, one: &mut Try<'_>, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            match &mut one.stage {
                Stage::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return self.failed(i, one, Fault::NoConnection(error)),
                    Poll::Ready(Ok(mut conn)) => {
                        conn.place = one.place.take();
                        one.reused = conn.reused;
                        one.stage = Stage::Waiting(conn);
                        let now = self.core.clock().now();
                        one.connected(now);
                        one.connected_at = Some(now);
                        if !one.reused && one.endpoint.is_open() {
                            self.state.connected(one.endpoint, now);
                        }
                        if !self.upload.is_over() {
                            // The client was not asked for its body while the request waited for a connection.
                            self.upload.restart_pace(self.edge, now);
                        } else if !one.reused {
                            one.starves_at = now + one.endpoint.starving_after();
                        }
                    }
                },
                Stage::Waiting(_) => {
                    if let Poll::Ready(Err(over)) = self.poll_send(one, cx) {
                        return Poll::Ready(Event::Over(over));
                    }
                    match self.poll_head(one, cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Err(fault)) => return self.failed(i, one, fault),
                        Poll::Ready(Ok(())) => match one.parser.head().status {
                            101 if self.upgrade => {}
                            101 => return self.failed(i, one, Fault::Malformed(HeadError::Status)),
                            ..200 => return Poll::Ready(Event::Interim(i)),
                            _ => {}
                        },
                    }
                    if !self.hold(one) {
                        return Poll::Ready(Event::Answer(i));
                    }
                }
                Stage::Holding { conn, .. } => {
                    let Some(buf) = conn.buf.as_mut() else { return Poll::Ready(Event::Answer(i)) };
                    let length = whole_length(&one.parser);
                    if buf.len() as u64 >= length {
                        return Poll::Ready(Event::Answer(i));
                    }
                    // It fits: only lengths up to a limit are held.
                    buf.make_room(usize::try_from(length).unwrap_or(usize::MAX).saturating_add(BUFFER_BYTES));
                    match buf.poll_fill(cx, &mut conn.io) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(n)) if n > 0 => {
                            one.heard_at = self.core.clock().now();
                            one.endpoint.hear(one.heard_at);
                        }
                        Poll::Ready(_) => {
                            self.state.tries.shard(self.core.index).held_broken.inc();
                            return self.failed(i, one, Fault::Truncated);
                        }
                    }
                }
                Stage::Ended(_) => return Poll::Pending,
            }
        }
    }

    fn failed(&self, i: usize, one: &mut Try<'_>, fault: Fault) -> Poll<Event> {
        self.end(one);
        Poll::Ready(Event::Failed(i, fault))
    }

    /// The try has ended. What is left of its connection stays with it until it is taken.
    fn end(&self, one: &mut Try<'_>) {
        let stage = std::mem::replace(&mut one.stage, Stage::Ended(None));
        if let Stage::Waiting(mut conn) | Stage::Holding { mut conn, .. } = stage {
            if let Some(buf) = conn.buf.take() {
                self.core.buffers.give(buf);
            }
            one.stage = Stage::Ended(Some(conn));
        }
        one.place = None;
        one.starving = None;
    }

    /// Sends what can be sent. Ready: there is nothing more to send.
    fn poll_send(&mut self, one: &mut Try<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let Stage::Waiting(conn) = &mut one.stage else { return Poll::Ready(Ok(())) };
        while one.sent < self.out.len() && !one.refused {
            match Pin::new(&mut conn.io).poll_write(cx, &self.out[one.sent..]) {
                Poll::Ready(Ok(n)) => one.sent += n,
                Poll::Ready(Err(_)) => {
                    one.refused = true;
                    // What nobody has seen of a body can still be sent to another.
                    if one.sent > 0 || !self.upload.has_not_begun() {
                        self.upload.abandon();
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if one.refused || self.upload.is_over() {
            return Poll::Ready(Ok(()));
        }
        match self.upload.poll(cx, &mut self.client.io, self.buf, &mut conn.io) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                let now = self.core.clock().now();
                *self.until = (now + self.timeout).min(self.latest);
                // An answer is expected from now on.
                one.connected(now);
                one.until = self.service.retry.per_try_timeout.map_or(Moment::MAX, |t| now + t);
                if !one.reused {
                    one.starves_at = now + one.endpoint.starving_after();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(UploadFault::Upstream(_))) => {
                one.refused = true;
                self.upload.abandon();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(UploadFault::ClientGone)) => Poll::Ready(Err(Over::ClientGone)),
            Poll::Ready(Err(fault)) => Poll::Ready(Err(Over::Body(fault))),
        }
    }

    fn poll_head(&self, one: &mut Try<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Stage::Waiting(conn) = &mut one.stage else { return Poll::Pending };
        let buf = conn.buf.get_or_insert_with(|| self.core.buffers.take());
        loop {
            if !buf.is_empty() {
                match one.parser.parse(buf.filled(), &ANSWER_LIMITS, self.to_head) {
                    Ok(true) => return Poll::Ready(Ok(())),
                    Ok(false) => {}
                    Err(error) => return Poll::Ready(Err(Fault::Malformed(error))),
                }
            }
            if !buf.make_room(ANSWER_LIMITS.headers + BUFFER_BYTES) {
                return Poll::Ready(Err(Fault::Malformed(HeadError::HeadersTooLarge)));
            }
            match buf.poll_fill(cx, &mut conn.io) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 => {
                    one.starving = None;
                    let now = self.core.clock().now();
                    one.first_at.get_or_insert(now);
                    one.heard_at = now;
                    one.endpoint.hear(now);
                    (one.starves_at, one.look_at) = (Moment::MAX, Moment::MAX);
                }
                Poll::Ready(end) => {
                    let silent = buf.is_empty();
                    tracing::debug!(error = ?end.err().map(|e: io::Error| e.kind()), silent, "upstream ended");
                    return Poll::Ready(Err(Fault::Closed { silent }));
                }
            }
        }
    }

    /// Holds a small answer that is not whole yet. False: it is passed on now.
    fn hold(&mut self, one: &mut Try<'_>) -> bool {
        let head = one.parser.head();
        let AnswerFraming::Length(length) = head.framing else { return false };
        let rule = &self.service.hold;
        // What will be tried again for its status is not waited for.
        let held = self.may_hold && length <= rule.max_body && !matches!(head.status, 101 | 502..=504);
        if !held || !matches!(one.stage, Stage::Waiting(_)) {
            return false;
        }
        let Some(arrived) = one.conn().and_then(|c| c.buf.as_ref()).map(|b| b.len() as u64) else { return false };
        if arrived >= whole_length(&one.parser) {
            return false;
        }
        let Some(bytes) = self.state.hold_bytes(length, rule) else { return false };
        self.state.tries.shard(self.core.index).held.inc();
        // An answer that has come is passed on rather than given up for want of time.
        let until = hold::until(rule, self.core.clock().now(), one.until.min(*self.until));
        if let Stage::Waiting(conn) = std::mem::replace(&mut one.stage, Stage::Ended(None)) {
            one.stage = Stage::Holding { conn, until, _bytes: bytes };
        }
        true
    }

    /// What the present wait may last at most.
    fn due(&self, tries: &Tries<'_>) -> Moment {
        let mut at = if self.is_body_coming(tries) { Moment::MAX } else { *self.until };
        for one in tries.0.iter().flatten() {
            if !self.body_is_coming(one) {
                at = at.min(one.until);
            }
            match &one.stage {
                Stage::Waiting(_) => {
                    if self.body_is_coming(one) {
                        at = at.min(self.upload.pace.next_look());
                    } else {
                        at = at.min(one.look_at);
                    }
                    at = at.min(one.starves_at);
                }
                Stage::Holding { until, .. } => at = at.min(*until),
                Stage::Connecting(_) => at = at.min(one.look_at),
                Stage::Ended(_) => {}
            }
        }
        at
    }

    fn body_is_coming(&self, one: &Try<'_>) -> bool {
        let waits = *self.awaits_continue && self.upload.has_not_begun();
        one.sent == self.out.len() && !self.upload.is_over() && !waits
    }

    /// The deadline has passed: an event, or `None` if there is another deadline.
    fn overdue(&mut self, tries: &mut Tries<'_>) -> Option<Event> {
        let now = self.core.clock().now();
        for (i, one) in tries.under_way() {
            let event = self.overdue_try(i, one, now);
            if event.is_some() {
                return event;
            }
        }
        (*self.until <= now && !self.is_body_coming(tries)).then_some(Event::Over(Over::Timeout))
    }

    /// While a body is coming, its pace counts and not the time to answer.
    fn is_body_coming(&self, tries: &Tries<'_>) -> bool {
        tries.0.iter().flatten().any(|one| matches!(one.stage, Stage::Waiting(_)) && self.body_is_coming(one))
    }

    fn overdue_try(&mut self, i: usize, one: &mut Try<'_>, now: Moment) -> Option<Event> {
        if let Stage::Holding { until, .. } = one.stage
            && until <= now
        {
            return Some(Event::Answer(i));
        }
        if one.until <= now && !matches!(one.stage, Stage::Ended(_)) && !self.body_is_coming(one) {
            self.end(one);
            return Some(Event::Failed(i, Fault::TryTimeout));
        }
        if one.starves_at <= now {
            if one.starving.is_none() {
                one.starving = Some(Starving::new(one.endpoint));
            }
            self.core.demand_one(one.endpoint);
            one.starves_at = now + one.endpoint.starving_after();
        }
        if self.body_is_coming(one) {
            return self.pace(now);
        }
        if one.look_at > now {
            return None;
        }
        match &one.stage {
            Stage::Waiting(_) => self.look(one, now),
            Stage::Connecting(_) => {
                one.look_at = now + (now.since(one.sent_at()) / 4).max(LOOK_MIN);
                // It was taken out meanwhile, and nothing was sent: better elsewhere.
                let out = one.was_good && (one.endpoint.is_open() || one.endpoint.is_dead());
                out.then(|| {
                    self.end(one);
                    Event::Failed(i, Fault::NoConnection(AcquireError::Abandoned))
                })
            }
            _ => None,
        }
    }

    fn pace(&mut self, now: Moment) -> Option<Event> {
        let side = self.upload.waits_for;
        match self.upload.pace.look(self.edge, self.edge.body_idle_timeout, side == Side::Client, now) {
            Verdict::Fine => None,
            Verdict::Idle | Verdict::TooSlow if side == Side::Client => Some(Event::Over(Over::ClientSlow)),
            Verdict::Idle | Verdict::TooSlow => Some(Event::Over(Over::Timeout)),
        }
    }

    /// Looks whether the endpoint is silent. One that is known to be in trouble is taken for silent earlier.
    fn look(&self, one: &mut Try<'_>, now: Moment) -> Option<Event> {
        let waited = now.since(one.sent_at);
        let next = (waited / 4).max(LOOK_MIN);
        one.look_at = now + next;
        if one.silent && one.endpoint.heard_at() <= one.sent_at() {
            // Asked for again as long as it lasts: there may have been nobody to turn to.
            return Some(Event::Silent);
        }
        let after = one.endpoint.suspect_after();
        if let Some(after) = after {
            if waited < after {
                one.look_at = (one.sent_at + after).min(one.look_at);
            }
            // Whoever answers others since is not silent: this one request is slow.
            if waited >= after && one.endpoint.heard_at() <= one.sent_at {
                one.silent = true;
                self.state.silent(one.endpoint, now);
                return Some(Event::Silent);
            }
        }
        if one.endpoint.is_doubtful() && !one.is_trial() && one.endpoint.heard_at() <= one.sent_at {
            one.silent = true;
            return Some(Event::Silent);
        }
        None
    }
}

/// Bytes of the whole answer, head and body; only for answers whose length is known.
fn whole_length(parser: &ResponseParser) -> u64 {
    let head = parser.head();
    let body = if let AnswerFraming::Length(n) = head.framing { n } else { 0 };
    (head.length as u64).saturating_add(body)
}
