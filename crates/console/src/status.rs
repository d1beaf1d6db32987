//! The state of a node as people and programs read it: the one struct behind the page, the JSON of `/v1/status` and the
//! text for curl. Rates, success and quantiles are those of the window (the last minute, or since the start if that is
//! shorter); `_total` fields count since the start.
//!
//! The level: `down` if some service has no endpoint that takes requests, or only such as fail their
//! checks, and more than a few requests to it fail; `degraded` if an endpoint is in trouble, if
//! less than [`SUCCESS_FLOOR`] of the requests succeeded, or if the node takes no new work; else `ok`. An endpoint that
//! an operator drained is no trouble.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kernel::Finding;

use crate::pool_status::PoolStatus;
use crate::view::{BudgetView, EndpointState, EndpointView, NodeView, Readiness, ReloadView, ServiceView, TrafficView};
use crate::vitals::{Scope, Totals, Window};
use crate::words;

/// Below this share of success the node counts as degraded: one failure in a hundred is what people notice.
pub const SUCCESS_FLOOR: f64 = 0.99;

/// Unhealthy endpoints that the summary names; the table has them all.
const NAMED: usize = 2;

/// A node's state.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// The state in a sentence.
    pub summary: String,
    /// What else should be known, a sentence each.
    pub notices: Vec<String>,
    /// The state in a word.
    pub level: Level,
    /// Whether new work should be sent here.
    pub readiness: Readiness,
    /// Version of the build.
    pub version: String,
    /// Time since the start.
    pub uptime_seconds: u64,
    /// Data-plane workers.
    pub workers: usize,
    /// Open client connections.
    pub connections: u64,
    /// Where clients are served.
    pub listeners: Vec<String>,
    /// How far back rates, success and quantiles reach.
    pub window_seconds: f64,
    /// All routes together.
    pub traffic: Traffic,
    /// The window in pieces, oldest first.
    pub history: Vec<Interval>,
    /// Every route, in the order of the configuration.
    pub routes: Vec<Traffic>,
    /// Every service.
    pub services: Vec<ServiceStatus>,
    /// Every pool.
    pub pools: Vec<PoolStatus>,
    /// The configuration in force.
    pub config: ConfigStatus,
}

/// The state in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// It works, but not all of it or not well.
    Degraded,
    /// Some service cannot be reached.
    Down,
}

/// The golden signals of a route, a service or an endpoint.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Traffic {
    /// Its name.
    pub name: String,
    /// Requests per second in the window.
    pub requests_per_second: f64,
    /// Share of the window's requests that were answered below 500; absent without requests.
    pub success_ratio: Option<f64>,
    /// Half of the window's answers took no longer.
    pub latency_p50_ms: Option<f64>,
    /// 95 % took no longer.
    pub latency_p95_ms: Option<f64>,
    /// 99 % took no longer.
    pub latency_p99_ms: Option<f64>,
    /// Second tries for each request of the window; only services have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_try_ratio: Option<f64>,
    /// Requests and failures per second in the pieces of the window, oldest first.
    #[serde(skip)]
    pub(crate) recent: Vec<(f64, f64)>,
    /// Requests being served.
    pub in_flight: u64,
    /// Requests since the start.
    pub requests_total: u64,
    /// Of those, 5xx and unanswered ones.
    pub failed_total: u64,
    /// Requests since the start by class of answer.
    pub answers_total: Answers,
}

/// Answers by class of status.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
#[allow(missing_docs, reason = "each field is named after its class")]
pub struct Answers {
    #[serde(rename = "1xx")]
    pub upgraded: u64,
    #[serde(rename = "2xx")]
    pub success: u64,
    #[serde(rename = "3xx")]
    pub redirect: u64,
    #[serde(rename = "4xx")]
    pub client_error: u64,
    #[serde(rename = "5xx")]
    pub server_error: u64,
    pub unanswered: u64,
}

/// One piece of the window.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Interval {
    /// How long ago it ended.
    pub age_seconds: f64,
    /// Requests per second in it.
    pub requests_per_second: f64,
    /// Failures per second in it.
    pub failed_per_second: f64,
}

