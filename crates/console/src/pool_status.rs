//! Pools as people and programs read them: rates and quantiles of the window, totals since the start, and the state in a
//! word: `down` without a primary, `degraded` where a server or the primary is in trouble, `paused` if an operator wanted
//! that, else `ok`.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::metrics::LatencySum;
use serde::Serialize;

use crate::status::Level;
use crate::view::{PoolCounts, PoolGroup, PoolServer, PoolView};
use crate::vitals::{PoolPart, Scope, Totals, Window};
use crate::words;

/// A pool.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// The state in a word.
    pub state: &'static str,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// When a connection goes back.
    pub mode: String,
    /// Whether an operator has paused it.
    pub is_paused: bool,
    /// The name of the primary, if there is one.
    pub primary: Option<String>,
    /// Why there is none, or why it is held back; empty if all is well.
    pub trouble: String,
    /// Clients.
    pub clients: u32,
    /// Most clients.
    pub max_clients: u32,
    /// Clients that have a connection.
    pub clients_active: u32,
    /// Clients that wait for one.
    pub clients_waiting: u32,
    /// How long the one that has waited longest has.
    pub max_wait_ms: u64,
    /// Server connections.
    pub connections: u32,
    /// Most server connections.
    pub max_connections: u32,
    /// What flowed.
    #[serde(flatten)]
    pub flow: PoolFlow,
    /// Its servers.
    pub servers: Vec<PoolServer>,
    /// Its (database, user) pairs, those with the most transactions first.
    pub groups: Vec<GroupStatus>,
}

/// One (database, user).
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupStatus {
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// When a connection goes back.
    pub mode: String,
    /// Most connections.
    pub size: u32,
    /// Clients that have a connection.
    pub clients_active: u32,
    /// Clients that wait for one.
    pub clients_waiting: u32,
    /// Clients that need none now.
    pub clients_idle: u32,
    /// Of the active ones, those that keep theirs.
    pub clients_pinned: u32,
    /// Connections that a client has.
    pub servers_active: u32,
    /// Connections that are free.
    pub servers_idle: u32,
    /// Connections that are being opened or cleaned.
    pub servers_busy: u32,
    /// How long the client that has waited longest has.
    pub max_wait_ms: u64,
    /// What flowed.
    #[serde(flatten)]
    pub flow: PoolFlow,
}

/// What flowed through a pool or a (database, user).
#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolFlow {
    /// Transactions per second in the window.
    pub transactions_per_second: f64,
    /// Statements per second in the window.
    pub queries_per_second: f64,
    /// Share of the window's transactions that did not fail; absent without any.
    pub success_ratio: Option<f64>,
    /// Half of the window's transactions took no longer.
    pub transaction_p50_ms: Option<f64>,
    /// 95 % took no longer.
    pub transaction_p95_ms: Option<f64>,
    /// 99 % took no longer.
    pub transaction_p99_ms: Option<f64>,
    /// 95 % of the window's statements took no longer.
    pub query_p95_ms: Option<f64>,
    /// Clients that had to wait for a connection, per second in the window.
    pub waits_per_second: f64,
    /// Half of them waited no longer.
    pub wait_p50_ms: Option<f64>,
    /// 95 % waited no longer.
    pub wait_p95_ms: Option<f64>,
    /// 99 % waited no longer.
    pub wait_p99_ms: Option<f64>,
    /// Transactions since the start.
    pub transactions_total: u64,
    /// Of those, the ones that failed.
    pub failed_total: u64,
    /// Statements since the start.
    pub queries_total: u64,
    /// Errors that Postgres sent.
    pub server_errors_total: u64,
    /// Errors that the pooler made, by kind.
    pub failures_total: BTreeMap<String, u64>,
    /// Transactions that were begun anew at another connection, unnoticed.
    pub moved_total: u64,
    /// Bytes from clients.
    pub received_bytes_total: u64,
    /// Bytes to clients.
    pub sent_bytes_total: u64,
    /// Connections that were opened.
    pub connections_opened_total: u64,
    /// Times that settings were replayed.
    pub replays_total: u64,
    /// Times that a client was pinned.
    pub pins_total: u64,
}

