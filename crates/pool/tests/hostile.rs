//! Clients that behave as nobody should: none of them takes anything from the others.

use pool::wire::frontend;

use crate::kit::{APP, SOON};
use crate::through::{Session, Through, through};

fn query(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frontend::put_query(&mut out, text.as_bytes());
    out
}

/// Waits until so many clients wait for a connection.
#[track_caller]
fn until_waiting(own: &Through, count: usize) {
    let waiting = || {
        let clients = crate::kit::block_on(own.pools.clients("main"));
        (clients.iter().filter(|client| client.state == "waiting").count() == count).then_some(())
    };
    testkit::poll_until(SOON, waiting).expect("clients wait");
}

#[test]
fn who_says_goodbye_behind_a_query_that_waits_takes_nobody_along() {
    let own = through(|plan| plan.size = 1);
    let mut holder = own.login(APP.2);
    holder.query("BEGIN").unwrap();
    let mut hasty = own.login(APP.2);
    let mut both = query("SELECT 1");
    frontend::put_terminate(&mut both);
    hasty.send(&both);
    until_waiting(&own, 1);
    holder.query("COMMIT").unwrap();
    assert!(std::iter::from_fn(|| hasty.next()).all(|(tag, _)| tag != b'E'));
    holder.query("SELECT 2").unwrap();
}

#[test]
fn who_closes_in_the_middle_of_a_message_gives_its_connection_back() {
    let own = through(|plan| plan.size = 1);
    for _ in 0..8 {
        let mut cut = own.login(APP.2);
        cut.query("BEGIN").unwrap();
        cut.send(&query("SELECT 'it is not all there'")[..12]);
        drop(cut);
        let mut next = own.login(APP.2);
        next.query("SELECT 1").unwrap();
    }
}

#[test]
fn a_message_that_does_not_end_is_not_kept() {
    let own = through(|_| {});
    // Sync has no body; it is not waited for as far as its length says.
    for has_connection in [false, true] {
        let mut endless = own.login(APP.2);
        if has_connection {
            endless.query("BEGIN").unwrap();
        }
        endless.send(&[b'S', 0x3f, 0, 0, 0]);
        let told = endless.flood(8 << 20);
        assert_eq!(told.as_deref(), Some("08P01"));
    }
    own.login(APP.2).query("SELECT 1").unwrap();
}

#[test]
fn a_kill_of_everybody_meets_those_who_wait_too() {
    let own = through(|plan| plan.size = 1);
    let mut holder = own.login(APP.2);
    holder.query("BEGIN").unwrap();
    let mut waiting: Vec<Session> = (0..8).map(|_| own.login(APP.2)).collect();
    waiting.iter_mut().for_each(|client| client.send(&query("SELECT 1")));
    until_waiting(&own, 8);
    let order = pool::orders::Order::KillUser(APP.0.to_owned());
    crate::kit::block_on(own.pools.order("main", order, "a test", "")).unwrap();
    for mut client in waiting {
        assert!(std::iter::from_fn(|| client.next()).any(|(tag, _)| tag == b'E'));
    }
    own.login(APP.2).query("SELECT 1").unwrap();
}
