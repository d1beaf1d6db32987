//! Counts in their file: each request once, whatever stops in between.

use kernel::tally::{Period, Step};
use testkit::eventually;

use crate::support::{Node, Place, SOON, shop};

fn total(node: &Node, step: Step) -> u64 {
    let periods: Vec<Period> = node.store.tallies().read(&shop(), step, 0, u64::MAX).unwrap();
    periods.iter().map(|p| p.counts.total()).sum()
}

const STEPS: [Step; 3] = [Step::Quarter, Step::Minute, Step::Hour];

#[test]
fn what_was_counted_is_there_within_a_second_and_after_a_restart() {
    let place = Place::new();
    let node = place.node();
    node.source.count(&shop(), 7);
    eventually(SOON, "the counts", || (total(&node, Step::Minute) == 7).then_some(()));
    node.close();
    let node = place.node();
    for step in STEPS {
        assert_eq!(total(&node, step), 7, "{step:?}");
    }
    assert_eq!(node.store.tallies().subjects().unwrap(), [shop()]);
    node.source.count(&shop(), 5);
    for step in STEPS {
        eventually(SOON, "both", || (total(&node, step) == 12).then_some(()));
    }
    node.close();
}

#[test]
fn two_processes_add_up_and_cover_a_second_once() {
    let place = Place::new();
    let (old, new) = (place.node(), place.node());
    old.source.count(&shop(), 3);
    new.source.count(&shop(), 4);
    for step in STEPS {
        eventually(SOON, "the sum in both", || (total(&old, step) == 7 && total(&new, step) == 7).then_some(()));
    }
    let periods = new.store.tallies().read(&shop(), Step::Quarter, 0, u64::MAX).unwrap();
    let covered: u64 = periods.iter().map(|p| u64::from(p.covered_ms)).sum();
    assert!(covered < SOON.as_millis() as u64 && periods.iter().all(|p| p.covered_ms <= 15_000), "{periods:?}");
    old.close();
    assert_eq!(total(&new, Step::Hour), 7);
    new.close();
}

#[test]
fn the_last_take_comes_with_the_end() {
    let place = Place::new();
    let node = place.node();
    node.source.count(&shop(), 9);
    node.close();
    assert_eq!(total(&place.node(), Step::Minute), 9);
}

#[test]
fn counts_that_could_not_be_written_are_written_later() {
    let place = Place::new();
    std::fs::write(&place.config.directory, "in the way").unwrap();
    let node = place.node();
    node.source.count(&shop(), 11);
    eventually(SOON, "the counts from memory", || (total(&node, Step::Minute) == 11).then_some(()));
    std::fs::remove_file(&place.config.directory).unwrap();
    node.wait_for("series", kernel::store::FileState::Kept);
    node.close();
    let node = place.node();
    assert_eq!(total(&node, Step::Quarter), 11);
    node.close();
}
