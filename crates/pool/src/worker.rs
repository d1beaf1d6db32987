//! A worker of the pooler: one thread, one poll, its clients and connections. Everything that a transaction needs is here;
//! what takes long (opening connections, asking who a client is, sending cancels) is done elsewhere and comes back as mail.
//!
//! Sockets are registered once, edge-triggered: a socket is read when it has become readable until a read comes back short,
//! and written at once; what does not fit waits for the socket to become writable, and meanwhile the other side is not
//! read. One usual transaction is two reads and two writes.
//!
//! ```text
//! startup  => verifying  the pool and its user are known; Postgres or a file is asked for the verifier
//! verifying=> proving    the exchange has begun
//! proving  => arriving   proven; if the group has never had a connection, one is waited for
//! arriving => idle       told the parameters
//! idle     => linked     something needs a connection and one is free
//! idle     => waiting    none is; in line, first come first served
//! waiting  => linked     its turn; => idle, or sent away: queue_timeout, a cancel
//! linked   => idle       the transaction is over and nothing pins the client
//! any      => leaving    sent away with an error
//! ```

mod accept;
mod cancel;
mod chores;
mod groups;
mod link;
mod login;
mod look;
mod lost;
mod reject;
mod tell;
mod tick;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::{Entropy, Moment};
use mio::{Events, Poll, Token};
use slab::Slab;

pub(crate) use accept::{Listener, Listening};

use crate::backend::Backend;
use crate::client::{Client, State};
use crate::pairs::{Interner, Pairs};
use crate::relay::Context;
use crate::server::Server;
use crate::session::Failure;
use crate::shared::{Commons, Mail, PoolShared};
use crate::stats::{GroupCells, StatementTable};
use groups::Group;

/// How much is read at once.
const READ: usize = 64 << 10;
/// Most bytes of one client that are kept until they can be dealt with: the longest message that is waited for, and what
/// was read behind it.
const KEPT_OF_ONE: usize = crate::relay::up::PARSE_MAX + 4 * READ;
/// Most of all clients of a worker. Beyond it only those go on that need little.
const KEPT_OF_ALL: usize = 256 << 20;
/// How often time is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Reads of one socket before others have their turn.
const READS: usize = 16;
/// The token of the mailbox.
pub(crate) const MAIL: Token = Token(0);
/// The first token of the listeners.
const FIRST_LISTENER: usize = 1;
/// Most listeners.
const MAX_LISTENERS: usize = 1_000;

const CLIENT: usize = 1 << 62;
const SERVER: usize = 2 << 62;
const KINDS: usize = 3 << 62;

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    index: usize,
    commons: Arc<Commons>,
    poll: Poll,
    listeners: Vec<Listener>,
    /// Listening sockets before the pooler is opened.
    closed: Vec<Listener>,
    clients: Slab<Box<Client>>,
    servers: Slab<Server>,
    groups: Vec<Group>,
    group_of: HashMap<usize, usize>,
    tables: HashMap<String, StatementTable>,
    by_pid: HashMap<i32, usize>,
    interner: Interner,
    nothing: Arc<Pairs>,
    buffer: Box<[u8]>,
    scratch: Vec<u8>,
    /// Who can go on.
    ready: VecDeque<Ready>,
    now: Moment,
    ticked: Moment,
    entropy: Entropy,
    generation: u32,
    ticket: u64,
    is_draining: bool,
    /// Whether a listening socket may have more than was accepted.
    unaccepted: bool,
    /// Clients that have not said yet what they want, as they came, and others that have meanwhile; and how many there may
    /// be of both.
    strangers: VecDeque<(usize, u32)>,
    most_strangers: usize,
    /// When it was last said that clients cannot be accepted.
    told_refused: Option<Moment>,
    /// Bytes that are kept of clients: counted as they come, and anew in each tick.
    kept: usize,
    /// Which part of the clients is looked at in this tick.
    part: usize,
}

/// Who can go on: a place, and whose it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Client(usize, u32),
    Server(usize, u32),
}

