//! The passive rules: when what requests meet opens an endpoint, and what bounds that.

use std::fmt;
use std::time::Duration;

use kernel::Moment;

use super::evidence::{back_until, no_better, run_is_improbable, worse_again, worse_stretch};
use super::*;

/// Attempts from which on a share is a share.
const LEAST_ATTEMPTS: u32 = 20;
/// Attempts of the peers over which a run is compared.
const RUN_ATTEMPTS: u32 = 100;
/// Failures to connect in a row that open.
const UNREACHABLE: u32 = 2;
/// Ambiguous failures in ten seconds that open, if they are a share worth mentioning.
const VAGUE: u32 = 3;
/// That share.
const VAGUE_SHARE: f64 = 0.01;
/// Ambiguous failures in ten seconds that open however small their share.
const VAGUE_MANY: u32 = 10;
/// An endpoint that has answered within this time is not silent as a whole.
const LATELY: Duration = Duration::from_secs(1);
/// Silences further apart than this do not belong together.
const QUIET_LONGEST: Duration = Duration::from_secs(10);
/// When the peers fail this often, a failed trial says little about the endpoint that is tried.
const TROUBLED_SHARE: f64 = 0.2;
/// So many failed trials of a probation are excused by that, no more.
const EXCUSED: u32 = 5;
/// Failures during a slow start that open, if the peers are clearly better.
const RAMP_FAILURES: u32 = 2;
/// An endpoint that was acquitted is not acquitted again so soon.
const ACQUIT_AGAIN: Duration = Duration::from_secs(60);
/// Answers in a stretch from which on an endpoint's median is one.
const SPEED_ANSWERS: u64 = 10;
/// How many times slower than its peers, and than its own past, a slow endpoint is.
const SPEED_FACTOR: u64 = 5;
const SPEED_FACTOR_PAST: u64 = 3;
/// And how much slower at least.
const SPEED_LEAST_US: u64 = 100_000;

/// A duration for people.
pub(super) struct Span(u64);

impl Span {
    pub(super) fn of(duration: Duration) -> Span {
        Span(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us @ ..1_000 => write!(f, "{us} us"),
            us @ ..10_000 => write!(f, "{:.1} ms", us as f64 / 1e3),
            us @ ..1_000_000 => write!(f, "{:.0} ms", us as f64 / 1e3),
            us => write!(f, "{:.1} s", us as f64 / 1e6),
        }
    }
}

impl Outliers {
    /// Takes in a failure of an endpoint that is not gone.
    pub(super) fn note(&mut self, i: usize, failure: Failure, now: Moment) {
        let e = &mut self.endpoints[i];
        if failure == Failure::Silent {
            if e.phase == Phase::Suspect || e.answered.is_none_or(|at| now.since(at) >= LATELY) {
                if e.quiet == 0 || now.since(e.quiet_since) >= QUIET_LONGEST {
                    (e.quiet, e.quiet_since) = (0, now);
                }
                e.quiet += 1;
            } else {
                e.learn_slow(1);
            }
        } else if !failure.is_unreachable() {
            e.breaks_silence();
        }
        let vague = matches!(failure, Failure::Closed | Failure::Broken);
        if e.run == 0 {
            e.run_from = self.slot;
        }
        e.run += 1;
        e.unreachable = if failure.is_unreachable() { e.unreachable + 1 } else { 0 };
        e.last_failure = Some(failure);
        if e.run > 1 {
            e.calm_since = now;
        }
        if matches!(failure, Failure::Status(_)) && e.phase == Phase::Suspect {
            e.clear_suspicion("it answered");
        }
        let counts = Counts { ok: 0, failed: 1, vague: u32::from(vague) };
        e.record.add(self.slot, counts);
        if let Some(t) = self.tier_of(i) {
            self.tiers[t].record.add(self.slot, counts);
        }
    }

    /// Opens an endpoint if its failures are a reason to.
    pub(super) fn judge(&mut self, i: usize, now: Moment) {
        let e = &self.endpoints[i];
        if !self.rule.enabled || e.is_gone() || !e.record.has_failures() {
            return;
        }
        let Some(t) = self.tier_of(i) else { return };
        let found = if e.unreachable >= UNREACHABLE && self.may_open(t, true) {
            Some((Cause::Unreachable, format!("{} attempts to connect failed in a row", e.unreachable)))
        } else if self.may_open(t, false) {
            let reason = self.vague(i, t, now).or_else(|| self.run(i, t)).or_else(|| self.share(i, t));
            reason.map(|reason| (Cause::Failing, reason))
        } else {
            None
        };
        if let Some((cause, reason)) = found {
            self.open(i, cause, reason, now);
        }
    }

    /// Whether passive rules may open one more endpoint of a tier.
    fn may_open(&self, t: usize, is_certain: bool) -> bool {
        let tier = &self.tiers[t];
        let others = tier.members.saturating_sub(1);
        let limit = if is_certain && self.rule.max_ejected > 0.0 {
            others
        } else {
            // A little less, so that 0.7 of 10 is 7 and not 8.
            ((self.rule.max_ejected * tier.members as f64 - 1e-9).ceil().max(0.0) as usize).min(others)
        };
        tier.members - tier.here < limit
    }

