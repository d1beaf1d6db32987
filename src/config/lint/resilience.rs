//! Lints on what `[service.NAME]` says about failing endpoints: keys that cannot act where they stand, times that are
//! never reached, and tiers that look like a slip. They speak of what is not the default: a default that does nothing for
//! a service does no harm either, and the effective configuration, which writes all of them, says no more than the file.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{Rule, Severity, Span};

use super::Lint;
use crate::config::context::Context;
use crate::config::document::Path;
use crate::config::model::service::{fast_interval, max_replay};
use crate::config::model::{BalanceKind, Hold, Name, Park, RetryBudget, Service};
use crate::path;

pub(super) const LINTS: &[Lint] = &[
    PER_TRY_ABOVE_TIMEOUT,
    SECOND_TRIES_OFF,
    OUTLIER_NEVER_ACTS,
    EJECTION_ABOVE_MAX,
    HOLD_ABOVE_TIMEOUT,
    PARK_ABOVE_TIMEOUT,
    QUEUE_WITHOUT_LIMIT,
    REQUESTS_ABOVE_CONNECTIONS,
    FAST_INTERVAL,
    TIERS_WITH_GAP,
    LONE_TIER,
    FAILOVER_WITHOUT_TIERS,
    HASH_OF_ONE,
];

/// How many endpoints each tier has.
fn tiers(service: &Service) -> BTreeMap<u8, usize> {
    let mut tiers = BTreeMap::new();
    service.endpoints.iter().for_each(|entry| *tiers.entry(entry.tier()).or_default() += 1);
    tiers
}

/// Whether no tier has a choice.
fn is_one_each(service: &Service) -> bool {
    let tiers = tiers(service);
    !tiers.is_empty() && tiers.values().all(|endpoints| *endpoints == 1)
}

/// Services of which `part` is not the default, with the path to `key`.
fn with<'a, T: Default + PartialEq + 'a>(
    context: &'a Context<'_>,
    key: &'a str,
    part: fn(&Service) -> &T,
) -> impl Iterator<Item = (&'a Name, &'a Service, Path)> {
    let services = context.config.service.iter().filter(move |(_, service)| *part(service) != T::default());
    services.map(move |(name, service)| (name, service, path!["service", name.as_str(), key]))
}

const PER_TRY_ABOVE_TIMEOUT: Lint = Lint {
    rule: Rule {
        id: "per-try-above-timeout",
        severity: Severity::Warning,
        title: "One attempt may take as long as the whole request",
        what: "`per_try_timeout` of a service is not shorter than its `timeout`, or than the `timeout` of a route to it.",
        why: "The request is over before the attempt is, so the limit never acts and no second attempt follows it.",
        remedy: "Make it at most `timeout` divided by `attempts`, or leave it out: silence beyond the usual starts a \
                 second try without it.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\ntimeout = \"6s\"\n\
                  per_try_timeout = \"2s\"",
    },
    check: |context, rule| {
        let config = context.config;
        for (name, service, at) in with(context, "per_try_timeout", |service| &service.per_try_timeout) {
            let Some(per_try) = service.per_try_timeout else { continue };
            if per_try >= service.timeout {
                let message = format!("an attempt may take {per_try}, and the whole request only {}", service.timeout);
                context.say(rule, &at, message, format!("set `per_try_timeout` to less than {}", service.timeout));
                continue;
            }
            for (i, route) in config.route.iter().enumerate() {
                let leads = route.service.as_ref() == Some(name) || route.split.iter().any(|s| s.contains_key(name));
                if let Some(timeout) = route.timeout.filter(|timeout| leads && *timeout <= per_try) {
                    let message =
                        format!("`timeout` is {timeout}, and one attempt at `{name}` alone may take {per_try}");
                    let remedy = "make `timeout` longer, or the service's `per_try_timeout` shorter";
                    context.say(rule, &path!["route", i, "timeout"], message, remedy);
                }
            }
        }
    },
};

