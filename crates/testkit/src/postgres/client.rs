//! A client that sends the bytes it is given and reads messages. Each call has a deadline.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{PgMessage, read_message, say};
use crate::poll::Deadline;
use crate::raw::PATIENCE;

/// A connection to a server that asks for no password.
#[derive(Debug)]
pub struct PgClient {
    stream: TcpStream,
}

impl PgClient {
    /// Connects and says nothing.
    ///
    /// # Errors
    /// When the connection is not made in time.
    pub fn connect(addr: SocketAddr) -> Result<PgClient> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(PgClient { stream })
    }

    /// Connects, sends a startup packet, and gives what came up to `ReadyForQuery`.
    ///
    /// # Errors
    /// When it is not let in.
    pub fn login(addr: SocketAddr, user: &str, database: &str) -> Result<(PgClient, Vec<PgMessage>)> {
        let mut client = PgClient::connect(addr)?;
        client.send(&say::startup(0, &[("user", user), ("database", database)]))?;
        let welcome = client.until_ready(PATIENCE)?;
        Ok((client, welcome))
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the other side is gone or takes nothing more.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// Reads one message; `None` if the server has closed.
    ///
    /// # Errors
    /// When nothing comes within `within`, or no message.
    pub fn receive(&mut self, within: Duration) -> Result<Option<PgMessage>> {
        read_message(&mut self.stream, true, &Deadline::after(within))
    }

    /// Reads messages up to and including `ReadyForQuery`.
    ///
    /// # Errors
    /// When it does not come within `within`. The message tells what came.
    pub fn until_ready(&mut self, within: Duration) -> Result<Vec<PgMessage>> {
        let deadline = Deadline::after(within);
        let mut came = Vec::new();
        loop {
            match read_message(&mut self.stream, true, &deadline) {
                Ok(Some(message)) => {
                    let is_last = message.0 == b'Z';
                    came.push(message);
                    if is_last {
                        return Ok(came);
                    }
                }
                Ok(None) => bail!("closed before ReadyForQuery, after {}", told(&came)),
                Err(error) => return Err(error.context(format!("waiting for ReadyForQuery, after {}", told(&came)))),
            }
        }
    }

    /// Sends a query and reads up to `ReadyForQuery`.
    ///
    /// # Errors
    /// When that does not come in time.
    pub fn query(&mut self, text: &str) -> Result<Vec<PgMessage>> {
        self.send(&say::query(text))?;
        self.until_ready(PATIENCE)
    }
}

/// Messages for people.
pub(super) fn told(messages: &[PgMessage]) -> String {
    let one = |(tag, body): &PgMessage| format!("{}({})", tag.escape_ascii(), body.escape_ascii());
    messages.iter().map(one).collect::<Vec<_>>().join(" ")
}
