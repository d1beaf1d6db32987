//! The state as a page: server-rendered, no script, no request but for the icon, light and dark by the reader's
//! preference, from a phone's width up. It refreshes itself unless asked not to. Tables keep their roles when they are
//! laid out as cards; state is always said in words beside its colour.

use std::time::Duration;

use kernel::{Finding, Severity};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::actions::page_of;
use crate::guard::CSRF_FIELD;
use crate::problem::Problem;
use crate::status::{EndpointStatus, Interval, ServiceStatus, Status, Traffic};
use crate::view::EndpointState;
use crate::words;

/// The style sheet, which stands in every page.
pub(crate) const STYLE: &str = include_str!("style.css");

/// The icon: a hull on an even keel.
pub(crate) const ICON: &str = concat!(
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 24 24\" fill=\"none\" stroke=\"#2f7db0\" ",
    "stroke-width=\"2\" stroke-linecap=\"round\" stroke-linejoin=\"round\">",
    "<path d=\"M3 11h18l-3.2 6H6.2z\"/><path d=\"M12 11V3l5 5\"/><path d=\"M12 17v4\"/></svg>\n"
);

/// Seconds between refreshes.
const REFRESH: &str = "5";

/// The chart: bars of the window, newest at the right edge.
const BARS: usize = 12;
const BAR_WIDTH: usize = 8;
const CHART_HEIGHT: f64 = 28.0;

/// The page on the whole state.
pub(crate) fn home(status: &Status, csrf: &str, live: bool) -> String {
    let body = html! {
        (top(status))
        main {
            (state(status))
            @if !status.routes.is_empty() { (routes(status)) }
            @if !status.services.is_empty() { (services(status)) (second_tries(status)) (endpoints(status)) }
            (config(status, csrf))
        }
        footer class="foot" {
            a href="/metrics" { "Metrics" }
            a href="/v1/status" { "Status as JSON" }
            a href="/readyz" { "Readiness" }
            a href="/livez" { "Liveness" }
            span class="live" {
                @if live { "Refreshes every " (REFRESH) " s · " a href="/?live=off" { "Pause" } }
                @else { "Paused · " a href="/" { "Refresh again" } }
            }
        }
    };
    shell("Evenkeel", live, &body)
}

/// The page on an error.
pub(crate) fn problem(problem: &Problem) -> String {
    let body = html! {
        header class="top" { (brand()) }
        main class="card problem" {
            span class="word down" { (problem.code.status()) }
            h1 { (problem.code.title()) }
            p { (problem.detail) }
            p class="note" { "Code: " (problem.code.code()) }
        }
    };
    shell(problem.code.title(), false, &body)
}

pub(crate) fn shell(title: &str, live: bool, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if live { meta http-equiv="refresh" content=(REFRESH); }
                title { (title) }
                link rel="icon" type="image/svg+xml" href="/icon.svg";
                style { (PreEscaped(STYLE)) }
            }
            body { div class="page" { (body) } }
        }
    };
    page.into_string()
}

pub(crate) fn brand() -> Markup {
    html! {
        a class="brand" href="/" {
            svg width="24" height="24" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2"
                stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" {
                path d="M3 11h18l-3.2 6H6.2z" {}
                path d="M12 11V3l5 5" {}
                path d="M12 17v4" {}
            }
            "Evenkeel"
        }
    }
}

pub(crate) fn top(status: &Status) -> Markup {
    let facts = [
        format!("version {}", status.version),
        format!("up {}", words::span(Duration::from_secs(status.uptime_seconds))),
        words::count(status.workers, "worker"),
        words::count(usize::try_from(status.connections).unwrap_or(usize::MAX), "connection"),
    ];
    html! {
        header class="top" {
            (brand())
            p class="facts" { (facts.join(" · ")) }
        }
    }
}

