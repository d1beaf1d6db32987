//! What several pages are made of: tables, figures, words for states, small charts, lines of the journal.

use std::time::Duration;

use kernel::event::EventKind;
use kernel::journal::Record;
use kernel::trace::{Kept, TRANSACTION, TraceLine};
use kernel::{Finding, Level, Severity};
use maud::{Markup, html};

use crate::actions::page_of;
use crate::facts::Records;
use crate::facts::spark::Spark;
use crate::status::{EndpointStatus, Traffic};
use crate::view::EndpointState;
use crate::{when, words};

/// A table with roles of its own, because the narrow layout takes away those that elements have by nature.
pub(crate) fn table(caption: &str, note: &str, heads: &[(&str, &str)], rows: &Markup) -> Markup {
    html! {
        section class="card table" aria-label=(caption) {
            table role="table" {
                caption { (caption) @if !note.is_empty() { " " small { (note) } } }
                thead role="rowgroup" {
                    tr role="row" {
                        @for (head, class) in heads { th scope="col" role="columnheader" class=[class_of(class)] { (head) } }
                    }
                }
                tbody role="rowgroup" { (rows) }
            }
        }
    }
}

fn class_of(class: &str) -> Option<&str> {
    (!class.is_empty()).then_some(class)
}

/// The head of a row.
pub(crate) fn name_cell(content: &Markup) -> Markup {
    html! { th scope="row" role="rowheader" class="name" { (content) } }
}

/// A cell that says what it is where the table is laid out as cards.
pub(crate) fn cell(label: &str, class: &str, content: &Markup) -> Markup {
    html! { td role="cell" data-label=(label) class=[class_of(class)] { (content) } }
}

/// A cell of text.
pub(crate) fn plain_cell(label: &str, text: &str) -> Markup {
    cell(label, "", &html! { (text) })
}

/// The share of requests that succeeded; what is too low is said in words for those who see no colour.
pub(crate) fn success_cell(t: &Traffic) -> Markup {
    let is_low = t.success_ratio.is_some_and(|ratio| ratio < crate::status::SUCCESS_FLOOR);
    let text = words::success(t.success_ratio);
    let content = html! { (text) @if is_low { span class="mark" title="below 99 %" { " low" } } };
    cell("Success", if is_low { "bad" } else { "" }, &content)
}

/// Where a route has its page.
pub(crate) fn page_of_route(route: &str) -> String {
    format!("/routes/{}", words::path_segment(route))
}

/// Where a request has its page.
pub(crate) fn page_of_request(id: &str) -> String {
    format!("/why/{}", words::path_segment(id))
}

/// The name of a service, which leads to its page.
pub(crate) fn service_link(service: &str) -> Markup {
    html! { a href=(page_of(service)) { (service) } }
}

/// The golden signals in large figures.
pub(crate) fn tiles(traffic: &Traffic, chart: &Markup) -> Markup {
    html! {
        dl class="tiles" {
            div class="tile" {
                dt { "Requests/s" }
                dd class="with-chart" { (words::rate(traffic.requests_per_second)) (chart) }
            }
            div class="tile" { dt { "Success" } dd { (words::success(traffic.success_ratio)) } }
            div class="tile" { dt { "95 % answered within" } dd { (words::latency(traffic.latency_p95_ms)) } }
            div class="tile" { dt { "In flight" } dd { (words::grouped(traffic.in_flight)) } }
        }
    }
}

const SPARK_WIDTH: f64 = 120.0;
const SPARK_HEIGHT: f64 = 24.0;

