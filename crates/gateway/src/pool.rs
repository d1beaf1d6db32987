//! Connections to endpoints: idle ones of this worker first, then a new one, then a place in the endpoint's line.
//!
//! - The newest idle connection is used first, so that surplus ones grow old and are closed.
//! - An idle connection is watched: when the endpoint closes it, that is seen at once, and how long it had been idle is
//!   remembered as the endpoint's idle timeout. None is used beyond that age, and what must not be repeated (a POST)
//!   not even near it (`policy::keepalive`).
//! - When all connections that an endpoint may have are open, a request stands in line; a connection that gets free on
//!   any worker goes to the one who has waited longest, and workers with idle connections are asked to hand one over.
//! - A server with few threads serves one connection per thread until it closes, so a new connection may starve
//!   behind our kept ones without any limit being configured. A first request that waits far longer than usual says so
//!   ([`EndpointState::demand_one`]): one idle connection to that endpoint is then closed, or the next that gets idle.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kernel::Moment;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::buf::Buf;
use crate::core::{Core, Want};
use crate::deadlines::Deadline;
use crate::plan::ServicePlan;
use crate::queue::{Grant, Slot, Spare};
use crate::service::Place;
use crate::state::EndpointState;

/// One connection to an endpoint, in use.
#[derive(Debug)]
pub(crate) struct UpConn {
    pub(crate) io: TcpStream,
    pub(crate) buf: Option<Buf>,
    /// Whether it has answered a request before.
    pub(crate) reused: bool,
    /// Whether the request stood in line for it.
    pub(crate) waited: bool,
    /// How long it had been idle before.
    pub(crate) idled: Duration,
    /// Not all of the last request was sent, or it was refused: it takes no other.
    pub(crate) spoiled: bool,
    /// The request's right to be worked on; given back as soon as the answer has arrived.
    pub(crate) place: Option<Place>,
    /// What the endpoint announced with `Keep-Alive: timeout=`.
    pub(crate) announced: Option<Duration>,
    pub(crate) slot: Slot,
}

#[derive(Debug)]
struct Idle {
    io: TcpStream,
    slot: Slot,
    since: Moment,
    /// It is closed then at the latest.
    until: Moment,
    announced: Option<Duration>,
}

/// The idle connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// By endpoint id; the newest is last.
    idle: RefCell<HashMap<u32, Vec<Idle>>>,
    watcher: RefCell<Option<Waker>>,
    /// Set when a watched connection stirred.
    stirred: Cell<bool>,
}

