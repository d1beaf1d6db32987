//! `evenkeel reference`: the reference page of the configuration. With `--write DIR` it writes every generated page of the
//! documentation below DIR, with `--check DIR` it says which of them are out of date. The pages on the configuration come
//! from its types, the page on events from their declarations, and the page on metrics from a node that is started for it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::config::reference::{self, Generated};
use crate::pages::{events, metrics};

/// Print the reference page of the configuration: every key, its default and the reason
#[derive(Debug, clap::Args)]
pub struct ReferenceArgs {
    /// Write the page, the schema and the pages of all findings below this directory
    #[arg(long, value_name = "DIR", hide = true)]
    write: Option<PathBuf>,
    /// Fail if what --write would write is not what is there
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "write")]
    check: Option<PathBuf>,
}

/// Prints, writes or compares.
///
/// # Errors
/// When a file or the output cannot be written, or is out of date.
pub fn run(args: &ReferenceArgs) -> anyhow::Result<ExitCode> {
    if let Some(directory) = &args.write {
        for file in generated()? {
            write(directory, &file)?;
        }
    } else if let Some(directory) = &args.check {
        let stale = stale(directory)?;
        anyhow::ensure!(stale.is_empty(), "out of date, write them anew: {}", stale.join(", "));
    } else {
        io::stdout().lock().write_all(reference::page().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path, file: &Generated) -> anyhow::Result<()> {
    let path = directory.join(&file.path);
    let parent = path.parent().context("a generated file has a directory")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    std::fs::write(&path, &file.content).with_context(|| format!("cannot write {}", path.display()))
}

/// Every file that is generated.
fn generated() -> anyhow::Result<Vec<Generated>> {
    let file = |path: &str, content: String| Generated { path: path.to_owned(), content };
    let mut files = reference::generated();
    files.push(file("docs/reference/events.md", events::page()));
    files.push(file("docs/reference/metrics.md", metrics::page()?));
    Ok(files)
}

/// Generated files that are not what they should be.
///
/// # Errors
/// When the node that the page on metrics is made from cannot be started.
pub fn stale(directory: &Path) -> anyhow::Result<Vec<String>> {
    let differs =
        |file: &Generated| std::fs::read_to_string(directory.join(&file.path)).ok().as_ref() != Some(&file.content);
    Ok(generated()?.into_iter().filter(differs).map(|file| file.path).collect())
}