fn state(status: &Status) -> Markup {
    let all = &status.traffic;
    html! {
        section class="card" aria-label="State" {
            div class="state" {
                span class={ "word " (status.level.label()) } { (status.level.label()) }
                div {
                    h1 { (status.summary) }
                    @for notice in &status.notices { p { (notice) } }
                }
            }
            (tiles(all, &chart(&status.history)))
        }
    }
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

/// Requests per second over the window, failures in their own colour at the foot of each bar.
fn chart(history: &[Interval]) -> Markup {
    let recent = &history[history.len().saturating_sub(BARS)..];
    let top = recent.iter().map(|i| i.requests_per_second).fold(0.0, f64::max);
    if recent.len() < 2 || top <= 0.0 {
        return html! {};
    }
    let newest = recent.last().map_or(0.0, |i| i.requests_per_second);
    let label = format!("Over the window: at most {} requests/s, {} lately", words::rate(top), words::rate(newest));
    html! {
        svg class="chart" role="img" aria-label=(label) viewBox={ "0 0 " (BARS * BAR_WIDTH) " " (CHART_HEIGHT) } {
            title { (label) }
            @for (at, interval) in recent.iter().enumerate() {
                @let x = (BARS - recent.len() + at) * BAR_WIDTH;
                (bar("all", x, interval.requests_per_second / top))
                @if interval.failed_per_second > 0.0 { (bar("failed", x, interval.failed_per_second / top)) }
            }
        }
    }
}

/// A bar of this share of the height, but never invisible.
fn bar(class: &str, x: usize, share: f64) -> Markup {
    let height = (share * CHART_HEIGHT).clamp(1.0, CHART_HEIGHT);
    html! {
        rect class=(class) x=(x) y=(format!("{:.1}", CHART_HEIGHT - height)) width=(BAR_WIDTH - 2)
            height=(format!("{height:.1}")) rx="1" {}
    }
}

/// A table with roles of its own, because the narrow layout takes away those that elements have by nature.
pub(crate) fn table(caption: &str, note: &str, heads: &[(&str, &str)], rows: &Markup) -> Markup {
    html! {
        section class="card table" {
            table role="table" {
                caption { (caption) small { (note) } }
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

fn name_cell(name: &str) -> Markup {
    html! { th scope="row" role="rowheader" class="name" { (name) } }
}

fn cell(label: &str, class: &str, content: &Markup) -> Markup {
    html! { td role="cell" data-label=(label) class=[class_of(class)] { (content) } }
}

fn plain_cell(label: &str, text: &str) -> Markup {
    cell(label, "", &html! { (text) })
}

fn success_cell(t: &Traffic) -> Markup {
    let bad = t.success_ratio.is_some_and(|ratio| ratio < crate::status::SUCCESS_FLOOR);
    cell("Success", if bad { "bad" } else { "" }, &html! { (words::success(t.success_ratio)) })
}

/// The cells that routes and services share.
fn golden_cells(t: &Traffic) -> Markup {
    html! {
        (plain_cell("Requests/s", &words::rate(t.requests_per_second)))
        (success_cell(t))
        (plain_cell("p50", &words::latency(t.latency_p50_ms)))
        (plain_cell("p95", &words::latency(t.latency_p95_ms)))
        (plain_cell("p99", &words::latency(t.latency_p99_ms)))
        (plain_cell("In flight", &words::grouped(t.in_flight)))
        (plain_cell("Failed", &words::grouped(t.failed_total)))
        (plain_cell("Total", &words::grouped(t.requests_total)))
    }
}

const GOLDEN_HEADS: [(&str, &str); 8] = [
    ("Requests/s", ""),
    ("Success", ""),
    ("p50", ""),
    ("p95", ""),
    ("p99", ""),
    ("In flight", ""),
    ("Failed", ""),
    ("Total", ""),
];

fn window_note(status: &Status) -> String {
    let window = words::window(Duration::from_secs_f64(status.window_seconds));
    format!("{window}; failed and total since the start")
}

fn routes(status: &Status) -> Markup {
    let heads: Vec<_> = [("Route", "name")].into_iter().chain(GOLDEN_HEADS).collect();
    let rows = html! {
        @for route in &status.routes {
            tr role="row" { (name_cell(&route.name)) (golden_cells(route)) }
        }
    };
    table("Routes", &window_note(status), &heads, &rows)
}

fn services(status: &Status) -> Markup {
    let heads: Vec<_> = [("Service", "name"), ("Healthy", "")].into_iter().chain(GOLDEN_HEADS).collect();
    let rows = html! {
        @for service in &status.services {
            tr role="row" {
                (service_cell(&service.traffic.name))
                (healthy_cell(service))
                (golden_cells(&service.traffic))
            }
        }
    };
    table("Services", &window_note(status), &heads, &rows)
}

fn healthy_cell(service: &ServiceStatus) -> Markup {
    let bad = service.endpoints.iter().any(|e| e.state.is_trouble());
    let content = html! { (service.healthy) span class="of" { " of " (service.endpoints.len()) } };
    cell("Healthy", if bad { "bad" } else { "" }, &content)
}

/// What services may spend on second tries, what they were for, and what waits; nothing if no service has a budget.
fn second_tries(status: &Status) -> Markup {
    let has_any = |s: &&ServiceStatus| {
        s.budget.share > 0.0 || !s.second_tries_in_words().is_empty() || !s.waiting_in_words().is_empty()
    };
    let services: Vec<_> = status.services.iter().filter(has_any).collect();
    if services.is_empty() {
        return html! {};
    }
    let heads =
        [("Service", "name"), ("At most", ""), ("Spent", ""), ("Yield", ""), ("Waiting", "text"), ("By cause", "text")];
    let rows = html! {
        @for service in services {
            @let [waiting, causes] = [service.waiting_in_words(), service.second_tries_in_words()].map(or_none);
            @let budget = &service.budget;
            tr role="row" {
                (service_cell(&service.traffic.name))
                (plain_cell("At most", &format!("{:.0} %", budget.share * 100.0)))
                (cell("Spent", "", &html! {
                    (words::grouped(budget.spent)) span class="of" { " of " (words::grouped(budget.allowed)) }
                }))
                (plain_cell("Yield", &budget.yields.map_or(words::NONE.to_owned(), |y| format!("{y:.2}"))))
                (cell("Waiting", "text", &html! { (waiting) }))
                (cell("By cause", "text reason", &html! { (causes) }))
            }
        }
    };
    table("Second tries", "yield: successes for each added try; by cause since the start", &heads, &rows)
}

fn or_none(text: String) -> String {
    if text.is_empty() { words::NONE.to_owned() } else { text }
}

fn endpoints(status: &Status) -> Markup {
    let tiers = status.services.iter().any(ServiceStatus::has_tiers);
    let heads = endpoint_heads(true, tiers);
    let rows = html! {
        @for service in &status.services {
            @for endpoint in &service.endpoints { (endpoint_row(Some(&service.traffic.name), tiers, endpoint)) }
        }
    };
    let window = words::window(Duration::from_secs_f64(status.window_seconds));
    table("Endpoints", &format!("{window}, counting every attempt"), &heads, &rows)
}

/// Heads of a table of endpoints, with a column for the service or for the tier where these differ.
pub(crate) fn endpoint_heads(service: bool, tiers: bool) -> Vec<(&'static str, &'static str)> {
    let mut heads = vec![("Endpoint", "name")];
    heads.extend(service.then_some(("Service", "text")));
    heads.extend(tiers.then_some(("Tier", "")));
    heads.extend([
        ("State", "text"),
        ("Requests/s", ""),
        ("Success", ""),
        ("p95", ""),
        ("In flight", ""),
        ("Connections", ""),
        ("Reason", "text"),
    ]);
    heads
}

/// The state as a word with its colour.
pub(crate) fn state_word(state: EndpointState) -> Markup {
    html! { span class={ "word " (state.label()) } { (state.label()) } }
}

/// One endpoint, in the columns of [`endpoint_heads`].
pub(crate) fn endpoint_row(service: Option<&str>, tiers: bool, endpoint: &EndpointStatus) -> Markup {
    let t = &endpoint.traffic;
    let connections = html! {
        (words::grouped(endpoint.connections))
        span class="of" { ", " (words::grouped(endpoint.connections_idle)) " idle" }
    };
    let state = html! {
        (state_word(endpoint.state))
        @if let Some(seconds) = endpoint.since_seconds {
            span class="since" { "for " (words::span(Duration::from_secs(seconds))) }
        }
    };
    html! {
        tr role="row" {
            (name_cell(&t.name))
            @if let Some(service) = service { (cell("Service", "text", &service_link(service))) }
            @if tiers { (plain_cell("Tier", &endpoint.tier.to_string())) }
            (cell("State", "text", &state))
            (plain_cell("Requests/s", &words::rate(t.requests_per_second)))
            (success_cell(t))
            (plain_cell("p95", &words::latency(t.latency_p95_ms)))
            (plain_cell("In flight", &words::grouped(t.in_flight)))
            (cell("Connections", "", &connections))
            (cell("Reason", "text reason", &html! { (words::tame(&endpoint.reason)) }))
        }
    }
}

fn service_link(service: &str) -> Markup {
    html! { a href=(page_of(service)) { (service) } }
}

/// The name of a service, which leads to its page.
fn service_cell(name: &str) -> Markup {
    html! { th scope="row" role="rowheader" class="name" { (service_link(name)) } }
}

fn config(status: &Status, csrf: &str) -> Markup {
    let config = &status.config;
    html! {
        section class="card config" aria-labelledby="configuration" {
            h2 id="configuration" { "Configuration" }
            dl class="pairs" {
                @if !status.listeners.is_empty() { dt { "Serving on" } dd { (status.listeners.join(", ")) } }
                dt { "In force" }
                dd {
                    (config.source)
                    span class="note" {
                        @match config.reloads {
                            0 => " · since the start",
                            1 => " · reloaded once",
                            n => { " · reloaded " (words::grouped(n)) " times" },
                        }
                    }
                }
                @if let Some(reload) = &config.last_reload {
                    @let outcome = if reload.applied { "applied" } else { "refused" };
                    dt { "Last reload" }
                    dd {
                        span class={ "word " (outcome) } { (outcome) } " " (reload.message)
                        span class="note" { " · " (words::ago(Duration::from_secs(reload.age_seconds))) }
                    }
                }
            }
            @if let Some(reload) = config.last_reload.as_ref().filter(|reload| !reload.findings.is_empty()) {
                ul class="findings" { @for f in &reload.findings { (finding(f)) } }
            }
            form method="post" action="/v1/reload" {
                input type="hidden" name=(CSRF_FIELD) value=(csrf);
                button type="submit" { "Reload the configuration" }
            }
        }
    }
}

fn finding(finding: &Finding) -> Markup {
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
