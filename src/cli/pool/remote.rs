//! The commands that ask a running node about its pools, or give it orders. The node decides whether an order can be
//! followed, and says what it did; what it shows for people it writes itself.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use console::pool_path;
use console::words::span;
use serde_json::{Value, json};

use crate::cli::remote::{MaybeWhyArgs, Query, Remote, Said, print};
use crate::cli::table;

/// Rows that are shown unless told otherwise.
const ROWS: u32 = 50;

#[derive(Debug, Subcommand)]
pub(super) enum RemoteCommand {
    /// List pools with their primary, and who waits
    List {
        /// Only this one
        pool: Option<String>,
    },
    /// Show a pool: its servers, databases and users, statements
    Show {
        /// The pool
        pool: String,
    },
    /// List statements by their shape, those that took the most time first
    Statements(ListArgs),
    /// List clients
    Clients(ListArgs),
    /// List servers, and the connections to them
    Servers(ListArgs),
    /// Let transactions that have not begun wait; those that have go on
    Pause(PoolArgs),
    /// Take a pause back
    Resume(PoolMaybeArgs),
    /// Send traffic to another primary; nothing is promoted
    Failover {
        #[command(flatten)]
        args: PoolArgs,
        /// The server, as the configuration has it; without it, any but the present one
        #[arg(long, value_name = "SERVER")]
        to: Option<String>,
    },
    /// Give a server no new transactions
    Drain {
        #[command(flatten)]
        at: ServerArgs,
        #[command(flatten)]
        why: ReasonArgs,
    },
    /// Take a drain back
    Undrain {
        #[command(flatten)]
        at: ServerArgs,
        #[command(flatten)]
        why: MaybeWhyArgs,
    },
    /// Cancel statements of a shape, or send clients away
    Kill {
        #[command(flatten)]
        args: PoolArgs,
        #[command(flatten)]
        whom: Whom,
    },
    /// Replace every server connection as it becomes free
    Reconnect(PoolMaybeArgs),
}

