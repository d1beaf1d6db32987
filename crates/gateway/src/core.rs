//! One worker: what its connections share without locks, and what all workers share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use kernel::metrics::{Cell64, Sharded, Shared};
use kernel::{Clock, DrainPhase, Entropy, ErrorCode, Journal};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::access::AccessSink;
use crate::buf::BufferPool;
use crate::deadlines::Deadlines;
use crate::h1::{RequestParser, ResponseParser};
use crate::pool::Pool;
use crate::state::Snapshot;
use crate::story::{Stories, Story};
use crate::tallies::Leaving;

/// Scratch spaces that a worker keeps for reuse.
const SCRATCH_MAX: usize = 64;
/// A scratch vector that grew beyond this is not kept.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Commons {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Rises with each new snapshot; lets a worker see cheaply that its own is old.
    pub(crate) generation: AtomicU64,
    pub(crate) mailboxes: Box<[Mailbox]>,
    pub(crate) clock: Clock,
    pub(crate) clients: ClientCounts,
    pub(crate) edge: Sharded<EdgeCells>,
    pub(crate) access: AccessSink,
    /// What was done with requests, by worker.
    pub(crate) stories: Box<[Stories]>,
    pub(crate) journal: Journal,
    /// What no plan speaks of any more and may still count.
    pub(crate) leaving: Mutex<Vec<Leaving>>,
    /// Where work goes that is not data plane.
    pub(crate) control: Handle,
}

/// What happens at the edge, on one worker.
#[derive(Debug, Default)]
pub(crate) struct EdgeCells {
    pub(crate) accepted: Cell64,
    pub(crate) errors: [Cell64; ErrorCode::ALL.len()],
    pub(crate) bytes_out: Cell64,
    pub(crate) tunnels: Cell64,
}

/// How other workers ask one worker for something about an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    wake: Notify,
    /// Endpoint ids; each at most once, so it is bounded by the number of endpoints.
    wants: Mutex<HashMap<u32, Want>>,
}

/// What one worker asks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Want {
    /// Hand idle connections to those who wait in the endpoint's line.
    Spare,
    /// Close idle connections as far as they are demanded: new ones starve behind them.
    CloseIdle,
}

/// Connections by client address, and in all. Taken at accept only.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts {
    by_client: Mutex<HashMap<IpAddr, u32>>,
    total: Shared,
}

/// A snapshot as one worker holds it: cloning it touches no other worker's cache line.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Turns of the round robin, by service.
    turns: Box<[Cell<u64>]>,
}

/// Vectors and parsers of one connection that is being served.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) request: RequestParser,
    pub(crate) response: ResponseParser,
    /// What goes to the upstream.
    pub(crate) out: Vec<u8>,
    /// What goes to the client.
    pub(crate) answer: Vec<u8>,
    /// Normalised paths.
    pub(crate) path: Vec<u8>,
    /// Method, target and host for the access log, one behind the other.
    pub(crate) seen: Vec<u8>,
    /// The request id as text.
    pub(crate) id: Vec<u8>,
    /// What was done with the request.
    pub(crate) story: Story,
}

/// One worker's own things.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) index: usize,
    pub(crate) commons: Arc<Commons>,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) buffers: BufferPool,
    pub(crate) pool: Pool,
    pub(crate) entropy: RefCell<Entropy>,
    pub(crate) phase: Cell<DrainPhase>,
    /// While draining: whoever is idle may stay, because another process has taken the listeners over.
    pub(crate) patient: Cell<bool>,
    /// Open client connections of this worker.
    pub(crate) connections: Cell<u64>,
    /// Connections beyond the limits that are being dismissed.
    pub(crate) turned_away: Cell<u32>,
    /// Plain requests since the last one whose story was kept.
    pub(crate) plain: Cell<u64>,
    held: RefCell<Rc<Held>>,
    #[expect(
        clippy::vec_box,
        reason = "a scratch is handed out as its box: moving it would copy some 500 bytes per request"
    )]
    scratch: RefCell<Vec<Box<Scratch>>>,
}

