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
//! While they wait, `round` watches the time the request has, a client that goes away, on a new connection a
//! first byte so late that the connection may starve behind our own idle ones, and silence: an endpoint from which
//! nothing at all came for far longer than usual since the request was sent. What follows from an event is decided by
//! who waits (`sending`); nothing here sends a request twice.

use std::io::ErrorKind;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::Moment;

use crate::core::Core;
use crate::h1::{HeadError, HeadLimits, ResponseParser};
use crate::plan::ServicePlan;
use crate::pool::{AcquireError, Reuse, UpConn};
use crate::service::{HeldBytes, Place, Trial};
use crate::state::EndpointState;
use crate::upload::UploadFault;

/// Limits on an answer's head: fixed, because the service is ours; 128 KiB of headers is twice what clients may send.
pub(crate) const ANSWER_LIMITS: HeadLimits =
    HeadLimits { first_line: 8 * 1024, target: 0, headers: 128 * 1024, lines: 256 };
/// A try that waits looks at its endpoint at least this far apart; then at steps of a quarter of what it has waited.
pub(crate) const LOOK_MIN: Duration = Duration::from_millis(25);
/// As long as nothing is known of an endpoint, a silence shorter than this says nothing of it.
const LONG: Duration = Duration::from_secs(1);
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

impl Fault {
    /// What happened, in a few words.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Fault::NoConnection(AcquireError::Connect(error)) => match error.kind() {
                ErrorKind::ConnectionRefused => "connection refused",
                ErrorKind::ConnectionReset => "connection reset while it was made",
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "no way to its address",
                ErrorKind::TimedOut => "connecting timed out",
                _ => "connecting failed",
            },
            Fault::NoConnection(AcquireError::ConnectTimeout(_)) => "connecting took too long",
            Fault::NoConnection(AcquireError::Saturated) => "every connection is in use",
            Fault::NoConnection(AcquireError::Deadline) => "the request's time was up before it had a connection",
            Fault::NoConnection(AcquireError::Abandoned) => "the endpoint was taken out before there was a connection",
            Fault::Closed { silent: true } => "the connection ended before the first byte of an answer",
            Fault::Closed { silent: false } => "the connection ended within the head of an answer",
            Fault::Truncated => "the connection ended within the body of an answer",
            Fault::Malformed(_) => "the answer does not follow HTTP/1.1",
            Fault::TryTimeout => "no answer in the time that one try has",
        }
    }
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

    /// Why there is another try, in words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Cause::First => "it is the first",
            Cause::Connect => "the one before found no connection, so nothing of it was sent",
            Cause::Stale => "its endpoint had just closed the idle connection, so it was not read",
            Cause::Broken => "the one before lost its connection, and the request may be repeated",
            Cause::Status => "the one before was answered 502, 503 or 504, and the request may be repeated",
            Cause::Slow => "the one before took too long, and the request may be repeated",
            Cause::Silence => "the endpoint of the one before is silent, and the request may be repeated",
        }
    }

    /// Its place in [`Cause::SECOND`].
    pub(crate) fn index(self) -> Option<usize> {
        Cause::SECOND.iter().position(|c| *c == self)
    }
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<UpConn, AcquireError>> + 'a>>;

