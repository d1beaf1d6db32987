//! What time brings: those who have waited, worked or been silent for too long, connections that are too old, and what the
//! views show.

use std::sync::atomic::Ordering;

use super::{Worker, is_under_way};
use crate::client::State;
use crate::session::Failure;
use crate::stats::Failure as Counted;

/// One part in so many of the clients is looked at in each tick.
const PARTS: usize = 10;
/// A client that was sent away and does not close is not waited for any longer.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(1);

impl Worker {
    /// Looks at the time.
    pub(super) fn tick(&mut self) {
        if self.unaccepted || !self.listeners.is_empty() {
            self.accept_all();
        }
        self.count_strangers();
        self.waited_too_long();
        self.took_too_long();
        self.look_at_clients();
        for group in 0..self.groups.len() {
            self.close_old(group);
            self.keep_least(group);
            self.serve_waiting(group);
        }
        if self.index == 0 {
            // Who still waits says so again.
            self.commons.pools.load().iter().for_each(|pool| pool.capped.store(0, Ordering::Relaxed));
        }
        self.publish();
    }

    /// Clients whose patience is over.
    fn waited_too_long(&mut self) {
        for group in 0..self.groups.len() {
            let patience = self.groups[group].shared.pool.plan.load().queue_timeout;
            while let Some(&entry) = self.groups[group].waiting.front() {
                let at = entry.0;
                let Some(since) = self.waits(entry) else {
                    self.groups[group].waiting.pop_front();
                    continue;
                };
                if self.now.since(since) < patience {
                    break;
                }
                self.groups[group].waiting.pop_front();
                let failure = self.why_not(group);
                if &*failure.sqlstate == "53300" {
                    self.tell_saturated(group, &failure.message);
                }
                self.fail_waiting(at, failure);
            }
            let is_late = |&(at, generation): &(usize, u32)| {
                let client = self.clients.get(at).filter(|c| c.generation == generation);
                client.is_none_or(|c| self.now.since(c.since) >= patience)
            };
            let arriving = std::mem::take(&mut self.groups[group].arriving);
            let (late, others): (Vec<_>, Vec<_>) = arriving.into_iter().partition(is_late);
            self.groups[group].arriving = others;
            for (at, generation) in late {
                if self.clients.get(at).is_some_and(|c| c.generation == generation) {
                    let failure = self.why_not(group);
                    self.dismiss(at, &failure);
                }
            }
        }
    }

    /// Why a client has waited in vain.
    fn why_not(&self, group: usize) -> Failure {
        let own = &self.groups[group];
        let pool = &own.shared.pool;
        let plan = pool.plan.load();
        let cells = own.shared.cells.shard(self.index);
        let waited = format!("waited {} for a connection", humane(plan.queue_timeout));
        let standing = pool.cluster.primary();
        if pool.is_paused.load(Ordering::Relaxed) {
            cells.fail(Counted::QueueTimeout);
            return Failure::new("57P03", format!("{waited}: the pool is paused"))
                .hint(format!("`evenkeel pool resume {}` lets it go on", pool.name));
        }
        if !standing.is_open() {
            cells.fail(Counted::NoPrimary);
            let trouble = standing.trouble.as_deref().unwrap_or("no server says that it is the primary");
            return Failure::new("57P03", format!("{waited}, and there is no primary: {trouble}"))
                .hint(format!("`evenkeel pool show {}` shows the servers", pool.name));
        }
        cells.fail(Counted::QueueTimeout);
        if let Some(trouble) = &own.trouble {
            return Failure::new("53300", format!("{waited}, and none could be opened: {trouble}"));
        }
        let open = own.shared.open.load(Ordering::Relaxed);
        let pinned = self.pinned(group);
        Failure::new("53300", format!("{waited}: all {open} are in use ({pinned} of them by clients that keep theirs)"))
            .hint("long transactions hold connections; `size` of this pool says how many there may be")
    }

    /// Queries, transactions and clients within them that have taken too long.
    fn took_too_long(&mut self) {
        let held: Vec<(usize, usize)> = self.servers.iter().filter_map(|(at, s)| Some((at, s.client?))).collect();
        for (at, client) in held {
            let Some(server) = self.servers.get(at).filter(|s| s.client == Some(client)) else { continue };
            let plan = server.shared.pool.plan.load_full();
            let cells = server.shared.clone();
            let now = self.now;
            let is_over =
                |limit: Option<std::time::Duration>, since| limit.is_some_and(|most| now.since(since) >= most);
            let backend = &server.backend;
            let since = self.clients[client].since;
            let runs = is_under_way(backend);
            if runs && server.cancelled != Some(since) && is_over(plan.query_timeout, since) {
                self.servers[at].cancelled = Some(since);
                cells.cells.shard(self.index).fail(Counted::Timeout);
                self.send_cancel(at, Some("query_timeout"));
                continue;
            }
            if backend.status == b'I' && !backend.is_in_batch() {
                continue;
            }
            let failure = if is_over(plan.transaction_timeout, backend.turn.since) {
                Failure::new("25P04", "terminating connection due to transaction timeout of the pool")
            } else if !runs && is_over(plan.idle_in_transaction_timeout, since) {
                Failure::new("25P03", "terminating connection due to idle-in-transaction timeout of the pool")
            } else {
                continue;
            };
            cells.cells.shard(self.index).fail(Counted::Timeout);
            self.dismiss(client, &failure);
        }
    }

