//! One replica of a small sample shop: what a team's own service might be. It answers on a port of 127.0.0.1, takes a
//! realistic time for it (1 to 30 ms, a report 200 to 400 ms), and can be made to fail while it runs: slow, erroneous,
//! frozen, or down.
//!
//! States: up => down (connections end at once, new ones are refused, as when a process is killed) => up again at the
//! same address, which stays reserved in between. A frozen replica still accepts, and answers when it is thawed.
//! Faults are set by [`ShopHandle::set`] or by `POST /faults` on the replica's control address, which answers whatever
//! the replica's state is. Limits: 1,024 connections, bodies of 16 KiB. Nothing that is bought is kept.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kernel::Entropy;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::answers::{self, Answer};

/// Connections to one replica at once; the gateway opens far fewer.
const CONNECTION_LIMIT: usize = 1024;
/// Connections to the control address at once: people and scripts.
const CONTROL_LIMIT: usize = 32;
/// How long a replica waits before it tries again to listen after that failed.
const LISTEN_AGAIN: Duration = Duration::from_millis(200);
/// How long setting faults waits for the listener to close or open.
const SETTLE: Duration = Duration::from_secs(2);
/// The slowest that a replica can be made.
pub const LONGEST_LATENCY_MS: u32 = 60_000;

/// What is wrong with a replica. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Milliseconds that every answer takes longer, 0 to 60,000.
    pub latency_ms: u32,
    /// Share of the shop's answers that are a 500 instead, 0 to 1; `/healthz` stays well.
    pub error_rate: f64,
    /// Connections end and new ones are refused.
    pub down: bool,
    /// Connections are accepted, and nothing is answered.
    pub freeze: bool,
}

/// A running replica; it ends when this is dropped.
#[derive(Debug)]
pub struct Shop {
    handle: ShopHandle,
    _tasks: JoinSet<()>,
}

/// A replica's switches and counters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShopHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    number: usize,
    addr: SocketAddr,
    control: SocketAddr,
    faults: watch::Sender<Faults>,
    listening: watch::Sender<bool>,
    entropy: Mutex<Entropy>,
    served: AtomicU64,
    /// Bound and not listening: keeps the port while the replica is down.
    _port: Socket,
}

impl Faults {
    /// Says what is wrong with the faults themselves, with the remedy.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn validate(&self) -> Result<(), String> {
        if self.latency_ms > LONGEST_LATENCY_MS {
            return Err(format!("latency_ms is {}; it may be at most {LONGEST_LATENCY_MS}", self.latency_ms));
        }
        if !(0.0..=1.0).contains(&self.error_rate) {
            return Err(format!("error_rate is {}; it is a share, from 0 to 1", self.error_rate));
        }
        Ok(())
    }
}

impl Shop {
    /// Starts replica `number` on two free ports of 127.0.0.1. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(number: usize, seed: u64) -> io::Result<Shop> {
        let port = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let addr = port.local_addr()?.as_socket().ok_or_else(|| io::Error::other("a bound socket has no address"))?;
        let listener = listen(addr)?;
        let controlling = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let shared = Arc::new(Shared {
            number,
            addr,
            control: controlling.local_addr()?,
            faults: watch::Sender::new(Faults::default()),
            listening: watch::Sender::new(true),
            entropy: Mutex::new(Entropy::from_seed(seed)),
            served: AtomicU64::new(0),
            _port: port,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(live(Arc::clone(&shared), listener));
        tasks.spawn(control(ShopHandle(Arc::clone(&shared)), controlling));
        Ok(Shop { handle: ShopHandle(shared), _tasks: tasks })
    }

    /// Its switches and counters.
    pub fn handle(&self) -> ShopHandle {
        self.handle.clone()
    }
}

impl ShopHandle {
    /// Which replica it is, from 1.
    pub fn number(&self) -> usize {
        self.0.number
    }

    /// Where the shop answers, also while it is down.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// Where its faults are set.
    pub fn control(&self) -> SocketAddr {
        self.0.control
    }

    /// What is wrong with it now.
    pub fn faults(&self) -> Faults {
        *self.0.faults.borrow()
    }

    /// How many of the shop's requests it has answered, health checks and errors included.
    pub fn served(&self) -> u64 {
        self.0.served.load(Ordering::Relaxed)
    }

    /// Replaces its faults; `Faults::default()` makes it well. Takes effect at once, except that going down and coming
    /// up take a moment (see [`ShopHandle::settled`]).
    ///
    /// # Errors
    /// When a value is out of its range; nothing changes then.
    pub fn set(&self, faults: Faults) -> Result<(), String> {
        faults.validate()?;
        self.0.faults.send_replace(faults);
        Ok(())
    }

