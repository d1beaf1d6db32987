//! What an operator may order of a pool while it runs: the command line, the API and the administrators' console say it in
//! these words, whoever carries it out. Plain data: nothing here decides whether an order can be followed. An order holds
//! until another one takes it back or the process ends; none of them changes the configuration.

use std::fmt;

/// One order to one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Transactions that have not begun wait, those that have begun go on.
    Pause,
    /// Takes a pause back.
    Resume,
    /// Traffic goes to another server. Nothing is promoted: the server must be primary already, or become it.
    Failover {
        /// The server's name, as it was written; `None`: whichever is primary and is not the present one.
        to: Option<String>,
    },
    /// A server gets no new transactions, and its connections close as they become free.
    Drain {
        /// The server's name, as it was written.
        server: String,
    },
    /// Takes a drain back.
    Undrain {
        /// The server's name, as it was written.
        server: String,
    },
    /// What runs a statement of this shape is cancelled.
    KillFingerprint(
        /// 16 hexadecimal digits, as statements are shown with.
        String,
    ),
    /// Every client of this user is sent away.
    KillUser(
        /// The user's name.
        String,
    ),
    /// This client is sent away.
    KillClient(
        /// Its number, as clients are shown with.
        u64,
    ),
    /// Every server connection is replaced as it becomes free.
    Reconnect,
}

/// Why an order was not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such pool.
    #[error("there is no pool named `{0}`")]
    NoPool(
        /// What was asked for.
        String,
    ),
    /// The pool has no such server.
    #[error("pool `{pool}` has no server named `{server}`; it has {known}")]
    NoServer {
        /// The pool.
        pool: String,
        /// What was asked for.
        server: String,
        /// The names of its servers, in words.
        known: String,
    },
    /// Nothing runs, or nobody is there, that fits.
    #[error("{0}")]
    Nothing(
        /// What was looked for, in words.
        String,
    ),
    /// It cannot be done now.
    #[error("{0}")]
    Refused(
        /// Why, and what to do about it.
        String,
    ),
}

impl Order {
    /// Its word on the command line and in the API.
    pub fn word(&self) -> &'static str {
        match self {
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Failover { .. } => "failover",
            Order::Drain { .. } => "drain",
            Order::Undrain { .. } => "undrain",
            Order::KillFingerprint(_) | Order::KillUser(_) | Order::KillClient(_) => "kill",
            Order::Reconnect => "reconnect",
        }
    }
}

/// As a person would say it, for the journal.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Pause | Order::Resume | Order::Reconnect | Order::Failover { to: None } => f.write_str(self.word()),
            Order::Failover { to: Some(server) } => write!(f, "failover to {server}"),
            Order::Drain { server } | Order::Undrain { server } => write!(f, "{} {server}", self.word()),
            Order::KillFingerprint(fingerprint) => write!(f, "kill statement {fingerprint}"),
            Order::KillUser(user) => write!(f, "kill user {user}"),
            Order::KillClient(id) => write!(f, "kill client {id}"),
        }
    }
}
