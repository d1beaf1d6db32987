//! `evenkeel explain`: the page of a finding, of an error that clients see, or of a kind of event. The pages are in the binary, so it needs no
//! network.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::catalogue::{self, Topic};

/// Explain a finding of `evenkeel check`, an error that clients see, or a kind of event, by its id
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Such as unknown-key, upstream-timeout or endpoint.ejected
    #[arg(required_unless_present = "list")]
    id: Option<String>,
    /// List every id with one line about it
    #[arg(long, conflicts_with = "id")]
    list: bool,
}

/// Prints the page, or the list.
///
/// # Errors
/// When the output cannot be written.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let text = match &args.id {
        Some(id) => match catalogue::find(id) {
            Ok(topic) => topic.page(),
            Err(nearest) => {
                let hint = nearest.map(|id| format!("did you mean {id}? ")).unwrap_or_default();
                anyhow::bail!("there is no finding, error or event {id}: {hint}`evenkeel explain --list` shows all");
            }
        },
        None => list(),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn list() -> String {
    let width = catalogue::topics().map(|topic| topic.id().len()).max().unwrap_or(0);
    let row = |kind: &str, topic: Topic| format!("  {:width$}  {kind:7}  {}\n", topic.id(), topic.title());
    let mut rules: Vec<_> = catalogue::rules().collect();
    rules.sort_by_key(|rule| (std::cmp::Reverse(rule.severity), rule.id));
    let mut text = String::from("Findings of evenkeel check\n\n");
    rules.into_iter().for_each(|rule| text.push_str(&row(rule.severity.word(), Topic::Rule(rule))));
    text.push_str("\nErrors that clients see\n\n");
    for code in kernel::ErrorCode::ALL {
        text.push_str(&row(&code.status().to_string(), Topic::Error(*code)));
    }
    text.push_str("\nKinds of events in the journal\n\n");
    for kind in kernel::EventKind::ALL {
        text.push_str(&row(kind.declared().level.word(), Topic::Event(*kind)));
    }
    text
}
