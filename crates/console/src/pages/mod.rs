//! Pages: server-rendered, whole without a script, light and dark by the reader's preference, from a phone's width up.
//! A page is a list of parts; parts with an id are sent anew by `/live` when they changed, and the one small script puts
//! them in place. Tables keep their roles when they are laid out as cards; state is always said in words beside its
//! colour.

pub(crate) mod chart;
mod forms;
pub(crate) mod home;
pub(crate) mod journal;
pub(crate) mod parts;
pub(crate) mod pool;
pub(crate) mod service;
pub(crate) mod why;

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::assets;
use crate::problem::Problem;
use crate::status::Status;
use crate::words;

/// Which entry of the navigation a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    Home,
    Journal,
    Why,
    Elsewhere,
}

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) here: Here,
    /// Path and query of the page itself.
    pub(crate) path: String,
    /// Whether its parts are sent anew as they change.
    pub(crate) is_live: bool,
    /// A class for the layout of its parts.
    pub(crate) layout: &'static str,
    pub(crate) parts: Vec<Part>,
    /// Where the same is found as JSON.
    pub(crate) json: String,
}

/// A part of a page.
#[derive(Debug)]
pub(crate) struct Part {
    /// By which it is replaced; empty: it stands as it was.
    id: &'static str,
    body: Markup,
}

impl Part {
    pub(crate) fn live(id: &'static str, body: Markup) -> Part {
        Part { id, body: PreEscaped(without_controls(&body.0)) }
    }

    pub(crate) fn fixed(body: Markup) -> Part {
        Part::live("", body)
    }
}

impl Page {
    /// The parts that may change, for `/live`.
    pub(crate) fn live_parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.parts.iter().filter(|part| !part.id.is_empty()).map(|part| (part.id, part.body.0.as_str()))
    }

    /// The whole page.
    pub(crate) fn render(&self) -> String {
        let live = self.is_live.then(|| format!("/live?of={}", words::query_value(&self.path)));
        let facts = self.parts.iter().find(|part| part.id == FACTS);
        let body = html! {
            (top(self.here, facts.map(|part| &part.body)))
            main id="main" class=(self.layout) {
                @for part in self.parts.iter().filter(|part| part.id != FACTS) {
                    @if part.id.is_empty() { (part.body) } @else { div id=(part.id) class="part" { (part.body) } }
                }
            }
            (foot(self, live.is_some()))
        };
        shell(&self.title, live.as_deref(), &body)
    }
}

/// The part that stands in the header.
pub(crate) const FACTS: &str = "facts";

/// The facts of the header: version, age, size.
pub(crate) fn facts(status: &Status) -> Part {
    let facts = [
        format!("version {}", status.version),
        format!("up {}", words::span(Duration::from_secs(status.uptime_seconds))),
        words::count(status.workers, "worker"),
        words::count(usize::try_from(status.connections).unwrap_or(usize::MAX), "connection"),
    ];
    Part::live(FACTS, html! { (facts.join(" · ")) })
}

/// The page on an error.
pub(crate) fn problem(problem: &Problem) -> String {
    let body = html! {
        (top(Here::Elsewhere, None))
        main id="main" class="card problem" {
            span class="word down" { (problem.code.status()) }
            h1 { (problem.code.title()) }
            p { (problem.detail) }
            p class="note" { "Code: " (problem.code.code()) }
        }
    };
    shell(problem.code.title(), None, &body)
}

/// HTML without control characters, which no name needs and a terminal that shows the page's source would obey.
fn without_controls(html: &str) -> String {
    html.replace(|c: char| words::is_unruly(c) && c != '\n', " ")
}

fn shell(title: &str, live: Option<&str>, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" type="image/svg+xml" href="/assets/icon.svg";
                link rel="stylesheet" href=(assets::style());
                @if live.is_some() { script src=(assets::script()) defer {} }
            }
            body data-live=[live] {
                a class="skip" href="#main" { "Skip to the content" }
                div class="page" { (body) }
            }
        }
    };
    without_controls(&page.into_string())
}

fn top(here: Here, facts: Option<&Markup>) -> Markup {
    let entries = [("/", "Node", Here::Home), ("/journal", "Journal", Here::Journal), ("/why", "Why", Here::Why)];
    html! {
        header class="top" {
            a class="brand" href="/" {
                svg width="24" height="24" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2"
                    stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" {
                    path d="M3 11h18l-3.2 6H6.2z" {}
                    path d="M12 11V3l5 5" {}
                    path d="M12 17v4" {}
                }
                "Evenkeel"
            }
            nav aria-label="Pages" {
                @for (path, name, page) in entries {
                    a href=(path) aria-current=[(page == here).then_some("page")] { (name) }
                }
            }
            @if let Some(facts) = facts { p class="facts" id=(FACTS) { (facts) } }
        }
    }
}

fn foot(page: &Page, is_live: bool) -> Markup {
    html! {
        footer class="foot" {
            a href=(page.json) { "As JSON" }
            a href="/metrics" { "Metrics" }
            a href="/readyz" { "Readiness" }
            a href="/livez" { "Liveness" }
            span class="live" {
                a href=(page.path) { "Load again" }
                @if is_live {
                    // The script shows them; without it there is nothing to pause.
                    span id="live-note" role="status" {}
                    button id="pause" type="button" hidden { "Pause" }
                }
            }
        }
    }
}
