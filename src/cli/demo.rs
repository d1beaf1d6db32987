//! `evenkeel demo`: reads its arguments and runs [`crate::demo`] on a runtime of its own.

use std::time::Duration;

use anyhow::Context;

use crate::demo::{self, DemoOptions, Running};

/// Threads for the replicas and the traffic; the gateway has its own.
const WORKERS: usize = 2;

/// Show Evenkeel at work: three copies of a sample shop, steady traffic, the gateway and its console, in one process.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// End after this long with a summary, such as 10s or 2m; without it, Ctrl-C ends the demo
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    run_for: Option<Duration>,
    /// Requests per second, 1 to 5000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(demo::traffic::FASTEST)))]
    rate: u32,
    /// Port of the gateway on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    gateway_port: u16,
    /// Port of the console on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    console_port: u16,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it with a unit, such as 10s or 2m"))
}

/// Runs the demo until it ends. `start` starts a gateway from the text of a configuration, within the demo's runtime.
///
/// # Errors
/// When the demo cannot be started or cannot write.
pub fn run<S, F>(args: &DemoArgs, start: S) -> anyhow::Result<()>
where
    S: FnOnce(String) -> F,
    F: Future<Output = anyhow::Result<Running>>,
{
    let options = DemoOptions {
        run_for: args.run_for,
        rate: args.rate,
        gateway_port: args.gateway_port,
        console_port: args.console_port,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("demo")
        .enable_all()
        .build()
        .context("starting the demo's runtime")?;
    let result = runtime.block_on(demo::run(options, start));
    // Requests that a frozen replica holds must not hold the end up.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn parse(args: &[&str]) -> Result<DemoArgs, String> {
        let command = DemoArgs::augment_args(clap::Command::new("demo").no_binary_name(true));
        let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
        DemoArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_are_read_and_nonsense_is_told() {
        let args = parse(&["--for", "10s", "--rate", "5000"]).unwrap();
        assert_eq!((args.run_for, args.rate, args.gateway_port), (Some(Duration::from_secs(10)), 5000, 0));
        assert!(parse(&["--for", "10"]).unwrap_err().contains("such as 10s"));
        assert!(parse(&["--rate", "0"]).is_err());
    }
}
