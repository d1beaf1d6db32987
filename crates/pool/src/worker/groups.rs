//! Groups in a worker: free connections, who waits for one, when one more is opened.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::Moment;
use mio::Interest;

use super::{SERVER, Worker, token};
use crate::backend::Backend;
use crate::client::State;
use crate::connect::{OpenError, OpenSocket, Opened};
use crate::pairs::Pairs;
use crate::plan::GroupRule;
use crate::server::Server;
use crate::session::Failure;
use crate::shared::{GroupShared, Mail, PoolShared, give_one, take_one};
use crate::stats::{Failure as Counted, StatementTable};
use crate::transport::{Socket, Transport};

/// Connections of one group that are opened at the same time by one worker.
const OPENING: u32 = 8;
/// Another worker's client has to have waited longer than one's own by so much before a connection moves.
const LENDING_SLACK: Duration = Duration::from_millis(5);
/// After a failed attempt to open a connection the next one waits so long, then twice as long, up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// A client of another group that may open nothing, because of the pool's cap, has to have waited longer by so much before a
/// connection is closed, and another one left, for it.
const YIELDING_SLACK: Duration = Duration::from_millis(100);

/// A group in a worker.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) shared: Arc<GroupShared>,
    pub(crate) rule: GroupRule,
    pub(crate) max_pinned: u32,
    pub(crate) max_prepared: usize,
    /// Its number among those whose statements are counted.
    pub(crate) counted_as: u32,
    /// Free connections; the last one that came back goes first.
    pub(crate) free: Vec<usize>,
    /// Who waits, as place, generation and ticket; those that have left are passed over.
    pub(crate) waiting: VecDeque<(usize, u32, u64)>,
    /// Who waits to be told the parameters.
    pub(crate) arriving: Vec<(usize, u32)>,
    /// What a new connection reported.
    pub(crate) welcome: Option<Arc<Pairs>>,
    pub(crate) opening: u32,
    pub(crate) failed: u32,
    /// Before it nothing is opened.
    pub(crate) not_before: Moment,
    /// What the last attempt failed with.
    pub(crate) trouble: Option<String>,
    /// From when on a statement is slow.
    pub(crate) slow: Option<Duration>,
    /// When its server was last taken to be alive.
    pub(crate) heard: Moment,
    /// When the journal was last told that clients were turned away, and that one may not keep its connection.
    pub(crate) told_saturated: Option<Moment>,
    pub(crate) told_pinned_out: Option<Moment>,
}

impl Group {
    fn new(shared: Arc<GroupShared>, table: &mut StatementTable) -> Group {
        let counted_as = table.group(&shared.database, &shared.user);
        let plan = shared.pool.plan.load();
        let rule = plan.rule(&shared.database, &shared.user);
        Group {
            rule,
            max_pinned: plan.max_pinned.min(rule.size),
            max_prepared: plan.max_prepared_statements as usize,
            shared: shared.clone(),
            counted_as,
            free: Vec::new(),
            waiting: VecDeque::new(),
            arriving: Vec::new(),
            welcome: None,
            opening: 0,
            failed: 0,
            not_before: Moment::ZERO,
            trouble: None,
            slow: plan.slow,
            heard: Moment::ZERO,
            told_saturated: None,
            told_pinned_out: None,
        }
    }

    /// Takes over what the plan says now.
    pub(crate) fn take_over(&mut self) {
        let plan = self.shared.pool.plan.load();
        self.rule = plan.rule(&self.shared.database, &self.shared.user);
        self.max_pinned = plan.max_pinned.min(self.rule.size);
        self.max_prepared = plan.max_prepared_statements as usize;
        self.slow = plan.slow;
    }
}

impl Worker {
    /// The group's place in this worker.
    pub(super) fn group_at(&mut self, shared: &Arc<GroupShared>) -> usize {
        let key = Arc::as_ptr(shared) as usize;
        if let Some(at) = self.group_of.get(&key) {
            return *at;
        }
        let new = || StatementTable::new(shared.pool.plan.load().statements);
        let table = self.tables.entry(shared.pool.name.clone()).or_insert_with(new);
        let mut shelves = shared.pool.shelves.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let shelf = table.shelf();
        // A pool that was taken out and has come back finds the table of the one before.
        if !shelves.iter().any(|known| Arc::ptr_eq(known, &shelf)) {
            shelves.push(shelf);
        }
        drop(shelves);
        self.groups.push(Group::new(shared.clone(), table));
        let at = self.groups.len() - 1;
        self.group_of.insert(key, at);
        at
    }

