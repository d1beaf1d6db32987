//! Why a request, or a transaction, went the way it did: a form that finds one, the requests whose traces are kept, and for one request its
//! decision path as a list of steps, its tries as bars, and the journal of those minutes.

use kernel::trace::{RequestTrace, Step, What, Why};
use maud::{Markup, html};

use super::journal::known_service;
use super::parts::{feed, page_of_route, traces};
use super::{Here, Page, Part, facts};
use crate::facts::log::{TraceList, WhyFacts};
use crate::status::Status;
use crate::why_words::{self, Tone, TrySpan};
use crate::{when, words};

/// Width of the bars, in the drawing's own units.
const BAR: f64 = 1_000.0;

/// The form and the list.
pub(crate) fn list(status: &Status, service: Option<&str>, list: &TraceList) -> Page {
    let note = service.map_or("newest first".to_owned(), |s| format!("for {s}, newest first"));
    let found = html! {
        @if list.traces.is_empty() {
            section class="card config" aria-labelledby="kept-title" {
                h2 id="kept-title" { "Requests whose traces are kept" }
                p class="note" { "None yet. Every request that fails, is tried again, waits or is turned away will be, and a sample of the others." }
            }
        } @else { (traces("Requests whose traces are kept", &note, &list.traces, list.at_unix_ms)) }
    };
    let path = match service {
        Some(service) => format!("/why?service={}", words::query_value(service)),
        None => "/why".to_owned(),
    };
    let parts = vec![facts(status), Part::fixed(search("", service)), Part::live("traces", found)];
    Page {
        title: "Why · Evenkeel".to_owned(),
        here: Here::Why,
        json: path.replacen("/why", "/v1/traces", 1),
        path,
        is_live: true,
        layout: "single",
        parts,
    }
}

/// The page on one request.
pub(crate) fn one(status: &Status, facts_of: &WhyFacts) -> Page {
    let id = &facts_of.id;
    let now = facts_of.at_unix_ms;
    let mut parts = vec![facts(status)];
    match &facts_of.why {
        Why::Found(found) => {
            if found.len() > 1 {
                let note = html! { p class="note" { (found.len()) " requests had this id, the newest first." } };
                parts.push(Part::fixed(note));
            }
            for (at, t) in found.iter().enumerate() {
                parts.push(Part::fixed(request(status, t, at, now)));
            }
            parts.push(Part::fixed(html! {
                section class="card changes" aria-labelledby="beside-title" {
                    h2 id="beside-title" { "The journal of those minutes" }
                    (feed(&facts_of.records, now, "Nothing happened within a minute before and after."))
                }
            }));
        }
        Why::NotKept { .. } => {
            let sentences = why_words::not_kept(id, &facts_of.why, now);
            parts.push(Part::fixed(html! {
                section class="card config" aria-labelledby="none-title" {
                    h1 id="none-title" { (sentences.first().map(String::as_str).unwrap_or_default()) }
                    @for sentence in sentences.iter().skip(1) { p { (sentence) } }
                    p class="note" { "The access log has a line for every request. " a href="/why" { "Traces that are kept" } }
                }
            }));
        }
    }
    parts.push(Part::fixed(search_another()));
    let path = super::parts::page_of_request(id);
    Page {
        title: format!("Why {} · Evenkeel", why_words::shown_id(id)),
        here: Here::Why,
        json: if facts_of.is_found() { format!("/v1{path}") } else { "/v1/traces".to_owned() },
        path,
        is_live: false,
        layout: "single",
        parts,
    }
}

fn search(value: &str, service: Option<&str>) -> Markup {
    html! {
        section class="card config" aria-labelledby="why-title" {
            h1 id="why-title" { "Why did a request go the way it did?" }
            (form(value))
            @if let Some(service) = service { p class="note" { "Only for " (service) ". " a href="/why" { "All services" } } }
        }
    }
}

fn search_another() -> Markup {
    html! { section class="card config" aria-label="Another request" { (form("")) } }
}

fn form(value: &str) -> Markup {
    html! {
        form class="filter" method="get" action="/why" role="search" {
            label class="field long" {
                span { "Request id" }
                input type="text" name="id" value=(value) required maxlength="200" autocomplete="off"
                    placeholder="as in x-request-id and in the logs";
            }
            button type="submit" { "Find" }
        }
    }
}

