//! What the data plane knows beyond its plan: the state of endpoints, and counters. It outlives a reload as long as the
//! name stays; a [`Snapshot`] joins one plan with the states that it speaks of.
//!
//! A worker takes a snapshot once per request. Endpoint state is shared by all workers and made of atomics, each
//! updated in one step; counters are sharded, one writer each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kernel::metrics::{Cell64, Latency, LatencySum, Sharded};
use kernel::{Clock, Journal, Moment};
use policy::balance;
use policy::keepalive::{self, IdleMemory};
use policy::latency::{self, BUCKETS};
use policy::outlier::Totals;

use crate::gate::Gate;
use crate::inspect::TrafficView;
use crate::judged::Judged;
use crate::plan::{EndpointPlan, Plan};
use crate::queue::WaitQueue;
use crate::service::ServiceState;
use crate::tallies::{HandedOn, Leaving};

/// One plan and the states of what it names.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) plan: Plan,
    /// In the order of `plan.routes`.
    pub(crate) routes: Vec<Arc<RouteState>>,
    /// In the order of `plan.services`.
    pub(crate) services: Vec<Arc<ServiceState>>,
    /// In the order of each service's endpoints.
    pub(crate) endpoints: Vec<Vec<Arc<EndpointState>>>,
    /// 0 for the first plan, then one more with each.
    pub(crate) generation: u64,
}

/// Counters of a route.
#[derive(Debug)]
pub(crate) struct RouteState {
    pub(crate) name: String,
    pub(crate) traffic: Sharded<Traffic>,
    /// What of it has been handed on.
    pub(crate) handed_on: HandedOn,
}

/// State and counters of an endpoint.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Unique in the process.
    pub(crate) id: u32,
    /// As it was first; its weight and tier are those below.
    pub(crate) plan: EndpointPlan,
    weight: AtomicU32,
    tier: AtomicU8,
    /// The hash of its name.
    pub(crate) identity: u64,
    pub(crate) traffic: Sharded<Traffic>,
    pub(crate) handed_on: HandedOn,
    pub(crate) links: Sharded<LinkCells>,
    /// No plan speaks of it any more: its connections are not kept.
    pub(crate) retired: AtomicBool,
    /// What active checks say.
    pub(crate) healthy: AtomicBool,
    /// The last word of active checks.
    pub(crate) reason: Mutex<String>,
    /// What its service's judge holds it for.
    pub(crate) judged: Judged,
    /// Good answers, by worker.
    good: Sharded<GoodCells>,
    /// Whether a request is trying it while it is in doubt.
    pub(crate) trial: AtomicBool,
    /// When something last came from it, in nanoseconds.
    heard_at: AtomicU64,
    /// Peak EWMA of the time to the first byte: the bits of a number of microseconds (0: not known), and when it last
    /// moved, in nanoseconds.
    latency_us: AtomicU64,
    latency_at: AtomicU64,
    /// It asked to be left alone until then (`Retry-After`), in nanoseconds.
    rest_until: AtomicU64,
    /// How often it was taken out since the start.
    pub(crate) ejected: AtomicU64,
    /// The gate of its service.
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Clock,
    /// Attempts that have not ended.
    pub(crate) in_flight: AtomicU32,
    /// Connections, and who waits for one.
    pub(crate) queue: WaitQueue,
    /// Idle connections, by worker.
    pub(crate) idle: Box<[AtomicU32]>,
    /// First requests on new connections that have waited far longer than usual for their first byte.
    pub(crate) starving: AtomicU32,
    /// Connections that are to be closed for them, each as soon as it is idle.
    demand: AtomicU32,
    /// Usual time to the first byte on a connection that has answered before, in microseconds; 0: not known.
    typical_us: AtomicU64,
    /// How long idle connections live at the other end, as far as seen.
    memory: Mutex<IdleMemory>,
    /// The same as one number for the hot path: nanoseconds; `u64::MAX`: nothing seen.
    learned_idle: AtomicU64,
    /// Until then it may close any idle connection, for what is known; nanoseconds.
    unsure_until: AtomicU64,
}

/// Good answers of an endpoint on one worker.
#[derive(Debug)]
struct GoodCells {
    ok: Cell64,
    /// Time to the first byte, in the buckets of `policy::latency`.
    latency: [Cell64; BUCKETS],
}

impl Default for GoodCells {
    fn default() -> GoodCells {
        GoodCells { ok: Cell64::default(), latency: std::array::from_fn(|_| Cell64::default()) }
    }
}

