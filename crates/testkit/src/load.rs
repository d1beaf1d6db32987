//! A load generator for tests: N clients on keep-alive connections, each sending as fast as it is answered, until it is
//! told to stop. It is for finding failures, not for measuring. A failure is anything but an answer with an accepted
//! status: a refused connection, a broken one, a malformed answer, silence.
//!
//! One case is not the server's fault: a reused connection may be closed just as the next request goes out (RFC 9112,
//! 9.3.1). What to do then is [`Resend`]; how often it was done is counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::poll::lock;
use crate::raw::RawClient;
use crate::wire::WireError;

/// What to send and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where to.
    pub target: SocketAddr,
    /// How many clients there are, each on a thread and a connection of its own.
    pub clients: usize,
    /// What each client sends, again and again; the clients start at different ones.
    pub requests: Vec<LoadRequest>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a client rests between two requests.
    pub pause: Duration,
    /// What happens to a request whose reused connection turns out to be closed.
    pub resend: Resend,
    /// A client opens a new connection after this many requests; `None`: never of its own accord.
    pub requests_per_connection: Option<usize>,
}

/// A request to send.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The whole message.
    pub bytes: Vec<u8>,
    /// Its method.
    pub method: String,
    /// The status that counts as success; `None`: any of 200 to 299.
    pub expect: Option<u16>,
}

/// When a request is sent again on a fresh connection because its reused one was closed before any byte of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// Never: it counts as failed.
    Never,
    /// Once, if the method is idempotent: what browsers and HTTP libraries do.
    Idempotent,
}

/// What happened so far.
#[derive(Debug, Clone, Default)]
pub struct LoadReport {
    /// Requests with an accepted answer.
    pub ok: u64,
    /// Requests without one.
    pub failed: u64,
    /// What the first failure was.
    pub first_failure: Option<String>,
    /// Connections that were made.
    pub connections: u64,
    /// Requests that were sent again, see [`Resend`].
    pub resent: u64,
    /// Answers that each client got, failed ones included: a zero is a starved client.
    pub by_client: Vec<u64>,
}

/// Load that is running; it stops when it is dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    options: LoadOptions,
    stop: AtomicBool,
    gone: AtomicBool,
    report: Mutex<LoadReport>,
}

impl LoadRequest {
    /// A GET for `target`.
    pub fn get(target: &str) -> LoadRequest {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: load.test\r\n\r\n").into_bytes();
        LoadRequest { bytes, method: "GET".to_owned(), expect: None }
    }

    /// A POST of `body` to `target`.
    pub fn post(target: &str, body: impl AsRef<[u8]>) -> LoadRequest {
        let body = body.as_ref();
        let length = body.len();
        let mut bytes =
            format!("POST {target} HTTP/1.1\r\nHost: load.test\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        bytes.extend(body);
        LoadRequest { bytes, method: "POST".to_owned(), expect: None }
    }

    /// Only this status counts as success.
    #[must_use]
    pub fn expect(mut self, status: u16) -> LoadRequest {
        self.expect = Some(status);
        self
    }
}

impl LoadOptions {
    /// `clients` clients that GET `/` of `target`, without rest, each answer within 10 s.
    pub fn new(target: SocketAddr, clients: usize) -> LoadOptions {
        LoadOptions {
            target,
            clients,
            requests: vec![LoadRequest::get("/")],
            timeout: Duration::from_secs(10),
            pause: Duration::ZERO,
            resend: Resend::Idempotent,
            requests_per_connection: None,
        }
    }

    /// These requests instead.
    #[must_use]
    pub fn requests(mut self, requests: Vec<LoadRequest>) -> LoadOptions {
        self.requests = requests;
        self
    }
}

impl Load {
    /// Starts the clients.
    ///
    /// # Errors
    /// When there is nothing to send or a thread cannot be started.
    pub fn start(options: LoadOptions) -> Result<Load> {
        ensure!(!options.requests.is_empty(), "a load without requests");
        let clients = options.clients;
        let report = LoadReport { by_client: vec![0; clients], ..LoadReport::default() };
        let (stop, gone) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { options, stop, gone, report: Mutex::new(report) });
        let mut load = Load { shared, threads: Vec::new() };
        for client in 0..clients {
            let shared = Arc::clone(&load.shared);
            let thread = std::thread::Builder::new().name(format!("load-{client}"));
            let spawned = thread.spawn(move || shared.run(client)).context("starting a client of the load")?;
            load.threads.push(spawned);
        }
        Ok(load)
    }

    /// What happened so far.
    pub fn report(&self) -> LoadReport {
        lock(&self.shared.report).clone()
    }

    /// From now on a refused connection ends its client in peace: the server has been told to go.
    pub fn listener_goes(&self) {
        self.shared.gone.store(true, Ordering::Release);
    }

