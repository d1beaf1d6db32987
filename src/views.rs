//! What the console shows, from what the data plane knows and what operators decided.

use console::view::{EndpointState, EndpointView, ServiceView, TrafficView};
use gateway::inspect;
use policy::outlier::Forced;

use crate::operate::Operations;

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
        ..ServiceView::default()
    }
}

fn endpoint(service: &str, from: inspect::EndpointView, operations: &Operations) -> EndpointView {
    let decided = from.forced.and_then(|_| operations.about_endpoint(service, &from.traffic.name));
    let (reason, since) = match decided {
        Some((reason, since)) => (reason, Some(since)),
        None => (from.reason, None),
    };
    EndpointView {
        state: match (from.forced, from.healthy) {
            (Some(Forced::Drained), _) if from.traffic.in_flight > 0 => EndpointState::Draining,
            (Some(Forced::Drained), _) => EndpointState::Drained,
            (Some(Forced::Down), _) => EndpointState::Down,
            (None, true) => EndpointState::Healthy,
            (None, false) => EndpointState::Unhealthy,
        },
        traffic: traffic(from.traffic),
        reason,
        connections: from.connections,
        idle: from.idle,
        connect_failures: from.connect_failures,
        since,
        tier: from.tier,
        weight: from.weight,
        ..EndpointView::default()
    }
}
