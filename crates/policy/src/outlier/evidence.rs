//! What an endpoint's attempts came to, in slots of 100 ms over ten seconds, and when two such records differ for a
//! reason rather than by chance.
//!
//! Two shares are compared by the likelihood ratio (Wilks). The peers are smoothed by one failure in one attempt, so
//! that peers of whom nothing is known prove nothing. The question is asked many times over overlapping stretches, so
//! the threshold is far above the usual one.

use std::cell::Cell;

use kernel::Moment;

/// How many slots a record has.
pub(super) const SLOTS: u64 = 100;
/// How long a slot is.
const SLOT_MILLIS: u64 = 100;
/// Standard deviations between an endpoint and its peers. At 5.0 one simulated minute of brownout in two hundred opened
/// an endpoint, at 5.25 none did; a flaky endpoint is found a failure later.
const WORSE_Z: f64 = 5.25;
/// The same for an endpoint that has just returned, which is asked once for each failure and not over many stretches.
const WORSE_AGAIN_Z: f64 = 3.5;
/// A share of failures below this is no reason to open.
const WORSE_SHARE: f64 = 0.1;
/// How improbable a run of failures must be for one of the peers: e^-17 is one in twenty-four million.
const RUN_LOG: f64 = 17.0;

/// What attempts came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Good answers.
    pub(super) ok: u32,
    /// Failures of every kind.
    pub(super) failed: u32,
    /// Of these, those that leave open what became of the request.
    pub(super) vague: u32,
}

/// The last ten seconds in slots. Records that are cleared together can be compared.
#[derive(Clone, Debug)]
pub(super) struct Record {
    slots: [Counts; SLOTS as usize],
    /// The failures in all slots, so that a record without any costs nothing to judge.
    failed: u32,
    /// The slot that it begins with: nothing is known of the time before, and no stretch reaches back beyond it.
    begun: u64,
}

/// The slot that a moment falls into.
pub(super) const fn slot_of(now: Moment) -> u64 {
    now.as_millis() / SLOT_MILLIS
}

impl Counts {
    pub(super) const fn attempts(self) -> u32 {
        self.ok.saturating_add(self.failed)
    }

    /// The share of failures; 0 if there were no attempts.
    pub(super) fn share(self) -> f64 {
        f64::from(self.failed) / f64::from(self.attempts().max(1))
    }

    const fn plus(self, other: Counts) -> Counts {
        Counts {
            ok: self.ok.saturating_add(other.ok),
            failed: self.failed.saturating_add(other.failed),
            vague: self.vague.saturating_add(other.vague),
        }
    }

    const fn minus(self, other: Counts) -> Counts {
        Counts {
            ok: self.ok.saturating_sub(other.ok),
            failed: self.failed.saturating_sub(other.failed),
            vague: self.vague.saturating_sub(other.vague),
        }
    }
}

impl Record {
    /// A record that begins with a slot.
    pub(super) const fn new(begun: u64) -> Record {
        Record { slots: [Counts { ok: 0, failed: 0, vague: 0 }; SLOTS as usize], failed: 0, begun }
    }

    /// The first slot of the last ten seconds up to `to` of which it knows.
    pub(super) fn first(&self, to: u64) -> u64 {
        self.begun.max((to + 1).saturating_sub(SLOTS))
    }

    pub(super) const fn at(&self, slot: u64) -> Counts {
        self.slots[(slot % SLOTS) as usize]
    }

    /// Whether there is any failure in the last ten seconds.
    pub(super) const fn has_failures(&self) -> bool {
        self.failed > 0
    }

    /// Empties a slot for its next use.
    pub(super) const fn clear(&mut self, slot: u64) {
        self.failed = self.failed.saturating_sub(self.at(slot).failed);
        self.slots[(slot % SLOTS) as usize] = Counts { ok: 0, failed: 0, vague: 0 };
    }

    pub(super) const fn add(&mut self, slot: u64, counts: Counts) {
        self.failed = self.failed.saturating_add(counts.failed);
        self.slots[(slot % SLOTS) as usize] = self.at(slot).plus(counts);
    }

    /// Adds a whole record to this one.
    pub(super) fn add_all(&mut self, other: &Record) {
        self.failed = self.failed.saturating_add(other.failed);
        self.slots.iter_mut().zip(&other.slots).for_each(|(slot, more)| *slot = slot.plus(*more));
    }

    /// Everything from slot `from` to slot `to`, both included and at most ten seconds.
    pub(super) fn sum(&self, from: u64, to: u64) -> Counts {
        let from = from.max((to + 1).saturating_sub(SLOTS));
        (from..=to).fold(Counts::default(), |sum, slot| sum.plus(self.at(slot)))
    }

    /// What is in this record and not in `own`, over the same slots.
    pub(super) fn sum_without(&self, own: &Record, from: u64, to: u64) -> Counts {
        self.sum(from, to).minus(own.sum(from, to))
    }
}

/// Walks back from slot `to`, at most ten seconds, until `enough` holds of an endpoint's counts and those of the others
/// in `all`. Returns the slot that it came to, and both counts.
pub(super) fn back_until(
    own: &Record,
    all: &Record,
    to: u64,
    enough: impl Fn(Counts, Counts) -> bool,
) -> (u64, Counts, Counts) {
    let (mut mine, mut others) = (Counts::default(), Counts::default());
    let from = own.first(to);
    for slot in (from..=to).rev() {
        mine = mine.plus(own.at(slot));
        others = others.plus(all.at(slot).minus(own.at(slot)));
        if enough(mine, others) {
            return (slot, mine, others);
        }
    }
    (from, mine, others)
}

