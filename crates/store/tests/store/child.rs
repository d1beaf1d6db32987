//! A second process: this test binary once more, with one test that does what a variable of the environment says. Where a
//! file system of its own is wanted, it runs in a namespace of its own (`unshare`, which needs no privileges where user
//! namespaces are allowed).

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use kernel::overrides::OverrideStore as _;
use kernel::store::{FileState, Leases as _};
use testkit::eventually;

use crate::support::{Node, Place, SOON, deployed, ejected, shop};

pub(crate) const VARIABLE: &str = "EVENKEEL_STORE_CHILD";

/// A second process.
pub(crate) struct Second {
    child: Child,
    lines: Receiver<String>,
}

impl Second {
    /// Runs `what` on the store in `directory`; `before` is a line of shell in a mount namespace of its own, before it.
    pub(crate) fn run(what: &str, directory: &Path, before: Option<&str>) -> Second {
        let own = std::env::current_exe().unwrap();
        let mut command = match before {
            None => Command::new(own),
            Some(line) => {
                let mut command = Command::new("unshare");
                command.args(["-Urm", "sh", "-ec", &format!("{line}\nexec \"$0\" \"$@\"")]).arg(own);
                command
            }
        };
        command.args(["--exact", "child::the_second_process_does_as_it_is_told", "--nocapture"]);
        command.env(VARIABLE, format!("{what}:{}", directory.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = sync_channel(100_000);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Second { child, lines }
    }

    /// The rest of the next line that begins with `word`.
    pub(crate) fn said(&self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(SOON).unwrap_or_else(|_| panic!("the second process never said {word}"));
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Kills it, and gives the last it said that begins with `word`.
    pub(crate) fn kill(mut self, word: &str) -> Option<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // The pipe has ended, and with it the thread that reads it.
        let lines: Vec<String> = self.lines.iter().collect();
        lines.iter().rev().find_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned())
    }

    /// Waits for its orderly end.
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        let said: Vec<String> = self.lines.iter().collect();
        assert!(status.success(), "{status}: {said:#?}");
    }
}

#[test]
fn the_second_process_does_as_it_is_told() {
    let Ok(told) = std::env::var(VARIABLE) else {
        // No other test runs this one: it has nothing to do.
        return;
    };
    let (what, directory) = told.split_once(':').unwrap();
    let mut place = Place::new();
    place.config.directory = directory.into();
    match what {
        "write" => write(&place),
        "power" => {
            // So small that checkpoints come often.
            place.config.journal_cap = store::SMALLEST_CAP;
            place.config.ledger_cap = store::SMALLEST_CAP;
            place.config.series_cap = store::SMALLEST_CAP;
            power(&place);
        }
        "full" => full(&place),
        "read-only" => read_only(&place),
        other => panic!("{other}"),
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    out.write_all(format!("\n{text}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Tells and counts until it is killed, and says what it was told is kept.
fn write(place: &Place) {
    let node = place.node();
    for n in 1u64.. {
        node.source.count(&shop(), 1);
        say(&format!("counted {n}"));
        if n % 10 == 0 {
            node.journal.tell(ejected("shop", &format!("e:{n}")));
            if node.journal.tell_durably(deployed(&n.to_string())).wait(SOON).is_ok() {
                say(&format!("kept {n}"));
            }
        }
        testkit::pace(Duration::from_millis(1));
    }
}

/// Tells, takes leases and counts, and says what it was told is kept, for as much as fits.
fn power(place: &Place) {
    let node = place.node();
    for n in 1u64..=150 {
        node.source.count(&shop(), 1);
        node.journal.tell(ejected("shop", &format!("e:{n}")));
        if node.journal.tell_durably(deployed(&n.to_string())).wait(SOON).is_ok() {
            say(&format!("kept {n}"));
        }
        if node.store.ledger().take(&format!("lease-{n}-{}", "x".repeat(500)), SOON).is_ok() {
            say(&format!("leased {n}"));
        }
    }
}

/// On a disk of 2 MiB: it fills, says so, goes on, and is fine once there is room.
fn full(place: &Place) {
    let node = place.node();
    node.journal.tell_durably(deployed("before")).wait(SOON).unwrap();
    let ballast = place.config.directory.with_file_name("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[7; 4_096]).is_ok() {}
    let lost = |node: &Node| {
        eventually(SOON, "the journal to be lost", || {
            node.journal.tell(ejected("shop", "a:1"));
            let _kept = node.journal.tell_durably(deployed("meanwhile")).wait(SOON).is_ok();
            Some(node.health("journal")).filter(|f| f.state == FileState::Lost)
        })
    };
    let health = lost(&node);
    assert!(health.trouble.contains("the disk is full"), "{health:?}");
    assert_eq!(node.wait_told("store.lost").level, kernel::Level::Error);
    assert!(node.journal.tell_durably(deployed("not kept")).wait(SOON).is_err());
    node.source.count(&shop(), 5);
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    eventually(SOON, "the journal to be kept", || node.journal.tell_durably(deployed("after")).wait(SOON).ok());
    let back = eventually(SOON, "store.returned", || {
        node.records().into_iter().find(|r| r.kind == "store.returned" && r.data["file"] == "journal")
    });
    assert_eq!(back.data["dropped"], 0);
    let keys: Vec<_> = node.records().into_iter().filter_map(|r| r.data.get("key").cloned()).collect();
    for key in ["before", "meanwhile", "not kept", "after"] {
        assert!(keys.contains(&key.into()), "{key} in {keys:?}");
    }
    node.wait_for("series", FileState::Kept);
    node.close();
}

/// On a file system that is read-only: it says so and answers from what is there and what it remembers.
fn read_only(place: &Place) {
    let node = place.node();
    let health =
        eventually(SOON, "a word on it", || Some(node.health("journal")).filter(|f| f.trouble != "it is not open yet"));
    assert!(health.trouble.contains("cannot be") || health.trouble.contains("read-only"), "{health:?}");
    assert_eq!(health.state, FileState::Lost);
    node.journal.tell(ejected("shop", "a:1"));
    assert!(node.journal.tell_durably(deployed("1")).wait(SOON).is_err());
    let records = node.records();
    assert!(records.iter().any(|r| r.endpoint == "a:1" && r.cursor == 0), "{records:#?}");
    assert!(node.store.ledger().load().is_err());
    assert!(!node.store.close(Duration::from_millis(300)));
}
