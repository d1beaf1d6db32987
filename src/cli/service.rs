//! `evenkeel service`: shows the services of a running node, switches one to another tier, and lets the node choose
//! again. The node decides whether it may be, keeps the decision and acts; see `operate`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use console::service_path;
use console::view::ServiceAction;
use serde_json::{Value, json};

use super::remote::{MaybeWhyArgs, Remote, RemoteArgs, WhyArgs, print};
use super::table;

/// Show the services of a running node, switch one to another tier and back
#[derive(Debug, Args)]
pub struct ServiceArgs {
    #[command(subcommand)]
    command: ServiceCommand,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum ServiceCommand {
    /// List services with their tiers and second tries
    List {
        /// Only this one
        service: Option<String>,
    },
    /// Send a service's requests to one tier alone
    Failover {
        /// The service
        service: String,
        /// The tier; without it, the one after the tier in use
        #[arg(long, value_name = "N")]
        tier: Option<u8>,
        #[command(flatten)]
        why: WhyArgs,
    },
    /// Let the state of a service's tiers decide again
    Failback {
        /// The service
        service: String,
        #[command(flatten)]
        why: MaybeWhyArgs,
    },
}

/// Asks the node, and shows its answer.
///
/// # Errors
/// When the node cannot be reached or does not let the caller in, or the output cannot be written.
pub fn run(args: &ServiceArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::of(&args.remote)?;
    let json = args.remote.json;
    match &args.command {
        ServiceCommand::List { service } => list(&remote.status()?, service.as_deref(), json),
        ServiceCommand::Failover { service, tier, why } => {
            let action = ServiceAction::Failover { tier: *tier };
            let mut body = why.body();
            body["tier"] = (*tier).into();
            remote.act(&service_path(service, action), &body, json)
        }
        ServiceCommand::Failback { service, why } => {
            remote.act(&service_path(service, ServiceAction::Failback), &why.body(), json)
        }
    }
}

/// All services of a status, or the one that was named.
pub(super) fn chosen<'a>(status: &'a Value, only: Option<&str>) -> anyhow::Result<Vec<&'a Value>> {
    let all: Vec<&Value> = status["services"].as_array().into_iter().flatten().collect();
    let Some(only) = only else { return Ok(all) };
    let names: Vec<_> = all.iter().filter_map(|service| service["name"].as_str()).collect();
    let found: Vec<_> = all.iter().copied().filter(|service| service["name"] == only).collect();
    anyhow::ensure!(!found.is_empty(), "there is no service {only:?}; there is {}", names.join(", "));
    Ok(found)
}

fn list(status: &Value, only: Option<&str>, as_json: bool) -> anyhow::Result<ExitCode> {
    let services = chosen(status, only)?;
    let text = if as_json { format!("{:#}\n", json!({ "services": services })) } else { text(&services) };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(services: &[&Value]) -> String {
    let columns = [
        ("SERVICE", false),
        ("HEALTHY", true),
        ("TIER", true),
        ("IN FLIGHT", true),
        ("SECOND TRIES", true),
        ("BUDGET", true),
        ("REASON", false),
    ];
    let row = |service: &&Value| {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let endpoints = service["endpoints"].as_array().map_or(0, Vec::len);
        let tries = service["second_tries_total"].as_object();
        let tries: u64 = tries.into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        let budget = &service["budget"];
        let tier = match number(&service["tiers"]) {
            0 | 1 => "–".to_owned(),
            _ => number(&service["active_tier"]).to_string(),
        };
        vec![
            service["name"].as_str().unwrap_or_default().to_owned(),
            format!("{}/{endpoints}", number(&service["healthy"])),
            tier,
            number(&service["in_flight"]).to_string(),
            tries.to_string(),
            format!("{}/{}", number(&budget["spent"]), number(&budget["allowed"])),
            service["tier_reason"].as_str().unwrap_or_default().to_owned(),
        ]
    };
    table::render(&columns, &services.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_listed_with_what_matters() {
        let shop = json!({ "name": "shop", "tiers": 2, "active_tier": 1, "healthy": 2, "endpoints": [1, 2, 3],
            "in_flight": 7, "second_tries_total": { "connect": 3, "reset": 1 },
            "budget": { "spent": 4, "allowed": 120 }, "tier_reason": "chosen by ops: a new rack" });
        assert_eq!(
            text(&[&shop]),
            "SERVICE  HEALTHY  TIER  IN FLIGHT  SECOND TRIES  BUDGET  REASON\n\
             shop         2/3     1          7             4   4/120  chosen by ops: a new rack\n"
        );
        let status = json!({ "services": [shop] });
        assert!(chosen(&status, Some("shpo")).unwrap_err().to_string().ends_with("there is shop"));
    }
}
