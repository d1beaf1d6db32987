//! Cancels. A client's key leads to the client, not to a connection: one that waits is answered at once, and for one that has
//! a connection a cancel goes to the server, with the server's key. The connection is given to nobody else before the server
//! has taken the cancel, so that it never meets another client's query.

use subtle::ConstantTimeEq;

use super::{SERVER, Worker, is_under_way, token};
use crate::client::State;
use crate::session::Failure;
use crate::shared::Mail;

impl Worker {
    /// Somebody wants the query of the client with this key to be cancelled.
    pub(super) fn cancel(&mut self, pid: i32, key: &[u8]) {
        let Some(&at) = self.by_pid.get(&pid) else { return };
        let client = &self.clients[at];
        if !bool::from(client.key.secret.ct_eq(key)) {
            return;
        }
        match client.state {
            State::Waiting => self.fail_waiting(at, Failure::new("57014", "canceling statement due to user request")),
            State::Linked(server) if is_under_way(&self.servers[server].backend) => self.send_cancel(server, None),
            _ => {}
        }
    }

    /// A client that waits gets an error instead, and waits no more.
    pub(super) fn fail_waiting(&mut self, at: usize, failure: Failure) {
        self.tell_turned(at, &failure.message);
        let client = &mut self.clients[at];
        client.state = State::Idle;
        client.since = self.now;
        client.ticket = 0;
        if client.session.resume.is_some() {
            // The transaction had begun.
            client.session.resume = Some(crate::session::Resume::Failed);
        }
        client.session.owed = Some(Box::new(failure));
        let group = client.group;
        self.ready_client(at);
        self.publish_head(group);
    }

    /// Sends a cancel for what a connection runs.
    pub(super) fn send_cancel(&mut self, at: usize, why: Option<&str>) {
        let server = &mut self.servers[at];
        server.cancels += 1;
        let token = token(SERVER, at, server.generation).0;
        let (commons, index) = (self.commons.clone(), self.index);
        let cluster = server.shared.pool.cluster.clone();
        let (plan, address) = (server.plan.clone(), server.address.clone());
        let (pid, key) = (server.pid, server.key.clone());
        if let Some(why) = why {
            tracing::warn!(pool = %server.shared.pool.name, user = %server.shared.user, why, "a query is cancelled");
        }
        self.commons.control.spawn(async move {
            if let Err(error) = cluster.cancel(&plan, &address, pid, &key).await {
                tracing::warn!(server = %plan.name, %error, "a cancel was not taken");
            }
            commons.mailboxes[index].put(Mail::Cancelled { server: token });
        });
    }

    /// A cancel has been taken, or cannot be.
    pub(super) fn cancelled(&mut self, server: usize) {
        let at = server & 0xffff_ffff;
        let Some(held) = self.servers.get_mut(at).filter(|s| token(SERVER, at, s.generation).0 == server) else {
            return;
        };
        held.cancels = held.cancels.saturating_sub(1);
        if held.cancels == 0 && held.client.is_none() && !held.is_free && held.backend.chore.is_none() {
            self.put_free(at);
        }
    }
}
