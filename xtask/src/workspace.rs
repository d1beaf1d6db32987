//! Where things are. The target directory is asked of cargo, never guessed: CI keeps it outside the clone.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::sh;

/// The workspace as `cargo metadata` sees it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// `cargo metadata --no-deps`.
    pub(crate) metadata: Value,
}

/// How the real binary is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
    Dist,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Dev => "dev",
            Profile::Release => "release",
            Profile::Dist => "dist",
        }
    }

    fn directory(self) -> &'static str {
        if self == Profile::Dev { "debug" } else { self.name() }
    }
}

impl Workspace {
    pub(crate) fn find() -> Result<Workspace> {
        let mut cargo = sh::cargo();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        if let Some(root) = root.filter(|root| root.join("Cargo.toml").is_file()) {
            cargo.current_dir(root);
        }
        let text = sh::output(cargo.args(["metadata", "--format-version", "1", "--no-deps"]))?;
        let metadata: Value = serde_json::from_str(&text).context("reading what `cargo metadata` printed")?;
        let path = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).with_context(|| format!("no {key} in cargo metadata"))
        };
        Ok(Workspace { root: path("workspace_root")?, target: path("target_directory")?, metadata })
    }

    /// A `cargo` that runs in the workspace's root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut cargo = sh::cargo();
        cargo.current_dir(&self.root).args(args);
        cargo
    }

    /// Where a binary of the workspace is after it was built.
    pub(crate) fn binary(&self, profile: Profile, name: &str) -> PathBuf {
        self.target.join(profile.directory()).join(name)
    }

    /// Builds the product with this profile and says where it is.
    pub(crate) fn build(&self, profile: Profile) -> Result<PathBuf> {
        sh::run(&mut self.cargo(&["build", "--bin", "evenkeel", "--profile", profile.name()]))?;
        Ok(self.binary(profile, "evenkeel"))
    }

    /// The files of the work tree that git tracks or would track, relative to the root.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = sh::output(&mut git).context("listing the files of the work tree")?;
        let mut files: Vec<PathBuf> = listed.split_terminator('\0').map(PathBuf::from).collect();
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }
}
