//! The journal from outside: what happened to a node, told by its own commands, through reloads, restarts and a crash.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::{Value, json};
use testkit::binary::{Ended, Signal};
use testkit::{Binary, Gate, Reply, ServingUpstream, Upstream, eventually};

use crate::support::{Config, SOON, ask, command, new_token, run, run_in, saying, taken_port};

struct Shop {
    config: Config,
    shops: [ServingUpstream; 2],
    store: tempfile::TempDir,
}

impl Shop {
    /// Two endpoints, and a store that outlives the node.
    fn new() -> Shop {
        let shops = [saying("one"), saying("two")];
        let store = tempfile::tempdir().unwrap();
        let directory = format!("[store]\ndirectory = \"{}\"", store.path().join("data").display());
        let config = Config::new().service("shop", &[shops[0].addr(), shops[1].addr()], "").with(&directory);
        Shop { config, shops, store }
    }

    fn name(&self, at: usize) -> String {
        self.shops[at].addr().to_string()
    }
}

/// Runs a command against a node.
fn tell(node: &Binary, args: &[&str]) -> Ended {
    let admin = format!("http://{}", node.console());
    run(&[args, &["--admin", &admin]].concat())
}

fn records(node: &Binary, args: &[&str]) -> Vec<Value> {
    let said = tell(node, &[&["journal", "--json"], args].concat());
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let page: Value = serde_json::from_str(&said.stdout).unwrap();
    page["records"].as_array().unwrap().clone()
}

fn kinds(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["kind"].as_str().unwrap()).collect()
}

/// Waits until the journal has a record of this kind.
fn await_kind(node: &Binary, kind: &str) -> Value {
    eventually(SOON, &format!("{kind} in the journal"), || records(node, &["--kind", kind]).first().cloned())
}

fn stop(mut node: Binary) {
    node.signal(Signal::Term).unwrap();
    assert_eq!(node.wait_exit(SOON).unwrap(), Some(0));
}

#[test]
fn what_happened_to_a_node_is_told_by_its_commands() {
    let shop = Shop::new();
    let node = shop.config.up();
    let started = await_kind(&node, "node.started");
    assert_eq!((&started["data"]["pid"], &started["level"]), (&json!(node.pid()), &json!("info")));
    node.write_config(&shop.config.clone().with("[[route]]\nname = \"all\"\nservice = \"shop\"").text()).unwrap();
    node.signal(Signal::Hup).unwrap();
    await_kind(&node, "config.applied");
    node.write_config("nonsense").unwrap();
    let refused = await_kind(&node, "config.refused");
    assert_eq!(refused["level"], "error");
    let one = shop.name(0);
    assert_eq!(tell(&node, &["endpoint", "drain", "shop", &one, "--reason", "a new disk"]).code, Some(0));
    let drained = await_kind(&node, "endpoint.drained");
    assert_eq!(drained["sentence"], format!("loopback drained {one} of shop: a new disk"));
    assert_eq!(
        (&drained["service"], &drained["endpoint"], &drained["actor"]),
        (&json!("shop"), &json!(one), &json!("loopback"))
    );

    let all = records(&node, &[]);
    // The newest first, as the API has it; places rise by one record after another.
    let mut wanted = vec!["endpoint.drained", "config.refused", "config.applied", "node.started"];
    let told = kinds(&all);
    wanted.retain(|kind| told.contains(kind));
    assert_eq!(wanted.len(), 4, "{told:?}");
    assert!(told.iter().position(|k| *k == "endpoint.drained") < told.iter().position(|k| *k == "node.started"));
    let places: Vec<_> = all.iter().map(|record| record["cursor"].as_u64().unwrap()).collect();
    assert!(places.is_sorted_by(|a, b| a > b), "{places:?}");
    assert_eq!(kinds(&records(&node, &["--level", "error"])), ["config.refused"]);
    assert_eq!(kinds(&records(&node, &["--service", "shop", "--kind", "endpoint"])), ["endpoint.drained"]);
    assert_eq!(kinds(&records(&node, &["--limit", "1"])), [told[0]]);
    assert_eq!(records(&node, &["--until", "1h"]), [Value::Null; 0]);

    // For people: the newest last, aligned.
    let text =
        tell(&node, &["journal", "--since", "1h", "--kind", "node.started", "--kind", "endpoint.drained"]).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("  info   Evenkeel ") && lines[1].ends_with("of shop: a new disk"), "{text}");
    assert_eq!(lines[0].as_bytes()[10], b' ', "{text}");
    // Each event counts, whether or not it is kept by now.
    assert!(
        ask(node.console(), "GET /metrics").text().contains("evenkeel_events_total{kind=\"endpoint.drained\"} 1\n")
    );
}

