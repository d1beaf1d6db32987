//! What the node tells of transactions: where its pools listen, the line about a slow statement and the story behind its id,
//! and counts in the store that are exact.

use std::collections::BTreeMap;

use testkit::postgres::Instance;
use testkit::{Binary, eventually};

use crate::pooling::{connect, prepare, runtime};
use crate::support::{COMMAND, Metrics, SOON, ask, json};

fn up(server: &Instance, more: &str) -> Binary {
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[pool.main]\nlisten = \"127.0.0.1:0\"\nservers = [\"{}\"]\n\
         auth = {{ user = \"evenkeel\", password = \"evenkeel\" }}\nsize = 3\n{more}\n",
        server.addr(),
    );
    Binary::up(&config).unwrap()
}

fn tell(node: &Binary, args: &[&str]) -> String {
    let admin = node.console().to_string();
    let ended = Binary::run(&[args, &["--admin", &admin]].concat(), Some(node.directory()), COMMAND).unwrap();
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    ended.stdout
}

#[test]
fn a_slow_statement_is_logged_and_why_tells_what_happened() {
    let server = Instance::start().unwrap();
    prepare(&server);
    let node = up(&server, "slow = \"100ms\"");
    let [door] = node.addrs("pool main")[..] else { panic!("{}", node.logs()) };
    let runtime = runtime();
    runtime.block_on(async {
        let client = connect(door.port()).await.unwrap();
        client.batch_execute("begin").await.unwrap();
        client.batch_execute("select pg_sleep(0.15), 'hidden' as slow_one").await.unwrap();
        client.batch_execute("commit").await.unwrap();
    });
    let log = node.wait_log("slow_one", SOON).unwrap();
    let line = log.lines().find(|line| line.contains("slow_one")).unwrap();
    assert!(!line.contains("hidden"), "{line}");
    let id = line.split('"').find(|part| part.starts_with("tx-")).unwrap();
    let why = eventually(SOON, "the end of the transaction", || {
        let page = ask(node.console(), &format!("GET /v1/why/{id}\nAccept: text/plain"));
        (page.status == 200).then(|| page.text())
    });
    for text in [why, tell(&node, &["why", id])] {
        for part in ["select pg_sleep(?), ? as slow_one", "on a connection to", "commit", id] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert!(tell(&node, &["why"]).contains(id));
    assert!(ask(node.console(), "GET /why\nAccept: text/html").text().contains(id));
}

/// What the store has of the pool: transactions that ended well, and those that failed.
fn kept(node: &Binary) -> (u64, u64) {
    let page = json(&ask(node.console(), "GET /v1/tallies?scope=pool&name=main&step=15s"));
    let sum = |class: &str| {
        let periods = page["periods"].as_array().map(Vec::as_slice).unwrap_or_default();
        periods.iter().map(|period| period["answers"][class].as_u64().unwrap()).sum()
    };
    (sum("2xx"), sum("5xx"))
}

#[test]
fn the_store_counts_every_transaction() {
    let server = Instance::start().unwrap();
    prepare(&server);
    let node = up(&server, "");
    let door = node.addrs("pool main")[0];
    let runtime = runtime();
    let (well, failed) = (200, 30);
    runtime.block_on(async {
        let mut all = Vec::new();
        for _ in 0..10 {
            let client = connect(door.port()).await.unwrap();
            all.push(tokio::spawn(async move {
                for _ in 0..well / 10 {
                    client.batch_execute("begin; select 1; commit").await.unwrap();
                }
                for _ in 0..failed / 10 {
                    client.batch_execute("select 1 / 0").await.unwrap_err();
                }
            }));
        }
        for one in all {
            one.await.unwrap();
        }
    });
    eventually(SOON, "what was counted is kept", || (kept(&node) == (well, failed)).then_some(()));
    let metrics = Metrics::of(&node);
    let found: BTreeMap<_, _> = metrics.starting("evenkeel_pool_transactions_total{").into_iter().collect();
    assert_eq!(found.values().sum::<f64>() as u64, well + failed, "{found:?}");
    let subjects = json(&ask(node.console(), "GET /v1/tallies"));
    assert!(subjects["subjects"].as_array().unwrap().iter().any(|subject| subject["scope"] == "pool"), "{subjects}");
}
