//! The whole node: configuration to running parts and their addresses, reloads while it runs, and an orderly end.
//!
//! ```text
//! build    => running    listeners bound, workers started; from here the addresses are known
//! running  => announced  told to stop: /readyz fails, everything is still served (drain_delay)
//! announced=> draining   listeners are closed once their queues are empty; each connection ends after its request
//! draining => closed     everything has ended, or drain_timeout has passed and the rest is cut
//! ```
//! A reload reads the same source again. A configuration that is wrong changes nothing; one that is right is taken
//! over as a whole, except for what only a restart can change (addresses, workers), which is said.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use console::view::{
    Acted, ActionError, ConfigView, DeployMark, EndpointAction, NoTallies, NodeView, Order, ReloadView, ServiceAction,
};
use console::{AdminServer, AdminSettings, ApiServer, ApiSettings, Limits, Node, Readiness, Vitals};
use gateway::{Gateway, GatewayView};
use kernel::journal::{Boot, Journal, JournalReader};
use kernel::store::FileHealth;
use kernel::tally::TallyReader;
use kernel::trace::{TraceLine, Why};
use kernel::{Clock, Drain, DrainPhase, DrainTrigger, Entropy, Finding, Moment, Severity};
use observe::{Format, Process, Registry};
use tokio::runtime::Handle;

use kernel::overrides::OverrideStore;

use crate::config::{self, Compiled, Listening, Outcome, World};
use crate::discovery::Discovery;
use crate::operate::Operations;
use crate::overrides::{FileStore, MemoryStore};
use crate::views;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How often the configuration file is looked at for a change.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// What somebody who tells of a deployment waits for the disk.
const DEPLOY_WAIT: Duration = Duration::from_secs(5);
/// What a connection to the console may take to end after the drain.
const CONSOLE_GRACE: Duration = Duration::from_millis(500);

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read again at each reload.
    File(PathBuf),
    /// A text, for the demo: a reload reads the same text.
    Text(String),
}

/// A node that is set up and running.
#[derive(Debug)]
pub struct App {
    inner: Arc<Inner>,
    trigger: DrainTrigger,
    addresses: Addresses,
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
    journal: Journal,
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
    stopping: Mutex<Stopping>,
}

/// How a stop goes.
#[derive(Debug, Clone, Copy)]
struct Stopping {
    delay: Duration,
    timeout: Duration,
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
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.into();
    |error| StartError::System { what, error }
}

