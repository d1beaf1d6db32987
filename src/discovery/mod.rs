//! Finding endpoints while the node runs: names in DNS are asked for again and again, and endpoints register themselves.
//! When to ask and who is in force is decided by `policy::resolve` and `policy::leases`; what is in force is handed to the
//! gateway service by service ([`Gateway::set_endpoints`]).
//!
//! ```text
//! configuration ──► Discovery ──► a task for each name in DNS ──┐
//!                       ▲                                        ├──► endpoints of a service ──► gateway
//! [api] ── beats ───────┘────► leases, a tick every 100 ms ──────┘
//! ```
//! What was found for a source stays as long as the source does: over a reload, while DNS fails, while nothing ran. It does
//! not outlive the process: after a restart names are asked for at once, and registrations come back with the next
//! beats, within a third of their leases; only a hand-over takes them along. Limits: 1,000 endpoints from each source of a service.

mod ask;
mod collect;
mod dns;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::registrar::{RegisterError, Registered, Registrar, Wish};
use gateway::Gateway;
use gateway::plan::EndpointPlan;
use kernel::{Clock, Drain, DrainPhase, Event, Journal, Moment};
use policy::leases::{Beat, LeaseError, Leases, Probed, TICK, Terms, renew_in};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use ask::Question;
use collect::Counts;

/// What an endpoint gets that asks for no lease, unless its service gives no lease as long as this.
const LEASE: Duration = Duration::from_secs(10);
/// Knocks at a time: a fleet of a thousand that fell silent is asked within seconds, and not with a thousand sockets.
const KNOCKS: usize = 64;
/// A knock that takes longer has failed, whatever the service's own limits are.
const KNOCK: Duration = Duration::from_secs(5);

/// Readiness waits for the first answers for so long at most: one silent server is no reason to serve nothing.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// Where the endpoints of services come from that nobody lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryPlan {
    /// The DNS servers to ask; `None`: the system's.
    pub servers: Option<Vec<SocketAddr>>,
    /// The services that have such endpoints.
    pub services: Vec<Sources>,
}

/// Where the endpoints of one service come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The service.
    pub service: String,
    /// A name whose addresses are endpoints, and their port.
    pub dns: Option<(String, u16)>,
    /// A name whose SRV records are endpoints.
    pub srv: Option<String>,
    /// The longest lease of endpoints that register; `None`: none may.
    pub max_lease: Option<Duration>,
}

/// An endpoint that registered, as it is handed over to the next process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The service.
    pub service: String,
    /// The endpoint.
    pub address: SocketAddr,
    /// Its lease.
    pub lease_ms: u64,
    /// Its weight.
    pub weight: u32,
    /// Its tier.
    pub tier: u8,
}

/// Finds endpoints and hands them to the gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Discovery {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    gateway: Arc<Gateway>,
    journal: Journal,
    clock: Clock,
    started: Moment,
    drain: Drain,
    control: Handle,
    /// Addresses of the gateway itself: they are nobody's endpoint.
    own: Vec<SocketAddr>,
    knocks: Arc<Semaphore>,
    /// Names of the first configuration for which nothing has come back yet, good or bad.
    unasked: AtomicUsize,
    /// Held while the gateway is told, so that what it is told last is what is so.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<String, Found>,
    stalls: u64,
}

/// What was found for one service.
#[derive(Debug, Default)]
struct Found {
    /// A task for each question, and the last good answer.
    asked: Vec<Asked>,
    leases: Option<Leases>,
    counts: Counts,
}

#[derive(Debug)]
struct Asked {
    question: Question,
    servers: Option<Vec<SocketAddr>>,
    answer: Vec<EndpointPlan>,
    task: AbortHandle,
}

impl Discovery {
    /// Begins to look for what `plan` says. Tasks run on `control` until the drain is closed.
    pub fn start(
        plan: &DiscoveryPlan,
        gateway: Arc<Gateway>,
        own: Vec<SocketAddr>,
        clock: Clock,
        drain: &Drain,
        control: Handle,
    ) -> Discovery {
        let questions = plan.services.iter().map(|s| Question::all(s).len()).sum();
        let inner = Arc::new(Inner {
            journal: gateway.journal().clone(),
            gateway,
            started: clock.now(),
            clock,
            drain: drain.clone(),
            control,
            own,
            knocks: Arc::new(Semaphore::new(KNOCKS)),
            unasked: AtomicUsize::new(questions),
            state: Mutex::default(),
        });
        inner.configure(plan);
        inner.control.spawn(tick(inner.clone()));
        Discovery { inner }
    }

    /// Goes on with another plan, once the gateway has the services that it speaks of. What was found for sources that stay
    /// stays.
    pub fn configure(&self, plan: &DiscoveryPlan) {
        self.inner.configure(plan);
    }

