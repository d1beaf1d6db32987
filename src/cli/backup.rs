//! `evenkeel backup` and `evenkeel restore`: the store of a node as a directory that can be put away, and back. Both work
//! on the files: a backup while the node runs or not, a restore only while it does not. What a backup holds was read back
//! and verified before it has its name.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use kernel::Clock;
use serde_json::json;
use store::Report;

use super::remote::print;
use crate::config;

/// Whose store
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The configuration that names the store
    #[arg(short, long, value_name = "FILE", default_value = "evenkeel.toml")]
    config: PathBuf,
    /// The directory of the store, whatever the configuration says
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write a verified backup of the store, while the node runs or not
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The directory that becomes the backup; it must not exist
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
}

/// Put a backup in the place of the store of a node that does not run
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The directory that is the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Replace a store that is there; its files are kept beside it under other names
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Writes a backup.
///
/// # Errors
/// When there is no store, or the backup cannot be written or is not right; nothing is left of it then.
pub fn backup(args: &BackupArgs) -> anyhow::Result<ExitCode> {
    let directory = args.store.directory()?;
    let report = store::backup(&directory, &args.to, &Clock::real())?;
    said("backed up", &report, &directory, &args.to, args.store.json)
}

/// Restores a backup.
///
/// # Errors
/// When it is no whole backup, a node runs, a store is there and is not to be replaced, or a disk fails.
pub fn restore(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let directory = args.store.directory()?;
    let report = store::restore(&args.from, &directory, args.replace).map_err(|error| match error {
        store::RestoreError::Exists(path) => {
            anyhow::anyhow!("{} holds a store already; --replace puts the backup in its place", path.display())
        }
        error => error.into(),
    })?;
    said("restored", &report, &args.from, &directory, args.store.json)
}

impl StoreArgs {
    fn directory(&self) -> anyhow::Result<PathBuf> {
        if let Some(directory) = &self.store {
            return Ok(directory.clone());
        }
        let outcome = config::load_file(&self.config);
        match &outcome.compiled {
            Some(compiled) => Ok(compiled.store.clone()),
            None => bail!(
                "cannot tell the store from {}; name it with --store, or see `evenkeel check`",
                self.config.display()
            ),
        }
    }
}

fn said(what: &str, report: &Report, from: &Path, to: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let bytes: u64 = report.files.iter().map(|file| file.bytes).sum();
    let text = match as_json {
        true => {
            let report = serde_json::to_value(report).context("cannot write the report")?;
            format!("{:#}\n", json!({ "from": from, "to": to, "bytes": bytes, "backup": report }))
        }
        false => {
            let names: Vec<_> = report.files.iter().map(|file| file.name.as_str()).collect();
            format!("{what}: {} ({} bytes), from {} to {}\n", names.join(", "), bytes, from.display(), to.display())
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
