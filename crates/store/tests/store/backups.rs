//! Backups of a store that is in use, and the way back.

use kernel::Clock;
use kernel::journal::{JournalQuery, Order};
use kernel::overrides::{EndpointOverride, OverrideSet, OverrideStore, TakenOut};
use kernel::tally::Step;
use store::{BackupError, RestoreError};
use testkit::eventually;

use crate::support::{Place, SOON, deployed, ejected, shop};

fn decided(n: usize) -> OverrideSet {
    let mut set = OverrideSet::default();
    for n in 0..n {
        let o = EndpointOverride { state: TakenOut::Drained, by: kernel::overrides::Decision::default() };
        set.set_endpoint("shop", &format!("e:{n}"), Some(o));
    }
    set
}

#[test]
fn a_backup_of_a_running_node_comes_back_as_it_was() {
    let (place, other) = (Place::new(), Place::new());
    let node = place.node();
    node.store.ledger().load().unwrap();
    node.store.ledger().save(&decided(3)).unwrap();
    (0..100).for_each(|n| node.journal.tell(ejected("shop", &format!("e:{n}"))));
    node.journal.tell_durably(deployed("before")).wait(SOON).unwrap();
    node.source.count(&shop(), 21);
    // In the file, where another process sees them.
    let second = place.node();
    let tallies = second.store.tallies();
    eventually(SOON, "the counts", || {
        let periods = tallies.read(&shop(), Step::Minute, 0, u64::MAX).unwrap();
        periods.iter().any(|p| p.counts.total() == 21).then_some(())
    });
    second.close();
    let kept = node.records();
    // It goes on while the backup is taken.
    let out = other.config.directory.with_file_name("backup é #1");
    let report = std::thread::scope(|threads| {
        let going_on = threads.spawn(|| (0..200).for_each(|n| node.journal.tell(ejected("other", &format!("e:{n}")))));
        let report = store::backup(&place.config.directory, &out, &Clock::real()).unwrap();
        going_on.join().unwrap();
        report
    });
    assert_eq!(report.files.len(), 3);
    assert_eq!(store::verify(&out).unwrap(), report);
    node.store.ledger().save(&decided(1)).unwrap();
    assert_eq!(store::restore(&out, &other.config.directory, false).unwrap(), report);
    let back = other.node();
    assert_eq!(back.store.ledger().load().unwrap().set, decided(3));
    let records = back.records();
    assert_eq!(records[..kept.len()], kept);
    let total = |step| -> u64 {
        let periods = back.store.tallies().read(&shop(), step, 0, u64::MAX).unwrap();
        periods.iter().map(|p| p.counts.total()).sum()
    };
    assert_eq!([Step::Quarter, Step::Minute, Step::Hour].map(total), [21; 3]);
    back.close();
    node.close();
}

#[test]
fn nothing_is_restored_over_a_store_in_use_or_without_being_told_to() {
    let place = Place::new();
    let node = place.node();
    node.journal.tell_durably(deployed("first")).wait(SOON).unwrap();
    let out = place.config.directory.with_file_name("backup");
    let directory = &place.config.directory;
    store::backup(directory, &out, &Clock::real()).unwrap();
    assert!(matches!(store::backup(directory, &out, &Clock::real()), Err(BackupError::Exists(_))));
    for n in 0..10 {
        node.journal.tell_durably(deployed(&n.to_string())).wait(SOON).unwrap();
    }
    let last = node.records().last().unwrap().cursor;
    assert!(matches!(store::restore(&out, directory, true), Err(RestoreError::InUse(_))));
    node.close();
    assert!(matches!(store::restore(&out, directory, false), Err(RestoreError::Exists(_))));
    store::restore(&out, directory, true).unwrap();
    assert!(place.names().contains(&"journal.db.replaced-1".to_owned()), "{:?}", place.names());
    let node = place.node();
    assert_eq!(node.records().len(), 1);
    // Who follows the journal by a cursor of the one that was replaced misses nothing.
    node.journal.tell_durably(deployed("after")).wait(SOON).unwrap();
    let query = JournalQuery { after: Some(last), order: Order::OldestFirst, ..JournalQuery::default() };
    let after = node.store.journal().read(&query).unwrap().records;
    assert_eq!(after.iter().map(|r| &r.data["key"]).collect::<Vec<_>>(), ["after"]);
    node.close();
}

#[test]
fn a_backup_that_was_changed_is_not_restored() {
    let place = Place::new();
    let node = place.node();
    for n in 0..50 {
        node.journal.tell_durably(deployed(&n.to_string())).wait(SOON).unwrap();
    }
    node.close();
    let out = place.config.directory.with_file_name("backup");
    let directory = place.config.directory.with_file_name("other");
    store::backup(&place.config.directory, &out, &Clock::real()).unwrap();
    let file = out.join("journal.db");
    let whole = std::fs::read(&file).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for wrong in [changed.as_slice(), &whole[..whole.len() - 4_096], b""] {
        std::fs::write(&file, wrong).unwrap();
        assert!(matches!(store::restore(&out, &directory, true), Err(RestoreError::NotABackup { .. })));
        assert!(!directory.exists(), "nothing was touched");
    }
    std::fs::write(&file, &whole).unwrap();
    std::fs::write(out.join("manifest.json"), "{}").unwrap();
    assert!(matches!(store::restore(&out, &directory, true), Err(RestoreError::NotABackup { .. })));
    let nothing = place.config.directory.with_file_name("nothing");
    assert!(matches!(store::backup(&nothing, &out.join("x"), &Clock::real()), Err(BackupError::NoStore(_))));
}
