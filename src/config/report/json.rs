//! Findings as JSON: one object with the findings and how many there are of each severity.

use kernel::Finding;
use serde_json::json;

use super::counts;

/// Pretty JSON with a line break at its end.
pub fn render(findings: &[Finding]) -> String {
    let [errors, warnings, notes] = counts(findings);
    let report = json!({ "errors": errors, "warnings": warnings, "notes": notes, "findings": findings });
    format!("{report:#}\n")
}
