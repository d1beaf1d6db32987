//! `evenkeel demo`: one process that shows what Evenkeel does, with nothing to install. Three replicas of a sample shop
//! ([`shop`]), a gateway configured as a user would configure it, and steady traffic through it ([`traffic`]). It runs
//! until Ctrl-C or SIGTERM, or for a given time, and ends with a summary.
//!
//! The gateway is started by a function that the caller passes, from the text of a configuration: the demo runs what a
//! user would run and knows nothing of how. Everything listens on 127.0.0.1.

mod answers;
mod report;
pub mod sample;
pub mod shop;
pub mod traffic;

use std::fmt;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use gateway::GatewayView;
use kernel::{Clock, Entropy};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::report::Replica;
use self::shop::Shop;
use self::traffic::{Traffic, TrafficOptions};

/// How many replicas there are: with three, one can fail and the others still share the load.
pub const REPLICAS: usize = 3;
/// How often a status line is written, if standard output is a terminal.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How long requests that are on their way at the end may take.
const GRACE: Duration = Duration::from_secs(1);
/// How long the gateway may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// What the demo does.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// How long it runs; `None`: until it is told to end.
    pub run_for: Option<Duration>,
    /// Requests per second, 1 to 5,000.
    pub rate: u32,
    /// The gateway's port on 127.0.0.1; 0: a free one.
    pub gateway_port: u16,
    /// The console's port on 127.0.0.1; 0: a free one.
    pub console_port: u16,
}

impl Default for DemoOptions {
    fn default() -> DemoOptions {
        DemoOptions { run_for: None, rate: 50, gateway_port: 0, console_port: 0 }
    }
}

/// A gateway that runs.
pub struct Running {
    /// Where it takes requests.
    pub gateway: SocketAddr,
    /// Where its console is.
    pub console: SocketAddr,
    /// What it has done so far.
    pub view: Box<dyn Fn() -> GatewayView + Send + Sync>,
    /// Stops it, without a drain delay; awaited once, at the end.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("gateway", &self.gateway)
            .field("console", &self.console)
            .finish_non_exhaustive()
    }
}

/// Runs the demo and writes to standard output. `start` starts a gateway from the text of a configuration. Must be
/// called within a tokio runtime with I/O and time.
///
/// # Errors
/// When the replicas or the gateway cannot be started, or nothing can be written.
pub async fn run<S, F>(options: DemoOptions, start: S) -> anyhow::Result<()>
where
    S: FnOnce(String) -> F,
    F: Future<Output = anyhow::Result<Running>>,
{
    let mut out = std::io::stdout();
    let watched = out.is_terminal();
    let mut asked = Asked::listen()?;
    run_on(&mut out, watched, options, start, &mut asked).await
}

/// The signals that end the demo.
#[derive(Debug)]
struct Asked {
    interrupt: Signal,
    terminate: Signal,
}

impl Asked {
    fn listen() -> anyhow::Result<Asked> {
        let listen = |kind| signal(kind).context("listening for the signals that end the demo");
        Ok(Asked { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next one. Cancel safe.
    async fn again(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn run_on<S, F>(
    out: &mut impl Write,
    watched: bool,
    options: DemoOptions,
    start: S,
    asked: &mut Asked,
) -> anyhow::Result<()>
where
    S: FnOnce(String) -> F,
    F: Future<Output = anyhow::Result<Running>>,
{
    let mut entropy = Entropy::from_os().context("asking the operating system for randomness")?;
    let mut shops = Vec::new();
    for number in 1..=REPLICAS {
        let shop = Shop::start(number, entropy.next_u64()).await;
        shops.push(shop.with_context(|| format!("starting replica {number} of the sample shop on 127.0.0.1"))?);
    }
    let handles: Vec<_> = shops.iter().map(Shop::handle).collect();
    let replicas: Vec<_> = handles.iter().map(|h| Replica { addr: h.addr(), control: h.control() }).collect();
    let running = start(configuration(&options, &replicas)).await.context("starting the demo's gateway")?;

    write!(out, "{}", report::banner(running.gateway, running.console, &replicas, options.rate))?;
    writeln!(out)?;
    out.flush()?;

    let clock = Clock::real();
    let began = clock.now();
    let (target, rate, seed) = (running.gateway, options.rate, entropy.next_u64());
    let traffic = Traffic::start(TrafficOptions { target, rate, seed, replicas: replicas.len() });
    let ends = options.run_for.map(|span| began + span);
    let mut status_due = began + STATUS_EVERY;
    loop {
        let now = clock.now();
        if ends.is_some_and(|ends| ends <= now) {
            break;
        }
        if status_due <= now {
            status_due = now + STATUS_EVERY;
            if watched {
                let ran = now.since(began);
                writeln!(out, "{}", report::status_line(ran, &traffic.report(), &replicas, &(running.view)()))?;
            }
        }
        let next = ends.map_or(status_due, |ends| ends.min(status_due));
        tokio::select! {
            () = tokio::time::sleep(next.since(now)) => {}
            () = asked.again() => break,
        }
    }
    let ran = clock.now().since(began);
    let seen = traffic.stop(GRACE).await;
    let view = (running.view)();
    tokio::select! {
        stopped = tokio::time::timeout(STOP, running.stop) => if stopped.is_err() {
            tracing::warn!(limit = ?STOP, "the demo's gateway did not stop in time; it ends with the process");
        },
        // Asked a second time: at once.
        () = asked.again() => {}
    }
    if watched {
        writeln!(out)?;
    }
    write!(out, "{}", report::summary(ran, options.rate, &seen, &replicas, &view))?;
    out.flush()?;
    Ok(())
}

/// The configuration that the demo's gateway runs by: the smallest useful one.
fn configuration(options: &DemoOptions, replicas: &[Replica]) -> String {
    let endpoints: Vec<String> = replicas.iter().map(|replica| format!("\"{}\"", replica.addr)).collect();
    format!(
        r#"[gateway]
listen = "127.0.0.1:{}"
[admin]
listen = "127.0.0.1:{}"
[service.shop]
endpoints = [{}]
health = {{ path = "/healthz" }}
"#,
        options.gateway_port,
        options.console_port,
        endpoints.join(", ")
    )
}

#[cfg(test)]
mod tests;
