//! New clients: accepted, and received from other workers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::{Interest, Token};

use super::{CLIENT, FIRST_LISTENER, MAX_LISTENERS, Worker, token};
use crate::client::{Client, Key, Login, State};
use crate::plan::{Listen, Mode};
use crate::session::Session;
use crate::transport::{Socket, Transport};

/// Connections that are accepted before others have their turn.
const ACCEPTS: usize = 64;
/// Connections that may wait to be accepted.
const QUEUE: usize = 4_096;
/// Clients that came after one that still has not said what it wants, before that one has to leave; more where the pools
/// take more clients. It has `login_timeout` in any case, but in that time there could be as many as there are descriptors.
pub(super) const STRANGERS: usize = 4_096;

/// That nobody can be accepted is said again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: Listening,
    pub(crate) listen: Arc<Listen>,
}

/// The socket itself.
#[derive(Debug)]
pub(crate) enum Listening {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl Worker {
    /// Watches listening sockets.
    pub(super) fn listen(&mut self, listeners: Vec<Listener>) -> io::Result<()> {
        for (at, mut listener) in listeners.into_iter().take(MAX_LISTENERS).enumerate() {
            let token = Token(FIRST_LISTENER + at);
            match &mut listener.socket {
                Listening::Tcp(socket) => self.poll.registry().register(socket, token, Interest::READABLE)?,
                Listening::Unix(socket) => self.poll.registry().register(socket, token, Interest::READABLE)?,
            }
            self.listeners.push(listener);
        }
        Ok(())
    }

    /// Accepts who waits.
    pub(super) fn accept(&mut self, at: usize) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(at) else { return };
            let accepted = match &listener.socket {
                Listening::Tcp(socket) => socket.accept().map(|(stream, address)| (Socket::Tcp(stream), Some(address))),
                Listening::Unix(socket) => socket.accept().map(|(stream, _)| (Socket::Unix(stream), None)),
            };
            match accepted {
                Ok((socket, address)) => {
                    let listen = listener.listen.clone();
                    self.admit(Transport::Plain(socket), address, listen);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Descriptors or memory: the next tick tries again.
                    if self.told_refused.is_none_or(|told| self.now.since(told) >= AGAIN) {
                        self.told_refused = Some(self.now);
                        tracing::warn!(%error, "a client could not be accepted");
                    }
                    return;
                }
            }
        }
        // No edge announces those that are left.
        self.unaccepted = true;
    }

    /// Accepts everywhere; what an edge does not announce is found by this.
    pub(super) fn accept_all(&mut self) {
        self.unaccepted = false;
        for at in 0..self.listeners.len() {
            self.accept(at);
        }
    }

    /// Accepts all who wait now, as far as a queue can be long.
    fn accept_queue(&mut self, at: usize) {
        for _ in 0..QUEUE / ACCEPTS {
            self.unaccepted = false;
            self.accept(at);
            if !self.unaccepted {
                return;
            }
        }
    }

    fn admit(&mut self, transport: Transport, address: Option<SocketAddr>, listen: Arc<Listen>) {
        let login = Login {
            listen,
            minor: 0,
            unknown: Vec::new(),
            database: String::new(),
            user: String::new(),
            settings: Vec::new(),
            exchange: None,
            has_asked: false,
            is_direct: false,
            console: None,
            is_counted: false,
            greeting: Vec::new(),
        };
        let client = Client {
            transport,
            id: self.commons.id(),
            generation: 0,
            state: State::Startup,
            session: Session::new(self.nothing.clone(), self.nothing.clone()),
            pool: None,
            group: usize::MAX,
            pending: Vec::new(),
            out: Vec::new(),
            // The registration announces what is there already.
            is_readable: false,
            is_closing: false,
            login: Some(Box::new(login)),
            address,
            connected: self.now,
            since: self.now,
            key: Key::default(),
            ticket: 0,
            wait: crate::client::Wait::default(),
        };
        // Where it cannot be watched it is closed, and that has been said.
        let _place = self.take_in(client);
    }

    /// Gives a client a place, and watches it.
    pub(super) fn take_in(&mut self, mut client: Client) -> Option<usize> {
        self.generation = self.generation.wrapping_add(1) & 0x3fff_ffff;
        client.generation = self.generation;
        let entry = self.clients.vacant_entry();
        let at = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        if let Err(error) = registry.register(&mut client.transport, token(CLIENT, at, client.generation), interest) {
            tracing::warn!(%error, "a client could not be watched");
            if let Some(pool) = &client.pool {
                crate::shared::give_one(&pool.clients);
            }
            return None;
        }
        if client.pool.is_none() {
            self.strangers.push_back((at, client.generation));
        }
        entry.insert(Box::new(client));
        self.forget_strangers();
        Some(at)
    }

    /// Makes room: who has said nothing for longest leaves first.
    fn forget_strangers(&mut self) {
        while self.strangers.len() > self.most_strangers {
            let Some((at, generation)) = self.strangers.pop_front() else { return };
            let is_one = |client: &Client| client.generation == generation && client.state == State::Startup;
            if self.clients.get(at).is_some_and(|client| is_one(client)) {
                tracing::debug!(client = self.clients[at].id, "many are connecting: one that says nothing is closed");
                self.drop_client(at);
            }
        }
    }

    /// How many strangers there may be, by what the pools say.
    pub(super) fn count_strangers(&mut self) {
        let clients = self.commons.pools.load().iter().map(|pool| pool.plan.load().max_clients as usize).sum::<usize>();
        self.most_strangers = clients.max(STRANGERS);
    }

    /// A client from another worker: it has proved who it is, and its group is at home here.
    pub(super) fn receive_client(&mut self, mut client: Client) {
        client.is_readable = client.transport.has_more();
        if let Some(at) = self.take_in(client) {
            self.arrive(at);
        }
    }

    /// No more clients: those that are there leave when they have nothing under way, or, if there is patience, as they like.
    pub(super) fn drain(&mut self, is_patient: bool) {
        // Who waits to be accepted has no other process to turn to; at a Unix socket also after a hand-over, because the next
        // process has bound its own.
        for at in 0..self.listeners.len() {
            let has_another = is_patient && matches!(self.listeners[at].socket, Listening::Tcp(_));
            if !has_another {
                self.accept_queue(at);
            }
        }
        self.stop_listening();
        self.is_draining = !is_patient;
        if is_patient {
            return;
        }
        let all: Vec<usize> = self.clients.iter().map(|(at, _)| at).collect();
        for at in all {
            if self.clients.contains(at) {
                self.leave_if_at_rest(at);
                self.leave_own_connection(at);
            }
        }
    }

    /// A client that keeps its connection, and has nothing under way there, leaves with it.
    fn leave_own_connection(&mut self, at: usize) {
        let Some(client) = self.clients.get(at) else { return };
        let State::Linked(server) = client.state else { return };
        let held = &self.servers[server];
        let keeps = client.session.pinned.is_some() || self.groups[held.group].rule.mode == Mode::Session;
        let is_at_rest = held.backend.is_at_rest() && held.out.is_empty() && !held.is_rewinding;
        if keeps && is_at_rest && client.pending.is_empty() && client.session.passing == 0 {
            self.leave(at);
        }
    }

    /// Leaves the listening sockets to another process, or closes them.
    pub(super) fn stop_listening(&mut self) {
        self.closed.clear();
        for mut listener in self.listeners.drain(..) {
            let registry = self.poll.registry();
            // It is closed in any case.
            let _gone = match &mut listener.socket {
                Listening::Tcp(socket) => registry.deregister(socket),
                Listening::Unix(socket) => registry.deregister(socket),
            };
        }
    }
}
