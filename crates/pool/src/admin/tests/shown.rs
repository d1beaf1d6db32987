//! Each `SHOW`: the columns are those that PgBouncer 1.25.2 sends, read from its answers and its source.

use super::*;

fn columns_of(what: &str) -> String {
    let all = ask(&node(), &format!("SHOW {what}"));
    assert_eq!(all.last().map(String::as_str), Some("ready I"), "{what}");
    assert_eq!(all[all.len() - 2], "done SHOW", "{what}");
    all[0].strip_prefix("columns ").unwrap().to_owned()
}

fn rows_of(what: &str) -> Vec<String> {
    let all = ask(&node(), &format!("SHOW {what}"));
    all.iter().filter_map(|line| line.strip_prefix("row ")).map(str::to_owned).collect()
}

#[test]
fn columns_are_those_of_pgbouncer() {
    let sockets = "type user database replication state addr port:int4 local_addr local_port:int4 connect_time \
        request_time wait:int4 wait_us:int4 close_needed:int4 ptr link remote_pid:int4 tls application_name \
        prepared_statements:int4 id:int4";
    let counts = "server_assignment_count:numeric xact_count:numeric query_count:numeric";
    let times = "xact_time:numeric query_time:numeric wait_time:numeric";
    let bytes = "bytes_received:numeric bytes_sent:numeric";
    for (what, columns) in [
        (
            "POOLS",
            "database user cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 \
             sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 sv_used:int4 sv_tested:int4 \
             sv_login:int4 maxwait:int4 maxwait_us:int4 pool_mode load_balance_hosts"
                .to_owned(),
        ),
        ("CLIENTS", sockets.to_owned()),
        ("SERVERS", sockets.to_owned()),
        (
            "SOCKETS",
            format!(
                "{sockets} recv_pos:int4 pkt_pos:int4 pkt_remain:int4 send_pos:int4 send_remain:int4 pkt_avail:int4 \
                 send_avail:int4"
            ),
        ),
        (
            "STATS",
            "database total_server_assignment_count:numeric total_xact_count:numeric total_query_count:numeric \
             total_received:numeric total_sent:numeric total_xact_time:numeric total_query_time:numeric \
             total_wait_time:numeric total_client_parse_count:numeric total_server_parse_count:numeric \
             total_bind_count:numeric avg_server_assignment_count:numeric avg_xact_count:numeric \
             avg_query_count:numeric avg_recv:numeric avg_sent:numeric avg_xact_time:numeric avg_query_time:numeric \
             avg_wait_time:numeric avg_client_parse_count:numeric avg_server_parse_count:numeric \
             avg_bind_count:numeric"
                .to_owned(),
        ),
        (
            "STATS_TOTALS",
            format!(
                "database {counts} {bytes} {times} client_parse_count:numeric server_parse_count:numeric \
                 bind_count:numeric"
            ),
        ),
        (
            "STATS_AVERAGES",
            format!(
                "database {counts} {bytes} {times} avg_client_parse_count:numeric avg_server_parse_count:numeric \
                 avg_bind_count:numeric"
            ),
        ),
        ("TOTALS", "name value:numeric".to_owned()),
        (
            "DATABASES",
            "name host port:int4 database force_user pool_size:int4 min_pool_size:int4 reserve_pool_size:int4 \
             server_lifetime:int4 pool_mode load_balance_hosts max_connections:int4 current_connections:int4 \
             max_client_connections:int4 current_client_connections:int4 paused:int4 disabled:int4"
                .to_owned(),
        ),
        ("CONFIG", "key value default changeable".to_owned()),
        ("LISTS", "list items:int4".to_owned()),
        (
            "USERS",
            "name pool_size reserve_pool_size pool_mode max_user_connections:int4 current_connections:int4 \
             max_user_client_connections:int4 current_client_connections:int4"
                .to_owned(),
        ),
        ("VERSION", "version".to_owned()),
        ("MEM", "name size:int4 used:int4 free:int4 memtotal:int4".to_owned()),
        ("STATE", "key value".to_owned()),
        ("PEERS", "peer_id:int4 host port:int4 pool_size:int4".to_owned()),
        (
            "PEER_POOLS",
            "peer_id:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active_cancel:int4 sv_login:int4"
                .to_owned(),
        ),
        ("DNS_HOSTS", "hostname ttl:int8 addrs".to_owned()),
        ("DNS_ZONES", "zonename serial:int8 count:int4".to_owned()),
    ] {
        assert_eq!(columns_of(what), columns, "{what}");
        // A row has a value for each column; what would be missing is found here.
        let count = columns.split(' ').count();
        assert!(rows_of(what).iter().all(|row| row.split('|').count() == count), "{what}");
    }
}

