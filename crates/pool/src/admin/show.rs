//! What `SHOW` answers: columns by name, type and order as PgBouncer 1.25 has them (1.24 has the same ones), so that what
//! was made for it goes on working; some exporters give up at a column that they do not know. What has no counterpart here
//! is 0, empty or NULL. The console's own connections and its database are in none of the tables.

use std::collections::BTreeMap;

use super::command::Shown;
use super::show_sockets::{clients, servers, sockets};
use super::show_stats::{averages, stats, stats_totals, totals};
use super::table::Type::{Int4, Int8, Numeric, Text};
use super::table::{Column, Table, Value};
use super::{AdminNode, settings};
use crate::plan::PoolPlan;
use crate::view::{GroupView, PoolView};

/// The version whose console this one is like, for what reads numbers out of it.
const VERSION: &str = concat!("PgBouncer 1.25.2 compatible (Evenkeel ", env!("CARGO_PKG_VERSION"), ")");

/// The table, whose columns are the same each time.
pub(super) fn table(shown: Shown, node: &dyn AdminNode) -> Table {
    let columns = columns(shown);
    let rows = match shown {
        Shown::Pools => pools(node),
        Shown::Clients => clients(node),
        Shown::Servers => servers(node),
        Shown::Sockets => sockets(node),
        Shown::Stats => stats(node),
        Shown::StatsTotals => stats_totals(node),
        Shown::StatsAverages => averages(node),
        Shown::Totals => totals(node),
        Shown::Databases => databases(node),
        Shown::Config => config(node),
        Shown::Lists => lists(node),
        Shown::Users => users(node),
        Shown::Version => vec![vec![VERSION.into()]],
        Shown::State => state(node),
        Shown::Statements => statements(node),
        Shown::Mem | Shown::Peers | Shown::PeerPools | Shown::DnsHosts | Shown::DnsZones => Vec::new(),
    };
    Table { columns, rows }
}

/// The columns of a table.
pub(super) fn columns(shown: Shown) -> &'static [Column] {
    match shown {
        Shown::Pools => &POOLS,
        Shown::Clients | Shown::Servers => SOCKETS.first_chunk::<21>().map_or(&[], |chunk| chunk),
        Shown::Sockets => &SOCKETS,
        Shown::Stats => &super::show_stats::STATS,
        Shown::StatsTotals => &super::show_stats::TOTALS,
        Shown::StatsAverages => &super::show_stats::AVERAGES,
        Shown::Totals => &[("name", Text), ("value", Numeric)],
        Shown::Databases => &DATABASES,
        Shown::Config => &[("key", Text), ("value", Text), ("default", Text), ("changeable", Text)],
        Shown::Lists => &[("list", Text), ("items", Int4)],
        Shown::Users => &USERS,
        Shown::Version => &[("version", Text)],
        Shown::Mem => &[("name", Text), ("size", Int4), ("used", Int4), ("free", Int4), ("memtotal", Int4)],
        Shown::State => &[("key", Text), ("value", Text)],
        Shown::Peers => &[("peer_id", Int4), ("host", Text), ("port", Int4), ("pool_size", Int4)],
        Shown::PeerPools => &PEER_POOLS,
        Shown::DnsHosts => &[("hostname", Text), ("ttl", Int8), ("addrs", Text)],
        Shown::DnsZones => &[("zonename", Text), ("serial", Int8), ("count", Int4)],
        Shown::Statements => &STATEMENTS,
    }
}

const POOLS: [Column; 17] = [
    ("database", Text),
    ("user", Text),
    ("cl_active", Int4),
    ("cl_waiting", Int4),
    ("cl_active_cancel_req", Int4),
    ("cl_waiting_cancel_req", Int4),
    ("sv_active", Int4),
    ("sv_active_cancel", Int4),
    ("sv_being_canceled", Int4),
    ("sv_idle", Int4),
    ("sv_used", Int4),
    ("sv_tested", Int4),
    ("sv_login", Int4),
    ("maxwait", Int4),
    ("maxwait_us", Int4),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
];

