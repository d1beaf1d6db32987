//! Decisions and leases: kept when the caller is told so, by any number of callers and two processes.

use std::sync::Arc;
use std::time::Duration;

use kernel::Clock;
use kernel::overrides::{Decision, EndpointOverride, OverrideSet, OverrideStore, TakenOut, TierOverride};
use kernel::store::{FileState, Leases};

use crate::support::{Place, SOON};

fn by(reason: &str) -> Decision {
    Decision { actor: "ops".into(), reason: reason.into(), at_unix_seconds: 1_764_000_000 }
}

fn drained(reason: &str) -> Option<EndpointOverride> {
    Some(EndpointOverride { state: TakenOut::Drained, by: by(reason) })
}

fn some() -> OverrideSet {
    let mut set = OverrideSet::default();
    set.set_endpoint("shop", "a:1", drained("a new disk, \"quoted\" é"));
    set.set_endpoint("shop", "b:1", Some(EndpointOverride { state: TakenOut::Down, by: by("broken") }));
    set.services.insert("shop".into(), TierOverride { tier: 2, by: by("moved") });
    set
}

#[test]
fn decisions_are_there_after_a_restart() {
    let place = Place::new();
    let node = place.node();
    let ledger = node.store.ledger();
    assert_eq!(ledger.load().unwrap().set, OverrideSet::default());
    let mut set = some();
    ledger.save(&set).unwrap();
    set.set_endpoint("shop", "b:1", None);
    ledger.save(&set).unwrap();
    node.close();
    assert!(ledger.save(&set).is_err(), "a closed ledger keeps nothing");
    let node = place.node();
    let loaded = node.store.ledger().load().unwrap();
    assert_eq!((loaded.set, loaded.damage), (set, None));
    node.close();
}

#[test]
fn two_processes_keep_what_each_decides_and_learn_of_it() {
    let place = Place::new();
    let (old, new) = (place.node(), place.node());
    let (a, b) = (old.store.ledger(), new.store.ledger());
    let (mut of_a, mut of_b) = (a.load().unwrap().set, b.load().unwrap().set);
    of_a.set_endpoint("shop", "a:1", drained("by a"));
    a.save(&of_a).unwrap();
    of_b.set_endpoint("shop", "b:1", drained("by b"));
    b.save(&of_b).unwrap();
    let whole = a.news().unwrap().expect("b has decided something");
    assert_eq!(whole.len(), 2);
    assert_eq!(b.news().unwrap().expect("a has decided something"), whole);
    assert_eq!((a.news().unwrap(), b.news().unwrap()), (None, None));
    // The later decision about the same endpoint counts, also if it is to take it back.
    let mut set = whole.clone();
    set.set_endpoint("shop", "a:1", None);
    b.save(&set).unwrap();
    assert_eq!(a.news().unwrap(), Some(set.clone()));
    old.close();
    new.close();
    assert_eq!(place.node().store.ledger().load().unwrap().set, set);
}

#[test]
fn a_process_that_could_not_read_removes_nothing() {
    let place = Place::new();
    let node = place.node();
    node.store.ledger().load().unwrap();
    node.store.ledger().save(&some()).unwrap();
    node.close();
    let node = place.node();
    let mut mine = OverrideSet::default();
    mine.set_endpoint("shop", "c:1", drained("later"));
    node.store.ledger().save(&mine).unwrap();
    assert_eq!(node.store.ledger().news().unwrap().map(|set| set.len()), Some(4));
    node.close();
}

#[test]
fn the_earlier_versions_file_is_taken_over_once() {
    let place = Place::new();
    std::fs::create_dir(&place.config.directory).unwrap();
    let serde_json::Value::Object(mut written) = serde_json::to_value(some()).unwrap() else { unreachable!() };
    written.insert("version".into(), 1.into());
    let text = serde_json::to_string_pretty(&written).unwrap();
    std::fs::write(place.file("overrides.json"), &text).unwrap();
    let node = place.node();
    assert_eq!(node.store.ledger().load().unwrap().set, some());
    node.store.ledger().save(&OverrideSet::default()).unwrap();
    node.close();
    assert!(place.names().contains(&"overrides.json.imported".to_owned()));
    // A crash before it was renamed: it was taken over all the same.
    std::fs::write(place.file("overrides.json"), &text).unwrap();
    let node = place.node();
    assert_eq!(node.store.ledger().load().unwrap().set, OverrideSet::default());
    node.close();
    // The earlier version ran once more, and something was decided.
    std::fs::write(place.file("overrides.json"), text.replace("broken", "broken again")).unwrap();
    let node = place.node();
    assert_eq!(node.store.ledger().load().unwrap().set.len(), 3);
    node.close();
}

