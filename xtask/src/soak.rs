//! `cargo xtask soak [--kills 200]` and `cargo xtask soak pool [--minutes 10]`: what is too long, or asks too much of the machine, for every change. Whole-node tests on
//! file systems that are made for them (full, read-only, standing still), for which it has to be root; and the one that is
//! killed again and again, as often as it is told. It ends by itself, in some minutes.

use anyhow::{Result, bail, ensure};

use crate::args::Args;
use crate::test::BINARY_VARIABLE;
use crate::workspace::{Profile, Workspace};
use crate::{program, sh};

/// How often the node is killed.
const KILLS: u32 = 200;
/// How long the pooler is used, and by how many clients that do nothing and that work.
const MINUTES: u32 = 10;
const IDLE: u32 = 10_000;
const ACTIVE: u32 = 200;
/// Programs and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 3] = [("mkfs.ext4", "e2fsprogs"), ("fsfreeze", "util-linux"), ("mount", "mount")];

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    match args.word().as_deref() {
        None => {}
        Some("pool") => return pool(workspace, args),
        Some(other) => bail!("there is no soak `{other}`; there is `pool`, and the one without a name"),
    }
    let kills: u32 = args.value("--kills")?.unwrap_or(KILLS);
    args.end()?;
    ensure!((1..=10_000).contains(&kills), "--kills is 1 to 10000");
    for (name, package) in PROGRAMS {
        program::debian(name, package)?;
    }
    let binary = workspace.build(Profile::Dev)?;
    let run = |rest: &[&str]| {
        let mut cargo = workspace.cargo(&[&["test", "--package", "evenkeel-it"], rest].concat());
        cargo.env(BINARY_VARIABLE, &binary).env("EVENKEEL_KILLS", kills.to_string());
        sh::run(&mut cargo)
    };
    run(&["--test", "soak"])?;
    run(&["--test", "it", "what_was_acknowledged_survives"])
}

/// The pooler, with the release binary: in ten minutes it does what a slower one would take an hour for.
fn pool(workspace: &Workspace, mut args: Args) -> Result<()> {
    let minutes: u32 = args.value("--minutes")?.unwrap_or(MINUTES);
    let (idle, active): (u32, u32) = (args.value("--idle")?.unwrap_or(IDLE), args.value("--active")?.unwrap_or(ACTIVE));
    args.end()?;
    ensure!((1..=1440).contains(&minutes), "--minutes is 1 to 1440");
    ensure!(idle <= 25_000 && (1..=2000).contains(&active), "--idle is 0 to 25000, --active 1 to 2000");
    program::postgres()?;
    let binary = workspace.build(Profile::Release)?;
    let mut cargo = workspace.cargo(&["test", "--package", "evenkeel-it", "--test", "pool_soak", "--", "--nocapture"]);
    cargo.env(BINARY_VARIABLE, &binary).env("EVENKEEL_SOAK_MINUTES", minutes.to_string());
    cargo.env("EVENKEEL_SOAK_IDLE", idle.to_string()).env("EVENKEEL_SOAK_ACTIVE", active.to_string());
    sh::run(&mut cargo)
}
