//! Restarts of Postgres under clients of the pool: whoever has not started waits and goes on, whoever is idle notices nothing,
//! whoever is in flight is told by a code.

use std::time::Duration;

use testkit::postgres::Instance;
use testkit::{Deadline, poll_until};

use crate::pooling::{self, Traffic, front, idle_clients, prepare, runtime, still_there};
use crate::support::SOON;

/// How many clients work, and how many are idle.
const CLIENTS: usize = 40;
const IDLE: usize = 20;
/// Server connections of the pool: no more can be in flight.
const SIZE: usize = 20;
/// The promise is half a second from where the server accepts; what a busy machine adds to it is not the pooler's.
const AGAIN: Duration = Duration::from_millis(1500);

#[test]
fn a_fast_restart_fails_only_what_was_in_flight() {
    restarted(|server| {
        server.stop_fast().unwrap();
        server.start_again().unwrap();
    });
}

#[test]
fn a_crash_fails_only_what_was_in_flight() {
    restarted(|server| {
        server.stop_immediate().unwrap();
        server.start_again().unwrap();
    });
}

#[test]
fn who_comes_while_the_server_is_away_waits_for_it() {
    let mut server = Instance::start().unwrap();
    prepare(&server);
    let (front, runtime) = (front(&[&server], SIZE, ""), runtime());
    // Somebody has logged in before, so that the pooler can log in for this user.
    let clients = runtime.block_on(idle_clients(front.port.number(), 1)).unwrap();
    server.stop_fast().unwrap();
    let late = runtime.block_on(pooling::connect(front.port.number())).unwrap();
    let waiting = runtime.spawn(async move { late.query_one("select 7", &[]).await.map(|row| row.get::<_, i32>(0)) });
    // It has to be seen to wait, not to be answered by chance: nobody can answer it now.
    assert!(poll_until(Duration::from_millis(300), || waiting.is_finished().then_some(())).is_none());
    server.start_again().unwrap();
    let deadline = Deadline::after(SOON);
    let answer = runtime.block_on(async { tokio::time::timeout(deadline.left(), waiting).await }).unwrap().unwrap();
    assert_eq!(answer.unwrap(), 7);
    runtime.block_on(still_there(&clients)).unwrap();
}

#[track_caller]
fn restarted(restart: impl FnOnce(&mut Instance)) {
    let mut server = Instance::start().unwrap();
    prepare(&server);
    let (front, runtime) = (front(&[&server], SIZE, ""), runtime());
    let port = front.port.number();
    let idle = runtime.block_on(idle_clients(port, IDLE)).unwrap();
    let mut traffic = Traffic::start(&runtime, port, CLIENTS);
    traffic.await_each(5, SOON);
    let before = traffic.now();
    restart(&mut server);
    let accepts = traffic.now();
    let first = traffic.first_after(before, SOON);
    // Every single client goes on.
    traffic.await_each(5, SOON);
    traffic.end(&runtime);
    traffic.assert_kept(SIZE);
    runtime.block_on(still_there(&idle)).unwrap();
    // The first that was committed after the server was back, as far as that can be seen from here.
    let again = traffic.done().into_iter().map(|done| done.ended).filter(|ended| *ended > accepts).min().unwrap();
    assert!(again.since(accepts) < AGAIN, "{:?} without a success (the first: {first:?})", again.since(accepts));
    traffic.assert_durable(&server, SIZE);
}
