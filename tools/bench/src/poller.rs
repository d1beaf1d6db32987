//! Readiness of many sockets on one thread: level-triggered `epoll`, and waits to the nanosecond. `epoll_wait` alone
//! counts in milliseconds, so a wait with a limit is a `ppoll` on the epoll descriptor followed by an `epoll_wait` that
//! does not block. At the few thousand wake-ups a second of a load generator the extra call does not matter.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Events taken in one wait.
const EVENTS: usize = 256;

/// Watches sockets for something to read.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Poller {
    /// A poller that watches nothing yet.
    ///
    /// # Errors
    /// When the operating system gives no descriptor.
    pub fn new() -> std::io::Result<Poller> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS) })
    }

    /// Watches `socket`; its events carry `token`. Closing the socket ends it.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn watch(&self, socket: impl AsFd, token: usize) -> std::io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), EventFlags::IN)?)
    }

    /// Waits until a socket is readable or `within` has passed (`None`: without limit) and calls `ready` with the token of
    /// each readable socket.
    ///
    /// # Errors
    /// When waiting fails, or what `ready` returns.
    pub fn wait(
        &mut self,
        within: Option<Duration>,
        mut ready: impl FnMut(&Self, usize) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut blocking = None;
        if let Some(within) = within {
            let limit = Timespec { tv_sec: within.as_secs().cast_signed(), tv_nsec: within.subsec_nanos().into() };
            let mut watched = [PollFd::new(&self.epoll, PollFlags::IN)];
            match rustix::event::poll(&mut watched, Some(&limit)) {
                Ok(0) | Err(Errno::INTR) => return Ok(()),
                Ok(_) => blocking = Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
                Err(error) => return Err(error.into()),
            }
        }
        let mut events = std::mem::take(&mut self.events);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, buffer, blocking.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            ready(self, usize::try_from(event.data.u64()).unwrap_or(usize::MAX))?;
        }
        self.events = events;
        Ok(())
    }
}
