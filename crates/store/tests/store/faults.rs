//! What goes wrong with files, and that the node does not notice but by being told.

use std::time::Duration;

use kernel::journal::RECENT_MAX;
use kernel::overrides::{EndpointOverride, OverrideSet, OverrideStore, TakenOut};
use kernel::store::FileState;
use kernel::tally::Step;
use kernel::{Clock, EventKind};
use rusqlite::Connection;
use testkit::eventually;

use crate::child::Second;
use crate::support::{Node, Place, SOON, deployed, ejected, shop};

const FILES: [&str; 3] = ["ledger.db", "journal.db", "series.db"];

fn decided() -> OverrideSet {
    let mut set = OverrideSet::default();
    let by = kernel::overrides::Decision { actor: "ops".into(), reason: "why".into(), at_unix_seconds: 7 };
    set.set_endpoint("shop", "a:1", Some(EndpointOverride { state: TakenOut::Down, by }));
    set
}

fn total(node: &Node) -> u64 {
    let periods = node.store.tallies().read(&shop(), Step::Quarter, 0, u64::MAX).unwrap();
    periods.iter().map(|p| p.counts.total()).sum()
}

/// A store in which something is.
fn filled(place: &Place) {
    let node = place.node();
    node.store.ledger().load().unwrap();
    node.store.ledger().save(&decided()).unwrap();
    node.journal.tell_durably(deployed("1")).wait(SOON).unwrap();
    node.source.count(&shop(), 3);
    node.close();
}

#[test]
fn files_that_are_garbage_are_put_aside_and_new_ones_begun() {
    let place = Place::new();
    filled(&place);
    for name in FILES {
        std::fs::write(place.file(name), "this is no database, but it is long enough to look like a file ".repeat(99))
            .unwrap();
    }
    let node = place.node();
    let loaded = node.store.ledger().load().unwrap();
    assert_eq!(loaded.set, OverrideSet::default());
    assert!(loaded.damage.unwrap().contains("ledger.db.damaged-1"));
    for file in ["ledger", "journal", "series"] {
        node.wait_for(file, FileState::Kept);
    }
    node.journal.tell_durably(deployed("2")).wait(SOON).unwrap();
    let damaged = node.records().into_iter().filter(|r| r.kind == "store.damaged").count();
    assert_eq!(damaged, 3);
    // Who follows the journal has a cursor of the file before.
    assert!(node.records().iter().all(|r| r.cursor > 1_000_000), "cursors rise");
    for name in FILES {
        assert!(place.names().contains(&format!("{name}.damaged-1")));
    }
    node.close();
}

#[test]
fn a_page_that_is_damaged_while_in_use_costs_nothing_that_is_in_memory() {
    let place = Place::new();
    let node = place.node();
    node.store.ledger().load().unwrap();
    node.store.ledger().save(&decided()).unwrap();
    for n in 0..200 {
        node.journal.tell(ejected("shop", &format!("e:{n}")));
    }
    node.journal.tell_durably(deployed("1")).wait(SOON).unwrap();
    node.source.count(&shop(), 3);
    eventually(SOON, "the counts", || (total(&node) == 3).then_some(()));
    for name in FILES {
        // What is in the log is brought over, so that the damage is what is read next.
        let db = Connection::open(place.file(name)).unwrap();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0)).unwrap();
        drop(db);
        let size = std::fs::metadata(place.file(name)).unwrap().len();
        std::fs::write(place.file(name), vec![0xA5; size as usize]).unwrap();
    }
    // Closing a descriptor of a file drops this process's locks on it: only now, and only in a test.
    node.source.count(&shop(), 4);
    node.journal.tell(deployed("2"));
    let mut more = decided();
    more.services.insert("shop".into(), kernel::overrides::TierOverride { tier: 1, by: Default::default() });
    eventually(SOON, "the ledger to keep again", || node.store.ledger().save(&more).ok());
    eventually(SOON, "all to be damaged", || (node.journal.told(EventKind::StoreDamaged) >= 3).then_some(()));
    eventually(SOON, "the journal to keep again", || node.journal.tell_durably(deployed("3")).wait(SOON).ok());
    node.wait_for("series", FileState::Kept);
    assert!(node.records().len() >= 203 && node.records().iter().all(|r| r.cursor > 0));
    eventually(SOON, "the counts again", || (total(&node) == 7).then_some(()));
    node.close();
    let node = place.node();
    assert_eq!(node.store.ledger().load().unwrap().set, more);
    assert_eq!(total(&node), 7);
    assert!(node.records().iter().any(|r| r.endpoint == "e:0"));
    node.close();
}

