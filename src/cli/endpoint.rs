//! `evenkeel endpoint`: shows the endpoints of a running node, takes one out, and lets it back in. The node decides
//! whether it may be, keeps the decision and acts; see `operate`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use console::endpoint_path;
use console::view::EndpointAction;
use console::words::span;
use serde_json::{Value, json};

use super::remote::{MaybeWhyArgs, Remote, RemoteArgs, WhyArgs, print};
use super::table;

/// Show the endpoints of a running node, take one out, let it back in
#[derive(Debug, Args)]
pub struct EndpointArgs {
    #[command(subcommand)]
    command: EndpointCommand,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// List endpoints with their state and why
    List {
        /// Only those of this service
        service: Option<String>,
    },
    /// Give an endpoint no new requests; those in flight are finished
    Drain(OutArgs),
    /// Let checks and requests judge an endpoint again
    Resume {
        #[command(flatten)]
        names: Names,
        #[command(flatten)]
        why: MaybeWhyArgs,
    },
    /// Hold an endpoint for broken: no new requests, and it counts as failed
    Down(OutArgs),
}

#[derive(Debug, Args)]
struct OutArgs {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    why: WhyArgs,
}

#[derive(Debug, Args)]
struct Names {
    /// The service
    service: String,
    /// The endpoint, as the configuration has it
    endpoint: String,
}

/// Asks the node, and shows its answer.
///
/// # Errors
/// When the node cannot be reached or does not let the caller in, or the output cannot be written.
pub fn run(args: &EndpointArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::of(&args.remote)?;
    let act = |names: &Names, action, body: Value| {
        remote.act(&endpoint_path(&names.service, &names.endpoint, action), &body, args.remote.json)
    };
    match &args.command {
        EndpointCommand::List { service } => list(&remote.status()?, service.as_deref(), args.remote.json),
        EndpointCommand::Drain(out) => act(&out.names, EndpointAction::Drain, out.why.body()),
        EndpointCommand::Down(out) => act(&out.names, EndpointAction::Down, out.why.body()),
        EndpointCommand::Resume { names, why } => act(names, EndpointAction::Resume, why.body()),
    }
}

fn list(status: &Value, only: Option<&str>, as_json: bool) -> anyhow::Result<ExitCode> {
    let services = super::service::chosen(status, only)?;
    if as_json {
        let endpoints: Vec<Value> = services.iter().flat_map(|service| with_service(service)).collect();
        print(&format!("{:#}\n", json!({ "endpoints": endpoints })))?;
    } else {
        print(&text(&services))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The endpoints of a service, each with its name.
fn with_service(service: &Value) -> Vec<Value> {
    let endpoints = service["endpoints"].as_array().cloned().unwrap_or_default();
    let named = |mut endpoint: Value| {
        endpoint["service"] = service["name"].clone();
        endpoint
    };
    endpoints.into_iter().map(named).collect()
}

fn text(services: &[&Value]) -> String {
    let tiers = services.iter().any(|service| service["tiers"].as_u64() > Some(1));
    let mut columns = vec![("SERVICE", false), ("ENDPOINT", false), ("STATE", false), ("FOR", false)];
    columns.extend(tiers.then_some(("TIER", true)));
    columns.extend([("IN FLIGHT", true), ("REASON", false)]);
    let mut rows = Vec::new();
    for service in services {
        for endpoint in service["endpoints"].as_array().into_iter().flatten() {
            let word = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| endpoint[key].as_u64().unwrap_or_default().to_string();
            let since = endpoint["since_seconds"].as_u64().map(|s| span(Duration::from_secs(s)));
            let mut row = vec![service["name"].as_str().unwrap_or_default().to_owned(), word("name"), word("state")];
            row.push(since.unwrap_or_default());
            row.extend(tiers.then(|| number("tier")));
            row.extend([number("in_flight"), word("reason")]);
            rows.push(row);
        }
    }
    table::render(&columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_listed_with_what_matters() {
        let endpoint = json!({ "name": "a:1", "state": "drained", "since_seconds": 75, "tier": 0, "in_flight": 2,
            "reason": "drained by ops: a new disk" });
        let other = json!({ "name": "b:1", "state": "healthy", "tier": 1, "in_flight": 0, "reason": "not checked" });
        let mut shop = json!({ "name": "shop", "tiers": 1, "endpoints": [endpoint, other] });
        assert_eq!(
            text(&[&shop]),
            "SERVICE  ENDPOINT  STATE    FOR         IN FLIGHT  REASON\n\
             shop     a:1       drained  1 min 15 s          2  drained by ops: a new disk\n\
             shop     b:1       healthy                      0  not checked\n"
        );
        shop["tiers"] = 2.into();
        assert!(text(&[&shop]).contains("FOR         TIER  IN FLIGHT"));
        assert_eq!(with_service(&shop)[1]["service"], "shop");
    }
}
