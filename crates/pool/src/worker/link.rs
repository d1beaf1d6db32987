//! A client and the connection that it has: given, used, given back.

use std::sync::atomic::Ordering;

use super::tell::teller;
use super::{Worker, context, is_under_way};
use crate::backend::Reply;
use crate::client::State;
use crate::pairs::same;
use crate::plan::{Mode, SessionState};
use crate::relay::down::{Below, down, put_due, put_reported};
use crate::relay::up::{Next, up};
use crate::relay::{opaque, settings};
use crate::session::Failure;
use crate::shared::take_one;
use crate::sql::Touches;
use crate::stats::Failure as Counted;
use crate::wire::{self, tag};

/// Statements after which a pinned client may have nothing left that pins it.
fn gives_up() -> Touches {
    Touches::UNLISTEN | Touches::UNLOCK | Touches::CLOSE | Touches::DEALLOCATE | Touches::DISCARD | Touches::DROP
}

impl Worker {
    /// Deals with bytes of a client; how many were taken.
    pub(super) fn client_input(&mut self, at: usize, input: &[u8]) -> usize {
        let generation = self.clients[at].generation;
        let mut taken = 0;
        while taken < input.len() {
            let Some(client) = self.clients.get(at).filter(|c| c.generation == generation) else {
                return input.len();
            };
            let rest = &input[taken..];
            let before = client.state;
            let n = match before {
                State::Startup | State::Proving => self.login_input(at, rest),
                State::Idle => self.idle_input(at, rest),
                State::Linked(server) => self.linked_input(at, server, rest),
                State::Verifying | State::Arriving | State::Waiting => return taken,
                State::Leaving => return input.len(),
            };
            taken += n;
            if self.clients.get(at).is_some_and(|c| c.generation == generation && !c.pending.is_empty()) {
                // Its transaction has moved: what it began with comes before what is left here.
                return taken;
            }
            let is_unchanged = self.clients.get(at).is_some_and(|c| c.generation == generation && c.state == before);
            if n == 0 && is_unchanged {
                return taken;
            }
        }
        taken
    }

    /// What a client sends that has no connection.
    fn idle_input(&mut self, at: usize, input: &[u8]) -> usize {
        let session = &mut self.clients[at].session;
        if session.dropping > 0 {
            let n = session.dropping.min(input.len());
            session.dropping -= n;
            return n;
        }
        let frame = match wire::frame(input) {
            Ok(Some(frame)) => frame,
            Ok(None) => return 0,
            Err(error) => {
                self.dismiss(at, &Failure::new(error.sqlstate(), error.to_string()));
                return input.len();
            }
        };
        if frame.tag == tag::TERMINATE {
            self.client_gone(at);
            return input.len();
        }
        if self.clients[at].session.skipping.is_some() || self.clients[at].session.owed.is_some() {
            let generation = self.clients[at].generation;
            let n = self.reject_input(at, frame, input);
            let client = self.clients.get(at).filter(|c| c.generation == generation);
            let is_settled = client.is_some_and(|c| c.session.skipping.is_none() && c.session.owed.is_none());
            if n > 0 || !is_settled {
                return n;
            }
            // It rolls back, which it may.
        }
        match frame.tag {
            tag::SYNC if input.len() >= frame.len => {
                let mut out = Vec::new();
                wire::backend::put_ready(&mut out, self.clients[at].session.status());
                self.send_client(at, &out);
                frame.len
            }
            // Nothing waits to be flushed; data of a COPY that is over is passed over, as PostgreSQL does.
            tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {
                let n = frame.len.min(input.len());
                self.clients[at].session.dropping = frame.len - n;
                n
            }
            tag::SYNC => 0,
            _ => {
                self.acquire(at);
                match self.clients[at].session.owed.is_some() {
                    true => self.reject_input(at, frame, input),
                    false => 0,
                }
            }
        }
    }

