//! A client logs in: what it says first, who it is, and what it is told.

use std::sync::Arc;

use super::{CLIENT, Worker, token};
use crate::auth::{Secret, Verifier, peer};
use crate::client::{Key, State};
use crate::login::client::{self as logging, ClientLogin, LoginError};
use crate::pairs::Pairs;
use crate::plan::Listen;
use crate::session::{Failure, Session};
use crate::shared::{Mail, PoolShared, take_one};
use crate::stats::Failure as Counted;
use crate::tls;
use crate::transport::Transport;
use crate::wire::{self, HEADER, Startup, backend, tag};

/// The databases that are the administrators' console, for those who may use it.
const CONSOLE: [&str; 2] = ["evenkeel", "pgbouncer"];
/// The highest minor version of the protocol that is spoken.
const MINOR: u16 = 2;
/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;
/// Settings of the startup message that are none.
const NO_SETTINGS: [&str; 4] = ["user", "database", "options", "replication"];

impl Worker {
    /// Bytes of a client that logs in; how many were taken.
    pub(super) fn login_input(&mut self, at: usize, input: &[u8]) -> usize {
        if self.clients[at].state == State::Proving {
            return self.prove_input(at, input);
        }
        let is_plain = matches!(self.clients[at].transport, Transport::Plain(_));
        if input[0] == HANDSHAKE && is_plain && !self.login(at).has_asked {
            self.login(at).is_direct = true;
            return self.begin_tls(at, input, input.len());
        }
        let (said, len) = match wire::startup(input) {
            Ok(Some(found)) => found,
            Ok(None) => return 0,
            Err(error) => {
                self.dismiss(at, &Failure::new(error.sqlstate(), error.to_string()));
                return input.len();
            }
        };
        match said {
            Startup::Ssl => {
                let has_tls = is_plain && self.clients[at].address.is_some() && self.accepting(at).is_some();
                self.login(at).has_asked = true;
                if has_tls {
                    if input.len() > len {
                        // Whoever put it there could not know the answer.
                        self.client_gone(at);
                        return input.len();
                    }
                    if self.send_client(at, b"S") {
                        self.begin_tls(at, &[], len);
                    }
                } else {
                    self.send_client(at, b"N");
                }
                len
            }
            Startup::Gss => {
                self.send_client(at, b"N");
                len
            }
            Startup::Cancel { pid, key } => {
                let worker = (pid >> 24) as usize;
                if pid > 0
                    && let Some(mailbox) = self.commons.mailboxes.get(worker)
                {
                    mailbox.put(Mail::Cancel { pid, key: key.to_vec() });
                }
                self.client_gone(at);
                input.len()
            }
            Startup::Session { minor, parameters } => {
                let parameters: Vec<(String, String)> =
                    parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                match self.session_asked(at, minor, &parameters) {
                    Ok(()) => len,
                    Err(failure) => {
                        self.dismiss(at, &failure);
                        input.len()
                    }
                }
            }
        }
    }

    fn login(&mut self, at: usize) -> &mut crate::client::Login {
        self.clients[at].login.as_mut().expect("a client that logs in has what that takes")
    }

    /// TLS of the first pool at this address that has it.
    fn accepting(&self, at: usize) -> Option<Arc<crate::shared::Accepting>> {
        let listen = self.clients[at].login.as_ref()?.listen.clone();
        let pools = self.commons.pools.load();
        pools.iter().filter(|pool| pool.plan.load().listen.contains(&listen)).find_map(|pool| pool.tls.load_full())
    }

    /// Goes over to TLS; `early` belongs to it already.
    fn begin_tls(&mut self, at: usize, early: &[u8], taken: usize) -> usize {
        let Some(accepting) = self.accepting(at) else {
            self.client_gone(at);
            return taken;
        };
        self.login(at).has_asked = true;
        let mut client = *self.clients.remove(at);
        // It is watched anew.
        let _gone = self.poll.registry().deregister(&mut client.transport);
        match client.transport.accept_tls(&accepting.config, early) {
            Ok(transport) => client.transport = transport,
            Err(error) => {
                tracing::debug!(%error, "TLS could not be begun");
                return taken;
            }
        }
        client.is_readable = true;
        if let Some(at) = self.take_in(client) {
            self.ready_client(at);
        }
        taken
    }