impl PoolStatus {
    pub(crate) fn new(view: &PoolView, window: &Window) -> PoolStatus {
        let mut counts = PoolCounts::default();
        view.groups.iter().for_each(|group| counts.add(&group.counts));
        let sum = |of: fn(&PoolGroup) -> u32| view.groups.iter().map(of).sum();
        let mut groups: Vec<GroupStatus> =
            view.groups.iter().map(|g| GroupStatus::new(&view.name, g, window)).collect();
        groups.sort_by(|a, b| b.flow.transactions_per_second.total_cmp(&a.flow.transactions_per_second));
        let primary = view.primary.and_then(|i| view.servers.get(i));
        let trouble = view.trouble.clone().unwrap_or_default();
        let state = if primary.is_none() {
            "down"
        } else if !trouble.is_empty() || view.servers.iter().any(PoolServer::is_trouble) {
            "degraded"
        } else if view.is_paused {
            "paused"
        } else {
            "ok"
        };
        PoolStatus {
            name: view.name.clone(),
            state,
            listen: view.listen.clone(),
            mode: view.mode.clone(),
            is_paused: view.is_paused,
            primary: primary.map(|server| server.name.clone()),
            trouble,
            clients: view.clients,
            max_clients: view.max_clients,
            clients_active: sum(|g| g.clients_active),
            clients_waiting: sum(|g| g.clients_waiting),
            max_wait_ms: groups.iter().map(|g| g.max_wait_ms).max().unwrap_or_default(),
            connections: view.connections,
            max_connections: view.max_connections,
            flow: PoolFlow::new(&view.name, "", &counts, window),
            servers: view.servers.clone(),
            groups,
        }
    }

    /// What it makes of the node's state.
    pub(crate) fn level(&self) -> Level {
        match self.state {
            "down" => Level::Down,
            "degraded" => Level::Degraded,
            _ => Level::Ok,
        }
    }

    /// What is wrong, in a sentence; `None` if nothing is.
    pub(crate) fn trouble_in_words(&self) -> Option<String> {
        let name = &self.name;
        let waiting = match self.clients_waiting {
            0 => String::new(),
            1 => "; 1 client waits".to_owned(),
            n => format!("; {} clients wait", words::grouped(n.into())),
        };
        let trouble = words::tame(&self.trouble);
        match self.state {
            "down" if trouble.is_empty() => Some(format!("The pool {name} has no primary{waiting}.")),
            "down" => Some(format!("The pool {name} has no primary: {trouble}{waiting}.")),
            "degraded" if !trouble.is_empty() => {
                Some(format!("The primary of the pool {name} is held back: {trouble}{waiting}."))
            }
            "degraded" => {
                let bad: Vec<String> = self.servers.iter().filter(|s| s.is_trouble()).map(server_in_words).collect();
                Some(format!("The pool {name} works, but {}.", bad.join(", ")))
            }
            _ => None,
        }
    }

    /// Where the primary is, in a few words.
    pub(crate) fn primary_in_words(&self) -> String {
        match &self.primary {
            Some(primary) => format!("The primary of {} is {}", self.name, words::tame(primary)),
            None => format!("{} has no primary", self.name),
        }
    }
}

fn server_in_words(server: &PoolServer) -> String {
    let why = server.error.as_deref().map(|error| format!(" ({})", words::tame(error))).unwrap_or_default();
    format!("{} is {}{why}", words::tame(&server.name), server.role)
}

impl GroupStatus {
    fn new(pool: &str, group: &PoolGroup, window: &Window) -> GroupStatus {
        GroupStatus {
            database: group.database.clone(),
            user: group.user.clone(),
            mode: group.mode.clone(),
            size: group.size,
            clients_active: group.clients_active,
            clients_waiting: group.clients_waiting,
            clients_idle: group.clients_idle,
            clients_pinned: group.clients_pinned,
            servers_active: group.servers_active,
            servers_idle: group.servers_idle,
            servers_busy: group.servers_busy,
            max_wait_ms: millis(group.max_wait),
            flow: PoolFlow::new(pool, &group.key(), &group.counts, window),
        }
    }
}

impl PoolFlow {
    fn new(pool: &str, group: &str, counts: &PoolCounts, window: &Window) -> PoolFlow {
        let gain = |part: PoolPart| window.gain(Scope::PoolOf(pool, part), group, &counts.totals(part));
        let (transactions, queries, waits) =
            (gain(PoolPart::Transactions), gain(PoolPart::Queries), gain(PoolPart::Waits));
        let per_second = |n: u64| n as f64 / window.length().as_secs_f64();
        let ms = |latency: &LatencySum, q: f64| latency.quantile_us(q).map(|us| us as f64 / 1000.0);
        PoolFlow {
            transactions_per_second: per_second(transactions.requests),
            queries_per_second: per_second(queries.requests),
            success_ratio: (transactions.requests > 0).then(|| {
                transactions.requests.saturating_sub(transactions.failed) as f64 / transactions.requests as f64
            }),
            transaction_p50_ms: ms(&transactions.latency, 0.5),
            transaction_p95_ms: ms(&transactions.latency, 0.95),
            transaction_p99_ms: ms(&transactions.latency, 0.99),
            query_p95_ms: ms(&queries.latency, 0.95),
            waits_per_second: per_second(waits.requests),
            wait_p50_ms: ms(&waits.latency, 0.5),
            wait_p95_ms: ms(&waits.latency, 0.95),
            wait_p99_ms: ms(&waits.latency, 0.99),
            transactions_total: counts.transactions,
            failed_total: counts.failed,
            queries_total: counts.queries,
            server_errors_total: counts.server_errors,
            failures_total: counts.failures.iter().cloned().collect(),
            moved_total: counts.moved,
            received_bytes_total: counts.received,
            sent_bytes_total: counts.sent,
            connections_opened_total: counts.opened,
            replays_total: counts.replays,
            pins_total: counts.pins,
        }
    }
}

