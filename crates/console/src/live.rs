//! `GET /live?of=PATH`: the parts of a page that changed, as server-sent events, each [`EVERY`]. The first event has all
//! parts, so that a page that was kept by a browser is put right at once. An event's data is a JSON object from the id of
//! a part to its HTML, as the page itself has it.
//!
//! Limits: [`READERS_MAX`] readers at a time; a further one gets 204, which tells a browser not to try again. A reader
//! who does not keep up gets fewer events, and never an old one after a new one. The stream ends when the server does,
//! or its connection has lived for long enough; a browser then comes back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use hyper::body::Frame;
use kernel::DrainPhase;
use kernel::journal::unix_ms;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::MissedTickBehavior;

use crate::admin::Shared;
use crate::handlers::{Wanted, look};
use crate::problem::{Problem, ProblemCode};
use crate::query::Params;

/// Time between events.
const EVERY: Duration = Duration::from_secs(2);

/// Readers at a time: rendering for them takes a small part of a core.
pub(crate) const READERS_MAX: usize = 32;

/// Events that wait for a reader: one, and its successor waits to be made.
const WAITING: usize = 1;

/// How long a browser waits before it comes back, in milliseconds.
const RETRY: &str = "retry: 3000\n\n";

/// A body that is what a channel gives.
struct Events(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// `GET /live`.
pub(crate) async fn live(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["of"])?;
    let of = params.text("of")?.unwrap_or_else(|| "/".to_owned());
    // What cannot be shown is refused now, while there is a status to refuse it with.
    wanted(&shared, &of)?;
    let Ok(place) = shared.readers().try_acquire_owned() else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let (send, events) = mpsc::channel(WAITING);
    tokio::spawn(run(shared, of, send, place));
    let mut response = Response::new(Body::new(Events(events)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

fn wanted(shared: &Shared, of: &str) -> Result<Wanted, Problem> {
    let now_unix_ms = unix_ms(shared.vitals().clock().wall());
    let nothing = || Problem::new(ProblemCode::NotFound, "`of` is the path of a page that changes, such as /");
    Wanted::at(of, now_unix_ms)?.ok_or_else(nothing)
}

/// Sends events until the reader leaves or the server ends. Holds its place until then.
async fn run(shared: Shared, of: String, send: mpsc::Sender<Bytes>, place: OwnedSemaphorePermit) {
    let (mut drain, mut stop) = (shared.drain(), shared.stop());
    let mut handed_over = shared.drain();
    let mut sent: HashMap<&'static str, String> = HashMap::new();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut start = RETRY;
    loop {
        let slot = tokio::select! {
            () = drain.reached(DrainPhase::Closed) => break,
            _ = stop.wait_for(|told| *told) => break,
            // The next process knows what happens now.
            () = handed_over.handed_over() => break,
            slot = async { tick.tick().await; send.reserve().await } => slot,
        };
        let Ok(slot) = slot else { break };
        // A service may be gone by now; the page says so when it is loaded again.
        let Ok(found) = look_at(&shared, &of).await else { break };
        let page = found.page("");
        let mut changed = serde_json::Map::new();
        for (id, html) in page.live_parts() {
            if sent.get(id).is_none_or(|before| before != html) {
                sent.insert(id, html.to_owned());
                changed.insert(id.to_owned(), html.into());
            }
        }
        // A comment keeps what stands between from thinking that nobody is there.
        let event = match changed.is_empty() {
            true => format!("{start}: nothing changed\n\n"),
            false => format!("{start}data: {}\n\n", serde_json::Value::Object(changed)),
        };
        start = "";
        slot.send(Bytes::from(event));
    }
    drop(place);
}

async fn look_at(shared: &Shared, of: &str) -> Result<crate::handlers::Found, Problem> {
    look(shared, wanted(shared, of)?).await
}
