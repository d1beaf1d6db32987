//! The applications' server of `[api]`. Callers are programs with scoped tokens; no token grants operator rights here,
//! because there is nothing here that an operator does.
//!
//! | path | scope | what |
//! | --- | --- | --- |
//! | `GET /livez`, `/readyz` | none, no token | whether it runs; whether it takes new work |
//! | `GET /v1/token` | any token | name and scopes of the token presented |
//! | `GET /v1/services`, `/v1/services/{name}` | `services:read` | state of services and endpoints |
//! | `PUT`, `DELETE /v1/services/{name}/endpoints/{ip:port}` | `register:NAME` | an endpoint is there, or leaves |
//! | `POST /v1/deploys` | `deploys:write` | something was deployed; see `deploys` |
//!
//! Senders of webhooks cannot set `Authorization`: on `/v1/deploys` a token may come as `X-Gitlab-Token`, and a call that
//! is signed with the secret that is shared with GitHub needs none.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use http::StatusCode;
use kernel::Drain;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin::{method_not_allowed, not_found, probe, readiness};
use crate::assets;
use crate::deploys::{self, WebhookSecret};
use crate::guard;
use crate::problem::{Problem, ProblemCode};
use crate::registrar::{self, Registrar};
use crate::serve::{self, Limits};
use crate::token::{self, DEPLOYS_WRITE, SERVICES_READ, Token, TokenStore};
use crate::vitals::Vitals;
use crate::words;

/// Programs send bearer tokens; a password prompt would help nobody.
const CHALLENGES: [&str; 1] = ["Bearer realm=\"evenkeel\""];

/// What may change while the server runs.
#[derive(Clone, Debug, Default)]
pub struct ApiSettings {
    /// Known tokens.
    pub tokens: TokenStore,
    /// What GitHub signs its webhooks with.
    pub github_secret: Option<WebhookSecret>,
}

/// The applications' server. Cheap to clone: one clone serves, others change its settings or stop it.
#[derive(Clone)]
pub struct ApiServer {
    core: Arc<Core>,
}

struct Core {
    vitals: Vitals,
    registrar: Arc<dyn Registrar>,
    settings: ArcSwap<ApiSettings>,
    limits: Limits,
    stop: watch::Sender<bool>,
}

#[derive(Clone)]
struct Shared {
    core: Arc<Core>,
    drain: Drain,
}

impl ApiServer {
    /// A server over `vitals`; endpoints register with `registrar`.
    pub fn new(vitals: Vitals, registrar: Arc<dyn Registrar>, settings: ApiSettings, limits: Limits) -> ApiServer {
        let (settings, stop) = (ArcSwap::from_pointee(settings), watch::Sender::new(false));
        ApiServer { core: Arc::new(Core { vitals, registrar, settings, limits, stop }) }
    }

    /// Puts other settings in force for the next request on.
    pub fn update(&self, settings: ApiSettings) {
        self.core.settings.store(Arc::new(settings));
    }

    /// Ends [`ApiServer::serve`] before the drain is closed.
    pub fn stop(&self) {
        self.core.stop.send_replace(true);
    }

    /// Answers on `listener` until the drain is closed or [`ApiServer::stop`] is called; requests in flight then
    /// finish. Dropping the future cuts every connection.
    pub async fn serve(self, listener: TcpListener, drain: Drain) {
        let shared = Shared { core: Arc::clone(&self.core), drain: drain.clone() };
        let stop = self.core.stop.subscribe();
        serve::run(listener, router(shared), self.core.limits, drain, stop).await;
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("settings", &self.core.settings.load()).finish_non_exhaustive()
    }
}

fn router(shared: Shared) -> Router {
    let time = shared.core.limits.request;
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/assets/{name}", get(assets::serve))
        .route("/v1/token", get(token))
        .route("/v1/services", get(services))
        .route("/v1/services/{name}", get(service))
        .route("/v1/services/{name}/endpoints/{address}", put(register).delete(withdraw))
        .route(deploys::PATH, post(deploy))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(shared.clone(), admit))
        .layer(middleware::from_fn(move |request: Request, next: Next| guard::finish(time, request, next)))
        .with_state(shared)
}

