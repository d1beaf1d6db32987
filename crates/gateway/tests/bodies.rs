//! Bodies: whole and in order whatever their size, passed on as they come, and never faster than the slower side takes
//! them, so that what a slow side costs is bounded by socket buffers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use testkit::{Gate, RawClient, RawOptions, Reply, Script, Upstream, eventually, poll_until};

use crate::support::{SOON, Setup, get, ms, noise};

/// More than all buffers on the way hold together.
const LARGE: usize = 5 * 1024 * 1024;

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        out.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        out.extend(piece);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

#[test]
fn bodies_of_every_size_pass_whole_both_ways() {
    let upstream = Upstream::serving(|r| Reply::ok(r.body.clone())).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    // Around what fits into one buffer with its head, and far beyond.
    for n in [1, 100, 8191, 8192, 8193, 16_200, 16_300, 16_384, 16_385, 32_768, 100_000, LARGE] {
        let body = noise(n);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n")).unwrap();
        client.send(&body).unwrap();
        let answer = client.read_response(SOON).unwrap_or_else(|e| panic!("{n}: {e:#}"));
        assert!(answer.body == body && !answer.closes(), "{n}: {} bytes back", answer.body.len());
        assert!(upstream.received().pop().unwrap().body == body, "{n}");
    }
}

#[test]
fn chunked_bodies_of_every_size_pass_whole_both_ways() {
    let upstream = Upstream::serving(|r| {
        let pieces = r.body.chunks(40_000).map(<[u8]>::to_vec).collect();
        Reply::chunked(pieces, Duration::ZERO).trailer("X-End", "yes")
    })
    .unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    for (n, size) in [(1, 1), (1000, 7), (16_384, 16_384), (16_385, 5000), (100_000, 99_999), (LARGE, 70_001)] {
        let body = noise(n);
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        client.send(chunked(&body, size)).unwrap();
        let answer = client.read_response(SOON).unwrap_or_else(|e| panic!("{n}: {e:#}"));
        assert!(answer.body == body && !answer.closes(), "{n}: {} bytes back", answer.body.len());
        assert_eq!(answer.trailers, ["X-End: yes"]);
        assert!(upstream.received().pop().unwrap().body == body, "{n}");
    }
}

/// Every event is there as soon as the service has sent it, however small (server-sent events).
#[test]
fn what_streams_is_not_held_back() {
    for chunks in [true, false] {
        let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
        let event = |i: usize| match chunks {
            true => format!("9\r\ndata: {i}\n\n\r\n"),
            false => format!("data: {i}\n\n"),
        };
        let framing = if chunks { "Transfer-Encoding: chunked\r\n" } else { "" };
        let mut script = Script::new()
            .read_head()
            .send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n"));
        for (i, gate) in gates.iter().enumerate() {
            script = script.wait(gate).send(event(i));
        }
        let upstream = Upstream::script(vec![script.send(if chunks { "0\r\n\r\n" } else { "" }).close()]).unwrap();
        let running = Setup::to(upstream.addr()).start();
        let mut client = running.client();
        client.send(get("/events")).unwrap();
        client.read_response_head(SOON).unwrap();
        for (i, gate) in gates.iter().enumerate() {
            gate.open();
            assert_eq!(client.read_chunk(SOON).unwrap().unwrap(), format!("data: {i}\n\n").into_bytes());
        }
        assert_eq!(client.read_chunk(SOON).unwrap(), None);
        upstream.finish(SOON).unwrap();
    }
}

/// A piece of a body is with the service as soon as the client has sent it.
#[test]
fn an_upload_is_not_held_back() {
    let (first, second) = (Gate::new(), Gate::new());
    let script = Script::new()
        .read_head()
        .read_until("one")
        .open(&first)
        .read_until("two")
        .open(&second)
        .read_until("0\r\n\r\n")
        .send("HTTP/1.1 204 No Content\r\n\r\n")
        .hold();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none").unwrap();
    assert!(first.wait(SOON));
    client.send("\r\n3\r\ntwo\r\n").unwrap();
    assert!(second.wait(SOON));
    client.send("0\r\n\r\n").unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 204);
    upstream.finish(SOON).unwrap();
}

