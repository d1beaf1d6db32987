//! What the pooler runs by: the configuration as it is meant, built once and shared, read-only, by every worker. A reload
//! swaps one [`Plan`] for another. Values are in range and files are read by the time a plan exists: nothing here can be
//! wrong.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Every pool of the node.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In the order of the configuration.
    pub pools: Vec<Arc<PoolPlan>>,
}

/// One pool: a Postgres (a primary, and those that may become one) and how clients share its connections.
#[derive(Debug, Clone)]
pub struct PoolPlan {
    /// Its name in the configuration.
    pub name: String,
    /// Where clients connect. Two pools may share an address if their databases differ.
    pub listen: Vec<Listen>,
    /// Where Postgres may be: the one that is primary is found by asking.
    pub servers: Vec<ServerPlan>,
    /// Databases that clients may ask for; `None`: any.
    pub databases: Option<Vec<String>>,
    /// What is different for one database or user. The last that fits counts.
    pub rules: Vec<RulePlan>,
    /// Who asks Postgres for verifiers and roles.
    pub auth: AuthPlan,
    /// When a connection goes back to the pool.
    pub mode: Mode,
    /// What becomes of a session's state when the connection goes to another client.
    pub session_state: SessionState,
    /// Most server connections of one (database, user).
    pub size: u32,
    /// Server connections that are kept open for a (database, user) whose credentials are known.
    pub min_size: u32,
    /// Connections beyond `size`, for when a client has waited for `reserve_after`.
    pub reserve: u32,
    /// How long a client waits before the reserve is opened.
    pub reserve_after: Duration,
    /// Most server connections of the whole pool.
    pub max_connections: u32,
    /// Most clients, over all databases and users.
    pub max_clients: u32,
    /// Most clients that wait for a connection, of one (database, user).
    pub max_waiting: u32,
    /// How long a client waits for a connection, also while no primary is there.
    pub queue_timeout: Duration,
    /// A server connection, login included, is there in this time or not at all.
    pub connect_timeout: Duration,
    /// How long a client may take to log in.
    pub login_timeout: Duration,
    /// A server connection that is older is closed when it is free; up to a tenth is taken off by chance.
    pub lifetime: Option<Duration>,
    /// A server connection that nobody used for so long is closed; up to a tenth is taken off by chance.
    pub idle_timeout: Option<Duration>,
    /// A client that says nothing for so long, outside a transaction, is sent away.
    pub client_idle_timeout: Option<Duration>,
    /// A query that runs for longer is cancelled.
    pub query_timeout: Option<Duration>,
    /// A client that says nothing for so long inside a transaction is sent away, and the transaction ends.
    pub idle_in_transaction_timeout: Option<Duration>,
    /// A transaction that takes longer is ended.
    pub transaction_timeout: Option<Duration>,
    /// Most prepared statements that one server connection keeps.
    pub max_prepared_statements: u32,
    /// Most clients, of one (database, user), that may keep a connection for themselves because of their session's state.
    pub max_pinned: u32,
    /// A query that takes longer is logged; `None`: none is.
    pub slow: Option<Duration>,
    /// Most fingerprints of statements that are counted apart; the others are counted together.
    pub statements: u32,
    /// How often each server is asked for its role.
    pub probe_interval: Duration,
    /// Users that may give orders on the console database.
    pub admin_users: Vec<String>,
    /// Users that may look at the console database.
    pub stats_users: Vec<String>,
    /// TLS towards clients.
    pub tls: Option<ClientTlsPlan>,
    /// TLS towards Postgres.
    pub server_tls: ServerTlsPlan,
}

/// An address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket, by its whole path.
    Unix(PathBuf),
}

/// A Postgres server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPlan {
    /// As it was written: what people see, and what a certificate is checked for (without the port).
    pub name: String,
    /// Where it is.
    pub address: ServerAddress,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// A name or an address, resolved anew for each connection.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket, by its whole path.
    Unix(PathBuf),
}

/// Who asks, and where verifiers come from.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthPlan {
    /// The pooler's own user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The database that it asks in.
    pub database: String,
    /// What it asks: one parameter, the user's name; a row of name and verifier, or none.
    pub query: String,
    /// Verifiers by user that were read from a file; they come before the query.
    pub users: Vec<(String, String)>,
    /// How clients show who they are.
    pub methods: AuthMethods,
}

