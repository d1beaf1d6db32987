//! The journal: a form that filters, records by day, their fields behind a disclosure, and a pager by cursor. What is
//! asked for stands in the address.

use kernel::Level;
use kernel::journal::{JournalQuery, Record};
use maud::{Markup, html};

use super::parts::{line, service_link};
use super::{Here, Page, Part, facts};
use crate::facts::log::{Log, groups};
use crate::status::Status;
use crate::{when, words};

/// What was asked for, as it was written, so that the form shows it again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) since: String,
    pub(crate) until: String,
    pub(crate) limit: Option<usize>,
}

/// The page.
pub(crate) fn page(status: &Status, query: &JournalQuery, asked: &Asked, log: &Log) -> Page {
    let filters = filters_of(query, asked);
    let path = address("/journal", &filters);
    let parts = vec![
        facts(status),
        Part::fixed(head(status, query, asked, &filters)),
        Part::live("records", records(log, query, &filters)),
    ];
    Page {
        title: "Journal · Evenkeel".to_owned(),
        here: Here::Journal,
        json: address("/v1/journal", &filters),
        path: match query.before {
            Some(before) => with(&path, "before", &before.to_string()),
            None => path,
        },
        // A page from further back does not change.
        is_live: query.before.is_none() && query.after.is_none(),
        layout: "single",
        parts,
    }
}

/// The filters as pairs of an address.
fn filters_of(query: &JournalQuery, asked: &Asked) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    let mut add = |name, value: &str| {
        if !value.is_empty() {
            pairs.push((name, value.to_owned()));
        }
    };
    add("kind", &query.kinds.join(","));
    add("service", query.service.as_deref().unwrap_or_default());
    add("endpoint", query.endpoint.as_deref().unwrap_or_default());
    add("level", if query.level == Level::Info { "" } else { query.level.word() });
    add("since", &asked.since);
    add("until", &asked.until);
    add("marks", if query.marks { "true" } else { "" });
    add("limit", &asked.limit.map(|n| n.to_string()).unwrap_or_default());
    pairs
}

