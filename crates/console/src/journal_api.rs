//! The journal over HTTP: `GET /v1/journal`, a page of it as JSON or as aligned lines. What can be asked for stands in
//! [`crate::query`]; how it is followed in [`crate::follow`].

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use kernel::journal::unix_ms;

use crate::accept::{Shape, shape};
use crate::admin::{Shared, typed};
use crate::lines;
use crate::problem::{Problem, ProblemCode};
use crate::query;
use crate::view::Node;

/// `GET /v1/journal`.
pub(crate) async fn read(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = query::journal(query.as_deref(), now_unix_ms(&shared))?;
    let page = kept(&shared, "the journal", move |node| node.journal().read(&wanted)).await?;
    Ok(match shape(&headers, Shape::Json) {
        Shape::Text => typed("text/plain; charset=utf-8", lines::records(&page.records)),
        Shape::Html | Shape::Json => Json(page).into_response(),
    })
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_unix_ms(shared: &Shared) -> u64 {
    unix_ms(shared.vitals().clock().wall())
}

/// Reads what is kept, off the threads that answer requests: it may wait for a disk.
pub(crate) async fn kept<T: Send + 'static>(
    shared: &Shared,
    what: &'static str,
    read: impl FnOnce(&dyn Node) -> io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let node = Arc::clone(shared.node());
    match tokio::task::spawn_blocking(move || read(node.as_ref())).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            let detail =
                format!("{what} cannot be read now: {error}; GET / says how the store is, and it is tried again");
            Err(Problem::new(ProblemCode::StoreUnreadable, crate::words::tame(&detail)))
        }
        Err(error) => {
            tracing::error!(%error, what, "reading what is kept did not end");
            Err(Problem::new(ProblemCode::CallFailed, format!("reading {what} broke off; the log says where")))
        }
    }
}
