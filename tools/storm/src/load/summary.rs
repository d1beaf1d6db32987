//! From the outcomes of a run to its figures. Phases go by when a request was due: before the fault, during it, after it.
//! Shares are in percent, latencies in milliseconds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Flow;
use super::record::{KINDS, Kind, Record};

/// Steps of the rule of recovery in a second.
const STEPS: usize = 10;
/// Windows that must be good besides the first one, in steps.
const GUARD: usize = 20;
/// What counts as recovered.
const RECOVERED: f64 = 0.999;

/// What divides a run, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) inject: f64,
    pub(crate) heal: f64,
    /// What recovery counts from.
    pub(crate) recover_from: f64,
    pub(crate) end: f64,
    /// An answer counts as fast up to this.
    pub(crate) good_ms: u64,
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

fn percent(part: usize, whole: usize) -> Value {
    if whole == 0 { Value::Null } else { json!(rounded(part as f64 / whole as f64 * 100.0, 3)) }
}

/// The value below which a share of the sorted values lies.
fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).or(sorted.last()).copied().unwrap_or(0)
}

/// Quantiles of times in microseconds, in milliseconds; null without any.
fn quantiles(times: impl Iterator<Item = u64>) -> Value {
    let mut sorted: Vec<u64> = times.collect();
    sorted.sort_unstable();
    if sorted.is_empty() {
        return Value::Null;
    }
    let ms = |share| rounded(quantile(&sorted, share) as f64 / 1e3, 2);
    json!({"p50_ms": ms(0.5), "p90_ms": ms(0.9), "p99_ms": ms(0.99), "p999_ms": ms(0.999), "max_ms": ms(1.0)})
}

/// A phase or a class of requests.
fn part(records: &[&Record], good_ms: u64) -> Value {
    let ok: Vec<&Record> = records.iter().copied().filter(|record| record.is_ok()).collect();
    let good = ok.iter().filter(|record| record.latency_us <= good_ms * 1000).count();
    let mut kinds = Map::new();
    for (name, kind) in KINDS {
        let count = records.iter().filter(|record| record.kind == kind).count();
        if count > 0 {
            kinds.insert(name.to_owned(), count.into());
        }
    }
    let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
    for record in records.iter().filter(|record| record.status >= 300) {
        *statuses.entry(record.status.to_string()).or_insert(0) += 1;
    }
    json!({
        "requests": records.len(), "ok": ok.len(), "failed": records.len() - ok.len(),
        "success_pct": percent(ok.len(), records.len()),
        "good": good, "good_pct": percent(good, records.len()), "slow": ok.len() - good,
        "kinds": kinds, "statuses": statuses,
        "latency_ok": quantiles(ok.iter().map(|record| record.latency_us)),
        "latency_all": quantiles(records.iter().map(|record| record.latency_us)),
        "first_byte_ok": quantiles(ok.iter().filter_map(|record| record.first_byte_us)),
    })
}

/// Seconds from `from` until a window of one second has recovered and so has every window that begins in the two seconds
/// after it. `Some(0)` if it never was below; `None` if it does not get there before `end`.
pub(crate) fn recover(records: &[Record], from: f64, end: f64) -> Option<f64> {
    let steps = (end * STEPS as f64).round() as usize;
    let mut counts = vec![(0_u32, 0_u32); steps];
    for record in records {
        let step = (record.at_us as usize * STEPS / 1_000_000).min(steps.checked_sub(1)?);
        counts[step].0 += 1;
        counts[step].1 += u32::from(record.is_ok());
    }
    let first = (from * STEPS as f64).round() as usize;
    let last = steps.checked_sub(STEPS)?;
    let is_fine = |window: usize| {
        let sum = counts[window..window + STEPS].iter().fold((0, 0), |sum, step| (sum.0 + step.0, sum.1 + step.1));
        f64::from(sum.1) >= f64::from(sum.0) * RECOVERED
    };
    let found = (first..=last).find(|at| (*at..=(*at + GUARD).min(last)).all(is_fine))?;
    Some((found - first) as f64 / STEPS as f64)
}

/// The worst second from `from` to `to`: its success and which one it is.
fn worst_second(records: &[Record], from: f64, to: f64) -> Value {
    let mut seconds: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for record in records.iter().filter(|record| is_in(record, from, to)) {
        let second = seconds.entry(record.at_us / 1_000_000).or_default();
        second.0 += 1;
        second.1 += usize::from(record.is_ok());
    }
    let share = |(all, ok): &(usize, usize)| *ok as f64 / *all as f64;
    let worst = seconds.iter().min_by(|a, b| share(a.1).total_cmp(&share(b.1)));
    worst.map_or(Value::Null, |(second, counts)| json!({"second": second, "success_pct": percent(counts.1, counts.0)}))
}

fn is_in(record: &Record, from: f64, to: f64) -> bool {
    let at = record.at_us as f64 / 1e6;
    at >= from && at < to
}

