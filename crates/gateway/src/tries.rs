//! The attempts at one request: at most two at a time, each on a connection of its own. A try connects, sends, waits for
//! the head of an answer and, where the answer is small and the request may be repeated, holds it until it is whole, so
//! that a break can still be tried elsewhere. The body of the request, if it is still coming, is sent on meanwhile; an
//! answer may come before it has ended.
//!
//! ```text
//! connecting => waiting    a connection is there: the request is sent
//! waiting    => holding    the head of a small, final answer has come
//! waiting    => answered   the head of any other final answer has come
//! holding    => answered   the answer is whole, or was held long enough
//! any        => failed     no connection, a break, nonsense
//! ```
//! While they wait, [`Round::wait`] watches the time the request has, a client that goes away, on a new connection a
//! first byte so late that the connection may starve behind our own idle ones, and silence: an endpoint from which
//! nothing at all came for far longer than usual since the request was sent. What follows from an event is decided by
//! who waits (`sending`); nothing here sends a request twice.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use kernel::Moment;
use tokio::io::AsyncWrite;

use crate::buf::{BUFFER_BYTES, Buf};
use crate::conn::Client;
use crate::core::Core;
use crate::h1::{AnswerFraming, HeadError, HeadLimits, ResponseParser};
use crate::pace::Verdict;
use crate::plan::{EdgePlan, ServicePlan};
use crate::pool::{AcquireError, Reuse, UpConn};
use crate::service::{HeldBytes, Place, ServiceState, Trial};
use crate::state::EndpointState;
use crate::upload::{Side, Upload, UploadFault};

/// Limits on an answer's head: fixed, because the service is ours; 128 KiB of headers is twice what clients may send.
pub(crate) const ANSWER_LIMITS: HeadLimits =
    HeadLimits { first_line: 8 * 1024, target: 0, headers: 128 * 1024, lines: 256 };
/// A try that waits looks at its endpoint at least this far apart; then at steps of a quarter of what it has waited.
const LOOK_MIN: Duration = Duration::from_millis(25);
/// The first look is no later than this: by then the endpoint may have been found silent by another request.
const LOOK_FIRST: Duration = Duration::from_millis(50);

/// Why a try failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There was no connection.
    NoConnection(AcquireError),
    /// The connection ended before the answer's head was whole. `silent`: before its first byte.
    Closed { silent: bool },
    /// The connection ended within the body, before anything of the answer was passed on.
    Truncated,
    /// The answer is not HTTP/1.1.
    Malformed(HeadError),
    /// No answer in the time that one try has.
    TryTimeout,
}

/// Why a request ends without an answer from a service, whatever its tries do.
#[derive(Debug)]
pub(crate) enum Over {
    /// Its time is up.
    Timeout,
    /// The client went away.
    ClientGone,
    /// The client sends its body too slowly.
    ClientSlow,
    /// The request body failed.
    Body(UploadFault),
}

/// What a wait ends with. Numbers are places in [`Tries`].
#[derive(Debug)]
pub(crate) enum Event {
    /// The head of an interim answer has come.
    Interim(usize),
    /// A final answer is there to be passed on.
    Answer(usize),
    /// A try has failed; it is still in its place.
    Failed(usize, Fault),
    /// Nothing has come from an endpoint for far longer than usual.
    Silent,
    /// The request is over.
    Over(Over),
}

/// What made a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It is the first.
    First,
    /// The one before found no connection.
    Connect,
    /// The one before met a connection that its endpoint had just closed for being idle.
    Stale,
    /// The one before lost its connection.
    Broken,
    /// The one before was answered 502, 503 or 504.
    Status,
    /// The one before took longer than a try may.
    Slow,
    /// The one before is still waiting, and its endpoint is silent.
    Silence,
}

impl Cause {
    /// Every cause of a second try.
    pub(crate) const SECOND: [Cause; 6] =
        [Cause::Connect, Cause::Stale, Cause::Broken, Cause::Status, Cause::Slow, Cause::Silence];