    /// A client asks for a session.
    fn session_asked(&mut self, at: usize, minor: u16, parameters: &[(String, String)]) -> Result<(), Failure> {
        let value = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let user = value("user").filter(|user| !user.is_empty());
        let Some(user) = user else {
            return Err(Failure::new("28000", "no user name is given in the startup message"));
        };
        let database = value("database").filter(|d| !d.is_empty()).unwrap_or_else(|| user.clone());
        if value("replication").is_some_and(|r| !matches!(r.as_str(), "false" | "off" | "no" | "0")) {
            return Err(
                Failure::new("0A000", "replication connections are not pooled").hint("connect to Postgres itself")
            );
        }
        let mut settings: Vec<(String, String)> = parameters
            .iter()
            .filter(|(name, _)| !NO_SETTINGS.contains(&name.as_str()) && !name.starts_with("_pq_."))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect();
        if let Some(options) = value("options") {
            settings.extend(read_options(&options)?);
        }
        let unknown = parameters.iter().filter(|(name, _)| name.starts_with("_pq_.")).map(|(n, _)| n.clone()).collect();
        let listen = self.login(at).listen.clone();
        let (pool, console) = self.pool_for(&listen, &database, &user)?;
        if self.clients[at].transport.tls().is_some_and(|tls| tls.alpn().is_none()) && self.login(at).is_direct {
            return Err(Failure::new("08P01", "TLS without a request for it needs ALPN")
                .hint("`sslnegotiation=direct` of libpq asks for it"));
        }
        let plan = pool.plan.load_full();
        let is_tls = self.clients[at].transport.tls().is_some();
        if plan.tls.as_ref().is_some_and(|tls| tls.is_required) && !is_tls && self.clients[at].address.is_some() {
            return Err(Failure::new("28000", "this pool takes connections with TLS only").hint("use sslmode=require"));
        }
        if !take_one(&pool.clients, plan.max_clients) {
            return Err(Failure::new("53300", format!("{} clients are connected already", plan.max_clients))
                .hint("`max_clients` of this pool says how many may be"));
        }
        let login = self.login(at);
        login.is_counted = true;
        login.minor = minor;
        login.unknown = unknown;
        login.settings = settings;
        login.console = console;
        (login.database, login.user) = (database, user.clone());
        self.clients[at].pool = Some(pool.clone());
        if self.negotiate(at) {
            self.verify(at, &pool, user);
        }
        Ok(())
    }

    /// Says what is spoken, if more was asked for: before anything else, as clients expect it. False if the client is gone.
    fn negotiate(&mut self, at: usize) -> bool {
        let login = self.login(at);
        let is_spoken = matches!(login.minor, 0 | MINOR);
        if is_spoken && login.unknown.is_empty() {
            return true;
        }
        let minor = if login.minor >= MINOR { MINOR } else { 0 };
        let unknown: Vec<&str> = login.unknown.iter().map(String::as_str).collect();
        let mut out = Vec::new();
        backend::put_negotiate(&mut out, minor, &unknown);
        self.send_client(at, &out)
    }

    /// The pool at this address that has the database; and, if it is the console that is wanted, what may be done there.
    fn pool_for(
        &self,
        listen: &Arc<Listen>,
        database: &str,
        user: &str,
    ) -> Result<(Arc<PoolShared>, Option<bool>), Failure> {
        let pools = self.commons.pools.load();
        let here: Vec<&Arc<PoolShared>> = pools.iter().filter(|p| p.plan.load().listen.contains(listen)).collect();
        if CONSOLE.contains(&database) {
            for pool in &here {
                let plan = pool.plan.load();
                if plan.admin_users.iter().any(|u| u == user) {
                    return Ok(((*pool).clone(), Some(true)));
                }
                if plan.stats_users.iter().any(|u| u == user) {
                    return Ok(((*pool).clone(), Some(false)));
                }
            }
        }
        let named = |pool: &&&Arc<PoolShared>| {
            let plan = pool.plan.load();
            plan.databases.is_some() && plan.has_database(database)
        };
        let any = |pool: &&&Arc<PoolShared>| pool.plan.load().databases.is_none();
        let found = here.iter().find(named).or_else(|| here.iter().find(any));
        let Some(pool) = found else {
            return Err(Failure::new("3D000", format!("database \"{database}\" is served by no pool here"))
                .hint("`databases` of the pool says which are"));
        };
        Ok(((*pool).clone(), None))
    }

