//! How many second tries a service may get: a share of its requests and a floor, over ten seconds. Second tries save
//! requests from failures that are independent of load, and finish off a service that fails because of load. The budget
//! is what tells the two apart.
//!
//! `spent <= share in force * requests + per_second * 10`, at each second try, over the ten seconds before it. Connects
//! that failed and tries of which nothing was sent put no load on anybody and are not charged.
//!
//! | level | share in force | from => to, because |
//! | --- | --- | --- |
//! | low | `share`, and no more than `per_second` in a second | => usual: second tries succeed again ([`AWAKE`]), or nobody asks for them any more |
//! | usual | `share` | => low: fewer than [`USELESS`] of them succeed. => pausing: [`MOST`] of it is used, nothing queues, and they succeed ([`WORTH`]) |
//! | pausing | as before | => raised by a [`STEP`]: what the pauses showed is worth it. => usual: it is not |
//! | raised | up to `ceiling` | => raised by a step, a second later at the earliest: the last step bought [`WORTH`] successes for each added try. => pausing: what the last pause showed is old. => usual: at once, when something queues, when too few succeed, when first tries fail more than they did in the pause, or when the share is no longer needed |
//!
//! # What a second try buys
//! That second tries succeed proves nothing: where work is refused for want of room, a second try takes the place of
//! somebody's first. What they buy is the successes less the first tries that fail because of them, and that shows only
//! when there are none. Before the share is raised, second tries therefore pause for about [`PAUSE_REQUESTS`] requests
//! (0.2 to 1 s): they wait and are made afterwards, so that the pause costs time and no request. If first tries fail as
//! often as before, the failures are independent and the tries are worth what they return; if first tries fail less, the
//! second tries were the reason. The first step needs two pauses, which are judged together: one can be chance. Later
//! steps and the watch over a raised share compare with them, for [`PAUSE_HOLDS`] at most; then one pause renews them.
//!
//! # Cold start and few requests
//! The floor is there from the first moment. No judgement is made on fewer than [`FEW`] tries that ended: the last
//! second's, or if those are fewer the last three seconds'. Without a judgement the share is `share`. Below about 60
//! requests a second the floor alone grants half a try per request and nothing is ever raised.
//!
//! Limits: the levels follow the tick, which comes each 100 ms; a fall-back comes with the try that shows it. What it
//! does not do: decide whether a request may be tried again ([`crate::retry`]).
//!
//! Source of the semantics: retry budgets as in Finagle, and "Metastable failures in distributed systems" (Bronson et
//! al. 2021); the pause is our own.

use std::time::Duration;

use kernel::Moment;

use crate::budget_slices::{Counts, SLICE, Slices, WINDOW};

/// Seconds of the window.
const WINDOW_SECONDS: f64 = (SLICE.as_millis() as u64 * WINDOW) as f64 / 1000.0;
/// Tries that must have ended before they are judged: at 20, one in 20 is still a chance and one in two is not.
pub const FEW: u64 = 20;
/// Slices whose tries are judged, if they are enough: a second.
const RECENT: u64 = 10;
/// Slices that are looked at if they are not: three seconds, in which the floor alone gives 30 tries.
const RECENT_AT_MOST: u64 = 30;
/// Successes for each second try below which it is not worth its load.
pub const WORTH: f64 = 0.4;
/// Successes for each added try, judged by one pause or continuously against the last one, below which a raised share is
/// given up. Half of [`WORTH`], because a pause of 150 requests knows its share of failures to 4 points only.
const LOST: f64 = 0.2;
/// Successes for each second try below which there are hardly any.
pub const USELESS: f64 = 0.1;
/// Successes for each second try at which the low level ends.
pub const AWAKE: f64 = 0.2;
/// By how much the share is raised at a time.
pub const STEP: f64 = 0.05;
/// The time between two steps: what one has bought must be seen first.
const STEP_TIME: Duration = Duration::from_secs(1);
/// The used part of the allowance at which more is wanted: the rest must last for two pauses and what lies between.
pub const MOST: f64 = 0.6;
/// Requests that a pause is to see: they tell a share of failures to within 4 points.
pub const PAUSE_REQUESTS: f64 = 150.0;
/// Fewer than this show nothing.
const PAUSE_SHOWS: u64 = 50;
/// The shortest pause: two ticks.
const PAUSE_SHORTEST: Duration = Duration::from_millis(200);
/// The longest: half of the usual deadline of those who wait would be too much.
const PAUSE_LONGEST: Duration = Duration::from_secs(1);
/// Tries that wait for the end of a pause, at most; more are refused.
pub const MAX_POSTPONED: u32 = 1024;
/// Tries that waited for the end of a pause are spread over this many milliseconds after it.
const SPREAD_MS: u32 = 64;
/// How long what a pause showed is believed.
pub const PAUSE_HOLDS: Duration = Duration::from_secs(30);
/// The second pause begins this long after the first: a second without the tries that had waited.
const PAUSE_NEXT: Duration = Duration::from_millis(1200);
/// After a pause that showed no worth, or after a fall-back, the next one is this far.
const PAUSE_AGAIN: Duration = Duration::from_secs(2);

