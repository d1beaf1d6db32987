//! Services: endpoints are resolved, checks are taken over. Resolution goes through the [`World`] and happens once for each
//! name, when the configuration is read; a reload resolves again.
//!
//! [`World`]: crate::config::World

use std::collections::HashMap;
use std::net::SocketAddr;

use gateway::plan::{EndpointPlan, HealthKind, HealthPlan, ServicePlan};
use kernel::{Rule, Severity};
use policy::balance::Balance;
use policy::failover::FailoverRule;
use policy::gate::GateRule;
use policy::hold::HoldRule;
use policy::outlier::OutlierRule;
use policy::park::ParkRule;
use policy::retry::RetryRule;

use crate::config::context::Context;
use crate::config::model::scalar::Endpoint;
use crate::config::model::{BalanceKind, Health, Name, Service};
use crate::config::plain;
use crate::path;

/// Addresses of one name that are kept, at most: more are not tried within any timeout.
const MAX_ADDRESSES: usize = 16;

pub(crate) const UNRESOLVABLE_NAME: Rule = Rule {
    id: "unresolvable-name",
    severity: Severity::Error,
    title: "The name of an endpoint cannot be resolved",
    what: "An endpoint is given by name, and the system's resolver has no address for it. Names are resolved when \
           the configuration is read.",
    why: "An endpoint without an address gets no request. A misspelt name would look like an endpoint that is down.",
    remedy: "Correct the name, or make it known in DNS or `/etc/hosts`. An address, such as `10.0.0.7:8080`, needs \
             no resolution.",
    example: "[service.shop]\nendpoints = [\"shop.internal:8080\", \"10.0.0.7:8080\"]",
};

/// Every service, in the order of their names.
pub(super) fn services(context: &Context<'_>) -> Vec<ServicePlan> {
    let mut known = HashMap::new();
    context.config.service.iter().map(|(name, service)| plan(context, name, service, &mut known)).collect()
}

type Known = HashMap<String, Result<Vec<SocketAddr>, String>>;

fn plan(context: &Context<'_>, name: &Name, service: &Service, known: &mut Known) -> ServicePlan {
    let endpoint = |(i, endpoint): (usize, &Endpoint)| EndpointPlan {
        name: endpoint.to_string(),
        addresses: resolve(context, name, i, endpoint, known),
        weight: 1,
        tier: 0,
    };
    ServicePlan {
        name: name.to_string(),
        endpoints: service.endpoints.iter().enumerate().map(endpoint).collect(),
        balance: match service.balance {
            BalanceKind::LeastOutstanding => Balance::LeastOutstanding,
            BalanceKind::RoundRobin => Balance::RoundRobin,
        },
        health: service.health.as_ref().map(health),
        connect_timeout: service.connect_timeout.into(),
        timeout: service.timeout.into(),
        body_idle_timeout: service.body_idle_timeout.into(),
        max_connections: service.max_connections,
        max_idle: service.max_idle,
        idle_timeout: service.idle_timeout.into(),
        host: service.host.as_ref().map(ToString::to_string),
        outlier: OutlierRule::default(),
        retry: RetryRule::default(),
        hold: HoldRule::default(),
        park: ParkRule::default(),
        gate: GateRule::default(),
        failover: FailoverRule::default(),
        fail_open: true,
    }
}

fn resolve(context: &Context<'_>, service: &Name, i: usize, endpoint: &Endpoint, known: &mut Known) -> Vec<SocketAddr> {
    if let Ok(address) = endpoint.as_str().parse() {
        return vec![address];
    }
    let resolved =
        known.entry(endpoint.to_string()).or_insert_with(|| match (context.world.resolve)(endpoint.as_str()) {
            Ok(addresses) if addresses.is_empty() => Err("it has no address".to_owned()),
            Ok(mut addresses) => {
                addresses.truncate(MAX_ADDRESSES);
                Ok(addresses)
            }
            Err(error) => Err(plain(&error)),
        });
    match resolved {
        Ok(addresses) => addresses.clone(),
        Err(why) => {
            let host = endpoint.as_str().rsplit_once(':').map_or(endpoint.as_str(), |(host, _)| host);
            let message = format!("`{host}` cannot be resolved: {why}");
            let remedy = format!(
                "correct the name, make it known in DNS or /etc/hosts, or write an address such as `10.0.0.7:{}`",
                endpoint.port()
            );
            context.say(&UNRESOLVABLE_NAME, &path!["service", service.as_str(), "endpoints", i], message, remedy);
            Vec::new()
        }
    }
}

fn health(health: &Health) -> HealthPlan {
    HealthPlan {
        kind: HealthKind::Http {
            path: health.path.to_string(),
            host: health.host.as_ref().map(ToString::to_string),
            expect: health.expect.iter().map(|range| range.bounds()).collect(),
        },
        interval: health.interval.into(),
        fast_interval: health.interval.into(),
        timeout: health.timeout.into(),
        fall: health.fall,
        rise: health.rise,
    }
}
