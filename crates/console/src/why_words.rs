//! What was done with a request, or a transaction, in words: the same for the page, for `text/plain` and so for `evenkeel why`.

use kernel::trace::{BudgetLeft, Kept, RequestTrace, Step, What, Why};
use serde::Serialize;

use crate::{when, words};

/// How grave a step is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
}

/// One step: to which try it belongs, and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepWords {
    /// The number of its try; 0: it belongs to none.
    pub(crate) number: u32,
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

/// One try, from its beginning to what came of it: a bar of the waterfall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrySpan {
    pub(crate) number: u32,
    pub(crate) endpoint: String,
    pub(crate) from_us: u64,
    /// When it had a connection, if it got one.
    pub(crate) connected_us: Option<u64>,
    pub(crate) until_us: u64,
    pub(crate) outcome: String,
    pub(crate) tone: Tone,
}

/// `1.2 ms`, `48 ms`, `2.5 s`, from microseconds.
pub(crate) fn time(us: u64) -> String {
    words::latency(Some(us as f64 / 1_000.0))
}

/// The same with one decimal always, so that a column of them compares well.
pub(crate) fn at(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1_000.0)
}

/// Method and target, as in a request line.
pub(crate) fn request(t: &RequestTrace) -> String {
    words::tame(&format!("{} {}", t.method, t.target))
}

/// `from 10.1.2.3 to shop.example, route orders, service shop, worker 1`; of a transaction `from 10.1.2.3, application
/// billing, pool main, database shop, user app, worker 1`.
pub(crate) fn about(t: &RequestTrace) -> String {
    let mut parts = vec![format!("from {}", t.client)];
    if let Some(Step { what: What::Began { pool, database, user, application }, .. }) = t.steps.first() {
        if !application.is_empty() {
            parts.push(format!("application {application}"));
        }
        parts.extend([
            format!("pool {pool}"),
            format!("database {database}"),
            format!("user {user}"),
            format!("worker {}", t.worker),
        ]);
        return words::tame(&parts.join(", "));
    }
    if !t.host.is_empty() {
        parts.push(format!("for {}", t.host));
    }
    parts.push(if t.route.is_empty() { "no route matched".to_owned() } else { format!("route {}", t.route) });
    if !t.service.is_empty() {
        parts.push(format!("service {}", t.service));
    }
    parts.push(format!("worker {}", t.worker));
    words::tame(&parts.join(", "))
}

/// Why it was kept, in one sentence.
pub(crate) fn why_kept(kept: &[Kept]) -> String {
    let reasons: Vec<_> = kept.iter().map(|kept| kept.words()).collect();
    match reasons.split_last() {
        None => "It was kept.".to_owned(),
        Some((only, [])) => format!("It was kept because {only}."),
        Some((last, first)) => format!("It was kept because {} and {last}.", first.join(", ")),
    }
}

/// What the client got, in one sentence.
pub(crate) fn ended(t: &RequestTrace) -> String {
    let end = &t.end;
    let took = time(end.took_us);
    if t.is_transaction() {
        let how = if end.whole { "ended well" } else { "failed" };
        let detail = if end.detail.is_empty() { String::new() } else { format!(": {}", words::tame(&end.detail)) };
        return format!("The transaction {how} after {took}{detail}.");
    }
    let mut text = match (end.status, end.whole) {
        (0, _) => format!("The client got no answer; it ended after {took}"),
        (status, true) => format!("The client got {status}, whole, {} bytes, after {took}", words::grouped(end.bytes)),
        (status, false) => {
            format!("The client got {status} and {} bytes, then it broke off, after {took}", words::grouped(end.bytes))
        }
    };
    if let Some(error) = end.error {
        text.push_str(&format!(" ({error})"));
    }
    if !end.detail.is_empty() {
        text.push_str(": ");
        text.push_str(&words::tame(&end.detail));
    }
    text.push('.');
    text
}

