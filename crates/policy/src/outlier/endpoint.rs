//! What is held about one endpoint, and how the three inputs (operator, checks, requests) become its verdict.

use std::fmt;
use std::time::Duration;

use kernel::Moment;

use super::evidence::{Record, slot_of};
use super::{Failure, Forced, Member, OutlierRule, SLOW_START_PERMILLE, State, Transition, Verdict};
use crate::latency::LatencyWindow;

/// The state as far as the passive rules make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    Suspect,
    Open,
    Probation,
}

/// Why passive rules opened an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No connection could be made.
    Unreachable,
    /// Attempts failed.
    Failing,
    /// Answers took too long.
    Slow,
}

/// One endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) id: u32,
    pub(super) tier: u8,
    pub(super) forced: Option<Forced>,
    pub(super) check_down: bool,
    pub(super) phase: Phase,
    pub(super) phase_since: Moment,
    phase_reason: String,
    /// Why it was last opened.
    pub(super) cause: Cause,
    /// When the back-off ends.
    pub(super) until: Moment,
    /// How long the last back-off was.
    pub(super) ejection: Duration,
    /// How many steps the back-off is at.
    pub(super) step: u32,
    /// Since when there was no failure spell.
    pub(super) calm_since: Moment,
    /// Trials passed in this probation, and whether a request was among them.
    pub(super) passes: u32,
    pub(super) asked: bool,
    /// Trials that failed while the peers failed as well.
    pub(super) excused: u32,
    /// When the slow start began.
    pub(super) ramp: Option<Moment>,
    /// Failures in a row, and the slot of the first.
    pub(super) run: u32,
    pub(super) run_from: u64,
    /// Failures to connect in a row.
    pub(super) unreachable: u32,
    /// Times that it stayed silent since it last answered, and when the first was.
    pub(super) quiet: u32,
    pub(super) quiet_since: Moment,
    pub(super) last_failure: Option<Failure>,
    /// When it was last known to give a good answer.
    pub(super) answered: Option<Moment>,
    /// The share of failures that it was opened for, if it may be acquitted.
    pub(super) may_acquit: Option<f64>,
    pub(super) acquitted: Option<Moment>,
    pub(super) record: Record,
    pub(super) ok_total: Option<u64>,
    pub(super) latency: LatencyWindow,
    /// Whether its record is left out of its tier's.
    pub(super) gone: bool,
    pub(super) verdict: Verdict,
}

impl Endpoint {
    pub(super) fn new(member: Member, now: Moment) -> Endpoint {
        Endpoint {
            id: member.id,
            tier: member.tier,
            forced: None,
            check_down: false,
            phase: Phase::Closed,
            phase_since: now,
            phase_reason: String::new(),
            cause: Cause::Failing,
            until: now,
            ejection: Duration::ZERO,
            step: 0,
            calm_since: now,
            passes: 0,
            asked: false,
            excused: 0,
            ramp: None,
            run: 0,
            run_from: 0,
            unreachable: 0,
            quiet: 0,
            quiet_since: now,
            last_failure: None,
            answered: None,
            may_acquit: None,
            acquitted: None,
            record: Record::new(slot_of(now)),
            ok_total: None,
            latency: LatencyWindow::new(),
            gone: false,
            verdict: Verdict {
                state: State::Closed,
                since: now,
                until: None,
                reason: String::new(),
                share_permille: 1000,
                suspect_after: None,
                wants_success: false,
                ejections: 0,
                by_check: false,
            },
        }
    }

    /// The state that the inputs make together.
    pub(super) const fn in_effect(&self) -> State {
        match (self.forced, self.check_down, self.phase) {
            (Some(Forced::Drained), _, _) => State::Drained,
            (Some(Forced::Down), _, _) => State::Down,
            (None, true, _) | (None, false, Phase::Open) => State::Open,
            (None, false, Phase::Closed) => State::Closed,
            (None, false, Phase::Suspect) => State::Suspect,
            (None, false, Phase::Probation) => State::Probation,
        }
    }

