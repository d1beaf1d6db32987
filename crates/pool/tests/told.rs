//! What is told of transactions afterwards, and how many there were.

use std::collections::HashMap;
use std::time::Duration;

use kernel::event::EventKind;
use kernel::metrics::{Collect, Family, Labels, LatencySum, Sink};
use kernel::tally::TallySource;
use kernel::trace::{Kept, RequestTrace, What};
use pool::collect::PoolMetrics;
use pool::tallies::PoolTallies;
use pool::wire::frontend;

use crate::kit::{APP, SOON};
use crate::through::{SlowLines, through};

fn steps(trace: &RequestTrace) -> Vec<String> {
    let words = |what: &What| match what {
        What::Began { pool, database, user, application } => format!("began {pool} {database} {user} {application}"),
        What::Waited { reason, .. } => format!("waited: {reason}"),
        What::Assigned { .. } => "assigned".to_owned(),
        What::Replayed { settings } => format!("replayed {settings}"),
        What::Prepared { statements } => format!("prepared {statements}"),
        What::Moved { reason } => format!("moved: {reason}"),
        What::Pinned { reason } => format!("pinned: {reason}"),
        What::Statement { text, error, rows, .. } => {
            format!("{text} ({rows}){}", error.as_deref().map(|e| format!(" {e}")).unwrap_or_default())
        }
        other => format!("{other:?}"),
    };
    trace.steps.iter().map(|step| words(&step.what)).collect()
}

#[test]
fn a_slow_statement_is_in_the_log_and_its_id_tells_the_story() {
    let lines = SlowLines::listen();
    let own = through(|plan| plan.slow = Some(Duration::from_millis(100)));
    let mut client = own.login(APP.2);
    client.query("SELECT 'quick'").unwrap();
    client.query("BEGIN").unwrap();
    client.query("SELECT pg_sleep(0.15), 'secret' AS slow_one").unwrap();
    client.query("COMMIT").unwrap();
    let line = lines.with("slow_one");
    assert!(line.contains("application=\"test\"") && !line.contains("secret"), "{line}");
    let id = line.split('"').find(|part| part.starts_with("tx-")).unwrap();
    let trace = testkit::poll_until(SOON, || own.pools.why(id)).unwrap();
    assert_eq!(trace.kept, [Kept::Slow]);
    assert!(trace.end.whole && trace.client.starts_with("127.0.0.1:"), "{trace:?}");
    let told: Vec<_> = steps(&trace).into_iter().filter(|step| !step.starts_with("waited")).collect();
    let began = format!("began main {} {} test", APP.2, APP.0);
    assert_eq!(told, [began.as_str(), "assigned", "begin (0)", "select pg_sleep(?), ? as slow_one (1)", "commit (0)"]);
    assert_eq!(own.pools.traces(10).len(), 1, "what was plain is not there");
    assert!(own.pools.oldest_trace_unix_ms().is_some() && own.pools.why("tx-0000000000000000").is_none());
}

#[test]
fn what_went_wrong_is_told_with_what_postgres_said() {
    let own = through(|_| {});
    let mut client = own.login(APP.2);
    assert_eq!(client.query("SELECT 1 / 0 AS simple").unwrap_err(), "22012");
    let trace = own.told("the simple one", |line| line.target.contains("simple"));
    assert_eq!((trace.kept.as_slice(), trace.end.whole), ([Kept::Failed].as_slice(), false));
    assert_eq!(steps(&trace).last().unwrap(), "select ? / ? as simple (0) 22012");
    // A Parse that fails: nothing was run, and yet there is something to tell.
    let mut out = Vec::new();
    frontend::put_parse(&mut out, b"", b"SELECT nothing AS prepared", &[0, 0]);
    frontend::put_sync(&mut out);
    client.send(&out);
    client.until_ready();
    let trace = own.told("the prepared one", |line| line.target.contains("prepared"));
    assert_eq!(steps(&trace).last().unwrap(), "select nothing as prepared (0) 42703");
    // Its own connection is ended under it.
    client.query("BEGIN").unwrap();
    client.query("SELECT 1 AS cut").unwrap();
    own.terminate();
    assert!(client.query("SELECT 2").is_err());
    let trace = own.told("the one that was cut", |line| line.target == "begin");
    assert!(!trace.end.whole && trace.end.detail.contains("ended the connection"), "{trace:?}");
    client.query("ROLLBACK").unwrap();
    let failed = own.pools.traces(10).iter().filter(|line| line.kept.contains(&Kept::Failed)).count();
    assert_eq!(failed, 3, "its rollback is not another one");
    assert_eq!((own.group().totals.transactions, own.group().totals.failed), (3, 3));
}

