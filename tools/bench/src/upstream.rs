//! The upstream of the benchmarks: one thread, keep-alive, the same 1 KiB answer to every request whatever its path.
//! It does as little as can be done, so that what is measured is the proxy in front of it. Requests have no body; a head
//! ends at an empty line, and several in one read are answered in one write.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result};

use crate::poller::Poller;

/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 20_000;
/// A head longer than this closes its connection.
const HEAD_BYTES: usize = 16 * 1024;
/// Length of the answer's body.
const BODY_BYTES: usize = 1024;
/// The token of the listener.
const LISTENER: usize = usize::MAX;

/// One connection: the socket and how much of an unfinished head was read, with its last three bytes.
#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    pending: Vec<u8>,
}

/// Serves until the process is ended.
///
/// # Errors
/// When listening or waiting fails.
pub fn serve(listener: &TcpListener) -> Result<()> {
    listener.set_nonblocking(true).context("making the listener non-blocking")?;
    let mut poller = Poller::new().context("making an epoll descriptor")?;
    poller.watch(listener, LISTENER).context("watching the listener")?;
    let answer = answer();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        poller.wait(None, |poller, token| {
            if token == LISTENER {
                return accept(listener, poller, &mut connections, &mut free);
            }
            let Some(slot) = connections.get_mut(token) else { return Ok(()) };
            let Some(connection) = slot.as_mut() else { return Ok(()) };
            if !connection.serve(&mut buffer, &answer) {
                *slot = None;
                free.push(token);
            }
            Ok(())
        })?;
    }
}

fn accept(
    listener: &TcpListener,
    poller: &Poller,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> std::io::Result<()> {
    loop {
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        if connections.len() - free.len() >= CONNECTIONS {
            continue;
        }
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let token = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        poller.watch(&socket, token)?;
        connections[token] = Some(Connection { socket, pending: Vec::new() });
    }
}

impl Connection {
    /// Reads once and answers what is complete; says whether the connection goes on.
    fn serve(&mut self, buffer: &mut [u8], answer: &[u8]) -> bool {
        let read = match self.socket.read(buffer) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let bytes = &buffer[..read];
        let heads = if self.pending.is_empty() && bytes.ends_with(b"\r\n\r\n") {
            ends(bytes)
        } else {
            self.pending.extend_from_slice(bytes);
            let heads = ends(&self.pending);
            let rest = self.pending.windows(4).rposition(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
            self.pending.drain(..rest);
            heads
        };
        // An answer fits a socket's send buffer, so a short write means a peer that does not read: it is cut off.
        let written = match heads {
            0 => true,
            1 => self.socket.write(answer).is_ok_and(|n| n == answer.len()),
            many => {
                let answers = answer.repeat(many);
                self.socket.write(&answers).is_ok_and(|n| n == answers.len())
            }
        };
        written && self.pending.len() <= HEAD_BYTES
    }
}

fn ends(bytes: &[u8]) -> usize {
    bytes.windows(4).filter(|four| four == b"\r\n\r\n").count()
}

fn answer() -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: upstream\r\nDate: Mon, 23 Nov 2026 19:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {BODY_BYTES}\r\n\r\n"
    );
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + BODY_BYTES, b'x');
    answer
}
