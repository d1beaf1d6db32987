//! The next process in the place of the one before: what happens to connections of every kind. Hand-overs that come to
//! nothing are in `handover_refused`, load is in `handover_load`.

use std::path::Path;
use std::time::Duration;

use testkit::{Binary, Ending, Gate, RawClient, Reply, Script, ServingUpstream, Signal, Upstream, eventually};

use crate::support::{Config, SOON, ask, ask_with, json, new_token, saying};

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

#[test]
fn one_that_never_stops_sending_ahead_is_ended_in_order() {
    let (store, gate) = (store(), Gate::new());
    let shop = held_shop(&gate);
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = config.up();
    let mut client = RawClient::connect(old.gateway()).unwrap();
    let ahead = "GET /more HTTP/1.1\r\nHost: shop\r\n\r\n".repeat(300);
    client.send(format!("GET /held HTTP/1.1\r\nHost: shop\r\n\r\n{ahead}")).unwrap();
    eventually(SOON, "the request to arrive", || (shop.requests() == 1).then_some(()));
    let _new = next(&config);
    old.wait_log("the next process serves", SOON).unwrap();
    gate.open();
    // The one in flight, and 256 more behind each of which there is more; then the last.
    let answers = client.read_responses(258, SOON).unwrap();
    let kept = answers.iter().filter(|answer| !answer.closes()).count();
    assert_eq!((kept, answers[257].closes()), (257, true));
    client.expect_close(SOON).unwrap();
    assert_eq!(shop.requests(), 258, "what is not answered was not asked");
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
fn a_node_that_is_stopping_can_still_be_replaced() {
    let (store, shop) = (store(), saying("x"));
    let config = Config::new().gateway("drain_delay = \"10m\"").service("shop", &[shop.addr()], "");
    let config = with_store(&config, store.path());
    let mut old = config.up();
    let mut idle = RawClient::connect(old.gateway()).unwrap();
    old.signal(Signal::Term).unwrap();
    old.wait_log("stopping", SOON).unwrap();
    let new = next(&config);
    idle.expect_close(SOON).unwrap();
    ends(&mut old);
    assert_eq!(ask(new.gateway(), "GET /").status, 200);
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
    let told = node.wait_log("a hand-over did not come about", SOON).unwrap();
    assert!(told.contains("was to take over: it has ended (exit status: 2)"), "{told}");
    assert!(node.is_running());
    assert_eq!(ask(node.gateway(), "GET /").status, 200);
}
