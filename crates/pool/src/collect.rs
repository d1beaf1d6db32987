//! The pools' metrics. Labels are the pool, which comes from the configuration, and the database and user that clients logged
//! in with: Postgres has let them in, but it may have many, so that of each pool the [`GROUPS_MAX`] groups with most
//! transactions have series of their own, and all others together are `other`, `other`. Which ones they are may change; a
//! counter that goes down then looks to Prometheus like one that began anew. Histograms are by group as well.
//! Statements are no metrics: there are too many of them.

use std::collections::HashSet;
use std::fmt;

use kernel::metrics::{Collect, Family, LatencySum, MetricKind, Sink};

use crate::view::{GroupView, PoolView, ServerView, Totals};

/// Groups of one pool that have series of their own; each has some 80.
pub const GROUPS_MAX: usize = 200;
/// Database and user of all that have none.
const OTHER: &str = "other";

const ROLES: [&str; 6] = ["primary", "standby", "fenced", "drained", "unreachable", "unknown"];

/// The metrics of the pools that `views` tells of.
pub struct PoolMetrics<F>(F);

type OfPool = (&'static str, &'static str, fn(&PoolView) -> f64);
type OfGroup = (&'static str, &'static str, &'static [(&'static str, fn(&GroupView) -> u32)]);
type Counter = (&'static str, &'static str, fn(&Totals) -> u64);
type Histogram = (&'static str, &'static str, fn(&Totals) -> &LatencySum);

const POOL_GAUGES: [OfPool; 4] = [
    ("evenkeel_pool_has_primary", "1 if a server is known to be primary, 0 if transactions wait for one", |pool| {
        f64::from(u8::from(pool.primary.is_some()))
    }),
    ("evenkeel_pool_paused", "1 if an operator holds the pool back", |pool| f64::from(u8::from(pool.is_paused))),
    ("evenkeel_pool_connections_max", "Server connections of a pool at most", |pool| f64::from(pool.max_connections)),
    ("evenkeel_pool_clients_max", "Clients of a pool at most", |pool| f64::from(pool.max_clients)),
];

const GROUP_GAUGES: [OfGroup; 2] = [
    (
        "evenkeel_pool_clients",
        "Clients by what they do; pinned ones keep a connection and are not among the active",
        &[
            ("active", |group| group.clients_active.saturating_sub(group.clients_pinned)),
            ("pinned", |group| group.clients_pinned),
            ("waiting", |group| group.clients_waiting),
            ("idle", |group| group.clients_idle),
        ],
    ),
    (
        "evenkeel_pool_connections",
        "Server connections by what they do; busy ones are being opened or cleaned",
        &[
            ("active", |group| group.servers_active),
            ("idle", |group| group.servers_idle),
            ("busy", |group| group.servers_busy),
        ],
    ),
];

const COUNTERS: [Counter; 10] = [
    ("evenkeel_pool_queries_total", "Statements and executions that ended", |t| t.queries),
    ("evenkeel_pool_server_errors_total", "Errors that Postgres sent", |t| t.server_errors),
    ("evenkeel_pool_transactions_moved_total", "Transactions begun anew at another connection, unnoticed", |t| t.moved),
    ("evenkeel_pool_received_bytes_total", "Bytes from clients", |t| t.received),
    ("evenkeel_pool_sent_bytes_total", "Bytes to clients", |t| t.sent),
    ("evenkeel_pool_connections_opened_total", "Server connections that were opened", |t| t.opened),
    ("evenkeel_pool_assignments_total", "Times that a client was given a connection", |t| t.assignments),
    ("evenkeel_pool_settings_replayed_total", "Times that a client's settings were made on a connection", |t| {
        t.replays
    }),
    ("evenkeel_pool_pins_total", "Times that a client began to keep its connection", |t| t.pins),
    ("evenkeel_pool_prepared_total", "Statements that were prepared on server connections", |t| t.server_parses),
];