/// A token of a client or a server: its place and whose it is.
fn token(kind: usize, at: usize, generation: u32) -> Token {
    Token(kind | ((generation as usize & 0x3fff_ffff) << 32) | at)
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        commons: Arc<Commons>,
        poll: Poll,
        listeners: Vec<Listener>,
        entropy: Entropy,
    ) -> Worker {
        let mut interner = Interner::default();
        let nothing = interner.intern(Pairs::default());
        let now = commons.clock.now();
        Worker {
            index,
            commons,
            poll,
            listeners: Vec::new(),
            closed: listeners,
            clients: Slab::new(),
            servers: Slab::new(),
            groups: Vec::new(),
            group_of: HashMap::new(),
            tables: HashMap::new(),
            by_pid: HashMap::new(),
            interner,
            nothing,
            buffer: vec![0; READ].into_boxed_slice(),
            scratch: Vec::new(),
            ready: VecDeque::new(),
            now,
            ticked: now,
            entropy,
            generation: 0,
            ticket: 0,
            is_draining: false,
            unaccepted: false,
            strangers: VecDeque::new(),
            most_strangers: accept::STRANGERS,
            told_refused: None,
            kept: 0,
            part: 0,
        }
    }

    /// Serves until it is told to end.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        loop {
            let wait = if self.ready.is_empty() { TICK } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.now = self.commons.clock.now();
            for event in &events {
                let Token(token) = event.token();
                let at = token & 0xffff_ffff;
                let generation = ((token & !KINDS) >> 32) as u32;
                match token & KINDS {
                    CLIENT if self.clients.get(at).is_some_and(|c| c.generation == generation) => {
                        self.client_event(at, event);
                    }
                    SERVER if self.servers.get(at).is_some_and(|s| s.generation == generation) => {
                        self.server_event(at, event);
                    }
                    0 if event.token() != MAIL => self.accept(at - FIRST_LISTENER),
                    0 if !self.mail() => return Ok(()),
                    _ => {}
                }
                self.go_on();
            }
            self.go_on();
            if self.now.since(self.ticked) >= TICK {
                self.ticked = self.now;
                self.tick();
                self.go_on();
            }
        }
    }

    /// Lets everybody go on who can; each once, so that sockets are looked at between.
    fn go_on(&mut self) {
        for _ in 0..self.ready.len().max(64) {
            let Some(next) = self.ready.pop_front() else { break };
            match next {
                Ready::Client(at, generation) => {
                    if self.clients.get(at).is_some_and(|c| c.generation == generation) {
                        self.go_on_client(at);
                    }
                }
                Ready::Server(at, generation) => {
                    if self.servers.get(at).is_some_and(|s| s.generation == generation) {
                        self.pump_server(at);
                    }
                }
            }
        }
    }

    /// What a client has sent already is dealt with, then its socket.
    fn go_on_client(&mut self, at: usize) {
        if !self.clients[at].pending.is_empty() {
            let generation = self.clients[at].generation;
            let pending = std::mem::take(&mut self.clients[at].pending);
            self.kept = self.kept.saturating_sub(pending.len());
            let taken = self.client_input(at, &pending);
            if self.clients.get(at).is_none_or(|c| c.generation != generation) {
                return;
            }
            self.keep_pending(at, pending, taken);
        }
        self.pump_client(at);
    }

    /// Keeps what has not been taken of `pending`.
    fn keep_pending(&mut self, at: usize, mut pending: Vec<u8>, taken: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        pending.drain(..taken.min(pending.len()));
        if !client.pending.is_empty() {
            // Its transaction has moved: what it began with comes first.
            client.pending.extend_from_slice(&pending);
        } else if !pending.is_empty() || pending.capacity() <= 4_096 && matches!(client.state, State::Linked(_)) {
            // A little room is kept as long as more is likely to come.
            client.pending = pending;
        }
        self.kept += client.pending.len();
    }

    /// Whether more can be kept of what a client sends. If not, it is sent away: one that sends a message without an end, or
    /// the next one of too many large ones.
    fn may_keep(&mut self, at: usize) -> bool {
        let kept = self.clients[at].pending.len();
        if kept <= READ || kept <= KEPT_OF_ONE && self.kept <= KEPT_OF_ALL {
            return true;
        }
        let failure = match kept > KEPT_OF_ONE {
            true => Failure::new("08P01", format!("a message is longer than {KEPT_OF_ONE} bytes")),
            false => Failure::new("53200", "too many clients send large messages at the same time"),
        };
        self.clients[at].pending = Vec::new();
        self.kept = self.kept.saturating_sub(kept);
        self.dismiss(at, &failure);
        false
    }

    fn ready_client(&mut self, at: usize) {
        self.ready.push_back(Ready::Client(at, self.clients[at].generation));
    }

    fn ready_server(&mut self, at: usize) {
        self.ready.push_back(Ready::Server(at, self.servers[at].generation));
    }

    fn client_event(&mut self, at: usize, event: &mio::event::Event) {
        let client = &self.clients[at];
        let has_more = !client.out.is_empty() || client.transport.wants_write();
        if event.is_writable() && has_more && !self.flush_client(at) {
            return;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.clients[at].is_readable = true;
            self.clients[at].is_closing |= event.is_read_closed() || event.is_error();
            if event.is_read_closed() && self.clients[at].state == State::Waiting {
                // It is not read while it waits; that it has left is seen here.
                self.client_gone(at);
                return;
            }
            self.pump_client(at);
        }
    }

    fn server_event(&mut self, at: usize, event: &mio::event::Event) {
        let server = &self.servers[at];
        let has_more = !server.out.is_empty() || server.transport.wants_write();
        if event.is_writable() && has_more && !self.flush_server(at) {
            return;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.servers[at].is_readable = true;
            self.servers[at].is_closing |= event.is_read_closed() || event.is_error();
            self.pump_server(at);
        }
    }

    /// Whether bytes of a client can be dealt with now.
    fn may_read_client(&self, at: usize) -> bool {
        let client = &self.clients[at];
        match client.state {
            State::Startup | State::Proving | State::Idle => client.out.is_empty(),
            State::Linked(server) => {
                let server = &self.servers[server];
                server.out.is_empty()
                    && server.backend.chore.is_none()
                    && !server.is_rewinding
                    && !self.is_full(server)
                    && !server.backend.is_held()
            }
            // What it still sends is read, and passed over.
            State::Leaving => true,
            State::Verifying | State::Arriving | State::Waiting => false,
        }
    }

    fn is_full(&self, server: &Server) -> bool {
        server.backend.replies.len() >= crate::backend::MAX_REPLIES
    }

    fn pump_client(&mut self, at: usize) {
        let generation = self.clients[at].generation;
        for _ in 0..READS {
            if !self.clients[at].is_readable || !self.may_read_client(at) {
                return;
            }
            if !self.may_keep(at) {
                return;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let client = &mut self.clients[at];
            let outcome = client.transport.read(&mut buffer);
            match outcome {
                Ok(0) => {
                    self.buffer = buffer;
                    self.client_gone(at);
                    return;
                }
                Ok(n) => {
                    client.is_readable = n == buffer.len() || client.transport.has_more() || client.is_closing;
                    if client.pending.is_empty() {
                        let taken = self.client_input(at, &buffer[..n]);
                        if taken < n
                            && let Some(client) = self.clients.get_mut(at)
                            && client.generation == generation
                        {
                            client.pending.extend_from_slice(&buffer[taken..n]);
                            self.kept += n - taken;
                        }
                    } else {
                        let mut pending = std::mem::take(&mut client.pending);
                        self.kept = self.kept.saturating_sub(pending.len());
                        pending.extend_from_slice(&buffer[..n]);
                        let taken = self.client_input(at, &pending);
                        if self.clients.get(at).is_some_and(|c| c.generation == generation) {
                            self.keep_pending(at, pending, taken);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.is_readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(%error, "a client's connection failed");
                    self.buffer = buffer;
                    self.client_gone(at);
                    return;
                }
            }
            self.buffer = buffer;
            if self.clients.get(at).is_none_or(|c| c.generation != generation) {
                return;
            }
        }
        self.ready_client(at);
    }

    fn pump_server(&mut self, at: usize) {
        let generation = self.servers[at].generation;
        for _ in 0..READS {
            let server = &mut self.servers[at];
            let is_blocked = server.client.is_some_and(|client| !self.clients[client].out.is_empty());
            if !server.is_readable || is_blocked {
                return;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let outcome = server.transport.read(&mut buffer);
            let mut lost = None;
            match outcome {
                Ok(0) => lost = Some("the server closed the connection".to_owned()),
                Ok(n) => {
                    server.is_readable = n == buffer.len() || server.transport.has_more() || server.is_closing;
                    self.heard(at);
                    let server = &mut self.servers[at];
                    if server.pending.is_empty() {
                        self.server_bytes(at, &buffer[..n]);
                    } else {
                        let mut pending = std::mem::take(&mut server.pending);
                        pending.extend_from_slice(&buffer[..n]);
                        self.server_bytes(at, &pending);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => server.is_readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => lost = Some(error.to_string()),
            }
            self.buffer = buffer;
            if self.servers.get(at).is_none_or(|s| s.generation != generation) {
                return;
            }
            if let Some(why) = lost {
                self.server_lost(at, &why);
                return;
            }
        }
        self.ready_server(at);
    }

    /// Writes what a client has not taken yet. False if the client is gone.
    fn flush_client(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        match flush(&mut client.transport, &mut client.out) {
            Ok(true) => {
                if client.state == State::Leaving {
                    return self.farewell(at);
                }
                if let State::Linked(server) = client.state {
                    self.ready_server(server);
                }
                self.ready_client(at);
                true
            }
            Ok(false) => true,
            Err(_) => {
                self.client_gone(at);
                false
            }
        }
    }

    /// Writes what a server has not taken yet. False if the connection is gone.
    fn flush_server(&mut self, at: usize) -> bool {
        let server = &mut self.servers[at];
        match flush(&mut server.transport, &mut server.out) {
            Ok(true) => {
                if let Some(client) = server.client {
                    self.ready_client(client);
                }
                true
            }
            Ok(false) => true,
            Err(error) => {
                self.server_lost(at, &error.to_string());
                false
            }
        }
    }

    /// Sends bytes to a client. Whether it is there still.
    fn send_client(&mut self, at: usize, bytes: &[u8]) -> bool {
        let client = &mut self.clients[at];
        let sent = send(&mut client.transport, &mut client.out, bytes);
        if let Some(group) = self.groups.get(client.group) {
            group.shared.cells.shard(self.index).sent.add(bytes.len() as u64);
        }
        if sent.is_err() {
            self.client_gone(at);
            return false;
        }
        true
    }

    /// Sends bytes to a server. Whether the connection is there still.
    fn send_server(&mut self, at: usize, bytes: &[u8]) -> bool {
        let server = &mut self.servers[at];
        if let Err(error) = send(&mut server.transport, &mut server.out, bytes) {
            self.server_lost(at, &error.to_string());
            return false;
        }
        true
    }

    /// What the mail says. False: it is the end.
    fn mail(&mut self) -> bool {
        for mail in self.commons.mailboxes[self.index].take() {
            match mail {
                Mail::Client(client) => self.receive_client(*client),
                Mail::Verified { client, found } => self.verified(client, found),
                Mail::Opened { group, began, outcome } => self.opened(&group, began, outcome),
                Mail::Lent { group, server } => self.receive_server(&group, *server),
                Mail::Wanted { group, by, may_evict } => self.lend(&group, by, may_evict),
                Mail::Room { pool } => self.room(&pool),
                Mail::Cancel { pid, key } => self.cancel(pid, &key),
                Mail::Cancelled { server } => self.cancelled(server),
                Mail::Changed => self.changed(),
                Mail::Kill { pool, whom, answer } => {
                    let killed = self.kill(&pool, &whom);
                    // Whoever asked may have left.
                    let _unread = answer.send(killed);
                }
                Mail::Clients { pool, answer } => {
                    let _unread = answer.send(self.client_views(&pool));
                }
                Mail::Connections { pool, answer } => {
                    let _unread = answer.send(self.connection_views(&pool));
                }
                Mail::Open => {
                    let closed = std::mem::take(&mut self.closed);
                    if let Err(error) = self.listen(closed) {
                        tracing::error!(%error, "the pooler cannot listen");
                    }
                }
                Mail::Drain { is_patient } => self.drain(is_patient),
                Mail::End => return false,
            }
            self.go_on();
        }
        true
    }

    fn pool_of(&self, at: usize) -> Option<&Arc<PoolShared>> {
        self.clients[at].pool.as_ref()
    }
}

/// What the relay needs for a client of this group.
fn context<'a>(
    commons: &'a Commons,
    group: &Group,
    table: &'a mut StatementTable,
    now: Moment,
    cells: &'a GroupCells,
    is_pinned: bool,
) -> Context<'a> {
    let rule = &group.rule;
    Context {
        statements: &commons.statements,
        table,
        group: group.counted_as,
        cells,
        now,
        session_state: rule.session_state,
        is_statement_mode: rule.mode == crate::plan::Mode::Statement,
        is_session_mode: rule.mode == crate::plan::Mode::Session,
        may_pin: is_pinned || group.shared.pinned.load(Ordering::Relaxed) < group.max_pinned,
        max_prepared: group.max_prepared,
        was_pinned_out: false,
    }
}

/// Writes `bytes`, behind what is left of those before; what does not fit is kept.
fn send(transport: &mut crate::transport::Transport, left: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    if left.is_empty() {
        while at < bytes.len() {
            match transport.write(&bytes[at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => at += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        transport.flush()?;
    }
    left.extend_from_slice(&bytes[at..]);
    Ok(())
}

/// Writes what is left; whether nothing is any more.
fn flush(transport: &mut crate::transport::Transport, left: &mut Vec<u8>) -> io::Result<bool> {
    let mut at = 0;
    while at < left.len() {
        match transport.write(&left[at..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => at += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if at == left.len() {
        // What an idle connection takes is to be little.
        *left = Vec::new();
    } else {
        left.drain(..at);
    }
    Ok(transport.flush()? && left.is_empty())
}

/// Whether anything that a client has begun is under way at its connection.
fn is_under_way(backend: &Backend) -> bool {
    !backend.replies.is_empty() || backend.copy_in || backend.passing > 0
}