fn request(status: &Status, t: &RequestTrace, at: usize, now: u64) -> Markup {
    let begun = t.at_unix_us / 1_000;
    let tone = why_words::tone_of_end(t);
    let (class, word) = match tone {
        Tone::Good if t.is_transaction() => ("ok", "ended"),
        Tone::Good => ("ok", "answered"),
        _ => ("down", "failed"),
    };
    let heading = html! { (why_words::request(t)) };
    let tries = why_words::tries_of(t);
    html! {
        section class="card" aria-label={ "Request " (at + 1) } {
            div class="state" {
                span class={ "word " (class) } { (word) }
                div {
                    @if at == 0 { h1 class="request" { (heading) } } @else { h2 class="request" { (heading) } }
                    p class="said" { (why_words::ended(t)) }
                    p { (why_words::why_kept(&t.kept)) }
                }
            }
            dl class="pairs inset" {
                dt { "When" } dd { (when::machine(begun)) span class="note" { " · " (when::ago(begun, now)) } }
                dt { "From" } dd { (words::tame(&t.client)) }
                @match t.steps.first() {
                    Some(Step { what: What::Began { pool, database, user, application }, .. }) => {
                        @for (name, value) in
                            [("Application", application), ("Pool", pool), ("Database", database), ("User", user)]
                        {
                            @if !value.is_empty() { dt { (name) } dd { (words::tame(value)) } }
                        }
                    }
                    _ => {
                        dt { "For" } dd { (words::tame(&t.host)) }
                        dt { "Route" }
                        dd { @if t.route.is_empty() { "none matched" } @else { (route(status, &t.route)) } }
                    }
                }
                @if !t.service.is_empty() { dt { "Service" } dd { (known_service(status, &t.service)) } }
                dt { "Id" } dd { code { (why_words::shown_id(&t.id)) } }
            }
            @if !tries.is_empty() { (waterfall(&tries, t.end.took_us)) }
            (steps(t))
        }
    }
}

fn route(status: &Status, route: &str) -> Markup {
    match status.routes.iter().any(|r| r.name == route) {
        true => html! { a href=(page_of_route(route)) { (route) } },
        false => html! { (route) },
    }
}

/// The tries as bars over the time of the request: until the connection pale, then in the colour of what came of it.
fn waterfall(tries: &[TrySpan], took_us: u64) -> Markup {
    let whole = tries.iter().map(|span| span.until_us).max().unwrap_or_default().max(took_us).max(1) as f64;
    let x = |us: u64| us as f64 / whole * BAR;
    html! {
        div class="falls" {
            h2 { "Its tries" span class="note" { " over " (why_words::time(took_us)) } }
            ol {
                @for span in tries {
                    @let width = (x(span.until_us) - x(span.from_us)).max(4.0);
                    @let label = format!(
                        "Try {} at {}, from {} to {}: {}", span.number, span.endpoint, why_words::at(span.from_us),
                        why_words::at(span.until_us), span.outcome
                    );
                    li {
                        span class="who" { "try " (span.number) " · " (span.endpoint) }
                        svg role="img" aria-label=(label) viewBox={ "0 0 " (BAR) " 20" } preserveAspectRatio="none" {
                            title { (label) }
                            path class="ground" d={ "M0 10H" (BAR) } {}
                            rect class={ "try " (class_of(span.tone)) } x=(fixed(x(span.from_us))) y="3" width=(fixed(width)) height="14" {}
                            @if let Some(connected) = span.connected_us {
                                rect class="connecting" x=(fixed(x(span.from_us))) y="3" height="14"
                                    width=(fixed((x(connected) - x(span.from_us)).max(0.0))) {}
                            }
                        }
                        span class={ "outcome " (class_of(span.tone)) } { (span.outcome) }
                    }
                }
            }
        }
    }
}

fn fixed(units: f64) -> String {
    format!("{units:.1}")
}

fn class_of(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Bad => "bad",
    }
}

fn steps(t: &RequestTrace) -> Markup {
    html! {
        div class="steps" {
            h2 { "Step by step" }
            ol {
                @for step in &t.steps {
                    @let said = why_words::step(step);
                    li class=(class_of(said.tone)) {
                        span class="at" { (why_words::at(step.at_us)) }
                        span class="try" { @if said.number > 0 { "try " (said.number) } }
                        span class="what" { (said.text) }
                    }
                }
                @if t.clipped { li { span class="at" { "…" } span class="try" {} span class="what" { "more happened than a trace has room for" } } }
                li class=(class_of(why_words::tone_of_end(t))) {
                    span class="at" { (why_words::at(t.end.took_us)) } span class="try" {} span class="what" { "the end" }
                }
            }
        }
    }
}
