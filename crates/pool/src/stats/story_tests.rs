//! Which transactions are kept, and how they read.

use std::net::SocketAddr;
use std::time::SystemTime;

use kernel::trace::What;

use super::super::statements::StatementTable;
use super::*;

const SLOW: Option<Duration> = Some(Duration::from_millis(500));

fn at(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

fn cells(text: &str) -> Arc<StatementCells> {
    let mut table = StatementTable::new(10);
    let group = table.group("shop", "app");
    table.entry(group, 7, text.as_bytes())
}

fn statement(cells: &Arc<StatementCells>, took_us: u64, rows: u64, error: Option<SqlState>) -> Statement {
    Statement { cells: cells.clone(), took_us, rows, error }
}

fn with_about<T>(then: impl FnOnce(&About<'_>) -> T) -> T {
    let client = SocketAddr::from(([10, 0, 0, 7], 4_321));
    then(&About { pool: "main", database: "shop", user: "app", application: "billing", client: &client })
}

fn end(stories: &Stories, transaction: &mut Transaction, ms: u64, ending: Ending<'_>) {
    with_about(|about| stories.end(transaction, at(ms), about, SLOW, ending));
}

fn newest(stories: &Stories) -> RequestTrace {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH);
    let line = lines([stories], 1, &clock).remove(0);
    why([stories], &line.id, &clock).expect("what is listed is known")
}

#[test]
fn what_is_plain_is_forgotten() {
    let (stories, mut tx, clock) = (Stories::new(0, 1), Transaction::default(), Clock::manual(SystemTime::UNIX_EPOCH));
    let cells = cells("select 1");
    for n in 0..100 {
        tx.begin(at(n));
        tx.statement(at(n), statement(&cells, 90, 1, None));
        end(&stories, &mut tx, n + 1, Ending::Well);
    }
    assert!(lines([&stories], 10, &clock).is_empty());
    assert_eq!(Arc::strong_count(&cells), 1, "nothing holds on to a statement");
    assert_eq!(oldest_unix_ms([&stories], &clock), None);
}

#[test]
fn a_transaction_is_told_step_by_step() {
    let (stories, mut tx) = (Stories::new(3, 1), Transaction::default());
    tx.begin(at(1_300));
    tx.waited(at(1_000), at(1_300), "all connections were in use");
    tx.mark(at(1_301), Mark::Assigned { server: "db1:5432".into(), process: 77 });
    tx.mark(at(1_302), Mark::Replayed(2));
    tx.statement(at(1_310), statement(&cells("update t set a = $1"), 8_000, 1, None));
    tx.statement(at(1_320), statement(&cells("insert into t"), 9_000, 0, Some(*b"23505")));
    end(&stories, &mut tx, 1_330, Ending::Error);
    let trace = newest(&stories);
    assert!(trace.is_transaction() && trace.id.starts_with("tx-") && trace.id.len() == 19);
    assert_eq!((trace.at_unix_us, trace.worker, trace.client.as_str()), (1_000_000, 3, "10.0.0.7:4321"));
    assert_eq!((trace.method.as_str(), trace.target.as_str()), ("TRANSACTION", "update t set a = $1"));
    assert_eq!(trace.kept, [Kept::Failed, Kept::Waited]);
    assert_eq!((trace.end.whole, trace.end.took_us), (false, 330_000));
    let steps: Vec<_> = trace.steps.iter().map(|step| (step.at_us / 1_000, &step.what)).collect();
    assert!(matches!(steps[0], (0, What::Began { pool, .. }) if pool == "main"));
    assert!(matches!(steps[1], (300, What::Waited { after_us: 300_000, .. })));
    assert!(matches!(steps[2], (301, What::Assigned { process: 77, .. })));
    assert!(matches!(steps[5], (320, What::Statement { error: Some(error), .. }) if error == "23505"));
    assert_eq!(steps.len(), 6);
}

#[test]
fn what_is_slow_moved_or_cut_is_kept_and_the_log_has_its_id() {
    let (stories, mut tx) = (Stories::new(0, 1), Transaction::default());
    tx.begin(at(0));
    end(&stories, &mut tx, 500, Ending::Well);
    assert_eq!(newest(&stories).kept, [Kept::Slow]);
    tx.begin(at(1_000));
    tx.mark(at(1_001), Mark::Moved("the connection was lost before anything was sent"));
    end(&stories, &mut tx, 1_002, Ending::Well);
    assert_eq!(newest(&stories).kept, [Kept::Moved]);
    tx.begin(at(2_000));
    let slow = statement(&cells("select pg_sleep(?)"), 700_000, 1, None);
    tx.statement(at(2_001), slow.clone());
    with_about(|about| stories.slow(&mut tx, at(2_001), about, &slow));
    let id = tx.id.unwrap();
    end(&stories, &mut tx, 2_010, Ending::Cut("the client went away"));
    let trace = newest(&stories);
    assert_eq!((trace.id, trace.end.detail.as_str()), (shown(id), "the client went away"));
    assert_eq!(trace.kept, [Kept::Failed, Kept::Slow]);
    tx.begin(at(3_000));
    assert_eq!((tx.kept, tx.id, tx.marks.len()), (0, None, 0));
}

#[test]
fn a_long_transaction_keeps_its_slowest_statements_and_its_errors() {
    let (stories, mut tx) = (Stories::new(0, 1), Transaction::default());
    tx.begin(at(0));
    tx.mark(at(0), Mark::Pinned("LISTEN"));
    for n in 1..=1_000u64 {
        tx.statement(at(n), statement(&cells(&format!("s{n}")), n % 100, 0, (n == 500).then_some(*b"40001")));
    }
    end(&stories, &mut tx, 1_001, Ending::Well);
    let trace = newest(&stories);
    assert!(trace.clipped && trace.steps.len() == MARKS_MAX + 1);
    assert!(matches!(trace.steps[1].what, What::Pinned { .. }));
    let statements = || {
        trace.steps.iter().filter_map(|step| match &step.what {
            What::Statement { took_us, error, .. } => Some((*took_us, error.is_some())),
            _ => None,
        })
    };
    assert!(statements().any(|(_, has_error)| has_error));
    assert!(statements().filter(|(_, has_error)| !has_error).all(|(took, _)| took >= 97), "the slowest stay");
    assert!(trace.steps.is_sorted_by_key(|step| step.at_us));
}

#[test]
fn rings_are_bounded_and_those_turned_away_do_not_wash_out_the_others() {
    let (stories, mut tx, clock) = (Stories::new(0, 1), Transaction::default(), Clock::manual(SystemTime::UNIX_EPOCH));
    tx.begin(at(0));
    end(&stories, &mut tx, 1, Ending::Error);
    let first = newest(&stories).id;
    for n in 0..5_000 {
        tx.begin(at(n));
        end(&stories, &mut tx, n + 1, Ending::Turned("the queue was full"));
    }
    assert!(why([&stories], &first, &clock).is_some());
    for n in 0..5_000 {
        tx.begin(at(n));
        end(&stories, &mut tx, n + 1, Ending::Error);
    }
    let all = lines([&stories], usize::MAX, &clock);
    assert_eq!(all.len(), TROUBLED_MAX + TURNED_MAX);
    let ids: std::collections::HashSet<_> = all.iter().map(|line| &line.id).collect();
    assert_eq!(ids.len(), all.len(), "no id twice");
    assert!(why([&stories], &first, &clock).is_none());
    for wrong in ["", "tx-", "tx-xyz", "tx-0", &first[3..], "tx-+000000000000001"] {
        assert!(why([&stories], wrong, &clock).is_none());
    }
}
