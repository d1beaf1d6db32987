//! The clients: keep-alive connections, as many as are needed, the last used first. Like a client library they send a
//! request again by themselves only when not a byte of it was written.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kernel::{Clock, Moment};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::record::{Kind, Record};
use super::schedule::Due;
use super::{Expect, Flow, Load};
use crate::http::HOST;

/// Before the first retry of a client that retries; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// All clients of a run.
#[derive(Debug)]
pub(super) struct Client {
    load: Load,
    clock: Clock,
    start: Moment,
    /// Idle connections of each target.
    idle: Vec<RefCell<Vec<Connection>>>,
    next_target: Cell<usize>,
    made: Cell<u64>,
    /// Makes the orders of this run different from those of others.
    tag: String,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    is_used: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Closes the socket, also in the middle of an exchange.
        self.driver.abort();
    }
}

/// What one attempt led to.
struct Attempt {
    kind: Kind,
    status: u16,
}

impl Client {
    pub(super) fn new(load: Load, clock: Clock, start: Moment) -> Client {
        Client {
            idle: load.targets.iter().map(|_| RefCell::default()).collect(),
            tag: format!("{:x}-{:x}", std::process::id(), load.seed),
            load,
            clock,
            start,
            next_target: Cell::new(0),
            made: Cell::new(0),
        }
    }

    /// Connections made so far.
    pub(super) fn connections(&self) -> u64 {
        self.made.get()
    }

    /// Closes what is idle.
    pub(super) fn close(&self) {
        self.idle.iter().for_each(|idle| idle.borrow_mut().clear());
    }

    /// One request with its retries.
    pub(super) async fn request(self: Rc<Client>, number: u64, due: Due) -> Record {
        let flow = &self.load.flows[due.flow];
        let at = self.start + Duration::from_micros(due.at_us);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let lag_us = micros(self.clock.now().since(at));
        let first_byte = Cell::new(None);
        let mut attempts = 0;
        let mut deadline = at + flow.timeout;
        loop {
            attempts += 1;
            let limit = deadline.since(self.clock.now());
            let tried = timeout(limit, self.attempt(flow, number, due.is_high, &first_byte)).await;
            let Attempt { kind, status } = tried.unwrap_or(Attempt { kind: Kind::Timeout, status: 0 });
            if !kind.is_worth_a_retry() || attempts > flow.retries {
                return Record {
                    at_us: due.at_us,
                    latency_us: micros(self.clock.now().since(at)),
                    first_byte_us: first_byte.get().map(|moment: Moment| micros(moment.since(at))),
                    lag_us,
                    kind,
                    status,
                    attempts,
                    is_high: due.is_high,
                    flow: due.flow,
                };
            }
            sleep(RETRY_PAUSE * 2_u32.pow(u32::from(attempts - 1).min(4))).await;
            deadline = self.clock.now() + flow.timeout;
        }
    }

    fn build(&self, flow: &Flow, number: u64, is_high: bool) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder().method(flow.method).uri(flow.path).header("host", HOST);
        if is_high {
            request = request.header("x-priority", "high");
        }
        let mut body = String::new();
        if flow.orders {
            let order = format!("{}-{number}", self.tag);
            request = request.header("idempotency-key", &order).header("content-type", "application/json");
            body = format!("{{\"order-id\":\"{order}\",\"sku\":\"a-1\",\"qty\":1}}");
        }
        request.body(Full::new(Bytes::from(body)))
    }

    async fn attempt(
        self: &Rc<Client>,
        flow: &Flow,
        number: u64,
        is_high: bool,
        first_byte: &Cell<Option<Moment>>,
    ) -> Attempt {
        let target = self.next_target.get() % self.load.targets.len();
        self.next_target.set(target + 1);
        let failed = |kind| Attempt { kind, status: 0 };
        let Ok(mut request) = self.build(flow, number, is_high) else { return failed(Kind::Corrupt) };
        let mut may_reuse = true;
        loop {
            let reused = if may_reuse { self.idle_connection(target) } else { None };
            let mut connection = match reused {
                Some(connection) => connection,
                None => match self.connect(target).await {
                    Ok(connection) => connection,
                    Err(_) => return failed(Kind::Connect),
                },
            };
            let was_used = std::mem::replace(&mut connection.is_used, true);
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let kind = self.read(response, flow.expect, first_byte).await;
                    if kind != Kind::Body {
                        self.give_back(target, connection);
                    }
                    return Attempt { kind, status };
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if was_used => {
                        request = unsent;
                        may_reuse = false;
                    }
                    _ => return failed(if was_used { Kind::Stale } else { Kind::Closed }),
                },
            }
        }
    }

    async fn read(&self, response: Response<Incoming>, expect: Expect, first_byte: &Cell<Option<Moment>>) -> Kind {
        let kind = Kind::of_status(response.status().as_u16());
        let mut body = response.into_body();
        let (mut bytes, mut only_xs) = (0_u64, true);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Kind::Body };
            let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) else { continue };
            if bytes == 0 {
                first_byte.set(Some(self.clock.now()));
            }
            bytes += data.len() as u64;
            only_xs &= data.iter().all(|byte| *byte == b'x');
        }
        if kind == Kind::Ok && !expect.fits(bytes, only_xs) { Kind::Corrupt } else { kind }
    }

    fn idle_connection(&self, target: usize) -> Option<Connection> {
        let mut idle = self.idle[target].borrow_mut();
        while let Some(connection) = idle.pop() {
            if connection.sender.is_ready() && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps the connection when it may be used again.
    fn give_back(self: &Rc<Client>, target: usize, mut connection: Connection) {
        let client = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if connection.sender.ready().await.is_ok() {
                client.idle[target].borrow_mut().push(connection);
            }
        });
    }

    async fn connect(&self, target: usize) -> anyhow::Result<Connection> {
        let socket = TcpStream::connect(self.load.targets[target]).await?;
        socket.set_nodelay(true)?;
        let (sender, http) = http1::handshake(TokioIo::new(socket)).await?;
        self.made.set(self.made.get() + 1);
        let driver = tokio::task::spawn_local(async move {
            // How it ended is seen by whoever uses it.
            http.await.ok();
        });
        Ok(Connection { sender, driver, is_used: false })
    }
}
