//! Our requests beside those that hyper's server reads from the same bytes, over an in-memory connection: what we accept
//! it accepts, with the same method, target, fields, body and trailers, and the next request begins at the same byte. We may
//! only be stricter.
//!
//! Differences that are known and right are in [`KNOWN`]; what is stricter on our side needs no entry.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::generate::{near, run};
use super::messages::REQUESTS;
use super::support::{LIMITS, decode};
use super::{framing, request_fields, request_line};
use crate::h1::{Framing, RequestHead, RequestParser, Target};

/// A difference that is right: hyper refuses (and closes the connection) what we accept.
struct Known {
    what: &'static str,
    why: &'static str,
    applies: fn(&RequestHead, &[u8]) -> bool,
}

const KNOWN: &[Known] = &[Known {
    what: "a grave accent in the path",
    why: "hyper's type for URIs does not hold it. It is one character to everybody, so nothing can be read in two ways; \
          services that accept it get it as before, as with the other characters that clients ought to encode",
    applies: |head, buf| {
        head.path_and_query.of(buf).split(|b| *b == b'?').next().is_some_and(|path| path.contains(&b'`'))
    },
}];

/// A request as one of the two read it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    host: Option<String>,
    path: String,
    http11: bool,
    /// Names in lower case, sorted; values of one name in their order.
    lines: Vec<(String, Vec<u8>)>,
    body: Body,
}

#[derive(Debug, PartialEq, Eq)]
enum Body {
    /// Data and trailers, sorted.
    Whole(Vec<u8>, Vec<(String, Vec<u8>)>),
    /// It ends before it is complete.
    Short,
    /// Its framing is broken.
    Broken,
}

/// What hyper reads from `wire`.
async fn theirs(wire: &[u8]) -> Vec<Seen> {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let seen = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| {
        let seen = &seen;
        async move {
            let (head, body) = request.into_parts();
            // Pushed first, because a body that breaks off may end the service with it.
            let place = seen.borrow().len();
            seen.borrow_mut().push(Seen {
                method: head.method.to_string(),
                host: head.uri.authority().map(|a| a.as_str().to_ascii_lowercase()),
                path: path_of(&head.uri),
                http11: head.version == hyper::Version::HTTP_11,
                lines: sorted(&head.headers),
                body: Body::Short,
            });
            seen.borrow_mut()[place].body = match body.collect().await {
                Ok(whole) => {
                    let trailers = whole.trailers().map(sorted).unwrap_or_default();
                    Body::Whole(whole.to_bytes().to_vec(), trailers)
                }
                Err(error) if error.is_incomplete_message() => Body::Short,
                Err(_) => Body::Broken,
            };
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let (mut from_server, mut to_server) = tokio::io::split(client);
    let send = async {
        let _sent = to_server.write_all(wire).await;
        let _shut = to_server.shutdown().await;
    };
    let receive = async {
        let mut answers = Vec::new();
        let _read = from_server.read_to_end(&mut answers).await;
    };
    let connection = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(server), service);
    let _ended = tokio::join!(connection, send, receive);
    seen.into_inner()
}

/// Path and query, with the slash that an absolute target may leave out.
fn path_of(uri: &hyper::Uri) -> String {
    match uri.path_and_query().map(|p| p.as_str()) {
        None => String::new(),
        Some(query) if query.starts_with('?') => format!("/{query}"),
        Some(path) => path.to_owned(),
    }
}

fn sorted(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut lines: Vec<_> = headers.iter().map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec())).collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines
}

/// What we read from `wire`; with each request its head's bytes are judged by [`KNOWN`].
fn ours(wire: &[u8]) -> Vec<(Seen, Option<&'static Known>)> {
    let mut seen = Vec::new();
    let mut parser = RequestParser::default();
    let mut at = 0;
    loop {
        parser.reset();
        let buf = &wire[at..];
        if parser.parse(buf, &LIMITS) != Ok(true) {
            return seen;
        }
        let head = parser.head();
        let (body, length) = body(head.framing, &buf[head.length..]);
        let mut lines: Vec<_> =
            head.lines.iter().map(|l| (text(l.name.of(buf)).to_ascii_lowercase(), l.value.of(buf).to_vec())).collect();
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        let (host, path) = match head.form {
            Target::Origin | Target::Asterisk => (None, text(head.path_and_query.of(buf))),
            Target::Authority => (Some(text(head.host.of(buf)).to_ascii_lowercase()), String::new()),
            Target::Absolute => {
                let path = text(head.path_and_query.of(buf));
                let slash = if path.starts_with('/') { "" } else { "/" };
                (Some(text(head.host.of(buf)).to_ascii_lowercase()), format!("{slash}{path}"))
            }
        };
        let whole = matches!(body, Body::Whole(..));
        let known = KNOWN.iter().find(|k| (k.applies)(head, buf));
        seen.push((Seen { method: text(head.method.of(buf)), host, path, http11: head.http11, lines, body }, known));
        // Behind these the bytes are no request of this connection.
        if !whole || !head.keep_alive || head.form == Target::Authority || head.upgrade {
            return seen;
        }
        at += head.length + length;
    }
}

