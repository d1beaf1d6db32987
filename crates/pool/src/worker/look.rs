//! Who is there and what is open, for those who look; and whom an order sends away.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::backend::Reply;
use crate::client::{Client, State};
use crate::session::Failure;
use crate::shared::{PoolShared, Whom};
use crate::view::{ClientView, ConnectionView};

/// Most clients that are shown of one worker.
const SHOWN: usize = 20_000;

impl Worker {
    /// The clients of a pool.
    pub(super) fn client_views(&self, pool: &Arc<PoolShared>) -> Vec<ClientView> {
        let own = self.clients.iter().filter(|(_, c)| c.pool.as_ref().is_some_and(|p| Arc::ptr_eq(p, pool)));
        own.take(SHOWN).map(|(_, client)| self.client_view(client, pool)).collect()
    }

    fn client_view(&self, client: &Client, pool: &PoolShared) -> ClientView {
        let (database, user) = match (self.groups.get(client.group), &client.login) {
            (Some(group), _) => (group.shared.database.clone(), group.shared.user.clone()),
            (None, Some(login)) => (login.database.clone(), login.user.clone()),
            (None, None) => Default::default(),
        };
        let state = match client.state {
            State::Startup | State::Verifying | State::Proving | State::Arriving | State::Leaving => "login",
            State::Idle => "idle",
            State::Waiting => "waiting",
            State::Linked(_) if client.session.pinned.is_some() => "pinned",
            State::Linked(_) => "active",
        };
        let server = match client.state {
            State::Linked(at) => Some(&self.servers[at]),
            _ => None,
        };
        let running = server.and_then(|s| s.backend.replies.front()).and_then(|reply| match reply {
            Reply::Execute(measure) | Reply::Query(measure) => measure.cells.as_ref(),
            _ => None,
        });
        ClientView {
            id: client.id,
            pool: pool.name.clone(),
            database,
            user,
            application: client.session.settings.get("application_name").unwrap_or_default().to_owned(),
            state,
            address: client.address.map_or_else(|| "unix".to_owned(), |a| a.to_string()),
            server: server.map(|s| s.id),
            connected_unix: self.unix(client.connected),
            waiting: if client.state == State::Waiting { self.now.since(client.since) } else { Duration::ZERO },
            since_request: self.now.since(client.since),
            prepared: u32::try_from(client.session.statements.len()).unwrap_or(u32::MAX),
            is_tls: client.transport.tls().is_some(),
            query: running.map(|cells| cells.text().to_owned()).unwrap_or_default(),
            worker: self.index,
        }
    }

    /// The server connections of a pool.
    pub(super) fn connection_views(&self, pool: &Arc<PoolShared>) -> Vec<ConnectionView> {
        let own = self.servers.iter().filter(|(_, s)| Arc::ptr_eq(&s.shared.pool, pool));
        own.map(|(_, server)| {
            let client = server.client.and_then(|at| self.clients.get(at));
            let state = match client {
                Some(client) if client.session.pinned.is_some() => "pinned",
                Some(_) => "active",
                None if server.is_free => "idle",
                None => "cleaning",
            };
            ConnectionView {
                id: server.id,
                pool: pool.name.clone(),
                database: server.shared.database.clone(),
                user: server.shared.user.clone(),
                state,
                server: server.plan.name.clone(),
                client: client.map(|c| c.id),
                remote_pid: server.pid.unsigned_abs(),
                connected_unix: self.unix(server.opened),
                since_request: self.now.since(server.used),
                prepared: u32::try_from(server.backend.known.len()).unwrap_or(u32::MAX),
                is_tls: server.transport.tls().is_some(),
                worker: self.index,
            }
        })
        .collect()
    }

    fn unix(&self, moment: kernel::Moment) -> u64 {
        let wall = self.commons.clock.wall_at(moment);
        wall.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Sends clients away, or cancels what they run; how many.
    pub(super) fn kill(&mut self, pool: &Arc<PoolShared>, whom: &Whom) -> u64 {
        let is_it = |client: &Client| {
            client.pool.as_ref().is_some_and(|p| Arc::ptr_eq(p, pool))
                && match whom {
                    Whom::Everybody => true,
                    Whom::Client(id) => client.id == *id,
                    Whom::User(user) => self.groups.get(client.group).is_some_and(|g| g.shared.user == *user),
                    Whom::Fingerprint(fingerprint) => self.runs(client, *fingerprint),
                }
        };
        let is_here = |client: &Client| client.state != State::Leaving && is_it(client);
        let found: Vec<usize> = self.clients.iter().filter(|(_, client)| is_here(client)).map(|(at, _)| at).collect();
        for at in &found {
            // A connection that one gives back goes to another, who may turn out to be gone.
            let Some(client) = self.clients.get(*at) else { continue };
            match (whom, client.state) {
                (Whom::Fingerprint(_), State::Linked(server)) => self.send_cancel(server, Some("an operator's order")),
                _ => self.dismiss(*at, &Failure::new("57P01", "terminating connection due to administrator command")),
            }
        }
        found.len() as u64
    }

    /// Whether a client runs a statement of this shape now.
    fn runs(&self, client: &Client, fingerprint: u64) -> bool {
        let State::Linked(server) = client.state else { return false };
        let front = self.servers[server].backend.replies.iter().find_map(|reply| match reply {
            Reply::Execute(measure) | Reply::Query(measure) => Some(measure.fingerprint),
            _ => None,
        });
        front == Some(fingerprint)
    }
}
