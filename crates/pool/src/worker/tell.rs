//! What is told of transactions that do not end at a server: those that move, are cut off, or are turned away; and, at most
//! once a minute for a (database, user), what an operator should know of it.

use std::time::Duration;

use kernel::Event;

use super::groups::Group;
use super::{Worker, is_under_way};
use crate::backend::{Backend, ChoreKind};
use crate::client::{Client, State, Wait};
use crate::relay::tell::{Peer, Teller, application, micros};
use crate::server::Server;
use crate::session::Resume;
use crate::stats::story::{About, Ending, Mark, Stories, Transaction};

/// What is pointed out is pointed out again after so long.
const AGAIN: Duration = Duration::from_secs(60);
/// How often a server's bytes are taken for a sign of life.
const HEARD: Duration = Duration::from_millis(50);

/// What the relay tells with.
pub(super) fn teller<'a>(
    stories: &'a Stories,
    group: &'a Group,
    client: Option<&Client>,
    server: (&'a std::sync::Arc<str>, i32),
) -> Teller<'a> {
    Teller {
        stories,
        pool: &group.shared.pool.name,
        database: &group.shared.database,
        user: &group.shared.user,
        peer: Peer(client.and_then(|client| client.address)),
        slow: group.slow,
        server: server.0,
        process: server.1.unsigned_abs(),
    }
}

/// Why a client keeps its connection, as a step of a transaction says it.
pub(super) fn pinned_for(why: &str) -> &'static str {
    const KINDS: [&str; 8] = [
        "LISTEN",
        "an advisory lock",
        "a temporary table",
        "a cursor WITH HOLD",
        "PREPARE",
        "LOAD",
        "SET",
        "set_config() of a name that is not in the text",
    ];
    KINDS.into_iter().find(|kind| *kind == why).unwrap_or("several kinds of state that its session has")
}

impl Worker {
    /// A connection was given to a client, or a client begins another transaction at its own.
    pub(super) fn tell_begin(&mut self, at: usize, server: usize, waited: Option<Duration>) {
        let client = &mut self.clients[at];
        let held = &mut self.servers[server];
        let story = &mut held.backend.story;
        match client.session.story.take() {
            Some(moved) => *story = *moved,
            None => story.begin(client.since),
        }
        if waited.is_some() {
            story.waited(client.since, self.now, client.wait.reason());
        }
        story.mark(self.now, Mark::Assigned { server: held.name.clone(), process: held.pid.unsigned_abs() });
        if let Some(why) = &client.session.pinned {
            story.mark(self.now, Mark::Pinned(pinned_for(why)));
        }
        held.backend.turn.since = story.begun();
    }

    /// The transaction of a client whose connection is lost goes on at another.
    pub(super) fn tell_moved(&mut self, at: usize, lost: &mut Server, why: &'static str) {
        let backend = &mut lost.backend;
        let is_over = match &backend.chore {
            Some(chore) => {
                !matches!(&chore.kind, ChoreKind::Replay { .. } | ChoreKind::Begin { resume: Resume::Begin(_) })
            }
            None => false,
        };
        if backend.turn.is_counted || is_over {
            return;
        }
        let mut story = std::mem::take(&mut backend.story);
        story.mark(self.now, Mark::Moved(why));
        self.clients[at].session.story = Some(Box::new(story));
    }

    /// A client's transaction ends before the server says so, if it has one: it failed.
    pub(super) fn tell_cut(&mut self, at: usize, server: usize, why: &str) {
        let Some(held) = self.servers.get_mut(server) else { return };
        let mut story = std::mem::take(&mut held.backend.story);
        let is_cut = self.is_cut(at, &self.servers[server].backend);
        if is_cut {
            let group = self.servers[server].group;
            let turn = &mut self.servers[server].backend.turn;
            turn.is_counted = true;
            let since = turn.since;
            self.end_cut((at, group), &mut story, since, why);
        }
        self.servers[server].backend.story = story;
    }

    /// The same for a connection that is lost.
    pub(super) fn tell_lost(&mut self, at: usize, lost: &mut Server, why: &str) {
        if self.is_cut(at, &lost.backend) {
            let since = lost.backend.turn.since;
            self.end_cut((at, lost.group), &mut lost.backend.story, since, why);
        }
    }

