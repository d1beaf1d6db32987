//! What happened in the last minute. A [`Vitals`] keeps a ring of totals, one sample each [`SAMPLE_EVERY`], and takes
//! the difference between the present snapshot and the oldest sample of the window. Requests, failures and latency
//! buckets are all counters, so the difference is exact: rates, success and quantiles of the window need no decay.
//!
//! Limits: [`WINDOW`] / [`SAMPLE_EVERY`] + 1 samples of at most [`MAX_TRACKED`] names each. A counter that went down
//! (its service was removed and added again) is counted from zero. Time is monotonic and comes from the clock given.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel::metrics::LatencySum;
use kernel::{Clock, Drain, DrainPhase, Moment};
use tokio::time::MissedTickBehavior;

use crate::deploys::Told;
use crate::status::Status;
use crate::view::{Node, NodeView, PoolCounts, PoolView, Readiness, ServiceView, TrafficView};

/// How far back the figures of the page reach.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Time between samples: a twelfth of the window, so that a chart of it has twelve bars.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Routes, services and endpoints that are followed; further ones show totals since the start and no rate.
pub const MAX_TRACKED: usize = 4096;

/// A node with its recent past. Cheap to clone; clones share the past.
#[derive(Clone)]
pub struct Vitals {
    node: Arc<dyn Node>,
    clock: Clock,
    ring: Arc<Mutex<VecDeque<Arc<Sample>>>>,
    deploys: Arc<Told>,
}

/// The totals at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Moment,
    /// Requests and failures of all routes.
    pub(crate) all_routes: (u64, u64),
    totals: HashMap<String, Totals>,
}

/// What is followed of each name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) latency: LatencySum,
    /// Of services only.
    pub(crate) second_tries: u64,
}

/// What a name belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    Route,
    Service,
    EndpointOf(&'a str),
    /// A part of what a pool counts; the name is that of a (database, user), or empty for the whole pool.
    PoolOf(&'a str, PoolPart),
}

/// What a pool counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolPart {
    Transactions,
    Queries,
    Waits,
}

impl PoolPart {
    const ALL: [PoolPart; 3] = [PoolPart::Transactions, PoolPart::Queries, PoolPart::Waits];
}

/// The window that a status is about: the samples in it, oldest first, and the present moment.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) samples: Vec<Arc<Sample>>,
    pub(crate) now: Moment,
    pub(crate) uptime: Duration,
}

impl Vitals {
    /// Follows `node`. Nothing is sampled until [`Vitals::run`] runs; until then figures reach back to the start.
    pub fn new(node: Arc<dyn Node>, clock: Clock) -> Vitals {
        Vitals { node, clock, ring: Arc::default(), deploys: Arc::default() }
    }

    /// Samples every [`SAMPLE_EVERY`] until the drain is closed. Run it once for each process. Cancel safe.
    pub async fn run(self, mut drain: Drain) {
        let mut tick = tokio::time::interval(SAMPLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.reached(DrainPhase::Closed) => return,
                _ = tick.tick() => self.sample(),
            }
        }
    }

    /// Takes one sample now and forgets those that the window has passed.
    pub fn sample(&self) {
        let sample = Arc::new(Sample::of(self.clock.now(), &self.node.view()));
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        while ring.front().is_some_and(|old| sample.at.since(old.at) > WINDOW) {
            ring.pop_front();
        }
        ring.push_back(sample);
        // The clock may stand still between samples (in tests, or on a suspended machine): the bound holds all the same.
        let most = (WINDOW.as_secs() / SAMPLE_EVERY.as_secs()) as usize + 1;
        while ring.len() > most {
            ring.pop_front();
        }
    }

    /// The node's state now and over the last minute.
    pub fn status(&self, readiness: Readiness) -> Status {
        let view = self.node.view();
        let samples = self.ring.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let window = Window { samples, now: self.clock.now(), uptime: view.uptime };
        Status::new(view, readiness, &window)
    }

    /// Which deployments the node was told of.
    pub(crate) fn deploys(&self) -> &Told {
        &self.deploys
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The node.
    pub fn node(&self) -> &Arc<dyn Node> {
        &self.node
    }
}

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vitals").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Sample {
    pub(crate) fn of(at: Moment, view: &NodeView) -> Sample {
        let mut totals = HashMap::new();
        let mut keep = |scope: Scope<'_>, name: &str, what: Totals| {
            if totals.len() < MAX_TRACKED {
                totals.insert(key(scope, name), what);
            }
        };
        view.routes.iter().for_each(|route| keep(Scope::Route, &route.name, Totals::of(route)));
        for service in &view.services {
            let name = &service.traffic.name;
            keep(Scope::Service, name, Totals::of_service(service));
            let endpoints = service.endpoints.iter().map(|e| &e.traffic);
            endpoints.for_each(|e| keep(Scope::EndpointOf(name), &e.name, Totals::of(e)));
        }
        view.pools.iter().for_each(|pool| keep_pool(pool, &mut keep));
        let prefix = key(Scope::Route, "");
        let routes = totals.iter().filter(|(key, _)| key.starts_with(&prefix));
        let all_routes = routes.fold((0, 0), |(requests, failed), (_, t)| (requests + t.requests, failed + t.failed));
        Sample { at, all_routes, totals }
    }
}