    /// Every endpoint that has registered.
    pub fn registered(&self) -> Vec<Registration> {
        let state = self.inner.state();
        let of = |(service, found): (&String, &Found)| {
            let registration = |(address, terms): (SocketAddr, Terms)| Registration {
                service: service.clone(),
                address,
                lease_ms: u64::try_from(terms.lease.as_millis()).unwrap_or(u64::MAX),
                weight: terms.weight,
                tier: terms.tier,
            };
            found.leases.iter().flat_map(Leases::in_force).map(registration).collect::<Vec<_>>()
        };
        state.services.iter().flat_map(of).collect()
    }

    /// Takes over what had registered with another process, each as if its heartbeat had come just now. What the
    /// configuration no longer allows is left out.
    pub fn restore(&self, registered: &[Registration]) {
        let now = self.inner.clock.now();
        let mut state = self.inner.state();
        for Registration { service, address, lease_ms, weight, tier } in registered {
            let Some(leases) = state.services.get_mut(service).and_then(|found| found.leases.as_mut()) else {
                continue;
            };
            let terms = Terms { lease: Duration::from_millis(*lease_ms), weight: *weight, tier: *tier };
            if let Err(error) = leases.beat(*address, terms, now) {
                tracing::info!(service, endpoint = %address, %error, "a registration is not taken over");
            }
        }
        for (service, found) in state.services.iter().filter(|(_, found)| found.leases.is_some()) {
            self.inner.publish(service, found);
        }
    }

    /// Whether each name of the first configuration was asked for once, with whatever result, or has had the time.
    pub fn has_looked(&self) -> bool {
        let inner = &self.inner;
        inner.unasked.load(Ordering::Relaxed) == 0 || inner.clock.now().since(inner.started) >= FIRST_LOOK
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn configure(self: &Arc<Inner>, plan: &DiscoveryPlan) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.services);
        for sources in &plan.services {
            let mut found = before.remove(&sources.service).unwrap_or_default();
            self.ask_for(&mut found, sources, plan.servers.as_ref());
            found.leases = sources.max_lease.map(|longest| {
                let mut leases = found.leases.take().unwrap_or_else(|| Leases::new(longest));
                leases.set_longest(longest);
                leases
            });
            self.publish(&sources.service, &found);
            state.services.insert(sources.service.clone(), found);
        }
        for (service, mut gone) in before {
            gone.asked.drain(..).for_each(|asked| asked.task.abort());
            gone.leases = None;
            self.publish(&service, &gone);
        }
    }

    /// Starts the questions that are new, keeps those that are as they were, ends the others. Where another name or other
    /// servers are asked instead, the last answer counts until the new one comes.
    fn ask_for(self: &Arc<Inner>, found: &mut Found, sources: &Sources, servers: Option<&Vec<SocketAddr>>) {
        let mut before = std::mem::take(&mut found.asked);
        for question in Question::all(sources) {
            let known =
                before.iter().position(|asked| asked.question.is_like(&question)).map(|at| before.swap_remove(at));
            let asked = match known {
                Some(asked) if asked.question == question && asked.servers.as_ref() == servers => asked,
                known => {
                    let answer = known.map_or_else(Vec::new, |asked| {
                        asked.task.abort();
                        asked.answer
                    });
                    let task = ask::run(self.clone(), sources.service.clone(), question.clone(), servers.cloned());
                    let task = self.control.spawn(task).abort_handle();
                    Asked { question, servers: servers.cloned(), answer, task }
                }
            };
            found.asked.push(asked);
        }
        before.iter().for_each(|asked| asked.task.abort());
    }

    /// Hands what is in force for a service to the gateway. The caller holds the state.
    fn publish(&self, service: &str, found: &Found) {
        let registered = found.leases.iter().flat_map(Leases::in_force).map(|(address, terms)| EndpointPlan {
            name: address.to_string(),
            addresses: vec![address],
            weight: terms.weight,
            tier: terms.tier,
        });
        let answered = found.asked.iter().flat_map(|asked| asked.answer.iter().cloned());
        if let Err(error) = self.gateway.set_endpoints(service, answered.chain(registered).collect()) {
            tracing::warn!(service, %error, "the endpoints are in force, but not all of their checks could be started");
        }
    }

    fn register(&self, service: &str, address: SocketAddr, wish: Wish) -> Result<Registered, RegisterError> {
        if self.own.iter().any(|own| is_same(*own, address)) {
            let why = format!("{address} is this gateway itself: requests would go round");
            return Err(RegisterError::Refused(why));
        }
        let mut state = self.state();
        let not_taken = || RegisterError::NotTaken(service.to_owned());
        let found = state.services.get_mut(service).ok_or_else(not_taken)?;
        let leases = found.leases.as_mut().ok_or_else(not_taken)?;
        let lease = wish.lease.unwrap_or(LEASE.min(leases.longest()));
        let terms = Terms { lease, weight: wish.weight, tier: wish.tier };
        let beat = leases.beat(address, terms, self.clock.now()).map_err(|error| match error {
            LeaseError::OutOfRange { .. } => RegisterError::Refused(error.to_string()),
            LeaseError::Full => RegisterError::Full(error.to_string()),
        })?;
        found.counts.beats += 1;
        if beat != Beat::Renewed {
            self.publish(service, found);
        }
        if beat == Beat::New {
            let (service, endpoint) = (service.to_owned(), address.to_string());
            self.journal.tell(Event::EndpointRegistered { service, endpoint });
        }
        Ok(Registered { is_new: beat == Beat::New, lease, renew_in: renew_in(lease) })
    }

    fn left(&self, service: &str, address: SocketAddr, reason: &str) {
        let (service, endpoint, reason) = (service.to_owned(), address.to_string(), reason.to_owned());
        self.journal.tell(Event::EndpointLeft { service, endpoint, reason });
    }

    fn withdraw(&self, service: &str, address: SocketAddr) -> Result<bool, RegisterError> {
        let mut state = self.state();
        let not_taken = || RegisterError::NotTaken(service.to_owned());
        let found = state.services.get_mut(service).ok_or_else(not_taken)?;
        let was_there = found.leases.as_mut().ok_or_else(not_taken)?.leave(address);
        if was_there {
            found.counts.left += 1;
            self.publish(service, found);
            self.left(service, address, "it said so");
        }
        Ok(was_there)
    }

    /// Ends leases whose time is up, and knocks where that is in doubt.
    fn tick(self: &Arc<Inner>) {
        let now = self.clock.now();
        let mut state = self.state();
        let mut stalled: Option<Duration> = None;
        for (service, found) in &mut state.services {
            let Some(leases) = &mut found.leases else { continue };
            let ticked = leases.tick(now);
            stalled = stalled.max(ticked.stalled.filter(|_| !leases.is_empty()));
            for endpoint in &ticked.expired {
                self.left(service, *endpoint, "its lease has ended");
            }
            if !ticked.doubtful.is_empty() {
                let (silent, of) = (ticked.doubtful.len(), leases.len());
                tracing::warn!(
                    service,
                    silent,
                    of,
                    "leases have ended together: each endpoint is asked before it is dropped"
                );
            }
            found.counts.expired += ticked.expired.len() as u64;
            if !ticked.expired.is_empty() {
                self.publish(service, found);
            }
            for address in ticked.doubtful {
                self.control.spawn(knock(self.clone(), service.clone(), address));
            }
        }
        if let Some(stalled) = stalled {
            state.stalls += 1;
            tracing::warn!(?stalled, "this process stood still: leases last longer by that");
        }
    }

    /// Takes in what came of a knock.
    fn knocked(&self, service: &str, address: SocketAddr, alive: bool) {
        let mut state = self.state();
        let Some(found) = state.services.get_mut(service) else { return };
        let Some(leases) = &mut found.leases else { return };
        match leases.probed(address, alive, self.clock.now()) {
            Probed::Kept => {
                found.counts.kept += 1;
                tracing::info!(service, endpoint = %address, "endpoint stays without a beat: it answers");
            }
            Probed::Expired => {
                found.counts.unanswered += 1;
                self.publish(service, found);
                self.left(service, address, "its lease has ended, and it does not answer");
            }
            Probed::Settled => {}
        }
    }
}

