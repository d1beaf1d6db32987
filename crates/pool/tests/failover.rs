//! Two servers: promotions that somebody else performs, and the old primary that comes back.

use std::sync::Arc;
use std::time::Duration;

use kernel::event::EventKind;
use testkit::postgres::Instance;

use crate::kit::{Watched, plan, prepared, watch};

fn pair() -> (Instance, Instance, Watched) {
    let primary = prepared(Instance::start().unwrap());
    let standby = primary.standby().unwrap();
    let watched = watch(plan(&[&primary, &standby]));
    watched.until("a primary", |standing| standing.server == Some(0));
    testkit::eventually(crate::kit::SOON, "the standby", || {
        (watched.cluster.views()[1].role == "standby").then_some(())
    });
    (primary, standby, watched)
}

fn opens_at(watched: &Watched) -> usize {
    watched.open().1
}

/// Promotes and gives how long the cluster took to follow.
fn promote(standby: &Instance, watched: &Watched) -> Duration {
    standby.promote().unwrap();
    let promoted = watched.clock.now();
    watched.until("the promoted server", |standing| standing.server == Some(1) && standing.is_open());
    watched.clock.now().since(promoted)
}

#[test]
fn a_promotion_beside_a_primary_that_goes_on_is_followed_within_a_second() {
    let (_primary, standby, watched) = pair();
    let before = watched.cluster.primary();
    let took = promote(&standby, &watched);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(watched.cluster.primary().epoch > before.epoch);
    assert_eq!(opens_at(&watched), 1);
    testkit::eventually(crate::kit::SOON, "the fence", || {
        (watched.journal.told(EventKind::PoolFenced) == 1 && watched.cluster.views()[0].role == "fenced").then_some(())
    });
    assert_eq!(watched.journal.told(EventKind::PoolPromoted), 1);
    assert_eq!(watched.cluster.views()[1].timeline, Some(2));

    // The same two in another order: the primary is the same, at another place.
    let mut turned = (*watched.cluster.plan()).clone();
    turned.servers.reverse();
    watched.cluster.reload(Arc::new(turned)).unwrap();
    assert_eq!(watched.cluster.primary().server, Some(0));
    assert_eq!(opens_at(&watched), 0);
    let roles: Vec<_> = watched.cluster.views().iter().map(|view| view.role).collect();
    assert_eq!(roles[1], "fenced");
}

#[test]
fn a_frozen_primary_is_given_up_its_standby_followed_and_itself_fenced_when_it_goes_on() {
    let (primary, standby, watched) = pair();
    let before = watched.cluster.primary();
    primary.freeze().unwrap();
    let suspect = watched.until("silence", |standing| !standing.is_open());
    assert!(suspect.trouble.is_some());
    let lost = watched.until("the end of patience", |standing| standing.server.is_none());
    assert!(lost.epoch > before.epoch);
    assert!(watched.journal.told(EventKind::PoolPrimarySuspected) >= 1);
    assert_eq!(watched.cluster.views()[0].role, "unreachable");
    let took = promote(&standby, &watched);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let epoch = watched.cluster.primary().epoch;
    primary.thaw().unwrap();
    testkit::eventually(crate::kit::SOON, "the fence", || (watched.cluster.views()[0].role == "fenced").then_some(()));
    let standing = watched.cluster.primary();
    assert_eq!((standing.server, standing.epoch), (Some(1), epoch));
    assert_eq!(opens_at(&watched), 1);
}

#[test]
fn a_primary_that_is_gone_and_the_way_back_by_order() {
    let (mut primary, standby, watched) = pair();
    primary.stop_fast().unwrap();
    let lost = watched.until("a loss", |standing| standing.server.is_none());
    assert!(lost.trouble.is_some());
    promote(&standby, &watched);
    primary.start_again().unwrap();
    testkit::eventually(crate::kit::SOON, "the fence", || (watched.cluster.views()[0].role == "fenced").then_some(()));
    let old = watched.cluster.plan().servers[0].name.clone();
    assert!(watched.cluster.failover(Some("nobody"), "a test", "no").is_err());
    watched.cluster.failover(Some(&old), "a test", "the new one has lost something").unwrap();
    watched.until("the old one", |standing| standing.server == Some(0) && standing.is_open());
    assert_eq!(opens_at(&watched), 0);
    assert_eq!(watched.cluster.views()[1].role, "fenced");
}
