//! Rules for every text file: no blank at the end of a line, a line feed at the end of the file, and no path that exists
//! on one machine only.

use std::path::Path;

use super::{Finding, allowed};

/// Folders that are somebody's own. Written in halves, so that this file does not find itself.
const MACHINE: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
/// Snapshots and locks hold what a program wrote.
const BLANKS_ARE_MEANT: [&str; 2] = ["snap", "lock"];

/// Checks one text file.
pub(super) fn check(file: &Path, content: &str) -> Vec<Finding> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let lines: Vec<&str> = content.split('\n').collect();
    let mut findings = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if line.ends_with([' ', '\t', '\r']) && !BLANKS_ARE_MEANT.contains(&ending) {
            findings.push(Finding::error(file, index + 1, "ends with a blank"));
        }
        if let Some(path) = machine_path(line).filter(|_| !allowed(&lines, index)) {
            findings.push(Finding::error(file, index + 1, format!("`{path}…` is a path of one machine")));
        }
    }
    if !content.is_empty() && !content.ends_with('\n') {
        findings.push(Finding::error(file, lines.len(), "does not end with a line feed"));
    }
    findings
}

/// The first path in the line that begins with one of the folders, as far as the folder.
fn machine_path(line: &str) -> Option<&'static str> {
    MACHINE.into_iter().find(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + folder.len()..].chars().next();
            let begins =
                before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '~' | '}' | '/' | '*'));
            begins && after.is_some_and(|c| c.is_alphanumeric() || c == '.')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(content: &str) -> Vec<usize> {
        check(Path::new("a.md"), content).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn blanks_at_the_end_are_found() {
        assert_eq!(lines("a \nb\nc\t\n\nd\r\n"), [1, 3, 5]);
        assert_eq!(lines("a\n\nb\n"), [0; 0]);
        assert_eq!(lines("a\nb"), [2]);
        assert_eq!(check(Path::new("a.snap"), "a \n"), []);
    }

    #[test]
    fn paths_of_one_machine_are_found_and_others_are_not() {
        for folder in MACHINE {
            assert_eq!(lines(&format!("see `{folder}me/x`\n")), [1], "{folder}");
            assert_eq!(lines(&format!("GET {folder}x // tidy-allow: a path of a request\n")), [0; 0], "{folder}");
            assert_eq!(lines(&format!("src{folder}x ../a{folder}x\n")), [0; 0], "{folder}");
        }
        assert_eq!(lines("/usr/bin/env /etc/evenkeel/x\n"), [0; 0]);
    }
}
