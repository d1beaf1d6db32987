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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::wire;
    use std::os::fd::AsFd as _;
    use tokio::net::UnixListener;

    /// A node that hands `listener` over as `names`, and answers a process that is ready with `last`.
    async fn old(place: UnixListener, listener: TcpListener, names: &[&str], last: Option<FromOld>) -> Option<FromNew> {
        let (mut stream, _) = place.accept().await.unwrap();
        let _asked = wire::receive::<FromNew>(&mut stream).await.unwrap().unwrap();
        let sockets = names.iter().map(|name| Named { name: (*name).to_owned(), kept: false }).collect();
        let release = "0".to_owned();
        let all = FromOld::Listeners { version: VERSION, pid: 1, release, sockets, registered: Vec::new() };
        wire::send(&mut stream, &all, &[listener.as_fd()]).await.unwrap();
        let ready = wire::receive::<FromNew>(&mut stream).await.unwrap();
        if let Some(last) = last {
            wire::send(&mut stream, &last, &[]).await.unwrap();
        }
        ready
    }

    async fn ask(names: &'static [&'static str], last: Option<FromOld>) -> (Result<(), AskError>, Option<FromNew>) {
        let directory = tempfile::tempdir().unwrap();
        let place = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let old = tokio::spawn(old(place, listener, names, last));
        let asking = tokio::task::spawn_blocking(move || {
            let taken = take_over(directory.path())?.unwrap();
            assert_eq!(taken.sockets[0].address, address);
            taken.asking.ready(vec![address])
        });
        (asking.await.unwrap(), old.await.unwrap())
    }

    #[tokio::test]
    async fn it_serves_when_the_old_one_is_done_or_gone() {
        for last in [Some(FromOld::Done), None] {
            let (outcome, ready) = ask(&["gateway"], last).await;
            assert!(outcome.is_ok(), "{outcome:?}");
            assert!(matches!(ready, Some(FromNew::Ready { keeps }) if keeps.len() == 1));
        }
    }

    #[tokio::test]
    async fn it_does_not_serve_when_the_old_one_goes_on() {
        let refused = FromOld::Refused { why: "too late".to_owned() };
        let (outcome, _) = ask(&["gateway"], Some(refused)).await;
        assert!(matches!(&outcome, Err(AskError::Refused(why)) if why == "too late"), "{outcome:?}");
    }

    #[tokio::test]
    async fn sockets_that_are_not_those_announced_are_not_used() {
        let (outcome, ready) = ask(&["gateway", "admin"], None).await;
        assert!(matches!(outcome, Err(AskError::Io(_))), "{outcome:?}");
        assert!(ready.is_none(), "the old one hears nothing but the end");
    }

    #[test]
    fn one_that_ends_before_it_answers_is_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let place = std::os::unix::net::UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        std::thread::scope(|scope| {
            // With the line unread the end is a reset, with nothing to read it is an end.
            scope.spawn(|| drop(place.accept().unwrap()));
            assert!(take_over(directory.path()).unwrap().is_none());
        });
        drop(place);
        assert!(take_over(directory.path()).unwrap().is_none(), "a socket that was left behind");
        assert!(take_over(&directory.path().join("nothing")).unwrap().is_none());
        assert_eq!(who(directory.path()), None);
    }
}
