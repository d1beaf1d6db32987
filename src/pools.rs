//! Pools of Postgres connections as the console and the command line see them: what the data plane tells, in the console's
//! own types, and orders handed on to it.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use console::view::{
    Acted, ActionError, Order as Asked, PoolAction, PoolClient, PoolConnection, PoolCounts, PoolGroup, PoolServer,
    PoolStatement, PoolView,
};
use pool::orders::{Order, OrderError};
use pool::view;

use crate::operate::check_reason;

/// What is answered later.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The data plane of the pools, as far as operators deal with it.
pub(crate) trait PoolPlane: Debug + Send + Sync {
    /// What every pool is at this moment.
    fn view(&self) -> Vec<view::PoolView>;
    /// Statements of a pool by shape; none without such a pool.
    fn statements(&self, pool: &str) -> Vec<view::StatementView>;
    /// Clients of a pool; none without such a pool.
    fn clients<'a>(&'a self, pool: &'a str) -> Later<'a, Vec<view::ClientView>>;
    /// Server connections of a pool; none without such a pool.
    fn connections<'a>(&'a self, pool: &'a str) -> Later<'a, Vec<view::ConnectionView>>;
    /// Follows an order, and says in a sentence what was done.
    fn order<'a>(
        &'a self,
        pool: &'a str,
        order: Order,
        actor: &'a str,
        reason: &'a str,
    ) -> Later<'a, Result<String, OrderError>>;
}

/// Has an order followed.
pub(crate) async fn act(
    plane: &dyn PoolPlane,
    pool: &str,
    action: &PoolAction,
    asked: &Asked,
) -> Result<Acted, ActionError> {
    check_reason(&asked.reason, action.needs_reason())?;
    match plane.order(pool, order(action), &asked.actor, &asked.reason).await {
        Ok(message) => Ok(Acted { message, kept: false }),
        Err(OrderError::NoPool(name)) => {
            let known = plane.view().into_iter().map(|pool| pool.name).collect();
            Err(ActionError::UnknownPool { name, known })
        }
        Err(error) => Err(ActionError::PoolRefused(error.to_string())),
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
    use std::sync::Mutex;

    use super::*;

    /// A plane that does what it is told, and remembers it.
    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<String>>);

    impl PoolPlane for Told {
        fn view(&self) -> Vec<view::PoolView> {
            Vec::new()
        }
        fn statements(&self, _: &str) -> Vec<view::StatementView> {
            Vec::new()
        }
        fn clients<'a>(&'a self, _: &'a str) -> Later<'a, Vec<view::ClientView>> {
            Box::pin(async { Vec::new() })
        }
        fn connections<'a>(&'a self, _: &'a str) -> Later<'a, Vec<view::ConnectionView>> {
            Box::pin(async { Vec::new() })
        }
        fn order<'a>(
            &'a self,
            pool: &'a str,
            order: Order,
            actor: &'a str,
            reason: &'a str,
        ) -> Later<'a, Result<String, OrderError>> {
            self.0.lock().unwrap().push(format!("{pool} {order} by {actor}: {reason}"));
            Box::pin(async move {
                match (pool, &order) {
                    ("main", Order::KillClient(id)) => Err(OrderError::Nothing(format!("there is no client {id}"))),
                    ("main", _) => Ok("it is done".to_owned()),
                    _ => Err(OrderError::NoPool(pool.to_owned())),
                }
            })
        }
    }

    #[tokio::test]
    async fn an_order_needs_a_reason_where_somebody_is_worse_off_by_it() {
        let plane = Told::default();
        let asked = |reason: &str| Asked { actor: "ops".into(), reason: reason.into(), force: false };
        let refused = act(&plane, "main", &PoolAction::Pause, &asked(" ")).await;
        assert!(matches!(refused, Err(ActionError::BadReason(_))), "{refused:?}");
        let drain = PoolAction::Drain { server: "a:5432".into() };
        assert_eq!(act(&plane, "main", &drain, &asked("disk")).await.unwrap().message, "it is done");
        assert!(act(&plane, "main", &PoolAction::Resume, &asked("")).await.is_ok());
        assert_eq!(*plane.0.lock().unwrap(), ["main drain a:5432 by ops: disk", "main resume by ops: "]);
        let unknown = act(&plane, "other", &PoolAction::Resume, &asked("")).await;
        assert!(matches!(unknown, Err(ActionError::UnknownPool { .. })), "{unknown:?}");
        let nobody = act(&plane, "main", &PoolAction::KillClient(7), &asked("x")).await.unwrap_err();
        assert_eq!(nobody.to_string(), "there is no client 7");
    }
}
