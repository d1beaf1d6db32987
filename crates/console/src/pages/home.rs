//! The first page: what the state is and what is done about it, the golden signals, what changed, how the node itself is.
//! A small fleet fits on one screen; what is worst stands first.

use std::time::Duration;

use kernel::store::{FileHealth, FileState};
use maud::{Markup, html};

use super::parts::{
    cell, feed, finding, name_cell, page_of_route, plain_cell, service_link, spark, state_since, success_cell, table,
    tiles,
};
use super::{Here, Page, Part, facts};
use crate::facts::home::Home;
use crate::facts::spark::Spark;
use crate::guard::CSRF_FIELD;
use crate::status::{Interval, ServiceStatus, Status, Traffic};
use crate::words;

/// The chart of the last minute: bars, newest at the right edge.
const BARS: usize = 12;
const BAR_WIDTH: usize = 8;
const CHART_HEIGHT: f64 = 28.0;

/// Rows of a table: more than anybody reads, and few enough to be sent every other second.
const ROWS_MAX: usize = 100;

/// The page.
pub(crate) fn page(home: &Home, csrf: &str) -> Page {
    let status = &home.status;
    let parts = vec![
        facts(status),
        Part::live("state", state(home)),
        Part::live("pools", super::pool::list(status)),
        Part::live("golden", golden(home)),
        Part::live("changes", changes(home)),
        Part::live("trouble", trouble(status)),
        Part::live("store", store(&home.store)),
        Part::fixed(config(status, csrf)),
    ];
    Page {
        title: format!("{} · Evenkeel", status.level.label()),
        here: Here::Home,
        path: "/".to_owned(),
        is_live: true,
        layout: "home",
        parts,
        json: "/v1/status".to_owned(),
    }
}

