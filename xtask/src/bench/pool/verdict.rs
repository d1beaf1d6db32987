//! From samples to what is printed: a table, and a line for each bound that the pooler is held to. Ratios are taken within
//! a round, where both were measured under the same conditions; their median counts, the quartiles say how steady it is.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::load::{CONNECT, Cell, Sample};
use super::peers::Peer;
use crate::bench::table::middle;

/// The samples of each cell and peer, in the order of the rounds.
pub(super) type Samples = BTreeMap<(Cell, Peer), Vec<Sample>>;

/// Memory of an idle client in KiB, by peer.
pub(super) type Idle = BTreeMap<Peer, f64>;

/// What is printed of one bound.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) what: String,
    pub(super) value: f64,
    quartiles: Option<(f64, f64)>,
    bound: f64,
    is_most: bool,
}

impl Verdict {
    pub(super) fn is_met(&self) -> bool {
        if self.is_most { self.value <= self.bound } else { self.value >= self.bound }
    }

    pub(super) fn json(&self) -> Value {
        json!({"what": self.what, "value": self.value, "bound": self.bound, "met": self.is_met()})
    }
}

/// The table: a line for each cell and peer.
pub(super) fn table(samples: &Samples) -> String {
    let heads = ["clients", "tps", "quartiles", "latency ms", "CPU us/tx", "quartiles", "user", "system"];
    let mut out = format!("{:<10}{:>8} {:<10}", "mode", heads[0], "");
    for (head, width) in heads[1..].iter().zip([10, 16, 12, 11, 14, 8, 8]) {
        write!(out, "{head:>width$}").ok();
    }
    for ((cell, peer), list) in samples {
        let of = |figure: fn(&Sample) -> f64| middle(list.iter().map(figure));
        let spread = |figure: fn(&Sample) -> f64, digits: usize| {
            let (low, high) = quartiles(list.iter().map(figure).collect());
            format!("{low:.digits$}-{high:.digits$}")
        };
        write!(out, "\n{:<10}{:>8} {:<10}{:>10.0}", cell.mode, cell.clients, peer.name(), of(|s| s.per_second)).ok();
        write!(out, "{:>16}{:>12.3}", spread(|s| s.per_second, 0), of(|s| s.latency_ms)).ok();
        if *peer != Peer::Direct {
            write!(out, "{:>11.2}{:>14}", of(Sample::cpu_us), spread(Sample::cpu_us, 1)).ok();
            write!(out, "{:>8.2}{:>8.2}", of(|s| s.user_us), of(|s| s.system_us)).ok();
        }
    }
    out.push('\n');
    out
}

/// What the pooler is held to, as far as it was measured.
pub(super) fn verdicts(samples: &Samples, idle: &Idle) -> Vec<Verdict> {
    let mut out = Vec::new();
    let mut hold =
        |what: String, own: (Cell, Peer), other: (Cell, Peer), figure: fn(&Sample) -> f64, bound, is_most| {
            let (Some(own), Some(other)) = (samples.get(&own), samples.get(&other)) else { return };
            let ratios: Vec<f64> = own.iter().zip(other).map(|(own, other)| figure(own) / figure(other)).collect();
            let value = middle(ratios.iter().copied());
            out.push(Verdict { what, value, quartiles: Some(quartiles(ratios)), bound, is_most });
        };
    let of = |mode, clients, peer| (Cell { mode, clients }, peer);
    let (ours, theirs) = (Peer::Evenkeel, Peer::Pgbouncer);
    for mode in ["simple", "extended"] {
        let what = format!("CPU a transaction, {mode}, 64 clients, relative to pgbouncer");
        hold(what, of(mode, 64, ours), of(mode, 64, theirs), Sample::cpu_us, 1.0, true);
    }
    let what = "CPU a transaction, prepared, 64 clients, relative to our extended".to_owned();
    hold(what, of("prepared", 64, ours), of("extended", 64, ours), Sample::cpu_us, 1.2, true);
    for (cell, peer) in samples.keys().filter(|(cell, _)| cell.mode != CONNECT) {
        if *peer == theirs {
            let what = format!("transactions a second, {}, {} clients, relative to pgbouncer", cell.mode, cell.clients);
            hold(what, (*cell, ours), (*cell, theirs), |s| s.per_second, 0.95, false);
        }
    }
    for (cell, peer) in samples.keys().filter(|(cell, _)| cell.mode == CONNECT) {
        if *peer == theirs {
            let what = "connections a second, relative to pgbouncer".to_owned();
            hold(what, (*cell, ours), (*cell, theirs), |s| s.per_second, 1.0, false);
        }
    }
    if let Some(value) = idle.get(&ours) {
        let what = "KiB of an idle client".to_owned();
        out.push(Verdict { what, value: *value, quartiles: None, bound: 3.0, is_most: true });
    }
    out
}

