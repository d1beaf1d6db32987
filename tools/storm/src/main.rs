//! `storm`: what clients of an HTTP proxy see when its upstreams fail. Three upstreams whose faults are switched at run
//! time, an open-loop load, and a runner that puts a proxy between them and hurts the upstreams on a timetable. It talks
//! to loopback addresses only, and each run ends by itself. `cargo xtask storm` drives it; `docs/benchmarks.md` says how to
//! read what it prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod http;
mod load;
mod report;
mod run;
mod scenario;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "storm", about = "Fault scenarios for HTTP proxies, on loopback")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// An HTTP/1.1 server with faults that are switched at run time
    Upstream(upstream::UpstreamArgs),
    /// One scenario against one proxy
    Run(Box<run::RunArgs>),
    /// The scenarios
    List {
        /// As JSON, with what a driver needs to know
        #[arg(long)]
        json: bool,
    },
    /// A table of a folder of results, and the bounds; fails if a bound is missed
    Report {
        dir: PathBuf,
        /// The proxy that has to keep the bounds
        #[arg(long, default_value = "evenkeel")]
        own: String,
        /// Look at lost requests only, as short runs allow no more
        #[arg(long)]
        short: bool,
    },
    /// Runs a shell command that ends when the process that started it ends
    #[command(hide = true)]
    Leashed { parent: i32, command: String },
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("storm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it should be.
fn run() -> Result<bool> {
    match Cli::parse().command {
        Command::Upstream(args) => runtime()?.block_on(upstream::serve(args))?,
        Command::Run(args) => runtime()?.block_on(run::command(*args))?,
        Command::List { json: false } => {
            for scenario in scenario::all() {
                println!("{:20} {}", scenario.key, scenario.title);
            }
        }
        Command::List { json: true } => println!("{}", scenario::list()),
        Command::Report { dir, own, short } => {
            let (text, kept) = report::of_folder(&dir, &own, short)?;
            print!("{text}");
            return Ok(kept);
        }
        Command::Leashed { parent, command } => return Err(run::leashed(parent, &command)),
    }
    Ok(true)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("making a runtime")
}
