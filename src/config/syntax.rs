//! What the TOML parser complains about, in words that say what to do. The parser recovers and goes on, which can make one
//! slip sound like many: of each line only the first complaint is kept.

use std::collections::BTreeSet;

use kernel::{Finding, Rule, Severity};

use super::document::{MAX_FINDINGS, Source, placed};

pub(super) const SYNTAX: Rule = Rule {
    id: "syntax",
    severity: Severity::Error,
    title: "The file is not TOML",
    what: "The file breaks the grammar of TOML 1.1, so that what it says cannot be read. Each line is reported once; \
           other checks wait until the file can be read.",
    why: "Guessing what was meant would be guessing about the gateway's behaviour.",
    remedy: "Mend the line as the message says. Texts stand in quotes, also addresses and durations: `listen = \
             \"127.0.0.1:8080\"`, `timeout = \"5s\"`.",
    example: "[gateway]\nlisten = \"127.0.0.1:8080\"   # not: listen = 127.0.0.1:8080",
};

/// Findings for the parser's errors.
pub(super) fn findings(source: &Source, errors: &[toml::de::Error]) -> Vec<Finding> {
    let mut lines = BTreeSet::new();
    let mut findings = Vec::new();
    for error in errors.iter().take(10 * MAX_FINDINGS) {
        let span = error.span().unwrap_or(0..0);
        let (span, message, remedy) = explain(source.text(), error.message(), span);
        let line = source.place(&span).line;
        if lines.insert(line) && findings.len() < MAX_FINDINGS {
            findings.push(placed(&SYNTAX, source, Some(span), message, remedy));
        }
    }
    findings
}

type Span = std::ops::Range<usize>;

fn explain(text: &str, message: &str, span: Span) -> (Span, String, String) {
    let at = text.get(span.clone()).unwrap_or_default();
    let token = token_around(text, span.start);
    let shown = |span: &Span| text.get(span.clone()).unwrap_or_default().chars().take(60).collect::<String>();
    let quoted = |token: Span| {
        let value = shown(&token);
        (token, format!("`{value}` is not a value"), format!("write it in quotes: `\"{value}\"`"))
    };
    let kept = |message: &str, remedy: &str| (span.clone(), message.to_owned(), remedy.to_owned());
    match message.split(", expected").next().unwrap_or(message) {
        "string values must be quoted" if at.trim().is_empty() => {
            kept("a value is missing", "write one behind the `=`, a text in quotes")
        }
        "string values must be quoted" if ["“", "”", "„", "‘", "’"].iter().any(|q| at.contains(q)) => (
            span.clone(),
            format!("`{at}` is not a value"),
            "write plain quotes `\"` in place of typographic ones".to_owned(),
        ),
        "string values must be quoted" if ["yes", "no", "on", "off"].contains(&at) => {
            let meant = at == "yes" || at == "on";
            (
                span.clone(),
                format!("`{at}` is not a value"),
                format!("write `{meant}`, or `\"{at}\"` if a text is meant"),
            )
        }
        "string values must be quoted" => quoted(token),
        "invalid boolean" => {
            let lower = shown(&token).to_ascii_lowercase();
            let remedy = if lower == "true" || lower == "false" {
                format!("write `{lower}`")
            } else {
                "write `true` or `false`".to_owned()
            };
            (token.clone(), format!("`{}` is not a value", shown(&token)), remedy)
        }
        m if m.starts_with("invalid float")
            || m.starts_with("invalid integer")
            || m.starts_with("invalid date")
            || m.starts_with("invalid time") =>
        {
            quoted(token)
        }
        "unexpected leading zero" => (
            token.clone(),
            format!("`{}` begins with a zero", shown(&token)),
            "leave out the leading zero, or write the value in quotes".to_owned(),
        ),
        "invalid basic string" | "invalid literal string" => {
            kept("a text is not closed", "end it with the quote it began with, on the same line")
        }
        "invalid multi-line basic string" | "invalid multi-line literal string" => {
            kept("a text of several lines is not closed", "end it with three quotes")
        }
        "missing escaped value" => kept(
            "`\\` begins an escape that does not exist",
            "write `\\\\` for a backslash, or put the text in single quotes",
        ),
        "duplicate key" => (
            span.clone(),
            format!("`{at}` is already there"),
            "keep one of the two; a table is opened only once, and all its keys stand together".to_owned(),
        ),
        m if m.starts_with("cannot extend value") => (
            span.clone(),
            format!("`{at}` is already there, and is not a table"),
            "keep one of the two, or rename one".to_owned(),
        ),
        "unclosed table" => kept("the name of a table is not closed", "write `[NAME]`, with `.` between its parts"),
        "unclosed array table" => {
            kept("the name of a list of tables is not closed", "write `[[NAME]]`, with two brackets on each side")
        }
        "unclosed array" => kept("a list is not closed", "end it with `]`"),
        "missing comma between array elements" => {
            kept("a list is not closed, or a comma is missing in it", "put `,` between the values and `]` behind them")
        }
        "unclosed inline table" => kept("a table in braces is not closed", "end it with `}`"),
        "invalid unquoted key" if at == ":" => kept("`:` stands where `=` belongs", "write `key = value`"),
        "key with no value" | "missing assignment between key-value pairs" => {
            let before = text.get(..span.start).unwrap_or_default().trim_end();
            match before.strip_suffix(':').map(str::len) {
                Some(at) => (at..at + 1, "`:` stands where `=` belongs".to_owned(), "write `key = value`".to_owned()),
                None => kept("a key has no value", "write `key = value`; for a table write `[NAME]`"),
            }
        }
        "unexpected key or value" => {
            kept("something stands behind the value", "write one `key = value` on a line; a comment begins with `#`")
        }
        "unquoted keys cannot be empty" => kept("a key is missing", "write `key = value`"),
        _ => kept(message, "see https://toml.io for how it is written"),
    }
}

/// The word that a place is in: as far as there is no blank, comma, bracket or comment.
fn token_around(text: &str, at: usize) -> Span {
    let (begin, line) = line_around(text, at);
    let edge = |c: char| c.is_whitespace() || matches!(c, ',' | '=' | '[' | ']' | '{' | '}' | '#' | '"' | '\'');
    let column = line.floor_char_boundary(at.saturating_sub(begin).min(line.len()));
    let start = line[..column].rfind(edge).map_or(0, |i| i + line[i..].chars().next().map_or(1, char::len_utf8));
    let end = line[column..].find(edge).map_or(line.len(), |i| column + i);
    if start >= end { at..at } else { begin + start..begin + end }
}

fn line_around(text: &str, at: usize) -> (usize, &str) {
    let at = text.floor_char_boundary(at.min(text.len()));
    let begin = text[..at].rfind('\n').map_or(0, |i| i + 1);
    (begin, text[begin..].split('\n').next().unwrap_or_default())
}
