//! What the tests of the pooler share: a node in front of private servers, and [`Traffic`]: clients that run one transaction
//! after the other and put down exactly what became of each.
//!
//! A transaction is `BEGIN; SELECT; INSERT; COMMIT`, by a driver that nobody here wrote. It has not started as long as
//! `BEGIN` is unanswered: if that fails, the pooler has broken its promise. What fails later was in flight.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel::{Clock, Moment};
use testkit::postgres::{Instance, Port};
use testkit::{Binary, eventually, poll_until};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// User, password and database of the clients.
pub(crate) const APP: &str = "app";
/// The password's verifier, of one iteration (RFC 5802): logging in thousands of clients costs the test next to nothing.
const VERIFIER: &str = "SCRAM-SHA-256$1:ZXZlbmtlZWwtYmVuY2gtMQ==$tWHrcanC/Q6aINtqZ2wiE/TCq6bdA/cG0ytYElI74Ic=:f6gVkGTGOWyAfS+0bC/002upnftxAusoxjr7vNVJDak=";
/// Its password.
const PASSWORD: &str = "bench";
/// What clients think between two transactions.
const THINK: Duration = Duration::from_millis(10);
/// How long a client may take to connect.
const CONNECT: Duration = Duration::from_secs(60);

/// A node with one pool.
#[derive(Debug)]
pub(crate) struct Front {
    #[allow(dead_code, reason = "the soak looks at it; the others only need it to be there")]
    pub(crate) node: Binary,
    pub(crate) port: Port,
}

/// Makes users, the pooler's function and the table of [`Traffic`] in a primary.
#[track_caller]
pub(crate) fn prepare(primary: &Instance) {
    primary.create_app(APP, VERIFIER, APP).unwrap();
    let function = pool::verifiers::create_function("evenkeel");
    primary.setup_auth("evenkeel", "evenkeel", &function).unwrap();
    let table = "create table told (id bigint primary key, client int not null); grant all on told to app;";
    primary.try_psql(APP, table).unwrap();
}

/// A node with a pool of so many connections in front of these servers; `more` are lines of its table.
#[track_caller]
pub(crate) fn front(servers: &[&Instance], size: usize, more: &str) -> Front {
    let port = Port::reserve().unwrap();
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.addr())).collect();
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[pool.main]\nlisten = \"127.0.0.1:{}\"\nservers = [{}]\n\
         auth = {{ user = \"evenkeel\", password = \"evenkeel\" }}\nsize = {size}\n{more}\n",
        port.number(),
        servers.join(", ")
    );
    Front { node: Binary::up(&config).unwrap(), port }
}

/// A runtime for drivers.
#[track_caller]
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A driver's connection; its other half runs by itself.
pub(crate) async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(APP).password(PASSWORD).dbname(APP).connect_timeout(CONNECT);
    let (client, connection) = config.connect(NoTls).await?;
    // Its error is the one that the client's next question ends with.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// A transaction that was committed, by a server that said so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) id: i64,
    pub(crate) began: Moment,
    pub(crate) ended: Moment,
}

/// What became of the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost {
    /// `BEGIN` failed.
    pub(crate) not_started: Vec<String>,
    /// Something later failed.
    pub(crate) in_flight: Vec<String>,
    /// Something later failed, and no SQLSTATE said why.
    pub(crate) without_state: Vec<String>,
    /// A client that kept its connection could not roll back what had failed.
    pub(crate) not_rolled_back: Vec<String>,
    /// A client was disconnected while it thought.
    pub(crate) idle: u64,
    /// A client could not connect.
    pub(crate) connects: Vec<String>,
}

