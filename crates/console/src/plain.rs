//! The state as text for a terminal: aligned columns, no colour, no control characters, width about a hundred.

use std::fmt::Write as _;
use std::time::Duration;

use kernel::store::FileHealth;
use kernel::trace::TraceLine;

use crate::facts::Records;
use crate::facts::home::Home;
use crate::facts::pool::PoolFacts;
use crate::facts::subject::{Past, RouteFacts, ServiceFacts};
use crate::status::{ServiceStatus, Status, Traffic};
use crate::{pool_plain, when, why_text, why_words, words};

/// The whole state.
pub(crate) fn home(home: &Home) -> String {
    let status = &home.status;
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
        words::tame(&home.headline.headline),
    );
    for sentence in &home.headline.doing {
        let _infallible = writeln!(out, "{}", words::tame(sentence));
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

    pool_plain::pools(&mut out, &status.pools);
    second_tries(&mut out, status.services.iter());
    endpoints(&mut out, status.services.iter());
    changes(&mut out, "what changed (UTC)", &home.changes);
    store(&mut out, &home.store);
    config(&mut out, status);
    out
}

/// One service.
pub(crate) fn service(facts: &ServiceFacts) -> String {
    let service = &facts.status;
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
        let _infallible = writeln!(out, "tier           {} of {}{why}\n", service.active_tier, service.tiers);
    }
    past(&mut out, &facts.past);
    out
}

/// One route.
pub(crate) fn route(facts: &RouteFacts) -> String {
    let mut out = String::new();
    let golden = ["REQ/S", "SUCCESS", "P50", "P95", "P99", "IN FLIGHT", "TOTAL", "FAILED"];
    table(&mut out, "ROUTE", &golden, 8, std::iter::once((facts.status.name.as_str(), signals(&facts.status))));
    past(&mut out, &facts.past);
    out
}

/// One pool.
pub(crate) fn pool(facts: &PoolFacts) -> String {
    let mut out = String::new();
    pool_plain::one(&mut out, facts);
    past(&mut out, &facts.past);
    out
}

/// The journal, newest first, a line each.
pub(crate) fn journal(records: &Records, now_unix_ms: u64) -> String {
    let mut out = String::new();
    if !records.trouble.is_empty() {
        let _infallible = writeln!(out, "{}", words::tame(&records.trouble));
    } else if records.records.is_empty() {
        out.push_str("Nothing in the journal is like that.\n");
    }
    let mut day = String::new();
    for record in &records.records {
        let its = when::day(record.at_unix_ms);
        if its != day {
            let _infallible = writeln!(out, "{its} (UTC)");
            day = its;
        }
        why_text::journal(&mut out, record);
    }
    if records.more {
        out.push_str("There is more; limit=500 shows more at once, and before=CURSOR goes on.\n");
    }
    let _infallible = writeln!(out, "as of {}", when::full(now_unix_ms));
    out.replace('\u{202f}', "")
}

/// Requests whose traces are kept.
pub(crate) fn traces(traces: &[TraceLine], now_unix_ms: u64) -> String {
    let mut out = String::new();
    trace_lines(&mut out, traces, now_unix_ms);
    if traces.is_empty() {
        out.push_str("No trace is kept yet.\n");
    }
    out
}

fn trace_lines(out: &mut String, traces: &[TraceLine], now_unix_ms: u64) {
    let heads = ["GOT", "AFTER", "TRIES", "WHEN", "REQUEST", "KEPT BECAUSE"];
    let rows = traces.iter().map(|t| {
        let kept: Vec<_> = t.kept.iter().map(|kept| kept.words()).collect();
        let cells = vec![
            if t.status == 0 { "nothing".to_owned() } else { t.status.to_string() },
            why_words::time(t.took_us),
            t.tries.to_string(),
            when::ago(t.at_unix_us / 1_000, now_unix_ms),
            format!("{} {}", t.method, t.target),
            kept.join("; "),
        ];
        (t.id.as_str(), cells)
    });
    table(out, "ID", &heads, 3, rows);
}

/// What happened over a range.
fn past(out: &mut String, past: &Past) {
    let all = &past.series.all;
    let [from, until] = [past.range.from_unix_s, past.range.until_unix_s].map(|s| when::full(s * 1_000));
    let _infallible = writeln!(out, "from {from} to {until}");
    if !past.series.trouble.is_empty() {
        let _infallible = writeln!(out, "  {}", words::tame(&past.series.trouble));
    } else if past.series.is_empty() {
        out.push_str("  nothing was counted\n");
    } else {
        let [p50, p95, p99] = [all.p50_ms, all.p95_ms, all.p99_ms].map(words::latency);
        let (rate, success) = (words::rate(all.rate()), words::success(all.success()));
        let _infallible =
            writeln!(out, "  {rate} {}/s, {success} successful, p50 {p50}, p95 {p95}, p99 {p99}", past.noun);
        if past.series.uncovered_seconds > 0 {
            let gap = words::span(Duration::from_secs(past.series.uncovered_seconds));
            let _infallible = writeln!(out, "  nothing was counted for {gap} of it");
        }
    }
    out.push('\n');
    changes(out, "what happened (UTC)", &past.events);
    trace_lines(out, &past.troubled, past.at_unix_ms);
}

fn changes(out: &mut String, title: &str, records: &Records) {
    if !records.trouble.is_empty() {
        let _infallible = writeln!(out, "{}\n", words::tame(&records.trouble));
    }
    if !records.records.is_empty() {
        let _infallible = writeln!(out, "{title}");
        records.records.iter().for_each(|record| why_text::journal(out, record));
        out.push('\n');
    }
}

fn store(out: &mut String, files: &[FileHealth]) {
    let heads = ["SIZE", "OF", "WAITING", "DROPPED", "STATE", "WHERE"];
    let rows = files.iter().map(|f| {
        let place = if f.trouble.is_empty() { f.path.clone() } else { format!("{}: {}", f.path, f.trouble) };
        let state = format!("{} for {}", f.state.word(), words::span(Duration::from_millis(f.since_ms)));
        let counts = [f.waiting, f.dropped].map(words::grouped);
        let [waiting, dropped] = counts;
        (f.file, vec![words::size(f.bytes), words::size(f.cap_bytes), waiting, dropped, state, place])
    });
    table(out, "FILE", &heads, 4, rows);
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
pub(crate) fn table<'a>(
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