/// Why
#[derive(Debug, Args)]
pub(super) struct ReasonArgs {
    /// Why, in a sentence; the journal keeps it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct PoolArgs {
    /// The pool
    pool: String,
    #[command(flatten)]
    why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(super) struct PoolMaybeArgs {
    /// The pool
    pool: String,
    #[command(flatten)]
    why: MaybeWhyArgs,
}

#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// The pool
    pool: String,
    /// The server, as the configuration has it
    server: String,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The pool
    pool: String,
    /// How many are shown at most
    #[arg(long, value_name = "N", default_value_t = ROWS, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Whom to end
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whom {
    /// What runs a statement of this shape, by its fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    statement: Option<String>,
    /// Every client of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// This client, by its number
    #[arg(long, value_name = "NUMBER")]
    client: Option<u64>,
}

/// Asks the node, and shows its answer.
pub(super) fn run(command: &RemoteCommand, remote: &Remote, as_json: bool) -> anyhow::Result<ExitCode> {
    let order = |pool: &str, action: &str, reason: &str, more: Value| {
        let mut body = json!({ "reason": reason });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        remote.act(&pool_path(pool, action), &body, as_json)
    };
    let maybe =
        |args: &PoolMaybeArgs, action: &str| remote.act(&pool_path(&args.pool, action), &args.why.body(), as_json);
    match command {
        RemoteCommand::List { pool } => list(&remote.status()?, pool.as_deref(), as_json),
        RemoteCommand::Show { pool } => show(remote, pool, as_json),
        RemoteCommand::Statements(args) => listed(remote, args, "statements", as_json, statements),
        RemoteCommand::Clients(args) => listed(remote, args, "clients", as_json, clients),
        RemoteCommand::Servers(args) => listed(remote, args, "servers", as_json, servers),
        RemoteCommand::Pause(args) => order(&args.pool, "pause", &args.why.reason, json!({})),
        RemoteCommand::Resume(args) => maybe(args, "resume"),
        RemoteCommand::Failover { args, to } => order(&args.pool, "failover", &args.why.reason, json!({ "to": to })),
        RemoteCommand::Drain { at, why } => order(&at.pool, "drain", &why.reason, json!({ "server": at.server })),
        RemoteCommand::Undrain { at, why } => {
            let mut body = why.body();
            body["server"] = at.server.clone().into();
            remote.act(&pool_path(&at.pool, "undrain"), &body, as_json)
        }
        RemoteCommand::Kill { args, whom } => {
            let Whom { statement, user, client } = whom;
            let more = json!({ "statement": statement, "user": user, "client": client });
            order(&args.pool, "kill", &args.why.reason, more)
        }
        RemoteCommand::Reconnect(args) => maybe(args, "reconnect"),
    }
}

fn list(status: &Value, only: Option<&str>, as_json: bool) -> anyhow::Result<ExitCode> {
    let all: Vec<&Value> = status["pools"].as_array().into_iter().flatten().collect();
    let names: Vec<_> = all.iter().filter_map(|pool| pool["name"].as_str()).collect();
    let is_wanted = |pool: &&Value| only.is_none_or(|only| pool["name"] == only);
    let pools: Vec<&Value> = all.iter().copied().filter(is_wanted).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    anyhow::ensure!(
        only.is_none() || !pools.is_empty(),
        "there is no pool {:?}; there is {there}",
        only.unwrap_or_default()
    );
    print(&if as_json { format!("{:#}\n", json!({ "pools": pools })) } else { pools_text(&pools) })?;
    Ok(ExitCode::SUCCESS)
}

fn show(remote: &Remote, pool: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let page = pool_path(pool, "");
    match remote.text(page.trim_start_matches("/v1").trim_end_matches('/'), as_json)? {
        Said::Yes(text) => {
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Said::No { detail, body, .. } => {
            if as_json && body.is_object() {
                print(&format!("{body:#}\n"))?;
            }
            anyhow::bail!("{detail}")
        }
    }
}

fn listed(
    remote: &Remote,
    args: &ListArgs,
    what: &str,
    as_json: bool,
    text: fn(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    let limit = args.limit.to_string();
    let answer = remote.get(&Query::default().with("limit", Some(&limit)).path(&pool_path(&args.pool, what)))?;
    let mut shown = if as_json { format!("{answer:#}\n") } else { text(&answer) };
    if !as_json && answer["more"] == true {
        shown.push_str("there is more: --limit N shows it\n");
    }
    print(&shown)?;
    Ok(ExitCode::SUCCESS)
}

fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value, key: &str) -> String {
    value[key].as_u64().map_or("–".to_owned(), |n| n.to_string())
}

fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 9.95 => format!("{ms:.1} ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1_000.0),
    }
}

fn micros(value: &Value, key: &str) -> String {
    millis(value[key].as_f64().map(|us| us / 1_000.0))
}

fn rows<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    answer[key].as_array().into_iter().flatten()
}

fn pools_text(pools: &[&Value]) -> String {
    let columns = [
        ("POOL", false),
        ("STATE", false),
        ("PRIMARY", false),
        ("CLIENTS", true),
        ("ACTIVE", true),
        ("WAITING", true),
        ("CONNS", true),
        ("TRANS/S", true),
        ("P95", true),
        ("TROUBLE", false),
    ];
    let row = |pool: &&Value| {
        vec![
            word(pool, "name"),
            word(pool, "state"),
            pool["primary"].as_str().unwrap_or("none").to_owned(),
            number(pool, "clients"),
            number(pool, "clients_active"),
            number(pool, "clients_waiting"),
            format!("{}/{}", number(pool, "connections"), number(pool, "max_connections")),
            format!("{:.1}", pool["transactions_per_second"].as_f64().unwrap_or_default()),
            millis(pool["transaction_p95_ms"].as_f64()),
            word(pool, "trouble"),
        ]
    };
    table::render(&columns, &pools.iter().map(row).collect::<Vec<_>>())
}

fn statements(answer: &Value) -> String {
    let columns = [
        ("FINGERPRINT", false),
        ("CALLS", true),
        ("TIME", true),
        ("P50", true),
        ("P99", true),
        ("ROWS", true),
        ("ERRORS", true),
        ("DATABASE", false),
        ("USER", false),
        ("STATEMENT", false),
    ];
    let row = |s: &Value| {
        vec![
            word(s, "fingerprint"),
            number(s, "calls"),
            micros(s, "total_us"),
            micros(s, "p50_us"),
            micros(s, "p99_us"),
            number(s, "rows"),
            number(s, "errors"),
            word(s, "database"),
            word(s, "user"),
            word(s, "text"),
        ]
    };
    table::render(&columns, &rows(answer, "statements").map(row).collect::<Vec<_>>())
}

