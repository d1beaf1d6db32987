//! A client's connection, as a worker holds it.

use std::net::SocketAddr;
use std::sync::Arc;

use kernel::Moment;

use crate::login::ClientLogin;
use crate::plan::Listen;
use crate::session::Session;
use crate::shared::PoolShared;
use crate::transport::Transport;

/// A client's connection. What an idle one takes is this struct and the kernel's socket.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) transport: Transport,
    /// No other connection of the process has it.
    pub(crate) id: u64,
    /// Tells it apart from others that had its place.
    pub(crate) generation: u32,
    pub(crate) state: State,
    pub(crate) session: Session,
    /// Its pool, once that is known.
    pub(crate) pool: Option<Arc<PoolShared>>,
    /// Its group in the worker, once it has logged in.
    pub(crate) group: usize,
    /// What it sent and nobody has taken.
    pub(crate) pending: Vec<u8>,
    /// What it has not taken yet.
    pub(crate) out: Vec<u8>,
    /// Whether its socket may have more.
    pub(crate) is_readable: bool,
    /// Whether it has said that it closes: it is read to the end, which no other event announces.
    pub(crate) is_closing: bool,
    /// While it logs in.
    pub(crate) login: Option<Box<Login>>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) connected: Moment,
    /// When its state began, or it last began something.
    pub(crate) since: Moment,
    /// What cancels its queries.
    pub(crate) key: Key,
    /// When it is in line: which place.
    pub(crate) ticket: u64,
    /// Why it was put in line last.
    pub(crate) wait: Wait,
}

/// Why a client waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wait {
    /// All connections are in use.
    #[default]
    Busy,
    /// There may be more.
    Opening,
    /// There is no primary that answers.
    NoPrimary,
    /// An operator has paused the pool.
    Paused,
}

impl Wait {
    /// As a step of a transaction says it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Wait::Busy => "all connections were in use",
            Wait::Opening => "one more had to be opened",
            Wait::NoPrimary => "there was no primary that answered",
            Wait::Paused => "the pool was paused",
        }
    }
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It says who it is.
    Startup,
    /// Postgres is asked who it is.
    Verifying,
    /// It proves who it is.
    Proving,
    /// It has proved it; the first connection of its group is awaited.
    Arriving,
    /// It needs no connection.
    Idle,
    /// It waits for one.
    Waiting,
    /// It has the connection at this place.
    Linked(usize),
    /// It is sent away once it has read why.
    Leaving,
}

/// What a client that logs in has said.
#[derive(Debug)]
pub(crate) struct Login {
    /// Where it came to.
    pub(crate) listen: Arc<Listen>,
    pub(crate) minor: u16,
    pub(crate) unknown: Vec<String>,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) exchange: Option<Box<ClientLogin>>,
    /// Whether it asked for encryption already.
    pub(crate) has_asked: bool,
    /// Whether TLS began without a request.
    pub(crate) is_direct: bool,
    /// It wants the console, and what it may do there.
    pub(crate) console: Option<bool>,
    /// It counts among the pool's clients.
    pub(crate) is_counted: bool,
    /// What its proof is answered with: it is sent together with the parameters.
    pub(crate) greeting: Vec<u8>,
}

/// What cancels a client's queries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Key {
    /// Positive.
    pub(crate) pid: i32,
    pub(crate) secret: Box<[u8]>,
}
