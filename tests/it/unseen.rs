//! What a node has acknowledged is there afterwards, whatever ends it; and whatever happens to its disk, no request knows
//! of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use testkit::binary::Signal;
use testkit::{Binary, Load, LoadOptions, LoadRequest, RawClient, Resend, ServingUpstream, eventually, seeded};

use crate::support::{Config, Metrics, SOON, ask, ask_with, json, saying};

/// How often the node is killed; the soak asks for more.
fn kills() -> usize {
    std::env::var("EVENKEEL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

struct Node {
    config: Config,
    _shops: Vec<ServingUpstream>,
    names: Vec<String>,
    home: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let shops = vec![saying("one"), saying("two"), saying("three")];
        let home = tempfile::tempdir().unwrap();
        let addrs: Vec<_> = shops.iter().map(ServingUpstream::addr).collect();
        let store = format!("[store]\ndirectory = \"{}\"", home.path().join("data").display());
        let config = Config::new().service("shop", &addrs, "").with(&store);
        Node { config, names: addrs.iter().map(ToString::to_string).collect(), _shops: shops, home }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }
}

pub(crate) fn csrf(node: &Binary) -> String {
    json(&ask(node.console(), "GET /v1/csrf"))["token"].as_str().unwrap().to_owned()
}

pub(crate) fn marked(key: &str) -> String {
    format!(r#"{{"service":"shop","version":"v","key":"{key}"}}"#)
}

/// All records of the journal, oldest first.
pub(crate) fn records(node: &Binary) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let path = format!("GET /v1/journal?order=oldest&limit=1000&after={after}\nAccept: application/json");
        let page = json(&ask(node.console(), &path));
        let records = page["records"].as_array().unwrap().clone();
        after = records.last().map_or(after, |r| r["cursor"].as_u64().unwrap());
        all.extend(records);
        if page["more"] != true {
            return all;
        }
    }
}

/// What somebody was told is done.
#[derive(Clone, Debug, Default)]
struct Acknowledged {
    marks: BTreeSet<String>,
    /// By endpoint, whether it may be drained: both, if the last word was asked for and not answered.
    drained: BTreeMap<String, BTreeSet<bool>>,
}

/// Asks as a person would; `None`: the node went away before it answered.
pub(crate) fn post(console: SocketAddr, path: &str, csrf: &str, body: &str) -> Option<(u16, String)> {
    let mut client = RawClient::connect(console).ok()?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {console}\r\nX-Csrf-Token: {csrf}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(head).ok()?;
    let answer = client.read_response(SOON).ok()?;
    Some((answer.status, answer.text()))
}