/// A line for each.
pub(super) fn lines(verdicts: &[Verdict]) -> String {
    let mut out = String::new();
    for verdict in verdicts {
        let word = if verdict.is_met() { "met   " } else { "MISSED" };
        let range = verdict.quartiles.map_or_else(String::new, |(low, high)| format!(" ({low:.2}-{high:.2})"));
        let side = if verdict.is_most { "at most" } else { "at least" };
        writeln!(out, "{word} {}: {:.2}{range}, {side} {:.2}", verdict.what, verdict.value, verdict.bound).ok();
    }
    out
}

/// The lower and the upper quartile, between neighbours by their distance.
fn quartiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * values.len().saturating_sub(1) as f64;
        let (low, rest) = (place.floor() as usize, place.fract());
        let (Some(low), high) = (values.get(low), values.get(low + 1)) else { return 0.0 };
        low + (high.unwrap_or(low) - low) * rest
    };
    (at(0.25), at(0.75))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu: f64, per_second: f64) -> Sample {
        Sample { per_second, latency_ms: 1.0, user_us: cpu / 4.0, system_us: cpu * 3.0 / 4.0 }
    }

    #[test]
    fn a_bound_is_held_against_the_median_of_the_rounds_ratios() {
        let cell = Cell { mode: "simple", clients: 64 };
        let prepared = Cell { mode: "prepared", clients: 64 };
        // The second round was slow for both.
        let ours = vec![sample(8.0, 100.0), sample(80.0, 10.0), sample(9.0, 90.0)];
        let theirs = vec![sample(10.0, 100.0), sample(100.0, 10.0), sample(10.0, 100.0)];
        let samples: Samples = [
            ((cell, Peer::Evenkeel), ours.clone()),
            ((cell, Peer::Pgbouncer), theirs),
            ((prepared, Peer::Evenkeel), ours),
        ]
        .into();
        let verdicts = verdicts(&samples, &[(Peer::Evenkeel, 3.5)].into());
        let text = lines(&verdicts);
        assert!(text.contains("met    CPU a transaction, simple, 64 clients, relative to pgbouncer: 0.80 (0.80-0.85)"));
        assert!(text.contains("met    transactions a second, simple, 64 clients, relative to pgbouncer: 1.00"));
        assert!(text.contains("MISSED KiB of an idle client: 3.50, at most 3.00"), "{text}");
        // Nothing is said of what was not measured.
        assert_eq!(verdicts.len(), 3);
        assert!(table(&samples).lines().count() == 4);
    }

    #[test]
    fn quartiles_lie_between_neighbours() {
        assert_eq!(quartiles(vec![4.0, 1.0, 3.0, 2.0, 5.0]), (2.0, 4.0));
        assert_eq!(quartiles(vec![1.0, 2.0]), (1.25, 1.75));
        assert_eq!(quartiles(vec![7.0]), (7.0, 7.0));
        assert_eq!(quartiles(Vec::new()), (0.0, 0.0));
    }
}
