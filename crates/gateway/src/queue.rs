//! The connections of one endpoint over all workers: how many may be open, and who waits for one when all are.
//!
//! Open connections are counted by [`Slot`]s; a slot that is dropped goes to the one who has waited longest, else the
//! count falls. A worker that has done with a connection hands it over if someone waits. The uncontended path is one
//! compare-and-swap to open a connection and one load to keep one; the lock is taken only when somebody waits.
//!
//! Lost wake-ups are excluded by order: a waiter first announces itself, then looks for idle connections and free
//! slots; who frees something first makes it visible, then looks for waiters (all of it sequentially consistent).

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::Moment;
use tokio::sync::oneshot;

use crate::state::EndpointState;

/// Waiters for one endpoint, at most; beyond it a request is answered with `upstream-saturated` at once.
const WAITERS_MAX: usize = 4096;

/// The connections of one endpoint.
#[derive(Debug)]
pub(crate) struct WaitQueue {
    limit: AtomicU32,
    open: AtomicU32,
    waiting: AtomicU32,
    queue: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    next_ticket: u64,
    line: VecDeque<(u64, oneshot::Sender<Grant>)>,
}

/// The right to have one connection to an endpoint; given on or given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    endpoint: Arc<EndpointState>,
    /// False: somebody else accounts for it, and dropping it does nothing.
    armed: bool,
}

/// What a waiter gets.
#[derive(Debug)]
pub(crate) enum Grant {
    /// It may open a connection.
    Slot(Slot),
    /// An open, idle connection from another worker (or this one).
    Connection(Spare),
}

/// A connection on its way from one worker to another.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) io: TcpStream,
    pub(crate) slot: Slot,
    /// Since when it has been idle.
    pub(crate) since: Moment,
    /// What the endpoint announced with `Keep-Alive: timeout=`.
    pub(crate) announced: Option<Duration>,
}

/// A place in the line; leaving it (by drop) is noticed.
#[derive(Debug)]
pub(crate) struct Place {
    endpoint: Arc<EndpointState>,
    ticket: u64,
    grant: oneshot::Receiver<Grant>,
}

impl WaitQueue {
    pub(crate) fn new(limit: u32) -> WaitQueue {
        WaitQueue {
            limit: AtomicU32::new(limit),
            open: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queue: Mutex::default(),
        }
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Open connections, and those being opened.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for a connection.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < limit).then_some(n + 1)).is_ok()
    }
}

impl EndpointState {
    /// A slot, if fewer connections are open than may be.
    pub(crate) fn try_slot(self: &Arc<Self>) -> Option<Slot> {
        self.queue.claim().then(|| Slot { endpoint: self.clone(), armed: true })
    }

    /// A place in the line; `None` if the line is full.
    pub(crate) fn stand_in_line(self: &Arc<Self>) -> Option<Place> {
        let (tx, rx) = oneshot::channel();
        let mut waiters = self.queue.lock();
        if waiters.line.len() >= WAITERS_MAX {
            return None;
        }
        let ticket = waiters.next_ticket;
        waiters.next_ticket += 1;
        waiters.line.push_back((ticket, tx));
        self.queue.waiting.fetch_add(1, Ordering::SeqCst);
        Some(Place { endpoint: self.clone(), ticket, grant: rx })
    }

    /// Gives `grant` to the one who has waited longest; gives it back if nobody waits.
    pub(crate) fn offer(&self, grant: Grant) -> Option<Grant> {
        let mut waiters = self.queue.lock();
        let Some((_, tx)) = waiters.line.pop_front() else { return Some(grant) };
        self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        // Who leaves the line takes the lock first, so the receiver is there: this cannot fail.
        tx.send(grant).err()
    }
}

impl Slot {
    /// The endpoint it is for.
    pub(crate) fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }

    /// Drops the handle without giving anything back.
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let endpoint = &self.endpoint;
        // More open than may be (the limit was lowered): let this one go.
        let over = endpoint.queue.open() > endpoint.queue.limit.load(Ordering::Relaxed);
        if !over && endpoint.queue.has_waiters() {
            let heir = Slot { endpoint: endpoint.clone(), armed: true };
            match endpoint.offer(Grant::Slot(heir)) {
                None => return,
                Some(Grant::Slot(heir)) => heir.disarm(),
                Some(Grant::Connection(_)) => {}
            }
        }
        endpoint.queue.open.fetch_sub(1, Ordering::SeqCst);
        // A waiter that came after the look above saw the old count: it gets what is free now.
        while endpoint.queue.has_waiters() {
            let Some(slot) = endpoint.try_slot() else { return };
            if let Some(Grant::Slot(slot)) = endpoint.offer(Grant::Slot(slot)) {
                slot.disarm();
                endpoint.queue.open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

impl Place {
    /// Waits for a grant. Cancel safe: a grant that comes too late goes to the next in line.
    pub(crate) async fn granted(&mut self) -> Option<Grant> {
        (&mut self.grant).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiters = self.endpoint.queue.lock();
        if let Some(at) = waiters.line.iter().position(|(ticket, _)| *ticket == self.ticket) {
            waiters.line.remove(at);
            self.endpoint.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
