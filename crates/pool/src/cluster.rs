//! The servers of one pool: which of them is the primary, and connections to it.
//!
//! Each server has a probe (`probe`), a session of the pooler's own that asks for its role; [`policy::primary`] decides by
//! what they say; this keeps the decision where workers see it, tells the journal, and opens connections (`opening`).
//!
//! ```text
//! probes, workers' doubts, operators ──► policy::primary ──► Standing (an atomic pointer) ──► workers
//!                                              └───────────► journal
//! ```
//!
//! Whoever sends a transaction looks at [`Cluster::primary`] first: without a primary, or with a suspect one, it waits;
//! connections of an older epoch are closed. `changed` is called after each change, from any thread, and must not block.
//!
//! Locks: the state's mutex is held for a decision and its events, by probes and operators, never by a worker's usual
//! path. Limits: as many probes as servers; eight logins at once per server.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use kernel::journal::Journal;
use kernel::{Clock, Entropy, Moment};
use policy::primary::Primary;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::aside::Aside;
use crate::auth::Secret;
use crate::cancel;
use crate::connect::{Address, OpenError, Opened};
use crate::plan::{PoolPlan, ServerPlan};
use crate::view::ServerView;

mod opening;
mod probe;
mod reach;
mod shared;
mod tell;
mod views;

use reach::Reach;

/// What the pooler's own sessions are called at the server.
pub const APPLICATION: &str = "evenkeel";

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Where transactions go now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The primary: its place in the plan's servers.
    pub server: Option<usize>,
    /// Rises with each change of the primary, and when it was restarted. A connection of an older epoch is never used.
    pub epoch: u64,
    /// The primary is silent: no new transaction is sent to it until it answers or is given up.
    pub is_suspect: bool,
    /// Why there is no primary, or why it is held back, for people.
    pub trouble: Option<Arc<str>>,
}

impl Standing {
    /// Whether a transaction may be sent to the primary now.
    pub fn is_open(&self) -> bool {
        self.server.is_some() && !self.is_suspect
    }
}

/// Why a cluster cannot be watched, or an order cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// TLS towards the servers cannot be set up.
    #[error("TLS towards the servers of {pool}: {error}")]
    Tls {
        /// The pool.
        pool: String,
        /// Why not.
        error: String,
    },
    /// The pool has no such server.
    #[error("{pool} has no server {server}; it has {known}")]
    NoServer {
        /// The pool.
        pool: String,
        /// What was asked for.
        server: String,
        /// What there is.
        known: String,
    },
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Entropy(String),
}

/// The servers of one pool.
pub struct Cluster {
    shared: Arc<Shared>,
    ticker: JoinHandle<()>,
}

/// What is called after a change.
type Changed = Arc<dyn Fn() + Send + Sync>;

struct Shared {
    clock: Clock,
    journal: Journal,
    control: Handle,
    changed: Changed,
    reach: ArcSwap<Reach>,
    standing: ArcSwap<Standing>,
    /// Rises with each change of `standing`.
    version: AtomicU64,
    /// The epoch, for those that wait while they connect.
    epoch: watch::Sender<u64>,
    welcome: ArcSwapOption<Vec<(String, String)>>,
    /// When the primary was last heard by anybody, as [`Moment::as_nanos`].
    heard: AtomicU64,
    state: Mutex<State>,
}

struct State {
    primary: Primary,
    notes: Vec<Note>,
    probes: Vec<JoinHandle<()>>,
    /// Of the plan: what an older probe reports does not count.
    generation: u64,
    entropy: Entropy,
    /// Since when there is no primary.
    without_since: Moment,
    suspect_since: Moment,
    /// What was said about the cap: server, what it takes, the cap.
    told_cap: Option<(String, u32, u32)>,
    /// Whether a primary was ever found, or it was told that there is none.
    has_looked: bool,
}

/// What is known of a server besides what decides.
#[derive(Debug, Clone, Default)]
struct Note {
    error: Option<String>,
    answered: Option<Moment>,
    version: Option<String>,
    max_connections: Option<u32>,
    parameters: Arc<Vec<(String, String)>>,
    /// The last refusal that was told.
    told_denied: Option<String>,
}

impl Cluster {
    /// Begins to watch the servers of a pool. `changed` is called after each change of [`Cluster::primary`].
    ///
    /// # Errors
    /// When TLS towards the servers cannot be set up.
    pub fn start(
        plan: Arc<PoolPlan>,
        clock: Clock,
        journal: Journal,
        control: Handle,
        changed: Changed,
    ) -> Result<Arc<Cluster>, ClusterError> {
        let entropy = Entropy::from_os().map_err(|error| ClusterError::Entropy(error.to_string()))?;
        let reach = Reach::new(plan, None)?;
        let now = clock.now();
        let servers = reach.doors.len();
        let primary = Primary::new(reach.rule(), servers, now);
        let standing = Standing { server: None, epoch: 0, is_suspect: false, trouble: None };
        let state = State {
            primary,
            notes: vec![Note::default(); servers],
            probes: Vec::new(),
            generation: 0,
            entropy,
            without_since: now,
            suspect_since: now,
            told_cap: None,
            has_looked: false,
        };
        let shared = Arc::new(Shared {
            clock,
            journal,
            control,
            changed,
            reach: ArcSwap::from_pointee(reach),
            standing: ArcSwap::from_pointee(standing),
            version: AtomicU64::new(0),
            epoch: watch::Sender::new(0),
            welcome: ArcSwapOption::empty(),
            heard: AtomicU64::new(0),
            state: Mutex::new(state),
        });
        {
            let mut state = shared.lock();
            shared.probe_all(&mut state);
            shared.publish(&state);
        }
        let ticker = shared.control.spawn(tick(Arc::clone(&shared)));
        Ok(Arc::new(Cluster { shared, ticker }))
    }