impl PoolGroup {
    /// By which it is followed. Names of databases and users hold no control characters.
    pub(crate) fn key(&self) -> String {
        format!("{}\u{1e}{}", self.database, self.user)
    }
}

impl PoolCounts {
    /// Adds another.
    pub(crate) fn add(&mut self, other: &PoolCounts) {
        for (kind, n) in &other.failures {
            match self.failures.iter_mut().find(|(known, _)| known == kind) {
                Some((_, sum)) => *sum += n,
                None => self.failures.push((kind.clone(), *n)),
            }
        }
        self.transactions += other.transactions;
        self.failed += other.failed;
        self.queries += other.queries;
        self.server_errors += other.server_errors;
        self.moved += other.moved;
        self.received += other.received;
        self.sent += other.sent;
        self.opened += other.opened;
        self.replays += other.replays;
        self.pins += other.pins;
        self.wait.merge(&other.wait);
        self.query.merge(&other.query);
        self.transaction.merge(&other.transaction);
    }

    /// What is followed of a part.
    pub(crate) fn totals(&self, part: PoolPart) -> Totals {
        let (requests, failed, latency) = match part {
            PoolPart::Transactions => (self.transactions, self.failed, &self.transaction),
            PoolPart::Queries => (self.queries, 0, &self.query),
            PoolPart::Waits => (self.wait.count(), 0, &self.wait),
        };
        Totals { requests, failed, latency: latency.clone(), second_tries: 0 }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use kernel::Moment;

    use super::*;

    pub(crate) fn pool() -> PoolView {
        let server =
            |name: &str, role: &str| PoolServer { name: name.into(), role: role.into(), ..PoolServer::default() };
        let mut counts = PoolCounts { transactions: 100, failed: 3, queries: 250, ..PoolCounts::default() };
        counts.wait.buckets[3] = 40;
        counts.failures = vec![("queue_timeout".into(), 2)];
        let group = |database: &str, transactions| PoolGroup {
            database: database.into(),
            user: "u".into(),
            clients_waiting: 4,
            max_wait: Duration::from_millis(1_500),
            counts: PoolCounts { transactions, ..counts.clone() },
            ..PoolGroup::default()
        };
        PoolView {
            name: "main".into(),
            servers: vec![server("a:5432", "primary"), server("b:5432", "standby")],
            primary: Some(0),
            groups: vec![group("small", 100), group("large", 200)],
            ..PoolView::default()
        }
    }

    fn status(view: &PoolView) -> PoolStatus {
        PoolStatus::new(view, &Window { samples: Vec::new(), now: Moment::ZERO, uptime: Duration::from_secs(10) })
    }

    #[test]
    fn figures_are_summed_over_groups_and_the_busiest_comes_first() {
        let status = status(&pool());
        assert_eq!((status.state, status.primary.as_deref()), ("ok", Some("a:5432")));
        assert_eq!((status.clients_waiting, status.max_wait_ms), (8, 1_500));
        assert_eq!((status.flow.transactions_per_second, status.flow.waits_per_second), (30.0, 8.0));
        assert_eq!((status.flow.transactions_total, status.flow.failed_total), (300, 6));
        assert_eq!(status.flow.failures_total["queue_timeout"], 4);
        assert_eq!(status.flow.success_ratio, Some(0.98));
        assert_eq!(status.groups[0].database, "large");
        assert_eq!(status.trouble_in_words(), None);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_reason() {
        let none = PoolView { primary: None, trouble: Some("a:5432 refused".into()), ..pool() };
        assert_eq!(status(&none).level(), Level::Down);
        let said = status(&none).trouble_in_words().unwrap();
        assert_eq!(said, "The pool main has no primary: a:5432 refused; 8 clients wait.");
        let mut away = pool();
        away.servers[1] =
            PoolServer { role: "unreachable".into(), error: Some("refused".into()), ..away.servers[1].clone() };
        assert_eq!(status(&away).level(), Level::Degraded);
        assert_eq!(
            status(&away).trouble_in_words().unwrap(),
            "The pool main works, but b:5432 is unreachable (refused)."
        );
        let paused = PoolView { is_paused: true, ..pool() };
        assert_eq!((status(&paused).state, status(&paused).level()), ("paused", Level::Ok));
    }
}
