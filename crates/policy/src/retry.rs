//! Whether a request is sent again after an attempt that failed, when and where. The caller performs it, and asks the
//! budget ([`crate::budget`]) first if the attempt is to be charged.
//!
//! **May it?** All of these hold, or it is not sent again; the first that does not is the reason ([`Why`]).
//!
//! | | reason if not |
//! | --- | --- |
//! | the outcome is a failure that another attempt may mend: no connection, an end before the answer was whole, silence, 502, 503, 504; never 500 (a defect) or 429 (a decision) | `status` |
//! | no byte of it reached an upstream, or the method is idempotent | `not_idempotent` |
//! | the whole request is at hand | `not_replayable` |
//! | fewer attempts than the rule has | `attempts` |
//! | there is time | `deadline` |
//! | somebody has not said `Retry-After` | `retry_after` |
//! | somebody can be reached | `unreachable` |
//!
//! **Where and when?**
//!
//! | endpoints left | the fleet | |
//! | --- | --- | --- |
//! | some untried | well | another one, at once |
//! | some untried | in trouble | another one, after a back-off; at once if this attempt put no load on anybody |
//! | none | | one that was tried, after a back-off. With two endpoints this is the third attempt |
//!
//! The back-off has full jitter: anything up to 25 ms, doubled with each attempt, 250 ms and half of the time left at
//! most. `Retry-After` is a matter of its endpoint: the caller leaves that alone and does not count it as untried.
//!
//! **Is it charged?** Yes, but for attempts that cost nobody anything: a connection that could not be made, a request of
//! which proven nothing was sent, and once per request the keep-alive race ([`stale_race`]): an endpoint may close an
//! idle connection at the very moment when we reuse it, and nobody did anything wrong.
//!
//! Source: RFC 9110, 9.2.2 (idempotent methods) and 10.2.3 (`Retry-After`), RFC 9112, 9.3.1 (retrying requests); full
//! jitter as in "Exponential Backoff And Jitter" (Brooker 2015). What it does not do: tries beside one that is out.

use std::time::Duration;

use kernel::Entropy;

use crate::budget::BudgetRule;

/// The first back-off is up to this long: about one good answer's time.
pub const BACKOFF: Duration = Duration::from_millis(25);
/// No back-off is longer: a client waits for it.
pub const BACKOFF_CAP: Duration = Duration::from_millis(250);
/// With less time than this no attempt can be answered.
const LEAST_LEFT: Duration = Duration::from_millis(1);
/// A close on a connection that idled so long is taken for the keep-alive race as long as no close has shown when the
/// endpoint closes idle ones: no usual server has a shorter timeout, and no busy connection idles so long.
pub const RACE_UNSEEN: Duration = Duration::from_secs(1);

/// When and how often a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryRule {
    /// Attempts at one request, the first included.
    pub attempts: u32,
    /// How long one attempt may take to be answered; `None`: as long as the request has.
    pub per_try_timeout: Option<Duration>,
    /// Whether silence far beyond the usual starts a second try beside the first.
    pub hedge: bool,
    /// Requests with a longer body are streamed, and not sent again once some of it was.
    pub max_replay: u64,
    /// How many second tries there may be.
    pub budget: BudgetRule,
}

impl Default for RetryRule {
    fn default() -> RetryRule {
        RetryRule {
            attempts: 3,
            per_try_timeout: None,
            hedge: true,
            max_replay: 64 * 1024,
            budget: BudgetRule::default(),
        }
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was no connection.
    ConnectFailed,
    /// The connection was closed before the first byte of an answer.
    Closed,
    /// The connection was reset, or ended before the answer was whole.
    Broken,
    /// The answer has this status.
    Status(u16),
    /// There was no answer in the time that the attempt had.
    TimedOut,
}

/// An attempt that failed, and its circumstances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How it failed.
    pub outcome: Outcome,
    /// Sending the request several times has the effect of sending it once ([`is_idempotent`]).
    pub idempotent: bool,
    /// The whole request is at hand: what was taken from the client was kept, and nothing of an answer was passed on.
    pub replayable: bool,
    /// Proven: no byte of it reached an upstream, in this or an earlier attempt.
    pub unsent: bool,
    /// It looks like the keep-alive race ([`stale_race`]).
    pub stale_race: bool,
    /// The request has had its free attempt for a keep-alive race.
    pub free_used: bool,
    /// Attempts at this request so far, this one included. Connects that failed need not be counted: they are bounded
    /// by the endpoints, none of which is tried twice for them.
    pub attempts: u32,
    /// Endpoints that were not tried for this request and may be used.
    pub untried: usize,
    /// All endpoints are suspect or worse.
    pub fleet_in_trouble: bool,
    /// Time left until the request's deadline.
    pub left: Duration,
    /// What `Retry-After` said, if there was one.
    pub retry_after: Option<Duration>,
}

/// What becomes of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It ends with what there is.
    No(Why),
    /// It is sent again at once.
    Now {
        /// The budget is asked.
        charged: bool,
        /// To an endpoint that was tried; otherwise to another.
        same: bool,
    },
    /// It is sent again after a pause.
    After {
        /// The pause; shorter than the time left.
        wait: Duration,
        /// The budget is asked.
        charged: bool,
        /// To an endpoint that was tried; otherwise to another.
        same: bool,
    },
}

