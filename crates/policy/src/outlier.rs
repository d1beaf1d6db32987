//! One state machine judges each endpoint of a service: by what requests meet, by its silence, by its speed beside its
//! peers', by active checks, and by an operator.
//!
//! ```text
//! closed    => suspect    a request waits far longer than the usual and no byte has come from the endpoint since
//! suspect   => closed     a byte or an answer came: it is not frozen
//! closed,
//! suspect   => open       two connections in a row refused or timed out; three ambiguous failures in 10 s; failures in
//!                         a row, or a share of failures, or slow answers, that its peers do not have; its checks fail
//! open      => probation  the back-off has ended; or it was unreachable and its checks pass again
//! open      => closed     its checks pass again, and nothing else was held against it; nobody was reachable and it is;
//!                         its peers turn out to fail as well; no other endpoint of its tier is left
//! probation => closed     five trials passed: slow start
//! probation => open       a trial failed: the next step of the back-off
//! any       => drained,
//!              down       an operator says so
//! drained,
//! down      => closed     an operator says so: slow start
//! ```
//! Three inputs lie over each other, and the first that speaks decides: the operator, active checks, and what requests
//! meet (the passive rules). So a check that passes again ends what checks began and nothing else.
//!
//! **Peers** are the endpoints of the same tier that are not gone. Gone are: open, in probation, drained, down. Passive
//! rules compare; when all look alike, nobody is an outlier. They never act on the only endpoint of a tier, they leave
//! one endpoint of a tier that they may judge, and at most `max_ejected` of a tier, rounded up, may be gone when they
//! open another (all but one for refused connections, which leave no doubt). What the numbers are compared over is a
//! stretch that goes back until the endpoint has 20 attempts, and twice as many, and so on, at most 10 s: 120 ms at 500
//! requests/s on three endpoints, 3 s at 20/s.
//!
//! **Ambiguous** is a failure that leaves open what became of the request: closed before an answer, broken off, silent.
//! Three in 10 s open, if they are at least 1 % of the attempts since the first of them (ten otherwise), if the peers
//! had at most a third as many each, and if a peer has answered in the meantime. A request that stayed silent
//! while its endpoint answered others tells of the request: it counts as a failure, not as an ambiguous one.
//!
//! **Back-off**: `base_ejection`, doubled with each ejection up to `max_ejection`; one step less for each stretch as
//! long as the last ejection, and at least 30 s, without an ejection and without two failures in a row.
//!
//! **Cold.** Nothing is suspected before 20 answers are known, and late while fewer than 150 are. Shares need 20 attempts
//! and as many of the peers; five failures in a row need 90 attempts of the peers without a failure, seven need 35. Two
//! refused connections count from the first request on.
//!
//! The caller shows it every failed attempt, and good answers through totals at each tick and one by one while
//! [`Verdict::wants_success`]. While the verdict says probation, it sends one request at a time and shows the outcome of
//! that one only: what was sent before tells of the past. When no endpoint is closed, suspects are as good as any
//! (suspicion has no limit of its own). It does not choose endpoints and does not know requests.

use std::time::Duration;

use kernel::Moment;

use crate::health::Change;
use crate::latency::{self, BUCKETS, FEW, TAIL_ENOUGH};

mod endpoint;
mod evidence;
mod rules;
#[cfg(test)]
#[path = "outlier/simulation_tests.rs"]
mod simulation;
#[cfg(test)]
#[path = "outlier/outlier_tests.rs"]
mod tests;
mod turn;

use endpoint::{Cause, Endpoint, Phase};
use evidence::{Counts, Record, SLOTS, slot_of};
use rules::Span;

/// Trials that an endpoint in probation has to pass.
pub const PROBATION_PASSES: u32 = 5;
/// The share, in thousandths, with which a slow start begins.
pub const SLOW_START_PERMILLE: u16 = 100;
/// Silence is never suspicious sooner; and while fewer answers are known than make a p99, so many times later.
pub const SUSPECT_AT_LEAST: Duration = Duration::from_millis(100);
/// Silence is suspicious after so many times the p99 of the service.
const SUSPECT_FACTOR: u64 = 4;
/// The shortest stretch without a failure spell for which the back-off is shortened by a step.
const CALM: Duration = Duration::from_secs(30);
/// Endpoints whose speed is judged in one tick; the others' turn comes in the next ones.
const SPEED_PER_TICK: usize = 8;