/// Whether the client got what it asked for.
pub(crate) fn tone_of_end(t: &RequestTrace) -> Tone {
    let is_good = t.is_transaction() || (100..500).contains(&t.end.status);
    if t.end.whole && is_good { Tone::Good } else { Tone::Bad }
}

fn budget(left: Option<BudgetLeft>) -> String {
    left.map(|b| format!("; budget: {} of {} spent", words::grouped(b.spent), words::grouped(b.allowed)))
        .unwrap_or_default()
}

/// One step.
pub(crate) fn step(step: &Step) -> StepWords {
    let plain = |number: u32, text: String| StepWords { number, text: words::tame(&text), tone: Tone::Plain };
    let bad = |number: u32, text: String| StepWords { tone: Tone::Bad, ..plain(number, text) };
    match &step.what {
        What::Routed { timeout_ms, repeatable, tier } => {
            let may = if *repeatable { "may be repeated" } else { "is not repeated once bytes were sent" };
            let time = words::latency(Some(*timeout_ms as f64));
            plain(0, format!("its turn fell on tier {tier}; it has {time} and {may}"))
        }
        What::Queued => plain(0, "every endpoint was at its limit: it stood in line".to_owned()),
        What::LetIn => plain(0, "its turn came".to_owned()),
        What::TurnedAway => bad(0, "it was turned away: its turn did not come, or the line was full".to_owned()),
        What::Try { number, endpoint, tier, chosen, cause, charged } => {
            let why = if *number == 1 || *cause == "first" { String::new() } else { format!(", because of: {cause}") };
            let paid = if *charged { "; the budget paid" } else { "" };
            plain(*number, format!("to {endpoint} of tier {tier} ({chosen}){why}{paid}"))
        }
        What::Connected { number, connection, after_us } => {
            let how = match *connection {
                "reused" => "on a connection that was open",
                "new" => "on a new connection",
                "waited" => "on a connection that it waited for",
                other => other,
            };
            plain(*number, format!("{how}, after {}", time(*after_us)))
        }
        What::Silent { number } => bad(*number, "silent far beyond the usual".to_owned()),
        What::Answered { number, status, after_us } => {
            let tone = if *status < 500 { Tone::Good } else { Tone::Bad };
            StepWords { tone, ..plain(*number, format!("answered {status}, {} after it was sent", time(*after_us))) }
        }
        What::Held { number } => plain(*number, "the answer was held until it was whole".to_owned()),
        What::Failed { number, reason } => bad(*number, format!("failed: {reason}")),
        What::GivenUp { number } => plain(*number, "given up: the other try was answered first".to_owned()),
        What::Again { reason, pause_ms, budget: left } => {
            let pause = if *pause_ms == 0 { "at once".to_owned() } else { format!("after {pause_ms} ms") };
            plain(0, format!("again {pause}: {reason}{}", budget(*left)))
        }
        What::NotAgain { reason, budget: left } => bad(0, format!("not again: {reason}{}", budget(*left))),
        What::Parked => bad(0, "nobody could be reached: it waited for somebody".to_owned()),
        What::Released => plain(0, "somebody can be reached".to_owned()),
        What::Turned { error: "" } => plain(0, "the route answered it itself".to_owned()),
        What::Turned { error } => bad(0, format!("refused before it was for any service ({error})")),
        _ => transaction(&step.what),
    }
}

fn counted(n: u32, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one} was") } else { format!("{} {many} were", words::grouped(n.into())) }
}

