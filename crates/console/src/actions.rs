//! What operators do to endpoints and services over HTTP: the calls of `/v1/services/…`, read strictly and handed to the
//! node, and the answer in the caller's shape. That the caller may and meant it was decided before (`guard`).
//!
//! | path | body |
//! | --- | --- |
//! | `POST /v1/services/{service}/endpoints/{endpoint}/{drain, resume, down}` | `reason`, `force` |
//! | `POST /v1/services/{service}/{failover, failback}` | `reason`, `force`, `tier` |
//!
//! Bodies are JSON objects, or forms as the page sends them (where `csrf` is a field, and an empty one counts as left
//! out). A field that is not known is refused: it would be a wish that nobody hears.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Form, FromRequest as _, Path, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::json;

use crate::accept::{Shape, shape};
use crate::admin::{Caller, Shared, typed};
use crate::problem::{Problem, ProblemCode};
use crate::view::{Acted, ActionError, EndpointAction, Node, Order, ServiceAction};
use crate::words;

/// What a caller says beside the path.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    reason: String,
    force: bool,
    tier: Option<u8>,
}

/// The same as a form has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WishForm {
    reason: String,
    force: String,
    tier: String,
    csrf: String,
}

/// `POST /v1/services/{service}/endpoints/{endpoint}/{action}`.
pub(crate) async fn endpoint(
    State(shared): State<Shared>,
    caller: axum::Extension<Caller>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Ok(Path((service, endpoint, word))) = path else { return Err(no_such_action()) };
    let action = EndpointAction::ALL.into_iter().find(|action| action.word() == word).ok_or_else(no_such_action)?;
    let wanted = shape(request.headers(), Shape::Json);
    let wish = Wish::read(request).await?;
    if wish.tier.is_some() {
        return Err(Problem::new(ProblemCode::MalformedCall, "an endpoint has one tier; leave `tier` out"));
    }
    let order = wish.order(caller.0);
    let page = page_of(&service);
    let acted = run(&shared, move |node| node.endpoint_action(&service, &endpoint, action, &order)).await?;
    Ok(answer(&acted, wanted, &page))
}

/// `POST /v1/services/{service}/{action}`.
pub(crate) async fn service(
    State(shared): State<Shared>,
    caller: axum::Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Ok(Path((service, word))) = path else { return Err(no_such_action()) };
    let wanted = shape(request.headers(), Shape::Json);
    let wish = Wish::read(request).await?;
    let action = match (word.as_str(), wish.tier) {
        ("failover", tier) => ServiceAction::Failover { tier },
        ("failback", None) => ServiceAction::Failback,
        ("failback", Some(_)) => {
            let detail = "a failback lets the node choose the tier; leave `tier` out";
            return Err(Problem::new(ProblemCode::MalformedCall, detail));
        }
        _ => return Err(no_such_action()),
    };
    let order = wish.order(caller.0);
    let page = page_of(&service);
    let acted = run(&shared, move |node| node.service_action(&service, action, &order)).await?;
    Ok(answer(&acted, wanted, &page))
}

/// Where a service has its page.
pub(crate) fn page_of(service: &str) -> String {
    format!("/services/{}", words::path_segment(service))
}

/// The path of an action on an endpoint.
pub fn endpoint_path(service: &str, endpoint: &str, action: EndpointAction) -> String {
    let [service, endpoint] = [service, endpoint].map(words::path_segment);
    format!("/v1/services/{service}/endpoints/{endpoint}/{}", action.word())
}

/// The path of an action on a service.
pub fn service_path(service: &str, action: ServiceAction) -> String {
    let word = match action {
        ServiceAction::Failover { .. } => "failover",
        ServiceAction::Failback => "failback",
    };
    format!("/v1/services/{}/{word}", words::path_segment(service))
}

fn no_such_action() -> Problem {
    let detail = "endpoints can be told to drain, resume and down; services to failover and failback";
    Problem::new(ProblemCode::NotFound, detail)
}

