//! The second port of an upstream: `GET /ready`, `POST /fault`, `GET /effects`, and `POST /reset`, with which counters and
//! effects begin anew. It is never refused or slow. Counters are read from their file.

use std::sync::Arc;

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::State;
use super::fault::Fault;

/// Serves for ever.
pub(crate) async fn serve(state: Arc<State>, listener: TcpListener) {
    loop {
        // A connection that failed is tried again by the runner, which says so if it cannot go on.
        let Ok((socket, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let http = hyper::server::conn::http1::Builder::new();
            http.serve_connection(TokioIo::new(socket), service).await.ok();
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (status, text) = match (head.method.as_str(), head.uri.path()) {
        ("GET", "/ready") => (200, format!("{{\"id\":{}}}\n", state.id)),
        ("POST", "/fault") => match serde_json::from_slice::<Fault>(&body) {
            Ok(fault) => {
                state.set_fault(fault);
                (200, "ok\n".to_owned())
            }
            Err(error) => (400, format!("{error}\n")),
        },
        ("GET", "/effects") => (200, serde_json::to_string(&state.effects())?),
        ("POST", "/reset") => {
            state.clear()?;
            (200, "ok\n".to_owned())
        }
        _ => (404, "there is no such thing\n".to_owned()),
    };
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(text)))?)
}