#[test]
fn a_directory_that_is_removed_while_in_use_is_made_anew_with_what_is_in_memory() {
    let place = Place::new();
    let node = place.node();
    node.store.ledger().load().unwrap();
    node.store.ledger().save(&decided()).unwrap();
    for n in 0..RECENT_MAX / 4 {
        node.journal.tell(ejected("shop", &format!("e:{n}")));
    }
    node.journal.tell_durably(deployed("1")).wait(SOON).unwrap();
    node.source.count(&shop(), 3);
    eventually(SOON, "the counts", || (total(&node) == 3).then_some(()));
    let before = node.records();
    // In one step: it is made anew at once.
    let away = place.config.directory.with_extension("away");
    std::fs::rename(&place.config.directory, &away).unwrap();
    std::fs::remove_dir_all(away).unwrap();
    node.journal.tell_durably(deployed("2")).wait(SOON).ok();
    eventually(SOON, "the files", || FILES.iter().all(|name| place.file(name).is_file()).then_some(()));
    eventually(SOON, "the journal to keep again", || node.journal.tell_durably(deployed("3")).wait(SOON).ok());
    eventually(SOON, "a word on each", || (node.journal.told(EventKind::StoreReturned) >= 3).then_some(()));
    let last = before.last().unwrap().cursor;
    let records = node.records();
    assert!(records.iter().all(|r| r.cursor > last), "a cursor never comes twice");
    assert!(before.iter().all(|old| records.iter().any(|r| r.number == old.number)));
    node.close();
    let node = place.node();
    assert_eq!(node.store.ledger().load().unwrap().set, decided());
    assert_eq!(total(&node), 3);
    node.close();
}

#[test]
fn a_file_of_another_program_or_a_newer_version_is_left_alone() {
    let place = Place::new();
    filled(&place);
    let newer = Connection::open(place.file("journal.db")).unwrap();
    newer.execute_batch("PRAGMA user_version = 900; UPDATE about SET value = 850 WHERE key = 'min_reader'").unwrap();
    newer.close().unwrap();
    std::fs::remove_file(place.file("ledger.db")).unwrap();
    let foreign = Connection::open(place.file("ledger.db")).unwrap();
    foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
    foreign.close().unwrap();
    // A newer form that this version can use.
    let expanded = Connection::open(place.file("series.db")).unwrap();
    expanded.execute_batch("PRAGMA user_version = 900; ALTER TABLE minute ADD COLUMN extra TEXT").unwrap();
    expanded.close().unwrap();
    let before = ["journal.db", "ledger.db"].map(|name| std::fs::read(place.file(name)).unwrap());
    let node = place.node();
    eventually(SOON, "a word on the version", || {
        node.health("journal").trouble.contains("a newer version").then_some(())
    });
    eventually(SOON, "a word on the program", || {
        node.health("ledger").trouble.contains("another program").then_some(())
    });
    node.wait_for("series", FileState::Kept);
    assert_eq!(total(&node), 3);
    node.journal.tell(deployed("2"));
    assert!(node.records().iter().any(|r| r.data.get("key").is_some_and(|key| key == "2")));
    assert!(!node.store.close(Duration::from_millis(300)), "what is told cannot be kept");
    let after = ["journal.db", "ledger.db"].map(|name| std::fs::read(place.file(name)).unwrap());
    assert!(before == after, "not a byte is changed");
}

#[test]
fn a_log_cut_short_anywhere_costs_its_end_and_nothing_else() {
    let place = Place::new();
    let node = place.node();
    for n in 0..30 {
        node.journal.tell_durably(deployed(&n.to_string())).wait(SOON).unwrap();
    }
    // As a crash leaves it: the log is not brought over.
    let other = Place::new();
    let copy = |name: &str| std::fs::read(place.file(name)).unwrap();
    let (db, log) = (copy("journal.db"), copy("journal.db-wal"));
    node.close();
    assert!(log.len() > 30 * 4_096, "the log holds all of it");
    std::fs::create_dir_all(&other.config.directory).unwrap();
    let mut before = 0;
    for length in (0..=log.len()).step_by(log.len() / 40) {
        std::fs::write(other.file("journal.db"), &db).unwrap();
        std::fs::write(other.file("journal.db-wal"), &log[..length]).unwrap();
        let _none = std::fs::remove_file(other.file("journal.db-shm")).is_err();
        let node = other.node();
        node.journal.tell_durably(deployed("after")).wait(SOON).unwrap();
        assert_eq!(node.journal.told(EventKind::StoreDamaged), 0, "{length}");
        let keys: Vec<String> =
            node.records().iter().filter_map(|r| r.data["key"].as_str().map(str::to_owned)).collect();
        let expected: Vec<String> = (0..keys.len() - 1).map(|n| n.to_string()).chain(["after".to_owned()]).collect();
        assert_eq!(keys, expected, "{length}");
        assert!(keys.len() >= before, "a longer log holds no less");
        before = keys.len();
        node.close();
    }
    assert!(before >= 29, "{before}");
}

