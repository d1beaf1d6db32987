//! The listening sockets of pools: TCP as for everything else, and Unix sockets, which are bound here.
//!
//! ```text
//! bind  => hidden   bound under a name of this process, beside the path of the configuration
//! show  => shown    renamed to that path when the node serves; what was there before is kept under another name
//! serves=> kept     what was there before goes
//!       => back     the node that was to be replaced stays: its socket has its name again
//! stop  => gone     unless another process has put its own there
//! ```
//! So at each moment somebody answers at the path, and a take-over that fails takes nothing from the node that stays. Who is
//! connected stays connected. As PostgreSQL's, the sockets are open to every user of the machine: the directory and the
//! login say who may come in. A file that is no socket, or a socket that another process answers, is left alone.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pool::PoolSocket;
use pool::plan::Listen;

use crate::app::{PoolAddress, StartError};
use crate::config::Compiled;
use crate::handover::Held;

/// The files of the Unix sockets that this process has bound.
#[derive(Debug, Default)]
pub(crate) struct UnixSockets(Mutex<Vec<Place>>);

#[derive(Debug)]
struct Place {
    /// Where clients look for it.
    path: PathBuf,
    /// Where it was bound.
    hidden: PathBuf,
    /// Where the one is that was there before, as long as it may be wanted.
    before: Option<PathBuf>,
    is_shown: bool,
    /// Which file it is: device and number.
    file: (u64, u64),
}

/// Every socket of the pools, and the files of those that have one.
///
/// # Errors
/// If a Unix socket cannot be bound.
pub(crate) fn sockets(
    compiled: &Compiled,
    tcp: Vec<(SocketAddr, Held)>,
    is_taking_over: bool,
) -> Result<(Vec<PoolSocket>, UnixSockets), StartError> {
    let mut sockets: Vec<PoolSocket> =
        tcp.into_iter().map(|(address, held)| PoolSocket::Tcp(Listen::Tcp(address), held.socket)).collect();
    // What was bound before an error goes with it.
    let mut files = UnixSockets::default();
    let mut seen: Vec<&Path> = Vec::new();
    for pool in &compiled.pools.pools {
        for listen in &pool.listen {
            let Listen::Unix(path) = listen else { continue };
            if seen.contains(&path.as_path()) {
                continue;
            }
            seen.push(path);
            let socket = files.bind(path, is_taking_over).map_err(|error| StartError::System {
                what: format!("listen on {} for pool {}", path.display(), pool.name),
                error,
            })?;
            sockets.push(PoolSocket::Unix(listen.clone(), socket));
        }
    }
    Ok((sockets, files))
}

/// Where the pools listen: each with each of its addresses, as they are bound. Pools may share one.
pub(crate) fn addresses(compiled: &Compiled, tcp: &[(SocketAddr, Held)]) -> Vec<(String, PoolAddress)> {
    let mut all = Vec::new();
    for pool in &compiled.pools.pools {
        for listen in &pool.listen {
            let found = match listen {
                Listen::Unix(path) => Some(PoolAddress::Unix(path.clone())),
                Listen::Tcp(address) => {
                    // Of addresses with any port each pool has its own.
                    let own = format!("pool.{}", pool.name);
                    let is_it = |(wanted, held): &&(SocketAddr, Held)| {
                        wanted == address && (address.port() != 0 || held.name == own)
                    };
                    tcp.iter().find(is_it).map(|(_, held)| PoolAddress::Tcp(held.address))
                }
            };
            all.extend(found.map(|found| (pool.name.clone(), found)));
        }
    }
    all
}

