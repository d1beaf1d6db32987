//! A cancellation ends the query that it is for.

use std::io::{Read as _, Write as _};

use crate::kit::{SOON, block_on, plan, shared, watch};

#[test]
fn a_cancellation_ends_a_sleep_and_returns_when_the_server_has_taken_it() {
    let watched = watch(plan(&[shared()]));
    let (opened, ..) = watched.open();
    let pool::connect::OpenSocket::Tcp(mut socket) = opened.socket else { panic!("not TCP") };
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut question = Vec::new();
    pool::wire::frontend::put_query(&mut question, b"SELECT pg_sleep(3600)");
    socket.write_all(&question).unwrap();
    let pid = opened.session.pid;
    let is_asleep = format!("select wait_event = 'PgSleep' from pg_stat_activity where pid = {pid}");
    testkit::eventually(SOON, "the sleep", || (shared().psql(&is_asleep) == "t").then_some(()));
    let key = &opened.session.key;
    // A wrong key hits nobody.
    let wrong: Vec<u8> = key.iter().map(|byte| !byte).collect();
    block_on(watched.cluster.cancel(&opened.server, &opened.address, pid, &wrong)).unwrap();
    assert_eq!(shared().psql(&is_asleep), "t");
    block_on(watched.cluster.cancel(&opened.server, &opened.address, pid, key)).unwrap();
    let mut answer = [0; 4096];
    let mut told = Vec::new();
    while !told.windows(5).any(|five| five == b"57014") {
        let count = socket.read(&mut answer).unwrap();
        assert!(count > 0, "closed");
        told.extend_from_slice(&answer[..count]);
    }
}
