//! Routes: what each one matches and does. A file with one service and no route has one route, for everything.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use gateway::plan::{ErrorPage, HeaderEdits, RouteAction, RoutePlan};
use policy::cors::{CorsConfig, CorsError, CorsPolicy};
use policy::net::CidrSet;
use policy::route::{HeaderMatch, RouteMatch, RouteTable};
use policy::split::WeightedSplit;

use super::rules_of_route::*;
use crate::config::context::Context;
use crate::config::document::Path;
use crate::config::model::either::HeaderWant;
use crate::config::model::scalar::{Cidr, HeaderName};
use crate::config::model::{Config, Cors, HeaderChanges, Redirect, Route};
use crate::config::shape::nearest;
use crate::config::{split_remedy, why_unreadable};
use crate::path;

/// The largest error page, in bytes.
const MAX_PAGE: usize = 64 * 1024;

/// Headers that the gateway itself writes into every request: what framing, routing and tracing rest on.
const MANAGED_IN_REQUESTS: [&str; 15] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// The same for answers.
const MANAGED_IN_ANSWERS: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// What matches a request to a route, in file order.
pub(crate) fn table(config: &Config) -> RouteTable {
    match lone_service(config) {
        Some(_) => RouteTable::new(vec![RouteMatch::default()]),
        None => RouteTable::new(config.route.iter().map(matching).collect()),
    }
}

/// The name of a route: its own, or one made of the service and the place in the file.
pub(crate) fn name_of_route(route: &Route, index: usize) -> String {
    let target = match (&route.service, &route.split, &route.redirect) {
        (Some(service), ..) => service.to_string(),
        (None, Some(_), _) => "split".to_owned(),
        _ => "redirect".to_owned(),
    };
    route.name.as_ref().map_or_else(|| format!("{target}-{}", index + 1), ToString::to_string)
}

/// Every route, in the order of the table. `None` if one has nowhere to lead.
pub(super) fn routes(context: &Context<'_>, files: &mut Vec<PathBuf>) -> Option<Vec<RoutePlan>> {
    let config = context.config;
    if let Some(service) = lone_service(config) {
        let action = RouteAction::Forward { targets: vec![0], split: WeightedSplit::new(&[1]).ok()?, rewrite: None };
        return Some(vec![RoutePlan {
            name: service.to_string(),
            action,
            allow: CidrSet::default(),
            deny: CidrSet::default(),
            cors: None,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            timeout: None,
            max_body: None,
            error_pages: Vec::new(),
        }]);
    }
    if config.route.is_empty() {
        say_no_routes(context);
    }
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut plans = Vec::with_capacity(config.route.len());
    for (i, route) in config.route.iter().enumerate() {
        let name = name_of_route(route, i);
        if let Some(first) = names.get(&name) {
            let message = format!("two routes have the name `{name}`: route {} and route {}", first + 1, i + 1);
            context.say(&DUPLICATE_NAME, &path!["route", i, "name"], message, "give each route its own name, or none");
        }
        names.entry(name.clone()).or_insert(i);
        plans.push(plan(context, i, route, name, files));
    }
    plans.into_iter().collect()
}

/// The service that takes everything, if there is but one and no route.
fn lone_service(config: &Config) -> Option<&super::super::model::Name> {
    let mut names = config.service.keys();
    names.next().filter(|_| names.next().is_none() && config.route.is_empty())
}

fn say_no_routes(context: &Context<'_>) {
    let services = &context.config.service;
    if context.is_damaged(&path!["route"]) || context.is_damaged(&path!["service"]) {
        return;
    }
    let listens = context.config.gateway.listen.is_some() || !context.config.listener.is_empty();
    if services.is_empty() && !listens && (!context.config.pool.is_empty() || context.is_damaged(&path!["pool"])) {
        return;
    }
    if services.is_empty() {
        let remedy = "add `[service.NAME]` with `endpoints = [\"127.0.0.1:9101\"]`";
        return context.say(&NOTHING_TO_SERVE, &Path::default(), "there is neither a service nor a route", remedy);
    }
    let names = services.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let second = services.keys().nth(1).map(ToString::to_string).unwrap_or_default();
    let message = format!("there are {} services ({names}) and no route", services.len());
    let remedy = "add a `[[route]]` for each, such as `[[route]]` with `path = \"/shop/*\"` and `service = \"shop\"`";
    context.say(&ROUTE_NEEDED, &path!["service", second.as_str()], message, remedy);
}

