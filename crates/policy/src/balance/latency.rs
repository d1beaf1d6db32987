//! How fast an endpoint answers: a peak-sensitive moving average, and classes of it.
//!
//! The average rises to a slower answer at once and forgets it with a time constant of ten seconds, by the time that
//! passed and not by the number of answers, so that it means the same at 20 requests a second as at 5,000 (the peak
//! EWMA of Finagle). One answer raises it at most sixteenfold: a single report that takes 8 s among answers of 2 ms is
//! forgotten in half a minute, and an endpoint that is slow throughout is known after two or three answers.

use std::time::Duration;

use kernel::Moment;

/// In so long an excess falls to 1/e. Long enough to remember a stall over the pauses of a quiet service.
const DECAY: Duration = Duration::from_secs(10);

/// Below this all answers are equally fast: the difference is noise of the scheduler, and nobody waits for it.
const FLOOR_US: u64 = 1_000;

/// The most by which one answer raises the average.
const LEAP: u32 = 16;

/// The highest class. An endpoint 16 times slower than the fastest has a sixteenth of its weight, and so has one 1,000
/// times slower: whether to use it at all is for the judgement of outliers to say.
pub(super) const CLASS_MAX: u32 = 4;

/// The moving average of one endpoint's answer times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeakEwma {
    us: f64,
    at: Moment,
}

impl PeakEwma {
    /// Takes an answer time into account.
    pub fn observe(&mut self, sample_us: u64, now: Moment) {
        self.us = step(self.us, sample_us.max(1) as f64, now.since(self.at));
        self.at = self.at.max(now);
    }

    /// The average in microseconds; 0 as long as there was no answer.
    pub fn us(&self) -> u64 {
        self.us.round() as u64
    }
}

/// The average `old` in microseconds (0: none yet) after an answer that took `sample_us`, for who keeps its parts apart.
/// Whole microseconds could not fall by less than half of one, so it is a fraction.
#[inline]
pub fn peak_ewma(old: f64, sample_us: u64, since_last: Duration) -> f64 {
    step(old, sample_us.max(1) as f64, since_last)
}

fn step(old: f64, sample: f64, since: Duration) -> f64 {
    if old <= 0.0 {
        sample
    } else if sample >= old {
        sample.min(old.max(FLOOR_US as f64) * f64::from(LEAP))
    } else {
        sample + (old - sample) * (-since.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

/// By how many powers of two an endpoint is slower than the fastest, 0 to [`CLASS_MAX`]. Within a factor of two it is
/// as fast, and so is one of which nothing is known.
#[inline]
pub(super) fn class(us: u64, fastest_us: u64) -> u32 {
    let fastest = fastest_us.max(FLOOR_US);
    // The usual case, without a division.
    if us / 2 < fastest { 0 } else { (us / fastest).ilog2().min(CLASS_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn after(samples: impl IntoIterator<Item = (u64, u64)>) -> u64 {
        let mut average = PeakEwma::default();
        for (at_us, sample) in samples {
            average.observe(sample, Moment::from_nanos(at_us * 1_000));
        }
        average.us()
    }

    #[test]
    fn nothing_is_known_before_the_first_answer_which_then_is_the_average() {
        assert_eq!(PeakEwma::default().us(), 0);
        assert_eq!(after([(0, 80 * MS)]), 80 * MS);
        assert_eq!(after([(0, 0)]), 1);
    }

    #[test]
    fn a_single_slow_answer_raises_it_sixteenfold_at_most_and_two_more_to_the_peak() {
        assert_eq!(after([(0, 2 * MS), (1, 80 * MS)]), 32 * MS);
        assert_eq!(after([(0, 2 * MS), (1, 80 * MS), (2, 80 * MS)]), 80 * MS);
        assert_eq!(after([(0, 2 * MS), (1, 8_000 * MS), (2, 8_000 * MS), (3, 8_000 * MS)]), 8_000 * MS);
    }

    #[test]
    fn it_is_forgotten_at_the_same_pace_at_20_answers_a_second_as_at_5000() {
        for per_second in [20, 5_000] {
            let answers = (1..=10 * per_second).map(|n| (n * 1_000_000 / per_second, 2 * MS));
            let average = after([(0, 100 * MS)].into_iter().chain(answers));
            // 2 + 98 / e = 38.05 ms after ten seconds.
            assert!((37_900..38_200).contains(&average), "{per_second}/s: {average}");
        }
    }

    #[test]
    fn after_one_report_of_8_s_among_2_ms_an_endpoint_is_as_fast_as_the_others_in_half_a_minute() {
        let answers = (1..=600).map(|n| (n * 50_000, 2 * MS));
        let average = after([(0, 2 * MS), (1, 8_000 * MS)].into_iter().chain(answers));
        assert_eq!(class(average, 2 * MS), 0, "{average}");
    }

    #[test]
    fn kept_in_parts_it_falls_however_often_it_is_asked() {
        for steps in [100, 100_000] {
            let step = Duration::from_secs(10) / steps;
            let average = (0..steps).fold(100.0 * MS as f64, |old, _| peak_ewma(old, 2 * MS, step)) as u64;
            assert!((37_900..38_200).contains(&average), "{average}");
        }
        assert_eq!(peak_ewma(0.0, 5, DECAY) as u64, 5);
    }

    #[test]
    fn time_that_stands_still_or_goes_back_changes_nothing() {
        let mut average = PeakEwma::default();
        average.observe(9 * MS, Moment::from_millis(50));
        average.observe(2 * MS, Moment::from_millis(50));
        average.observe(2 * MS, Moment::ZERO);
        assert_eq!(average.us(), 9 * MS);
    }

    #[test]
    fn classes_are_powers_of_two_with_a_dead_zone() {
        let classes = |fastest: u64, of: &[u64]| of.iter().map(|us| class(*us, fastest)).collect::<Vec<_>>();
        assert_eq!(classes(10, &[0, 10, 999, 1_000, 1_999, 2_000]), [0, 0, 0, 0, 0, 1]);
        let times = [4 * MS, 7_999, 8 * MS, 15_999, 16 * MS, 160 * MS, u64::MAX];
        assert_eq!(classes(4 * MS, &times), [0, 0, 1, 1, 2, 4, 4]);
        assert_eq!(classes(0, &[0, 500]), [0, 0]);
    }
}
