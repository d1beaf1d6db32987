//! What operators do to a whole node, over the command line and over HTTP: where requests go then, what survives a
//! restart by SIGKILL, and what is said when it could not.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use testkit::binary::{Ended, Signal};
use testkit::{Binary, Gate, RawClient, Reply, ServingUpstream, Upstream, eventually};

use crate::support::{
    Config, Metrics, SOON, ask, ask_with, await_metric, json, new_token, run, run_in, saying, taken_port,
};

const KEPT: &str = "evenkeel_operator_overrides_kept";

struct Shop {
    config: Config,
    shops: [ServingUpstream; 2],
    store: tempfile::TempDir,
}

impl Shop {
    /// Two endpoints, and a directory for decisions that outlives the node.
    fn new() -> Shop {
        let shops = [saying("one"), saying("two")];
        let store = tempfile::tempdir().unwrap();
        let directory = format!("[store]\ndirectory = \"{}\"", store.path().join("data").display());
        let config = Config::new()
            .service("shop", &[shops[0].addr(), shops[1].addr()], "balance = \"round_robin\"\n")
            .with(&directory);
        Shop { config, shops, store }
    }

    fn name(&self, at: usize) -> String {
        self.shops[at].addr().to_string()
    }

    fn file(&self) -> std::path::PathBuf {
        self.store.path().join("data/ledger.db")
    }
}

/// Runs a command against a node.
fn tell(node: &Binary, args: &[&str]) -> Ended {
    let admin = format!("http://{}", node.console());
    run(&[args, &["--admin", &admin]].concat())
}

/// Who answers a few requests.
fn answers(node: &Binary) -> Vec<String> {
    let mut all: Vec<_> = (0..6).map(|_| ask(node.gateway(), "GET /").text()).collect();
    all.sort();
    all.dedup();
    all
}

fn state(node: &Binary, endpoint: &str) -> Value {
    let status = json(&ask(node.console(), "GET /v1/status"));
    let endpoints = status["services"][0]["endpoints"].as_array().unwrap().clone();
    endpoints.into_iter().find(|e| e["name"] == endpoint).unwrap()
}

fn kill(mut node: Binary) {
    node.signal(Signal::Kill).unwrap();
    assert_eq!(node.wait_exit(SOON).unwrap(), None);
}

fn notices(node: &Binary) -> String {
    json(&ask(node.console(), "GET /v1/status"))["notices"].to_string()
}

