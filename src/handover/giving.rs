//! The side that is replaced: waits at the socket, hands duplicates of its listening sockets to whoever may have them,
//! and lets go once the next process accepts.
//!
//! From the moment the sockets are sent the gateway counts them as held elsewhere, so that even a stop that begins
//! meanwhile leaves them to the next process; if nothing comes of the hand-over they are its own again. The socket's path
//! is replaced, never shared: the next process puts its own in the same place, and each removes only its own.
//!
//! Limits: [`CALLERS`] connections at a time, of which one takes over.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway::Gateway;
use kernel::{DrainPhase, DrainTrigger};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{
    FromNew, FromOld, Held, LINE_WITHIN, MAX_REGISTERED, Named, READY_WITHIN, SOCKET, VERSION, asking, told, wire,
};
use crate::discovery::Discovery;
use crate::service_manager::ServiceManager;

/// Connections that are listened to at a time; further ones wait.
const CALLERS: usize = 4;
/// How often it is looked whether the socket is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a node hands over, and to whom it says so.
#[derive(Debug)]
pub struct Giving {
    directory: PathBuf,
    /// The gateway's listeners first, in the gateway's order; empty once they are let go.
    doors: Mutex<Vec<Held>>,
    gateway: Arc<Gateway>,
    discovery: Discovery,
    manager: Arc<ServiceManager>,
    trigger: DrainTrigger,
    /// Whether somebody is taking over.
    busy: AtomicBool,
    /// Who has asked last.
    heard: AtomicU32,
    /// The socket in the directory, by inode.
    own: Mutex<Option<u64>>,
}

impl Giving {
    /// Nothing is handed over before [`Giving::open`]. `doors` begins with the gateway's listeners, in its order.
    pub fn new(
        directory: PathBuf,
        doors: Vec<Held>,
        gateway: Arc<Gateway>,
        discovery: Discovery,
        manager: Arc<ServiceManager>,
        trigger: DrainTrigger,
    ) -> Giving {
        let giving = Giving {
            directory,
            doors: Mutex::new(doors),
            gateway,
            discovery,
            manager,
            trigger,
            busy: AtomicBool::new(false),
            heard: AtomicU32::new(0),
            own: Mutex::default(),
        };
        giving.mark(&[]);
        giving
    }

    /// Tells the gateway which of its listeners another process holds: those of a service manager, and `theirs`.
    fn mark(&self, theirs: &[SocketAddr]) {
        for (which, door) in self.doors.lock().unwrap_or_else(PoisonError::into_inner).iter().enumerate() {
            self.gateway.set_held_elsewhere(which, door.kept || theirs.contains(&door.address));
        }
    }

    /// All listeners are served by another process: the gateway is to leave them alone.
    pub fn leave(&self) {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<SocketAddr> = doors.iter().map(|door| door.address).collect();
        drop(doors);
        self.mark(&all);
        self.close();
    }

