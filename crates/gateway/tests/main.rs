//! The relay on real sockets: what a client sends byte by byte, what it gets, and what the service behind the gateway
//! received. One binary, one file for each subject; [`support`] starts gateways. The tables of cases are in
//! [`heads`], [`chunks`], [`passed`] and [`answers`].

#![allow(clippy::unwrap_used, reason = "this is all test code; an unwrap that fails is a test that fails")]

mod answers;
mod bodies;
mod changes;
mod chunks;
mod discovered;
mod exchange;
mod fleet;
mod heads;
mod keeping;
mod limits;
mod operate;
mod passed;
mod pools;
mod routing;
mod second_tries;
mod splits;
mod support;
mod timeouts;
mod tunnels;
mod unseen;

/// The tables together are the product's promise that what is ambiguous ends at the gateway; they only grow.
#[test]
fn the_tables_are_large() {
    let counts = [heads::count(), chunks::count(), passed::count(), answers::count()];
    assert!(counts.iter().sum::<usize>() >= 250, "{counts:?}");
}
