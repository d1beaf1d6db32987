//! Both ends of PostgreSQL's protocol 3, for tests: a server that follows a script ([`PgServer`]) and a client that sends
//! what it is told to ([`PgClient`]). Messages are `(tag, body)`; what is behind the tags is made and read by hand
//! ([`message`], [`say`]), so that it shares no code with what it tests. No TLS, no passwords. And private instances of the
//! installed server ([`Instance`]), with ports for what is tested in front of them ([`Port`]).

mod client;
mod install;
mod instance;
mod server;

#[cfg(test)]
mod instance_tests;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

pub use client::PgClient;
pub use install::Port;
pub use instance::{Instance, Options};
pub use server::{PgReceived, PgScript, PgServer};

use crate::poll::Deadline;

/// A message: its tag and what stands behind its length. A startup packet has the tag 0.
pub type PgMessage = (u8, Vec<u8>);

/// The largest message that is read.
const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// The bytes of a message. With the tag 0 it is one without a tag, as a startup packet is.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    if tag != 0 {
        out.push(tag);
    }
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Bytes that servers and clients often say.
pub mod say {
    use super::message;

    /// A startup packet of protocol 3.`minor`.
    pub fn startup(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut body = vec![0, 3];
        body.extend_from_slice(&minor.to_be_bytes());
        parameters.iter().for_each(|(name, value)| body.extend_from_slice(format!("{name}\0{value}\0").as_bytes()));
        body.push(0);
        message(0, &body)
    }

    /// `Query`.
    pub fn query(text: &str) -> Vec<u8> {
        message(b'Q', format!("{text}\0").as_bytes())
    }

    /// `Parse` without parameter types.
    pub fn parse(name: &str, text: &str) -> Vec<u8> {
        message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
    }

    /// `Bind` of values as text to the unnamed portal.
    pub fn bind(statement: &str, values: &[&str]) -> Vec<u8> {
        let mut body = format!("\0{statement}\0\0\0").into_bytes();
        body.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            body.extend_from_slice(&(value.len() as u32).to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body.extend_from_slice(&[0, 0]);
        message(b'B', &body)
    }

    /// `Execute` of the unnamed portal, all rows.
    pub fn execute() -> Vec<u8> {
        message(b'E', &[0; 5])
    }

    /// `Sync`.
    pub fn sync() -> Vec<u8> {
        message(b'S', b"")
    }

    /// `AuthenticationOk`, a few settings, a key and `ReadyForQuery`.
    pub fn welcome(pid: i32) -> Vec<u8> {
        let mut out = message(b'R', &[0; 4]);
        for (name, value) in [("server_version", "17.0"), ("client_encoding", "UTF8"), ("in_hot_standby", "off")] {
            out.extend_from_slice(&message(b'S', format!("{name}\0{value}\0").as_bytes()));
        }
        out.extend_from_slice(&message(b'K', &[&pid.to_be_bytes()[..], b"key!"].concat()));
        out.extend_from_slice(&ready(b'I'));
        out
    }

    /// `ReadyForQuery` with this status: `I`, `T` or `E`.
    pub fn ready(status: u8) -> Vec<u8> {
        message(b'Z', &[status])
    }

    /// `CommandComplete`.
    pub fn complete(tag: &str) -> Vec<u8> {
        message(b'C', format!("{tag}\0").as_bytes())
    }

    /// `RowDescription` of one text column and a `DataRow` for each value.
    pub fn rows(values: &[&str]) -> Vec<u8> {
        let mut out = message(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        for value in values {
            let length = (value.len() as u32).to_be_bytes();
            out.extend_from_slice(&message(b'D', &[&[0, 1][..], &length, value.as_bytes()].concat()));
        }
        out
    }

    /// `ErrorResponse`.
    pub fn error(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
        message(b'E', format!("S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0").as_bytes())
    }
}

/// Reads one message; `None` if the other side has closed before its first byte.
fn read_message(stream: &mut TcpStream, has_tag: bool, deadline: &Deadline) -> Result<Option<PgMessage>> {
    let mut header = [0; 5];
    let header = if has_tag { &mut header[..] } else { &mut header[..4] };
    if !fill(stream, header, deadline)? {
        return Ok(None);
    }
    let (tag, length) = if has_tag { (header[0], &header[1..]) } else { (0, &header[..]) };
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    ensure!((4..=MESSAGE_MAX).contains(&length), "a message `{}` of {length} bytes", tag.escape_ascii());
    let mut body = vec![0; length - 4];
    ensure!(fill(stream, &mut body, deadline)?, "closed within a message");
    Ok(Some((tag, body)))
}

/// Fills `buf`; `false` if there was the end instead of its first byte.
fn fill(stream: &mut TcpStream, buf: &mut [u8], deadline: &Deadline) -> Result<bool> {
    let mut at = 0;
    while at < buf.len() {
        let left = deadline.left();
        ensure!(!left.is_zero(), "nothing came in time");
        stream.set_read_timeout(Some(left)).context("setting a deadline")?;
        match stream.read(&mut buf[at..]) {
            Ok(0) if at == 0 => return Ok(false),
            Ok(0) => bail!("closed within a message"),
            Ok(count) => at += count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("reading a message"),
        }
    }
    Ok(true)
}