/// Lets the node act, off the threads that answer requests: it may wait for a disk. A caller who leaves does not end it.
pub(crate) async fn run(
    shared: &Shared,
    act: impl FnOnce(&dyn Node) -> Result<Acted, ActionError> + Send + 'static,
) -> Result<Acted, Problem> {
    let node = Arc::clone(shared.node());
    match tokio::task::spawn_blocking(move || act(node.as_ref())).await {
        Ok(outcome) => outcome.map_err(Problem::from),
        Err(error) => {
            tracing::error!(%error, "an operator's action did not end");
            let detail = "the action broke off; the log says where, and GET /v1/status what is the case";
            Err(Problem::new(ProblemCode::CallFailed, detail))
        }
    }
}

/// Browsers go on to the page that shows what came of it, so that a repeated visit does not repeat the action.
pub(crate) fn answer(acted: &Acted, wanted: Shape, page: &str) -> Response {
    match wanted {
        Shape::Html => Redirect::to(page).into_response(),
        Shape::Json => Json(acted).into_response(),
        Shape::Text => typed("text/plain; charset=utf-8", format!("{}\n", acted.message)),
    }
}

impl Wish {
    /// The body, whose form its `Content-Type` names; without one it must be empty.
    async fn read(request: Request) -> Result<Wish, Problem> {
        let malformed = |detail: String| Problem::new(ProblemCode::MalformedCall, detail);
        let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::to_str).transpose();
        let kind = kind.map_err(|_| malformed("Content-Type is no text".to_owned()))?.unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind == "application/x-www-form-urlencoded" {
            let form = Form::<WishForm>::from_request(request, &()).await;
            let Form(form) =
                form.map_err(|error| malformed(format!("the form cannot be read: {}", error.body_text())))?;
            return form.wish();
        }
        let body = Bytes::from_request(request, &()).await;
        let body = body.map_err(|_| malformed("the body cannot be read".to_owned()))?;
        match kind.as_str() {
            "" if body.is_empty() => Ok(Wish::default()),
            "application/json" => serde_json::from_slice(&body).map_err(|error| {
                malformed(format!("the body is not what is expected: {error}; send {{\"reason\": \"…\"}}"))
            }),
            _ => Err(malformed("send the body as application/json, or as a form".to_owned())),
        }
    }

    fn order(self, caller: Caller) -> Order {
        Order { actor: caller.0, reason: self.reason.trim().to_owned(), force: self.force }
    }
}

impl WishForm {
    fn wish(self) -> Result<Wish, Problem> {
        let refused = |detail: &str| Err(Problem::new(ProblemCode::MalformedCall, detail));
        let tier = match self.tier.as_str() {
            "" => None,
            text => match text.parse() {
                Ok(tier) => Some(tier),
                Err(_) => return refused("`tier` is a number such as 1"),
            },
        };
        let force = match self.force.as_str() {
            "" | "false" => false,
            "true" | "on" => true,
            _ => return refused("`force` is true or false"),
        };
        Ok(Wish { reason: self.reason, force, tier })
    }
}

impl From<ActionError> for Problem {
    fn from(error: ActionError) -> Problem {
        let code = match &error {
            ActionError::UnknownService { .. }
            | ActionError::UnknownEndpoint { .. }
            | ActionError::UnknownPool { .. } => ProblemCode::NameUnknown,
            ActionError::LastEndpoint(_) => ProblemCode::LastEndpoint,
            ActionError::UnknownTier(_)
            | ActionError::BadReason(_)
            | ActionError::TooMany(_)
            | ActionError::PoolRefused(_) => ProblemCode::ActionRefused,
            ActionError::NotKept(_) => ProblemCode::NotKept,
        };
        let problem = Problem::new(code, words::tame(&error.to_string()));
        match error {
            ActionError::UnknownService { known, .. }
            | ActionError::UnknownEndpoint { known, .. }
            | ActionError::UnknownPool { known, .. } => problem.with("known", json!(known)),
            _ => problem,
        }
    }
}
