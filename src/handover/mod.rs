//! Handing the listening sockets over to the next process, so that a new binary, another number of workers or other
//! addresses cost no client a refused or reset connection.
//!
//! The node that runs ([`giving`]) waits at a Unix socket, [`SOCKET`] in the directory of `[store]`, for the node that is
//! to replace it ([`asking`]). Each sends lines of JSON ([`wire`]); the descriptors come with the first of them.
//!
//! ```text
//! new  {"say":"take-over","version":1,"pid":…,"release":"…"}
//! old  {"say":"listeners","version":1,…}  and a descriptor for each    or {"say":"refused","why":"…"}
//! new  builds the whole node on them, opens it, and says {"say":"ready","keeps":[…]}      or goes away
//! old  stops accepting, says {"say":"done"}, and drains                     or {"say":"refused","why":"…"}
//! ```
//! ```text
//! serving  => giving    the next process asks; one at a time
//! giving   => serving   it goes away, says nothing for READY_WITHIN, or a stop begins here first: it was told or sees the
//!                       end of the connection, and ends
//! giving   => handed    it is ready: it accepts already; from here on nothing leads back
//! handed   => ended     the last connection from before has ended, or `handover_timeout` has passed
//! ```
//! A process that dies at any point leaves the other one with sockets of its own: the old one never let go of its, and
//! the new one has them once they were sent. Nothing is sent to or taken from anybody but the same user and root.
//!
//! Limits: [`MAX_SOCKETS`] sockets, lines of [`wire::MAX_LINE_BYTES`], [`MAX_REGISTERED`] registrations, and a time for
//! each step. What else is in memory (what endpoints are judged by, say) is not handed over; it begins anew, as after a
//! restart.

pub mod asking;
pub mod giving;
pub mod replace;
mod told;
pub mod wire;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::discovery::Registration;

/// The name of the socket in the store's directory.
pub const SOCKET: &str = "handover.sock";
/// What both sides speak. A change that the other could not understand counts up.
pub const VERSION: u32 = 1;
/// Sockets that one process hands over. A kernel passes 253 descriptors with one message.
pub const MAX_SOCKETS: usize = 200;
/// Registrations that are handed over; what is beyond comes back with its next heartbeat.
pub const MAX_REGISTERED: usize = 10_000;
/// How long either side waits for a line that takes no work.
pub const LINE_WITHIN: Duration = Duration::from_secs(5);
/// How long the new process may take from the sockets to being ready: names are resolved and stores opened meanwhile.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// A listening socket.
#[derive(Debug)]
pub struct Held {
    /// What it is for: `gateway`, `admin`, `api`, the name of a listener, or what a service manager calls it.
    pub name: String,
    /// The socket, or a duplicate of it.
    pub socket: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether a service manager holds it as well, whatever becomes of this process.
    pub kept: bool,
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromNew {
    /// It wants the sockets.
    TakeOver {
        /// What it speaks.
        version: u32,
        /// Its process.
        pid: u32,
        /// Its version.
        release: String,
    },
    /// It accepts.
    Ready {
        /// The addresses that it kept. It holds no other of those that were sent.
        keeps: Vec<SocketAddr>,
    },
}

/// What the old process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromOld {
    /// Here they are.
    Listeners {
        /// What it speaks.
        version: u32,
        /// Its process.
        pid: u32,
        /// Its version.
        release: String,
        /// What the descriptors are, in their order.
        sockets: Vec<Named>,
        /// Endpoints that registered.
        registered: Vec<Registration>,
    },
    /// Nothing is handed over, or no longer.
    Refused {
        /// Why.
        why: String,
    },
    /// It accepts no more.
    Done,
}

/// What a descriptor is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Named {
    /// See [`Held::name`].
    pub name: String,
    /// See [`Held::kept`].
    pub kept: bool,
}

impl Held {
    /// A socket of which `name` and `kept` are known.
    ///
    /// # Errors
    /// If it is no TCP socket that listens.
    pub fn new(name: String, socket: TcpListener, kept: bool) -> std::io::Result<Held> {
        let listens = socket2::SockRef::from(&socket).is_listener()?;
        if !listens {
            return Err(std::io::Error::other(format!("the socket {name:?} does not listen")));
        }
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Held { name, socket, address, kept })
    }

    /// The same with a duplicate of the descriptor.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn duplicate(&self) -> std::io::Result<Held> {
        let (name, address, kept) = (self.name.clone(), self.address, self.kept);
        Ok(Held { name, socket: self.socket.try_clone()?, address, kept })
    }
}
