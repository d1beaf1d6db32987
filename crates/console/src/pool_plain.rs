//! Pools as text for a terminal.

use std::fmt::Write as _;

use crate::facts::pool::PoolFacts;
use crate::pages::pool::{answered, failures};
use crate::plain::table;
use crate::pool_status::PoolStatus;
use crate::words;

/// A table of pools; nothing without any.
pub(crate) fn pools(out: &mut String, pools: &[PoolStatus]) {
    let heads = ["CLIENTS", "ACTIVE", "WAITING", "CONNS", "TRANS/S", "P95", "WAIT P95", "STATE", "PRIMARY", "TROUBLE"];
    let rows = pools.iter().map(|pool| {
        let cells = vec![
            pool.clients.to_string(),
            pool.clients_active.to_string(),
            pool.clients_waiting.to_string(),
            format!("{}/{}", pool.connections, pool.max_connections),
            words::rate(pool.flow.transactions_per_second),
            words::latency(pool.flow.transaction_p95_ms),
            words::latency(pool.flow.wait_p95_ms),
            pool.state.to_owned(),
            pool.primary.clone().unwrap_or_else(|| "none".to_owned()),
            pool.trouble.clone(),
        ];
        (pool.name.as_str(), cells)
    });
    table(out, "POOL", &heads, 7, rows);
}

/// One pool.
pub(crate) fn one(out: &mut String, facts: &PoolFacts) {
    let pool = &facts.status;
    pools(out, std::slice::from_ref(pool));
    let heads = ["TIMELINE", "BEHIND", "ANSWERED", "TAKES", "ROLE", "VERSION", "REASON"];
    let dash = |n: Option<u32>| n.map_or(words::NONE.to_owned(), |n| n.to_string());
    let servers = pool.servers.iter().map(|server| {
        let cells = vec![
            dash(server.timeline),
            server.lag_bytes.map_or(words::NONE.to_owned(), words::size),
            server.answered_ms.map_or(words::NONE.to_owned(), answered),
            dash(server.max_connections),
            server.role.clone(),
            server.version.clone().unwrap_or_default(),
            server.error.clone().unwrap_or_default(),
        ];
        (server.name.as_str(), cells)
    });
    table(out, "SERVER", &heads, 4, servers);
    groups(out, pool);
    statements(out, facts);
    let failures = failures(pool);
    if !failures.is_empty() {
        let _infallible = writeln!(out, "turned away    {failures}");
    }
    let _infallible = writeln!(out, "listening on   {}\n", words::tame(&pool.listen.join(", ")));
}

fn groups(out: &mut String, pool: &PoolStatus) {
    let heads =
        ["ACTIVE", "WAITING", "IDLE", "PINNED", "CONNS", "TRANS/S", "SUCCESS", "P50", "P95", "P99", "WAIT P95", "USER"];
    let rows = pool.groups.iter().map(|group| {
        let flow = &group.flow;
        let open = group.servers_active + group.servers_idle + group.servers_busy;
        let cells = vec![
            group.clients_active.to_string(),
            group.clients_waiting.to_string(),
            group.clients_idle.to_string(),
            group.clients_pinned.to_string(),
            format!("{open}/{}", group.size),
            words::rate(flow.transactions_per_second),
            words::success(flow.success_ratio),
            words::latency(flow.transaction_p50_ms),
            words::latency(flow.transaction_p95_ms),
            words::latency(flow.transaction_p99_ms),
            words::latency(flow.wait_p95_ms),
            group.user.clone(),
        ];
        (group.database.as_str(), cells)
    });
    table(out, "DATABASE", &heads, 11, rows);
}

fn statements(out: &mut String, facts: &PoolFacts) {
    let heads = ["CALLS", "TIME", "P50", "P99", "ROWS", "ERRORS", "DATABASE", "USER", "STATEMENT"];
    let ms = |us: Option<u64>| words::latency(us.map(|us| us as f64 / 1000.0));
    let rows = facts.statements.iter().map(|s| {
        let cells = vec![
            words::grouped(s.calls),
            ms(Some(s.total_us)),
            ms(s.p50_us),
            ms(s.p99_us),
            words::grouped(s.rows),
            words::grouped(s.errors),
            s.database.clone(),
            s.user.clone(),
            s.text.clone(),
        ];
        (s.fingerprint.as_str(), cells)
    });
    table(out, "FINGERPRINT", &heads, 6, rows);
}