const SECOND_TRIES_OFF: Lint = Lint {
    rule: Rule {
        id: "second-tries-off",
        severity: Severity::Note,
        title: "Second tries are shaped, and there are none",
        what: "`attempts` of a service is 1, and its `retry_budget` or `max_replay` is not the default.",
        why: "With one attempt there is no second try, so the other keys do nothing.",
        remedy: "Raise `attempts`, or take the other keys out.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\nattempts = 2\n\
                  retry_budget = { share = \"10%\" }",
    },
    check: |context, rule| {
        for (name, service) in context.config.service.iter().filter(|(_, service)| service.attempts == 1) {
            let changed = [
                ("retry_budget", service.retry_budget != RetryBudget::default()),
                ("max_replay", service.max_replay != max_replay()),
            ];
            if let Some((key, _)) = changed.into_iter().find(|(_, changed)| *changed) {
                let message = format!("`{key}` does nothing with `attempts = 1`, which allows no second try");
                let at = path!["service", name.as_str(), key];
                context.say_of_key(rule, &at, message, format!("raise `attempts`, or take `{key}` out"));
            }
        }
    },
};

const OUTLIER_NEVER_ACTS: Lint = Lint {
    rule: Rule {
        id: "outlier-never-acts",
        severity: Severity::Warning,
        title: "No endpoint can ever be taken out",
        what: "`outlier` is not the default for a service with one endpoint in each tier, or has a `max_ejected` of 0.",
        why: "The last endpoint of a tier is never taken out for what requests met, because a bad endpoint is better \
              than none; and no share of endpoints is none. What is set up here never acts.",
        remedy: "Add an endpoint, raise `max_ejected` (it is rounded up, so the default of 50% takes one of two), or \
                 write `enabled = false` if nothing is to be taken out.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\noutlier = { max_ejected = \"50%\" }",
    },
    check: |context, rule| {
        for (name, service, at) in
            with(context, "outlier", |service| &service.outlier).filter(|(_, service, _)| service.outlier.enabled)
        {
            if service.outlier.max_ejected.millionths() == 0 {
                let remedy = "raise it, or write `enabled = false`";
                let message = "with a `max_ejected` of 0% no endpoint is ever taken out";
                context.say(rule, &at.then("max_ejected"), message, remedy);
            } else if is_one_each(service) {
                let each = if service.endpoints.len() == 1 { "one endpoint" } else { "one endpoint in each tier" };
                let message = format!("`{name}` has {each}, and the last one is never taken out");
                context.say_of_key(rule, &at, message, "add an endpoint, or take `outlier` out");
            }
        }
    },
};

const EJECTION_ABOVE_MAX: Lint = Lint {
    rule: Rule {
        id: "ejection-above-max",
        severity: Severity::Warning,
        title: "The first time out is longer than the longest",
        what: "`base_ejection` of `outlier` is above its `max_ejection`.",
        why: "An endpoint is out for `max_ejection` at once, and the time never doubles; one of the two is not what was \
              meant.",
        remedy: "Lower `base_ejection`, or raise `max_ejection`.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\n\
                  outlier = { base_ejection = \"2s\", max_ejection = \"1m\" }",
    },
    check: |context, rule| {
        for (_, service, at) in with(context, "outlier", |service| &service.outlier) {
            let (first, longest) = (service.outlier.base_ejection, service.outlier.max_ejection);
            if first > longest {
                let says = |key: &str| context.document.says(&at.then(key));
                let key = if says("max_ejection") { "max_ejection" } else { "base_ejection" };
                let message = format!("an endpoint is out for {first} the first time, and for {longest} at most");
                context.say(rule, &at.then(key), message, format!("set `max_ejection` to at least {first}"));
            }
        }
    },
};

const HOLD_ABOVE_TIMEOUT: Lint = Lint {
    rule: Rule {
        id: "hold-above-timeout",
        severity: Severity::Warning,
        title: "An answer may be held until its time is up",
        what: "`max_wait` of `hold` is not shorter than the `timeout` of the service.",
        why: "An answer that has come in part is kept back until there is no time left to try elsewhere, and then the \
              request ends with what could have been passed on long before.",
        remedy: "Keep it far below `timeout`; the default is 100ms.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\ntimeout = \"5s\"\n\
                  hold = { max_wait = \"100ms\" }",
    },
    check: |context, rule| {
        for (_, service, at) in with(context, "hold", |service| &service.hold) {
            let (wait, timeout) = (service.hold.max_wait, service.timeout);
            if wait >= timeout && wait != Hold::default().max_wait {
                let message = format!("an answer may be held for {wait}, and the request has {timeout}");
                let remedy = format!("set `max_wait` to much less than {timeout}");
                context.say(rule, &at.then("max_wait"), message, remedy);
            }
        }
    },
};

