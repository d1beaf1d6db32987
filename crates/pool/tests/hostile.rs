//! Clients and servers that behave as nobody should: none of them takes anything from the others.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pool::plan::{ServerAddress, ServerPlan};
use pool::wire::frontend;

use crate::kit::{APP, SOON, shared};
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

/// A way to the shared server that, once told to, ends with the first message of the server's next long answer.
fn way_that_ends(ends: &Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ends, port) = (ends.clone(), shared().port());
    // It ends with the process.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut up, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ended = std::io::copy(&mut up, &mut to);
                let _closed = to.shutdown(std::net::Shutdown::Both);
            });
            let ends = ends.clone();
            std::thread::spawn(move || down(server, client, &ends));
        }
    });
    address
}

fn down(mut server: TcpStream, mut client: TcpStream, ends: &AtomicBool) {
    let mut room = [0; 4_096];
    while let Ok(n @ 1..) = server.read(&mut room) {
        // Only an answer with a row is long.
        let is_end = n > 1_000 && ends.swap(false, Ordering::SeqCst);
        let n = if is_end { pool::wire::frame(&room[..n]).unwrap().unwrap().len } else { n };
        if client.write_all(&room[..n]).is_err() || is_end {
            break;
        }
    }
    let _closed = client.shutdown(std::net::Shutdown::Both);
    let _closed = server.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_server_that_ends_with_its_last_bytes_is_noticed() {
    let ends = Arc::new(AtomicBool::new(false));
    let address = way_that_ends(&ends);
    let own = through(|plan| {
        let way = ServerAddress::Tcp { host: "127.0.0.1".into(), port: address.port() };
        plan.servers = vec![ServerPlan { name: "the way".into(), address: way }];
    });
    let mut client = own.login(APP.2);
    for _ in 0..8 {
        ends.store(true, Ordering::SeqCst);
        assert_eq!(client.query("SELECT repeat('x', 2000)").unwrap_err(), "08006");
        client.query("SELECT 1").unwrap();
    }
}

#[test]
fn more_than_is_spoken_is_answered_before_anything_else() {
    let own = through(|_| {});
    let mut client = own.connect();
    let mut out = Vec::new();
    frontend::put_startup(&mut out, 9_999, &[("user", APP.0), ("database", APP.2), ("_pq_.nothing", "1")]);
    client.send(&out);
    let (tag, body) = client.next().unwrap();
    assert_eq!((tag, pool::wire::backend::negotiate(&body).unwrap()), (b'v', (2, vec!["_pq_.nothing"])));
    assert_eq!(client.next().unwrap().0, b'R');
}
