//! `storm upstream`: an HTTP/1.1 server whose faults are switched at run time through a second port. On SIGTERM it accepts
//! no more, finishes what is under way, closes idle connections and exits, after 3 s at the latest; SIGSTOP and SIGKILL do
//! what they do. It ends with the process that started it.

mod answer;
mod body;
mod capacity;
mod connection;
mod control;
pub(crate) mod counters;
pub(crate) mod fault;

pub(crate) use answer::{EVENT, ITEM};

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::body::Bytes;
use kernel::{Clock, Entropy, Moment};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::capacity::Workers;
use self::counters::{Counter, Counters, Effects};
use self::fault::{Capacity, Fault};

/// How long exchanges may take to end.
const END: Duration = Duration::from_secs(3);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct UpstreamArgs {
    #[arg(long)]
    pub(crate) port: u16,
    /// Where faults are switched
    #[arg(long)]
    pub(crate) control: u16,
    #[arg(long)]
    pub(crate) id: u64,
    /// Folder for counters and effects, which outlive a crash
    #[arg(long)]
    pub(crate) state_dir: PathBuf,
    /// End when this process, which is the parent, ends
    #[arg(long)]
    pub(crate) parent: Option<i32>,
}

/// What all connections share. Nothing is held across an await.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) id: u64,
    pub(crate) clock: Clock,
    pub(crate) item: Bytes,
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) ending: watch::Sender<bool>,
    /// Open connections.
    pub(crate) open: AtomicUsize,
    fault: Mutex<Fault>,
    workers: Mutex<Workers>,
    entropy: Mutex<Entropy>,
    counters: Mutex<Counters>,
    effects: Mutex<Effects>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A count that could not be written would falsify the result, so it is said.
fn written(result: std::io::Result<()>) {
    if let Err(error) = result {
        eprintln!("storm upstream: counting: {error}");
    }
}

impl State {
    pub(crate) fn fault(&self) -> Fault {
        lock(&self.fault).clone()
    }

    /// The fault from now on.
    pub(crate) fn set_fault(&self, fault: Fault) {
        let mut current = lock(&self.fault);
        if current.capacity != fault.capacity {
            *lock(&self.workers) = Workers::default();
        }
        *current = fault;
        drop(current);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Waits until the moment. A timer takes a millisecond even for nothing, so none is set for a moment that has passed.
    pub(crate) async fn until(&self, moment: Moment) {
        let wait = moment.since(self.clock.now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    pub(crate) fn chance(&self, share: f64) -> bool {
        share > 0.0 && lock(&self.entropy).unit() < share
    }

    pub(crate) fn count(&self, counter: Counter) {
        written(lock(&self.counters).add(counter));
    }

    /// When the work will be done; `None`, which is counted, when the queue is full.
    pub(crate) fn admit(&self, capacity: &Capacity) -> Option<Moment> {
        let mut workers = lock(&self.workers);
        let done = workers.admit(capacity, self.clock.now());
        written(lock(&self.counters).raise(Counter::LongestQueue, workers.longest() as u64));
        drop(workers);
        if done.is_none() {
            self.count(Counter::QueueFull);
        }
        done
    }

    pub(crate) fn effect(&self, order: String) {
        written(lock(&self.effects).add(order));
        self.count(Counter::Effects);
    }

    pub(crate) fn effects(&self) -> std::collections::HashMap<String, u64> {
        lock(&self.effects).times.clone()
    }

    /// Counters and effects begin anew.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        *lock(&self.workers) = Workers::default();
        lock(&self.effects).clear()?;
        lock(&self.counters).clear()
    }
}

/// Serves until SIGTERM.
pub(crate) async fn serve(args: UpstreamArgs) -> Result<()> {
    if let Some(parent) = args.parent {
        crate::run::end_with(parent, rustix::process::Signal::KILL)?;
    }
    std::fs::create_dir_all(&args.state_dir).with_context(|| format!("making {}", args.state_dir.display()))?;
    let state = Arc::new(State {
        id: args.id,
        clock: Clock::real(),
        item: Bytes::from(vec![b'x'; ITEM]),
        changed: watch::channel(0).0,
        ending: watch::channel(false).0,
        open: AtomicUsize::new(0),
        fault: Mutex::new(Fault::default()),
        workers: Mutex::new(Workers::default()),
        entropy: Mutex::new(Entropy::from_seed((args.id << 32) + u64::from(std::process::id()))),
        counters: Mutex::new(Counters::open(&counters::file(&args.state_dir, args.id))?),
        effects: Mutex::new(Effects::open(&args.state_dir, args.id)?),
    });
    let control = bind(args.control)?;
    tokio::spawn(control::serve(Arc::clone(&state), control));
    let listener = accept(&state, args.port).await?;
    // Connections that wait to be accepted were promised service, so they are taken first.
    if let Some(listener) = listener {
        while let Ok(Ok((socket, _))) = timeout(Duration::from_millis(1), listener.accept()).await {
            tokio::spawn(connection::serve(Arc::clone(&state), socket));
        }
    }
    state.ending.send_modify(|ending| *ending = true);
    let end = state.clock.now() + END;
    while state.open.load(Relaxed) > 0 && state.clock.now() < end {
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Accepts until SIGTERM; leaves the listener if there is one.
async fn accept(state: &Arc<State>, port: u16) -> Result<Option<TcpListener>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut changed = state.changed.subscribe();
    let mut listener: Option<TcpListener> = None;
    loop {
        let is_refusing = state.fault().refuse;
        listener = match listener {
            _ if is_refusing => None,
            Some(listener) => Some(listener),
            None => Some(bind(port)?),
        };
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A connection that was gone before it was accepted is nobody's loss.
            accepted = accepted => if let Ok((socket, _)) = accepted {
                tokio::spawn(connection::serve(Arc::clone(state), socket));
            },
            _ = changed.changed() => {}
            _ = terminate.recv() => return Ok(listener),
        }
    }
}

fn bind(port: u16) -> Result<TcpListener> {
    let listen = || -> std::io::Result<TcpListener> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().with_context(|| format!("listening on port {port}"))
}
