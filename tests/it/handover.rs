//! The next process in the place of the one before: what happens to connections of every kind, and to hand-overs that
//! come to nothing. Under load it is `handover_load`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use testkit::dns::Mood;
use testkit::{
    Binary, DnsServer, Ending, Gate, RawClient, Reply, Script, ServingUpstream, Signal, Upstream, eventually,
};

use crate::support::{Config, SOON, ask, ask_with, directory, json, new_token, run_in, saying, taken_port};

/// Longer than an idle connection has while a node stops.
const BEYOND_A_STOP: Duration = Duration::from_millis(1300);

/// A directory for the store that nodes share one after the other.
#[track_caller]
pub(crate) fn store() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// With this store.
pub(crate) fn with_store(config: &Config, store: &Path) -> Config {
    config.clone().with(&format!("[store]\ndirectory = \"{}\"", store.display()))
}

/// A node that takes over by this configuration.
#[track_caller]
pub(crate) fn next(config: &Config) -> Binary {
    Binary::up_with(&config.text(), &["--take-over"], &[]).unwrap()
}

/// Ends, and had nothing to cut.
#[track_caller]
pub(crate) fn ends(node: &mut Binary) {
    assert_eq!(node.wait_exit(SOON).unwrap(), Some(0), "{}", node.logs());
}

/// How many workers the console knows of.
#[track_caller]
fn workers(node: &Binary) -> u64 {
    json(&ask(node.console(), "GET /v1/status"))["workers"].as_u64().unwrap()
}

/// One that holds `/held` until the gate opens.
#[track_caller]
fn held_shop(gate: &Gate) -> ServingUpstream {
    let held = gate.clone();
    let shop = Upstream::serving(move |r| match r.path() {
        "/held" => Reply::ok("at last").wait(&held),
        path => Reply::ok(path.to_owned()),
    });
    shop.unwrap()
}

#[test]
fn an_idle_connection_stays_and_its_next_request_is_answered_as_the_last() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = config.up();
    let mut idle = RawClient::connect(old.gateway()).unwrap();
    let mut fresh = RawClient::connect(old.gateway()).unwrap();
    assert!(!idle.get("/", SOON).unwrap().closes());

    let new = next(&config);
    assert_eq!(new.gateway(), old.gateway());
    old.wait_log("the next process serves", SOON).unwrap();
    // Who comes now comes to the new one, which keeps connections.
    let mut other = RawClient::connect(new.gateway()).unwrap();
    assert!(!other.get("/", SOON).unwrap().closes());
    idle.expect_silence(BEYOND_A_STOP).unwrap();
    for (client, what) in [(&mut idle, "idle"), (&mut fresh, "new")] {
        let answer = client.get("/", SOON).unwrap();
        assert_eq!((answer.status, answer.closes()), (200, true), "{what}: {answer:?}");
        client.expect_close(SOON).unwrap();
    }
    ends(&mut old);
    assert!(!other.get("/", SOON).unwrap().closes());
}

#[test]
fn an_idle_connection_ends_after_its_usual_time() {
    let (store, shop) = (store(), saying("x"));
    let config = Config::new().gateway("idle_timeout = \"2s\"").service("shop", &[shop.addr()], "");
    let config = with_store(&config, store.path());
    let mut old = config.up();
    let mut idle = RawClient::connect(old.gateway()).unwrap();
    idle.get("/", SOON).unwrap();
    let _new = next(&config);
    idle.expect_close(SOON).unwrap();
    ends(&mut old);
}

#[test]
fn requests_that_were_sent_ahead_are_all_answered() {
    let (store, gate) = (store(), Gate::new());
    let shop = held_shop(&gate);
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = config.up();
    let mut client = RawClient::connect(old.gateway()).unwrap();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
    client.send(request("/held") + &request("/2")).unwrap();
    eventually(SOON, "the request to arrive", || (shop.requests() == 1).then_some(()));

    let _new = next(&config);
    old.wait_log("the next process serves", SOON).unwrap();
    client.send(request("/3") + &request("/4")).unwrap();
    gate.open();
    let answers = client.read_responses(4, SOON).unwrap();
    let bodies: Vec<String> = answers.iter().map(|a| a.text()).collect();
    assert_eq!(bodies, ["at last", "/2", "/3", "/4"]);
    assert_eq!(answers.iter().map(|a| a.closes()).collect::<Vec<_>>(), [false, false, false, true]);
    client.expect_close(SOON).unwrap();
    ends(&mut old);
}