pub(crate) enum Stage<'a> {
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
    /// Which of the request's tries it is, from 1.
    pub(crate) number: u32,
    pub(crate) begun_at: Moment,
    /// When it had a connection.
    pub(crate) connected_at: Option<Moment>,
    /// Whether its silence has been put down.
    pub(crate) silence_told: bool,
    pub(crate) cause: Cause,
    /// Whether it was paid for out of the budget.
    pub(crate) charged: bool,
    pub(crate) parser: ResponseParser,
    /// Whether its endpoint was found silent while it waited.
    pub(crate) silent: bool,
    /// When the first byte of an answer came.
    pub(crate) first_at: Option<Moment>,
    /// When something last came for it.
    pub(crate) heard_at: Moment,
    /// Whether its endpoint was in no doubt when it began.
    pub(crate) was_good: bool,
    /// Whether its connection had answered before.
    pub(crate) reused: bool,
    pub(crate) stage: Stage<'a>,
    /// Bytes of the head (and small body) that are sent.
    pub(crate) sent: usize,
    /// When the request was sent, as far as known; silence counts from then.
    pub(crate) sent_at: Moment,
    pub(crate) starves_at: Moment,
    pub(crate) look_at: Moment,
    /// The end of the time that one try has.
    pub(crate) until: Moment,
    pub(crate) starving: Option<Starving>,
    pub(crate) refused: bool,
    pub(crate) place: Option<Place>,
    pub(crate) trial: Option<Trial>,
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
pub(crate) struct Tries<'a>(pub(crate) [Option<Try<'a>>; 2]);

/// Counts a starving connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Starving(Arc<EndpointState>);

impl Starving {
    pub(crate) fn new(endpoint: &Arc<EndpointState>) -> Starving {
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
    pub(crate) number: u32,
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

    /// Those that are under way, with their places.
    pub(crate) fn under_way(&mut self) -> impl Iterator<Item = (usize, &mut Try<'a>)> {
        self.0.iter_mut().enumerate().filter_map(|(i, one)| Some((i, one.as_mut()?)))
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
        let Start { at, number, cause, charged, place, trial, reuse, parser } = start;
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
            number,
            begun_at: now,
            connected_at: reused.then_some(now),
            silence_told: false,
            cause,
            charged,
            parser,
            silent: false,
            first_at: None,
            heard_at: now,
            was_good: endpoint.is_good(),
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
        one.connected(now);
        let free = usize::from(self.0[0].is_some());
        self.0[free] = Some(one);
    }
}

impl<'a> Try<'a> {
    /// A connection is there. Silence is looked for from now on.
    pub(crate) fn connected(&mut self, now: Moment) {
        self.sent_at = now;
        self.look_at = now + self.endpoint.suspect_after().map_or(LOOK_FIRST, |after| after.min(LOOK_FIRST));
    }

    /// Whether its silence says something of its endpoint: it is found silent, nothing has come from the endpoint since,
    /// and it has waited for at least half of what is too long. `late`: all of the request's time is up.
    pub(crate) fn is_silent(&self, late: bool, now: Moment) -> bool {
        let long = self.endpoint.suspect_after().map_or(LONG, |after| after / 2);
        let waits = matches!(self.stage, Stage::Waiting(_)) && now.since(self.sent_at) >= long;
        (self.silent || late) && waits && self.endpoint.heard_at() <= self.sent_at
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

    /// Whether its answer was held.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Holding { .. })
    }

    /// Its connection takes no other request.
    pub(crate) fn spoil(&mut self) {
        if let Some(conn) = self.conn_mut() {
            conn.spoiled = true;
        }
    }

    /// The trial that it is, if it is one: given back when dropped.
    pub(crate) fn end_trial(&mut self) {
        self.trial = None;
    }

    /// Whether its outcome says something of its endpoint as it is now: in probation only the trial does, because what was
    /// sent before tells of the past.
    pub(crate) fn speaks(&self) -> bool {
        !self.endpoint.is_in_probation() || (self.is_trial() && self.sent_at >= self.endpoint.since())
    }

    /// Whether it is the one trial of an endpoint in doubt.
    pub(crate) fn is_trial(&self) -> bool {
        self.trial.is_some()
    }
}

impl Try<'_> {
    /// Drops the interim answer that has been passed on and gets ready for the next.
    pub(crate) fn next_answer(&mut self, now: Moment) {
        let length = self.parser.head().length;
        if let Some(buf) = self.conn_mut().and_then(|c| c.buf.as_mut()) {
            buf.consume(length);
        }
        self.parser.reset();
        self.look_at = now + LOOK_FIRST;
    }
}
