//! What one request meets, in this order: counted; an error (nothing happened); the capacity and its queue (refused when
//! full: nothing happened); the effect of `POST /orders`; never answered; latency; closed; the answer, which may be reset
//! in the middle.
//!
//! Paths: `/healthz`; `/orders`; `/item`, 1 KiB; `/drip?bytes=&every_ms=`, a byte at a time with a known length;
//! `/events?count=&every_ms=`, a stream of events without one. `ms=` in a query is how long the work takes, which is no fault.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Method, Request, Response};
use kernel::Moment;
use tokio::time::sleep;

use super::State;
use super::body::{ScriptBody, Step};
use super::connection::{Busy, Connection};
use super::counters::Counter;
use super::fault::{Fault, Health};

/// Bytes of `/item`.
pub(crate) const ITEM: usize = 1024;
/// An event of `/events`.
pub(crate) const EVENT: &str = "data: x\n\n";
/// The most pieces of a body.
const PIECES: u64 = 10_000;
/// Between half a body and its reset, so that the half arrives.
const BEFORE_RESET: Duration = Duration::from_millis(2);

/// Answers one request. An error closes the connection.
pub(crate) async fn answer(connection: Arc<Connection>, request: Request<Incoming>) -> Result<Response<ScriptBody>> {
    let busy = Busy::new(&connection);
    let state = Arc::clone(&connection.state);
    let fault = state.fault();
    let is_check = request.uri().path() == "/healthz";
    state.count(if is_check { Counter::Health } else { Counter::Requests });
    match fault.health {
        Health::Ok if is_check => return text(&state, busy, 200, "ok\n"),
        Health::Fail if is_check => return text(&state, busy, 503, "unhealthy\n"),
        _ => {}
    }
    let (head, body) = request.into_parts();
    // A server that works reads what it is sent.
    let body = body.collect().await?.to_bytes();
    if state.chance(fault.error_rate) {
        state.count(Counter::Errors);
        return text(&state, busy, fault.error_status, "fault: error\n");
    }
    let done = match fault.capacity.filter(|_| !is_check).map(|capacity| state.admit(&capacity)) {
        Some(None) => return text(&state, busy, 503, "queue full\n"),
        Some(Some(at)) => at,
        None => Moment::ZERO,
    };
    let asked = Query(head.uri.query().unwrap_or_default());
    if head.method == Method::POST && head.uri.path() == "/orders" {
        let Some(order) = order_of(&head.headers, &body) else { return text(&state, busy, 400, "no order id\n") };
        // By itself: the effect comes also when the client leaves while it waits.
        let worker = Arc::clone(&state);
        tokio::spawn(async move {
            worker.until(done).await;
            worker.effect(order);
        })
        .await?;
        meet(&state, &fault, 0.0).await?;
        return whole(&state, &fault, busy, 201, Bytes::from_static(b"{\"ok\":true}\n"));
    }
    state.until(done).await;
    meet(&state, &fault, asked.number("ms")).await?;
    match head.uri.path() {
        "/drip" => {
            let bytes = (asked.number("bytes") as u64).clamp(1, PIECES);
            let steps = pieces(bytes, "x", asked.number("every_ms"));
            respond(&state, busy, 200, "application/octet-stream", Some(bytes), steps)
        }
        "/events" => {
            let count = (asked.number("count") as u64).clamp(1, PIECES);
            let steps = pieces(count, EVENT, asked.number("every_ms"));
            respond(&state, busy, 200, "text/event-stream", None, steps)
        }
        _ => whole(&state, &fault, busy, 200, state.item.clone()),
    }
}

/// Hangs, waits or fails, as the fault wants it; `work_ms` is the work itself.
async fn meet(state: &State, fault: &Fault, work_ms: f64) -> Result<()> {
    if state.chance(fault.hang_rate) {
        state.count(Counter::Hangs);
        std::future::pending::<()>().await;
    }
    let added = if fault.latency_ms > 0.0 && state.chance(fault.latency_rate) { fault.latency_ms } else { 0.0 };
    if added + work_ms > 0.0 {
        sleep(Duration::from_secs_f64((added + work_ms) / 1e3)).await;
    }
    if state.chance(fault.close_rate) {
        state.count(Counter::Closes);
        return Err(anyhow!("fault: closed before the answer"));
    }
    Ok(())
}

/// A body at once, or half of it and a reset.
fn whole(state: &State, fault: &Fault, busy: Busy, status: u16, body: Bytes) -> Result<Response<ScriptBody>> {
    let length = Some(body.len() as u64);
    let steps = if state.chance(fault.reset_rate) {
        state.count(Counter::Resets);
        VecDeque::from([Step::Data(body.slice(..body.len() / 2)), Step::Pause(BEFORE_RESET), Step::Reset])
    } else {
        VecDeque::from([Step::Data(body)])
    };
    respond(state, busy, status, "application/octet-stream", length, steps)
}

fn text(state: &State, busy: Busy, status: u16, text: &'static str) -> Result<Response<ScriptBody>> {
    let steps = VecDeque::from([Step::Data(Bytes::from_static(text.as_bytes()))]);
    respond(state, busy, status, "text/plain", Some(text.len() as u64), steps)
}

fn pieces(count: u64, piece: &'static str, every_ms: f64) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    for number in 0..count {
        if number > 0 {
            steps.push_back(Step::Pause(Duration::from_secs_f64(every_ms / 1e3)));
        }
        steps.push_back(Step::Data(Bytes::from_static(piece.as_bytes())));
    }
    steps
}

fn respond(
    state: &State,
    busy: Busy,
    status: u16,
    kind: &str,
    length: Option<u64>,
    steps: VecDeque<Step>,
) -> Result<Response<ScriptBody>> {
    if status < 300 && !steps.iter().any(|step| matches!(step, Step::Reset)) {
        state.count(Counter::Answered);
    }
    let mut response = Response::builder().status(status).header("content-type", kind).header("x-upstream", state.id);
    if let Some(length) = length {
        response = response.header("content-length", length);
    }
    Ok(response.body(ScriptBody::new(steps, length, busy))?)
}

/// The order's id: the client's key, or what the body says.
fn order_of(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    key.map(str::to_owned).or_else(|| {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        body.get("order-id")?.as_str().map(str::to_owned)
    })
}

/// The query of a request.
struct Query<'a>(&'a str);

impl Query<'_> {
    /// A number, not negative; 0 if it is not there.
    fn number(&self, name: &str) -> f64 {
        let pair = self.0.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
        pair.and_then(|(_, value)| value.parse::<f64>().ok()).filter(|value| value.is_finite()).unwrap_or(0.0).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_asks_for_is_read_from_its_query() {
        let query = Query("ms=2.5&every_ms=50&bytes=-3&count=x");
        assert_eq!(["ms", "every_ms", "bytes", "count", "other"].map(|n| query.number(n)), [2.5, 50.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn an_order_has_the_clients_key_or_that_of_its_body() {
        let mut headers = HeaderMap::new();
        assert_eq!(order_of(&headers, br#"{"order-id":"b"}"#).as_deref(), Some("b"));
        assert_eq!(order_of(&headers, b"no"), None);
        headers.insert("idempotency-key", "k".parse().unwrap());
        assert_eq!(order_of(&headers, br#"{"order-id":"b"}"#).as_deref(), Some("k"));
    }

    #[test]
    fn pieces_have_pauses_between_them_only() {
        let steps = pieces(3, "x", 50.0);
        let pauses = steps.iter().filter(|step| matches!(step, Step::Pause(time) if time.as_millis() == 50)).count();
        assert_eq!((steps.len(), pauses), (5, 2));
    }
}
