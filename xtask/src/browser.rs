//! `cargo xtask browser [--shots] [--release]`: the console of `evenkeel demo` in Chromium, with and without its script, by
//! `tests/browser/run.cjs`. It prepares what that needs (Chromium and Node from Debian, Node packages in the target
//! directory) and runs it; the script decides what is tested and ends with a status. `--shots` writes the pictures of
//! `docs/images`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::args::Args;
use crate::interop;
use crate::workspace::{Profile, Workspace};
use crate::{program, sh};

/// Where the script and its list of packages are.
const FOLDER: &str = "tests/browser";
/// Where pictures for the documents are.
const IMAGES: &str = "docs/images";
/// For pictures the demo runs this long first, so that there is something to see.
const SHOT_SECONDS: &str = "90";

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    let shots = args.flag("--shots");
    let profile = if args.flag("--release") { Profile::Release } else { Profile::Dev };
    args.end()?;
    run(workspace, profile, shots)
}

pub(crate) fn run(workspace: &Workspace, profile: Profile, shots: bool) -> Result<()> {
    let folder = workspace.root.join(FOLDER);
    let script = folder.join("run.cjs");
    ensure!(script.is_file(), "there is no {}", script.display());
    let chromium = program::debian("chromium", "chromium")?;
    let node = program::debian("node", "nodejs")?;
    let own = workspace.target.join("browser");
    fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
    let modules = interop::node(&folder, &own)?.context("tests/browser has no package.json")?;
    let binary = workspace.build(profile)?;
    let mut run = Command::new(node);
    run.current_dir(&workspace.root).env("NODE_PATH", modules).arg(&script);
    run.arg("--binary").arg(binary).arg("--browser").arg(chromium);
    if shots {
        run.arg("--shots").arg(workspace.root.join(IMAGES)).args(["--seconds", SHOT_SECONDS]);
    }
    sh::run(&mut run)
}