#[test]
fn an_earlier_file_that_cannot_be_understood_is_put_aside_and_said() {
    let place = Place::new();
    std::fs::create_dir(&place.config.directory).unwrap();
    std::fs::write(place.file("overrides.json"), "{\"version\":1,\"endp").unwrap();
    let node = place.node();
    let loaded = node.store.ledger().load().unwrap();
    assert!(loaded.damage.unwrap().contains("overrides.json.corrupt"));
    assert!(!place.names().contains(&"overrides.json".to_owned()));
    node.close();
}

#[test]
fn one_of_two_processes_holds_a_lease_and_its_fence_rises() {
    let place = Place::new();
    let clock = Clock::manual(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let (old, new) = (place.node_by(clock.clone()), place.node_by(clock.clone()));
    let (a, b) = (old.store.ledger(), new.store.ledger());
    let ttl = Duration::from_secs(30);
    let first = a.take("report", ttl).unwrap().unwrap();
    assert_eq!((first.fence, b.take("report", ttl).unwrap()), (1, None));
    clock.advance(Duration::from_secs(20));
    assert_eq!(a.take("report", ttl).unwrap(), Some(first.clone()));
    clock.advance(Duration::from_secs(20));
    assert_eq!(b.take("report", ttl).unwrap(), None);
    clock.advance(Duration::from_secs(11));
    let second = b.take("report", ttl).unwrap().unwrap();
    assert_eq!((second.fence, a.take("report", ttl).unwrap()), (2, None));
    a.release(&first).unwrap();
    assert_eq!(a.take("report", ttl).unwrap(), None, "what is another's is not given back");
    b.release(&second).unwrap();
    assert_eq!(a.take("report", ttl).unwrap().map(|l| l.fence), Some(3));
    old.close();
    new.close();
}

#[test]
fn callers_share_a_transaction_and_each_is_kept() {
    let place = Place::new();
    let node = place.node();
    let ledger = node.store.ledger();
    let names: Vec<String> = (0..64).map(|n| format!("lease-{n}")).collect();
    std::thread::scope(|threads| {
        for name in &names {
            let ledger = ledger.clone();
            threads.spawn(move || assert!(ledger.take(name, SOON).unwrap().is_some()));
        }
    });
    node.close();
    let node = place.node();
    let free = names.iter().filter(|name| node.store.ledger().take(name, SOON).unwrap().is_some()).count();
    assert_eq!(free, 0, "each is held by the process before");
    node.close();
}

#[test]
fn a_full_ledger_takes_nothing_more_and_says_so() {
    let mut place = Place::new();
    place.config.ledger_cap = store::SMALLEST_CAP;
    let node = place.node();
    let ledger = node.store.ledger();
    ledger.load().unwrap();
    let mut set = OverrideSet::default();
    (0..400).for_each(|n| set.set_endpoint("shop", &format!("e:{n}"), drained(&"x".repeat(500))));
    ledger.save(&set).unwrap();
    let take = |n: usize| ledger.take(&format!("{n}{}", "x".repeat(3_000)), SOON);
    let (n, error) = (0..1_000).find_map(|n| take(n).err().map(|e| (n, e.to_string()))).expect("the cap is met");
    assert!(error.contains("as large as it may be"), "{error}");
    let health = node.health("ledger");
    assert!(health.state == FileState::Full && health.bytes <= health.cap_bytes, "{health:?}");
    assert_eq!(node.wait_told("store.full").data["file"], "ledger");
    // What was kept is there, and room can be made.
    assert_eq!(ledger.news().unwrap(), None);
    ledger.save(&OverrideSet::default()).unwrap();
    assert_eq!(node.health("ledger").state, FileState::Kept);
    assert!(take(n).unwrap().is_some());
    node.close();
}

#[test]
fn a_ledger_that_cannot_be_opened_says_so_at_once_and_holds_up_nobody() {
    let place = Place::new();
    std::fs::write(&place.config.directory, "in the way").unwrap();
    let node = place.node();
    let error = node.store.ledger().load().unwrap_err().to_string();
    assert!(error.contains("cannot be used"), "{error}");
    let ledger: Arc<dyn OverrideStore> = node.store.ledger();
    assert!(ledger.save(&some()).is_err());
    std::fs::remove_file(&place.config.directory).unwrap();
    node.wait_for("ledger", FileState::Kept);
    ledger.save(&some()).unwrap();
    node.close();
}