/// A command that goes on, and its lines.
pub(crate) struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    pub(crate) fn new(admin: &str, args: &[&str]) -> Following {
        let mut command = command();
        command.args(["journal", "--follow", "--json", "--admin", admin]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (send, lines) = sync_channel(10_000);
        let read = move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("lines".into()).spawn(read).unwrap();
        Following { child, lines }
    }

    /// Reads until a record of this kind has come; gives all that came.
    fn until(&self, kind: &str) -> Vec<Value> {
        self.until_one(kind, |record| record["kind"] == kind)
    }

    /// The same for the first record that is meant.
    pub(crate) fn until_one(&self, what: &str, is_meant: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut read = Vec::new();
        loop {
            let line = self.lines.recv_timeout(SOON).unwrap_or_else(|_| panic!("no {what} after {read:?}"));
            read.push(serde_json::from_str::<Value>(&line).unwrap());
            if is_meant(read.last().unwrap()) {
                return read;
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill().is_ok();
        let _reaped = self.child.wait().is_ok();
    }
}

#[test]
fn who_follows_misses_nothing_and_reads_nothing_twice_through_a_restart() {
    let shop = Shop::new();
    // The same address for each process: it is taken until the first one has it.
    let (taken, admin) = taken_port();
    drop(taken);
    let config =
        shop.config.text().replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{admin}\""));
    let node = Binary::up(&config).unwrap();
    await_kind(&node, "node.started");
    let following = Following::new(&format!("http://{admin}"), &[]);
    let mut read = following.until("node.started");
    let one = shop.name(0);
    tell(&node, &["endpoint", "drain", "shop", &one, "--reason", "x"]);
    read.extend(following.until("endpoint.drained"));
    stop(node);
    let node = Binary::up(&config).unwrap();
    tell(&node, &["endpoint", "resume", "shop", &one]);
    read.extend(following.until("endpoint.resumed"));
    let told = kinds(&read);
    let told: Vec<_> =
        told.into_iter().filter(|kind| kind.starts_with("node.") || kind.starts_with("endpoint.")).collect();
    assert_eq!(
        told,
        ["node.started", "endpoint.drained", "node.stopping", "node.stopped", "node.started", "endpoint.resumed"]
    );
    let keys: std::collections::HashSet<_> =
        read.iter().map(|r| (r["boot"].to_string(), r["number"].as_u64())).collect();
    assert_eq!(keys.len(), read.len(), "something came twice: {read:?}");
}

