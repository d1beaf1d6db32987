//! The operators' server of `[admin]`: the page, `/v1/status`, `/metrics`, reload, and the two probes.
//!
//! | path | who | what |
//! | --- | --- | --- |
//! | `GET /livez`, `/readyz` | anyone who can connect | whether it runs; whether it takes new work (503 with the reason) |
//! | `GET /assets/…` | anyone who can connect | style, script and icon of the pages |
//! | `GET /` | operator | the state: a page, JSON or text, by `Accept` |
//! | `GET /services/{service}`, `/routes/{route}` | operator | one of them over a range of time, by `Accept` |
//! | `GET /pools/{pool}` | operator | a pool of Postgres connections, by `Accept` |
//! | `GET /journal`, `/why`, `/why/{id}` | operator | what happened; what was done with a request, by `Accept` |
//! | `GET /live` | operator | the parts of a page that change, as server-sent events |
//! | `GET /v1/status` | operator | the same as JSON |
//! | `GET /metrics` | operator | Prometheus text or OpenMetrics, by `Accept` |
//! | `GET /v1/csrf` | operator | the token that changes need |
//! | `POST /v1/reload` | operator | reads the configuration again |
//! | `POST /v1/services/…` | operator | drains endpoints, switches tiers; see `actions` |
//! | `GET /v1/pools`, `/v1/pools/…` | operator | pools, their statements, clients and servers; see `pool_api` |
//! | `POST /v1/pools/…` | operator | pauses, fails over, drains, kills; see `pool_actions` |
//! | `GET /v1/journal`, `/v1/journal/follow` | operator | what changed, as it is kept, and as it comes; see `query`, `follow` |
//! | `GET /v1/why/{id}`, `/v1/traces` | operator | what was done with a request, and of which that is known |
//! | `GET /v1/tallies` | operator | exact counts by period |
//! | `POST /v1/deploys` | operator | something was deployed; see `deploys` |
//!
//! On loopback whoever can connect is an operator, and the Host check keeps web pages out. Beyond loopback
//! ([`AdminSettings::require_token`]) an operator is who presents a token with the scope `operator`; the Host check is
//! then off, because a page at another name has no token to send.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use axum::body::Bytes;
use axum::extract::{RawQuery, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use kernel::{Drain, DrainPhase, Moment};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::accept::{Shape, accept_text, shape};
use crate::facts::spark::Sparks;
use crate::guard::{self, Csrf};
use crate::problem::{Problem, ProblemCode};
use crate::serve::{self, Limits};
use crate::token::{OPERATOR, TokenStore};
use crate::view::{Node, Readiness};
use crate::vitals::Vitals;
use crate::{
    actions, assets, deploys, follow, handlers, journal_api, live, pool_actions, pool_api, tallies_api, why_api,
};

/// Basic first: a browser then asks for a password, which is the token.
const CHALLENGES: [&str; 2] = ["Basic realm=\"evenkeel\", charset=\"UTF-8\"", "Bearer realm=\"evenkeel\""];

/// What may change while the server runs.
#[derive(Clone, Debug, Default)]
pub struct AdminSettings {
    /// Names without port that `Host` may carry beside the loopback ones; used while no token is required.
    pub hosts: Vec<String>,
    /// Whether callers need a token with the scope `operator`: always, beyond loopback.
    pub require_token: bool,
    /// Known tokens.
    pub tokens: TokenStore,
}

/// The operators' server. Cheap to clone: one clone serves, others change its settings or stop it.
#[derive(Clone)]
pub struct AdminServer {
    core: Arc<Core>,
}

struct Core {
    vitals: Vitals,
    settings: ArcSwap<AdminSettings>,
    csrf: Csrf,
    reload_turn: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    /// What takes long to read and changes slowly, and when it was read.
    sparks: Mutex<Option<(Moment, Sparks)>>,
    limits: Limits,
    stop: watch::Sender<bool>,
}

/// What a handler sees.
#[derive(Clone)]
pub(crate) struct Shared {
    core: Arc<Core>,
    drain: Drain,
}

impl AdminServer {
    /// A server over `vitals`.
    ///
    /// # Errors
    /// When the operating system has no randomness for the CSRF token.
    pub fn new(vitals: Vitals, settings: AdminSettings, limits: Limits) -> Result<AdminServer, getrandom::Error> {
        let core = Core {
            vitals,
            settings: ArcSwap::from_pointee(settings),
            csrf: Csrf::generate()?,
            reload_turn: Arc::new(Semaphore::new(1)),
            followers: Arc::new(Semaphore::new(follow::MAX_FOLLOWERS)),
            readers: Arc::new(Semaphore::new(live::READERS_MAX)),
            sparks: Mutex::default(),
            limits,
            stop: watch::Sender::new(false),
        };
        Ok(AdminServer { core: Arc::new(core) })
    }

    /// Puts other settings in force for the next request on.
    pub fn update(&self, settings: AdminSettings) {
        self.core.settings.store(Arc::new(settings));
    }

    /// Ends [`AdminServer::serve`] before the drain is closed.
    pub fn stop(&self) {
        self.core.stop.send_replace(true);
    }

    /// Answers on `listener` until the drain is closed or [`AdminServer::stop`] is called; requests in flight then
    /// finish. Dropping the future cuts every connection.
    pub async fn serve(self, listener: TcpListener, drain: Drain) {
        let shared = Shared { core: Arc::clone(&self.core), drain: drain.clone() };
        let stop = self.core.stop.subscribe();
        serve::run(listener, router(shared), self.core.limits, drain, stop).await;
    }
}

impl fmt::Debug for AdminServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminServer").field("settings", &self.core.settings.load()).finish_non_exhaustive()
    }
}

