//! The ends of connections: a server's, with whatever its client had under way, and a client's.
//!
//! | what the client had under way | what becomes of it |
//! | --- | --- |
//! | nothing | it does not notice |
//! | an unanswered BEGIN; or a transaction that the server refused, for shutting down, before it answered anything | it begins anew at another connection |
//! | a BEGIN that was answered | the transaction begins anew with the next statement |
//! | a statement | the statement fails; outside a transaction that is all |
//! | a transaction | it has failed, and has to be rolled back, as after any error |
//! | something that keeps the connection | the client is sent away: what it had there is gone |
//!
//! That a transaction which was refused with `57P01` as the first answer has not been committed follows from the order in
//! which PostgreSQL sends: what a commit answers is in the buffer before the refusal.

use super::{Worker, is_under_way};
use crate::backend::{Backend, ChoreKind, Reply};
use crate::client::State;
use crate::session::{Failure, Resume};
use crate::shared::give_one;
use crate::stats::Failure as Counted;
use crate::wire::backend as messages;
use crate::wire::{HEADER, frame};

/// How often a transaction is moved: a statement may be what ends its connections.
const MAX_MOVES: u8 = 3;

impl Worker {
    /// A server's connection has ended, or is given up.
    pub(super) fn server_lost(&mut self, at: usize, why: &str) {
        self.doubt(at);
        let Some(client) = self.servers[at].client else {
            self.discard_server(at);
            return;
        };
        let group = self.servers[at].group;
        let server = &mut self.servers[at];
        let backend = &mut server.backend;
        let cause = backend.fatal.take().map(|f| *f);
        let failure = cause.clone().map_or_else(
            || Failure::new("08006", format!("the connection to the server was lost: {why}")),
            |cause| Failure { message: format!("the server ended the connection: {}", cause.message), ..cause },
        );
        // For shutting down, or because it had been idle for too long.
        let was_refused = cause.is_some_and(|c| matches!(&*c.sqlstate, "57P01" | "57P03" | "57P05"));
        let turn = &backend.turn;
        let has_begun = turn.is_answered || backend.status != b'I' || !(turn.only_begun || was_refused);
        // An attempt that is rewound has failed, and the client has not been told.
        let can_move = turn.can_replay && (server.is_rewinding || !has_begun);
        let replay = std::mem::take(&mut backend.turn.replay);
        let only_begun = turn_only_begun(backend);
        let unnamed = backend.turn.unnamed.take();
        let was_preparing = backend.chore.is_some();
        let was_asking = matches!(&backend.chore, Some(chore) if matches!(chore.kind, ChoreKind::Ask { .. }));
        let held = server.client.take();
        debug_assert_eq!(held, Some(client), "a connection's client has it");
        let mut lost = self.take_server(at);
        if lost.as_ref().is_some_and(|lost| lost.backend.passing > 0) {
            // The client has a part of a message: nothing can be told behind it.
            let cells = self.groups[group].shared.cells.shard(self.index);
            cells.fail(Counted::ServerLost);
            self.unpin(client);
            self.clients[client].state = State::Idle;
            self.client_gone(client);
            self.grow(group);
            return;
        }
        // What was asked for is what the session has left there, and it is gone.
        let is_pinned = was_asking || self.clients[client].session.pinned.is_some();
        self.unpin(client);
        self.clients[client].state = State::Idle;
        self.clients[client].since = self.now;
        if is_pinned || self.groups[group].rule.mode == crate::plan::Mode::Session {
            let cells = self.groups[group].shared.cells.shard(self.index);
            cells.fail(Counted::ServerLost);
            if let Some(lost) = &mut lost {
                self.tell_lost(client, lost, &failure.message);
            }
            let message = format!("{} (the session's state was kept there)", failure.message);
            self.dismiss(client, &Failure { message, ..failure });
            return;
        }
        let Some(mut lost) = lost else { return };
        let session = &mut self.clients[client].session;
        session.bound = None;
        let can_move = can_move && (lost.is_rewinding || session.moves < MAX_MOVES);
        if was_preparing {
            // The client's own words have not been sent, or were answered already.
            self.tell_moved(client, &mut lost, "its connection was lost before it was ready");
            self.go_on_elsewhere(client, &lost, None);
        } else if can_move && !replay.is_empty() && session.passing == 0 {
            session.unnamed = unnamed;
            session.moves = session.moves.saturating_add(1);
            forget_names(session, &replay);
            self.groups[group].shared.cells.shard(self.index).moved.inc();
            let why = if was_refused { "the server shut down before it began" } else { "its connection was lost" };
            self.tell_moved(client, &mut lost, why);
            self.go_on_elsewhere(client, &lost, Some(replay));
        } else if is_under_way(&lost.backend) || lost.backend.is_in_batch() || lost.is_rewinding || session.passing > 0
        {
            self.tell_lost(client, &mut lost, &failure.message);
            self.fail_under_way(client, &mut lost.backend, &failure);
        } else if let Some(begin) = only_begun.then(|| begin_text(&replay)).flatten() {
            session.resume = Some(Resume::Begin(begin));
            self.groups[group].shared.cells.shard(self.index).moved.inc();
            self.tell_moved(client, &mut lost, "its connection was lost before its first statement");
            self.ready_client(client);
        } else if lost.backend.status != b'I' {
            self.tell_lost(client, &mut lost, &failure.message);
            let session = &mut self.clients[client].session;
            session.resume = Some(Resume::Failed);
            session.owed = Some(Box::new(failure));
            self.groups[group].shared.cells.shard(self.index).fail(Counted::ServerLost);
            self.ready_client(client);
        } else {
            self.ready_client(client);
        }
        if self.is_draining && self.clients.contains(client) {
            self.leave_if_at_rest(client);
        }
        self.grow(group);
    }

