//! Accepting and serving, the same for both servers: HTTP/1.1 by hyper with a limit on everything that a client could
//! hold on to. A connection counts against a cap from accept to close; its head must arrive in time (which also bounds
//! idle keep-alive); it may live so long and is then asked to end, and is cut if it does not.
//!
//! Stopping: the server answers through the whole drain, because that is when an operator looks. At
//! [`DrainPhase::Closed`], or when told, it stops accepting, lets requests in flight finish within a grace, and returns.
//! When another process has taken the sockets over, it takes what is in the queue and accepts no more; each connection is
//! answered once more, with `Connection: close`, or ends when its head does not come in time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kernel::{Drain, DrainPhase};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// What one client, or all together, may take of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// From the wish for a request (a new connection, or the end of the last answer) to the end of its head.
    pub head: Duration,
    /// From a request's head to its answer.
    pub request: Duration,
    /// A connection is asked to end after this long.
    pub lifetime: Duration,
    /// How long a connection that was asked to end may still take.
    pub grace: Duration,
}

/// Header lines of a request: browsers send about twenty.
const MAX_HEADERS: usize = 64;

/// Bytes of a request's head, and of hyper's buffers.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// After a failed accept (out of descriptors, say) the server waits this long, lest it spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Default for Limits {
    /// 256 connections, 10 s for a head, 30 s for an answer, 5 minutes for a connection, 3 s of grace.
    fn default() -> Limits {
        Limits {
            connections: 256,
            head: Duration::from_secs(10),
            request: Duration::from_secs(30),
            lifetime: Duration::from_secs(300),
            grace: Duration::from_secs(3),
        }
    }
}

/// Serves `router` on `listener` until the drain is closed or `stop` turns true.
pub(crate) async fn run(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut drain: Drain,
    mut stop: watch::Receiver<bool>,
) {
    let router = router.layer(axum::middleware::map_response_with_state(drain.clone(), say_the_end));
    let mut handed_over = drain.clone();
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (closing, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            // The semaphore is never closed, so a slot always comes in the end.
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((slot, listener.accept().await))
        };
        let accepted = tokio::select! {
            () = drain.reached(DrainPhase::Closed) => break,
            () = handed_over.handed_over() => break,
            _ = stop.wait_for(|told| *told) => break,
            next = next => next,
        };
        match accepted {
            Some((slot, Ok((stream, _peer)))) => {
                let connection = connection(stream, router.clone(), limits, closing.subscribe(), slot);
                connections.spawn(connection);
            }
            Some((_, Err(error))) => {
                tracing::warn!(%error, "accepting a connection failed; trying again shortly");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None => break,
        }
    }
    if drain.is_handed_over() && drain.phase() < DrainPhase::Closed {
        // The queue may be nobody's after this: the next process need not have kept the address.
        for (stream, slot) in queued(listener, &slots) {
            connections.spawn(connection(stream, router.clone(), limits, closing.subscribe(), slot));
        }
        let all_ended = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            () = all_ended => {}
            () = drain.reached(DrainPhase::Closed) => {}
            _ = stop.wait_for(|told| *told) => {}
        }
    } else {
        drop(listener);
    }
    closing.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// What waits in the queue of a listener, as far as there are slots for it; the listener is closed.
fn queued(listener: TcpListener, slots: &Arc<Semaphore>) -> Vec<(TcpStream, OwnedSemaphorePermit)> {
    let mut found = Vec::new();
    // Asked of the system and not of the runtime, which may not have heard yet of what is in the queue.
    let Ok(listener) = listener.into_std() else { return found };
    while let Ok(slot) = Arc::clone(slots).try_acquire_owned()
        && let Ok((stream, _peer)) = listener.accept()
    {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            found.push((stream, slot));
        }
    }
    found
}

/// After a hand-over each answer is the last of its connection.
async fn say_the_end(State(drain): State<Drain>, mut response: Response) -> Response {
    if drain.is_handed_over() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Serves one connection to its end. Holds its slot until then.
async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut closing: watch::Receiver<bool>,
    slot: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "setting TCP_NODELAY failed; going on without");
    }
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .half_close(false);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let told_to_end = async {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => {}
            () = tokio::time::sleep(limits.lifetime) => {}
        }
    };
    let finished = tokio::select! {
        result = serving.as_mut() => Some(result),
        () = told_to_end => None,
    };
    let result = match finished {
        Some(result) => result,
        None => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.grace, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(slot);
}
