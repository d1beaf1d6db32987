//! `cargo xtask bench gateway`: Evenkeel beside nginx, HAProxy and Envoy on this machine, in one run; `cargo xtask bench pool`
//! is in [`pool`]. `docs/benchmarks.md` says how to read what they print. This file reads the options and prepares the ground that every run stands on: the
//! load tools and the product are built, the upstream runs, and everything is in a folder of its own that is made anew.

mod gateway;
mod idle;
mod pool;
mod process;
mod proxy;
mod table;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use self::process::{Cores, Group};
pub(crate) use self::proxy::{Kind, Proxy};
use self::proxy::{PROXIES, Setting};
use crate::args::Args;
use crate::sh;
use crate::workspace::{Profile, Workspace};

/// Rounds, seconds a part, and so on.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    rounds: u32,
    seconds: u64,
    rate: f64,
    connections: u64,
    only: Vec<String>,
    json: Option<PathBuf>,
    idle: Option<u64>,
    profile: Profile,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            rounds: 5,
            seconds: 4,
            rate: 5000.0,
            connections: 64,
            only: Vec::new(),
            json: None,
            idle: None,
            profile: Profile::Dist,
        }
    }
}

/// What a run stands on.
#[derive(Debug)]
struct Ground<'a> {
    workspace: &'a Workspace,
    cores: Cores,
    run: PathBuf,
    proxies: Vec<Proxy>,
    upstream: Group,
    upstream_address: SocketAddr,
}

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    match args.word().as_deref() {
        Some("gateway") => {}
        Some("pool") => return pool::command(workspace, args),
        _ => bail!("say what to measure: `cargo xtask bench gateway` or `cargo xtask bench pool`"),
    }
    let default = Options::default();
    let is_smoke = args.flag("--smoke");
    let options = Options {
        rounds: args.value("--rounds")?.unwrap_or(default.rounds),
        seconds: args.value("--seconds")?.unwrap_or(default.seconds),
        rate: args.value("--rate")?.unwrap_or(default.rate),
        connections: args.value("--connections")?.unwrap_or(default.connections),
        only: args.list("--only")?,
        json: args.value("--json")?,
        idle: args.value("--idle")?,
        profile: default.profile,
    };
    args.end()?;
    if is_smoke { smoke(workspace) } else { run(workspace, &options) }
}

/// One short round with the quick release build: shows that the harness works and says nothing about speed.
pub(crate) fn smoke(workspace: &Workspace) -> Result<()> {
    let only = [Kind::Evenkeel, Kind::Nginx, Kind::Haproxy].map(|kind| kind.name().to_owned()).to_vec();
    let short = Options { rounds: 1, seconds: 1, rate: 500.0, connections: 16, only, ..Options::default() };
    run(workspace, &Options { profile: Profile::Release, ..short.clone() })?;
    run(workspace, &Options { profile: Profile::Release, idle: Some(200), ..short })
}

fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    ensure!((1..=100).contains(&options.rounds), "--rounds is 1 to 100");
    ensure!((1..=600).contains(&options.seconds), "--seconds is 1 to 600");
    ensure!(options.rate > 0.0 && options.rate <= 1e6, "--rate is more than 0 and at most 1000000 a second");
    ensure!((1..=4000).contains(&options.connections), "--connections is 1 to 4000");
    let held = options.idle.unwrap_or(options.connections);
    ensure!((1..=50_000).contains(&held), "--idle is 1 to 50000 connections");
    let cores = Cores::pick()?;
    // A busy connection has a socket on each side, an idle one only the client's; the rest is for files of the proxy's own.
    let files = options.idle.map_or(4096 * 2, |idle| idle + 1024) + 2048;
    process::allow_files(files)?;
    let proxies = contestants(workspace, options)?;
    sh::run(&mut workspace.cargo(&["build", "--release", "--package", "evenkeel-bench", "--bins"]))?;
    let run = workspace.target.join("bench/run");
    drop(fs::remove_dir_all(&run));
    fs::create_dir_all(&run).with_context(|| format!("making {}", run.display()))?;
    let (upstream, upstream_address) = start_upstream(workspace, cores)?;
    let ground = Ground { workspace, cores, run, proxies, upstream, upstream_address };
    let setting = Setting {
        upstream: upstream_address,
        connections: options.idle.map_or(4096, |idle| idle + 1024),
        files,
        core: cores.proxy,
    };
    let report = match options.idle {
        Some(count) => idle::measure(&ground, &setting, count)?,
        None => gateway::measure(&ground, &setting, options)?,
    };
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))?;
        println!("wrote {}", file.display());
    }
    Ok(())
}

/// Those that `--only` names, or all. A peer that cannot be had is left out; the product cannot be left out that way.
fn contestants(workspace: &Workspace, options: &Options) -> Result<Vec<Proxy>> {
    let names = PROXIES.map(Kind::name);
    for name in &options.only {
        ensure!(names.contains(&name.as_str()), "--only: there is no `{name}`; there are {}", names.join(", "));
    }
    let mut proxies = Vec::new();
    for kind in PROXIES {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == kind.name()) {
            continue;
        }
        match kind.install(workspace, || workspace.build(options.profile)) {
            Ok(proxy) => proxies.push(proxy),
            Err(error) if matches!(kind, Kind::Evenkeel | Kind::Bare) => return Err(error),
            Err(error) => println!("{} is left out: {error:#}", kind.name()),
        }
    }
    if proxies.is_empty() {
        bail!("there is nothing to measure");
    }
    Ok(proxies)
}

fn start_upstream(workspace: &Workspace, cores: Cores) -> Result<(Group, SocketAddr)> {
    let mut command = Command::new(tool(workspace, "bench-upstream"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut upstream = Group::start(cores.load, &mut command, None)?;
    let line = first_line(&mut upstream)?;
    let address = line.strip_prefix("listening ").and_then(|address| address.parse().ok());
    Ok((upstream, address.with_context(|| format!("bench-upstream said {line:?}, not where it listens"))?))
}

fn first_line(group: &mut Group) -> Result<String> {
    let out = group.child().stdout.take().context("the program was started without a pipe")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).context("reading what the program said")?;
    Ok(line.trim_end().to_owned())
}

/// A load tool; they are built in the release profile whatever the product's is.
fn tool(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.binary(Profile::Release, name)
}

/// The machine, for the report.
fn machine() -> serde_json::Value {
    let line = |file: &str, key: &str| {
        let text = fs::read_to_string(Path::new(file)).unwrap_or_default();
        text.lines()
            .find(|line| line.starts_with(key))
            .map(|line| line[key.len()..].trim_start_matches([':', ' ', '\t']).to_owned())
    };
    serde_json::json!({
        "cpu": line("/proc/cpuinfo", "model name"),
        "kernel": line("/proc/sys/kernel/osrelease", ""),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "congestion_control": line("/proc/sys/net/ipv4/tcp_congestion_control", ""),
    })
}
