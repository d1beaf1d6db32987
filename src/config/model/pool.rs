//! `[pool.NAME]`: a Postgres, and how clients share its connections. What the keys do is said by `pool::plan`, which they
//! become; names are those of PgBouncer and libpq where these have one. `0s` sets no limit, as it does there.

use std::path::PathBuf;

use kernel::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::pool_part::{Auth, PoolMode, PoolRule, PoolTls, ServerTls, SessionState, SslMode};
pub use super::pool_text::{Identifier, PoolListen, PoolListens, PoolServer};

/// A Postgres, with those that may take its place, and how clients share its connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Where clients connect: `IP:port` or `unix:` and a path, one or several. A path is a directory, in which the socket is
    /// called `.s.PGSQL.` and the port of the first TCP address (else `6432`), or a socket of such a name.
    ///
    /// Default: none (required). Range: `1` to `16` addresses. Reload: restart.
    ///
    /// Why: whether the pool is open to the network or to this machine only is yours to say.
    pub listen: PoolListens,
    /// Where Postgres is: `host:port`, `host` (port 5432), or `unix:` and a path. Of several, the primary is found by asking,
    /// and traffic follows it.
    ///
    /// Default: none (required). Range: `1` to `16` servers. Reload: live.
    ///
    /// Why: only you know it.
    pub servers: Vec<PoolServer>,
    /// Who asks Postgres for roles and for what clients' passwords are checked with.
    ///
    /// Default: none (required). Range: one table. Reload: live.
    ///
    /// Why: only you know the password.
    pub auth: Auth,
    /// A file of users and verifiers, in the format of PgBouncer's `userlist.txt`. Who is in it is not asked for in Postgres.
    ///
    /// Default: none (every user is asked for in Postgres). Range: a path to a file of at most 1 MiB. Reload: live.
    ///
    /// Why: what Postgres knows need not be written a second time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_file: Option<PathBuf>,
    /// The databases that clients may ask for. Two pools may share an address if each names its own.
    ///
    /// Default: none (every database of the server). Range: `1` to `1000` databases. Reload: live.
    ///
    /// Why: Postgres itself says who may connect where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<Vec<Identifier>>,
    /// When a server connection goes back to the pool: at the end of each `transaction`, when the client leaves (`session`),
    /// or at the end of each `statement`, where transactions of several are refused.
    ///
    /// Default: `transaction`. Range: `transaction`, `session` or `statement`. Reload: live.
    ///
    /// Why: it is what lets many clients share a few connections, and the session's state follows them here.
    #[serde(default)]
    pub mode: PoolMode,
    /// What becomes of the state that a session leaves behind. `track`: settings follow their client, other state pins the
    /// client to its connection until it is given up. `reset`: it is cleared before another client comes. `pin`: settings
    /// pin too. `error`: what would leave state behind is refused.
    ///
    /// Default: `track`. Range: `track`, `reset`, `pin` or `error`. Reload: live.
    ///
    /// Why: applications run unchanged, and nothing of one client is seen by another.
    #[serde(default)]
    pub session_state: SessionState,
    /// Most server connections of one database and user.
    ///
    /// Default: `20`. Range: `1` to `10000`. Reload: live.
    ///
    /// Why: a Postgres of a few cores does the most work with about that many queries at a time.
    #[serde(default = "size")]
    pub size: u32,
    /// Server connections that are kept open for a database and user whose credentials are known.
    ///
    /// Default: `0`. Range: `0` to `10000`. Reload: live.
    ///
    /// Why: a connection opens in milliseconds, and one that nobody uses costs Postgres memory.
    #[serde(default)]
    pub min_size: u32,
    /// Connections beyond `size`, of one database and user, for when a client has waited for `reserve_after`.
    ///
    /// Default: `0`. Range: `0` to `10000`. Reload: live.
    ///
    /// Why: more connections make a Postgres that is already slow slower.
    #[serde(default)]
    pub reserve: u32,
    /// How long a client waits before the reserve is opened.
    ///
    /// Default: `3s`. Range: `0s` to `10m`. Reload: live.
    ///
    /// Why: a burst is over by then, and what is left is a jam.
    #[serde(default = "three_seconds")]
    pub reserve_after: Span,
    /// Most server connections of the whole pool.
    ///
    /// Default: `80`. Range: `1` to `100000`. Reload: live.
    ///
    /// Why: Postgres takes 100 by default; the rest is for administrators, replicas and backups.
    #[serde(default = "max_connections")]
    pub max_connections: u32,
    /// Most clients, over all databases and users.
    ///
    /// Default: `10000`. Range: `1` to `1000000`. Reload: live.
    ///
    /// Why: an idle client costs a few KiB, so ten thousand make no more than tens of MiB.
    #[serde(default = "ten_thousand")]
    pub max_clients: u32,
    /// Most clients, of one database and user, that wait for a connection. Who comes then is refused at once.
    ///
    /// Default: `10000`. Range: `0` to `1000000`. Reload: live.
    ///
    /// Why: while a primary is being replaced every client waits, and all of them shall.
    #[serde(default = "ten_thousand")]
    pub max_waiting: u32,
    /// How long a client waits for a connection, also while no primary is there.
    ///
    /// Default: `1m`. Range: `100ms` to `1h`. Reload: live.
    ///
    /// Why: a restart or a promotion is over by then, and few callers wait longer themselves.
    #[serde(default = "one_minute")]
    pub queue_timeout: Span,
    /// How long opening a server connection may take, login included.
    ///
    /// Default: `5s`. Range: `100ms` to `10m`. Reload: live.
    ///
    /// Why: a server that takes longer is better tried again than waited for.
    #[serde(default = "five_seconds")]
    pub connect_timeout: Span,
    /// How long a client may take to log in.
    ///
    /// Default: `15s`. Range: `1s` to `10m`. Reload: live.
    ///
    /// Why: the slowest honest client needs a few round trips.
    #[serde(default = "fifteen_seconds")]
    pub login_timeout: Span,
    /// A server connection that is older is closed when it is free, some up to a tenth earlier. `0s` sets no limit.
    ///
    /// Default: `1h`. Range: `0s` to `30d`. Reload: live.
    ///
    /// Why: what a backend collects in its memory is given back, and new connections spread over what has changed.
    #[serde(default = "one_hour")]
    pub lifetime: Span,
    /// A server connection that nobody used for so long is closed, some up to a tenth earlier. `0s` sets no limit.
    ///
    /// Default: `10m`. Range: `0s` to `30d`. Reload: live.
    ///
    /// Why: the pool shrinks after the rush, and connections need not be opened anew between two requests.
    #[serde(default = "ten_minutes")]
    pub idle_timeout: Span,
    /// A client that says nothing for so long, outside a transaction, is sent away. `0s` sets no limit.
    ///
    /// Default: `0s`. Range: `0s` to `30d`. Reload: live.
    ///
    /// Why: applications keep their own pools of connections, and an idle one costs little here.
    #[serde(default = "off")]
    pub client_idle_timeout: Span,
    /// A query that runs for longer is cancelled. `0s` sets no limit.
    ///
    /// Default: `0s`. Range: `0s` to `30d`. Reload: live.
    ///
    /// Why: reports and migrations take what they take; only you know which queries may not.
    #[serde(default = "off")]
    pub query_timeout: Span,
    /// A client that says nothing for so long inside a transaction is sent away, and the transaction ends. `0s` sets no
    /// limit.
    ///
    /// Default: `0s`. Range: `0s` to `30d`. Reload: live.
    ///
    /// Why: an application that calls a third party inside a transaction is slow, and ending it breaks it.
    #[serde(default = "off")]
    pub idle_in_transaction_timeout: Span,
    /// A transaction that takes longer is ended. `0s` sets no limit.
    ///
    /// Default: `0s`. Range: `0s` to `30d`. Reload: live.
    ///
    /// Why: as for `query_timeout`.
    #[serde(default = "off")]
    pub transaction_timeout: Span,
    /// Most prepared statements that one server connection keeps. The ones not used for longest go first, and come back when
    /// they are needed.
    ///
    /// Default: `200`. Range: `1` to `100000`. Reload: live.
    ///
    /// Why: an application has some dozens, and each holds memory of Postgres on every connection.
    #[serde(default = "two_hundred")]
    pub max_prepared_statements: u32,
    /// Most clients, of one database and user, that may keep a connection for themselves because of their session's state.
    ///
    /// Default: none (half of `size`, at least 1). Range: `0` to `10000`. Reload: live.
    ///
    /// Why: the other half stays for all who need no connection of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pinned: Option<u32>,
    /// A query that takes longer is logged, without its literals. `0s` logs none.
    ///
    /// Default: `1s`. Range: `0s` to `1d`. Reload: live.
    ///
    /// Why: a second is what people notice.
    #[serde(default = "one_second")]
    pub slow: Span,
    /// Most shapes of statements that are counted apart; the others are counted together.
    ///
    /// Default: `1000`. Range: `1` to `100000`. Reload: live.
    ///
    /// Why: few applications have more, and each costs less than 1 KiB for each worker.
    #[serde(default = "one_thousand")]
    pub statements: u32,
    /// How often each server is asked whether it is primary.
    ///
    /// Default: `250ms`. Range: `50ms` to `1m`. Reload: live.
    ///
    /// Why: a promotion is noticed within a second, and the question costs Postgres some microseconds.
    #[serde(default = "probe_interval")]
    pub probe_interval: Span,
    /// Users that may give orders on the console database `evenkeel`.
    ///
    /// Default: `[]`. Range: `0` to `100` users. Reload: live.
    ///
    /// Why: nobody may what nobody was given.
    #[serde(default)]
    pub admin_users: Vec<Identifier>,
    /// Users that may look at the console database `evenkeel`.
    ///
    /// Default: `[]`. Range: `0` to `100` users. Reload: live.
    ///
    /// Why: who asks what others do can read their statements.
    #[serde(default)]
    pub stats_users: Vec<Identifier>,
    /// TLS towards clients.
    ///
    /// Default: none (clients are served without). Range: one table. Reload: live.
    ///
    /// Why: it needs a certificate, and on this machine it protects nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PoolTls>,
    /// TLS towards Postgres.
    ///
    /// Default: none (each key has its own). Range: one table. Reload: live.
    ///
    /// Why: as libpq does.
    #[serde(default)]
    pub server_tls: ServerTls,
    /// What is different for one database or user. Of those that fit, what a later one says counts.
    ///
    /// Default: `[]`. Range: `0` to `1000` rules. Reload: live.
    ///
    /// Why: most pools treat everybody alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rule: Vec<PoolRule>,
}

impl Pool {
    /// The port that a Unix socket is named by.
    pub fn socket_port(&self) -> u16 {
        let tcp = self.listen.0.iter().find_map(PoolListen::tcp);
        tcp.map_or(super::pool_text::POOLER_PORT, |address| address.port())
    }
}

const fn size() -> u32 {
    20
}

const fn max_connections() -> u32 {
    80
}

const fn ten_thousand() -> u32 {
    10_000
}

const fn two_hundred() -> u32 {
    200
}

const fn one_thousand() -> u32 {
    1_000
}

const fn off() -> Span {
    Span::from_secs(0)
}

const fn probe_interval() -> Span {
    Span::from_millis(250)
}

const fn one_second() -> Span {
    Span::from_secs(1)
}

const fn three_seconds() -> Span {
    Span::from_secs(3)
}

const fn five_seconds() -> Span {
    Span::from_secs(5)
}

const fn fifteen_seconds() -> Span {
    Span::from_secs(15)
}

const fn one_minute() -> Span {
    Span::from_secs(60)
}

const fn ten_minutes() -> Span {
    Span::from_secs(600)
}

const fn one_hour() -> Span {
    Span::from_secs(3600)
}
