//! Charts of a stretch of time, drawn here as SVG: columns of requests and failures, and lines of latencies. Values show
//! when a pointer rests on a column; the description and the data behind the link say the same. The drawing stretches to
//! the width that there is, so all text stands beside it. Time that was not counted is hatched; changes are lines from top
//! to bottom.

use std::time::Duration;

use kernel::Level;
use kernel::journal::Record;
use maud::{Markup, html};

use crate::facts::series::{Column, Series};
use crate::facts::subject::{Past, TRANSACTIONS};
use crate::{when, words};

/// The drawing's own units: a column is so wide, the plot so high.
const COLUMN: f64 = 10.0;
const HEIGHT: f64 = 100.0;

/// Labels of the time axis.
const LABELS: usize = 4;

/// Changes of one column that are named.
const NAMED: usize = 5;

/// Both charts of a subject, and where their data is.
pub(crate) fn both(past: &Past, data: &str) -> Markup {
    let series = &past.series;
    if !series.trouble.is_empty() {
        return html! { p class="note bad" { (series.trouble) } };
    }
    if series.is_empty() {
        return html! { p class="note" { "Nothing was counted in this time. Charts begin once a node keeps its counts." } };
    }
    html! {
        div class="plots" {
            (rates(past))
            (latencies(past))
        }
        p class="note" {
            @if series.uncovered_seconds > 0 {
                "Hatched: nothing was counted, " (words::span(Duration::from_secs(series.uncovered_seconds))) " in all. "
            }
            @if !past.marks.records.is_empty() { "Lines from top to bottom: something changed. " }
            @if past.marks.more { "Only the newest changes are shown. " }
            "Times are UTC. " a href=(data) { "Data as JSON" }
        }
    }
}

fn rates(past: &Past) -> Markup {
    let series = &past.series;
    let top = ceiling(series.highest_rate());
    let (all, noun) = (&series.all, past.noun);
    let (title, well) = if noun == TRANSACTIONS {
        ("Transactions per second", "ended well")
    } else {
        ("Requests per second", "answered")
    };
    let shown = [words::rate(all.rate()), words::rate(series.highest_rate()), words::success(all.success())];
    let [usual, highest, success] = shown;
    let text = format!(
        "{}: {usual} {noun}/s on average, at most {highest}; {} {noun}, {} failed, {success} successful.",
        span_of(past),
        words::grouped(all.requests),
        words::grouped(all.failed)
    );
    let value = |c: &Column| {
        let rate = words::rate(c.rate());
        match c.failed {
            0 => format!("{rate} {noun}/s, none failed"),
            n => format!("{rate} {noun}/s, {} of {} failed", words::grouped(n), words::grouped(c.requests)),
        }
    };
    let columns = html! {
        @for (at, c) in series.columns.iter().enumerate() {
            @let (all, failed) = (c.rate() / top, c.failed_rate() / top);
            @if all > 0.0 { (column("all", at, all)) }
            @if failed > 0.0 { (column("failed", at, failed)) }
        }
    };
    let legend = html! {
        span class="key" { span class="swatch all" {} (well) }
        span class="key" { span class="swatch failed" {} "failed" }
    };
    plot(past, &Plot { id: "rate", title, text, top: words::rate(top), legend, drawing: columns }, value)
}

fn latencies(past: &Past) -> Markup {
    let series = &past.series;
    let highest = series.columns.iter().filter_map(|c| c.p99_ms).fold(0.0, f64::max);
    let top = ceiling(highest);
    let all = &series.all;
    let [p50, p95, p99] = [all.p50_ms, all.p95_ms, all.p99_ms].map(words::latency);
    let text = format!("{}: half within {p50}, 95 % within {p95}, 99 % within {p99}.", span_of(past));
    let value = |c: &Column| match c.p50_ms {
        None => "nothing".to_owned(),
        Some(_) => {
            let [p50, p95, p99] = [c.p50_ms, c.p95_ms, c.p99_ms].map(words::latency);
            format!("p50 {p50}, p95 {p95}, p99 {p99}")
        }
    };
    let drawing = html! {
        path class="p99" d=(steps(series, top, |c| c.p99_ms)) {}
        path class="p95" d=(steps(series, top, |c| c.p95_ms)) {}
        path class="p50" d=(steps(series, top, |c| c.p50_ms)) {}
    };
    let key = |class: &str, text: &str| {
        html! { span class="key" { svg class="line" viewBox="0 0 20 4" aria-hidden="true" { path class=(class) d="M0 2H20" {} } (text) } }
    };
    let legend = html! { (key("p50", "p50")) (key("p95", "p95")) (key("p99", "p99")) };
    let title =
        if past.noun == TRANSACTIONS { "Time to the end of the transaction" } else { "Time to the end of the answer" };
    plot(past, &Plot { id: "time", title, text, top: words::latency(Some(top)), legend, drawing }, value)
}

struct Plot {
    id: &'static str,
    title: &'static str,
    text: String,
    top: String,
    legend: Markup,
    drawing: Markup,
}

