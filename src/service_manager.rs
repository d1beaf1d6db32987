//! The service manager that started this process, if one did: what it is told (sd_notify(3)), and the sockets that it
//! passed (sd_listen_fds(3)). Without one, nothing is said and nothing is there.
//!
//! | when | what is said |
//! | --- | --- |
//! | everything is served | `READY=1`, `STATUS=` |
//! | in the place of another process | the same with `MAINPID=` |
//! | a reload | `RELOADING=1`, `MONOTONIC_USEC=`; at its end `READY=1`, `STATUS=` |
//! | a stop begins | `STOPPING=1`, `STATUS=` |
//! | at half of `WATCHDOG_USEC` | `WATCHDOG=1`, if control plane and workers turn |
//! | after a hand-over | nothing any more: the next process speaks |
//!
//! Sockets are told apart by address, and by `LISTEN_FDNAMES` where that is the name of a listener, `gateway`, `admin`,
//! `api` or `pool.NAME`. A name of an abstract socket in `NOTIFY_SOCKET` is not understood.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::handover::{Held, MAX_SOCKETS};

/// See the module.
#[derive(Debug, Default)]
pub struct ServiceManager {
    silent: AtomicBool,
    stops: AtomicBool,
}

/// The sockets that the service manager passed. Call it once, before there is any other thread: the variables that
/// announce them are taken out of the environment, so that no child believes that they are meant for it.
///
/// # Errors
/// If one is no TCP socket that listens, or there are more than [`MAX_SOCKETS`].
pub fn sockets() -> io::Result<Vec<Held>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    if passed.len() > MAX_SOCKETS {
        return Err(io::Error::other(format!("{} sockets were passed; {MAX_SOCKETS} can be used", passed.len())));
    }
    let mut names = names.split(':');
    let mut sockets = Vec::new();
    for n in 0..passed.len() {
        let name = names.next().unwrap_or_default().to_owned();
        if let Some(socket) = passed.take_tcp_listener(n)? {
            sockets.push(Held::new(name, socket, true)?);
        }
    }
    Ok(sockets)
}

/// How long the service manager waits for a sign of life, if it waits for one.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

impl ServiceManager {
    /// Everything is served; `in_place`: by this process in the place of another.
    pub fn ready(&self, status: &str, in_place: bool) {
        let mut states = vec![NotifyState::Ready, NotifyState::Status(status)];
        if in_place {
            states.insert(0, NotifyState::MainPid(std::process::id()));
        }
        self.say_unless_it_stops(&states);
    }

    /// A reload begins; [`ServiceManager::ready`] ends it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.say_unless_it_stops(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "the service manager is not told of the reload"),
        }
    }

    /// A stop begins.
    pub fn stopping(&self, status: &str) {
        self.stops.store(true, Ordering::Release);
        self.say(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// This process turns.
    pub fn alive(&self) {
        self.say(&[NotifyState::Watchdog]);
    }

    /// Says nothing any more.
    pub fn be_silent(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// A reload that ends during a stop makes nothing ready.
    fn say_unless_it_stops(&self, states: &[NotifyState<'_>]) {
        if !self.stops.load(Ordering::Acquire) {
            self.say(states);
        }
    }

    fn say(&self, states: &[NotifyState<'_>]) {
        if self.silent.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}
