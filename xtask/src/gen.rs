//! `cargo xtask gen [--check]`: the pages that are made from the product itself, by asking its binary. Written, or with
//! `--check` compared: a stale, missing or left-over page is an error that names it.
//!
//! | page | command |
//! | --- | --- |
//! | `docs/reference/evenkeel.schema.json` | `evenkeel schema` |
//! | `docs/reference/configuration.md` | `evenkeel reference` |
//! | `docs/findings/ID.md` | `evenkeel explain --list`, `evenkeel explain ID` |

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::args::Args;
use crate::sh;
use crate::workspace::{Profile, Workspace};

/// The folder whose every page is generated.
const FINDINGS: &str = "docs/findings";

/// What differs between the pages that are and the pages that should be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    stale: Vec<PathBuf>,
    left_over: Vec<PathBuf>,
}

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    let only_check = args.flag("--check");
    args.end()?;
    let binary = workspace.build(Profile::Dev)?;
    if only_check { check(workspace, &binary) } else { write(workspace, &binary) }
}

/// Compares the pages with what this binary says.
pub(crate) fn check(workspace: &Workspace, binary: &Path) -> Result<()> {
    let pages = pages(binary)?;
    let Difference { stale, left_over } = compare(&workspace.root, &pages)?;
    for page in &stale {
        println!("stale: {}", page.display());
    }
    for page in &left_over {
        println!("left over: {}", page.display());
    }
    let changed = stale.len() + left_over.len();
    ensure!(changed == 0, "{changed} generated pages are not as the product makes them; run `cargo xtask gen`");
    println!("{} generated pages are fresh", pages.len());
    Ok(())
}

fn write(workspace: &Workspace, binary: &Path) -> Result<()> {
    let pages = pages(binary)?;
    let Difference { stale, left_over } = compare(&workspace.root, &pages)?;
    for page in &stale {
        let path = workspace.root.join(page);
        fs::create_dir_all(path.parent().unwrap_or(&workspace.root))?;
        fs::write(&path, &pages[page]).with_context(|| format!("writing {}", path.display()))?;
        println!("wrote {}", page.display());
    }
    for page in &left_over {
        fs::remove_file(workspace.root.join(page)).with_context(|| format!("removing {}", page.display()))?;
        println!("removed {}", page.display());
    }
    println!("{} of {} generated pages changed", stale.len() + left_over.len(), pages.len());
    Ok(())
}

fn pages(binary: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let ask = |args: &[&str]| sh::output(Command::new(binary).args(args));
    let mut pages = BTreeMap::new();
    pages.insert("docs/reference/evenkeel.schema.json".into(), ask(&["schema"])?);
    pages.insert("docs/reference/configuration.md".into(), ask(&["reference"])?);
    // The first word of each line is an id.
    for line in ask(&["explain", "--list"])?.lines() {
        let Some(id) = line.split_whitespace().next() else { continue };
        if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            bail!("`evenkeel explain --list` names {id:?}, which cannot be the name of a page");
        }
        pages.insert(Path::new(FINDINGS).join(format!("{id}.md")), ask(&["explain", id])?);
    }
    for (path, text) in &mut pages {
        ensure!(!text.trim().is_empty(), "the product wrote an empty {}", path.display());
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    Ok(pages)
}

fn compare(root: &Path, pages: &BTreeMap<PathBuf, String>) -> Result<Difference> {
    let mut difference = Difference::default();
    for (page, text) in pages {
        if fs::read_to_string(root.join(page)).ok().as_deref() != Some(text) {
            difference.stale.push(page.clone());
        }
    }
    let folder = root.join(FINDINGS);
    if folder.is_dir() {
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let page = Path::new(FINDINGS).join(entry?.file_name());
            if !pages.contains_key(&page) {
                difference.left_over.push(page);
            }
        }
    }
    difference.left_over.sort();
    Ok(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_missing_and_left_over_pages_are_told_apart_from_fresh_ones() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(FINDINGS)).unwrap();
        for (page, text) in [("docs/fresh.md", "same\n"), ("docs/stale.md", "old\n"), ("docs/findings/gone.md", "x\n")]
        {
            fs::write(root.path().join(page), text).unwrap();
        }
        let pages = ["docs/fresh.md", "docs/stale.md", "docs/findings/new.md"];
        let pages = pages.into_iter().map(|page| (PathBuf::from(page), "same\n".to_owned())).collect();
        let difference = compare(root.path(), &pages).unwrap();
        assert_eq!(difference.stale, [Path::new("docs/findings/new.md"), Path::new("docs/stale.md")]);
        assert_eq!(difference.left_over, [Path::new("docs/findings/gone.md")]);
    }

    #[test]
    fn the_pages_are_what_the_binary_says_and_end_with_one_line_feed() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("fake");
        let script =
            "#!/bin/sh\ncase \"$*\" in 'explain --list') echo 'a-1 warning x';; *) printf '%s\\n\\n' \"$*\";; esac\n";
        fs::write(&binary, script).unwrap();
        fs::set_permissions(&binary, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let pages = pages(&binary).unwrap();
        assert_eq!(pages[Path::new("docs/findings/a-1.md")], "explain a-1\n");
        assert_eq!(pages[Path::new("docs/reference/evenkeel.schema.json")], "schema\n");
        assert_eq!(pages.len(), 3);
    }
}
