//! `cargo xtask fuzz [--minutes 10] [--target T] [--keep]`: runs the libFuzzer targets in `fuzz/`, the given time shared
//! among them. New inputs are kept in the target directory; the committed corpus (`fuzz/corpus/T`) is read, and changed
//! only with `--keep`, which adds the inputs that reach new code. Anything that libFuzzer leaves in `fuzz/artifacts/T` is a
//! failure, also one of an earlier run that still fails.
//!
//! cargo-fuzz passes flags that only a nightly compiler takes. `RUSTC_BOOTSTRAP=1` makes the stable one take them; it is
//! set for these builds alone, in a target directory of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::args::Args;
use crate::workspace::Workspace;
use crate::{program, sh};

/// The cargo-fuzz that is installed where none is.
const CARGO_FUZZ: &str = "0.13.2";
/// One input may take this long, in seconds; a longer one is a finding.
const INPUT_SECONDS: u32 = 10;
/// The memory of one target, in MiB; more is a finding.
const MEMORY: u32 = 2048;

/// Where one target's files are.
struct Target<'a> {
    workspace: &'a Workspace,
    fuzz: &'a Path,
    name: &'a str,
}

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    let minutes = args.value::<f64>("--minutes")?.unwrap_or(10.0);
    let target = args.value::<String>("--target")?;
    let keep = args.flag("--keep");
    args.end()?;
    run(workspace, minutes, target.as_deref(), keep)
}

pub(crate) fn run(workspace: &Workspace, minutes: f64, only: Option<&str>, keep: bool) -> Result<()> {
    ensure!((0.0..=24.0 * 60.0).contains(&minutes), "--minutes is at most a day");
    ensure!(workspace.root.join("fuzz/Cargo.toml").is_file(), "there are no fuzz targets: no fuzz/Cargo.toml");
    // libFuzzer itself is C++.
    program::debian("c++", "g++")?;
    let fuzz = program::cargo_installed(workspace, "cargo-fuzz", CARGO_FUZZ, &["fuzz", "--version"])?;
    let listed = sh::output(Command::new(&fuzz).current_dir(&workspace.root).args(["fuzz", "list"]))?;
    let names = chosen(&listed, only)?;
    let seconds = (minutes * 60.0 / names.len() as f64).ceil().max(1.0) as u64;
    println!("{} targets, {seconds} s each: {}", names.len(), names.join(", "));
    for name in &names {
        Target { workspace, fuzz: &fuzz, name }.fuzz(seconds, keep).with_context(|| format!("fuzz target `{name}`"))?;
    }
    println!("{} fuzz targets ran {seconds} s each and found nothing", names.len());
    Ok(())
}

fn chosen<'a>(listed: &'a str, only: Option<&str>) -> Result<Vec<&'a str>> {
    let mut names: Vec<&str> = listed.split_whitespace().collect();
    if let Some(only) = only {
        ensure!(names.contains(&only), "there is no fuzz target `{only}`; there are {}", names.join(", "));
        names.retain(|name| *name == only);
    }
    ensure!(!names.is_empty(), "fuzz/Cargo.toml names no target");
    Ok(names)
}

impl Target<'_> {
    fn fuzz(&self, seconds: u64, keep: bool) -> Result<()> {
        let seeds = self.workspace.root.join("fuzz/corpus").join(self.name);
        let found = self.workspace.target.join("fuzz/corpus").join(self.name);
        fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
        for old in self.artifacts()? {
            sh::run(self.cargo_fuzz().arg(&old))
                .with_context(|| format!("{} of an earlier run still fails", old.display()))?;
            println!("{} fails no longer; move it to {} and keep it", old.display(), seeds.display());
        }
        let before = self.artifacts()?;
        let mut run = self.cargo_fuzz();
        run.arg(&found);
        if seeds.is_dir() {
            run.arg(&seeds);
        }
        run.args(["--", &format!("-max_total_time={seconds}"), &format!("-timeout={INPUT_SECONDS}")]);
        run.args([&format!("-rss_limit_mb={MEMORY}"), "-print_final_stats=1", "-verbosity=1"]);
        let ran = sh::run(&mut run);
        let new: Vec<PathBuf> = self.artifacts()?.difference(&before).cloned().collect();
        if let Some(artifact) = new.first() {
            bail!("it found {}; repeat it with `cargo xtask fuzz --target {}`", artifact.display(), self.name);
        }
        ran?;
        if keep {
            fs::create_dir_all(&seeds).with_context(|| format!("making {}", seeds.display()))?;
            sh::run(self.cargo_fuzz().arg(&seeds).arg(&found).args(["--", "-merge=1"]))?;
        }
        Ok(())
    }

    fn cargo_fuzz(&self) -> Command {
        let mut command = Command::new(self.fuzz);
        command.current_dir(&self.workspace.root).env("RUSTC_BOOTSTRAP", "1");
        command.args(["fuzz", "run", "--target-dir"]).arg(self.workspace.target.join("fuzz/build")).arg(self.name);
        command
    }

    fn artifacts(&self) -> Result<BTreeSet<PathBuf>> {
        let folder = self.workspace.root.join("fuzz/artifacts").join(self.name);
        if !folder.is_dir() {
            return Ok(BTreeSet::new());
        }
        let entries = fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn all_targets_or_the_one_that_was_named() {
        assert_eq!(chosen("a\nb\n", None).unwrap(), ["a", "b"]);
        assert_eq!(chosen("a\nb\n", Some("b")).unwrap(), ["b"]);
        assert!(chosen("a\nb\n", Some("c")).unwrap_err().to_string().contains("there are a, b"));
        assert!(chosen("", None).is_err());
    }
}