    /// Whether transactions may begin.
    pub(super) fn may_begin(&self, pool: &PoolShared) -> bool {
        let standing = pool.cluster.primary();
        !pool.is_paused.load(Ordering::Relaxed) && !pool.is_gone() && standing.server.is_some() && !standing.is_suspect
    }

    /// A free connection that can be used.
    pub(super) fn take_free(&mut self, group: usize) -> Option<usize> {
        let pool = self.groups[group].shared.pool.clone();
        if !self.may_begin(&pool) {
            return None;
        }
        while let Some(at) = self.groups[group].free.pop() {
            self.servers[at].is_free = false;
            if self.is_fresh(at) {
                return Some(at);
            }
            self.close_server(at);
        }
        None
    }

    /// Whether a connection may be given to another client.
    fn is_fresh(&self, at: usize) -> bool {
        let server = &self.servers[at];
        let pool = &server.shared.pool;
        server.epoch == pool.cluster.primary().epoch
            && server.opened.as_nanos() >= pool.stale_before.load(Ordering::Relaxed)
            && !pool.is_gone()
            && server.expires > self.now
            && !server.backend.is_spoilt
            && server.backend.fatal.is_none()
    }

    /// Puts a client in line.
    pub(super) fn wait_in_line(&mut self, at: usize) -> Result<(), Failure> {
        let group = self.clients[at].group;
        let shared = self.groups[group].shared.clone();
        let most = shared.pool.plan.load().max_waiting;
        if self.groups[group].waiting.len() as u64 >= u64::from(most) {
            // Those that have left do not count.
            let mut waiting = std::mem::take(&mut self.groups[group].waiting);
            waiting.retain(|entry| self.waits(*entry).is_some());
            self.groups[group].waiting = waiting;
        }
        if self.groups[group].waiting.len() as u64 >= u64::from(most) {
            shared.cells.shard(self.index).fail(Counted::QueueFull);
            self.tell_saturated(group, &format!("{most} wait for a connection already"));
            return Err(Failure::new("53300", format!("{most} clients wait for a connection already"))
                .hint("`max_waiting` of this pool says how many may; `size` says how many connections there are"));
        }
        self.ticket += 1;
        let wait = self.why_wait(group);
        let client = &mut self.clients[at];
        client.state = State::Waiting;
        client.since = self.now;
        client.ticket = self.ticket;
        client.wait = wait;
        let entry = (at, client.generation, client.ticket);
        self.groups[group].waiting.push_back(entry);
        self.publish_head(group);
        self.grow(group);
        Ok(())
    }

    /// The client whose turn it is; it is out of the line.
    pub(super) fn next_in_line(&mut self, group: usize) -> Option<usize> {
        loop {
            let entry = self.groups[group].waiting.pop_front()?;
            if self.waits(entry).is_some() {
                self.publish_head(group);
                return Some(entry.0);
            }
        }
    }

    /// Since when a client has waited, if it is still the one that was put in line.
    pub(super) fn waits(&self, (at, generation, ticket): (usize, u32, u64)) -> Option<Moment> {
        let client = self.clients.get(at)?;
        let is_it = client.generation == generation && client.ticket == ticket && client.state == State::Waiting;
        is_it.then_some(client.since)
    }

    /// Since when somebody has waited who is to be told the parameters.
    fn arriving_since(&self, group: usize) -> Option<Moment> {
        let is_here = |(at, generation): &(usize, u32)| {
            self.clients.get(*at).filter(|client| client.generation == *generation).map(|client| client.since)
        };
        self.groups[group].arriving.iter().find_map(is_here)
    }

    /// Since when the first in line has waited.
    pub(super) fn head(&self, group: usize) -> Option<Moment> {
        self.groups[group].waiting.iter().find_map(|entry| self.waits(*entry))
    }

