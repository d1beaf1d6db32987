//! `evenkeel pool`: shows the pools of a running node and gives them orders; and reads what PgBouncer was configured with.

mod import;
mod ini;
mod settings;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Show the pools of a running node, give them orders, import a configuration of PgBouncer
#[derive(Debug, Args)]
pub struct PoolArgs {
    #[command(subcommand)]
    command: PoolCommand,
}

#[derive(Debug, Subcommand)]
enum PoolCommand {
    Import(import::ImportArgs),
}

/// Does what is asked for.
///
/// # Errors
/// When a file or a node cannot be reached, or the output cannot be written.
pub fn run(args: &PoolArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        PoolCommand::Import(args) => import::run(args),
    }
}