#[test]
fn a_write_that_stands_still_holds_up_its_thread_alone() {
    let mut place = Place::new();
    place.config.busy = Duration::from_secs(20);
    let node = place.node();
    node.journal.tell_durably(deployed("1")).wait(SOON).unwrap();
    node.wait_for("series", FileState::Kept);
    let others: Vec<Connection> = FILES[1..].iter().map(|name| Connection::open(place.file(name)).unwrap()).collect();
    others.iter().for_each(|db| db.execute_batch("BEGIN IMMEDIATE").unwrap());
    let clock = Clock::real();
    let (mut slowest, began) = (Duration::ZERO, clock.now());
    for n in 0..2_000 {
        let at = clock.now();
        node.journal.tell(ejected("shop", &format!("e:{n}")));
        node.source.count(&shop(), 1);
        slowest = slowest.max(clock.now().since(at));
    }
    // Readers see what is in memory.
    assert!(node.records().len() > 500);
    eventually(SOON, "the counts from memory", || (total(&node) == 2_000).then_some(()));
    let said = eventually(SOON, "a word on the write", || {
        Some(node.health("journal")).filter(|f| f.trouble.contains("a write has been going on"))
    });
    assert_eq!(said.state, FileState::Kept);
    assert!(slowest < Duration::from_secs(1) && clock.now().since(began) < Duration::from_secs(15), "{slowest:?}");
    drop(others);
    node.journal.tell_durably(deployed("2")).wait(SOON).unwrap();
    assert_eq!((node.journal.told(EventKind::StoreLost), node.journal.dropped()), (0, 0));
    assert_eq!(node.records().len(), 1_000, "the first page of them");
    node.close();
    assert_eq!(total(&place.node()), 2_000);
}

#[test]
fn a_file_that_another_process_locks_for_long_is_lost_and_comes_back() {
    let mut place = Place::new();
    place.config.busy = Duration::from_millis(50);
    let node = place.node();
    node.journal.tell_durably(deployed("1")).wait(SOON).unwrap();
    let other = Connection::open(place.file("journal.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    node.journal.tell(deployed("2"));
    let lost = node.wait_for("journal", FileState::Lost);
    assert_eq!(lost.trouble, "another process has locked it");
    assert!(node.journal.tell_durably(deployed("3")).wait(SOON).is_err());
    drop(other);
    node.wait_for("journal", FileState::Kept);
    node.journal.tell_durably(deployed("4")).wait(SOON).unwrap();
    let keys: Vec<_> = node.records().into_iter().filter_map(|r| r.data.get("key").cloned()).collect();
    assert_eq!(keys, ["1", "2", "3", "4"]);
    assert_eq!((node.journal.told(EventKind::StoreLost), node.journal.told(EventKind::StoreReturned)), (1, 1));
    node.close();
}

#[test]
fn what_a_killed_process_was_told_is_kept_is_there_once() {
    let place = Place::new();
    let node = place.node();
    node.journal.tell_durably(deployed("here")).wait(SOON).unwrap();
    let (mut kept, mut counted) = (0, 0);
    for _ in 0..3 {
        let second = Second::run("write", &place.config.directory, None);
        second.said("kept 200");
        let last = second.kill("kept").map_or(200, |n| n.parse().unwrap());
        kept += last / 10;
        counted += last;
    }
    let records = node.store.journal();
    let mut all = Vec::new();
    loop {
        let after = all.last().map(|r: &kernel::journal::Record| r.cursor);
        let order = kernel::journal::Order::OldestFirst;
        let query = kernel::journal::JournalQuery { after, order, limit: 1_000, ..Default::default() };
        let page = records.read(&query).unwrap();
        all.extend(page.records);
        if !page.more {
            break;
        }
    }
    let deploys = all.iter().filter(|r| r.kind == "deploy.marked" && r.boot != *node.journal.boot()).count();
    assert!(deploys >= kept && deploys <= kept + 3, "{deploys} of {kept}");
    let numbers: std::collections::BTreeSet<_> = all.iter().map(|r| (&r.boot, r.number)).collect();
    assert_eq!(numbers.len(), all.len(), "nothing is there twice");
    // A second's counts are lost at most: it counted for less than a millisecond each.
    let found = total(&node) as usize;
    assert!(found <= counted + 3 * 100 && found + 3 * 1_100 >= counted, "{found} of {counted}");
    node.close();
}

#[test]
fn a_disk_that_is_full_costs_nothing_once_there_is_room() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path().display();
    let before = format!("mount -t tmpfs -o size=2m none '{at}'");
    let second = Second::run("full", &root.path().join("data"), Some(&before));
    second.end();
}

#[test]
fn a_file_system_that_is_read_only_is_said_to_be_so() {
    let place = Place::new();
    filled(&place);
    let at = place.config.directory.display();
    let before = format!("mount --bind '{at}' '{at}'\nmount -o remount,bind,ro '{at}'");
    let second = Second::run("read-only", &place.config.directory, Some(&before));
    second.end();
}
