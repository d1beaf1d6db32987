//! `cargo xtask bench pool`: Evenkeel's Postgres pooler beside Debian's PgBouncer and beside no pooler, in rotated rounds.
//! Load, pooler and Postgres share all cores, as they do on a small machine; only one pooler has traffic at a time. What
//! carries over to other machines is CPU time a transaction, and ratios within a round.
//!
//! Clients prove a password by SCRAM-SHA-256 at each pooler, and the pooler at Postgres. The verifier has one iteration
//! instead of 4,096: with the usual number, `pgbench` itself would be what connections a second are measured of.

mod load;
mod peers;
mod postgres;
mod verdict;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use self::load::{CONNECT, Cell, sample};
use self::peers::{PEERS, Peer, Running};
use self::postgres::{Postgres, USER};
use self::verdict::{Idle, Samples};
use super::process::{self, Group};
use super::{idle, proxy};
use crate::args::Args;
use crate::clock::Stopwatch;
use crate::workspace::{Profile, Workspace};

const MODES: [&str; 4] = ["simple", "extended", "prepared", CONNECT];
/// Clients of the mode with a connection for each transaction.
const CONNECTING: u32 = 8;
/// Idle clients before the first reading, so that what is allocated once is not charged to the others.
const FIRST_IDLE: u32 = 100;
/// How long idle clients may take to connect.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Options {
    rounds: u32,
    seconds: u64,
    scale: u32,
    only: Vec<String>,
    modes: Vec<&'static str>,
    clients: Vec<u32>,
    idle: u32,
    json: Option<PathBuf>,
    profile: Profile,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            rounds: 5,
            seconds: 4,
            scale: 10,
            only: Vec::new(),
            modes: MODES.to_vec(),
            clients: vec![8, 64, 200],
            idle: 3000,
            json: None,
            profile: Profile::Dist,
        }
    }
}

pub(super) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    if args.flag("--smoke") {
        args.end()?;
        return smoke(workspace);
    }
    let default = Options::default();
    let (modes, clients) = (args.list("--modes")?, args.list("--clients")?);
    let options = Options {
        rounds: args.value("--rounds")?.unwrap_or(default.rounds),
        seconds: args.value("--seconds")?.unwrap_or(default.seconds),
        only: args.list("--only")?,
        idle: args.value("--idle")?.unwrap_or(default.idle),
        modes: if modes.is_empty() { default.modes } else { known_modes(&modes)? },
        clients: if clients.is_empty() { default.clients } else { numbers(&clients)? },
        json: args.value("--json")?,
        ..Options::default()
    };
    args.end()?;
    run(workspace, &options)
}

/// One short round with the quick release build: shows that the harness works and says nothing about speed.
pub(super) fn smoke(workspace: &Workspace) -> Result<()> {
    let short = Options { rounds: 1, seconds: 1, scale: 1, clients: vec![8], idle: 50, ..Options::default() };
    run(workspace, &Options { profile: Profile::Release, ..short })
}

fn known_modes(names: &[String]) -> Result<Vec<&'static str>> {
    let find = |name: &String| MODES.into_iter().find(|mode| mode == name);
    names.iter().map(|name| find(name).with_context(|| format!("--modes: there is no `{name}`"))).collect()
}

fn numbers(words: &[String]) -> Result<Vec<u32>> {
    words.iter().map(|word| word.parse().with_context(|| format!("--clients {word}"))).collect()
}

fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    ensure!((1..=100).contains(&options.rounds), "--rounds is 1 to 100");
    ensure!((1..=600).contains(&options.seconds), "--seconds is 1 to 600");
    ensure!(options.clients.iter().all(|clients| (1..=250).contains(clients)), "--clients is 1 to 250, each");
    ensure!(options.idle <= 3000, "--idle is 0 to 3000");
    let names = PEERS.map(Peer::name);
    for name in &options.only {
        ensure!(names.contains(&name.as_str()), "--only: there is no `{name}`; there are {}", names.join(", "));
    }
    process::allow_files(8192)?;
    let [port, _] = proxy::free_ports()?;
    let postgres = Postgres::start(workspace, port, options.scale)?;
    let wanted = |peer: &Peer| options.only.is_empty() || options.only.iter().any(|name| name == peer.name());
    let mut running = Vec::new();
    for peer in PEERS.into_iter().filter(wanted) {
        running.push(peer.start(workspace, &postgres, options.profile)?);
    }
    if running.is_empty() {
        bail!("there is nothing to measure");
    }
    let samples = rounds(&postgres, &running, options)?;
    let mut held = Idle::new();
    for target in running.iter().filter(|target| target.group.is_some() && options.idle > 0) {
        let each = idle_client(&postgres, target, options.idle);
        held.insert(target.peer, each.with_context(|| format!("idle clients of {}", target.peer.name()))?);
    }
    tell(options, &running, &samples, &held)
}

