//! What happened lately, in slices of [`SLICE`]: the sliding window of [`crate::budget`]. The newest slice is only partly
//! over, so that the newest `n` slices cover between `n - 1` and `n` slices of time: who must not overlook anything asks
//! for one more than the window has, who must not count anything twice asks for as many. Time that stands still or runs
//! backwards counts into the newest slice; after a jump the slices in between are empty. Size: about 4 KiB.

use std::time::Duration;

use kernel::Moment;

/// The grain of the window: a hundredth of it, and as often as the budget is told what happened.
pub(crate) const SLICE: Duration = Duration::from_millis(100);
/// Slices of the window of ten seconds.
pub(crate) const WINDOW: u64 = 100;
/// Slices kept: the window's and the one that is being filled.
const KEPT: u64 = WINDOW + 1;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests that came.
    pub(crate) requests: u64,
    /// First attempts that failed and for which a second try was asked.
    pub(crate) firsts: u64,
    /// Second tries granted.
    pub(crate) spent: u64,
    /// Second tries that have ended.
    pub(crate) settled: u64,
    /// Those of them that succeeded.
    pub(crate) succeeded: u64,
}

/// The newest slices.
#[derive(Clone, Debug)]
pub(crate) struct Slices {
    ring: [Counts; KEPT as usize],
    /// The number of the newest slice, counted from the clock's origin.
    newest: u64,
}

impl Counts {
    /// Adds `other`.
    pub(crate) fn add(&mut self, other: &Counts) {
        self.requests = self.requests.saturating_add(other.requests);
        self.firsts += other.firsts;
        self.spent += other.spent;
        self.settled += other.settled;
        self.succeeded += other.succeeded;
    }

    /// Successes for each second try that ended; `None` below `least` of them.
    pub(crate) fn ratio(&self, least: u64) -> Option<f64> {
        (self.settled >= least.max(1)).then(|| self.succeeded as f64 / self.settled as f64)
    }
}

impl Slices {
    /// Empty slices, the newest of which contains `now`.
    pub(crate) fn new(now: Moment) -> Slices {
        Slices { ring: [Counts::default(); KEPT as usize], newest: number(now) }
    }

    /// Begins new slices until the newest contains `now`.
    pub(crate) fn advance(&mut self, now: Moment) {
        let to = number(now);
        for next in (self.newest + 1..=to).take(KEPT as usize) {
            self.ring[(next % KEPT) as usize] = Counts::default();
        }
        if to > self.newest.saturating_add(KEPT) {
            self.ring = [Counts::default(); KEPT as usize];
        }
        self.newest = self.newest.max(to);
    }

    /// The newest slice.
    pub(crate) fn newest(&mut self) -> &mut Counts {
        &mut self.ring[(self.newest % KEPT) as usize]
    }

    /// The sum of the newest `count` slices, seen from `now`: those that have left the window by then count as empty.
    pub(crate) fn sum(&self, count: u64, now: Moment) -> Counts {
        let end = number(now).max(self.newest);
        let from = end.saturating_sub(count.saturating_sub(1)).max(self.newest.saturating_sub(KEPT - 1));
        let mut sum = Counts::default();
        for slice in from..=self.newest {
            sum.add(&self.ring[(slice % KEPT) as usize]);
        }
        sum
    }
}

/// The number of the slice that contains `now`.
fn number(now: Moment) -> u64 {
    now.as_nanos() / SLICE.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Moment = Moment::from_millis;

    #[test]
    fn a_slice_leaves_the_window_when_it_is_over() {
        let mut slices = Slices::new(AT(0));
        slices.newest().spent = 7;
        slices.advance(AT(9_999));
        assert_eq!(slices.sum(WINDOW, AT(9_999)).spent, 7);
        slices.advance(AT(10_099));
        assert_eq!((slices.sum(WINDOW, AT(10_099)).spent, slices.sum(WINDOW + 1, AT(10_099)).spent), (0, 7));
        slices.advance(AT(10_100));
        assert_eq!(slices.sum(WINDOW + 1, AT(10_100)).spent, 0);
    }

    #[test]
    fn a_later_view_leaves_out_what_is_over_without_moving_anything() {
        let mut slices = Slices::new(AT(5_000));
        slices.newest().spent = 7;
        assert_eq!(slices.sum(10, AT(5_999)).spent, 7);
        assert_eq!(slices.sum(10, AT(6_000)).spent, 0);
        assert_eq!(slices.sum(10, AT(5_000)).spent, 7);
        assert_eq!(slices.sum(10, Moment::MAX).spent, 0);
    }

    #[test]
    fn time_that_runs_backwards_counts_into_the_newest_slice_and_a_jump_empties_all() {
        let mut slices = Slices::new(AT(50_000));
        slices.advance(AT(10));
        slices.newest().spent = 3;
        assert_eq!(slices.sum(1, AT(50_000)).spent, 3);
        slices.advance(Moment::MAX);
        slices.advance(Moment::MAX);
        assert_eq!(slices.sum(WINDOW + 1, Moment::MAX).spent, 0);
    }
}
