//! Requests that wait because no endpoint of their service can be reached. Nothing of them was sent, so they may be of
//! any method. While somebody waits, connections to every endpoint are tried each 50 to 100 ms; the first that comes
//! about lets everybody go on, the one with the least time left first. `policy::park` says who may wait and how long.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::{Clock, Entropy, Event, Moment};
use policy::park::{self, ParkQueue, ParkRule, ParkTicket};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::service::ServiceState;
use crate::state::EndpointState;

/// How long one try to connect may take while requests wait for it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The parked requests of one service.
#[derive(Debug, Default)]
pub(crate) struct Park {
    waiting: AtomicU32,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: ParkQueue<oneshot::Sender<()>>,
    bytes: u64,
    /// Whether connections are being tried.
    probing: bool,
    /// Requests that have come since they are.
    came: u64,
}

/// A parked request; leaving (by drop) is noticed.
#[derive(Debug)]
pub(crate) struct Parked<'a> {
    park: &'a Park,
    ticket: ParkTicket,
    bytes: u64,
    released: oneshot::Receiver<()>,
}

impl Inner {
    fn len(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }
}

impl Park {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Parks a request of `bytes` bytes whose time ends at `deadline`. The flag says whether connections have to be
    /// tried from now on ([`probe`]); `None`: no more may wait.
    pub(crate) fn enter(&self, rule: &ParkRule, deadline: Moment, bytes: u64) -> Option<(Parked<'_>, bool)> {
        let mut inner = self.lock();
        if !park::may_park(rule, inner.len(), inner.bytes, bytes) {
            return None;
        }
        let (tx, released) = oneshot::channel();
        let ticket = inner.queue.park(deadline, tx);
        inner.bytes += bytes;
        inner.came += 1;
        let first = !std::mem::replace(&mut inner.probing, true);
        self.publish(&inner);
        Some((Parked { park: self, ticket, bytes, released }, first))
    }

    fn publish(&self, inner: &Inner) {
        self.waiting.store(inner.len(), Ordering::Relaxed);
    }

    /// Lets everybody go on, the one with the least time left first.
    fn release(&self, now: Moment) {
        let mut inner = self.lock();
        while let Some(tx) = inner.queue.release(now) {
            // Who has left meanwhile needs nothing.
            let _sent = tx.send(()).is_ok();
        }
        self.publish(&inner);
    }

    /// Ends the probing if nobody waits any more. How many had come, if that is so.
    fn is_over(&self) -> Option<u64> {
        let mut inner = self.lock();
        if !inner.queue.is_empty() {
            return None;
        }
        inner.probing = false;
        Some(std::mem::take(&mut inner.came))
    }
}

impl Parked<'_> {
    /// Waits until the request may go on. Cancel safe.
    pub(crate) async fn released(&mut self) {
        // The sender is dropped with the service only, which a request under way keeps alive.
        if (&mut self.released).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let mut inner = self.park.lock();
        inner.queue.leave(self.ticket);
        inner.bytes = inner.bytes.saturating_sub(self.bytes);
        self.park.publish(&inner);
    }
}

/// Tries connections until nobody waits. Runs on the control plane, once for each service at a time. An endpoint that
/// does not even refuse holds up only itself.
pub(crate) async fn probe(service: Arc<ServiceState>, clock: Clock, mut entropy: Entropy) {
    let mut tries = JoinSet::new();
    let mut tried: HashSet<u32> = HashSet::new();
    let began = clock.now();
    let parked = loop {
        if let Some(came) = service.park.is_over() {
            break came;
        }
        for endpoint in service.members() {
            if endpoint.is_forced() || !tried.insert(endpoint.id) {
                continue;
            }
            tries.spawn(async move {
                let reached = tokio::time::timeout(PROBE_TIMEOUT, reach(&endpoint.plan.addresses)).await;
                (endpoint, reached.is_ok_and(|reached| reached))
            });
        }
        let pause = tokio::time::sleep(park::probe_delay(&mut entropy));
        let mut pause = std::pin::pin!(pause);
        loop {
            let ended = tokio::select! {
                () = &mut pause => break,
                Some(ended) = tries.join_next() => ended,
            };
            let Ok((endpoint, reached)): Result<(Arc<EndpointState>, bool), _> = ended else { continue };
            tried.remove(&endpoint.id);
            if reached {
                service.connected(&endpoint, clock.now());
                service.park.release(clock.now());
            }
        }
    };
    let waited_ms = u64::try_from(clock.now().since(began).as_millis()).unwrap_or(u64::MAX);
    service.journal.tell(Event::ParkingEnded { service: service.name.clone(), parked, waited_ms });
}

/// Whether a connection to one of the addresses can be made.
async fn reach(addresses: &[SocketAddr]) -> bool {
    for address in addresses {
        if TcpStream::connect(address).await.is_ok() {
            return true;
        }
    }
    false
}