/// Which idle connections will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Any: the request may be repeated on a new connection.
    Any,
    /// Only one that is surely not about to be closed.
    Sure,
    /// None: a new connection is wanted.
    Never,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcquireError {
    #[error("connect failed: {0}")]
    Connect(#[source] io::Error),
    #[error("connecting took longer than {0:?}")]
    ConnectTimeout(Duration),
    #[error("every connection is in use and the request's time is up")]
    Saturated,
    #[error("the request's time is up")]
    Deadline,
    #[error("the endpoint was taken out meanwhile")]
    Abandoned,
}

impl Pool {
    /// The newest idle connection to `endpoint` that will do. Dead ones found on the way are closed.
    pub(crate) fn checkout(
        &self,
        core: &Core,
        endpoint: &EndpointState,
        service: &ServicePlan,
        reuse: Reuse,
    ) -> Option<UpConn> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&endpoint.id)?;
        if list.is_empty() {
            return None;
        }
        let now = core.clock().now();
        let mut found = None;
        while let Some(conn) = list.last_mut() {
            if !is_quiet(&mut conn.io, &mut Context::from_waker(Waker::noop())) {
                endpoint.saw_idle_close(now.since(conn.since), now);
                list.pop();
                continue;
            }
            let limit = endpoint.idle_limit(service.idle_timeout, conn.announced);
            if endpoint.may_reuse(now.since(conn.since), limit, reuse == Reuse::Any, now) {
                found = list.pop();
            }
            // Those below are older: they will not do either, and the sweep closes them in time.
            break;
        }
        endpoint.idle[core.index].store(list.len() as u32, Ordering::SeqCst);
        let conn = found?;
        core.commons_links(endpoint).reused.inc();
        Some(UpConn {
            io: conn.io,
            buf: None,
            reused: true,
            waited: false,
            idled: now.since(conn.since),
            spoiled: false,
            place: None,
            announced: conn.announced,
            slot: conn.slot,
        })
    }

    /// Keeps a connection whose answer is complete, hands it to who waits for it, or closes it.
    pub(crate) fn release(&self, core: &Core, service: &ServicePlan, mut conn: UpConn) {
        conn.place = None;
        if conn.spoiled {
            return;
        }
        if let Some(buf) = conn.buf.take() {
            let clean = buf.is_empty();
            core.buffers.give(buf);
            if !clean {
                return;
            }
        }
        let endpoint = conn.slot.endpoint().clone();
        if endpoint.retired.load(Ordering::Relaxed) || endpoint.meets_demand() {
            return;
        }
        if endpoint.queue.has_waiters() {
            hand_over(
                core,
                &endpoint,
                Idle {
                    io: conn.io,
                    slot: conn.slot,
                    since: core.clock().now(),
                    until: Moment::MAX,
                    announced: conn.announced,
                },
            );
            return;
        }
        {
            let waker = self.watcher.borrow();
            let waker = waker.as_ref().unwrap_or(Waker::noop());
            if !is_quiet(&mut conn.io, &mut Context::from_waker(waker)) {
                return;
            }
        }
        let now = core.clock().now();
        let until = now + endpoint.idle_limit(service.idle_timeout, conn.announced);
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(endpoint.id).or_default();
        if list.len() >= service.max_idle as usize {
            return;
        }
        list.push(Idle { io: conn.io, slot: conn.slot, since: now, until, announced: conn.announced });
        endpoint.idle[core.index].store(list.len() as u32, Ordering::SeqCst);
        drop(idle);
        // Whoever came to stand in line since the look above has seen the count or is seen now.
        if endpoint.queue.has_waiters() {
            self.spare(core, endpoint.id);
        }
    }

    /// Hands idle connections to those who wait in the endpoint's line, as far as there are any of both.
    fn spare(&self, core: &Core, endpoint: u32) {
        loop {
            let mut idle = self.idle.borrow_mut();
            let Some(list) = idle.get_mut(&endpoint) else { return };
            let Some(conn) = list.pop_if(|c| c.slot.endpoint().queue.has_waiters()) else { return };
            let state = conn.slot.endpoint().clone();
            state.idle[core.index].store(list.len() as u32, Ordering::SeqCst);
            drop(idle);
            hand_over(core, &state, conn);
        }
    }

    /// Does what another worker asked for.
    pub(crate) fn serve(&self, core: &Core, endpoint: u32, want: Want) {
        match want {
            Want::Spare => self.spare(core, endpoint),
            Want::CloseIdle => {
                let mut idle = self.idle.borrow_mut();
                let Some(list) = idle.get_mut(&endpoint) else { return };
                let mut gone = Vec::new();
                // The oldest first: it is the least useful.
                while list.first().is_some_and(|oldest| oldest.slot.endpoint().meets_demand()) {
                    gone.push(list.remove(0));
                }
                if let Some(closed) = gone.first() {
                    closed.slot.endpoint().idle[core.index].store(list.len() as u32, Ordering::SeqCst);
                }
                drop(idle);
                drop(gone);
                // The weaker request may have been merged into this one.
                self.spare(core, endpoint);
            }
        }
    }

    /// Closes what is too old or was closed by the other side. Runs when a connection stirs, and about each second.
    pub(crate) fn sweep(&self, core: &Core, now: Moment) {
        let waker = self.watcher.borrow().clone();
        let waker = waker.as_ref().unwrap_or(Waker::noop());
        let mut gone = Vec::new();
        self.idle.borrow_mut().retain(|_, list| {
            let before = list.len();
            let endpoint = list.first().map(|c| c.slot.endpoint().clone());
            let retired = endpoint.as_ref().is_some_and(|e| e.retired.load(Ordering::Relaxed));
            let mut kept = Vec::with_capacity(before);
            for mut conn in list.drain(..) {
                if retired || conn.until <= now {
                    gone.push(conn);
                } else if is_quiet(&mut conn.io, &mut Context::from_waker(waker)) {
                    kept.push(conn);
                } else {
                    conn.slot.endpoint().saw_idle_close(now.since(conn.since), now);
                    gone.push(conn);
                }
            }
            *list = kept;
            if let Some(endpoint) = endpoint {
                endpoint.refresh_idle_limit(now);
                endpoint.idle[core.index].store(list.len() as u32, Ordering::SeqCst);
            }
            !list.is_empty()
        });
        // Dropped outside of the borrow: a slot that is given back may look into the pool.
        drop(gone);
    }

    /// Waits until an idle connection stirs. One task of the worker loops over this and [`Pool::sweep`].
    pub(crate) async fn stirred(&self) {
        self.stirred.set(false);
        poll_fn(|cx| {
            let known = self.watcher.borrow().as_ref().is_some_and(|w| w.will_wake(cx.waker()));
            if !known {
                *self.watcher.borrow_mut() = Some(cx.waker().clone());
            }
            if self.stirred.replace(true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Whether an idle connection is open and has nothing to say. Registers the waker for when that changes.
fn is_quiet(io: &mut TcpStream, cx: &mut Context<'_>) -> bool {
    loop {
        match io.poll_read_ready(cx) {
            Poll::Pending => return true,
            Poll::Ready(Err(_)) => return false,
            Poll::Ready(Ok(())) => match io.try_read(&mut [0; 1]) {
                // Readiness was left over from the last read; the failed read has cleared it.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // The end, an error, or bytes that nobody asked for.
                _ => return false,
            },
        }
    }
}

/// The same for a connection that has just come from another worker: this one's poller knows nothing of it yet.
fn is_quiet_now(io: &TcpStream) -> bool {
    let peeked = SockRef::from(io).peek(&mut [MaybeUninit::uninit()]);
    matches!(peeked, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

/// Gives a connection to the first in line, who may live on another worker; closes it if that fails.
fn hand_over(core: &Core, endpoint: &EndpointState, conn: Idle) {
    let Idle { io, slot, since, announced, .. } = conn;
    if let Ok(io) = io.into_std() {
        core.commons_links(endpoint).handed_over.inc();
        // If the line is empty by now, the connection is closed: a rare race, and nothing is lost by it.
        drop(endpoint.offer(Grant::Connection(Spare { io, slot, since, announced })));
    }
}

impl Core {
    /// This worker's counters of an endpoint's connections.
    #[inline]
    pub(crate) fn commons_links<'a>(&self, endpoint: &'a EndpointState) -> &'a crate::state::LinkCells {
        endpoint.links.shard(self.index)
    }

    /// A connection to `endpoint` before `until`: an idle one, a new one, or one that is handed over.
    pub(crate) async fn acquire(
        self: &Rc<Self>,
        endpoint: &Arc<EndpointState>,
        service: &ServicePlan,
        reuse: Reuse,
        deadline: &Deadline,
        until: Moment,
    ) -> Result<UpConn, AcquireError> {
        if reuse != Reuse::Never
            && let Some(conn) = self.pool.checkout(self, endpoint, service, reuse)
        {
            return Ok(conn);
        }
        let slot = match endpoint.try_slot() {
            Some(slot) => slot,
            None => match self.stand_in_line(endpoint, service, reuse, deadline, until).await? {
                Ok(conn) => return Ok(conn),
                Err(slot) => slot,
            },
        };
        self.connect(slot, service, deadline, until).await
    }

    /// Waits for a connection or for the right to open one.
    async fn stand_in_line(
        &self,
        endpoint: &Arc<EndpointState>,
        service: &ServicePlan,
        reuse: Reuse,
        deadline: &Deadline,
        until: Moment,
    ) -> Result<Result<UpConn, Slot>, AcquireError> {
        let mut place = endpoint.stand_in_line().ok_or(AcquireError::Saturated)?;
        // The place is announced: what gets free from here on comes to us. What was free already is looked for.
        if reuse != Reuse::Never
            && let Some(conn) = self.pool.checkout(self, endpoint, service, reuse)
        {
            return Ok(Ok(conn));
        }
        if let Some(slot) = endpoint.try_slot() {
            return Ok(Err(slot));
        }
        for (worker, idle) in endpoint.idle.iter().enumerate() {
            if idle.load(Ordering::SeqCst) > 0 {
                // All of them, because what is idle now may be in use when its worker looks.
                self.commons.mailboxes[worker].post(endpoint.id, Want::Spare);
            }
        }
        deadline.set(until);
        let granted = within(deadline, place.granted()).await.map_err(|()| AcquireError::Saturated)?;
        match granted {
            None => Err(AcquireError::Saturated),
            Some(Grant::Slot(slot)) => Ok(Err(slot)),
            Some(Grant::Connection(Spare { io, slot, since, announced })) => {
                let io = TcpStream::from_std(io).map_err(AcquireError::Connect)?;
                let limit = endpoint.idle_limit(service.idle_timeout, announced);
                let now = self.clock().now();
                let idled = now.since(since);
                let fresh = endpoint.may_reuse(idled, limit, reuse == Reuse::Any, now);
                let quiet = is_quiet_now(&io);
                if reuse == Reuse::Never || !fresh || !quiet {
                    return Ok(Err(slot));
                }
                Ok(Ok(UpConn {
                    io,
                    buf: None,
                    reused: true,
                    waited: true,
                    idled,
                    spoiled: false,
                    place: None,
                    announced,
                    slot,
                }))
            }
        }
    }

    /// Opens a connection, trying the endpoint's addresses in order.
    async fn connect(
        &self,
        slot: Slot,
        service: &ServicePlan,
        deadline: &Deadline,
        until: Moment,
    ) -> Result<UpConn, AcquireError> {
        let now = self.clock().now();
        let connect_until = now + service.connect_timeout;
        deadline.set(connect_until.min(until));
        let endpoint = slot.endpoint().clone();
        let links = self.commons_links(&endpoint);
        match within(deadline, connect_any(&endpoint.plan.addresses)).await {
            Ok(Ok(io)) => {
                links.opened.inc();
                let idled = Duration::ZERO;
                Ok(UpConn {
                    io,
                    buf: None,
                    reused: false,
                    waited: false,
                    idled,
                    spoiled: false,
                    place: None,
                    announced: None,
                    slot,
                })
            }
            Ok(Err(error)) => {
                links.connect_failures.inc();
                Err(AcquireError::Connect(error))
            }
            Err(()) if connect_until <= until => {
                links.connect_failures.inc();
                Err(AcquireError::ConnectTimeout(service.connect_timeout))
            }
            Err(()) => Err(AcquireError::Deadline),
        }
    }

    /// Asks the workers to close an idle connection to `endpoint`, because a new one starves.
    pub(crate) fn demand_one(&self, endpoint: &EndpointState) {
        endpoint.demand_one();
        for (worker, idle) in endpoint.idle.iter().enumerate() {
            if idle.load(Ordering::SeqCst) > 0 {
                self.commons.mailboxes[worker].post(endpoint.id, Want::CloseIdle);
            }
        }
    }
}

async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(io) => {
                io.set_nodelay(true)?;
                return Ok(io);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `future`, or `Err` once the deadline has passed. The deadline must have been set.
pub(crate) async fn within<F: Future>(deadline: &Deadline, future: F) -> Result<F::Output, ()> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        deadline.poll(cx).map(|()| Err(()))
    })
    .await
}