fn by_second(records: &[Record], end: f64, good_ms: u64) -> Vec<Value> {
    let of_second = |second: usize| {
        let all: Vec<&Record> = records.iter().filter(|record| record.at_us as usize / 1_000_000 == second).collect();
        let ok: Vec<u64> = all.iter().filter(|record| record.is_ok()).map(|record| record.latency_us).collect();
        let good = ok.iter().filter(|latency| **latency <= good_ms * 1000).count();
        let errors = all.iter().filter(|record| record.kind == Kind::ServerError).count();
        let timeouts = all.iter().filter(|record| record.kind == Kind::Timeout).count();
        json!({"second": second, "requests": all.len(), "ok": ok.len(), "good": good, "5xx": errors,
               "timeout": timeouts, "latency_ok": quantiles(ok.into_iter())})
    };
    (0..end.ceil() as usize).map(of_second).collect()
}

/// Everything that is known from the clients' side.
pub(crate) fn summary(records: &[Record], flows: &[Flow], marks: &Marks) -> Value {
    let Marks { inject, heal, recover_from, end, good_ms } = *marks;
    let select = |keep: &dyn Fn(&Record) -> bool| {
        let kept: Vec<&Record> = records.iter().filter(|record| keep(record)).collect();
        part(&kept, good_ms)
    };
    let is_during = |record: &Record| is_in(record, inject, heal);
    let recovered = recover(records, recover_from, end);
    let later = |at: f64| records.iter().filter(|record| !record.is_ok() && is_in(record, at, f64::MAX)).count();
    let attempts = |from: f64, to: f64| -> u64 {
        records.iter().filter(|record| is_in(record, from, to)).map(|record| u64::from(record.attempts)).sum()
    };
    let mut lags: Vec<u64> = records.iter().map(|record| record.lag_us).collect();
    lags.sort_unstable();
    let mut out = json!({
        "total": select(&|_| true),
        "before": select(&|record| is_in(record, 0.0, inject)),
        "during": select(&is_during),
        "after": select(&|record| is_in(record, heal, f64::MAX)),
        "worst_second": worst_second(records, 0.0, end),
        "worst_second_during": worst_second(records, inject, heal),
        "recover_s": recovered,
        "failed_after_recovery": recovered.map(|time| later(recover_from + time)),
        "client_attempts": attempts(0.0, f64::MAX),
        "client_attempts_during": attempts(inject, heal),
        "generator_lag_us": {"p50": quantile(&lags, 0.5), "p99": quantile(&lags, 0.99), "max": quantile(&lags, 1.0)},
        "seconds": by_second(records, end, good_ms),
    });
    if records.iter().any(|record| record.is_high) {
        out["priority"] = json!({
            "high_during": select(&|record| record.is_high && is_during(record)),
            "low_during": select(&|record| !record.is_high && is_during(record)),
        });
    }
    if flows.len() > 1 {
        let each = flows.iter().enumerate();
        let each = each.map(|(index, flow)| (flow.name.to_owned(), select(&|record| record.flow == index)));
        out["flows"] = Value::Object(each.collect());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: f64, kind: Kind) -> Record {
        Record {
            at_us: (at * 1e6).round() as u64,
            latency_us: 1000,
            first_byte_us: Some(900),
            lag_us: 0,
            kind,
            status: 0,
            attempts: 1,
            is_high: false,
            flow: 0,
        }
    }

    fn bad_between(from: f64, to: f64) -> Vec<Record> {
        let at = (0..2000).map(|number| f64::from(number) / 100.0);
        at.map(|at| record(at, if at >= from && at < to { Kind::Timeout } else { Kind::Ok })).collect()
    }

    #[test]
    fn recovery_counts_to_the_end_of_the_last_bad_window() {
        assert_eq!(recover(&bad_between(99.0, 99.0), 5.0, 20.0), Some(0.0));
        assert_eq!(recover(&bad_between(5.0, 7.0), 5.0, 20.0), Some(2.0));
        assert_eq!(recover(&bad_between(5.0, 20.0), 5.0, 20.0), None);
    }

    #[test]
    fn a_dip_shortly_after_counts_as_not_yet_recovered() {
        let mut records = bad_between(5.0, 6.0);
        for record in records.iter_mut().filter(|record| (7_500_000..7_600_000).contains(&record.at_us)) {
            record.kind = Kind::ServerError;
        }
        assert_eq!(recover(&records, 5.0, 20.0), Some(2.6));
    }

    #[test]
    fn phases_and_kinds_are_counted() {
        let marks = Marks { inject: 5.0, heal: 13.0, recover_from: 5.0, end: 20.0, good_ms: 500 };
        let mut records = bad_between(5.0, 6.0);
        records[0].latency_us = 700_000;
        let out = summary(&records, &[Flow::default()], &marks);
        assert_eq!(out["before"]["failed"], 0);
        assert_eq!(out["during"]["kinds"]["timeout"], 100);
        assert_eq!(out["during"]["success_pct"], 87.5);
        assert_eq!(out["total"]["slow"], 1);
        assert_eq!(out["worst_second_during"]["second"], 5);
        assert_eq!([&out["client_attempts"], &out["client_attempts_during"]], [2000, 800]);
        assert!(out["flows"].is_null() && out["priority"].is_null());
    }

    #[test]
    fn quantiles_are_ranks() {
        let values: Vec<u64> = (1..=1000).collect();
        assert_eq!([0.5, 0.99, 0.999, 1.0].map(|share| quantile(&values, share)), [500, 990, 999, 1000]);
        assert_eq!(quantile(&[], 0.5), 0);
        assert_eq!(quantile(&[7], 0.0), 7);
    }
}