/// How endpoints are judged by what requests meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierRule {
    /// Whether what requests meet may open an endpoint at all. Active checks and operators may in any case.
    pub enabled: bool,
    /// Failures in a row that open an endpoint, if they are next to impossible for one of its peers.
    pub consecutive_failures: u32,
    /// The largest share of a tier's endpoints that may be open for what requests met, 0 to 1; rounded up, and one
    /// endpoint always stays.
    pub max_ejected: f64,
    /// How long an endpoint stays open the first time; doubles each time.
    pub base_ejection: Duration,
    /// How long at most.
    pub max_ejection: Duration,
    /// How long an endpoint that returns takes to reach its full share.
    pub slow_start: Duration,
}

impl Default for OutlierRule {
    fn default() -> OutlierRule {
        OutlierRule {
            enabled: true,
            consecutive_failures: 5,
            max_ejected: 0.5,
            base_ejection: Duration::from_secs(2),
            max_ejection: Duration::from_secs(60),
            slow_start: Duration::from_secs(10),
        }
    }
}

/// What an endpoint may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Its share of the requests.
    Closed,
    /// One request at a time; those that wait at it get a second try elsewhere.
    Suspect,
    /// Nothing.
    Open,
    /// One request at a time.
    Probation,
    /// Nothing: an operator takes it out of service.
    Drained,
    /// Nothing: an operator holds it for broken.
    Down,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The connection was refused.
    Refused,
    /// The connection was not made in time.
    ConnectTimeout,
    /// The connection ended before the first byte of an answer, and not in the keep-alive race.
    Closed,
    /// The answer was reset, cut off or malformed.
    Broken,
    /// The answer was 500, 502, 503 or 504.
    Status(u16),
    /// No byte came for long: its second try won after it had waited for at least half of
    /// [`Verdict::suspect_after`], or its time was up. A request that was sent less long ago and lost to its second
    /// try says nothing; so a trial gets its second try after that half, and what waits when suspicion arises at once.
    Silent,
}

/// What an operator may say of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forced {
    /// No new requests.
    Drained,
    /// No new requests, and it is said to be broken.
    Down,
}

/// An endpoint of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is called here; the same as long as it is the same endpoint.
    pub id: u32,
    /// Its tier.
    pub tier: u8,
}

/// What an endpoint has answered since its counters began.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Good answers.
    pub ok: u64,
    /// How long answers took to begin, by [`latency::bucket_of`].
    pub latency: latency::Counts,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The endpoint.
    pub id: u32,
    /// The state that it left.
    pub from: State,
    /// The state that it is in.
    pub to: State,
    /// Why.
    pub reason: String,
}

/// What is known of an endpoint and what may be sent to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Its state.
    pub state: State,
    /// When it entered the state.
    pub since: Moment,
    /// When the state ends by itself: the back-off, or in `Closed` the slow start.
    pub until: Option<Moment>,
    /// Why it is in the state; empty for one that was never in another.
    pub reason: String,
    /// The share of its usual requests, in thousandths: below 1000 only in a slow start.
    pub share_permille: u16,
    /// How long a request may wait for a byte before its endpoint is suspect; `None` while too little is known.
    pub suspect_after: Option<Duration>,
    /// Whether [`Outliers::success`] is to be called for each good answer.
    pub wants_success: bool,
    /// How many steps the back-off is at: ejections that are not yet forgiven.
    pub ejections: u32,
    /// Whether it is open because its checks fail. When all are, the balancer may doubt the checks.
    pub by_check: bool,
}

/// The members of a tier that are not gone, together.
#[derive(Debug)]
struct Tier {
    tier: u8,
    /// All members.
    members: usize,
    /// Those that are not gone.
    here: usize,
    record: Record,
}