/// A node with a tunnel through it, and the tunnel.
#[track_caller]
fn tunnel(config: &Config) -> (Binary, RawClient) {
    let node = config.up();
    let mut client = RawClient::connect(node.gateway()).unwrap();
    client.send("GET /chat HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nping").unwrap();
    assert_eq!(client.read_response_head(SOON).unwrap().status, 101);
    assert_eq!(client.read_exact(4, SOON).unwrap(), b"pong");
    (node, client)
}

/// The upstream of [`tunnel`].
fn echo() -> Script {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    Script::new().read_head().send(switched).read_until("ping").send("pong")
}

#[test]
fn a_tunnel_goes_on_until_it_ends() {
    let store = store();
    let echo = Upstream::script(vec![echo().read_until("again").send("yes").read_end().close()]).unwrap();
    let config = with_store(&Config::new().service("echo", &[echo.addr()], ""), store.path());
    let (mut old, mut client) = tunnel(&config);
    let _new = next(&config);
    old.wait_log("the next process serves", SOON).unwrap();
    client.expect_silence(BEYOND_A_STOP).unwrap();
    client.send("again").unwrap();
    assert_eq!(client.read_exact(3, SOON).unwrap(), b"yes");
    assert!(old.is_running());
    client.half_close().unwrap();
    client.expect_close(SOON).unwrap();
    ends(&mut old);
    echo.finish(SOON).unwrap();
}

#[test]
fn what_goes_on_for_too_long_is_cut() {
    let store = store();
    let echo = Upstream::script(vec![echo().hold()]).unwrap();
    let config = Config::new().gateway("handover_timeout = \"500ms\"").service("echo", &[echo.addr()], "");
    let config = with_store(&config, store.path());
    let (mut old, mut client) = tunnel(&config);
    let _new = next(&config);
    assert!(matches!(client.expect_end(SOON).unwrap(), Ending::Closed | Ending::Reset));
    assert_eq!(old.wait_exit(SOON).unwrap(), Some(1), "{}", old.logs());
    assert!(old.logs().contains("what is left is cut"), "{}", old.logs());
}

#[test]
fn a_stop_after_a_hand_over_waits_for_requests_and_for_nobody_idle() {
    let (store, gate) = (store(), Gate::new());
    let shop = held_shop(&gate);
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = config.up();
    let mut idle = RawClient::connect(old.gateway()).unwrap();
    idle.get("/", SOON).unwrap();
    let mut busy = RawClient::connect(old.gateway()).unwrap();
    busy.send("GET /held HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
    eventually(SOON, "the request to arrive", || (shop.requests() == 2).then_some(()));
    let _new = next(&config);
    old.wait_log("the next process serves", SOON).unwrap();
    old.signal(Signal::Term).unwrap();
    idle.expect_close(SOON).unwrap();
    assert!(old.is_running());
    gate.open();
    let answer = busy.read_response(SOON).unwrap();
    assert_eq!((answer.text().as_str(), answer.closes()), ("at last", true));
    ends(&mut old);
}

#[test]
fn workers_and_addresses_are_those_of_the_next_configuration() {
    let (store, shop) = (store(), saying("x"));
    let listener = |name: &str| format!("[listener.{name}]\naddress = \"127.0.0.1:0\"");
    let base = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = base.clone().with(&listener("goes")).with("[api]\nlisten = \"127.0.0.1:0\"").up();
    let [stays, goes] = old.addrs("gateway")[..] else { panic!("{:?}", old.addrs("gateway")) };
    assert_eq!(workers(&old), 2);

    let new = next(&base.gateway("workers = 3").with(&listener("comes")));
    let [same, comes] = new.addrs("gateway")[..] else { panic!("{:?}", new.addrs("gateway")) };
    assert_eq!((same, new.console()), (stays, old.console()));
    assert_ne!(comes, goes);
    assert!(new.addrs("api").is_empty());
    assert_eq!(workers(&new), 3);
    for addr in [same, comes] {
        assert_eq!(ask(addr, "GET /").status, 200);
    }
    ends(&mut old);
    assert!(RawClient::connect(goes).is_err() && RawClient::connect(old.api()).is_err(), "nobody serves there");
}

#[test]
fn the_console_is_ready_all_the_time_and_says_so_on_connections_from_before() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = config.up();
    let mut probe = RawClient::connect(old.console()).unwrap();
    assert_eq!(probe.get("/readyz", SOON).unwrap().text(), "ready\n");
    let new = next(&config);
    old.wait_log("the next process serves", SOON).unwrap();
    let answer = probe.get("/readyz", SOON).unwrap();
    assert_eq!((answer.status, answer.closes()), (200, true), "{answer:?}");
    probe.expect_close(SOON).unwrap();
    assert_eq!(ask(new.console(), "GET /readyz").status, 200);
    ends(&mut old);
}

