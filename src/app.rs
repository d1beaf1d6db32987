//! The whole node: configuration to running parts and their addresses, reloads while it runs, and an orderly end.
//!
//! ```text
//! build    => built      listeners bound or inherited, workers started; from here the addresses are known
//! built    => running    everything accepts; whoever was replaced knows it (`entering`)
//! running  => announced  told to stop: /readyz fails, everything is still served (drain_delay)
//! announced=> draining   listeners are closed once their queues are empty; each connection ends after its request
//! running  => draining   the next process has taken the listeners over; connections end as their clients like
//! draining => closed     everything has ended, or drain_timeout (handover_timeout) has passed and the rest is cut (`ending`)
//! ```
//! A reload reads the same source again. A configuration that is wrong changes nothing; one that is right is taken
//! over as a whole, except for what only a restart can change (addresses, workers), which is said.

mod ending;
mod entering;
mod node;
mod reloading;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use console::{AdminServer, AdminSettings, ApiServer, ApiSettings, Limits, Node, Vitals};
use gateway::{Gateway, GatewayView};
use kernel::journal::{Boot, Journal, JournalReader};
use kernel::trace::{TraceLine, Why};
use kernel::{Clock, DrainTrigger, Entropy, Finding, Moment, Severity};
use observe::{Process, Registry};
use pool::Pools;
use pool::tallies::PoolTallies;
use store::Store;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use kernel::overrides::OverrideStore;

use crate::config::{self, Compiled, Outcome, World};
use crate::discovery::Discovery;
use crate::handover::Held;
use crate::handover::asking::{self, AskError};
use crate::handover::giving::Giving;
use crate::listening::bind_all;
use crate::operate::Operations;
use crate::overrides::MemoryStore;
use crate::pool_sockets::UnixSockets;
use crate::service_manager::ServiceManager;
use crate::views::Both;
use reloading::{LastReload, Read, ReloadCells};

/// How long the end waits for the disk.
const STORE_CLOSE: Duration = Duration::from_secs(5);

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read again at each reload.
    File(PathBuf),
    /// A text, for the demo: a reload reads the same text.
    Text(String),
}

impl Source {
    /// Where it is, for people.
    fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Text(_) => "built in".to_owned(),
        }
    }
}

/// What a node starts from.
#[derive(Debug)]
pub struct Start {
    /// Its configuration.
    pub source: Source,
    /// Whether it takes the place of a node that runs with the same store. If none does, it is a usual start.
    pub take_over: bool,
    /// Sockets that were passed to the process.
    pub passed: Vec<Held>,
}

/// A node that is set up; it serves once it has entered.
#[derive(Debug)]
pub struct App {
    inner: Arc<Inner>,
    trigger: DrainTrigger,
    addresses: Addresses,
    giving: Arc<Giving>,
    waiting: Mutex<Option<entering::Waiting>>,
    /// The pools' sockets that have a file.
    unix: UnixSockets,
    control: Handle,
}

/// Where a node listens.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Client traffic.
    pub gateway: Vec<SocketAddr>,
    /// The console and the operators' API.
    pub console: Option<SocketAddr>,
    /// The API for applications.
    pub api: Option<SocketAddr>,
    /// Pools: each with each of its addresses.
    pub pools: Vec<(String, PoolAddress)>,
}

/// Where a pool listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for PoolAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PoolAddress::Tcp(address) => write!(f, "{address}"),
            PoolAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[derive(Debug)]
struct Inner {
    source: Source,
    gateway: Arc<Gateway>,
    pools: Pools,
    operations: Arc<Operations>,
    journal: Journal,
    store: Option<Arc<Store>>,
    discovery: Discovery,
    metrics: Registry,
    clock: Clock,
    started: Moment,
    addresses: Addresses,
    /// What only a restart can change, as it was at the start.
    fixed: Fixed,
    last_reload: Mutex<Option<LastReload>>,
    /// What was read last.
    read: Mutex<Read>,
    /// The text that is in force.
    in_force: Mutex<String>,
    reloads: Arc<ReloadCells>,
    servers: Mutex<Vec<Settable>>,
    /// The servers' tasks.
    serving: Mutex<Vec<JoinHandle<()>>>,
    stopping: Mutex<Stopping>,
    manager: Arc<ServiceManager>,
}