/// The judge of a service's endpoints. Its owner holds a lock: nothing here takes long, and nothing is allocated but
/// for transitions.
#[derive(Debug)]
pub struct Outliers {
    rule: OutlierRule,
    /// By id.
    endpoints: Vec<Endpoint>,
    tiers: Vec<Tier>,
    /// The slot that is being filled.
    slot: u64,
    /// When totals were last taken in.
    ticked: Option<Moment>,
    /// Whose turn it is to be judged by its speed.
    turn: usize,
}

impl State {
    /// Its name in metrics, logs and the API.
    pub const fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Suspect => "suspect",
            State::Open => "open",
            State::Probation => "probation",
            State::Drained => "drained",
            State::Down => "down",
        }
    }
}

impl Default for Totals {
    fn default() -> Totals {
        Totals { ok: 0, latency: [0; BUCKETS] }
    }
}

impl Outliers {
    /// A judge without endpoints.
    pub const fn new(rule: OutlierRule) -> Outliers {
        Outliers { rule, endpoints: Vec::new(), tiers: Vec::new(), slot: 0, ticked: None, turn: 0 }
    }

    /// Goes on under another rule, as after a reload. If that one judges nobody, the next tick closes what passive rules
    /// opened.
    pub const fn set_rule(&mut self, rule: OutlierRule) {
        self.rule = rule;
    }

    /// Takes `members` for the service's endpoints: keeps what is known, adds new ones as closed, forgets the others.
    pub fn sync(&mut self, members: &[Member], now: Moment) -> Vec<Transition> {
        self.roll(now);
        self.endpoints.retain(|e| members.iter().any(|m| m.id == e.id));
        for member in members {
            match self.index(member.id) {
                Some(i) => self.endpoints[i].tier = member.tier,
                None => {
                    let at = self.endpoints.partition_point(|e| e.id < member.id);
                    self.endpoints.insert(at, Endpoint::new(*member, now));
                }
            }
        }
        self.tiers.retain(|tier| members.iter().any(|m| m.tier == tier.tier));
        for member in members {
            if !self.tiers.iter().any(|tier| tier.tier == member.tier) {
                self.tiers.push(Tier { tier: member.tier, members: 0, here: 0, record: Record::new(0) });
            }
        }
        let mut out = Vec::new();
        for t in 0..self.tiers.len() {
            self.recount(t);
            self.leave_one(t, now, &mut out);
        }
        out
    }

    /// An attempt failed, whether it is made again or not. In probation only that of a trial is to be shown.
    pub fn failure(&mut self, id: u32, failure: Failure, now: Moment) -> Vec<Transition> {
        let mut out = Vec::new();
        let Some(i) = self.at(id, now) else { return out };
        if !self.rule.enabled {
            return out;
        }
        match self.endpoints[i].in_effect() {
            State::Open | State::Drained | State::Down => return out,
            State::Probation if self.excuses(i, failure) => {}
            State::Probation => {
                let cause = if failure.is_unreachable() { Cause::Unreachable } else { Cause::Failing };
                self.open(i, cause, format!("a trial failed ({failure})"), now);
            }
            State::Closed | State::Suspect => {
                self.note(i, failure, now);
                self.judge(i, now);
            }
        }
        self.settle(i, now, &mut out);
        out
    }

    /// A good answer came. To be called while [`Verdict::wants_success`]; more calls do no harm.
    pub fn success(&mut self, id: u32, now: Moment) -> Vec<Transition> {
        let mut out = Vec::new();
        let Some(i) = self.at(id, now) else { return out };
        let e = &mut self.endpoints[i];
        e.breaks_silence();
        (e.answered, e.run, e.unreachable) = (Some(now), 0, 0);
        match e.in_effect() {
            State::Suspect => e.clear_suspicion("it answered"),
            State::Probation => {
                e.asked = true;
                self.pass(i, now);
            }
            _ => {}
        }
        self.settle(i, now, &mut out);
        out
    }