fn router(shared: Shared) -> Router {
    let time = shared.core.limits.request;
    Router::new()
        .route("/", get(handlers::home))
        .route("/services/{service}", get(handlers::service))
        .route("/routes/{route}", get(handlers::route))
        .route("/pools/{pool}", get(handlers::pool))
        .route("/journal", get(handlers::journal))
        .route("/why", get(handlers::traces))
        .route("/why/{id}", get(handlers::why))
        .route("/live", get(live::live))
        .route("/assets/{name}", get(assets::serve))
        .route("/metrics", get(metrics))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/v1/status", get(handlers::status))
        .route("/v1/csrf", get(csrf))
        .route("/v1/reload", post(reload))
        .route("/v1/services/{service}/{action}", post(actions::service))
        .route("/v1/services/{service}/endpoints/{endpoint}/{action}", post(actions::endpoint))
        .route("/v1/pools", get(pool_api::pools))
        .route("/v1/pools/{pool}", get(pool_api::pool))
        .route("/v1/pools/{pool}/statements", get(pool_api::statements))
        .route("/v1/pools/{pool}/clients", get(pool_api::clients))
        .route("/v1/pools/{pool}/servers", get(pool_api::servers))
        .route("/v1/pools/{pool}/{action}", post(pool_actions::pool))
        .route("/v1/journal", get(journal_api::read))
        .route("/v1/journal/follow", get(follow::follow))
        .route("/v1/why/{id}", get(why_api::why))
        .route("/v1/traces", get(why_api::traces))
        .route("/v1/tallies", get(tallies_api::read))
        .route(deploys::PATH, post(deploy))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(shared.clone(), admit))
        .layer(middleware::from_fn(move |request: Request, next: Next| guard::finish(time, request, next)))
        .with_state(shared)
}

/// Lets a request through if its caller may be here and, where it changes something, meant it.
async fn admit(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if matches!(path, "/livez" | "/readyz") || path.starts_with(assets::FOLDER) {
        return next.run(request).await;
    }
    match check(&shared.core, request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => {
            tracing::debug!(code = problem.code.code(), detail = problem.detail, "an admin request was refused");
            problem.into_response()
        }
    }
}

async fn check(core: &Core, request: Request) -> Result<Request, Problem> {
    let settings = core.settings.load_full();
    let (mut parts, body) = request.into_parts();
    let authority = guard::authority(&parts)?;
    if settings.require_token {
        let token = guard::check_token(&parts, &settings.tokens, &CHALLENGES)?;
        guard::check_scope(&token, OPERATOR)?;
        parts.extensions.insert(Caller(token.name));
    } else {
        guard::check_host(&authority, &settings.hosts)?;
        parts.extensions.insert(Caller("loopback".to_owned()));
    }
    let request = Request::from_parts(parts, body);
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(request);
    }
    guard::check_meant(request, &core.csrf, &authority, core.limits.head).await
}

/// Who calls: the name of a token, or `loopback`.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) String);

impl Shared {
    pub(crate) fn node(&self) -> &Arc<dyn Node> {
        self.core.vitals.node()
    }

    pub(crate) fn vitals(&self) -> &Vitals {
        &self.core.vitals
    }

    pub(crate) fn limits(&self) -> Limits {
        self.core.limits
    }

    /// Places for those who follow the journal.
    pub(crate) fn followers(&self) -> Arc<Semaphore> {
        Arc::clone(&self.core.followers)
    }

    pub(crate) fn readiness(&self) -> Readiness {
        readiness(&self.core.vitals, &self.drain)
    }

