//! The rules that `route.rs` finds broken.

use kernel::{Rule, Severity};

pub(crate) const NOTHING_TO_SERVE: Rule = Rule {
    id: "nothing-to-serve",
    severity: Severity::Error,
    title: "There is neither a service nor a route",
    what: "The file has no `[service.NAME]` and no `[[route]]`. A file that has a `[pool.NAME]` needs neither, if the \
           gateway does not listen.",
    why: "Every request would be answered 404. Most likely this is not the file that was meant.",
    remedy: "Add a service. A lone service needs no route: it takes every request.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]",
};

pub(crate) const ROUTE_NEEDED: Rule = Rule {
    id: "route-needed",
    severity: Severity::Error,
    title: "There are several services and no route",
    what: "The file has more than one `[service.NAME]` and no `[[route]]`.",
    why: "With one service there is nothing to choose; with several, nothing says which requests go where.",
    remedy: "Add a `[[route]]` for each service. The first that matches decides, so the one for everything else \
             comes last.",
    example: "[[route]]\npath = \"/api/*\"\nservice = \"api\"\n\n[[route]]\nservice = \"shop\"",
};

pub(crate) const ROUTE_TARGET: Rule = Rule {
    id: "route-target",
    severity: Severity::Error,
    title: "A route leads nowhere, or to two places",
    what: "A `[[route]]` has none, or more than one, of `service`, `split` and `redirect`.",
    why: "A route does one thing with a request.",
    remedy: "Keep one. For several services with weights use `split`.",
    example: "[[route]]\npath = \"/cart/*\"\nsplit = { shop = 90, shop-next = 10 }",
};

pub(crate) const UNKNOWN_SERVICE: Rule = Rule {
    id: "unknown-service",
    severity: Severity::Error,
    title: "A route names a service that does not exist",
    what: "`service` or `split` of a `[[route]]` names a service for which there is no `[service.NAME]`.",
    why: "Requests of the route could go nowhere.",
    remedy: "Correct the name, or add the service.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\n\n[[route]]\nservice = \"shop\"",
};

pub(crate) const DUPLICATE_NAME: Rule = Rule {
    id: "duplicate-name",
    severity: Severity::Error,
    title: "Two routes have the same name",
    what: "Two `[[route]]` tables have the same `name`, or one has the name that another without a name gets \
           (`shop-2` for the second route, if it leads to `shop`).",
    why: "The name is what metrics and logs call a route; two under one name could not be told apart.",
    remedy: "Give each its own name, or none.",
    example: "[[route]]\nname = \"cart\"\npath = \"/cart/*\"\nservice = \"shop\"",
};

pub(crate) const EMPTY_SPLIT: Rule = Rule {
    id: "empty-split",
    severity: Severity::Error,
    title: "A split sends nothing anywhere",
    what: "All weights of a `split` are 0.",
    why: "A weight of 0 takes no request, so the route could serve none.",
    remedy: "Give at least one service a weight above 0.",
    example: "[[route]]\nsplit = { shop = 100, shop-next = 0 }",
};

pub(crate) const WITHOUT_EFFECT: Rule = Rule {
    id: "without-effect",
    severity: Severity::Error,
    title: "A key does nothing where it stands",
    what: "A route that redirects has a key that is for requests that are sent on, `replace_prefix` stands without \
           `strip_prefix`, or a health check by `tcp` has a key that is for an HTTP request (`expect`, `host`).",
    why: "What is written should be in force. A key that does nothing hides a misunderstanding.",
    remedy: "Take the key out, or add the one it needs.",
    example: "[[route]]\npath = \"/v1/*\"\nservice = \"shop\"\nstrip_prefix = \"/v1\"\nreplace_prefix = \"/v2\"",
};

pub(crate) const REWRITE_MISMATCH: Rule = Rule {
    id: "rewrite-mismatch",
    severity: Severity::Error,
    title: "A prefix is stripped from paths that do not have it",
    what: "`strip_prefix` is not what the `path` of the route begins with, as whole segments.",
    why: "The rewrite would apply to none of the route's requests, or to some of them only.",
    remedy: "Make `path` begin with the prefix, or strip what it begins with.",
    example: "[[route]]\npath = \"/shop/*\"\nservice = \"shop\"\nstrip_prefix = \"/shop\"",
};

