//! Single requests over HTTP: `GET /v1/why/{id}`, what was done with one, and `GET /v1/traces`, those of which that is
//! known. Both as JSON or as text.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use kernel::journal::{JournalQuery, Order, Record};
use kernel::trace::{RequestTrace, Why};
use serde_json::json;

use crate::accept::{Shape, shape};
use crate::admin::{Shared, typed};
use crate::journal_api::{kept, now_unix_ms};
use crate::lines;
use crate::problem::{Problem, ProblemCode};
use crate::query::Params;
use crate::why_text;

/// Lines of one answer at most, and if nothing is said.
const MOST_TRACES: u64 = 1_000;
const USUAL_TRACES: u64 = 50;

/// Records of the journal that stand beside a request.
const BESIDE: usize = 100;

/// `GET /v1/why/{id}`.
pub(crate) async fn why(
    State(shared): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // An id that is not UTF-8 is the id of no request.
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let why = shared.node().why(&id);
    let now = now_unix_ms(&shared);
    let Why::Found(traces) = &why else {
        let detail = why_text::render(&id, &why, &[], now).trim_end().replace('\n', " ");
        // The variant's name is a member of the document, as in an answer that has found something.
        let how = json!(why)["not_kept"].take();
        return Err(Problem::new(ProblemCode::TraceUnknown, detail).with("not_kept", how));
    };
    let journal = beside(&shared, traces).await;
    Ok(match shape(&headers, Shape::Json) {
        Shape::Text => typed("text/plain; charset=utf-8", why_text::render(&id, &why, &journal, now)),
        Shape::Html | Shape::Json => Json(json!({ "found": traces, "journal": journal })).into_response(),
    })
}

/// What the journal tells of the minute before, the minute after and what is between, about the node and the services of
/// these requests, oldest first. A journal that cannot be read now is no reason to keep silent about the request.
async fn beside(shared: &Shared, traces: &[RequestTrace]) -> Vec<Record> {
    let begin = traces.iter().map(|t| t.at_unix_us).min().unwrap_or_default() / 1_000;
    let end = traces.iter().map(|t| t.at_unix_us + t.end.took_us).max().unwrap_or_default() / 1_000;
    let (from, until) = (begin.saturating_sub(60_000), end + 60_000);
    let query = JournalQuery {
        since_unix_ms: Some(from),
        until_unix_ms: Some(until),
        limit: kernel::journal::LIMIT_MAX,
        order: Order::OldestFirst,
        ..JournalQuery::default()
    };
    let page = kept(shared, "the journal", move |node| node.journal().read(&query)).await;
    let records = page.map(|page| page.records).unwrap_or_default();
    let is_about = |r: &Record| r.service.is_empty() || traces.iter().any(|t| t.subject() == r.service);
    records.into_iter().filter(is_about).take(BESIDE).collect()
}

/// `GET /v1/traces`.
pub(crate) async fn traces(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["service", "limit"])?;
    let most = params.number("limit", 1..=MOST_TRACES)?.unwrap_or(USUAL_TRACES) as usize;
    let service = params.text("service")?;
    let node = Arc::clone(shared.node());
    let traces = node.traces(most, service.as_deref());
    Ok(match shape(&headers, Shape::Json) {
        Shape::Text => typed("text/plain; charset=utf-8", lines::traces(&traces)),
        Shape::Html | Shape::Json => Json(json!({ "traces": traces })).into_response(),
    })
}