#[test]
fn endpoints_that_registered_are_known_to_the_next_process() {
    let (store, shop, token) = (store(), saying("x"), new_token("shop", &["register:shop"]));
    let config = Config::new().with("[api]\nlisten = \"127.0.0.1:0\"").with(&token.stanza);
    let config = with_store(&config.with("[service.shop]\nregister = {}"), store.path());
    let mut old = config.up();
    let head = format!("PUT /v1/services/shop/endpoints/{}\nAuthorization: Bearer {}", shop.addr(), token.text);
    assert_eq!(ask_with(old.api(), &head, "{\"lease\": \"20s\", \"weight\": 3}").status, 201);
    assert_eq!(ask(old.gateway(), "GET /").status, 200);
    let new = next(&config);
    assert_eq!(ask(new.gateway(), "GET /").status, 200);
    ends(&mut old);
    // For the next process it is no new one.
    assert_eq!(ask_with(new.api(), &head, "{\"lease\": \"20s\", \"weight\": 3}").status, 200);
}

#[test]
fn a_configuration_that_cannot_be_used_disturbs_nobody() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = config.up();
    let mut idle = RawClient::connect(old.gateway()).unwrap();
    idle.get("/", SOON).unwrap();

    let wrong = directory(&config.clone().with("[service.shop2]\nendpoins = []").text());
    let ended = run_in(wrong.path(), &["up", "--take-over"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    assert!(ended.stderr.contains("error[unknown-key]"), "{}", ended.stderr);
    assert!(!old.logs().contains("hand-over"), "it was not even asked: {}", old.logs());

    // What the system refuses is found when the sockets are there already.
    let (_taken, addr) = taken_port();
    let blocked = directory(&config.clone().with(&format!("[listener.more]\naddress = \"{addr}\"")).text());
    let ended = run_in(blocked.path(), &["up", "--take-over"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("error[address-unavailable]"), "{}", ended.stderr);
    old.wait_log("it ended before it was ready", SOON).unwrap();

    assert!(!idle.get("/", SOON).unwrap().closes());
    let mut client = RawClient::connect(old.gateway()).unwrap();
    assert!(!client.get("/", SOON).unwrap().closes());
    // And the sockets are its own again: a stop empties the queue and closes them.
    old.signal(Signal::Term).unwrap();
    ends(&mut old);
    assert!(RawClient::connect(old.gateway()).is_err());
    assert!(!store.path().join("handover.sock").exists());
}

/// Somebody who asks for the sockets and then thinks about it.
#[track_caller]
fn hesitant(store: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(store.join("handover.sock")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"{\"say\":\"take-over\",\"version\":1,\"pid\":1,\"release\":\"0\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"say\":\"listeners\",\"version\":1,"), "{line}");
    stream
}

#[test]
fn one_hand_over_at_a_time() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = config.up();
    let first = hesitant(store.path());
    let second = directory(&config.text());
    let ended = run_in(second.path(), &["up", "--take-over"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("another process is taking over already"), "{}", ended.stderr);
    drop(first);
    old.wait_log("it ended before it was ready", SOON).unwrap();
    let new = next(&config);
    assert_eq!(ask(new.gateway(), "GET /").status, 200);
    ends(&mut old);
}

#[test]
fn nonsense_and_other_versions_are_sent_away() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let node = config.up();
    let socket = store.path().join("handover.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for (line, answer) in [
        ("{\"say\":\"take-over\",\"version\":9,\"pid\":1,\"release\":\"9\"}\n", "it speaks version 9"),
        ("{\"say\":\"ready\",\"keeps\":[]}\n", ""),
        ("GET / HTTP/1.1\r\n\r\n", ""),
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut got = String::new();
        // One that is not answered is closed, perhaps over what was not read.
        let _reset = BufReader::new(&stream).read_line(&mut got).is_err();
        assert!(got.contains(answer) && got.is_empty() == answer.is_empty(), "{line}: {got}");
    }
    assert_eq!(ask(node.gateway(), "GET /").status, 200);
}

