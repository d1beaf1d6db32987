//! How much flowed over a [`Range`], column by column, from the counts that are kept.

use kernel::tally::{Counts, Subject, TallyReader};
use serde::Serialize;

use super::range::Range;

/// Above this share a column counts as covered: a process is not stopped and started within a moment.
const COVERED: f64 = 0.98;

/// The columns of a chart.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Series {
    /// Oldest first.
    pub(crate) columns: Vec<Column>,
    /// All of them together.
    pub(crate) all: Column,
    /// How much of the time until now was not counted, in seconds.
    pub(crate) uncovered_seconds: u64,
    /// Why nothing could be read; empty if it could.
    pub(crate) trouble: String,
}

/// A stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Column {
    /// Its beginning.
    pub(crate) start_unix_s: u64,
    /// Its length, up to now.
    pub(crate) seconds: u64,
    /// How much of it was counted.
    pub(crate) covered_ms: u64,
    /// All requests.
    pub(crate) requests: u64,
    /// Those that failed.
    pub(crate) failed: u64,
    /// Second tries.
    pub(crate) second_tries: u64,
    /// Half of the answers took no longer, in milliseconds.
    pub(crate) p50_ms: Option<f64>,
    /// 95 % took no longer.
    pub(crate) p95_ms: Option<f64>,
    /// 99 % took no longer.
    pub(crate) p99_ms: Option<f64>,
}

impl Series {
    /// What is kept of `subject`. Blocks.
    pub(crate) fn read(reader: &dyn TallyReader, subject: &Subject, range: &Range) -> Series {
        let periods = match reader.read(subject, range.step, range.from_unix_s, range.until_unix_s) {
            Ok(periods) => periods,
            Err(error) => {
                return Series { trouble: format!("The counts cannot be read now: {error}."), ..Series::default() };
            }
        };
        let length = u64::from(range.column_seconds);
        let mut kept = vec![(0u64, Counts::default()); range.columns()];
        for period in &periods {
            let at = period.start_unix_s.checked_sub(range.from_unix_s).map(|since| (since / length) as usize);
            if let Some((covered, counts)) = at.and_then(|at| kept.get_mut(at)) {
                *covered += u64::from(period.covered_ms);
                counts.add(&period.counts);
            }
        }
        let mut all = (0u64, Counts::default());
        let mut columns = Vec::with_capacity(kept.len());
        for (at, (covered, counts)) in kept.iter().enumerate() {
            let start = range.from_unix_s + at as u64 * length;
            columns.push(Column::new(start, length.min(range.now_unix_s.saturating_sub(start)), *covered, counts));
            all.0 += covered;
            all.1.add(counts);
        }
        let seconds = columns.iter().map(|column| column.seconds).sum();
        let uncovered = columns.iter().filter(|c| !c.is_covered()).map(Column::uncovered_ms).sum::<u64>();
        let all = Column::new(range.from_unix_s, seconds, all.0, &all.1);
        Series { columns, all, uncovered_seconds: uncovered / 1_000, trouble: String::new() }
    }

    /// Whether there is anything to show.
    pub(crate) fn is_empty(&self) -> bool {
        self.columns.iter().all(|column| column.covered_ms == 0 && column.requests == 0)
    }

    /// The highest rate.
    pub(crate) fn highest_rate(&self) -> f64 {
        self.columns.iter().map(Column::rate).fold(0.0, f64::max)
    }
}

impl Column {
    fn new(start_unix_s: u64, seconds: u64, covered_ms: u64, counts: &Counts) -> Column {
        let quantile = |q| counts.latency.quantile_us(q).map(|us| us as f64 / 1_000.0);
        Column {
            start_unix_s,
            seconds,
            covered_ms,
            requests: counts.total(),
            failed: counts.failed(),
            second_tries: counts.second_tries,
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
        }
    }

    /// How many seconds count for rates: those that were counted, or, if that is not known, all of them.
    fn counted_seconds(&self) -> f64 {
        let seconds = if self.covered_ms > 0 { self.covered_ms as f64 / 1_000.0 } else { self.seconds as f64 };
        seconds.max(1.0)
    }

    /// Requests per second while it was counted.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.counted_seconds()
    }

    /// Failures per second while it was counted.
    pub(crate) fn failed_rate(&self) -> f64 {
        self.failed as f64 / self.counted_seconds()
    }

    /// The share that did not fail.
    pub(crate) fn success(&self) -> Option<f64> {
        (self.requests > 0).then(|| 1.0 - self.failed as f64 / self.requests as f64)
    }

    fn uncovered_ms(&self) -> u64 {
        (self.seconds * 1_000).saturating_sub(self.covered_ms)
    }

    /// Whether it was counted (nearly) all the time that has passed. A moment that has only begun, is.
    pub(crate) fn is_covered(&self) -> bool {
        self.uncovered_ms() <= 1_500 || self.covered_ms as f64 >= COVERED * self.seconds as f64 * 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kernel::tally::{Period, Step};

    use super::*;

    #[derive(Debug)]
    struct Kept(Vec<Period>);

    impl TallyReader for Kept {
        fn read(&self, _: &Subject, _: Step, from: u64, until: u64) -> io::Result<Vec<Period>> {
            Ok(self.0.iter().filter(|p| (from..until).contains(&p.start_unix_s)).cloned().collect())
        }
        fn subjects(&self) -> io::Result<Vec<Subject>> {
            Ok(Vec::new())
        }
    }

    fn period(start_unix_s: u64, covered_ms: u32, good: u64, failed: u64) -> Period {
        let mut counts = Counts { by_class: [0, good, 0, 0, failed, 0], ..Counts::default() };
        counts.latency.buckets[3] = good + failed;
        Period { start_unix_s, seconds: 15, covered_ms, counts }
    }

    #[test]
    fn periods_become_columns_and_what_was_not_counted_is_known() {
        let now = 1_772_370_010;
        let range = Range::last(3_600, now);
        let (from, column) = (range.from_unix_s, u64::from(range.column_seconds));
        assert_eq!(column, 30);
        let kept = Kept(vec![
            period(from, 15_000, 90, 0),
            period(from + 15, 15_000, 57, 3),
            period(from + 30, 5_000, 50, 0),
            // Another one of that column was not counted at all; so were all others but the present.
            period(range.until_unix_s - 30, 10_000, 10, 10),
        ]);
        let series = Series::read(&kept, &Subject::Service { name: "shop".into() }, &range);
        assert_eq!(series.columns.len(), 120);
        let first = &series.columns[0];
        assert_eq!((first.requests, first.failed, first.rate(), first.success()), (150, 3, 5.0, Some(0.98)));
        assert!(first.is_covered() && first.p50_ms.is_some());
        let second = &series.columns[1];
        assert!(!second.is_covered());
        assert_eq!((second.rate(), second.uncovered_ms()), (10.0, 25_000));
        let last = &series.columns[119];
        // Of the present only what has passed can be counted.
        assert_eq!((last.seconds, last.is_covered(), last.rate()), (10, true, 2.0));
        assert_eq!((series.all.requests, series.all.failed), (220, 13));
        assert_eq!(series.uncovered_seconds, 25 + 117 * 30);
        assert_eq!((series.highest_rate(), series.is_empty()), (10.0, false));
        assert!(Series::read(&Kept(Vec::new()), &Subject::Route { name: "r".into() }, &range).is_empty());
    }
}
