//! What time does: totals are taken in, back-offs and slow starts end, the usual silence is learned; and what a change
//! means for the rest of its tier.

use std::time::Duration;

use kernel::Moment;

use super::*;

impl Outliers {
    /// Takes in what was answered since the last time; ends back-offs and slow starts; judges. To be called each 100 ms.
    /// `fill` is given an endpoint's id and empty totals to fill.
    pub fn tick(&mut self, mut fill: impl FnMut(u32, &mut Totals), now: Moment) -> Vec<Transition> {
        let mut out = Vec::new();
        self.roll(now);
        // Answers came between the last tick and this one: the middle is the best slot for them.
        let middle = self.ticked.map_or(now, |last| last + now.since(last) / 2);
        let slot = slot_of(middle).max((self.slot + 1).saturating_sub(SLOTS));
        self.ticked = Some(now);
        for i in 0..self.endpoints.len() {
            let mut totals = Totals::default();
            fill(self.endpoints[i].id, &mut totals);
            self.take(i, &totals, slot, now);
        }
        self.learn_silence();
        for i in 0..self.endpoints.len() {
            self.turn_on_time(i, now);
            self.acquit(i, now);
            self.judge(i, now);
            self.settle(i, now, &mut out);
        }
        for _ in 0..self.endpoints.len().min(SPEED_PER_TICK) {
            self.turn = (self.turn + 1) % self.endpoints.len();
            self.judge_speed(self.turn, now);
            self.settle(self.turn, now, &mut out);
        }
        out
    }

    fn take(&mut self, i: usize, totals: &Totals, slot: u64, now: Moment) {
        let e = &mut self.endpoints[i];
        let ok = e.ok_total.map_or(0, |last| totals.ok.saturating_sub(last));
        e.ok_total = Some(totals.ok);
        e.latency.advance(&totals.latency, now);
        if ok == 0 {
            return;
        }
        e.breaks_silence();
        e.answered = Some(now);
        if e.is_gone() {
            return;
        }
        let counts = Counts { ok: u32::try_from(ok).unwrap_or(u32::MAX), ..Counts::default() };
        e.record.add(slot, counts);
        if let Some(t) = self.tier_of(i) {
            self.tiers[t].record.add(slot, counts);
        }
    }

    /// Sets how long silence is usual: by the peers of an endpoint if they have answered enough, else by all.
    fn learn_silence(&mut self) {
        let mut all = [0; BUCKETS];
        let total: u64 = self.endpoints.iter().map(|e| e.latency.add_recent(&mut all)).sum();
        for e in &mut self.endpoints {
            let mut own = [0; BUCKETS];
            let others = total - e.latency.add_recent(&mut own);
            let known = if others >= FEW {
                own.iter_mut().zip(&all).for_each(|(own, all)| *own = all - *own);
                others
            } else {
                own = all;
                total
            };
            let usual = latency::quantile(&own, 0.99).filter(|_| known >= FEW);
            let least = SUSPECT_AT_LEAST.mul_f64((TAIL_ENOUGH as f64 / known.max(1) as f64).max(1.0));
            e.verdict.suspect_after =
                usual.map(|p99| Duration::from_micros(p99.saturating_mul(SUSPECT_FACTOR)).max(least));
        }
    }

    /// What changes by time alone.
    fn turn_on_time(&mut self, i: usize, now: Moment) {
        let e = &mut self.endpoints[i];
        if !self.rule.enabled && e.phase != Phase::Closed {
            self.close(i, Some("requests are no longer judged".to_owned()), false, now);
            return;
        }
        match e.phase {
            Phase::Open if now >= e.until => e.enter_probation("the back-off has ended".to_owned(), now),
            Phase::Closed | Phase::Suspect if e.step > 0 && now.since(e.calm_since) >= e.ejection.max(CALM) => {
                e.step -= 1;
                e.calm_since = now;
            }
            _ => {}
        }
    }

    /// Makes the verdict of an endpoint anew, and what follows for its tier.
    pub(super) fn settle(&mut self, i: usize, now: Moment, out: &mut Vec<Transition>) {
        let was_gone = self.endpoints[i].gone;
        out.extend(self.endpoints[i].publish(&self.rule, now));
        let Some(t) = self.tier_of(i) else { return };
        if self.endpoints[i].gone != was_gone {
            self.recount(t);
        }
        self.leave_one(t, now, out);
    }

    /// If nobody of a tier is left, the endpoint comes back that only the passive rules took out, and of several the
    /// one whose back-off ends first.
    pub(super) fn leave_one(&mut self, t: usize, now: Moment, out: &mut Vec<Transition>) {
        if self.tiers[t].here > 0 {
            return;
        }
        let tier = self.tiers[t].tier;
        let judged = |e: &Endpoint| e.tier == tier && !e.is_gone_otherwise() && e.is_gone_passively();
        let first =
            (0..self.endpoints.len()).filter(|i| judged(&self.endpoints[*i])).min_by_key(|i| self.endpoints[*i].until);
        if let Some(i) = first {
            self.close(i, Some("no other endpoint of its tier is left".to_owned()), false, now);
            out.extend(self.endpoints[i].publish(&self.rule, now));
            self.recount(t);
        }
    }

    /// Adds up the members of a tier that are not gone.
    pub(super) fn recount(&mut self, t: usize) {
        let tier = &mut self.tiers[t];
        (tier.members, tier.here, tier.record) = (0, 0, Record::new(0));
        for e in self.endpoints.iter().filter(|e| e.tier == tier.tier) {
            tier.members += 1;
            if !e.is_gone() {
                tier.here += 1;
                tier.record.add_all(&e.record);
            }
        }
    }

    /// The index of an endpoint, with the record brought to `now`.
    pub(super) fn at(&mut self, id: u32, now: Moment) -> Option<usize> {
        self.roll(now);
        self.index(id)
    }

    pub(super) fn index(&self, id: u32) -> Option<usize> {
        self.endpoints.binary_search_by_key(&id, |e| e.id).ok()
    }

    pub(super) fn tier_of(&self, i: usize) -> Option<usize> {
        self.tiers.iter().position(|tier| tier.tier == self.endpoints[i].tier)
    }

    /// Begins the slot of `now`, and empties those that were passed.
    pub(super) fn roll(&mut self, now: Moment) {
        let target = slot_of(now);
        if target <= self.slot {
            return;
        }
        for slot in (self.slot + 1).max((target + 1).saturating_sub(SLOTS))..=target {
            self.endpoints.iter_mut().for_each(|e| e.record.clear(slot));
            self.tiers.iter_mut().for_each(|tier| tier.record.clear(slot));
        }
        self.slot = target;
    }
}
