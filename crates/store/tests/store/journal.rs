//! The journal in its file: what was told is there once, for every process, in its order, and as it is asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use kernel::Journal;
use kernel::journal::{JournalPage, JournalQuery, JournalReader, LIMIT_MAX, Order, Record};
use kernel::store::FileState;
use kernel::{Clock, Event, EventKind, Level};
use testkit::eventually;

use crate::support::{Node, Place, SOON, deployed, ejected};

#[test]
fn what_was_told_is_there_after_a_restart_with_a_cursor() {
    let place = Place::new();
    let node = place.node();
    node.journal.tell(ejected("shop", "a:1"));
    node.journal.tell_durably(deployed("1")).wait(SOON).unwrap();
    let before = node.records();
    node.close();
    let node = place.node();
    let after = node.records();
    assert_eq!(before, after);
    assert_eq!(after.iter().map(|r| r.cursor).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(after[1].data["key"], "1");
    node.close();
}

#[test]
fn files_are_for_their_user_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    let node = place.node();
    node.wait_for("journal", FileState::Kept);
    node.wait_for("series", FileState::Kept);
    assert_eq!(std::fs::metadata(&place.config.directory).unwrap().mode() & 0o777, 0o700);
    for name in place.names() {
        assert_eq!(std::fs::metadata(place.file(&name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
    node.close();
}

#[test]
fn two_processes_write_one_journal_and_each_reads_both() {
    let place = Place::new();
    let (old, new) = (place.node(), place.node());
    for n in 0..50 {
        old.journal.tell(ejected("shop", &format!("old:{n}")));
        new.journal.tell(ejected("shop", &format!("new:{n}")));
    }
    old.journal.tell_durably(deployed("old")).wait(SOON).unwrap();
    new.journal.tell_durably(deployed("new")).wait(SOON).unwrap();
    let is_whole = |node: &Node| {
        let records = node.records();
        let cursors: BTreeSet<u64> = records.iter().map(|r| r.cursor).collect();
        records.len() == 102 && cursors.len() == 102
    };
    assert!(is_whole(&old) && is_whole(&new), "{} {}", old.records().len(), new.records().len());
    assert_eq!(old.records(), new.records());
    old.close();
    assert!(is_whole(&new));
    new.close();
}

#[test]
fn a_follower_that_goes_by_cursor_meets_every_record_once() {
    let place = Place::new();
    let (old, new) = (place.node(), place.node());
    let follow =
        |from: u64| JournalQuery { after: Some(from), order: Order::OldestFirst, limit: 7, ..JournalQuery::default() };
    for n in 0..40 {
        old.journal.tell(ejected("shop", &format!("old:{n}")));
        new.journal.tell(ejected("shop", &format!("new:{n}")));
    }
    let (mut met, mut at) = (Vec::new(), 0);
    eventually(SOON, "all records", || {
        let page = new.store.journal().read(&follow(at)).unwrap();
        at = page.records.last().map_or(at, |r| r.cursor);
        met.extend(page.records.into_iter().map(|r| r.endpoint));
        (met.len() == 80).then_some(())
    });
    assert_eq!(met.iter().collect::<BTreeSet<_>>().len(), 80);
    old.close();
    new.close();
}

#[test]
fn what_is_not_kept_yet_is_read_without_a_cursor_and_not_twice() {
    let place = Place::new();
    std::fs::write(&place.config.directory, "in the way").unwrap();
    let node = place.node();
    node.journal.tell(ejected("shop", "a:1"));
    eventually(SOON, "a word on the directory", || node.health("journal").trouble.contains("directory").then_some(()));
    let unkept = node.records();
    assert!(unkept.iter().all(|r| r.cursor == 0));
    assert_eq!(unkept.iter().filter(|r| r.kind == "endpoint.ejected").count(), 1);
    std::fs::remove_file(&place.config.directory).unwrap();
    let back = eventually(SOON, "store.returned", || {
        node.records().into_iter().find(|r| r.kind == "store.returned" && r.data["file"] == "journal")
    });
    assert!(back.data["kept"].as_u64() >= Some(1), "{back:?}");
    node.journal.tell_durably(deployed("1")).wait(SOON).unwrap();
    let kept = node.records();
    assert!(kept.iter().all(|r| r.cursor > 0), "{kept:#?}");
    let numbers: BTreeSet<u64> = kept.iter().map(|r| r.number).collect();
    assert_eq!(numbers.len(), kept.len());
    assert_eq!(numbers.last(), Some(&(kept.len() as u64)));
    node.close();
}

/// Asks the file and the memory the same.
fn agree(node: &Node, all: &[Record], query: &JournalQuery) {
    let JournalPage { records, more } = node.store.journal().read(query).unwrap();
    let expected = query.answer_from(all.iter().cloned());
    assert_eq!((records, more), (expected.records, expected.more), "{query:?}");
}

#[test]
fn the_file_answers_every_question_as_memory_does() {
    testkit::seeded(|mut entropy| {
        let place = Place::new();
        let clock = Clock::manual(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let node = place.node_by(clock.clone());
        let services = ["shop", "sh", "", "Shop", "é%_'"];
        let endpoints = ["a:1", "b:1", ""];
        let reason = || "why".to_owned();
        for _ in 0..200 {
            let service = services[entropy.below(5) as usize].to_owned();
            let endpoint = endpoints[entropy.below(3) as usize].to_owned();
            let event = match entropy.below(6) {
                0 => ejected(&service, &endpoint),
                1 => Event::EndpointReturned { service, endpoint, reason: reason() },
                2 => Event::DnsLost { service, name: endpoint, error: reason() },
                3 => Event::WorkerFailed { error: service },
                4 => Event::NodeStopping { pid: 7, reason: endpoint },
                _ => deployed(&service),
            };
            node.journal.tell(event);
            clock.advance(Duration::from_millis(entropy.below(5_000)));
        }
        node.journal.tell_durably(deployed("last")).wait(SOON).unwrap();
        let all = node.records();
        assert!(all.len() > 100 && all.iter().all(|r| r.cursor > 0), "{}", all.len());
        let (first, last) = (all[0].at_unix_ms, all[all.len() - 1].at_unix_ms);
        let kinds = ["endpoint", "endpoint.ejected", "dns", "node.stopping", "node", "end", "", "worker.failed."];
        for _ in 0..400 {
            let mut maybe = |n: u64| (entropy.below(3) == 0).then(|| entropy.below(n));
            let query = JournalQuery {
                after: maybe(all.len() as u64 + 3),
                before: maybe(all.len() as u64 + 3),
                since_unix_ms: maybe(last - first).map(|n| first + n),
                until_unix_ms: maybe(last - first).map(|n| first + n),
                kinds: (0..maybe(4).unwrap_or(0))
                    .filter_map(|_| maybe(kinds.len() as u64).map(|k| kinds[k as usize].to_owned()))
                    .collect(),
                service: maybe(5).map(|n| services[n as usize].to_owned()),
                endpoint: maybe(3).map(|n| endpoints[n as usize].to_owned()),
                level: [Level::Info, Level::Warn, Level::Error][maybe(3).unwrap_or(0) as usize],
                marks: maybe(2) == Some(1),
                limit: maybe(50).map_or(LIMIT_MAX, |n| n as usize),
                order: if maybe(2) == Some(1) { Order::OldestFirst } else { Order::NewestFirst },
            };
            agree(&node, &all, &query);
        }
        node.close();
    });
}

#[test]
fn records_that_are_old_go() {
    let mut place = Place::new();
    place.config.journal_keep = Duration::from_secs(3_600);
    place.config.upkeep_every = Duration::from_millis(50);
    let clock = Clock::manual(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let node = place.node_by(clock.clone());
    node.journal.tell_durably(deployed("old")).wait(SOON).unwrap();
    clock.advance(Duration::from_secs(3_000));
    node.journal.tell_durably(deployed("newer")).wait(SOON).unwrap();
    clock.advance(Duration::from_secs(1_000));
    eventually(SOON, "the old record to go", || {
        let keys: Vec<_> = node.records().into_iter().map(|r| r.data["key"].clone()).collect();
        (keys == ["newer"]).then_some(())
    });
    node.close();
}

#[test]
fn a_full_journal_lets_the_oldest_go_and_stays_under_its_cap() {
    let mut place = Place::new();
    place.config.journal_cap = store::SMALLEST_CAP;
    let node = place.node();
    let long = "x".repeat(1_900);
    for n in 0..3_000 {
        let event = Event::EndpointDrained {
            service: "shop".into(),
            endpoint: format!("e:{n}"),
            actor: "ops".into(),
            reason: long.clone(),
            kept: true,
        };
        node.journal.tell(event);
        if n % 100 == 99 {
            node.journal.tell_durably(deployed(&n.to_string())).wait(SOON).unwrap();
            let health = node.health("journal");
            assert!(health.bytes <= health.cap_bytes, "{health:?}");
            assert_eq!(health.state, FileState::Kept);
        }
    }
    assert_eq!(node.journal.told(EventKind::StoreFull), 1);
    let records = node.records();
    assert!(records.iter().any(|r| r.data.get("key").is_some_and(|k| k == "2999")), "the newest is there");
    assert!(!records.iter().any(|r| r.endpoint == "e:0"), "the oldest is gone");
    node.close();
}

#[test]
fn a_journal_whose_cap_was_lowered_gives_room_back() {
    let mut place = Place::new();
    let node = place.node();
    for n in 0..600 {
        let event =
            Event::ConfigApplied { config: n.to_string(), changes: "x".repeat(1_900), outcome: "y".repeat(1_900) };
        node.journal.tell(event);
    }
    node.journal.tell_durably(deployed("last")).wait(SOON).unwrap();
    assert!(node.health("journal").bytes > 2 * store::SMALLEST_CAP.as_bytes());
    node.close();
    place.config.journal_cap = store::SMALLEST_CAP;
    let node = place.node();
    eventually(SOON, "the file to be small", || {
        node.journal.tell(deployed("more"));
        let health = node.health("journal");
        (health.bytes <= health.cap_bytes).then_some(())
    });
    assert!(node.records().iter().any(|r| r.data.get("key").is_some_and(|k| k == "last")));
    node.close();
}

#[test]
fn a_journal_without_a_store_still_answers() {
    let clock = Clock::real();
    let journal = Journal::unkept(clock, crate::support::boot());
    journal.tell(ejected("shop", "a:1"));
    assert_eq!(journal.read(&JournalQuery::default()).unwrap().records.len(), 1);
}