/// A service and its endpoints.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ServiceStatus {
    /// Its traffic.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// How many endpoints are healthy.
    pub healthy: usize,
    /// How many tiers its endpoints form.
    pub tiers: usize,
    /// The tier that takes its requests.
    pub active_tier: u8,
    /// The tier that an operator chose.
    pub forced_tier: Option<u8>,
    /// Why the tier is what it is; empty if there is nothing to say.
    pub tier_reason: String,
    /// What it may spend on second tries.
    pub budget: BudgetView,
    /// Second tries since the start, by cause.
    pub second_tries_total: BTreeMap<String, u64>,
    /// Requests that wait until an endpoint can be reached at all.
    pub parked: u64,
    /// Requests that wait for a place at an endpoint.
    pub queued: u64,
    /// Answers that are held back until they are whole.
    pub held: u64,
    /// Its endpoints.
    pub endpoints: Vec<EndpointStatus>,
}

/// One endpoint.
#[derive(Clone, Debug, serde::Serialize)]
pub struct EndpointStatus {
    /// Its attempts.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// How it is judged.
    pub state: EndpointState,
    /// Why.
    pub reason: String,
    /// Open connections to it.
    pub connections: u64,
    /// Of those, idle ones.
    pub connections_idle: u64,
    /// Connection attempts that failed, since the start.
    pub connect_failures_total: u64,
    /// How long it has been in that state.
    pub since_seconds: Option<u64>,
    /// Its tier: 0 is used first.
    pub tier: u8,
    /// Its share of the requests relative to the others of its tier.
    pub weight: u32,
    /// How often requests ejected it, since the start.
    pub ejections_total: u64,
    /// Its usual time to an answer.
    pub usual_latency_ms: Option<f64>,
}

/// The configuration in force.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ConfigStatus {
    /// Where it was read from.
    pub source: String,
    /// How often another configuration was put in force since the start.
    pub reloads: u64,
    /// The last attempt.
    pub last_reload: Option<ReloadStatus>,
}

/// An attempt to reload.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ReloadStatus {
    /// Whether the new configuration is in force.
    pub applied: bool,
    /// What came of it.
    pub message: String,
    /// What is wrong with the new configuration.
    pub findings: Vec<Finding>,
    /// How long ago it was.
    pub age_seconds: u64,
}

impl Status {
    pub(crate) fn new(view: NodeView, readiness: Readiness, window: &Window) -> Status {
        let mut all = (TrafficView { name: "all routes".to_owned(), ..TrafficView::default() }, Totals::default());
        let mut routes = Vec::with_capacity(view.routes.len());
        for route in &view.routes {
            let gain = window.gain(Scope::Route, &route.name, &Totals::of(route));
            all.1.add(&gain);
            for (sum, n) in all.0.by_class.iter_mut().zip(route.by_class) {
                *sum += n;
            }
            all.0.in_flight += route.in_flight;
            let recent = window.recent(Scope::Route, &route.name);
            routes.push(Traffic { recent, ..Traffic::new(route, &gain, window) });
        }
        let mut status = Status {
            summary: String::new(),
            notices: Vec::new(),
            level: Level::Ok,
            readiness,
            uptime_seconds: view.uptime.as_secs(),
            workers: view.workers,
            connections: view.connections,
            listeners: view.listeners.clone(),
            window_seconds: window.length().as_secs_f64(),
            traffic: Traffic::new(&all.0, &all.1, window),
            history: history(&view, window),
            routes,
            services: view.services.iter().map(|s| ServiceStatus::new(s, window)).collect(),
            pools: view.pools.iter().map(|pool| PoolStatus::new(pool, window)).collect(),
            config: ConfigStatus {
                source: view.config.source,
                reloads: view.config.reloads,
                last_reload: view.config.last_reload.map(ReloadStatus::new),
            },
            version: view.version,
        };
        status.level = status.judge();
        status.summary = status.in_words();
        status.notices = status.notices_in_words();
        status.notices.extend(view.notices.iter().map(|notice| words::tame(notice)));
        status
    }

