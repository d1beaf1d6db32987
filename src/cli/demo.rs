//! `evenkeel demo`: reads its arguments and runs [`crate::demo`] on a runtime of its own.

use std::time::Duration;

use anyhow::Context;

use crate::demo::{self, DemoOptions, Running, StoryForm};

/// Threads for the replicas and the traffic; the gateway has its own.
const WORKERS: usize = 2;
/// Requests per second: enough to see what happens to them, and hardly any work.
const RATE: u32 = 50;
/// In the story, where each chapter waits for what enough requests show.
const STORY_RATE: u32 = 100;
/// With fewer a slow replica is found out too late for a story.
const STORY_RATE_MIN: u32 = 40;

/// Show Evenkeel at work: three copies of a sample shop, steady traffic, the gateway and its console, in one process.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// End after this long with a summary, such as 10s or 2m; without it, Ctrl-C ends the demo
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, conflicts_with = "story")]
    run_for: Option<Duration>,
    /// Requests per second, 1 to 5000 [default: 50; 100 in the story]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(demo::traffic::FASTEST)))]
    rate: Option<u32>,
    /// Go through a story of some 70 seconds in which replicas are killed, frozen, slowed down and flooded, one after the
    /// other; the exit code is 1 if a chapter does not go as it should
    #[arg(long)]
    story: bool,
    /// Tell the story as JSON, a document a line
    #[arg(long, requires = "story")]
    json: bool,
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

impl DemoArgs {
    /// What is logged: in the story the journal is told by the story.
    pub fn log(&self) -> &'static str {
        if self.story { "warn,journal=off" } else { "warn" }
    }

    fn options(&self) -> anyhow::Result<DemoOptions> {
        let story = match (self.story, self.json) {
            (false, _) => None,
            (true, false) => Some(StoryForm::Text),
            (true, true) => Some(StoryForm::Json),
        };
        let rate = self.rate.unwrap_or(if self.story { STORY_RATE } else { RATE });
        anyhow::ensure!(
            !self.story || rate >= STORY_RATE_MIN,
            "--story needs --rate {STORY_RATE_MIN} or more: with fewer requests the replicas cannot be compared in time"
        );
        let DemoArgs { run_for, gateway_port, console_port, .. } = *self;
        Ok(DemoOptions { run_for, rate, gateway_port, console_port, story })
    }
}

/// Runs the demo until it ends. `start` starts a gateway from the text of a configuration, within the demo's runtime.
///
/// # Errors
/// When the demo cannot be started or cannot write. False if something did not go as it should.
pub fn run<S, F>(args: &DemoArgs, start: S) -> anyhow::Result<bool>
where
    S: FnOnce(String) -> F,
    F: Future<Output = anyhow::Result<Running>>,
{
    let options = args.options()?;
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
        assert_eq!((args.run_for, args.rate, args.gateway_port), (Some(Duration::from_secs(10)), Some(5000), 0));
        assert!(parse(&["--for", "10"]).unwrap_err().contains("such as 10s"));
        assert!(parse(&["--rate", "0"]).is_err());
    }

    #[test]
    fn the_story_has_its_own_rate_and_no_end_but_its_own() {
        let options = |args: &[&str]| parse(args).unwrap().options();
        let plain = options(&[]).unwrap();
        assert_eq!((plain.rate, plain.story), (50, None));
        let story = options(&["--story", "--console-port", "7070"]).unwrap();
        assert_eq!((story.rate, story.console_port, story.story), (100, 7070, Some(StoryForm::Text)));
        assert_eq!(options(&["--story", "--json", "--rate", "40"]).unwrap().story, Some(StoryForm::Json));
        assert!(options(&["--story", "--rate", "39"]).unwrap_err().to_string().contains("--rate 40"));
        assert!(parse(&["--json"]).is_err() && parse(&["--story", "--for", "5s"]).is_err());
    }
}
