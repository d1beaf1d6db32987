//! The page on one pool: where its primary is, what clients wait for, its servers, its databases and users, its statements,
//! and what an operator can do about it; and the table of pools on the first page.

use std::time::Duration;

use maud::{Markup, html};

use super::parts::{cell, name_cell, plain_cell, table};
use super::service::{charts, data, events, troubled};
use super::{Here, Page, Part, facts, forms};
use crate::facts::pool::PoolFacts;
use crate::pool_actions::page_of_pool;
use crate::pool_status::{GroupStatus, PoolStatus};
use crate::status::Status;
use crate::view::{PoolServer, PoolStatement};
use crate::words;

/// Rows of a table; the JSON has them all.
const ROWS_MAX: usize = 100;

/// The page.
pub(crate) fn page(status: &Status, facts_of: &PoolFacts, csrf: &str) -> Page {
    let (pool, past) = (&facts_of.status, &facts_of.past);
    let path = page_of_pool(&pool.name);
    let window = words::window(Duration::from_secs_f64(status.window_seconds));
    let parts = vec![
        facts(status),
        Part::live("state", state(pool)),
        Part::live("servers", servers(pool)),
        Part::live("groups", groups(pool, &window)),
        Part::live("statements", statements(facts_of)),
        Part::live("charts", charts(past, &path, &data("pool", &pool.name, &past.range))),
        Part::fixed(forms::pool_actions(pool, csrf)),
        Part::live("events", events(past, &pool.name)),
        Part::live("troubled", troubled(past, "/why")),
    ];
    Page {
        title: format!("{} · Evenkeel", pool.name),
        here: Here::Elsewhere,
        json: format!("/v1{path}"),
        path: format!("{path}?{}", past.range.query()),
        is_live: true,
        layout: "subject",
        parts,
    }
}

/// Every pool, the worst first; nothing if there is none.
pub(crate) fn list(status: &Status) -> Markup {
    if status.pools.is_empty() {
        return html! {};
    }
    let mut pools: Vec<&PoolStatus> = status.pools.iter().collect();
    pools.sort_by_key(|pool| std::cmp::Reverse(pool.level()));
    let heads = [
        ("Pool", "name"),
        ("State", "text"),
        ("Primary", "text"),
        ("Clients", ""),
        ("Active", ""),
        ("Waiting", ""),
        ("Connections", ""),
        ("Trans/s", ""),
        ("p95", ""),
        ("Wait p95", ""),
    ];
    let rows = html! {
        @for pool in pools.into_iter().take(ROWS_MAX) {
            tr role="row" {
                (name_cell(&html! { a href=(page_of_pool(&pool.name)) { (pool.name) } }))
                (cell("State", "text", &state_word(pool)))
                (cell("Primary", "text", &primary(pool)))
                (plain_cell("Clients", &words::grouped(pool.clients.into())))
                (plain_cell("Active", &words::grouped(pool.clients_active.into())))
                (waiting_cell(pool.clients_waiting, pool.max_wait_ms))
                (cell("Connections", "", &of(pool.connections, pool.max_connections)))
                (plain_cell("Transactions/s", &words::rate(pool.flow.transactions_per_second)))
                (plain_cell("p95", &words::latency(pool.flow.transaction_p95_ms)))
                (plain_cell("Wait p95", &words::latency(pool.flow.wait_p95_ms)))
            }
        }
    };
    let window = words::window(Duration::from_secs_f64(status.window_seconds));
    table("Pools", &window, &heads, &rows)
}

fn state_word(pool: &PoolStatus) -> Markup {
    let class = if pool.state == "paused" { "draining" } else { pool.state };
    html! { span class={ "word " (class) } { (pool.state) } }
}

fn primary(pool: &PoolStatus) -> Markup {
    html! { @match &pool.primary { Some(name) => (words::tame(name)), None => span class="of" { "none" } } }
}

fn of(n: u32, most: u32) -> Markup {
    html! { (words::grouped(n.into())) span class="of" { " of " (words::grouped(most.into())) } }
}

