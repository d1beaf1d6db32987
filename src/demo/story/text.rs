//! The story for people: aligned text, a heading for each chapter, and a table at the end. The lines `gateway http://…`
//! and `console http://…` are a contract, as they are in the plain demo.

use std::fmt::Write as _;
use std::net::SocketAddr;

use console::why_text;
use kernel::trace::Why;

use super::Whole;
use super::chapters::{CHAPTERS, Chapter};
use super::told::{Seen, Told};

pub(super) fn begin(gateway: SocketAddr, console: SocketAddr, replicas: usize, rate: u32) -> String {
    format!(
        "gateway http://{gateway}\nconsole http://{console}\n\n\
         {replicas} copies of a small shop stand behind the gateway, and {rate} requests a second flow through it. In {}\n\
         chapters, about a minute in all, one thing after the other goes wrong. Open http://{console} in a\n\
         browser to see it as the console tells it. Ctrl-C ends it.\n",
        CHAPTERS.len(),
    )
}

pub(super) fn heading(number: usize, chapter: &Chapter) -> String {
    format!("\n{number}  {}: {}\n", chapter.name, chapter.title)
}

pub(super) fn deed(what: &str, after_ms: u64) -> String {
    format!("   {}  {what}\n", after(after_ms))
}

/// A time within a chapter.
fn after(ms: u64) -> String {
    format!("{:>8}", format!("+{}", seconds(ms)))
}

fn seconds(ms: u64) -> String {
    format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10)
}

pub(super) fn told(told: &Told, now_unix_ms: u64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail; the results below carry nothing.
    let _infallible = writeln!(text, "\n   clients saw     {}", seen(&told.clients, "request"));
    if let Some(flood) = &told.flood {
        let _infallible = writeln!(text, "                   {}", seen(flood, "report"));
    }
    if told.records.is_empty() {
        text.push_str("   the gateway     told nothing\n");
    } else {
        text.push_str("   the gateway told\n");
    }
    for record in &told.records {
        let at = after(record.at_unix_ms.saturating_sub(told.began_unix_ms));
        let often = if record.count > 1 { format!(" ({} times)", record.count) } else { String::new() };
        let (level, kind, sentence) = (record.level.word(), &record.kind, &record.sentence);
        let _infallible = writeln!(text, "   {at}  {level:<5}  {kind:<21}  {sentence}{often}");
    }
    if let Some(path) = &told.path {
        text.push_str("   one of the requests\n");
        let why = why_text::render(&path.id, &Why::Found(vec![path.clone()]), &[], now_unix_ms);
        for line in why.lines().filter(|line| !line.is_empty()) {
            let _infallible = writeln!(text, "     {line}");
        }
    }
    for problem in &told.problems {
        let _infallible = writeln!(text, "   NOT AS IT SHOULD BE: {problem}");
    }
    text
}

fn seen(seen: &Seen, noun: &str) -> String {
    let millis = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let failed = match (seen.failed, &seen.by_status) {
        (0, _) => "0 failed".to_owned(),
        (failed, by_status) => {
            let bad = by_status.iter().filter(|(status, _)| !(200..300).contains(*status));
            let bad = bad.map(|(status, n)| match status {
                0 => format!("{n} without an answer"),
                status => format!("{n} with {status}"),
            });
            let unsent = (seen.unsent > 0).then(|| format!("{} not sent", seen.unsent));
            format!("{failed} failed ({})", bad.chain(unsent).collect::<Vec<_>>().join(", "))
        }
    };
    format!(
        "{} {noun}s, {failed}; p50 {}, p99 {}, slowest {}",
        seen.requests,
        millis(seen.p50_ms),
        millis(seen.p99_ms),
        millis(Some(seen.slowest_ms)),
    )
}

/// The table, and whether both sides have counted the same.
pub(super) fn end(all: &[Told], whole: &Whole) -> String {
    let head = ["chapter", "clients saw", "the gateway", "recovered after"].map(str::to_owned);
    let rows = all.iter().map(|told| {
        let as_it_should = if told.problems.is_empty() { "" } else { "  (not as it should be)" };
        let recovered = told.recovered_after_ms.map_or_else(|| "-".to_owned(), seconds);
        [told.chapter.to_owned(), in_short(told), did(told), format!("{recovered}{as_it_should}")]
    });
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let mut text = "\n".to_owned();
    for [chapter, clients, gateway, recovered] in &rows {
        let [a, b, c] = widths;
        let _infallible = writeln!(text, "{chapter:<a$}   {clients:<b$}   {gateway:<c$}   {recovered}");
    }
    text.push('\n');
    let sum = |of: fn(&super::TrafficReport) -> u64| whole.seen.iter().map(of).sum::<u64>();
    let (sent, failed) = (sum(|r| r.by_status.values().sum()), sum(|r| r.failed - r.unsent));
    let (counted, bad) = (whole.counted.iter().sum::<u64>(), whole.counted[3..].iter().sum::<u64>());
    let _infallible = writeln!(text, "clients counted {sent} answers, {failed} of them failures");
    let _infallible = writeln!(text, "the gateway     {counted} answers, {bad} of them failures");
    let wrong = all.iter().filter(|told| !told.problems.is_empty()).count();
    let verdict = match (whole.is_interrupted, wrong) {
        (true, 0) => format!("ended in the middle, after {} of {} chapters", all.len(), CHAPTERS.len()),
        (false, 0) => format!("all {} chapters went as they should", all.len()),
        (_, wrong) => format!("{wrong} of {} chapters did not go as they should", all.len()),
    };
    let _infallible = writeln!(text, "{verdict}");
    text
}

fn in_short(told: &Told) -> String {
    let Seen { requests, failed, slowest_ms, .. } = &told.clients;
    let shop = format!("{requests} requests, {failed} failed, slowest {slowest_ms:.0} ms");
    match &told.flood {
        None => shop,
        Some(flood) => format!("{shop}; {} reports, {} turned away", flood.requests, flood.with(503)),
    }
}

/// What the gateway did, in a few words made of what it told.
fn did(told: &Told) -> String {
    let done = told.done_unix_ms.unwrap_or(told.began_unix_ms);
    let mut parts = Vec::new();
    for hurt in &told.hurt {
        let ejected = |r: &&kernel::journal::Record| {
            r.kind == "endpoint.ejected" && r.service == "shop" && r.endpoint == hurt.address
        };
        if let Some(record) = told.records.iter().find(ejected).filter(|_| told.hurt.len() == 1) {
            let after = seconds(record.at_unix_ms.saturating_sub(done));
            parts.push(format!("took replica {} out after {after}", hurt.replica));
        }
    }
    if let Some(record) = told.records.iter().find(|r| r.kind == "parking.ended") {
        let parked = record.data.get("parked").and_then(serde_json::Value::as_u64).unwrap_or(0);
        parts.push(format!("let {parked} requests wait"));
    }
    if told.flood.is_some() {
        parts.push("kept the queue of reports short".to_owned());
    }
    if told.second_tries > 0 {
        parts.push(format!("{} second tries", told.second_tries));
    }
    if parts.is_empty() { "had nothing to do".to_owned() } else { parts.join(", ") }
}