#[derive(Debug, Default)]
struct Book {
    done: Mutex<Vec<Done>>,
    lost: Mutex<Lost>,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Traffic {
    books: Vec<Arc<Book>>,
    stop: Arc<AtomicBool>,
    clock: Clock,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    /// So many clients begin.
    pub(crate) fn start(runtime: &Runtime, port: u16, clients: usize) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (clock, ids) = (Clock::real(), Arc::new(AtomicI64::new(0)));
        let books: Vec<Arc<Book>> = (0..clients).map(|_| Arc::default()).collect();
        let start = |(number, book): (usize, &Arc<Book>)| {
            let worker = Worker {
                number: number as i32,
                port,
                book: Arc::clone(book),
                stop: Arc::clone(&stop),
                ids: Arc::clone(&ids),
                clock: clock.clone(),
            };
            runtime.spawn(worker.work())
        };
        let workers = books.iter().enumerate().map(start).collect();
        Traffic { books, stop, clock, workers }
    }

    /// The moment, on the clock of what was put down.
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// How many transactions each client has committed.
    pub(crate) fn counts(&self) -> Vec<usize> {
        self.books.iter().map(|book| book.done.lock().unwrap().len()).collect()
    }

    /// Waits until every client has committed so many more.
    #[track_caller]
    pub(crate) fn await_each(&self, more: usize, within: Duration) {
        let before = self.counts();
        let all = || self.counts().iter().zip(&before).all(|(now, before)| now - before >= more).then_some(());
        if poll_until(within, all).is_none() {
            let behind = self.counts().iter().zip(&before).filter(|(now, before)| *now - *before < more).count();
            panic!("{behind} clients have not committed {more} more within {within:?}; lost so far: {:?}", self.lost());
        }
    }

    /// Waits for the first transaction that began after `moment` and was committed.
    #[track_caller]
    pub(crate) fn first_after(&self, moment: Moment, within: Duration) -> Done {
        eventually(within, "a transaction that began later and was committed", || {
            self.done().into_iter().filter(|done| done.began > moment).min_by_key(|done| done.ended)
        })
    }

    /// All that was committed.
    pub(crate) fn done(&self) -> Vec<Done> {
        self.books.iter().flat_map(|book| book.done.lock().unwrap().clone()).collect()
    }

    /// All that was lost.
    pub(crate) fn lost(&self) -> Lost {
        let mut all = Lost::default();
        for book in &self.books {
            let one = book.lost.lock().unwrap().clone();
            all.not_started.extend(one.not_started);
            all.in_flight.extend(one.in_flight);
            all.without_state.extend(one.without_state);
            all.connects.extend(one.connects);
            all.not_rolled_back.extend(one.not_rolled_back);
            all.idle += one.idle;
        }
        all
    }

    /// Lets every client finish what it does, and end.
    #[track_caller]
    pub(crate) fn end(&mut self, runtime: &Runtime) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            runtime.block_on(worker).unwrap();
        }
    }

    /// Fails unless this server has all that clients were told was committed, and at most what was in flight besides.
    #[track_caller]
    pub(crate) fn assert_durable(&self, server: &Instance, in_flight: usize) {
        let there = ids(server);
        let missing: Vec<Done> = self.done().into_iter().filter(|done| !there.contains(&done.id)).collect();
        assert!(missing.is_empty(), "acknowledged and not there: {missing:?}, of {}; {:?}", there.len(), self.lost());
        let more = there.len() - self.done().len();
        assert!(more <= in_flight, "{more} are there that nobody was told of");
    }

    /// Fails unless every promise was kept: whatever had not started went on, nobody idle was disconnected, and what was in
    /// flight was told why by a code.
    #[track_caller]
    pub(crate) fn assert_kept(&self, pool_size: usize) {
        let lost = self.lost();
        assert!(lost.not_started.is_empty(), "transactions that had not started failed: {lost:?}");
        assert!(lost.not_rolled_back.is_empty(), "failed transactions could not be rolled back: {lost:?}");
        assert!(lost.connects.is_empty(), "clients could not connect: {lost:?}");
        assert_eq!(lost.idle, 0, "clients were disconnected while they were idle: {lost:?}");
        assert!(lost.without_state.is_empty(), "failures without an SQLSTATE: {lost:?}");
        assert!(lost.in_flight.len() <= pool_size, "more failed than can have been in flight: {lost:?}");
    }
}