/// Of clients and servers the first 21, of sockets all.
const SOCKETS: [Column; 28] = [
    ("type", Text),
    ("user", Text),
    ("database", Text),
    ("replication", Text),
    ("state", Text),
    ("addr", Text),
    ("port", Int4),
    ("local_addr", Text),
    ("local_port", Int4),
    ("connect_time", Text),
    ("request_time", Text),
    ("wait", Int4),
    ("wait_us", Int4),
    ("close_needed", Int4),
    ("ptr", Text),
    ("link", Text),
    ("remote_pid", Int4),
    ("tls", Text),
    ("application_name", Text),
    ("prepared_statements", Int4),
    ("id", Int4),
    ("recv_pos", Int4),
    ("pkt_pos", Int4),
    ("pkt_remain", Int4),
    ("send_pos", Int4),
    ("send_remain", Int4),
    ("pkt_avail", Int4),
    ("send_avail", Int4),
];

const DATABASES: [Column; 17] = [
    ("name", Text),
    ("host", Text),
    ("port", Int4),
    ("database", Text),
    ("force_user", Text),
    ("pool_size", Int4),
    ("min_pool_size", Int4),
    ("reserve_pool_size", Int4),
    ("server_lifetime", Int4),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
    ("max_connections", Int4),
    ("current_connections", Int4),
    ("max_client_connections", Int4),
    ("current_client_connections", Int4),
    ("paused", Int4),
    ("disabled", Int4),
];

const USERS: [Column; 8] = [
    ("name", Text),
    ("pool_size", Text),
    ("reserve_pool_size", Text),
    ("pool_mode", Text),
    ("max_user_connections", Int4),
    ("current_connections", Int4),
    ("max_user_client_connections", Int4),
    ("current_client_connections", Int4),
];

const PEER_POOLS: [Column; 5] = [
    ("peer_id", Int4),
    ("cl_active_cancel_req", Int4),
    ("cl_waiting_cancel_req", Int4),
    ("sv_active_cancel", Int4),
    ("sv_login", Int4),
];

const STATEMENTS: [Column; 11] = [
    ("pool", Text),
    ("database", Text),
    ("user", Text),
    ("fingerprint", Text),
    ("calls", Int8),
    ("errors", Int8),
    ("rows", Int8),
    ("total_us", Int8),
    ("p50_us", Int8),
    ("p99_us", Int8),
    ("query", Text),
];

/// Groups by database and user, those of the same names added up: a row for each, as labels of a metric need it.
fn groups(pools: &[PoolView]) -> BTreeMap<(String, String), GroupView> {
    let mut all: BTreeMap<(String, String), GroupView> = BTreeMap::new();
    for group in pools.iter().flat_map(|pool| &pool.groups) {
        let sum = all
            .entry((group.database.clone(), group.user.clone()))
            .or_insert_with(|| GroupView { mode: group.mode, ..GroupView::default() });
        sum.clients_active += group.clients_active;
        sum.clients_waiting += group.clients_waiting;
        sum.clients_idle += group.clients_idle;
        sum.servers_active += group.servers_active;
        sum.servers_idle += group.servers_idle;
        sum.servers_busy += group.servers_busy;
        sum.max_wait = sum.max_wait.max(group.max_wait);
    }
    all
}

fn pools(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let row = |((database, user), group): ((String, String), GroupView)| {
        vec![
            database.into(),
            user.into(),
            // As in PgBouncer: those that need no connection now count as active.
            (group.clients_active + group.clients_idle).into(),
            group.clients_waiting.into(),
            0u32.into(),
            0u32.into(),
            group.servers_active.into(),
            0u32.into(),
            0u32.into(),
            group.servers_idle.into(),
            0u32.into(),
            0u32.into(),
            group.servers_busy.into(),
            group.max_wait.as_secs().into(),
            group.max_wait.subsec_micros().into(),
            group.mode.into(),
            Value::Null,
        ]
    };
    groups(&node.pools()).into_iter().map(row).collect()
}