    fn judge(&self) -> Level {
        let unreachable = self.services.iter().any(|s| s.is_lost() && !s.is_answering());
        let unhealthy = self.services.iter().any(|s| s.endpoints.iter().any(|e| e.state.is_trouble()));
        let failing = self.traffic.success_ratio.is_some_and(|ratio| ratio < SUCCESS_FLOOR);
        let pools = self.pools.iter().map(PoolStatus::level).max().unwrap_or(Level::Ok);
        if unreachable || pools == Level::Down {
            Level::Down
        } else if unhealthy || failing || !self.readiness.ready || pools == Level::Degraded {
            Level::Degraded
        } else {
            Level::Ok
        }
    }

    fn notices_in_words(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if !self.readiness.ready {
            notices.push(format!("This node takes no new work: {}.", words::tame(&self.readiness.reason)));
        }
        if self.config.last_reload.as_ref().is_some_and(|reload| !reload.applied) {
            notices.push("The last reload was refused: the configuration from before stays in force.".to_owned());
        }
        for service in self.services.iter().filter(|s| s.forced_tier.is_some() || s.active_tier > 0) {
            let why = words::tame(&service.tier_reason);
            let why = if why.is_empty() { why } else { format!(": {why}") };
            notices.push(format!("{} uses tier {}{why}.", service.traffic.name, service.active_tier));
        }
        for pool in self.pools.iter().filter(|pool| pool.is_paused) {
            let waiting = words::count(pool.clients_waiting as usize, "client");
            let name = &pool.name;
            notices.push(format!("The pool {name} is paused: transactions that have not begun wait ({waiting} now)."));
        }
        notices
    }

    /// Endpoints, pools and traffic, as far as there are any.
    fn in_words(&self) -> String {
        let has_gateway = !self.services.is_empty() || !self.routes.is_empty();
        if self.pools.is_empty() {
            return format!("{}; {}.", self.endpoints_in_words(), self.traffic_in_words());
        }
        if has_gateway {
            return format!("{}; {}; {}.", self.endpoints_in_words(), self.pools_in_words(), self.traffic_in_words());
        }
        format!("{}.", self.pools_in_words())
    }

    fn pools_in_words(&self) -> String {
        let rate: f64 = self.pools.iter().map(|pool| pool.flow.transactions_per_second).sum();
        let rate = words::rate(rate);
        match self.pools.as_slice() {
            [only] => format!("{}, {rate} transactions/s", only.primary_in_words()),
            pools => {
                let found = pools.iter().filter(|pool| pool.primary.is_some()).count();
                format!("{found} of {} have a primary, {rate} transactions/s", words::count(pools.len(), "pool"))
            }
        }
    }

    fn endpoints_in_words(&self) -> String {
        let endpoints = || self.services.iter().flat_map(|s| s.endpoints.iter().map(move |e| (&s.traffic.name, e)));
        let total = endpoints().count();
        let trouble: Vec<_> = endpoints().filter(|(_, e)| e.state.is_trouble()).collect();
        let drained = endpoints().filter(|(_, e)| e.state.is_taken_out() && !e.state.is_trouble()).count();
        if self.services.is_empty() {
            return "No service is configured".to_owned();
        }
        if let Some(lost) = self.services.iter().find(|s| s.is_lost()) {
            let why = lost.endpoints.first().map(|e| words::tame(&e.reason)).unwrap_or_default();
            return format!("{} has no healthy endpoint ({why})", lost.traffic.name);
        }
        if trouble.is_empty() && drained > 0 {
            let verb = if drained == 1 { "is" } else { "are" };
            return format!("{} of {total} endpoints are healthy, {drained} {verb} drained", total - drained);
        }
        if trouble.is_empty() {
            return match (total, self.services.as_slice()) {
                (1, [only]) => format!("The only endpoint of {} is healthy", only.traffic.name),
                (_, services) => {
                    format!("All {total} endpoints of {} are healthy", words::count(services.len(), "service"))
                }
            };
        }
        let mut names: Vec<String> = trouble
            .iter()
            .take(NAMED)
            .map(|(service, e)| format!("{} of {service} ({})", e.traffic.name, words::tame(&e.reason)))
            .collect();
        if trouble.len() > NAMED {
            names.push(format!("{} more", trouble.len() - NAMED));
        }
        if drained > 0 {
            names.push(format!("{drained} drained"));
        }
        let verb = if trouble.len() == 1 { "is" } else { "are" };
        // Checks alone make an endpoint unhealthy; what requests and operators say has words of its own.
        let plainly = trouble.iter().all(|(_, e)| e.state == EndpointState::Unhealthy);
        let word = if plainly { "unhealthy" } else { "not healthy" };
        format!("{} of {} {verb} {word}: {}", trouble.len(), words::count(total, "endpoint"), names.join(", "))
    }

