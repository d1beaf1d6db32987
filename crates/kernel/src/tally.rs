//! Exact counts of what flowed: every request and every transaction, never sampled, as integers. The data plane counts at the record step; a
//! keeper takes what was added each second ([`TallySource`]), and whoever shows it reads it back ([`TallyReader`]).
//!
//! A request belongs to the second in which its end was counted. What a process that is killed had not handed over yet,
//! at most a second, is lost, and that second is not *covered*: a period says how much of it was ([`Period::covered_ms`]).

use std::fmt::{self, Debug};
use std::io;

use serde::Serialize;

use crate::metrics::{LATENCY_BOUNDS_US, LatencySum};

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "scope", rename_all = "lowercase")]
pub enum Subject {
    /// A route.
    Route {
        /// Its name.
        name: String,
    },
    /// A service.
    Service {
        /// Its name.
        name: String,
    },
    /// An endpoint: attempts, so one request may count at two endpoints.
    Endpoint {
        /// Its service.
        service: String,
        /// Its name.
        name: String,
    },
    /// A pool: transactions. Those that ended well stand where answers of 2xx do, those that failed or were turned away
    /// where 5xx does.
    Pool {
        /// Its name.
        name: String,
    },
}

/// How much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By class of answer: 1xx, 2xx, 3xx, 4xx, 5xx, no whole answer.
    pub by_class: [u64; 6],
    /// Time to the end of the answer; as many observations as there are answers.
    pub latency: LatencySum,
    /// Second tries (of a service; 0 elsewhere).
    pub second_tries: u64,
}

/// The counts of a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Its beginning, in seconds since the Unix epoch.
    pub start_unix_s: u64,
    /// Its length, in seconds.
    pub seconds: u32,
    /// How much of it was counted by a process, in milliseconds; less than its length where none ran, or one was killed.
    pub covered_ms: u32,
    /// How much flowed.
    pub counts: Counts,
}

/// How long the periods are that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// 15 seconds, kept for 15 days.
    Quarter,
    /// A minute, kept for 35 days.
    Minute,
    /// An hour, kept for 13 months.
    Hour,
}

/// Whatever counts.
pub trait TallySource: Send + Sync + Debug {
    /// What was added since the last call, by subject; nothing for those to which nothing was added. Called by one thread.
    fn take(&self) -> Vec<(Subject, Counts)>;
}

/// Whatever keeps counts. Calls may block on a disk.
pub trait TallyReader: Send + Sync + Debug {
    /// The periods of `subject` that begin at or after `from` and before `until` (seconds since the Unix epoch), oldest
    /// first, without those in which nothing was covered and nothing counted. The present one is in it as far as it goes.
    ///
    /// # Errors
    /// When they cannot be read now.
    fn read(&self, subject: &Subject, step: Step, from: u64, until: u64) -> io::Result<Vec<Period>>;
    /// What was ever counted and is still kept.
    ///
    /// # Errors
    /// When it cannot be read now.
    fn subjects(&self) -> io::Result<Vec<Subject>>;
}

impl Counts {
    /// All requests.
    pub fn total(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// Requests that failed: 5xx and those without a whole answer.
    pub fn failed(&self) -> u64 {
        self.by_class[4] + self.by_class[5]
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.total() == 0 && self.second_tries == 0 && self.latency.count() == 0
    }

    /// Adds another.
    pub fn add(&mut self, other: &Counts) {
        for (a, b) in self.by_class.iter_mut().zip(other.by_class) {
            *a += b;
        }
        self.latency.merge(&other.latency);
        self.second_tries += other.second_tries;
    }

    /// What was added since `then`, if nothing went down.
    pub fn since(&self, then: &Counts) -> Counts {
        let mut gained =
            Counts { second_tries: self.second_tries.saturating_sub(then.second_tries), ..Counts::default() };
        for (gain, (now, then)) in gained.by_class.iter_mut().zip(self.by_class.iter().zip(then.by_class)) {
            *gain = now.saturating_sub(then);
        }
        let buckets = self.latency.buckets.iter().zip(then.latency.buckets);
        for (gain, (now, then)) in gained.latency.buckets.iter_mut().zip(buckets) {
            *gain = now.saturating_sub(then);
        }
        gained.latency.sum_us = self.latency.sum_us.saturating_sub(then.latency.sum_us);
        gained
    }
}

impl Step {
    /// Its length in seconds.
    pub const fn seconds(self) -> u32 {
        match self {
            Step::Quarter => 15,
            Step::Minute => 60,
            Step::Hour => 3_600,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Route { name } => write!(f, "route {name}"),
            Subject::Service { name } => write!(f, "service {name}"),
            Subject::Endpoint { service, name } => write!(f, "endpoint {name} of {service}"),
            Subject::Pool { name } => write!(f, "pool {name}"),
        }
    }
}

/// Bounds of the latency buckets in seconds, for those who show them.
pub fn bounds_seconds() -> impl Iterator<Item = f64> {
    LATENCY_BOUNDS_US.iter().map(|us| *us as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_and_what_was_before_make_what_is() {
        let mut before = Counts { by_class: [0, 5, 0, 1, 2, 0], second_tries: 1, ..Counts::default() };
        before.latency.buckets[3] = 8;
        before.latency.sum_us = 900;
        let mut now = before.clone();
        now.by_class[1] += 7;
        now.latency.buckets[16] += 7;
        now.latency.sum_us += 70;
        let gained = now.since(&before);
        assert_eq!((gained.total(), gained.failed(), before.failed()), (7, 0, 2));
        before.add(&gained);
        assert_eq!(before, now);
    }
}