/// One step of a transaction.
fn transaction(what: &What) -> StepWords {
    let plain = |text: String| StepWords { number: 0, text: words::tame(&text), tone: Tone::Plain };
    let bad = |text: String| StepWords { tone: Tone::Bad, ..plain(text) };
    match what {
        What::Waited { reason, after_us } => {
            bad(format!("it had waited {} for a connection: {reason}", time(*after_us)))
        }
        What::Assigned { server, process } => plain(format!("on a connection to {server}, process {process} there")),
        What::Replayed { settings } => plain(format!(
            "{} made on the connection",
            counted(*settings, "setting of its session", "settings of its session")
        )),
        What::Prepared { statements } => {
            plain(format!("{} prepared on the connection", counted(*statements, "statement", "statements")))
        }
        What::Statement { text, took_us, rows, error } => {
            let rows = if *rows == 1 { "1 row".to_owned() } else { format!("{} rows", words::grouped(*rows)) };
            match error {
                None => plain(format!("{}, {rows}: {text}", time(*took_us))),
                Some(error) => bad(format!("failed with {error} after {}: {text}", time(*took_us))),
            }
        }
        What::Moved { reason } => bad(format!("begun anew at another connection: {reason}")),
        What::Pinned { reason } => plain(format!("its client keeps the connection from here on: {reason}")),
        _ => plain("it began".to_owned()),
    }
}

/// The tries of a request. A try that nothing is said about ends with the request.
pub(crate) fn tries_of(t: &RequestTrace) -> Vec<TrySpan> {
    let mut tries: Vec<TrySpan> = Vec::new();
    for step in &t.steps {
        let at = step.at_us;
        if let What::Try { number, endpoint, .. } = &step.what {
            tries.push(TrySpan {
                number: *number,
                endpoint: words::tame(endpoint),
                from_us: at,
                connected_us: None,
                until_us: t.end.took_us.max(at),
                outcome: "no end is known".to_owned(),
                tone: Tone::Plain,
            });
            continue;
        }
        let mut end = |number: &u32, outcome: String, tone: Tone, is_last: bool| {
            let Some(span) = tries.iter_mut().find(|span| span.number == *number) else { return };
            (span.outcome, span.tone) = (outcome, tone);
            if is_last {
                span.until_us = at;
            }
        };
        match &step.what {
            What::Answered { number, status, .. } => {
                // The answer goes on to the client, until the end of the request.
                end(number, format!("answered {status}"), if *status < 500 { Tone::Good } else { Tone::Bad }, false);
            }
            What::Failed { number, reason } => end(number, words::tame(reason), Tone::Bad, true),
            What::GivenUp { number } => end(number, "given up".to_owned(), Tone::Plain, true),
            What::Connected { number, .. } => {
                if let Some(span) = tries.iter_mut().find(|span| span.number == *number) {
                    span.connected_us = Some(at);
                }
            }
            _ => {}
        }
    }
    tries
}

/// Why there is nothing to show, one sentence each; none if there is something.
pub(crate) fn not_kept(id: &str, why: &Why, now_unix_ms: u64) -> Vec<String> {
    let Why::NotKept { oldest_unix_ms, sample_one_in, slow_ms } = why else { return Vec::new() };
    let mut text = vec![format!("No trace of {} is kept.", shown_id(id))];
    text.push(match oldest_unix_ms {
        Some(oldest) => format!(
            "Traces reach back to {} ({}): there is none of what is older, or it made room for newer ones.",
            when::full(*oldest),
            when::ago(*oldest, now_unix_ms)
        ),
        None => "No trace is kept yet: they are held in memory, and begin anew when the process does.".to_owned(),
    });
    if id.starts_with("tx-") {
        text.push(
            "Kept are transactions that failed, were turned away, waited long for a connection, moved to another, or were \
             slow for their pool. None of the others are kept."
                .to_owned(),
        );
        return text;
    }
    let slow = match slow_ms {
        0 => String::new(),
        ms => format!(", or took longer than {}", words::latency(Some(*ms as f64))),
    };
    let sample = match sample_one_in {
        0 => "None of the others are kept.".to_owned(),
        1 => "All others are kept as well.".to_owned(),
        n => format!("Of the others, one in {} is kept.", words::grouped(*n)),
    };
    text.push(format!("Kept are requests that failed, were tried again, waited or were turned away{slow}. {sample}"));
    text
}

/// An id as it can be shown.
pub(crate) fn shown_id(id: &str) -> String {
    words::tame(id).chars().take(100).collect()
}