#[test]
fn a_transaction_that_moves_is_one_story() {
    let own = through(|_| {});
    let mut client = own.login(APP.2);
    client.query("SET timezone = 'Europe/Vienna'").unwrap();
    client.query("BEGIN").unwrap();
    own.terminate();
    testkit::eventually(SOON, "the loss", || (own.group().totals.moved == 1).then_some(()));
    client.query("SELECT 1 AS moved").unwrap();
    client.query("COMMIT").unwrap();
    let trace = own.told("the one that moved", |line| line.kept == [Kept::Moved]);
    let told: Vec<_> = steps(&trace).into_iter().skip(1).filter(|step| !step.starts_with("waited")).collect();
    assert_eq!(
        told,
        [
            "assigned",
            "begin (0)",
            "moved: its connection was lost before its first statement",
            "assigned",
            // What it has set, and its name.
            "replayed 2",
            "select ? as moved (1)",
            "commit (0)"
        ]
    );
    assert!(trace.end.whole);
    assert_eq!((own.group().totals.transactions, own.group().totals.failed), (2, 0));
}

#[test]
fn who_is_turned_away_is_told_and_the_journal_says_that_connections_are_few() {
    let own = through(|plan| {
        plan.size = 1;
        plan.queue_timeout = Duration::from_millis(300);
    });
    let (mut holder, mut other) = (own.login(APP.2), own.login(APP.2));
    holder.query("BEGIN").unwrap();
    for _ in 0..2 {
        assert_eq!(other.query("SELECT 1").unwrap_err(), "53300");
    }
    let trace = own.told("who was turned away", |line| line.kept.contains(&Kept::Waited));
    assert_eq!(trace.kept, [Kept::Failed, Kept::Waited]);
    assert!(trace.end.detail.contains("all 1 are in use"), "{trace:?}");
    assert_eq!(steps(&trace)[1..], ["waited: all connections were in use"]);
    assert_eq!(own.journal.told(EventKind::PoolSaturated), 1);
    let totals = own.group().totals;
    assert_eq!((totals.failures[1], totals.transactions), (2, 0), "they are no transactions");
    holder.query("COMMIT").unwrap();
}

#[test]
fn who_may_not_keep_a_connection_is_told_to_the_journal() {
    let own = through(|plan| plan.max_pinned = 1);
    let (mut first, mut second) = (own.login(APP.2), own.login(APP.2));
    first.query("LISTEN a").unwrap();
    assert_eq!(second.query("LISTEN a").unwrap_err(), "53400");
    testkit::eventually(SOON, "the event", || (own.journal.told(EventKind::PoolPinnedOut) == 1).then_some(()));
    assert_eq!(own.group().totals.failures[5], 1);
    first.query("SELECT 1 / 0 AS pinned").unwrap_err();
    let trace = own.told("the pinned one", |line| line.target.contains("as pinned"));
    assert_eq!(steps(&trace)[1..], ["assigned", "pinned: LISTEN", "select ? / ? as pinned (0) 22012"]);
}

#[derive(Default)]
struct Scrape {
    family: String,
    samples: HashMap<String, f64>,
}

impl Sink for Scrape {
    fn family(&mut self, family: Family) {
        family.name.clone_into(&mut self.family);
    }
    fn sample(&mut self, labels: Labels<'_>, value: f64) {
        let outcome = labels.iter().find(|(name, _)| *name == "outcome").map_or("", |(_, value)| value);
        *self.samples.entry(format!("{}{outcome}", self.family)).or_default() += value;
    }
    fn latency(&mut self, labels: Labels<'_>, sum: &LatencySum) {
        self.sample(labels, sum.count() as f64);
    }
}