    /// The metric label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Cause::First => "first",
            Cause::Connect => "connect",
            Cause::Stale => "stale",
            Cause::Broken => "broken",
            Cause::Status => "status",
            Cause::Slow => "slow",
            Cause::Silence => "silence",
        }
    }

    /// Its place in [`Cause::SECOND`].
    pub(crate) fn index(self) -> Option<usize> {
        Cause::SECOND.iter().position(|c| *c == self)
    }
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<UpConn, AcquireError>> + 'a>>;

enum Stage<'a> {
    Connecting(Connecting<'a>),
    Waiting(UpConn),
    /// Until then; the bytes count as held for as long.
    Holding {
        conn: UpConn,
        until: Moment,
        _bytes: HeldBytes,
    },
    /// Answered or failed.
    Ended(Option<UpConn>),
}

/// One attempt.
pub(crate) struct Try<'a> {
    pub(crate) endpoint: &'a Arc<EndpointState>,
    /// Its place among the service's endpoints.
    pub(crate) at: usize,
    pub(crate) cause: Cause,
    /// Whether it was paid for out of the budget.
    pub(crate) charged: bool,
    pub(crate) parser: ResponseParser,
    /// Whether its endpoint was found silent while it waited.
    pub(crate) silent: bool,
    /// Whether its connection had answered before.
    pub(crate) reused: bool,
    stage: Stage<'a>,
    /// Bytes of the head (and small body) that are sent.
    pub(crate) sent: usize,
    /// When the request was sent, as far as known; silence counts from then.
    sent_at: Moment,
    starves_at: Moment,
    look_at: Moment,
    /// The end of the time that one try has.
    until: Moment,
    starving: Option<Starving>,
    refused: bool,
    place: Option<Place>,
    trial: Option<Trial>,
}

impl std::fmt::Debug for Try<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Try")
            .field("endpoint", &self.endpoint.plan.name)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// The tries of one request that are under way.
#[derive(Debug, Default)]
pub(crate) struct Tries<'a>([Option<Try<'a>>; 2]);

/// Counts a starving connection for as long as it lives.
#[derive(Debug)]
struct Starving(Arc<EndpointState>);

impl Starving {
    fn new(endpoint: &Arc<EndpointState>) -> Starving {
        endpoint.starving.fetch_add(1, Ordering::Relaxed);
        Starving(endpoint.clone())
    }
}

impl Drop for Starving {
    fn drop(&mut self) {
        self.0.starving.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a try begins with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) at: usize,
    pub(crate) cause: Cause,
    pub(crate) charged: bool,
    pub(crate) place: Place,
    pub(crate) trial: Option<Trial>,
    pub(crate) reuse: Reuse,
    pub(crate) parser: ResponseParser,
}