#[test]
fn pools_and_databases() {
    assert_eq!(
        rows_of("POOLS"),
        [
            "shop|app|24|2|0|0|4|0|0|3|0|0|1|1|250000|transaction|NULL",
            "shop|itü|0|0|0|0|0|0|0|1|0|0|0|0|0|transaction|NULL",
        ]
    );
    assert_eq!(
        rows_of("DATABASES"),
        [
            "reports|10.0.0.2|5433|reports_v2|NULL|3|1|5|3600|session|NULL|80|0|10000|0|0|0",
            "shop|10.0.0.2|5433|shop|NULL|20|1|5|3600|NULL|NULL|80|9|10000|26|0|0",
        ]
    );
    assert_eq!(rows_of("USERS"), ["app|||NULL|0|8|0|26", "itü|||NULL|0|1|0|0"]);
    assert_eq!(rows_of("STATE"), ["active|yes", "paused|no", "suspended|no"]);
}

#[test]
fn groups_of_the_same_names_are_one_row() {
    let node = node();
    let mut second = pool("second");
    second.groups = vec![group("shop", "app", 5)];
    node.pools.lock().unwrap().push(second);
    let rows = |what: &str| ask(&node, what).into_iter().filter(|line| line.starts_with("row shop")).count();
    assert_eq!((rows("SHOW POOLS"), rows("SHOW STATS"), rows("SHOW STATS_TOTALS")), (2, 1, 1));
}

#[test]
fn clients_and_servers() {
    assert_eq!(
        rows_of("CLIENTS"),
        ["C|app|shop|none|active|::1|50123||0|2026-03-01 12:00:00 UTC|2026-03-01 12:01:38 UTC|0|0|0|0x11|0x5|0|TLS|\
          billing|3|17"]
    );
    assert_eq!(
        rows_of("SERVERS"),
        [
            "S|app|shop|none|tested|/run/postgresql/.s.PGSQL.5432|0||0|2026-03-01 12:00:00 UTC|2026-03-01 12:00:40 UTC|0|\
          0|0|0x5|0x11|4242||billing|9|5"
        ]
    );
    assert_eq!(rows_of("SOCKETS").len(), 2);
}

#[test]
fn stats_are_totals_and_averages_of_the_last_period() {
    assert_eq!(
        rows_of("STATS"),
        ["shop|1000|1010|3000|7000000000|0|5000000|0|90000|0|0|0|10|6|20|60000000|0|8196|0|90|0|0|0"]
    );
    assert_eq!(rows_of("STATS_TOTALS"), ["shop|1000|1010|3000|7000000000|0|5000000|0|90000|0|0|0"]);
    assert_eq!(rows_of("STATS_AVERAGES"), ["shop|10|6|20|60000000|0|8196|0|90|0|0|0"]);
    let totals = rows_of("TOTALS");
    assert_eq!((totals.len(), totals[1].as_str()), (22, "total_xact_count|1010"));
    assert_eq!((totals[3].as_str(), totals[21].as_str()), ("total_client_bytes|7000000000", "avg_ps_bind_count|0"));
}

#[test]
fn what_the_rest_says() {
    let lists = rows_of("LISTS");
    let names: Vec<_> = lists.iter().map(|row| row.split('|').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "databases",
            "users",
            "peers",
            "pools",
            "peer_pools",
            "free_clients",
            "used_clients",
            "login_clients",
            "free_servers",
            "used_servers",
            "dns_names",
            "dns_zones",
            "dns_queries",
            "dns_pending",
        ]
    );
    assert_eq!(
        (lists[1].as_str(), lists[6].as_str(), lists[9].as_str()),
        ("users|2", "used_clients|30", "used_servers|9")
    );
    let config = rows_of("CONFIG");
    for row in [
        "default_pool_size|20|NULL|yes",
        "listen_port|6432|NULL|no",
        "max_client_conn|20000|NULL|yes",
        "max_user_connections|0|NULL|yes",
        "server_connect_timeout|2.5|NULL|yes",
        "unix_socket_dir|/run/evenkeel|NULL|yes",
    ] {
        assert!(config.contains(&row.to_owned()), "{row}: {config:?}");
    }
    assert!(config.is_sorted() && !config.iter().any(|row| row.contains("secret")));
    let version = &rows_of("VERSION")[0];
    assert!(version.starts_with("PgBouncer 1.25.2 compatible (Evenkeel "), "{version}");
    assert_eq!(rows_of("STATEMENTS"), ["main|shop|app|00000000000000ab|5|1|4|500|90|NULL|select ?"]);
    let help = ask(&node(), "SHOW HELP");
    assert_eq!(help, ["NOTICE 00000 Console usage", "done SHOW", "ready I"]);
}
