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

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use console::view::{Acted, ActionError, ConfigView, EndpointAction, NodeView, Order, ReloadView, ServiceAction};
use console::{AdminServer, AdminSettings, ApiServer, ApiSettings, Limits, Node, Readiness, Vitals};
use gateway::{Gateway, GatewayView};
use kernel::{Clock, Drain, DrainPhase, DrainTrigger, Finding, Moment, Severity};
use observe::{Format, Process, Registry};
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
use crate::overrides::{FileStore, MemoryStore};
use crate::service_manager::ServiceManager;
use crate::views;

/// How often the configuration file is looked at for a change.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read again at each reload.
    File(PathBuf),
    /// A text, for the demo: a reload reads the same text.
    Text(String),
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
}

#[derive(Debug)]
struct Inner {
    source: Source,
    gateway: Arc<Gateway>,
    operations: Arc<Operations>,
    discovery: Discovery,
    metrics: Registry,
    clock: Clock,
    started: Moment,
    addresses: Addresses,
    /// What only a restart can change, as it was at the start.
    fixed: Fixed,
    last_reload: Mutex<Option<LastReload>>,
    /// What is in force.
    read: Mutex<Read>,
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
}

#[derive(Debug, Clone)]
struct LastReload {
    applied: bool,
    message: String,
    findings: Vec<Finding>,
    at: Moment,
}