    /// Where transactions go: cheap, an atomic pointer. What it gives is not to be held for long.
    pub fn primary(&self) -> arc_swap::Guard<Arc<Standing>> {
        self.shared.standing.load()
    }

    /// Rises with each change of [`Cluster::primary`]: to look whether there is anything to look at.
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// What a session of the primary reports of its settings, without what belongs to one user: for clients that log in
    /// before a connection of their own is there. `None` until a primary was found for the first time.
    pub fn welcome(&self) -> Option<Arc<Vec<(String, String)>>> {
        self.shared.welcome.load_full()
    }

    /// Something came from the primary: a sign of life. Cheap.
    pub fn heard(&self) {
        self.shared.heard.store(self.shared.clock.now().as_nanos(), Ordering::Relaxed);
    }

    /// A connection to the primary broke or could not be opened: the servers are asked at once.
    pub fn doubt(&self) {
        self.shared.wake_probes();
    }

    /// Opens a connection at the primary, as `user` in `database` (its name at the server), and makes sure that it is
    /// still the primary. Gives the server's place in the plan and the epoch that the connection belongs to.
    ///
    /// # Errors
    /// [`OpenError`]: at once if there is no primary, or as soon as it is another.
    pub async fn open_at_primary(
        &self,
        database: &str,
        user: &str,
        secret: Secret,
    ) -> Result<(Opened, usize, u64), OpenError> {
        self.shared.open_at_primary(database, user, secret).await
    }

    /// Sends a cancellation to where a connection leads: see [`cancel::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn cancel(&self, server: &ServerPlan, address: &Address, pid: i32, key: &[u8]) -> io::Result<()> {
        let reach = self.shared.reach.load_full();
        cancel::send(server, address, reach.security(), pid, key, reach.plan.connect_timeout).await
    }

    /// A session of the pooler's own: at the primary, or, while there is none, at any server that answers.
    pub(crate) async fn aside(&self, settings: &[(&str, &str)]) -> Result<Aside, OpenError> {
        self.shared.aside(settings).await
    }

    /// The plan that is in force.
    pub fn plan(&self) -> Arc<PoolPlan> {
        Arc::clone(&self.shared.reach.load().plan)
    }

    /// An operator's word: follow `to` and nobody else until it is primary; without `to`: anybody but the present primary.
    ///
    /// # Errors
    /// When there is no such server.
    pub fn failover(&self, to: Option<&str>, actor: &str, reason: &str) -> Result<(), ClusterError> {
        let server = to.map(|to| self.shared.place(to)).transpose()?;
        self.shared.tell_order(tell::Order::FailOver(to), actor, reason);
        self.shared.decide(|primary, now| primary.failover(server, now));
        Ok(())
    }

    /// An operator's word: `server` is not the primary, whatever it says.
    ///
    /// # Errors
    /// When there is no such server.
    pub fn drain(&self, server: &str, actor: &str, reason: &str) -> Result<(), ClusterError> {
        let place = self.shared.place(server)?;
        self.shared.tell_order(tell::Order::Drain(server), actor, reason);
        self.shared.decide(|primary, now| primary.drain(place, now));
        Ok(())
    }

    /// An operator's word: `server` may be the primary again. Takes [`Cluster::failover`] back, too.
    ///
    /// # Errors
    /// When there is no such server.
    pub fn undrain(&self, server: &str, actor: &str, reason: &str) -> Result<(), ClusterError> {
        let place = self.shared.place(server)?;
        self.shared.tell_order(tell::Order::Resume(server), actor, reason);
        self.shared.decide(|primary, now| primary.undrain(place, now));
        Ok(())
    }

    /// How the servers are, in the order of the plan.
    pub fn views(&self) -> Vec<ServerView> {
        self.shared.views()
    }

    /// Another plan for the same pool. Servers that stay are known as before.
    ///
    /// # Errors
    /// When TLS towards the servers cannot be set up: the plan before stays.
    pub fn reload(&self, plan: Arc<PoolPlan>) -> Result<(), ClusterError> {
        let shared = &self.shared;
        let old = shared.reach.load_full();
        let reach = Reach::new(plan, Some(&old))?;
        let (before, rule) = (reach.places_in(&old), reach.rule());
        let mut state = shared.lock();
        state.notes = before.iter().map(|b| b.and_then(|b| state.notes.get(b).cloned()).unwrap_or_default()).collect();
        shared.reach.store(Arc::new(reach));
        let changes = state.primary.reload(rule, &before, shared.clock.now());
        // Names in these changes may be of the plan before: a server that left has none in the new one.
        shared.tell(&mut state, &changes, &old);
        shared.probe_all(&mut state);
        let is_changed = shared.publish(&state);
        drop(state);
        shared.after(is_changed);
        Ok(())
    }

    /// Ends the probes. What is open stays open.
    pub fn stop(&self) {
        self.ticker.abort();
        self.shared.lock().probes.drain(..).for_each(|probe| probe.abort());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn tick(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(TICK).await;
        let heard = Moment::from_nanos(shared.heard.load(Ordering::Relaxed));
        shared.decide(|primary, now| {
            primary.heard(heard);
            primary.tick(now)
        });
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("primary", &self.primary()).finish_non_exhaustive()
    }
}
