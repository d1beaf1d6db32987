//! `SHOW CONFIG`: what a pool's plan says, in the words and units of PgBouncer's configuration. Of several pools it is the
//! first, which is the one that the console was reached by; only clients are added up.

use std::sync::Arc;
use std::time::Duration;

use crate::plan::{Listen, Mode, PoolPlan, ServerTlsMode};

/// The word for a mode.
pub(super) const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Transaction => "transaction",
        Mode::Session => "session",
        Mode::Statement => "statement",
    }
}

const fn tls_mode(mode: ServerTlsMode) -> &'static str {
    match mode {
        ServerTlsMode::Disable => "disable",
        ServerTlsMode::Prefer => "prefer",
        ServerTlsMode::Require => "require",
        ServerTlsMode::VerifyCa => "verify-ca",
        ServerTlsMode::VerifyFull => "verify-full",
    }
}

/// Seconds; 0 stands for never. Less than one is written with its decimals.
fn seconds(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => duration.as_secs().to_string(),
        _ => duration.as_secs_f64().to_string(),
    }
}

fn never(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "0".to_owned(), seconds)
}

/// Names and values, by name. All of them can be there without a plan, too.
pub(super) fn all(plans: &[Arc<PoolPlan>]) -> Vec<(&'static str, String)> {
    let clients: u64 = plans.iter().map(|plan| u64::from(plan.max_clients)).sum();
    let Some(plan) = plans.first() else { return vec![("max_client_conn", "0".to_owned())] };
    let tcp: Vec<_> = plan
        .listen
        .iter()
        .filter_map(|listen| match listen {
            Listen::Tcp(address) => Some(address),
            Listen::Unix(_) => None,
        })
        .collect();
    let unix = plan.listen.iter().find_map(|listen| match listen {
        Listen::Unix(path) => path.parent(),
        Listen::Tcp(_) => None,
    });
    let client_tls = match &plan.tls {
        None => "disable",
        Some(tls) if !tls.is_required => "allow",
        Some(tls) if tls.client_ca.is_empty() => "require",
        Some(_) => "verify-full",
    };
    vec![
        ("admin_users", plan.admin_users.join(",")),
        ("auth_query", plan.auth.query.clone()),
        ("auth_user", plan.auth.user.clone()),
        ("client_idle_timeout", never(plan.client_idle_timeout)),
        ("client_login_timeout", seconds(plan.login_timeout)),
        ("client_tls_sslmode", client_tls.to_owned()),
        ("default_pool_size", plan.size.to_string()),
        ("idle_transaction_timeout", never(plan.idle_in_transaction_timeout)),
        ("listen_addr", tcp.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(",")),
        ("listen_port", tcp.first().map_or(0, |address| address.port()).to_string()),
        ("max_client_conn", clients.to_string()),
        ("max_db_connections", plan.max_connections.to_string()),
        ("max_prepared_statements", plan.max_prepared_statements.to_string()),
        ("max_user_connections", "0".to_owned()),
        ("min_pool_size", plan.min_size.to_string()),
        ("pool_mode", mode(plan.mode).to_owned()),
        ("query_timeout", never(plan.query_timeout)),
        ("query_wait_timeout", seconds(plan.queue_timeout)),
        ("reserve_pool_size", plan.reserve.to_string()),
        ("reserve_pool_timeout", seconds(plan.reserve_after)),
        ("server_connect_timeout", seconds(plan.connect_timeout)),
        ("server_idle_timeout", never(plan.idle_timeout)),
        ("server_lifetime", never(plan.lifetime)),
        ("server_tls_sslmode", tls_mode(plan.server_tls.mode).to_owned()),
        ("stats_period", super::averages::PERIOD.as_secs().to_string()),
        ("stats_users", plan.stats_users.join(",")),
        ("transaction_timeout", never(plan.transaction_timeout)),
        ("unix_socket_dir", unix.map(|path| path.display().to_string()).unwrap_or_default()),
    ]
}
