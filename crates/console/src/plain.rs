//! The state as text for a terminal: aligned columns, no colour, no control characters, width about a hundred.

use std::fmt::Write as _;
use std::time::Duration;

use crate::status::{ServiceStatus, Status, Traffic};
use crate::words;

/// The whole state.
pub(crate) fn home(status: &Status) -> String {
    let mut out = String::new();
    let ready = if status.readiness.ready { "ready" } else { "not ready" };
    // Writing to a String cannot fail; the results below carry nothing.
    let _infallible = writeln!(
        out,
        "evenkeel {}  {}  up {}  {}  {}  {ready}\n\n{}",
        words::tame(&status.version),
        status.level.label(),
        words::span(Duration::from_secs(status.uptime_seconds)),
        words::count(status.workers, "worker"),
        words::count(usize::try_from(status.connections).unwrap_or(usize::MAX), "connection"),
        words::tame(&status.summary),
    );
    for notice in &status.notices {
        let _infallible = writeln!(out, "{notice}");
    }
    out.push('\n');
    let golden = ["REQ/S", "SUCCESS", "P50", "P95", "P99", "IN FLIGHT", "TOTAL", "FAILED"];
    table(&mut out, "ROUTE", &golden, 8, status.routes.iter().map(|t| (t.name.as_str(), signals(t))));

    let heads = ["HEALTHY", "REQ/S", "SUCCESS", "P50", "P95", "P99", "IN FLIGHT", "TOTAL", "FAILED"];
    let services = status.services.iter().map(|s| {
        let mut cells = vec![format!("{}/{}", s.healthy, s.endpoints.len())];
        cells.extend(signals(&s.traffic));
        (s.traffic.name.as_str(), cells)
    });
    table(&mut out, "SERVICE", &heads, 9, services);

    second_tries(&mut out, status.services.iter());
    endpoints(&mut out, status.services.iter());
    config(&mut out, status);
    out
}

/// One service.
pub(crate) fn service(service: &ServiceStatus) -> String {
    let mut out = String::new();
    let golden = ["HEALTHY", "REQ/S", "SUCCESS", "P50", "P95", "P99", "IN FLIGHT", "TOTAL", "FAILED"];
    let mut cells = vec![format!("{}/{}", service.healthy, service.endpoints.len())];
    cells.extend(signals(&service.traffic));
    table(&mut out, "SERVICE", &golden, 9, std::iter::once((service.traffic.name.as_str(), cells)));
    second_tries(&mut out, std::iter::once(service));
    endpoints(&mut out, std::iter::once(service));
    if service.has_tiers() {
        let why = words::tame(&service.tier_reason);
        let why = if why.is_empty() { why } else { format!(", {why}") };
        let _infallible = writeln!(out, "tier           {} of {}{why}", service.active_tier, service.tiers);
    }
    out
}

/// What may be spent on second tries, for the services that have a budget or used one.
fn second_tries<'a>(out: &mut String, services: impl Iterator<Item = &'a ServiceStatus>) {
    let heads = ["BUDGET", "WAITING", "SECOND TRIES"];
    let rows = services.filter_map(|s| {
        let cells = [s.budget_in_words().unwrap_or_default(), s.waiting_in_words(), s.second_tries_in_words()];
        let dash = |text: String| if text.is_empty() { words::NONE.to_owned() } else { text };
        cells.iter().any(|c| !c.is_empty()).then(|| (s.traffic.name.as_str(), cells.map(dash).to_vec()))
    });
    table(out, "SERVICE", &heads, 0, rows);
}

fn endpoints<'a>(out: &mut String, services: impl Iterator<Item = &'a ServiceStatus> + Clone) {
    let tiers = services.clone().any(ServiceStatus::has_tiers);
    let mut heads = vec!["REQ/S", "SUCCESS", "P95", "IN FLIGHT", "CONNS", "IDLE", "SERVICE", "STATE", "REASON"];
    if tiers {
        heads.insert(6, "TIER");
    }
    let rows = services.flat_map(|s| {
        s.endpoints.iter().map(move |e| {
            let t = &e.traffic;
            let mut cells = vec![
                words::rate(t.requests_per_second),
                words::success(t.success_ratio),
                words::latency(t.latency_p95_ms),
                words::grouped(t.in_flight),
                words::grouped(e.connections),
                words::grouped(e.connections_idle),
            ];
            cells.extend(tiers.then(|| e.tier.to_string()));
            let since = e.since_seconds.map(|s| format!(" (for {})", words::span(Duration::from_secs(s))));
            let reason = format!("{}{}", e.reason, since.unwrap_or_default());
            cells.extend([s.traffic.name.clone(), e.state.label().to_owned(), reason]);
            (t.name.as_str(), cells)
        })
    });
    table(out, "ENDPOINT", &heads, if tiers { 7 } else { 6 }, rows);
}

fn signals(t: &Traffic) -> Vec<String> {
    vec![
        words::rate(t.requests_per_second),
        words::success(t.success_ratio),
        words::latency(t.latency_p50_ms),
        words::latency(t.latency_p95_ms),
        words::latency(t.latency_p99_ms),
        words::grouped(t.in_flight),
        words::grouped(t.requests_total),
        words::grouped(t.failed_total),
    ]
}

fn config(out: &mut String, status: &Status) {
    let config = &status.config;
    let _infallible = writeln!(
        out,
        "configuration  {}, {}",
        words::tame(&config.source),
        words::count(usize::try_from(config.reloads).unwrap_or(usize::MAX), "reload")
    );
    if let Some(reload) = &config.last_reload {
        let outcome = if reload.applied { "applied" } else { "refused" };
        let age = words::ago(Duration::from_secs(reload.age_seconds));
        let _infallible = writeln!(out, "last reload    {outcome} {age}: {}", words::tame(&reload.message));
        for finding in &reload.findings {
            let place = finding.place.as_ref().map(|p| format!("{}:{}:{}: ", p.file, p.line, p.column));
            let text = format!("{}{} ({})", place.unwrap_or_default(), finding.message, finding.remedy);
            let _infallible = writeln!(out, "               {}", words::tame(&text));
        }
    }
    if !status.listeners.is_empty() {
        let _infallible = writeln!(out, "serving on     {}", words::tame(&status.listeners.join(", ")));
    }
}

/// A table and an empty line; nothing without rows. The first column and those from `left` on are flush left.
fn table<'a>(
    out: &mut String,
    name: &str,
    heads: &[&str],
    left: usize,
    rows: impl Iterator<Item = (&'a str, Vec<String>)>,
) {
    let mut lines = vec![(name.to_owned(), heads.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>())];
    // No thin spaces within numbers here: a script may want to read them.
    let cell = |text: &String| words::tame(text).replace('\u{202f}', "");
    lines.extend(rows.map(|(name, cells)| (words::tame(name), cells.iter().map(cell).collect())));
    if lines.len() == 1 {
        return;
    }
    let wide = |text: &String| text.chars().count();
    let first = lines.iter().map(|(name, _)| wide(name)).max().unwrap_or_default();
    let widths: Vec<usize> = (0..heads.len())
        .map(|at| lines.iter().filter_map(|(_, cells)| cells.get(at)).map(wide).max().unwrap_or_default())
        .collect();
    for (name, cells) in &lines {
        let mut line = format!("{name:<first$}");
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let _infallible =
                if at >= left { write!(line, "  {cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push('\n');
}
