//! Pools: the smallest file works as it stands, what is written is in the plan, and what cannot be is said.

use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use pool::plan::{Listen, Mode, ServerAddress, ServerTlsMode, SessionState};

use super::{ids, read};
use crate::config::load_file;

fn pool(more: &str) -> String {
    let auth = "auth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }";
    format!("[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"127.0.0.1:5432\"]\n{auth}\n{more}")
}

#[test]
fn the_smallest_pool_works_as_it_stands_and_without_a_gateway() {
    let outcome = read(include_str!("../../../examples/pool.toml"));
    assert_eq!(outcome.text(), "", "nothing is to be said about it");
    let compiled = outcome.compiled.unwrap();
    assert!(compiled.listeners.is_empty() && compiled.plan.routes.is_empty());
    assert_eq!(compiled.files, [Path::new("/etc/evenkeel/pg")]);
    let [listening] = compiled.pool_listeners.as_slice() else { panic!("{:?}", compiled.pool_listeners) };
    assert_eq!((listening.name.as_str(), listening.address.to_string().as_str()), ("pool.main", "127.0.0.1:6432"));
    assert!(listening.place.is_some());
    let plan = &compiled.pools.pools[0];
    assert_eq!(plan.name, "main");
    assert_eq!(plan.listen, [Listen::Tcp("127.0.0.1:6432".parse().unwrap())]);
    assert_eq!(plan.servers[0].address, ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port: 5432 });
    assert_eq!((plan.auth.user.as_str(), plan.auth.password.as_str()), ("evenkeel", "of-the-pooler"));
    assert_eq!(
        (plan.auth.database.as_str(), plan.auth.query.as_str()),
        ("postgres", "SELECT usename, passwd FROM evenkeel.user_lookup($1)")
    );
    assert!(plan.auth.users.is_empty() && !plan.auth.methods.certificate && !plan.auth.methods.peer);
    assert_eq!((plan.mode, plan.session_state), (Mode::Transaction, SessionState::Track));
    assert_eq!((plan.size, plan.min_size, plan.reserve, plan.max_connections), (20, 0, 0, 80));
    assert_eq!(
        (plan.max_clients, plan.max_waiting, plan.max_prepared_statements, plan.max_pinned),
        (10_000, 10_000, 200, 10)
    );
    let seconds = Duration::from_secs;
    assert_eq!((plan.reserve_after, plan.queue_timeout, plan.connect_timeout), (seconds(3), seconds(60), seconds(5)));
    assert_eq!((plan.login_timeout, plan.probe_interval), (seconds(15), Duration::from_millis(250)));
    assert_eq!(
        (plan.lifetime, plan.idle_timeout, plan.slow),
        (Some(seconds(3600)), Some(seconds(600)), Some(seconds(1)))
    );
    assert_eq!((plan.client_idle_timeout, plan.query_timeout), (None, None));
    assert_eq!((plan.transaction_timeout, plan.idle_in_transaction_timeout), (None, None));
    assert_eq!((plan.statements, plan.server_tls.mode, plan.server_tls.direct), (1_000, ServerTlsMode::Prefer, false));
    assert!(plan.tls.is_none() && plan.databases.is_none() && plan.rules.is_empty());
}

#[test]
fn what_is_written_of_a_pool_is_in_its_plan() {
    let outcome = load_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/full.toml"));
    let compiled = outcome.compiled.unwrap();
    let plan = &compiled.pools.pools[0];
    assert_eq!(plan.listen[1], Listen::Unix("/run/evenkeel/.s.PGSQL.6432".into()));
    assert_eq!(plan.servers.len(), 2);
    assert_eq!(plan.databases.as_deref().unwrap(), ["shop", "reports"]);
    assert_eq!(plan.auth.users[0].0, "shop");
    assert_eq!((plan.min_size, plan.reserve, plan.idle_in_transaction_timeout), (2, 5, Some(Duration::from_secs(300))));
    let rule = plan.rule("reports", "reporter");
    assert_eq!((rule.mode, rule.session_state, rule.size, rule.min_size), (Mode::Session, SessionState::Pin, 2, 0));
    assert_eq!(plan.server_database("reports", "reporter"), "shop");
    assert_eq!(plan.rule("shop", "reporter").size, 20);
    let tls = plan.tls.as_ref().unwrap();
    assert_eq!((tls.certificates.len(), tls.client_ca.len(), tls.is_required), (1, 1, false));
    assert!(!tls.key.is_empty());
    assert_eq!((plan.server_tls.mode, plan.server_tls.ca.len()), (ServerTlsMode::VerifyFull, 1));
    assert_eq!(
        (plan.admin_users.as_slice(), plan.stats_users.as_slice()),
        (&["postgres".to_owned()][..], &["exporter".to_owned()][..])
    );
    assert!(
        ["userlist.txt", "server.pem", "server.key", "password"]
            .iter()
            .all(|name| compiled.files.iter().any(|f| f.ends_with(name)))
    );
}

