//! A standby is promoted by somebody else: traffic follows. A primary that stands still is left, and when it goes on again
//! nobody writes to it.

use std::collections::BTreeSet;
use std::time::Duration;

use kernel::Moment;
use testkit::eventually;
use testkit::postgres::Instance;

use crate::pooling::{Front, Traffic, front, idle_clients, ids, prepare, runtime, still_there};
use crate::support::SOON;

const CLIENTS: usize = 40;
const IDLE: usize = 20;
const SIZE: usize = 20;
/// The promise is a second from the promotion; what a busy machine adds to it is not the pooler's.
const FOLLOWS: Duration = Duration::from_millis(2500);

struct Pair {
    primary: Instance,
    standby: Instance,
    front: Front,
}

#[track_caller]
fn pair() -> Pair {
    let primary = Instance::start().unwrap();
    prepare(&primary);
    let standby = primary.standby().unwrap();
    let front = front(&[&standby, &primary], SIZE, "");
    Pair { primary, standby, front }
}

/// Fails unless all that began after the promotion and was acknowledged is on the new primary and nowhere else.
#[track_caller]
fn only_there(traffic: &Traffic, after: Moment, new: &Instance, old: Option<&Instance>) {
    let (there, elsewhere) = (ids(new), old.map(ids).unwrap_or_default());
    let later: Vec<i64> = traffic.done().into_iter().filter(|done| done.began > after).map(|done| done.id).collect();
    assert!(!later.is_empty());
    for id in later {
        assert!(there.contains(&id), "{id} was acknowledged and is not on the new primary");
        assert!(!elsewhere.contains(&id), "{id} was written to the old primary");
    }
}

#[test]
fn a_promoted_standby_gets_the_traffic_when_the_primary_has_died() {
    let Pair { mut primary, standby, front } = pair();
    let runtime = runtime();
    let port = front.port.number();
    let idle = runtime.block_on(idle_clients(port, IDLE)).unwrap();
    let mut traffic = Traffic::start(&runtime, port, CLIENTS);
    traffic.await_each(5, SOON);
    primary.stop_immediate().unwrap();
    standby.promote().unwrap();
    let promoted = traffic.now();
    traffic.await_each(5, SOON);
    traffic.end(&runtime);
    traffic.assert_kept(SIZE);
    runtime.block_on(still_there(&idle)).unwrap();
    let first = traffic.done().into_iter().map(|done| done.ended).filter(|ended| *ended > promoted).min().unwrap();
    assert!(first.since(promoted) < FOLLOWS, "traffic followed after {:?}", first.since(promoted));
    only_there(&traffic, promoted, &standby, None);
}

#[test]
fn a_promoted_standby_gets_the_traffic_although_the_old_primary_still_answers() {
    let Pair { primary, standby, front } = pair();
    let runtime = runtime();
    let mut traffic = Traffic::start(&runtime, front.port.number(), CLIENTS);
    traffic.await_each(5, SOON);
    standby.promote().unwrap();
    eventually(SOON, "the new primary to get a write", || {
        (traffic.done().last().is_some() && ids(&standby).len() > ids(&primary).len()).then_some(())
    });
    let settled = traffic.now();
    traffic.await_each(5, SOON);
    traffic.end(&runtime);
    traffic.assert_kept(SIZE);
    only_there(&traffic, settled, &standby, Some(&primary));
}

#[test]
fn a_primary_that_stands_still_is_left_for_the_promoted_one_and_gets_no_write_when_it_goes_on() {
    let Pair { primary, standby, front } = pair();
    let runtime = runtime();
    let port = front.port.number();
    let idle = runtime.block_on(idle_clients(port, IDLE)).unwrap();
    let mut traffic = Traffic::start(&runtime, port, CLIENTS);
    traffic.await_each(5, SOON);
    primary.freeze().unwrap();
    standby.promote().unwrap();
    let promoted = traffic.now();
    let first = traffic.first_after(promoted, SOON);
    traffic.await_each(5, SOON);
    primary.thaw().unwrap();
    let thawed = traffic.now();
    traffic.await_each(20, SOON);
    traffic.end(&runtime);
    traffic.assert_kept(SIZE);
    runtime.block_on(still_there(&idle)).unwrap();
    assert!(first.ended.since(promoted) < FOLLOWS, "traffic followed after {:?}", first.ended.since(promoted));
    only_there(&traffic, promoted, &standby, Some(&primary));
    // Nothing that began once the old one stood still has reached it: not even what was never acknowledged.
    let acknowledged: BTreeSet<i64> = traffic.done().into_iter().map(|done| done.id).collect();
    let later: BTreeSet<i64> = traffic.done().into_iter().filter(|d| d.began > promoted).map(|d| d.id).collect();
    let on_old = ids(&primary);
    let newest = on_old.iter().max().copied().unwrap_or_default();
    assert!(later.first().is_none_or(|first| newest < *first), "{newest} is on the old primary, thawed at {thawed:?}");
    assert!(on_old.iter().filter(|id| !acknowledged.contains(id)).count() <= SIZE);
}
