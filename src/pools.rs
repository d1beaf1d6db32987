//! Pools of Postgres connections as the console and the command line see them: what the data plane tells, in the console's
//! own types, and orders handed on to it.

use console::view::{
    Acted, ActionError, Order as Asked, PoolAction, PoolClient, PoolConnection, PoolCounts, PoolGroup, PoolServer,
    PoolStatement, PoolView,
};
use pool::orders::{Order, OrderError};
use pool::{Pools, view};

use crate::operate::check_reason;

/// Has an order followed.
pub(crate) async fn act(pools: &Pools, pool: &str, action: &PoolAction, asked: &Asked) -> Result<Acted, ActionError> {
    check_reason(&asked.reason, action.needs_reason())?;
    let outcome = pools.order(pool, order(action), &asked.actor, &asked.reason).await;
    outcome.map(acted).map_err(|error| refused(error, || pools.view().into_iter().map(|pool| pool.name).collect()))
}

/// What is done holds until the process ends.
fn acted(message: String) -> Acted {
    Acted { message: format!("{message}."), kept: false }
}

fn refused(error: OrderError, known: impl FnOnce() -> Vec<String>) -> ActionError {
    match error {
        OrderError::NoPool(name) => ActionError::UnknownPool { name, known: known() },
        error => ActionError::PoolRefused(error.to_string()),
    }
}

fn order(action: &PoolAction) -> Order {
    match action {
        PoolAction::Pause => Order::Pause,
        PoolAction::Resume => Order::Resume,
        PoolAction::Failover { to } => Order::Failover { to: to.clone() },
        PoolAction::Drain { server } => Order::Drain { server: server.clone() },
        PoolAction::Undrain { server } => Order::Undrain { server: server.clone() },
        PoolAction::KillStatement(fingerprint) => Order::KillFingerprint(fingerprint.clone()),
        PoolAction::KillUser(user) => Order::KillUser(user.clone()),
        PoolAction::KillClient(id) => Order::KillClient(*id),
        PoolAction::Reconnect => Order::Reconnect,
    }
}

/// A pool.
pub(crate) fn pool(from: view::PoolView) -> PoolView {
    PoolView {
        name: from.name,
        listen: from.listen,
        mode: from.mode.to_owned(),
        is_paused: from.is_paused,
        servers: from.servers.into_iter().map(server).collect(),
        primary: from.primary,
        trouble: from.trouble,
        max_connections: from.max_connections,
        connections: from.connections,
        clients: from.clients,
        max_clients: from.max_clients,
        groups: from.groups.into_iter().map(group).collect(),
    }
}

fn server(from: view::ServerView) -> PoolServer {
    PoolServer {
        name: from.name,
        role: from.role.to_owned(),
        error: from.error,
        timeline: from.timeline,
        lsn: from.lsn,
        lag_bytes: from.lag_bytes,
        answered_ms: from.answered.map(millis),
        version: from.version,
        max_connections: from.max_connections,
    }
}

fn group(from: view::GroupView) -> PoolGroup {
    PoolGroup {
        database: from.database,
        user: from.user,
        mode: from.mode.to_owned(),
        size: from.size,
        clients_active: from.clients_active,
        clients_waiting: from.clients_waiting,
        clients_idle: from.clients_idle,
        clients_pinned: from.clients_pinned,
        servers_active: from.servers_active,
        servers_idle: from.servers_idle,
        servers_busy: from.servers_busy,
        max_wait: from.max_wait,
        counts: counts(from.totals),
    }
}

fn counts(from: view::Totals) -> PoolCounts {
    let failures = view::Totals::FAILURES.iter().map(|kind| (*kind).to_owned()).zip(from.failures);
    PoolCounts {
        transactions: from.transactions,
        failed: from.failed,
        queries: from.queries,
        server_errors: from.server_errors,
        failures: failures.collect(),
        moved: from.moved,
        received: from.received,
        sent: from.sent,
        opened: from.opened,
        replays: from.replays,
        pins: from.pins,
        wait: from.wait,
        query: from.query,
        transaction: from.transaction,
    }
}

/// Statements of one shape.
pub(crate) fn statement(from: view::StatementView) -> PoolStatement {
    PoolStatement {
        database: from.database,
        user: from.user,
        fingerprint: from.fingerprint,
        text: from.text,
        calls: from.calls,
        errors: from.errors,
        rows: from.rows,
        total_us: from.total_us,
        p50_us: from.p50_us,
        p99_us: from.p99_us,
    }
}

/// A client.
pub(crate) fn client(from: view::ClientView) -> PoolClient {
    PoolClient {
        id: from.id,
        database: from.database,
        user: from.user,
        application: from.application,
        state: from.state.to_owned(),
        address: from.address,
        server: from.server,
        connected_unix_s: from.connected_unix,
        waiting_ms: millis(from.waiting),
        since_request_ms: millis(from.since_request),
        prepared: from.prepared,
        is_tls: from.is_tls,
        query: from.query,
    }
}

/// A server connection.
pub(crate) fn connection(from: view::ConnectionView) -> PoolConnection {
    PoolConnection {
        id: from.id,
        database: from.database,
        user: from.user,
        state: from.state.to_owned(),
        server: from.server,
        client: from.client,
        remote_pid: from.remote_pid,
        connected_unix_s: from.connected_unix,
        since_request_ms: millis(from.since_request),
        prepared: from.prepared,
        is_tls: from.is_tls,
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_is_the_order_of_the_same_word() {
        let actions = [
            PoolAction::Pause,
            PoolAction::Resume,
            PoolAction::Failover { to: Some("b:5432".into()) },
            PoolAction::Drain { server: "a:5432".into() },
            PoolAction::Undrain { server: "a:5432".into() },
            PoolAction::KillStatement("00ff".into()),
            PoolAction::KillUser("batch".into()),
            PoolAction::KillClient(7),
            PoolAction::Reconnect,
        ];
        for action in &actions {
            assert_eq!(order(action).word(), action.word(), "{action:?}");
            assert_eq!(check_reason("", action.needs_reason()).is_err(), action.needs_reason(), "{action:?}");
        }
        assert_eq!(order(&actions[2]).to_string(), "failover to b:5432");
    }

    #[test]
    fn what_is_not_done_is_said_with_what_there_is() {
        let known = || vec!["main".to_owned()];
        let unknown = refused(OrderError::NoPool("man".into()), known).to_string();
        assert_eq!(unknown, "there is no pool \"man\"; there is main");
        let nobody = refused(OrderError::Nothing("there is no client 7".into()), known);
        assert_eq!(nobody, ActionError::PoolRefused("there is no client 7".into()));
    }
}
