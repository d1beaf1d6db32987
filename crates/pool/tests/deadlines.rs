//! What takes too long is ended, with a code that says so.

use std::time::Duration;

use pool::wire::backend::Fields;
use pool::wire::frontend;

use crate::kit::APP;
use crate::through::{Session, through};

const SHORT: Option<Duration> = Some(Duration::from_millis(300));

/// What a client is told before it is sent away.
fn last_word(client: &mut Session) -> String {
    let told = std::iter::from_fn(|| client.next()).find(|(tag, _)| *tag == b'E').expect("it is told why");
    Fields::read(&told.1).unwrap().sqlstate().to_owned()
}

#[test]
fn each_query_of_a_transaction_has_the_time_that_a_query_may_take() {
    let own = through(|plan| plan.query_timeout = SHORT);
    let mut client = own.login(APP.2);
    client.query("BEGIN").unwrap();
    client.query("SAVEPOINT a").unwrap();
    for _ in 0..2 {
        assert_eq!(client.query("SELECT pg_sleep(60)").unwrap_err(), "57014");
        client.query("ROLLBACK TO a").unwrap();
    }
    client.query("COMMIT").unwrap();
}

#[test]
fn a_client_that_is_silent_within_its_transaction_is_sent_away() {
    let own = through(|plan| plan.idle_in_transaction_timeout = SHORT);
    let mut client = own.login(APP.2);
    client.query("BEGIN").unwrap();
    assert_eq!(last_word(&mut client), "25P03");
}

#[test]
fn a_transaction_that_takes_too_long_is_ended_although_its_client_works() {
    let own = through(|plan| plan.transaction_timeout = SHORT);
    let mut client = own.login(APP.2);
    client.query("BEGIN").unwrap();
    let mut out = Vec::new();
    frontend::put_query(&mut out, b"SELECT pg_sleep(60)");
    client.send(&out);
    assert_eq!(last_word(&mut client), "25P04");
}

#[test]
fn a_client_that_needs_nothing_for_too_long_is_sent_away() {
    let own = through(|plan| plan.client_idle_timeout = SHORT);
    let mut client = own.login(APP.2);
    client.query("SELECT 1").unwrap();
    assert_eq!(last_word(&mut client), "57P05");
}
