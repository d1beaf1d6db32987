//! `storm run`: three upstreams, a proxy, a load and a fault lead to one file of JSON and one line.

mod counts;
mod fleet;
mod process;
mod result;
mod timetable;
mod watch;

pub(crate) use process::{end_with, leashed};

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use kernel::{Clock, Moment};
use serde_json::Value;
use tokio::time::sleep;

use self::fleet::{COUNT, Fleet};
use self::process::Proxy;
use self::timetable::Stage;
use self::watch::Seen;
use crate::http::{once, parse_url};
use crate::load::{self, Load, Outcome};
use crate::scenario::{self, Scenario};
use crate::upstream::counters::Counter;

/// `--proxy-url` of a run without a proxy.
const DIRECT: &str = "direct";
/// How long upstreams and the proxy may take to be there.
const START: Duration = Duration::from_secs(10);
/// Checks become green within this (two in a row, one a second).
const SETTLE: Duration = Duration::from_millis(1200);
/// What was queued or frozen comes to its end before it is counted.
const AFTER: Duration = Duration::from_millis(400);

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Key, number or name (see `storm list`)
    pub(crate) scenario: String,
    /// Shell command that becomes the proxy, in the foreground; it sees $STORM_DIR
    #[arg(long)]
    pub(crate) proxy_cmd: Option<String>,
    /// Where the clients send; `direct` is round robin over the upstreams, without retries
    #[arg(long, default_value = DIRECT)]
    pub(crate) proxy_url: String,
    /// Answers 200 once the proxy is up
    #[arg(long)]
    pub(crate) health: Option<String>,
    /// Shell command that makes it reload; it sees $STORM_PROXY_PID and $STORM_RELOAD (1, 2)
    #[arg(long)]
    pub(crate) reload_cmd: Option<String>,
    /// Evenkeel's admin server, which is then watched
    #[arg(long)]
    pub(crate) admin: Option<String>,
    /// Fail unless the clients' counts are those of Evenkeel, exactly
    #[arg(long, requires = "admin")]
    pub(crate) exact: bool,
    /// Its name in the table
    #[arg(long, default_value = "proxy")]
    pub(crate) name: String,
    /// Folder for logs and the state of upstreams; made
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The result as JSON
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[arg(long)]
    pub(crate) secs: Option<f64>,
    #[arg(long)]
    pub(crate) inject: Option<f64>,
    #[arg(long)]
    pub(crate) heal: Option<f64>,
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// End when this process, which is the parent, ends
    #[arg(long)]
    pub(crate) parent: Option<i32>,
}

/// Everything that was measured.
#[derive(Debug)]
struct Measured {
    outcome: Outcome,
    notes: Vec<Value>,
    /// Requests that had reached the upstreams at the beginning and at the end of the fault.
    requests_at: [u64; 2],
    requests: u64,
    upstream_connections: u64,
    effects: HashMap<String, u64>,
    upstreams: Value,
    gateway: Value,
    /// Whether it counted what the clients counted, if that is asked for.
    counts: Option<Result<Value>>,
    /// Seconds of CPU time: load, upstreams, proxy.
    cpu: [Option<f64>; 3],
    wall: Duration,
    peak_bytes: u64,
    is_alive: Option<bool>,
}

/// Runs the scenario.
pub(crate) async fn command(args: RunArgs) -> Result<()> {
    if let Some(parent) = args.parent {
        end_with(parent, rustix::process::Signal::TERM)?;
    }
    let mut scenario = scenario::find(&args.scenario).context("there is no such scenario; see `storm list`")?;
    scenario.retime(args.secs, args.inject, args.heal);
    std::fs::create_dir_all(&args.dir).with_context(|| format!("making {}", args.dir.display()))?;
    let clock = Clock::real();
    let fleet = Rc::new(RefCell::new(Fleet::start(&args.dir)?));
    for index in 0..COUNT {
        until(&clock, "an upstream", || fleet::is_ready(index)).await?;
    }
    let targets = if args.proxy_url == DIRECT { fleet::addresses() } else { vec![parse_url(&args.proxy_url)?.0] };
    let proxy = match &args.proxy_cmd {
        Some(command) => {
            ensure!(TcpStream::connect(targets[0]).is_err(), "{} is taken before the proxy runs", targets[0]);
            Some(Proxy::start(command, &args.dir, clock.clone())?)
        }
        None => None,
    };
    if args.proxy_url != DIRECT {
        warm_up(&args, &clock, targets[0]).await?;
    }
    for index in 0..COUNT {
        fleet::clear(index).await?;
        fleet::set_fault(index, &scenario.init).await?;
    }
    let load = Load { targets, flows: scenario.flows.clone(), secs: scenario.secs, seed: args.seed };
    let offered = load::due(&load).len();
    let measured = measure(&args, &scenario, load, &clock, &fleet, proxy.as_ref()).await?;
    ensure!(measured.outcome.records.len() == offered, "{} of {offered} outcomes", measured.outcome.records.len());
    drop(proxy);
    let report = result::report(&args, &scenario, &measured);
    let text = serde_json::to_string_pretty(&report)?;
    std::fs::write(&args.out, text + "\n").with_context(|| format!("writing {}", args.out.display()))?;
    println!("{}", result::line(&report));
    if let Some(counts) = measured.counts {
        println!("{}", counts::line(&counts?));
    }
    Ok(())
}

