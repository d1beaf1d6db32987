//! `cargo xtask test`: every test of the workspace. The product is built first, together with the tests so that both
//! share their dependencies, and named to whole-node tests in `EVENKEEL_BIN`. `cargo nextest` runs them where it is
//! installed (it ends a hung test by itself), `cargo test` otherwise; documentation tests follow by `cargo test`.
//!
//! The last line is `N passed, N failed`, counted from what the runners say.

use std::fmt;
use std::ops::AddAssign;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::args::Args;
use crate::clock::Stopwatch;
use crate::workspace::{Profile, Workspace};
use crate::{program, sh};

/// Tells whole-node tests where the product is.
pub(crate) const BINARY_VARIABLE: &str = "EVENKEEL_BIN";
/// Programs that tests need, and the Debian packages that bring them: the store's tests record what a process writes, and
/// make file systems in namespaces of their own. The pool's need a Postgres as well.
const PROGRAMS: [(&str, &str); 2] = [("strace", "strace"), ("unshare", "util-linux")];
/// How nextest treats tests that hang.
const NEXTEST: &str = ".ci/nextest.toml";

/// What tests came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    let filter = args.word();
    args.end()?;
    let watch = Stopwatch::start();
    let result = run(workspace, filter.as_deref());
    println!("tests took {watch}");
    let count = match &result {
        Ok(count) => *count,
        Err((count, _)) => *count,
    };
    println!("{count}");
    result.map(drop).map_err(|(_, error)| error)
}

/// Runs the tests whose names contain `filter`, or all. An error carries what was counted until then.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>) -> Result<Count, (Count, anyhow::Error)> {
    let mut count = Count::default();
    match every_kind(workspace, filter, &mut count) {
        Ok(()) => Ok(count),
        Err(error) => Err((count, error)),
    }
}

fn every_kind(workspace: &Workspace, filter: Option<&str>, count: &mut Count) -> Result<()> {
    for (name, package) in PROGRAMS {
        program::debian(name, package)?;
    }
    program::postgres()?;
    sh::run(&mut workspace.cargo(&["build", "--workspace", "--all-targets"]))?;
    let binary = workspace.binary(Profile::Dev, "evenkeel");
    ensure!(binary.is_file(), "`cargo build` made no {}", binary.display());
    let mut tests = if program::find("cargo-nextest").is_some() {
        let mut nextest = workspace.cargo(&["nextest", "run", "--workspace", "--all-targets", "--no-fail-fast"]);
        let config = workspace.root.join(NEXTEST);
        if config.is_file() {
            nextest.arg("--config-file").arg(config);
        }
        if filter.is_some() {
            nextest.arg("--no-tests=pass");
        }
        nextest
    } else {
        workspace.cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"])
    };
    let first = counted(tests.args(filter), &binary, count);
    let mut documentation = workspace.cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]);
    let second = counted(documentation.args(filter), &binary, count);
    first.and(second)?;
    ensure!(filter.is_none() || count.passed > 0, "no test has {:?} in its name", filter.unwrap_or_default());
    ensure!(count.passed > 0, "no test was run");
    Ok(())
}

fn counted(command: &mut Command, binary: &Path, count: &mut Count) -> Result<()> {
    let status = sh::watched(command.env(BINARY_VARIABLE, binary), |line| {
        if let Some(more) = parse(line) {
            *count += more;
        }
    })?;
    sh::succeeded(command, status)
}

/// The count in the closing line of nextest or of one of cargo's test programs.
fn parse(line: &str) -> Option<Count> {
    let line = plain(line);
    let line = line.trim();
    let (list, nextest) = match line.strip_prefix("test result:") {
        Some(rest) => (rest.split_once('.')?.1, false),
        None => (line.strip_prefix("Summary")?.split_once("run:")?.1, true),
    };
    let mut count = Count::default();
    for item in list.split([';', ',']) {
        let mut words = item.split_whitespace();
        let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else { continue };
        match what {
            "passed" => count.passed += number,
            "failed" | "timed" | "exec" => count.failed += number,
            // Doc tests marked `ignore` are examples that need not run; a filter leaves tests out.
            "skipped" if nextest => count.skipped += number,
            "ignored" => count.skipped += number,
            _ => {}
        }
    }
    Some(count)
}

/// The line without terminal colours.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

impl AddAssign for Count {
    fn add_assign(&mut self, more: Count) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: u64, failed: u64, skipped: u64) -> Count {
        Count { passed, failed, skipped }
    }

    #[test]
    fn the_closing_lines_of_both_runners_are_counted() {
        let cases = [
            ("     Summary [   0.012s] 9 tests run: 7 passed (1 slow), 2 failed, 1 skipped", count(7, 2, 1)),
            ("\u{1b}[32;1m     Summary\u{1b}[0m [   1.0s] 3 tests run: 3 passed, 0 skipped", count(3, 0, 0)),
            ("Summary [ 200.1s] 3/4 tests run: 1 passed, 1 timed out, 1 exec failed, 0 skipped", count(1, 2, 0)),
            (
                "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.1s",
                count(5, 0, 1),
            ),
            ("test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", count(5, 2, 0)),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), Some(expected), "{line}");
        }
        assert_eq!(parse("        PASS [   0.004s] xtask tests::run: 3 passed"), None);
        assert_eq!(parse("running 3 tests"), None);
    }

    #[test]
    fn the_closing_line_is_the_plain_one() {
        assert_eq!(count(3, 0, 0).to_string(), "3 passed, 0 failed");
        assert_eq!(count(3, 1, 2).to_string(), "3 passed, 1 failed, 2 skipped");
    }
}