impl UnixSockets {
    fn bind(&mut self, path: &Path, is_taking_over: bool) -> io::Result<UnixListener> {
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "a file that is no socket is there"));
            }
            if !is_taking_over && UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
            }
        }
        let places = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Short: there is room for about 100 bytes in an address.
        let hidden = path.with_file_name(format!(".ek{}.{}", std::process::id(), places.len()));
        // Of a process before that had the same number.
        drop(std::fs::remove_file(&hidden));
        let socket = UnixListener::bind(&hidden)?;
        let mut place =
            Place { path: path.to_owned(), hidden: hidden.clone(), before: None, is_shown: false, file: (0, 0) };
        let found = std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o777))
            .and_then(|()| std::fs::symlink_metadata(&hidden));
        place.file = found.as_ref().map_or((0, 0), |found| (found.dev(), found.ino()));
        places.push(place);
        found.map(|_| socket)
    }

    /// Gives the sockets their names.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn show(&self) -> io::Result<()> {
        for place in self.lock().iter_mut().filter(|place| !place.is_shown) {
            let mut before = place.hidden.clone().into_os_string();
            before.push(".before");
            let before = PathBuf::from(before);
            drop(std::fs::remove_file(&before));
            match std::fs::hard_link(&place.path, &before) {
                Ok(()) => place.before = Some(before),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Where there are no links it is not kept.
                Err(error) => tracing::debug!(%error, path = %place.path.display(), "a socket cannot be kept"),
            }
            std::fs::rename(&place.hidden, &place.path)?;
            place.is_shown = true;
        }
        Ok(())
    }

    /// What was there before is not wanted any more.
    pub(crate) fn keep(&self) {
        for before in self.lock().iter_mut().filter_map(|place| place.before.take()) {
            drop(std::fs::remove_file(before));
        }
    }

    /// The sockets that were there before have their names again; otherwise the names are given up.
    pub(crate) fn remove(&self) {
        for place in self.lock().drain(..) {
            let now = if place.is_shown { &place.path } else { &place.hidden };
            let is_own = std::fs::symlink_metadata(now).is_ok_and(|found| (found.dev(), found.ino()) == place.file);
            let done = match (place.before, is_own) {
                (Some(before), true) => std::fs::rename(before, now),
                (Some(before), false) => std::fs::remove_file(before),
                (None, true) => std::fs::remove_file(now),
                (None, false) => Ok(()),
            };
            if let Err(error) = done {
                tracing::warn!(%error, path = %now.display(), "a socket's file stays behind");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnixSockets {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let all = std::fs::read_dir(directory).unwrap();
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_socket_is_there_from_show_to_remove() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let mut files = UnixSockets::default();
        let _socket = files.bind(&path, false).unwrap();
        assert!(UnixStream::connect(&path).is_err());
        files.show().unwrap();
        files.keep();
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
        assert_eq!(names(directory.path()), ["s"]);
        assert!(UnixSockets::default().bind(&path, false).is_err(), "somebody answers there");
        files.remove();
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_take_over_that_fails_gives_the_name_back_and_one_that_succeeds_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let mut old = UnixSockets::default();
        let accepted = old.bind(&path, false).unwrap();
        old.show().unwrap();
        old.keep();
        let mut new = UnixSockets::default();
        let _failed = new.bind(&path, true).unwrap();
        new.show().unwrap();
        drop(new);
        accepted.set_nonblocking(true).unwrap();
        UnixStream::connect(&path).unwrap();
        accepted.accept().unwrap();
        let mut new = UnixSockets::default();
        let taken = new.bind(&path, true).unwrap();
        new.show().unwrap();
        new.keep();
        drop(old);
        taken.set_nonblocking(true).unwrap();
        UnixStream::connect(&path).unwrap();
        taken.accept().unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone_and_what_nobody_answers_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, stale) = (directory.path().join("f"), directory.path().join("s"));
        std::fs::write(&file, "mine").unwrap();
        assert!(UnixSockets::default().bind(&file, true).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        drop(UnixListener::bind(&stale).unwrap());
        let mut files = UnixSockets::default();
        let _socket = files.bind(&stale, false).unwrap();
        files.show().unwrap();
        UnixStream::connect(&stale).unwrap();
    }
}