impl App {
    /// Reads the configuration, binds every listener and starts every part. `control` runs what is not data plane.
    ///
    /// # Errors
    /// A configuration that cannot be used (an address that is taken is a finding too), or a system that refuses.
    pub fn build(source: Source, control: &Handle) -> Result<App, StartError> {
        let outcome = read(&source);
        let Some(mut compiled) = outcome.compiled.clone() else {
            return Err(StartError::Config { text: outcome.text(), findings: outcome.findings });
        };
        let clock = Clock::real();
        let mut entropy = Entropy::from_os().map_err(|e| system("make random numbers")(std::io::Error::other(e)))?;
        let journal = Journal::unkept(clock.clone(), Boot::new(&mut entropy));
        let (trigger, drain) = DrainTrigger::new();
        let (listeners, admin_listener, api_listener) = bind_all(&compiled, &outcome)?;
        log_warnings(&outcome);
        let fixed = Fixed::of(&compiled);
        let addresses = Addresses {
            gateway: listeners.iter().filter_map(|l| l.local_addr().ok()).collect(),
            console: admin_listener.local_addr().ok(),
            api: api_listener.as_ref().and_then(|l| l.local_addr().ok()),
        };
        let settings = settings_of(&compiled);
        let read = Read::of(&outcome, &compiled.files);
        let stopping = Stopping { delay: compiled.drain_delay, timeout: compiled.drain_timeout };
        let operations = Arc::new(open_operations(&source, &fixed.store, &clock));
        let gateway = operations.put_in_force(&mut compiled.plan, |plan| {
            Gateway::start(plan.clone(), &listeners, fixed.workers, clock.clone(), &drain, control.clone())
        });
        let gateway = gateway.map_err(system("start the workers"))?;
        drop(listeners);
        let gateway = Arc::new(gateway);
        let own = addresses.gateway.clone();
        let found = &compiled.discovery;
        let discovery = Discovery::start(found, gateway.clone(), own, clock.clone(), &drain, control.clone());
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
            journal,
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
            stopping: Mutex::new(stopping),
        });
        let vitals = Vitals::new(inner.clone(), clock);
        let (admin_settings, api_settings) = settings;
        let admin = AdminServer::new(vitals.clone(), admin_settings, Limits::default())
            .map_err(|error| system("make the console's CSRF token")(std::io::Error::other(error)))?;
        control.spawn(vitals.clone().run(drain.clone()));
        inner.serve_admin(control, admin, admin_listener, &drain)?;
        if let Some(listener) = api_listener {
            let registrar = Arc::new(inner.discovery.clone());
            let api = ApiServer::new(vitals, registrar, api_settings, Limits::default());
            inner.serve_api(control, api, listener, &drain)?;
        }
        if let Source::File(path) = &inner.source {
            control.spawn(watch(inner.clone(), path.clone(), drain));
        }
        Ok(App { inner, trigger, addresses })
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

    /// Ends in order: announces it, keeps serving for `delay`, then drains for at most the configured time. True if
    /// nothing had to be cut.
    pub async fn stop(&self, delay: Duration) -> bool {
        self.trigger.advance(DrainPhase::Announced);
        tracing::info!(?delay, "stopping: readiness fails, everything is still served");
        tokio::time::sleep(delay).await;
        self.trigger.advance(DrainPhase::Draining);
        let timeout = self.inner.stopping().timeout;
        tracing::info!(?timeout, "draining: listeners are closed, requests are finished");
        let gateway = self.inner.gateway.clone();
        let mut joined = tokio::task::spawn_blocking(move || gateway.join());
        let ended = tokio::time::timeout(timeout, &mut joined).await.is_ok();
        // With nothing open there is nothing to cut, however little time there was.
        let open = if ended { 0 } else { self.inner.gateway.view().connections };
        self.trigger.advance(DrainPhase::Closed);
        if open > 0 {
            tracing::warn!(open, "drain_timeout has passed: what is left is cut");
        }
        if !ended {
            let _ended = joined.await.is_ok();
        }
        tokio::time::sleep(CONSOLE_GRACE.min(timeout)).await;
        open == 0
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

type Bound = (Vec<TcpListener>, TcpListener, Option<TcpListener>);

/// Binds every address; what cannot be bound is said all at once.
fn bind_all(compiled: &Compiled, outcome: &Outcome) -> Result<Bound, StartError> {
    let mut findings = Vec::new();
    let mut bind = |listening: &Listening| match bind(listening.address) {
        Ok(listener) => Some(listener),
        Err(error) => {
            findings.push(config::cannot_listen(listening, &error));
            None
        }
    };
    let listeners: Vec<TcpListener> = compiled.listeners.iter().filter_map(&mut bind).collect();
    let admin = bind(&compiled.admin);
    let api = compiled.api.as_ref().and_then(&mut bind);
    match admin {
        Some(admin) if findings.is_empty() => Ok((listeners, admin, api)),
        _ => {
            let text = config::report::text::render(&findings, Some(&outcome.source));
            Err(StartError::Config { findings, text })
        }
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart may not wait for old connections in TIME_WAIT; two processes on one port are refused all the same.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn settings_of(compiled: &Compiled) -> (AdminSettings, ApiSettings) {
    let admin = AdminSettings {
        hosts: compiled.admin_hosts.clone(),
        require_token: !compiled.admin.address.ip().is_loopback(),
        tokens: compiled.tokens.clone(),
    };
    (admin, ApiSettings { tokens: compiled.tokens.clone(), github_secret: compiled.github_secret.clone() })
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
    fn serve_admin(
        &self,
        control: &Handle,
        admin: AdminServer,
        listener: TcpListener,
        drain: &Drain,
    ) -> Result<(), StartError> {
        let _context = control.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(system("serve the console"))?;
        control.spawn(admin.clone().serve(listener, drain.clone()));
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).push(Settable::Admin(admin));
        Ok(())
    }

    fn serve_api(
        &self,
        control: &Handle,
        api: ApiServer,
        listener: TcpListener,
        drain: &Drain,
    ) -> Result<(), StartError> {
        let _context = control.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(system("serve the API"))?;
        control.spawn(api.clone().serve(listener, drain.clone()));
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).push(Settable::Api(api));
        Ok(())
    }

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
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) =
            Stopping { delay: compiled.drain_delay, timeout: compiled.drain_timeout };
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

    fn journal(&self) -> Arc<dyn JournalReader> {
        Arc::new(self.journal.clone())
    }

    fn journal_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.journal.changes()
    }

    fn tallies(&self) -> Arc<dyn TallyReader> {
        Arc::new(NoTallies)
    }

    fn why(&self, _id: &str) -> Why {
        Why::NotKept { oldest_unix_ms: None, sample_one_in: 0, slow_ms: 0 }
    }

    fn traces(&self, _most: usize, _service: Option<&str>) -> Vec<TraceLine> {
        Vec::new()
    }

    fn store(&self) -> Vec<FileHealth> {
        Vec::new()
    }

    fn deploy(&self, mark: &DeployMark) -> Result<Acted, ActionError> {
        let event = mark.event();
        let message = event.sentence();
        let kept = self.journal.tell_durably(event).wait(DEPLOY_WAIT);
        kept.map_err(|error| ActionError::NotKept(error.to_string()))?;
        Ok(Acted { message, kept: true })
    }
}
