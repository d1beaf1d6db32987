//! `evenkeel why`: what was done with a request, step by step, by the id that its answer and the access log carry. The node
//! knows requests that were not plain, and a sample of the rest, in memory. Without an id: the last of them.

use std::process::ExitCode;

use clap::Args;
use console::{lines, words};
use jiff::tz::TimeZone;
use serde_json::Value;

use super::journal::local;
use super::remote::{Query, Remote, RemoteArgs, Said, print};

/// Explain what was done with a request; without an id, list the last that are remembered
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The request's id, as in x-request-id and in the access log
    id: Option<String>,
    /// List only those for this service
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    service: Option<String>,
    /// How many to list at most
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "id")]
    limit: u64,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks the node, and prints its answer.
///
/// # Errors
/// When the node cannot be reached or refuses what is asked, or the output cannot be written.
pub fn run(args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::of(&args.remote)?;
    match &args.id {
        Some(id) => explain(&remote, id, args.remote.json),
        None => list(&remote, args),
    }
}

fn explain(remote: &Remote, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/why/{}", words::path_segment(id));
    match remote.text(&path, json)? {
        Said::Yes(text) => {
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Said::No { code, detail, body } if code == "trace-unknown" => {
            if json {
                print(&format!("{body:#}\n"))?;
            }
            super::complain(&anyhow::anyhow!("{detail}"));
            Ok(ExitCode::from(1))
        }
        Said::No { detail, .. } => anyhow::bail!("{detail}"),
    }
}

fn list(remote: &Remote, args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let query = Query::default().with("service", args.service.as_deref()).with("limit", Some(&args.limit.to_string()));
    let found = remote.get(&query.path("/v1/traces"))?;
    if args.remote.json {
        print(&format!("{found:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let zone = TimeZone::system();
    let traces = found["traces"].as_array().into_iter().flatten();
    let text: String = traces.map(|trace| line(trace, &zone) + "\n").collect();
    match text.is_empty() {
        true => print("no request is known: none was other than plain, and none is in the sample\n")?,
        false => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn line(trace: &Value, zone: &TimeZone) -> String {
    let text = |key: &str| trace[key].as_str().unwrap_or_default();
    let number = |key: &str| trace[key].as_u64().unwrap_or_default();
    let kept: Vec<_> = trace["kept"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let request = format!("{} {}", text("method"), text("target"));
    let time = local(number("at_unix_us") / 1_000, zone);
    lines::trace(&time, text("id"), number("status"), number("took_us"), &request, &kept.join(", ").replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_a_line_in_local_time() {
        let trace = json!({ "id": "abc", "at_unix_us": 1_772_366_400_123_456_u64, "method": "GET", "target": "/cart",
            "status": 504, "took_us": 900_000, "kept": ["failed", "second_tried"] });
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(line(&trace, &zone), "2026-03-01 14:00:00  abc  504   900 ms  GET /cart: failed, second tried");
    }
}