/// The ids in the table of the traffic.
#[track_caller]
pub(crate) fn ids(server: &Instance) -> BTreeSet<i64> {
    let listed = server.try_psql(APP, "select id from told").unwrap();
    listed.lines().map(|line| line.parse().unwrap()).collect()
}

struct Worker {
    number: i32,
    port: u16,
    book: Arc<Book>,
    stop: Arc<AtomicBool>,
    ids: Arc<AtomicI64>,
    clock: Clock,
}

impl Worker {
    async fn work(self) {
        let mut pause = tokio::time::interval(THINK);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut connected, mut failed) = (None::<Client>, false);
        while !self.stop.load(Ordering::Relaxed) {
            pause.tick().await;
            if connected.as_ref().is_some_and(Client::is_closed) {
                connected = None;
                if !failed {
                    self.book.lost.lock().unwrap().idle += 1;
                }
            }
            failed = false;
            let Some(client) = &connected else {
                match connect(self.port).await {
                    Ok(client) => connected = Some(client),
                    Err(error) => self.book.lost.lock().unwrap().connects.push(said(&error)),
                }
                continue;
            };
            failed = !self.transaction(client).await;
        }
    }

    /// One transaction; `false` if it failed.
    async fn transaction(&self, client: &Client) -> bool {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let began = self.clock.now();
        if let Err(error) = client.batch_execute("begin").await {
            self.book.lost.lock().unwrap().not_started.push(said(&error));
            self.roll_back(client, &error).await;
            return false;
        }
        let mut step = "begin";
        match self.rest(client, id, &mut step).await {
            Ok(()) => {
                let done = Done { id, began, ended: self.clock.now() };
                self.book.done.lock().unwrap().push(done);
                true
            }
            Err(error) => {
                self.failed_in_flight(step, &error);
                self.roll_back(client, &error).await;
                false
            }
        }
    }

    /// A client that keeps its connection ends what has failed, as libraries do.
    async fn roll_back(&self, client: &Client, error: &tokio_postgres::Error) {
        if let Err(second) = client.batch_execute("rollback").await
            && !second.is_closed()
        {
            let told = format!("{}, after {}", said(&second), said(error));
            self.book.lost.lock().unwrap().not_rolled_back.push(told);
        }
    }

    fn failed_in_flight(&self, step: &str, error: &tokio_postgres::Error) {
        let mut lost = self.book.lost.lock().unwrap();
        if error.code().is_none() {
            lost.without_state.push(said(error));
        }
        lost.in_flight.push(format!("{step}: {}", said(error)));
    }

    /// What follows BEGIN; `step` is what was asked last.
    async fn rest(&self, client: &Client, id: i64, step: &mut &str) -> Result<(), tokio_postgres::Error> {
        *step = "select";
        client.query_one("select count(*) from told where id = $1", &[&id]).await?;
        *step = "insert";
        let inserted = client.execute("insert into told values ($1, $2)", &[&id, &self.number]).await?;
        assert_eq!(inserted, 1);
        *step = "commit";
        client.batch_execute("commit").await
    }
}

/// An error with its code.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} {}", told.code().code(), told.message()),
        None => format!("- {error:?}"),
    }
}

/// Connects clients that say one thing and then nothing, so many at a time.
pub(crate) async fn idle_clients(port: u16, count: usize) -> Result<Vec<Client>, tokio_postgres::Error> {
    const AT_ONCE: usize = 32;
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let batch = AT_ONCE.min(count - clients.len());
        let started: Vec<_> = (0..batch).map(|_| tokio::spawn(connect(port))).collect();
        for one in started {
            let client = one.await.unwrap()?;
            client.batch_execute("select 1").await?;
            clients.push(client);
        }
    }
    Ok(clients)
}

/// Asks each of these clients something; says how many could not be answered, and why the first could not.
pub(crate) async fn still_there(clients: &[Client]) -> Result<(), String> {
    let mut failed = Vec::new();
    for client in clients {
        if let Err(error) = client.simple_query("select 1").await {
            failed.push(said(&error));
        }
    }
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} of {} idle clients are gone: {first}", failed.len(), clients.len())),
    }
}
