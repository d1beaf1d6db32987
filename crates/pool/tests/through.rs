//! A pooler of a test's own in front of the shared server, and clients that speak to it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use kernel::journal::{Boot, Journal};
use kernel::trace::{RequestTrace, TraceLine};
use kernel::{Clock, DrainPhase, DrainTrigger, Entropy};
use pool::auth::Secret;
use pool::connect::{self, Account, OpenSocket};
use pool::plan::{Listen, Plan, PoolPlan, ServerAddress, ServerPlan};
use pool::view::{GroupView, PoolView};
use pool::wire::{HEADER, frame, frontend};
use pool::{PoolSocket, Pools};

use crate::kit::{APP, NO_TLS, SOON, Tls, block_on, control, plan, shared};

/// A pooler that ends with the test.
pub(crate) struct Through {
    pub(crate) pools: Pools,
    pub(crate) journal: Journal,
    door: ServerPlan,
    plan: PoolPlan,
    trigger: DrainTrigger,
}

/// A client that has logged in.
pub(crate) struct Session {
    stream: TcpStream,
    buf: Vec<u8>,
}

/// A message of the server: tag and body.
pub(crate) type Message = (u8, Vec<u8>);

/// Starts one whose plan is `change`d.
pub(crate) fn through(change: impl FnOnce(&mut PoolPlan)) -> Through {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut own = plan(&[shared()]);
    own.listen = vec![Listen::Tcp(address)];
    own.admin_users = vec![APP.0.to_owned()];
    change(&mut own);
    let plan = Plan { pools: vec![Arc::new(own.clone())] };
    let clock = Clock::real();
    let journal = Journal::unkept(clock.clone(), Boot::new(&mut Entropy::from_seed(1)));
    let (trigger, drain) = DrainTrigger::new();
    let sockets = [PoolSocket::Tcp(Listen::Tcp(address), socket)];
    let pools = Pools::start(&plan, &sockets, 2, clock, journal.clone(), &drain, control()).unwrap();
    pools.open();
    let server = ServerAddress::Tcp { host: "127.0.0.1".into(), port: address.port() };
    Through { pools, journal, door: ServerPlan { name: "the pooler".into(), address: server }, plan: own, trigger }
}

impl Drop for Through {
    fn drop(&mut self) {
        self.trigger.advance(DrainPhase::Draining);
        self.trigger.advance(DrainPhase::Closed);
        self.pools.join();
    }
}

impl Through {
    /// A client of a database that calls itself `test`.
    pub(crate) fn login(&self, database: &str) -> Session {
        let tls = Tls::new(NO_TLS);
        let secret = Secret::Password(APP.1.to_owned());
        let account = Account { database, user: APP.0, secret, settings: &[("application_name", "test")] };
        let opened = block_on(connect::open(&self.door, tls.security(), account, SOON)).unwrap();
        let OpenSocket::Tcp(stream) = opened.socket else { panic!("not TCP") };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Session { stream, buf: opened.rest }
    }

    /// Where clients connect.
    pub(crate) fn connect(&self) -> Session {
        let ServerAddress::Tcp { host, port } = &self.door.address else { panic!("not TCP") };
        let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Session { stream, buf: Vec::new() }
    }

    /// Goes on with a plan that is `change`d.
    pub(crate) fn reload(&self, change: impl FnOnce(&mut PoolPlan)) {
        let mut plan = self.plan.clone();
        change(&mut plan);
        self.pools.apply(&Plan { pools: vec![Arc::new(plan)] }).unwrap();
    }

    /// The process is told to stop.
    pub(crate) fn drain(&self) {
        self.trigger.advance(DrainPhase::Draining);
    }

    /// How the pool is.
    pub(crate) fn view(&self) -> PoolView {
        self.pools.view().remove(0)
    }

    /// How the clients' (database, user) is.
    pub(crate) fn group(&self) -> GroupView {
        self.view().groups.into_iter().find(|group| group.database == APP.2).unwrap()
    }

