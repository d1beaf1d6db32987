//! A keep-alive HTTP/1.1 server for tests. By default it has a thread for each connection; with
//! [`ServingOptions::workers`] it is a synchronous application server: N workers, each serving one connection until
//! that closes, while others wait in the listener's queue. It can go down and come back at the same address. Requests
//! must be well-formed: one that is not is answered with 400, and [`ServingUpstream::problems`] tells.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::Socket;

use super::reply::{ReceivedRequest, Reply, ReplyBody};
use super::{Open, listen_on, reserve_port, reset_on_close, wake_listener};
use crate::poll::{Deadline, Gate, lock};
use crate::wire::{Framing, Wire, WireError, lists};

/// How long reading the rest of a request or writing an answer may take; a gate may be waited for as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections at once, when there is a thread for each.
const CONNECTION_LIMIT: usize = 4096;
/// Requests and problems that are kept; of more, the oldest are forgotten.
const KEPT: usize = 256;

/// How a server serves.
#[derive(Debug, Clone, Default)]
pub struct ServingOptions {
    /// This many threads, each serving one connection until it closes; `None`: a thread for each connection.
    pub workers: Option<usize>,
    /// A connection without a request for this long is closed without a word; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// `Keep-Alive: timeout=` in seconds is announced in each answer.
    pub announce_idle_timeout: Option<u64>,
    /// A connection is closed, without having been told, after this many requests; `None`: never.
    pub requests_per_connection: Option<usize>,
}

/// A server that is running; it stops when it is dropped.
#[derive(Debug)]
pub struct ServingUpstream {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<Listening>>,
    _port: Socket,
}

type Handler = Arc<dyn Fn(&ReceivedRequest) -> Reply + Send + Sync>;

struct Shared {
    options: ServingOptions,
    handler: Handler,
    accepted: AtomicUsize,
    requests: AtomicUsize,
    by_connection: Mutex<Vec<usize>>,
    received: Mutex<VecDeque<Arc<ReceivedRequest>>>,
    problems: Mutex<VecDeque<String>>,
    peak: AtomicUsize,
}

#[derive(Debug)]
struct Listening {
    listener: Arc<TcpListener>,
    open: Open,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).field("requests", &self.requests).finish()
    }
}

impl ServingUpstream {
    pub(super) fn start(options: ServingOptions, handler: Handler) -> Result<ServingUpstream> {
        let (port, addr) = reserve_port()?;
        let shared = Arc::new(Shared {
            options,
            handler,
            accepted: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            by_connection: Mutex::default(),
            received: Mutex::default(),
            problems: Mutex::default(),
            peak: AtomicUsize::new(0),
        });
        let upstream = ServingUpstream { addr, shared, listening: Mutex::new(None), _port: port };
        upstream.up()?;
        Ok(upstream)
    }

    /// Where it listens, also while it is down.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many requests came, malformed ones not counted.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Acquire)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// How many accepted connections are open.
    pub fn open_connections(&self) -> usize {
        lock(&self.listening).as_ref().map_or(0, |l| l.open.len())
    }

    /// The most connections that were open at once.
    pub fn peak_connections(&self) -> usize {
        self.shared.peak.load(Ordering::Acquire)
    }

    /// How many requests came on each connection, in the order in which they were accepted.
    pub fn requests_by_connection(&self) -> Vec<usize> {
        lock(&self.shared.by_connection).clone()
    }

    /// The last requests (256 at most), oldest first.
    pub fn received(&self) -> Vec<Arc<ReceivedRequest>> {
        lock(&self.shared.received).iter().cloned().collect()
    }

    /// What clients did that RFC 9112 does not allow, and panics of the handler. Tests assert that it is empty.
    pub fn problems(&self) -> Vec<String> {
        lock(&self.shared.problems).iter().cloned().collect()
    }

    /// Goes down as a killed process does: connections end at once, new ones are refused.
    pub fn down(&self) {
        let Some(listening) = lock(&self.listening).take() else { return };
        wake_listener(&listening.listener);
        listening.open.cut();
        for thread in listening.threads {
            let _panicked = thread.join().is_err();
        }
    }

    /// Comes back at the same address; does nothing if it is up.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn up(&self) -> Result<()> {
        let mut listening = lock(&self.listening);
        if listening.is_some() {
            return Ok(());
        }
        let listener = Arc::new(listen_on(self.addr)?);
        let open = Open::default();
        let count = self.shared.options.workers.unwrap_or(1);
        let start = |n: usize| {
            let (shared, listener, open) = (Arc::clone(&self.shared), Arc::clone(&listener), open.clone());
            let thread = std::thread::Builder::new().name(format!("serving-{n}"));
            match self.shared.options.workers {
                Some(_) => thread.spawn(move || work(&shared, &listener, &open)),
                None => thread.spawn(move || accept(&shared, &listener, &open)),
            }
        };
        let threads = (0..count).map(start).collect::<std::io::Result<Vec<_>>>().context("starting a server thread")?;
        *listening = Some(Listening { listener, open, threads });
        Ok(())
    }
}

impl Drop for ServingUpstream {
    fn drop(&mut self) {
        self.down();
    }
}

/// One worker of a synchronous server.
fn work(shared: &Shared, listener: &TcpListener, open: &Open) {
    while let Ok((stream, _)) = listener.accept() {
        if let Some(id) = shared.take_in(&stream, open) {
            shared.serve(stream, id, open);
        }
    }
}

