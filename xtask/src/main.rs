//! `cargo xtask`: the project's chores. Each subcommand is one module; this file only knows their names. It depends on no
//! crate of the project, so that it builds in seconds and also when the project does not build.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod args;
mod bench;
mod browser;
mod ci;
mod clock;
mod fuzz;
mod r#gen;
mod interop;
mod program;
mod sh;
mod soak;
mod storm;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::args::Args;
use crate::workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask COMMAND [OPTIONS]

  test [FILTER]            every test of the workspace, with the real binary built first
  ci [--only STEP,..] [--skip STEP,..]
                           what must hold before a change lands; stops at the first failure
  tidy                     the rules that a compiler does not check: crate edges, headers, lengths, links
  gen [--check]            writes the generated pages, or says which are stale
  bench gateway            CPU per request and latency beside nginx, HAProxy and Envoy
        [--rounds 5] [--seconds 4] [--rate 5000] [--connections 64] [--only a,b] [--json FILE]
        [--idle N]         memory of N idle connections instead
        [--smoke]          shows in seconds that the benchmark works
  bench pool               CPU per transaction, transactions and connections a second, idle memory of the Postgres pooler
                           beside PgBouncer and no pooler
        [--rounds 5] [--seconds 4] [--only a,b] [--modes simple,connect,..] [--clients 8,64,200] [--idle 1000]
        [--json FILE] [--smoke]
  fuzz [--minutes 10] [--target T] [--keep]
                           runs the fuzz targets; --keep adds what they learned to the corpus
  interop [--short]        third-party clients against the release binary
  browser [--shots] [--release]
                           the console in Chromium: links, axe, widths, light and dark, with and without its script
  soak [--kills 200]       disks that fail, and a node that is killed again and again; needs root, for mounts
  soak pool [--minutes 10] [--idle 10000] [--active 200]
                           the Postgres pooler under many clients, with a restart of Postgres each minute
  storm [--scenario a,b] [--peers a,b] [--repeats 2] [--parallel N] [--dist] [--short]
                           what clients see when replicas fail, beside nginx, HAProxy and Envoy
        [--counts]         whether the node counts what its clients count, after a minute of every fault";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() || words.iter().any(|word| word == "--help" || word == "-h") || words[0] == "help" {
        println!("{USAGE}");
        return Ok(());
    }
    let command = words.remove(0);
    let args = Args::new(words);
    let workspace = Workspace::find()?;
    match command.as_str() {
        "test" => test::command(&workspace, args),
        "ci" => ci::command(&workspace, args),
        "tidy" => tidy::command(&workspace, args),
        "gen" => r#gen::command(&workspace, args),
        "bench" => bench::command(&workspace, args),
        "fuzz" => fuzz::command(&workspace, args),
        "interop" => interop::command(&workspace, args),
        "browser" => browser::command(&workspace, args),
        "soak" => soak::command(&workspace, args),
        "storm" => storm::command(&workspace, args),
        other => bail!("there is no command `{other}`\n\n{USAGE}"),
    }
}