    /// Finds out what shows that a client is its user.
    fn verify(&mut self, at: usize, pool: &Arc<PoolShared>, user: String) {
        self.clients[at].state = State::Verifying;
        let token = token(CLIENT, at, self.clients[at].generation).0;
        let (commons, index, pool) = (self.commons.clone(), self.index, pool.clone());
        if let Some(known) = pool.verifiers.load().known(&user) {
            let found = Ok(known.map(|v| Verifier::clone(&v)));
            self.verified(token, found);
            return;
        }
        self.commons.control.spawn(async move {
            let found = look_up(&pool, &user).await;
            commons.mailboxes[index].put(Mail::Verified { client: token, found });
        });
    }

    /// What is known of a client's user.
    pub(super) fn verified(&mut self, client: usize, found: Result<Option<Verifier>, Failure>) {
        let at = client & 0xffff_ffff;
        let is_it = self.clients.get(at).is_some_and(|c| token(CLIENT, at, c.generation).0 == client);
        if !is_it || self.clients[at].state != State::Verifying {
            return;
        }
        let verifier = match found {
            Ok(verifier) => verifier,
            Err(failure) => {
                self.count_login(at);
                self.dismiss(at, &failure);
                return;
            }
        };
        let user = self.login(at).user.clone();
        match self.vouched(at, &user) {
            Ok(true) => {
                let mut out = Vec::new();
                let secret = logging::vouched(verifier.as_ref(), &mut out);
                self.login(at).greeting = out;
                self.proven(at, secret);
                return;
            }
            Ok(false) => {}
            Err(error) => {
                self.refuse(at, &error);
                return;
            }
        }
        let channel = self.clients[at].transport.tls().and(self.accepting(at)).and_then(|a| a.end_point.clone());
        let mut out = Vec::new();
        match ClientLogin::begin(&user, verifier.as_ref(), channel.as_deref(), &mut out) {
            Ok(exchange) => {
                self.login(at).exchange = Some(Box::new(exchange));
                self.clients[at].state = State::Proving;
                // What Postgres took to answer is not the client's time.
                self.clients[at].since = self.now;
                if self.send_client(at, &out) {
                    self.ready_client(at);
                }
            }
            Err(error) => self.refuse(at, &error),
        }
    }

    /// Whether something else than a password shows who the client is.
    fn vouched(&self, at: usize, user: &str) -> Result<bool, LoginError> {
        let client = &self.clients[at];
        let Some(pool) = &client.pool else { return Ok(false) };
        let methods = pool.plan.load().auth.methods;
        if methods.peer && client.transport.socket().is_unix() {
            let found = peer::peer_user(&client.transport);
            if found.as_deref().is_ok_and(|found| found == user) {
                return Ok(true);
            }
        }
        if methods.certificate
            && let Some(stream) = client.transport.tls()
        {
            if !self.is_checked_for(at, pool) {
                return Err(LoginError::Certificate { user: user.to_owned(), found: None });
            }
            let found = stream.peer_certificate().and_then(tls::common_name);
            if found.as_deref() == Some(user) {
                return Ok(true);
            }
            return Err(LoginError::Certificate { user: user.to_owned(), found });
        }
        Ok(false)
    }

    /// Whether TLS towards a client was begun by the pool's own authorities. Of several pools at an address it is begun by
    /// the first one's, before it is known which pool is meant; a certificate counts only where both trust the same.
    fn is_checked_for(&self, at: usize, pool: &PoolShared) -> bool {
        let Some(login) = &self.clients[at].login else { return false };
        let pools = self.commons.pools.load();
        let first =
            pools.iter().find(|other| other.plan.load().listen.contains(&login.listen) && other.tls.load().is_some());
        let authorities = |pool: &PoolShared| pool.plan.load().tls.as_ref().map(|tls| tls.client_ca.clone());
        first.is_some_and(|first| authorities(first) == authorities(pool))
    }

    fn refuse(&mut self, at: usize, error: &LoginError) {
        self.count_login(at);
        let client = &self.clients[at];
        let address = client.address.map_or_else(|| "unix".to_owned(), |a| a.to_string());
        let pool = client.pool.as_ref().map(|p| p.name.clone()).unwrap_or_default();
        tracing::warn!(%pool, %address, reason = %error.reason(), "a login was refused");
        let mut out = Vec::new();
        error.put(&mut out);
        self.say_goodbye(at, &out);
    }

