//! `cargo xtask tidy`: the rules of the house that a compiler does not check. Each rule is a function from texts to
//! findings, tested on small fixtures; this file reads the work tree, calls them and prints what they found.
//!
//! | rule | file | a breach is |
//! | --- | --- | --- |
//! | crates depend on each other in one direction only | `edges` | an error |
//! | every `.rs` begins with a `//!` header | `source` | an error |
//! | a `.rs` has at most 400 lines, and never more than 700 | `source` | a warning, an error |
//! | no unfinished code, no skipped test, no sleep in a test | `source` | an error |
//! | no trailing blank, no path of one machine | `text` | an error |
//! | every error code has its page, every page its code | `pages` | an error |
//! | relative links in Markdown lead somewhere | `pages` | an error |
//! | every kind of event that is declared is told by some part | `events` | an error |
//!
//! A line that breaks a rule for a good reason says so in a comment with `tidy-allow:` and the reason, on the line itself
//! or on the one before.

mod edges;
mod events;
mod pages;
mod source;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::workspace::Workspace;

/// The mark of a line that breaks a rule for a reason.
const ALLOW: &str = "tidy-allow:";
/// Files with these endings are read as text.
const TEXT: [&str; 17] = [
    "rs", "md", "toml", "lock", "sh", "py", "js", "mjs", "json", "yaml", "yml", "conf", "cfg", "css", "html", "txt",
    "svg",
];
/// Files without an ending that are text.
const NAMED: [&str; 4] = ["run", "Dockerfile", ".gitignore", ".gitattributes"];
/// Inputs of tests and fuzzers, where any byte may be meant.
const DATA: [&str; 2] = ["fuzz/corpus/", "fuzz/artifacts/"];

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Warning,
    Error,
}

/// One breach of one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) file: PathBuf,
    /// Counted from one; 0 is the whole file.
    pub(crate) line: usize,
    pub(crate) level: Level,
    pub(crate) text: String,
}

impl Finding {
    pub(crate) fn error(file: &Path, line: usize, text: impl Into<String>) -> Finding {
        Finding { file: file.to_owned(), line, level: Level::Error, text: text.into() }
    }

    pub(crate) fn warning(file: &Path, line: usize, text: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, ..Finding::error(file, line, text) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.level == Level::Error { "error" } else { "warning" };
        match self.line {
            0 => write!(f, "{level}: {}: {}", self.file.display(), self.text),
            line => write!(f, "{level}: {}:{line}: {}", self.file.display(), self.text),
        }
    }
}

pub(crate) fn command(workspace: &Workspace, args: Args) -> Result<()> {
    args.end()?;
    run(workspace)
}

/// Checks the work tree.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let files = workspace.files()?;
    let mut findings = edges::check(&workspace.metadata);
    let mut told = events::Told::default();
    for file in files.iter().filter(|file| is_text(file)) {
        let path = workspace.root.join(file);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let Ok(content) = String::from_utf8(bytes) else {
            findings.push(Finding::error(file, 0, "is not UTF-8"));
            continue;
        };
        findings.extend(text::check(file, &content));
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("rs") => {
                findings.extend(source::check(file, &content));
                told.read(file, &content);
            }
            Some("md") => findings.extend(pages::links(file, &content, |to| workspace.root.join(to).exists())),
            _ => {}
        }
    }
    findings.extend(told.check());
    let codes = workspace.root.join(pages::CODES);
    let codes = std::fs::read_to_string(&codes).with_context(|| format!("reading {}", codes.display()))?;
    findings.extend(pages::error_pages(&codes, &files));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    println!("tidy: {} files, {errors} errors, {} warnings", files.len(), findings.len() - errors);
    if errors > 0 {
        bail!("tidy found {errors} errors");
    }
    Ok(())
}

fn is_text(file: &Path) -> bool {
    let name = |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).unwrap_or_default().to_owned();
    let data = DATA.iter().any(|folder| file.starts_with(folder));
    !data && (TEXT.contains(&name(file.extension()).as_str()) || NAMED.contains(&name(file.file_name()).as_str()))
}

/// Whether the line at `index` may break a rule because a comment gives a reason.
pub(crate) fn allowed(lines: &[&str], index: usize) -> bool {
    let has_reason = |line: &&str| line.split_once(ALLOW).is_some_and(|(_, reason)| !reason.trim().is_empty());
    let before = index.checked_sub(1).and_then(|before| lines.get(before));
    lines.get(index).is_some_and(has_reason) || before.is_some_and(has_reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_known_by_its_name_and_data_is_left_alone() {
        for text in ["src/lib.rs", "docs/a.md", ".ci/run", ".gitignore"] {
            assert!(is_text(Path::new(text)), "{text}");
        }
        for other in ["fuzz/corpus/request/a.txt", "a.png", "LICENSE-MIT"] {
            assert!(!is_text(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn an_exception_needs_a_reason() {
        assert!(allowed(&["x // tidy-allow: because"], 0));
        assert!(allowed(&["// tidy-allow: because", "x"], 1));
        assert!(!allowed(&["x // tidy-allow:"], 0));
        assert!(!allowed(&["// tidy-allow: because", "x", "y"], 2));
    }
}
