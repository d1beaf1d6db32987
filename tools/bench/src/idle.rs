//! Holds idle keep-alive connections, so that their memory in a server can be measured from outside. Each connection
//! carries one request and its whole answer, then rests. They come from several loopback addresses, because the ports of
//! one address are too few for a large number. In the end it is checked that the server has kept all of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::answer::{Answer, Progress};

/// The most connections.
pub const CONNECTIONS: usize = 100_000;
/// Connections from one source address: well below the number of its ephemeral ports.
const PER_SOURCE: usize = 5_000;
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Connections that rest.
#[derive(Debug, Default)]
pub struct Idle {
    connections: Vec<TcpStream>,
}

impl Idle {
    /// Opens connections until `count` rest, one request on each.
    ///
    /// # Errors
    /// When a connection cannot be opened or is not answered 200; says the how-manieth it was.
    pub fn grow(&mut self, target: SocketAddr, count: usize) -> Result<()> {
        ensure!(count <= CONNECTIONS, "at most {CONNECTIONS} connections are held");
        let request = format!("GET /bench HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes();
        let mut buffer = vec![0; 16 * 1024];
        while self.connections.len() < count {
            let index = self.connections.len();
            let connection = open(target, source(index), &request, &mut buffer);
            self.connections.push(connection.with_context(|| format!("opening connection {} of {count}", index + 1))?);
        }
        Ok(())
    }

    /// How many of them the server has neither closed nor written to.
    ///
    /// # Errors
    /// When a socket cannot be asked.
    pub fn at_rest(&self) -> Result<usize> {
        let mut rest = 0;
        for connection in &self.connections {
            connection.set_nonblocking(true).context("making a connection non-blocking")?;
            match connection.peek(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => rest += 1,
                Ok(_) | Err(_) => {}
            }
        }
        Ok(rest)
    }
}

fn source(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(index / PER_SOURCE).unwrap_or(u8::MAX - 2))
}

fn open(target: SocketAddr, source: Ipv4Addr, request: &[u8], buffer: &mut [u8]) -> Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).context("making a socket")?;
    bind(&socket, &SocketAddrV4::new(source, 0)).with_context(|| format!("taking a port of {source}"))?;
    connect(&socket, &target).with_context(|| format!("connecting from {source} to {target}"))?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(request).context("sending the request")?;
    let mut answer = Answer::default();
    loop {
        let read = stream.read(buffer).context("reading the answer")?;
        ensure!(read > 0, "the server closed the connection before the answer was whole");
        match answer.take(&buffer[..read]) {
            Progress::Partial => {}
            Progress::Whole(200) => return Ok(stream),
            other => bail!("the answer is {other:?}, not 200"),
        }
    }
}