/// Why a request is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The status is none that another attempt mends.
    Status,
    /// It may have been done, and doing it twice is not the same.
    NotIdempotent,
    /// Part of it is gone, or part of an answer was passed on.
    NotReplayable,
    /// It had all its attempts.
    Attempts,
    /// There is no time.
    Deadline,
    /// Everybody said when to come back.
    RetryAfter,
    /// Nobody can be reached: it can wait until somebody is ([`crate::park`]).
    Unreachable,
    /// The budget is used up. For callers: [`again`] does not ask it.
    Budget,
}

impl Why {
    /// All of them, in the order of the declaration.
    pub const ALL: [Why; 8] = [
        Why::Status,
        Why::NotIdempotent,
        Why::NotReplayable,
        Why::Attempts,
        Why::Deadline,
        Why::RetryAfter,
        Why::Unreachable,
        Why::Budget,
    ];

    /// The name in metrics and in `why`.
    pub const fn label(self) -> &'static str {
        match self {
            Why::Status => "status",
            Why::NotIdempotent => "not_idempotent",
            Why::NotReplayable => "not_replayable",
            Why::Attempts => "attempts",
            Why::Deadline => "deadline",
            Why::RetryAfter => "retry_after",
            Why::Unreachable => "unreachable",
            Why::Budget => "budget",
        }
    }

    /// The same for people.
    pub const fn words(self) -> &'static str {
        match self {
            Why::Status => "another attempt does not mend this status",
            Why::NotIdempotent => "it may have been done, and its method may not be repeated",
            Why::NotReplayable => "part of it is gone, or part of an answer was passed on",
            Why::Attempts => "it had all its attempts",
            Why::Deadline => "there is no time left",
            Why::RetryAfter => "everybody said when to come back",
            Why::Unreachable => "nobody can be reached",
            Why::Budget => "the budget of second tries is used up",
        }
    }
}

/// What becomes of a request after an attempt that failed.
pub fn again(rule: &RetryRule, asked: &Asked, entropy: &mut Entropy) -> Again {
    if let Some(why) = refusal(rule, asked) {
        return Again::No(why);
    }
    let costless = asked.outcome == Outcome::ConnectFailed || asked.is_unsent();
    let free = costless || asked.is_race();
    let (charged, same) = (!free, asked.untried == 0);
    let at_once = if same { asked.is_race() } else { free || !asked.fleet_in_trouble };
    if at_once { Again::Now { charged, same } } else { Again::After { wait: backoff(asked, entropy), charged, same } }
}

/// Why the request is not sent again, if it is not.
fn refusal(rule: &RetryRule, asked: &Asked) -> Option<Why> {
    let nobody_left = asked.untried == 0;
    match asked.outcome {
        Outcome::Status(status) if !matches!(status, 502..=504) => Some(Why::Status),
        _ if !asked.idempotent && !asked.is_unsent() => Some(Why::NotIdempotent),
        _ if !asked.replayable => Some(Why::NotReplayable),
        _ if asked.attempts >= rule.attempts => Some(Why::Attempts),
        _ if asked.left < LEAST_LEFT => Some(Why::Deadline),
        _ if asked.retry_after.is_some() && nobody_left => Some(Why::RetryAfter),
        Outcome::ConnectFailed if asked.unsent && nobody_left => Some(Why::Unreachable),
        _ => None,
    }
}

impl Asked {
    /// Whether nothing was sent; a status is an answer to something that was.
    fn is_unsent(&self) -> bool {
        self.unsent && !matches!(self.outcome, Outcome::Status(_))
    }

    /// Whether it is the keep-alive race, for the first time.
    fn is_race(&self) -> bool {
        let ended = matches!(self.outcome, Outcome::Closed | Outcome::Broken);
        ended && self.stale_race && !self.free_used
    }
}

/// The pause before the next attempt: full jitter, and half of the time left at most, so that the attempt has as much.
fn backoff(asked: &Asked, entropy: &mut Entropy) -> Duration {
    let doubled = BACKOFF.saturating_mul(1 << asked.attempts.saturating_sub(1).min(10));
    doubled.min(BACKOFF_CAP).min(asked.left / 2).mul_f64(entropy.unit())
}

/// Whether a close before the first byte of an answer is the keep-alive race, and no failure of the endpoint. `idled`:
/// how long the connection was idle before the request; `shortest_idle_close`: the shortest time after which this
/// endpoint was seen to close an idle connection ([`crate::keepalive::IdleMemory::shortest`]); `mass_close`: it is
/// closing connections of all ages, as in a restart ([`crate::keepalive::IdleMemory::in_mass_close`]).
///
/// As long as nothing was seen, a connection that idled for [`RACE_UNSEEN`] has the benefit of the doubt. An endpoint
/// that takes requests and then closes is not excused by it: under load, connections idle for milliseconds.
pub fn stale_race(reused: bool, idled: Duration, shortest_idle_close: Option<Duration>, mass_close: bool) -> bool {
    reused && (mass_close || idled >= shortest_idle_close.map_or(RACE_UNSEEN, |shortest| shortest / 2))
}

/// Whether sending a request with this method several times has the effect of sending it once.
#[inline]
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE")
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