    /// The client's transaction begins at another connection, without its notice.
    fn go_on_elsewhere(&mut self, at: usize, lost: &crate::server::Server, replay: Option<Vec<u8>>) {
        if let Some(chore) = &lost.backend.chore
            && let ChoreKind::Begin { resume } = &chore.kind
        {
            self.clients[at].session.resume = Some(resume.clone());
        }
        if let Some(mut replay) = replay {
            let client = &mut self.clients[at];
            replay.extend_from_slice(&client.pending);
            client.pending = replay;
        }
        self.ready_client(at);
    }

    /// What a client has under way fails.
    fn fail_under_way(&mut self, at: usize, backend: &mut Backend, failure: &Failure) {
        let session = &mut self.clients[at].session;
        // A client that has sent BEGIN and more at once takes what it sends next to be in its transaction.
        // A BEGIN alone that fails has begun nothing.
        let was_open = backend.turn.leaves_open.unwrap_or(backend.status != b'I') && !backend.turn.only_begun;
        session.resume = was_open.then_some(Resume::Failed);
        let status = session.status();
        let mut out = Vec::new();
        let mut is_told = false;
        // An error that was told before Sync came is not told again.
        let mut is_failed = backend.is_failed;
        for reply in &backend.replies {
            match reply {
                Reply::Quiet => {}
                Reply::Sync | Reply::Query(_) | Reply::Call => {
                    if !is_failed && !is_told {
                        super::reject::put(&mut out, "ERROR", failure);
                    }
                    messages::put_ready(&mut out, status);
                    (is_told, is_failed) = (false, false);
                }
                _ if !is_told && !is_failed => {
                    super::reject::put(&mut out, "ERROR", failure);
                    is_told = true;
                }
                _ => {}
            }
        }
        if backend.is_in_batch() && !is_told && !is_failed {
            // Its answers so far promised nothing: the Sync would have committed it.
            super::reject::put(&mut out, "ERROR", failure);
            is_told = true;
        }
        if is_told || is_failed {
            session.skipping = Some(status);
        }
        if session.passing > 0 {
            // The rest of a message that nobody takes any more.
            session.dropping = std::mem::take(&mut session.passing);
        }
        backend.undo(Some(session), backend.replies.len(), true, |_| {});
        let group = self.clients[at].group;
        self.groups[group].shared.cells.shard(self.index).fail(Counted::ServerLost);
        if self.send_client(at, &out) {
            self.ready_client(at);
        }
    }

    /// Forgets a connection that nobody has.
    fn discard_server(&mut self, at: usize) {
        let group = self.servers[at].group;
        self.take_server(at);
        self.grow(group);
    }