#[test]
fn a_password_is_in_no_text_that_comes_out() {
    let reference = read(&pool(""));
    assert!(reference.effective.contains("password = \"${file:/etc/evenkeel/pg}\""), "{}", reference.effective);
    let written = read(&pool("").replace("${file:/etc/evenkeel/pg}", "hunter2-of-the-pooler"));
    assert_eq!(ids(&written), ["password-in-configuration"]);
    let compiled = written.compiled.as_ref().unwrap();
    for text in
        [written.text(), written.effective.clone(), format!("{:?}", written.config), format!("{:?}", compiled.pools)]
    {
        // The line that a finding is about is the user's own.
        let shown = text.lines().filter(|line| !line.contains("4 |")).collect::<String>();
        assert!(!shown.contains("hunter2"), "{text}");
    }
    assert!(reference.effective.contains("mode = \"transaction\""));
    let again = read(&reference.effective);
    assert_eq!((again.text(), again.config), (String::new(), reference.config));
}

#[test]
fn pools_may_share_an_address_if_their_databases_are_their_own() {
    let two = |first: &str, second: &str| {
        let other = pool(second).replace("pool.main", "pool.other");
        read(&format!("{}{other}", pool(first)))
    };
    let apart = two("databases = [\"a\", \"b\"]\n", "databases = [\"c\"]\n");
    assert_eq!(apart.text(), "");
    assert_eq!(apart.compiled.unwrap().pool_listeners.len(), 1);
    assert_eq!(ids(&two("databases = [\"a\", \"b\"]\n", "databases = [\"b\"]\n")), ["pools-share-database"]);
    assert_eq!(ids(&two("databases = [\"a\"]\n", "")), ["pools-share-database"]);
    assert_eq!(
        ids(&read(&pool("").replace("\"127.0.0.1:6432\"", "[\"127.0.0.1:6432\", \"127.0.0.1:6432\"]"))),
        ["same-address"]
    );
    assert_eq!(ids(&read(&pool("").replace("127.0.0.1:6432", "127.0.0.1:7070"))), ["same-address"]);
}

#[test]
fn a_gateway_that_listens_still_needs_something_to_serve() {
    assert_eq!(ids(&read(&pool("[gateway]\nlisten = \"127.0.0.1:8080\"\n"))), ["nothing-to-serve"]);
    let service = "[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\" }\n";
    assert_eq!(ids(&read(&pool(service))), ["no-listener"]);
    assert_eq!(ids(&read(&pool("[gateway]\ndrain_timeout = \"1m\"\n"))), [] as [&str; 0]);
}

#[test]
fn files_that_do_not_hold_what_they_should_are_named() {
    let message = |more: &str| {
        let outcome = read(&pool(more));
        assert_eq!(ids(&outcome), ["unreadable-pool-file"], "{more}\n{}", outcome.text());
        outcome.findings[0].message.clone()
    };
    let tls =
        |certificate: &str, key: &str| message(&format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n"));
    assert_eq!(tls("pool.key", "pool.key"), "the file `pool.key` holds a private key and no certificate");
    assert_eq!(tls("pool.pem", "pool.pem"), "the file `pool.pem` holds no private key in PEM");
    assert_eq!(tls("pool.pem", "none.key"), "the file `none.key` does not exist");
    assert!(tls("pool.pem", "other.key").starts_with("`tls` cannot be used: certificate and key: "));
    let wrong = message("auth_file = \"wrong.txt\"\n");
    assert!(wrong.contains("line 2") && !wrong.contains("hunter2"), "{wrong}");
    assert_eq!(read(&pool("tls = { certificate = \"pool.pem\", key = \"pool.key\" }\n")).text(), "");
}

#[test]
fn what_is_wrong_with_pools() {
    assert_snapshot!(
        read(
            r#"
[pool.main]
listen = ["6432", "/tmp", "unix:tmp", "localhost:6432"]
servers = ["postgres://me:hunter2@db:5433/shop", "::1", "db:x", "/var/run/postgresql"]
auth = { user = "", password = "", query = "select 1" }
auth_file = "wrong.txt"
mode = "sessions"
size = 0
queue_timeout = 30
databases = []
tls = { certificate = "pool.key", key = "pool.pem" }
server_tls = { mode = "verify_full", direct = true }
pool_size = 20

[[pool.main.rule]]
databse = "shop"

[pool.none]
"#
        )
        .text()
    );
}

#[test]
fn lints_on_pools() {
    assert_snapshot!(
        read(
            r#"
[pool.main]
listen = "0.0.0.0:6432"
servers = ["db.internal", "127.0.0.1:6432", "DB.internal:5432"]
auth = { user = "evenkeel", password = "hunter2-of-the-pooler", certificate = true }
auth_file = "md5.txt"
mode = "session"
session_state = "pin"
size = 100
min_size = 200
max_pinned = 100
reserve = 10
reserve_after = "1m"
queue_timeout = "3s"
databases = ["shop"]
server_tls = { direct = true }

[[pool.main.rule]]
database = "blog"
min_size = 300

[[pool.main.rule]]
user = "shop"
"#
        )
        .text()
    );
}
