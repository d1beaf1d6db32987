//! The pages over HTTP: what an address asks for, looked up on a blocking thread, and answered in the caller's shape. The
//! same way leads to the parts that `/live` sends anew.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, StatusCode};
use kernel::journal::{JournalQuery, unix_ms};

use crate::accept::{Shape, shape};
use crate::admin::{Shared, typed};
use crate::facts::home::Home;
use crate::facts::log::{Log, TraceList, WhyFacts};
use crate::facts::pool::PoolFacts;
use crate::facts::range::Range;
use crate::facts::spark::Sparks;
use crate::facts::subject::{RouteFacts, ServiceFacts};
use crate::pages::journal::Asked;
use crate::pages::{self, Page, parts};
use crate::plain;
use crate::problem::{Problem, ProblemCode};
use crate::query::{self, Params};
use crate::status::Status;
use crate::view::ActionError;
use crate::{pool_api, why_text, words};

/// Sparks are read anew after this long: their points are half a minute wide.
pub(crate) const SPARKS_FOR: Duration = Duration::from_secs(5);

/// The longest id of a request that is looked up.
const ID_MAX: usize = 200;

type Name = Result<Path<String>, PathRejection>;

/// What an address asks for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Home,
    Service(String, Range),
    Route(String, Range),
    Pool(String, Range),
    Journal(Box<JournalQuery>, Asked),
    Traces(Option<String>),
    Why(String),
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    Home(Box<Home>),
    Service(Box<(Status, ServiceFacts)>),
    Route(Box<(Status, RouteFacts)>),
    Pool(Box<(Status, PoolFacts)>),
    Journal(Box<(Status, JournalQuery, Asked, Log)>),
    Traces(Box<(Status, Option<String>, TraceList)>),
    Why(Box<(Status, WhyFacts)>),
}

/// `GET /`.
pub(crate) async fn home(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    answer(&shared, Wanted::Home, &headers).await
}

/// `GET /services/{service}`.
pub(crate) async fn service(
    State(shared): State<Shared>,
    name: Name,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // A name that is not UTF-8 is the name of no service.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let range = Range::read(query.as_deref(), now_ms(&shared))?;
    answer(&shared, Wanted::Service(name, range), &headers).await
}

/// `GET /routes/{route}`.
pub(crate) async fn route(
    State(shared): State<Shared>,
    name: Name,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let range = Range::read(query.as_deref(), now_ms(&shared))?;
    answer(&shared, Wanted::Route(name, range), &headers).await
}

/// `GET /pools/{pool}`.
pub(crate) async fn pool(
    State(shared): State<Shared>,
    name: Name,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let range = Range::read(query.as_deref(), now_ms(&shared))?;
    answer(&shared, Wanted::Pool(name, range), &headers).await
}

/// `GET /journal`.
pub(crate) async fn journal(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&shared, Wanted::journal(query.as_deref(), now_ms(&shared))?, &headers).await
}

/// `GET /why`, and what its form sends.
pub(crate) async fn traces(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["id", "service"])?;
    match params.one("id")?.map(str::trim).filter(|id| !id.is_empty()) {
        Some(id) => Ok(Redirect::to(&parts::page_of_request(id)).into_response()),
        None => answer(&shared, Wanted::Traces(params.text("service")?), &headers).await,
    }
}

/// `GET /why/{id}`.
pub(crate) async fn why(State(shared): State<Shared>, id: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    answer(&shared, Wanted::Why(id), &headers).await
}

/// `GET /v1/status`.
pub(crate) async fn status(State(shared): State<Shared>) -> Result<Response, Problem> {
    match look(&shared, Wanted::Home).await? {
        Found::Home(home) => Ok(Json(Home { sparks: None, ..*home }).into_response()),
        _ => Err(Problem::new(ProblemCode::CallFailed, "the node was asked for and something else was found")),
    }
}

async fn answer(shared: &Shared, wanted: Wanted, headers: &HeaderMap) -> Result<Response, Problem> {
    let found = look(shared, wanted).await?;
    let status = found.status();
    let shaped = match shape(headers, Shape::Text) {
        Shape::Html => typed("text/html; charset=utf-8", found.page(shared.csrf()).render()),
        Shape::Json => found.json(),
        Shape::Text => typed("text/plain; charset=utf-8", found.text()),
    };
    Ok((status, shaped).into_response())
}

fn now_ms(shared: &Shared) -> u64 {
    unix_ms(shared.vitals().clock().wall())
}

/// Looks it up, off the threads that answer requests: it may wait for a disk.
pub(crate) async fn look(shared: &Shared, wanted: Wanted) -> Result<Found, Problem> {
    let shared = shared.clone();
    match tokio::task::spawn_blocking(move || wanted.look(&shared)).await {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            let detail = "looking at the node broke off; the log says where. GET /metrics works without it";
            Err(Problem::new(ProblemCode::CallFailed, detail))
        }
    }
}

impl Wanted {
    fn journal(query: Option<&str>, now_unix_ms: u64) -> Result<Wanted, Problem> {
        let wanted = query::journal(query, now_unix_ms)?;
        let written = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
            pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        let asked = Asked { since: written("since"), until: written("until"), limit: written("limit").parse().ok() };
        Ok(Wanted::Journal(Box::new(wanted), asked))
    }