    /// Takes a connection out.
    fn take_server(&mut self, at: usize) -> Option<crate::server::Server> {
        let mut server = self.servers.try_remove(at)?;
        if server.is_free {
            self.groups[server.group].free.retain(|free| *free != at);
        }
        // The socket is closed with it.
        let _gone = self.poll.registry().deregister(&mut server.transport);
        give_one(&server.shared.open);
        give_one(&server.shared.pool.open);
        Some(server)
    }

    /// A client has left, or its connection failed.
    pub(super) fn client_gone(&mut self, at: usize) {
        match self.clients[at].state {
            State::Linked(server) => self.part(at, server),
            State::Waiting => self.tell_turned(at, "its client left while it waited"),
            _ => {}
        }
        self.drop_client(at);
    }

    /// A client leaves while it has a connection.
    fn part(&mut self, at: usize, server: usize) {
        self.tell_cut(at, server, "its client left");
        self.clients[at].state = State::Idle;
        let session = &self.clients[at].session;
        let is_in_message = session.passing > 0;
        let is_pinned = session.pinned.is_some();
        self.unpin(at);
        let held = &mut self.servers[server];
        held.client = None;
        let backend = &held.backend;
        let is_session_mode = self.groups[held.group].rule.mode == crate::plan::Mode::Session;
        let has_left = !backend.turn.touches.is_empty();
        let is_under_way = is_under_way(backend) || backend.is_in_batch() || is_in_message;
        if is_under_way || backend.chore.is_some() || held.is_rewinding || !held.out.is_empty() {
            // It works for nobody now: what runs is ended.
            self.cancel_and_close(server);
        } else if backend.status != b'I' {
            match is_pinned || is_session_mode || has_left {
                true => self.close_server(server),
                false => self.roll_back(server),
            }
        } else if is_pinned || is_session_mode || has_left {
            self.reset(server);
        } else {
            self.put_back(server);
        }
    }

    /// Forgets a client.
    pub(super) fn drop_client(&mut self, at: usize) {
        let Some(mut client) = self.clients.try_remove(at) else { return };
        if client.transport.tls().is_some() {
            client.transport.close();
        }
        // The socket is closed, and so not watched any more.
        self.by_pid.remove(&client.key.pid);
        let is_counted = client.login.as_ref().is_none_or(|login| login.is_counted);
        if let Some(pool) = client.pool.take()
            && is_counted
        {
            give_one(&pool.clients);
        }
    }

    /// Sends a client its last message, and closes when it is read.
    pub(super) fn say_goodbye(&mut self, at: usize, bytes: &[u8]) {
        if let State::Linked(server) = self.clients[at].state {
            self.part(at, server);
        }
        if !self.clients.contains(at) {
            return;
        }
        self.clients[at].state = State::Leaving;
        self.clients[at].since = self.now;
        if self.send_client(at, bytes) && self.clients[at].out.is_empty() && !self.clients[at].transport.wants_write() {
            self.farewell(at);
        }
    }

    /// A client has been sent its last message. It is read until it closes, because a socket that is closed with something
    /// unread takes back what was sent. False if it is gone.
    pub(super) fn farewell(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        if client.transport.socket().shutdown(std::net::Shutdown::Write).is_err() {
            self.drop_client(at);
            return false;
        }
        self.ready_client(at);
        true
    }
}

fn turn_only_begun(backend: &Backend) -> bool {
    backend.turn.only_begun && backend.status == b'T'
}

/// The text of the one BEGIN that `replay` is.
fn begin_text(replay: &[u8]) -> Option<Box<[u8]>> {
    let frame = frame(replay).ok()??;
    (frame.len == replay.len()).then(|| replay[HEADER..replay.len() - 1].into())
}

/// Forgets the names that are about to be prepared a second time.
pub(super) fn forget_names(session: &mut crate::session::Session, replay: &[u8]) {
    let mut at = 0;
    while let Ok(Some(found)) = frame(&replay[at..]) {
        let end = (at + found.len).min(replay.len());
        if found.tag == crate::wire::tag::PARSE
            && let Ok(parse) = crate::wire::frontend::Parse::read(&replay[at + HEADER..end])
        {
            session.statements.remove(parse.name);
        }
        at = end;
    }
}
