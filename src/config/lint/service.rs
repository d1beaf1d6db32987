//! Lints on `[service.NAME]`.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{Rule, Severity, Span};

use super::Lint;
use crate::config::model::Name;
use crate::path;

pub(super) const LINTS: &[Lint] = &[
    NO_HEALTH_CHECK,
    SINGLE_ENDPOINT,
    SAME_ENDPOINT,
    UNUSED_SERVICE,
    TIMEOUT_BELOW_CONNECT,
    HEALTH_TIMEOUT,
    HEALTH_SLOW,
    HEALTH_ACCEPTS_ERRORS,
    IDLE_ABOVE_CONNECTIONS,
    ENDPOINT_LOOP,
];

const NO_HEALTH_CHECK: Lint = Lint {
    rule: Rule {
        id: "no-health-check",
        severity: Severity::Warning,
        title: "A service has no health check",
        what: "A service has no `health`.",
        why: "Without a check an endpoint is judged by requests alone: some have to fail before it is left out, and \
              some again each time it is tried anew. One that starts gets requests before it can work, and one that \
              is idle is not known to be down.",
        remedy: "Name a path that answers 200 when the service can work and something from 400 up when it cannot. \
                 The check asks each endpoint every two seconds. Where there is no such path, `health = { tcp = true \
                 }` at least notices a process that is gone.",
        example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\nhealth = { path = \"/healthz\" }",
    },
    check: |context, rule| {
        for (name, _) in context.config.service.iter().filter(|(_, service)| service.health.is_none()) {
            let message = format!("the service `{name}` has no health check");
            context.say(rule, &path!["service", name.as_str()], message, "add `health = { path = \"/healthz\" }`");
        }
    },
};

const SINGLE_ENDPOINT: Lint = Lint {
    rule: Rule {
        id: "single-endpoint",
        severity: Severity::Note,
        title: "A service has one endpoint only",
        what: "A service has a single entry in `endpoints`, and none are found in DNS or register themselves.",
        why: "While that one restarts or is down, every request of the service fails: there is nowhere else to send \
              it.",
        remedy: "Run a second copy and list it. For development, leave it as it is.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\nhealth = { path = \"/healthz\" }",
    },
    check: |context, rule| {
        for (name, service) in context.config.service.iter().filter(|(_, service)| !service.finds_endpoints()) {
            if let [only] = service.endpoints.as_slice() {
                let message = format!(
                    "the service `{name}` has one endpoint, `{}`: while it is down, every request fails",
                    only.address()
                );
                context.say(
                    rule,
                    &path!["service", name.as_str(), "endpoints"],
                    message,
                    "list a second one if there can be one",
                );
            }
        }
    },
};

const SAME_ENDPOINT: Lint = Lint {
    rule: Rule {
        id: "same-endpoint",
        severity: Severity::Warning,
        title: "An endpoint is listed twice",
        what: "The same `host:port` stands more than once in the `endpoints` of a service, whatever the weights and \
               tiers.",
        why: "It gets a double share of the requests, is checked twice as often, and when it goes down it looks like \
              two that did. In two tiers it would take over from itself. Mostly another endpoint was meant and is \
              missing.",
        remedy: "Take the second one out, or write the address that was meant. For a larger share of the requests, \
                 give it a `weight`.",
        example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\", \"127.0.0.1:9102\"]   # not 9101 twice",
    },
    check: |context, rule| {
        for (name, service) in &context.config.service {
            let mut seen = BTreeSet::new();
            let addresses = service.endpoints.iter().map(|entry| entry.address()).enumerate();
            for (i, endpoint) in addresses.filter(|(_, address)| !seen.insert(address.as_str())) {
                let message = format!("`{endpoint}` is already an endpoint of `{name}`");
                let at = path!["service", name.as_str(), "endpoints", i];
                context.say(rule, &at, message, "take it out, or write the address that was meant");
            }
        }
    },
};

const UNUSED_SERVICE: Lint = Lint {
    rule: Rule {
        id: "unused-service",
        severity: Severity::Warning,
        title: "A service gets no requests",
        what: "There are routes, and none of them names the service, or only with a weight of 0 in a `split`.",
        why: "It is checked and shown, and never used. Often a route was forgotten, or still names the service's old \
              name.",
        remedy: "Add a route for it, or take the service out. A weight of 0 that is there to be raised later is fine.",
        example: "[[route]]\npath = \"/api/*\"\nservice = \"api\"",
    },
    check: |context, rule| {
        let config = context.config;
        if config.route.is_empty() {
            return;
        }
        let split = config.route.iter().filter_map(|r| r.split.as_ref()).flatten().filter(|(_, weight)| **weight > 0);
        let used: BTreeSet<&Name> =
            config.route.iter().filter_map(|r| r.service.as_ref()).chain(split.map(|(name, _)| name)).collect();
        for name in config.service.keys().filter(|name| !used.contains(name)) {
            let message = format!("no route sends requests to the service `{name}`");
            context.say(rule, &path!["service", name.as_str()], message, "add a `[[route]]` for it, or take it out");
        }
    },
};

const TIMEOUT_BELOW_CONNECT: Lint = Lint {
    rule: Rule {
        id: "timeout-below-connect",
        severity: Severity::Warning,
        title: "A request times out before a connection does",
        what: "`timeout` of a service, or of a route to it, is not longer than the service's `connect_timeout`.",
        why: "An endpoint that does not answer at all uses up the whole time, and the next endpoint is never tried.",
        remedy: "Make `connect_timeout` a fraction of `timeout`, so that there is time for a second endpoint.",
        example: "[service.shop]\nendpoints = [\"10.0.0.7:8080\", \"10.0.0.8:8080\"]\nconnect_timeout = \"250ms\"\n\
                  timeout = \"2s\"",
    },
    check: |context, rule| {
        let config = context.config;
        let say = |at: &crate::config::document::Path, timeout: Span, connect: Span, name: &Name| {
            let message = format!("`timeout` is {timeout}, and connecting to `{name}` alone may take {connect}");
            context.say(rule, at, message, "make `timeout` longer, or the service's `connect_timeout` shorter");
        };
        for (name, service) in config.service.iter().filter(|(_, s)| s.timeout <= s.connect_timeout) {
            say(&path!["service", name.as_str(), "timeout"], service.timeout, service.connect_timeout, name);
        }
        for (i, route) in config.route.iter().enumerate() {
            let names = route.service.iter().chain(route.split.iter().flat_map(BTreeMap::keys));
            let slow = |name: &&Name| {
                config.service.get(*name).is_some_and(|s| route.timeout.is_some_and(|t| t <= s.connect_timeout))
            };
            if let (Some(timeout), Some(name)) = (route.timeout, names.into_iter().find(slow)) {
                let connect = config.service.get(name).map(|s| s.connect_timeout).unwrap_or_default();
                say(&path!["route", i, "timeout"], timeout, connect, name);
            }
        }
    },
};

const HEALTH_TIMEOUT: Lint = Lint {
    rule: Rule {
        id: "health-timeout-above-interval",
        severity: Severity::Warning,
        title: "A health check may take longer than the time between checks",
        what: "`timeout` of `health` is longer than its `interval`.",
        why: "Checks of a slow endpoint follow each other without a pause, and finding it down takes `fall` times \
              the timeout, however short the intervals are.",
        remedy: "Make the timeout at most as long as the interval.",
        example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\n\
                  health = { path = \"/healthz\", interval = \"2s\", timeout = \"1s\" }",
    },
    check: |context, rule| {
        for (name, service) in &context.config.service {
            let Some(health) = service.health.as_ref().filter(|h| h.timeout > h.interval) else { continue };
            let message = format!("a check may take {}, and the next is due after {}", health.timeout, health.interval);
            let at = path!["service", name.as_str(), "health", "timeout"];
            context.say(rule, &at, message, format!("set `timeout` to at most {}", health.interval));
        }
    },
};

/// An outage that is noticed later than this is noticed by users first.
const SLOW_DETECTION: Span = Span::from_secs(30);

const HEALTH_SLOW: Lint = Lint {
    rule: Rule {
        id: "slow-health-check",
        severity: Severity::Note,
        title: "Health checks notice a failure late",
        what: "`interval` of `health` and its `fast_interval` for each further failure up to `fall` are together more \
               than 30 seconds.",
        why: "For that long an endpoint that is down keeps its share of the requests.",
        remedy: "Check more often. A check every two seconds is half a request a second for each endpoint.",
        example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\n\
                  health = { path = \"/healthz\", interval = \"2s\", fall = 2 }",
    },
    check: |context, rule| {
        for (name, service) in &context.config.service {
            let Some(health) = &service.health else { continue };
            let again = health.fast_interval.min(health.interval).as_millis();
            let again = again.saturating_mul(u64::from(health.fall.saturating_sub(1)));
            let found_after = Span::from_millis(health.interval.as_millis().saturating_add(again));
            if found_after > SLOW_DETECTION {
                let message = format!("an endpoint of `{name}` that is down is found out after {found_after}");
                let at = path!["service", name.as_str(), "health"];
                context.say(rule, &at, message, "shorten `interval`, or lower `fall`");
            }
        }
    },
};

const HEALTH_ACCEPTS_ERRORS: Lint = Lint {
    rule: Rule {
        id: "health-accepts-errors",
        severity: Severity::Warning,
        title: "A health check takes errors for health",
        what: "`expect` of `health` includes statuses from 500 up.",
        why: "A service that says that it failed would count as healthy, so the check finds out nothing.",
        remedy: "Expect what the path answers when all is well: `[\"200\"]`, or the default `[\"200-399\"]`.",
        example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\n\
                  health = { path = \"/healthz\", expect = [\"200-399\"] }",
    },
    check: |context, rule| {
        for (name, service) in &context.config.service {
            let ranges = service.health.iter().flat_map(|h| h.expect.iter().enumerate());
            for (i, range) in ranges.filter(|(_, range)| range.bounds().1 >= 500) {
                let message = format!("a check that is answered {} counts as passed", range.bounds().0.max(500));
                let at = path!["service", name.as_str(), "health", "expect", i];
                context.say(rule, &at, message, "end the range at 399");
            }
        }
    },
};

const IDLE_ABOVE_CONNECTIONS: Lint = Lint {
    rule: Rule {
        id: "idle-above-connections",
        severity: Severity::Note,
        title: "More idle connections may be kept than there can be",
        what: "`max_idle` of a service, for one worker, is above `max_connections`, for all of them.",
        why: "The higher number is never reached, so one of the two is not what was meant.",
        remedy: "Lower `max_idle`, or raise `max_connections`.",
        example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\nmax_connections = 100\nmax_idle = 20",
    },
    check: |context, rule| {
        for (name, service) in context.config.service.iter().filter(|(_, s)| s.max_idle > s.max_connections) {
            let set = |key| context.document.says(&path!["service", name.as_str(), key]);
            let key = if set("max_idle") || !set("max_connections") { "max_idle" } else { "max_connections" };
            let message = format!(
                "a worker may keep {} idle connections, but there can only be {}",
                service.max_idle, service.max_connections
            );
            let at = path!["service", name.as_str(), key];
            context.say(rule, &at, message, format!("set `max_idle` to at most {}", service.max_connections));
        }
    },
};

const ENDPOINT_LOOP: Lint = Lint {
    rule: Rule {
        id: "endpoint-loop",
        severity: Severity::Error,
        title: "An endpoint is the gateway itself",
        what: "An endpoint of a service is an address that the gateway listens on.",
        why: "Each request would go round until every connection is used up.",
        remedy: "Write the address of the service. If it has the same port on another machine, write that machine's \
                 address.",
        example: "[gateway]\nlisten = \"127.0.0.1:8080\"\n[service.shop]\n\
                  endpoints = [\"127.0.0.1:9101\"]   # not 127.0.0.1:8080",
    },
    check: |context, rule| {
        let config = context.config;
        let own: Vec<std::net::SocketAddr> = config
            .gateway
            .listen
            .iter()
            .chain(config.listener.values().map(|l| &l.address))
            .map(|l| l.addr())
            .collect();
        for (name, service) in &config.service {
            for (i, endpoint) in service.endpoints.iter().map(|entry| entry.address()).enumerate() {
                let loopback = if endpoint.as_str().starts_with("localhost:") {
                    format!("127.0.0.1:{}", endpoint.port())
                } else {
                    endpoint.to_string()
                };
                let Ok(address) = loopback.parse::<std::net::SocketAddr>() else { continue };
                let here = |own: &&std::net::SocketAddr| {
                    own.port() == address.port()
                        && (own.ip() == address.ip() || (own.ip().is_unspecified() && address.ip().is_loopback()))
                };
                if let Some(own) = own.iter().find(here) {
                    let message =
                        format!("`{endpoint}` is the gateway itself, which listens on {own}: requests would go round");
                    let at = path!["service", name.as_str(), "endpoints", i];
                    context.say(rule, &at, message, "write the address of the service");
                }
            }
        }
    },
};
