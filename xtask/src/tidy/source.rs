//! Rules for Rust files, line by line. It reads no syntax: code is what stands before `//`, and the tests of a file begin
//! at its first `#[cfg(test)]` that is followed by a module with a body.

use std::path::Path;

use super::{Finding, allowed};

/// Longer is worth a second room.
const LONG: usize = 400;
/// Longer is an error, unless the file is listed below.
const TOO_LONG: usize = 700;
/// Files that may be longer, and why.
const MAY_BE_LONG: &[(&str, &str)] = &[];

/// What must not be in any file. Written in halves, so that this file does not find itself.
const NEVER: [(&str, &str); 4] = [
    (concat!("to", "do!("), "unfinished code"),
    (concat!("unimple", "mented!("), "unfinished code"),
    (concat!("#[ig", "nore"), "a test that is skipped"),
    (concat!("db", "g!("), "a print for debugging"),
];
/// What must not be in tests.
const NEVER_IN_TESTS: [&str; 2] = [concat!("thread::sl", "eep("), concat!("time::sl", "eep(")];

/// Checks one `.rs` file.
pub(super) fn check(file: &Path, content: &str) -> Vec<Finding> {
    let lines: Vec<&str> = content.lines().collect();
    let mut findings = Vec::new();
    if !lines.first().is_some_and(|line| line.starts_with("//! ")) {
        findings.push(Finding::error(file, 1, "does not begin with a `//!` header that says what it does"));
    }
    let excused = MAY_BE_LONG.iter().any(|(name, _)| file == Path::new(name));
    match lines.len() {
        count if count > TOO_LONG && !excused => {
            findings.push(Finding::error(file, 0, format!("has {count} lines; {TOO_LONG} are too many, split it")));
        }
        count if count > LONG && !excused => {
            findings.push(Finding::warning(file, 0, format!("has {count} lines; more than {LONG} want a second room")));
        }
        _ => {}
    }
    let tests = tests_begin(file, &lines);
    for (index, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let in_tests = index >= tests;
        let sleeps = || NEVER_IN_TESTS.iter().any(|needle| in_tests && code.contains(needle));
        let found = match NEVER.iter().find(|(needle, _)| code.contains(needle)) {
            Some((needle, what)) => format!("`{needle}` is {what}"),
            None if sleeps() => {
                "a test that sleeps; wait for the state with a deadline, or use a manual clock".to_owned()
            }
            None => continue,
        };
        if !allowed(&lines, index) {
            findings.push(Finding::error(file, index + 1, found));
        }
    }
    findings
}

/// The index of the first line that belongs to tests.
fn tests_begin(file: &Path, lines: &[&str]) -> usize {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = file.components().any(|part| part.as_os_str() == "tests");
    if folder || stem == "tests" || stem.ends_with("_tests") || stem.ends_with("_test") {
        return 0;
    }
    let module = |pair: &[&str]| {
        pair[0].trim() == "#[cfg(test)]"
            && pair[1].trim_start().starts_with("mod ")
            && pair[1].trim_end().ends_with('{')
    };
    lines.windows(2).position(module).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str, content: &str) -> Vec<String> {
        check(Path::new(file), content).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_tidy_file_passes() {
        assert_eq!(texts("src/a.rs", "//! What it does.\nfn a() {}\n"), [""; 0]);
    }

    #[test]
    fn a_file_needs_a_header() {
        for content in ["", "fn a() {}\n", "#![allow(x)]\n//! Late.\n", "//!\n"] {
            assert!(texts("src/a.rs", content)[0].contains("header"), "{content:?}");
        }
    }

    #[test]
    fn length_is_first_a_warning_and_then_an_error() {
        let file = |lines: usize| format!("//! Long.\n{}", "x\n".repeat(lines - 1));
        assert!(texts("a.rs", &file(400)).is_empty());
        assert!(texts("a.rs", &file(401))[0].starts_with("warning: a.rs: has 401 lines"));
        assert!(texts("a.rs", &file(701))[0].starts_with("error: a.rs: has 701 lines"));
    }

    #[test]
    fn unfinished_code_and_skipped_tests_are_found_unless_in_a_comment() {
        for (needle, _) in NEVER {
            assert!(texts("a.rs", &format!("//! A.\n    {needle}\n"))[0].starts_with("error: a.rs:2: "), "{needle}");
            assert!(texts("a.rs", &format!("//! A.\n// no {needle}\n")).is_empty(), "{needle}");
            assert!(texts("a.rs", &format!("//! A.\n{needle} // tidy-allow: shown to users\n")).is_empty(), "{needle}");
        }
    }

    #[test]
    fn a_sleep_is_an_error_in_tests_only() {
        let sleep = NEVER_IN_TESTS[0];
        assert!(texts("src/a.rs", &format!("//! A.\nstd::{sleep}x);\n")).is_empty());
        assert_eq!(texts("tests/it/a.rs", &format!("//! A.\nstd::{sleep}x);\n")).len(), 1);
        assert_eq!(texts("src/a_tests.rs", &format!("//! A.\nstd::{sleep}x);\n")).len(), 1);
        let inline = format!("//! A.\nstd::{sleep}x);\n#[cfg(test)]\nmod tests {{\n    std::{sleep}x);\n}}\n");
        assert_eq!(check(Path::new("src/a.rs"), &inline).iter().map(|f| f.line).collect::<Vec<_>>(), [5]);
    }
}
