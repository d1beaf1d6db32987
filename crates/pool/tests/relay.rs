//! Clients through the whole pooler to a server that follows a script: what they hear when connections are lost.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel::journal::{Boot, Journal};
use kernel::{Clock, DrainTrigger, Entropy};
use md5::{Digest as _, Md5};
use pool::plan::{Listen, Plan, PoolPlan, ServerAddress, ServerPlan};
use pool::wire::{HEADER, Startup, backend, frame, frontend, startup, tag};
use pool::{PoolSocket, Pools};
use testkit::postgres::{PgClient, say};

use crate::kit::{POOLER, SOON, control, plan};

/// What a connection expects and says, in order; then it is closed, by the server.
type Script = Vec<(&'static str, Vec<u8>)>;

struct Scene {
    address: SocketAddr,
    pools: Pools,
    trigger: DrainTrigger,
    /// What went wrong, and how many scripts are left.
    shared: Arc<Mutex<(Vec<String>, std::collections::VecDeque<Script>)>>,
}

/// Keeps its connection until the other end closes it.
const STAY: &str = "stay";

fn scene(scripts: Vec<Script>) -> Scene {
    let shared = Arc::new(Mutex::new((Vec::new(), scripts.into())));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let theirs = Arc::clone(&shared);
    // It ends with the process.
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let shared = Arc::clone(&theirs);
            std::thread::spawn(move || serve(socket.unwrap(), &shared));
        }
    });
    let address = ServerAddress::Tcp { host: server.ip().to_string(), port: server.port() };
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = Listen::Tcp(front.local_addr().unwrap());
    let mut pool =
        PoolPlan { servers: vec![ServerPlan { name: "pretender".into(), address }], probe_interval: SOON, ..plan(&[]) };
    pool.listen = vec![listen.clone()];
    pool.size = 1;
    pool.auth.users = vec![("joe".into(), format!("md5{}", hex(b"secretjoe")))];
    let clock = Clock::real();
    let journal = Journal::unkept(clock.clone(), Boot::new(&mut Entropy::from_seed(1)));
    let (trigger, drain) = DrainTrigger::new();
    let address = front.local_addr().unwrap();
    let plan = Plan { pools: vec![Arc::new(pool)] };
    let pools = Pools::start(&plan, &[PoolSocket::Tcp(listen, front)], 1, clock, journal, &drain, control()).unwrap();
    pools.open();
    Scene { address, pools, trigger, shared }
}

