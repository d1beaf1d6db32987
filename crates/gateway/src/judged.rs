//! What a service's judge holds an endpoint for, as the hot path reads it: a few atomics, written whenever the judge has
//! decided something, and the judge's words for people.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kernel::Moment;
use kernel::metrics::Cell64;
use policy::balance::Standing;
use policy::outlier::{Forced, State, Verdict};

use crate::inspect::{EndpointState as Shown, EndpointView};
use crate::state::{EndpointState, traffic_view};

/// Nothing is known of how long silence is usual.
const UNKNOWN: u64 = u64::MAX;

/// Open, because active checks hold it for down.
const DEAD: u8 = 6;

/// The verdict on one endpoint.
#[derive(Debug)]
pub(crate) struct Judged {
    state: AtomicU8,
    share_permille: AtomicU32,
    suspect_after_us: AtomicU64,
    wants_success: AtomicBool,
    /// When it entered its state, in nanoseconds.
    since: AtomicU64,
    pub(crate) verdict: Mutex<Option<Verdict>>,
}

impl Default for Judged {
    fn default() -> Judged {
        Judged {
            state: AtomicU8::new(code(State::Closed, false)),
            share_permille: AtomicU32::new(1000),
            suspect_after_us: AtomicU64::new(UNKNOWN),
            wants_success: AtomicBool::new(false),
            since: AtomicU64::new(0),
            verdict: Mutex::default(),
        }
    }
}

const fn code(state: State, by_check: bool) -> u8 {
    match state {
        State::Closed => 0,
        State::Suspect => 1,
        State::Open if by_check => DEAD,
        State::Open => 2,
        State::Probation => 3,
        State::Drained => 4,
        State::Down => 5,
    }
}

impl EndpointState {
    /// Takes over what the judge has decided.
    pub(crate) fn take_verdict(&self, verdict: &Verdict) {
        let judged = &self.judged;
        judged.since.store(verdict.since.as_nanos(), Ordering::Relaxed);
        judged.state.store(code(verdict.state, verdict.by_check), Ordering::Release);
        judged.share_permille.store(u32::from(verdict.share_permille), Ordering::Relaxed);
        let after = verdict.suspect_after.map_or(UNKNOWN, |d| u64::try_from(d.as_micros()).unwrap_or(UNKNOWN - 1));
        judged.suspect_after_us.store(after, Ordering::Relaxed);
        judged.wants_success.store(verdict.wants_success, Ordering::Release);
        let mut known = judged.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(verdict) {
            *known = Some(verdict.clone());
        }
    }

    /// After how long without a byte it is suspect.
    #[inline]
    pub(crate) fn suspect_after(&self) -> Option<Duration> {
        match self.judged.suspect_after_us.load(Ordering::Relaxed) {
            UNKNOWN => None,
            us => Some(Duration::from_micros(us)),
        }
    }

    /// Whether the judge is to hear of a plain success.
    #[inline]
    pub(crate) fn wants_success(&self) -> bool {
        self.judged.wants_success.load(Ordering::Acquire)
    }

    /// Its weight as it is now, in thousandths: while it returns, it takes less than its share.
    #[inline]
    pub(crate) fn weight_permille(&self) -> u32 {
        self.weight() * self.judged.share_permille.load(Ordering::Relaxed)
    }

    /// Where it stands for a request that begins at `now`.
    #[inline]
    pub(crate) fn standing(&self, now: Moment) -> Standing {
        match self.judged.state.load(Ordering::Acquire) {
            0 if self.rests(now) => Standing::Poor,
            0 => Standing::Good,
            1 | 3 if !self.trial.load(Ordering::Relaxed) => Standing::Trial,
            1..=3 => Standing::Poor,
            DEAD => Standing::Dead,
            _ => Standing::Never,
        }
    }

    /// How it is, for people and programs.
    pub(crate) fn view(&self, now: Moment) -> EndpointView {
        let verdict = self.judged.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let checked = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let state = match self.judged.state.load(Ordering::Acquire) {
            0 => Shown::Healthy,
            1 => Shown::Suspect,
            2 => Shown::Ejected,
            3 => Shown::Probation,
            4 => Shown::Drained,
            5 => Shown::Down,
            _ => Shown::Unhealthy,
        };
        // While all is well, and where checks decide, their last word says most.
        let by_checks = matches!(state, Shown::Healthy | Shown::Unhealthy);
        let reason = verdict.as_ref().map(|v| v.reason.clone()).filter(|r| !by_checks && !r.is_empty());
        EndpointView {
            traffic: traffic_view(&self.plan.name, &self.traffic),
            healthy: self.healthy.load(Ordering::Relaxed),
            state,
            reason: reason.unwrap_or(checked),
            since: verdict.as_ref().map_or(Duration::ZERO, |v| now.since(v.since)),
            forced: match state {
                Shown::Drained => Some(Forced::Drained),
                Shown::Down => Some(Forced::Down),
                _ => None,
            },
            tier: self.tier(),
            weight: self.weight(),
            share_permille: verdict.as_ref().map_or(1000, |v| v.share_permille),
            ejections: verdict.as_ref().map_or(0, |v| v.ejections),
            ejected_total: self.ejected.load(Ordering::Relaxed),
            latency_us: self.latency_us(),
            suspect_after: self.suspect_after(),
            connections: u64::from(self.queue.open()),
            idle: self.idle_total(),
            connect_failures: self.links.sum(|l| Cell64::get(&l.connect_failures)),
        }
    }

    /// Whether it is held for able to serve.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self.judged.state.load(Ordering::Acquire), 0 | 1 | 3)
    }

    /// Whether nothing is held against it.
    #[inline]
    pub(crate) fn is_good(&self) -> bool {
        self.judged.state.load(Ordering::Acquire) == 0
    }

    /// Whether requests that wait for it had better be sent elsewhere too.
    #[inline]
    pub(crate) fn is_doubtful(&self) -> bool {
        matches!(self.judged.state.load(Ordering::Acquire), 1 | 2 | DEAD)
    }

    /// When it entered its state.
    pub(crate) fn since(&self) -> Moment {
        Moment::from_nanos(self.judged.since.load(Ordering::Relaxed))
    }

    /// Whether it is returning, and one request at a time tries it.
    pub(crate) fn is_in_probation(&self) -> bool {
        self.judged.state.load(Ordering::Acquire) == 3
    }

    /// Whether requests have met something that a check could clear up.
    pub(crate) fn is_in_doubt(&self) -> bool {
        matches!(self.judged.state.load(Ordering::Acquire), 1..=3)
    }

    /// Whether it is suspect for its silence.
    #[inline]
    pub(crate) fn is_suspect(&self) -> bool {
        self.judged.state.load(Ordering::Acquire) == 1
    }

    /// Whether it is out for what requests met, or for not being reachable.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.judged.state.load(Ordering::Acquire) == 2
    }

    /// Whether active checks hold it for down.
    pub(crate) fn is_dead(&self) -> bool {
        self.judged.state.load(Ordering::Acquire) == DEAD
    }

    /// Whether an operator has taken it out.
    pub(crate) fn is_forced(&self) -> bool {
        matches!(self.judged.state.load(Ordering::Acquire), 4 | 5)
    }
}