fn matching(route: &Route) -> RouteMatch {
    let header = |(name, want): (&HeaderName, &HeaderWant)| HeaderMatch {
        name: name.as_str().to_ascii_lowercase(),
        value: match want {
            HeaderWant::Value(value) => Some(value.to_string()),
            HeaderWant::Present(_) => None,
        },
    };
    RouteMatch {
        // Texts were checked when they were read, so none is lost here.
        hosts: route.host.iter().flat_map(|hosts| &hosts.0).filter_map(|host| host.as_str().parse().ok()).collect(),
        path: route.path.as_ref().and_then(|path| path.as_str().parse().ok()),
        methods: route.methods.iter().map(ToString::to_string).collect(),
        headers: route.headers.iter().map(header).collect(),
    }
}

fn plan(context: &Context<'_>, i: usize, route: &Route, name: String, files: &mut Vec<PathBuf>) -> Option<RoutePlan> {
    let at = path!["route", i];
    let set = |cidrs: &[Cidr]| cidrs.iter().filter_map(Cidr::block).collect();
    unique_headers(context, &at.then("headers"), route.headers.keys());
    let edits = |key: &str, changes: &Option<HeaderChanges>, managed: &[&str]| {
        changes.as_ref().map(|changes| edits(context, &at.then(key), changes, managed)).unwrap_or_default()
    };
    let deadline = context.config.gateway.deadline_header.lower_case();
    let managed: Vec<&str> = MANAGED_IN_REQUESTS.into_iter().chain(deadline.as_deref()).collect();
    let request_headers = edits("request_headers", &route.request_headers, &managed);
    let response_headers = edits("response_headers", &route.response_headers, &MANAGED_IN_ANSWERS);
    let cors = route.cors.as_ref().and_then(|cors| cross_origin(context, &at.then("cors"), cors));
    let error_pages = pages(context, &at, route, files);
    Some(RoutePlan {
        name,
        action: action(context, &at, route)?,
        allow: set(&route.allow),
        deny: set(&route.deny),
        cors,
        request_headers,
        response_headers,
        timeout: route.timeout.map(Into::into),
        max_body: route.max_body.map(|size| size.as_bytes()),
        error_pages,
    })
}

fn action(context: &Context<'_>, at: &Path, route: &Route) -> Option<RouteAction> {
    let there = [
        ("service", route.service.is_some()),
        ("split", route.split.is_some()),
        ("redirect", route.redirect.is_some()),
    ];
    let there: Vec<&str> = there.iter().filter(|(_, there)| *there).map(|(key, _)| *key).collect();
    match there.as_slice() {
        [_] => {}
        [] => {
            if !context.is_damaged(at) {
                let remedy =
                    "add `service = \"NAME\"`, `split = { NAME = 90, OTHER = 10 }` or `redirect = { to = \"…\" }`";
                context.say(&ROUTE_TARGET, at, "the route leads nowhere", remedy);
            }
            return None;
        }
        [first, second, ..] => {
            let message = format!("the route has both `{first}` and `{second}`");
            context.say_of_key(&ROUTE_TARGET, &at.then(*second), message, "keep one of them");
            return None;
        }
    }
    if let Some(redirect) = &route.redirect {
        return redirecting(context, at, route, redirect);
    }
    let rewrite = rewrite(context, at, route);
    let weights: Vec<(Path, String, u32)> = match (&route.service, &route.split) {
        (Some(service), _) => vec![(at.then("service"), service.to_string(), 1)],
        (None, Some(split)) => {
            let path = at.then("split");
            split.iter().map(|(name, weight)| (path.then(name.as_str()), name.to_string(), *weight)).collect()
        }
        (None, None) => return None,
    };
    let targets: Option<Vec<usize>> = weights.iter().map(|(path, name, _)| target(context, path, name)).collect();
    let split = WeightedSplit::new(&weights.iter().map(|(.., weight)| *weight).collect::<Vec<_>>());
    let split = split.map_err(|error| {
        if !weights.is_empty() {
            let (message, remedy) = split_remedy(&error.to_string());
            context.say(&EMPTY_SPLIT, &at.then("split"), message, remedy);
        }
    });
    Some(RouteAction::Forward { targets: targets?, split: split.ok()?, rewrite })
}

