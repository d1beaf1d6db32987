//! Services: endpoints are resolved, checks and rules are taken over. Resolution goes through the [`World`] and happens once
//! for each name, when the configuration is read; a reload resolves again.
//!
//! [`World`]: crate::config::World

use std::collections::HashMap;
use std::net::SocketAddr;

use gateway::plan::{EndpointPlan, HealthKind, HealthPlan, ServicePlan};
use kernel::{Rule, Severity};
use policy::balance::{Balance, HashKey};
use policy::budget::BudgetRule;
use policy::failover::FailoverRule;
use policy::gate::GateRule;
use policy::hold::HoldRule;
use policy::outlier::OutlierRule;
use policy::park::ParkRule;
use policy::retry::RetryRule;

use super::rules_of_route::WITHOUT_EFFECT;
use crate::config::context::Context;
use crate::config::document::Path;
use crate::config::model::request_part::HashSource;
use crate::config::model::scalar::Endpoint;
use crate::config::model::service::success;
use crate::config::model::{BalanceKind, EndpointEntry, Health, Name, Outlier, RetryBudget, Service};
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

pub(crate) const HEALTH_KIND: Rule = Rule {
    id: "health-kind",
    severity: Severity::Error,
    title: "A health check asks nothing, or two things",
    what: "`health` of a service has neither `path` nor `tcp = true`, or has both.",
    why: "A check is one or the other: an HTTP request that has to be answered well, or a connection that has to be \
          established. With both it would not be clear which one counts.",
    remedy: "Write `path` if the service has one that tells whether it can work; otherwise write `tcp = true`, which \
             notices a process that is gone, but not one that hangs.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\nhealth = { path = \"/healthz\" }   # or: { tcp = true }",
};

pub(crate) const BUDGET_CEILING: Rule = Rule {
    id: "budget-ceiling",
    severity: Severity::Error,
    title: "The retry budget may rise to less than it begins with",
    what: "`ceiling` of `retry_budget` is below its `share`.",
    why: "`share` is always there, and `ceiling` is what it may rise to while second tries succeed. Of two that \
          contradict each other, one is not what was meant.",
    remedy: "Raise `ceiling` to at least `share`. The same value for both keeps the budget from rising.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\nretry_budget = { share = \"30%\", ceiling = \"45%\" }",
};

/// Every service, in the order of their names.
pub(super) fn services(context: &Context<'_>) -> Vec<ServicePlan> {
    let mut known = HashMap::new();
    context.config.service.iter().map(|(name, service)| plan(context, name, service, &mut known)).collect()
}

type Known = HashMap<String, Result<Vec<SocketAddr>, String>>;

fn plan(context: &Context<'_>, name: &Name, service: &Service, known: &mut Known) -> ServicePlan {
    let at = path!["service", name.as_str()];
    let endpoint = |(i, entry): (usize, &EndpointEntry)| EndpointPlan {
        name: entry.address().to_string(),
        addresses: resolve(context, name, i, entry.address(), known),
        weight: entry.weight(),
        tier: entry.tier(),
    };
    ServicePlan {
        name: name.to_string(),
        endpoints: service.endpoints.iter().enumerate().map(endpoint).collect(),
        balance: balance(&service.balance),
        health: service.health.as_ref().map(|check| health(context, &at.then("health"), check)),
        connect_timeout: service.connect_timeout.into(),
        timeout: service.timeout.into(),
        body_idle_timeout: service.body_idle_timeout.into(),
        max_connections: service.max_connections,
        max_idle: service.max_idle,
        idle_timeout: service.idle_timeout.into(),
        host: service.host.as_ref().map(ToString::to_string),
        outlier: outlier(&service.outlier),
        retry: RetryRule {
            attempts: service.attempts,
            per_try_timeout: service.per_try_timeout.map(Into::into),
            hedge: service.hedge,
            max_replay: service.max_replay.as_bytes(),
            budget: budget(context, &at.then("retry_budget"), &service.retry_budget),
        },
        hold: HoldRule {
            max_body: service.hold.max_body.as_bytes(),
            max_wait: service.hold.max_wait.into(),
            ..HoldRule::default()
        },
        park: ParkRule {
            max_wait: service.park.max_wait.into(),
            max_requests: service.park.max_requests,
            max_bytes: service.park.max_bytes.as_bytes(),
        },
        gate: GateRule {
            per_endpoint: service.max_requests,
            max_queue: service.queue.max,
            max_wait: service.queue.timeout.into(),
        },
        failover: FailoverRule {
            spill_below: service.failover.spill_below.as_f64(),
            fail_back_delay: service.failover.fail_back_delay.into(),
        },
        fail_open: service.fail_open,
    }
}

