//! A server connection, from a name to `ReadyForQuery`: resolve, connect, TLS, log in. Then the socket is handed over, with
//! its TLS session and whatever was read beyond.
//!
//! | step | bound |
//! | --- | --- |
//! | all of it | `timeout` |
//! | addresses of a name | [`ADDRESSES_MAX`], each with its part of the time that is left |
//! | a message before the end of the login | 64 KiB |
//! | messages | 1,000 |
//!
//! Names are resolved for each attempt: after a failover a name may lead elsewhere. TLS follows libpq's `sslmode` (`prefer`
//! goes on without TLS only if the server says that it has none); there is none over Unix sockets. Exactly one byte is
//! read in answer to the request for TLS, so nothing that was sent in clear can pass for the server's word later.
//!
//! Cancel safety: a future that is dropped closes its socket. Not here: who asks for connections, and how many.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::auth::Secret;
use crate::login::server::{ServerLogin, ServerLoginError, ServerSession, ServerStep};
use crate::plan::{ServerAddress, ServerPlan, ServerTlsPlan};
use crate::wire::backend::Fields;
use crate::wire::{WireError, frontend, tag};

mod link;

pub(crate) use link::Link;
pub use link::OpenSocket;

/// Addresses of one name that are tried at most.
pub const ADDRESSES_MAX: usize = 8;
/// A message that comes before the end of a login is shorter: libpq allows 30,000 bytes for an error.
const MESSAGE_MAX: usize = 64 * 1024;
/// A login takes fewer messages: one for each setting that is reported, a few of authentication, some notices.
const MESSAGES_MAX: usize = 1_000;

/// Where a connection went, resolved: a cancellation goes to the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A connection that is logged in and free.
pub struct Opened {
    /// The socket, non-blocking.
    pub socket: OpenSocket,
    /// The TLS session on it.
    pub tls: Option<Box<rustls::ClientConnection>>,
    /// What the server said.
    pub session: ServerSession,
    /// What was read (and decrypted) beyond `ReadyForQuery`; usually nothing.
    pub rest: Vec<u8>,
    /// The server.
    pub server: ServerPlan,
    /// Where that was.
    pub address: Address,
}

/// How to reach a server with TLS.
#[derive(Debug, Clone, Copy)]
pub struct Security<'a> {
    /// What is asked of the server.
    pub plan: &'a ServerTlsPlan,
    /// The same as a configuration: [`crate::tls::connect_config`].
    pub config: &'a Arc<ClientConfig>,
}

/// Who opens what.
#[derive(Debug, Clone)]
pub struct Account<'a> {
    /// The database, by its name at the server.
    pub database: &'a str,
    /// The user.
    pub user: &'a str,
    /// What shows that we may.
    pub secret: Secret,
    /// Settings that the session begins with, such as `application_name`.
    pub settings: &'a [(&'a str, &'a str)],
}

/// Why there is no connection. Texts name the server and are fit to be shown to people.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name leads nowhere.
    #[error("the name of {server} cannot be resolved: {source}")]
    Resolve {
        /// The server.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// No connection came about.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// The server.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// The server has no TLS, and it is required.
    #[error("{server} does not offer TLS, which is required (server_tls)")]
    NoTls {
        /// The server.
        server: String,
    },
    /// TLS did not come about.
    #[error("TLS with {server} failed: {source}")]
    Tls {
        /// The server.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke during the login.
    #[error("the connection to {server} broke during the login: {source}")]
    Broke {
        /// The server.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// What the server sent is not the protocol.
    #[error("{server} does not speak the protocol: {source}")]
    Wire {
        /// The server.
        server: String,
        /// What is wrong.
        source: WireError,
    },
    /// What the server sent has no end.
    #[error("{server} does not speak the protocol: its login has no end")]
    Endless {
        /// The server.
        server: String,
    },
    /// The server did not let us in, or we do not trust it.
    #[error("{server}: {source}")]
    Login {
        /// The server.
        server: String,
        /// Why.
        source: ServerLoginError,
    },
    /// It took too long.
    #[error("no session at {server} within {after:?}")]
    Timeout {
        /// The server.
        server: String,
        /// How long was waited.
        after: Duration,
    },
    /// There is no primary to connect to.
    #[error("{0}")]
    NoPrimary(Arc<str>),
    /// The server is not the primary any more.
    #[error("{server} is not the primary any more")]
    NotPrimary {
        /// The server.
        server: String,
    },
}

impl OpenError {
    /// The SQLSTATE that a client is told.
    pub fn sqlstate(&self) -> &str {
        match self {
            OpenError::Login { source, .. } => source.sqlstate(),
            OpenError::Wire { source, .. } => source.sqlstate(),
            OpenError::Endless { .. } => "08P01",
            OpenError::NoPrimary(_) | OpenError::NotPrimary { .. } => "57P03",
            OpenError::Broke { .. } => "08006",
            _ => "08001",
        }
    }

    /// Whether the same attempt may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            OpenError::NoTls { .. } | OpenError::Wire { .. } | OpenError::Endless { .. } => false,
            OpenError::Tls { source, .. } => source.kind() != io::ErrorKind::InvalidData,
            OpenError::Login { source, .. } => is_transient(source.sqlstate()),
            _ => true,
        }
    }

    /// Whether the server takes no sessions: nobody listens, or it is starting up or shutting down.
    pub fn is_gone(&self) -> bool {
        match self {
            OpenError::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
            ),
            OpenError::Broke { .. } => true,
            OpenError::Login { source, .. } => is_shutdown(source.sqlstate()),
            _ => false,
        }
    }
}

