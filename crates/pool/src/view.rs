//! What the pooler looks like at one moment: what the console, the metrics, the administrators' console and the command
//! line show.

use std::time::Duration;

use kernel::metrics::LatencySum;
use serde::Serialize;

/// One pool.
#[derive(Debug, Clone, Serialize)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// `transaction`, `session` or `statement`.
    pub mode: &'static str,
    /// Whether an operator has paused it: transactions that have not begun wait.
    pub is_paused: bool,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerView>,
    /// Index of the primary in `servers`, if there is one.
    pub primary: Option<usize>,
    /// Why there is none, or why it is held back, in words.
    pub trouble: Option<String>,
    /// Most server connections.
    pub max_connections: u32,
    /// Server connections that are open or being opened.
    pub connections: u32,
    /// Clients, those that are logging in too.
    pub clients: u32,
    /// Most clients.
    pub max_clients: u32,
    /// Its (database, user) pairs.
    pub groups: Vec<GroupView>,
}

/// One Postgres server.
#[derive(Debug, Clone, Serialize)]
pub struct ServerView {
    /// As it was written in the configuration.
    pub name: String,
    /// `primary`, `standby`, `fenced` (it calls itself primary, on a timeline that has been left), `drained`, `unreachable`
    /// or `unknown`.
    pub role: &'static str,
    /// Why it is unreachable, in words.
    pub error: Option<String>,
    /// Its timeline, if it is not a standby.
    pub timeline: Option<u32>,
    /// How far it has come in the write-ahead log.
    pub lsn: Option<u64>,
    /// How many bytes of the log it is behind the primary.
    pub lag_bytes: Option<u64>,
    /// How long ago it last answered.
    pub answered: Option<Duration>,
    /// `server_version`.
    pub version: Option<String>,
    /// `max_connections` without those that are reserved.
    pub max_connections: Option<u32>,
}

/// One (database, user).
#[derive(Debug, Clone, Default, Serialize)]
pub struct GroupView {
    /// The database that clients ask for.
    pub database: String,
    /// The user.
    pub user: String,
    /// When a connection goes back.
    pub mode: &'static str,
    /// Most connections.
    pub size: u32,
    /// Clients that have a connection.
    pub clients_active: u32,
    /// Clients that wait for one.
    pub clients_waiting: u32,
    /// Clients that need none now.
    pub clients_idle: u32,
    /// Clients, of those that are active, that keep their connection because of their session's state.
    pub clients_pinned: u32,
    /// Connections that a client has.
    pub servers_active: u32,
    /// Connections that are free.
    pub servers_idle: u32,
    /// Connections that are being opened or cleaned.
    pub servers_busy: u32,
    /// How long the client that has waited longest has.
    pub max_wait: Duration,
    /// What was counted since the process started.
    pub totals: Totals,
}

/// What was counted for a (database, user).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Transactions that ended.
    pub transactions: u64,
    /// Those of them that failed: they were rolled back for an error, or lost their connection.
    pub failed: u64,
    /// Statements and executions that ended.
    pub queries: u64,
    /// Errors that Postgres sent.
    pub server_errors: u64,
    /// Errors that the pooler made, by kind: see [`Totals::FAILURES`].
    pub failures: [u64; 8],
    /// Transactions that were begun anew at another connection, unnoticed.
    pub moved: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Times that settings were replayed on a connection.
    pub replays: u64,
    /// Times that a client was pinned.
    pub pins: u64,
    /// Times that a client was given a connection.
    pub assignments: u64,
    /// Statements that clients prepared.
    pub client_parses: u64,
    /// Statements that were prepared on connections.
    pub server_parses: u64,
    /// Executions of prepared statements that were begun.
    pub binds: u64,
    /// Waiting for a connection, of those that had to wait.
    #[serde(skip)]
    pub wait: LatencySum,
    /// From the first byte of a statement to its end.
    #[serde(skip)]
    pub query: LatencySum,
    /// From the first byte of a transaction to its end.
    #[serde(skip)]
    pub transaction: LatencySum,
}

impl Totals {
    /// What [`Totals::failures`] counts: labels of metrics.
    pub const FAILURES: [&'static str; 8] =
        ["queue_full", "queue_timeout", "no_primary", "server_lost", "timeout", "refused_state", "login", "protocol"];
}

/// A client's connection.
#[derive(Debug, Clone, Serialize)]
pub struct ClientView {
    /// A number that no other connection of this process has.
    pub id: u64,
    /// Its pool.
    pub pool: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// What it calls itself.
    pub application: String,
    /// `login`, `idle`, `waiting`, `active` or `pinned`.
    pub state: &'static str,
    /// Where it comes from: address and port, or `unix`.
    pub address: String,
    /// The number of the server connection that it has.
    pub server: Option<u64>,
    /// Since when it is connected, in seconds since the Unix epoch.
    pub connected_unix: u64,
    /// How long it has waited, if it waits.
    pub waiting: Duration,
    /// How long ago it last began something.
    pub since_request: Duration,
    /// Its prepared statements.
    pub prepared: u32,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// What it runs, clipped; empty if nothing or if that is unknown.
    pub query: String,
    /// The worker that it is at.
    pub worker: usize,
}

/// A server connection.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionView {
    /// A number that no other connection of this process has.
    pub id: u64,
    /// Its pool.
    pub pool: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// `idle`, `active`, `pinned` or `cleaning`.
    pub state: &'static str,
    /// The server's name.
    pub server: String,
    /// The number of the client that has it.
    pub client: Option<u64>,
    /// The process at the server.
    pub remote_pid: u32,
    /// Since when it is connected, in seconds since the Unix epoch.
    pub connected_unix: u64,
    /// How long ago it was last given to a client.
    pub since_request: Duration,
    /// Statements that are prepared on it.
    pub prepared: u32,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// The worker that it is at.
    pub worker: usize,
}

/// Statements of one shape.
#[derive(Debug, Clone, Serialize)]
pub struct StatementView {
    /// The pool.
    pub pool: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// What identifies the shape: 16 hexadecimal digits.
    pub fingerprint: String,
    /// Its text without literals.
    pub text: String,
    /// How often it ran.
    pub calls: u64,
    /// How often it failed.
    pub errors: u64,
    /// Rows that it returned or changed.
    pub rows: u64,
    /// All the time that it took, in microseconds.
    pub total_us: u64,
    /// Half of the calls took at most so long, in microseconds.
    pub p50_us: Option<u64>,
    /// 99 of 100 calls took at most so long, in microseconds.
    pub p99_us: Option<u64>,
}