impl<'a> Tries<'a> {
    /// Whether none is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// The try at this place.
    ///
    /// # Panics
    /// If there is none; an event names only places that are taken.
    pub(crate) fn take(&mut self, i: usize) -> Try<'a> {
        match self.0[i].take() {
            Some(one) => one,
            None => unreachable!("an event names a try that is under way"),
        }
    }

    /// The try at this place, to change it.
    pub(crate) fn get_mut(&mut self, i: usize) -> Option<&mut Try<'a>> {
        self.0[i].as_mut()
    }

    /// Takes all that are under way.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Try<'a>> + use<'a, '_> {
        self.0.iter_mut().filter_map(Option::take)
    }

    /// Begins a try. With an idle connection at hand it is ready to send at once.
    pub(crate) fn begin(
        &mut self,
        core: &'a Rc<Core>,
        service: &'a ServicePlan,
        endpoint: &'a Arc<EndpointState>,
        start: Start,
        until: Moment,
        now: Moment,
    ) {
        let Start { at, cause, charged, place, trial, reuse, parser } = start;
        let ready = if reuse == Reuse::Never { None } else { core.pool.checkout(core, endpoint, service, reuse) };
        let (stage, place, reused) = match ready {
            Some(mut conn) => {
                conn.place = Some(place);
                (Stage::Waiting(conn), None, true)
            }
            None => {
                let connect = async move {
                    let deadline = core.deadlines.add();
                    core.acquire(endpoint, service, reuse, &deadline, until).await
                };
                (Stage::Connecting(Box::pin(connect)), Some(place), false)
            }
        };
        let mut one = Try {
            endpoint,
            at,
            cause,
            charged,
            parser,
            silent: false,
            reused,
            stage,
            sent: 0,
            sent_at: now,
            starves_at: Moment::MAX,
            look_at: Moment::MAX,
            until: service.retry.per_try_timeout.map_or(Moment::MAX, |t| now + t),
            starving: None,
            refused: false,
            place,
            trial,
        };
        if reused {
            one.connected(now);
        }
        let free = usize::from(self.0[0].is_some());
        self.0[free] = Some(one);
    }
}

impl<'a> Try<'a> {
    /// A connection is there. Silence is looked for from now on.
    fn connected(&mut self, now: Moment) {
        self.sent_at = now;
        self.look_at = now + self.endpoint.suspect_after().map_or(LOOK_FIRST, |after| after.min(LOOK_FIRST));
    }

    /// Whether its silence says something of its endpoint: it is found silent, nothing has come from the endpoint since,
    /// and it has waited for at least half of what is too long. `late`: all of the request's time is up.
    pub(crate) fn is_silent(&self, late: bool, now: Moment) -> bool {
        let long = self.endpoint.suspect_after().is_some_and(|after| now.since(self.sent_at) >= after / 2);
        (self.silent || late) && (long || late) && self.endpoint.heard_at() <= self.sent_at
    }

    /// When the request was sent, as far as known.
    pub(crate) fn sent_at(&self) -> Moment {
        self.sent_at
    }

    /// The connection, once there was one.
    pub(crate) fn into_conn(self) -> (Option<UpConn>, ResponseParser) {
        let conn = match self.stage {
            Stage::Waiting(conn) | Stage::Holding { conn, .. } => Some(conn),
            Stage::Ended(conn) => conn,
            Stage::Connecting(_) => None,
        };
        (conn, self.parser)
    }

    /// How long its connection had been idle before, and whether it waited for it.
    pub(crate) fn conn(&self) -> Option<&UpConn> {
        match &self.stage {
            Stage::Waiting(conn) | Stage::Holding { conn, .. } => Some(conn),
            Stage::Ended(conn) => conn.as_ref(),
            Stage::Connecting(_) => None,
        }
    }

    fn conn_mut(&mut self) -> Option<&mut UpConn> {
        match &mut self.stage {
            Stage::Waiting(conn) | Stage::Holding { conn, .. } => Some(conn),
            Stage::Ended(conn) => conn.as_mut(),
            Stage::Connecting(_) => None,
        }
    }

    /// The trial that it is, if it is one: given back when dropped.
    pub(crate) fn end_trial(&mut self) {
        self.trial = None;
    }

    /// Whether its outcome says something of its endpoint as it is now: in probation only the trial does, because what was
    /// sent before tells of the past.
    pub(crate) fn speaks(&self) -> bool {
        self.is_trial() || !self.endpoint.is_in_probation()
    }

    /// Whether it is the one trial of an endpoint in doubt.
    pub(crate) fn is_trial(&self) -> bool {
        self.trial.is_some()
    }
}

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
    pub(crate) tries: &'r mut Tries<'a>,
    pub(crate) to_head: bool,
    /// Whether the client asked for another protocol.
    pub(crate) upgrade: bool,
    /// Whether an answer that breaks could be tried elsewhere.
    pub(crate) may_hold: bool,
    /// The request must be answered by then; counted anew from the end of a streamed body.
    pub(crate) until: &'r mut Moment,
    pub(crate) timeout: Duration,
    /// The client waits for 100 (Continue) before it sends its body: it is not slow.
    pub(crate) awaits_continue: &'r mut bool,
}

