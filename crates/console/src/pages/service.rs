//! The pages on one service and on one route: figures, endpoints, charts over a range, events, requests to which something
//! happened, and for a service what an operator can do about it.

use std::time::Duration;

use maud::{Markup, html};

use super::parts::{endpoint_heads, endpoint_row, feed, page_of_route, table, tiles, traces};
use super::{Here, Page, Part, chart, facts, forms};
use crate::actions::page_of;
use crate::facts::range::{NAMED, Range};
use crate::facts::subject::{Past, RouteFacts, ServiceFacts, TRANSACTIONS};
use crate::status::{ServiceStatus, Status};
use crate::words;

/// The page on a service.
pub(crate) fn service(status: &Status, facts_of: &ServiceFacts, csrf: &str) -> Page {
    let (service, past) = (&facts_of.status, &facts_of.past);
    let name = &service.traffic.name;
    let path = page_of(name);
    let mut parts = vec![
        facts(status),
        Part::live("state", state(service)),
        Part::live("endpoints", endpoints(status, facts_of)),
        Part::live("charts", charts(past, &path, &data("service", name, &past.range))),
    ];
    if !service.endpoints.is_empty() {
        parts.push(Part::fixed(forms::endpoint_actions(service, csrf)));
    }
    if service.has_tiers() {
        parts.push(Part::fixed(forms::tier_actions(service, csrf)));
    }
    parts.push(Part::live("events", events(past, name)));
    parts.push(Part::live("troubled", troubled(past, &format!("/why?service={}", words::query_value(name)))));
    page(name, path, past, parts)
}

/// The page on a route.
pub(crate) fn route(status: &Status, facts_of: &RouteFacts) -> Page {
    let (traffic, past) = (&facts_of.status, &facts_of.past);
    let path = page_of_route(&traffic.name);
    let state = html! {
        section class="card" aria-label="State" {
            div class="state" { div { h1 { "Route " (traffic.name) } } }
            (tiles(traffic, &html! {}))
        }
    };
    let parts = vec![
        facts(status),
        Part::live("state", state),
        Part::live("charts", charts(past, &path, &data("route", &traffic.name, &past.range))),
        Part::live("troubled", troubled(past, "/why")),
    ];
    page(&traffic.name, path, past, parts)
}

fn page(name: &str, path: String, past: &Past, parts: Vec<Part>) -> Page {
    let path = format!("{path}?{}", past.range.query());
    Page {
        title: format!("{name} · Evenkeel"),
        here: Here::Elsewhere,
        json: "/v1/status".to_owned(),
        path,
        is_live: true,
        layout: "subject",
        parts,
    }
}

/// Where the data of the charts is.
pub(super) fn data(scope: &str, name: &str, range: &Range) -> String {
    format!(
        "/v1/tallies?scope={scope}&name={}&step={}&since={}&until={}",
        words::query_value(name),
        range.step_word(),
        range.from_unix_s * 1_000,
        range.until_unix_s * 1_000
    )
}

fn state(service: &ServiceStatus) -> Markup {
    let total = service.endpoints.len();
    let taken_out = service.endpoints.iter().filter(|e| e.state.is_taken_out()).count();
    html! {
        section class="card" aria-label="State" {
            div class="state" {
                div {
                    h1 { "Service " (service.traffic.name) }
                    p {
                        (service.healthy) " of " (words::count(total, "endpoint")) " healthy"
                        @if taken_out > 0 { ", " (taken_out) " taken out by operators" }
                    }
                }
            }
            (tiles(&service.traffic, &html! {}))
            dl class="pairs inset" {
                @if service.has_tiers() {
                    dt { "Tier" }
                    dd {
                        (service.active_tier) ", of " (words::count(service.tiers, "tier"))
                        @if !service.tier_reason.is_empty() { span class="note" { " · " (words::tame(&service.tier_reason)) } }
                    }
                }
                @if let Some(budget) = service.budget_in_words() { dt { "Second tries" } dd { (budget) } }
                @let causes = service.second_tries_in_words();
                @if !causes.is_empty() { dt { "By cause" } dd { (causes) span class="note" { " · since the start" } } }
                @let waiting = service.waiting_in_words();
                dt { "Waiting" } dd { @if waiting.is_empty() { "nothing" } @else { (waiting) } }
            }
        }
    }
}

fn endpoints(status: &Status, facts_of: &ServiceFacts) -> Markup {
    let service = &facts_of.status;
    let tiers = service.has_tiers();
    let rows = html! {
        @for e in &service.endpoints { (endpoint_row(tiers, e, facts_of.sparks.get(&e.traffic.name))) }
    };
    let window = words::window(Duration::from_secs_f64(status.window_seconds));
    table("Endpoints", &format!("{window}, counting every attempt"), &endpoint_heads(tiers), &rows)
}

pub(super) fn charts(past: &Past, path: &str, data: &str) -> Markup {
    let marks = past.marks.records.len();
    html! {
        section class="card config" aria-labelledby="charts-title" {
            div class="with-range" {
                h2 id="charts-title" { "Over time" }
                nav class="range" aria-label="Range" {
                    @for (name, _) in NAMED {
                        a href={ (path) "?range=" (name) } aria-current=[(past.range.name == Some(name)).then_some("true")] { (name) }
                    }
                }
            }
            @if past.range.name.is_none() {
                p class="note" { "A range of its own: " (crate::when::full(past.range.from_unix_s * 1_000)) " to " (crate::when::full(past.range.until_unix_s * 1_000)) "." }
            }
            (chart::both(past, data))
            @if !past.marks.trouble.is_empty() { p class="note bad" { (past.marks.trouble) } }
            @if marks > 0 {
                details {
                    summary { (words::count(marks, "change")) " in this time" }
                    (feed(&past.marks, past.at_unix_ms, ""))
                }
            }
        }
    }
}

pub(super) fn events(past: &Past, service: &str) -> Markup {
    html! {
        section class="card changes" aria-labelledby="events-title" {
            h2 id="events-title" { "What happened" }
            (feed(&past.events, past.at_unix_ms, "Nothing is in the journal about this."))
            @if past.events.more { p { a href={ "/journal?service=" (words::query_value(service)) } { "All of it" } } }
        }
    }
}

pub(super) fn troubled(past: &Past, all: &str) -> Markup {
    let title = if past.noun == TRANSACTIONS {
        "Transactions to which something happened"
    } else {
        "Requests to which something happened"
    };
    html! {
        @if past.troubled.is_empty() {
            section class="card config" aria-labelledby="troubled-title" {
                h2 id="troubled-title" { (title) }
                p class="note" { "None of which a trace is kept. " a href=(all) { "All traces" } }
            }
        } @else {
            (traces(title, "newest first", &past.troubled, past.at_unix_ms))
            p class="note" { a href=(all) { "All traces" } }
        }
    }
}