/// How many wait, and for how long the first has.
fn waiting_cell(waiting: u32, max_wait_ms: u64) -> Markup {
    let content = html! {
        (words::grouped(waiting.into()))
        @if waiting > 0 { span class="of" { ", for " (words::latency(Some(max_wait_ms as f64))) } }
    };
    cell("Waiting", if waiting > 0 { "bad" } else { "" }, &content)
}

fn state(pool: &PoolStatus) -> Markup {
    let flow = &pool.flow;
    html! {
        section class="card" aria-label="State" {
            div class="state" {
                (state_word(pool))
                div {
                    h1 { "Pool " (pool.name) }
                    p {
                        @match pool.trouble_in_words() {
                            Some(trouble) => (trouble),
                            None if pool.is_paused => "Paused by an operator: transactions that have not begun wait.",
                            None => { (pool.primary_in_words()) "." },
                        }
                    }
                }
            }
            dl class="tiles" {
                div class="tile" { dt { "Transactions/s" } dd { (words::rate(flow.transactions_per_second)) } }
                div class="tile" { dt { "Success" } dd { (words::success(flow.success_ratio)) } }
                div class="tile" { dt { "95 % ended within" } dd { (words::latency(flow.transaction_p95_ms)) } }
                div class="tile" { dt { "Clients that wait" } dd { (words::grouped(pool.clients_waiting.into())) } }
            }
            dl class="pairs inset" {
                dt { "Clients" }
                dd { (of(pool.clients, pool.max_clients)) ", " (words::grouped(pool.clients_active.into())) " have a connection" }
                dt { "Connections" } dd { (of(pool.connections, pool.max_connections)) }
                dt { "Waits" }
                dd {
                    (words::rate(flow.waits_per_second)) "/s, half within " (words::latency(flow.wait_p50_ms))
                    ", 99 % within " (words::latency(flow.wait_p99_ms))
                }
                dt { "Listening on" } dd { (words::tame(&pool.listen.join(", "))) }
                dt { "Mode" } dd { (pool.mode) }
                @let failures = failures(pool);
                @if !failures.is_empty() { dt { "Turned away" } dd { (failures) span class="note" { " · since the start" } } }
            }
        }
    }
}

/// Errors of the pooler's own, by kind; empty without any.
pub(crate) fn failures(pool: &PoolStatus) -> String {
    let some = pool.flow.failures_total.iter().filter(|(_, n)| **n > 0);
    some.map(|(kind, n)| format!("{} {}", words::grouped(*n), words::tame(&kind.replace('_', " "))))
        .collect::<Vec<_>>()
        .join(", ")
}

fn servers(pool: &PoolStatus) -> Markup {
    let heads = [
        ("Server", "name"),
        ("Role", "text"),
        ("Timeline", ""),
        ("Behind", ""),
        ("Answered", ""),
        ("Takes", ""),
        ("Version", "text"),
        ("Reason", "text"),
    ];
    let rows = html! {
        @for server in &pool.servers {
            tr role="row" {
                (name_cell(&html! { (words::tame(&server.name)) }))
                (cell("Role", "text", &role(server)))
                (plain_cell("Timeline", &dash(server.timeline)))
                (plain_cell("Behind", &server.lag_bytes.map_or(words::NONE.to_owned(), words::size)))
                (plain_cell("Answered", &server.answered_ms.map_or(words::NONE.to_owned(), answered)))
                (plain_cell("Takes", &dash(server.max_connections)))
                (cell("Version", "text", &html! { (words::tame(server.version.as_deref().unwrap_or(words::NONE))) }))
                (cell("Reason", "text reason", &html! { (words::tame(server.error.as_deref().unwrap_or_default())) }))
            }
        }
    };
    table("Servers", "", &heads, &rows)
}

fn role(server: &PoolServer) -> Markup {
    let class = match server.role.as_str() {
        "primary" | "standby" => "ok",
        "drained" => "drained",
        "unreachable" => "down",
        _ => "degraded",
    };
    html! { span class={ "word " (class) } { (words::tame(&server.role)) } }
}

/// How long ago a server answered.
pub(crate) fn answered(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms ago") } else { words::ago(Duration::from_millis(ms)) }
}

fn dash(n: Option<u32>) -> String {
    n.map_or(words::NONE.to_owned(), |n| n.to_string())
}

