//! Small charts of the last half hour beside the figures of each route, service and endpoint. Where nothing is kept, they
//! show the last minute, from memory.

use std::collections::BTreeMap;

use kernel::tally::{Subject, TallyReader};
use serde::Serialize;

use super::range::Range;
use super::series::{Column, Series};

/// How far back they reach.
const SPARK_SECONDS: u64 = 1_800;

/// Subjects of which counts are read for one page; further ones have no spark.
const SUBJECTS_MAX: usize = 256;

/// Requests per second, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spark {
    /// The time from one point to the next, in seconds.
    pub(crate) point_seconds: f64,
    /// All requests; absent where nothing was counted.
    pub(crate) requests_per_second: Vec<Option<f64>>,
    /// Those that failed.
    pub(crate) failed_per_second: Vec<Option<f64>>,
}

/// The sparks of a page, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Sparks {
    pub(crate) routes: BTreeMap<String, Spark>,
    pub(crate) services: BTreeMap<String, Spark>,
}

impl Spark {
    /// From the counts that are kept; `None` if nothing is.
    pub(crate) fn of(series: &Series, point_seconds: u32) -> Option<Spark> {
        let point = |value: fn(&Column) -> f64| {
            let known = series.columns.iter().map(|c| (c.covered_ms > 0 || c.requests > 0).then(|| tenth(value(c))));
            known.collect()
        };
        (!series.is_empty()).then(|| Spark {
            point_seconds: point_seconds.into(),
            requests_per_second: point(Column::rate),
            failed_per_second: point(Column::failed_rate),
        })
    }

    /// From what memory has of the last minute.
    pub(crate) fn lately(points: &[(f64, f64)], point_seconds: f64) -> Option<Spark> {
        (points.len() > 1).then(|| Spark {
            point_seconds,
            requests_per_second: points.iter().map(|(all, _)| Some(tenth(*all))).collect(),
            failed_per_second: points.iter().map(|(_, failed)| Some(tenth(*failed))).collect(),
        })
    }

    /// How much time it is about.
    pub(crate) fn seconds(&self) -> f64 {
        self.point_seconds * self.requests_per_second.len() as f64
    }
}

/// What a spark cannot show need not be sent.
fn tenth(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

/// Reads the sparks of these subjects. Blocks.
pub(crate) fn read(reader: &dyn TallyReader, subjects: &[Subject], now_unix_s: u64) -> Vec<Option<Spark>> {
    let mut range = Range::last(SPARK_SECONDS, now_unix_s);
    // Half a minute a point: a spark is about sixty pixels wide.
    if range.column_seconds < 30 {
        range = Range { column_seconds: 30, ..range };
        let columns = SPARK_SECONDS / 30;
        range.until_unix_s = now_unix_s.div_ceil(30) * 30;
        range.from_unix_s = range.until_unix_s.saturating_sub(columns * 30);
    }
    let one = |subject: &Subject| Spark::of(&Series::read(reader, subject, &range), range.column_seconds);
    let read = subjects.iter().take(SUBJECTS_MAX).map(one);
    read.chain(subjects.iter().skip(SUBJECTS_MAX).map(|_| None)).collect()
}
