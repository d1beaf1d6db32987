//! `evenkeel deploy mark`: tells a running node that something was deployed, so that journal and charts show it. It has
//! succeeded once the journal has it on disk.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::remote::{Remote, RemoteArgs};

/// Tell a running node of deployments
#[derive(Debug, Args)]
pub struct DeployArgs {
    #[command(subcommand)]
    command: DeployCommand,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum DeployCommand {
    /// Something was deployed: the journal keeps it, and charts show it
    Mark(MarkArgs),
}

#[derive(Debug, Args)]
struct MarkArgs {
    /// What was deployed: a service of the configuration
    #[arg(long, value_name = "NAME")]
    service: String,
    /// Which version: a tag, a commit, a build
    #[arg(long, value_name = "TEXT")]
    version: String,
    /// Where to; production if not given
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// What came of it: succeeded (if not given), failed, started, or another word
    #[arg(long, value_name = "WORD")]
    status: Option<String>,
    /// Where more is to be read
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Who deployed it; the caller if not given
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// What names this deployment: the same is kept once, however often it is told
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
}

/// Tells it.
///
/// # Errors
/// When the node cannot be reached or does not let the caller in, or the output cannot be written.
pub fn run(args: &DeployArgs) -> anyhow::Result<ExitCode> {
    let DeployCommand::Mark(mark) = &args.command;
    Remote::of(&args.remote)?.act("/v1/deploys", &mark.body(), args.remote.json)
}

impl MarkArgs {
    fn body(&self) -> Value {
        let fields = [
            ("service", Some(&self.service)),
            ("version", Some(&self.version)),
            ("environment", self.environment.as_ref()),
            ("status", self.status.as_ref()),
            ("url", self.url.as_ref()),
            ("actor", self.actor.as_ref()),
            ("key", self.key.as_ref()),
        ];
        let written =
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?.as_str()))));
        Value::Object(written.collect::<Map<_, _>>())
    }
}
