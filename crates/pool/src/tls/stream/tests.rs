//! What an edge-triggered loop relies on: reads that leave nothing unannounced, writes that are bounded.

use super::*;
use crate::tls::testing::{Wire, agreed, connect_with, parameters, self_signed, shake, wires};

fn would_block<T: fmt::Debug>(result: io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Some bytes that are not all the same.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

/// Reads as the relay does: again only if the buffer was filled, or more is announced.
fn read_on_edge(stream: &mut TlsStream<Wire>, room: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = vec![0; room];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return all,
            Ok(read) => {
                all.extend_from_slice(&buf[..read]);
                if read < room && !stream.has_more() {
                    return all;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_record_that_arrives_byte_by_byte_is_read_when_it_is_whole() {
    let (mut client, mut server) = agreed();
    let sent = bytes(16_000);
    assert_eq!(client.write(&sent).unwrap(), sent.len());
    let record: Vec<u8> = server.socket().incoming.borrow_mut().bytes.drain(..).collect();
    let mut buf = vec![0; 20_000];
    for (at, byte) in record.iter().enumerate() {
        assert!(at == 0 || would_block(server.read(&mut buf)), "at {at}");
        assert!(!server.has_more());
        server.socket().incoming.borrow_mut().bytes.push_back(*byte);
    }
    assert_eq!(server.read(&mut buf).unwrap(), sent.len());
    assert_eq!(&buf[..sent.len()], sent);
    assert!(!server.has_more());
}

#[test]
fn several_records_on_one_edge_are_read_whatever_room_there_is() {
    for room in [1, 7, 100, 4_096, 16_384, 100_000] {
        for sip in [3, 1_000, 4_096, usize::MAX] {
            let (mut client, mut server) = agreed();
            server.socket().incoming.borrow_mut().sip = sip;
            let mut sent = Vec::new();
            for length in [1, 500, 16_384, 3, 9_000] {
                sent.extend_from_slice(&bytes(length));
                assert_eq!(client.write(&bytes(length)).unwrap(), length);
            }
            let mut read = read_on_edge(&mut server, room);
            // Short reads of the socket are edges of their own.
            while read.len() < sent.len() && sip != usize::MAX {
                let more = read_on_edge(&mut server, room);
                assert!(!more.is_empty(), "room {room}, sip {sip}: {} of {}", read.len(), sent.len());
                read.extend_from_slice(&more);
            }
            assert!(read == sent, "room {room}, sip {sip}: {} of {}", read.len(), sent.len());
            assert!(!server.has_more());
            assert!(would_block(server.read(&mut [0; 8])));
        }
    }
}

#[test]
fn a_small_message_costs_one_read_and_one_write_of_the_socket() {
    let (mut client, mut server) = agreed();
    let (reads, writes) = (server.socket().incoming.borrow().reads, server.socket().incoming.borrow().writes);
    client.write(&bytes(300)).unwrap();
    let mut buf = [0; 4_096];
    assert_eq!(server.read(&mut buf).unwrap(), 300);
    assert!(!server.has_more());
    assert_eq!(server.socket().incoming.borrow().reads - reads, 1);
    assert_eq!(server.socket().incoming.borrow().writes - writes, 1);
}

#[test]
fn an_end_behind_the_last_bytes_is_announced() {
    let (mut client, mut server) = agreed();
    client.write(b"the last").unwrap();
    client.close();
    let mut buf = [0; 64];
    assert_eq!(server.read(&mut buf).unwrap(), 8);
    assert!(server.has_more(), "there is the end to be read");
    assert_eq!(server.read(&mut buf).unwrap(), 0);
    assert_eq!(server.read(&mut buf).unwrap(), 0, "and it stays");

    // The other side without its goodbye.
    let (client, mut server) = agreed();
    client.socket().outgoing.borrow_mut().is_closed = true;
    assert_eq!(server.read(&mut buf).unwrap(), 0);
}

#[test]
fn what_was_decrypted_comes_before_the_error_behind_it() {
    let (mut client, mut server) = agreed();
    client.write(b"good").unwrap();
    server.socket().incoming.borrow_mut().bytes.extend([23, 3, 3, 0, 20].into_iter().chain([0; 20]));
    let mut buf = [0; 64];
    let first = server.read(&mut buf);
    assert!(matches!(first, Ok(4)), "{first:?}");
    assert!(server.has_more());
    assert_eq!(server.read(&mut buf).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(server.read(&mut buf).unwrap(), 0);
    // The other side was told by an alert.
    assert_eq!(client.read(&mut buf).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn writes_beyond_the_sockets_buffer_are_bounded_and_go_on_with_flushes() {
    let (mut client, mut server) = agreed();
    client.socket().outgoing.borrow_mut().room = 10_000;
    let sent = bytes(400_000);
    let (mut written, mut read) = (0, Vec::new());
    while written < sent.len() {
        match client.write(&sent[written..]) {
            Ok(taken) => {
                assert!(taken > 0);
                written += taken;
                assert!(written - read.len() < MOST_WAITING * 2, "{written} taken, {} read", read.len());
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                assert!(client.wants_write());
                assert!(!client.flush().unwrap());
                read.extend_from_slice(&read_on_edge(&mut server, 4_096));
                client.flush().unwrap();
            }
        }
    }
    while !client.flush().unwrap() {
        read.extend_from_slice(&read_on_edge(&mut server, 4_096));
    }
    read.extend_from_slice(&read_on_edge(&mut server, 4_096));
    assert!(read == sent);
    assert!(!client.wants_write());
    assert_eq!(client.write(b"").unwrap(), 0);
}

#[test]
fn a_socket_that_fails_fails_the_write() {
    let (mut client, _server) = agreed();
    client.socket().outgoing.borrow_mut().is_closed = true;
    assert_eq!(client.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn bytes_that_were_read_before_belong_to_the_handshake() {
    let pair = self_signed(&parameters("server", &[]), &rcgen::PKCS_ECDSA_P256_SHA256);
    let (config, _) = crate::tls::accept_config(&crate::tls::testing::client_plan(&pair, vec![])).unwrap();
    let (mut client, unused) = connect_with(&config, None);
    client.flush().unwrap();
    let hello: Vec<u8> = unused.socket().incoming.borrow_mut().bytes.drain(..).collect();
    let connection = || rustls::ServerConnection::new(std::sync::Arc::clone(&config)).unwrap();
    for split in [1, 8, 100, hello.len()] {
        let (near, far) = wires();
        drop(TlsStream::new(connection(), near, &hello[..split]).unwrap());
        let answered = !far.incoming.borrow().bytes.is_empty();
        assert_eq!(answered, split == hello.len(), "{split}");
    }
    let mut server = TlsStream::new(connection(), unused.socket().clone(), &hello).unwrap();
    shake(&mut client, &mut server).unwrap();

    let (near, far) = wires();
    let error = TlsStream::new(connection(), near, b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(!far.incoming.borrow().bytes.is_empty(), "an alert");
}

#[test]
fn what_was_decrypted_before_the_stream_was_made_is_not_lost() {
    let (mut client, server) = agreed();
    let TlsStream { mut connection, mut socket, .. } = server;
    client.write(b"early").unwrap();
    connection.read_tls(&mut socket).unwrap();
    connection.process_new_packets().unwrap();
    let mut server = TlsStream::new(connection, socket, &[]).unwrap();
    assert!(server.has_more());
    let mut buf = [0; 16];
    assert_eq!(server.read(&mut buf).unwrap(), 5);
}
