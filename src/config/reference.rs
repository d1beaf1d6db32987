//! The reference page: every table and key of the configuration with meaning, range and default, and one table of every
//! default with its reason. It is made from the same types as the configuration itself, so it cannot be wrong about them.

use std::fmt::Write as _;

use serde_json::Value;

use super::schema::{Fact, facts, header, properties, resolve, root};

/// A generated file: its path within the repository, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Relative to the root of the repository.
    pub path: String,
    /// The whole content.
    pub content: String,
}

/// Every file that is generated from the configuration types and the rules.
pub fn generated() -> Vec<Generated> {
    let file = |path: &str, content: String| Generated { path: path.to_owned(), content };
    let mut files = vec![
        file("docs/reference/evenkeel.schema.json", super::schema::text()),
        file("docs/reference/configuration.md", page()),
        file("docs/findings/README.md", index_of_findings()),
    ];
    files.extend(super::catalogue::rules().map(|rule| file(&format!("docs/findings/{}.md", rule.id), rule.page())));
    files
}

/// The page, in Markdown.
pub fn page() -> String {
    let schema = root();
    let facts = facts(&schema);
    let mut page = String::from(INTRODUCTION);
    let mut tables: Vec<&str> = Vec::new();
    for fact in &facts {
        if !tables.contains(&fact.table.as_str()) {
            tables.push(&fact.table);
        }
    }
    let mut out = |text: String| page.push_str(&text);
    out("## The tables\n\n| Table | What it is |\n| --- | --- |\n".to_owned());
    for table in tables.iter().filter(|t| !t.is_empty()) {
        out(format!(
            "| [`{}`](#{}) | {} |\n",
            header(table),
            anchor(&header(table)),
            cell(&about(&schema, table, &facts))
        ));
    }
    for table in tables.iter().filter(|t| !t.is_empty()) {
        out(section(table, &about(&schema, table, &facts), &facts));
    }
    out(defaults(&facts));
    page
}

const INTRODUCTION: &str = "\
# Configuration

One TOML file. What is not written has its default; an unknown key is an error, not a comment. `evenkeel check` says what is
wrong or unwise about a file, `evenkeel check --effective` prints what is in force, and `evenkeel explain ID` explains a
finding. This page and the [JSON schema](evenkeel.schema.json) are generated from the program.

## How values are written

| Kind | Written | Meaning |
| --- | --- | --- |
| duration | `\"250ms\"`, `\"2s\"`, `\"1m30s\"` | units `ms`, `s`, `m`, `h`, `d`; whole numbers |
| size | `\"64KiB\"`, `\"10MB\"`, `\"512B\"` | `KiB`, `MiB`, `GiB` count by 1024, `kB`, `MB`, `GB` by 1000 |
| rate | `\"240B/s\"` | a size in a second |
| share | `\"20%\"`, `0.2` | a part of a whole |
| address | `\"127.0.0.1:8080\"`, `\"[::1]:8080\"` | IP address and port |
| secret | `\"${env:NAME}\"`, `\"${file:/path}\"` | put in when the file is read, never printed; every text may hold them; `$${` writes `${` |

A change of a key marked *live* is taken over on SIGHUP or when the file changes, as a whole or not at all; requests in flight
end under what they began with. One marked *restart* needs a new process; a reload says so.

";

/// The anchor that Markdown renderers give a heading.
fn anchor(header: &str) -> String {
    header.to_ascii_lowercase().chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

/// What a table is: the comment of its type.
fn about(schema: &Value, table: &str, facts: &[Fact]) -> String {
    let mut at = schema;
    for part in table.split('.') {
        let next = match part {
            "NAME" => at.get("additionalProperties"),
            key => properties(at).and_then(|p| p.get(key)),
        };
        let Some(next) = next else { return String::new() };
        at = resolve(schema, next);
        if let Some(items) = at.get("items") {
            at = resolve(schema, items);
        }
    }
    let text = at.get("description").and_then(Value::as_str).unwrap_or_default();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if !text.is_empty() {
        return text.split(" Default: ").next().unwrap_or_default().to_owned();
    }
    let (parent, key) = table.rsplit_once('.').unwrap_or(("", table));
    facts.iter().find(|f| f.table == parent && f.key == key).map(|f| f.meaning.clone()).unwrap_or_default()
}

fn section(table: &str, about: &str, facts: &[Fact]) -> String {
    let mut out = format!("\n## `{}`\n\n{about}\n", header(table));
    for fact in facts.iter().filter(|f| f.table == table) {
        let needed = if fact.is_required { ", required" } else { "" };
        // Writing to a String cannot fail.
        let _infallible = write!(
            out,
            "\n### `{}`\n\n{}{needed}. Default: {}. Range: {}. Reload: {}.\n\n{}\n",
            fact.key,
            upper_first(&fact.kind),
            fact.default,
            fact.range,
            fact.reload,
            fact.meaning
        );
    }
    out
}

fn defaults(facts: &[Fact]) -> String {
    let mut out = String::from("\n## Every default and its reason\n\n| Key | Default | Why |\n| --- | --- | --- |\n");
    for fact in facts.iter().filter(|f| !f.why.is_empty()) {
        let key = if fact.table.is_empty() { fact.key.clone() } else { format!("{}.{}", fact.table, fact.key) };
        let _infallible = writeln!(out, "| `{key}` | {} | {} |", cell(&fact.default), cell(&upper_first(&fact.why)));
    }
    out
}

fn index_of_findings() -> String {
    let mut out = String::from(
        "# Findings\n\nWhat `evenkeel check` may say, and `evenkeel explain ID` explains offline. These pages are generated from the \
         program.\n\n| Id | Severity | What it says |\n| --- | --- | --- |\n",
    );
    for rule in super::catalogue::rules() {
        let _infallible = writeln!(out, "| [{id}]({id}.md) | {} | {} |", rule.severity, cell(rule.title), id = rule.id);
    }
    out
}

/// A text as the cell of a Markdown table.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}", chars.as_str())
}
