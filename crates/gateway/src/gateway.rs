//! The data plane as a part: started with a plan and listening sockets, reloaded with another plan, looked at, drained.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use kernel::metrics::Sharded;
use kernel::{Clock, Drain, Entropy, Event, Journal};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::access::AccessSink;
use crate::checks;
use crate::core::{ClientCounts, Commons, Mailbox};
use crate::discovered::Discovered;
use crate::inspect::GatewayView;
use crate::limits::Limits;
use crate::plan::{EndpointPlan, HealthPlan, Plan};
use crate::service::TICK;
use crate::standing::Standing;
use crate::state::{Registry, Snapshot, traffic_view};
use crate::story::Stories;
use crate::worker;

/// The running data plane. Dropping it does not stop it: that is what the drain is for.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) commons: Arc<Commons>,
    /// Held until a change is in force and its checks run, so that changes follow each other.
    planning: Mutex<Planning>,
    /// How often another configuration was taken over.
    pub(crate) reloads: AtomicU64,
    workers: Mutex<Vec<JoinHandle<io::Result<()>>>>,
    checks: Mutex<Vec<Check>>,
    /// What lets the judges look at what was counted.
    ticking: Mutex<Option<AbortHandle>>,
    control: Handle,
    worker_count: usize,
    standing: Arc<Standing>,
}

/// What a snapshot is made of.
#[derive(Debug)]
pub(crate) struct Planning {
    registry: Registry,
    pub(crate) discovered: Discovered,
}

/// A running health check and what it was started with.
#[derive(Debug)]
struct Check {
    endpoint: u32,
    plan: HealthPlan,
    task: AbortHandle,
}

/// Tells the journal if the worker's thread ends by a panic.
struct Watch {
    index: usize,
    journal: Journal,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.journal.tell(Event::WorkerFailed { error: format!("worker-{} panicked", self.index) });
        }
    }
}

impl Gateway {
    /// Starts `workers` workers that accept from all `listeners`. Health checks run on `control`. What changes is told to
    /// `journal`.
    ///
    /// # Errors
    /// When threads, descriptors or randomness cannot be had.
    pub fn start(
        plan: Plan,
        listeners: &[TcpListener],
        workers: usize,
        clock: Clock,
        drain: &Drain,
        control: Handle,
        journal: Journal,
    ) -> io::Result<Gateway> {
        let gateway = Gateway::start_closed(plan, listeners, workers, clock, drain, control, journal)?;
        gateway.open();
        Ok(gateway)
    }