/// What flowed through a route, service or endpoint on one worker.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// 1xx, 2xx, 3xx, 4xx, 5xx, no answer.
    pub(crate) by_class: [Cell64; 6],
    pub(crate) started: Cell64,
    pub(crate) latency: Latency,
    /// Tries beyond the first.
    pub(crate) second_tries: Cell64,
}

/// What happened to an endpoint's connections on one worker.
#[derive(Debug, Default)]
pub(crate) struct LinkCells {
    pub(crate) opened: Cell64,
    pub(crate) reused: Cell64,
    pub(crate) connect_failures: Cell64,
    pub(crate) stale_retries: Cell64,
    pub(crate) handed_over: Cell64,
}

/// Class index of "no answer".
pub(crate) const NO_ANSWER: usize = 5;

impl Traffic {
    /// Counts a request that ended with `class` (see [`class_of`]) after `us` microseconds.
    #[inline]
    pub(crate) fn ended(&self, class: usize, us: u64) {
        self.by_class[class].inc();
        self.latency.observe(us);
    }
}

/// Class index of a status; 0 is [`NO_ANSWER`].
#[inline]
pub(crate) fn class_of(status: u16) -> usize {
    match status {
        100..=599 => status as usize / 100 - 1,
        _ => NO_ANSWER,
    }
}

/// The sum of the shards.
pub(crate) fn traffic_view(name: &str, traffic: &Sharded<Traffic>) -> TrafficView {
    let mut view = TrafficView { name: name.to_owned(), ..TrafficView::default() };
    let (mut started, mut latency) = (0, LatencySum::default());
    for shard in traffic.iter() {
        // Ends before starts, so that the difference is never negative.
        for (total, cell) in view.by_class.iter_mut().zip(&shard.by_class) {
            *total += cell.get();
        }
        shard.latency.add_to(&mut latency);
        started += shard.started.get();
    }
    view.latency = latency;
    view.in_flight = started.saturating_sub(view.total());
    view
}

impl EndpointState {
    fn new(id: u32, plan: EndpointPlan, workers: usize, max_connections: u32, gate: Arc<Gate>, clock: Clock) -> Self {
        EndpointState {
            id,
            weight: AtomicU32::new(plan.weight),
            tier: AtomicU8::new(plan.tier),
            identity: balance::hash(plan.name.as_bytes()),
            plan,
            traffic: Sharded::new(workers),
            handed_on: HandedOn::default(),
            links: Sharded::new(workers),
            retired: AtomicBool::new(false),
            healthy: AtomicBool::new(true),
            reason: Mutex::new("not checked".to_owned()),
            judged: Judged::default(),
            good: Sharded::new(workers),
            trial: AtomicBool::new(false),
            heard_at: AtomicU64::new(0),
            latency_us: AtomicU64::new(0),
            latency_at: AtomicU64::new(0),
            rest_until: AtomicU64::new(0),
            ejected: AtomicU64::new(0),
            gate,
            clock,
            in_flight: AtomicU32::new(0),
            queue: WaitQueue::new(max_connections),
            idle: (0..workers).map(|_| AtomicU32::new(0)).collect(),
            starving: AtomicU32::new(0),
            demand: AtomicU32::new(0),
            typical_us: AtomicU64::new(0),
            memory: Mutex::default(),
            learned_idle: AtomicU64::new(u64::MAX),
            unsure_until: AtomicU64::new(0),
        }
    }

    /// Its share of the requests relative to the others of its tier.
    #[inline]
    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Its tier.
    #[inline]
    pub(crate) fn tier(&self) -> u8 {
        self.tier.load(Ordering::Relaxed)
    }