/// The budget of a service's second tries: a share of its requests and a floor, over ten seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetRule {
    /// Second tries for each request, 0 to 1.
    pub share: f64,
    /// Second tries a second, whatever the number of requests.
    pub per_second: f64,
    /// The share that is reached, in steps, while second tries are seen to succeed; at least `share`.
    pub ceiling: f64,
}

impl Default for BudgetRule {
    fn default() -> BudgetRule {
        BudgetRule { share: 0.20, per_second: 10.0, ceiling: 0.45 }
    }
}

/// What a second try is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// It is made, and charged.
    Granted,
    /// The budget is used up.
    Refused,
    /// Second tries pause: it asks again after this time, if the request has so much left, and is refused otherwise.
    After(Duration),
}

/// Where a budget stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetLevel {
    /// Second tries hardly ever succeed: no more than the floor, second by second.
    Low,
    /// The share of the rule.
    Usual,
    /// Second tries wait, to see what they buy.
    Pausing,
    /// More than the share of the rule.
    Raised,
}

/// A budget as it stands, for metrics and the admin API.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetView {
    /// The level.
    pub level: BudgetLevel,
    /// Second tries for each request, at present.
    pub share_in_force: f64,
    /// Second tries charged in the last ten seconds. Can exceed what is allowed when the share or the requests fell.
    pub spent_in_window: u64,
    /// How many there may be.
    pub allowed_in_window: u64,
    /// Successes for each second try that ended lately; `None`: fewer than [`FEW`].
    pub yield_ratio: Option<f64>,
}

/// The second tries of one service.
#[derive(Clone, Debug)]
pub struct Budget {
    rule: BudgetRule,
    slices: Slices,
    /// The highest count of requests that was seen; `None`: none yet.
    seen: Option<u64>,
    share: f64,
    low: bool,
    queueing: bool,
    pause: Option<Pause>,
    /// What a first pause showed: the time before it and the pause itself.
    shown: Option<(Counts, Counts)>,
    /// The share of requests whose first try fails while there are no second tries, and when that was seen.
    quiet: Option<(f64, Moment)>,
    /// When the share was raised last, and what happened since.
    stepped: (Moment, Counts),
    /// No pause before this.
    next_pause: Moment,
}

/// A pause of second tries.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Moment,
    /// The second before it, or three if that is too little.
    before: Counts,
    /// What has happened in it.
    during: Counts,
    postponed: u32,
}

