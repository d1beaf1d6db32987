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
fn what_is_folded_is_told_apart_by_what_it_is_about_and_summed_up() {
    let (journal, mut intake, clock) = journal();
    let turned_away =
        |limit: &str, n| Event::LimitReached { service: String::new(), limit: limit.to_owned(), turned_away: n };
    for n in 1..=5 {
        journal.tell(turned_away("a", n));
        journal.tell(turned_away("b", 10 * n));
    }
    clock.advance(FOLD_QUIET);
    let waiting = intake.next(10, Duration::ZERO).unwrap();
    let folded = |at: usize| (waiting[at].record.count, waiting[at].record.data["turned_away"].as_u64());
    assert_eq!(waiting.len(), 8);
    let mut both = [folded(6), folded(7)];
    both.sort_unstable();
    assert_eq!(both, [(2, Some(9)), (2, Some(90))]);
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

/// Asks, from another thread, how many records wait while it is told of one.
struct Nosy {
    journal: Journal,
    answers: Mutex<Vec<Option<usize>>>,
}

impl tracing::Subscriber for Nosy {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        let (journal, (tell, told)) = (self.journal.clone(), std::sync::mpsc::sync_channel(1));
        std::thread::spawn(move || tell.send(journal.waiting()));
        self.answers.lock().unwrap().push(told.recv_timeout(Duration::from_secs(5)).ok());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_log_that_stands_still_does_not_hold_the_journal() {
    let (journal, mut intake, clock) = journal();
    let nosy = Arc::new(Nosy { journal: journal.clone(), answers: Mutex::default() });
    tracing::subscriber::with_default(nosy.clone(), || {
        (0..5).for_each(|_| journal.tell(ejected("a:1")));
        clock.advance(FOLD_QUIET);
        let _folded = intake.next(10, Duration::ZERO);
        journal.tell(ejected("a:1"));
        journal.close();
    });
    // Three as they came, what was folded, and what was folded again.
    assert_eq!(*nosy.answers.lock().unwrap(), [Some(1), Some(2), Some(3), Some(4), Some(5)]);
}

#[test]
fn with_too_many_things_at_once_the_further_ones_are_told_until_there_is_room() {
    let (journal, mut intake, clock) = journal();
    (0..FOLD_KEYS_MAX).for_each(|n| journal.tell(ejected(&format!("e{n}"))));
    let mut told = |n: usize| {
        (0..n).for_each(|_| journal.tell(ejected("new")));
        let waiting = intake.next(WAITING_MAX, Duration::ZERO).unwrap().len();
        intake.kept(waiting);
        waiting
    };
    assert_eq!(told(10), FOLD_KEYS_MAX + 10);
    // What is old is looked for now and then, and makes room.
    clock.advance(FOLD_WINDOW);
    assert_eq!(told(10), FOLD_AFTER as usize);
}
