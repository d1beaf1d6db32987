//! What is printed for a rich file, and that it can be used.

use std::io;
use std::path::PathBuf;

use super::access::PASSWORD_FILE;
use super::*;
use crate::cli::pool::settings;
use crate::config::{self, Outcome, World};

const RICH: &str = r#"
;; a production file
[databases]
shop = host=10.0.0.5,10.0.0.6 port=5433 dbname=shop_production pool_size=30
"shop reports" = host=10.0.0.5,10.0.0.6 port=5433 pool_mode=session pool_size=2 connect_query='set role reporter'
legacy = host=/var/run/postgresql user=legacy password='hunter2 and more' timezone=UTC
* = host=10.0.0.9 auth_user=lookup

[pgbouncer]
listen_addr = 127.0.0.1, ::1
listen_port = 6543
unix_socket_dir = /run/pgbouncer
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
auth_user = pgbouncer
auth_query = SELECT usename, passwd FROM ${odd} user_lookup($1)
pool_mode = transaction
default_pool_size = 25
min_pool_size = 5
reserve_pool_size = 5
reserve_pool_timeout = 2.5
max_client_conn = 4000
max_db_connections = 50
max_user_connections = 40
max_prepared_statements = 0
query_wait_timeout = 0
server_lifetime = 3600
server_idle_timeout = 600
idle_transaction_timeout = 30
server_connect_timeout = 99999
client_login_timeout = soon
ignore_startup_parameters = extra_float_digits, search_path
server_reset_query = DISCARD ALL
server_round_robin = 1
application_name_add_host = 1
admin_users = postgres, admin
stats_users = exporter
client_tls_sslmode = require
client_tls_cert_file = /etc/ssl/pgbouncer.pem
client_tls_key_file = /etc/ssl/pgbouncer.key
server_tls_sslmode = verify-full
server_tls_ca_file = /etc/ssl/rds.pem
logfile = /var/log/pgbouncer.log
pidfile = /run/pgbouncer.pid
tcp_keepalive = 1
frobnicate = 1

[users]
reporter = pool_mode=session max_user_connections=10
batch = pool_size=3 query_timeout=5

[peers]
1 = host=/tmp/1
"#;

const USERS: &str =
    "\"shop\" \"SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy\"\n\"old\" \"md5d41d8cd98f00b204e9800998ecf8427e\"\n";

/// What the configuration's own reader says of a text.
fn check(text: &str) -> Outcome {
    let read = |path: &Path, _: usize| match path.to_str() {
        Some(PASSWORD_FILE) => Ok(b"of-the-pooler\n".to_vec()),
        Some(path) if path.ends_with("userlist.txt") => Ok(USERS.as_bytes().to_vec()),
        Some(path) if path.ends_with(".pem") => Ok(include_bytes!("../../../examples/pool/server.pem").to_vec()),
        Some(path) if path.ends_with(".key") => Ok(include_bytes!("../../../examples/pool/server.key").to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let (env, resolve) = (|_: &str| None, |_: &str| Ok(Vec::new()));
    let world = World { directory: PathBuf::new(), env: &env, read: &read, resolve: &resolve };
    config::load("pools.toml", text.to_owned(), &world)
}

#[test]
fn a_rich_file_becomes_pools_that_can_be_used() {
    let made = import("pgbouncer.ini", RICH, Some(("userlist.txt", USERS))).unwrap();
    insta::assert_snapshot!(made);
    assert!(!made.contains("hunter2"));
    let outcome = check(&made);
    assert!(!outcome.has_errors(), "{}\n{made}", outcome.text());
    let mut pools = outcome.compiled.unwrap().pools.pools;
    assert_eq!(pools.len(), 2);
    pools.sort_by_key(|pool| pool.name != "main");
    assert_eq!(pools[0].servers.len(), 2);
    assert_eq!((pools[0].size, pools[0].max_clients, pools[0].max_connections), (25, 4000, 100));
    assert_eq!(pools[0].server_database("shop", "any"), "shop_production");
    assert_eq!(pools[0].rule("shop", "any").size, 30);
    assert_eq!(pools[1].name, "legacy-2");
    assert_eq!(pools[0].auth.query, "SELECT usename, passwd FROM ${odd} user_lookup($1)");
}

#[test]
fn the_smallest_file_keeps_what_its_defaults_were() {
    let made =
        import("pgbouncer.ini", "[databases]\n* = host=localhost\n[pgbouncer]\nlisten_addr = *\n", None).unwrap();
    insta::assert_snapshot!(made);
    let outcome = check(&made);
    assert!(!outcome.has_errors(), "{}", outcome.text());
}

#[test]
fn what_cannot_be_taken_over_is_said() {
    let wrong = |text: &str| import("x", text, None).unwrap_err().join("\n");
    assert!(wrong("[databases]\n").contains("nothing to pool"));
    assert!(wrong("%include /etc/pgbouncer/databases.ini\n").contains("import the whole"));
    assert!(wrong("[databases]\na = host=x\n[pgbouncer]\nlisten_port = 0\n").contains("is no port"));
    let users = import("x", "[databases]\na = host=x\n", Some(("users", "shop hunter2\n"))).unwrap_err().join("\n");
    assert!(users.starts_with("users: ") && !users.contains("hunter2"), "{users}");
}

#[test]
fn each_setting_that_is_taken_over_fits_the_key_that_it_becomes() {
    let names = RICH.lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key));
    assert!(names.filter(|key| settings::fate(key).is_some()).count() > 25);
    let mut tried = 0;
    for key in [
        "default_pool_size",
        "min_pool_size",
        "reserve_pool_size",
        "reserve_pool_timeout",
        "max_client_conn",
        "query_wait_timeout",
        "server_connect_timeout",
        "client_login_timeout",
        "server_lifetime",
        "server_idle_timeout",
        "client_idle_timeout",
        "query_timeout",
        "idle_transaction_timeout",
        "transaction_timeout",
        "max_prepared_statements",
    ] {
        for value in ["0", "1", "0.001", "3", "99999999999"] {
            let text =
                format!("[databases]\na = host=localhost\n[pgbouncer]\nlisten_addr=127.0.0.1\n{key} = {value}\n");
            let outcome = check(&import("x", &text, None).unwrap());
            assert!(!outcome.has_errors(), "{key} = {value}\n{}", outcome.text());
            tried += 1;
        }
    }
    assert_eq!(tried, 75);
}
