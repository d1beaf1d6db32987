//! `evenkeel pool`: shows the pools of a running node and gives them orders; and reads what PgBouncer was configured with.

mod import;
mod ini;
mod remote;
mod settings;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::remote::{Remote, RemoteArgs};

/// Show the pools of a running node, give them orders, import a configuration of PgBouncer
#[derive(Debug, Args)]
pub struct PoolArgs {
    #[command(subcommand)]
    command: PoolCommand,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum PoolCommand {
    Import(import::ImportArgs),
    #[command(flatten)]
    Remote(remote::RemoteCommand),
}

/// Does what is asked for.
///
/// # Errors
/// When a file cannot be read, a node cannot be reached or does not let the caller in, or the output cannot be written.
pub fn run(args: &PoolArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        PoolCommand::Import(args) => import::run(args),
        PoolCommand::Remote(command) => remote::run(command, &Remote::of(&args.remote)?, args.remote.json),
    }
}
