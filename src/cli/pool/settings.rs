//! What becomes of each setting of PgBouncer's `[pgbouncer]` section: a key of `[pool.NAME]`, or a reason why there is none.
//! Ranges are those of the keys; a test reads what is made of them with the configuration's own types.

/// What becomes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// A duration in seconds: the key, its least and most in milliseconds. 0 sets no limit here too if the least is 0.
    Seconds(&'static str, u64, u64),
    /// A number: the key, its least and most.
    Count(&'static str, u64, u64),
    /// Names with commas between them.
    Names(&'static str),
    /// It is looked at by itself.
    Apart,
    /// There is nothing like it, and why.
    Without(&'static str),
    /// Nothing of the kind is needed here, and why.
    Needless(&'static str),
}

use Fate::{Apart, Count, Names, Needless, Seconds, Without};

const DAY: u64 = 86_400_000;

const SYSTEM: &str = "how the process runs is for the service manager to say";
const LOGGED: &str = "the log, the journal and the metrics tell it; `[pool.NAME] slow` logs slow statements";
const SOCKETS: &str = "sockets and buffers are set as a pooler needs them";
const DNS: &str = "names are resolved anew for each connection";
const NOTHING: &str = "there is nothing like it";

/// What becomes of the setting `key`, which is in lower case; `None`: PgBouncer has no such setting.
pub(super) fn fate(key: &str) -> Option<Fate> {
    Some(match key {
        "listen_addr"
        | "listen_port"
        | "unix_socket_dir"
        | "auth_file"
        | "auth_user"
        | "auth_query"
        | "auth_dbname"
        | "auth_type"
        | "pool_mode"
        | "max_db_connections"
        | "max_prepared_statements"
        | "client_tls_sslmode"
        | "client_tls_key_file"
        | "client_tls_cert_file"
        | "client_tls_ca_file"
        | "server_tls_sslmode"
        | "server_tls_ca_file" => Apart,
        "default_pool_size" => Count("size", 1, 10_000),
        "min_pool_size" => Count("min_size", 0, 10_000),
        "reserve_pool_size" => Count("reserve", 0, 10_000),
        "reserve_pool_timeout" => Seconds("reserve_after", 0, 600_000),
        "max_client_conn" => Count("max_clients", 1, 1_000_000),
        "query_wait_timeout" => Seconds("queue_timeout", 100, 3_600_000),
        "server_connect_timeout" => Seconds("connect_timeout", 100, 600_000),
        "client_login_timeout" => Seconds("login_timeout", 1_000, 600_000),
        "server_lifetime" => Seconds("lifetime", 0, 30 * DAY),
        "server_idle_timeout" => Seconds("idle_timeout", 0, 30 * DAY),
        "client_idle_timeout" => Seconds("client_idle_timeout", 0, 30 * DAY),
        "query_timeout" => Seconds("query_timeout", 0, 30 * DAY),
        "idle_transaction_timeout" => Seconds("idle_in_transaction_timeout", 0, 30 * DAY),
        "transaction_timeout" => Seconds("transaction_timeout", 0, 30 * DAY),
        "admin_users" => Names("admin_users"),
        "stats_users" => Names("stats_users"),
        "max_user_connections" => Without("a user's connections are bounded for each database: see `size` of a rule"),
        "max_db_client_connections" | "max_user_client_connections" => {
            Without("clients are bounded for the whole pool: see `max_clients`")
        }
        "auth_hba_file" | "auth_ident_file" => Without(
            "who may connect from where is for the network and for Postgres to say; see `tls`, and `peer` of `auth`",
        ),
        "auth_ldap_options" | "auth_ldap_parameter" => Without("passwords are checked with what Postgres has stored"),
        "server_tls_key_file" | "server_tls_cert_file" => {
            Without("the pooler shows Postgres no certificate of its own; it logs in with passwords")
        }
        "server_check_query" | "server_check_delay" => {
            Needless("a connection that has closed is noticed at once, and never handed out")
        }
        "server_reset_query" | "server_reset_query_always" | "track_extra_parameters" | "ignore_startup_parameters" => {
            Needless("settings follow their client, and other state never reaches another one: see `session_state`")
        }
        "server_login_retry" => {
            Needless("while no primary answers, clients wait and it is asked several times a second")
        }
        "server_fast_close" | "server_round_robin" => {
            Needless("connections are closed and chosen by their age and their state")
        }
        "cancel_wait_timeout" => Needless("a cancel reaches a client that waits, at once"),
        "suspend_timeout" | "so_reuseport" | "peer_id" => Needless(
            "a new process takes over from the old one (`evenkeel up --take-over`), and one process uses every core",
        ),
        "application_name_add_host" => Needless("`evenkeel pool clients` shows where each client comes from"),
        "disable_pqexec" | "scram_iterations" | "query_wait_notify" | "user_idle_timeout" => Without(NOTHING),
        "logfile" | "syslog" | "syslog_ident" | "syslog_facility" | "log_connections" | "log_disconnections"
        | "log_pooler_errors" | "log_stats" | "stats_period" | "verbose" => Needless(LOGGED),
        "pidfile" | "user" | "job_name" | "service_name" | "conffile" | "resolv_conf" | "unix_socket_mode"
        | "unix_socket_group" => Needless(SYSTEM),
        "dns_max_ttl" | "dns_nxdomain_ttl" | "dns_zone_check_period" => Needless(DNS),
        "pkt_buf" | "max_packet_size" | "listen_backlog" | "sbuf_loopcnt" | "tcp_defer_accept"
        | "tcp_socket_buffer" | "tcp_keepalive" | "tcp_keepcnt" | "tcp_keepidle" | "tcp_keepintvl"
        | "tcp_user_timeout" => Needless(SOCKETS),
        "client_tls_protocols"
        | "client_tls_ciphers"
        | "client_tls13_ciphers"
        | "client_tls_ecdhcurve"
        | "client_tls_dheparams"
        | "server_tls_protocols"
        | "server_tls_ciphers"
        | "server_tls13_ciphers" => Needless("TLS 1.2 and 1.3 with their good ciphers, and no others"),
        _ => return None,
    })
}

/// The defaults of PgBouncer that differ from those of a pool, and are to be kept: setting and value.
pub(super) const DEFAULTS: [(&str, &str); 4] = [
    ("pool_mode", "session"),
    ("query_wait_timeout", "120"),
    ("server_connect_timeout", "15"),
    ("client_login_timeout", "60"),
];