    /// Whether every client has ended, as they do after [`Load::listener_goes`].
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Lets every client finish the request it is at, and tells what happened.
    pub fn stop(mut self) -> LoadReport {
        self.end();
        self.report()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join().is_err();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

impl LoadReport {
    /// Fails the test unless something was answered and nothing failed.
    ///
    /// # Panics
    /// With the first failure.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.failed == 0 && self.ok > 0, "load was not answered cleanly: {self:?}");
    }
}

impl Shared {
    fn run(&self, client: usize) {
        let requests = &self.options.requests;
        let mut connection: Option<(RawClient, usize)> = None;
        for n in client.. {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let request = &requests[n % requests.len()];
            let result = self.exchange(&mut connection, request);
            if let Err(error) = &result {
                connection = None;
                if self.gone.load(Ordering::Acquire) && is_refused(error) {
                    return;
                }
            }
            let mut report = lock(&self.report);
            report.by_client[client] += 1;
            match result {
                Ok(()) => report.ok += 1,
                Err(error) => {
                    report.failed += 1;
                    report.first_failure.get_or_insert_with(|| format!("client {client}, request {n}: {error:#}"));
                }
            }
            drop(report);
            if !self.options.pause.is_zero() {
                std::thread::sleep(self.options.pause);
            }
        }
    }

    fn exchange(&self, connection: &mut Option<(RawClient, usize)>, request: &LoadRequest) -> Result<()> {
        let idempotent = matches!(request.method.as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE");
        let may_resend = self.options.resend == Resend::Idempotent && idempotent;
        if let Some(reused) = connection.take() {
            match self.once(reused, request) {
                Ok(kept) => {
                    *connection = kept;
                    return Ok(());
                }
                Err(error) if may_resend && is_stale(&error) => lock(&self.report).resent += 1,
                Err(error) => return Err(error.context("on a reused connection")),
            }
        }
        let fresh = RawClient::connect(self.options.target)?;
        lock(&self.report).connections += 1;
        *connection = self.once((fresh, 0), request).context("on a fresh connection")?;
        Ok(())
    }

    fn once(
        &self,
        (mut client, used): (RawClient, usize),
        request: &LoadRequest,
    ) -> Result<Option<(RawClient, usize)>> {
        client.send(&request.bytes)?;
        let response = client.read_response_to(&request.method, self.options.timeout)?;
        let fine = request.expect.map_or((200..300).contains(&response.status), |status| status == response.status);
        ensure!(fine, "{} {} with {:?}: {}", response.status, response.reason, response.lines, response.text());
        let worn = self.options.requests_per_connection.is_some_and(|most| used + 1 >= most);
        Ok((!response.closes() && !worn).then_some((client, used + 1)))
    }
}

/// Whether the connection ended before any byte of an answer.
fn is_stale(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<WireError>() {
        Some(WireError::Closed { got, .. } | WireError::Reset { got, .. }) => got == "nothing",
        _ => false,
    }
}

fn is_refused(error: &anyhow::Error) -> bool {
    let refused = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionRefused;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::eventually;
    use crate::upstream::{Reply, ServingOptions, Upstream};

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_sound_server_answers_every_client() {
        let upstream = Upstream::serving(|request| match request.nth % 5 {
            4 => Reply::ok("bye").close(),
            _ => Reply::ok("x"),
        })
        .unwrap();
        let requests = vec![LoadRequest::get("/"), LoadRequest::post("/", "abc")];
        let load = Load::start(LoadOptions::new(upstream.addr(), 3).requests(requests)).unwrap();
        eventually(SOON, "20 answers for each client", || {
            load.report().by_client.iter().all(|n| *n >= 20).then_some(())
        });
        let report = load.stop();
        report.assert_clean();
        assert!(report.connections >= 12, "{report:?}");
    }

    #[test]
    fn a_failure_is_counted_and_told() {
        let upstream = Upstream::serving(|_| Reply::status(503, "no")).unwrap();
        let load = Load::start(LoadOptions::new(upstream.addr(), 1)).unwrap();
        eventually(SOON, "a failure", || load.report().first_failure);
        let report = load.stop();
        assert!(report.ok == 0 && report.first_failure.as_deref().unwrap().contains("503"), "{report:?}");
    }

    #[test]
    fn a_stale_connection_costs_an_idempotent_request_nothing_and_a_post_its_life() {
        let options = ServingOptions { requests_per_connection: Some(1), ..ServingOptions::default() };
        let upstream = Upstream::serving_with(options, |_| Reply::ok("x")).unwrap();
        let load = Load::start(LoadOptions::new(upstream.addr(), 1)).unwrap();
        eventually(SOON, "3 requests sent again", || (load.report().resent >= 3).then_some(()));
        load.stop().assert_clean();
        let posts = LoadOptions::new(upstream.addr(), 1).requests(vec![LoadRequest::post("/", "x")]);
        let load = Load::start(posts).unwrap();
        eventually(SOON, "a lost POST", || (load.report().failed > 0).then_some(()));
    }

    #[test]
    fn clients_end_in_peace_when_the_listener_goes() {
        let upstream = Upstream::serving(|_| Reply::ok("x")).unwrap();
        let options = LoadOptions { requests_per_connection: Some(1), ..LoadOptions::new(upstream.addr(), 2) };
        let load = Load::start(options).unwrap();
        eventually(SOON, "an answer", || (load.report().ok > 0).then_some(()));
        load.listener_goes();
        upstream.down();
        eventually(SOON, "every client to end", || load.is_over().then_some(()));
    }
}