const PARK_ABOVE_TIMEOUT: Lint = Lint {
    rule: Rule {
        id: "park-above-timeout",
        severity: Severity::Note,
        title: "Requests cannot wait as long as they may",
        what: "`max_wait` of `park` is more than half of the `timeout` of the service.",
        why: "A request that finds nobody waits for at most half of the time it has left, so that the other half is \
              there for the answer. The longer wait is never reached.",
        remedy: "Lower `max_wait`, or raise `timeout` to twice as much.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\ntimeout = \"10s\"\n\
                  park = { max_wait = \"5s\" }",
    },
    check: |context, rule| {
        for (_, service, at) in with(context, "park", |service| &service.park) {
            let (wait, timeout) = (service.park.max_wait, service.timeout);
            let needed = Span::from_millis(wait.as_millis().saturating_mul(2));
            if needed > timeout && wait != Park::default().max_wait {
                let message = format!("requests may wait {wait}, but never more than half of their {timeout}");
                let remedy = format!("lower it, or set `timeout` to at least {needed}");
                context.say(rule, &at.then("max_wait"), message, remedy);
            }
        }
    },
};

const QUEUE_WITHOUT_LIMIT: Lint = Lint {
    rule: Rule {
        id: "queue-without-limit",
        severity: Severity::Warning,
        title: "A queue is set up that nobody enters",
        what: "`queue` of a service is not the default, and there is no `max_requests`.",
        why: "Requests wait in the queue while every endpoint works on `max_requests`. Without that limit no endpoint is \
              ever full, so none waits.",
        remedy: "Add `max_requests`: as many as one endpoint can work on at a time. Or take `queue` out.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\nmax_requests = 16\n\
                  queue = { max = 200, timeout = \"250ms\" }",
    },
    check: |context, rule| {
        for (name, _, at) in
            with(context, "queue", |service| &service.queue).filter(|(_, service, _)| service.max_requests.is_none())
        {
            let message = format!("no request to `{name}` ever waits in the queue, for there is no `max_requests`");
            context.say_of_key(rule, &at, message, "add `max_requests`, or take `queue` out");
        }
    },
};

const REQUESTS_ABOVE_CONNECTIONS: Lint = Lint {
    rule: Rule {
        id: "requests-above-connections",
        severity: Severity::Note,
        title: "More requests are allowed at a time than connections",
        what: "`max_requests` of a service is above its `max_connections`, both for one endpoint.",
        why: "A request needs a connection of its own while it lasts, so `max_connections` is reached first, and requests \
              wait for a connection rather than in the queue.",
        remedy: "Raise `max_connections` to at least `max_requests`.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\nmax_connections = 1000\n\
                  max_requests = 1000",
    },
    check: |context, rule| {
        for (_, service, at) in with(context, "max_requests", |service| &service.max_requests) {
            if let Some(requests) = service.max_requests.filter(|requests| *requests > service.max_connections) {
                let connections = service.max_connections;
                let message =
                    format!("an endpoint may get {requests} requests at a time over {connections} connections");
                context.say(rule, &at, message, format!("set `max_connections` to at least {requests}"));
            }
        }
    },
};

const FAST_INTERVAL: Lint = Lint {
    rule: Rule {
        id: "fast-interval-above-interval",
        severity: Severity::Warning,
        title: "Checks that are to be faster are slower",
        what: "`fast_interval` of `health` is above its `interval`.",
        why: "It is for the moments in which an endpoint's state is in doubt. A longer one is not obeyed: checks then \
              keep to `interval`.",
        remedy: "Make it a fraction of `interval`, or leave it out.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\n\
                  health = { path = \"/healthz\", interval = \"2s\", fast_interval = \"500ms\" }",
    },
    check: |context, rule| {
        for (name, service) in &context.config.service {
            let Some(health) = service.health.as_ref().filter(|h| h.fast_interval > h.interval) else { continue };
            if health.fast_interval != fast_interval() {
                let (fast, slow) = (health.fast_interval, health.interval);
                let message = format!("`fast_interval` is {fast}, and `interval` only {slow}");
                let at = path!["service", name.as_str(), "health", "fast_interval"];
                context.say(rule, &at, message, format!("set it to at most {slow}"));
            }
        }
    },
};