impl Round<'_, '_> {
    /// Waits until there is something to decide.
    pub(crate) async fn wait(mut self) -> Event {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            for i in 0..self.tries.0.len() {
                let Some(mut one) = self.tries.0[i].take() else { continue };
                let polled = self.poll_try(i, &mut one, cx);
                self.tries.0[i] = Some(one);
                if polled.is_ready() {
                    return polled;
                }
            }
            if self.may_look_at_client() && self.client.poll_gone(cx, self.buf) {
                return Poll::Ready(Event::Over(Over::ClientGone));
            }
            // Whom it waits for changes as the request goes out, and the time with it.
            let due = self.due();
            if self.client.deadline.at() != due {
                self.client.deadline.set(due);
            }
            if self.client.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(event) = self.overdue() {
                return Poll::Ready(event);
            }
        }
    }

    /// While a body is being sent on, the upload reads from the client; at any other time nobody does.
    fn may_look_at_client(&self) -> bool {
        self.upload.is_over() || !self.tries.0.iter().flatten().any(|t| matches!(t.stage, Stage::Waiting(_)))
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
                        Poll::Ready(Ok(n)) if n > 0 => {}
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
                    self.upload.abandon();
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.upload.is_over() {
            return Poll::Ready(Ok(()));
        }
        match self.upload.poll(cx, &mut self.client.io, self.buf, &mut conn.io) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                let now = self.core.clock().now();
                *self.until = now + self.timeout;
                // An answer is expected from now on.
                one.connected(now);
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
        let until = self.core.clock().now() + rule.max_wait;
        if let Stage::Waiting(conn) = std::mem::replace(&mut one.stage, Stage::Ended(None)) {
            one.stage = Stage::Holding { conn, until, _bytes: bytes };
        }
        true
    }

    /// What the present wait may last at most.
    fn due(&self) -> Moment {
        let mut at = if self.is_body_coming() { Moment::MAX } else { *self.until };
        for one in self.tries.0.iter().flatten() {
            at = at.min(one.until);
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
                Stage::Connecting(_) | Stage::Ended(_) => {}
            }
        }
        at
    }

    fn body_is_coming(&self, one: &Try<'_>) -> bool {
        let waits = *self.awaits_continue && self.upload.has_not_begun();
        one.sent == self.out.len() && !self.upload.is_over() && !waits
    }

    /// The deadline has passed: an event, or `None` if there is another deadline.
    fn overdue(&mut self) -> Option<Event> {
        let now = self.core.clock().now();
        for i in 0..self.tries.0.len() {
            let Some(mut one) = self.tries.0[i].take() else { continue };
            let event = self.overdue_try(i, &mut one, now);
            self.tries.0[i] = Some(one);
            if event.is_some() {
                return event;
            }
        }
        (*self.until <= now && !self.is_body_coming()).then_some(Event::Over(Over::Timeout))
    }

    /// While a body is coming, its pace counts and not the time to answer.
    fn is_body_coming(&self) -> bool {
        self.tries.0.iter().flatten().any(|one| matches!(one.stage, Stage::Waiting(_)) && self.body_is_coming(one))
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
        if one.look_at <= now && matches!(one.stage, Stage::Waiting(_)) {
            return self.look(one, now);
        }
        None
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
        if one.silent {
            return None;
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

impl Try<'_> {
    /// Drops the interim answer that has been passed on and gets ready for the next.
    pub(crate) fn next_answer(&mut self) {
        let length = self.parser.head().length;
        if let Some(buf) = self.conn_mut().and_then(|c| c.buf.as_mut()) {
            buf.consume(length);
        }
        self.parser.reset();
    }
}
