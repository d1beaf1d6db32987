//! What stands within `[pool.NAME]`: `auth`, `tls`, `server_tls` and `[[pool.NAME.rule]]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pool_text::{AuthQuery, Identifier, Password};

/// The pooler's own user, and how clients show who they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The user that roles and verifiers are asked as.
    ///
    /// Default: none (required). Range: 1 to 63 bytes. Reload: live.
    ///
    /// Why: a user of its own can be given just what it needs.
    pub user: Identifier,
    /// Its password. Name a variable or a file that holds it, `${env:NAME}` or `${file:/path}`. It is never shown.
    ///
    /// Default: none (required). Range: 1 to 1024 bytes. Reload: live.
    ///
    /// Why: only you know it.
    pub password: Password,
    /// The database that is asked in.
    ///
    /// Default: `postgres`. Range: 1 to 63 bytes. Reload: live.
    ///
    /// Why: every server has it, and nobody drops it.
    #[serde(default = "Identifier::postgres")]
    pub database: Identifier,
    /// What is asked for a user: one parameter, the name; a row of name and verifier, or none.
    ///
    /// Default: `SELECT usename, passwd FROM evenkeel.user_lookup($1)`. Range: a query with `$1`. Reload: live.
    ///
    /// Why: through a function the pooler reads verifiers without being a superuser; `evenkeel check` prints it.
    #[serde(default = "AuthQuery::user_lookup")]
    pub query: AuthQuery,
    /// Whether a client shows who it is by a certificate: its common name is the user, and no password is asked for. Needs
    /// `client_ca` of `tls`. A client without TLS still proves its password; `required` of `tls` refuses it.
    ///
    /// Default: `false`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: few teams give certificates to their applications.
    #[serde(default)]
    pub certificate: bool,
    /// Whether, on a Unix socket, the operating system's user needs no password to be the database's user of that name.
    ///
    /// Default: `false`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: what a container calls its user need not be who it may be in the database.
    #[serde(default)]
    pub peer: bool,
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolTls {
    /// The certificate in PEM, followed by those between it and the authority's own.
    ///
    /// Default: none (required). Range: a path to a file of at most 256 KiB. Reload: live.
    ///
    /// Why: only you have it.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    ///
    /// Default: none (required). Range: a path to a file of at most 256 KiB. Reload: live.
    ///
    /// Why: only you have it.
    pub key: PathBuf,
    /// Whether clients without TLS are refused. A Unix socket needs none.
    ///
    /// Default: `false`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: clients can be moved one after the other.
    #[serde(default)]
    pub required: bool,
    /// Who may sign the certificates of clients, in PEM. A certificate is then asked for, and checked if there is one.
    ///
    /// Default: none (no certificate is asked for). Range: a path to a file of at most 256 KiB. Reload: live.
    ///
    /// Why: few teams give certificates to their applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// TLS towards Postgres.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTls {
    /// As libpq's `sslmode`: `prefer` takes TLS if the server has it, `require` insists; `verify-ca` and `verify-full` also
    /// look at the certificate, the latter at its name too.
    ///
    /// Default: `prefer`. Range: `disable`, `prefer`, `require`, `verify-ca` or `verify-full`. Reload: live.
    ///
    /// Why: it works with every server, as it does with libpq.
    pub mode: SslMode,
    /// Who may sign the server's certificate, in PEM.
    ///
    /// Default: none (whom the system trusts). Range: a path to a file of at most 256 KiB. Reload: live.
    ///
    /// Why: hosted databases mostly have an authority of their own, and say where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether TLS begins at once, without asking. PostgreSQL 17 and later know it; it needs `require` or more.
    ///
    /// Default: `false`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: it saves a round trip for each connection, and older servers refuse it.
    pub direct: bool,
}

/// What is different for one database or user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoolRule {
    /// The database that it is for.
    ///
    /// Default: none (every database). Range: 1 to 63 bytes. Reload: live.
    ///
    /// Why: a rule may be about a user alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Identifier>,
    /// The user that it is for.
    ///
    /// Default: none (every user). Range: 1 to 63 bytes. Reload: live.
    ///
    /// Why: a rule may be about a database alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Identifier>,
    /// Instead of the pool's `mode`.
    ///
    /// Default: none (the pool's). Range: `transaction`, `session` or `statement`. Reload: live.
    ///
    /// Why: a rule changes only what it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<PoolMode>,
    /// Instead of the pool's `session_state`.
    ///
    /// Default: none (the pool's). Range: `track`, `reset`, `pin` or `error`. Reload: live.
    ///
    /// Why: a rule changes only what it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_state: Option<SessionState>,
    /// Instead of the pool's `size`.
    ///
    /// Default: none (the pool's). Range: `1` to `10000`. Reload: live.
    ///
    /// Why: a rule changes only what it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Instead of the pool's `min_size`.
    ///
    /// Default: none (the pool's). Range: `0` to `10000`. Reload: live.
    ///
    /// Why: a rule changes only what it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u32>,
    /// What the database is called at the server.
    ///
    /// Default: none (the same). Range: 1 to 63 bytes. Reload: live.
    ///
    /// Why: a database is mostly asked for by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_database: Option<Identifier>,
}

/// When a server connection goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolMode {
    /// At the end of each transaction.
    #[default]
    Transaction,
    /// When the client leaves.
    Session,
    /// At the end of each statement.
    Statement,
}

/// What becomes of a session's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// Settings follow, the rest pins.
    #[default]
    Track,
    /// It is cleared.
    Reset,
    /// Settings pin too.
    Pin,
    /// It is refused.
    Error,
}

/// How much TLS is asked of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// None.
    Disable,
    /// If the server has it.
    #[default]
    Prefer,
    /// Always.
    Require,
    /// Always, by a known authority.
    VerifyCa,
    /// Always, by a known authority, for the right name.
    VerifyFull,
}