#[test]
fn a_drained_endpoint_stays_drained_through_a_crash_until_it_is_resumed() {
    let shop = Shop::new();
    let (one, node) = (shop.name(0), shop.config.up());
    assert_eq!(answers(&node), ["one", "two"]);
    let done = tell(&node, &["endpoint", "drain", "shop", &one, "--reason", "a new disk"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.stdout.starts_with(&format!("{one} of shop is drained: it gets no new requests")), "{done:?}");
    assert!(done.stdout.ends_with("This holds after a restart too.\n"), "{done:?}");
    assert_eq!(answers(&node), ["two"]);
    // It was acknowledged, so it is on disk: a crash at once loses nothing.
    kill(node);

    let before = shop.shops[0].requests();
    let node = shop.config.up();
    node.wait_log("what operators had decided is in force", SOON).unwrap();
    assert_eq!(answers(&node), ["two"]);
    assert_eq!(shop.shops[0].requests(), before, "a request came through before the decision was in force");
    let told = state(&node, &one);
    assert_eq!(
        (told["state"].as_str(), told["reason"].as_str()),
        (Some("drained"), Some("drained by loopback: a new disk"))
    );
    assert!(told["since_seconds"].as_u64().is_some_and(|s| s < 600), "{told}");
    let listed = tell(&node, &["endpoint", "list"]).stdout;
    let line = listed.lines().find(|line| line.contains(&one)).unwrap();
    assert!(line.contains("drained") && line.ends_with("drained by loopback: a new disk"), "{listed}");
    let status = json(&ask(node.console(), "GET /v1/status"));
    assert!(status["summary"].as_str().unwrap().starts_with("1 of 2 endpoints are healthy, 1 is drained"), "{status}");
    assert_eq!(status["level"], "ok");

    let done = tell(&node, &["endpoint", "resume", "shop", &one]);
    assert_eq!(done.code, Some(0), "{done:?}");
    // It begins with a part of its share.
    eventually(SOON, "the resumed endpoint to answer", || (answers(&node) == ["one", "two"]).then_some(()));
    kill(node);
    assert_eq!(answers(&shop.config.up()), ["one", "two"]);
}

#[test]
fn what_is_in_flight_at_a_drained_endpoint_is_finished() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Upstream::serving(move |r| match r.path() {
        "/held" => Reply::ok("slow").wait(&held),
        _ => Reply::ok("slow"),
    });
    let (slow, other) = (slow.unwrap(), saying("other"));
    let node = Config::new().service("shop", &[slow.addr(), other.addr()], "balance = \"round_robin\"\n").up();
    let mut client = RawClient::connect(node.gateway()).unwrap();
    eventually(SOON, "a request to be held there", || {
        let mut another = RawClient::connect(node.gateway()).unwrap();
        another.send("GET /held HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
        let held = testkit::poll_until(std::time::Duration::from_millis(200), || {
            (state(&node, &slow.addr().to_string())["in_flight"] == 1).then_some(())
        });
        std::mem::swap(&mut client, &mut another);
        held
    });
    let name = slow.addr().to_string();
    let done = tell(&node, &["endpoint", "down", "shop", &name, "--reason", "x", "--json"]);
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(told["message"].as_str().unwrap().contains("1 in flight there is finished"), "{told}");
    assert_eq!(answers(&node), ["other"]);
    assert_eq!(state(&node, &name)["state"], "down");
    gate.open();
    assert_eq!(client.read_response(SOON).unwrap().text(), "slow");
    assert_eq!(json(&ask(node.console(), "GET /v1/status"))["level"], "degraded");
}

#[test]
fn the_last_endpoint_goes_by_force_only_and_then_requests_are_refused() {
    let shop = Shop::new();
    let (one, two, node) = (shop.name(0), shop.name(1), shop.config.up());
    tell(&node, &["endpoint", "drain", "shop", &one, "--reason", "x"]);
    let refused = tell(&node, &["endpoint", "drain", "shop", &two, "--reason", "x"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("is the last endpoint of shop that can take requests"), "{refused:?}");
    assert_eq!(answers(&node), ["two"]);
    let done = tell(&node, &["endpoint", "drain", "shop", &two, "--reason", "x", "--force"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let answer = ask(node.gateway(), "GET /\nAccept: application/json");
    assert_eq!((answer.status, json(&answer)["code"].as_str()), (503, Some("upstream-unreachable")));
    assert_eq!(json(&ask(node.console(), "GET /v1/status"))["level"], "down");
    await_metric(&node, "evenkeel_operator_overrides{kind=\"drained\"}", 2.0);
    await_metric(&node, "evenkeel_operator_actions_total{outcome=\"refused\"}", 1.0);
}

#[test]
fn the_command_says_no_with_1_and_that_it_could_not_ask_with_2() {
    let shop = Shop::new();
    let (one, node) = (shop.name(0), shop.config.up());
    for (args, hint) in [
        (&["endpoint", "drain", "shpo", &one, "--reason", "x"][..], "there is shop"),
        (&["endpoint", "drain", "shop", "127.0.0.1:1", "--reason", "x"], &one),
        (&["endpoint", "drain", "shop", &one, "--reason", " "], "say why"),
        (&["service", "failover", "shop", "--reason", "x"], "shop has one tier"),
        (&["service", "failover", "shop", "--tier", "3", "--reason", "x"], "shop has no tier 3; it has 0"),
    ] {
        let ended = tell(&node, args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(hint), "{args:?}: no {hint:?} in {}", ended.stderr);
    }
    let ended = tell(&node, &["endpoint", "drain", "shpo", &one, "--reason", "x", "--json"]);
    let problem: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, problem["known"][0].as_str()), (Some(1), Some("shop")));
    assert_eq!(tell(&node, &["service", "failback", "shop"]).code, Some(0));

    let (listener, nobody) = taken_port();
    drop(listener);
    let ended = run(&["endpoint", "list", "--admin", &nobody.to_string()]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("cannot reach a node at"), "{ended:?}");
    let ended = run(&["endpoint", "list", "--admin", &node.gateway().to_string()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("is that a node's admin address?"), "{ended:?}");
}

#[test]
fn the_node_is_found_through_its_configuration_and_beyond_loopback_with_a_token() {
    let token = new_token("ops", &["operator"]);
    let shop = Shop::new();
    let one = shop.name(0);
    let text = shop.config.with(&token.stanza).text().replace("[admin]\nlisten = \"127", "[admin]\nlisten = \"0");
    let node = Binary::up(&text.replace("listen = \"0.0.0.1:0\"", "listen = \"0.0.0.0:0\"")).unwrap();
    let here = tempfile::tempdir().unwrap();
    let port = node.console().port();
    std::fs::write(here.path().join("evenkeel.toml"), format!("[admin]\nlisten = \"0.0.0.0:{port}\"\n")).unwrap();
    std::fs::write(here.path().join("token"), format!("{}\n", token.text)).unwrap();
    let drain = ["endpoint", "drain", "shop", one.as_str(), "--reason", "x"];
    let refused = run_in(here.path(), &drain);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("--token-file FILE"), "{refused:?}");
    let done = run_in(here.path(), &[&drain[..], &["--token-file", "token"]].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    let listed = run_in(here.path(), &["endpoint", "list", "shop", "--json", "--token-file", "token"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed["endpoints"][0]["reason"], "drained by ops: x");
    let services = run_in(here.path(), &["service", "list", "--token-file", "token"]);
    assert!(services.stdout.starts_with("SERVICE  HEALTHY"), "{services:?}");
}

/// Drains the first endpoint over HTTP. What came of it.
fn drain_over_http(node: &Binary, endpoint: &str) -> Value {
    let token = json(&ask(node.console(), "GET /v1/csrf"))["token"].as_str().unwrap().to_owned();
    let head = format!(
        "POST /v1/services/shop/endpoints/{endpoint}/drain\nX-Csrf-Token: {token}\nContent-Type: application/json"
    );
    let answer = ask_with(node.console(), &head, "{\"reason\":\"x\"}");
    assert_eq!(answer.status, 200, "{answer:?}");
    json(&answer)
}

fn replace(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn a_damaged_file_is_put_aside_and_said_and_the_node_goes_on() {
    let shop = Shop::new();
    let (one, node) = (shop.name(0), shop.config.up());
    drain_over_http(&node, &one);
    kill(node);
    // Whatever did that: nothing of it is a database any more.
    for name in ["ledger.db-wal", "ledger.db-shm"] {
        let _gone = std::fs::remove_file(shop.file().with_file_name(name)).is_ok();
    }
    replace(&shop.file(), b"this is no database");
    let node = shop.config.up();
    node.wait_log("damaged-overrides", SOON).unwrap();
    assert_eq!(answers(&node), ["one", "two"]);
    assert!(notices(&node).contains("What operators had decided was lost at the start"), "{}", notices(&node));
    assert_eq!(Metrics::of(&node).get("evenkeel_operator_overrides_damaged"), Some(1.0));
    let aside = std::fs::read(shop.file().with_file_name("ledger.db.damaged-1")).unwrap();
    assert_eq!(aside, b"this is no database");
    // What is decided from now on is kept.
    assert_eq!(drain_over_http(&node, &one)["kept"], true);
    kill(node);
    let node = shop.config.up();
    assert_eq!(answers(&node), ["two"]);
    assert_eq!(Metrics::of(&node).get("evenkeel_operator_overrides_damaged"), Some(0.0));
}

#[test]
fn what_cannot_be_kept_is_in_force_and_the_answer_says_so() {
    let shop = Shop::new();
    // A file stands where the directory should be.
    replace(&shop.store.path().join("data"), b"");
    let (one, node) = (shop.name(0), shop.config.up());
    node.wait_log("overrides-not-kept", SOON).unwrap();
    assert_eq!(Metrics::of(&node).get(KEPT), Some(0.0));
    let told = drain_over_http(&node, &one);
    assert_eq!(told["kept"], false);
    assert!(told["message"].as_str().unwrap().contains("A restart will forget this"), "{told}");
    assert_eq!(answers(&node), ["two"]);
    assert!(notices(&node).contains("will not survive a restart"), "{}", notices(&node));
}

#[test]
fn a_decision_waits_for_an_endpoint_that_is_gone_and_survives_reloads() {
    let shop = Shop::new();
    let (one, node) = (shop.name(0), shop.config.up());
    drain_over_http(&node, &one);
    let reload = |text: &str, generation: f64| {
        node.write_config(text).unwrap();
        node.signal(Signal::Hup).unwrap();
        eventually(SOON, "the configuration to be taken over", || {
            Metrics::of(&node).get("evenkeel_config_generation").filter(|n| *n >= generation)
        });
    };
    let text = shop.config.text();
    let without: SocketAddr = shop.shops[0].addr();
    reload(&text.replace(&format!("\"{without}\", "), ""), 1.0);
    node.wait_log("decided about an endpoint that is not there", SOON).unwrap();
    assert_eq!(answers(&node), ["two"]);
    let before = shop.shops[0].requests();
    reload(&text, 2.0);
    assert_eq!(answers(&node), ["two"]);
    assert_eq!(shop.shops[0].requests(), before);
    assert_eq!(state(&node, &one)["state"], "drained");
}