    /// A good answer, whose first byte came `us` microseconds after the request was sent.
    #[inline]
    pub(crate) fn count_good(&self, worker: usize, us: u64, now: Moment) {
        let cells = self.good.shard(worker);
        cells.ok.inc();
        cells.latency[latency::bucket_of(us)].inc();
        // Workers may overwrite each other's step; the value is a smoothed guess either way.
        let old = f64::from_bits(self.latency_us.load(Ordering::Relaxed));
        let since = now.since(Moment::from_nanos(self.latency_at.load(Ordering::Relaxed)));
        self.latency_us.store(balance::peak_ewma(old, us, since).to_bits(), Ordering::Relaxed);
        self.latency_at.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Good answers since the start, and their latencies.
    pub(crate) fn good_totals(&self) -> Totals {
        let mut totals = Totals::default();
        for cells in self.good.iter() {
            totals.ok += cells.ok.get();
            totals.latency.iter_mut().zip(&cells.latency).for_each(|(sum, cell)| *sum += cell.get());
        }
        totals
    }

    /// Peak EWMA of the time to the first byte, in microseconds; 0: not known.
    #[inline]
    pub(crate) fn latency_us(&self) -> u64 {
        f64::from_bits(self.latency_us.load(Ordering::Relaxed)) as u64
    }

    /// When something last came from it.
    #[inline]
    pub(crate) fn heard_at(&self) -> Moment {
        Moment::from_nanos(self.heard_at.load(Ordering::Relaxed))
    }

    /// Something came from it.
    #[inline]
    pub(crate) fn hear(&self, now: Moment) {
        self.heard_at.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// It asked to be left alone for this long.
    pub(crate) fn rest(&self, how_long: Duration, now: Moment) {
        self.rest_until.fetch_max((now + how_long).as_nanos(), Ordering::Relaxed);
    }

    /// Whether it asked to be left alone.
    #[inline]
    pub(crate) fn rests(&self, now: Moment) -> bool {
        let until = self.rest_until.load(Ordering::Relaxed);
        until != 0 && until > now.as_nanos()
    }

    /// What is known of how it closes idle connections.
    pub(crate) fn idle_memory(&self) -> IdleMemory {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Idle connections of all workers.
    pub(crate) fn idle_total(&self) -> u64 {
        self.idle.iter().map(|n| u64::from(n.load(Ordering::Relaxed))).sum()
    }

    /// How long an idle connection may be kept: configured, or shorter if the endpoint was seen to close earlier.
    pub(crate) fn idle_limit(&self, configured: Duration, announced: Option<Duration>) -> Duration {
        let learned = Duration::from_nanos(self.learned_idle.load(Ordering::Relaxed));
        configured.min(learned).min(announced.unwrap_or(Duration::MAX))
    }

    /// Whether a connection that has idled for `idle_for` may be used again.
    pub(crate) fn may_reuse(&self, idle_for: Duration, limit: Duration, safe: bool, now: Moment) -> bool {
        let sure = safe || self.unsure_until.load(Ordering::Relaxed) <= now.as_nanos();
        sure && keepalive::may_reuse(idle_for, limit, safe)
    }

    /// The endpoint closed a connection that had been idle for `idle_for`.
    pub(crate) fn saw_idle_close(&self, idle_for: Duration, now: Moment) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.observe_close(idle_for, now);
        self.unsure_until.store(memory.unsure_until().as_nanos(), Ordering::Relaxed);
        self.publish_idle_limit(&memory, now);
    }

    /// What was learned from closes fades with time: brings the hot path's copy up to date. Called at each sweep.
    pub(crate) fn refresh_idle_limit(&self, now: Moment) {
        if self.learned_idle.load(Ordering::Relaxed) != u64::MAX {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            self.publish_idle_limit(&memory, now);
        }
    }

    fn publish_idle_limit(&self, memory: &IdleMemory, now: Moment) {
        let limit = memory.limit(Duration::MAX, None, now);
        self.learned_idle.store(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Time to the first byte on a connection that had answered before: moves the usual time by a sixteenth.
    #[inline]
    pub(crate) fn saw_first_byte(&self, us: u64) {
        // Two workers may overwrite each other's step; the value is a smoothed guess either way.
        let old = self.typical_us.load(Ordering::Relaxed);
        let new = if old == 0 { us.max(1) } else { old - old / 16 + us / 16 };
        self.typical_us.store(new.max(1), Ordering::Relaxed);
    }

    /// A new connection starves: one that is idle, or will be, is to be closed for it.
    pub(crate) fn demand_one(&self) {
        let most = self.starving.load(Ordering::Relaxed);
        let _met =
            self.demand.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < most).then_some(n + 1)).is_ok();
    }

    /// Whether a connection that has become idle is to be closed for one that starves. Each demand is met once.
    #[inline]
    pub(crate) fn meets_demand(&self) -> bool {
        self.demand.load(Ordering::Relaxed) > 0
            && self.starving.load(Ordering::Relaxed) > 0
            && self.demand.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    /// After how long without a first byte a new connection counts as starving: four times the usual, at least 100 ms;
    /// a second while the usual is not known.
    pub(crate) fn starving_after(&self) -> Duration {
        match self.typical_us.load(Ordering::Relaxed) {
            0 => Duration::from_secs(1),
            usual => Duration::from_micros(usual.saturating_mul(4)).max(Duration::from_millis(100)),
        }
    }
}

/// Finds the states that a plan speaks of, and makes those that are new.
#[derive(Debug)]
pub(crate) struct Registry {
    workers: usize,
    clock: Clock,
    next_id: u32,
    generation: u64,
    journal: Journal,
    routes: HashMap<String, Arc<RouteState>>,
    services: HashMap<String, Arc<ServiceState>>,
    endpoints: HashMap<(String, String), Arc<EndpointState>>,
}

impl Registry {
    pub(crate) fn new(workers: usize, clock: Clock, journal: Journal) -> Registry {
        Registry {
            workers,
            clock,
            journal,
            next_id: 0,
            generation: 0,
            routes: HashMap::new(),
            services: HashMap::new(),
            endpoints: HashMap::new(),
        }
    }

    /// Joins `plan` with its states. States of names that are gone are forgotten here and come with the snapshot; requests
    /// that still use them hold them until they end. An endpoint whose addresses changed is a new endpoint.
    pub(crate) fn snapshot(&mut self, plan: Plan) -> (Snapshot, Vec<Leaving>) {
        let workers = self.workers;
        let routes: Vec<_> = plan
            .routes
            .iter()
            .map(|r| {
                let new = || RouteState {
                    name: r.name.clone(),
                    traffic: Sharded::new(workers),
                    handed_on: HandedOn::default(),
                };
                self.routes.get(&r.name).cloned().unwrap_or_else(|| Arc::new(new()))
            })
            .collect();
        let services: Vec<_> = plan
            .services
            .iter()
            .map(|s| {
                let new = || Arc::new(ServiceState::new(s, workers, self.clock.now(), self.journal.clone()));
                self.services.get(&s.name).cloned().unwrap_or_else(new)
            })
            .collect();
        let mut kept = HashMap::new();
        let mut endpoints = Vec::new();
        for (service, known_service) in plan.services.iter().zip(&services) {
            let mut of_service = Vec::new();
            for endpoint in &service.endpoints {
                let key = (service.name.clone(), endpoint.name.clone());
                let known = self.endpoints.get(&key).filter(|e| e.plan.addresses == endpoint.addresses).cloned();
                let state = known.unwrap_or_else(|| {
                    self.next_id += 1;
                    let (gate, clock) = (known_service.gate.clone(), self.clock.clone());
                    let (plan, most) = (endpoint.clone(), service.max_connections);
                    Arc::new(EndpointState::new(self.next_id, plan, workers, most, gate, clock))
                });
                state.queue.set_limit(service.max_connections);
                state.weight.store(endpoint.weight, Ordering::Relaxed);
                state.tier.store(endpoint.tier, Ordering::Relaxed);
                if service.health.is_none() {
                    state.healthy.store(true, Ordering::Relaxed);
                    *state.reason.lock().unwrap_or_else(PoisonError::into_inner) = "not checked".to_owned();
                }
                kept.insert(key, state.clone());
                of_service.push(state);
            }
            known_service.adopt(service, &plan.forced, &of_service, self.clock.now());
            endpoints.push(of_service);
        }
        let mut left = Vec::new();
        for (key, state) in &self.endpoints {
            if kept.get(key).is_none_or(|k: &Arc<EndpointState>| !Arc::ptr_eq(k, state)) {
                state.retired.store(true, Ordering::Relaxed);
                left.push(Leaving::Endpoint(key.0.clone(), state.clone()));
            }
        }
        let gone = |known: &String| !plan.routes.iter().any(|r| r.name == *known);
        left.extend(self.routes.iter().filter(|(name, _)| gone(name)).map(|(_, r)| Leaving::Route(r.clone())));
        let gone = |known: &String| !plan.services.iter().any(|s| s.name == *known);
        left.extend(self.services.iter().filter(|(name, _)| gone(name)).map(|(_, s)| Leaving::Service(s.clone())));
        self.endpoints = kept;
        self.routes = routes.iter().map(|r| (r.name.clone(), r.clone())).collect();
        self.services = services.iter().map(|s| (s.name.clone(), s.clone())).collect();
        let generation = self.generation;
        self.generation += 1;
        (Snapshot { plan, routes, services, endpoints, generation }, left)
    }
}
