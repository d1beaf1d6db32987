//! Findings as SARIF 2.1.0 (OASIS), which code review tools show at the line they are about. The rules that were broken are
//! included with their pages, so that a tool can explain them without us.

use kernel::{Finding, Rule, Severity};
use serde_json::{Value, json};

/// Where the pages of the rules are, within the project.
const PAGES: &str = "docs/findings";

/// A whole SARIF log with one run; pretty, with a line break at its end. `rules` are those that may have been broken.
pub fn render(findings: &[Finding], rules: impl Iterator<Item = &'static Rule>, version: &str) -> String {
    let broken: Vec<&Rule> = rules.filter(|rule| findings.iter().any(|f| f.id == rule.id)).collect();
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, &broken)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "evenkeel",
                "version": version,
                "rules": broken.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn level(severity: Severity) -> &'static str {
    severity.word()
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": { "text": rule.title },
        "fullDescription": { "text": format!("{} {}", rule.what, rule.why) },
        "help": { "text": rule.remedy, "markdown": rule.page() },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": { "page": format!("{PAGES}/{}.md", rule.id) },
    })
}

fn result(finding: &Finding, broken: &[&Rule]) -> Value {
    let mut result = json!({
        "ruleId": finding.id,
        "level": level(finding.severity),
        "message": { "text": format!("{}: {}", finding.message, finding.remedy) },
    });
    if let Some(index) = broken.iter().position(|rule| rule.id == finding.id) {
        result["ruleIndex"] = index.into();
    }
    if let Some(place) = &finding.place {
        let mut location = json!({ "physicalLocation": {
            "artifactLocation": { "uri": uri(&place.file) },
            "region": {
                "startLine": place.line,
                "startColumn": place.column,
                "endColumn": place.column + place.length,
            },
        } });
        if let Some(subject) = &finding.subject {
            location["logicalLocations"] = json!([{ "fullyQualifiedName": subject }]);
        }
        result["locations"] = json!([location]);
    }
    result
}

/// A relative reference or a file URI; what a URI cannot hold is percent-encoded (RFC 3986, 3.3).
fn uri(file: &str) -> String {
    let mut uri = String::from(if file.starts_with('/') { "file://" } else { "" });
    for byte in file.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=@".contains(&byte) {
            true => uri.push(char::from(byte)),
            false => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn file_names_become_uris() {
        assert_eq!(uri("evenkeel.toml"), "evenkeel.toml");
        assert_eq!(uri("/etc/even keel/ä.toml"), "file:///etc/even%20keel/%C3%A4.toml");
    }
}