/// Every cell in every round, one peer after the other.
fn rounds(postgres: &Postgres, running: &[Running], options: &Options) -> Result<Samples> {
    let mut cells: Vec<Cell> = Vec::new();
    for mode in &options.modes {
        let alone = [CONNECTING];
        let clients: &[u32] = if *mode == CONNECT { &alone } else { &options.clients };
        cells.extend(clients.iter().map(|clients| Cell { mode, clients: *clients }));
    }
    for target in running {
        sample(postgres, target, Cell { mode: "simple", clients: 20 }, 1).context("warming up")?;
    }
    let mut samples = Samples::new();
    for round in 0..options.rounds as usize {
        let watch = Stopwatch::start();
        for cell in &cells {
            for place in 0..running.len() {
                let target = &running[(place + round) % running.len()];
                if !target.peer.has(cell.mode, &target.version) {
                    continue;
                }
                let taken = sample(postgres, target, *cell, options.seconds).with_context(|| {
                    format!("round {}, {}, {} clients, {}", round + 1, cell.mode, cell.clients, target.peer.name())
                })?;
                samples.entry((*cell, target.peer)).or_default().push(taken);
            }
        }
        println!("round {} of {} took {watch}", round + 1, options.rounds);
    }
    Ok(samples)
}

/// KiB that the pooler needs for an idle client that has run one query.
fn idle_client(postgres: &Postgres, target: &Running, count: u32) -> Result<f64> {
    let group = target.group.as_ref().context("a pooler")?;
    let script = postgres.folder.join("idle.sql");
    fs::write(&script, "select 1;\n\\sleep 600 s\n").context("writing the script of idle clients")?;
    let hold = |clients: u32| -> Result<Group> {
        let mut pgbench = postgres.pgbench(target.port);
        pgbench.args(["-n", "-t", "1", "-j", "1", "-c", &clients.to_string(), "-f"]).arg(&script).arg(USER);
        pgbench.stdout(Stdio::null()).stderr(Stdio::null());
        Group::start(None, &mut pgbench, None)
    };
    let connected = |wanted: u32| -> Result<u64> {
        let watch = Stopwatch::start();
        while established(target.port) < wanted {
            ensure!(watch.elapsed() < IDLE, "{} of {wanted} clients are connected", established(target.port));
            std::thread::sleep(Duration::from_millis(50));
        }
        idle::steady(|| group.memory("VmRSS"))
    };
    let first = FIRST_IDLE.min(count);
    let _first = hold(first)?;
    let before = connected(first)?;
    let _all = hold(count)?;
    let after = connected(first + count)?;
    Ok((after as f64 - before as f64) / f64::from(count))
}

/// How many connections this machine has at a port on the side of the server.
fn established(port: u16) -> u32 {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let local = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace();
        fields.nth(1).is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some("01")
    };
    table.lines().filter(is_one).count() as u32
}

fn tell(options: &Options, running: &[Running], samples: &Samples, held: &Idle) -> Result<()> {
    let versions: Vec<String> = running.iter().map(|one| format!("{} {}", one.peer.name(), one.version)).collect();
    println!(
        "\npgbench -S, pool of 20, SCRAM-SHA-256 (of 1 iteration) on both sides; medians and quartiles of {} rounds of {} s\n{}\n",
        options.rounds,
        options.seconds,
        versions.join(", ")
    );
    println!("{}", verdict::table(samples));
    for (peer, each) in held {
        println!("idle client of {:<10} {each:.2} KiB ({} clients)", peer.name(), options.idle);
    }
    let verdicts = verdict::verdicts(samples, held);
    println!("\n{}", verdict::lines(&verdicts));
    let Some(file) = &options.json else { return Ok(()) };
    let rows: Vec<Value> = samples
        .iter()
        .map(|((cell, peer), list)| {
            let rounds: Vec<Value> = list.iter().map(load::Sample::json).collect();
            json!({"mode": cell.mode, "clients": cell.clients, "peer": peer.name(), "rounds": rounds})
        })
        .collect();
    let idle: Value = held.iter().map(|(peer, each)| (peer.name().to_owned(), json!(each))).collect();
    let verdicts: Vec<Value> = verdicts.iter().map(verdict::Verdict::json).collect();
    let report = json!({
        "benchmark": "pool", "machine": super::machine(), "versions": versions, "rounds": options.rounds,
        "seconds": options.seconds, "rows": rows, "idle_kib": idle, "verdicts": verdicts,
    });
    fs::write(file, serde_json::to_string_pretty(&report)? + "\n")
        .with_context(|| format!("writing {}", file.display()))?;
    println!("wrote {}", file.display());
    Ok(())
}