    fn traffic_in_words(&self) -> String {
        let window = words::window(Duration::from_secs_f64(self.window_seconds));
        match self.traffic.success_ratio {
            None => format!("no requests in {window}"),
            Some(ratio) => {
                let rate = words::rate(self.traffic.requests_per_second);
                format!("{rate} requests/s, {} successful in {window}", words::percent(ratio))
            }
        }
    }
}

impl Level {
    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Degraded => "degraded",
            Level::Down => "down",
        }
    }
}

impl Traffic {
    fn new(view: &TrafficView, gain: &Totals, window: &Window) -> Traffic {
        let quantile = |q| gain.latency.quantile_us(q).map(|us| us as f64 / 1000.0);
        let [upgraded, success, redirect, client_error, server_error, unanswered] = view.by_class;
        Traffic {
            name: view.name.clone(),
            requests_per_second: gain.requests as f64 / window.length().as_secs_f64(),
            success_ratio: (gain.requests > 0)
                .then(|| gain.requests.saturating_sub(gain.failed) as f64 / gain.requests as f64),
            latency_p50_ms: quantile(0.5),
            latency_p95_ms: quantile(0.95),
            latency_p99_ms: quantile(0.99),
            second_try_ratio: None,
            recent: Vec::new(),
            in_flight: view.in_flight,
            requests_total: view.total(),
            failed_total: view.failed(),
            answers_total: Answers { upgraded, success, redirect, client_error, server_error, unanswered },
        }
    }
}

impl ServiceStatus {
    fn new(view: &ServiceView, window: &Window) -> ServiceStatus {
        let endpoint = |e: &EndpointView| {
            let scope = Scope::EndpointOf(&view.traffic.name);
            let gain = window.gain(scope, &e.traffic.name, &Totals::of(&e.traffic));
            let recent = window.recent(scope, &e.traffic.name);
            EndpointStatus {
                traffic: Traffic { recent, ..Traffic::new(&e.traffic, &gain, window) },
                state: e.state,
                reason: e.reason.clone(),
                connections: e.connections,
                connections_idle: e.idle,
                connect_failures_total: e.connect_failures,
                since_seconds: e.since.map(|since| since.as_secs()),
                tier: e.tier,
                weight: e.weight,
                ejections_total: e.ejections,
                usual_latency_ms: e.latency_us.map(|us| us as f64 / 1000.0),
            }
        };
        let gain = window.gain(Scope::Service, &view.traffic.name, &Totals::of_service(view));
        let traffic = Traffic {
            recent: window.recent(Scope::Service, &view.traffic.name),
            second_try_ratio: (gain.requests > 0).then(|| gain.second_tries as f64 / gain.requests as f64),
            ..Traffic::new(&view.traffic, &gain, window)
        };
        ServiceStatus {
            traffic,
            healthy: view.endpoints.iter().filter(|e| e.state == EndpointState::Healthy).count(),
            endpoints: view.endpoints.iter().map(endpoint).collect(),
            tiers: view.endpoints.iter().map(|e| e.tier).collect::<BTreeSet<_>>().len(),
            active_tier: view.active_tier,
            forced_tier: view.forced_tier,
            tier_reason: view.tier_reason.clone(),
            budget: view.budget,
            second_tries_total: view.second_tries.iter().cloned().collect(),
            parked: view.parked,
            queued: view.queued,
            held: view.held,
        }
    }