fn hex(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn serve(mut socket: TcpStream, shared: &Mutex<(Vec<String>, std::collections::VecDeque<Script>)>) {
    let (mut buf, mut more) = (Vec::new(), [0; 4096]);
    let is_pooler = loop {
        match startup(&buf).unwrap() {
            Some((Startup::Session { parameters, .. }, length)) => {
                let is_pooler = parameters.contains(&("user", POOLER.0));
                buf.drain(..length);
                break is_pooler;
            }
            Some(_) => return,
            None => match socket.read(&mut more) {
                Ok(count) if count > 0 => buf.extend_from_slice(&more[..count]),
                _ => return,
            },
        }
    };
    let mut script = match is_pooler {
        true => Script::new(),
        false => match shared.lock().unwrap().1.pop_front() {
            Some(script) => script,
            None => return shared.lock().unwrap().0.push("a connection more than there are scripts".into()),
        },
    }
    .into_iter();
    socket.write_all(&say::welcome(7)).unwrap();
    loop {
        let next = if is_pooler { None } else { script.next() };
        if !is_pooler && next.is_none() {
            return;
        }
        while frame(&buf).unwrap().is_none_or(|frame| frame.len > buf.len()) {
            match socket.read(&mut more) {
                Ok(count) if count > 0 => buf.extend_from_slice(&more[..count]),
                _ => {
                    if let Some((expected, _)) = next.filter(|(expected, _)| *expected != STAY) {
                        shared.lock().unwrap().0.push(format!("closed instead of {expected}"));
                    }
                    return;
                }
            }
        }
        let message = frame(&buf).unwrap().unwrap();
        let body = buf[HEADER..message.len].to_vec();
        buf.drain(..message.len);
        let mut out = Vec::new();
        match next {
            Some((expected, answer)) => {
                let text = match message.tag {
                    tag::QUERY => String::from_utf8(frontend::query_text(&body).unwrap().to_vec()).unwrap(),
                    other => char::from(other).to_string(),
                };
                if expected == STAY && message.tag == tag::TERMINATE {
                    return;
                }
                if text != expected {
                    return shared.lock().unwrap().0.push(format!("{text} instead of {expected}"));
                }
                out = answer;
            }
            None if message.tag == tag::TERMINATE => return,
            None => {
                let text = String::from_utf8_lossy(&body).into_owned();
                if text.contains("max_connections") {
                    backend::put_data_row(
                        &mut out,
                        &[Some("100"), Some("3"), Some("2"), Some("1700000000000000"), None],
                    );
                } else {
                    backend::put_data_row(&mut out, &[Some("f"), Some("00000003000000000000000A"), Some("12345")]);
                }
                backend::put_ready(&mut out, b'I');
            }
        }
        if socket.write_all(&out).is_err() {
            return;
        }
    }
}

impl Scene {
    fn client(&self) -> PgClient {
        let mut client = PgClient::connect(self.address).unwrap();
        client.send(&say::startup(0, &[("user", "joe"), ("database", "d")])).unwrap();
        let (tag, body) = client.receive(SOON).unwrap().unwrap();
        assert_eq!((tag, &body[..4]), (b'R', &[0, 0, 0, 5][..]), "md5 is asked for");
        let inner = hex(b"secretjoe");
        let proof = format!("md5{}\0", hex(&[inner.as_bytes(), &body[4..8]].concat()));
        client.send(&testkit::postgres::message(b'p', proof.as_bytes())).unwrap();
        client.until_ready(SOON).unwrap();
        client
    }

    /// Waits until the pooler knows that the server has ended its connection.
    #[track_caller]
    fn is_lost(&self) {
        testkit::eventually(SOON, "the loss", || (self.pools.view()[0].connections == 0).then_some(()));
    }

    /// Every script was followed to its end.
    #[track_caller]
    fn ends(self) {
        let shared = self.shared.lock().unwrap();
        assert!(shared.0.is_empty(), "{:?}", shared.0);
        assert!(shared.1.is_empty(), "{} scripts are left", shared.1.len());
        drop(shared);
        self.trigger.advance(kernel::DrainPhase::Closed);
        self.pools.join();
    }
}

fn done(tag: &str, status: u8) -> Vec<u8> {
    [say::complete(tag), say::ready(status)].concat()
}

/// The server refuses, and ends.
fn refused() -> Vec<u8> {
    say::error("FATAL", "57P01", "terminating connection due to administrator command")
}

/// What came, short: tags, with what statuses, tags of commands and errors say.
fn told(messages: &[(u8, Vec<u8>)]) -> String {
    let one = |(tag, body): &(u8, Vec<u8>)| match tag {
        b'Z' => format!("Z{}", char::from(body[0])),
        b'C' => String::from_utf8_lossy(&body[..body.len() - 1]).into_owned(),
        b'E' => format!("E{}", backend::Fields::read(body).unwrap().sqlstate()),
        tag => char::from(*tag).to_string(),
    };
    messages.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn asks(client: &mut PgClient, text: &str, expected: &str) {
    assert_eq!(told(&client.query(text).unwrap()), expected, "{text}");
}

const FAILED: &str = "BEGIN; ROLLBACK TO SAVEPOINT \"the connection of this transaction was lost\"";

#[test]
fn a_statement_that_was_refused_is_repeated_and_one_that_may_have_run_is_not() {
    let scene = scene(vec![
        vec![("insert", refused())],
        vec![("insert", done("INSERT 0 1", b'I')), ("commit", refused())],
        vec![("insert", Vec::new())],
        vec![("select", done("SELECT 1", b'I')), (STAY, Vec::new())],
    ]);
    let mut client = scene.client();
    asks(&mut client, "insert", "INSERT 0 1 ZI");
    asks(&mut client, "commit", "E57P01 ZI");
    asks(&mut client, "insert", "E08006 ZI");
    asks(&mut client, "select", "SELECT 1 ZI");
    scene.ends();
}

#[test]
fn a_statement_that_ends_its_own_connections_is_not_repeated_for_ever() {
    let kill = || vec![("select pg_terminate_backend(pg_backend_pid())", refused())];
    let scene =
        scene(vec![kill(), kill(), kill(), kill(), vec![("select", done("SELECT 1", b'I')), (STAY, Vec::new())]]);
    let mut client = scene.client();
    asks(&mut client, "select pg_terminate_backend(pg_backend_pid())", "E57P01 ZI");
    asks(&mut client, "select", "SELECT 1 ZI");
    scene.ends();
}

#[test]
fn a_transaction_that_has_only_begun_goes_on_elsewhere() {
    let scene = scene(vec![
        // Lost before it is answered, and again after.
        vec![("begin isolation level serializable", Vec::new())],
        vec![("begin isolation level serializable", done("BEGIN", b'T'))],
        vec![
            ("begin isolation level serializable", done("BEGIN", b'T')),
            ("insert", done("INSERT 0 1", b'T')),
            ("commit", done("COMMIT", b'I')),
            (STAY, Vec::new()),
        ],
    ]);
    let mut client = scene.client();
    asks(&mut client, "begin isolation level serializable", "BEGIN ZT");
    scene.is_lost();
    asks(&mut client, "insert", "INSERT 0 1 ZT");
    asks(&mut client, "commit", "COMMIT ZI");
    scene.ends();
}

/// What the server gets in the place of a COMMIT that cannot be.
const LOST_COMMIT: &str = "ROLLBACK; DO $evenkeel$ BEGIN RAISE EXCEPTION USING ERRCODE = '08006', \
    MESSAGE = 'the transaction was lost with its connection, and is rolled back'; END $evenkeel$";

#[test]
fn a_transaction_that_was_lost_has_to_be_rolled_back() {
    let begun = || vec![("begin", done("BEGIN", b'T')), ("insert", done("INSERT 0 1", b'T'))];
    let failed = || ((FAILED), [say::complete("BEGIN"), say::error("ERROR", "3B001", "no"), say::ready(b'E')].concat());
    let scene = scene(vec![
        begun(),
        [vec![failed(), ("rollback", done("ROLLBACK", b'I'))], begun()].concat(),
        begun(),
        vec![
            failed(),
            (LOST_COMMIT, [say::complete("ROLLBACK"), say::error("ERROR", "08006", "lost"), say::ready(b'I')].concat()),
            (STAY, Vec::new()),
        ],
    ]);
    let mut client = scene.client();
    asks(&mut client, "begin", "BEGIN ZT");
    asks(&mut client, "insert", "INSERT 0 1 ZT");
    scene.is_lost();
    asks(&mut client, "rollback", "ROLLBACK ZI");
    asks(&mut client, "begin", "BEGIN ZT");
    asks(&mut client, "insert", "INSERT 0 1 ZT");
    scene.is_lost();
    // What cannot be committed is told, and that ends it.
    asks(&mut client, "commit", "E08006 ZI");
    asks(&mut client, "begin", "BEGIN ZT");
    asks(&mut client, "insert", "INSERT 0 1 ZT");
    scene.is_lost();
    // Drivers close statements without looking at the answer: a commit behind that is no success either.
    client.send(&[testkit::postgres::message(b'C', b"Sx\0"), say::sync()].concat()).unwrap();
    assert_eq!(told(&client.until_ready(SOON).unwrap()), "E08006 ZE");
    asks(&mut client, "commit", "ROLLBACK E08006 ZI");
    scene.ends();
}

#[test]
fn what_is_sent_behind_a_lost_begin_stays_in_its_transaction() {
    let scene = scene(vec![
        vec![("begin", Vec::new())],
        vec![
            (FAILED, [say::error("ERROR", "3B001", "no"), say::ready(b'E')].concat()),
            ("rollback", done("ROLLBACK", b'I')),
            (STAY, Vec::new()),
        ],
    ]);
    let mut client = scene.client();
    client.send(&[say::query("begin"), say::query("insert")].concat()).unwrap();
    assert_eq!(told(&client.until_ready(SOON).unwrap()), "E08006 ZE");
    assert_eq!(told(&client.until_ready(SOON).unwrap()), "E08006 ZE");
    asks(&mut client, "rollback", "ROLLBACK ZI");
    scene.ends();
}

#[test]
fn a_batch_that_was_answered_but_not_ended_is_lost_with_its_connection() {
    let flushed =
        [testkit::postgres::message(b'1', b""), testkit::postgres::message(b'2', b""), say::complete("INSERT 0 1")]
            .concat();
    let batch = |end| vec![("P", Vec::new()), ("B", Vec::new()), ("E", Vec::new()), ("H", end)];
    let scene = scene(vec![
        batch(flushed.clone()),
        [batch(flushed.clone()), vec![(STAY, Vec::new())]].concat(),
        vec![("select", done("SELECT 1", b'I')), (STAY, Vec::new())],
    ]);
    let send =
        [say::parse("", "insert"), say::bind("", &[]), say::execute(), testkit::postgres::message(b'H', b"")].concat();
    let mut client = scene.client();
    client.send(&send).unwrap();
    for expected in ["1", "2", "INSERT 0 1", "E08006"] {
        assert_eq!(told(&[client.receive(SOON).unwrap().unwrap()]), expected);
    }
    client.send(&say::sync()).unwrap();
    assert_eq!(told(&client.until_ready(SOON).unwrap()), "ZI");
    drop(client);
    // A client that leaves before it has ended its batch leaves nothing to be committed by the next.
    let mut client = scene.client();
    client.send(&send).unwrap();
    for expected in ["1", "2", "INSERT 0 1"] {
        assert_eq!(told(&[client.receive(SOON).unwrap().unwrap()]), expected);
    }
    drop(client);
    let mut client = scene.client();
    asks(&mut client, "select", "SELECT 1 ZI");
    scene.ends();
}

#[test]
fn a_client_with_a_part_of_a_row_hears_nothing_behind_it() {
    let row = say::rows(&["a row that is cut"]);
    let scene = scene(vec![vec![("select", row[..row.len() - 5].to_vec())]]);
    let mut client = scene.client();
    client.send(&say::query("select")).unwrap();
    assert_eq!(client.receive(SOON).unwrap().unwrap().0, b'T');
    let error = format!("{:#}", client.receive(Duration::from_secs(5)).unwrap_err());
    assert!(error.contains("closed within a message"), "{error}");
    scene.ends();
}
