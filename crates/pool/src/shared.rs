//! What the workers share: pools, their (database, user) groups with the connections that these may have, and mailboxes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use kernel::metrics::Sharded;
use kernel::{Clock, Journal, Moment};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::auth::{Secret, Verifier};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::connect::{OpenError, Opened};
use crate::plan::PoolPlan;
use crate::pools::Inner;
use crate::server::Server;
use crate::session::Failure;
use crate::statements::Statements;
use crate::stats::story::Stories;
use crate::stats::{GroupCells, StatementShelf};
use crate::verifiers::Verifiers;
use crate::view::{ClientView, ConnectionView};

/// From how many connections on a group is served by every worker.
const SPLIT_FROM: u32 = 32;

/// Most (database, user) of one pool.
const MOST_GROUPS: usize = 10_000;

/// What every worker knows.
#[derive(Debug)]
pub(crate) struct Commons {
    pub(crate) clock: Clock,
    pub(crate) journal: Journal,
    pub(crate) control: Handle,
    pub(crate) statements: Statements,
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) pools: ArcSwap<Vec<Arc<PoolShared>>>,
    /// How many groups are at home at each worker.
    pub(crate) homes: Vec<AtomicU32>,
    /// Numbers of connections.
    pub(crate) next_id: AtomicU64,
    /// What each worker remembers of its transactions.
    pub(crate) stories: Vec<Stories>,
    /// Who answers the administrators' console.
    pub(crate) console: OnceLock<Weak<Inner>>,
}

/// One pool.
#[derive(Debug)]
pub(crate) struct PoolShared {
    pub(crate) name: String,
    pub(crate) plan: ArcSwap<PoolPlan>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) verifiers: ArcSwap<Verifiers>,
    pub(crate) tls: ArcSwapOption<Accepting>,
    /// Server connections, those that are being opened too.
    pub(crate) open: AtomicU32,
    /// Clients, those that are logging in too.
    pub(crate) clients: AtomicU32,
    pub(crate) is_paused: AtomicBool,
    /// A reload has taken it out of the configuration.
    is_gone: AtomicBool,
    /// Since when the one client has waited that has waited longest for a group which may not open a connection because the
    /// pool has all it may have; nanoseconds, 0: nobody. Forgotten in each tick of the first worker, and told anew.
    pub(crate) capped: AtomicU64,
    /// Server connections that were opened before this are not given to anybody any more; nanoseconds.
    pub(crate) stale_before: AtomicU64,
    groups: Mutex<HashMap<(String, String), Arc<GroupShared>>>,
    /// What each worker counts of statements.
    pub(crate) shelves: Mutex<Vec<Arc<StatementShelf>>>,
}

/// TLS towards clients.
#[derive(Debug)]
pub(crate) struct Accepting {
    pub(crate) config: Arc<rustls::ServerConfig>,
    /// Of the certificate, for channel binding.
    pub(crate) end_point: Option<Vec<u8>>,
}

/// One (database, user) of a pool.
#[derive(Debug)]
pub(crate) struct GroupShared {
    pub(crate) pool: Arc<PoolShared>,
    pub(crate) database: String,
    pub(crate) user: String,
    /// The worker that serves it, unless it is split.
    home: usize,
    /// It was split once, and has clients everywhere: that it becomes smaller does not undo it.
    is_split: AtomicBool,
    /// What the user last proved to know.
    pub(crate) secret: Mutex<Secret>,
    /// Server connections, those that are being opened too.
    pub(crate) open: AtomicU32,
    /// Clients that keep theirs.
    pub(crate) pinned: AtomicU32,
    pub(crate) cells: Sharded<GroupCells>,
    pub(crate) gauges: Sharded<Gauges>,
    /// When the client that has waited longest began to, by worker; nanoseconds, 0: nobody waits.
    pub(crate) heads: Vec<AtomicU64>,
}

/// What a worker has of a group now.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) clients_active: AtomicU32,
    pub(crate) clients_waiting: AtomicU32,
    pub(crate) clients_idle: AtomicU32,
    pub(crate) servers_active: AtomicU32,
    pub(crate) servers_idle: AtomicU32,
    pub(crate) servers_busy: AtomicU32,
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A client whose group is this worker's.
    Client(Box<Client>),
    /// What Postgres says of a client's user.
    Verified { client: usize, found: Result<Option<Verifier>, Failure> },
    /// A connection was opened, or not.
    Opened { group: Arc<GroupShared>, began: Moment, outcome: Result<Box<(Opened, usize, u64)>, OpenError> },
    /// A connection from another worker.
    Lent { group: Arc<GroupShared>, server: Box<Server> },
    /// Another worker has clients that wait, and may open nothing. If no connection of theirs can be lent, and it is the
    /// pool that has all it may have, a free one of another group is closed instead.
    Wanted { group: Arc<GroupShared>, by: usize, may_evict: bool },
    /// Another connection may be opened now.
    Room { pool: Arc<PoolShared> },
    /// Somebody wants a query to be cancelled.
    Cancel { pid: i32, key: Vec<u8> },
    /// A cancel has been sent.
    Cancelled { server: usize },
    /// The primary, the plan or a pause has changed.
    Changed,
    /// Clients to send away.
    Kill { pool: Arc<PoolShared>, whom: Whom, answer: oneshot::Sender<u64> },
    /// Who is there.
    Clients { pool: Arc<PoolShared>, answer: oneshot::Sender<Vec<ClientView>> },
    /// What is open.
    Connections { pool: Arc<PoolShared>, answer: oneshot::Sender<Vec<ConnectionView>> },
    /// Clients may come.
    Open,
    /// No more clients: those that are there leave after their transactions, or, if there is patience, as they like.
    Drain { is_patient: bool },
    /// The end.
    End,
}