/// What was read when the configuration in force was taken over.
#[derive(Debug, Clone, PartialEq)]
struct Read {
    text: String,
    /// Pages and secrets beside it, and what they looked like.
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// Enough of a file's state to see that it changed.
type Stamp = (std::time::SystemTime, u64);

impl Read {
    fn of(outcome: &Outcome, files: &[PathBuf]) -> Read {
        Read {
            text: outcome.source.text().to_owned(),
            files: files.iter().map(|path| (path.clone(), stamp(path))).collect(),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok()
}

/// A server whose settings a reload changes.
#[derive(Debug, Clone)]
enum Settable {
    Admin(AdminServer),
    Api(ApiServer),
}

/// Reloads by outcome, as metrics.
#[derive(Debug, Default)]
struct ReloadCells {
    applied: kernel::metrics::Shared,
    refused: kernel::metrics::Shared,
    /// 1 if the last one was taken over.
    valid: kernel::metrics::Shared,
}

impl kernel::metrics::Collect for ReloadCells {
    fn collect(&self, sink: &mut dyn kernel::metrics::Sink) {
        use kernel::metrics::{Family, MetricKind};
        sink.family(Family {
            name: "evenkeel_config_reloads_total",
            help: "Attempts to take over another configuration, by outcome",
            kind: MetricKind::Counter,
        });
        sink.sample(&[("outcome", "applied")], self.applied.get() as f64);
        sink.sample(&[("outcome", "refused")], self.refused.get() as f64);
        sink.family(Family {
            name: "evenkeel_config_valid",
            help: "1 if the last configuration that was read is in force, 0 if it was refused",
            kind: MetricKind::Gauge,
        });
        sink.sample(&[], self.valid.get() as f64);
    }
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
        };
        let doors = bound.duplicates().map_err(system("duplicate the listeners"))?;
        let listeners: Vec<_> = bound.gateway.into_iter().map(|held| held.socket).collect();
        let (admin_settings, api_settings) = settings_of(&compiled);
        let read = Read::of(&outcome, &compiled.files);
        let stopping = Stopping::of(&compiled);
        let operations = Arc::new(open_operations(&source, &fixed.store, &clock));
        let gateway = operations.put_in_force(&mut compiled.plan, |plan| {
            Gateway::start_closed(plan.clone(), &listeners, fixed.workers, clock.clone(), &drain, control.clone())
        });
        let gateway = gateway.map_err(system("start the workers"))?;
        drop(listeners);
        let gateway = Arc::new(gateway);
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
            .with(Arc::new(discovery.clone()))
            .with(reloads.clone())
            .with(operations.clone())
            .with(Arc::new(Process::of_self(env!("CARGO_PKG_VERSION"))));
        let inner = Arc::new(Inner {
            source,
            gateway,
            operations,
            discovery,
            metrics,
            started: clock.now(),
            clock: clock.clone(),
            addresses: addresses.clone(),
            fixed,
            last_reload: Mutex::default(),
            read: Mutex::new(read),
            reloads,
            servers: Mutex::default(),
            serving: Mutex::default(),
            stopping: Mutex::new(stopping),
            manager,
        });
        let vitals = Vitals::new(inner.clone(), clock);
        let admin = AdminServer::new(vitals.clone(), admin_settings, Limits::default())
            .map_err(|error| system("make the console's CSRF token")(std::io::Error::other(error)))?;
        let api = bound.api.map(|held| {
            let registrar = Arc::new(inner.discovery.clone());
            (ApiServer::new(vitals.clone(), registrar, api_settings, Limits::default()), held.socket)
        });
        let waiting = entering::Waiting { asking, vitals, admin: (admin, bound.admin.socket), api };
        let waiting = Mutex::new(Some(waiting));
        Ok(App { inner, trigger, addresses, giving, waiting, control: control.clone() })
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

/// Operators' decisions, from where they are kept. Blocks.
fn open_operations(source: &Source, directory: &Path, clock: &Clock) -> Operations {
    let (store, obstacle): (Box<dyn OverrideStore>, _) = match source {
        Source::File(_) => {
            let store = FileStore::new(directory.to_owned());
            let obstacle = store.obstacle();
            (Box::new(store), obstacle)
        }
        Source::Text(_) => (Box::new(MemoryStore), None),
    };
    let operations = Operations::open(store, clock.clone());
    if let Some(obstacle) = obstacle {
        operations.warn_of(&obstacle);
    }
    operations
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
    (admin, ApiSettings { tokens: compiled.tokens.clone() })
}

/// Takes over what is written to the file, or to a file that it names, once it has changed.
async fn watch(inner: Arc<Inner>, path: PathBuf, mut drain: Drain) {
    // The first look compares the text: what was written between the start and now has no older stamp to differ from.
    let mut seen = None;
    loop {
        tokio::select! {
            () = drain.reached(DrainPhase::Announced) => return,
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
        let (inner, path) = (inner.clone(), path.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let now = stamp(&path);
            if now.is_some() && (now != seen || inner.files_changed()) && inner.differs(&path) {
                tracing::info!(path = %path.display(), "the configuration has changed");
                // The outcome is logged and counted by the reload itself.
                let _outcome = inner.reload().is_ok();
            }
            now
        });
        if let Ok(Some(now)) = looked.await {
            seen = Some(now);
        }
    }
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
        ];
        pairs.into_iter().filter_map(|(differs, what)| differs.then_some(what)).collect()
    }
}

impl Inner {
    fn stopping(&self) -> Stopping {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a page or a secret looks different from when it was read.
    fn files_changed(&self) -> bool {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.files.iter().any(|(path, then)| stamp(path) != *then)
    }

    /// Whether the file holds something else than what was read last, right or wrong. A touch alone is no change.
    fn differs(&self, path: &Path) -> bool {
        let text = std::fs::read_to_string(path).ok();
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        text.is_some_and(|t| t != read.text) || read.files.iter().any(|(path, then)| stamp(path) != *then)
    }

    fn reload(&self) -> Result<String, Vec<Finding>> {
        self.manager.reloading();
        let outcome = self.try_reload();
        let (applied, message, findings) = match &outcome {
            Ok(message) => (true, message.clone(), Vec::new()),
            Err(findings) => {
                let summary = config::report::summary(findings);
                (false, format!("refused, nothing has changed: {summary}"), findings.clone())
            }
        };
        if applied {
            self.reloads.applied.add(1);
            tracing::info!(outcome = message, "configuration taken over");
        } else {
            self.reloads.refused.add(1);
            for finding in &findings {
                let place = finding.place.as_ref().map(|p| format!("{}:{}:{}", p.file, p.line, p.column));
                tracing::error!(
                    id = finding.id,
                    place,
                    remedy = finding.remedy,
                    "configuration refused: {}",
                    finding.message
                );
            }
        }
        self.reloads.valid.set(i64::from(applied));
        let last = LastReload { applied, message, findings, at: self.clock.now() };
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        self.manager.ready(&self.status(), false);
        outcome
    }

    fn try_reload(&self) -> Result<String, Vec<Finding>> {
        // One at a time: the lock on what was read last is held until the new plan is in force.
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = read(&self.source);
        // A wrong text is remembered too, so that it is complained about once and not at every look. So are the files
        // from before: one that was missing may come back.
        let before: Vec<PathBuf> = known.files.iter().map(|(path, _)| path.clone()).collect();
        *known = Read::of(&outcome, outcome.compiled.as_ref().map_or(&before, |c| &c.files));
        let Some(mut compiled) = outcome.compiled.clone() else {
            // What is merely unwise is no reason for a refusal and would hide the one there is.
            return Err(outcome.findings.into_iter().filter(|f| f.severity == Severity::Error).collect());
        };
        log_warnings(&outcome);
        let kept = self.fixed.differences(&Fixed::of(&compiled));
        let (admin, api) = settings_of(&compiled);
        for server in self.servers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            match server {
                Settable::Admin(server) => {
                    // Whether a token is needed follows from where it listens, which has not changed.
                    let require_token = !self.fixed.admin.ip().is_loopback();
                    server.update(AdminSettings { require_token, ..admin.clone() });
                }
                Settable::Api(server) => server.update(api.clone()),
            }
        }
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = Stopping::of(&compiled);
        let applied = self.operations.put_in_force(&mut compiled.plan, |plan| self.gateway.apply(plan.clone()));
        if let Err(error) = applied {
            tracing::warn!(%error, "the new configuration is in force, but not all health checks could be started");
        }
        self.discovery.configure(&compiled.discovery);
        Ok(match kept.as_slice() {
            [] => "in force".to_owned(),
            kept => format!("in force, but a restart is needed for {}", kept.join(", ")),
        })
    }
}

impl Node for Inner {
    fn view(&self) -> NodeView {
        let view = self.gateway.view();
        let now = self.clock.now();
        let last = self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let source = match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::Text(_) => "built in".to_owned(),
        };
        NodeView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: now.since(self.started),
            workers: view.workers,
            connections: view.connections,
            listeners: self.addresses.gateway.iter().map(|a| format!("http://{a}")).collect(),
            routes: view.routes.into_iter().map(views::traffic).collect(),
            services: view.services.into_iter().map(|s| views::service(s, &self.operations)).collect(),
            notices: self.operations.notices(),
            config: ConfigView {
                source,
                reloads: view.reloads,
                last_reload: last.map(|l| ReloadView {
                    applied: l.applied,
                    message: l.message,
                    findings: l.findings,
                    age: now.since(l.at),
                }),
            },
        }
    }

    fn ready(&self) -> Readiness {
        match self.discovery.has_looked() {
            true => Readiness::yes(),
            false => Readiness::no("DNS is being asked for endpoints for the first time"),
        }
    }

    fn metrics(&self, accept: &str) -> (String, String) {
        let format = Format::from_accept(accept);
        (format.content_type().to_owned(), self.metrics.render(format))
    }

    fn reload(&self) -> Result<String, Vec<Finding>> {
        Inner::reload(self)
    }

    fn endpoint_action(
        &self,
        service: &str,
        endpoint: &str,
        action: EndpointAction,
        order: &Order,
    ) -> Result<Acted, ActionError> {
        self.operations.endpoint_action(self.gateway.as_ref(), (service, endpoint), action, order)
    }

    fn service_action(&self, service: &str, action: ServiceAction, order: &Order) -> Result<Acted, ActionError> {
        self.operations.service_action(self.gateway.as_ref(), service, action, order)
    }
}