    /// The secret that forms carry.
    pub(crate) fn csrf(&self) -> &str {
        self.core.csrf.text()
    }

    pub(crate) fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Told when the server is to end before the drain is closed.
    pub(crate) fn stop(&self) -> watch::Receiver<bool> {
        self.core.stop.subscribe()
    }

    /// Places for readers of `/live`.
    pub(crate) fn readers(&self) -> Arc<Semaphore> {
        Arc::clone(&self.core.readers)
    }

    /// The sparks, read anew if they are too old. Two callers may read them at the same time; the later one counts.
    pub(crate) fn sparks(&self, read: impl FnOnce() -> Sparks) -> Sparks {
        let now = self.core.vitals.clock().now();
        let lock = || self.core.sparks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, sparks)) = lock().as_ref()
            && now.since(*at) < handlers::SPARKS_FOR
        {
            return sparks.clone();
        }
        let sparks = read();
        *lock() = Some((now, sparks.clone()));
        sparks
    }
}

/// The node's own word, unless a stop has begun. After a hand-over the next process serves: whoever asks the one from
/// before, on a connection from before, is not to look elsewhere.
pub(crate) fn readiness(vitals: &Vitals, drain: &Drain) -> Readiness {
    let stops = drain.phase() >= DrainPhase::Announced && !drain.is_patient();
    if stops { Readiness::no("stopping") } else { vitals.node().ready() }
}

pub(crate) fn probe(readiness: &Readiness) -> Response {
    if readiness.ready {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", readiness.reason)).into_response()
    }
}

async fn alive() -> &'static str {
    "alive\n"
}

async fn ready(State(shared): State<Shared>) -> Response {
    probe(&shared.readiness())
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let (kind, text) = shared.core.vitals.node().metrics(&accept_text(&headers));
    typed(&kind, text)
}

async fn csrf(State(shared): State<Shared>) -> Response {
    Json(json!({ "token": shared.core.csrf.text() })).into_response()
}

/// The body was read when it was checked that the call was meant.
async fn deploy(
    State(shared): State<Shared>,
    caller: axum::Extension<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let vitals = shared.vitals();
    deploys::take(vitals.node(), vitals.deploys(), query.as_deref(), &headers, &body, &caller.0.0).await
}

async fn reload(State(shared): State<Shared>, caller: axum::Extension<Caller>, headers: HeaderMap) -> Response {
    let Ok(turn) = Arc::clone(&shared.core.reload_turn).try_acquire_owned() else {
        return Problem::new(ProblemCode::ReloadBusy, "wait for it to end, then try again").into_response();
    };
    let node = Arc::clone(shared.core.vitals.node());
    // Reading files and resolving names blocks. The turn goes along: a caller who leaves does not end the reload.
    let outcome = tokio::task::spawn_blocking(move || {
        let outcome = node.reload();
        drop(turn);
        outcome
    });
    let outcome = match outcome.await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(%error, "a reload asked for over HTTP did not end");
            let detail = "the reload broke off; the log says where. The configuration from before stays in force";
            return Problem::new(ProblemCode::CallFailed, detail).into_response();
        }
    };
    tracing::info!(caller = caller.0.0, applied = outcome.is_ok(), "reload asked for over HTTP");
    match (outcome, shape(&headers, Shape::Json)) {
        // The page shows what came of it, and a repeated visit does not repeat the reload.
        (_, Shape::Html) => Redirect::to("/").into_response(),
        (Ok(message), Shape::Json) => Json(json!({ "applied": true, "message": message })).into_response(),
        (Ok(message), Shape::Text) => typed("text/plain; charset=utf-8", message + "\n"),
        (Err(findings), _) => {
            let first = findings.first().map(|f| format!(": {}", f.message)).unwrap_or_default();
            let detail = format!("the configuration from before stays in force{first}");
            Problem::new(ProblemCode::ReloadRefused, detail).with("findings", json!(findings)).into_response()
        }
    }
}

pub(crate) async fn not_found(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    Problem::new(ProblemCode::NotFound, format!("{path:?} is not known here"))
}

pub(crate) async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("{} is not possible here; the Allow header says what is", request.method());
    Problem::new(ProblemCode::MethodNotAllowed, detail)
}

/// An answer of this content type; a type that is no header value is left out.
pub(crate) fn typed(kind: &str, text: String) -> Response {
    let mut response = text.into_response();
    match HeaderValue::from_str(kind) {
        Ok(kind) => response.headers_mut().insert(CONTENT_TYPE, kind),
        Err(_) => response.headers_mut().remove(CONTENT_TYPE),
    };
    response
}