    /// Ambiguous failures.
    fn vague(&self, i: usize, t: usize, now: Moment) -> Option<String> {
        let (e, tier) = (&self.endpoints[i], &self.tiers[t]);
        let vague = e.record.sum(0, self.slot).vague + e.quiet;
        if vague < VAGUE {
            return None;
        }
        let lives = |peer: &&Endpoint| peer.tier == e.tier && peer.id != e.id && !peer.is_gone();
        let peers = || self.endpoints.iter().filter(lives);
        let theirs = tier.record.sum_without(&e.record, e.record.first(self.slot), self.slot).vague
            + peers().map(|peer| peer.quiet).sum::<u32>();
        if (u64::from(theirs) + 1) * 3 > u64::from(vague) * tier.here.saturating_sub(1) as u64 {
            return None;
        }
        let (first, latest, _) =
            back_until(&e.record, &tier.record, self.slot, |mine, _| mine.vague + e.quiet >= VAGUE);
        let share = f64::from(latest.vague + e.quiet) / f64::from(latest.attempts().max(1));
        if share < VAGUE_SHARE && vague < VAGUE_MANY {
            return None;
        }
        let mut since = (now - LATELY).min(Moment::from_millis(first * 100));
        if e.quiet > 0 {
            since = since.min(e.quiet_since);
        }
        if !peers().any(|peer| peer.answered.is_some_and(|at| at >= since)) {
            return None;
        }
        Some(format!("{vague} ambiguous failures in 10 s{}, the others {theirs}", e.last_failure()))
    }

    /// Failures in a row.
    fn run(&self, i: usize, t: usize) -> Option<String> {
        let (e, tier) = (&self.endpoints[i], &self.tiers[t]);
        if e.run < self.rule.consecutive_failures.max(1) {
            return None;
        }
        let stretch = tier.record.sum_without(&e.record, e.run_from, self.slot);
        let (_, _, wide) =
            back_until(&e.record, &tier.record, self.slot, |_, others| others.attempts() >= RUN_ATTEMPTS);
        run_is_improbable(e.run, stretch, wide).then(|| format!("{} failures in a row{}", e.run, e.last_failure()))
    }

    /// The share of failures, over at least 20 attempts or since a slow start began.
    fn share(&self, i: usize, t: usize) -> Option<String> {
        let (e, all) = (&self.endpoints[i], &self.tiers[t].record);
        let worse = worse_stretch(&e.record, all, self.slot, LEAST_ATTEMPTS).or_else(|| {
            // The record begins with the slow start: it is emptied when an endpoint returns.
            let begun = e.ramp.map(|_| e.record.first(self.slot))?;
            let own = e.record.sum(begun, self.slot);
            let peers = all.sum_without(&e.record, begun, self.slot);
            (own.failed >= RAMP_FAILURES && worse_again(own, peers)).then_some((own, peers))
        });
        let (own, peers) = worse?;
        let (failed, of) = (own.failed, own.attempts());
        let last = e.last_failure();
        Some(format!("{failed} of {of} failed{last}, the others {} of {}", peers.failed, peers.attempts()))
    }

    /// The median of an endpoint beside that of its peers, of whom all that are not gone are closed.
    pub(super) fn judge_speed(&mut self, i: usize, now: Moment) {
        let e = &self.endpoints[i];
        let Some(t) = self.tier_of(i) else { return };
        if !self.rule.enabled || e.is_gone() || !self.may_open(t, false) {
            return;
        }
        let (mut own, mut peers) = ([0; BUCKETS], [0; BUCKETS]);
        let (seconds, answers) = e.latency.add_latest(FEW, &mut own);
        let Some(median) = latency::quantile(&own, 0.5) else { return };
        if answers < SPEED_ANSWERS || median < SPEED_LEAST_US {
            return;
        }
        let mut theirs = 0;
        for peer in self.endpoints.iter().filter(|p| p.tier == e.tier && p.id != e.id && !p.is_gone()) {
            if peer.phase != Phase::Closed {
                return;
            }
            theirs += peer.latency.add_seconds(seconds, &mut peers);
        }
        let (Some(usual), Some(tail)) = (latency::quantile(&peers, 0.5), latency::quantile(&peers, 0.99)) else {
            return;
        };
        let past = e.latency.past_quantile(0.5);
        if theirs >= SPEED_ANSWERS
            && median >= usual.saturating_mul(SPEED_FACTOR)
            && median >= usual.saturating_add(SPEED_LEAST_US)
            && median > tail
            && past.is_none_or(|past| median >= past.saturating_mul(SPEED_FACTOR_PAST))
        {
            let reason = format!("half of its answers take {} or more, the others' {}", Span(median), Span(usual));
            self.open(i, Cause::Slow, reason, now);
        }
    }