fn clients(answer: &Value) -> String {
    let columns = [
        ("CLIENT", true),
        ("STATE", false),
        ("WAITS", true),
        ("SINCE", true),
        ("DATABASE", false),
        ("USER", false),
        ("FROM", false),
        ("APPLICATION", false),
        ("QUERY", false),
    ];
    let row = |c: &Value| {
        let waits = c["waiting_ms"].as_f64().filter(|ms| *ms > 0.0);
        vec![
            number(c, "id"),
            word(c, "state"),
            millis(waits),
            span(Duration::from_millis(c["since_request_ms"].as_u64().unwrap_or_default())),
            word(c, "database"),
            word(c, "user"),
            word(c, "address"),
            word(c, "application"),
            word(c, "query"),
        ]
    };
    table::render(&columns, &rows(answer, "clients").map(row).collect::<Vec<_>>())
}

fn servers(answer: &Value) -> String {
    let columns = [
        ("SERVER", false),
        ("ROLE", false),
        ("TIMELINE", true),
        ("BEHIND", true),
        ("VERSION", false),
        ("REASON", false),
    ];
    let server = |s: &Value| {
        vec![
            word(s, "name"),
            word(s, "role"),
            number(s, "timeline"),
            number(s, "lag_bytes"),
            word(s, "version"),
            word(s, "error"),
        ]
    };
    let text = table::render(&columns, &rows(answer, "servers").map(server).collect::<Vec<_>>());
    let columns = [
        ("CONNECTION", true),
        ("STATE", false),
        ("CLIENT", true),
        ("PROCESS", true),
        ("PREPARED", true),
        ("SINCE", true),
        ("SERVER", false),
        ("DATABASE", false),
        ("USER", false),
    ];
    let connection = |c: &Value| {
        vec![
            number(c, "id"),
            word(c, "state"),
            number(c, "client"),
            number(c, "remote_pid"),
            number(c, "prepared"),
            span(Duration::from_millis(c["since_request_ms"].as_u64().unwrap_or_default())),
            word(c, "server"),
            word(c, "database"),
            word(c, "user"),
        ]
    };
    text + "\n" + &table::render(&columns, &rows(answer, "connections").map(connection).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_listed_with_what_matters() {
        let main = json!({ "name": "main", "state": "down", "primary": null, "clients": 40, "clients_active": 0,
            "clients_waiting": 40, "connections": 0, "max_connections": 80, "transactions_per_second": 12.34,
            "transaction_p95_ms": 7.5, "trouble": "a:5432 refused\u{1b}[31m" });
        assert_eq!(
            pools_text(&[&main]),
            "POOL  STATE  PRIMARY  CLIENTS  ACTIVE  WAITING  CONNS  TRANS/S     P95  TROUBLE\n\
             main  down   none          40       0       40   0/80     12.3  7.5 ms  a:5432 refused [31m\n"
        );
    }

    #[test]
    fn statements_clients_and_servers_are_listed() {
        let answer = json!({ "statements": [{ "fingerprint": "00ff", "calls": 3, "total_us": 2_500_000, "p50_us": 800,
            "p99_us": null, "rows": 9, "errors": 0, "database": "shop", "user": "app", "text": "select ?" }] });
        assert_eq!(
            statements(&answer),
            "FINGERPRINT  CALLS   TIME     P50  P99  ROWS  ERRORS  DATABASE  USER  STATEMENT\n\
             00ff             3  2.5 s  0.8 ms    –     9       0  shop      app   select ?\n"
        );
        let answer = json!({ "clients": [{ "id": 7, "state": "waiting", "waiting_ms": 250, "since_request_ms": 75_000,
            "database": "shop", "user": "app", "address": "10.0.0.9:4", "application": "web", "query": "" }] });
        assert!(clients(&answer).contains("7  waiting  250 ms  1 min 15 s  shop"), "{}", clients(&answer));
        let answer = json!({ "servers": [{ "name": "a:5432", "role": "primary", "timeline": 3 }], "connections": [] });
        assert!(servers(&answer).contains("a:5432  primary         3"), "{}", servers(&answer));
    }
}