const HISTOGRAMS: [Histogram; 3] = [
    ("evenkeel_pool_wait_seconds", "Waiting for a server connection, of those that had to wait", |t| &t.wait),
    ("evenkeel_pool_query_duration_seconds", "From the first byte of a statement to its end", |t| &t.query),
    ("evenkeel_pool_transaction_duration_seconds", "From the first byte of a transaction to its end", |t| {
        &t.transaction
    }),
];

impl<F: Fn() -> Vec<PoolView> + Send + Sync> PoolMetrics<F> {
    /// Metrics of what `views` gives at each scrape.
    pub fn new(views: F) -> PoolMetrics<F> {
        PoolMetrics(views)
    }
}

impl<F> fmt::Debug for PoolMetrics<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolMetrics")
    }
}

impl<F: Fn() -> Vec<PoolView> + Send + Sync> Collect for PoolMetrics<F> {
    fn collect(&self, sink: &mut dyn Sink) {
        let mut pools = (self.0)();
        sink.family(Family {
            name: "evenkeel_pool_groups",
            help: "Pairs of database and user that a pool has met",
            kind: MetricKind::Gauge,
        });
        pools.iter().for_each(|pool| sink.sample(&[("pool", &pool.name)], pool.groups.len() as f64));
        pools.iter_mut().for_each(bound);
        of_pools(sink, &pools);
        of_servers(sink, &pools);
        of_groups(sink, &pools);
        of_totals(sink, &pools);
    }
}

/// Leaves a pool at most [`GROUPS_MAX`] groups, and what the others have together.
fn bound(pool: &mut PoolView) {
    pool.groups.sort_by(|a, b| {
        let busiest = b.totals.transactions.cmp(&a.totals.transactions);
        busiest.then_with(|| (&a.database, &a.user).cmp(&(&b.database, &b.user)))
    });
    if pool.groups.len() <= GROUPS_MAX {
        return;
    }
    let mut other = GroupView { database: OTHER.to_owned(), user: OTHER.to_owned(), ..GroupView::default() };
    let mut fold = |group: &GroupView| {
        other.clients_active += group.clients_active;
        other.clients_waiting += group.clients_waiting;
        other.clients_idle += group.clients_idle;
        other.clients_pinned += group.clients_pinned;
        other.servers_active += group.servers_active;
        other.servers_idle += group.servers_idle;
        other.servers_busy += group.servers_busy;
        other.max_wait = other.max_wait.max(group.max_wait);
        other.totals.add(&group.totals);
    };
    pool.groups.drain(GROUPS_MAX..).for_each(|group| fold(&group));
    // Somebody may really be called so.
    pool.groups.retain(|group| {
        let is_called_so = group.database == OTHER && group.user == OTHER;
        if is_called_so {
            fold(group);
        }
        !is_called_so
    });
    pool.groups.push(other);
}

fn of_pools(sink: &mut dyn Sink, pools: &[PoolView]) {
    for (name, help, read) in POOL_GAUGES {
        sink.family(Family { name, help, kind: MetricKind::Gauge });
        pools.iter().for_each(|pool| sink.sample(&[("pool", &pool.name)], read(pool)));
    }
}

/// Servers of a pool. One that is listed twice is one.
fn servers(pools: &[PoolView]) -> impl Iterator<Item = (&PoolView, &ServerView)> {
    pools.iter().flat_map(|pool| {
        let mut seen = HashSet::new();
        pool.servers.iter().filter(move |server| seen.insert(&server.name)).map(move |server| (pool, server))
    })
}