/// The pool as a whole first: it is worth more than each of many users.
fn keep_pool(pool: &PoolView, keep: &mut dyn FnMut(Scope<'_>, &str, Totals)) {
    let mut sum = PoolCounts::default();
    pool.groups.iter().for_each(|group| sum.add(&group.counts));
    for part in PoolPart::ALL {
        keep(Scope::PoolOf(&pool.name, part), "", sum.totals(part));
    }
    for group in &pool.groups {
        let name = group.key();
        PoolPart::ALL
            .into_iter()
            .for_each(|part| keep(Scope::PoolOf(&pool.name, part), &name, group.counts.totals(part)));
    }
}

impl Window {
    /// How long it is: at least a second, so that a rate over the first instant does not leap.
    pub(crate) fn length(&self) -> Duration {
        let length = self.samples.first().map_or(self.uptime, |oldest| self.now.since(oldest.at));
        length.max(Duration::from_secs(1))
    }

    /// What was added within the window to what is `now`.
    pub(crate) fn gain(&self, scope: Scope<'_>, name: &str, now: &Totals) -> Totals {
        let Some(oldest) = self.samples.first() else { return now.clone() };
        match oldest.totals.get(&key(scope, name)) {
            Some(then) => now.minus(then),
            None if oldest.totals.len() >= MAX_TRACKED => Totals::default(),
            None => now.clone(),
        }
    }

    /// Requests and failures per second between neighbouring samples, oldest first.
    pub(crate) fn recent(&self, scope: Scope<'_>, name: &str) -> Vec<(f64, f64)> {
        // There may be thousands of names: each sample is asked once, by a key that is made once.
        let key = key(scope, name);
        let totals: Vec<_> = self.samples.iter().map(|s| (s.at, s.totals.get(&key))).collect();
        let pieces = totals.windows(2).filter_map(|pair| {
            let [(from, before), (to, after)] = pair else { return None };
            let (before, after) = ((*before)?, (*after)?);
            let seconds = to.since(*from).as_secs_f64();
            let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
            (seconds > 0.0).then(|| (rate(before.requests, after.requests), rate(before.failed, after.failed)))
        });
        pieces.collect()
    }
}

impl Totals {
    pub(crate) fn of(traffic: &TrafficView) -> Totals {
        let (requests, failed) = (traffic.total(), traffic.failed());
        Totals { requests, failed, latency: traffic.latency.clone(), second_tries: 0 }
    }

    pub(crate) fn of_service(service: &ServiceView) -> Totals {
        let second_tries = service.second_tries.iter().map(|(_, n)| n).sum();
        Totals { second_tries, ..Totals::of(&service.traffic) }
    }

    /// The difference; `self` whole if anything went down, which means that the counters began anew.
    fn minus(&self, then: &Totals) -> Totals {
        let mut latency = LatencySum::default();
        let mut anew = self.requests < then.requests || self.failed < then.failed;
        let pairs = self.latency.buckets.iter().zip(then.latency.buckets);
        for (gain, (now, then)) in latency.buckets.iter_mut().zip(pairs) {
            anew |= *now < then;
            *gain = now.saturating_sub(then);
        }
        if anew {
            return self.clone();
        }
        latency.sum_us = self.latency.sum_us.saturating_sub(then.latency.sum_us);
        Totals {
            requests: self.requests - then.requests,
            failed: self.failed - then.failed,
            latency,
            second_tries: self.second_tries.saturating_sub(then.second_tries),
        }
    }

    /// Adds another.
    pub(crate) fn add(&mut self, other: &Totals) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.latency.merge(&other.latency);
        self.second_tries += other.second_tries;
    }
}

/// Names hold no control characters, so a unit separator cannot make two keys alike.
fn key(scope: Scope<'_>, name: &str) -> String {
    match scope {
        Scope::Route => format!("r\u{1f}{name}"),
        Scope::Service => format!("s\u{1f}{name}"),
        Scope::PoolOf(pool, part) => format!("p{part:?}\u{1f}{pool}\u{1f}{name}"),
        Scope::EndpointOf(service) => format!("e\u{1f}{service}\u{1f}{name}"),
    }
}
