//! Steady traffic through the gateway, as customers of the sample shop make it: open loop, so requests go out on
//! schedule whether or not earlier ones were answered, and a latency counts from the moment its request was due. A
//! seeded mix of routes; keep-alive connections that are used again, newest first.
//!
//! A [`Lap`] has the requests that were due in a stretch of time, whenever their answers came, so that laps add up to the
//! whole.
//!
//! Limits: [`OUTSTANDING_LIMIT`] requests at once (one that would exceed it is not sent and counts as failed),
//! [`IDLE_LIMIT`] idle connections, given up after 30 s and thus before the gateway closes them. Nothing is sent twice: a
//! failure here is a failure that a customer would have seen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use kernel::{Clock, Entropy, Moment};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::answers::{PRODUCT_COUNT, REPLICA_HEADER};
use super::sample::Sample;

/// Requests that may be waiting for their answer: 10 s of the default traffic at a standstill.
pub const OUTSTANDING_LIMIT: usize = 512;
/// Idle connections that are kept.
pub const IDLE_LIMIT: usize = 64;
/// How long an idle connection is kept; the gateway's own limit is 60 s by default.
const IDLE: Duration = Duration::from_secs(30);
/// How long a customer waits: a little more than the gateway does by default (30 s).
const PATIENCE: Duration = Duration::from_secs(35);
/// The fastest traffic that one process should make for a demonstration.
pub const FASTEST: u32 = 5_000;

/// What traffic to make.
#[derive(Debug, Clone)]
pub struct TrafficOptions {
    /// Where to.
    pub target: SocketAddr,
    /// Requests per second, 1 to 5,000.
    pub rate: u32,
    /// Decides the mix.
    pub seed: u64,
    /// How many replicas there are, to count the share of each.
    pub replicas: usize,
    /// What customers want.
    pub mix: Mix,
}

/// What customers want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// 55 % look at a product, 30 % browse, 14.5 % buy, 0.5 % ask for a report (so that it stays out of the p99).
    Shop,
    /// The same without reports.
    Goods,
    /// Reports alone: they take some 300 ms each.
    Reports,
}

/// Traffic that is running; it ends when this is dropped.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    /// Tells the dispatcher to end, and how long it may wait for what is on its way.
    stop: oneshot::Sender<Duration>,
    dispatcher: JoinSet<()>,
}

/// What customers saw so far.
#[derive(Debug, Clone)]
pub struct TrafficReport {
    /// Requests that were answered well: status 200 to 299, whole body.
    pub ok: u64,
    /// Requests that were answered otherwise, or not in time, or not at all.
    pub failed: u64,
    /// Those of the failed that were not even sent.
    pub unsent: u64,
    /// Requests that were sent and have an outcome, by status; 0: no whole answer.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests that wait for their answer, or did when the traffic was ended.
    pub waiting: u64,
    /// What the first failure was.
    pub first_failure: Option<String>,
    /// Answers by replica, first replica first.
    pub by_replica: Vec<u64>,
    /// Latencies of what was answered well.
    pub latencies: Sample,
    /// The longest that anybody waited, for whatever came in the end.
    pub slowest: Duration,
}

/// The requests that were due in a stretch of time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lap(Arc<Mutex<TrafficReport>>);

#[derive(Debug)]
struct Shared {
    options: TrafficOptions,
    clock: Clock,
    report: Mutex<TrafficReport>,
    /// Which one is being run, if any.
    lap: Mutex<Option<Lap>>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: SendRequest<Full<Bytes>>,
    since: Moment,
}

/// What a customer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Browse,
    Look { product: usize },
    Buy { product: usize, quantity: u64 },
    Report,
}

/// What became of a request that was sent.
#[derive(Debug)]
struct Outcome {
    /// 0: no whole answer.
    status: u16,
    /// Which replica answered; 0 if the answer does not say.
    replica: usize,
    /// What is wrong with it, if anything.
    what: String,
}

