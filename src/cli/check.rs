//! `evenkeel check`: says what is wrong or unwise about a configuration, without starting anything.
//!
//! Where a pool asks Postgres for verifiers by the default query, the text says what Postgres needs for that.
//!
//! Exit codes: 0 if the file can be used (notes and warnings may be there), 1 if it cannot, or if `--deny` forbids what was
//! found, 2 if the command itself failed. Findings go to standard output in the form that `--format` says; with
//! `--effective` the configuration goes there, and findings to standard error.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use kernel::Severity;

use crate::config::{self, Outcome, catalogue, report};

/// Check a configuration: errors, and what is legal but unwise
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "evenkeel.toml")]
    config: PathBuf,
    /// Print every value in force, defaults included; references stand for secrets
    #[arg(long)]
    effective: bool,
    /// How findings are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Fail also for these
    #[arg(long, value_enum, value_name = "SEVERITY")]
    deny: Option<Deny>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, each with its line
    Text,
    /// One JSON object
    Json,
    /// SARIF 2.1.0, for code review tools
    Sarif,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Deny {
    /// Warnings
    Warnings,
    /// Warnings and notes
    Notes,
}

/// Checks, and says what it found.
///
/// # Errors
/// When the output cannot be written.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let outcome = config::load_file(&args.config);
    let findings = rendered(&outcome, args.format);
    let mut out = io::stdout().lock();
    if args.effective {
        io::stderr().lock().write_all(findings.as_bytes())?;
        if !outcome.has_errors() {
            out.write_all(outcome.effective.as_bytes())?;
        }
    } else {
        out.write_all(findings.as_bytes())?;
    }
    out.flush()?;
    let denied = match args.deny {
        None => Severity::Error,
        Some(Deny::Warnings) => Severity::Warning,
        Some(Deny::Notes) => Severity::Note,
    };
    let fails = outcome.findings.iter().any(|finding| finding.severity >= denied);
    Ok(if fails { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn rendered(outcome: &Outcome, format: Format) -> String {
    match format {
        Format::Text => format!("{}{}\n{}", outcome.text(), verdict(outcome), functions(outcome)),
        Format::Json => report::json::render(&outcome.findings),
        Format::Sarif => report::sarif::render(&outcome.findings, catalogue::rules(), env!("CARGO_PKG_VERSION")),
    }
}

/// The last line: whether the file can be used, and how much was found.
fn verdict(outcome: &Outcome) -> String {
    let name = outcome.source.name();
    let summary = report::summary(&outcome.findings);
    let ending = match (outcome.has_errors(), outcome.findings.is_empty()) {
        (true, _) => format!("cannot be used: {summary}; `evenkeel explain ID` tells more"),
        (false, true) => format!("is in order: {}", extent(outcome)),
        (false, false) => format!("can be used: {summary}; `evenkeel explain ID` tells more"),
    };
    format!("{name} {ending}")
}

/// What Postgres needs so that the pools can ask it for verifiers, once for each user and database.
fn functions(outcome: &Outcome) -> String {
    let pools = outcome.compiled.iter().flat_map(|compiled| &compiled.pools.pools);
    let mut needed: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for pool in pools.filter(|pool| pool.auth.query == pool::verifiers::DEFAULT_QUERY) {
        let (user, database) = (pool.auth.user.as_str(), pool.auth.database.as_str());
        match needed.iter_mut().find(|(u, d, _)| (*u, *d) == (user, database)) {
            Some((_, _, names)) => names.push(&pool.name),
            None => needed.push((user, database, vec![&pool.name])),
        }
    }
    let text = |(user, database, names): (&str, &str, Vec<&str>)| {
        let (pools, ask) = if names.len() == 1 { ("pool", "asks") } else { ("pools", "ask") };
        let names = names.join(", ");
        let function = pool::verifiers::create_function(user);
        format!(
            "\nThe {pools} {names} {ask} Postgres for verifiers as {user}. A superuser runs this once, in the database \
             {database}:\n\n{function}"
        )
    };
    needed.into_iter().map(text).collect()
}

/// What the configuration amounts to.
fn extent(outcome: &Outcome) -> String {
    let count = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    let Some(compiled) = &outcome.compiled else { return String::new() };
    let endpoints = compiled.plan.services.iter().map(|s| s.endpoints.len()).sum();
    let parts = [
        (compiled.listeners.len(), "listener"),
        (compiled.plan.routes.len(), "route"),
        (compiled.plan.services.len(), "service"),
        (endpoints, "endpoint"),
        (compiled.pools.pools.len(), "pool"),
    ];
    // A file of pools alone has nothing of the gateway, and most files have no pool.
    let parts = parts.into_iter().filter(|(n, _)| *n > 0);
    parts.map(|(n, one)| count(n, one)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_needs_is_said_once_for_each_user_and_database() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("pg"), "secret-of-the-pooler\n").unwrap();
        let pool = |name: &str, port: u16, more: &str| {
            let auth = format!("auth = {{ user = \"even\\\"keel\", password = \"${{file:pg}}\"{more} }}");
            format!("[pool.{name}]\nlisten = \"127.0.0.1:{port}\"\nservers = [\"127.0.0.1\"]\n{auth}\n")
        };
        let path = directory.path().join("evenkeel.toml");
        let own = pool("own", 6434, ", query = \"select name, verifier from users where name = $1\"");
        std::fs::write(&path, [pool("a", 6432, ""), pool("b", 6433, ""), own].concat()).unwrap();
        let text = rendered(&config::load_file(&path), Format::Text);
        assert!(
            text.contains("is in order: 3 pools\n\nThe pools a, b ask Postgres for verifiers as even\"keel."),
            "{text}"
        );
        assert_eq!(text.matches("CREATE OR REPLACE FUNCTION").count(), 1, "{text}");
        assert!(text.contains("TO \"even\"\"keel\";") && !text.contains("secret-of-the-pooler"), "{text}");
        assert_eq!(functions(&config::load_file(&directory.path().join("none.toml"))), "");
    }
}