    fn is_cut(&self, at: usize, backend: &Backend) -> bool {
        let is_open = backend.status != b'I' || is_under_way(backend) || self.clients[at].session.passing > 0;
        is_open && !backend.turn.is_counted
    }

    fn end_cut(&self, (at, group): (usize, usize), story: &mut Transaction, since: kernel::Moment, why: &str) {
        let (client, group) = (&self.clients[at], &self.groups[group]);
        group.shared.cells.shard(self.index).transaction_ended(micros(self.now.since(since)), true);
        self.end_story(client, group, story, Ending::Cut(why));
    }

    fn end_story(&self, client: &Client, group: &Group, story: &mut Transaction, ending: Ending<'_>) {
        let peer = Peer(client.address);
        let about = About {
            pool: &group.shared.pool.name,
            database: &group.shared.database,
            user: &group.shared.user,
            application: application(&client.session),
            client: &peer,
        };
        self.commons.stories[self.index].end(story, self.now, &about, group.slow, ending);
    }

    /// A client that waits for a connection, or may not, gets none.
    pub(super) fn tell_turned(&mut self, at: usize, why: &str) {
        let client = &mut self.clients[at];
        let moved = client.session.story.take();
        let (mut story, ending) = match moved {
            Some(story) => (*story, Ending::Cut(why)),
            None => {
                let mut story = Transaction::default();
                story.begin(client.since);
                (story, Ending::Turned(why))
            }
        };
        if client.state == State::Waiting {
            story.waited(client.since, self.now, client.wait.reason());
        }
        let client = &self.clients[at];
        let Some(group) = self.groups.get(client.group) else { return };
        self.end_story(client, group, &mut story, ending);
    }

    /// Why a client has to wait now.
    pub(super) fn why_wait(&self, group: usize) -> Wait {
        let shared = &self.groups[group].shared;
        let load = |count: &std::sync::atomic::AtomicU32| count.load(std::sync::atomic::Ordering::Relaxed);
        if shared.pool.is_paused.load(std::sync::atomic::Ordering::Relaxed) {
            Wait::Paused
        } else if !self.may_begin(&shared.pool) {
            Wait::NoPrimary
        } else if load(&shared.open) < self.groups[group].rule.size
            && load(&shared.pool.open) < shared.pool.plan.load().max_connections
        {
            Wait::Opening
        } else {
            Wait::Busy
        }
    }

    /// Clients of a group are turned away because there are too few connections for them.
    pub(super) fn tell_saturated(&mut self, group: usize, reason: &str) {
        let own = &mut self.groups[group];
        if own.told_saturated.is_some_and(|told| self.now.since(told) < AGAIN) {
            return;
        }
        own.told_saturated = Some(self.now);
        self.commons.journal.tell(Event::PoolSaturated {
            service: own.shared.pool.name.clone(),
            database: own.shared.database.clone(),
            user: own.shared.user.clone(),
            reason: reason.to_owned(),
        });
    }

    /// A client of a group was not allowed to keep its connection.
    pub(super) fn tell_pinned_out(&mut self, group: usize) {
        let own = &mut self.groups[group];
        if own.told_pinned_out.is_some_and(|told| self.now.since(told) < AGAIN) {
            return;
        }
        own.told_pinned_out = Some(self.now);
        self.commons.journal.tell(Event::PoolPinnedOut {
            service: own.shared.pool.name.clone(),
            database: own.shared.database.clone(),
            user: own.shared.user.clone(),
            most: u64::from(own.max_pinned),
        });
    }

    /// Bytes came from a server.
    pub(super) fn heard(&mut self, server: usize) {
        let server = &self.servers[server];
        let own = &mut self.groups[server.group];
        if self.now.since(own.heard) < HEARD {
            return;
        }
        own.heard = self.now;
        let cluster = &own.shared.pool.cluster;
        if cluster.primary().epoch == server.epoch {
            cluster.heard();
        }
    }

    /// A connection has ended that nobody here has ended.
    pub(super) fn doubt(&self, server: usize) {
        let server = &self.servers[server];
        let cluster = &server.shared.pool.cluster;
        if cluster.primary().epoch == server.epoch {
            cluster.doubt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_named_if_it_is_the_only_one() {
        assert_eq!(pinned_for("LISTEN"), "LISTEN");
        assert_eq!(pinned_for("LISTEN, SET"), "several kinds of state that its session has");
    }
}
