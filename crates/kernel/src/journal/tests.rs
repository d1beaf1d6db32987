//! Telling, folding, waiting and being kept.

use std::time::{Duration, SystemTime};

use super::*;

fn ejected(endpoint: &str) -> Event {
    let text = |s: &str| s.to_owned();
    Event::EndpointEjected {
        service: text("shop"),
        endpoint: text(endpoint),
        from: text("closed"),
        reason: text("refused"),
    }
}

fn journal() -> (Journal, Intake, Clock) {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH);
    let (journal, intake) = Journal::new(clock.clone(), Boot::from_text("a"));
    (journal, intake, clock)
}

fn numbers(waiting: &[Waiting]) -> Vec<u64> {
    waiting.iter().map(|w| w.record.number).collect()
}

#[test]
fn what_is_told_waits_until_it_is_kept() {
    let (journal, mut intake, _) = journal();
    journal.tell(ejected("a:1"));
    journal.tell(ejected("b:1"));
    assert_eq!(numbers(&intake.next(10, Duration::ZERO).unwrap()), [1, 2]);
    intake.kept(1);
    assert_eq!(numbers(&intake.next(10, Duration::ZERO).unwrap()), [2]);
    assert_eq!(journal.told(EventKind::EndpointEjected), 2);
    journal.close();
    intake.kept(1);
    assert!(intake.next(10, Duration::ZERO).is_none());
}

#[test]
fn what_flaps_is_told_three_times_and_then_counted() {
    let (journal, mut intake, clock) = journal();
    for _ in 0..20 {
        journal.tell(ejected("a:1"));
        clock.advance(Duration::from_secs(1));
    }
    journal.tell(ejected("b:1"));
    assert_eq!(intake.next(10, Duration::ZERO).unwrap().len(), 4);
    clock.advance(FOLD_QUIET);
    let waiting = intake.next(10, Duration::ZERO).unwrap();
    let folded = &waiting[4].record;
    assert_eq!((waiting.len(), folded.count, folded.at_unix_ms, folded.until_unix_ms), (5, 17, 3_000, 19_000));
    assert_eq!(journal.told(EventKind::EndpointEjected), 21);
}

#[test]
fn what_flaps_without_end_is_told_once_a_window() {
    let (journal, mut intake, clock) = journal();
    for _ in 0..600 {
        journal.tell(ejected("a:1"));
        clock.advance(Duration::from_secs(1));
        let _looked = intake.next(1, Duration::ZERO);
    }
    journal.close();
    let waiting = intake.next(1_000, Duration::ZERO).unwrap();
    assert!(waiting.len() <= 3 + 3 * 11, "{}", waiting.len());
    assert_eq!(waiting.iter().map(|w| w.record.count).sum::<u64>(), 600);
}

#[test]
fn without_room_the_newest_goes_and_is_counted() {
    let (journal, mut intake, _) = journal();
    for n in 0..WAITING_MAX + 5 {
        journal.tell(ejected(&format!("e{n}")));
    }
    assert_eq!((journal.dropped(), journal.waiting()), (5, WAITING_MAX));
    assert_eq!(numbers(&intake.next(1, Duration::ZERO).unwrap()), [1]);
    let receipt = journal.tell_durably(Event::NodeStopping { pid: 1, reason: String::new() });
    assert!(receipt.wait(Duration::ZERO).is_err());
}

#[test]
fn who_waits_for_a_record_is_told_what_becomes_of_it() {
    let (journal, mut intake, _) = journal();
    let stopping = || Event::NodeStopping { pid: 1, reason: String::new() };
    let (first, second) = (journal.tell_durably(stopping()), journal.tell_durably(stopping()));
    assert!(intake.next(1, Duration::ZERO).unwrap()[0].durable);
    intake.kept(1);
    intake.not_kept("the disk is full");
    assert_eq!(first.wait(Duration::ZERO), Ok(()));
    assert_eq!(second.wait(Duration::ZERO), Err(NotKept("the disk is full".to_owned())));
    // It waits all the same, and is kept later.
    assert_eq!(numbers(&intake.next(10, Duration::ZERO).unwrap()), [2]);
    drop(intake);
    let third = journal.tell_durably(stopping());
    assert!(third.wait(Duration::ZERO).is_err());
}

#[test]
fn recent_records_can_be_searched() {
    let (journal, _intake, clock) = journal();
    journal.tell(ejected("a:1"));
    clock.advance(Duration::from_secs(1));
    journal.tell(Event::ParkingBegan { service: "cart".to_owned() });
    let found = |query: JournalQuery| journal.read(&query).unwrap().records.len();
    let of = |kind: &str| JournalQuery { kinds: vec![kind.to_owned()], ..JournalQuery::default() };
    assert_eq!((found(of("endpoint")), found(of("endpoint.ejected")), found(of("endpoint.eject"))), (1, 1, 0));
    assert_eq!(found(JournalQuery { service: Some("cart".to_owned()), ..JournalQuery::default() }), 1);
    assert_eq!(found(JournalQuery { until_unix_ms: Some(1_000), ..JournalQuery::default() }), 1);
    assert_eq!(found(JournalQuery { level: Level::Error, ..JournalQuery::default() }), 0);
    assert_eq!(found(JournalQuery { marks: true, ..JournalQuery::default() }), 1);
    let first = journal.read(&JournalQuery { limit: 1, ..JournalQuery::default() }).unwrap();
    assert_eq!((first.records[0].kind.as_str(), first.more), ("parking.began", true));
}
