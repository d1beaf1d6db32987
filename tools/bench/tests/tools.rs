//! The upstream, the load and the idle connections against each other: what they report must be what happened.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bench::idle::Idle;
use bench::openloop::{OpenLoop, run};

fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("a free port");
    // It ends with the test process.
    std::thread::spawn(move || bench::upstream::serve(&listener));
    address
}

#[test]
fn pipelined_and_split_requests_are_each_answered() {
    let mut client = TcpStream::connect(upstream()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = {
        client.write_all(request).unwrap();
        read_answers(&mut client, 1)
    };
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(&[b'x'; 1024]));
    client.write_all(&request.repeat(3)).unwrap();
    assert_eq!(read_answers(&mut client, 3), answer.repeat(3));
    for byte in request {
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read_answers(&mut client, 1), answer);
}

fn read_answers(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut byte = [0; 4096];
    while all.windows(1024).filter(|body| body == &[b'x'; 1024]).count() < count {
        let read = client.read(&mut byte).expect("an answer");
        assert!(read > 0, "closed after {} bytes", all.len());
        all.extend_from_slice(&byte[..read]);
    }
    all
}

#[test]
fn open_load_measures_every_answer() {
    let load = OpenLoop { target: upstream(), rate: 500.0, connections: 8, time: Duration::from_secs(1), seed: 7 };
    let report = run(&load).unwrap();
    // 500 are expected in the measured second; six deviations of a Poisson count (22) either way.
    assert!((366..=634).contains(&report.latencies.len()), "{report}");
    assert_eq!((report.errors, report.unanswered), (0, 0), "{report}");
    assert!(report.latencies.is_sorted() && report.latencies[0] > 0, "{report}");
}

#[test]
fn a_target_that_hangs_up_is_counted_and_not_measured() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            drop(client);
        }
    });
    let report =
        run(&OpenLoop { target, rate: 50.0, connections: 2, time: Duration::from_millis(100), seed: 1 }).unwrap();
    assert!(report.errors > 0 && report.latencies.is_empty(), "{report}");
}

#[test]
fn idle_connections_are_counted_while_the_server_keeps_them() {
    let mut idle = Idle::default();
    idle.grow(upstream(), 40).unwrap();
    assert_eq!(idle.at_rest().unwrap(), 40);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(client.read(&mut request).unwrap() > 0);
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let mut closed = Idle::default();
    closed.grow(target, 1).unwrap();
    server.join().unwrap();
    assert_eq!(closed.at_rest().unwrap(), 0);
}
