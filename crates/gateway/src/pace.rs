//! Whether a side of a stream is idle or too slow. Progress is counted as it happens, which costs an addition; it is
//! judged at looks that are a few seconds apart, so a silence is noticed up to one look late.

use std::time::Duration;

use kernel::Moment;
use policy::rate;

use crate::plan::EdgePlan;

/// Progress of one side of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    started: Moment,
    bytes: u64,
    /// Bytes at the last look.
    looked: u64,
    touched: bool,
    idle_since: Moment,
    next: Moment,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is wrong, or it is not time to look.
    Fine,
    /// Silent for too long.
    Idle,
    /// Below the least rate since the start.
    TooSlow,
}

/// How far apart looks are: a quarter of the longest silence, no more than the grace of the least rate, at least 100 ms.
fn interval(edge: &EdgePlan, idle: Duration) -> Duration {
    let grace = if edge.min_rate > 0 { edge.min_rate_grace } else { Duration::MAX };
    (idle / 4).min(grace).max(Duration::from_millis(100))
}

impl Pace {
    pub(crate) fn new(edge: &EdgePlan, idle: Duration, now: Moment) -> Pace {
        let next = now + interval(edge, idle);
        Pace { started: now, bytes: 0, looked: 0, touched: false, idle_since: now, next }
    }

    /// `n` bytes moved that count for the rate.
    #[inline]
    pub(crate) fn add(&mut self, n: usize) {
        self.bytes += n as u64;
    }

    /// Something moved that does not count for the rate, but ends a silence.
    #[inline]
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// When to look next.
    pub(crate) fn next_look(&self) -> Moment {
        self.next
    }

    /// Looks, if it is time. `judge_rate`: the side that is judged is the one that is waited for.
    pub(crate) fn look(&mut self, edge: &EdgePlan, idle: Duration, judge_rate: bool, now: Moment) -> Verdict {
        if now < self.next {
            return Verdict::Fine;
        }
        if self.touched || self.bytes != self.looked {
            (self.touched, self.looked, self.idle_since) = (false, self.bytes, now);
        }
        self.next = now + interval(edge, idle);
        if now.since(self.idle_since) >= idle {
            return Verdict::Idle;
        }
        let elapsed = now.since(self.started);
        if judge_rate && edge.min_rate > 0 && rate::too_slow(self.bytes, elapsed, edge.min_rate_grace, edge.min_rate) {
            return Verdict::TooSlow;
        }
        Verdict::Fine
    }
}
