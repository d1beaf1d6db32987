//! The text that `evenkeel why` prints, whole, for requests to which different things happened.

use std::time::{Duration, SystemTime};

use kernel::event::Event;
use kernel::journal::{Boot, Journal};
use kernel::trace::{BudgetLeft, Kept, Step, TraceEnd, What};
use kernel::{Clock, Entropy};

use super::*;

const NOW_MS: u64 = 1_772_366_460_000;

fn steps(steps: impl IntoIterator<Item = (u64, What)>) -> Vec<Step> {
    steps.into_iter().map(|(at_us, what)| Step { at_us, what }).collect()
}

fn request(kept: Vec<Kept>, steps: Vec<Step>, end: TraceEnd) -> RequestTrace {
    RequestTrace {
        id: "0190c0ffee".into(),
        at_unix_us: 1_772_366_400_250_000,
        method: "GET".into(),
        target: "/orders/17".into(),
        host: "shop.example".into(),
        client: "10.1.0.7".into(),
        route: "orders".into(),
        service: "shop".into(),
        worker: 1,
        kept,
        steps,
        clipped: false,
        end,
    }
}

fn try_at(number: u32, endpoint: &str, chosen: &'static str, cause: &'static str, charged: bool) -> What {
    What::Try { number, endpoint: endpoint.into(), tier: 0, chosen, cause, charged }
}

fn tried_again() -> RequestTrace {
    let budget = Some(BudgetLeft { spent: 3, allowed: 40 });
    let path = [
        (20, What::Routed { timeout_ms: 30_000, repeatable: true, tier: 0 }),
        (60, try_at(1, "10.0.0.3:8080", "least busy of two", "first", false)),
        (310, What::Connected { number: 1, connection: "new", after_us: 250 }),
        (1_240, What::Failed { number: 1, reason: "it closed the connection before an answer".into() }),
        (1_250, What::Again { reason: "nothing of an answer came", pause_ms: 0, budget }),
        (1_300, try_at(2, "10.0.0.4:8080", "not tried yet", "reset", true)),
        (1_310, What::Connected { number: 2, connection: "reused", after_us: 10 }),
        (46_900, What::Answered { number: 2, status: 200, after_us: 45_500 }),
    ];
    let end = TraceEnd { status: 200, whole: true, took_us: 48_200, bytes: 5_312, ..TraceEnd::default() };
    request(vec![Kept::Retried], steps(path), end)
}

#[test]
fn a_request_that_was_tried_again() {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_366_399_000));
    let journal = Journal::unkept(clock, Boot::new(&mut Entropy::from_seed(1)));
    journal.tell(Event::EndpointEjected {
        service: "shop".into(),
        endpoint: "10.0.0.3:8080".into(),
        from: "healthy".into(),
        reason: "5 failures in a row".into(),
    });
    let why = Why::Found(vec![tried_again()]);
    insta::assert_snapshot!(render("0190c0ffee", &why, &journal.recent(9), NOW_MS));
}

#[test]
fn a_request_that_failed_after_a_wait() {
    let path = [
        (20, What::Routed { timeout_ms: 900, repeatable: false, tier: 1 }),
        (30, What::Queued),
        (2_030, What::LetIn),
        (2_060, try_at(1, "10.0.0.3:8080", "the only one", "first", false)),
        (2_500, What::Failed { number: 1, reason: "connection refused\u{1b}[31m".into() }),
        (2_510, What::Parked),
        (700_510, What::Released),
        (700_600, try_at(2, "10.0.0.3:8080", "it can be reached again", "connect", false)),
        (700_900, What::Silent { number: 2 }),
        (700_950, What::NotAgain { reason: "the request may have had an effect", budget: None }),
    ];
    let end = TraceEnd {
        status: 504,
        error: Some("upstream-timeout"),
        detail: "10.0.0.3:8080 did not answer in time".into(),
        whole: true,
        took_us: 900_000,
        bytes: 412,
    };
    let mut twice = request(vec![Kept::Failed, Kept::Parked, Kept::Queued], steps(path), end);
    twice.clipped = true;
    let why = Why::Found(vec![twice, tried_again()]);
    insta::assert_snapshot!(render("0190c0ffee", &why, &[], NOW_MS));
}

#[test]
fn a_request_that_was_for_nobody() {
    let end =
        TraceEnd { status: 404, error: Some("no-route"), whole: true, took_us: 90, bytes: 230, ..TraceEnd::default() };
    let mut refused = request(vec![Kept::Failed], steps([(40, What::Turned { error: "no-route" })]), end);
    (refused.route, refused.service) = (String::new(), String::new());
    insta::assert_snapshot!(render("x", &Why::Found(vec![refused]), &[], NOW_MS));
}

#[test]
fn a_transaction_that_waited_and_failed() {
    let statement = |text: &str, took_us: u64, rows: u64, error: Option<&str>| What::Statement {
        text: text.into(),
        took_us,
        rows,
        error: error.map(str::to_owned),
    };
    let began =
        What::Began { pool: "main".into(), database: "shop".into(), user: "app".into(), application: "billing".into() };
    let path = [
        (0, began),
        (812_000, What::Waited { reason: "all 20 connections were in use", after_us: 812_000 }),
        (812_010, What::Assigned { server: "db1.example:5432".into(), process: 4_242 }),
        (812_020, What::Replayed { settings: 1 }),
        (812_030, What::Prepared { statements: 2 }),
        (813_900, What::Moved { reason: "the connection was lost before anything was sent" }),
        (820_000, What::Pinned { reason: "an advisory lock" }),
        (1_420_000, statement("update stock set n = n - ? where id = $1", 600_000, 1, None)),
        (1_431_000, statement("insert into orders values (?)\u{1b}[31m", 11_000, 0, Some("23505"))),
    ];
    let mut failed = request(
        vec![Kept::Failed, Kept::Waited, Kept::Moved],
        steps(path),
        TraceEnd { took_us: 1_440_000, ..TraceEnd::default() },
    );
    (failed.id, failed.method) = ("tx-00c0ffee00c0ffee".into(), kernel::trace::TRANSACTION.into());
    failed.target = "update stock set n = n - ? where id = $1".into();
    (failed.host, failed.route, failed.service) = (String::new(), String::new(), String::new());
    let mut slow = failed.clone();
    slow.kept = vec![Kept::Slow];
    slow.steps.truncate(1);
    slow.end.whole = true;
    let why = Why::Found(vec![failed, slow]);
    insta::assert_snapshot!(render("tx-00c0ffee00c0ffee", &why, &[], NOW_MS));
}

#[test]
fn a_request_of_which_nothing_is_kept() {
    let why = Why::NotKept { oldest_unix_ms: Some(NOW_MS - 7_200_000), sample_one_in: 1_000, slow_ms: 1_500 };
    let new = Why::NotKept { oldest_unix_ms: None, sample_one_in: 0, slow_ms: 0 };
    let text = render("abc\u{7}", &why, &[], NOW_MS) + "\n" + &render("abc", &new, &[], NOW_MS);
    insta::assert_snapshot!(text);
}

#[test]
fn tries_become_bars_from_their_beginning_to_their_end() {
    let bars = why_words::tries_of(&tried_again());
    let shown: Vec<_> = bars.iter().map(|b| (b.number, b.from_us, b.connected_us, b.until_us, &*b.outcome)).collect();
    assert_eq!(
        shown,
        [
            (1, 60, Some(310), 1_240, "it closed the connection before an answer"),
            (2, 1_300, Some(1_310), 48_200, "answered 200")
        ]
    );
}