/// Lets the probes through, and every caller with a known token; which scope is needed the handler knows.
async fn admit(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // A problem is shown to browsers as a page, which has a style. Who tells of a deployment may be known by the body: its
    // handler looks.
    if matches!(path, "/livez" | "/readyz" | deploys::PATH) || path.starts_with(assets::FOLDER) {
        return next.run(request).await;
    }
    let settings = shared.core.settings.load_full();
    let (mut parts, body) = request.into_parts();
    match guard::check_token(&parts, &settings.tokens, &CHALLENGES) {
        Ok(token) => {
            parts.extensions.insert(token);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    probe(&readiness(&shared.core.vitals, &shared.drain))
}

async fn token(Extension(token): Extension<Token>) -> Response {
    Json(json!({ "name": token.name, "scopes": token.scopes })).into_response()
}

async fn services(State(shared): State<Shared>, Extension(token): Extension<Token>) -> Result<Response, Problem> {
    guard::check_scope(&token, SERVICES_READ)?;
    let status = shared.core.vitals.status(readiness(&shared.core.vitals, &shared.drain));
    Ok(Json(json!({ "window_seconds": status.window_seconds, "services": status.services })).into_response())
}

async fn service(
    State(shared): State<Shared>,
    Extension(token): Extension<Token>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    guard::check_scope(&token, SERVICES_READ)?;
    let status = shared.core.vitals.status(readiness(&shared.core.vitals, &shared.drain));
    // A name that is not UTF-8 is the name of no service.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    match status.services.into_iter().find(|s| s.traffic.name == name) {
        Some(service) => Ok(Json(service).into_response()),
        None => {
            let detail = format!("there is no service {:?}; GET /v1/services lists them", words::tame(&name));
            Err(Problem::new(ProblemCode::NotFound, detail))
        }
    }
}

/// Service and address in a path, for a token that may speak for the service.
type Named = Result<Path<(String, String)>, PathRejection>;

async fn register(
    State(shared): State<Shared>,
    Extension(token): Extension<Token>,
    named: Named,
    request: Request,
) -> Result<Response, Problem> {
    let (service, address) = named.map(|Path(named)| named).unwrap_or_default();
    guard::check_register(&token, &service)?;
    let address = registrar::address(&address)?;
    let body = guard::read_body(request.into_body(), shared.core.limits.request).await?;
    let registered = shared.core.registrar.register(&service, address, registrar::wish(&body)?)?;
    if registered.is_new {
        tracing::info!(service, endpoint = %address, lease = ?registered.lease, token = token.name, "endpoint registered");
    }
    let (status, document) = registrar::granted(&service, address, registered);
    Ok((status, Json(document)).into_response())
}

async fn withdraw(
    State(shared): State<Shared>,
    Extension(token): Extension<Token>,
    named: Named,
) -> Result<Response, Problem> {
    let (service, address) = named.map(|Path(named)| named).unwrap_or_default();
    guard::check_register(&token, &service)?;
    let address = registrar::address(&address)?;
    if !shared.core.registrar.withdraw(&service, address)? {
        let detail = format!("{address} is not registered with the service {:?}", words::tame(&service));
        return Err(Problem::new(ProblemCode::NotFound, detail));
    }
    tracing::info!(service, endpoint = %address, token = token.name, "endpoint left");
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn deploy(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let settings = shared.core.settings.load_full();
    token::take_gitlab(&mut parts.headers);
    let is_signed = settings.github_secret.is_some() && parts.headers.contains_key(deploys::SIGNATURE);
    // A caller who shows nothing has nothing read.
    let caller = match is_signed {
        true => None,
        false => Some(guard::check_token(&parts, &settings.tokens, &CHALLENGES)?),
    };
    if let Some(token) = &caller {
        guard::check_scope(token, DEPLOYS_WRITE)?;
    }
    let body = guard::read_body_of(body, deploys::MAX_BODY_BYTES, shared.core.limits.request).await?;
    if is_signed && !settings.github_secret.as_ref().is_some_and(|secret| secret.has_signed(&parts.headers, &body)) {
        let detail = "the signature is not that of `github_secret` of `[deploys]`; write the same secret at GitHub";
        return Err(Problem::new(ProblemCode::TokenRequired, detail));
    }
    let name = caller.map_or_else(|| "github".to_owned(), |token| token.name);
    let vitals = &shared.core.vitals;
    deploys::take(vitals.node(), vitals.deploys(), query.as_deref(), &parts.headers, &body, &name).await
}