impl Core {
    pub(crate) fn new(index: usize, commons: Arc<Commons>, entropy: Entropy) -> Rc<Core> {
        let held = Rc::new(Held::new(commons.snapshot.load_full()));
        let deadlines = Deadlines::new(commons.clock.clone());
        Rc::new(Core {
            index,
            commons,
            deadlines,
            buffers: BufferPool::default(),
            pool: Pool::default(),
            entropy: RefCell::new(entropy),
            phase: Cell::new(DrainPhase::Running),
            patient: Cell::new(false),
            connections: Cell::new(0),
            turned_away: Cell::new(0),
            plain: Cell::new(0),
            held: RefCell::new(held),
            scratch: RefCell::default(),
        })
    }

    /// The newest snapshot.
    #[inline]
    pub(crate) fn held(&self) -> Rc<Held> {
        let held = self.held.borrow();
        if held.snapshot.generation == self.commons.generation.load(Ordering::Acquire) {
            return held.clone();
        }
        drop(held);
        let fresh = Rc::new(Held::new(self.commons.snapshot.load_full()));
        *self.held.borrow_mut() = fresh.clone();
        fresh
    }

    /// The clock.
    #[inline]
    pub(crate) fn clock(&self) -> &Clock {
        &self.commons.clock
    }

    /// This worker's counters of the edge.
    #[inline]
    pub(crate) fn edge(&self) -> &EdgeCells {
        self.commons.edge.shard(self.index)
    }

    /// Whether connections are to be closed after the request they serve.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.phase.get() >= DrainPhase::Announced
    }

    pub(crate) fn take_scratch(&self) -> Box<Scratch> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_scratch(&self, mut scratch: Box<Scratch>) {
        let mut spare = self.scratch.borrow_mut();
        if spare.len() < SCRATCH_MAX {
            scratch.request.reset();
            for v in [&mut scratch.out, &mut scratch.answer] {
                if v.capacity() > SCRATCH_BYTES_MAX {
                    *v = Vec::new();
                }
            }
            spare.push(scratch);
        }
    }
}

impl Held {
    fn new(snapshot: Arc<Snapshot>) -> Held {
        let turns = snapshot.plan.services.iter().map(|_| Cell::new(0)).collect();
        Held { snapshot, turns }
    }

    /// The next turn of a service's rotation on this worker.
    #[inline]
    pub(crate) fn turn(&self, service: usize) -> u64 {
        self.turns[service].replace(self.turns[service].get().wrapping_add(1))
    }
}

impl Mailbox {
    /// Asks this worker for `want`; the stronger of two requests about one endpoint stays.
    pub(crate) fn post(&self, endpoint: u32, want: Want) {
        {
            let mut wants = self.wants.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = wants.entry(endpoint).or_insert(want);
            *entry = want.max(*entry);
        }
        self.wake.notify_one();
    }

    /// Waits for requests and takes them all.
    pub(crate) async fn take(&self) -> HashMap<u32, Want> {
        self.wake.notified().await;
        std::mem::take(&mut *self.wants.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientCounts {
    /// Open connections of all clients.
    pub(crate) fn total(&self) -> i64 {
        self.total.get()
    }

    /// Counts a connection of `client`.
    ///
    /// # Errors
    /// The limit that is reached; nothing is counted then.
    pub(crate) fn enter(&self, client: IpAddr, max: u32, max_per_client: u32) -> Result<(), ErrorCode> {
        let mut by_client = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if self.total.get() >= i64::from(max) {
            return Err(ErrorCode::ConnectionLimit);
        }
        let count = by_client.entry(client).or_insert(0);
        if *count >= max_per_client {
            return Err(ErrorCode::ClientConnections);
        }
        *count += 1;
        self.total.add(1);
        Ok(())
    }

    /// Counts its end.
    pub(crate) fn leave(&self, client: IpAddr) {
        let mut by_client = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&client);
            }
        }
        self.total.add(-1);
    }
}