fn address(path: &str, pairs: &[(&'static str, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", words::query_value(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

fn with(path: &str, name: &str, value: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}{name}={value}")
}

fn head(status: &Status, query: &JournalQuery, asked: &Asked, filters: &[(&'static str, String)]) -> Markup {
    let mut services: Vec<&str> = status.services.iter().map(|s| s.traffic.name.as_str()).collect();
    // A service that is gone from the configuration is still in the journal.
    if let Some(service) = &query.service
        && !services.contains(&service.as_str())
    {
        services.push(service);
    }
    let mut kinds = groups();
    let kind = query.kinds.join(",");
    if !kind.is_empty() && !kinds.contains(&kind.as_str()) {
        kinds.push(&kind);
    }
    let follow: Vec<_> = filters.iter().filter(|(name, _)| !matches!(*name, "until" | "limit")).cloned().collect();
    html! {
        section class="card config" aria-labelledby="journal-title" {
            h1 id="journal-title" { "Journal" }
            form class="filter" method="get" action="/journal" {
                (select("kind", "Kind", "all kinds", &kinds, &kind))
                (select("service", "Service", "all services", &services, query.service.as_deref().unwrap_or_default()))
                (select("level", "At least", "everything", &["warn", "error"], if query.level == Level::Info { "" } else { query.level.word() }))
                (input("endpoint", "Endpoint", query.endpoint.as_deref().unwrap_or_default(), "10.0.0.3:8080"))
                (input("since", "Since (UTC)", &asked.since, "2h"))
                (input("until", "Until (UTC)", &asked.until, "30m"))
                label class="check" { input type="checkbox" name="marks" value="true" checked[query.marks]; " Changes only" }
                button type="submit" { "Show" }
                @if !filters.is_empty() { a class="quiet" href="/journal" { "Show all" } }
            }
            p class="note" {
                "Times are UTC. "
                a href=(address("/v1/journal/follow", &follow)) { "Follow" } " as a stream · "
                a href=(address("/v1/journal", filters)) { "The same as JSON" }
            }
        }
    }
}

fn select(name: &str, label: &str, all: &str, options: &[&str], chosen: &str) -> Markup {
    html! {
        label class="field" {
            span { (label) }
            select name=(name) {
                option value="" { (all) }
                @for option in options { option value=(option) selected[*option == chosen] { (option) } }
            }
        }
    }
}

fn input(name: &str, label: &str, value: &str, example: &str) -> Markup {
    html! {
        label class="field" {
            span { (label) }
            input type="text" name=(name) value=(value) placeholder=(example) autocomplete="off" size="14";
        }
    }
}

fn records(log: &Log, query: &JournalQuery, filters: &[(&'static str, String)]) -> Markup {
    let records = &log.records.records;
    let path = address("/journal", filters);
    // Records that are only in memory have no place to go on from.
    let older = records.last().map(|r| r.cursor).filter(|cursor| log.records.more && *cursor > 0);
    html! {
        @if !log.records.trouble.is_empty() { p class="card config note bad" { (log.records.trouble) } }
        @else if records.is_empty() {
            p class="card config note" {
                @if filters.is_empty() && query.before.is_none() { "Nothing has happened yet." }
                @else { "Nothing in the journal is like that." }
            }
        }
        @for day in records.chunk_by(|a, b| when::day(a.at_unix_ms) == when::day(b.at_unix_ms)) {
            section class="card changes" {
                @if let Some(first) = day.first() { h2 { (when::day(first.at_unix_ms)) } }
                ol class="feed wide" { @for r in day { (line(r, log.at_unix_ms, &more(r))) } }
            }
        }
        @if older.is_some() || query.before.is_some() {
            nav class="pager" aria-label="More of the journal" {
                @if query.before.is_some() { a href=(path) { "Newest" } }
                @if let Some(cursor) = older { a href=(with(&path, "before", &cursor.to_string())) rel="next" { "Older" } }
            }
        }
    }
}

/// Kind, service, actor and fields of a record.
fn more(r: &Record) -> Markup {
    html! {
        div class="tags" {
            code { (words::tame(&r.kind)) }
            @if !r.service.is_empty() { (journal_service(&r.service)) }
            @if !r.actor.is_empty() { span { "by " (words::tame(&r.actor)) } }
            (fields(r))
        }
    }
}

/// All that the record says.
fn fields(r: &Record) -> Markup {
    html! {
        details {
            summary { "Fields" }
            dl class="pairs" {
                dt { "at" } dd { (when::machine(r.at_unix_ms)) }
                @if r.count > 1 {
                    dt { "until" } dd { (when::machine(r.until_unix_ms)) }
                    dt { "count" } dd { (words::grouped(r.count)) }
                }
                @for (name, value) in &r.data {
                    dt { (words::tame(name)) }
                    dd { @match value.as_str() { Some(text) => (tame_long(text)), None => (value.to_string()) } }
                }
                @if r.cursor > 0 { dt { "cursor" } dd { (r.cursor) } }
                dt { "told by" } dd { "process " (r.boot.as_str()) ", number " (r.number) }
            }
        }
    }
}

/// A service may be gone from the configuration; its past is in the journal.
fn journal_service(service: &str) -> Markup {
    html! { a href={ "/journal?service=" (words::query_value(service)) } { (service) } }
}

/// Longer than [`words::tame`] allows: a field may hold a list of changes.
fn tame_long(text: &str) -> String {
    text.chars().map(|c| if words::is_unruly(c) && c != '\n' { ' ' } else { c }).collect()
}

/// A link to a service's page, for those that there are.
pub(crate) fn known_service(status: &Status, service: &str) -> Markup {
    match status.services.iter().any(|s| s.traffic.name == service) {
        true => service_link(service),
        false => html! { (service) },
    }
}