#[test]
fn a_node_that_is_killed_while_it_hands_over_is_replaced_without_a_refused_connection() {
    let (store, shop, dns) = (store(), saying("x"), DnsServer::start().unwrap());
    // The next process waits for an answer from DNS, and in vain, before it is ready.
    dns.behave(Mood::Silent);
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = config.up();
    let (gateway, silent) = (old.gateway(), format!("[dns]\nservers = [\"{}\"]", dns.addr()));
    let slow = config
        .with(&silent)
        .with("[service.slow]\ndns = \"slow.example:80\"")
        .with("[[route]]\npath = \"/slow\"\nservice = \"slow\"\n[[route]]\nname = \"all\"\nservice = \"shop\"");
    let starting = std::thread::spawn(move || next(&slow));
    old.wait_log("has asked for the listeners", SOON).unwrap();
    eventually(SOON, "the next process to wait for DNS", || (dns.asked() > 0).then_some(()));
    old.signal(Signal::Kill).unwrap();
    old.wait_exit(SOON).unwrap();
    // Nobody accepts now, and the connection waits in the queue.
    let mut between = RawClient::connect(gateway).unwrap();
    assert_eq!(between.get("/", SOON).unwrap().status, 200);
    let new = starting.join().unwrap();
    new.wait_log("the process before has ended meanwhile", SOON).unwrap();
    assert_eq!(new.gateway(), gateway);
}

#[test]
fn with_nobody_there_a_take_over_is_a_usual_start() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut first = next(&config);
    first.wait_log("nobody is there to take over from", SOON).unwrap();
    assert_eq!(ask(first.gateway(), "GET /").status, 200);
    // One that was killed leaves its socket behind; who starts next replaces it.
    first.signal(Signal::Kill).unwrap();
    first.wait_exit(SOON).unwrap();
    assert!(store.path().join("handover.sock").exists());
    let mut second = config.up();
    let third = next(&config);
    third.wait_log("serves in the place of the one before", SOON).unwrap();
    ends(&mut second);
    assert_eq!(ask(third.gateway(), "GET /").status, 200);
    let left: Vec<_> = std::fs::read_dir(store.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("handover.sock.")), "{left:?}");
}

#[test]
fn a_plain_start_where_a_node_runs_says_how_to_take_over() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let node = config.up();
    let same = directory(&config.gateway(&format!("listen = \"{}\"", node.gateway())).text());
    let ended = run_in(same.path(), &["up"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let expected = format!("process {} runs with the same store: `evenkeel up --take-over`", node.pid());
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    assert_eq!(ask(node.gateway(), "GET /").status, 200);
}

/// A process that is nobody's child here.
struct Stranger(String);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _gone = std::process::Command::new("kill").args(["-TERM", &self.0]).status().is_err();
    }
}

#[test]
fn a_signal_starts_the_next_process() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut node = config.up();
    node.write_config(&config.gateway("workers = 3").text()).unwrap();
    node.signal(Signal::Usr2).unwrap();
    let line = node.wait_log("the next process is started", SOON).unwrap();
    let pid = line.rsplit_once("pid=").unwrap().1.trim().to_owned();
    let child = Stranger(pid.clone());
    node.wait_log("this process serves in the place of the one before", SOON).unwrap();
    eventually(SOON, "the next process alone", || (workers(&node) == 3).then_some(()));
    assert_eq!(ask(node.gateway(), "GET /").status, 200);
    eventually(SOON, "the process before to end", || (!node.is_running()).then_some(()));
    assert_eq!(ask(node.gateway(), "GET /").status, 200);
    // Its output is the first one's.
    drop(child);
    ends(&mut node);
}

#[test]
fn a_signal_whose_next_process_cannot_start_changes_nothing() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut node = config.up();
    node.write_config("nonsense").unwrap();
    node.signal(Signal::Usr2).unwrap();
    node.wait_log("the process that was to take over has ended", SOON).unwrap();
    assert!(node.is_running());
    assert_eq!(ask(node.gateway(), "GET /").status, 200);
}