    /// As [`Gateway::start`], but nothing is accepted before [`Gateway::open`]: what comes waits in the sockets' queues.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn start_closed(
        plan: Plan,
        listeners: &[TcpListener],
        workers: usize,
        clock: Clock,
        drain: &Drain,
        control: Handle,
        journal: Journal,
    ) -> io::Result<Gateway> {
        let workers = workers.max(1);
        let mut registry = Registry::new(workers, clock.clone(), journal.clone());
        let access = AccessSink::start()?;
        access.configure(plan.access_log.as_ref());
        let discovered = Discovered::new(plan);
        let (snapshot, _nothing_left) = registry.snapshot(discovered.merged());
        let commons = Arc::new(Commons {
            snapshot: ArcSwap::from_pointee(snapshot),
            generation: AtomicU64::new(0),
            mailboxes: (0..workers).map(|_| Mailbox::default()).collect(),
            clock,
            clients: ClientCounts::default(),
            edge: Sharded::new(workers),
            access,
            stories: (0..workers).map(|_| Stories::default()).collect(),
            journal,
            leaving: Mutex::default(),
            control: control.clone(),
        });
        let standing = Arc::new(Standing::new(listeners.len(), workers, commons.clock.now()));
        let mut threads = Vec::new();
        for index in 0..workers {
            let own: Vec<TcpListener> = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
            let (commons, standing, drain) = (commons.clone(), standing.clone(), drain.clone());
            let run = move || {
                let _watch = Watch { index, journal: commons.journal.clone() };
                let ended = worker::run(index, commons.clone(), own, standing, drain);
                if let Err(error) = &ended {
                    commons.journal.tell(Event::WorkerFailed { error: format!("worker-{index}: {error}") });
                }
                ended
            };
            threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?);
        }
        let gateway = Gateway {
            commons,
            planning: Mutex::new(Planning { registry, discovered }),
            reloads: AtomicU64::new(0),
            workers: Mutex::new(threads),
            checks: Mutex::default(),
            ticking: Mutex::default(),
            control,
            worker_count: workers,
            standing,
        };
        gateway.start_checks(&gateway.commons.snapshot.load())?;
        let ticking = gateway.control.spawn(tick(gateway.commons.clone()));
        *gateway.ticking.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticking.abort_handle());
        Ok(gateway)
    }

    /// Where it tells what changes.
    pub fn journal(&self) -> &Journal {
        &self.commons.journal
    }

    /// Lets the workers accept.
    pub fn open(&self) {
        self.standing.open();
    }

    /// Says whether another process holds the socket of the listener at this place of those that the gateway was started
    /// with. When the drain begins such a one is left alone, queue and all; any other is emptied, then closed.
    pub fn set_held_elsewhere(&self, listener: usize, held: bool) {
        self.standing.set_elsewhere(listener, held);
    }

    /// How long the most silent of the workers has not come round to its upkeep, which takes a second at most in one that
    /// turns; `None` if a worker has ended.
    pub fn silence(&self) -> Option<std::time::Duration> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let all_there = workers.len() == self.worker_count && workers.iter().all(|w| !w.is_finished());
        all_there.then(|| self.standing.silence(self.commons.clock.now()))
    }

    /// Goes on with another plan: requests from now on follow it, those that have begun end under the old one. Endpoints
    /// that were found for its services stay.
    ///
    /// # Errors
    /// When the operating system has no randomness; the plan is in force all the same.
    pub fn apply(&self, plan: Plan) -> io::Result<()> {
        self.commons.access.configure(plan.access_log.as_ref());
        let mut planning = self.planning();
        planning.discovered.set_plan(plan);
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.put_in_force(&mut planning)
    }

    /// Sends requests to these endpoints of `service` too, and no longer to others that were found before. Those that the
    /// plan names stay as they are; so do state, connections and checks of endpoints that were there already. A service
    /// that the plan does not have is passed over.
    ///
    /// # Errors
    /// When the operating system has no randomness; the endpoints are in force all the same.
    pub fn set_endpoints(&self, service: &str, endpoints: Vec<EndpointPlan>) -> io::Result<()> {
        let mut planning = self.planning();
        match planning.discovered.set_found(service, endpoints) {
            true => self.put_in_force(&mut planning),
            false => Ok(()),
        }
    }

    /// Whether an endpoint is there now: by the service's check if it has one, else by a connection. False if it does not
    /// have such an endpoint. Nothing follows from it for the endpoint's state. Dropping the future ends the attempt.
    pub async fn probe(&self, service: &str, endpoint: &str) -> bool {
        let (state, plan, connect_timeout) = {
            let snapshot = self.commons.snapshot.load();
            let Some(index) = snapshot.plan.services.iter().position(|s| s.name == service) else { return false };
            let Some(state) = snapshot.endpoints[index].iter().find(|e| e.plan.name == endpoint) else { return false };
            let plan = &snapshot.plan.services[index];
            (state.clone(), plan.health.clone(), plan.connect_timeout)
        };
        checks::knock(&state, plan.as_ref(), connect_timeout).await
    }

    /// What plans are made from, for as long as one is changed.
    pub(crate) fn planning(&self) -> MutexGuard<'_, Planning> {
        self.planning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_in_force(&self, planning: &mut Planning) -> io::Result<()> {
        let plan = planning.discovered.merged();
        let (snapshot, left) = planning.registry.snapshot(plan);
        let snapshot = Arc::new(snapshot);
        // They are counted until nobody can add to them any more; on the list before they are out of the plan.
        self.commons.leaving.lock().unwrap_or_else(PoisonError::into_inner).extend(left);
        self.commons.snapshot.store(snapshot.clone());
        self.commons.generation.store(snapshot.generation, Ordering::Release);
        self.start_checks(&snapshot)
    }

    /// Starts the checks that are new, keeps those that are as they were, ends the others.
    fn start_checks(&self, snapshot: &Snapshot) -> io::Result<()> {
        let mut running = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        let states = snapshot.services.iter().zip(&snapshot.endpoints);
        for (service, (state, endpoints)) in snapshot.plan.services.iter().zip(states) {
            let Some(plan) = &service.health else { continue };
            for endpoint in endpoints {
                let same = before.iter().position(|c| c.endpoint == endpoint.id && c.plan == *plan);
                let check = match same {
                    Some(at) => before.swap_remove(at),
                    None => {
                        let entropy = Entropy::from_os().map_err(io::Error::other)?;
                        let clock = self.commons.clock.clone();
                        let watch = checks::watch(state.clone(), endpoint.clone(), plan.clone(), clock, entropy);
                        let task = self.control.spawn(watch).abort_handle();
                        Check { endpoint: endpoint.id, plan: plan.clone(), task }
                    }
                };
                running.push(check);
            }
        }
        before.iter().for_each(|c| c.task.abort());
        Ok(())
    }

    /// Opens log files anew, after a rotation.
    pub fn reopen_logs(&self) {
        self.commons.access.reopen();
    }

    /// Waits until every worker has ended (which the drain brings about), and for the log. Blocks.
    pub fn join(&self) {
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // The journal was told of an error or a panic when it happened.
            let _ended_well = worker.join().is_ok_and(|ended| ended.is_ok());
        }
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|c| c.task.abort());
        if let Some(ticking) = self.ticking.lock().unwrap_or_else(PoisonError::into_inner).take() {
            ticking.abort();
        }
        self.commons.access.flush();
    }

    /// How things are.
    pub fn view(&self) -> GatewayView {
        let snapshot = self.commons.snapshot.load();
        let now = self.commons.clock.now();
        GatewayView {
            workers: self.worker_count,
            connections: self.commons.clients.total().max(0).unsigned_abs(),
            reloads: self.reloads.load(Ordering::Relaxed),
            routes: snapshot.routes.iter().map(|r| traffic_view(&r.name, &r.traffic)).collect(),
            services: snapshot
                .services
                .iter()
                .zip(&snapshot.endpoints)
                .map(|(service, endpoints)| service.view(endpoints, now))
                .collect(),
        }
    }
}

/// Lets every service's judge look at what the workers counted, and tells which limits were reached, until the gateway
/// ends.
async fn tick(commons: Arc<Commons>) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut limits = Limits::default();
    loop {
        every.tick().await;
        let now = commons.clock.now();
        commons.snapshot.load().services.iter().for_each(|service| service.tick(now));
        limits.look(&commons, now);
    }
}
