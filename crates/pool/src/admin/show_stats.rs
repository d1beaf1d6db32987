//! `SHOW STATS` and its kin: what was counted since the process started, and averages over the last period. Times are in
//! microseconds.

use std::collections::BTreeMap;

use super::AdminNode;
use super::averages::by_database;
use super::table::Type::{Numeric, Text};
use super::table::{Column, Value};
use crate::view::Totals;

/// What is counted of a database, or its average: a second for counts and bytes, each for times.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers([u64; 11]);

pub(super) const STATS: [Column; 23] = [
    ("database", Text),
    ("total_server_assignment_count", Numeric),
    ("total_xact_count", Numeric),
    ("total_query_count", Numeric),
    ("total_received", Numeric),
    ("total_sent", Numeric),
    ("total_xact_time", Numeric),
    ("total_query_time", Numeric),
    ("total_wait_time", Numeric),
    ("total_client_parse_count", Numeric),
    ("total_server_parse_count", Numeric),
    ("total_bind_count", Numeric),
    ("avg_server_assignment_count", Numeric),
    ("avg_xact_count", Numeric),
    ("avg_query_count", Numeric),
    ("avg_recv", Numeric),
    ("avg_sent", Numeric),
    ("avg_xact_time", Numeric),
    ("avg_query_time", Numeric),
    ("avg_wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
];

pub(super) const TOTALS: [Column; 12] = [
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("client_parse_count", Numeric),
    ("server_parse_count", Numeric),
    ("bind_count", Numeric),
];

/// The names are uneven in PgBouncer, and so here.
pub(super) const AVERAGES: [Column; 12] = [
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
];

/// Names in `SHOW TOTALS`, behind `total_` and `avg_`.
const NAMES: [&str; 11] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
];

impl Numbers {
    fn totals(t: &Totals) -> Numbers {
        Numbers([
            t.assignments,
            t.transactions,
            t.queries,
            t.received,
            t.sent,
            t.transaction.sum_us,
            t.query.sum_us,
            t.wait.sum_us,
            t.client_parses,
            t.server_parses,
            t.binds,
        ])
    }

    /// What is the average of what came between two looks that are `us` microseconds apart.
    fn averages(now: &Totals, then: &Totals, us: u64) -> Numbers {
        let (now, then) = (Numbers::totals(now).0, Numbers::totals(then).0);
        let gained: [u64; 11] = std::array::from_fn(|at| now[at].saturating_sub(then[at]));
        let a_second = |n: u64| ((u128::from(n) * 1_000_000) / u128::from(us.max(1))) as u64;
        let [assignments, transactions, queries, ..] = gained;
        Numbers(std::array::from_fn(|at| match at {
            5 => gained[at] / transactions.max(1),
            6 => gained[at] / queries.max(1),
            7 => gained[at] / assignments.max(1),
            _ => a_second(gained[at]),
        }))
    }

    fn values(self) -> impl Iterator<Item = Value> {
        self.0.into_iter().map(Value::from)
    }
}

/// Totals and averages by database.
fn both(node: &dyn AdminNode) -> BTreeMap<String, (Numbers, Numbers)> {
    let earlier = node.earlier();
    let us = u64::try_from(earlier.age.as_micros()).unwrap_or(u64::MAX);
    let none = Totals::default();
    let numbers = |(database, now): (String, Totals)| {
        let then = earlier.totals.get(&database).unwrap_or(&none);
        let averages = Numbers::averages(&now, then, us);
        (database, (Numbers::totals(&now), averages))
    };
    by_database(&node.pools()).into_iter().map(numbers).collect()
}

fn row(database: String, numbers: impl Iterator<Item = Value>) -> Vec<Value> {
    std::iter::once(Value::from(database)).chain(numbers).collect()
}

pub(super) fn stats(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let all = both(node).into_iter();
    all.map(|(database, (totals, averages))| row(database, totals.values().chain(averages.values()))).collect()
}

pub(super) fn stats_totals(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    both(node).into_iter().map(|(database, (totals, _))| row(database, totals.values())).collect()
}

pub(super) fn averages(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    both(node).into_iter().map(|(database, (_, averages))| row(database, averages.values())).collect()
}

/// All databases together.
pub(super) fn totals(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let sum = |all: &mut dyn Iterator<Item = &Totals>| {
        let mut sum = Totals::default();
        all.for_each(|totals| sum.add(totals));
        sum
    };
    let (now, earlier) = (by_database(&node.pools()), node.earlier());
    let (now, then) = (sum(&mut now.values()), sum(&mut earlier.totals.values()));
    let us = u64::try_from(earlier.age.as_micros()).unwrap_or(u64::MAX);
    let named = |prefix: &'static str, numbers: Numbers| {
        NAMES.iter().zip(numbers.values()).map(move |(name, value)| vec![format!("{prefix}_{name}").into(), value])
    };
    named("total", Numbers::totals(&now)).chain(named("avg", Numbers::averages(&now, &then, us))).collect()
}
