//! The administrators' console over a client's socket: a thread of its own for each of the few that there are, so that it may
//! wait for the workers that it asks.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::admin::{AdminNode, AdminSession, Earlier};
use crate::orders::{Order, OrderError};
use crate::plan::PoolPlan;
use crate::pools::{Inner, killed_or};
use crate::shared::Mail;
use crate::transport::Transport;
use crate::view::{ClientView, ConnectionView, PoolView, StatementView};
use crate::wire::{self, HEADER, WireError, backend};

/// Clients of the console at the same time.
const MOST: usize = 16;
/// Longest message.
const LONGEST: usize = 32 << 10;
/// A client that says nothing for so long is sent away.
const SILENCE: Duration = Duration::from_secs(3_600);
/// How often a pause is looked at.
const LOOK: Duration = Duration::from_millis(50);

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Reads the configuration again; an error says what is wrong with it.
#[derive(Clone)]
pub struct Reload(pub Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reload")
    }
}

/// One of the few.
struct Place;

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who asks.
struct Asking {
    inner: Arc<Inner>,
    /// The pool that it came by.
    pool: String,
    user: String,
}

/// What a client of the console starts with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) transport: Transport,
    /// What it has sent already.
    pub(crate) pending: Vec<u8>,
    /// What its proof is answered with.
    pub(crate) greeting: Vec<u8>,
    pub(crate) may_order: bool,
    pub(crate) pool: String,
    pub(crate) user: String,
}

/// Lets a client that has logged in use the console. It is closed if there are too many.
pub(crate) fn open(start: Start, inner: &Weak<Inner>) {
    let Some(inner) = inner.upgrade() else { return };
    let take = |n: usize| (n < MOST).then_some(n + 1);
    let mut start = start;
    if OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
        let mut out = Vec::new();
        backend::put_error(&mut out, "FATAL", "53300", "too many are using the console already", None, None);
        // It is closed in any case.
        let _unsaid = start.transport.write(&out);
        return;
    }
    let place = Place;
    let run = move || {
        let _place = place;
        let asking = Asking { inner, pool: start.pool.clone(), user: start.user.clone() };
        if let Err(error) = serve(start, &asking) {
            tracing::debug!(%error, "a client of the console has left");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("pool-console".to_owned()).spawn(run) {
        tracing::warn!(%error, "no thread for the console");
    }
}

fn serve(mut start: Start, node: &Asking) -> io::Result<()> {
    let mut session = AdminSession::new(start.may_order);
    let mut out = std::mem::take(&mut start.greeting);
    for (name, value) in [
        ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/evenkeel")),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
        ("integer_datetimes", "on"),
    ] {
        backend::put_parameter_status(&mut out, name, value);
    }
    backend::put_key_data(&mut out, 0, &[0; 4]);
    backend::put_ready(&mut out, b'I');
    write_all(&mut start.transport, &out)?;
    let mut pending = std::mem::take(&mut start.pending);
    let mut buffer = vec![0; 16 << 10];
    loop {
        out.clear();
        while session.is_waiting() {
            session.poll(node, &mut out);
            write_all(&mut start.transport, &out)?;
            out.clear();
            if session.is_waiting() && wait(&start.transport, PollFlags::RDHUP, LOOK)? {
                return Ok(());
            }
        }
        let frame = wire::frame(&pending).map_err(broken)?;
        match frame {
            Some(frame) if frame.len > LONGEST => return Err(io::ErrorKind::InvalidData.into()),
            Some(frame) if pending.len() >= frame.len => {
                let goes_on = session.message(frame.tag, &pending[HEADER..frame.len], node, &mut out);
                pending.drain(..frame.len);
                write_all(&mut start.transport, &out)?;
                if !goes_on {
                    return Ok(());
                }
                continue;
            }
            _ => {}
        }
        match start.transport.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => pending.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait(&start.transport, PollFlags::IN, SILENCE)? {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn broken(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn write_all(transport: &mut Transport, mut bytes: &[u8]) -> io::Result<()> {
    loop {
        if !bytes.is_empty() {
            match transport.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(transport, PollFlags::OUT, SILENCE)? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        } else if transport.flush()? {
            return Ok(());
        } else if !wait(transport, PollFlags::OUT, SILENCE)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Whether it comes about in time.
fn wait(transport: &Transport, what: PollFlags, most: Duration) -> io::Result<bool> {
    let most = Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() };
    let mut fds = [PollFd::new(transport, what)];
    match poll(&mut fds, Some(&most)) {
        Ok(n) => Ok(n > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

impl Asking {
    fn every<T>(
        &self,
        mail: impl Fn(Arc<crate::shared::PoolShared>, tokio::sync::oneshot::Sender<Vec<T>>) -> Mail,
    ) -> Vec<T> {
        let pools = self.inner.commons.pools.load_full();
        let answers: Vec<_> = pools.iter().flat_map(|pool| self.inner.ask(pool, &mail)).collect();
        answers.into_iter().filter_map(|answer| answer.blocking_recv().ok()).flatten().collect()
    }
}

impl AdminNode for Asking {
    fn plans(&self) -> Vec<Arc<PoolPlan>> {
        let pools = self.inner.commons.pools.load();
        let mut plans: Vec<Arc<PoolPlan>> = pools.iter().map(|pool| pool.plan.load_full()).collect();
        plans.sort_by_key(|plan| plan.name != self.pool);
        plans
    }

    fn pools(&self) -> Vec<PoolView> {
        self.inner.views()
    }

    fn clients(&self) -> Vec<ClientView> {
        self.every(|pool, answer| Mail::Clients { pool, answer })
    }

    fn connections(&self) -> Vec<ConnectionView> {
        self.every(|pool, answer| Mail::Connections { pool, answer })
    }

    fn statements(&self) -> Vec<StatementView> {
        self.inner.commons.pools.load().iter().flat_map(|pool| self.inner.statements(&pool.name)).collect()
    }

    fn earlier(&self) -> Earlier {
        self.inner.averages.earlier(self.inner.commons.clock.now())
    }

    fn now_unix(&self) -> u64 {
        kernel::journal::unix_ms(self.inner.commons.clock.wall()) / 1_000
    }

    fn order(&self, pool: &str, order: &Order) -> Result<(), OrderError> {
        let Some(whom) = self.inner.order(pool, order, &self.user, "the pool's console")? else { return Ok(()) };
        let found = self.inner.find(pool).ok_or_else(|| OrderError::NoPool(pool.to_owned()))?;
        let answers = self.inner.ask(&found, |pool, answer| Mail::Kill { pool, whom: whom.clone(), answer });
        let killed = answers.into_iter().filter_map(|answer| answer.blocking_recv().ok()).sum();
        killed_or(order, killed).map(drop)
    }

    fn reload(&self) -> Result<(), String> {
        match self.inner.reload.get() {
            Some(reload) => reload.0(),
            None => Err("the configuration cannot be read again here".to_owned()),
        }
    }
}
