//! Lints on `[gateway]` and `[access_log]`.

use kernel::{ByteSize, Rule, Severity};

use super::Lint;
use crate::path;

pub(super) const LINTS: &[Lint] =
    &[TRUST_EVERYONE, NO_MIN_RATE, HUGE_BODY, URI_ABOVE_LINE, CLIENT_CAP, DRAIN_SHORT, NO_DRAIN_DELAY, NOTHING_LOGGED];

/// Larger bodies than this are files, and files want a path of their own.
const HUGE: ByteSize = ByteSize::from_mib(1024);

const TRUST_EVERYONE: Lint = Lint {
    rule: Rule {
        id: "trust-everyone",
        severity: Severity::Warning,
        title: "Every client is believed about its address",
        what: "`trusted_proxies` holds a network that is the whole internet or half of it (`0.0.0.0/0`, `::/0`).",
        why: "Any client can then write its own `X-Forwarded-For`: allow and deny lists, per-client limits and logs \
              all believe it.",
        remedy: "List the addresses of the proxies that stand in front of the gateway. If there are none, leave the \
                 list empty.",
        example: "[gateway]\nlisten = \"0.0.0.0:8080\"\ntrusted_proxies = [\"10.0.0.0/24\"]",
    },
    check: |context, rule| {
        for (i, cidr) in context.config.gateway.trusted_proxies.iter().enumerate() {
            if cidr.block().is_some_and(|block| block.prefix_length() <= 1) {
                let message = format!("`{cidr}` believes every client about where it comes from");
                let at = path!["gateway", "trusted_proxies", i];
                context.say(rule, &at, message, "list the proxies in front of the gateway, and nobody else");
            }
        }
    },
};

const NO_MIN_RATE: Lint = Lint {
    rule: Rule {
        id: "no-min-rate",
        severity: Severity::Warning,
        title: "Slow bodies are not cut",
        what: "`min_rate` of `[gateway]` is `0B/s`.",
        why: "A client that sends or reads a byte every few seconds holds its connection, and the one to the \
              service, for as long as it likes; some thousand of them are an attack that needs no bandwidth.",
        remedy: "Leave `min_rate` at its default, which no real client falls below. For answers that trickle on \
                 purpose it does not matter: only a client that does not take what is there is slow.",
        example: "[gateway]\nlisten = \"0.0.0.0:8080\"\nmin_rate = \"240B/s\"",
    },
    check: |context, rule| {
        if context.config.gateway.min_rate.as_bytes_per_sec() == 0 {
            let message = "clients may be as slow as they like, and hold connections for it";
            context.say(rule, &path!["gateway", "min_rate"], message, "take `min_rate` out; the default is 240B/s");
        }
    },
};

const HUGE_BODY: Lint = Lint {
    rule: Rule {
        id: "huge-body",
        severity: Severity::Warning,
        title: "Very large request bodies are taken",
        what: "`max_body` of `[gateway]` or of a route is above 1 GiB.",
        why: "The gateway streams bodies and does not mind. Applications mostly do not: they hold the body in memory \
              or on a small disk.",
        remedy: "Keep the limit low in `[gateway]` and raise it in the route that takes uploads, if the service \
                 there is made for them.",
        example: "[[route]]\npath = \"/uploads/*\"\nservice = \"files\"\nmax_body = \"1GiB\"",
    },
    check: |context, rule| {
        let config = context.config;
        let gateway = (path!["gateway", "max_body"], Some(config.gateway.max_body));
        let routes = config.route.iter().enumerate().map(|(i, route)| (path!["route", i, "max_body"], route.max_body));
        for (at, size) in std::iter::once(gateway).chain(routes) {
            if let Some(size) = size.filter(|size| *size > HUGE) {
                let message = format!("request bodies of up to {size} are taken");
                context.say(rule, &at, message, "lower it, or make sure that the service can take such a body");
            }
        }
    },
};

const URI_ABOVE_LINE: Lint = Lint {
    rule: Rule {
        id: "uri-above-request-line",
        severity: Severity::Warning,
        title: "The longest target does not fit into the longest request line",
        what: "`max_uri` of `[gateway]` is above `max_request_line`.",
        why: "The request line holds method, target and version, so the limit on the target is never reached: such a \
              request is refused for its line instead.",
        remedy: "Raise `max_request_line` to at least `max_uri`.",
        example: "[gateway]\nlisten = \"0.0.0.0:8080\"\nmax_uri = \"16KiB\"\nmax_request_line = \"16KiB\"",
    },
    check: |context, rule| {
        let gateway = &context.config.gateway;
        if gateway.max_uri > gateway.max_request_line {
            let key = if context.document.says(&path!["gateway", "max_uri"]) { "max_uri" } else { "max_request_line" };
            let message = format!(
                "a target of {} does not fit into a request line of {}",
                gateway.max_uri, gateway.max_request_line
            );
            context.say(
                rule,
                &path!["gateway", key],
                message,
                format!("set `max_request_line` to at least {}", gateway.max_uri),
            );
        }
    },
};