/// How an endpoint is chosen, as the balancer knows it.
fn balance(written: &BalanceKind) -> Balance {
    match written {
        BalanceKind::LeastOutstanding => Balance::LeastOutstanding,
        BalanceKind::RoundRobin => Balance::RoundRobin,
        BalanceKind::Hash(key) => Balance::Hash(match key.source() {
            HashSource::Header(name) => HashKey::Header(name.to_ascii_lowercase()),
            HashSource::Cookie(name) => HashKey::Cookie(name.to_owned()),
            HashSource::Address => HashKey::Address,
        }),
    }
}

fn outlier(written: &Outlier) -> OutlierRule {
    OutlierRule {
        enabled: written.enabled,
        consecutive_failures: written.consecutive_failures,
        max_ejected: written.max_ejected.as_f64(),
        base_ejection: written.base_ejection.into(),
        max_ejection: written.max_ejection.into(),
        slow_start: written.slow_start.into(),
    }
}

fn budget(context: &Context<'_>, at: &Path, written: &RetryBudget) -> BudgetRule {
    let RetryBudget { share, per_second, ceiling } = *written;
    if ceiling < share && !context.is_damaged(at) {
        let key = if context.document.says(&at.then("ceiling")) { "ceiling" } else { "share" };
        let message = format!("the share of second tries is {share}, and the most it may rise to is {ceiling}");
        context.say(&BUDGET_CEILING, &at.then(key), message, format!("set `ceiling` to at least `{share}`"));
    }
    BudgetRule { share: share.as_f64(), per_second, ceiling: ceiling.as_f64() }
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

fn health(context: &Context<'_>, at: &Path, health: &Health) -> HealthPlan {
    let kind = match (&health.path, health.tcp) {
        (Some(path), false) => HealthKind::Http {
            path: path.to_string(),
            host: health.host.as_ref().map(ToString::to_string),
            expect: health.expect.iter().map(|range| range.bounds()).collect(),
        },
        (None, true) => {
            // The default of `expect` stands beside `tcp` in the effective configuration.
            let useless = [("expect", health.expect != success()), ("host", health.host.is_some())];
            for (key, _) in useless.into_iter().filter(|(_, there)| *there) {
                let message = format!("`{key}` does nothing in a check by `tcp`, which asks nothing");
                context.say_of_key(
                    &WITHOUT_EFFECT,
                    &at.then(key),
                    message,
                    format!("take `{key}` out, or write `path`"),
                );
            }
            HealthKind::Tcp
        }
        (Some(_), true) => {
            let message = "a check by `tcp` asks nothing, so it has no `path`";
            context.say_of_key(&HEALTH_KIND, &at.then("tcp"), message, "keep one of them");
            HealthKind::Tcp
        }
        (None, false) => {
            if !context.is_damaged(at) {
                let remedy = "add `path = \"/healthz\"`, or `tcp = true` if no path tells";
                context.say(&HEALTH_KIND, at, "the health check asks nothing", remedy);
            }
            HealthKind::Tcp
        }
    };
    HealthPlan {
        kind,
        interval: health.interval.into(),
        fast_interval: health.fast_interval.min(health.interval).into(),
        timeout: health.timeout.into(),
        fall: health.fall,
        rise: health.rise,
    }
}