    /// Ends the connections of the pool that a client has, at the server.
    pub(crate) fn terminate(&self) {
        for connection in block_on(self.pools.connections("main")) {
            shared().psql(&format!("SELECT pg_terminate_backend({})", connection.remote_pid));
        }
    }

    /// The transaction that `is`, once it is known.
    #[track_caller]
    pub(crate) fn told(&self, what: &str, is: impl Fn(&TraceLine) -> bool) -> RequestTrace {
        let line = testkit::poll_until(SOON, || self.pools.traces(100).into_iter().find(&is));
        let line = line.unwrap_or_else(|| panic!("waited for {what}; {:#?}", self.pools.traces(100)));
        self.pools.why(&line.id).expect("what is listed is known")
    }
}

impl Session {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends zeros until the other side has had enough; the SQLSTATE that it says so with.
    pub(crate) fn flood(&mut self, most: usize) -> Option<String> {
        let zeros = [0; 64 << 10];
        for _ in 0..most / zeros.len() {
            if self.stream.write_all(&zeros).is_err() {
                break;
            }
        }
        loop {
            if let (b'E', body) = self.next()? {
                return Some(pool::wire::backend::Fields::read(&body).unwrap().sqlstate().to_owned());
            }
        }
    }

    /// The next message; `None`: the other side has closed.
    pub(crate) fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(found) = frame(&self.buf).unwrap()
                && self.buf.len() >= found.len
            {
                let body = self.buf[HEADER..found.len].to_vec();
                self.buf.drain(..found.len);
                return Some((found.tag, body));
            }
            let mut room = [0; 4_096];
            match self.stream.read(&mut room).unwrap() {
                0 => return None,
                n => self.buf.extend_from_slice(&room[..n]),
            }
        }
    }

    /// What comes up to `ReadyForQuery`.
    pub(crate) fn until_ready(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            let message = self.next().expect("ReadyForQuery");
            let is_last = message.0 == b'Z';
            all.push(message);
            if is_last {
                return all;
            }
        }
    }

    /// A simple query; its SQLSTATE if it failed.
    pub(crate) fn query(&mut self, text: &str) -> Result<Vec<Message>, String> {
        let mut out = Vec::new();
        frontend::put_query(&mut out, text.as_bytes());
        self.send(&out);
        let all = self.until_ready();
        match all.iter().find(|(tag, _)| *tag == b'E') {
            Some((_, body)) => Err(pool::wire::backend::Fields::read(body).unwrap().sqlstate().to_owned()),
            None => Ok(all),
        }
    }

    /// The rows of a simple query, with their columns' names.
    pub(crate) fn table(&mut self, text: &str) -> Vec<Vec<(String, String)>> {
        let all = self.query(text).unwrap();
        let mut names = Vec::new();
        let mut rows = Vec::new();
        for (tag, body) in &all {
            match tag {
                b'T' => names = columns(body),
                b'D' => {
                    let row = pool::wire::backend::data_row(body).unwrap();
                    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
                    rows.push(names.iter().cloned().zip(row.into_iter().map(text)).collect());
                }
                _ => {}
            }
        }
        rows
    }
}

fn columns(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8(rest[..end].to_vec()).unwrap());
        rest = &rest[end + 1 + 18..];
    }
    names
}

/// Lines of the log about slow statements, of the whole process.
#[derive(Clone)]
pub(crate) struct SlowLines(Arc<Mutex<Vec<String>>>);

impl SlowLines {
    /// Takes the process's log. Once.
    pub(crate) fn listen() -> SlowLines {
        let lines = SlowLines(Arc::default());
        tracing::subscriber::set_global_default(lines.clone()).unwrap();
        lines
    }

    /// The line with `part` in it, once it is there.
    #[track_caller]
    pub(crate) fn with(&self, part: &str) -> String {
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = testkit::poll_until(SOON, || all().into_iter().find(|line| line.contains(part)));
        found.unwrap_or_else(|| panic!("waited for {part}; {:#?}", all()))
    }
}

struct Written(String);

impl tracing::field::Visit for Written {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl tracing::Subscriber for SlowLines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "pool.slow"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut written = Written(String::new());
        event.record(&mut written);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(written.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
