//! A finding: one thing that a check has to say about a configuration or, later, about what is reviewed. Config
//! errors, lints and reviews share this type, so that text, JSON and SARIF come from one place. What kinds of findings
//! there are is declared by [`Rule`]s: id, severity and the page that explains it, in one place.

use std::fmt;

/// Lines of a page fit into a terminal and are comfortable to read.
const PAGE_WIDTH: usize = 100;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing need be done.
    Note,
    /// Legal but unwise.
    Warning,
    /// Cannot be used as it is.
    Error,
}

impl Severity {
    /// The word for it, lower case.
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Where a finding is: a place in a file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    /// The file as it was named by the user.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters the place spans; at least 1, and never beyond the end of the line.
    pub length: usize,
}

/// One thing that a check has to say.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The rule's stable id, lower case with dashes; `evenkeel explain ID` tells more.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, with the value that is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// Where it is, if it is anywhere.
    pub place: Option<Place>,
    /// The configuration path it is about, such as `service.shop.endpoints[1]`.
    pub subject: Option<String>,
}

/// The declaration of one kind of finding: what it is called, how much it matters, and the page that explains it.
/// Texts are Markdown paragraphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The stable id, lower case with dashes. An id never changes its meaning.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// One line: what is the case when the rule speaks.
    pub title: &'static str,
    /// What exactly is found.
    pub what: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// A piece of configuration that the rule speaks about, and the better one.
    pub example: &'static str,
}

impl Rule {
    /// A finding of this rule, so far without a place.
    pub fn finding(&self, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            id: self.id,
            severity: self.severity,
            message: message.into(),
            remedy: remedy.into(),
            place: None,
            subject: None,
        }
    }

    /// The page that explains the rule, in Markdown: the same text online and offline.
    pub fn page(&self) -> String {
        let Rule { id, severity, title, example, .. } = self;
        let [what, why, remedy] = [self.what, self.why, self.remedy].map(wrapped);
        format!(
            "# {id}\n\n{title}.\n\nSeverity: {severity}.\n\n## What\n\n{what}\n\n## Why\n\n{why}\n\n## Remedy\n\n\
             {remedy}\n\n## Example\n\n```toml\n{example}\n```\n"
        )
    }
}

/// The text in lines of at most [`PAGE_WIDTH`] characters, broken at blanks.
fn wrapped(text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 8);
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > PAGE_WIDTH {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_ordered_by_weight() {
        assert!(Severity::Note < Severity::Warning && Severity::Warning < Severity::Error);
        assert_eq!(format!("{:>8}", Severity::Note), "    note");
    }

    #[test]
    fn pages_are_wrapped_at_blanks_and_lose_no_word() {
        let text = format!("{} end", "word ".repeat(60).trim_end());
        let lines = wrapped(&text);
        assert!(
            lines.lines().all(|line| line.len() <= PAGE_WIDTH && line.len() > 80 || line.ends_with("end")),
            "{lines}"
        );
        assert_eq!(lines.replace('\n', " "), text);
        assert_eq!(wrapped(&"x".repeat(300)).lines().count(), 1);
    }
}