/// A small chart: requests per second as an area, failures as another in front of it. Nothing without points.
pub(crate) fn spark(name: &str, spark: Option<&Spark>) -> Markup {
    let Some(spark) = spark else { return html! { span class="of" { (words::NONE) } } };
    let all: Vec<Option<f64>> = spark.requests_per_second.clone();
    let top = all.iter().flatten().copied().fold(0.0, f64::max);
    let failed = spark.failed_per_second.iter().flatten().copied().fold(0.0, f64::max);
    let newest = all.iter().rev().flatten().next().copied().unwrap_or_default();
    let span = words::window(Duration::from_secs_f64(spark.seconds()));
    let gaps = all.iter().filter(|point| point.is_none()).count();
    let mut label = format!("{name}, {span}: at most {} requests/s, {} lately", words::rate(top), words::rate(newest));
    if failed > 0.0 {
        label.push_str(&format!(", at most {} failures/s", words::rate(failed)));
    }
    if gaps > 0 {
        label.push_str(&format!("; nothing was counted for {} of it", words::percent(gaps as f64 / all.len() as f64)));
    }
    html! {
        svg class="spark" role="img" aria-label=(label) viewBox={ "0 0 " (SPARK_WIDTH) " " (SPARK_HEIGHT) }
            preserveAspectRatio="none" {
            title { (label) }
            path class="ground" d={ "M0 " (SPARK_HEIGHT) "H" (SPARK_WIDTH) } {}
            @if top > 0.0 {
                path class="all" d=(area(&all, top)) {}
                @if failed > 0.0 { path class="failed" d=(area(&spark.failed_per_second, top)) {} }
            }
        }
    }
}

/// The area below points, as steps; what is not known is left out.
fn area(points: &[Option<f64>], top: f64) -> String {
    let width = SPARK_WIDTH / points.len().max(1) as f64;
    let mut path = String::new();
    let mut is_open = false;
    for (at, point) in points.iter().enumerate() {
        let x = at as f64 * width;
        match point {
            // A failure is never too small to be seen.
            Some(value) => {
                let height = if *value > 0.0 { (value / top * (SPARK_HEIGHT - 1.0)).max(1.0) } else { 0.0 };
                if !is_open {
                    path.push_str(&format!("M{x:.1} {SPARK_HEIGHT}"));
                }
                path.push_str(&format!("V{:.1}H{:.1}", SPARK_HEIGHT - height, x + width));
                is_open = true;
            }
            None if is_open => {
                path.push_str(&format!("V{SPARK_HEIGHT}Z"));
                is_open = false;
            }
            None => {}
        }
    }
    if is_open {
        path.push_str(&format!("V{SPARK_HEIGHT}Z"));
    }
    path
}

/// The state as a word with its colour.
pub(crate) fn state_word(state: EndpointState) -> Markup {
    html! { span class={ "word " (state.label()) } { (state.label()) } }
}

/// The same, with how long it has been so.
pub(crate) fn state_since(e: &EndpointStatus) -> Markup {
    html! {
        (state_word(e.state))
        @if let Some(seconds) = e.since_seconds {
            " " span class="since" { "for " (words::span(Duration::from_secs(seconds))) }
        }
    }
}

/// Heads of a table of endpoints, with a column for the tier where these differ.
pub(crate) fn endpoint_heads(tiers: bool) -> Vec<(&'static str, &'static str)> {
    let mut heads = vec![("Endpoint", "name")];
    heads.extend(tiers.then_some(("Tier", "")));
    heads.extend([("State", "text"), ("Requests/s", ""), ("Success", ""), ("p95", ""), ("In flight", "")]);
    heads.extend([("30 min", "text"), ("Connections", ""), ("Reason", "text")]);
    heads
}

/// One endpoint, in the columns of [`endpoint_heads`].
pub(crate) fn endpoint_row(tiers: bool, e: &EndpointStatus, small: Option<&Spark>) -> Markup {
    let t = &e.traffic;
    let connections = html! {
        (words::grouped(e.connections)) span class="of" { ", " (words::grouped(e.connections_idle)) " idle" }
    };
    html! {
        tr role="row" {
            (name_cell(&html! { (t.name) }))
            @if tiers { (plain_cell("Tier", &e.tier.to_string())) }
            (cell("State", "text", &state_since(e)))
            (plain_cell("Requests/s", &words::rate(t.requests_per_second)))
            (success_cell(t))
            (plain_cell("p95", &words::latency(t.latency_p95_ms)))
            (plain_cell("In flight", &words::grouped(t.in_flight)))
            (cell("30 min", "text small", &spark(&t.name, small)))
            (cell("Connections", "", &connections))
            (cell("Reason", "text reason", &html! { (words::tame(&e.reason)) }))
        }
    }
}

/// The level as a word; what is merely told needs none.
fn level_word(level: Level) -> Markup {
    match level {
        Level::Info => html! {},
        Level::Warn => html! { span class="word degraded" { "warning" } " " },
        Level::Error => html! { span class="word down" { "error" } " " },
    }
}