const CLIENT_CAP: Lint = Lint {
    rule: Rule {
        id: "client-takes-all",
        severity: Severity::Warning,
        title: "One client may take every connection",
        what: "`max_connections_per_client` of `[gateway]` is not below `max_connections`.",
        why: "A single address can then keep everybody else out.",
        remedy: "Leave room for others: a tenth of `max_connections` is plenty for one address.",
        example: "[gateway]\nlisten = \"0.0.0.0:8080\"\nmax_connections = 10000\nmax_connections_per_client = 1000",
    },
    check: |context, rule| {
        let gateway = &context.config.gateway;
        let (one, all) = (gateway.max_connections_per_client, gateway.max_connections);
        if one >= all && gateway.trusted_proxies.is_empty() {
            let set = context.document.says(&path!["gateway", "max_connections_per_client"]);
            let key = if set { "max_connections_per_client" } else { "max_connections" };
            let message = format!("one client may have {one} connections, and there are {all} for all");
            let remedy = format!("set `max_connections_per_client` to {} or so", (all / 10).max(1));
            context.say(rule, &path!["gateway", key], message, remedy);
        }
    },
};

const DRAIN_SHORT: Lint = Lint {
    rule: Rule {
        id: "drain-below-timeout",
        severity: Severity::Warning,
        title: "A stop cuts requests that still have time",
        what: "`drain_timeout` of `[gateway]` is shorter than the `timeout` of a service or route.",
        why: "On SIGTERM a request that is within its time may be cut, and its client gets no answer.",
        remedy: "Make `drain_timeout` at least as long as the longest timeout, and the grace period of whatever \
                 sends SIGTERM longer than `drain_delay` and `drain_timeout` together.",
        example: "[gateway]\nlisten = \"0.0.0.0:8080\"\ndrain_timeout = \"60s\"\n[service.reports]\n\
                  endpoints = [\"127.0.0.1:9101\"]\ntimeout = \"60s\"",
    },
    check: |context, rule| {
        let config = context.config;
        let services = config.service.iter().map(|(name, s)| (path!["service", name.as_str(), "timeout"], s.timeout));
        let routes =
            config.route.iter().enumerate().filter_map(|(i, r)| Some((path!["route", i, "timeout"], r.timeout?)));
        let longest = services.chain(routes).max_by_key(|(_, timeout)| *timeout);
        let drain = config.gateway.drain_timeout;
        if let Some((path, timeout)) = longest.filter(|(_, timeout)| *timeout > drain) {
            let own = path!["gateway", "drain_timeout"];
            let at = if context.document.says(&own) { own } else { path };
            let message = format!("a stop cuts requests after {drain}, but one may take {timeout}");
            context.say(rule, &at, message, format!("set `drain_timeout` in `[gateway]` to at least {timeout}"));
        }
    },
};

const NO_DRAIN_DELAY: Lint = Lint {
    rule: Rule {
        id: "no-drain-delay",
        severity: Severity::Note,
        title: "Listeners close the moment a stop is asked for",
        what: "`drain_delay` of `[gateway]` is 0.",
        why: "A balancer that asks `/readyz` needs a moment to see that it fails; until then it sends connections \
              that are refused. Where nothing stands in front, there is nothing to wait for.",
        remedy: "Set it to a little more than the balancer's interval times its number of failures.",
        example: "[gateway]\nlisten = \"0.0.0.0:8080\"\ndrain_delay = \"5s\"",
    },
    check: |context, rule| {
        if context.config.gateway.drain_delay.as_millis() == 0 {
            let message = "on SIGTERM the listeners close at once; a balancer in front will not know yet";
            context.say(
                rule,
                &path!["gateway", "drain_delay"],
                message,
                "set it to `5s`, unless nothing stands in front",
            );
        }
    },
};

const NOTHING_LOGGED: Lint = Lint {
    rule: Rule {
        id: "access-log-samples-nothing",
        severity: Severity::Note,
        title: "The access log has no successful requests",
        what: "`sample` of `[access_log]` is 0.",
        why: "Failed requests are still written, which may be just what is wanted; but there is then no line that \
              shows how the same request looks when it works.",
        remedy: "Write a small share, such as `0.01`.",
        example: "[access_log]\nsample = 0.01",
    },
    check: |context, rule| {
        if context.config.access_log.as_ref().is_some_and(|log| log.sample == 0.0) {
            let message = "only failed requests are written to the access log";
            context.say(rule, &path!["access_log", "sample"], message, "write a small share, such as `sample = 0.01`");
        }
    },
};