/// Walks back from slot `to` and compares `own` with the rest of `all` whenever the endpoint has twice
/// as many attempts as the last time, beginning with `least`. Returns the first stretch in which it is clearly worse:
/// its counts and those of the others.
pub(super) fn worse_stretch(own: &Record, all: &Record, to: u64, least: u32) -> Option<(Counts, Counts)> {
    let next = Cell::new(least.max(1));
    let (_, mine, others) = back_until(own, all, to, |mine, others| {
        if mine.attempts() < next.get() {
            return false;
        }
        next.set(mine.attempts().saturating_mul(2));
        clearly_worse(mine, others)
    });
    (mine.attempts() >= least && clearly_worse(mine, others)).then_some((mine, others))
}

/// Whether a share of failures is so much worse than its peers' that chance does not explain it.
pub(super) fn clearly_worse(own: Counts, peers: Counts) -> bool {
    worse_by(own, peers, WORSE_Z)
}

/// The same for an endpoint that was opened before, in its slow start.
pub(super) fn worse_again(own: Counts, peers: Counts) -> bool {
    worse_by(own, peers, WORSE_AGAIN_Z)
}

fn worse_by(own: Counts, peers: Counts, z: f64) -> bool {
    if own.attempts() == 0 {
        return false;
    }
    let (n, m) = (f64::from(own.attempts()), f64::from(peers.attempts()) + 1.0);
    let (share, peers_share) = (own.share(), (f64::from(peers.failed) + 1.0) / m);
    if share < WORSE_SHARE || share < 2.0 * peers_share + 0.1 {
        return false;
    }
    // How much likelier the two shares make what was seen than one share for both; by Wilks, twice its logarithm is the
    // square of so many standard deviations. Unlike the usual difference of proportions it holds for small numbers.
    let (mine, theirs) = (f64::from(own.failed), f64::from(peers.failed) + 1.0);
    let ratio = log_likelihood(mine, n) + log_likelihood(theirs, m) - log_likelihood(mine + theirs, n + m);
    2.0 * ratio >= z * z
}

/// The logarithm of the chance of `failed` of `n` attempts, in the order seen, under the share that fits best.
fn log_likelihood(failed: f64, n: f64) -> f64 {
    let part = |k: f64| if k > 0.0 { k * (k / n).ln() } else { 0.0 };
    part(failed) + part(n - failed)
}

/// Whether `run` failures in a row would be next to impossible for one of the peers: by what they did since the run
/// began (`stretch`), and by what they did over a longer time (`wide`) if two standard deviations are added to that.
pub(super) fn run_is_improbable(run: u32, stretch: Counts, wide: Counts) -> bool {
    let smoothed = |c: Counts| ((f64::from(c.failed) + 1.0) / (f64::from(c.attempts()) + 1.0)).min(1.0);
    let p = smoothed(wide);
    let wide = p + 2.0 * (p * (1.0 - p) / (f64::from(wide.attempts()) + 1.0)).sqrt();
    f64::from(run) * -smoothed(stretch).max(wide).min(1.0).ln() >= RUN_LOG
}

/// Whether the peers fare no better than half as badly as an endpoint that was opened for the share `opened_for`: then
/// it is not the endpoint. Two standard deviations above the half, so that a few failures of the peers are no proof.
pub(super) fn no_better(opened_for: f64, peers: Counts) -> bool {
    const LEAST: u32 = 20;
    let (half, m) = ((opened_for / 2.0).clamp(0.0, 1.0), f64::from(peers.attempts()));
    peers.attempts() >= LEAST && peers.share() >= half + 2.0 * (half * (1.0 - half) / m).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn counts(failed: u32, attempts: u32) -> Counts {
        Counts { ok: attempts - failed, failed, vague: 0 }
    }

    #[test]
    fn twelve_of_twenty_are_clearly_worse_than_none_of_sixty_and_not_than_a_third() {
        for (own, peers, worse) in [
            ((12, 20), (0, 60), true),
            ((8, 20), (0, 40), false),
            ((10, 20), (13, 40), false),
            ((20, 20), (24, 40), false),
            ((10, 20), (0, 0), false),
            ((3, 3), (0, 2), false),
            ((9, 100), (0, 1_000), false),
            ((12, 100), (2, 1_000), true),
            ((0, 0), (0, 100), false),
        ] {
            let (own, peers) = (counts(own.0, own.1), counts(peers.0, peers.1));
            assert_eq!(clearly_worse(own, peers), worse, "{own:?} beside {peers:?}");
        }
    }

    #[test]
    fn a_run_proves_the_more_the_better_the_peers_are() {
        let good = counts(0, 100);
        assert!(run_is_improbable(5, good, good));
        assert!(!run_is_improbable(5, counts(0, 0), good), "of the peers in the same time nothing is known");
        assert!(!run_is_improbable(5, good, counts(0, 0)));
        assert!(!run_is_improbable(10, counts(18, 60), counts(18, 60)));
        assert!(run_is_improbable(21, counts(18, 60), counts(18, 60)));
        assert!(!run_is_improbable(1_000, counts(60, 60), counts(60, 60)));
    }

    #[test]
    fn a_record_forgets_what_is_older_than_ten_seconds() {
        let mut record = Record::new(0);
        record.add(7, counts(3, 5));
        assert_eq!((record.sum(0, 106), record.sum(0, 107)), (counts(3, 5), counts(3, 5)));
        record.clear(107);
        assert_eq!(record.sum(0, 107), Counts::default());
        assert!(!record.has_failures());
    }

    #[test]
    fn peers_that_fail_as_well_acquit() {
        assert!(no_better(0.6, counts(60, 100)));
        assert!(!no_better(0.6, counts(3, 100)));
        assert!(!no_better(0.6, counts(9, 10)), "too few to say so");
    }
}