#[test]
fn a_deployment_is_marked_once_and_outlives_a_crash() {
    let shop = Shop::new();
    let mut node = shop.config.up();
    let mark = ["deploy", "mark", "--service", "shop", "--version", "4.2", "--actor", "ann", "--key", "run-7"];
    let done = tell(&node, &mark);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert_eq!(done.stdout, "shop 4.2 was deployed to production (succeeded) by ann\n");
    // It was acknowledged, so it is on disk: a crash at once loses nothing.
    node.signal(Signal::Kill).unwrap();
    node.wait_exit(SOON).unwrap();
    let node = shop.config.up();
    let marked = records(&node, &["--kind", "deploy.marked"]);
    assert_eq!((marked.len(), &marked[0]["data"]["version"]), (1, &json!("4.2")));
    let again = tell(&node, &mark);
    assert!(again.code == Some(0) && again.stdout.contains("was told before"), "{again:?}");
    assert_eq!(records(&node, &["--kind", "deploy.marked"]).len(), 1);
    let refused = tell(&node, &["deploy", "mark", "--service", "shop", "--version", "4.3", "--url", "x"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("the parameter url"), "{refused:?}");
}

#[test]
fn a_pipeline_tells_of_a_deployment_with_its_token() {
    let shop = Shop::new();
    let token = new_token("ci", &["deploys:write"]);
    let secret = "It's a secret to everybody";
    let more = format!("[api]\nlisten = \"127.0.0.1:0\"\n{}[deploys]\ngithub_secret = \"{secret}\"", token.stanza);
    let node = shop.config.clone().with(&more).up();
    let body = "{\"service\": \"shop\", \"version\": \"4.2\"}";
    let head = format!("POST /v1/deploys\nContent-Type: application/json\nAuthorization: Bearer {}", token.text);
    let told = crate::support::ask_with(node.api(), &head, body);
    assert_eq!(told.status, 201, "{told:?}");
    let marked = await_kind(&node, "deploy.marked");
    assert_eq!((&marked["actor"], &marked["data"]["source"]), (&json!("ci"), &json!("api")));
    assert!(!node.logs().contains(secret));
}

#[test]
fn a_request_that_was_not_plain_is_explained_by_its_id() {
    let (taken, refusing) = taken_port();
    drop(taken);
    let node = Config::new().service("shop", &[refusing], "park = { max_wait = \"100ms\" }\n").up();
    let answer = ask(node.gateway(), "GET /cart\nX-Request-Id: the-one");
    assert_eq!(answer.status, 503, "{answer:?}");
    let id = answer.header("x-request-id").unwrap().to_owned();
    let why = eventually(SOON, "its trace", || {
        let why = tell(&node, &["why", &id]);
        (why.code == Some(0)).then_some(why.stdout)
    });
    assert!(why.starts_with("GET /cart\n") && why.contains("The client got 503"), "{why}");
    let found: Value = serde_json::from_str(&tell(&node, &["why", &id, "--json"]).stdout).unwrap();
    assert_eq!((&found["found"][0]["id"], &found["found"][0]["service"]), (&json!(id), &json!("shop")));
    let list = tell(&node, &["why"]);
    assert!(list.code == Some(0) && list.stdout.contains(&id) && list.stdout.contains("GET /cart"), "{list:?}");
    let unknown = tell(&node, &["why", "nobody"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""), "{unknown:?}");
    assert!(unknown.stderr.contains("No trace of nobody is kept"), "{unknown:?}");
}

#[test]
fn the_state_of_a_node_is_shown_as_its_home_page_has_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::serving(move |r| match r.path() {
        "/held" => Reply::ok("x").wait(&held),
        _ => Reply::ok("x"),
    });
    let node = Config::new().service("shop", &[upstream.unwrap().addr()], "").up();
    let said = tell(&node, &["status"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let page = ask(node.console(), "GET /\nAccept: text/plain").text();
    assert_eq!(said.stdout.lines().next(), page.lines().next());
    assert!(said.stdout.contains("shop"), "{said:?}");
    let status: Value = serde_json::from_str(&tell(&node, &["status", "--json"]).stdout).unwrap();
    assert_eq!(status["level"], "ok");
    gate.open();
    // Whoever watches without a terminal reads one state after another, and Ctrl-C is an orderly end.
    let mut command = command();
    command.args(["status", "--watch", "--json", "--admin", &format!("http://{}", node.console())]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["level"], "ok");
    }
    testkit::binary::interrupt(&child).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_node_that_is_away_is_said_with_its_address() {
    let (taken, nobody) = taken_port();
    drop(taken);
    let admin = format!("http://{nobody}");
    let commands: [&[&str]; 6] = [
        &["status"],
        &["journal"],
        &["journal", "--follow"],
        &["why", "x"],
        &["why"],
        &["deploy", "mark", "--service", "a", "--version", "1"],
    ];
    for args in commands {
        let said = run(&[args, &["--admin", &admin]].concat());
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said:?}");
        let wanted = format!("cannot reach a node at {nobody}; is it running, and is that its admin address?");
        assert!(said.stderr.contains(&wanted), "{said:?}");
    }
    let node = Config::new().service("shop", &[nobody], "").up();
    for (args, name) in [(["journal", "--since", "soon"], "--since"), (["journal", "--kind", "x.y"], "kind")] {
        let said = tell(&node, &args);
        assert!(said.code == Some(2) && said.stderr.contains(name), "{said:?}");
    }
}

#[test]
fn a_backup_brings_back_what_was_kept() {
    let shop = Shop::new();
    let node = shop.config.up();
    assert_eq!(tell(&node, &["deploy", "mark", "--service", "shop", "--version", "4.2"]).code, Some(0));
    let directory = shop.store.path().to_owned();
    let data = directory.join("data").display().to_string();
    let made = run_in(&directory, &["backup", "--to", "copy", "--store", &data]);
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""), "{made:?}");
    assert!(made.stdout.starts_with("backed up: ") && made.stdout.contains("journal.db"), "{made:?}");
    let again = run_in(&directory, &["backup", "--to", "copy", "--store", &data]);
    assert!(again.code == Some(2) && again.stderr.contains("exists already"), "{again:?}");
    tell(&node, &["deploy", "mark", "--service", "shop", "--version", "4.3"]);
    let running = run_in(&directory, &["restore", "--from", "copy", "--store", &data, "--replace"]);
    assert!(running.code == Some(2) && running.stderr.contains("stop it first"), "{running:?}");
    stop(node);
    let there = run_in(&directory, &["restore", "--from", "copy", "--store", &data]);
    assert!(there.code == Some(2) && there.stderr.contains("--replace"), "{there:?}");
    let back = run_in(&directory, &["restore", "--from", "copy", "--store", &data, "--replace", "--json"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    let node = shop.config.up();
    let marked = records(&node, &["--kind", "deploy.marked"]);
    assert_eq!((marked.len(), &marked[0]["data"]["version"]), (1, &json!("4.2")));
    let none = run_in(&directory, &["backup", "--to", "other", "--store", "nowhere"]);
    assert!(none.code == Some(2) && none.stderr.contains("holds no store"), "{none:?}");
}
