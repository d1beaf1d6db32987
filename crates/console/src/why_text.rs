//! The decision path of a request, or of a transaction, as text for a terminal: what `GET /why/ID` and `GET /v1/why/ID` answer to curl, and
//! what `evenkeel why` prints. Aligned columns, no colour, no control characters.

use std::fmt::Write as _;

use kernel::journal::Record;
use kernel::trace::{RequestTrace, Why};

use crate::{when, why_words, words};

/// What is known of `id`, and the records of the journal of those minutes.
pub fn render(id: &str, why: &Why, records: &[Record], now_unix_ms: u64) -> String {
    let mut out = String::new();
    match why {
        Why::Found(traces) => {
            if traces.len() > 1 {
                let id = why_words::shown_id(id);
                // Writing to a String cannot fail; the results below carry nothing.
                let _infallible = writeln!(out, "{} requests had the id {id}, the newest first.\n", traces.len());
            }
            traces.iter().for_each(|t| trace(&mut out, t, now_unix_ms));
        }
        Why::NotKept { .. } => {
            for sentence in why_words::not_kept(id, why, now_unix_ms) {
                let _infallible = writeln!(out, "{sentence}");
            }
        }
    }
    if !records.is_empty() {
        let _infallible = writeln!(out, "journal of those minutes (UTC)");
        records.iter().for_each(|record| journal(&mut out, record));
    }
    // No thin spaces within numbers here: a script may want to read them.
    out.replace('\u{202f}', "")
}

fn trace(out: &mut String, t: &RequestTrace, now_unix_ms: u64) {
    let at_ms = t.at_unix_us / 1_000;
    let _infallible = writeln!(out, "{}", why_words::request(t));
    let _infallible = writeln!(out, "  {} ({})", when::machine(at_ms), when::ago(at_ms, now_unix_ms));
    let _infallible = writeln!(out, "  {}", why_words::about(t));
    let _infallible = writeln!(out, "  id {}\n", why_words::shown_id(&t.id));
    let _infallible = writeln!(out, "{}", why_words::ended(t));
    let _infallible = writeln!(out, "{}\n", why_words::why_kept(&t.kept));
    let times: Vec<String> = t.steps.iter().map(|step| why_words::at(step.at_us)).collect();
    let took = why_words::at(t.end.took_us);
    let width = times.iter().map(|time| time.chars().count()).chain([took.chars().count()]).max().unwrap_or_default();
    let has_tries = t.steps.iter().any(|step| why_words::step(step).number > 0);
    let mark = |number: u32| match (has_tries, number) {
        (false, _) => String::new(),
        (true, 0) => " ".repeat(7),
        (true, n) => format!("{:<7}", format!("try {n}")),
    };
    for (step, time) in t.steps.iter().zip(&times) {
        let words = why_words::step(step);
        let _infallible = writeln!(out, "  {time:>width$}  {}{}", mark(words.number), words.text);
    }
    if t.clipped {
        let _infallible = writeln!(out, "  {:>width$}  {}more happened than a trace has room for", "…", mark(0));
    }
    let _infallible = writeln!(out, "  {took:>width$}  {}the end\n", mark(0));
}

/// One line of the journal: time, level, kind, what happened.
pub(crate) fn journal(out: &mut String, r: &Record) {
    let times = if r.count > 1 {
        format!(" ({} times since {})", words::grouped(r.count), when::clock(r.at_unix_ms))
    } else {
        String::new()
    };
    let sentence = words::tame(&r.sentence.replace('\n', "; "));
    let (clock, kind) = (when::clock(r.until_unix_ms), words::tame(&r.kind));
    let _infallible = writeln!(out, "  {clock}  {:<5}  {kind:<20}  {sentence}{times}", r.level.word());
}

#[cfg(test)]
#[path = "why_text_tests.rs"]
mod tests;