impl Traffic {
    /// Starts the traffic. Must be called within a tokio runtime. A rate outside its range is brought into it.
    pub fn start(options: TrafficOptions) -> Traffic {
        let mut entropy = Entropy::from_seed(options.seed);
        let report = Mutex::new(TrafficReport::new(&options, entropy.next_u64()));
        let clock = Clock::real();
        let shared = Arc::new(Shared { options, clock, report, lap: Mutex::default(), idle: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let mut dispatcher = JoinSet::new();
        dispatcher.spawn(dispatch(Arc::clone(&shared), entropy, stopped));
        Traffic { shared, stop, dispatcher }
    }

    /// What customers saw so far.
    pub fn report(&self) -> TrafficReport {
        self.shared.report().clone()
    }

    /// Begins a lap, and ends the one before, whose last requests may still be on their way.
    pub fn lap(&self) -> Lap {
        let options = &self.shared.options;
        let lap = Lap(Arc::new(Mutex::new(TrafficReport::new(options, options.seed))));
        *self.shared.lap.lock().unwrap_or_else(PoisonError::into_inner) = Some(lap.clone());
        lap
    }

    /// Sends nothing more, waits for what is on its way, but not longer than `grace`, and tells what customers saw.
    pub async fn stop(self, grace: Duration) -> TrafficReport {
        let Traffic { shared, stop, mut dispatcher } = self;
        // It cannot have ended before it was told to, unless it panicked; there is nothing to wait for then.
        let _already_ended = stop.send(grace).is_err();
        while dispatcher.join_next().await.is_some() {}
        shared.report().clone()
    }
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, TrafficReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lap(&self) -> Option<Lap> {
        self.lap.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes something into the report of the whole, and into that of the lap.
    fn note(&self, lap: Option<&Lap>, take: impl Fn(&mut TrafficReport)) {
        take(&mut self.report());
        if let Some(Lap(report)) = lap {
            take(&mut report.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends each request when it is due, until it is told to stop or its owner is gone.
async fn dispatch(shared: Arc<Shared>, mut entropy: Entropy, mut stopped: oneshot::Receiver<Duration>) {
    let rate = u64::from(shared.options.rate.clamp(1, FASTEST));
    let start = shared.clock.now();
    let mut errands = JoinSet::new();
    for n in 0u64.. {
        let due = start + Duration::from_nanos(n.saturating_mul(1_000_000_000) / rate);
        tokio::select! {
            biased;
            grace = &mut stopped => {
                let all_back = async { while errands.join_next().await.is_some() {} };
                // What is not back in time is cut with its connection; the report goes on counting it as waiting.
                let _cut = tokio::time::timeout(grace.unwrap_or_default(), all_back).await.is_err();
                return;
            }
            () = tokio::time::sleep(due.since(shared.clock.now())) => {}
        }
        while errands.try_join_next().is_some() {}
        let errand = Errand::draw(shared.options.mix, &mut entropy);
        let lap = shared.lap();
        if errands.len() >= OUTSTANDING_LIMIT {
            shared.note(lap.as_ref(), TrafficReport::not_sent);
            continue;
        }
        shared.note(lap.as_ref(), |report| report.waiting += 1);
        errands.spawn(run_errand(Arc::clone(&shared), errand, due, lap));
    }
}

async fn run_errand(shared: Arc<Shared>, errand: Errand, due: Moment, lap: Option<Lap>) {
    let outcome = match tokio::time::timeout(PATIENCE, exchange(&shared, errand)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(what)) => Outcome { status: 0, replica: 0, what },
        Err(_) => Outcome { status: 0, replica: 0, what: format!("no answer within {PATIENCE:?}") },
    };
    let latency = shared.clock.now().since(due);
    shared.note(lap.as_ref(), |report| report.take(errand, &outcome, latency));
}

impl Lap {
    /// What became of its requests so far.
    pub fn report(&self) -> TrafficReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of its requests have no outcome yet.
    pub fn waiting(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting
    }
}

impl TrafficReport {
    fn new(options: &TrafficOptions, seed: u64) -> TrafficReport {
        TrafficReport {
            ok: 0,
            failed: 0,
            unsent: 0,
            by_status: BTreeMap::new(),
            waiting: 0,
            first_failure: None,
            by_replica: vec![0; options.replicas],
            latencies: Sample::new(Entropy::from_seed(seed)),
            slowest: Duration::ZERO,
        }
    }

    /// Requests with an outcome.
    pub fn finished(&self) -> u64 {
        self.ok + self.failed
    }

    fn take(&mut self, errand: Errand, outcome: &Outcome, latency: Duration) {
        self.waiting -= 1;
        self.slowest = self.slowest.max(latency);
        *self.by_status.entry(outcome.status).or_default() += 1;
        if !(200..300).contains(&outcome.status) {
            self.failed += 1;
            self.first_failure.get_or_insert_with(|| format!("{errand:?}: {}", outcome.what));
            return;
        }
        self.ok += 1;
        self.latencies.observe(latency);
        if let Some(count) = outcome.replica.checked_sub(1).and_then(|at| self.by_replica.get_mut(at)) {
            *count += 1;
        }
    }

    fn not_sent(&mut self) {
        self.failed += 1;
        self.unsent += 1;
        self.first_failure
            .get_or_insert_with(|| format!("{OUTSTANDING_LIMIT} requests were waiting already: this one was not sent"));
    }
}

impl Errand {
    fn draw(mix: Mix, entropy: &mut Entropy) -> Errand {
        if mix == Mix::Reports {
            return Errand::Report;
        }
        let product = 1 + entropy.below(PRODUCT_COUNT as u64) as usize;
        let kinds = if mix == Mix::Goods { 995 } else { 1_000 };
        match entropy.below(kinds) {
            0..550 => Errand::Look { product },
            550..850 => Errand::Browse,
            850..995 => Errand::Buy { product, quantity: 1 + entropy.below(3) },
            _ => Errand::Report,
        }
    }

    fn request(self, target: SocketAddr) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let (method, path, body) = match self {
            Errand::Browse => (Method::GET, "/".to_owned(), String::new()),
            Errand::Look { product } => (Method::GET, format!("/product/{product}"), String::new()),
            Errand::Report => (Method::GET, "/slow".to_owned(), String::new()),
            Errand::Buy { product, quantity } => {
                let body = format!(r#"{{"product":{product},"quantity":{quantity}}}"#);
                (Method::POST, "/cart".to_owned(), body)
            }
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, target.to_string());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(Bytes::from(body)))
    }
}

/// Sends one request and reads its whole answer.
async fn exchange(shared: &Shared, errand: Errand) -> Result<Outcome, String> {
    let request = errand.request(shared.options.target).map_err(|error| format!("cannot be asked: {error}"))?;
    let mut connection = connect(shared).await?;
    let response = connection.send_request(request).await.map_err(|error| format!("no answer: {}", chain(&error)))?;
    let status = response.status();
    let header = response.headers().get(REPLICA_HEADER).and_then(|v| v.to_str().ok());
    let replica = header.and_then(|v| v.parse().ok()).unwrap_or(0);
    let body = response.into_body().collect().await.map_err(|error| format!("answer broken off: {}", chain(&error)))?;
    let mut idle = shared.idle();
    if !connection.is_closed() && idle.len() < IDLE_LIMIT {
        idle.push(Idle { connection, since: shared.clock.now() });
    }
    drop(idle);
    let body = body.to_bytes();
    let what = match status.is_success() {
        true => String::new(),
        false => format!("status {status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]).trim()),
    };
    Ok(Outcome { status: status.as_u16(), replica, what })
}

/// An idle connection that is still good, or a new one.
async fn connect(shared: &Shared) -> Result<SendRequest<Full<Bytes>>, String> {
    loop {
        let Some(mut idle) = shared.idle().pop() else { break };
        let fresh = shared.clock.now().since(idle.since) < IDLE;
        if fresh && idle.connection.ready().await.is_ok() {
            return Ok(idle.connection);
        }
    }
    let target = shared.options.target;
    let refused = |error: std::io::Error| format!("cannot connect to the gateway at {target}: {error}");
    let stream = TcpStream::connect(target).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    // It ends with the last use of the connection; what went wrong is told to whoever waits for an answer.
    tokio::spawn(driver);
    Ok(connection)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