const TIERS_WITH_GAP: Lint = Lint {
    rule: Rule {
        id: "tiers-with-gap",
        severity: Severity::Note,
        title: "The tiers of a service have a gap",
        what: "A service has endpoints in several tiers, and none in a tier below or between them: 0 and 2 without 1.",
        why: "It works, for the next tier that has endpoints takes over. Mostly a number is wrong, or an endpoint was \
              meant to stand there.",
        remedy: "Number the tiers 0, 1, 2 and so on.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", { address = \"10.1.0.7:8080\", tier = 1 }]",
    },
    check: |context, rule| {
        for (name, service) in &context.config.service {
            let tiers: BTreeSet<u8> = tiers(service).into_keys().collect();
            let gap = tiers.last().and_then(|last| (0..*last).find(|tier| !tiers.contains(tier)));
            let (Some(gap), true) = (gap, tiers.len() > 1) else { continue };
            let above = service.endpoints.iter().position(|entry| entry.tier() > gap).unwrap_or_default();
            let message = format!("`{name}` has no endpoint in tier {gap}, but some above it");
            let at = path!["service", name.as_str(), "endpoints", above];
            context.say(rule, &at, message, "number the tiers 0, 1, 2 and so on");
        }
    },
};

const LONE_TIER: Lint = Lint {
    rule: Rule {
        id: "lone-tier",
        severity: Severity::Warning,
        title: "Every endpoint is one to fall back to",
        what: "All endpoints of a service are in one tier, and that is not tier 0.",
        why: "They take every request, as they would in tier 0. Most likely the endpoints that they stand in for are \
              missing.",
        remedy: "Add the endpoints of tier 0, or leave `tier` out.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", { address = \"10.1.0.7:8080\", tier = 1 }]",
    },
    check: |context, rule| {
        for (name, service) in &context.config.service {
            let [tier] = tiers(service).into_keys().collect::<Vec<_>>()[..] else { continue };
            if tier > 0 {
                let message = format!("all endpoints of `{name}` are in tier {tier}, and none is in tier 0");
                let at = path!["service", name.as_str(), "endpoints"];
                context.say(rule, &at, message, "add the endpoints of tier 0, or leave `tier` out");
            }
        }
    },
};

const FAILOVER_WITHOUT_TIERS: Lint = Lint {
    rule: Rule {
        id: "failover-without-tiers",
        severity: Severity::Warning,
        title: "There is nothing to fail over to",
        what: "`failover` is not the default for a service whose endpoints are all in one tier.",
        why: "Failover moves requests from one tier to the next. With one tier there is none, so what is set up here \
              never acts.",
        remedy: "Give the endpoints that are to stand in `tier = 1`, or take `failover` out.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", { address = \"10.1.0.7:8080\", tier = 1 }]\n\
                  failover = { fail_back_delay = \"30s\" }",
    },
    check: |context, rule| {
        for (name, _, at) in
            with(context, "failover", |service| &service.failover).filter(|(_, service, _)| tiers(service).len() == 1)
        {
            let message = format!("all endpoints of `{name}` are in one tier, so none can fail over");
            let remedy = "give the endpoints that are to stand in `tier = 1`, or take `failover` out";
            context.say_of_key(rule, &at, message, remedy);
        }
    },
};

const HASH_OF_ONE: Lint = Lint {
    rule: Rule {
        id: "hash-of-one",
        severity: Severity::Note,
        title: "A key chooses among one endpoint",
        what: "`balance` of a service is a `hash`, and each tier has one endpoint.",
        why: "Whatever the key, the endpoint is the same: there is nothing to choose.",
        remedy: "List the other endpoints, or leave `balance` out.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\nbalance = { hash = \"cookie:sid\" }",
    },
    check: |context, rule| {
        for (name, service, at) in with(context, "balance", |service| &service.balance) {
            if matches!(service.balance, BalanceKind::Hash(_)) && is_one_each(service) {
                let message = format!("`{name}` has no two endpoints in a tier, so `hash` has nothing to choose");
                context.say(rule, &at, message, "list the other endpoints, or leave `balance` out");
            }
        }
    },
};