fn state(home: &Home) -> Markup {
    let status = &home.status;
    html! {
        section class="card" aria-label="State" {
            div class="state" {
                span class={ "word " (status.level.label()) } { (status.level.label()) }
                div {
                    h1 { (home.headline.headline) }
                    @for sentence in &home.headline.doing { p { (sentence) } }
                }
            }
            @if status.pools.is_empty() || !status.routes.is_empty() { (tiles(&status.traffic, &chart(&status.history))) }
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

/// Services, the worst first, and routes.
fn golden(home: &Home) -> Markup {
    let status = &home.status;
    let window = words::window(Duration::from_secs_f64(status.window_seconds));
    let span = |find: fn(&crate::facts::spark::Sparks) -> Option<&Spark>| {
        let seconds = home.sparks.as_ref().and_then(find).map(Spark::seconds);
        seconds.map_or("Lately".to_owned(), |s| short_span(s as u64))
    };
    let sparks = home.sparks.as_ref();
    let mut services: Vec<&ServiceStatus> = status.services.iter().collect();
    services.sort_by_key(|s| (!s.is_lost(), s.endpoints.iter().all(|e| !e.state.is_trouble())));
    let head = span(|s| s.services.values().next());
    let service_rows = html! {
        @for s in services.into_iter().take(ROWS_MAX) {
            tr role="row" {
                (name_cell(&service_link(&s.traffic.name)))
                (cell("State", "text", &health(s)))
                (signals(&s.traffic))
                (plain_cell("Second tries", &s.traffic.second_try_ratio.map_or(words::NONE.to_owned(), words::at_least)))
                (cell(&head, "text small", &spark(&s.traffic.name, sparks.and_then(|x| x.services.get(&s.traffic.name)))))
            }
        }
    };
    let route_head = span(|s| s.routes.values().next());
    let route_rows = html! {
        @for r in status.routes.iter().take(ROWS_MAX) {
            tr role="row" {
                (name_cell(&html! { a href=(page_of_route(&r.name)) { (r.name) } }))
                (signals(r))
                (cell(&route_head, "text small", &spark(&r.name, sparks.and_then(|x| x.routes.get(&r.name)))))
            }
        }
    };
    let signal_heads = [("Req/s", ""), ("Success", ""), ("p50", ""), ("p95", ""), ("p99", ""), ("In flight", "")];
    let mut service_heads = vec![("Service", "name"), ("State", "text")];
    service_heads.extend(signal_heads);
    service_heads.extend([("2nd tries", ""), (head.as_str(), "text")]);
    let mut route_heads = vec![("Route", "name")];
    route_heads.extend(signal_heads);
    route_heads.push((route_head.as_str(), "text"));
    html! {
        @if status.services.is_empty() && status.routes.is_empty() && status.pools.is_empty() {
            section class="card config" aria-label="Nothing is configured" {
                p { "No route and no service is configured yet. Write them into " code { (status.config.source) }
                    " and load it; " code { "evenkeel check" } " says what is wrong with it before." }
            }
        }
        @if !status.services.is_empty() { (table("Services", &noted(&window, status.services.len()), &service_heads, &service_rows)) }
        @if !status.routes.is_empty() { (table("Routes", &noted(&window, status.routes.len()), &route_heads, &route_rows)) }
    }
}

/// The note of a table that may have more rows than are shown.
fn noted(note: &str, rows: usize) -> String {
    match rows {
        0..=ROWS_MAX => note.to_owned(),
        rows => format!("{note}; {ROWS_MAX} of {} are shown, the JSON has all", words::grouped(rows as u64)),
    }
}

fn short_span(seconds: u64) -> String {
    if seconds >= 120 { format!("{} min", seconds / 60) } else { format!("{seconds} s") }
}

/// The cells that routes and services share.
fn signals(t: &Traffic) -> Markup {
    html! {
        (plain_cell("Requests/s", &words::rate(t.requests_per_second)))
        (success_cell(t))
        (plain_cell("p50", &words::latency(t.latency_p50_ms)))
        (plain_cell("p95", &words::latency(t.latency_p95_ms)))
        (plain_cell("p99", &words::latency(t.latency_p99_ms)))
        (plain_cell("In flight", &words::grouped(t.in_flight)))
    }
}

/// How many endpoints are healthy, in a word with its colour and in numbers; and what waits.
fn health(s: &ServiceStatus) -> Markup {
    let total = s.endpoints.len();
    let class = if s.is_lost() {
        "down"
    } else if s.endpoints.iter().any(|e| e.state.is_trouble()) {
        "degraded"
    } else {
        "ok"
    };
    let waiting = s.waiting_in_words();
    html! {
        span class={ "word plain " (class) } { (s.healthy) " of " (total) " healthy" }
        @if s.has_tiers() && s.active_tier > 0 { " " span class="of below" { "tier " (s.active_tier) } }
        @if !waiting.is_empty() { " " span class="of below" { (waiting) } }
    }
}

fn changes(home: &Home) -> Markup {
    html! {
        section class="card changes" aria-labelledby="changes-title" {
            h2 id="changes-title" { "What changed" }
            (feed(&home.changes, home.at_unix_ms, "Nothing has changed yet. Deployments, reloads and endpoints that come and go are listed here."))
            @if home.changes.trouble.is_empty() { p { a href="/journal" { "Whole journal" } } }
        }
    }
}

/// Endpoints that are not simply healthy.
fn trouble(status: &Status) -> Markup {
    let is_plain = |e: &crate::status::EndpointStatus| e.state == crate::view::EndpointState::Healthy;
    let count = status.services.iter().flat_map(|s| &s.endpoints).filter(|e| !is_plain(e)).count();
    if count == 0 {
        return html! {};
    }
    let heads = [
        ("Endpoint", "name"),
        ("Service", "text"),
        ("State", "text"),
        ("Req/s", ""),
        ("Success", ""),
        ("Reason", "text"),
    ];
    let all = status.services.iter().flat_map(|s| s.endpoints.iter().map(move |e| (s, e)));
    let rows = html! {
        @for (s, e) in all.filter(|(_, e)| !is_plain(e)).take(ROWS_MAX) {
            tr role="row" {
                (name_cell(&html! { (e.traffic.name) }))
                (cell("Service", "text", &service_link(&s.traffic.name)))
                (cell("State", "text", &state_since(e)))
                (plain_cell("Requests/s", &words::rate(e.traffic.requests_per_second)))
                (success_cell(&e.traffic))
                (cell("Reason", "text reason", &html! { (words::tame(&e.reason)) }))
            }
        }
    };
    table("Endpoints that are not simply healthy", &noted("counting every attempt", count), &heads, &rows)
}

/// What the node keeps.
fn store(files: &[FileHealth]) -> Markup {
    if files.is_empty() {
        return html! {
            section class="card config" aria-labelledby="store-title" {
                h2 id="store-title" { "What is kept" }
                p class="note" { "This node keeps nothing on disk: journal and charts reach back to its start." }
            }
        };
    }
    let heads =
        [("File", "name"), ("State", "text"), ("Size", ""), ("Waiting", ""), ("Dropped", ""), ("Where", "text")];
    let rows = html! {
        @for f in files {
            @let class = match f.state { FileState::Kept => "ok", FileState::Lost => "down", _ => "degraded" };
            tr role="row" {
                (name_cell(&html! { (f.file) }))
                (cell("State", "text", &html! {
                    span class={ "word " (class) } { (f.state.word()) }
                    " " span class="of" { "for " (words::span(Duration::from_millis(f.since_ms))) }
                }))
                (cell("Size", "", &html! { (words::size(f.bytes)) span class="of" { " of " (words::size(f.cap_bytes)) } }))
                (plain_cell("Waiting", &words::grouped(f.waiting)))
                (cell("Dropped", if f.dropped > 0 { "bad" } else { "" }, &html! { (words::grouped(f.dropped)) }))
                (cell("Where", "text reason", &html! {
                    (words::tame(&f.path)) @if !f.trouble.is_empty() { ": " (words::tame(&f.trouble)) }
                }))
            }
        }
    };
    table("What is kept", "", &heads, &rows)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{EndpointState, EndpointView, NodeView, Readiness, ServiceView, TrafficView};
    use crate::vitals::Window;

    #[test]
    fn a_large_fleet_makes_no_large_page_and_what_is_worst_is_on_it() {
        let (services, last) = (ROWS_MAX + 50, ROWS_MAX + 49);
        let named = |name: String| TrafficView { name, ..TrafficView::default() };
        let service = |n: usize| {
            let state = if n == last { EndpointState::Ejected } else { EndpointState::Healthy };
            let endpoint = EndpointView { traffic: named("a:1".into()), state, ..EndpointView::default() };
            ServiceView { traffic: named(format!("s{n}")), endpoints: vec![endpoint], ..ServiceView::default() }
        };
        let view = NodeView {
            services: (0..services).map(service).collect(),
            routes: (0..ROWS_MAX).map(|n| named(format!("r{n}"))).collect(),
            ..NodeView::default()
        };
        let clock = kernel::Clock::manual(std::time::SystemTime::UNIX_EPOCH);
        let window = Window { samples: Vec::new(), now: clock.now(), uptime: Duration::from_secs(60) };
        let status = Status::new(view, Readiness::yes(), &window);
        let home = Home {
            headline: crate::facts::headline::Headline::of(&status, &[], 0),
            at_unix_ms: 0,
            changes: crate::facts::Records::default(),
            store: Vec::new(),
            sparks: None,
            status,
        };
        let html = page(&home, "").render();
        let count = |text: &str| html.matches(text).count();
        assert_eq!((count("href=\"/routes/"), count("; 100 of 150 are shown, the JSON has all")), (ROWS_MAX, 1));
        // The one in trouble stands in a second table as well.
        assert_eq!(count("href=\"/services/s"), ROWS_MAX + 1);
        assert!(html.contains(&format!("href=\"/services/s{last}\"")), "{html}");
    }
}