    /// What the page at this path (with its query) shows; `None` if there is none.
    pub(crate) fn at(address: &str, now_unix_ms: u64) -> Result<Option<Wanted>, Problem> {
        let (path, query) = match address.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (address, None),
        };
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        Ok(Some(match segments.as_slice() {
            [""] => Wanted::Home,
            ["services", name] => Wanted::Service(words::percent_decoded(name), Range::read(query, now_unix_ms)?),
            ["routes", name] => Wanted::Route(words::percent_decoded(name), Range::read(query, now_unix_ms)?),
            ["pools", name] => Wanted::Pool(words::percent_decoded(name), Range::read(query, now_unix_ms)?),
            ["journal"] => Wanted::journal(query, now_unix_ms)?,
            ["why"] => Wanted::Traces(Params::read(query, &["service"])?.text("service")?),
            _ => return Ok(None),
        }))
    }

    /// Blocks.
    pub(crate) fn look(self, shared: &Shared) -> Result<Found, Problem> {
        let status = shared.vitals().status(shared.readiness());
        let (node, clock) = (Arc::clone(shared.node()), shared.vitals().clock().clone());
        let node = node.as_ref();
        Ok(match self {
            Wanted::Home => {
                let sparks = shared.sparks(|| Sparks::look(node, &clock, &status));
                Found::Home(Box::new(Home::look(node, &clock, status, Some(sparks))))
            }
            Wanted::Service(name, range) => {
                let Some(service) = status.services.iter().find(|s| s.traffic.name == name).cloned() else {
                    let known = status.services.iter().map(|s| s.traffic.name.clone()).collect();
                    return Err(ActionError::UnknownService { name, known }.into());
                };
                let facts = ServiceFacts::look(node, &clock, service, range);
                Found::Service(Box::new((status, facts)))
            }
            Wanted::Route(name, range) => {
                let Some(route) = status.routes.iter().find(|r| r.name == name).cloned() else {
                    let detail = format!("there is no route {:?}; GET / lists them", words::tame(&name));
                    return Err(Problem::new(ProblemCode::NotFound, detail));
                };
                let facts = RouteFacts::look(node, &clock, route, range);
                Found::Route(Box::new((status, facts)))
            }
            Wanted::Pool(name, range) => {
                let pool = pool_api::find(status.clone(), &name)?;
                let facts = PoolFacts::look(node, &clock, pool, range);
                Found::Pool(Box::new((status, facts)))
            }
            Wanted::Journal(query, asked) => {
                let log = Log::look(node, &clock, &query);
                Found::Journal(Box::new((status, *query, asked, log)))
            }
            Wanted::Traces(service) => {
                let list = TraceList::look(node, &clock, service.as_deref());
                Found::Traces(Box::new((status, service, list)))
            }
            Wanted::Why(id) => {
                let id = id.chars().take(ID_MAX).collect();
                Found::Why(Box::new((status, WhyFacts::look(node, &clock, id))))
            }
        })
    }
}

impl Found {
    /// A request of which nothing is known is not there; the answer says why.
    fn status(&self) -> StatusCode {
        match self {
            Found::Why(found) if !found.1.is_found() => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        }
    }

    /// As a page.
    pub(crate) fn page(&self, csrf: &str) -> Page {
        match self {
            Found::Home(home) => pages::home::page(home, csrf),
            Found::Service(found) => pages::service::service(&found.0, &found.1, csrf),
            Found::Route(found) => pages::service::route(&found.0, &found.1),
            Found::Pool(found) => pages::pool::page(&found.0, &found.1, csrf),
            Found::Journal(found) => pages::journal::page(&found.0, &found.1, &found.2, &found.3),
            Found::Traces(found) => pages::why::list(&found.0, found.1.as_deref(), &found.2),
            Found::Why(found) => pages::why::one(&found.0, &found.1),
        }
    }

    fn json(&self) -> Response {
        match self {
            Found::Home(home) => Json(home).into_response(),
            Found::Service(found) => Json(&found.1).into_response(),
            Found::Route(found) => Json(&found.1).into_response(),
            Found::Pool(found) => Json(&found.1).into_response(),
            Found::Journal(found) => Json(&found.3).into_response(),
            Found::Traces(found) => Json(&found.2).into_response(),
            Found::Why(found) => Json(&found.1).into_response(),
        }
    }

    fn text(&self) -> String {
        match self {
            Found::Home(home) => plain::home(home),
            Found::Service(found) => plain::service(&found.1),
            Found::Route(found) => plain::route(&found.1),
            Found::Pool(found) => plain::pool(&found.1),
            Found::Journal(found) => plain::journal(&found.3.records, found.3.at_unix_ms),
            Found::Traces(found) => plain::traces(&found.2.traces, found.2.at_unix_ms),
            Found::Why(found) => {
                let facts = &found.1;
                why_text::render(&facts.id, &facts.why, &facts.records.records, facts.at_unix_ms)
            }
        }
    }
}