    /// Whether the endpoint does not take its part.
    pub(super) const fn is_gone(&self) -> bool {
        self.is_gone_otherwise() || self.is_gone_passively()
    }

    /// Whether operator or checks took it out.
    pub(super) const fn is_gone_otherwise(&self) -> bool {
        self.forced.is_some() || self.check_down
    }

    /// Whether the passive rules took it out.
    pub(super) const fn is_gone_passively(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Probation)
    }

    pub(super) fn enter(&mut self, phase: Phase, reason: String, now: Moment) {
        self.phase = phase;
        self.phase_since = now;
        self.phase_reason = reason;
    }

    pub(super) fn enter_probation(&mut self, reason: String, now: Moment) {
        (self.passes, self.asked, self.excused, self.run, self.unreachable) = (0, false, 0, 0, 0);
        self.enter(Phase::Probation, reason, now);
    }

    /// It was heard: it is not silent as a whole. What it was silent about were slow requests.
    pub(super) fn breaks_silence(&mut self) {
        let quiet = std::mem::take(&mut self.quiet);
        self.learn_slow(quiet);
    }

    /// `n` requests took longer than was thought usual, nobody knows how long. They are taken for twice that: so the
    /// usual grows until it is right, though second tries keep the whole time of slow requests from being seen.
    pub(super) fn learn_slow(&mut self, n: u32) {
        if n > 0
            && let Some(after) = self.verdict.suspect_after
        {
            self.latency.note(u64::try_from(after.as_micros()).unwrap_or(u64::MAX).saturating_mul(2), n);
        }
    }

    pub(super) fn clear_suspicion(&mut self, reason: &str) {
        self.phase = Phase::Closed;
        reason.clone_into(&mut self.phase_reason);
    }

    /// Makes the verdict anew. Returns the transition, if there is one.
    pub(super) fn publish(&mut self, rule: &OutlierRule, now: Moment) -> Option<Transition> {
        let (from, to) = (self.verdict.state, self.in_effect());
        let by_check = self.check_down && self.forced.is_none();
        self.gone = self.is_gone();
        let changed = from != to;
        if changed || by_check != self.verdict.by_check {
            self.verdict.reason = match (self.forced, by_check) {
                (Some(Forced::Drained), _) => "drained by an operator".to_owned(),
                (Some(Forced::Down), _) => "taken for down by an operator".to_owned(),
                (None, true) => "its checks fail".to_owned(),
                (None, false) => self.phase_reason.clone(),
            };
        }
        if changed {
            self.verdict.since = now;
        }
        let mut share = 1000;
        if let Some(begun) = self.ramp {
            let part = now.since(begun).as_secs_f64() / rule.slow_start.as_secs_f64().max(1e-9);
            if part >= 1.0 {
                self.ramp = None;
            } else {
                share = SLOW_START_PERMILLE + (f64::from(1000 - SLOW_START_PERMILLE) * part) as u16;
            }
        }
        let verdict = &mut self.verdict;
        verdict.state = to;
        verdict.by_check = by_check;
        verdict.share_permille = share;
        verdict.ejections = self.step;
        verdict.wants_success =
            matches!(to, State::Suspect | State::Probation) || (to == State::Closed && self.run > 0);
        verdict.until = match to {
            State::Open if !by_check => Some(self.until),
            State::Closed => self.ramp.map(|begun| begun + rule.slow_start),
            _ => None,
        };
        changed.then(|| Transition { id: self.id, from, to, reason: self.verdict.reason.clone() })
    }
}

impl Failure {
    /// Whether it is certain that nothing was sent, because there was no connection.
    pub const fn is_unreachable(self) -> bool {
        matches!(self, Failure::Refused | Failure::ConnectTimeout)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("connection refused"),
            Failure::ConnectTimeout => f.write_str("no connection in time"),
            Failure::Closed => f.write_str("closed before an answer"),
            Failure::Broken => f.write_str("answer broken off"),
            Failure::Status(status) => write!(f, "{status}"),
            Failure::Silent => f.write_str("silent"),
        }
    }
}
