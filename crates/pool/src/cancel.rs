//! A cancellation, sent to the server that it is for: one message on a connection of its own, and then waiting for the
//! server to close it. Only then is it known that the server has passed it on, and that it can hit no later query of the
//! same session; whoever sends one keeps the session back until this has returned.
//!
//! It goes to the address of the session itself, not to the name, which may lead elsewhere by now. TLS is used as for
//! sessions, so that the key is not seen by those who must not. Nothing comes back: whether a query was hit is seen in the
//! session.

use std::io;
use std::time::Duration;

use crate::connect::{Address, Link, OpenError, Security};
use crate::plan::ServerPlan;
use crate::wire::frontend;

/// Sends a cancellation and waits until the server has taken it.
///
/// # Errors
/// When it cannot be sent, or the server does not close the connection within `timeout`: the session may still be hit.
pub async fn send(
    server: &ServerPlan,
    address: &Address,
    security: Security<'_>,
    pid: i32,
    key: &[u8],
    timeout: Duration,
) -> io::Result<()> {
    let whole = Box::pin(async {
        let link = Link::connect(address).await?;
        let mut link = link.secure(server, security).await.map_err(plain)?;
        let mut message = Vec::with_capacity(32);
        frontend::put_cancel(&mut message, pid, key);
        link.write_all(&message).await?;
        // Nothing is expected but the end; what comes before it is not looked at, and is not much.
        let mut ignored = Vec::new();
        while link.read(&mut ignored).await.unwrap_or(0) > 0 {
            ignored.clear();
        }
        Ok(())
    });
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{} took no cancellation", server.name));
    tokio::time::timeout(timeout, whole).await.map_err(late)?
}

fn plain(error: OpenError) -> io::Error {
    match error {
        OpenError::Tls { source, .. } | OpenError::Broke { source, .. } => source,
        other => io::Error::other(other),
    }
}