    /// Gives a client a connection, or a place in line.
    fn acquire(&mut self, at: usize) {
        let group = self.clients[at].group;
        self.clients[at].since = self.now;
        if self.groups[group].waiting.is_empty()
            && let Some(server) = self.take_free(group)
        {
            self.link(at, server);
            return;
        }
        if let Err(failure) = self.wait_in_line(at) {
            self.tell_turned(at, &failure.message);
            self.clients[at].session.owed = Some(Box::new(failure));
        }
    }

    /// Gives a connection to a client.
    pub(super) fn link(&mut self, at: usize, server: usize) {
        let client = &mut self.clients[at];
        let waited = (client.state == State::Waiting).then(|| self.now.since(client.since));
        client.state = State::Linked(server);
        let (began, unnamed) = (client.since, client.session.unnamed.clone());
        let held = &mut self.servers[server];
        held.client = Some(at);
        held.used = self.now;
        held.backend.turn.begin(began, unnamed);
        let cells = self.groups[client.group].shared.cells.shard(self.index);
        cells.assignments.inc();
        if let Some(waited) = waited {
            cells.wait.observe(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
        }
        self.tell_begin(at, server, waited);
        self.prepare(at, server);
    }

    /// Brings a connection to where its client left off; then the client goes on.
    pub(super) fn prepare(&mut self, at: usize, server: usize) {
        let client = &mut self.clients[at];
        let backend = &mut self.servers[server].backend;
        if !same(&client.session.settings, &backend.settings) {
            self.replay_settings(at, server);
            return;
        }
        if let Some(resume) = client.session.resume.take() {
            self.resume(server, resume);
            return;
        }
        if !same(&client.session.told, &backend.reported) {
            let mut out = Vec::new();
            put_reported(&mut client.session, &backend.reported, &mut self.interner, &mut out);
            if !out.is_empty() && !self.send_client(at, &out) {
                return;
            }
        }
        self.ready_client(at);
    }

    /// What a client sends that has a connection.
    fn linked_input(&mut self, at: usize, server: usize, input: &[u8]) -> usize {
        if !self.may_read_client(at) {
            return 0;
        }
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let client = &mut self.clients[at];
        let held = &mut self.servers[server];
        let ends_late = client.session.passing > 0 && held.backend.is_at_rest();
        let in_group = client.group;
        let group = &self.groups[in_group];
        let shared = &group.shared;
        let Some(table) = self.tables.get_mut(&shared.pool.name) else { return 0 };
        let is_pinned = client.session.pinned.is_some();
        let cells = shared.cells.shard(self.index);
        let mut context = context(&self.commons, group, table, self.now, cells, is_pinned);
        let outcome = up(&mut client.session, &mut held.backend, input, &mut out, &mut context);
        let was_pinned_out = context.was_pinned_out;
        let up = match outcome {
            Ok(up) => up,
            Err(error) => {
                self.scratch = out;
                cells.fail(Counted::Protocol);
                self.dismiss(at, &Failure::new(error.sqlstate(), error.to_string()));
                return input.len();
            }
        };
        cells.received.add(up.taken as u64);
        client.since = self.now;
        let backend = &mut held.backend;
        let is_answered_here = !backend.replies.is_empty()
            && backend
                .replies
                .iter()
                .all(|r| matches!(r, Reply::Parsed { .. } | Reply::Closed { .. } | Reply::CopyEnd));
        let is_sent = out.is_empty() || self.send_server(server, &out);
        out.clear();
        if is_sent && is_answered_here {
            put_due(&mut self.servers[server].backend, &mut out);
            self.servers[server].backend.turn.is_answered |= !out.is_empty();
            if !out.is_empty() {
                self.send_client(at, &out);
            }
        }
        self.scratch = out;
        if was_pinned_out {
            self.tell_pinned_out(in_group);
        }
        if up.next == Next::Close && self.clients.contains(at) {
            self.client_gone(at);
            return input.len();
        }
        if ends_late && is_sent {
            self.ended_late(at, server);
        }
        up.taken
    }

    /// The rest of a message of a COPY that has failed has been passed on: its transaction was over before.
    fn ended_late(&mut self, at: usize, server: usize) {
        let is_linked =
            self.clients.get(at).is_some_and(|c| c.state == State::Linked(server) && c.session.passing == 0);
        if is_linked && self.servers[server].backend.is_at_rest() {
            self.over(at, server);
        }
    }

    /// Deals with bytes of a server, and keeps what is left of them.
    pub(super) fn server_bytes(&mut self, at: usize, input: &[u8]) {
        let generation = self.servers[at].generation;
        let mut taken = 0;
        let mut goes_on = false;
        loop {
            let Some(server) = self.servers.get(at).filter(|s| s.generation == generation) else { return };
            if server.backend.fatal.is_some() {
                self.server_lost(at, "the server ended the connection");
                return;
            }
            if taken >= input.len() {
                // What is left was put aside, lest it stays here when the connection goes elsewhere.
                let rest = std::mem::take(&mut self.servers[at].pending);
                if goes_on && !rest.is_empty() {
                    self.server_bytes(at, &rest);
                } else {
                    self.servers[at].pending = rest;
                }
                return;
            }
            match self.server_input(at, &input[taken..]) {
                Some((n, more)) => {
                    taken += n;
                    goes_on = more;
                    if !goes_on && n == 0 {
                        break;
                    }
                }
                None => return,
            }
        }
        if let Some(server) = self.servers.get_mut(at).filter(|s| s.generation == generation) {
            server.pending.extend_from_slice(&input[taken..]);
        }
    }

    /// One pass over a server's bytes: how many were taken, and whether the rest can be looked at again. `None`: the connection
    /// is gone.
    fn server_input(&mut self, at: usize, input: &[u8]) -> Option<(usize, bool)> {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let server = &mut self.servers[at];
        let client = server.client;
        let group = &self.groups[server.group];
        let shared = &group.shared;
        let table = self.tables.get_mut(&shared.pool.name)?;
        let cells = shared.cells.shard(self.index);
        let mut context = context(&self.commons, group, table, self.now, cells, true);
        let peer = client.map(|client| &self.clients[client]);
        let peer = peer.map(|client| &**client);
        let teller = teller(&self.commons.stories[self.index], group, peer, (&server.name, server.pid));
        let mut below = Below {
            context: &mut context,
            cells,
            teller: &teller,
            interner: &mut self.interner,
            is_rewinding: &mut server.is_rewinding,
        };
        let session = client.map(|client| &mut self.clients[client].session);
        let outcome = down(session, &mut server.backend, input, &mut out, &mut below);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                self.scratch = out;
                tracing::warn!(server = %server.plan.name, %error, "a server broke the protocol");
                self.server_lost(at, &error.to_string());
                return None;
            }
        };
        let is_there = match client {
            Some(client) if !out.is_empty() => self.send_client(client, &out),
            _ => true,
        };
        self.scratch = out;
        let mut taken = outcome.taken;
        let has_waited = self.servers.get_mut(at).is_some_and(|s| std::mem::take(&mut s.backend.is_waiting));
        if !is_there || !self.servers.contains(at) {
            // The client left, and with it perhaps the connection.
            return self.servers.contains(at).then_some((taken, true));
        }
        if self.servers[at].is_rewinding {
            self.rewind(at);
        }
        let mut goes_on = false;
        if outcome.done.is_some() || outcome.again || outcome.is_over {
            self.servers[at].pending.extend_from_slice(&input[taken..]);
            taken = input.len();
        }
        if let Some(chore) = outcome.done {
            self.chore_done(at, chore);
            goes_on = true;
        } else if outcome.again {
            self.begin_again(at);
            goes_on = true;
        } else if outcome.is_over
            && let Some(client) = client
        {
            self.over(client, at);
            goes_on = true;
        } else if let Some(client) = client {
            // Answers make room for more.
            let waits = self.clients[client].is_readable || !self.clients[client].pending.is_empty();
            let backend = &self.servers[at].backend;
            if waits && (!is_under_way(backend) || backend.is_sweeping || has_waited) || self.was_full(at) {
                self.ready_client(client);
            }
        }
        self.servers.contains(at).then_some((taken, goes_on))
    }

    /// Whether so much was under way that the client was not read.
    fn was_full(&self, server: usize) -> bool {
        let replies = self.servers[server].backend.replies.len();
        (crate::backend::MAX_REPLIES / 2..crate::backend::MAX_REPLIES).contains(&replies)
    }

    /// A client's transaction is over.
    pub(super) fn over(&mut self, at: usize, server: usize) {
        let held = &self.servers[server];
        let turn = &held.backend.turn;
        let group = &self.groups[held.group];
        let (mode, state) = (group.rule.mode, group.rule.session_state);
        if mode == Mode::Session {
            self.next_turn(at, server);
            return;
        }
        if self.clients[at].session.passing > 0 {
            // It has begun the next one already, with a message that is not all there.
            return;
        }
        let touches = turn.touches;
        let is_pinned = self.clients[at].session.pinned.is_some();
        let may_have_left =
            touches.has_any(opaque() | settings() | Touches::DISCARD | Touches::EXECUTE | Touches::OPAQUE);
        if state == SessionState::Reset && may_have_left {
            self.unlink(at, server);
            self.clean(server);
            return;
        }
        if state != SessionState::Reset && (may_have_left || is_pinned && touches.has_any(gives_up())) {
            self.ask(at, server);
            return;
        }
        if is_pinned {
            self.next_turn(at, server);
            return;
        }
        self.release(at, server);
    }

    /// A client keeps its connection, and begins another transaction on it.
    pub(super) fn next_turn(&mut self, at: usize, server: usize) {
        let unnamed = self.clients[at].session.unnamed.clone();
        self.servers[server].backend.turn.begin(self.now, unnamed);
        self.servers[server].used = self.now;
        self.clients[at].since = self.now;
        self.clients[at].session.moves = 0;
        self.tell_begin(at, server, None);
        self.ready_client(at);
    }

    /// Takes the connection from a client, which is idle then.
    pub(super) fn unlink(&mut self, at: usize, server: usize) {
        self.servers[server].client = None;
        let client = &mut self.clients[at];
        client.state = State::Idle;
        client.since = self.now;
        client.session.bound = None;
        client.session.moves = 0;
        if self.is_draining {
            self.leave(at);
        } else {
            let client = &self.clients[at];
            if client.is_readable || !client.pending.is_empty() {
                self.ready_client(at);
            }
        }
    }

    /// Gives a connection back.
    pub(super) fn release(&mut self, at: usize, server: usize) {
        self.unlink(at, server);
        self.put_back(server);
    }

    /// Pins a client to its connection. An error: too many are.
    pub(super) fn pin(&mut self, at: usize, why: &str) -> Result<(), Failure> {
        let client = &mut self.clients[at];
        let group = &self.groups[client.group];
        if client.session.pinned.is_none() {
            if !take_one(&group.shared.pinned, group.max_pinned) {
                let most = group.max_pinned;
                let group = client.group;
                self.tell_pinned_out(group);
                return Err(Failure::new(
                    "53400",
                    format!("{why} would keep this connection, and {most} clients keep one already"),
                )
                .hint("give it up within the transaction, or raise `max_pinned` or `size` of this pool"));
            }
            group.shared.cells.shard(self.index).pins.inc();
        }
        client.session.pinned = Some(why.into());
        Ok(())
    }

    /// A client has nothing any more that pins it.
    pub(super) fn unpin(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.session.pinned.take().is_some() {
            crate::shared::give_one(&self.groups[client.group].shared.pinned);
        }
    }

    /// How many clients of this worker are pinned, for the views.
    pub(super) fn pinned(&self, group: usize) -> u32 {
        self.groups[group].shared.pinned.load(Ordering::Relaxed)
    }
}
