//! Pools as JSON: `GET /v1/pools`, `/v1/pools/{pool}`, and of one pool its `statements`, `clients` and `servers`. The node is
//! asked on a blocking thread.
//!
//! `?limit=N` bounds what is listed (default [`LISTED`], at most [`LISTED_MAX`]); `more` says whether there is more.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;

use crate::admin::Shared;
use crate::pool_status::PoolStatus;
use crate::problem::{Problem, ProblemCode};
use crate::query::Params;
use crate::status::Status;
use crate::view::{ActionError, Node};

/// Rows that are listed unless told otherwise.
const LISTED: usize = 200;

/// Rows that are listed at most.
const LISTED_MAX: usize = 10_000;

/// `GET /v1/pools`.
pub(crate) async fn pools(State(shared): State<Shared>) -> Result<Response, Problem> {
    let status = status(&shared).await?;
    Ok(Json(json!({ "window_seconds": status.window_seconds, "pools": status.pools })).into_response())
}

/// `GET /v1/pools/{pool}`.
pub(crate) async fn pool(State(shared): State<Shared>, name: Name) -> Result<Response, Problem> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    Ok(Json(find(status(&shared).await?, &name)?).into_response())
}

/// A pool's name in a path; one that is not UTF-8 is the name of no pool.
type Name = Result<Path<String>, PathRejection>;

/// `GET /v1/pools/{pool}/statements`.
pub(crate) async fn statements(
    State(shared): State<Shared>,
    name: Name,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (pool, limit) = asked(&shared, name, query.as_deref()).await?;
    let all = blocking(&shared, move |node| node.pool_statements(&pool.name)).await?;
    Ok(rows("statements", all, limit))
}

/// `GET /v1/pools/{pool}/clients`.
pub(crate) async fn clients(
    State(shared): State<Shared>,
    name: Name,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (pool, limit) = asked(&shared, name, query.as_deref()).await?;
    let all = blocking(&shared, move |node| node.pool_clients(&pool.name)).await?;
    Ok(rows("clients", all, limit))
}

/// `GET /v1/pools/{pool}/servers`: what they are, and the connections to them.
pub(crate) async fn servers(
    State(shared): State<Shared>,
    name: Name,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (pool, limit) = asked(&shared, name, query.as_deref()).await?;
    let name = pool.name.clone();
    let mut all = blocking(&shared, move |node| node.pool_connections(&name)).await?;
    let more = all.len() > limit;
    all.truncate(limit);
    Ok(Json(json!({ "servers": pool.servers, "connections": all, "more": more })).into_response())
}

/// The pool that is asked about, and how many rows are wanted.
async fn asked(shared: &Shared, name: Name, query: Option<&str>) -> Result<(PoolStatus, usize), Problem> {
    let params = Params::read(query, &["limit"])?;
    let limit = params.number("limit", 1..=LISTED_MAX as u64)?.map_or(LISTED, |n| n as usize);
    let name = name.map(|Path(name)| name).unwrap_or_default();
    Ok((find(status(shared).await?, &name)?, limit))
}

fn rows<T: Serialize>(name: &str, mut all: Vec<T>, limit: usize) -> Response {
    let more = all.len() > limit;
    all.truncate(limit);
    Json(json!({ name: all, "more": more })).into_response()
}

/// The pool of this name.
pub(crate) fn find(status: Status, name: &str) -> Result<PoolStatus, Problem> {
    let known = status.pools.iter().map(|pool| pool.name.clone()).collect();
    let found = status.pools.into_iter().find(|pool| pool.name == name);
    found.ok_or_else(|| ActionError::UnknownPool { name: name.to_owned(), known }.into())
}

async fn status(shared: &Shared) -> Result<Status, Problem> {
    let shared = shared.clone();
    ended(tokio::task::spawn_blocking(move || shared.vitals().status(shared.readiness())).await)
}

async fn blocking<T: Send + 'static>(
    shared: &Shared,
    ask: impl FnOnce(&dyn Node) -> T + Send + 'static,
) -> Result<T, Problem> {
    let node = Arc::clone(shared.node());
    ended(tokio::task::spawn_blocking(move || ask(node.as_ref())).await)
}

fn ended<T>(outcome: Result<T, tokio::task::JoinError>) -> Result<T, Problem> {
    outcome.map_err(|error| {
        tracing::error!(%error, "a pool could not be looked at");
        Problem::new(ProblemCode::CallFailed, "looking at the pools broke off; the log says where")
    })
}
