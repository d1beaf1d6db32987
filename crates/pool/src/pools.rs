//! The pooler as a part: started with a plan and listening sockets, reloaded with another plan, looked at, ordered about,
//! drained.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use kernel::trace::{RequestTrace, TraceLine};
use kernel::{Clock, Drain, DrainPhase, Entropy, Event, Journal};
use mio::Poll;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::admin::Averages;
use crate::cluster::Cluster;
use crate::console::Reload;
use crate::orders::{Order, OrderError};
use crate::plan::{Listen, Mode, Plan, PoolPlan};
use crate::shared::{Accepting, Commons, Mail, Mailbox, PoolShared, Whom};
use crate::stats;
use crate::stats::story::{self, Stories};
use crate::tls;
use crate::verifiers::Verifiers;
use crate::view::{ClientView, ConnectionView, GroupView, PoolView, StatementView, Totals};
use crate::worker::{Listener, Listening, MAIL, Worker};

/// How often the drain's patience is looked at, and averages are taken if they are due.
const LOOK: Duration = Duration::from_millis(250);
/// How long an answer of a worker is waited for.
const ANSWER: Duration = Duration::from_secs(2);

/// A listening socket, and which of the plan's addresses it is.
#[derive(Debug)]
pub enum PoolSocket {
    /// TCP.
    Tcp(Listen, std::net::TcpListener),
    /// A Unix socket.
    Unix(Listen, std::os::unix::net::UnixListener),
}

/// The running pooler.
#[derive(Debug, Clone)]
pub struct Pools(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) commons: Arc<Commons>,
    pub(crate) averages: Averages,
    pub(crate) reload: OnceLock<Reload>,
    workers: Mutex<Vec<JoinHandle<io::Result<()>>>>,
}

impl Pools {
    /// Starts `workers` workers that accept from `sockets` once [`Pools::open`] was called. Servers are watched, and
    /// connections opened, on `control`.
    ///
    /// # Errors
    /// When threads, descriptors or randomness cannot be had, or TLS cannot be set up.
    pub fn start(
        plan: &Plan,
        sockets: &[PoolSocket],
        workers: usize,
        clock: Clock,
        journal: Journal,
        drain: &Drain,
        control: Handle,
    ) -> io::Result<Pools> {
        // The worker's number is in the keys of its clients: 7 bits.
        let workers = workers.clamp(1, 128);
        let mut polls = Vec::new();
        let mut mailboxes = Vec::new();
        for _ in 0..workers {
            let poll = Poll::new()?;
            mailboxes.push(Mailbox::new(mio::Waker::new(poll.registry(), MAIL)?));
            polls.push(poll);
        }
        let mut entropy = Entropy::from_os().map_err(io::Error::other)?;
        let stories = (0..workers).map(|worker| Stories::new(worker, entropy.next_u64())).collect();
        let commons = Arc::new(Commons {
            clock,
            journal,
            control,
            statements: crate::statements::Statements::default(),
            mailboxes,
            pools: ArcSwap::default(),
            homes: (0..workers).map(|_| AtomicU32::new(0)).collect(),
            next_id: AtomicU64::new(1),
            stories,
            console: OnceLock::new(),
        });
        let pools = plan.pools.iter().map(|plan| start_pool(&commons, plan)).collect::<io::Result<Vec<_>>>()?;
        commons.pools.store(Arc::new(pools));
        let inner = Arc::new(Inner {
            commons: commons.clone(),
            averages: Averages::default(),
            reload: OnceLock::new(),
            workers: Mutex::default(),
        });
        // Only set here.
        let _first = commons.console.set(Arc::downgrade(&inner));
        let mut threads = Vec::new();
        for (index, poll) in polls.into_iter().enumerate() {
            let listeners = sockets.iter().enumerate().filter(|(at, socket)| {
                // Where there are handshakes everybody accepts; elsewhere one worker for each socket saves waking the others.
                at % workers == index || has_tls(plan, socket)
            });
            let listeners = listeners.map(|(_, socket)| listener(socket)).collect::<io::Result<Vec<_>>>()?;
            let entropy = Entropy::from_os().map_err(io::Error::other)?;
            let worker = Worker::new(index, commons.clone(), poll, listeners, entropy);
            let watch = Watch { index, journal: commons.journal.clone() };
            let run = move || {
                let watch = watch;
                let ended = worker.run();
                if let Err(error) = &ended {
                    let error = format!("pool-{}: {error}", watch.index);
                    watch.journal.tell(Event::WorkerFailed { error });
                }
                ended
            };
            threads.push(std::thread::Builder::new().name(format!("pool-{index}")).spawn(run)?);
        }
        *inner.workers.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        let pools = Pools(inner);
        pools.0.commons.control.spawn(follow(Arc::downgrade(&pools.0), drain.clone()));
        Ok(pools)
    }

