//! Everything arrives over real sockets when only edges wake who reads and writes.

use std::time::Duration;

use mio::{Events, Poll};

use super::*;
use crate::plan::ServerTlsMode;
use crate::tls::testing::{client_plan, parameters, self_signed, server_plan};
use crate::tls::{accept_config, connect_config, server_name};

const LENGTH: usize = 3_000_000;

fn tcp() -> (Socket, Socket) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (Socket::from_tcp(near).unwrap(), Socket::from_tcp(listener.accept().unwrap().0).unwrap())
}

fn unix() -> (Socket, Socket) {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    (Socket::from_unix(near).unwrap(), Socket::from_unix(far).unwrap())
}

fn through_tls((near, far): (Socket, Socket)) -> (Transport, Transport) {
    let pair = self_signed(&parameters("server", &[]), &rcgen::PKCS_ECDSA_P256_SHA256);
    let (config, _) = accept_config(&client_plan(&pair, vec![])).unwrap();
    let client = connect_config(&server_plan(ServerTlsMode::Require, vec![])).unwrap();
    let connection = rustls::ClientConnection::new(client, server_name("server").unwrap()).unwrap();
    let far = Transport::Plain(far).accept_tls(&config, &[]).unwrap();
    (Transport::client_tls(near, connection).unwrap(), far)
}

/// One end: sends `LENGTH` bytes, and reads what comes, on edges only.
struct End {
    transport: Transport,
    sent: usize,
    is_flushed: bool,
    received: Vec<u8>,
    is_over: bool,
}

fn byte(at: usize) -> u8 {
    (at * 31 % 251) as u8
}

impl End {
    fn new(transport: Transport) -> End {
        End { transport, sent: 0, is_flushed: false, received: Vec::new(), is_over: false }
    }

    fn send(&mut self) {
        while self.sent < LENGTH {
            let part: Vec<u8> = (self.sent..LENGTH.min(self.sent + 50_000)).map(byte).collect();
            match self.transport.write(&part) {
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
        self.is_flushed = self.transport.flush().unwrap();
    }

    fn receive(&mut self, is_closed: bool) {
        let mut buf = [0; 9_000];
        loop {
            match self.transport.read(&mut buf) {
                Ok(0) => {
                    self.is_over = true;
                    return;
                }
                Ok(read) => {
                    self.received.extend_from_slice(&buf[..read]);
                    if read < buf.len() && !self.transport.has_more() && !is_closed {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Both ends send and read at once, then the first goes.
fn exchange((near, far): (Transport, Transport)) {
    let mut poll = Poll::new().unwrap();
    let mut ends = [End::new(near), End::new(far)];
    for (at, end) in ends.iter_mut().enumerate() {
        poll.registry().register(&mut end.transport, Token(at), Interest::READABLE | Interest::WRITABLE).unwrap();
    }
    let mut events = Events::with_capacity(16);
    let mut is_closing = false;
    while !(ends[0].is_over || ends[1].is_over) {
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        let state = ends.each_ref().map(|end| (end.sent, end.received.len(), end.is_flushed));
        assert!(!events.is_empty(), "nothing happens: {state:?}");
        for event in &events {
            let end = &mut ends[event.token().0];
            if event.is_readable() {
                end.receive(event.is_read_closed());
            }
            // The handshake may have ended with this read: what could not be sent before can be now.
            end.send();
        }
        let is_done = ends.iter().all(|end| end.is_flushed && end.received.len() == LENGTH);
        if is_done && !is_closing {
            is_closing = true;
            ends[0].transport.close();
        }
    }
    assert!(is_closing);
    for end in &ends {
        assert!(end.received.iter().enumerate().all(|(at, b)| *b == byte(at)));
        assert!(!end.transport.wants_write());
    }
}

#[test]
fn plain_sockets() {
    for (near, far) in [tcp(), unix()] {
        exchange((Transport::Plain(near), Transport::Plain(far)));
    }
}

#[test]
fn tls() {
    exchange(through_tls(tcp()));
    exchange(through_tls(unix()));
}

#[test]
fn tls_within_tls_is_refused() {
    let (_near, far) = through_tls(tcp());
    let pair = self_signed(&parameters("server", &[]), &rcgen::PKCS_ECDSA_P256_SHA256);
    let (config, _) = accept_config(&client_plan(&pair, vec![])).unwrap();
    assert!(far.tls().is_some() && far.is_handshaking() && !far.socket().is_unix());
    assert_eq!(far.accept_tls(&config, &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn the_peer_of_a_unix_socket_has_a_name() {
    let (near, _far) = unix();
    let transport = Transport::Plain(near);
    assert!(transport.socket().is_unix());
    assert_eq!(crate::auth::peer_user(&transport).ok(), crate::auth::peer_user(transport.socket()).ok());
}