/// Polls until it holds.
async fn until<F: Future<Output = bool>>(clock: &Clock, what: &str, mut holds: impl FnMut() -> F) -> Result<()> {
    let end = clock.now() + START;
    while !holds().await {
        if clock.now() > end {
            bail!("{what} was not there within {START:?}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until the proxy is up and uses all upstreams.
async fn warm_up(args: &RunArgs, clock: &Clock, target: SocketAddr) -> Result<()> {
    let health = args.health.clone().unwrap_or_else(|| format!("{}/healthz", args.proxy_url.trim_end_matches('/')));
    let (address, path) = parse_url(&health)?;
    let limit = Duration::from_millis(500);
    let told = |name: &str| std::fs::read_to_string(args.dir.join(name)).unwrap_or_default();
    until(clock, &health, || async {
        once(address, "GET", &path, String::new(), limit).await.is_ok_and(|reply| reply.status == 200)
    })
    .await
    .with_context(|| format!("the proxy said: {}", told("proxy.log").trim()))?;
    let seen = RefCell::new(BTreeSet::new());
    until(clock, "every upstream, through the proxy,", || async {
        if let Ok(reply) = once(target, "GET", "/item", String::new(), limit).await
            && let Some(id) = reply.headers.get("x-upstream").filter(|_| reply.status == 200)
        {
            seen.borrow_mut().insert(id.as_bytes().to_vec());
        }
        seen.borrow().len() == COUNT
    })
    .await?;
    sleep(SETTLE).await;
    Ok(())
}

/// The load, with all that happens beside it.
async fn measure(
    args: &RunArgs,
    scenario: &Scenario,
    load: Load,
    clock: &Clock,
    fleet: &Rc<RefCell<Fleet>>,
    proxy: Option<&Proxy>,
) -> Result<Measured> {
    let admin = args.admin.as_deref().map(parse_url).transpose()?.map(|(address, _)| address);
    let counted_before = match (args.exact, admin) {
        (true, Some(admin)) => Some((admin, counts::of_metrics(admin).await?)),
        _ => None,
    };
    let start = clock.now() + Duration::from_millis(50);
    let cpu_before = (process::own_cpu(), fleet.borrow().cpu(), proxy.map(Proxy::cpu).unwrap_or_default());
    let load_clock = clock.clone();
    let worker = std::thread::Builder::new().name("load".into()).spawn(move || load::run(load, load_clock, start))?;
    let (seen, peak_bytes) = (RefCell::new(Seen::default()), Cell::new(0_u64));
    let stage = Stage {
        clock: clock.clone(),
        start,
        fleet: Rc::clone(fleet),
        proxy,
        reload: args.reload_cmd.as_deref(),
        folder: &args.dir,
    };
    let is_done = async {
        while !worker.is_finished() {
            peak_bytes.set(peak_bytes.get().max(proxy.map_or(0, Proxy::resident_bytes)));
            sleep(Duration::from_millis(100)).await;
        }
    };
    let work = async {
        let counted = count_at(clock, start, fleet, [scenario.inject, scenario.heal]);
        let (notes, requests_at, ()) = tokio::join!(timetable::follow(&stage, &scenario.events), counted, is_done);
        (notes, requests_at)
    };
    let watching = async {
        match admin {
            Some(admin) => watch::watch(admin, &seen).await,
            None => std::future::pending().await,
        }
    };
    let all = async {
        tokio::select! {
            done = work => done,
            () = watching => (Vec::new(), [0; 2]),
        }
    };
    let (notes, requests_at) = tokio::task::LocalSet::new().run_until(all).await;
    let outcome = worker.join().map_err(|_| anyhow!("the load panicked"))??;
    let wall = clock.now().since(start);
    let proxy_cpu = |proxy: &Proxy| {
        proxy.cpu().iter().map(|(pid, cpu)| cpu - cpu_before.2.get(pid).copied().unwrap_or(0.0)).sum::<f64>()
    };
    let cpu =
        [Some(process::own_cpu() - cpu_before.0), Some(fleet.borrow().cpu() - cpu_before.1), proxy.map(proxy_cpu)];
    sleep(AFTER).await;
    let seen = seen.into_inner();
    let gateway = match admin {
        Some(admin) => seen.report(admin).await.context("asking Evenkeel about itself")?,
        None => Value::Null,
    };
    let counts = match counted_before {
        Some((admin, before)) => Some(exact(admin, &before, &outcome, clock).await),
        None => None,
    };
    let effects = fleet::effects().await?;
    let fleet = fleet.borrow();
    Ok(Measured {
        outcome,
        notes,
        requests_at,
        requests: fleet.sum(Counter::Requests),
        upstream_connections: fleet.sum(Counter::Connections),
        effects,
        upstreams: fleet.report(),
        gateway,
        counts,
        cpu,
        wall,
        peak_bytes: peak_bytes.get(),
        is_alive: proxy.map(Proxy::is_alive),
    })
}

/// Whether the node has counted what the clients have.
async fn exact(admin: SocketAddr, before: &counts::Node, outcome: &Outcome, clock: &Clock) -> Result<Value> {
    counts::compare(admin, before, counts::of_clients(&outcome.records)?, clock).await
}

/// Requests that have reached the upstreams at these seconds.
async fn count_at(clock: &Clock, start: Moment, fleet: &RefCell<Fleet>, seconds: [f64; 2]) -> [u64; 2] {
    let mut counts = [0; 2];
    for (count, second) in counts.iter_mut().zip(seconds) {
        sleep((start + Duration::from_secs_f64(second)).since(clock.now())).await;
        *count = fleet.borrow().sum(Counter::Requests);
    }
    counts
}