impl Registrar for Discovery {
    fn register(&self, service: &str, address: SocketAddr, wish: Wish) -> Result<Registered, RegisterError> {
        self.inner.register(service, address, wish)
    }

    fn withdraw(&self, service: &str, address: SocketAddr) -> Result<bool, RegisterError> {
        self.inner.withdraw(service, address)
    }
}

/// Whether a connection to `address` would reach the listener at `own`.
fn is_same(own: SocketAddr, address: SocketAddr) -> bool {
    let everywhere = own.ip().is_unspecified() && address.ip().is_loopback();
    own.port() == address.port() && (own.ip() == address.ip() || everywhere)
}

async fn tick(inner: Arc<Inner>) {
    let mut drain = inner.drain.clone();
    let mut ticks = tokio::time::interval(TICK);
    // After a stall there is one tick, late; a burst of ticks would look like time that was not there.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = drain.reached(DrainPhase::Closed) => return,
            _ = ticks.tick() => inner.tick(),
        }
    }
}

async fn knock(inner: Arc<Inner>, service: String, address: SocketAddr) {
    // The semaphore is never closed; were it, the knock would be repeated.
    let Ok(_permit) = inner.knocks.clone().acquire_owned().await else { return };
    let name = address.to_string();
    let alive = tokio::time::timeout(KNOCK, inner.gateway.probe(&service, &name)).await.unwrap_or(false);
    inner.knocked(&service, address, alive);
}