    /// Lets go of the sockets and of the place in the directory.
    pub fn close(&self) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let Some(own) = self.own.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let path = self.directory.join(SOCKET);
        if fs::symlink_metadata(&path).is_ok_and(|there| there.ino() == own) {
            // Whoever finds it all the same is refused by the system, and takes it for what it is.
            let _removed = fs::remove_file(&path).is_ok();
        }
    }

    /// Takes the place in the directory, so that whoever comes from now on is heard; `None`: it cannot be had, which is
    /// said. `in_place`: whoever is there now is the one whose place this process took. A few calls to the file system.
    pub fn open(&self, in_place: bool) -> Option<UnixListener> {
        match self.bind(in_place) {
            Ok(listener) => Some(listener),
            Err(error) => {
                let place = self.directory.join(SOCKET).display().to_string();
                tracing::warn!(%error, place, "no other process can take over from this one");
                None
            }
        }
    }

    /// Answers whoever comes until a stop begins or somebody has taken over.
    pub async fn listen(self: Arc<Self>, mut listener: UnixListener) {
        let mut drain = self.trigger.subscribe();
        let callers = Arc::new(Semaphore::new(CALLERS));
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let next = async {
                // The semaphore is never closed, so a permit always comes in the end.
                let permit = callers.clone().acquire_owned().await.ok()?;
                Some((permit, listener.accept().await))
            };
            let accepted = tokio::select! {
                () = drain.reached(DrainPhase::Draining) => return,
                _ = looks.tick() => {
                    if let Some(anew) = self.stand_again() {
                        listener = anew;
                    }
                    continue;
                }
                accepted = next => accepted,
            };
            match accepted {
                Some((permit, Ok((stream, _)))) => {
                    let giving = self.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        giving.answer(stream).await;
                    });
                }
                Some((_, Err(error))) => {
                    tracing::warn!(%error, "cannot accept at the hand-over's socket");
                    tokio::time::sleep(LINE_WITHIN).await;
                }
                None => return,
            }
        }
    }

    /// Takes the place in the directory again if it is gone, as when somebody has removed the directory. Where somebody else
    /// stands now, nothing is done. A few calls to the file system.
    fn stand_again(&self) -> Option<UnixListener> {
        let stood = self.own.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let gone = fs::symlink_metadata(self.directory.join(SOCKET))
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let anew = (stood && gone).then(|| self.bind(true))?;
        anew.inspect_err(|error| tracing::debug!(%error, "the hand-over's socket is gone and cannot be made anew")).ok()
    }

    /// Whether this process has ever asked for the sockets.
    pub fn has_heard_of(&self, pid: u32) -> bool {
        self.heard.load(Ordering::Acquire) == pid
    }

    /// Puts a socket into the directory, in the place of one whose process has ended or was replaced.
    fn bind(&self, in_place: bool) -> io::Result<UnixListener> {
        if !in_place && let Some(pid) = asking::who(&self.directory) {
            return Err(io::Error::other(format!("process {pid} runs with this directory already")));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let path = self.directory.join(SOCKET);
        let new = self.directory.join(format!("{SOCKET}.{}", std::process::id()));
        remove(&new)?;
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        let own = fs::symlink_metadata(&new)?.ino();
        fs::rename(&new, &path)?;
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        Ok(listener)
    }

    /// Answers one caller, whatever it wants.
    async fn answer(&self, mut stream: UnixStream) {
        let own = rustix::process::geteuid().as_raw();
        let peer = match stream.peer_cred() {
            Ok(peer) if peer.uid() == own || peer.uid() == 0 => peer,
            _ => return self.refuse(&mut stream, 0, "only its own user and root may ask this process").await,
        };
        let pid = peer.pid().map_or(0, i32::unsigned_abs);
        match tokio::time::timeout(LINE_WITHIN, wire::receive::<FromNew>(&mut stream)).await {
            Ok(Ok(Some(FromNew::TakeOver { version: VERSION, release, .. }))) => {
                if self.busy.swap(true, Ordering::AcqRel) {
                    return self.refuse(&mut stream, pid, "another process is taking over already").await;
                }
                self.heard.store(pid, Ordering::Release);
                told::asked(pid, &release);
                self.give(&mut stream, pid).await;
                self.busy.store(false, Ordering::Release);
            }
            Ok(Ok(Some(FromNew::TakeOver { version, .. }))) => {
                let why = format!("it speaks version {version} of the hand-over, and this process {VERSION}");
                self.refuse(&mut stream, pid, &why).await;
            }
            // Whoever only looks who is there says nothing.
            Ok(Ok(None)) => {}
            other => tracing::debug!(pid, ?other, "nothing to answer at the hand-over's socket"),
        }
    }

    /// Says no, as far as somebody listens.
    async fn refuse(&self, stream: &mut UnixStream, pid: u32, why: &str) {
        told::refused(self.gateway.journal(), pid, why);
        let refused = FromOld::Refused { why: why.to_owned() };
        let _heard = matches!(tokio::time::timeout(LINE_WITHIN, wire::send(stream, &refused, &[])).await, Ok(Ok(())));
    }

    /// Hands everything over, or nothing.
    async fn give(&self, stream: &mut UnixStream, pid: u32) {
        let (message, duplicates) = match self.message() {
            Ok(prepared) => prepared,
            Err(error) => return self.refuse(stream, pid, &format!("its sockets cannot be duplicated: {error}")).await,
        };
        let theirs: Vec<SocketAddr> = duplicates.iter().map(|door| door.address).collect();
        self.mark(&theirs);
        let ready = async {
            let descriptors: Vec<_> = duplicates.iter().map(|door| door.socket.as_fd()).collect();
            wire::send(stream, &message, &descriptors).await?;
            wire::receive::<FromNew>(stream).await
        };
        let why = match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(Ok(Some(FromNew::Ready { keeps }))) => {
                drop(duplicates);
                return self.let_go(stream, pid, &keeps).await;
            }
            Ok(Ok(Some(FromNew::TakeOver { .. }))) => "it asked a second time".to_owned(),
            Ok(Ok(None)) => "it ended before it was ready".to_owned(),
            Ok(Err(error)) => format!("it ended before it was ready: {error}"),
            Err(_) => format!("it was not ready within {READY_WITHIN:?}"),
        };
        self.mark(&[]);
        self.refuse(stream, pid, &why).await;
    }

    fn message(&self) -> io::Result<(FromOld, Vec<Held>)> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let duplicates = doors.iter().map(Held::duplicate).collect::<io::Result<Vec<Held>>>()?;
        drop(doors);
        let sockets = duplicates.iter().map(|door| Named { name: door.name.clone(), kept: door.kept }).collect();
        let mut registered = self.discovery.registered();
        registered.truncate(MAX_REGISTERED);
        let release = env!("CARGO_PKG_VERSION").to_owned();
        Ok((FromOld::Listeners { version: VERSION, pid: std::process::id(), release, sockets, registered }, duplicates))
    }

    /// The next process accepts.
    async fn let_go(&self, stream: &mut UnixStream, pid: u32, keeps: &[SocketAddr]) {
        self.mark(keeps);
        // From here on the service manager hears of the next process only.
        self.manager.be_silent();
        // If a drain has begun it goes on as it is; what the next process keeps is left to it all the same.
        let _moved = self.trigger.hand_over();
        self.close();
        told::done(pid);
        if let Err(error) = wire::send(stream, &FromOld::Done, &[]).await {
            tracing::debug!(pid, %error, "the next process does not hear that it is alone; it finds out");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