/// Whom an order is about.
#[derive(Debug, Clone)]
pub(crate) enum Whom {
    Everybody,
    Client(u64),
    User(String),
    Fingerprint(u64),
}

/// Where mail for a worker is put.
#[derive(Debug)]
pub(crate) struct Mailbox {
    waker: mio::Waker,
    mail: Mutex<VecDeque<Mail>>,
}

impl Mailbox {
    pub(crate) fn new(waker: mio::Waker) -> Mailbox {
        Mailbox { waker, mail: Mutex::default() }
    }

    /// Puts something in. What there can be is bounded by the clients and connections that it is about.
    pub(crate) fn put(&self, mail: Mail) {
        let mut all = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(mail);
        let is_first = all.len() == 1;
        drop(all);
        if is_first && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a worker of the pooler cannot be woken");
        }
    }

    pub(crate) fn take(&self) -> VecDeque<Mail> {
        std::mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Commons {
    pub(crate) fn tell_all(&self, mail: impl Fn() -> Mail) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.put(mail()));
    }

    pub(crate) fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

impl PoolShared {
    pub(crate) fn new(
        plan: Arc<PoolPlan>,
        cluster: Arc<Cluster>,
        verifiers: Arc<Verifiers>,
        tls: Option<Arc<Accepting>>,
    ) -> PoolShared {
        PoolShared {
            name: plan.name.clone(),
            plan: ArcSwap::new(plan),
            cluster,
            verifiers: ArcSwap::new(verifiers),
            tls: ArcSwapOption::new(tls),
            open: AtomicU32::new(0),
            clients: AtomicU32::new(0),
            is_paused: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            capped: AtomicU64::new(0),
            stale_before: AtomicU64::new(0),
            groups: Mutex::default(),
            shelves: Mutex::default(),
        }
    }

    /// It is in the configuration no more: nothing is begun or opened.
    pub(crate) fn leave(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    /// Whether it is in the configuration no more.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// Every group, as clients came.
    pub(crate) fn groups(&self) -> Vec<Arc<GroupShared>> {
        self.lock_groups().values().cloned().collect()
    }

    fn lock_groups(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<GroupShared>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of this database and user, made if it is new. Only who has logged in gets here.
    ///
    /// It is at home at the worker that has the fewest; of several, at the one that asks. `None`: there are too many already,
    /// as when somebody makes up names of databases.
    pub(crate) fn group(
        self: &Arc<Self>,
        database: &str,
        user: &str,
        commons: &Commons,
        by: usize,
    ) -> Option<Arc<GroupShared>> {
        let key = (database.to_owned(), user.to_owned());
        let mut groups = self.lock_groups();
        if groups.len() >= MOST_GROUPS && !groups.contains_key(&key) {
            return None;
        }
        let workers = commons.mailboxes.len();
        let new = || {
            let homes = commons.homes.iter().map(|homes| homes.load(Ordering::Relaxed)).enumerate();
            let home = homes.min_by_key(|(index, homes)| (*homes, *index != by)).map_or(0, |(index, _)| index);
            commons.homes[home].fetch_add(1, Ordering::Relaxed);
            Arc::new(GroupShared {
                pool: self.clone(),
                database: database.to_owned(),
                user: user.to_owned(),
                home,
                is_split: AtomicBool::new(false),
                secret: Mutex::new(Secret::None),
                open: AtomicU32::new(0),
                pinned: AtomicU32::new(0),
                cells: Sharded::new(workers),
                gauges: Sharded::new(workers),
                heads: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            })
        };
        Some(groups.entry(key).or_insert_with(new).clone())
    }
}

impl GroupShared {
    /// The worker that a client of this group belongs to; `None`: any.
    pub(crate) fn owner(&self) -> Option<usize> {
        if self.is_split.load(Ordering::Relaxed) {
            return None;
        }
        let rule = self.pool.plan.load().rule(&self.database, &self.user);
        if rule.size >= SPLIT_FROM {
            self.is_split.store(true, Ordering::Relaxed);
            return None;
        }
        Some(self.home)
    }

    pub(crate) fn secret(&self) -> Secret {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_secret(&self, secret: Secret) {
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = secret;
    }
}

/// Takes one of `most`, if there is one.
pub(crate) fn take_one(count: &AtomicU32, most: u32) -> bool {
    let more = |n: u32| (n < most).then_some(n + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
}

/// Gives one back.
pub(crate) fn give_one(count: &AtomicU32) {
    let less = |n: u32| n.checked_sub(1);
    // Never below zero: each is taken before it is given.
    let _was = count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
}