/// A moment, with how long ago it was.
pub(crate) fn moment(at: u64, now: u64) -> Markup {
    html! {
        time datetime=(when::machine(at)) title=(when::full(at)) {
            (when::clock(at)) " " span class="ago" { (when::ago(at, now)) }
        }
    }
}

/// A record as one line of a list.
pub(crate) fn line(r: &Record, now: u64, content: &Markup) -> Markup {
    html! {
        li class={ "event " (r.level.word()) } {
            (moment(r.until_unix_ms, now))
            div class="what" {
                (level_word(r.level))
                (words::tame(&r.sentence.replace('\n', "; ")))
                @if r.count > 1 {
                    " " span class="note" {
                        (words::grouped(r.count)) " times since " (when::clock(r.at_unix_ms))
                    }
                }
                (content)
            }
        }
    }
}

/// The journal, with the same kind of events about the same thing.
pub(crate) fn journal_of(r: &Record) -> String {
    let mut query = Vec::new();
    // A kind of a newer version is not known to the filter.
    if EventKind::from_name(&r.kind).is_some() {
        query.push(format!("kind={}", words::query_value(&r.kind)));
    }
    for (name, value) in [("service", &r.service), ("endpoint", &r.endpoint)] {
        if !value.is_empty() {
            query.push(format!("{name}={}", words::query_value(value)));
        }
    }
    format!("/journal?{}", query.join("&"))
}

/// Records with links to their like, or why there are none.
pub(crate) fn feed(records: &Records, now: u64, nothing: &str) -> Markup {
    html! {
        @if !records.trouble.is_empty() { p class="note bad" { (records.trouble) } }
        @else if records.records.is_empty() { p class="note" { (nothing) } }
        @else {
            ol class="feed" {
                @for r in &records.records {
                    (line(r, now, &html! { " " a class="more" href=(journal_of(r)) aria-label={ "More of " (r.kind) } { "more" } }))
                }
            }
        }
    }
}

/// Requests whose traces are kept.
pub(crate) fn traces(caption: &str, note: &str, traces: &[TraceLine], now_unix_ms: u64) -> Markup {
    let heads =
        [("Request", "name"), ("When", "text"), ("Got", ""), ("After", ""), ("Tries", ""), ("Kept because", "text")];
    let rows = html! {
        @for t in traces {
            @let at = t.at_unix_us / 1_000;
            tr role="row" {
                (name_cell(&html! { a href=(page_of_request(&t.id)) { (words::tame(&format!("{} {}", t.method, t.target))) } }))
                (cell("When", "text", &moment(at, now_unix_ms)))
                @let got = got(t);
                (cell("Got", if got.1 { "bad" } else { "" }, &html! { (got.0) }))
                (plain_cell("After", &crate::why_words::time(t.took_us)))
                (plain_cell("Tries", &t.tries.to_string()))
                (cell("Kept because", "text reason", &html! { (reasons(&t.kept)) }))
            }
        }
    };
    table(caption, note, &heads, &rows)
}

/// What a client got, and whether that is bad. A transaction has no status.
fn got(t: &TraceLine) -> (String, bool) {
    match t.status {
        0 if t.method == TRANSACTION && t.kept.contains(&Kept::Failed) => ("an error".to_owned(), true),
        0 if t.method == TRANSACTION => ("its end".to_owned(), false),
        0 => ("nothing".to_owned(), true),
        status => (status.to_string(), status >= 500),
    }
}

fn reasons(kept: &[Kept]) -> String {
    kept.iter().map(|kept| kept.words()).collect::<Vec<_>>().join("; ")
}

/// A finding about the configuration.
pub(crate) fn finding(finding: &Finding) -> Markup {
    let class = match finding.severity {
        Severity::Error => None,
        Severity::Warning => Some("warning"),
        Severity::Note => Some("note-finding"),
    };
    html! {
        li class=[class] {
            p { (finding.message) " " span class="note" { (finding.remedy) } }
            code {
                @if let Some(place) = &finding.place { (place.file) ":" (place.line) ":" (place.column) " · " }
                (finding.id)
            }
        }
    }
}
