//! Processes that have the same store open, one taking over from the other under load: no event is lost or doubled, every
//! request is counted once, and what an operator decided at either is in force in the one that stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use testkit::{Binary, Load, LoadOptions, LoadRequest, RawClient, Resend, ServingUpstream, eventually};

use crate::handover::{ends, next, store, with_store};
use crate::journal::Following;
use crate::support::{Config, SOON, ask, json, saying};
use crate::unseen::{csrf, marked, post, records};

/// How many processes follow the first, unless `EVENKEEL_HAND_OVERS` asks for more.
fn hand_overs() -> usize {
    std::env::var("EVENKEEL_HAND_OVERS").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// The token of whoever answers there now; each process has its own.
fn token(console: SocketAddr) -> Option<String> {
    let mut client = RawClient::connect(console).ok()?;
    let answer = client.get("/v1/csrf", SOON).ok()?;
    let answer: Value = serde_json::from_slice(&answer.body).ok()?;
    Some(answer["token"].as_str()?.to_owned())
}

/// Asks until it is answered by one process or the other.
fn insist(console: SocketAddr, csrf: &mut String, path: &str, body: &str) -> u16 {
    eventually(SOON, &format!("an answer to {path}"), || match post(console, path, csrf, body) {
        Some((403, _)) | None => {
            // Another process answers, to whom the token means nothing.
            token(console)?.clone_into(csrf);
            None
        }
        Some((status, _)) => Some(status),
    })
}

/// Marks deployments and lets one endpoint out and in, until it is told to stop. The keys, and whether it is out.
fn operate(node: &Binary, name: &str, stop: &AtomicBool, done: &AtomicUsize) -> (BTreeSet<String>, bool) {
    let (console, mut csrf) = (node.console(), csrf(node));
    let mut keys = BTreeSet::new();
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let key = format!("mark-{n}");
        let status = insist(console, &mut csrf, "/v1/deploys", &marked(&key));
        assert!(matches!(status, 200 | 201), "a deploy mark was answered {status}");
        keys.insert(key);
        let action = if n % 2 == 0 { "drain" } else { "resume" };
        let path = format!("/v1/services/shop/endpoints/{name}/{action}");
        assert_eq!(insist(console, &mut csrf, &path, r#"{"reason":"a test"}"#), 200);
        done.fetch_add(1, Ordering::Release);
    }
    (keys.clone(), keys.len() % 2 == 1)
}

fn is_drained(node: &Binary, name: &str) -> bool {
    let status = json(&ask(node.console(), "GET /v1/status"));
    let endpoints = status["services"][0]["endpoints"].as_array().unwrap();
    let state = &endpoints.iter().find(|e| e["name"] == name).unwrap()["state"];
    state == "drained" || state == "draining"
}

/// Requests to the service, in all processes.
fn counted(node: &Binary) -> u64 {
    let answer = json(&ask(node.console(), "GET /v1/tallies?scope=service&name=shop&step=1m&since=1h"));
    answer["periods"].as_array().unwrap().iter().map(|p| p["requests"].as_u64().unwrap()).sum()
}

fn key(record: &Value) -> (String, u64) {
    (record["boot"].as_str().unwrap().to_owned(), record["number"].as_u64().unwrap())
}

fn shop() -> ([ServingUpstream; 2], Config) {
    let shops = [saying("one"), saying("two")];
    let config = Config::new().service("shop", &[shops[0].addr(), shops[1].addr()], "");
    (shops, config)
}

#[test]
fn processes_that_follow_each_other_share_the_store_without_a_lost_or_doubled_event() {
    let (store, (shops, config)) = (store(), shop());
    let config = with_store(&config, store.path());
    let name = shops[0].addr().to_string();
    let mut nodes = vec![config.up()];
    let (console, stop, done) = (nodes[0].console(), AtomicBool::new(false), AtomicUsize::new(0));
    let following = Following::new(&format!("http://{console}"), &[]);
    let mut read = following.until_one("node.started", |r| r["kind"] == "node.started");
    let options = LoadOptions::new(nodes[0].gateway(), 4).requests(vec![LoadRequest::get("/")]);
    let load = Load::start(LoadOptions { resend: Resend::Never, timeout: SOON, ..options }).unwrap();
    let (later, (keys, out)) = std::thread::scope(|scope| {
        let operating = scope.spawn(|| operate(&nodes[0], &name, &stop, &done));
        let mut later = Vec::new();
        for n in 1..=hand_overs() {
            let before = (done.load(Ordering::Acquire), load.report().ok);
            later.push(next(&config));
            eventually(SOON, &format!("work to go on after hand-over {n}"), || {
                assert!(!operating.is_finished(), "the operator has failed at hand-over {n}");
                (done.load(Ordering::Acquire) > before.0 && load.report().ok > before.1).then_some(())
            });
        }
        stop.store(true, Ordering::Release);
        (later, operating.join().unwrap())
    });
    nodes.extend(later);
    let report = load.stop();
    report.assert_clean();
    let last = nodes.pop().unwrap();
    nodes.iter_mut().for_each(ends);

    // What was decided last is in force, whoever was asked.
    eventually(SOON, "the last decision to be in force", || (is_drained(&last, &name) == out).then_some(()));
    eventually(SOON, "every request to be counted once", || (counted(&last) == report.ok).then_some(()));
    let mut csrf = csrf(&last);
    assert_eq!(insist(last.console(), &mut csrf, "/v1/deploys", &marked("the end")), 201);
    let all = records(&last);
    let told: BTreeSet<_> = all.iter().map(key).collect();
    assert_eq!(told.len(), all.len(), "a record is there twice");
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let marks = all.iter().filter(|r| r["kind"] == "deploy.marked");
    marks.for_each(|r| *times.entry(r["data"]["key"].as_str().unwrap()).or_default() += 1);
    assert_eq!(times.remove("the end"), Some(1));
    assert_eq!(times.keys().copied().collect::<Vec<_>>(), keys.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(times.values().all(|n| *n == 1), "a mark was told twice: {times:?}");
    let of_kind = |kind: &str| all.iter().filter(|r| r["kind"] == kind).count();
    let each = [of_kind("node.started"), of_kind("node.handed_over"), of_kind("node.stopped")];
    assert_eq!(each, [hand_overs() + 1, hand_overs(), hand_overs()]);
    for boot in all.iter().map(|r| r["boot"].as_str().unwrap()).collect::<BTreeSet<_>>() {
        let numbers: Vec<_> = told.iter().filter(|(b, _)| b == boot).map(|(_, number)| *number).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{boot} has {numbers:?}");
    }

    // Whoever followed through all of it has the same, in the same order.
    read.extend(following.until_one("the end", |r| r["data"]["key"] == "the end"));
    let places: Vec<_> = read.iter().map(|r| r["cursor"].as_u64().unwrap()).filter(|cursor| *cursor > 0).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    let followed: Vec<_> = read.iter().map(key).collect();
    assert_eq!(followed, all.iter().map(key).collect::<Vec<_>>());
}

#[test]
fn what_is_decided_at_one_process_is_in_force_at_the_other() {
    let (store, (shops, config)) = (store(), shop());
    let config = with_store(&config, store.path());
    let name = shops[0].addr().to_string();
    let nodes = [config.up(), config.up()];
    let decide = |node: &Binary, action: &str| {
        let path = format!("/v1/services/shop/endpoints/{name}/{action}");
        let answer = post(node.console(), &path, &csrf(node), r#"{"reason":"a test"}"#).unwrap();
        assert_eq!(answer.0, 200, "{answer:?}");
    };
    for (at, action) in [(0, "drain"), (1, "resume"), (1, "down"), (0, "resume")] {
        decide(&nodes[at], action);
        eventually(SOON, &format!("{action} at the other"), || {
            let status = json(&ask(nodes[1 - at].console(), "GET /v1/status"));
            let endpoints = status["services"][0]["endpoints"].as_array().unwrap().clone();
            let state = endpoints.into_iter().find(|e| e["name"] == *name).unwrap()["state"].clone();
            let is_in_force = match action {
                "drain" => state == "drained" || state == "draining",
                "down" => state == "down",
                _ => !matches!(state.as_str(), Some("drained" | "draining" | "down")),
            };
            is_in_force.then_some(())
        });
    }
    // Who decided is told once, by the process that was asked.
    let all = records(&nodes[0]);
    let decided: Vec<_> = all.iter().filter_map(|r| r["kind"].as_str()?.strip_prefix("endpoint.")).collect();
    assert_eq!(decided, ["drained", "resumed", "taken_down", "resumed"]);
}
