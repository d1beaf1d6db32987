//! Hand-overs that come to nothing, in part or in whole: the node that runs goes on, or the next one does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use testkit::dns::Mood;
use testkit::{DnsServer, RawClient, Signal, eventually};

use crate::handover::{ends, next, store, with_store};
use crate::support::{Config, SOON, ask, directory, run_in, saying, taken_port};

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

#[test]
fn a_place_in_the_directory_that_is_gone_is_taken_again() {
    let (store, shop) = (store(), saying("x"));
    let data = store.path().join("data");
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), &data);
    let mut old = config.up();
    // In one step: the node begins to make it anew at once.
    std::fs::rename(&data, store.path().join("away")).unwrap();
    eventually(SOON, "the socket to be there again", || data.join("handover.sock").exists().then_some(()));
    let mut new = next(&config);
    ends(&mut old);
    new.signal(Signal::Term).unwrap();
    ends(&mut new);
}