    /// Clients that take too long to log in, have said nothing for too long, or do not read why they have to leave.
    fn look_at_clients(&mut self) {
        self.part = (self.part + 1) % PARTS;
        let part = self.part;
        let now = self.now;
        let mut late = Vec::new();
        for (at, client) in self.clients.iter().filter(|(at, _)| at % PARTS == part) {
            let plan = client.pool.as_ref().map(|pool| pool.plan.load());
            let login = plan.as_ref().map_or(std::time::Duration::from_secs(15), |plan| plan.login_timeout);
            let is_late = match client.state {
                State::Startup | State::Proving => now.since(client.since) >= login,
                State::Leaving => now.since(client.since) >= FAREWELL,
                State::Idle => {
                    let most = plan.and_then(|plan| plan.client_idle_timeout);
                    most.is_some_and(|most| now.since(client.since) >= most)
                }
                _ => false,
            };
            if is_late {
                late.push((at, client.state));
            }
        }
        for (at, state) in late {
            if !self.clients.contains(at) {
                continue;
            }
            match state {
                State::Leaving => self.drop_client(at),
                State::Idle => {
                    self.dismiss(at, &Failure::new("57P05", "terminating connection: it was idle for too long"))
                }
                _ => self.dismiss(at, &Failure::new("08006", "the login took too long")),
            }
        }
    }

    /// Free connections that are too old, or that nobody has used for too long.
    fn close_old(&mut self, group: usize) {
        let own = &self.groups[group];
        let idle = own.shared.pool.plan.load().idle_timeout;
        let spare = own.shared.open.load(Ordering::Relaxed).saturating_sub(own.rule.min_size);
        let is_old = |at: &usize| {
            let server = &self.servers[*at];
            // Up to a tenth less, by the connection's number, so that not all end at once.
            let less = |most: std::time::Duration| most.mul_f64(1.0 - (server.id % 16) as f64 / 160.0);
            let unused = idle.is_some_and(|most| self.now.since(server.used) >= less(most));
            (server.expires <= self.now, unused)
        };
        let mut spare = spare;
        let mut old = Vec::new();
        for at in &own.free {
            let (is_expired, is_unused) = is_old(at);
            if is_expired || is_unused && spare > 0 {
                spare = spare.saturating_sub(1);
                old.push(*at);
            }
        }
        for at in old {
            self.close_server(at);
        }
    }

    /// Opens what a group is to have at least.
    fn keep_least(&mut self, group: usize) {
        let own = &self.groups[group];
        let is_here = own.shared.owner().is_none_or(|owner| owner == self.index);
        let wanted = own.rule.min_size > own.shared.open.load(Ordering::Relaxed);
        if is_here && wanted && own.opening == 0 && own.welcome.is_some() && !self.is_draining {
            self.open_one(group);
        }
    }

    /// What the views show, in one pass over the clients (with many of them once a second) and one over the connections.
    fn publish(&mut self) {
        if self.clients.len() < 1_000 || self.part == 0 {
            self.publish_clients();
        }
        let mut servers: Vec<(u32, u32)> = self.groups.iter().map(|own| (0, own.opening)).collect();
        for (_, server) in self.servers.iter().filter(|(_, server)| !server.is_free) {
            match server.client.is_some() {
                true => servers[server.group].0 += 1,
                false => servers[server.group].1 += 1,
            }
        }
        for (at, (active, busy)) in servers.into_iter().enumerate() {
            let head = self.head(at).map_or(0, |since| since.as_nanos().max(1));
            let own = &self.groups[at];
            own.shared.heads[self.index].store(head, Ordering::Relaxed);
            let gauges = own.shared.gauges.shard(self.index);
            gauges.servers_active.store(active, Ordering::Relaxed);
            gauges.servers_idle.store(u32::try_from(own.free.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
            gauges.servers_busy.store(busy, Ordering::Relaxed);
        }
    }

    fn publish_clients(&mut self) {
        let mut clients = vec![(0, 0, 0); self.groups.len()];
        self.kept = 0;
        for (_, client) in &self.clients {
            self.kept += client.pending.len();
            let Some((active, waiting, idle)) = clients.get_mut(client.group) else { continue };
            match client.state {
                State::Waiting => *waiting += 1,
                State::Linked(_) => *active += 1,
                State::Idle => *idle += 1,
                _ => {}
            }
        }
        for (own, (active, waiting, idle)) in self.groups.iter().zip(clients) {
            let gauges = own.shared.gauges.shard(self.index);
            gauges.clients_active.store(active, Ordering::Relaxed);
            gauges.clients_waiting.store(waiting, Ordering::Relaxed);
            gauges.clients_idle.store(idle, Ordering::Relaxed);
        }
    }

    /// A client leaves because the node ends or hands over.
    pub(super) fn leave(&mut self, at: usize) {
        let mut out = Vec::new();
        let failure = Failure::new("57P01", "terminating connection due to administrator command");
        super::reject::put(&mut out, "FATAL", &failure);
        self.say_goodbye(at, &out);
    }
}

/// Seconds, as people say them.
fn humane(duration: std::time::Duration) -> String {
    match duration.as_millis() {
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}