fn of_servers(sink: &mut dyn Sink, pools: &[PoolView]) {
    sink.family(Family {
        name: "evenkeel_pool_server_role",
        help: "1 for the role that a server has; fenced calls itself primary on a timeline that has been left",
        kind: MetricKind::Gauge,
    });
    for (pool, server) in servers(pools) {
        for role in ROLES {
            let labels = [("pool", pool.name.as_str()), ("server", server.name.as_str()), ("role", role)];
            sink.sample(&labels, f64::from(u8::from(role == server.role)));
        }
    }
    type Read = fn(&ServerView) -> Option<f64>;
    let gauges: [(&'static str, &'static str, Read); 2] = [
        (
            "evenkeel_pool_server_lag_bytes",
            "How far a server is behind the primary in the write-ahead log; absent if that is unknown",
            |server| server.lag_bytes.map(|bytes| bytes as f64),
        ),
        (
            "evenkeel_pool_server_answered_seconds",
            "How long ago a server last answered; absent if it never did",
            |server| server.answered.map(|age| age.as_secs_f64()),
        ),
    ];
    for (name, help, read) in gauges {
        sink.family(Family { name, help, kind: MetricKind::Gauge });
        for (pool, server) in servers(pools) {
            if let Some(value) = read(server) {
                sink.sample(&[("pool", &pool.name), ("server", &server.name)], value);
            }
        }
    }
}

/// Groups of all pools, with their labels.
fn groups(pools: &[PoolView]) -> impl Iterator<Item = ([(&str, &str); 3], &GroupView)> {
    pools.iter().flat_map(|pool| {
        pool.groups.iter().map(|group| {
            (
                [("pool", pool.name.as_str()), ("database", group.database.as_str()), ("user", group.user.as_str())],
                group,
            )
        })
    })
}

fn of_groups(sink: &mut dyn Sink, pools: &[PoolView]) {
    for (name, help, states) in GROUP_GAUGES {
        sink.family(Family { name, help, kind: MetricKind::Gauge });
        for ([pool, database, user], group) in groups(pools) {
            for (state, read) in states {
                sink.sample(&[pool, database, user, ("state", state)], read(group).into());
            }
        }
    }
    sink.family(Family {
        name: "evenkeel_pool_wait_longest_seconds",
        help: "How long the client that has waited longest has waited",
        kind: MetricKind::Gauge,
    });
    groups(pools).for_each(|(labels, group)| sink.sample(&labels, group.max_wait.as_secs_f64()));
}