pub(crate) const BAD_REDIRECT_STATUS: Rule = Rule {
    id: "bad-redirect-status",
    severity: Severity::Error,
    title: "The status is not that of a redirect",
    what: "`status` of a `redirect` is not 301, 302, 303, 307 or 308.",
    why: "Clients follow `Location` with these statuses only.",
    remedy: "Write 307 for a redirect that may change, 308 for one that will not; both keep the method. 301 and 302 \
             are their older kin, which may turn a POST into a GET; 303 always does.",
    example: "[[route]]\npath = \"/old\"\nredirect = { to = \"/new\", status = 308 }",
};

pub(crate) const MANAGED_HEADER: Rule = Rule {
    id: "managed-header",
    severity: Severity::Error,
    title: "A header is set that the gateway writes itself",
    what: "`request_headers` or `response_headers` sets or removes a header that frames the message, belongs to one \
           connection, or is written by the gateway: `Content-Length`, `Transfer-Encoding`, `Connection`, `Host`, \
           `X-Request-Id`, `X-Forwarded-For`, the `deadline_header` of `[gateway]` and their like. Or \
           `deadline_header` names one of the others.",
    why: "Framing that says one thing and does another is how requests are smuggled, and a client address that a \
          rule makes up is believed by the service.",
    remedy: "For `Host`, write `host` in the service. For `X-Forwarded-*` from a proxy in front, list the proxy in \
             `trusted_proxies`. Take the others out.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\n\
              host = \"shop.internal\"   # not: request_headers = { set = { host = \"shop.internal\" } }",
};

pub(crate) const DUPLICATE_HEADER: Rule = Rule {
    id: "duplicate-header",
    severity: Severity::Error,
    title: "A header is named twice",
    what: "A table of headers has two keys that differ only in case.",
    why: "Header names are the same in any case, so it is not clear which value is meant.",
    remedy: "Keep one of them.",
    example: "[[route]]\nservice = \"shop\"\nrequest_headers = { set = { X-Team = \"blue\" } }",
};

pub(crate) const CORS_ANY_WITH_CREDENTIALS: Rule = Rule {
    id: "cors-any-with-credentials",
    severity: Severity::Error,
    title: "Cross-origin rules allow any site together with credentials",
    what: "`cors` of a route has `\"*\"` among its origins, methods, headers or exposed headers, and `credentials = \
           true`.",
    why: "Browsers refuse such answers, so it would not work; and a gateway that got around that by repeating \
          whatever origin asks would let every site act with the cookies of its visitors.",
    remedy: "Name the origins that may send credentials, or leave `credentials` out.",
    example: "[[route]]\nservice = \"shop\"\ncors = { origins = [\"https://app.example.com\"], credentials = true }",
};

pub(crate) const BAD_CORS: Rule = Rule {
    id: "bad-cors",
    severity: Severity::Error,
    title: "Cross-origin rules contradict themselves",
    what: "`cors` of a route has `\"*\"` beside named origins, or a method that browsers never let pages use \
           (CONNECT, TRACE, TRACK).",
    why: "Part of it would have no effect, so something else must have been meant.",
    remedy: "Write `\"*\"` alone or name the origins; take the method out.",
    example: "[[route]]\nservice = \"shop\"\n\
              cors = { origins = [\"https://app.example.com\"], methods = [\"PUT\", \"DELETE\"] }",
};

pub(crate) const UNREADABLE_PAGE: Rule = Rule {
    id: "unreadable-page",
    severity: Severity::Error,
    title: "An error page cannot be read",
    what: "A file in `error_pages` does not exist, may not be read, or is larger than 64 KiB.",
    why: "Pages are held in memory, so that they can be sent when nothing else works; one that is missing would be \
          missed just then.",
    remedy: "Correct the path (a relative one counts from the directory of the configuration file), or make the page \
             smaller: put styles into it and leave pictures out.",
    example: "[[route]]\nservice = \"shop\"\nerror_pages = { \"503\" = \"pages/sorry.html\" }",
};