/// Whether an SQLSTATE is of those that pass: connections are used up, or the server is starting or stopping.
pub(crate) fn is_transient(sqlstate: &str) -> bool {
    is_shutdown(sqlstate) || sqlstate.starts_with("53") || sqlstate.starts_with("08")
}

/// Whether an SQLSTATE says that the server ends or is not there yet.
pub(crate) fn is_shutdown(sqlstate: &str) -> bool {
    matches!(sqlstate, "57P01" | "57P02" | "57P03")
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("address", &self.address)
            .field("is_tls", &self.tls.is_some())
            .field("rest", &self.rest.len())
            .finish_non_exhaustive()
    }
}

/// Opens a connection and logs in.
///
/// # Errors
/// [`OpenError`]; the socket is closed then.
pub async fn open(
    server: &ServerPlan,
    security: Security<'_>,
    account: Account<'_>,
    timeout: Duration,
) -> Result<Opened, OpenError> {
    let live = session(server, security, account, timeout).await?;
    Opened::from_live(server, live)
}

impl Opened {
    pub(crate) fn from_live(server: &ServerPlan, live: Live) -> Result<Opened, OpenError> {
        let broke = |source| OpenError::Broke { server: server.name.clone(), source };
        let (socket, tls) = live.link.into_parts().map_err(broke)?;
        let (session, rest, address) = (live.session, live.rest, live.address);
        Ok(Opened { socket, tls, session, rest, server: server.clone(), address })
    }
}

/// A session in the hands of the control runtime.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) link: Link,
    pub(crate) session: ServerSession,
    pub(crate) rest: Vec<u8>,
    pub(crate) address: Address,
}

/// Opens a session that stays with the control runtime.
pub(crate) async fn session(
    server: &ServerPlan,
    security: Security<'_>,
    account: Account<'_>,
    timeout: Duration,
) -> Result<Live, OpenError> {
    let late = |_| OpenError::Timeout { server: server.name.clone(), after: timeout };
    let attempt = Box::pin(attempt(server, security, account, timeout));
    tokio::time::timeout(timeout, attempt).await.map_err(late)?
}

async fn attempt(
    server: &ServerPlan,
    security: Security<'_>,
    account: Account<'_>,
    timeout: Duration,
) -> Result<Live, OpenError> {
    let addresses =
        resolve(&server.address).await.map_err(|source| OpenError::Resolve { server: server.name.clone(), source })?;
    let part = timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let (address, link) =
        connect(addresses, part).await.map_err(|source| OpenError::Connect { server: server.name.clone(), source })?;
    let link = link.secure(server, security).await?;
    log_in(server, link, address, account).await
}

/// The addresses of a server, as they are now.
pub(crate) async fn resolve(address: &ServerAddress) -> io::Result<Vec<Address>> {
    match address {
        ServerAddress::Unix(path) => Ok(vec![Address::Unix(path.clone())]),
        ServerAddress::Tcp { host, port } => {
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let found = tokio::net::lookup_host((host, *port)).await?;
            let found: Vec<Address> = found.take(ADDRESSES_MAX).map(Address::Tcp).collect();
            if found.is_empty() { Err(io::Error::new(io::ErrorKind::NotFound, "no addresses")) } else { Ok(found) }
        }
    }
}

/// Connects to the first that takes it; each gets `part` of the time.
async fn connect(addresses: Vec<Address>, part: Duration) -> io::Result<(Address, Link)> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for address in addresses {
        match tokio::time::timeout(part, Link::connect(&address)).await {
            Ok(Ok(link)) => return Ok((address, link)),
            Ok(Err(error)) => last = error,
            Err(_late) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(last)
}

async fn log_in(
    server: &ServerPlan,
    mut link: Link,
    address: Address,
    account: Account<'_>,
) -> Result<Live, OpenError> {
    let name = || server.name.clone();
    let broke = |source| OpenError::Broke { server: name(), source };
    let wire = |source| OpenError::Wire { server: name(), source };
    let mut out = Vec::with_capacity(512);
    let mut parameters = vec![("user", account.user), ("database", account.database)];
    parameters.extend_from_slice(account.settings);
    frontend::put_startup(&mut out, 0, &parameters);
    let mut login = ServerLogin::begin(account.secret, account.user, link.channel());
    let mut rest = Vec::with_capacity(1024);
    let mut messages = 0;
    loop {
        if !out.is_empty() {
            link.write_all(&out).await.map_err(broke)?;
            out.clear();
        }
        let Some(frame) = link.next(&mut rest, MESSAGE_MAX).await.map_err(broke)?.map_err(wire)? else {
            return Err(broke(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server")));
        };
        messages += 1;
        if messages > MESSAGES_MAX {
            return Err(OpenError::Endless { server: name() });
        }
        let step = login.message(frame.tag, &rest[crate::wire::HEADER..frame.len], &mut out);
        let step = step.map_err(|source| OpenError::Login { server: name(), source })?;
        rest.drain(..frame.len);
        if let ServerStep::Ready(session) = step {
            return Ok(Live { link, session, rest, address });
        }
    }
}

/// The text of an `ErrorResponse`, and its SQLSTATE.
pub(crate) fn refusal(body: &[u8]) -> (String, String) {
    match Fields::read(body) {
        Ok(fields) => (fields.sqlstate().to_owned(), fields.message()),
        Err(error) => (error.sqlstate().to_owned(), error.to_string()),
    }
}

/// Whether a message may come at any time and says nothing about the step.
pub(crate) fn is_aside(tag: u8) -> bool {
    matches!(tag, tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION)
}
