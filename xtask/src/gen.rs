//! `cargo xtask gen [--check]`: the pages that are made from the product itself (the JSON schema and the reference of the
//! configuration, the pages of findings, of events and of metrics), written or compared. Which they are is known to the product alone: this asks
//! `evenkeel reference --write DIR` or `--check DIR`. A page that is left over is found by the product's own tests.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::args::Args;
use crate::sh;
use crate::workspace::{Profile, Workspace};

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    let only_check = args.flag("--check");
    args.end()?;
    let binary = workspace.build(Profile::Dev)?;
    if only_check {
        return check(workspace, &binary);
    }
    sh::run(Command::new(&binary).args(["reference", "--write"]).arg(&workspace.root))
}

/// Compares the pages with what this binary makes.
pub(crate) fn check(workspace: &Workspace, binary: &Path) -> Result<()> {
    sh::run(Command::new(binary).args(["reference", "--check"]).arg(&workspace.root)).context("run `cargo xtask gen`")
}