    /// Lets clients in: until then they wait in the sockets' queues.
    pub fn open(&self) {
        self.0.commons.tell_all(|| Mail::Open);
    }

    /// What the console's RELOAD does.
    pub fn set_reload(&self, reload: Reload) {
        // The first one counts.
        let _first = self.0.reload.set(reload);
    }

    /// Goes on with another plan. Pools that stay keep their connections, as far as they lead where the plan says; clients of
    /// pools that are gone are sent away.
    ///
    /// # Errors
    /// When TLS cannot be set up; then nothing has changed for that pool, or it is not there.
    pub fn apply(&self, plan: &Plan) -> io::Result<()> {
        let commons = &self.0.commons;
        let before = commons.pools.load_full();
        let mut after = Vec::new();
        let mut failed = None;
        for plan in &plan.pools {
            match before.iter().find(|pool| pool.name == plan.name) {
                Some(pool) => {
                    if let Err(error) = self.change(pool, plan) {
                        failed = Some(error);
                    }
                    after.push(pool.clone());
                }
                None => match start_pool(commons, plan) {
                    Ok(pool) => after.push(pool),
                    Err(error) => failed = Some(error),
                },
            }
        }
        let gone: Vec<Arc<PoolShared>> =
            before.iter().filter(|old| !after.iter().any(|new| Arc::ptr_eq(old, new))).cloned().collect();
        commons.pools.store(Arc::new(after));
        for pool in gone {
            pool.leave();
            pool.cluster.stop();
            commons.tell_all(|| {
                let (answer, _nobody) = oneshot::channel();
                Mail::Kill { pool: pool.clone(), whom: Whom::Everybody, answer }
            });
        }
        commons.tell_all(|| Mail::Changed);
        failed.map_or(Ok(()), Err)
    }