impl BudgetLevel {
    /// The name in metrics and in the admin API.
    pub const fn label(self) -> &'static str {
        match self {
            BudgetLevel::Low => "low",
            BudgetLevel::Usual => "usual",
            BudgetLevel::Pausing => "pausing",
            BudgetLevel::Raised => "raised",
        }
    }
}

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(rule: BudgetRule, now: Moment) -> Budget {
        let rule = sound(rule);
        Budget {
            rule,
            slices: Slices::new(now),
            seen: None,
            share: rule.share,
            low: false,
            queueing: false,
            pause: None,
            shown: None,
            quiet: None,
            stepped: (now, Counts::default()),
            next_pause: now,
        }
    }

    /// Goes on under another rule, as after a reload: what was spent stays, and the share starts at the rule's.
    pub fn set_rule(&mut self, rule: BudgetRule) {
        let rule = sound(rule);
        if rule == self.rule {
            return;
        }
        self.rule = rule;
        self.share = self.rule.share;
        self.pause = None;
        self.shown = None;
        self.quiet = None;
    }

    /// Comes each 100 ms. `requests_total` counts the service's requests and only grows; the first value seen is where
    /// it starts. `queueing`: requests wait in the service's gate.
    pub fn tick(&mut self, requests_total: u64, queueing: bool, now: Moment) {
        self.queueing = queueing;
        self.observe(requests_total, now);
        self.fall_back(now);
        self.awake(now);
        self.watch(now);
        self.raise(now);
    }

    /// Whether a second try may be made; it is charged if so. `first_failed`: it is asked for because the first try of
    /// the request has failed just now; not so for a third try, a try beside one that is still out, or one that asks again
    /// after a pause.
    pub fn try_spend(&mut self, requests_total: u64, first_failed: bool, now: Moment) -> Spend {
        self.observe(requests_total, now);
        self.count(|counts| counts.firsts += u64::from(first_failed));
        self.fall_back(now);
        if let Some(pause) = &mut self.pause {
            if pause.postponed == MAX_POSTPONED {
                return Spend::Refused;
            }
            let spread = Duration::from_millis(u64::from(pause.postponed % SPREAD_MS));
            pause.postponed += 1;
            return Spend::After(pause.until.since(now) + spread);
        }
        let spent = self.spent(now);
        let trickle = self.rule.per_second.max(1.0);
        let too_many_at_a_time = self.low && (self.slices.sum(RECENT + 1, now).spent + 1) as f64 > trickle;
        if (spent + 1) as f64 > self.allowed(now) || too_many_at_a_time {
            return Spend::Refused;
        }
        self.count(|counts| counts.spent += 1);
        Spend::Granted
    }

    /// How a second try that was charged has ended.
    pub fn settle(&mut self, succeeded: bool, now: Moment) {
        self.slices.advance(now);
        self.count(|counts| {
            counts.settled += 1;
            counts.succeeded += u64::from(succeeded);
        });
        self.fall_back(now);
    }

    /// A second try that was charged reached nobody: it cost nothing, and says nothing of what second tries buy.
    pub fn refund(&mut self, now: Moment) {
        self.slices.advance(now);
        self.count(|counts| counts.spent = counts.spent.saturating_sub(1));
    }

    /// Where it stands.
    pub fn view(&self, now: Moment) -> BudgetView {
        let share_in_force = self.share_at(now);
        let level = match () {
            () if self.pause.is_some() => BudgetLevel::Pausing,
            () if self.low => BudgetLevel::Low,
            () if share_in_force > self.rule.share => BudgetLevel::Raised,
            () => BudgetLevel::Usual,
        };
        BudgetView {
            level,
            share_in_force,
            spent_in_window: self.spent(now),
            allowed_in_window: self.allowed(now) as u64,
            yield_ratio: self.recent_yield(now),
        }
    }

    /// Takes in what happened up to `now`, and ends a pause that is over.
    fn observe(&mut self, requests_total: u64, now: Moment) {
        self.slices.advance(now);
        let new = requests_total.saturating_sub(self.seen.unwrap_or(requests_total));
        self.seen = Some(self.seen.unwrap_or(0).max(requests_total));
        self.count(|counts| counts.requests = counts.requests.saturating_add(new));
        if self.pause.is_some_and(|pause| now >= pause.until) {
            self.conclude(now);
        }
    }

    /// Counts something, wherever it is counted.
    fn count(&mut self, add: impl Fn(&mut Counts)) {
        add(self.slices.newest());
        add(&mut self.stepped.1);
        if let Some(pause) = &mut self.pause {
            add(&mut pause.during);
        }
    }

    /// Back to the rule's share, and further down, as soon as second tries are not worth it.
    fn fall_back(&mut self, now: Moment) {
        let recent = self.recent_yield(now);
        self.low |= recent.is_some_and(|bought| bought < USELESS);
        if self.queueing || recent.is_some_and(|bought| bought < WORTH) {
            self.settle_at_the_usual(now);
        }
    }

    /// Ends the low level.
    fn awake(&mut self, now: Moment) {
        let nobody_asks = self.slices.sum(RECENT_AT_MOST, now).firsts < FEW;
        self.low &= !self.recent_yield(now).map_or(nobody_asks, |bought| bought >= AWAKE);
    }

    /// Gives a raised share up when it is no longer needed, or does harm.
    fn watch(&mut self, now: Moment) {
        if self.share <= self.rule.share {
            return;
        }
        let lately = self.slices.sum(2 * RECENT, now);
        let harms = self.quiet.and_then(|(quiet, _)| bought(&lately, quiet)).is_some_and(|bought| bought < LOST);
        let needed = self.spent(now) as f64 > MOST * self.allowed_at(self.rule.share, now);
        if harms {
            self.settle_at_the_usual(now);
        } else if !needed && self.pause.is_none() {
            self.share = self.rule.share;
        }
    }

    /// Raises the share by a step, or begins the pause that shows whether it may be.
    fn raise(&mut self, now: Moment) {
        let wanted = self.spent(now) as f64 >= MOST * self.allowed(now) && self.share < self.rule.ceiling;
        let old = self.quiet.is_none_or(|(_, at)| now.since(at) > PAUSE_HOLDS);
        let due = wanted && now.since(self.stepped.0) >= STEP_TIME || old && self.share > self.rule.share;
        let worth = self.recent_yield(now).is_some_and(|bought| bought >= WORTH);
        if self.pause.is_some() || self.queueing || self.low || !due || !worth {
            return;
        }
        let Some((quiet, _)) = self.quiet.filter(|_| !old) else {
            self.begin_pause(now);
            return;
        };
        match bought(&self.stepped.1, quiet) {
            Some(bought) if bought >= WORTH => self.step(now),
            // Not enough, or not clearly: the next pause tells.
            Some(_) => self.quiet = None,
            None => {}
        }
    }

    /// Second tries wait from now on.
    fn begin_pause(&mut self, now: Moment) {
        if now < self.next_pause {
            return;
        }
        let second = self.slices.sum(RECENT, now);
        let few = second.settled.min(second.spent) < FEW;
        let before = if few { self.slices.sum(RECENT_AT_MOST, now) } else { second };
        let length = SLICE.mul_f64(RECENT as f64 * PAUSE_REQUESTS / second.requests.max(1) as f64);
        let until = now + length.clamp(PAUSE_SHORTEST, PAUSE_LONGEST);
        self.pause = Some(Pause { until, before, during: Counts::default(), postponed: 0 });
    }

    /// The pause is over: what do second tries buy?
    fn conclude(&mut self, now: Moment) {
        let Some(Pause { mut before, mut during, .. }) = self.pause.take() else {
            return;
        };
        let earlier = self.shown.take();
        if let Some((earlier_before, earlier_during)) = &earlier {
            before.add(earlier_before);
            during.add(earlier_during);
        }
        let quiet = during.firsts as f64 / during.requests.max(1) as f64;
        let bought = bought(&before, quiet).filter(|_| during.requests >= PAUSE_SHOWS).unwrap_or(0.0);
        let raised = self.share > self.rule.share;
        if bought < LOST || bought < WORTH && earlier.is_some() {
            self.settle_at_the_usual(now);
        } else if earlier.is_none() && !raised {
            self.shown = Some((before, during));
            self.next_pause = now + PAUSE_NEXT;
        } else {
            self.quiet = Some((quiet, now));
            if bought >= WORTH {
                self.step(now);
            }
        }
    }

    /// One step up, if there is room.
    fn step(&mut self, now: Moment) {
        self.share = (self.share + STEP).min(self.rule.ceiling);
        self.stepped = (now, Counts::default());
    }

    /// Back to the rule's share; what was learned about more is forgotten.
    fn settle_at_the_usual(&mut self, now: Moment) {
        if self.share > self.rule.share || self.pause.is_some() || self.shown.is_some() {
            self.next_pause = now + PAUSE_AGAIN;
        }
        self.share = self.rule.share;
        self.quiet = None;
        self.shown = None;
        self.pause = None;
    }

    /// The share in force, also if nothing was told since the tries that speak against a raised one.
    fn share_at(&self, now: Moment) -> f64 {
        let worth = self.recent_yield(now).is_none_or(|bought| bought >= WORTH);
        if worth { self.share } else { self.rule.share }
    }

    /// Second tries charged in the window, and up to 100 ms before it.
    fn spent(&self, now: Moment) -> u64 {
        self.slices.sum(WINDOW + 1, now).spent
    }

    /// How many there may be.
    fn allowed(&self, now: Moment) -> f64 {
        self.allowed_at(self.share_at(now), now)
    }

    fn allowed_at(&self, share: f64, now: Moment) -> f64 {
        share * self.slices.sum(WINDOW, now).requests as f64 + self.rule.per_second * WINDOW_SECONDS
    }

    /// Successes for each second try that ended in the last second or, if those are few, in the last three.
    fn recent_yield(&self, now: Moment) -> Option<f64> {
        let last_second = self.slices.sum(RECENT, now).ratio(FEW);
        last_second.or_else(|| self.slices.sum(RECENT_AT_MOST, now).ratio(FEW))
    }
}

/// What each second try of `counts` bought: its success, less the first tries that failed beyond the `quiet` share.
fn bought(counts: &Counts, quiet: f64) -> Option<f64> {
    let success = counts.ratio(FEW)?;
    let displaced = (counts.firsts as f64 - quiet * counts.requests as f64).max(0.0);
    (counts.spent >= FEW).then(|| success - displaced / counts.spent as f64)
}

/// The rule with impossible numbers made possible: nothing below zero, no share above one, no ceiling below the share.
fn sound(rule: BudgetRule) -> BudgetRule {
    let between = |value: f64, most: f64| if value > 0.0 { value.min(most) } else { 0.0 };
    let share = between(rule.share, 1.0);
    let per_second = between(rule.per_second, 1e6);
    BudgetRule { share, per_second, ceiling: between(rule.ceiling, 1.0).max(share) }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
