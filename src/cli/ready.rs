//! `evenkeel ready`: asks a running node whether it is to be sent requests, as a balancer does. For scripts, and for
//! containers whose image has nothing else to ask with. Exit codes: 0 it is, 1 it is not, 2 it could not be asked.

use std::process::ExitCode;

use serde_json::json;

use super::remote::{Remote, RemoteArgs, print};

/// Ask a running node whether it is ready for requests
#[derive(Debug, clap::Args)]
pub struct ReadyArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks the node, and shows its answer.
///
/// # Errors
/// When the node cannot be reached, or the output cannot be written.
pub fn run(args: &ReadyArgs) -> anyhow::Result<ExitCode> {
    let (ready, text) = Remote::of(&args.remote)?.readiness()?;
    match args.remote.json {
        true => print(&format!("{:#}\n", json!({ "ready": ready, "message": text })))?,
        false => print(&format!("{text}\n"))?,
    }
    Ok(ExitCode::from(u8::from(!ready)))
}
