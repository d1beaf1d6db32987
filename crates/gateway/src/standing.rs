//! What stands outside of requests, shared by the workers and whoever started them: whether the gateway is open, which
//! listeners another process holds too, and a pulse of each worker.
//!
//! ```text
//! closed => open       nothing is accepted before; what comes waits in the queue of the socket
//! own    => elsewhere  another process (a service manager, or the next gateway) holds the same socket: at the end its
//!                      queue is left alone, because closing resets nothing then
//! ```
//! A worker beats at every look at its deadlines: at least once a second while it turns, later only if a task of it does
//! not come to an end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kernel::Moment;
use tokio::sync::watch;

/// See the module.
#[derive(Debug)]
pub(crate) struct Standing {
    open: watch::Sender<bool>,
    /// By listener. Set before the drain begins and read after that, whose own ordering would do; it is paid once.
    elsewhere: Box<[AtomicBool]>,
    /// By worker, when it beat last, in nanoseconds of the gateway's clock. Nothing follows from one for another.
    pulses: Box<[AtomicU64]>,
}

impl Standing {
    pub(crate) fn new(listeners: usize, workers: usize, now: Moment) -> Standing {
        Standing {
            open: watch::Sender::new(false),
            elsewhere: (0..listeners).map(|_| AtomicBool::new(false)).collect(),
            pulses: (0..workers).map(|_| AtomicU64::new(now.as_nanos())).collect(),
        }
    }

    /// Lets the workers accept.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until they may. Cancel safe.
    pub(crate) async fn opened(&self) {
        // The sender is this value itself, so it is not gone.
        let _gone = self.open.subscribe().wait_for(|open| *open).await.is_err();
    }

    /// Says whether another process holds the socket of a listener; one that does not exist is passed over.
    pub(crate) fn set_elsewhere(&self, listener: usize, held: bool) {
        if let Some(elsewhere) = self.elsewhere.get(listener) {
            elsewhere.store(held, Ordering::Release);
        }
    }

    pub(crate) fn is_elsewhere(&self, listener: usize) -> bool {
        self.elsewhere.get(listener).is_some_and(|held| held.load(Ordering::Acquire))
    }

    /// A worker turns.
    pub(crate) fn beat(&self, worker: usize, now: Moment) {
        if let Some(pulse) = self.pulses.get(worker) {
            pulse.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// How long the worker that has been silent longest has been so.
    pub(crate) fn silence(&self, now: Moment) -> Duration {
        let last = self.pulses.iter().map(|pulse| Moment::from_nanos(pulse.load(Ordering::Relaxed))).min();
        last.map_or(Duration::ZERO, |last| now.since(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_silent_worker_counts() {
        let standing = Standing::new(0, 3, Moment::ZERO);
        standing.beat(0, Moment::from_millis(900));
        standing.beat(2, Moment::from_millis(400));
        assert_eq!(standing.silence(Moment::from_millis(1000)), Duration::from_secs(1));
        standing.beat(1, Moment::from_millis(950));
        assert_eq!(standing.silence(Moment::from_millis(1000)), Duration::from_millis(600));
    }

    #[test]
    fn only_the_listener_that_was_named_is_elsewhere() {
        let standing = Standing::new(2, 1, Moment::ZERO);
        standing.set_elsewhere(1, true);
        standing.set_elsewhere(7, true);
        assert_eq!([0, 1, 7].map(|n| standing.is_elsewhere(n)), [false, true, false]);
        standing.set_elsewhere(1, false);
        assert!(!standing.is_elsewhere(1));
    }
}
