//! `evenkeel up`: runs a node until it is told to stop.
//!
//! Standard output gets one line for each address (`listening gateway http://…`, `listening pool NAME …`,
//! `listening console http://…`, `listening api http://…`) and then `ready`; the log goes to standard error. Signals: SIGTERM stops in order after
//! `drain_delay`, SIGINT (Ctrl-C) does so without that delay, either of them a second time ends at once; SIGHUP reads
//! the configuration again; SIGUSR1 opens log files anew; SIGUSR2 starts the next process, which takes over.
//!
//! With `--take-over` it serves in the place of the node that runs with the same store (`handover`), which then finishes
//! what it has and ends. If there is none, this is a usual start: a script need not know.

use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{complain, log};
use crate::app::{Addresses, App, Source, Start, StartError};
use crate::cli::demo::{self, DemoArgs};
use crate::demo::Running;
use crate::handover::{Held, replace};
use crate::{limits, service_manager};

/// Threads of the control plane: health checks, console, reloads.
const CONTROL_THREADS: usize = 2;
/// Exit code after a second signal, as shells give it for an interrupted command.
const INTERRUPTED: u8 = 130;

/// Run a node: gateway, console and health checks, as the configuration says.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "evenkeel.toml")]
    config: PathBuf,
    /// How much is logged: error, warn, info, debug, or a filter such as info,gateway=debug
    #[arg(long, value_name = "LEVEL", env = "EVENKEEL_LOG", default_value = "info")]
    log: String,
    /// How it is logged
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Take the place of the node that runs with this store, without a refused connection
    #[arg(long)]
    take_over: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// JSON lines
    Json,
}

/// Runs a node to its end.
pub fn run(args: &UpArgs) -> ExitCode {
    // Before there is any other thread: it takes its variables out of the environment.
    let passed = service_manager::sockets().context("cannot use the sockets that were passed to this process");
    let outcome = start_log(&args.log, args.log_format).and_then(|()| serve(args, passed?));
    log::flush();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

fn start_log(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter} is not a level or a filter"))?;
    let lines = log::Lines::start().context("cannot start the log's thread")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    let started = match format {
        // Without colours on a terminal too: a log reads the same wherever it goes.
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

fn serve(args: &UpArgs, passed: Vec<Held>) -> anyhow::Result<ExitCode> {
    let descriptors = limits::raise_descriptors();
    tracing::debug!(?descriptors, "limit on open files");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control plane's threads")?;
    let start = Start { source: Source::File(args.config.clone()), take_over: args.take_over, passed };
    let app = match App::build(start, runtime.handle()) {
        Ok(app) => app,
        Err(StartError::Config { text, .. }) => {
            log::flush();
            std::io::stderr().write_all(text.as_bytes())?;
            return Ok(ExitCode::from(2));
        }
        Err(error) => return Err(error.into()),
    };
    let code = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        app.enter().await?;
        announce(app.addresses())?;
        signals.run(&app).await
    });
    runtime.shutdown_background();
    code
}

fn announce(addresses: &Addresses) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for address in &addresses.gateway {
        writeln!(out, "listening gateway http://{address}")?;
    }
    for (pool, address) in &addresses.pools {
        writeln!(out, "listening pool {pool} {address}")?;
    }
    if let Some(address) = addresses.console {
        writeln!(out, "listening console http://{address}")?;
    }
    if let Some(address) = addresses.api {
        writeln!(out, "listening api http://{address}")?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
        })
    }

    /// Does what signals ask for until the node has stopped.
    async fn run(&mut self, app: &App) -> anyhow::Result<ExitCode> {
        let (delay, why) = loop {
            tokio::select! {
                _ = self.terminate.recv() => break (app.drain_delay(), "SIGTERM"),
                _ = self.interrupt.recv() => break (Duration::ZERO, "SIGINT"),
                _ = self.user1.recv() => app.reopen_logs(),
                _ = self.user2.recv() => start_next(app),
                () = app.handed_over() => return self.see_off(app).await,
                _ = self.hang_up.recv() => {
                    let reload = app.reloader();
                    // What came of it is logged and counted by the reload itself.
                    let _outcome = tokio::task::spawn_blocking(move || reload().is_ok()).await.is_ok();
                }
            }
        };
        tokio::select! {
            in_time = app.stop(delay, why) => Ok(ended(in_time)),
            () = self.told_to_stop() => Ok(at_once()),
        }
    }

    /// Waits for what is left after a hand-over. The first signal to stop ends the patience, the second everything.
    async fn see_off(&mut self, app: &App) -> anyhow::Result<ExitCode> {
        let mut finishing = pin!(app.finish());
        tokio::select! {
            in_time = &mut finishing => return Ok(ended(in_time)),
            () = self.told_to_stop() => app.hurry(),
        }
        tokio::select! {
            in_time = &mut finishing => Ok(ended(in_time)),
            () = self.told_to_stop() => Ok(at_once()),
        }
    }

    async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn ended(in_time: bool) -> ExitCode {
    if in_time { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn at_once() -> ExitCode {
    tracing::warn!("told to stop a second time: ending at once");
    ExitCode::from(INTERRUPTED)
}

/// Starts the process that is to take over. What becomes of it is its own to say; here it is waited for, lest it stay
/// behind as a zombie.
fn start_next(app: &App) {
    let tell = app.hand_over_failed();
    match replace::start() {
        Ok(mut child) => {
            tracing::info!(pid = child.id(), "told to hand over: the next process is started");
            let _waited_for = tokio::task::spawn_blocking(move || match child.wait() {
                Ok(status) => tell(Some(child.id()), &format!("it has ended ({status}); its log says why")),
                Err(error) => tracing::debug!(%error, "cannot wait for the process that was to take over"),
            });
        }
        Err(error) => tell(None, &format!("the next process cannot be started: {error}")),
    }
}

/// Runs the demo with a node of its own.
pub fn demo(args: &DemoArgs) -> ExitCode {
    let outcome = start_log(args.log(), LogFormat::Text).and_then(|()| demo::run(args, start_for_demo));
    log::flush();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

async fn start_for_demo(text: String) -> anyhow::Result<Running> {
    let control = tokio::runtime::Handle::current();
    let start = Start { source: Source::Text(text), take_over: false, passed: Vec::new() };
    let built = tokio::task::spawn_blocking(move || App::build(start, &control)).await?;
    let app = match built {
        Ok(app) => app,
        Err(StartError::Config { text, .. }) => anyhow::bail!("{text}"),
        Err(error) => return Err(error.into()),
    };
    app.enter().await?;
    let gateway = *app.addresses().gateway.first().context("the demo's configuration has a gateway")?;
    let console = app.addresses().console.context("the demo's configuration has a console")?;
    let (view, why) = (Box::new(app.view()), Box::new(app.why()));
    let traces = app.traces();
    let traces = Box::new(move |most: usize, service: &str| traces(most, Some(service)));
    let journal = app.journal();
    let put_away = Box::pin(app.put_away());
    let stop = Box::pin(async move {
        let _in_time = app.stop(Duration::ZERO, "the demo ends").await;
    });
    Ok(Running { gateway, console, view, journal, why, traces, stop, put_away })
}