fn of_totals(sink: &mut dyn Sink, pools: &[PoolView]) {
    sink.family(Family {
        name: "evenkeel_pool_transactions_total",
        help: "Transactions that had a connection, by how they ended",
        kind: MetricKind::Counter,
    });
    for ([pool, database, user], group) in groups(pools) {
        let totals = &group.totals;
        for (outcome, n) in [("ok", totals.transactions.saturating_sub(totals.failed)), ("failed", totals.failed)] {
            sink.sample(&[pool, database, user, ("outcome", outcome)], n as f64);
        }
    }
    sink.family(Family {
        name: "evenkeel_pool_failures_total",
        help: "Errors that the pooler made, by kind",
        kind: MetricKind::Counter,
    });
    for ([pool, database, user], group) in groups(pools) {
        for (kind, n) in Totals::FAILURES.iter().zip(group.totals.failures) {
            sink.sample(&[pool, database, user, ("kind", kind)], n as f64);
        }
    }
    for (name, help, read) in COUNTERS {
        sink.family(Family { name, help, kind: MetricKind::Counter });
        groups(pools).for_each(|(labels, group)| sink.sample(&labels, read(&group.totals) as f64));
    }
    for (name, help, read) in HISTOGRAMS {
        sink.family(Family { name, help, kind: MetricKind::Histogram });
        groups(pools).for_each(|(labels, group)| sink.latency(&labels, read(&group.totals)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::admin::tests::{group, pool};

    /// Samples by family and labels; every family once, every label set once.
    #[derive(Debug, Default)]
    struct Scrape {
        families: Vec<&'static str>,
        samples: BTreeMap<String, f64>,
    }

    impl Scrape {
        fn put(&mut self, labels: kernel::metrics::Labels<'_>, value: f64) {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let key = format!("{} {}", self.families.last().unwrap(), labels.join(" "));
            assert!(self.samples.insert(key.clone(), value).is_none(), "{key} twice");
        }
    }

    impl Sink for Scrape {
        fn family(&mut self, family: Family) {
            assert!(!self.families.contains(&family.name), "{} twice", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == MetricKind::Counter, "{}", family.name);
            assert!(!family.help.ends_with('.'), "{}", family.name);
            self.families.push(family.name);
        }

        fn sample(&mut self, labels: kernel::metrics::Labels<'_>, value: f64) {
            self.put(labels, value);
        }

        fn latency(&mut self, labels: kernel::metrics::Labels<'_>, sum: &LatencySum) {
            self.put(labels, sum.count() as f64);
        }
    }

    fn scrape(pools: Vec<PoolView>) -> Scrape {
        let mut scrape = Scrape::default();
        PoolMetrics::new(move || pools.clone()).collect(&mut scrape);
        scrape
    }

    #[test]
    fn pools_servers_and_groups_are_told() {
        let mut main = pool("main");
        let mut app = group("shop", "app", 10);
        (app.clients_active, app.clients_pinned) = (4, 1);
        app.totals.failed = 3;
        app.totals.failures[2] = 5;
        app.totals.query.buckets[0] = 7;
        main.groups = vec![app];
        main.servers.push(main.servers[0].clone());
        let said = scrape(vec![main, pool("second")]);
        let of = |key: &str| said.samples.get(&format!("evenkeel_pool_{key}")).copied();
        let who = "pool=main database=shop user=app";
        assert_eq!(of("has_primary pool=second"), Some(1.0));
        assert_eq!(of("server_role pool=main server=10.0.0.2:5433 role=primary"), Some(1.0));
        assert_eq!(of("server_role pool=main server=10.0.0.1:5432 role=primary"), Some(0.0));
        assert_eq!(of(&format!("clients {who} state=active")), Some(3.0));
        assert_eq!(of(&format!("clients {who} state=pinned")), Some(1.0));
        assert_eq!(of(&format!("transactions_total {who} outcome=ok")), Some(7.0));
        assert_eq!(of(&format!("transactions_total {who} outcome=failed")), Some(3.0));
        assert_eq!(of(&format!("failures_total {who} kind=no_primary")), Some(5.0));
        assert_eq!(of(&format!("query_duration_seconds {who}")), Some(7.0));
        assert_eq!(of("server_lag_bytes pool=main server=10.0.0.1:5432"), None);
    }

    #[test]
    fn groups_beyond_the_bound_are_counted_together() {
        let with = |groups: usize| {
            let mut main = pool("main");
            main.groups = (0..groups).map(|n| group("d", &format!("u{n}"), n as u64)).collect();
            main.groups.push(group(OTHER, OTHER, 1_000_000));
            scrape(vec![main])
        };
        let series =
            |said: &Scrape| said.samples.keys().filter(|key| key.starts_with("evenkeel_pool_queries_total ")).count();
        let at_the_bound = with(GROUPS_MAX - 1);
        assert_eq!(series(&at_the_bound), GROUPS_MAX);
        let beyond = with(GROUPS_MAX + 50);
        assert_eq!(series(&beyond), GROUPS_MAX);
        let of = |user: &str| {
            let database = if user == OTHER { OTHER } else { "d" };
            let key = format!("evenkeel_pool_transactions_total pool=main database={database} user={user} outcome=ok");
            beyond.samples.get(&key).copied()
        };
        // 51 of u0..u249 have no series of their own: u0..u50.
        assert_eq!((of("u50"), of("u51")), (None, Some(51.0)));
        assert_eq!(of(OTHER), Some(1_000_000.0 + (0..=50).sum::<u32>() as f64));
        assert_eq!(beyond.samples["evenkeel_pool_groups pool=main"], (GROUPS_MAX + 51) as f64);
    }
}
