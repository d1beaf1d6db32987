//! Findings as people and programs read them: text with the line in question, JSON, and SARIF 2.1.0 for code review tools.

pub mod json;
pub mod sarif;
pub mod text;

use kernel::{Finding, Severity};

/// How many there are of each severity: errors, warnings, notes.
pub fn counts(findings: &[Finding]) -> [usize; 3] {
    [Severity::Error, Severity::Warning, Severity::Note]
        .map(|severity| findings.iter().filter(|f| f.severity == severity).count())
}

/// The counts in words: `1 error, 2 warnings`, or `no findings`.
pub fn summary(findings: &[Finding]) -> String {
    let words = [("error", "errors"), ("warning", "warnings"), ("note", "notes")];
    let counted = counts(findings).into_iter().zip(words).filter(|(n, _)| *n > 0);
    let parts: Vec<String> =
        counted.map(|(n, (one, many))| format!("{n} {}", if n == 1 { one } else { many })).collect();
    if parts.is_empty() { "no findings".to_owned() } else { parts.join(", ") }
}