    /// Waits until the listener is as the faults say: `false` if it is not within 2 s. Cancel safe.
    pub async fn settled(&self) -> bool {
        let mut listening = self.0.listening.subscribe();
        let as_told = listening.wait_for(|listening| *listening != self.0.faults.borrow().down);
        tokio::time::timeout(SETTLE, as_told).await.is_ok()
    }
}

fn bind(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Allows a second socket to listen on the port that the first one only keeps.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(addr)?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Serves while the replica is up and waits while it is down, for ever.
async fn live(shared: Arc<Shared>, first: TcpListener) {
    let mut faults = shared.faults.subscribe();
    let mut ready = Some(first);
    loop {
        let listener = match ready.take().map_or_else(|| listen(shared.addr), Ok) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(replica = shared.number, addr = %shared.addr, %error, "the sample shop cannot listen");
                tokio::time::sleep(LISTEN_AGAIN).await;
                continue;
            }
        };
        shared.listening.send_replace(true);
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&shared, listener, &mut connections) => {}
            gone = faults.wait_for(|f| f.down) => if gone.is_err() { return },
        }
        connections.shutdown().await;
        shared.listening.send_replace(false);
        if faults.wait_for(|f| !f.down).await.is_err() {
            return;
        }
    }
}

async fn accept(shared: &Arc<Shared>, listener: TcpListener, connections: &mut JoinSet<()>) {
    loop {
        let stream = next_connection(&listener, connections, CONNECTION_LIMIT).await;
        let shared = Arc::clone(shared);
        connections.spawn(async move {
            let serve = service_fn(|request| answer(&shared, request));
            serve_connection(stream, serve).await;
        });
    }
}

/// The next connection, once fewer than `limit` are open.
async fn next_connection(listener: &TcpListener, connections: &mut JoinSet<()>, limit: usize) -> TcpStream {
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < limit => match accepted {
                Ok((stream, _)) => return stream,
                // Out of descriptors, or a client that is gone already: neither is helped by trying at once.
                Err(_) => tokio::time::sleep(LISTEN_AGAIN).await,
            },
        }
    }
}

async fn serve_connection<S>(stream: TcpStream, service: S)
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<Answer>, Error = std::convert::Infallible>,
{
    let _only_latency_suffers = stream.set_nodelay(true).is_err();
    // A client that goes away in the middle is its own affair.
    let _client_gone = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.is_err();
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Answer>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let route = answers::Route::of(&head.method, head.uri.path());
    let body = answers::collect(body).await;
    let faults = *shared.faults.borrow();
    let (pause, fails) = {
        let mut entropy = shared.entropy.lock().unwrap_or_else(PoisonError::into_inner);
        (route.service_time(&mut entropy), route.may_fail() && entropy.unit() < faults.error_rate)
    };
    tokio::time::sleep(pause + Duration::from_millis(u64::from(faults.latency_ms))).await;
    // The sender lives as long as `shared`, so this only ends when the replica is thawed.
    let _thawed = shared.faults.subscribe().wait_for(|f| !f.freeze).await.is_ok();
    shared.served.fetch_add(1, Ordering::Relaxed);
    Ok(if fails { answers::failure(shared.number) } else { answers::answer(shared.number, &route, body) })
}

/// Serves the replica's control address.
async fn control(handle: ShopHandle, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let stream = next_connection(&listener, &mut connections, CONTROL_LIMIT).await;
        let handle = handle.clone();
        connections.spawn(async move {
            let serve = service_fn(|request| answer_control(&handle, request));
            serve_connection(stream, serve).await;
        });
    }
}

async fn answer_control(
    handle: &ShopHandle,
    request: Request<Incoming>,
) -> Result<Response<Answer>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    if !answers::is_from_here(&head.headers) {
        let what = "faults are set from this machine and not by a web page: use curl and the printed address";
        return Ok(answers::problem(403, what));
    }
    let is_read = head.method == hyper::Method::GET;
    if head.uri.path() != "/faults" || !(is_read || head.method == hyper::Method::POST) {
        return Ok(answers::problem(404, "this address has GET /faults and POST /faults"));
    }
    if !is_read {
        let wanted = answers::collect(body).await.and_then(|body| answers::parse::<Faults>(&body));
        if let Err(what) = wanted.and_then(|faults| handle.set(faults)) {
            let example = r#"such as {"latency_ms":200,"error_rate":0.5,"down":true,"freeze":true}; {} makes it well"#;
            return Ok(answers::problem(400, &format!("{what}; send a JSON object {example}")));
        }
        handle.settled().await;
    }
    Ok(answers::json(200, &handle.faults()))
}

#[cfg(test)]
mod tests;
