//! From samples to what is printed. Ratios are taken within a round, where both were measured under the same conditions,
//! and the median of the rounds' ratios is shown; a ratio of medians would mix rounds.

use std::fmt::Write;

use serde_json::{Value, json};

/// Those that others are compared with.
const PEERS: [&str; 3] = ["nginx", "haproxy", "envoy"];

/// One proxy in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) user_us: f64,
    pub(super) system_us: f64,
    /// Requests a second in the closed loop; the load's core may be the one that is full.
    pub(super) per_second: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    /// The most memory so far.
    pub(super) peak_kib: u64,
    /// The share of the core's time that others used; `None` for the upstream, which shares its core with the load.
    pub(super) others: Option<f64>,
    /// Requests that failed in either part.
    pub(super) errors: u64,
}

impl Sample {
    pub(super) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cpu_us": self.cpu_us(), "user_us": self.user_us, "system_us": self.system_us,
            "requests_per_second": self.per_second, "p50_us": self.p50_us, "p99_us": self.p99_us,
            "p999_us": self.p999_us, "peak_kib": self.peak_kib, "others": self.others, "errors": self.errors,
        })
    }
}

/// The middle value; the mean of the two in the middle if their number is even; 0 of none.
pub(super) fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// The median of each figure by itself, so that user and system need not add up to the whole.
pub(super) fn median(samples: &[Sample]) -> Sample {
    let of = |figure: fn(&Sample) -> f64| middle(samples.iter().map(figure));
    let cpu = of(Sample::cpu_us);
    let user = of(|s| s.user_us);
    Sample {
        user_us: user,
        // The whole is what is compared, so the parts give way.
        system_us: cpu - user,
        per_second: of(|s| s.per_second),
        p50_us: of(|s| s.p50_us as f64) as u64,
        p99_us: of(|s| s.p99_us as f64) as u64,
        p999_us: of(|s| s.p999_us as f64) as u64,
        peak_kib: of(|s| s.peak_kib as f64) as u64,
        others: samples[0].others.map(|_| of(|s| s.others.unwrap_or(0.0))),
        errors: samples.iter().map(|s| s.errors).sum(),
    }
}

/// Median, least and greatest of `figure` relative to the peer's, round by round.
fn ratio(own: &[Sample], peer: &[Sample], figure: fn(&Sample) -> f64) -> (f64, f64, f64) {
    let ratios: Vec<f64> = own.iter().zip(peer).map(|(own, peer)| figure(own) / figure(peer)).collect();
    let (least, greatest) = ratios.iter().fold((f64::MAX, f64::MIN), |(l, g), r| (l.min(*r), g.max(*r)));
    (middle(ratios.into_iter()), least, greatest)
}

/// The table, cheapest first.
pub(super) fn rows(rows: &[(&str, &[Sample])], versions: &[(&str, &str)]) -> String {
    let peers: Vec<(&str, &[Sample])> = rows.iter().filter(|(name, _)| PEERS.contains(name)).copied().collect();
    let mut out = format!("{:<24}{:>8}{:>7}{:>7}{:>13}", "", "CPU us", "user", "system", "min-max");
    for (name, _) in &peers {
        write!(out, "{:>11}", format!("x {name}")).ok();
    }
    let heads = ["req/s", "p50 us", "p99 us", "p99.9 us", "peak MiB", "others %"];
    for head in heads {
        write!(out, "{head:>10}").ok();
    }
    let mut sorted: Vec<_> = rows.iter().map(|(name, samples)| (*name, *samples, median(samples))).collect();
    sorted.sort_by(|a, b| a.2.cpu_us().total_cmp(&b.2.cpu_us()));
    for (name, samples, m) in sorted {
        let version = versions.iter().find(|(known, _)| *known == name).map_or("", |(_, version)| version);
        let least = samples.iter().map(Sample::cpu_us).fold(f64::MAX, f64::min);
        let most = samples.iter().map(Sample::cpu_us).fold(0.0, f64::max);
        let label: String = format!("{name} {version}").chars().take(23).collect();
        let range = format!("{least:.2}-{most:.2}");
        write!(out, "\n{label:<24}{:>8.2}{:>7.2}{:>7.2}{range:>13}", m.cpu_us(), m.user_us, m.system_us).ok();
        for (_, peer) in &peers {
            write!(out, "{:>11.2}", ratio(samples, peer, Sample::cpu_us).0).ok();
        }
        let others = m.others.map_or_else(|| "-".to_owned(), |others| format!("{:.1}", others * 100.0));
        write!(out, "{:>10.0}{:>10}{:>10}{:>10}", m.per_second, m.p50_us, m.p99_us, m.p999_us).ok();
        write!(out, "{:>10.1}{others:>10}", m.peak_kib as f64 / 1024.0).ok();
        if m.errors > 0 {
            write!(out, "  {} ERRORS", m.errors).ok();
        }
    }
    out.push('\n');
    out
}