    fn change(&self, pool: &Arc<PoolShared>, plan: &Arc<PoolPlan>) -> io::Result<()> {
        let tls = accepting(plan)?;
        let before = pool.plan.load_full();
        let mut plan = PoolPlan::clone(plan);
        // Where it listened it listens until a restart.
        let kept = before.listen.iter().filter(|listen| !plan.listen.contains(listen)).cloned();
        plan.listen = plan.listen.iter().cloned().chain(kept).collect();
        let plan = &Arc::new(plan);
        pool.cluster.reload(plan.clone()).map_err(io::Error::other)?;
        pool.plan.store(plan.clone());
        pool.tls.store(tls);
        if before.auth != plan.auth {
            pool.verifiers.store(Arc::new(Verifiers::new(pool.cluster.clone(), self.0.commons.clock.clone())));
        }
        if before.server_tls != plan.server_tls || before.rules != plan.rules || before.servers != plan.servers {
            pool.stale_before.store(self.0.commons.clock.now().as_nanos(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// How the pools are.
    pub fn view(&self) -> Vec<PoolView> {
        self.0.views()
    }

    /// The statements of a pool, by shape.
    pub fn statements(&self, pool: &str) -> Vec<StatementView> {
        self.0.statements(pool)
    }

    /// The clients of a pool.
    pub async fn clients(&self, pool: &str) -> Vec<ClientView> {
        self.gather(pool, |pool, answer| Mail::Clients { pool, answer }).await
    }

    /// The server connections of a pool.
    pub async fn connections(&self, pool: &str) -> Vec<ConnectionView> {
        self.gather(pool, |pool, answer| Mail::Connections { pool, answer }).await
    }

    async fn gather<T>(&self, pool: &str, mail: impl Fn(Arc<PoolShared>, oneshot::Sender<Vec<T>>) -> Mail) -> Vec<T> {
        let Some(pool) = self.0.find(pool) else { return Vec::new() };
        let mut all = Vec::new();
        for answer in self.0.ask(&pool, mail) {
            if let Ok(Ok(some)) = tokio::time::timeout(ANSWER, answer).await {
                all.extend(some);
            }
        }
        all
    }

    /// Does what a pool is ordered; a sentence says what was done.
    ///
    /// # Errors
    /// [`OrderError`], when it cannot be done.
    pub async fn order(&self, pool: &str, order: Order, actor: &str, reason: &str) -> Result<String, OrderError> {
        let whom = self.0.order(pool, &order, actor, reason)?;
        let Some(whom) = whom else { return Ok(done(pool, &order)) };
        let pool = self.0.find(pool).ok_or_else(|| OrderError::NoPool(pool.to_owned()))?;
        let mut killed = 0;
        for answer in self.0.ask(&pool, |pool, answer| Mail::Kill { pool, whom: whom.clone(), answer }) {
            if let Ok(Ok(some)) = tokio::time::timeout(ANSWER, answer).await {
                killed += some;
            }
        }
        killed_or(&order, killed)
    }

    /// What is known of a transaction by its id, such as `tx-6c0f1e2d3b4a5968`.
    pub fn why(&self, id: &str) -> Option<RequestTrace> {
        story::why(&self.0.commons.stories, id, &self.0.commons.clock)
    }

    /// The newest transactions of which something is known, newest first.
    pub fn traces(&self, most: usize) -> Vec<TraceLine> {
        story::lines(&self.0.commons.stories, most, &self.0.commons.clock)
    }

    /// When the oldest transaction began of which something is known, in milliseconds since the Unix epoch.
    pub fn oldest_trace_unix_ms(&self) -> Option<u64> {
        story::oldest_unix_ms(&self.0.commons.stories, &self.0.commons.clock)
    }

    /// Waits until every worker has ended.
    pub fn join(&self) {
        let workers = std::mem::take(&mut *self.0.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // How it ended was told where it did.
            let _told = worker.join();
        }
    }

    /// Whether every worker is there.
    pub fn is_whole(&self) -> bool {
        let workers = self.0.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().all(|worker| !worker.is_finished())
    }

    /// Clients that are connected.
    pub fn client_count(&self) -> u64 {
        let pools = self.0.commons.pools.load();
        pools.iter().map(|pool| u64::from(pool.clients.load(Ordering::Relaxed))).sum()
    }
}

impl Inner {
    pub(crate) fn find(&self, name: &str) -> Option<Arc<PoolShared>> {
        self.commons.pools.load().iter().find(|pool| pool.name == name).cloned()
    }

    /// Asks every worker.
    pub(crate) fn ask<T>(
        &self,
        pool: &Arc<PoolShared>,
        mail: impl Fn(Arc<PoolShared>, oneshot::Sender<T>) -> Mail,
    ) -> Vec<oneshot::Receiver<T>> {
        let ask = |mailbox: &Mailbox| {
            let (sender, answer) = oneshot::channel();
            mailbox.put(mail(pool.clone(), sender));
            answer
        };
        self.commons.mailboxes.iter().map(ask).collect()
    }

    /// Does what can be done at once; whom the rest is about.
    pub(crate) fn order(
        &self,
        name: &str,
        order: &Order,
        actor: &str,
        reason: &str,
    ) -> Result<Option<Whom>, OrderError> {
        let pool = self.find(name).ok_or_else(|| OrderError::NoPool(name.to_owned()))?;
        let refused = |error: crate::cluster::ClusterError| match error {
            crate::cluster::ClusterError::NoServer { pool, server, known } => {
                OrderError::NoServer { pool, server, known }
            }
            other => OrderError::Refused(other.to_string()),
        };
        let mut whom = None;
        match order {
            Order::Pause => pool.is_paused.store(true, Ordering::Relaxed),
            Order::Resume => pool.is_paused.store(false, Ordering::Relaxed),
            Order::Failover { to } => pool.cluster.failover(to.as_deref(), actor, reason).map_err(refused)?,
            Order::Drain { server } => pool.cluster.drain(server, actor, reason).map_err(refused)?,
            Order::Undrain { server } => pool.cluster.undrain(server, actor, reason).map_err(refused)?,
            Order::Reconnect => {
                pool.stale_before.store(self.commons.clock.now().as_nanos(), Ordering::Relaxed);
            }
            Order::KillUser(user) => whom = Some(Whom::User(user.clone())),
            Order::KillClient(id) => whom = Some(Whom::Client(*id)),
            Order::KillFingerprint(text) => match u64::from_str_radix(text, 16) {
                Ok(fingerprint) => whom = Some(Whom::Fingerprint(fingerprint)),
                Err(_) => {
                    let why = format!("\"{text}\" is no fingerprint: they are 16 hexadecimal digits");
                    return Err(OrderError::Refused(why));
                }
            },
        }
        let is_told_there = matches!(order, Order::Failover { .. } | Order::Drain { .. } | Order::Undrain { .. });
        if !is_told_there {
            self.commons.journal.tell(Event::PoolOrdered {
                service: name.to_owned(),
                order: order.to_string(),
                actor: actor.to_owned(),
                reason: reason.to_owned(),
            });
        }
        self.commons.tell_all(|| Mail::Changed);
        Ok(whom)
    }

    pub(crate) fn statements(&self, name: &str) -> Vec<StatementView> {
        let Some(pool) = self.find(name) else { return Vec::new() };
        let shelves = pool.shelves.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stats::merge(name, shelves.iter().map(|shelf| &**shelf))
    }

    pub(crate) fn views(&self) -> Vec<PoolView> {
        self.commons.pools.load().iter().map(|pool| self.pool_view(pool)).collect()
    }

    fn pool_view(&self, pool: &PoolShared) -> PoolView {
        let plan = pool.plan.load();
        let standing = pool.cluster.primary();
        let mut groups: Vec<GroupView> = pool.groups().iter().map(|group| self.group_view(group, &plan)).collect();
        groups.sort_by(|a, b| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
        PoolView {
            name: pool.name.clone(),
            listen: plan.listen.iter().map(ToString::to_string).collect(),
            mode: mode(plan.mode),
            is_paused: pool.is_paused.load(Ordering::Relaxed),
            servers: pool.cluster.views(),
            primary: standing.server,
            trouble: standing.trouble.as_deref().map(str::to_owned),
            max_connections: plan.max_connections,
            connections: pool.open.load(Ordering::Relaxed),
            clients: pool.clients.load(Ordering::Relaxed),
            max_clients: plan.max_clients,
            groups,
        }
    }

    fn group_view(&self, group: &crate::shared::GroupShared, plan: &PoolPlan) -> GroupView {
        let rule = plan.rule(&group.database, &group.user);
        let mut totals = Totals::default();
        group.cells.iter().for_each(|cells| cells.add_to(&mut totals));
        let sum = |read: fn(&crate::shared::Gauges) -> &std::sync::atomic::AtomicU32| {
            group.gauges.iter().map(|gauges| read(gauges).load(Ordering::Relaxed)).sum::<u32>()
        };
        let now = self.commons.clock.now().as_nanos();
        let heads = group.heads.iter().map(|head| head.load(Ordering::Relaxed)).filter(|head| *head > 0);
        let max_wait = heads.min().map_or(Duration::ZERO, |head| Duration::from_nanos(now.saturating_sub(head)));
        GroupView {
            database: group.database.clone(),
            user: group.user.clone(),
            mode: mode(rule.mode),
            size: rule.size,
            clients_active: sum(|g| &g.clients_active),
            clients_waiting: sum(|g| &g.clients_waiting),
            clients_idle: sum(|g| &g.clients_idle),
            clients_pinned: group.pinned.load(Ordering::Relaxed),
            servers_active: sum(|g| &g.servers_active),
            servers_idle: sum(|g| &g.servers_idle),
            servers_busy: sum(|g| &g.servers_busy),
            max_wait,
            totals,
        }
    }
}

/// What an order has come to that is done at once.
fn done(pool: &str, order: &Order) -> String {
    match order {
        Order::Pause => format!("pool {pool} is paused: transactions that have not begun wait"),
        Order::Resume => format!("pool {pool} goes on"),
        Order::Failover { to: Some(to) } => format!("pool {pool} goes to {to} as soon as it is primary"),
        Order::Failover { to: None } => format!("pool {pool} goes to whichever other server is primary"),
        Order::Drain { server } => format!("pool {pool} begins nothing more at {server}"),
        Order::Undrain { server } => format!("pool {pool} may use {server} again"),
        Order::Reconnect => format!("pool {pool} replaces its connections as they become free"),
        Order::KillUser(_) | Order::KillClient(_) | Order::KillFingerprint(_) => "done".to_owned(),
    }
}

/// What a kill has come to.
pub(crate) fn killed_or(order: &Order, killed: u64) -> Result<String, OrderError> {
    let clients = if killed == 1 { "1 client was".to_owned() } else { format!("{killed} clients were") };
    match (order, killed) {
        (Order::KillFingerprint(f), 0) => Err(OrderError::Nothing(format!("nobody runs a statement of shape {f} now"))),
        (Order::KillUser(user), 0) => Err(OrderError::Nothing(format!("no client is user \"{user}\""))),
        (Order::KillClient(id), 0) => Err(OrderError::Nothing(format!("there is no client {id}"))),
        (Order::KillFingerprint(_), 1) => Ok("1 query was cancelled".to_owned()),
        (Order::KillFingerprint(_), n) => Ok(format!("{n} queries were cancelled")),
        _ => Ok(format!("{clients} sent away")),
    }
}

/// The word for a mode.
fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Transaction => "transaction",
        Mode::Session => "session",
        Mode::Statement => "statement",
    }
}

/// Tells the journal if a worker's thread ends by a panic.
#[derive(Debug)]
struct Watch {
    index: usize,
    journal: Journal,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.journal.tell(Event::WorkerFailed { error: format!("pool-{} panicked", self.index) });
        }
    }
}

fn start_pool(commons: &Arc<Commons>, plan: &Arc<PoolPlan>) -> io::Result<Arc<PoolShared>> {
    let tls = accepting(plan)?;
    let weak = Arc::downgrade(commons);
    let changed = move || {
        if let Some(commons) = weak.upgrade() {
            commons.tell_all(|| Mail::Changed);
        }
    };
    let (clock, journal) = (commons.clock.clone(), commons.journal.clone());
    let cluster = Cluster::start(plan.clone(), clock.clone(), journal, commons.control.clone(), Arc::new(changed));
    let cluster = cluster.map_err(io::Error::other)?;
    let verifiers = Arc::new(Verifiers::new(cluster.clone(), clock));
    Ok(Arc::new(PoolShared::new(plan.clone(), cluster, verifiers, tls)))
}

fn accepting(plan: &PoolPlan) -> io::Result<Option<Arc<Accepting>>> {
    let Some(tls) = &plan.tls else { return Ok(None) };
    let (config, end_point) = tls::accept_config(tls).map_err(io::Error::other)?;
    Ok(Some(Arc::new(Accepting { config, end_point })))
}

/// Whether a pool at this address speaks TLS with its clients.
fn has_tls(plan: &Plan, socket: &PoolSocket) -> bool {
    let (PoolSocket::Tcp(listen, _) | PoolSocket::Unix(listen, _)) = socket;
    plan.pools.iter().any(|pool| pool.tls.is_some() && pool.listen.contains(listen))
}

fn listener(socket: &PoolSocket) -> io::Result<Listener> {
    match socket {
        PoolSocket::Tcp(listen, socket) => {
            let socket = socket.try_clone()?;
            socket.set_nonblocking(true)?;
            // What is accepted inherits it. Answers are small and awaited.
            socket2::SockRef::from(&socket).set_tcp_nodelay(true)?;
            let socket = Listening::Tcp(mio::net::TcpListener::from_std(socket));
            Ok(Listener { socket, listen: Arc::new(listen.clone()) })
        }
        PoolSocket::Unix(listen, socket) => {
            let socket = socket.try_clone()?;
            socket.set_nonblocking(true)?;
            let socket = Listening::Unix(mio::net::UnixListener::from_std(socket));
            Ok(Listener { socket, listen: Arc::new(listen.clone()) })
        }
    }
}

/// Follows the process's drain, and lets averages be taken.
async fn follow(pools: Weak<Inner>, mut drain: Drain) {
    let mut is_draining = false;
    loop {
        let Some(inner) = pools.upgrade() else { return };
        let phase = drain.phase();
        if phase >= DrainPhase::Draining && !is_draining {
            is_draining = true;
            let is_patient = drain.is_patient();
            inner.commons.tell_all(|| Mail::Drain { is_patient });
        }
        if is_draining && !drain.is_patient() {
            inner.commons.tell_all(|| Mail::Drain { is_patient: false });
        }
        if phase >= DrainPhase::Closed {
            inner.commons.tell_all(|| Mail::End);
            inner.commons.pools.load().iter().for_each(|pool| pool.cluster.stop());
            return;
        }
        inner.averages.tick(inner.commons.clock.now(), || inner.views());
        drop(inner);
        let next = if is_draining { DrainPhase::Closed } else { DrainPhase::Draining };
        // The next phase, or the next look; either is what is waited for.
        let _either = tokio::time::timeout(LOOK, drain.reached(next)).await;
    }
}
