//! Over which time a chart is: `?range=1h` (6h, 24h, 7d), or `from` and `to`. It is cut into at most [`COLUMNS_MAX`]
//! columns of one length, each of whole periods of the finest step that is kept for so long.

use kernel::tally::Step;
use serde::Serialize;

use crate::problem::Problem;
use crate::query::{Params, wrong};

/// Columns of one chart: on a phone each is still some pixels wide.
pub(crate) const COLUMNS_MAX: u64 = 120;

/// The longest time that a chart shows: what is kept.
const LONGEST_S: u64 = 400 * 86_400;

/// Named ranges, in seconds.
pub(crate) const NAMED: [(&str, u64); 4] = [("1h", 3_600), ("6h", 21_600), ("24h", 86_400), ("7d", 604_800)];

/// The range when none is asked for.
const USUAL: (&str, u64) = NAMED[0];

/// The parameters of a page with a range.
pub(crate) const PARAMETERS: [&str; 3] = ["range", "from", "to"];

/// A stretch of time in columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Range {
    /// Its name, if it has one: it then ends now.
    pub(crate) name: Option<&'static str>,
    /// Its beginning, in seconds since the Unix epoch, at the beginning of a column.
    pub(crate) from_unix_s: u64,
    /// Its end; the last column may go beyond it.
    pub(crate) until_unix_s: u64,
    /// The length of a column.
    pub(crate) column_seconds: u32,
    #[serde(skip)]
    pub(crate) step: Step,
    /// The present, beyond which nothing can have been counted.
    #[serde(skip)]
    pub(crate) now_unix_s: u64,
}

impl Range {
    /// What a query asks for.
    pub(crate) fn read(query: Option<&str>, now_unix_ms: u64) -> Result<Range, Problem> {
        let params = Params::read(query, &PARAMETERS)?;
        let named = NAMED.map(|named| (named.0, named));
        let name = params.word("range", &named)?;
        let now = now_unix_ms / 1_000;
        let (from, to) = (params.instant("from", now_unix_ms)?, params.instant("to", now_unix_ms)?);
        if from.is_none() && to.is_none() {
            let (name, seconds) = name.unwrap_or(USUAL);
            return Ok(Range::new(Some(name), now.saturating_sub(seconds), now, now));
        }
        let span = name.map_or(USUAL.1, |(_, seconds)| seconds);
        let until = to.map_or(now, |ms| ms / 1_000);
        let from = from.map_or(until.saturating_sub(span), |ms| ms / 1_000);
        if from >= until {
            return Err(wrong("from", "it is not before the end; write from=2h, or a later `to`"));
        }
        if until - from > LONGEST_S {
            return Err(wrong("from", "so much time is not kept; 400 days are the most"));
        }
        Ok(Range::new(None, from, until, now))
    }

    /// The last `seconds` before `now`, in at most [`COLUMNS_MAX`] columns.
    pub(crate) fn last(seconds: u64, now_unix_s: u64) -> Range {
        Range::new(None, now_unix_s.saturating_sub(seconds), now_unix_s, now_unix_s)
    }

    fn new(name: Option<&'static str>, from: u64, until: u64, now: u64) -> Range {
        let span = (until - from).max(1);
        let step = match span {
            // Two hours of quarter minutes are 480 periods, two days of minutes 2 880.
            0..=7_200 => Step::Quarter,
            7_201..=172_800 => Step::Minute,
            _ => Step::Hour,
        };
        let length = u64::from(step.seconds());
        let column = span.div_ceil(COLUMNS_MAX).div_ceil(length) * length;
        // The boundaries stay where they are while time passes, so that columns do not change their heights.
        let until = until.div_ceil(column) * column;
        let columns = span.div_ceil(column);
        Range {
            name,
            from_unix_s: until.saturating_sub(columns * column),
            until_unix_s: until,
            column_seconds: u32::try_from(column).unwrap_or(u32::MAX),
            step,
            now_unix_s: now,
        }
    }

    /// How many columns there are.
    pub(crate) fn columns(&self) -> usize {
        ((self.until_unix_s - self.from_unix_s) / u64::from(self.column_seconds)) as usize
    }

    /// The query that asks for it again.
    pub(crate) fn query(&self) -> String {
        match self.name {
            Some(name) => format!("range={name}"),
            None => format!("from={}&to={}", self.from_unix_s * 1_000, self.until_unix_s * 1_000),
        }
    }

    /// The word for the step, in `/v1/tallies`.
    pub(crate) fn step_word(&self) -> &'static str {
        match self.step {
            Step::Quarter => "15s",
            Step::Minute => "1m",
            Step::Hour => "1h",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_772_366_407;

    fn range(query: &str) -> Range {
        Range::read(Some(query), NOW_S * 1_000).unwrap()
    }

    #[test]
    fn every_range_has_few_columns_of_whole_periods_that_stay_where_they_are() {
        for (query, column, step) in [
            ("", 30, Step::Quarter),
            ("range=6h", 180, Step::Minute),
            ("range=24h", 720, Step::Minute),
            ("range=7d", 7_200, Step::Hour),
            ("from=10m", 15, Step::Quarter),
            ("from=300d", 216_000, Step::Hour),
        ] {
            let range = range(query);
            assert_eq!((u64::from(range.column_seconds), range.step), (column, step), "{query}");
            assert!(range.columns() as u64 <= COLUMNS_MAX && range.columns() > 1, "{query}: {}", range.columns());
            assert!(range.from_unix_s.is_multiple_of(column) && range.until_unix_s >= NOW_S, "{query}");
        }
        let fixed = range("from=2026-02-01T00:00:00Z&to=2026-02-01T01:00:00Z");
        assert_eq!((fixed.until_unix_s - fixed.from_unix_s, fixed.name), (3_600, None));
        assert_eq!(range(&fixed.query()), fixed);
        assert_eq!(range(&range("range=7d").query()), range("range=7d"));
    }

    #[test]
    fn a_range_that_cannot_be_meant_is_refused() {
        for query in ["range=2h", "from=1h&to=2h", "from=500d", "from=soon", "range=1h&range=6h", "colour=red"] {
            assert!(Range::read(Some(query), NOW_S * 1_000).is_err(), "{query}");
        }
    }
}
