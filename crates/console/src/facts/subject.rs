//! One service or one route over a stretch of time: how it is, how much flowed, what changed meanwhile, and requests to
//! which something happened.

use std::collections::BTreeMap;

use kernel::Clock;
use kernel::journal::{JournalQuery, Record, unix_ms};
use kernel::tally::Subject;
use kernel::trace::{Kept, TRANSACTION, TraceLine};
use serde::Serialize;

use super::Records;
use super::home::spark_of_memory;
use super::range::Range;
use super::series::Series;
use super::spark::{self, Spark};
use crate::status::{ServiceStatus, Traffic};
use crate::view::Node;

/// Events that are shown.
const EVENTS: usize = 12;

/// Events that are read for them: what repeats is shown once.
const LOOKED_AT: usize = 60;

/// Changes that a chart marks, at most.
const MARKS: usize = 200;

/// Troubled requests that are shown.
const TRACES: usize = 10;

/// Traces that are looked through for troubled ones.
const TRACES_LOOKED_AT: usize = 200;

/// What flows through a pool.
pub(crate) const TRANSACTIONS: &str = "transactions";

/// A service.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ServiceFacts {
    #[serde(flatten)]
    pub(crate) status: ServiceStatus,
    #[serde(flatten)]
    pub(crate) past: Past,
    /// Small charts of its endpoints.
    pub(crate) sparks: BTreeMap<String, Spark>,
}

/// A route.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RouteFacts {
    #[serde(flatten)]
    pub(crate) status: Traffic,
    #[serde(flatten)]
    pub(crate) past: Past,
}

/// What happened in a range.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Past {
    /// What flows: `requests` or `transactions`.
    #[serde(skip)]
    pub(crate) noun: &'static str,
    /// When this was so.
    pub(crate) at_unix_ms: u64,
    /// Over which time.
    pub(crate) range: Range,
    /// How much flowed.
    pub(crate) series: Series,
    /// What changed in that time, about this or about the whole node.
    pub(crate) marks: Records,
    /// The newest events.
    pub(crate) events: Records,
    /// The newest requests that were not plain.
    pub(crate) troubled: Vec<TraceLine>,
}

impl ServiceFacts {
    /// Looks at everything. Blocks.
    pub(crate) fn look(node: &dyn Node, clock: &Clock, status: ServiceStatus, range: Range) -> ServiceFacts {
        let name = status.traffic.name.clone();
        let subjects: Vec<Subject> = status
            .endpoints
            .iter()
            .map(|e| Subject::Endpoint { service: name.clone(), name: e.traffic.name.clone() })
            .collect();
        let now_unix_s = unix_ms(clock.wall()) / 1_000;
        let read = spark::read(node.tallies().as_ref(), &subjects, now_unix_s);
        let named = status.endpoints.iter().zip(read).filter_map(|(e, spark)| {
            let spark = spark.or_else(|| spark_of_memory(&e.traffic));
            spark.map(|spark| (e.traffic.name.clone(), spark))
        });
        let sparks = named.collect();
        let past = Past::look(node, clock, &Subject::Service { name }, range);
        ServiceFacts { status, past, sparks }
    }
}

impl RouteFacts {
    /// Looks at everything. Blocks.
    pub(crate) fn look(node: &dyn Node, clock: &Clock, status: Traffic, range: Range) -> RouteFacts {
        let past = Past::look(node, clock, &Subject::Route { name: status.name.clone() }, range);
        RouteFacts { status, past }
    }
}

impl Past {
    pub(crate) fn look(node: &dyn Node, clock: &Clock, subject: &Subject, range: Range) -> Past {
        let service = match subject {
            Subject::Service { name } | Subject::Pool { name } => Some(name.as_str()),
            _ => None,
        };
        let marks = JournalQuery {
            marks: true,
            since_unix_ms: Some(range.from_unix_s * 1_000),
            until_unix_ms: Some(range.until_unix_s * 1_000),
            limit: MARKS,
            ..JournalQuery::default()
        };
        let marks = Records::read(node, &marks);
        // Events of a route are those of the node: which service it leads to the console does not know.
        let events = JournalQuery { service: service.map(str::to_owned), limit: LOOKED_AT, ..JournalQuery::default() };
        let is_wanted = |line: &TraceLine| match subject {
            Subject::Route { name } => line.route == *name,
            Subject::Pool { .. } => line.method == TRANSACTION,
            _ => true,
        };
        let is_troubled = |line: &TraceLine| line.kept.iter().any(|kept| *kept != Kept::Sample);
        // A transaction is one of a pool, which its target names, and of no service.
        let traces = node.traces(TRACES_LOOKED_AT, service.filter(|_| !matches!(subject, Subject::Pool { .. })));
        Past {
            noun: if matches!(subject, Subject::Pool { .. }) { TRANSACTIONS } else { "requests" },
            at_unix_ms: unix_ms(clock.wall()),
            series: Series::read(node.tallies().as_ref(), subject, &range),
            marks: match service {
                Some(service) => marks.that_touch(service),
                None => marks,
            },
            events: match service {
                Some(_) => Records::read(node, &events).folded().at_most(EVENTS),
                None => Records::default(),
            },
            troubled: traces.into_iter().filter(|t| is_wanted(t) && is_troubled(t)).take(TRACES).collect(),
            range,
        }
    }

    /// What changed while a column lasted, oldest first.
    pub(crate) fn marks_within(&self, start_unix_s: u64) -> Vec<&Record> {
        let (from, length) = (start_unix_s * 1_000, u64::from(self.range.column_seconds) * 1_000);
        let within = |r: &&Record| (from..from + length).contains(&r.at_unix_ms);
        self.marks.records.iter().rev().filter(within).collect()
    }
}