/// Asks for one thing after the other until the node is gone.
fn ask_on(
    console: SocketAddr,
    token: &str,
    round: usize,
    names: &[String],
    mut known: Acknowledged,
    done: &AtomicUsize,
) -> Acknowledged {
    for n in 0.. {
        let key = format!("{round}-{n}");
        match post(console, "/v1/deploys", token, &marked(&key)) {
            Some((201, _)) => known.marks.insert(key),
            Some((status, text)) => panic!("a deploy mark was answered {status}: {text}"),
            None => break,
        };
        done.fetch_add(1, Ordering::SeqCst);
        // Of three endpoints at most two are ever out.
        let (name, out) = (&names[n % 2], n / 2 % 2 == 0);
        let path = format!("/v1/services/shop/endpoints/{name}/{}", if out { "drain" } else { "resume" });
        let may_be = known.drained.entry(name.clone()).or_insert_with(|| BTreeSet::from([false]));
        may_be.insert(out);
        match post(console, &path, token, r#"{"reason":"a test"}"#) {
            Some((200, _)) => *may_be = BTreeSet::from([out]),
            Some((status, text)) => panic!("a decision was answered {status}: {text}"),
            None => break,
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    known
}

#[test]
fn what_was_acknowledged_survives_being_killed_again_and_again() {
    seeded(|mut entropy| {
        let setup = Node::new();
        let mut known = Acknowledged::default();
        for round in 0..kills() {
            let mut node = setup.config.up();
            let (console, token, done) = (node.console(), csrf(&node), AtomicUsize::new(0));
            let options = LoadOptions::new(node.gateway(), 2).requests(vec![LoadRequest::get("/")]);
            let load = Load::start(options).unwrap();
            known = std::thread::scope(|scope| {
                let (known, names, done) = (known.clone(), &setup.names, &done);
                let asking = scope.spawn(move || ask_on(console, &token, round, names, known, done));
                // It dies in the middle of whatever comes after that.
                let enough = entropy.below(12) as usize;
                eventually(SOON, "some acknowledgements", || {
                    (done.load(Ordering::SeqCst) >= enough || asking.is_finished()).then_some(())
                });
                node.signal(Signal::Kill).unwrap();
                assert_eq!(node.wait_exit(SOON).unwrap(), None);
                asking.join().unwrap()
            });
            drop(load);
        }
        is_all_there(&setup, &known);
    });
}

fn is_all_there(setup: &Node, known: &Acknowledged) {
    let node = setup.config.up();
    let records = records(&node);
    let told: BTreeSet<_> =
        records.iter().map(|r| (r["boot"].as_str().unwrap().to_owned(), r["number"].as_u64().unwrap())).collect();
    assert_eq!(told.len(), records.len(), "a record is there twice");
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for record in records.iter().filter(|r| r["kind"] == "deploy.marked") {
        *times.entry(record["data"]["key"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(known.marks.len() >= kills(), "hardly anything was acknowledged: {}", known.marks.len());
    for key in &known.marks {
        assert_eq!(times.get(key), Some(&1), "the deploy mark {key} of {}", known.marks.len());
    }
    assert!(times.values().all(|n| *n == 1), "a mark was told twice: {times:?}");
    let status = json(&ask(node.console(), "GET /v1/status"));
    for endpoint in status["services"][0]["endpoints"].as_array().unwrap() {
        let name = endpoint["name"].as_str().unwrap();
        let drained = endpoint["state"] == "drained" || endpoint["state"] == "draining";
        let may_be = known.drained.get(name).cloned().unwrap_or_else(|| BTreeSet::from([false]));
        assert!(may_be.contains(&drained), "{name} is {}: {known:?}", endpoint["state"]);
    }
}

/// Runs load while `harm` is done to the directory of a running node, until `over` says so.
fn load_through(setup: &Node, node: &Binary, harm: impl FnOnce(&Path), over: impl Fn(&Binary) -> bool) {
    let options = LoadOptions {
        resend: Resend::Never,
        timeout: SOON,
        ..LoadOptions::new(node.gateway(), 4).requests(vec![LoadRequest::get("/"), LoadRequest::post("/", "x")])
    };
    let load = Load::start(options).unwrap();
    eventually(SOON, "requests before", || (load.report().ok > 50).then_some(()));
    harm(&setup.data());
    eventually(SOON, "what the harm does", || over(node).then_some(()));
    let before = load.report().ok;
    eventually(SOON, "requests after", || (load.report().ok > before + 50).then_some(()));
    load.stop().assert_clean();
}

fn store_state(node: &Binary, file: &str, state: &str) -> bool {
    Metrics::of(node).get(&format!("evenkeel_store_state{{file=\"{file}\",state=\"{state}\"}}")) == Some(1.0)
}

#[test]
fn a_directory_that_is_deleted_costs_no_request_and_is_made_anew() {
    let setup = Node::new();
    let node = setup.config.up();
    let token = csrf(&node);
    // In one step: the node begins to make it anew at once.
    let delete = |data: &Path| {
        let away = data.with_file_name("away");
        std::fs::rename(data, &away).unwrap();
        std::fs::remove_dir_all(away).unwrap();
    };
    let made_anew = |node: &Binary| {
        let back = ["journal.db", "ledger.db", "series.db"].iter().all(|name| setup.data().join(name).exists());
        back && ["journal", "ledger", "series"].iter().all(|file| store_state(node, file, "kept"))
    };
    load_through(&setup, &node, delete, made_anew);
    // What is told from now on is kept in the new files.
    let answer = eventually(SOON, "a deploy mark that is kept", || {
        post(node.console(), "/v1/deploys", &token, &marked("after")).filter(|(status, _)| *status == 201)
    });
    assert!(answer.1.contains("shop"), "{answer:?}");
    assert!(records(&node).iter().any(|r| r["data"]["key"] == "after"));
}

#[test]
fn a_store_that_cannot_be_had_is_said_and_costs_no_request() {
    let setup = Node::new();
    std::fs::write(setup.data(), b"in the way").unwrap();
    let node = setup.config.up();
    assert!(store_state(&node, "journal", "lost"));
    let token = csrf(&node);
    let (status, text) = post(node.console(), "/v1/deploys", &token, &marked("lost")).unwrap();
    assert_eq!(status, 503, "{text}");
    let page = ask(node.console(), "GET /\nAccept: text/plain").text();
    assert!(page.contains("journal"), "{page}");
    // The way is cleared: one event tells of it, and what had waited is there.
    let clear = |data: &Path| std::fs::remove_file(data).unwrap();
    load_through(&setup, &node, clear, |node| store_state(node, "journal", "kept"));
    let records = eventually(SOON, "the journal to tell that it is back", || {
        let records = records(&node);
        records.iter().any(|r| r["kind"] == "store.returned" && r["data"]["file"] == "journal").then_some(records)
    });
    for kind in ["node.started", "store.lost", "store.returned"] {
        let told = records
            .iter()
            .filter(|r| r["kind"] == kind && !matches!(r["data"]["file"].as_str(), Some("ledger" | "series")));
        assert_eq!(told.count(), 1, "{kind}");
    }
    assert_eq!(Metrics::of(&node).get("evenkeel_journal_dropped_total"), Some(0.0));
}

#[test]
fn counts_survive_a_restart_and_an_end_in_order_loses_none() {
    let setup = Node::new();
    let mut asked = 0;
    for _ in 0..2 {
        let mut node = setup.config.up();
        for _ in 0..25 {
            assert_eq!(ask(node.gateway(), "GET /").status, 200);
            asked += 1;
        }
        node.signal(Signal::Term).unwrap();
        assert_eq!(node.wait_exit(SOON).unwrap(), Some(0));
    }
    let node = setup.config.up();
    let answer = json(&ask(node.console(), "GET /v1/tallies?scope=service&name=shop&step=1m&since=1h"));
    let periods = answer["periods"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let total: u64 = periods.iter().map(|p| p["requests"].as_u64().unwrap_or_else(|| panic!("{answer}"))).sum();
    assert_eq!(total, asked, "{answer}");
    eventually(SOON, "each start and each end to be told once", || {
        let records = records(&node);
        let told = |kind: &str| records.iter().filter(|r| r["kind"] == kind).count();
        ((told("node.started"), told("node.stopped")) == (3, 2)).then_some(())
    });
}

/// Requests to the service that are kept, and how much of the time was counted, in milliseconds.
fn kept_counts(node: &Binary) -> (u64, u64) {
    let answer = json(&ask(node.console(), "GET /v1/tallies?scope=service&name=shop&step=15s&since=1h"));
    let periods = answer["periods"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let sum = |key: &str| periods.iter().map(|p| p[key].as_u64().unwrap()).sum();
    (sum("requests"), sum("covered_ms"))
}

#[test]
fn a_killed_process_loses_its_last_second_of_counts_and_that_second_is_not_covered() {
    // What a busy machine may be late by, beyond the second.
    const LATE: Duration = Duration::from_secs(2);
    let setup = Node::new();
    let clock = kernel::Clock::real();
    let began = clock.now();
    let mut node = setup.config.up();
    let options = LoadOptions { pause: Duration::from_millis(5), ..LoadOptions::new(node.gateway(), 2) };
    let load = Load::start(options).unwrap();
    // What was answered, and when.
    let mut seen = Vec::new();
    eventually(SOON, "some seconds of requests", || {
        seen.push((clock.now(), load.report().ok));
        (clock.now().since(began) > LATE + Duration::from_secs(2)).then_some(())
    });
    node.signal(Signal::Kill).unwrap();
    let killed = clock.now();
    assert_eq!(node.wait_exit(SOON).unwrap(), None);
    let answered = load.stop().ok;
    // Time in which nobody counts.
    eventually(SOON, "a second to pass", || (clock.now().since(killed) > Duration::from_secs(1)).then_some(()));
    let again = clock.now();
    let node = setup.config.up();
    let (requests, covered_ms) = kept_counts(&node);
    let by_then = seen.iter().rfind(|(at, _)| killed.since(*at) > Duration::from_secs(1) + LATE).map_or(0, |s| s.1);
    assert!(by_then > 0 && requests >= by_then, "{requests} are kept of {by_then} that were answered long before");
    // Two clients may have had an answer under way.
    assert!(requests <= answered + 2, "{requests} are kept, and {answered} were answered");
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap();
    let most = ms(killed.since(began) + clock.now().since(again));
    assert!(covered_ms <= most + 100, "{covered_ms} ms are covered, and processes ran for {most} ms");
}

#[test]
fn an_action_is_told_with_who_and_why() {
    let setup = Node::new();
    let node = setup.config.up();
    let path = format!(
        "POST /v1/services/shop/endpoints/{}/drain\nX-Csrf-Token: {}\nContent-Type: application/json",
        setup.names[0],
        csrf(&node)
    );
    assert_eq!(ask_with(node.console(), &path, r#"{"reason":"a new disk"}"#).status, 200);
    let all = records(&node);
    let record = all.iter().find(|r| r["kind"] == "endpoint.drained").unwrap();
    assert_eq!((record["actor"].as_str(), record["data"]["reason"].as_str()), (Some("loopback"), Some("a new disk")));
    assert_eq!(
        (record["endpoint"].as_str(), record["data"]["kept"].as_bool()),
        (Some(setup.names[0].as_str()), Some(true))
    );
}
