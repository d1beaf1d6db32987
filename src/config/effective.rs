//! The effective configuration: every value in force as TOML that can be read again, defaults marked as such, and the
//! reference wherever the file has one in the place of a secret.

use std::fmt::Write as _;

use toml::Value;

use super::document::{Document, Path, Step};
use super::interpolate::Secrets;
use super::model::{Config, Failover, Hold, Outlier, Park, Queue, RetryBudget};

/// Comments stand in this column if the line leaves room.
const COMMENT_COLUMN: usize = 44;

/// Tables within tables that have a header of their own; all others are printed in braces.
const OWN_TABLES: [&str; 8] =
    ["health", "redirect", "cors", "request_headers", "response_headers", "auth", "tls", "server_tls"];

/// Tables that every service has. One that is all default is printed in braces, on one line; else it has a header.
fn is_all_default(key: &str, value: &Value) -> Option<bool> {
    let default = match key {
        "retry_budget" => Value::try_from(RetryBudget::default()),
        "queue" => Value::try_from(Queue::default()),
        "outlier" => Value::try_from(Outlier::default()),
        "hold" => Value::try_from(Hold::default()),
        "park" => Value::try_from(Park::default()),
        "failover" => Value::try_from(Failover::default()),
        _ => return None,
    };
    Some(default.is_ok_and(|default| default == *value))
}

/// Renders it. It reads back as the same configuration.
pub(super) fn render(config: &Config, document: &Document<'_>, secrets: &Secrets) -> String {
    let printer = Printer { document, secrets };
    let mut out = String::new();
    // A configuration is a table, and has no value that TOML lacks.
    if let Ok(Value::Table(root)) = Value::try_from(config) {
        printer.tables(&mut out, &root, &Path::default());
    }
    out
}

struct Printer<'a> {
    document: &'a Document<'a>,
    secrets: &'a Secrets,
}

impl Printer<'_> {
    /// Prints each table of the root under its own header.
    fn tables(&self, out: &mut String, root: &toml::Table, at: &Path) {
        for (key, value) in root {
            let path = at.then(key.as_str());
            match value {
                Value::Table(table) if matches!(key.as_str(), "listener" | "service" | "pool" | "token") => {
                    for (name, value) in table {
                        if let Value::Table(table) = value {
                            self.table(out, &path.then(name.as_str()), table);
                        }
                    }
                }
                Value::Table(table) => self.table(out, &path, table),
                Value::Array(list) => {
                    for (i, value) in list.iter().enumerate() {
                        if let Value::Table(table) = value {
                            self.table(out, &path.then(i), table);
                        }
                    }
                }
                _ => self.line(out, &path, value),
            }
        }
    }

    fn table(&self, out: &mut String, at: &Path, table: &toml::Table) {
        if !out.is_empty() {
            out.push('\n');
        }
        // The place in a list is no part of a header.
        let keys = Path(at.0.iter().filter(|step| matches!(step, Step::Key(_))).cloned().collect());
        let header =
            if matches!(at.0.last(), Some(Step::Index(_))) { format!("[[{keys}]]") } else { format!("[{keys}]") };
        // Writing to a String cannot fail.
        let _infallible = match self.document.says(at) {
            true => writeln!(out, "{header}"),
            false => writeln!(out, "{header:COMMENT_COLUMN$}# default"),
        };
        let opens = |key: &str, v: &Value| is_all_default(key, v).map_or(OWN_TABLES.contains(&key), |default| !default);
        let (tables, lines): (Vec<_>, Vec<_>) = table.iter().partition(|(key, v)| v.is_table() && opens(key, v));
        lines.into_iter().for_each(|(key, value)| self.line(out, &at.then(key.as_str()), value));
        for (key, value) in tables {
            if let Value::Table(table) = value {
                self.table(out, &at.then(key.as_str()), table);
            }
        }
    }

    fn line(&self, out: &mut String, at: &Path, value: &Value) {
        let line = format!("{} = {}", bare(at.key().unwrap_or_default()), self.value(at, value));
        let is_default = !self.document.says(at);
        let _infallible = match is_default {
            true if line.len() < COMMENT_COLUMN => writeln!(out, "{line:COMMENT_COLUMN$}# default"),
            true => writeln!(out, "{line} # default"),
            false => writeln!(out, "{line}"),
        };
    }

    fn value(&self, at: &Path, value: &Value) -> String {
        match value {
            Value::Array(list) => {
                let items = list.iter().enumerate().map(|(i, v)| self.value(&at.then(i), v)).collect::<Vec<_>>();
                format!("[{}]", items.join(", "))
            }
            Value::Table(table) if table.is_empty() => "{}".to_owned(),
            Value::Table(table) => {
                let items =
                    table.iter().map(|(key, v)| format!("{} = {}", bare(key), self.value(&at.then(key.as_str()), v)));
                format!("{{ {} }}", items.collect::<Vec<_>>().join(", "))
            }
            Value::String(_) if self.document.says(at) => {
                let written = self.document.span(at).and_then(|span| self.secrets.written(&span));
                match written {
                    Some(written) => Value::from(written).to_string(),
                    // Written out in the file, and still not to be printed.
                    None if at.key() == Some("password") => "\"(not shown)\"".to_owned(),
                    None => value.to_string(),
                }
            }
            _ => value.to_string(),
        }
    }
}

/// A key, in quotes if it needs them.
fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if plain { key.to_owned() } else { Value::from(key).to_string() }
}
