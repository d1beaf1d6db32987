//! `evenkeel up`: runs a node until it is told to stop.
//!
//! Standard output gets one line for each address (`listening gateway http://…`, `listening console http://…`,
//! `listening api http://…`) and then `ready`; the log goes to standard error. Signals: SIGTERM stops in order after
//! `drain_delay`, SIGINT (Ctrl-C) does so without that delay, either of them a second time ends at once; SIGHUP reads
//! the configuration again; SIGUSR1 opens log files anew.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::complain;
use crate::app::{Addresses, App, Source, StartError};
use crate::cli::demo::{self, DemoArgs};
use crate::demo::Running;
use crate::limits;

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
    match start_log(&args.log, args.log_format).and_then(|()| serve(args)) {
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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

fn serve(args: &UpArgs) -> anyhow::Result<ExitCode> {
    let descriptors = limits::raise_descriptors();
    tracing::debug!(?descriptors, "limit on open files");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control plane's threads")?;
    let app = match App::build(Source::File(args.config.clone()), runtime.handle()) {
        Ok(app) => app,
        Err(StartError::Config { text, .. }) => {
            std::io::stderr().write_all(text.as_bytes())?;
            return Ok(ExitCode::from(2));
        }
        Err(error) => return Err(error.into()),
    };
    let code = runtime.block_on(async {
        let mut signals = Signals::listen()?;
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
}

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
        })
    }

    /// Does what signals ask for until the node has stopped.
    async fn run(&mut self, app: &App) -> anyhow::Result<ExitCode> {
        let delay = loop {
            tokio::select! {
                _ = self.terminate.recv() => break app.drain_delay(),
                _ = self.interrupt.recv() => break Duration::ZERO,
                _ = self.user1.recv() => app.reopen_logs(),
                _ = self.hang_up.recv() => {
                    let reload = app.reloader();
                    // What came of it is logged and counted by the reload itself.
                    let _outcome = tokio::task::spawn_blocking(move || reload().is_ok()).await.is_ok();
                }
            }
        };
        let again = async {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        };
        tokio::select! {
            in_time = app.stop(delay) => Ok(if in_time { ExitCode::SUCCESS } else { ExitCode::from(1) }),
            () = again => {
                tracing::warn!("told to stop a second time: ending at once");
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    }
}

/// Runs the demo with a node of its own.
pub fn demo(args: &DemoArgs) -> ExitCode {
    let outcome = start_log("warn", LogFormat::Text).and_then(|()| demo::run(args, start_for_demo));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

async fn start_for_demo(text: String) -> anyhow::Result<Running> {
    let control = tokio::runtime::Handle::current();
    let built = tokio::task::spawn_blocking(move || App::build(Source::Text(text), &control)).await?;
    let app = match built {
        Ok(app) => app,
        Err(StartError::Config { text, .. }) => anyhow::bail!("{text}"),
        Err(error) => return Err(error.into()),
    };
    let gateway = *app.addresses().gateway.first().context("the demo's configuration has a gateway")?;
    let console = app.addresses().console.context("the demo's configuration has a console")?;
    let view = Box::new(app.view());
    let stop = Box::pin(async move {
        let _in_time = app.stop(Duration::ZERO).await;
    });
    Ok(Running { gateway, console, view, stop })
}
