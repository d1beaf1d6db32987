//! The pooler under many clients for minutes: idle ones in thousands, active ones in hundreds, on twenty server connections,
//! with a restart of Postgres each minute. `cargo xtask soak pool` runs it.
//!
//! In each window from one restart to the next: every active client makes progress; no transaction fails that had not
//! started; the node's memory, its files and its connections to Postgres do not grow. At the end every idle client is still
//! there and is answered.

#![expect(clippy::unwrap_used, reason = "all of this is tests; a failure anywhere is a test's failure")]
#![expect(clippy::print_stdout, reason = "a soak is watched by people")]

#[path = "../pooling.rs"]
#[allow(dead_code, reason = "shared with the whole-node tests, which use all of it")]
mod pooling;

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::postgres::{Instance, Options};
use testkit::{Deadline, poll_until};

use pooling::{Traffic, front, idle_clients, prepare, runtime, still_there};

/// Server connections.
const SIZE: usize = 20;
/// A restart each so often.
const WINDOW: Duration = Duration::from_secs(60);
/// How long a restart may hold up the slowest client on a busy machine.
const SETTLE: Duration = Duration::from_secs(60);
/// How many idle clients are asked something in each window.
const ASKED: usize = 100;
/// Memory may be above what it was after the first window by a tenth and this: allocators keep what they had at a peak.
const MEMORY_SLACK_KIB: u64 = 16 * 1024;
/// Files that come and go: probes, questions, logs.
const FILES_SLACK: usize = 32;

/// What the node holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory_kib: u64,
    files: usize,
}

#[test]
fn thousands_of_idle_and_hundreds_of_active_clients_outlive_restart_after_restart() {
    let [minutes, idle, active] = [("MINUTES", 10), ("IDLE", 10_000), ("ACTIVE", 200)].map(|(name, usual)| {
        let name = format!("EVENKEEL_SOAK_{name}");
        std::env::var(name).map_or(usual, |text| text.parse::<usize>().unwrap())
    });
    allow_files(2 * (idle + active) as u64 + 2048);
    let mut server = Options::new().set("max_connections", "60").start().unwrap();
    prepare(&server);
    let front = front(&[&server], SIZE, &format!("max_clients = {}", idle + active + 100));
    let (runtime, port, pid) = (runtime(), front.port.number(), front.node.pid());
    let mut sleepers = runtime.block_on(idle_clients(port, idle)).unwrap();
    println!("{idle} idle clients are connected; the node holds {:?}", held(pid));
    let mut traffic = Traffic::start(&runtime, port, active);
    traffic.await_each(1, SETTLE);
    let mut first: Option<Held> = None;
    for window in 1..=minutes {
        let (end, before) = (Deadline::after(WINDOW), traffic.counts());
        server.restart_fast().unwrap();
        traffic.await_each(1, SETTLE);
        let step = (sleepers.len() / minutes.max(1)).max(1);
        let asked = sleepers.iter().step_by(step).take(ASKED).count();
        let some: Vec<_> = sleepers.drain(..asked).collect();
        runtime.block_on(still_there(&some)).unwrap();
        sleepers.extend(some);
        // The load itself; what is watched meanwhile is how many connections Postgres has.
        let mut most = 0;
        while !end.left().is_zero() {
            most = most.max(connections(&server));
            assert!(most <= SIZE, "{most} connections to Postgres for one pool of {SIZE}");
            let _spent = poll_until(Duration::from_secs(5).min(end.left()), || None::<()>);
        }
        let progress: Vec<usize> = traffic.counts().iter().zip(&before).map(|(now, before)| now - before).collect();
        let (least, all) = (progress.iter().min().copied().unwrap_or_default(), progress.iter().sum::<usize>());
        let (now, lost) = (held(pid), traffic.lost());
        println!(
            "window {window} of {minutes}: {all} transactions, {least} to {} a client; {} in flight were lost so far; {most} \
             server connections; {now:?}",
            progress.iter().max().unwrap(),
            lost.in_flight.len()
        );
        assert!(least > 0, "a client made no progress in a minute");
        // Fair queues: nobody gets a tenth of what others do.
        assert!(least * 10 >= all / active, "the slowest client committed {least}, the average {}", all / active);
        assert!(lost.not_started.is_empty() && lost.connects.is_empty() && lost.idle == 0, "{lost:?}");
        assert!(lost.in_flight.len() <= SIZE * window, "more were lost than were in flight: {lost:?}");
        let first = first.get_or_insert(now);
        let bound = first.memory_kib + first.memory_kib / 10 + MEMORY_SLACK_KIB;
        assert!(now.memory_kib <= bound, "memory grew: {first:?}, then {now:?}");
        assert!(now.files <= first.files + FILES_SLACK, "open files grew: {first:?}, then {now:?}");
    }
    traffic.end(&runtime);
    runtime.block_on(still_there(&sleepers)).unwrap();
    drop(sleepers);
    let gone = poll_until(SETTLE, || (held(pid).files < FILES_SLACK * 4 + SIZE).then_some(()));
    assert!(gone.is_some(), "every client has gone, and the node still holds {:?}", held(pid));
}

fn connections(server: &Instance) -> usize {
    // While it restarts nobody can be asked, and nobody is connected.
    let asked = server.try_psql("postgres", "select count(*) from pg_stat_activity where usename = 'app'");
    asked.map_or(0, |count| count.parse().unwrap())
}

fn held(pid: u32) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory_kib = line.split_whitespace().next().unwrap().parse().unwrap();
    Held { memory_kib, files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() }
}

/// Lets this process and the node open so many files.
fn allow_files(files: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < files) {
        let maximum = maximum.map(|maximum| maximum.max(files));
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum })
            .expect("raise the limit of open files (`ulimit -n`; more than the hard limit needs root)");
    }
}