/// How clients show who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthMethods {
    /// A client certificate whose common name is the user is enough, and, with TLS, needed.
    pub certificate: bool,
    /// On a Unix socket, the operating system's user of the same name needs no password.
    pub peer: bool,
}

/// When a server connection goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At the end of each transaction.
    Transaction,
    /// When the client leaves.
    Session,
    /// At the end of each statement; a transaction of several is refused.
    Statement,
}

/// What becomes of the state that a session leaves behind, in transaction and statement mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Settings follow their client; other state pins the client to its connection until it is given up.
    Track,
    /// It is cleared before the connection goes to another client.
    Reset,
    /// Settings, too, pin the client to its connection.
    Pin,
    /// What would leave state behind is refused.
    Error,
}

/// What is different for one database or user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RulePlan {
    /// For this database only.
    pub database: Option<String>,
    /// For this user only.
    pub user: Option<String>,
    /// Instead of the pool's.
    pub mode: Option<Mode>,
    /// Instead of the pool's.
    pub session_state: Option<SessionState>,
    /// Instead of the pool's.
    pub size: Option<u32>,
    /// Instead of the pool's.
    pub min_size: Option<u32>,
    /// The database's name at the server, if it is another.
    pub server_database: Option<String>,
}

/// TLS towards clients.
#[derive(Clone)]
pub struct ClientTlsPlan {
    /// Whether clients without it are refused.
    pub is_required: bool,
    /// Certificates, the server's own first, and its key, in DER; made into a configuration by the pooler.
    pub certificates: Vec<Vec<u8>>,
    /// The key in PKCS#8, SEC1 or PKCS#1 DER.
    pub key: Vec<u8>,
    /// Who may sign the certificates of clients, in DER; empty: none is asked for.
    pub client_ca: Vec<Vec<u8>>,
}

/// TLS towards Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsPlan {
    /// As libpq's `sslmode`.
    pub mode: ServerTlsMode,
    /// Whether TLS begins at once, without asking (PostgreSQL 17 and later).
    pub direct: bool,
    /// Who may sign the server's certificate, in DER; empty: whom the system trusts.
    pub ca: Vec<Vec<u8>>,
}

/// How much TLS is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTlsMode {
    /// None.
    Disable,
    /// If the server has it, without looking at its certificate.
    Prefer,
    /// Always, without looking at the certificate.
    Require,
    /// Always, by a certificate of a known authority.
    VerifyCa,
    /// Always, by a certificate of a known authority for the name of the server.
    VerifyFull,
}

/// What holds for one (database, user).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRule {
    /// When a connection goes back.
    pub mode: Mode,
    /// What becomes of the session's state.
    pub session_state: SessionState,
    /// Most server connections.
    pub size: u32,
    /// Connections kept open.
    pub min_size: u32,
}

impl PoolPlan {
    /// Whether clients may ask for `database` here.
    pub fn has_database(&self, database: &str) -> bool {
        self.databases.as_ref().is_none_or(|known| known.iter().any(|d| d == database))
    }

    /// What holds for one database and user.
    pub fn rule(&self, database: &str, user: &str) -> GroupRule {
        let mut rule =
            GroupRule { mode: self.mode, session_state: self.session_state, size: self.size, min_size: self.min_size };
        for special in self.fitting(database, user) {
            rule.mode = special.mode.unwrap_or(rule.mode);
            rule.session_state = special.session_state.unwrap_or(rule.session_state);
            rule.size = special.size.unwrap_or(rule.size);
            rule.min_size = special.min_size.unwrap_or(rule.min_size);
        }
        rule
    }

    /// What the database is called at the server.
    pub fn server_database<'a>(&'a self, database: &'a str, user: &str) -> &'a str {
        self.fitting(database, user).filter_map(|rule| rule.server_database.as_deref()).last().unwrap_or(database)
    }

    fn fitting<'a>(&'a self, database: &str, user: &str) -> impl Iterator<Item = &'a RulePlan> {
        self.rules.iter().filter(move |rule| {
            rule.database.as_ref().is_none_or(|d| d == database) && rule.user.as_ref().is_none_or(|u| u == user)
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for AuthPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthPlan").field("user", &self.user).field("database", &self.database).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTlsPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTlsPlan").field("is_required", &self.is_required).finish_non_exhaustive()
    }
}