/// How a stop goes.
#[derive(Debug, Clone, Copy)]
struct Stopping {
    delay: Duration,
    timeout: Duration,
    /// In the place of both, after a hand-over.
    handover: Duration,
}

impl Stopping {
    fn of(compiled: &Compiled) -> Stopping {
        Stopping { delay: compiled.drain_delay, timeout: compiled.drain_timeout, handover: compiled.handover_timeout }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Fixed {
    listen: Vec<SocketAddr>,
    admin: SocketAddr,
    api: Option<SocketAddr>,
    workers: usize,
    store: PathBuf,
    /// Names and addresses.
    pools: Vec<(String, Vec<pool::plan::Listen>)>,
}

/// A server whose settings a reload changes.
#[derive(Debug, Clone)]
enum Settable {
    Admin(AdminServer),
    Api(ApiServer),
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Config {
        /// Why not, for programs.
        findings: Vec<Finding>,
        /// Why not, for people: each finding with the line it is about.
        text: String,
    },
    /// Something that the operating system has to give is not to be had.
    #[error("cannot {what}: {error}")]
    System {
        /// What was attempted.
        what: String,
        /// What came of it.
        error: std::io::Error,
    },
    /// The node that is to be replaced goes on.
    #[error(transparent)]
    TakeOver(#[from] AskError),
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.into();
    |error| StartError::System { what, error }
}

impl App {
    /// Reads the configuration, finds or binds every listener and starts every part; nothing is accepted before
    /// [`App::enter`]. `control` runs what is not data plane. Blocks.
    ///
    /// # Errors
    /// A configuration that cannot be used (an address that is taken is a finding too), a node that hands nothing over, or
    /// a system that refuses. A node that was to be replaced goes on then.
    pub fn build(start: Start, control: &Handle) -> Result<App, StartError> {
        let Start { source, take_over, passed: mut sockets } = start;
        let outcome = read(&source);
        let Some(mut compiled) = outcome.compiled.clone() else {
            return Err(StartError::Config { text: outcome.text(), findings: outcome.findings });
        };
        let clock = Clock::real();
        let mut entropy = Entropy::from_os().map_err(|e| system("make random numbers")(std::io::Error::other(e)))?;
        let (trigger, drain) = DrainTrigger::new();
        let taken = if take_over { asking::take_over(&compiled.store)? } else { None };
        let (asking, registered) = match taken {
            Some(taken) => {
                sockets.extend(taken.sockets);
                (Some(taken.asking), taken.registered)
            }
            None => (None, Vec::new()),
        };
        let bound = bind_all(&compiled, &outcome, sockets)?;
        log_warnings(&outcome);
        let fixed = Fixed::of(&compiled);
        let addresses = Addresses {
            gateway: bound.gateway.iter().map(|held| held.address).collect(),
            console: Some(bound.admin.address),
            api: bound.api.as_ref().map(|held| held.address),
            pools: crate::pool_sockets::addresses(&compiled, &bound.pools),
        };
        let doors = bound.duplicates().map_err(system("duplicate the listeners"))?;
        let listeners: Vec<_> = bound.gateway.into_iter().map(|held| held.socket).collect();
        let (admin_settings, api_settings) = settings_of(&compiled);
        let read = Read::of(&outcome, &compiled.files);
        let stopping = Stopping::of(&compiled);
        let (journal, intake) = Journal::new(clock.clone(), Boot::new(&mut entropy));
        let (pool_sockets, unix) = crate::pool_sockets::sockets(&compiled, bound.pools, asking.is_some())?;
        let pools = Pools::start(
            &compiled.pools,
            &pool_sockets,
            fixed.workers,
            clock.clone(),
            journal.clone(),
            &drain,
            control.clone(),
        );
        let pools = pools.map_err(system("start the pooler"))?;
        drop(pool_sockets);
        let store = compiled.keeping.map(|keeping| {
            let store = Store::open(keeping.store(&fixed.store), clock.clone(), journal.clone());
            store.keep_journal(intake);
            store
        });
        let decisions: Arc<dyn OverrideStore> = match &store {
            Some(store) => store.ledger(),
            None => Arc::new(MemoryStore),
        };
        let operations = Arc::new(Operations::open(decisions, clock.clone(), journal.clone()));
        let gateway = operations.put_in_force(&mut compiled.plan, |plan| {
            Gateway::start_closed(
                plan.clone(),
                &listeners,
                fixed.workers,
                clock.clone(),
                &drain,
                control.clone(),
                journal.clone(),
            )
        });
        let gateway = gateway.map_err(system("start the workers"))?;
        drop(listeners);
        let gateway = Arc::new(gateway);
        if let Some(store) = &store {
            let views = pools.clone();
            let transactions = PoolTallies::new(move || views.view());
            store.keep_tallies(Arc::new(Both(gateway.clone(), Arc::new(transactions))));
        }
        let own = addresses.gateway.clone();
        let found = &compiled.discovery;
        let discovery = Discovery::start(found, gateway.clone(), own, clock.clone(), &drain, control.clone());
        discovery.restore(&registered);
        let manager = Arc::new(ServiceManager::default());
        let giving = Arc::new(Giving::new(
            fixed.store.clone(),
            doors,
            gateway.clone(),
            discovery.clone(),
            manager.clone(),
            trigger.clone(),
        ));
        let reloads = Arc::new(ReloadCells::default());
        reloads.valid.set(1);
        let metrics = Registry::new()
            .with(gateway.clone())
            .with(Arc::new(journal.clone()))
            .with(Arc::new(discovery.clone()))
            .with(reloads.clone())
            .with(operations.clone())
            .with(Arc::new(pool::collect::PoolMetrics::new({
                let pools = pools.clone();
                move || pools.view()
            })))
            .with(Arc::new(Process::of_self(env!("CARGO_PKG_VERSION"))));
        let metrics = match &store {
            Some(store) => metrics.with(store.clone()),
            None => metrics,
        };
        let inner = Arc::new(Inner {
            source,
            gateway,
            pools,
            operations,
            journal,
            store,
            discovery,
            metrics,
            started: clock.now(),
            clock: clock.clone(),
            addresses: addresses.clone(),
            fixed,
            last_reload: Mutex::default(),
            read: Mutex::new(read),
            in_force: Mutex::new(outcome.source.text().to_owned()),
            reloads,
            servers: Mutex::default(),
            serving: Mutex::default(),
            stopping: Mutex::new(stopping),
            manager,
        });
        inner.pools.set_reload(reload_of(&inner));
        let vitals = Vitals::new(inner.clone(), clock);
        let admin = AdminServer::new(vitals.clone(), admin_settings, Limits::default())
            .map_err(|error| system("make the console's CSRF token")(std::io::Error::other(error)))?;
        let api = bound.api.map(|held| {
            let registrar = Arc::new(inner.discovery.clone());
            (ApiServer::new(vitals.clone(), registrar, api_settings, Limits::default()), held.socket)
        });
        let waiting = entering::Waiting { asking, vitals, admin: (admin, bound.admin.socket), api };
        let waiting = Mutex::new(Some(waiting));
        Ok(App { inner, trigger, addresses, giving, waiting, unix, control: control.clone() })
    }

    /// Every family of metrics that it has.
    pub fn describe_metrics(&self) -> Vec<observe::Described> {
        self.inner.metrics.describe()
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How long it keeps everything open after it was told to stop, if the one who asks does not say otherwise.
    pub fn drain_delay(&self) -> Duration {
        self.inner.stopping().delay
    }

    /// How the data plane is, from any thread.
    pub fn view(&self) -> impl Fn() -> GatewayView + Send + Sync + use<> {
        let gateway = self.inner.gateway.clone();
        move || gateway.view()
    }

    /// What was told; reading it may block.
    pub fn journal(&self) -> Arc<dyn JournalReader> {
        self.inner.journal()
    }

    /// What was done with a request, by its id.
    pub fn why(&self) -> impl Fn(&str) -> Why + Send + Sync + use<> {
        let inner = self.inner.clone();
        move |id| inner.why(id)
    }

    /// The newest requests that can be told of, newest first; of one service, if it is named.
    pub fn traces(&self) -> impl Fn(usize, Option<&str>) -> Vec<TraceLine> + Send + Sync + use<> {
        let inner = self.inner.clone();
        move |most, service| inner.traces(most, service)
    }

    /// Reads the configuration again. Blocks.
    ///
    /// # Errors
    /// What is wrong with it; the one from before stays in force.
    pub fn reload(&self) -> Result<String, Vec<Finding>> {
        self.inner.reload()
    }

    /// Another handle for the same, for a signal handler.
    pub fn reloader(&self) -> impl Fn() -> Result<String, Vec<Finding>> + Send + Sync + use<> {
        let inner = self.inner.clone();
        move || inner.reload()
    }

    /// Opens log files anew, after a rotation.
    pub fn reopen_logs(&self) {
        self.inner.gateway.reopen_logs();
    }
}

/// What the pools' own console does for RELOAD.
fn reload_of(inner: &Arc<Inner>) -> pool::Reload {
    let inner = Arc::downgrade(inner);
    pool::Reload(Arc::new(move || {
        let Some(inner) = inner.upgrade() else { return Err("the node ends".to_owned()) };
        inner.reload().map(drop).map_err(|findings| config::report::summary(&findings))
    }))
}

/// Reads and compiles. Blocks.
fn read(source: &Source) -> Outcome {
    match source {
        Source::File(path) => config::load_file(path),
        Source::Text(text) => config::load("built in", text.clone(), &World::real(PathBuf::new())),
    }
}

/// What is legal but unwise, in the log; `evenkeel check` shows it in place.
fn log_warnings(outcome: &Outcome) {
    for finding in outcome.findings.iter().filter(|f| f.severity == Severity::Warning) {
        tracing::warn!(id = finding.id, at = finding.subject, remedy = finding.remedy, "{}", finding.message);
    }
}

fn settings_of(compiled: &Compiled) -> (AdminSettings, ApiSettings) {
    let admin = AdminSettings {
        hosts: compiled.admin_hosts.clone(),
        require_token: !compiled.admin.address.ip().is_loopback(),
        tokens: compiled.tokens.clone(),
    };
    (admin, ApiSettings { tokens: compiled.tokens.clone(), github_secret: compiled.github_secret.clone() })
}

impl Fixed {
    fn of(compiled: &Compiled) -> Fixed {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Fixed {
            listen: compiled.listeners.iter().map(|l| l.address).collect(),
            admin: compiled.admin.address,
            api: compiled.api.as_ref().map(|l| l.address),
            workers: compiled.workers.unwrap_or(cores),
            store: compiled.store.clone(),
            pools: compiled.pools.pools.iter().map(|pool| (pool.name.clone(), pool.listen.clone())).collect(),
        }
    }

    /// What differs, in the words of the configuration.
    fn differences(&self, other: &Fixed) -> Vec<&'static str> {
        let pairs = [
            (self.listen != other.listen, "the gateway's addresses"),
            (self.admin != other.admin, "admin.listen"),
            (self.api != other.api, "api.listen"),
            (self.workers != other.workers, "gateway.workers"),
            (self.store != other.store, "store.directory"),
            (self.pools != other.pools, "the pools and their addresses"),
        ];
        pairs.into_iter().filter_map(|(differs, what)| differs.then_some(what)).collect()
    }
}

impl Inner {
    /// What was told is kept, as far as that can be had in a moment.
    async fn close(&self) {
        let Some(store) = self.store.clone() else { return };
        let closed = tokio::task::spawn_blocking(move || store.close(STORE_CLOSE)).await;
        if !closed.unwrap_or(false) {
            tracing::warn!("the store could not be written to its end: see the journal for why");
        }
    }

    fn stopping(&self) -> Stopping {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
