//! Pools of Postgres connections, as the console sees them: what they are at one instant, with counts since the start of the
//! process, and what can be asked of one.

use std::time::Duration;

use kernel::metrics::LatencySum;
use serde::Serialize;

/// One pool.
#[derive(Clone, Debug, Default)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// `transaction`, `session` or `statement`.
    pub mode: String,
    /// Whether an operator has paused it.
    pub is_paused: bool,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<PoolServer>,
    /// Which of them is the primary, if any is.
    pub primary: Option<usize>,
    /// Why there is none, or why it is held back, in words.
    pub trouble: Option<String>,
    /// Most server connections.
    pub max_connections: u32,
    /// Server connections.
    pub connections: u32,
    /// Clients.
    pub clients: u32,
    /// Most clients.
    pub max_clients: u32,
    /// Its (database, user) pairs.
    pub groups: Vec<PoolGroup>,
}

/// A Postgres server of a pool.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolServer {
    /// As the configuration has it.
    pub name: String,
    /// `primary`, `standby`, `fenced`, `drained`, `unreachable` or `unknown`.
    pub role: String,
    /// Why it is unreachable, in words.
    pub error: Option<String>,
    /// Its timeline, if it is not a standby.
    pub timeline: Option<u32>,
    /// How far it has come in the write-ahead log.
    pub lsn: Option<u64>,
    /// How many bytes of the log it is behind the primary.
    pub lag_bytes: Option<u64>,
    /// How long ago it last answered.
    pub answered_ms: Option<u64>,
    /// Its version.
    pub version: Option<String>,
    /// How many connections it takes from users that are no superusers.
    pub max_connections: Option<u32>,
}

/// One (database, user) of a pool.
#[derive(Clone, Debug, Default)]
pub struct PoolGroup {
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// When a connection goes back.
    pub mode: String,
    /// Most connections.
    pub size: u32,
    /// Clients that have a connection.
    pub clients_active: u32,
    /// Clients that wait for one.
    pub clients_waiting: u32,
    /// Clients that need none now.
    pub clients_idle: u32,
    /// Of the active ones, those that keep theirs.
    pub clients_pinned: u32,
    /// Connections that a client has.
    pub servers_active: u32,
    /// Connections that are free.
    pub servers_idle: u32,
    /// Connections that are being opened or cleaned.
    pub servers_busy: u32,
    /// How long the client that has waited longest has.
    pub max_wait: Duration,
    /// What was counted.
    pub counts: PoolCounts,
}

/// What was counted since the start.
#[derive(Clone, Debug, Default)]
pub struct PoolCounts {
    /// Transactions that ended.
    pub transactions: u64,
    /// Of those, the ones that failed.
    pub failed: u64,
    /// Statements that ended.
    pub queries: u64,
    /// Errors that Postgres sent.
    pub server_errors: u64,
    /// Errors that the pooler made, by kind.
    pub failures: Vec<(String, u64)>,
    /// Transactions that were begun anew at another connection.
    pub moved: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Times that settings were replayed.
    pub replays: u64,
    /// Times that a client was pinned.
    pub pins: u64,
    /// Waiting for a connection.
    pub wait: LatencySum,
    /// Statements.
    pub query: LatencySum,
    /// Transactions.
    pub transaction: LatencySum,
}

/// Statements of one shape.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolStatement {
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// What identifies the shape.
    pub fingerprint: String,
    /// Its text without literals.
    pub text: String,
    /// How often it ran.
    pub calls: u64,
    /// How often it failed.
    pub errors: u64,
    /// Rows that it returned or changed.
    pub rows: u64,
    /// All the time that it took.
    pub total_us: u64,
    /// Half of the calls took at most so long.
    pub p50_us: Option<u64>,
    /// 99 of 100 calls took at most so long.
    pub p99_us: Option<u64>,
}

/// A client of a pool.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolClient {
    /// Its number.
    pub id: u64,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// What it calls itself.
    pub application: String,
    /// `login`, `idle`, `waiting`, `active` or `pinned`.
    pub state: String,
    /// Where it comes from.
    pub address: String,
    /// The number of the server connection that it has.
    pub server: Option<u64>,
    /// Since when it is connected, in seconds since the Unix epoch.
    pub connected_unix_s: u64,
    /// How long it has waited, if it waits.
    pub waiting_ms: u64,
    /// How long ago it last began something.
    pub since_request_ms: u64,
    /// Its prepared statements.
    pub prepared: u32,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// What it runs; empty if nothing.
    pub query: String,
}

/// A server connection of a pool.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolConnection {
    /// Its number.
    pub id: u64,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// `idle`, `active`, `pinned` or `cleaning`.
    pub state: String,
    /// The server's name.
    pub server: String,
    /// The number of the client that has it.
    pub client: Option<u64>,
    /// The process at the server.
    pub remote_pid: u32,
    /// Since when it is connected, in seconds since the Unix epoch.
    pub connected_unix_s: u64,
    /// How long ago it was last given to a client.
    pub since_request_ms: u64,
    /// Statements that are prepared on it.
    pub prepared: u32,
    /// Whether it speaks TLS.
    pub is_tls: bool,
}

/// What an operator does to a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolAction {
    /// Transactions that have not begun wait.
    Pause,
    /// Takes a pause back.
    Resume,
    /// Follows another primary.
    Failover {
        /// Which server; `None`: any other.
        to: Option<String>,
    },
    /// A server gets no new transactions.
    Drain {
        /// Which.
        server: String,
    },
    /// Takes a drain back.
    Undrain {
        /// Which.
        server: String,
    },
    /// Cancels what runs a statement of this shape.
    KillStatement(String),
    /// Sends every client of this user away.
    KillUser(String),
    /// Sends this client away.
    KillClient(u64),
    /// Replaces every server connection as it becomes free.
    Reconnect,
}

impl PoolAction {
    /// The word for it, in paths and on the command line.
    pub const fn word(&self) -> &'static str {
        match self {
            PoolAction::Pause => "pause",
            PoolAction::Resume => "resume",
            PoolAction::Failover { .. } => "failover",
            PoolAction::Drain { .. } => "drain",
            PoolAction::Undrain { .. } => "undrain",
            PoolAction::KillStatement(_) | PoolAction::KillUser(_) | PoolAction::KillClient(_) => "kill",
            PoolAction::Reconnect => "reconnect",
        }
    }

    /// Whether somebody is worse off by it, so that a reason has to be given.
    pub const fn needs_reason(&self) -> bool {
        !matches!(self, PoolAction::Resume | PoolAction::Undrain { .. } | PoolAction::Reconnect)
    }
}

impl PoolServer {
    /// Whether it is as it should be: a drain is meant.
    pub fn is_trouble(&self) -> bool {
        matches!(self.role.as_str(), "fenced" | "unreachable")
    }
}
