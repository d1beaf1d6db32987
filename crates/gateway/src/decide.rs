//! What to do with a request before any endpoint is asked: which route it takes, whether it may, and whether the gateway
//! answers it itself. The order is from the cheapest and most final to the dearest.

use kernel::ErrorCode;
use policy::cors::CorsDecision;
use policy::path;
use policy::request::RequestView;

use crate::core::Core;
use crate::facts::{Facts, View};
use crate::h1::Framing;
use crate::plan::{Plan, RouteAction, RoutePlan};

/// What is to be done with a request.
#[derive(Debug)]
pub(crate) struct Decision {
    /// Index of the route, once one is found.
    pub(crate) route: Option<usize>,
    pub(crate) act: Act,
}

/// Forward, or answer.
#[derive(Debug)]
pub(crate) enum Act {
    /// To a service (its index). `extra`: cross-origin fields for the answer. `rewritten`: the path is in the scratch.
    Forward { service: usize, extra: Vec<(&'static str, String)>, rewritten: bool },
    /// With an error.
    Refuse(ErrorCode, String),
    /// With an empty answer.
    Answer(u16, Vec<(&'static str, String)>),
}

/// Decides. `scratch` ends up with the path to send, if it is rewritten.
pub(crate) fn decide(core: &Core, plan: &Plan, facts: &Facts, view: View<'_>, scratch: &mut Vec<u8>) -> Decision {
    let refuse = |code, detail: &str| Decision { route: None, act: Act::Refuse(code, detail.to_owned()) };
    match view.method() {
        b"CONNECT" => return refuse(ErrorCode::MethodNotSupported, "this is not a forward proxy: CONNECT is refused"),
        b"TRACE" => return refuse(ErrorCode::MethodNotSupported, "TRACE would show the headers added on the way"),
        _ => {}
    }
    if view.head.unknown_expectation {
        return refuse(ErrorCode::ExpectationFailed, "only 100-continue can be expected");
    }
    let found = match path::normalise(view.path(), scratch) {
        Ok(normal) => plan.table.find(&view, normal),
        Err(error) => return refuse(ErrorCode::MalformedRequest, &error.to_string()),
    };
    let Some(index) = found else {
        return refuse(ErrorCode::NoRoute, "no route has this host, path, method and headers");
    };
    let act = admit(core, plan, &plan.routes[index], facts, view, scratch);
    Decision { route: Some(index), act }
}

fn admit(core: &Core, plan: &Plan, route: &RoutePlan, facts: &Facts, view: View<'_>, scratch: &mut Vec<u8>) -> Act {
    let denied = route.deny.contains(facts.client);
    if denied || !(route.allow.is_empty() || route.allow.contains(facts.client)) {
        return Act::Refuse(ErrorCode::ForbiddenAddress, "the route's allow and deny lists exclude it".to_owned());
    }
    let mut extra = Vec::new();
    if let Some(cors) = &route.cors {
        let asked = (view.header("access-control-request-method"), view.header("access-control-request-headers"));
        match cors.decide(view.method(), view.header("origin"), asked.0, asked.1) {
            CorsDecision::NotCors => {}
            CorsDecision::Preflight { headers } => return Act::Answer(204, headers),
            // Without the fields that would allow it, the browser refuses the request itself.
            CorsDecision::Refused => return Act::Answer(204, vec![("Vary", "Origin".to_owned())]),
            CorsDecision::Simple { headers } => extra = headers,
        }
    }
    let max_body = route.max_body.unwrap_or(plan.edge.max_body);
    if matches!(facts.framing, Framing::Length(n) if n > max_body) {
        return Act::Refuse(ErrorCode::BodyTooLarge, format!("at most {max_body} bytes are taken"));
    }
    match &route.action {
        RouteAction::Redirect { status, location } => Act::Answer(*status, vec![("Location", fill_in(location, view))]),
        RouteAction::Forward { targets, split, rewrite } => {
            if let Some((strip, put)) = rewrite {
                scratch.clear();
                path::rewrite_prefix(view.path(), strip, put, scratch);
                scratch.extend_from_slice(view.query());
            }
            let service = match targets.as_slice() {
                [only] => *only,
                _ => targets[split.choose(&mut core.entropy.borrow_mut())],
            };
            Act::Forward { service, extra, rewritten: rewrite.is_some() }
        }
    }
}

/// A redirect's location for this request. What is filled in was checked to hold no control characters; a path does not
/// begin with two slashes, which a browser would take for another host.
fn fill_in(location: &str, view: View<'_>) -> String {
    let path = String::from_utf8_lossy(view.path());
    let path = format!("/{}", path.trim_start_matches('/'));
    let query = String::from_utf8_lossy(view.query());
    let host = String::from_utf8_lossy(view.host());
    location.replace("/{path}", &path).replace("{path}", &path).replace("{query}", &query).replace("{host}", &host)
}
