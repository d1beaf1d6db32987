//! What is too long, or asks too much of the machine, for every change: a node whose disk is full, read-only, gone or
//! stands still, on file systems that are made for it. Needs root, for mounts. `cargo xtask soak` runs it, and the tests
//! that are killed again and again more often than usual.

#[path = "../support.rs"]
#[allow(dead_code, reason = "shared with the whole-node tests, which use all of it")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::{Binary, Load, LoadOptions, LoadReport, LoadRequest, RawClient, Resend, ServingUpstream, eventually};

use support::{Config, Metrics, SOON, ask, json, new_token, saying};

/// What the slow disk stands still for.
const STALL: Duration = Duration::from_secs(5);

/// A file system of its own; unmounted when dropped.
struct Mounted {
    at: tempfile::TempDir,
    _image: Option<tempfile::NamedTempFile>,
}

#[track_caller]
fn sh(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Mounted {
    /// In memory, with so much room.
    fn tmpfs(size: &str) -> Mounted {
        let at = tempfile::tempdir().unwrap();
        sh("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", at.path().to_str().unwrap()]);
        Mounted { at, _image: None }
    }

    /// ext4 in a file, which can be made to stand still.
    fn ext4() -> Mounted {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(64 << 20).unwrap();
        let path = image.path().to_str().unwrap();
        sh("mkfs.ext4", &["-q", "-F", path]);
        let at = tempfile::tempdir().unwrap();
        sh("mount", &["-o", "loop", path, at.path().to_str().unwrap()]);
        Mounted { at, _image: Some(image) }
    }

    fn path(&self) -> &str {
        self.at.path().to_str().unwrap()
    }

    fn data(&self) -> PathBuf {
        self.at.path().join("data")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Who still has a file open there keeps it until its own end.
        let _unmounted = Command::new("umount").args(["-l", self.path()]).status().is_ok();
    }
}

struct Node {
    node: Binary,
    _shops: Vec<ServingUpstream>,
}

fn node(data: &Path) -> Node {
    let shops = vec![saying("one"), saying("two")];
    let addrs: Vec<_> = shops.iter().map(ServingUpstream::addr).collect();
    let store = format!("[store]\ndirectory = \"{}\"", data.display());
    Node { node: Config::new().service("shop", &addrs, "").with(&store).up(), _shops: shops }
}

impl Node {
    fn load(&self) -> Load {
        let options = LoadOptions {
            resend: Resend::Never,
            timeout: SOON,
            ..LoadOptions::new(self.node.gateway(), 4)
                .requests(vec![LoadRequest::get("/"), LoadRequest::post("/", "x")])
        };
        Load::start(options).unwrap()
    }

    fn state(&self, file: &str) -> String {
        let metrics = Metrics::of(&self.node);
        let is = |state: &&str| {
            metrics.get(&format!("evenkeel_store_state{{file=\"{file}\",state=\"{state}\"}}")) == Some(1.0)
        };
        ["kept", "lost", "full"].into_iter().find(|s| is(s)).unwrap_or("none").to_owned()
    }

    fn dropped(&self) -> f64 {
        Metrics::of(&self.node).get("evenkeel_journal_dropped_total").unwrap()
    }

    /// Tells the journal something, by a reload that is refused. How often it happened so far is counted.
    fn tell(&self, n: usize) {
        self.node.write_config(&format!("broken = {n}\n")).unwrap();
        let token = json(&ask(self.node.console(), "GET /v1/csrf"))["token"].as_str().unwrap().to_owned();
        let answer = ask(self.node.console(), &format!("POST /v1/reload\nX-Csrf-Token: {token}\nContent-Length: 0"));
        assert!(answer.status >= 400, "{answer:?}");
    }

    fn refusals(&self) -> usize {
        let path = "GET /v1/journal?kind=config.refused&limit=1000\nAccept: application/json";
        json(&ask(self.node.console(), path))["records"].as_array().unwrap().len()
    }

    /// Everything that was told is in the journal, as one event that says that it is back.
    fn is_whole_again(&self, told: usize) {
        eventually(SOON * 2, "the journal to be kept again", || (self.state("journal") == "kept").then_some(()));
        eventually(SOON * 2, "what waited to be there", || (self.refusals() >= told).then_some(()));
        assert_eq!(self.dropped(), 0.0);
    }
}

fn served(load: &Load, more: u64) -> LoadReport {
    let before = load.report().ok;
    eventually(SOON, "requests", || (load.report().ok >= before + more).then_some(()));
    load.report()
}

