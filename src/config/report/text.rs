//! Findings as text: what is wrong, the line with a caret under it, and what to do.
//!
//! ```text
//! error[unknown-key]: `timeuot` is not a key of `[service.shop]`
//!   --> evenkeel.toml:5:1
//!    |
//!  5 | timeuot = "5s"
//!    | ^^^^^^^
//!    = did you mean `timeout`?
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;

use kernel::{Finding, Place};

use crate::config::document::{MAX_FILE_BYTES, Source};

/// A line is shown up to this many characters.
const MAX_LINE: usize = 160;

/// All findings. Lines come from `source`, or without one from the files that the places name, if they can be read.
pub fn render(findings: &[Finding], source: Option<&Source>) -> String {
    let mut files: HashMap<&str, Option<Source>> = HashMap::new();
    let mut out = String::new();
    for finding in findings {
        let line = finding.place.as_ref().and_then(|place| match source {
            Some(source) if source.name() == place.file => source.line(place.line).map(ToOwned::to_owned),
            _ => files
                .entry(&place.file)
                .or_insert_with(|| open(&place.file))
                .as_ref()?
                .line(place.line)
                .map(ToOwned::to_owned),
        });
        one(&mut out, finding, line.as_deref());
    }
    out
}

fn open(name: &str) -> Option<Source> {
    let length = std::fs::metadata(name).ok()?.len();
    (length <= MAX_FILE_BYTES as u64).then(|| std::fs::read_to_string(name).ok())?.map(|text| Source::new(name, text))
}

fn one(out: &mut String, finding: &Finding, line: Option<&str>) {
    let Finding { id, severity, message, remedy, place, .. } = finding;
    // Writing to a String cannot fail.
    let _infallible = writeln!(out, "{severity}[{id}]: {message}");
    let width = place.as_ref().map_or(1, |place| place.line.to_string().len());
    if let Some(place) = place {
        let _infallible = writeln!(out, " {:width$}--> {}:{}:{}", "", place.file, place.line, place.column);
        if let Some(line) = line {
            excerpt(out, place, line, width);
        }
    }
    let _infallible = writeln!(out, " {:width$} = {remedy}\n", "");
}

fn excerpt(out: &mut String, place: &Place, line: &str, width: usize) {
    // A long line is shown from a little before the place.
    let skip = if place.column > MAX_LINE - 40 { place.column - 40 } else { 0 };
    let shown: String = line.chars().skip(skip).take(MAX_LINE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let lead = if skip > 0 { "…" } else { "" };
    let trail = if line.chars().count() > skip + MAX_LINE { "…" } else { "" };
    let room = shown.chars().count().saturating_sub(place.column - 1 - skip).max(1);
    let indent = place.column - 1 - skip + lead.chars().count();
    let _infallible = writeln!(out, " {:width$} |", "");
    let _infallible = writeln!(out, " {} | {lead}{shown}{trail}", place.line);
    let _infallible = writeln!(out, " {:width$} | {:indent$}{}", "", "", "^".repeat(place.length.min(room)));
}

#[cfg(test)]
mod tests {
    use kernel::Severity;

    use super::*;

    fn finding(line: usize, column: usize, length: usize) -> Finding {
        let place = Some(Place { file: "f".to_owned(), line, column, length });
        let (message, remedy) = ("m".to_owned(), "r".to_owned());
        Finding { id: "x", severity: Severity::Error, message, remedy, place, subject: None }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let source = Source::new("f", format!("{}ä = 1\n", "\n".repeat(9)));
        let text = render(&[finding(10, 5, 1)], Some(&source));
        assert_eq!(text, "error[x]: m\n   --> f:10:5\n    |\n 10 | ä = 1\n    |     ^\n    = r\n\n");
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let source = Source::new("f", format!("{}bad{}", "a".repeat(500), "z".repeat(500)));
        let text = render(&[finding(1, 501, 3)], Some(&source));
        let lines: Vec<&str> = text.lines().collect();
        let at = lines[4].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[3].chars().skip(at).take(3).collect::<String>(), "bad");
        assert!(lines[3].chars().count() < 180 && lines[4].ends_with("^^^"));
    }

    #[test]
    fn a_place_outside_the_text_shows_no_line() {
        let source = Source::new("f", "a".to_owned());
        assert_eq!(render(&[finding(7, 1, 1)], Some(&source)), "error[x]: m\n  --> f:7:1\n   = r\n\n");
    }
}