    /// Opens an endpoint for the next step of the back-off.
    pub(super) fn open(&mut self, i: usize, cause: Cause, reason: String, now: Moment) {
        let share = self.share_lately(i);
        let rule = &self.rule;
        let e = &mut self.endpoints[i];
        let recently = e.acquitted.is_some_and(|at| now.since(at) < ACQUIT_AGAIN);
        e.may_acquit = (cause == Cause::Failing && e.step == 0 && !recently).then_some(share);
        e.ejection = rule.base_ejection.saturating_mul(1u32 << e.step.min(30)).min(rule.max_ejection);
        e.step = e.step.saturating_add(1);
        e.cause = cause;
        e.until = now + e.ejection;
        e.ramp = None;
        (e.run, e.quiet) = (0, 0);
        e.enter(Phase::Open, reason, now);
    }

    /// Closes an endpoint. What it did before is not held against it; the back-off remembers. Without a reason nothing
    /// changed but the record.
    pub(super) fn close(&mut self, i: usize, reason: Option<String>, with_slow_start: bool, now: Moment) {
        let e = &mut self.endpoints[i];
        e.enter(Phase::Closed, reason.unwrap_or_default(), now);
        (e.run, e.unreachable, e.quiet, e.may_acquit) = (0, 0, 0, None);
        e.calm_since = now;
        e.ramp = (with_slow_start && !self.rule.slow_start.is_zero()).then_some(now);
        e.record = Record::new(self.slot);
        e.latency.restart();
        // Whether its tier's record is counted anew hangs on the endpoint's coming back; it may not have been away.
        if let Some(t) = self.tier_of(i) {
            self.recount(t);
        }
    }

    /// The endpoints of a tier that were left while nobody was reachable begin anew, as those do that were taken out for it:
    /// else they alone would have the refusals of all on their records.
    pub(super) fn forget_refusals(&mut self, i: usize) {
        let (tier, slot) = (self.endpoints[i].tier, self.slot);
        let was_left = |e: &&mut Endpoint| e.tier == tier && e.phase == Phase::Closed && e.unreachable >= UNREACHABLE;
        let mut is_changed = false;
        for e in self.endpoints.iter_mut().filter(was_left) {
            (e.record, e.run, e.unreachable, is_changed) = (Record::new(slot), 0, 0, true);
        }
        if let Some(t) = self.tier_of(i).filter(|_| is_changed) {
            self.recount(t);
        }
    }

    /// Whether a failed trial is excused because the peers fail as well; its probation begins anew then.
    pub(super) fn excuses(&mut self, i: usize, failure: Failure) -> bool {
        let Some(t) = self.tier_of(i) else { return false };
        let peers = self.recent_record(t);
        let e = &mut self.endpoints[i];
        let is_troubled = peers.attempts() >= LEAST_ATTEMPTS && peers.share() >= TROUBLED_SHARE;
        if !is_troubled || failure.is_unreachable() || failure == Failure::Silent || e.excused >= EXCUSED {
            return false;
        }
        e.excused += 1;
        (e.passes, e.asked) = (0, false);
        true
    }

    /// The last attempts of those of a tier that are not gone.
    fn recent_record(&self, t: usize) -> Counts {
        let record = &self.tiers[t].record;
        back_until(record, record, self.slot, |all, _| all.attempts() >= LEAST_ATTEMPTS).1
    }

    /// A trial passed.
    pub(super) fn pass(&mut self, i: usize, now: Moment) {
        let e = &mut self.endpoints[i];
        e.passes = e.passes.saturating_add(1);
        let unasked = now.since(e.phase_since) >= e.ejection;
        if e.passes >= PROBATION_PASSES && (e.asked || unasked) {
            let what = if e.asked { "trials" } else { "checks" };
            self.close(i, Some(format!("{PROBATION_PASSES} {what} passed")), true, now);
        }
    }

    /// The share of failures over the last attempts.
    fn share_lately(&self, i: usize) -> f64 {
        let record = &self.endpoints[i].record;
        let (_, lately, _) = back_until(record, record, self.slot, |mine, _| mine.attempts() >= LEAST_ATTEMPTS);
        lately.share()
    }

    /// Closes an endpoint whose peers turned out to fail as well.
    pub(super) fn acquit(&mut self, i: usize, now: Moment) {
        let e = &self.endpoints[i];
        let (Some(share), Phase::Open, Some(t)) = (e.may_acquit, e.phase, self.tier_of(i)) else { return };
        let opened = slot_of(e.phase_since) + 1;
        if opened > self.slot || !no_better(share, self.tiers[t].record.sum(opened, self.slot)) {
            return;
        }
        let e = &mut self.endpoints[i];
        e.step = e.step.saturating_sub(1);
        e.acquitted = Some(now);
        self.close(i, Some("the others fail as well".to_owned()), false, now);
    }
}

impl Endpoint {
    /// The last failure in brackets.
    fn last_failure(&self) -> String {
        self.last_failure.map(|failure| format!(" ({failure})")).unwrap_or_default()
    }
}
