//! Lints on `[[route]]`.

use kernel::{ErrorCode, Rule, Severity};

use super::Lint;
use crate::config::compile::{name_of_route, table};
use crate::config::model::scalar::Cidr;
use crate::path;

pub(super) const LINTS: &[Lint] = &[SHADOWED, ALLOWED_AND_DENIED, SPLIT_OF_ONE, PAGE_NEVER_SENT, CORS_NO_OPTIONS];

const SHADOWED: Lint = Lint {
    rule: Rule {
        id: "shadowed-route",
        severity: Severity::Warning,
        title: "A route can never be taken",
        what: "An earlier route takes every request that this one describes. Only what is certain is reported: a \
               route that several others cover together is not.",
        why: "The first route that matches decides, in the order of the file. What this route says is in force for \
              no request.",
        remedy: "Move the more special route up, before the one that takes everything, or take it out.",
        example: "[[route]]\npath = \"/api/*\"\nservice = \"api\"\n\n\
                  [[route]]   # last, because it takes everything\nservice = \"shop\"",
    },
    check: |context, rule| {
        let routes = &context.config.route;
        for (route, by) in table(context.config).shadowed() {
            let (Some(late), Some(early)) = (routes.get(route), routes.get(by)) else { continue };
            let at = context.document.span(&path!["route", by]).map(|span| context.source.place(&span).line);
            let line = at.map(|line| format!(" (line {line})")).unwrap_or_default();
            let (late, early) = (name_of_route(late, route), name_of_route(early, by));
            let message = format!("the route `{late}` is never taken: `{early}`{line} takes all its requests");
            context.say(rule, &path!["route", route], message, format!("move it before `{early}`, or take it out"));
        }
    },
};

const ALLOWED_AND_DENIED: Lint = Lint {
    rule: Rule {
        id: "allowed-and-denied",
        severity: Severity::Warning,
        title: "An address is both allowed and denied",
        what: "A network in `allow` of a route lies wholly within one in `deny`.",
        why: "`deny` wins, so the entry in `allow` lets nobody in.",
        remedy: "Take it out of one of the lists.",
        example: "[[route]]\npath = \"/intern/*\"\nservice = \"shop\"\nallow = [\"10.0.0.0/8\"]\n\
                  deny = [\"10.9.0.0/16\"]",
    },
    check: |context, rule| {
        for (i, route) in context.config.route.iter().enumerate() {
            for (j, allowed) in route.allow.iter().enumerate() {
                let within = |denied: &&Cidr| match (allowed.block(), denied.block()) {
                    (Some(a), Some(d)) => d.prefix_length() <= a.prefix_length() && d.contains(a.address()),
                    _ => false,
                };
                if let Some(denied) = route.deny.iter().find(within) {
                    let message = format!("`{allowed}` is allowed, and denied by `{denied}`, which wins");
                    context.say(rule, &path!["route", i, "allow", j], message, "take it out of one of the lists");
                }
            }
        }
    },
};

const SPLIT_OF_ONE: Lint = Lint {
    rule: Rule {
        id: "split-of-one",
        severity: Severity::Note,
        title: "A split sends everything to one service",
        what: "A `split` has a weight above 0 for one service only.",
        why: "It works; once a trial is over, `service` says the same more plainly.",
        remedy: "Write `service = \"NAME\"`, or give the other service a weight.",
        example: "[[route]]\nservice = \"shop\"",
    },
    check: |context, rule| {
        for (i, route) in context.config.route.iter().enumerate() {
            let taken: Vec<_> = route.split.iter().flatten().filter(|(_, weight)| **weight > 0).collect();
            if let [(name, _)] = taken.as_slice() {
                let message = format!("the split sends everything to `{name}`");
                context.say(rule, &path!["route", i, "split"], message, format!("write `service = \"{name}\"`"));
            }
        }
    },
};

const PAGE_NEVER_SENT: Lint = Lint {
    rule: Rule {
        id: "page-never-sent",
        severity: Severity::Warning,
        title: "An error page is for an error that the gateway never makes",
        what: "`error_pages` of a route has a status that is not among those of the gateway's own errors.",
        why: "Pages replace the errors that the gateway makes itself. An error that the service answers is passed on \
              as it is.",
        remedy: "Use a status that the gateway answers: most often 502, 503 and 504. `evenkeel explain --list` shows \
                 all.",
        example: "[[route]]\nservice = \"shop\"\nerror_pages = { \"502\" = \"sorry.html\", \"503\" = \"sorry.html\" }",
    },
    check: |context, rule| {
        let sent = |status: &str| {
            ErrorCode::ALL.iter().any(|c| *c != ErrorCode::ClientGone && c.status().to_string() == status)
        };
        for (i, route) in context.config.route.iter().enumerate() {
            for status in route.error_pages.keys().filter(|status| !sent(status.as_str())) {
                let message = format!("the gateway itself never answers {status}, so the page is never sent");
                let at = path!["route", i, "error_pages", status.as_str()];
                context.say_of_key(rule, &at, message, "use 502, 503 or 504, or take it out");
            }
        }
    },
};

const CORS_NO_OPTIONS: Lint = Lint {
    rule: Rule {
        id: "cors-without-options",
        severity: Severity::Warning,
        title: "Cross-origin questions do not reach the route that answers them",
        what: "A route has `cors`, and `methods` that do not include `OPTIONS`.",
        why: "A browser asks with OPTIONS before it sends anything but a plain form. That question does not match \
              the route, so the rules that would answer it are not found.",
        remedy: "Add `OPTIONS` to `methods`, or leave `methods` out.",
        example: "[[route]]\nmethods = [\"PUT\", \"OPTIONS\"]\nservice = \"shop\"\n\
                  cors = { origins = [\"https://app.example.com\"], methods = [\"PUT\"] }",
    },
    check: |context, rule| {
        for (i, route) in context.config.route.iter().enumerate() {
            let asked = route.methods.is_empty() || route.methods.iter().any(|m| m.as_str() == "OPTIONS");
            if route.cors.is_some() && !asked {
                let message = "browsers ask with OPTIONS before they send, and this route does not take OPTIONS";
                context.say(rule, &path!["route", i, "methods"], message, "add `\"OPTIONS\"` to `methods`");
            }
        }
    },
};