    fn count_login(&mut self, at: usize) {
        if let Some(pool) = self.clients[at].pool.clone() {
            // It has no group yet: the first of the pool's counts it, if there is one.
            if let Some(group) = self.groups.iter().find(|g| Arc::ptr_eq(&g.shared.pool, &pool)) {
                group.shared.cells.shard(self.index).fail(Counted::Login);
            }
        }
    }

    /// A client's proof.
    fn prove_input(&mut self, at: usize, input: &[u8]) -> usize {
        let frame = match wire::frame(input) {
            Ok(Some(frame)) => frame,
            Ok(None) => return 0,
            Err(error) => {
                self.dismiss(at, &Failure::new(error.sqlstate(), error.to_string()));
                return input.len();
            }
        };
        if frame.tag != tag::PASSWORD || frame.len > logging::MOST_BODY + HEADER {
            // A client that gives up when it is asked for a password just leaves.
            self.client_gone(at);
            return input.len();
        }
        if input.len() < frame.len {
            return 0;
        }
        let mut out = Vec::new();
        let user = self.login(at).user.clone();
        let Some(exchange) = self.login(at).exchange.as_mut() else { return input.len() };
        match exchange.message(&input[HEADER..frame.len], &mut out) {
            Ok(None) => {
                self.send_client(at, &out);
            }
            Ok(Some(secret)) => {
                self.login(at).greeting = out;
                self.proven(at, secret);
            }
            Err(error) => {
                if error.is_about_the_verifier()
                    && let Some(pool) = self.pool_of(at)
                {
                    pool.verifiers.load().doubt(&user);
                }
                self.refuse(at, &error);
            }
        }
        frame.len
    }

    /// A client has proved who it is.
    fn proven(&mut self, at: usize, secret: Secret) {
        if let Some(may_order) = self.login(at).console {
            self.open_console(at, may_order);
            return;
        }
        let Some(pool) = self.clients[at].pool.clone() else { return };
        let (database, user) = (self.login(at).database.clone(), self.login(at).user.clone());
        let Some(group) = pool.group(&database, &user, &self.commons, self.index) else {
            let failure = Failure::new("53300", "there are too many databases and users in this pool already");
            self.dismiss(at, &failure.hint("`databases` of the pool says which may be asked for"));
            return;
        };
        if !matches!(secret, Secret::None) {
            group.set_secret(secret);
        }
        self.clients[at].state = State::Arriving;
        self.clients[at].since = self.now;
        match group.owner() {
            Some(owner) if owner != self.index => {
                let mut client = *self.clients.remove(at);
                if self.poll.registry().deregister(&mut client.transport).is_err() {
                    crate::shared::give_one(&pool.clients);
                    return;
                }
                self.commons.mailboxes[owner].put(Mail::Client(Box::new(client)));
            }
            _ => self.arrive(at),
        }
    }

    /// A client wants the console: its socket goes to a thread of its own.
    fn open_console(&mut self, at: usize, may_order: bool) {
        let mut client = *self.clients.remove(at);
        let _gone = self.poll.registry().deregister(&mut client.transport);
        let Some(pool) = client.pool.take() else { return };
        crate::shared::give_one(&pool.clients);
        let (user, greeting) = client.login.map(|login| (login.user, login.greeting)).unwrap_or_default();
        let Some(inner) = self.commons.console.get() else { return };
        let (transport, pending) = (client.transport, client.pending);
        let start = crate::console::Start { transport, pending, greeting, may_order, pool: pool.name.clone(), user };
        crate::console::open(start, inner);
    }

    /// A client is where its group is.
    pub(super) fn arrive(&mut self, at: usize) {
        let Some(pool) = self.clients[at].pool.clone() else { return };
        let (database, user) = (self.login(at).database.clone(), self.login(at).user.clone());
        let Some(shared) = pool.group(&database, &user, &self.commons, self.index) else { return };
        let group = self.group_at(&shared);
        self.clients[at].group = group;
        if pool.is_gone() {
            self.dismiss(at, &Failure::new("57P01", "terminating connection: the pool is gone"));
        } else if self.groups[group].welcome.is_some() {
            self.arrived(at);
        } else {
            let generation = self.clients[at].generation;
            self.groups[group].arriving.push((at, generation));
            self.grow(group);
        }
    }

