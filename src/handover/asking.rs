//! The side that takes over: finds the node that runs, gets its sockets, and tells it when it is no longer needed.
//!
//! All of it blocks; it runs while the node is built, before anything is served. Whoever drops [`Asking`] before
//! [`Asking::ready`] leaves the old node as it was.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;

use super::wire::Blocking;
use super::{FromNew, FromOld, Held, LINE_WITHIN, Named, SOCKET, VERSION, told};
use crate::discovery::Registration;

/// A node that waits for this one to be ready.
#[derive(Debug)]
pub struct Asking {
    connection: Blocking,
    pid: u32,
    release: String,
}

impl Asking {
    /// The process that is asked.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// What came from it.
#[derive(Debug)]
pub struct Taken {
    /// The node.
    pub asking: Asking,
    /// Its sockets.
    pub sockets: Vec<Held>,
    /// The endpoints that registered with it.
    pub registered: Vec<Registration>,
}

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The node that runs says no.
    #[error("the node that runs hands nothing over: {0}")]
    Refused(String),
    /// Somebody else's socket.
    #[error("{0} belongs to another user; nothing is taken from it")]
    Foreign(String),
    /// Talking to it failed.
    #[error("cannot take over from the node that runs: {0}")]
    Io(#[from] io::Error),
}

/// The process that waits at the socket in `directory`, if one does.
pub fn who(directory: &Path) -> Option<u32> {
    let stream = UnixStream::connect(directory.join(SOCKET)).ok()?;
    socket_peercred(&stream).ok().map(|peer| peer.pid.as_raw_nonzero().get().unsigned_abs())
}

/// Asks the node that runs with this store for its sockets; `None`: there is none.
///
/// # Errors
/// If there is one and it does not hand over.
pub fn take_over(directory: &Path) -> Result<Option<Taken>, AskError> {
    let path = directory.join(SOCKET);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            told::nobody(&path);
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let peer = socket_peercred(&stream).map_err(io::Error::from)?;
    let own = rustix::process::geteuid();
    if peer.uid != own && !peer.uid.is_root() && !own.is_root() {
        return Err(AskError::Foreign(path.display().to_string()));
    }
    let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
    let mut connection = Blocking(stream);
    let release = env!("CARGO_PKG_VERSION").to_owned();
    let asked = FromNew::TakeOver { version: VERSION, pid: std::process::id(), release };
    let answer = connection.send(&asked, LINE_WITHIN).and_then(|()| connection.receive::<FromOld>(LINE_WITHIN));
    match answer {
        Ok(Some((FromOld::Listeners { release, sockets, registered, .. }, descriptors))) => {
            let sockets = pair(sockets, descriptors)?;
            Ok(Some(Taken { asking: Asking { connection, pid, release }, sockets, registered }))
        }
        Ok(Some((FromOld::Refused { why }, _))) => Err(AskError::Refused(why)),
        Ok(Some((FromOld::Done, _))) => Err(AskError::Refused("it says that it is done before it began".to_owned())),
        // It ended between the connection and its answer: what it had is free.
        Ok(None) => {
            told::nobody(&path);
            Ok(None)
        }
        Err(error) if is_gone(&error) => {
            told::nobody(&path);
            Ok(None)
        }
        Err(error) if is_late(&error) => {
            Err(AskError::Refused(format!("process {pid} has said nothing for {LINE_WITHIN:?}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Each descriptor with what it is.
fn pair(names: Vec<Named>, descriptors: Vec<OwnedFd>) -> io::Result<Vec<Held>> {
    if names.len() != descriptors.len() {
        let text = format!("{} sockets were announced, {} came", names.len(), descriptors.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    names.into_iter().zip(descriptors).map(|(n, d)| Held::new(n.name, TcpListener::from(d), n.kept)).collect()
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Asking {
    /// Says that this process accepts on `keeps`, and waits until the old one does so no more. Blocks.
    ///
    /// # Errors
    /// If the old one goes on all the same, as it does when it waited too long: this process is not to serve then.
    pub fn ready(mut self, keeps: Vec<SocketAddr>) -> Result<(), AskError> {
        let said = self.connection.send(&FromNew::Ready { keeps }, LINE_WITHIN);
        match said.and_then(|()| self.connection.receive::<FromOld>(LINE_WITHIN)) {
            Ok(Some((FromOld::Done, _))) => told::taken_over(self.pid, &self.release),
            Ok(Some((FromOld::Refused { why }, _))) => return Err(AskError::Refused(why)),
            Ok(Some((FromOld::Listeners { .. }, _))) => {
                return Err(AskError::Refused("it begins anew in the middle".to_owned()));
            }
            // Whoever stands still does not accept either, and reads our line first when it goes on.
            Err(error) if is_late(&error) => told::taken_over(self.pid, &self.release),
            Ok(None) => told::orphaned(self.pid),
            Err(error) if is_gone(&error) => told::orphaned(self.pid),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