/// The accepting thread of a server with a thread for each connection; it ends after all of them.
fn accept(shared: &Arc<Shared>, listener: &TcpListener, open: &Open) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        threads.retain(|t| !t.is_finished());
        if open.len() >= CONNECTION_LIMIT {
            shared.problem(format!("more than {CONNECTION_LIMIT} connections at once"));
            continue;
        }
        let Some(id) = shared.take_in(&stream, open) else { continue };
        let (theirs, their_open) = (Arc::clone(shared), open.clone());
        let thread = std::thread::Builder::new().name(format!("serving-connection-{id}"));
        match thread.spawn(move || theirs.serve(stream, id, &their_open)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                shared.problem(format!("no thread for connection {id}: {error}"));
                open.remove(id);
            }
        }
    }
    for thread in threads {
        let _panicked = thread.join().is_err();
    }
}

impl Shared {
    fn problem(&self, what: String) {
        let mut problems = lock(&self.problems);
        if problems.len() == KEPT {
            problems.pop_front();
        }
        problems.push_back(what);
    }

    /// Registers a connection; `None` if the server is going down.
    fn take_in(&self, stream: &TcpStream, open: &Open) -> Option<usize> {
        let mut by_connection = lock(&self.by_connection);
        let id = by_connection.len();
        if !open.add(id, stream) {
            return None;
        }
        by_connection.push(0);
        self.accepted.fetch_add(1, Ordering::AcqRel);
        self.peak.fetch_max(open.len(), Ordering::AcqRel);
        Some(id)
    }

    fn serve(&self, stream: TcpStream, id: usize, open: &Open) {
        let _only_latency_suffers = stream.set_nodelay(true).is_err();
        let mut wire = Wire::new(stream);
        let mut nth = 0;
        // A client that goes away between or within requests is no problem of the server's; bad grammar is.
        loop {
            match self.serve_one(&mut wire, id, nth) {
                Ok(true) => nth += 1,
                Ok(false) => break,
                Err(error) => {
                    if let WireError::Malformed(_) = error {
                        self.problem(format!("connection {id}, request {nth}: {error}"));
                        let answer = Reply::status(400, error.to_string()).close().start("GET");
                        let _gone = wire.write(&answer, &Deadline::after(PATIENCE)).is_err();
                    }
                    break;
                }
            }
        }
        drop(wire);
        open.remove(id);
    }

    /// Serves one request; `false` when the connection is to be closed.
    fn serve_one(&self, wire: &mut Wire, id: usize, nth: usize) -> Result<bool, WireError> {
        let idle = self.options.idle_timeout.map_or_else(Deadline::never, Deadline::after);
        if wire.pending().is_empty() && !wire.fill(&idle, "waiting for a request")? {
            return Ok(false);
        }
        let deadline = Deadline::after(PATIENCE);
        let head = wire.read_head(&deadline)?;
        let ([method, target, version], framing) = head.as_request()?;
        let announced = framing != Framing::None && lists(&head.lines, "expect", "100-continue");
        if announced {
            wire.write(b"HTTP/1.1 100 Continue\r\n\r\n", &deadline).map_err(|(_, error)| error)?;
        }
        let body = wire.read_body(framing, &deadline)?;
        let lines = head.lines;
        let wants_close = version == "HTTP/1.0" || lists(&lines, "connection", "close");
        let (body, trailers) = (body.bytes, body.trailers);
        let request =
            Arc::new(ReceivedRequest { method, target, version, lines, framing, body, trailers, connection: id, nth });
        self.requests.fetch_add(1, Ordering::AcqRel);
        lock(&self.by_connection)[id] += 1;
        let mut received = lock(&self.received);
        if received.len() == KEPT {
            received.pop_front();
        }
        received.push_back(Arc::clone(&request));
        drop(received);
        let handled = std::panic::catch_unwind(AssertUnwindSafe(|| (self.handler)(&request)));
        let Ok(mut reply) = handled else {
            self.problem(format!("the handler panicked at {} {}", request.method, request.target));
            return Ok(false);
        };
        if let Some(seconds) = self.options.announce_idle_timeout {
            reply = reply.header("Keep-Alive", &format!("timeout={seconds}"));
        }
        answer(wire, &reply, &request.method)?;
        let worn = self.options.requests_per_connection.is_some_and(|most| nth + 1 >= most);
        Ok(!(reply.close || wants_close || worn))
    }
}

fn answer(wire: &mut Wire, reply: &Reply, method: &str) -> Result<(), WireError> {
    if !reply.delay.is_zero() {
        std::thread::sleep(reply.delay);
    }
    if let Some(gate) = &reply.gate {
        // A gate that the test never opens must not keep the answer for ever; the test's own deadline is shorter.
        let _opened = Gate::wait(gate, PATIENCE);
    }
    if matches!(reply.body, ReplyBody::Nothing { reset: true }) {
        let _then_it_just_closes = reset_on_close(wire.stream()).is_err();
    }
    let deadline = Deadline::after(PATIENCE);
    let write = |wire: &mut Wire, bytes: &[u8]| wire.write(bytes, &deadline).map_err(|(_, error)| error);
    write(wire, &reply.start(method))?;
    let Some(chunks) = reply.chunks(method) else { return Ok(()) };
    for (i, piece) in chunks.pieces.iter().enumerate() {
        if i > 0 && !chunks.pause.is_zero() {
            std::thread::sleep(chunks.pause);
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend(piece);
        chunk.extend(b"\r\n");
        write(wire, &chunk)?;
    }
    let end: String = chunks.trailers.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect();
    write(wire, format!("0\r\n{end}\r\n").as_bytes())
}