    /// A client is told the parameters, and is logged in.
    pub(super) fn arrived(&mut self, at: usize) {
        let group = self.clients[at].group;
        let Some(welcome) = self.groups[group].welcome.clone() else { return };
        let Some(login) = self.clients[at].login.take() else { return };
        let mut settings = Pairs::default();
        login.settings.iter().for_each(|(name, value)| settings.set(name, value));
        let mut told = Pairs::clone(&welcome);
        for (name, _) in welcome.iter() {
            if let Some(value) = settings.get(&name.to_ascii_lowercase()) {
                told.set(name, value);
            }
        }
        let mut out = login.greeting.clone();
        out.reserve(512);
        for (name, value) in told.iter() {
            backend::put_parameter_status(&mut out, name, value);
        }
        let key = match self.new_key(login.minor >= MINOR) {
            Ok(key) => key,
            Err(error) => {
                self.clients[at].login = Some(login);
                self.dismiss(at, &Failure::new("58000", format!("no randomness for a cancel key: {error}")));
                return;
            }
        };
        backend::put_key_data(&mut out, key.pid, &key.secret);
        backend::put_ready(&mut out, b'I');
        self.by_pid.insert(key.pid, at);
        let (settings, told) = (self.interner.intern(settings), self.interner.intern(told));
        let client = &mut self.clients[at];
        client.key = key;
        client.session = Session::new(settings, told);
        client.state = State::Idle;
        client.since = self.now;
        if self.send_client(at, &out) {
            self.ready_client(at);
        }
    }

    /// A key that cancels this client's queries and nobody else's. Its process number is positive, and says the worker.
    fn new_key(&mut self, is_long: bool) -> Result<Key, getrandom::Error> {
        let mut secret = vec![0; if is_long { 32 } else { 4 }].into_boxed_slice();
        getrandom::fill(&mut secret)?;
        loop {
            let low = self.entropy.below(1 << 24) as i32;
            let pid = ((self.index as i32) << 24) | low;
            if low != 0 && !self.by_pid.contains_key(&pid) {
                return Ok(Key { pid, secret });
            }
        }
    }
}

/// Asks who a user is, for as long as the pool lets its clients wait.
async fn look_up(pool: &Arc<PoolShared>, user: &str) -> Result<Option<Verifier>, Failure> {
    let patience = pool.plan.load().queue_timeout;
    let asking = async {
        loop {
            match pool.verifiers.load_full().lookup(user).await {
                Ok(found) => return Ok(found.map(|v| Verifier::clone(&v))),
                Err(error) if error.is_transient() => {
                    let trouble = error.to_string();
                    tracing::debug!(pool = %pool.name, %trouble, "a user's verifier could not be had");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                Err(error) => {
                    tracing::error!(pool = %pool.name, %error, "users cannot be looked up");
                    let failure = Failure::new(error.sqlstate(), format!("users cannot be looked up: {error}"));
                    return Err(failure);
                }
            }
        }
    };
    match tokio::time::timeout(patience, asking).await {
        Ok(found) => found,
        Err(_) => {
            let trouble = pool.cluster.primary().trouble.clone();
            let trouble = trouble.as_deref().unwrap_or("it did not answer in time").to_owned();
            Err(Failure::new("57P03", format!("nobody can be asked who \"{user}\" is: {trouble}")))
        }
    }
}

/// Settings in the `options` of a startup message: `-c name=value` and `--name=value`, with backslashes before blanks.
fn read_options(options: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut words = vec![String::new()];
    let mut letters = options.chars();
    while let Some(letter) = letters.next() {
        let word = words.last_mut().expect("there is always one");
        match letter {
            '\\' => word.extend(letters.next()),
            ' ' | '\t' | '\n' => {
                if !word.is_empty() {
                    words.push(String::new());
                }
            }
            other => word.push(other),
        }
    }
    let mut found = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("--") {
            Some(pair) => pair.to_owned(),
            None if word == "-c" => words.next().unwrap_or_default(),
            None => word.strip_prefix("-c").unwrap_or_default().to_owned(),
        };
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Failure::new("08P01", format!("`options` has \"{word}\", which is no setting"))
                .hint("use `-c name=value`"));
        };
        found.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings() {
        let found = read_options(r"-c geqo=off  --statement-timeout=5min -csearch_path=a\ b").unwrap();
        let expected = [("geqo", "off"), ("statement_timeout", "5min"), ("search_path", "a b")];
        assert_eq!(found, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert!(read_options("-x").is_err());
        assert!(read_options("").unwrap().is_empty());
    }
}