    /// The oldest request that waits at the endpoint has waited for [`Verdict::suspect_after`], and no byte has come
    /// from the endpoint since it was sent.
    pub fn silent(&mut self, id: u32, now: Moment) -> Vec<Transition> {
        let mut out = Vec::new();
        let Some(i) = self.at(id, now) else { return out };
        let has_peers = self.tier_of(i).is_some_and(|t| self.tiers[t].members > 1);
        let e = &mut self.endpoints[i];
        if self.rule.enabled && has_peers && e.in_effect() == State::Closed {
            let after = e.verdict.suspect_after.map(|d| format!(" for {}", Span::of(d))).unwrap_or_default();
            e.enter(Phase::Suspect, format!("no byte came{after}, far longer than usual"), now);
        }
        self.settle(i, now, &mut out);
        out
    }

    /// A byte came on a request that had been waiting at the endpoint.
    pub fn heard(&mut self, id: u32, now: Moment) -> Vec<Transition> {
        let mut out = Vec::new();
        let Some(i) = self.at(id, now) else { return out };
        let e = &mut self.endpoints[i];
        e.breaks_silence();
        if e.in_effect() == State::Suspect {
            e.clear_suspicion("a byte came");
        }
        self.settle(i, now, &mut out);
        out
    }

    /// Active checks changed their mind.
    pub fn checked(&mut self, id: u32, change: Change, now: Moment) -> Vec<Transition> {
        let mut out = Vec::new();
        let Some(i) = self.at(id, now) else { return out };
        let e = &mut self.endpoints[i];
        let was_down = e.check_down;
        e.check_down = change == Change::Down;
        if was_down && !e.check_down {
            match e.phase {
                Phase::Closed | Phase::Suspect => self.close(i, Some("its checks pass again".to_owned()), true, now),
                Phase::Open if e.cause == Cause::Unreachable => {
                    e.enter_probation("its checks pass again".to_owned(), now);
                }
                Phase::Open | Phase::Probation => {}
            }
        }
        self.settle(i, now, &mut out);
        out
    }

    /// A single check passed. In probation that is a passed trial; requests must be among these, unless none came for
    /// as long as the last back-off.
    pub fn check_passed(&mut self, id: u32, now: Moment) -> Vec<Transition> {
        let mut out = Vec::new();
        let Some(i) = self.at(id, now) else { return out };
        if self.endpoints[i].in_effect() == State::Probation {
            self.pass(i, now);
            self.settle(i, now, &mut out);
        }
        out
    }

    /// Nobody was reachable, and now a connection to the endpoint was made.
    pub fn connected(&mut self, id: u32, now: Moment) -> Vec<Transition> {
        let mut out = Vec::new();
        let Some(i) = self.at(id, now) else { return out };
        self.forget_refusals(i);
        let e = &mut self.endpoints[i];
        if matches!(e.phase, Phase::Open | Phase::Probation) && e.cause == Cause::Unreachable {
            e.step = 0;
            self.close(i, Some("it can be reached again".to_owned()), false, now);
            self.settle(i, now, &mut out);
        }
        out
    }

    /// An operator takes the endpoint out of service, or gives it back.
    pub fn force(&mut self, id: u32, forced: Option<Forced>, now: Moment) -> Vec<Transition> {
        let mut out = Vec::new();
        let Some(i) = self.at(id, now) else { return out };
        let was = self.endpoints[i].forced;
        self.endpoints[i].forced = forced;
        if was.is_some() && forced.is_none() {
            self.endpoints[i].step = 0;
            self.close(i, Some("resumed by an operator".to_owned()), true, now);
        }
        self.settle(i, now, &mut out);
        out
    }

    /// What is to be known of an endpoint.
    pub fn verdict(&self, id: u32) -> Option<&Verdict> {
        self.index(id).map(|i| &self.endpoints[i].verdict)
    }

    /// The ids and verdicts of all endpoints, by id.
    pub fn verdicts(&self) -> impl Iterator<Item = (u32, &Verdict)> {
        self.endpoints.iter().map(|e| (e.id, &e.verdict))
    }
}