#[test]
fn a_disk_that_is_full_fails_no_request() {
    let disk = Mounted::tmpfs("8m");
    let it = node(&disk.data());
    let load = it.load();
    served(&load, 100);
    let filler = disk.at.path().join("filler");
    // Whatever there is room for.
    let _full = std::fs::write(&filler, vec![1; 8 << 20]).is_err();
    for n in 0..20 {
        it.tell(n);
    }
    served(&load, 200);
    std::fs::remove_file(&filler).unwrap();
    it.is_whole_again(20);
    served(&load, 100);
    load.stop().assert_clean();
}

#[test]
fn a_disk_that_turns_read_only_fails_no_request() {
    let disk = Mounted::ext4();
    let it = node(&disk.data());
    let load = it.load();
    served(&load, 100);
    // What happens to a file system that has met an error.
    sh("mount", &["-o", "remount,ro,errors=remount-ro", "-f", disk.path()]);
    std::fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    it.tell(0);
    served(&load, 200);
    sh("mount", &["-o", "remount,rw", disk.path()]);
    it.is_whole_again(1);
    load.stop().assert_clean();
}

#[test]
fn a_disk_that_stands_still_for_five_seconds_fails_no_request_and_slows_none() {
    let disk = Mounted::ext4();
    let it = node(&disk.data());
    let load = it.load();
    served(&load, 100);
    sh("fsfreeze", &["-f", disk.path()]);
    let mut client = RawClient::connect(it.node.gateway()).unwrap();
    let clock = kernel::Clock::real();
    let (began, mut slowest) = (clock.now(), Duration::ZERO);
    let mut asked = 0;
    while clock.now().since(began) < STALL {
        let at = clock.now();
        assert_eq!(client.get("/", SOON).unwrap().status, 200);
        slowest = slowest.max(clock.now().since(at));
        asked += 1;
    }
    sh("fsfreeze", &["-u", disk.path()]);
    assert!(asked > 100 && slowest < STALL / 2, "{asked} requests, the slowest {slowest:?}");
    it.tell(0);
    it.is_whole_again(1);
    load.stop().assert_clean();
}

/// More is told than fits in memory while the journal cannot be written: endpoints that come and go, two events each.
#[test]
fn more_than_fits_in_memory_is_dropped_counted_and_said() {
    let disk = Mounted::tmpfs("16m");
    std::fs::write(disk.data(), b"in the way").unwrap();
    let token = new_token("fleet", &["register:*"]);
    let shop = saying("one");
    let tables = format!(
        "[store]\ndirectory = \"{}\"\n[api]\nlisten = \"127.0.0.1:0\"\n{}\n[service.fleet]\nregister = {{}}\n\
         [[route]]\npath = \"/fleet\"\nservice = \"fleet\"\n[[route]]\nservice = \"shop\"",
        disk.data().display(),
        token.stanza
    );
    let node = Config::new().service("shop", &[shop.addr()], "").with(&tables).up();
    let it = Node { node, _shops: vec![shop] };
    let load = it.load();
    let mut calls = RawClient::connect(it.node.api()).unwrap();
    let mut call = |method: &str, n: usize, body: &str| {
        let endpoint = format!("127.1.{}.{}:80", n / 250, n % 250 + 1);
        let head = format!(
            "{method} /v1/services/fleet/endpoints/{endpoint} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            it.node.api(),
            token.text,
            body.len()
        );
        calls.send(head).unwrap();
        let answer = calls.read_response(SOON).unwrap();
        assert!(answer.status < 300, "{answer:?}");
    };
    for n in 0..kernel::journal::WAITING_MAX / 2 + 100 {
        call("PUT", n, r#"{"lease":"30s"}"#);
        call("DELETE", n, "");
    }
    let dropped = it.dropped();
    assert!(dropped >= 100.0, "{dropped}");
    std::fs::remove_file(disk.data()).unwrap();
    let record = eventually(SOON * 2, "the journal to tell what was lost", || {
        let path = "GET /v1/journal?kind=store.returned\nAccept: application/json";
        let page = json(&ask(it.node.console(), path));
        page["records"].as_array().unwrap().iter().find(|r| r["data"]["file"] == "journal").cloned()
    });
    assert!(record["data"]["dropped"].as_f64().is_some_and(|n| n >= dropped), "{record}");
    load.stop().assert_clean();
}
