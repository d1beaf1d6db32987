//! The command line: one file per command. Exit codes: 0 done, 1 the command's answer is no (a check found errors, a
//! stop was not in order, a node did not do what it was asked), 2 it could not be started, could not reach a node, or was
//! used wrongly.

pub mod backup;
pub mod check;
pub mod demo;
pub mod deploy;
pub mod endpoint;
mod events;
pub mod explain;
pub mod journal;
mod log;
pub mod pool;
pub mod ready;
pub mod reference;
pub mod remote;
pub mod schema;
pub mod service;
pub mod status;
mod table;
pub mod token;
pub mod up;
pub mod why;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps a small team's services on an even keel.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, about, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::UpArgs),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Status(status::StatusArgs),
    Journal(journal::JournalArgs),
    Why(why::WhyArgs),
    Ready(ready::ReadyArgs),
    Endpoint(endpoint::EndpointArgs),
    Service(service::ServiceArgs),
    Pool(pool::PoolArgs),
    Deploy(deploy::DeployArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Token(token::TokenArgs),
    Reference(reference::ReferenceArgs),
    Schema(schema::SchemaArgs),
    Demo(demo::DemoArgs),
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Up(args) => up::run(&args),
        Command::Check(args) => ended(check::run(&args)),
        Command::Explain(args) => ended(explain::run(&args)),
        Command::Status(args) => ended(status::run(&args)),
        Command::Journal(args) => ended(journal::run(&args)),
        Command::Why(args) => ended(why::run(&args)),
        Command::Ready(args) => ended(ready::run(&args)),
        Command::Endpoint(args) => ended(endpoint::run(&args)),
        Command::Service(args) => ended(service::run(&args)),
        Command::Pool(args) => ended(pool::run(&args)),
        Command::Deploy(args) => ended(deploy::run(&args)),
        Command::Backup(args) => ended(backup::backup(&args)),
        Command::Restore(args) => ended(backup::restore(&args)),
        Command::Token(args) => ended(token::run(&args)),
        Command::Reference(args) => ended(reference::run(&args)),
        Command::Schema(args) => ended(schema::run(&args)),
        Command::Demo(args) => up::demo(&args),
    }
}

/// What a command comes to: its own code, or its error in words. Whoever closes the pipe has read enough.
fn ended(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) if is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

/// Whether nobody reads what is printed any more.
fn is_closed(error: &anyhow::Error) -> bool {
    // What a node's connection comes to is told in words around it; of a pipe there are none.
    error.chain().count() == 1
        && error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints an error with its causes to standard error.
#[expect(clippy::print_stderr, reason = "this is where commands speak to people")]
pub fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