/// One line for each peer: how `own` compares, with the range over the rounds.
pub(super) fn conclusion(rows: &[(&str, &[Sample])], own: &str) -> String {
    let Some((_, ours)) = rows.iter().find(|(name, _)| *name == own) else { return String::new() };
    let mut out = String::new();
    for (name, peer) in rows.iter().filter(|(name, _)| PEERS.contains(name)) {
        let shown = |figure| {
            let (middle, least, greatest) = ratio(ours, peer, figure);
            format!("{middle:.2} ({least:.2}-{greatest:.2})")
        };
        let (cpu, p50, p99) = (shown(Sample::cpu_us), shown(|s| s.p50_us as f64), shown(|s| s.p99_us as f64));
        writeln!(out, "{own} relative to {name:<8} CPU {cpu}   p50 {p50}   p99 {p99}").ok();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu: f64, p50: u64) -> Sample {
        Sample {
            user_us: cpu / 4.0,
            system_us: cpu * 3.0 / 4.0,
            per_second: 1e6 / cpu,
            p50_us: p50,
            p99_us: p50 * 2,
            p999_us: p50 * 3,
            peak_kib: 2048,
            others: Some(0.01),
            errors: 0,
        }
    }

    #[test]
    fn the_median_is_of_each_figure() {
        let m = median(&[sample(10.0, 100), sample(30.0, 300), sample(20.0, 200)]);
        assert_eq!((m.cpu_us(), m.p50_us, m.p99_us), (20.0, 200, 400));
        assert_eq!(middle([1.0, 2.0, 3.0, 4.0].into_iter()), 2.5);
        assert_eq!(middle(std::iter::empty()), 0.0);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The second round was slow for both: the ratio stays, that of the medians would not.
        let ours = [sample(8.0, 100), sample(80.0, 100), sample(9.0, 100)];
        let nginx = [sample(10.0, 100), sample(100.0, 50), sample(10.0, 200)];
        let (middle, least, greatest) = ratio(&ours, &nginx, Sample::cpu_us);
        assert!((middle - 0.8).abs() < 1e-9 && (least - 0.8).abs() < 1e-9 && (greatest - 0.9).abs() < 1e-9);
        let rows_of: [(&str, &[Sample]); 2] = [("evenkeel", &ours), ("nginx", &nginx)];
        let text = conclusion(&rows_of, "evenkeel");
        assert!(text.contains("CPU 0.80 (0.80-0.90)") && text.contains("p50 1.00 (0.50-2.00)"), "{text}");
    }

    #[test]
    fn the_table_is_sorted_and_shows_errors() {
        let (ours, nginx) = ([sample(8.0, 100)], [Sample { errors: 3, ..sample(10.0, 100) }]);
        let text = rows(&[("nginx", &nginx), ("evenkeel", &ours)], &[("nginx", "1.22.1"), ("evenkeel", "0.1.0")]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("x nginx") && !lines[0].contains("x envoy"), "{text}");
        assert!(lines[1].starts_with("evenkeel 0.1.0 ") && lines[1].contains("0.80"), "{text}");
        assert!(lines[2].starts_with("nginx 1.22.1 ") && lines[2].ends_with("3 ERRORS"), "{text}");
    }
}
