//! What a node tells and does when the console asks.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use console::view::{
    Acted, ActionError, ConfigView, DeployMark, EndpointAction, NoTallies, NodeView, Order, PoolAction, PoolClient,
    PoolConnection, PoolStatement, ReloadView, ServiceAction,
};
use console::{Node, Readiness};
use kernel::Finding;
use kernel::journal::JournalReader;
use kernel::store::FileHealth;
use kernel::tally::TallyReader;
use kernel::trace::{TraceLine, Why};
use observe::Format;
use tokio::runtime::Handle;

use super::Inner;
use crate::{pools, views};

/// What somebody who tells of a deployment waits for the disk.
const DEPLOY_WAIT: Duration = Duration::from_secs(5);

impl Node for Inner {
    fn view(&self) -> NodeView {
        let view = self.gateway.view();
        let now = self.clock.now();
        let last = self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
        NodeView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: now.since(self.started),
            workers: view.workers,
            connections: view.connections,
            listeners: self.addresses.gateway.iter().map(|a| format!("http://{a}")).collect(),
            routes: view.routes.into_iter().map(views::traffic).collect(),
            services: view.services.into_iter().map(|s| views::service(s, &self.operations)).collect(),
            pools: self.pools.view().into_iter().map(pools::pool).collect(),
            notices: self.operations.notices(),
            config: ConfigView {
                source: self.source.name(),
                reloads: view.reloads,
                last_reload: last.map(|l| ReloadView {
                    applied: l.applied,
                    message: l.message,
                    findings: l.findings,
                    age: now.since(l.at),
                }),
            },
        }
    }

    fn ready(&self) -> Readiness {
        match self.discovery.has_looked() {
            true => Readiness::yes(),
            false => Readiness::no("DNS is being asked for endpoints for the first time"),
        }
    }

    fn metrics(&self, accept: &str) -> (String, String) {
        let format = Format::from_accept(accept);
        (format.content_type().to_owned(), self.metrics.render(format))
    }

    fn reload(&self) -> Result<String, Vec<Finding>> {
        Inner::reload(self)
    }

    fn endpoint_action(
        &self,
        service: &str,
        endpoint: &str,
        action: EndpointAction,
        order: &Order,
    ) -> Result<Acted, ActionError> {
        self.operations.endpoint_action(self.gateway.as_ref(), (service, endpoint), action, order)
    }

    fn service_action(&self, service: &str, action: ServiceAction, order: &Order) -> Result<Acted, ActionError> {
        self.operations.service_action(self.gateway.as_ref(), service, action, order)
    }

    fn pool_statements(&self, pool: &str) -> Vec<PoolStatement> {
        let mut all: Vec<PoolStatement> = self.pools.statements(pool).into_iter().map(pools::statement).collect();
        all.sort_by_key(|statement| std::cmp::Reverse(statement.total_us));
        all
    }

    fn pool_clients(&self, pool: &str) -> Vec<PoolClient> {
        Handle::current().block_on(self.pools.clients(pool)).into_iter().map(pools::client).collect()
    }

    fn pool_connections(&self, pool: &str) -> Vec<PoolConnection> {
        Handle::current().block_on(self.pools.connections(pool)).into_iter().map(pools::connection).collect()
    }

    fn pool_action(&self, pool: &str, action: &PoolAction, order: &Order) -> Result<Acted, ActionError> {
        Handle::current().block_on(pools::act(&self.pools, pool, action, order))
    }

    fn journal(&self) -> Arc<dyn JournalReader> {
        match &self.store {
            Some(store) => store.journal(),
            None => Arc::new(self.journal.clone()),
        }
    }

    fn journal_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.journal.changes()
    }

    fn tallies(&self) -> Arc<dyn TallyReader> {
        match &self.store {
            Some(store) => store.tallies(),
            None => Arc::new(NoTallies),
        }
    }

    fn why(&self, id: &str) -> Why {
        if !id.starts_with("tx-") {
            return self.gateway.why(id);
        }
        match (self.pools.why(id), self.gateway.why(id)) {
            (Some(found), _) => Why::Found(vec![found]),
            (None, found @ Why::Found(_)) => found,
            // There is no sample of transactions, and each pool has its own bound for slow ones.
            (None, Why::NotKept { .. }) => {
                Why::NotKept { oldest_unix_ms: self.pools.oldest_trace_unix_ms(), sample_one_in: 0, slow_ms: 0 }
            }
        }
    }

    fn traces(&self, most: usize, service: Option<&str>) -> Vec<TraceLine> {
        let mut lines = self.gateway.traces(most, service);
        if service.is_none() {
            lines.extend(self.pools.traces(most));
            lines.sort_by_key(|line| std::cmp::Reverse(line.at_unix_us));
            lines.truncate(most);
        }
        lines
    }

    fn store(&self) -> Vec<FileHealth> {
        self.store.as_ref().map_or_else(Vec::new, |store| store.health())
    }

    fn deploy(&self, mark: &DeployMark) -> Result<Acted, ActionError> {
        let event = mark.event();
        let message = event.sentence();
        let kept = self.journal.tell_durably(event).wait(DEPLOY_WAIT);
        kept.map_err(|error| ActionError::NotKept(error.to_string()))?;
        Ok(Acted { message, kept: true })
    }
}