/// A small body is waited for before the service is asked: a slow client costs no connection to it.
#[test]
fn a_small_body_that_comes_slowly_costs_the_service_nothing() {
    let upstream = Upstream::serving(|r| Reply::ok(r.body.clone())).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").unwrap();
    eventually(SOON, "the request to be looked at", || {
        (running.view().services[0].traffic.in_flight == 1).then_some(())
    });
    assert_eq!(upstream.connections(), 0);
    client.send("def").unwrap();
    assert_eq!(client.read_response(SOON).unwrap().text(), "abcdef");
}

/// A service that sends without end and counts what was taken.
struct Source {
    addr: SocketAddr,
    taken: Arc<AtomicU64>,
    _thread: JoinHandle<()>,
}

/// Waits until `n` stops moving.
fn settled(n: &AtomicU64) -> u64 {
    let mut last = n.load(Ordering::Relaxed);
    eventually(SOON, "a standstill", || {
        let before = last;
        poll_until(ms(200), || {
            last = n.load(Ordering::Relaxed);
            (last != before).then_some(())
        })
        .is_none()
        .then_some(last)
    })
}

fn source(total: u64) -> Source {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let counter = taken.clone();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        socket2::SockRef::from(&stream).set_send_buffer_size(64 * 1024).unwrap();
        read_head(&mut stream);
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n").as_bytes()).unwrap();
        let piece = vec![b'x'; 32 * 1024];
        while counter.load(Ordering::Relaxed) < total {
            if stream.write_all(&piece).is_err() {
                return;
            }
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    Source { addr, taken, _thread: thread }
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

#[test]
fn a_client_that_does_not_read_holds_back_the_service() {
    let total = 48 * 1024 * 1024;
    let source = source(total);
    let running = Setup::to(source.addr).start();
    let mut client =
        RawClient::connect_with(running.addr, &RawOptions { receive_buffer: Some(32 * 1024), ..RawOptions::default() })
            .unwrap();
    client.send(get("/")).unwrap();
    let head = client.read_response_head(SOON).unwrap();
    assert_eq!(head.header("content-length"), Some(total.to_string().as_str()));
    let taken = settled(&source.taken);
    // What the buffers of four sockets hold; the gateway's own is 16 KiB.
    assert!(taken < total / 2, "{taken} bytes were taken for a client that reads nothing");
    // And once it reads, all of it comes.
    let mut read = 0;
    while read < total {
        let piece = client.read_exact((total - read).min(1024 * 1024) as usize, SOON).unwrap();
        assert!(piece.iter().all(|b| *b == b'x'));
        read += piece.len() as u64;
    }
    assert_eq!(source.taken.load(Ordering::Relaxed), total);
}

#[test]
fn a_service_that_does_not_read_holds_back_the_client() {
    let gate = Gate::new();
    let total = 48 * 1024 * 1024;
    let script = Script::new().read_head().wait(&gate).read_body(total).send("HTTP/1.1 204 No Content\r\n\r\n").hold();
    let upstream = Upstream::script(vec![script]).unwrap();
    let running = Setup::to(upstream.addr()).edge(|e| e.max_body = total as u64).start();
    let mut client = running.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n")).unwrap();
    let body = vec![b'x'; total];
    let taken = client.send_until_refused(&body, ms(700)).unwrap();
    assert!(taken < total / 2, "{taken} bytes were taken for a service that reads nothing");
    gate.open();
    client.send(&body[taken..]).unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 204);
    upstream.finish(SOON).unwrap();
}

/// The connection to a service is free as soon as its answer has arrived, however slowly the client reads.
#[test]
fn a_client_that_reads_slowly_does_not_hold_the_connection_to_the_service() {
    let body = noise(60_000);
    let upstream = Upstream::serving(move |_| Reply::ok(body.clone())).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut slow = running.client();
    slow.send(get("/")).unwrap();
    slow.read_response_head(SOON).unwrap();
    eventually(SOON, "the connection to be idle", || (running.view().services[0].endpoints[0].idle == 1).then_some(()));
    assert_eq!(running.ask(get("/")).status, 200);
    assert_eq!(upstream.connections(), 1);
}