/// The place of a service among the services.
fn target(context: &Context<'_>, at: &Path, name: &str) -> Option<usize> {
    let services = &context.config.service;
    let found = services.keys().position(|service| service.as_str() == name);
    if found.is_none() && !context.document.says(&path!["service", name]) {
        let remedy = match nearest(name, services.keys().map(|n| n.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add `[service.{name}]`, or name one that is there"),
        };
        let is_service = at.key() == Some("service");
        let message = format!("there is no service `{name}`");
        if is_service {
            context.say(&UNKNOWN_SERVICE, at, message, remedy)
        } else {
            context.say_of_key(&UNKNOWN_SERVICE, at, message, remedy)
        }
    }
    found
}

fn redirecting(context: &Context<'_>, at: &Path, route: &Route, redirect: &Redirect) -> Option<RouteAction> {
    let useless = [
        ("strip_prefix", route.strip_prefix.is_some()),
        ("replace_prefix", route.replace_prefix.is_some()),
        ("request_headers", route.request_headers.is_some()),
        ("response_headers", route.response_headers.is_some()),
        ("cors", route.cors.is_some()),
        ("timeout", route.timeout.is_some()),
    ];
    for (key, _) in useless.iter().filter(|(_, there)| *there) {
        let message = format!("`{key}` does nothing in a route that redirects");
        context.say_of_key(&WITHOUT_EFFECT, &at.then(*key), message, format!("take `{key}` out"));
    }
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        let message = format!("{} is not the status of a redirect", redirect.status);
        let remedy = "write 307 (temporary), 308 (permanent), or 301, 302 or 303";
        context.say(&BAD_REDIRECT_STATUS, &at.then("redirect").then("status"), message, remedy);
    }
    Some(RouteAction::Redirect { status: redirect.status, location: redirect.to.to_string() })
}

fn rewrite(context: &Context<'_>, at: &Path, route: &Route) -> Option<(String, String)> {
    let put = route.replace_prefix.as_ref().map(ToString::to_string).unwrap_or_default();
    let Some(strip) = &route.strip_prefix else {
        if route.replace_prefix.is_some() && !context.is_damaged(at) {
            let message = "`replace_prefix` does nothing without `strip_prefix`";
            let remedy = "add `strip_prefix`; `strip_prefix = \"/\"` puts it in front of every path";
            context.say_of_key(&WITHOUT_EFFECT, &at.then("replace_prefix"), message, remedy);
        }
        return None;
    };
    let mut scratch = Vec::new();
    let strip = policy::path::normalise(strip.as_str().as_bytes(), &mut scratch)
        .map(|p| String::from_utf8_lossy(p).into_owned());
    let strip = strip.unwrap_or_default();
    let strip = strip.trim_end_matches('/');
    let pattern = route.path.as_ref().map(|p| p.as_str()).unwrap_or_default();
    let fixed = pattern.split(['*', '{']).next().unwrap_or_default();
    let below = fixed.strip_prefix(strip).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !strip.is_empty() && !below && !context.is_damaged(at) {
        let message = match pattern {
            "" => format!("the route takes paths that do not begin with `{strip}`"),
            _ => format!("the path `{pattern}` does not begin with `{strip}`"),
        };
        let remedy = format!("write `path = \"{strip}/*\"`, or strip what the path begins with");
        context.say(&REWRITE_MISMATCH, &at.then("strip_prefix"), message, remedy);
    }
    Some((strip.to_owned(), put))
}

fn edits(context: &Context<'_>, at: &Path, changes: &HeaderChanges, managed: &[&str]) -> HeaderEdits {
    let names = changes.set.keys().map(|name| (at.then("set").then(name.as_str()), name));
    let removed = changes.remove.iter().enumerate().map(|(i, name)| (at.then("remove").then(i), name));
    for (path, name) in
        names.chain(removed).filter(|(_, name)| managed.contains(&name.as_str().to_ascii_lowercase().as_str()))
    {
        let lower = name.as_str().to_ascii_lowercase();
        let remedy = match lower.as_str() {
            "host" => "write `host` in the service",
            "x-request-id" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => {
                "take it out; what a proxy in front says is passed on if it is in `trusted_proxies`"
            }
            _ => "take it out",
        };
        context.say_of_key(&MANAGED_HEADER, &path, format!("`{name}` is written by the gateway itself"), remedy);
    }
    unique_headers(context, &at.then("set"), changes.set.keys());
    HeaderEdits {
        remove: changes.remove.iter().map(|name| name.as_str().to_ascii_lowercase()).collect(),
        set: changes.set.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    }
}

