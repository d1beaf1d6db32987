//! The listening sockets of pools: TCP as for everything else, and Unix sockets, which are bound here. Another process's socket
//! file is replaced if nobody answers on it, or if it is the process whose place this one takes: what is connected there
//! stays connected.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use pool::PoolSocket;
use pool::plan::Listen;

use crate::app::StartError;
use crate::config::Compiled;
use crate::handover::{Held, asking};

/// Every socket of the pools.
///
/// # Errors
/// If a Unix socket cannot be bound.
pub(crate) fn sockets(compiled: &Compiled, tcp: Vec<(SocketAddr, Held)>) -> Result<Vec<PoolSocket>, StartError> {
    let mut sockets: Vec<PoolSocket> =
        tcp.into_iter().map(|(address, held)| PoolSocket::Tcp(Listen::Tcp(address), held.socket)).collect();
    let is_taking_over = asking::who(&compiled.store).is_some();
    let mut seen: Vec<&Path> = Vec::new();
    for pool in &compiled.pools.pools {
        for listen in &pool.listen {
            let Listen::Unix(path) = listen else { continue };
            if seen.contains(&path.as_path()) {
                continue;
            }
            seen.push(path);
            let socket = bind(path, is_taking_over).map_err(|error| StartError::System {
                what: format!("listen on {} for pool {}", path.display(), pool.name),
                error,
            })?;
            sockets.push(PoolSocket::Unix(listen.clone(), socket));
        }
    }
    Ok(sockets)
}

fn bind(path: &Path, is_taking_over: bool) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !is_taking_over && UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(error.kind(), "another process listens there"));
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}
