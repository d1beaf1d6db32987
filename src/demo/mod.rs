//! `evenkeel demo`: one process that shows what Evenkeel does, with nothing to install. Three replicas of a sample shop
//! ([`shop`]), a gateway configured as a user would configure it ([`stage`]), and steady traffic through it ([`traffic`]).
//! It runs until Ctrl-C or SIGTERM, or for a given time, and ends with a summary; or it goes through a [`story`], in which
//! one thing after the other goes wrong.
//!
//! The gateway is started by a function that the caller passes, from the text of a configuration: the demo runs what a
//! user would run and knows nothing of how. Everything listens on 127.0.0.1.

mod answers;
mod report;
pub mod sample;
pub mod shop;
mod stage;
mod story;
pub mod traffic;

use std::fmt;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gateway::GatewayView;
use kernel::journal::JournalReader;
use kernel::trace::{TraceLine, Why};
use kernel::{Clock, Entropy};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::stage::Stage;
use self::traffic::{Mix, Traffic, TrafficOptions};

/// How many replicas there are: with three, one can fail and the others still share the load.
pub const REPLICAS: usize = 3;
/// How often a status line is written, if standard output is a terminal.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How long requests that are on their way at the end may take.
const GRACE: Duration = Duration::from_secs(1);

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
    /// Whether it goes through the story instead, and in which form it tells it.
    pub story: Option<StoryForm>,
}

/// In which form the story is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoryForm {
    /// For people.
    Text,
    /// A JSON document a line, for programs.
    Json,
}

impl Default for DemoOptions {
    fn default() -> DemoOptions {
        DemoOptions { run_for: None, rate: 50, gateway_port: 0, console_port: 0, story: None }
    }
}

/// Gives at most so many requests of a service.
pub type Traces = Box<dyn Fn(usize, &str) -> Vec<TraceLine> + Send + Sync>;

/// A gateway that runs.
pub struct Running {
    /// Where it takes requests.
    pub gateway: SocketAddr,
    /// Where its console is.
    pub console: SocketAddr,
    /// What it has done so far.
    pub view: Box<dyn Fn() -> GatewayView + Send + Sync>,
    /// What it told; reading may block.
    pub journal: Arc<dyn JournalReader>,
    /// What it did with one request.
    pub why: Box<dyn Fn(&str) -> Why + Send + Sync>,
    /// The newest requests of a service that it can tell of, newest first.
    pub traces: Traces,
    /// Stops it, without a drain delay; awaited once, at the end.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Puts its store away, whether or not it has stopped; awaited once, after that.
    pub put_away: Pin<Box<dyn Future<Output = ()> + Send>>,
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
/// called within a tokio runtime with I/O and time. True if everything went as it should.
///
/// # Errors
/// When the replicas or the gateway cannot be started, or nothing can be written.
pub async fn run<S, F>(options: DemoOptions, start: S) -> anyhow::Result<bool>
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
) -> anyhow::Result<bool>
where
    S: FnOnce(String) -> F,
    F: Future<Output = anyhow::Result<Running>>,
{
    let mut entropy = Entropy::from_os().context("asking the operating system for randomness")?;
    let stage = Stage::set(&options, &mut entropy, start).await?;
    if let Some(form) = options.story {
        return story::run(out, form, options.rate, stage, entropy, asked).await;
    }
    let Stage { running, replicas, .. } = &stage;

    write!(out, "{}", report::banner(running.gateway, running.console, replicas, options.rate))?;
    writeln!(out)?;
    out.flush()?;

    let clock = Clock::real();
    let began = clock.now();
    let (target, rate, seed) = (running.gateway, options.rate, entropy.next_u64());
    let traffic = Traffic::start(TrafficOptions { target, rate, seed, replicas: replicas.len(), mix: Mix::Shop });
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
                writeln!(out, "{}", report::status_line(ran, &traffic.report(), replicas, &(running.view)()))?;
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
    let replicas = stage.replicas.clone();
    stage.clear(asked).await;
    if watched {
        writeln!(out)?;
    }
    write!(out, "{}", report::summary(ran, options.rate, &seen, &replicas, &view))?;
    out.flush()?;
    Ok(true)
}

#[cfg(test)]
mod tests;