/// Host and port of a server's name; a path has no port.
pub(super) fn host_and_port(name: &str) -> (&str, u64) {
    let split = name.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.unwrap_or((name, 0));
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

fn databases(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let plans = node.plans();
    let mut rows: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    for pool in node.pools() {
        let Some(plan) = plans.iter().find(|plan| plan.name == pool.name) else { continue };
        let primary = pool.primary.or((!pool.servers.is_empty()).then_some(0)).and_then(|at| pool.servers.get(at));
        let (host, port) = primary.map_or(("", 0), |server| host_and_port(&server.name));
        let mut names: Vec<&str> = plan.databases.iter().flatten().map(String::as_str).collect();
        names.extend(pool.groups.iter().map(|group| group.database.as_str()));
        for name in names {
            let key = (name.to_owned(), format!("{host}:{port}"));
            rows.entry(key).or_insert_with(|| database(plan, &pool, name, host, port));
        }
    }
    rows.into_values().collect()
}

fn database(plan: &PoolPlan, pool: &PoolView, name: &str, host: &str, port: u64) -> Vec<Value> {
    let rule = plan.rule(name, "");
    let groups = || pool.groups.iter().filter(|group| group.database == name);
    let connections: u32 = groups().map(|g| g.servers_active + g.servers_idle + g.servers_busy).sum();
    let clients: u32 = groups().map(|g| g.clients_active + g.clients_waiting + g.clients_idle).sum();
    vec![
        name.into(),
        host.into(),
        port.into(),
        plan.server_database(name, "").into(),
        Value::Null,
        rule.size.into(),
        rule.min_size.into(),
        plan.reserve.into(),
        plan.lifetime.map_or(0, |lifetime| lifetime.as_secs()).into(),
        (rule.mode != plan.mode).then(|| settings::mode(rule.mode)).into(),
        Value::Null,
        plan.max_connections.into(),
        connections.into(),
        plan.max_clients.into(),
        clients.into(),
        pool.is_paused.into(),
        0u32.into(),
    ]
}

fn config(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let row = |(key, value): (&'static str, String)| {
        let can_change = if key.starts_with("listen_") { "no" } else { "yes" };
        vec![key.into(), value.into(), Value::Null, can_change.into()]
    };
    settings::all(&node.plans()).into_iter().map(row).collect()
}

fn lists(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let pools = node.pools();
    let groups = groups(&pools);
    let count = |of: &dyn Fn(&(String, String)) -> String| {
        groups.keys().map(of).collect::<std::collections::BTreeSet<_>>().len() as u64
    };
    let logging_in = node.clients().iter().filter(|client| client.state == "login").count() as u64;
    let clients: u64 = pools.iter().map(|pool| u64::from(pool.clients)).sum();
    let connections: u64 = pools.iter().map(|pool| u64::from(pool.connections)).sum();
    let lists = [
        ("databases", databases(node).len() as u64),
        ("users", count(&|(_, user)| user.clone())),
        ("peers", 0),
        ("pools", groups.len() as u64),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", clients.saturating_sub(logging_in)),
        ("login_clients", logging_in),
        ("free_servers", 0),
        ("used_servers", connections),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    lists.into_iter().map(|(name, items)| vec![name.into(), items.into()]).collect()
}

fn users(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let mut all: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for ((_, user), group) in groups(&node.pools()) {
        let (servers, clients) = all.entry(user).or_default();
        *servers += group.servers_active + group.servers_idle + group.servers_busy;
        *clients += group.clients_active + group.clients_waiting + group.clients_idle;
    }
    let row = |(user, (servers, clients)): (String, (u32, u32))| {
        vec![user.into(), "".into(), "".into(), Value::Null, 0u32.into(), servers.into(), 0u32.into(), clients.into()]
    };
    all.into_iter().map(row).collect()
}

fn state(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let pools = node.pools();
    let is_paused = !pools.is_empty() && pools.iter().all(|pool| pool.is_paused);
    let word = |is: bool| if is { "yes" } else { "no" };
    [("active", !is_paused), ("paused", is_paused), ("suspended", false)]
        .map(|(key, is)| vec![key.into(), word(is).into()])
        .into()
}

fn statements(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let row = |s: crate::view::StatementView| {
        vec![
            s.pool.into(),
            s.database.into(),
            s.user.into(),
            s.fingerprint.into(),
            s.calls.into(),
            s.errors.into(),
            s.rows.into(),
            s.total_us.into(),
            s.p50_us.into(),
            s.p99_us.into(),
            s.text.into(),
        ]
    };
    node.statements().into_iter().map(row).collect()
}