    /// Tells other workers how long somebody has waited here, where a group is split.
    pub(super) fn publish_head(&mut self, group: usize) {
        if self.groups[group].shared.owner().is_some() {
            return;
        }
        let head = loop {
            let Some(&entry) = self.groups[group].waiting.front() else { break 0 };
            match self.waits(entry) {
                Some(since) => break since.as_nanos().max(1),
                None => self.groups[group].waiting.pop_front(),
            };
        };
        self.groups[group].shared.heads[self.index].store(head, Ordering::Relaxed);
    }

    /// Opens connections for those who wait, as far as there may be more.
    pub(super) fn grow(&mut self, group: usize) {
        let shared = self.groups[group].shared.clone();
        let pool = shared.pool.clone();
        if self.now < self.groups[group].not_before || !self.may_begin(&pool) {
            return;
        }
        let plan = pool.plan.load();
        loop {
            let own = &self.groups[group];
            let wanted = own.waiting.len() + usize::from(!own.arriving.is_empty() && own.free.is_empty());
            if wanted <= own.opening as usize || own.opening >= OPENING {
                return;
            }
            let head = self.head(group);
            let uses_reserve = head.is_some_and(|since| self.now.since(since) >= plan.reserve_after);
            let most = own.rule.size + if uses_reserve { plan.reserve } else { 0 };
            if !take_one(&shared.open, most) {
                self.ask_for_one(group, false);
                return;
            }
            let since = head.or(self.arriving_since(group)).unwrap_or(self.now).as_nanos().max(1);
            if is_behind(&pool, since) {
                give_one(&shared.open);
                return;
            }
            if !take_one(&pool.open, plan.max_connections) {
                give_one(&shared.open);
                if !self.make_room(group, since) {
                    return;
                }
                continue;
            }
            // Whoever waited for that has it.
            let mine = |capped: u64| (capped >= since).then_some(0);
            let _was = pool.capped.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mine);
            self.groups[group].opening += 1;
            self.open(shared.clone());
        }
    }

    /// Opens one connection, if there may be one more.
    pub(super) fn open_one(&mut self, group: usize) {
        let shared = self.groups[group].shared.clone();
        let pool = shared.pool.clone();
        let most = pool.plan.load().max_connections;
        if self.now < self.groups[group].not_before || !self.may_begin(&pool) {
            return;
        }
        if take_one(&shared.open, self.groups[group].rule.size) {
            match take_one(&pool.open, most) {
                true => {
                    self.groups[group].opening += 1;
                    self.open(shared);
                }
                false => give_one(&shared.open),
            }
        }
    }

    /// Opens a connection; the outcome comes by mail.
    fn open(&self, shared: Arc<GroupShared>) {
        let (commons, index, began) = (self.commons.clone(), self.index, self.now);
        self.commons.control.spawn(async move {
            let plan = shared.pool.plan.load_full();
            let database = plan.server_database(&shared.database, &shared.user);
            let opened = shared.pool.cluster.open_at_primary(database, &shared.user, shared.secret()).await;
            let mail = Mail::Opened { group: shared, began, outcome: opened.map(Box::new) };
            commons.mailboxes[index].put(mail);
        });
    }

    /// All connections of a split group are open, or all that its pool may have: one that is free at another worker is asked
    /// for.
    fn ask_for_one(&self, group: usize, may_evict: bool) {
        let shared = &self.groups[group].shared;
        if !may_evict && shared.owner().is_some() {
            return;
        }
        for (index, mailbox) in self.commons.mailboxes.iter().enumerate() {
            if index != self.index {
                mailbox.put(Mail::Wanted { group: shared.clone(), by: self.index, may_evict });
            }
        }
    }

    /// The pool has all the connections that it may: a free one of another group goes. Whether that was done.
    fn make_room(&mut self, group: usize, since: u64) -> bool {
        let pool = self.groups[group].shared.pool.clone();
        let earlier = |capped: u64| (capped == 0 || capped > since).then_some(since);
        let _was = pool.capped.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier);
        if self.evict(&pool) {
            return true;
        }
        self.ask_for_one(group, true);
        false
    }

    /// Another connection of a pool may be opened.
    pub(super) fn room(&mut self, pool: &Arc<PoolShared>) {
        for group in 0..self.groups.len() {
            if Arc::ptr_eq(&self.groups[group].shared.pool, pool) {
                self.grow(group);
            }
        }
    }

    /// Whether a connection is one too many: the plan has become smaller, or clients of a group that may open none because
    /// of the pool's cap have waited for much longer than those of this one.
    fn is_too_many(&self, group: usize) -> bool {
        let own = &self.groups[group];
        let pool = &own.shared.pool;
        let plan = pool.plan.load();
        let (open, all) = (own.shared.open.load(Ordering::Relaxed), pool.open.load(Ordering::Relaxed));
        if open > own.rule.size.saturating_add(plan.reserve) || all > plan.max_connections {
            return true;
        }
        let capped = pool.capped.load(Ordering::Relaxed);
        capped != 0
            && all == plan.max_connections
            && open > own.rule.min_size.max(1)
            && is_behind(pool, self.head(group).unwrap_or(self.now).as_nanos())
    }

    /// Closes the free connection of `pool` that was used least recently, beyond the smallest number of its group, unless
    /// there is room already. Whether there was one.
    fn evict(&mut self, pool: &Arc<PoolShared>) -> bool {
        if pool.open.load(Ordering::Relaxed) < pool.plan.load().max_connections {
            return false;
        }
        let candidates = self
            .groups
            .iter()
            .filter(|g| Arc::ptr_eq(&g.shared.pool, pool) && g.shared.open.load(Ordering::Relaxed) > g.rule.min_size);
        let oldest = candidates.flat_map(|g| &g.free).copied().min_by_key(|at| self.servers[*at].used);
        let Some(at) = oldest else { return false };
        self.close_server(at);
        true
    }

    /// A connection was opened, or not.
    pub(super) fn opened(
        &mut self,
        shared: &Arc<GroupShared>,
        began: Moment,
        outcome: Result<Box<(Opened, usize, u64)>, OpenError>,
    ) {
        let group = self.group_at(shared);
        self.groups[group].opening = self.groups[group].opening.saturating_sub(1);
        match outcome {
            Ok(opened) => {
                let (opened, _place, epoch) = *opened;
                self.groups[group].failed = 0;
                self.groups[group].trouble = None;
                match self.adopt(shared, group, opened, (epoch, began)) {
                    Ok(at) => self.put_free(at),
                    Err(error) => {
                        give_one(&shared.open);
                        give_one(&shared.pool.open);
                        tracing::error!(pool = %shared.pool.name, %error, "a new connection could not be watched");
                    }
                }
            }
            Err(error) => {
                give_one(&shared.open);
                give_one(&shared.pool.open);
                self.not_opened(group, &error);
            }
        }
    }

    fn not_opened(&mut self, group: usize, error: &OpenError) {
        let own = &mut self.groups[group];
        own.failed = own.failed.saturating_add(1);
        let base = BACK_OFF.0.saturating_mul(1 << own.failed.min(4)).min(BACK_OFF.1);
        let spread = base.mul_f64(self.entropy.unit() * 0.5);
        own.not_before = self.now + base / 2 + spread;
        own.trouble = Some(error.to_string());
        if error.is_transient() {
            return;
        }
        let failure = Failure::new(error.sqlstate(), error.to_string());
        let arriving = std::mem::take(&mut self.groups[group].arriving);
        for (at, generation) in arriving {
            if self.clients.get(at).is_some_and(|c| c.generation == generation) {
                self.dismiss(at, &failure);
            }
        }
        if self.groups[group].shared.open.load(Ordering::Relaxed) > 0 {
            // Those that are open still serve who waits.
            return;
        }
        while let Some(at) = self.next_in_line(group) {
            self.dismiss(at, &failure);
        }
    }

    /// Takes a new connection in.
    fn adopt(
        &mut self,
        shared: &Arc<GroupShared>,
        group: usize,
        opened: Opened,
        (epoch, began): (u64, Moment),
    ) -> std::io::Result<usize> {
        let mut reported = Pairs::default();
        for (name, value) in &opened.session.parameters {
            reported.set(name, value);
        }
        let reported = self.interner.intern(reported);
        let plan = shared.pool.plan.load();
        let life = plan.lifetime.map(|life| life.mul_f64(1.0 - 0.1 * self.entropy.unit()));
        self.generation = self.generation.wrapping_add(1) & 0x3fff_ffff;
        let Opened { socket, tls, session, rest, server, address } = opened;
        let socket = match socket {
            OpenSocket::Tcp(socket) => Socket::from_tcp(socket)?,
            OpenSocket::Unix(socket) => Socket::from_unix(socket)?,
        };
        let transport = match tls {
            Some(connection) => Transport::client_tls(socket, *connection)?,
            None => Transport::Plain(socket),
        };
        let entry = self.servers.vacant_entry();
        let at = entry.key();
        let mut new = Server {
            transport,
            id: self.commons.next_id.fetch_add(1, Ordering::Relaxed),
            generation: self.generation,
            backend: Backend::new(reported.clone(), self.nothing.clone()),
            shared: shared.clone(),
            group,
            name: server.name.as_str().into(),
            plan: Arc::new(server),
            epoch,
            address,
            pid: session.pid,
            key: session.key,
            client: None,
            is_free: false,
            pending: rest,
            out: Vec::new(),
            is_readable: false,
            is_closing: false,
            // What it was opened by is the plan of that moment, which may be another by now.
            opened: began,
            expires: life.map_or(Moment::MAX, |life| self.now + life),
            used: self.now,
            is_rewinding: false,
            cancels: 0,
            cancelled: None,
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut new.transport, token(SERVER, at, self.generation), interest)?;
        entry.insert(new);
        shared.cells.shard(self.index).opened.inc();
        self.groups[group].welcome = Some(reported);
        let arriving = std::mem::take(&mut self.groups[group].arriving);
        for (client, generation) in arriving {
            if self.clients.get(client).is_some_and(|c| c.generation == generation && c.state == State::Arriving) {
                self.arrived(client);
            }
        }
        Ok(at)
    }

    /// A connection that nobody has goes to whoever waits, or to the free ones.
    pub(super) fn put_free(&mut self, at: usize) {
        let group = self.servers[at].group;
        let shared = self.servers[at].shared.clone();
        if self.servers[at].cancels > 0 {
            return;
        }
        if !self.is_fresh(at) {
            self.close_server(at);
            self.grow(group);
            return;
        }
        if self.is_too_many(group) {
            self.close_server(at);
            self.commons.tell_all(|| Mail::Room { pool: shared.pool.clone() });
            return;
        }
        self.servers[at].used = self.now;
        if self.may_begin(&shared.pool) {
            if let Some(by) = self.waits_longer_elsewhere(group) {
                self.hand_over(at, by);
                return;
            }
            if let Some(client) = self.next_in_line(group) {
                self.link(client, at);
                return;
            }
        }
        self.servers[at].is_free = true;
        self.groups[group].free.push(at);
    }

    /// The worker at which somebody has waited for longer than anybody here, by more than it costs to move a connection.
    fn waits_longer_elsewhere(&self, group: usize) -> Option<usize> {
        let own = &self.groups[group];
        if own.shared.owner().is_some() {
            return None;
        }
        let here = self.head(group);
        let limit = here.map_or(u64::MAX, |here| {
            here.as_nanos().saturating_sub(u64::try_from(LENDING_SLACK.as_nanos()).unwrap_or(u64::MAX))
        });
        let heads = own.shared.heads.iter().enumerate().filter(|(index, _)| *index != self.index);
        let waiting = heads.map(|(index, head)| (head.load(Ordering::Relaxed), index)).filter(|(head, _)| *head > 0);
        waiting.min().filter(|(head, _)| *head < limit).map(|(_, index)| index)
    }

    /// Another worker asks for a connection.
    pub(super) fn lend(&mut self, shared: &Arc<GroupShared>, by: usize, may_evict: bool) {
        let key = Arc::as_ptr(shared) as usize;
        let lent = match self.group_of.get(&key) {
            Some(group) => self.take_free(*group),
            None => None,
        };
        if let Some(at) = lent {
            self.hand_over(at, by);
        } else if may_evict && self.evict(&shared.pool) {
            self.commons.mailboxes[by].put(Mail::Room { pool: shared.pool.clone() });
        }
    }

    /// Gives a connection that nobody has to another worker.
    fn hand_over(&mut self, at: usize, by: usize) {
        let mut server = self.servers.remove(at);
        if self.poll.registry().deregister(&mut server.transport).is_err() {
            give_one(&server.shared.open);
            give_one(&server.shared.pool.open);
            return;
        }
        server.is_free = false;
        let group = server.shared.clone();
        self.commons.mailboxes[by].put(Mail::Lent { group, server: Box::new(server) });
    }

    /// A connection from another worker.
    pub(super) fn receive_server(&mut self, shared: &Arc<GroupShared>, mut server: Server) {
        let group = self.group_at(shared);
        self.generation = self.generation.wrapping_add(1) & 0x3fff_ffff;
        server.generation = self.generation;
        server.group = group;
        server.is_readable = server.transport.has_more();
        server.backend.settings = self.interner.intern(Pairs::clone(&server.backend.settings));
        server.backend.reported = self.interner.intern(Pairs::clone(&server.backend.reported));
        let entry = self.servers.vacant_entry();
        let at = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        if let Err(error) = registry.register(&mut server.transport, token(SERVER, at, self.generation), interest) {
            tracing::error!(%error, "a connection could not be watched");
            give_one(&shared.open);
            give_one(&shared.pool.open);
            return;
        }
        entry.insert(server);
        self.put_free(at);
    }

    /// Ends a connection that nobody has.
    pub(super) fn close_server(&mut self, at: usize) {
        let Some(mut server) = self.servers.try_remove(at) else { return };
        if server.is_free {
            self.groups[server.group].free.retain(|free| *free != at);
        }
        let mut goodbye = Vec::new();
        crate::wire::frontend::put_terminate(&mut goodbye);
        // It is closed in any case.
        let _unsaid = super::send(&mut server.transport, &mut server.out, &goodbye);
        let _gone = self.poll.registry().deregister(&mut server.transport);
        give_one(&server.shared.open);
        give_one(&server.shared.pool.open);
    }

    /// Primary, plan or pause have changed.
    pub(super) fn changed(&mut self) {
        for group in 0..self.groups.len() {
            self.groups[group].take_over();
            let pool = &self.groups[group].shared.pool;
            if let Some(table) = self.tables.get_mut(&pool.name) {
                table.set_most(pool.plan.load().statements);
            }
            let free = self.groups[group].free.clone();
            for at in free {
                if !self.is_fresh(at) || self.is_too_many(group) {
                    self.close_server(at);
                }
            }
            self.leave_old_primary(group);
            self.groups[group].not_before = self.now;
            self.serve_waiting(group);
        }
    }

    /// Gives free connections to those who wait, and opens more.
    pub(super) fn serve_waiting(&mut self, group: usize) {
        while !self.groups[group].waiting.is_empty() {
            let Some(at) = self.take_free(group) else { break };
            match self.next_in_line(group) {
                Some(client) => self.link(client, at),
                None => {
                    self.put_free(at);
                    break;
                }
            }
        }
        self.grow(group);
    }

    /// Connections to a server that is the primary no more are given up, whatever they are doing.
    fn leave_old_primary(&mut self, group: usize) {
        let pool = self.groups[group].shared.pool.clone();
        let epoch = pool.cluster.primary().epoch;
        let old: Vec<usize> =
            self.servers.iter().filter(|(_, s)| s.group == group && s.epoch != epoch).map(|(at, _)| at).collect();
        for at in old {
            if self.servers.contains(at) {
                self.server_lost(at, "the server is not the primary any more");
            }
        }
    }
}

/// Whether somebody else has waited for much longer for a connection of the pool, which has all it may have.
fn is_behind(pool: &PoolShared, since: u64) -> bool {
    let capped = pool.capped.load(Ordering::Relaxed);
    let slack = u64::try_from(YIELDING_SLACK.as_nanos()).unwrap_or(u64::MAX);
    capped != 0 && capped.saturating_add(slack) < since
}