/// Transactions of every kind: how many, and how many of them failed.
fn some_of_each(own: &crate::through::Through) -> (u64, u64) {
    let mut client = own.login(APP.2);
    for _ in 0..10 {
        client.query("SELECT 1").unwrap();
    }
    client.query("SELECT 1 / 0").unwrap_err();
    for text in ["BEGIN", "SELECT 1", "COMMIT", "BEGIN", "SAVEPOINT s"] {
        client.query(text).unwrap();
    }
    client.query("SELECT 1 / 0").unwrap_err();
    for text in ["ROLLBACK TO s", "COMMIT", "BEGIN"] {
        client.query(text).unwrap();
    }
    client.query("SELECT 1 / 0").unwrap_err();
    client.query("ROLLBACK").unwrap();
    let mut out = Vec::new();
    frontend::put_parse(&mut out, b"a", b"SELECT $1::int", &[0, 0]);
    for _ in 0..2 {
        frontend::put_bind(&mut out, b"", b"a", &[Some("7")]);
        frontend::put_execute(&mut out, b"", 0);
        frontend::put_sync(&mut out);
    }
    client.send(&out);
    client.until_ready();
    client.until_ready();
    out.clear();
    (0..3).for_each(|_| frontend::put_query(&mut out, b"SELECT 1"));
    client.send(&out);
    (0..3).for_each(|_| drop(client.until_ready()));
    client.query("BEGIN").unwrap();
    drop(client);
    (10 + 1 + 1 + 1 + 1 + 2 + 3 + 1, 1 + 1 + 1)
}

#[test]
fn views_metrics_console_and_tallies_count_the_same_and_all() {
    let own = through(|_| {});
    let views = own.pools.clone();
    let tallies = PoolTallies::new(move || views.view());
    let (transactions, failed) = some_of_each(&own);
    testkit::eventually(SOON, "the last one's end", || (own.group().totals.transactions == transactions).then_some(()));
    let totals = own.group().totals;
    assert_eq!((totals.failed, totals.queries, totals.server_errors), (failed, 10 + 1 + 3 + 5 + 3 + 2 + 3 + 1, 3));
    assert_eq!((totals.client_parses, totals.server_parses, totals.binds), (1, 1, 2));
    assert_eq!((totals.transaction.count(), totals.query.count()), (transactions, totals.queries));
    assert!(totals.assignments <= transactions && totals.assignments >= transactions - 3, "{}", totals.assignments);
    let by_shape = own.pools.statements("main");
    assert_eq!(by_shape.iter().map(|shape| shape.calls).sum::<u64>(), totals.queries);

    let [(_, counts)] = tallies.take().try_into().unwrap();
    assert_eq!((counts.total(), counts.failed(), counts.latency.count()), (transactions, failed, transactions));
    assert!(tallies.take().is_empty());

    let mut scrape = Scrape::default();
    let views = own.pools.clone();
    PoolMetrics::new(move || views.view()).collect(&mut scrape);
    let of = |name: &str| scrape.samples[&format!("evenkeel_pool_{name}")] as u64;
    assert_eq!((of("transactions_totalok"), of("transactions_totalfailed")), (transactions - failed, failed));
    assert_eq!((of("queries_total"), of("assignments_total")), (totals.queries, totals.assignments));
    assert_eq!(of("transaction_duration_seconds"), transactions);

    let mut console = own.login("pgbouncer");
    let rows = console.table("SHOW STATS");
    let row = rows.iter().find(|row| row[0].1 == APP.2).unwrap();
    let shown = |name: &str| row.iter().find(|(column, _)| column == name).unwrap().1.parse::<u64>().unwrap();
    assert_eq!((shown("total_xact_count"), shown("total_query_count")), (transactions, totals.queries));
    assert_eq!((shown("total_received"), shown("total_sent")), (totals.received, totals.sent));
    assert_eq!((shown("total_xact_time"), shown("total_bind_count")), (totals.transaction.sum_us, 2));
    assert_eq!(shown("total_server_assignment_count"), totals.assignments);
    let idle = |row: &[(String, String)]| row.iter().find(|(column, _)| column == "sv_idle").unwrap().1.clone();
    testkit::eventually(SOON, "SHOW POOLS", || {
        let rows = console.table("SHOW POOLS");
        let row = rows.iter().find(|row| row[0].1 == APP.2)?;
        (idle(row) == own.group().servers_idle.to_string() && own.group().clients_active == 0).then_some(())
    });
}
