//! `evenkeel demo`, as it is run first: it says where things are, works for its time, and ends with a summary.

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use testkit::{Binary, Signal, eventually};

use crate::support::{SOON, ask, ask_with, command, json};

/// What the demo may take beyond its time.
const END: Duration = Duration::from_secs(30);

/// The address in a line that begins so.
fn address(demo: &Binary, beginning: &str) -> SocketAddr {
    let line = demo.wait_log(beginning, SOON).unwrap();
    assert!(line.starts_with(beginning), "{line:?}");
    line.trim_end()[beginning.len()..].parse().unwrap()
}

/// The number in front of ` failed` in the line about success.
fn failed(text: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with("success ")).unwrap_or_else(|| panic!("no success in {text}"));
    let count = line.split(' ').collect::<Vec<_>>();
    count[count.iter().position(|word| *word == "failed)").unwrap() - 1].parse().unwrap()
}

#[test]
fn it_works_on_a_terminal_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (work, temp) = (directory.path().join("work"), directory.path().join("temp"));
    for folder in [&work, &temp] {
        std::fs::create_dir(folder).unwrap();
    }
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let mut demo = command();
    demo.args(["demo", "--for", "1s"]).current_dir(&work).env("TMPDIR", &temp);
    demo.stdin(Stdio::null()).stdout(side.try_clone().unwrap()).stderr(side);
    let mut running = demo.spawn().unwrap();
    // The command holds copies of the other side, which is closed when it ends.
    drop(demo);
    let mut text = Vec::new();
    let mut screen = std::fs::File::from(terminal);
    // A terminal that nobody writes to any more ends with an error.
    let _ended = screen.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(0), "{text}");
    assert!(text.contains("success     100.00 %") && !text.contains('\u{1b}'), "{text}");
    for folder in [work, temp] {
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn it_works_for_its_time_and_nothing_fails() {
    let mut demo = Binary::start(&["demo", "--for", "2s"]).unwrap();
    let (gateway, console) = (address(&demo, "gateway http://"), address(&demo, "console http://"));
    assert_eq!(ask(gateway, "GET /product/3").status, 200);
    assert_eq!(ask(console, "GET /readyz").status, 200);
    assert_eq!(demo.wait_exit(END).unwrap(), Some(0), "{}", demo.logs());
    let text = demo.logs();
    assert!(text.contains("success     100.00 %"), "{text}");
    assert_eq!(failed(&text), 0, "{text}");
    for replica in 1..=3 {
        let line = text.lines().find(|line| line.starts_with(&format!("replica {replica} "))).unwrap();
        assert!(line.ends_with("healthy") && !line.contains(" 0 answers"), "{line}");
    }
    assert!(text.contains(", 0 failed, 0 connection attempts to a replica failed"), "{text}");
}

#[test]
fn a_replica_that_is_killed_costs_next_to_nothing() {
    let mut demo = Binary::start(&["demo", "--rate", "100"]).unwrap();
    let console = address(&demo, "console http://");
    let hint = demo.wait_log("kill replica 1", SOON).unwrap();
    let url = hint.split(' ').find(|word| word.starts_with("http://")).unwrap();
    let control: SocketAddr = url["http://".len()..].trim_end_matches("/faults").parse().unwrap();
    let served = || json(&ask(console, "GET /v1/status"))["services"][0].clone();
    eventually(SOON, "traffic", || (served()["requests_total"].as_u64()? > 50).then_some(()));

    let answer = ask_with(control, "POST /faults", "{\"down\":true}");
    assert_eq!((answer.status, json(&answer)["down"].as_bool()), (200, Some(true)));
    eventually(SOON, "the console to tell of it", || (served()["healthy"] == 2).then_some(()));
    assert_eq!(json(&ask(console, "GET /v1/status"))["level"], "degraded");
    assert_eq!(ask_with(control, "POST /faults", "{}").status, 200);
    eventually(SOON, "the replica to come back", || (served()["healthy"] == 3).then_some(()));

    demo.signal(Signal::Int).unwrap();
    assert_eq!(demo.wait_exit(END).unwrap(), Some(0), "{}", demo.logs());
    let text = demo.logs();
    // What a replica had already begun to work on when it was killed may be lost if it cannot be repeated: of 100
    // requests a second, taking some 15 ms each, that is none or one; three would be a fault.
    assert!(failed(&text) <= 2, "{text}");
    assert!(!text.contains(" 0 connection attempts to a replica failed"), "it was never down: {text}");
}

#[test]
fn a_signal_ends_it_with_the_summary() {
    for signal in [Signal::Int, Signal::Term] {
        let mut demo = Binary::start(&["demo", "--rate", "20"]).unwrap();
        let gateway = address(&demo, "gateway http://");
        demo.wait_log("Ctrl-C ends it", SOON).unwrap();
        assert_eq!(ask(gateway, "GET /").status, 200);
        demo.signal(signal).unwrap();
        assert_eq!(demo.wait_exit(END).unwrap(), Some(0), "{}", demo.logs());
        assert_eq!(failed(&demo.logs()), 0, "{}", demo.logs());
    }
}

#[test]
fn a_port_that_is_taken_is_said() {
    let (_taken, addr) = crate::support::taken_port();
    let port = addr.port().to_string();
    let ended = crate::support::run(&["demo", "--for", "1s", "--gateway-port", &port]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains(&port) && ended.stderr.contains("taken"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}