fn groups(pool: &PoolStatus, window: &str) -> Markup {
    let heads = [
        ("Database", "name"),
        ("User", "text"),
        ("Active", ""),
        ("Waiting", ""),
        ("Idle", ""),
        ("Connections", ""),
        ("Trans/s", ""),
        ("Success", ""),
        ("p50", ""),
        ("p95", ""),
        ("p99", ""),
        ("Wait p95", ""),
    ];
    let rows = html! {
        @for group in pool.groups.iter().take(ROWS_MAX) { (group_row(group)) }
    };
    let note = match pool.groups.len() {
        0..=ROWS_MAX => window.to_owned(),
        n => format!("{window}; {ROWS_MAX} of {} are shown, the JSON has all", words::grouped(n as u64)),
    };
    html! {
        @if pool.groups.is_empty() {
            section class="card config" aria-label="Databases and users" { p class="note" { "Nobody has connected yet." } }
        } @else { (table("Databases and users", &note, &heads, &rows)) }
    }
}

fn group_row(group: &GroupStatus) -> Markup {
    let flow = &group.flow;
    let active = html! {
        (words::grouped(group.clients_active.into()))
        @if group.clients_pinned > 0 { span class="of" { ", " (group.clients_pinned) " pinned" } }
    };
    let open = group.servers_active + group.servers_idle + group.servers_busy;
    html! {
        tr role="row" {
            (name_cell(&html! { (words::tame(&group.database)) }))
            (cell("User", "text", &html! { (words::tame(&group.user)) }))
            (cell("Active", "", &active))
            (waiting_cell(group.clients_waiting, group.max_wait_ms))
            (plain_cell("Idle", &words::grouped(group.clients_idle.into())))
            (cell("Connections", "", &of(open, group.size)))
            (plain_cell("Transactions/s", &words::rate(flow.transactions_per_second)))
            (plain_cell("Success", &words::success(flow.success_ratio)))
            (plain_cell("p50", &words::latency(flow.transaction_p50_ms)))
            (plain_cell("p95", &words::latency(flow.transaction_p95_ms)))
            (plain_cell("p99", &words::latency(flow.transaction_p99_ms)))
            (plain_cell("Wait p95", &words::latency(flow.wait_p95_ms)))
        }
    }
}

fn statements(facts_of: &PoolFacts) -> Markup {
    if facts_of.statements.is_empty() {
        return html! {};
    }
    let heads = [
        ("Statement", "name"),
        ("Database", "text"),
        ("User", "text"),
        ("Calls", ""),
        ("Time", ""),
        ("p50", ""),
        ("p99", ""),
        ("Rows", ""),
        ("Errors", ""),
        ("Fingerprint", "text"),
    ];
    let total: u64 = facts_of.statements.iter().map(|s| s.total_us).sum();
    let rows = html! { @for s in &facts_of.statements { (statement_row(s, total)) } };
    let note = format!(
        "since the start, by the time they took; {} of {}",
        facts_of.statements.len(),
        words::grouped(facts_of.statements_known as u64)
    );
    table("Statements", &note, &heads, &rows)
}

fn statement_row(s: &PoolStatement, total: u64) -> Markup {
    let ms = |us: Option<u64>| words::latency(us.map(|us| us as f64 / 1000.0));
    let share = if total > 0 { s.total_us as f64 / total as f64 } else { 0.0 };
    let time =
        html! { (words::latency(Some(s.total_us as f64 / 1000.0))) span class="of" { ", " (words::percent(share)) } };
    html! {
        tr role="row" {
            (name_cell(&html! { code { (words::tame(&s.text)) } }))
            (cell("Database", "text", &html! { (words::tame(&s.database)) }))
            (cell("User", "text", &html! { (words::tame(&s.user)) }))
            (plain_cell("Calls", &words::grouped(s.calls)))
            (cell("Time", "", &time))
            (plain_cell("p50", &ms(s.p50_us)))
            (plain_cell("p99", &ms(s.p99_us)))
            (plain_cell("Rows", &words::grouped(s.rows)))
            (cell("Errors", if s.errors > 0 { "bad" } else { "" }, &html! { (words::grouped(s.errors)) }))
            (cell("Fingerprint", "text", &html! { code { (s.fingerprint) } }))
        }
    }
}