/// The body at the start of `buf`, and its length.
fn body(framing: Framing, buf: &[u8]) -> (Body, usize) {
    match framing {
        Framing::None => (Body::Whole(Vec::new(), Vec::new()), 0),
        Framing::Length(n) => match usize::try_from(n).ok().and_then(|n| buf.get(..n)) {
            Some(data) => (Body::Whole(data.to_vec(), Vec::new()), data.len()),
            None => (Body::Short, 0),
        },
        Framing::Chunked => match decode(&[buf]) {
            Err(_) => (Body::Broken, 0),
            Ok(decoded) => match decoded.end {
                None => (Body::Short, 0),
                Some(end) => (Body::Whole(decoded.data, trailers(&decoded.trailers)), end),
            },
        },
    }
}

fn trailers(block: &[u8]) -> Vec<(String, Vec<u8>)> {
    let lines = block.split_inclusive(|b| *b == b'\n').filter_map(|l| l.strip_suffix(b"\r\n"));
    let mut lines: Vec<_> = lines
        .filter_map(|l| l.split_at_checked(l.iter().position(|b| *b == b':')?))
        .map(|(name, value)| (text(name).to_ascii_lowercase(), value[1..].trim_ascii().to_vec()))
        .collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Compares the two; gives how many requests both read.
fn compare(runtime: &tokio::runtime::Runtime, wire: &[u8]) -> Result<usize, String> {
    let ours = ours(wire);
    if ours.is_empty() {
        return Ok(0);
    }
    let theirs = runtime.block_on(theirs(wire));
    for (i, (our, known)) in ours.iter().enumerate() {
        let Some(their) = theirs.get(i) else {
            return match known {
                Some(_) => Ok(i),
                None => Err(format!("request {i} is ours alone: {our:?}")),
            };
        };
        let head = |s: &Seen| (s.method.clone(), s.host.clone(), s.path.clone(), s.http11, s.lines.clone());
        if head(our) != head(their) {
            return Err(format!("request {i}: we read\n{our:?}\nhyper reads\n{their:?}"));
        }
        let agreed = match (&our.body, &their.body) {
            (Body::Whole(data, trailers), Body::Whole(their_data, their_trailers)) => {
                // We drop some trailers, and hyper gives all that it has.
                data == their_data && trailers.iter().all(|t| their_trailers.contains(t))
            }
            (Body::Whole(..), _) => false,
            // What we wait for it must not take for complete; what we refuse it may read as it likes.
            (Body::Short, Body::Whole(..)) => false,
            (Body::Short | Body::Broken, _) => true,
        };
        if !agreed {
            return Err(format!("the body of request {i}: we read\n{our:?}\nhyper reads\n{their:?}"));
        }
    }
    Ok(ours.len())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[test]
fn the_tables() {
    let runtime = runtime();
    let requests = [request_line::TABLE, request_fields::TABLE, framing::TABLE].concat();
    let wrong: Vec<_> = requests
        .iter()
        .filter_map(|(name, wire, _)| {
            compare(&runtime, wire).err().map(|e| format!("{name}: {}\n{e}\n", wire.escape_ascii()))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn spoiled_requests() {
    let runtime = runtime();
    let (seen, agreed) = (Cell::new(0usize), Cell::new(0usize));
    run(6000, &near(REQUESTS), |wire| {
        let both =
            compare(&runtime, &wire).map_err(|e| TestCaseError::fail(format!("{e}\n{}", wire.escape_ascii())))?;
        seen.set(seen.get() + 1);
        agreed.set(agreed.get() + usize::from(both > 0));
        Ok(())
    });
    assert!(agreed.get() > seen.get() / 5, "only {} of {} were read by both", agreed.get(), seen.get());
}

/// The table of differences says of each what it is and why.
#[test]
fn known_differences_are_explained() {
    for known in KNOWN {
        assert!(!known.what.is_empty() && !known.why.is_empty());
    }
}