/// Says so if `name`, in lower case, is a header that the gateway writes for another purpose.
pub(super) fn forbid_managed(context: &Context<'_>, at: &Path, name: Option<&str>) {
    if let Some(name) = name.filter(|name| MANAGED_IN_REQUESTS.contains(name)) {
        let message = format!("`{name}` is written by the gateway itself, for another purpose");
        context.say(&MANAGED_HEADER, at, message, "name another header, such as `X-Request-Timeout-Ms`");
    }
}

/// Header names differ by more than case.
fn unique_headers<'a>(context: &Context<'_>, at: &Path, names: impl Iterator<Item = &'a HeaderName>) {
    let mut seen: HashMap<String, &HeaderName> = HashMap::new();
    for name in names {
        if let Some(other) = seen.insert(name.as_str().to_ascii_lowercase(), name) {
            let message = format!("`{other}` and `{name}` are the same header");
            context.say_of_key(&DUPLICATE_HEADER, &at.then(name.as_str()), message, "keep one of them");
        }
    }
}

fn cross_origin(context: &Context<'_>, at: &Path, cors: &Cors) -> Option<CorsPolicy> {
    let texts = |names: &[HeaderName]| names.iter().map(ToString::to_string).collect();
    let config = CorsConfig {
        origins: cors.origins.iter().map(ToString::to_string).collect(),
        methods: cors.methods.iter().map(ToString::to_string).collect(),
        headers: texts(&cors.headers),
        expose: texts(&cors.expose),
        credentials: cors.credentials,
        max_age: Some(cors.max_age.into()),
    };
    let errors = match CorsPolicy::new(config) {
        Ok(policy) => return Some(policy),
        Err(errors) => errors,
    };
    for error in errors {
        let (message, remedy) = split_remedy(&error.to_string());
        match &error {
            // An empty list was said already, as one.
            CorsError::NoOrigin => {}
            CorsError::AnyWithCredentials { field } => {
                let message = format!(
                    "`\"*\"` in `{field}` cannot go with `credentials = true`: browsers would refuse every answer"
                );
                let remedy = format!("name the {field} that may, or leave `credentials` out");
                context.say(&CORS_ANY_WITH_CREDENTIALS, &at.then(*field), message, remedy);
            }
            CorsError::BadName { field, .. } => context.say(&BAD_CORS, &at.then(*field), message, "take it out"),
            CorsError::ForbiddenMethod { .. } => context.say(&BAD_CORS, &at.then("methods"), message, remedy),
            CorsError::AnyAmongOrigins | CorsError::BadOrigin { .. } => {
                context.say(&BAD_CORS, &at.then("origins"), message, remedy);
            }
        }
    }
    None
}

fn pages(context: &Context<'_>, at: &Path, route: &Route, files: &mut Vec<PathBuf>) -> Vec<(u16, Arc<ErrorPage>)> {
    let mut pages = Vec::new();
    for (status, file) in &route.error_pages {
        let path = at.then("error_pages").then(status.as_str());
        let full = context.world.directory.join(file);
        files.push(full.clone());
        match (context.world.read)(&full, MAX_PAGE) {
            Ok(body) => {
                let content_type = content_type(file).to_owned();
                let status = status.as_str().parse().unwrap_or_default();
                pages.push((status, Arc::new(ErrorPage { content_type, body })));
            }
            Err(error) => {
                let (what, remedy) = why_unreadable(&error, MAX_PAGE);
                context.say(&UNREADABLE_PAGE, &path, format!("the page `{}` {what}", file.display()), remedy);
            }
        }
    }
    pages
}

fn content_type(file: &std::path::Path) -> &'static str {
    match file.extension().and_then(|e| e.to_str()) {
        Some("txt") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        _ => "text/html; charset=utf-8",
    }
}
