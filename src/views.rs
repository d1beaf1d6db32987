//! What the console shows, from what the data plane knows and what operators decided.

use std::sync::Arc;

use console::view::{BudgetView, EndpointState, EndpointView, ServiceView, TrafficView};
use gateway::inspect;
use kernel::tally::{Counts, Subject, TallySource};

use crate::operate::Operations;

/// What two data planes have counted.
#[derive(Debug)]
pub(crate) struct Both(pub(crate) Arc<dyn TallySource>, pub(crate) Arc<dyn TallySource>);

impl TallySource for Both {
    fn take(&self) -> Vec<(Subject, Counts)> {
        let mut all = self.0.take();
        all.extend(self.1.take());
        all
    }
}

/// Counters.
pub(crate) fn traffic(from: inspect::TrafficView) -> TrafficView {
    TrafficView { name: from.name, by_class: from.by_class, latency: from.latency, in_flight: from.in_flight }
}

/// A service and its endpoints.
pub(crate) fn service(from: inspect::ServiceView, operations: &Operations) -> ServiceView {
    let name = from.traffic.name.clone();
    let tier_reason = operations.about_tier(&name).unwrap_or_default();
    ServiceView {
        traffic: traffic(from.traffic),
        endpoints: from.endpoints.into_iter().map(|e| endpoint(&name, e, operations)).collect(),
        active_tier: from.active_tier,
        forced_tier: from.forced_tier,
        tier_reason,
        budget: BudgetView {
            share: from.budget.share,
            spent: from.budget.spent,
            allowed: from.budget.allowed,
            yields: from.budget.yield_ratio,
        },
        parked: from.parked.into(),
        held: from.held.into(),
        queued: from.queued.into(),
        second_tries: from.second_tries.into_iter().map(|(cause, n)| (cause.to_owned(), n)).collect(),
    }
}

fn endpoint(service: &str, from: inspect::EndpointView, operations: &Operations) -> EndpointView {
    let decided = from.forced.and_then(|_| operations.about_endpoint(service, &from.traffic.name));
    let (reason, since) = match decided {
        Some((reason, since)) => (reason, Some(since)),
        None => (from.reason, Some(from.since)),
    };
    EndpointView {
        state: match from.state {
            inspect::EndpointState::Healthy => EndpointState::Healthy,
            inspect::EndpointState::Suspect => EndpointState::Suspect,
            inspect::EndpointState::Ejected => EndpointState::Ejected,
            inspect::EndpointState::Probation => EndpointState::Probation,
            inspect::EndpointState::Unhealthy => EndpointState::Unhealthy,
            inspect::EndpointState::Drained if from.traffic.in_flight > 0 => EndpointState::Draining,
            inspect::EndpointState::Drained => EndpointState::Drained,
            inspect::EndpointState::Down => EndpointState::Down,
        },
        traffic: traffic(from.traffic),
        reason,
        connections: from.connections,
        idle: from.idle,
        connect_failures: from.connect_failures,
        since,
        tier: from.tier,
        weight: from.weight,
        ejections: from.ejected_total,
        latency_us: Some(from.latency_us).filter(|us| *us > 0),
    }
}