    /// Whether its requests are sent to endpoints that fail their checks, and nearly all of them succeed: the checks are
    /// wrong then. An outage falls below that within seconds.
    pub(crate) fn is_answering(&self) -> bool {
        let is_asked = self.endpoints.iter().any(|e| e.state == EndpointState::Unhealthy);
        is_asked && self.parked == 0 && self.traffic.success_ratio.is_some_and(|ratio| ratio > 0.9)
    }

    /// Whether nothing takes its requests.
    pub(crate) fn is_lost(&self) -> bool {
        let is_used = |e: &EndpointStatus| e.state.is_in_use() || e.state == EndpointState::Probation;
        !self.endpoints.is_empty() && !self.endpoints.iter().any(is_used)
    }

    /// Whether there is more than one tier, so that tiers are worth showing.
    pub(crate) fn has_tiers(&self) -> bool {
        self.tiers > 1
    }

    /// Whether taking this endpoint out would leave none that takes requests as usual.
    pub(crate) fn depends_on(&self, endpoint: &EndpointStatus) -> bool {
        let others = self.endpoints.iter().filter(|e| e.traffic.name != endpoint.traffic.name);
        !others.into_iter().any(|e| e.state.is_in_use())
    }

    /// The budget in words; `None` if it has none.
    pub(crate) fn budget_in_words(&self) -> Option<String> {
        let budget = &self.budget;
        (budget.share > 0.0).then(|| {
            let yields = budget.yields.map(|y| format!(", each brought {y:.2} successes")).unwrap_or_default();
            let (spent, allowed) = (words::grouped(budget.spent), words::grouped(budget.allowed));
            format!("{spent} of {allowed} spent, at most {:.0} % of requests{yields}", budget.share * 100.0)
        })
    }

    /// Second tries by cause, the most frequent first; empty if there were none.
    pub(crate) fn second_tries_in_words(&self) -> String {
        let mut causes: Vec<_> = self.second_tries_total.iter().filter(|(_, n)| **n > 0).collect();
        causes.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        let causes = causes.into_iter().map(|(cause, n)| format!("{} {}", words::grouped(*n), words::tame(cause)));
        causes.collect::<Vec<_>>().join(", ")
    }

    /// What waits, in words; empty if nothing does.
    pub(crate) fn waiting_in_words(&self) -> String {
        let parts = [(self.parked, "parked"), (self.queued, "queued"), (self.held, "held")];
        let parts = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", words::grouped(n)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

impl ReloadStatus {
    fn new(view: ReloadView) -> ReloadStatus {
        ReloadStatus {
            applied: view.applied,
            message: view.message,
            findings: view.findings,
            age_seconds: view.age.as_secs(),
        }
    }
}

/// Rates between neighbouring samples; the present snapshot ends the last piece.
fn history(view: &NodeView, window: &Window) -> Vec<Interval> {
    let now = view.routes.iter().fold((0, 0), |(r, f), route| (r + route.total(), f + route.failed()));
    let mut points: Vec<_> = window.samples.iter().map(|s| (s.at, s.all_routes)).collect();
    // A piece shorter than a second would say more about chance than about traffic.
    if points.last().is_some_and(|(at, _)| window.now.since(*at) >= Duration::from_secs(1)) {
        points.push((window.now, now));
    }
    let pieces = points.windows(2).map(|pair| {
        let [(from, before), (to, after)] = pair else { return None };
        let seconds = to.since(*from).as_secs_f64();
        (seconds > 0.0).then(|| Interval {
            age_seconds: window.now.since(*to).as_secs_f64(),
            requests_per_second: after.0.saturating_sub(before.0) as f64 / seconds,
            failed_per_second: after.1.saturating_sub(before.1) as f64 / seconds,
        })
    });
    pieces.flatten().collect()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