fn plot(past: &Past, plot: &Plot, value: impl Fn(&Column) -> String) -> Markup {
    let series = &past.series;
    let width = series.columns.len() as f64 * COLUMN;
    let [title, text, hatch] = ["title", "text", "hatch"].map(|what| format!("{what}-{}", plot.id));
    html! {
        figure class="plot" {
            figcaption { span class="plot-title" { (plot.title) } (plot.legend) }
            div class="frame" {
                div class="axis-y" aria-hidden="true" { span { (plot.top) } span { "0" } }
                svg role="img" aria-labelledby=(title) aria-describedby=(text) viewBox={ "0 0 " (width) " " (HEIGHT) }
                    preserveAspectRatio="none" {
                    title id=(title) { (plot.title) }
                    desc id=(text) { (plot.text) }
                    defs {
                        pattern id=(hatch) width="8" height="8" patternUnits="userSpaceOnUse" {
                            path class="hatch" d="M0 8L8 0" {}
                        }
                    }
                    (gaps(series, &hatch))
                    path class="grid" d={ "M0 " (HEIGHT / 2.0) "H" (width) } {}
                    (plot.drawing)
                    @for (at, c) in series.columns.iter().enumerate().filter(|(_, c)| c.seconds > 0) {
                        @let marks = past.marks_within(c.start_unix_s);
                        (hover(at, &describe(past, c, &value(c), &marks)))
                        (marked(at, &marks))
                    }
                }
            }
            (time_axis(past))
            p class="visually-hidden" { (plot.text) }
        }
    }
}

/// Something to rest a pointer on, as high as the plot.
fn hover(at: usize, text: &str) -> Markup {
    html! {
        rect class="hit" x=(at as f64 * COLUMN) y="0" width=(COLUMN) height=(HEIGHT) { title { (text) } }
    }
}

fn describe(past: &Past, c: &Column, value: &str, marks: &[&Record]) -> String {
    let from = c.start_unix_s * 1_000;
    let until = from + u64::from(past.range.column_seconds) * 1_000;
    let mut text = if past.range.column_seconds >= 3_600 {
        format!("{} {} to {}", when::date(from), when::minute(from), when::minute(until))
    } else {
        format!("{} to {}", when::clock(from), when::clock(until))
    };
    match (c.covered_ms, c.is_covered()) {
        (_, true) => text.push_str(&format!(": {value}")),
        (0, false) if c.requests == 0 => text.push_str(": nothing was counted"),
        (covered, false) => {
            let share = words::percent(covered as f64 / (c.seconds as f64 * 1_000.0).max(1.0));
            text.push_str(&format!(": {value}; counted for {share} of the time"));
        }
    }
    for mark in marks.iter().take(NAMED) {
        text.push_str(&format!("\n{} {}", when::clock(mark.at_unix_ms), words::tame(&mark.sentence)));
    }
    if marks.len() > NAMED {
        text.push_str(&format!("\nand {} more changes", marks.len() - NAMED));
    }
    text
}

/// A line from top to bottom where something changed.
fn marked(at: usize, marks: &[&Record]) -> Markup {
    let Some(gravest) = marks.iter().map(|r| r.level).max() else { return html! {} };
    let class = if gravest >= Level::Warn { "mark warn" } else { "mark" };
    let x = (at as f64 + 0.5) * COLUMN;
    html! { path class=(class) d={ "M" (x) " 0V" (HEIGHT) } {} }
}

/// Hatched columns, neighbours as one.
fn gaps(series: &Series, hatch: &str) -> Markup {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, _) in series.columns.iter().enumerate().filter(|(_, c)| c.seconds > 0 && !c.is_covered()) {
        match runs.last_mut() {
            Some((_, end)) if *end == at => *end = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    html! {
        @for (from, until) in runs {
            rect x=(from as f64 * COLUMN) y="0" width=((until - from) as f64 * COLUMN) height=(HEIGHT)
                fill={ "url(#" (hatch) ")" } {}
        }
    }
}

/// A column of this share of the height, but never invisible.
fn column(class: &str, at: usize, share: f64) -> Markup {
    let height = (share * HEIGHT).clamp(0.8, HEIGHT);
    html! {
        rect class=(class) x=(at as f64 * COLUMN) y=(format!("{:.1}", HEIGHT - height)) width=(COLUMN)
            height=(format!("{height:.1}")) {}
    }
}

/// A line that is level within a column, and broken where there is no value.
fn steps(series: &Series, top: f64, value: impl Fn(&Column) -> Option<f64>) -> String {
    let mut path = String::new();
    let mut is_open = false;
    for (at, c) in series.columns.iter().enumerate() {
        let Some(value) = value(c) else {
            is_open = false;
            continue;
        };
        let (x, y) = (at as f64 * COLUMN, HEIGHT - (value / top * HEIGHT).clamp(0.0, HEIGHT));
        if !is_open {
            path.push_str(&format!("M{x} {y:.1}"));
        } else {
            path.push_str(&format!("V{y:.1}"));
        }
        path.push_str(&format!("H{}", x + COLUMN));
        is_open = true;
    }
    path
}

fn span_of(past: &Past) -> String {
    let [from, until] = [past.range.from_unix_s, past.range.until_unix_s].map(|s| when::full(s * 1_000));
    format!("From {from} to {until}")
}

fn time_axis(past: &Past) -> Markup {
    let range = &past.range;
    let length = range.until_unix_s - range.from_unix_s;
    let label = |at: u64| if length > 172_800 { when::date(at * 1_000) } else { when::minute(at * 1_000) };
    html! {
        div class="axis-x" aria-hidden="true" {
            @for n in 0..=LABELS { span { (label(range.from_unix_s + length * n as u64 / LABELS as u64)) } }
        }
    }
}

/// The next round number.
fn ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let round =
        [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].into_iter().map(|n| n * power).find(|n| *n >= value * 0.999_999);
    round.unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_round_number() {
        let cases =
            [(0.0, 1.0), (0.3, 0.3), (1.0, 1.0), (1.2, 1.5), (480.0, 500.0), (501.0, 600.0), (9_999.0, 10_000.0)];
        for (value, top) in cases {
            assert!((ceiling(value) - top).abs() < 1e-9, "{value}: {}", ceiling(value));
        }
    }
}
