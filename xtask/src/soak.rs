//! `cargo xtask soak [--kills 200]`: what is too long, or asks too much of the machine, for every change. Whole-node tests on
//! file systems that are made for them (full, read-only, standing still), for which it has to be root; and the one that is
//! killed again and again, as often as it is told. It ends by itself, in some minutes.

use anyhow::{Result, ensure};

use crate::args::Args;
use crate::test::BINARY_VARIABLE;
use crate::workspace::{Profile, Workspace};
use crate::{program, sh};

/// How often the node is killed.
const KILLS: u32 = 200;
/// Programs and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 3] = [("mkfs.ext4", "e2fsprogs"), ("fsfreeze", "util-linux"), ("mount", "mount")];

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
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
