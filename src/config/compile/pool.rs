//! Pools: certificates, keys and users are read from their files, addresses become sockets, and what contradicts itself is
//! said. What only a Postgres can tell (whether it is there, what it may be asked) is not looked at here.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Rule, Severity, Span};
use pool::plan::{
    AuthMethods, AuthPlan, ClientTlsPlan, Listen, Mode, Plan, PoolPlan, RulePlan, ServerAddress, ServerPlan,
    ServerTlsMode, ServerTlsPlan, SessionState,
};
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::context::Context;
use crate::config::document::Path;
use crate::config::model::pool::{Identifier, Pool, PoolMode, PoolRule, PoolServer, SslMode};
use crate::config::model::{Name, pool as model};
use crate::path;

/// The largest file of certificates or of a key, in bytes: hundreds of certificates fit.
const MAX_PEM: usize = 256 << 10;

/// The largest file of users, in bytes: some ten thousand SCRAM verifiers fit.
pub(crate) const MAX_USERS: usize = 1 << 20;

pub(crate) const UNREADABLE_POOL_FILE: Rule = Rule {
    id: "unreadable-pool-file",
    severity: Severity::Error,
    title: "A file of a pool cannot be used",
    what: "`auth_file` of a `[pool.NAME]`, `certificate`, `key` or `client_ca` of its `tls`, or `ca` of its `server_tls` names \
           a file that cannot be read, is too large, or does not hold what it should.",
    why: "A pool without its certificate or its users would refuse clients, or believe the wrong server.",
    remedy: "Correct the path (a relative one counts from the directory of the configuration file), and make the file \
             readable to the user that Evenkeel runs as. Certificates and keys are in PEM (`-----BEGIN …`), a key without a \
             passphrase. Users are one a line: `\"user\" \"verifier\"`.",
    example: "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"127.0.0.1:5432\"]\n\
              auth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n\
              auth_file = \"userlist.txt\"",
};

pub(crate) const POOLS_SHARE_DATABASE: Rule = Rule {
    id: "pools-share-database",
    severity: Severity::Error,
    title: "Two pools take the same database at one address",
    what: "Two `[pool.NAME]` have an address in common, and a database that both take. A pool without `databases` takes \
           every one.",
    why: "A client that asks for the database could be meant for either.",
    remedy: "Give each pool its own address, or list under `databases` which ones are whose.",
    example: "[pool.shop]\nlisten = \"127.0.0.1:6432\"\nservers = [\"10.0.0.5\"]\ndatabases = [\"shop\"]\n\
              auth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n\
              [pool.blog]\nlisten = \"127.0.0.1:6432\"\nservers = [\"10.0.0.6\"]\ndatabases = [\"blog\"]\n\
              auth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }",
};

pub(crate) const CERTIFICATE_WITHOUT_CA: Rule = Rule {
    id: "certificate-without-ca",
    severity: Severity::Error,
    title: "Clients are to show certificates that nobody asks for",
    what: "`auth` of a `[pool.NAME]` has `certificate = true`, and its `tls` is absent or has no `client_ca`.",
    why: "A certificate is only asked for where it can be checked, so no client could log in.",
    remedy: "Name in `client_ca` of `tls` who signs the certificates of clients, or take `certificate` out.",
    example: "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"127.0.0.1:5432\"]\n\
              auth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\", certificate = true }\n\
              tls = { certificate = \"pool.pem\", key = \"pool.key\", client_ca = \"clients.pem\" }",
};

pub(crate) const DIRECT_WITHOUT_TLS: Rule = Rule {
    id: "direct-without-tls",
    severity: Severity::Error,
    title: "TLS is to begin at once, and need not be there",
    what: "`server_tls` of a `[pool.NAME]` has `direct = true` with the mode `disable` or `prefer`.",
    why: "Whoever begins with TLS cannot fall back to none: a server without it answers nothing at all.",
    remedy: "Set `mode` to `require` or more, or take `direct` out.",
    example: "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"10.0.0.5\"]\n\
              auth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n\
              server_tls = { mode = \"verify-full\", direct = true }",
};

/// Every pool. What is read is added to `files`.
pub(super) fn pools(context: &Context<'_>, files: &mut Vec<PathBuf>) -> Plan {
    let all: Vec<(&Name, &Pool)> = context.config.pool.iter().collect();
    for (i, (name, pool)) in all.iter().enumerate() {
        contradictions(context, name, pool);
        for (other_name, other) in &all[..i] {
            shared(context, (name, pool), (other_name, other));
        }
    }
    Plan { pools: all.into_iter().map(|(name, pool)| Arc::new(plan(context, name, pool, files))).collect() }
}

fn contradictions(context: &Context<'_>, name: &Name, pool: &Pool) {
    let at = path!["pool", name.as_str()];
    let has_ca = pool.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if pool.auth.certificate && !has_ca && !context.is_damaged(&at.then("tls")) {
        let message =
            format!("clients of `{name}` are to show certificates, and `tls` has no `client_ca` to check them by");
        let remedy = "add `client_ca` to `tls`, or take `certificate` out";
        context.say(&CERTIFICATE_WITHOUT_CA, &at.then("auth").then("certificate"), message, remedy);
    }
    let tls = &pool.server_tls;
    if tls.direct && tls.mode < SslMode::Require && !context.is_damaged(&at.then("server_tls")) {
        let message = "TLS that begins at once cannot fall back to none";
        let remedy = "set `mode` to `require`, `verify-ca` or `verify-full`, or take `direct` out";
        context.say(&DIRECT_WITHOUT_TLS, &at.then("server_tls").then("direct"), message, remedy);
    }
}

/// Says so if both take a database at one address.
fn shared(context: &Context<'_>, (name, pool): (&Name, &Pool), (other_name, other): (&Name, &Pool)) {
    let listens = |pool: &Pool| pool.listen.0.iter().map(|listen| place(listen, pool)).collect::<Vec<_>>();
    let theirs = listens(other);
    let Some(address) = listens(pool).into_iter().find(|address| theirs.contains(address)) else { return };
    let at = path!["pool", name.as_str()];
    let others_at = path!["pool", other_name.as_str(), "databases"];
    if context.is_damaged(&at.then("databases")) || context.is_damaged(&others_at) {
        return;
    }
    let (what, key) = match (&pool.databases, &other.databases) {
        (Some(mine), Some(theirs)) => match mine.iter().find(|database| theirs.contains(database)) {
            Some(database) => (format!("both take the database `{database}`"), "databases"),
            None => return,
        },
        (None, _) => (format!("`{name}` takes every database"), "listen"),
        (_, None) => (format!("`{other_name}` takes every database"), "listen"),
    };
    let message = format!("the pools `{name}` and `{other_name}` share the address {address}, and {what}");
    let remedy = "give each its own address, or list under `databases` which ones are whose";
    context.say(&POOLS_SHARE_DATABASE, &at.then(key), message, remedy);
}

fn plan(context: &Context<'_>, name: &Name, pool: &Pool, files: &mut Vec<PathBuf>) -> PoolPlan {
    let at = path!["pool", name.as_str()];
    let mut reader = Reader { context, files };
    let users = pool.auth_file.as_ref().map(|file| reader.users(file, &at.then("auth_file")));
    let tls = pool.tls.as_ref().map(|tls| client_tls(&mut reader, tls, &at.then("tls")));
    let server_tls = ServerTlsPlan {
        mode: server_tls_mode(pool.server_tls.mode),
        direct: pool.server_tls.direct,
        ca: reader.optional(pool.server_tls.ca.as_deref(), &at.then("server_tls").then("ca")),
    };
    try_tls(context, &at, tls.as_ref(), &server_tls);
    PoolPlan {
        name: name.to_string(),
        listen: pool.listen.0.iter().map(|listen| place(listen, pool)).collect(),
        servers: pool.servers.iter().map(server).collect(),
        databases: pool.databases.as_deref().map(texts),
        rules: pool.rule.iter().map(rule).collect(),
        auth: AuthPlan {
            user: pool.auth.user.to_string(),
            password: pool.auth.password.as_str().to_owned(),
            database: pool.auth.database.to_string(),
            query: pool.auth.query.to_string(),
            users: users.unwrap_or_default(),
            methods: AuthMethods { certificate: pool.auth.certificate, peer: pool.auth.peer },
        },
        mode: mode(pool.mode),
        session_state: session_state(pool.session_state),
        size: pool.size,
        min_size: pool.min_size,
        reserve: pool.reserve,
        reserve_after: pool.reserve_after.into(),
        max_connections: pool.max_connections,
        max_clients: pool.max_clients,
        max_waiting: pool.max_waiting,
        queue_timeout: pool.queue_timeout.into(),
        connect_timeout: pool.connect_timeout.into(),
        login_timeout: pool.login_timeout.into(),
        lifetime: unless_off(pool.lifetime),
        idle_timeout: unless_off(pool.idle_timeout),
        client_idle_timeout: unless_off(pool.client_idle_timeout),
        query_timeout: unless_off(pool.query_timeout),
        idle_in_transaction_timeout: unless_off(pool.idle_in_transaction_timeout),
        transaction_timeout: unless_off(pool.transaction_timeout),
        max_prepared_statements: pool.max_prepared_statements,
        max_pinned: pool.max_pinned.unwrap_or((pool.size / 2).max(1)),
        slow: unless_off(pool.slow),
        statements: pool.statements,
        probe_interval: pool.probe_interval.into(),
        admin_users: texts(&pool.admin_users),
        stats_users: texts(&pool.stats_users),
        tls,
        server_tls,
    }
}

/// Whether what was read makes a TLS configuration; each file by itself is right, and was complained about if not.
fn try_tls(context: &Context<'_>, at: &Path, tls: Option<&ClientTlsPlan>, server: &ServerTlsPlan) {
    let whole = tls.filter(|tls| !tls.certificates.is_empty() && !tls.key.is_empty());
    if let Some(error) = whole.and_then(|tls| pool::tls::accept_config(tls).err()) {
        let remedy = "name the certificate and the key that belongs to it";
        context.say(&UNREADABLE_POOL_FILE, &at.then("tls"), format!("`tls` cannot be used: {error}"), remedy);
    }
    // Without `ca` it is whom the machine trusts that counts, on the machine that this runs on.
    let error = if server.ca.is_empty() { None } else { pool::tls::connect_config(server).err() };
    if let Some(error) = error {
        let message = format!("`server_tls` cannot be used: {error}");
        let remedy = "name the certificate of the authority that signs the server's";
        context.say(&UNREADABLE_POOL_FILE, &at.then("server_tls").then("ca"), message, remedy);
    }
}

/// `0s` sets no limit.
fn unless_off(span: Span) -> Option<Duration> {
    (span.as_millis() > 0).then(|| span.into())
}

fn texts(names: &[Identifier]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn text(name: Option<&Identifier>) -> Option<String> {
    name.map(ToString::to_string)
}

/// Where it listens. What cannot be read cannot be here: an address that is no TCP address is a path.
fn place(listen: &model::PoolListen, pool: &Pool) -> Listen {
    match (listen.tcp(), listen.unix(pool.socket_port())) {
        (Some(address), _) => Listen::Tcp(address),
        (None, path) => Listen::Unix(path.unwrap_or_default()),
    }
}

fn server(server: &PoolServer) -> ServerPlan {
    let address = server.unix().map_or_else(
        || {
            let (host, port) = server.tcp();
            ServerAddress::Tcp { host: host.to_owned(), port }
        },
        ServerAddress::Unix,
    );
    ServerPlan { name: server.to_string(), address }
}

fn rule(rule: &PoolRule) -> RulePlan {
    RulePlan {
        database: text(rule.database.as_ref()),
        user: text(rule.user.as_ref()),
        mode: rule.mode.map(mode),
        session_state: rule.session_state.map(session_state),
        size: rule.size,
        min_size: rule.min_size,
        server_database: text(rule.server_database.as_ref()),
    }
}

fn mode(mode: PoolMode) -> Mode {
    match mode {
        PoolMode::Transaction => Mode::Transaction,
        PoolMode::Session => Mode::Session,
        PoolMode::Statement => Mode::Statement,
    }
}

fn session_state(state: model::SessionState) -> SessionState {
    match state {
        model::SessionState::Track => SessionState::Track,
        model::SessionState::Reset => SessionState::Reset,
        model::SessionState::Pin => SessionState::Pin,
        model::SessionState::Error => SessionState::Error,
    }
}

fn server_tls_mode(mode: SslMode) -> ServerTlsMode {
    match mode {
        SslMode::Disable => ServerTlsMode::Disable,
        SslMode::Prefer => ServerTlsMode::Prefer,
        SslMode::Require => ServerTlsMode::Require,
        SslMode::VerifyCa => ServerTlsMode::VerifyCa,
        SslMode::VerifyFull => ServerTlsMode::VerifyFull,
    }
}

fn client_tls(reader: &mut Reader<'_, '_>, tls: &model::PoolTls, at: &Path) -> ClientTlsPlan {
    ClientTlsPlan {
        is_required: tls.required,
        certificates: reader.certificates(&tls.certificate, &at.then("certificate")),
        key: reader.key(&tls.key, &at.then("key")),
        client_ca: reader.optional(tls.client_ca.as_deref(), &at.then("client_ca")),
    }
}

/// Reads files, remembers which, and says of each what is wrong with it.
struct Reader<'a, 'c> {
    context: &'a Context<'c>,
    files: &'a mut Vec<PathBuf>,
}

impl Reader<'_, '_> {
    fn users(&mut self, file: &FilePath, at: &Path) -> Vec<(String, String)> {
        let Some(bytes) = self.bytes(file, MAX_USERS, at) else { return Vec::new() };
        let Ok(text) = String::from_utf8(bytes) else {
            self.say(file, at, "is not UTF-8", "save it as UTF-8 text");
            return Vec::new();
        };
        pool::auth::users_file(&text).unwrap_or_else(|error| {
            let remedy = "write one user a line: `\"user\" \"verifier\"`, as `pg_authid` has it";
            self.say(file, at, &format!("is no list of users: {error}"), remedy);
            Vec::new()
        })
    }

    fn optional(&mut self, file: Option<&FilePath>, at: &Path) -> Vec<Vec<u8>> {
        file.map(|file| self.certificates(file, at)).unwrap_or_default()
    }

    fn certificates(&mut self, file: &FilePath, at: &Path) -> Vec<Vec<u8>> {
        let Some(bytes) = self.bytes(file, MAX_PEM, at) else { return Vec::new() };
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match read {
            Ok(certificates) if !certificates.is_empty() => {
                return certificates.iter().map(|certificate| certificate.to_vec()).collect();
            }
            _ if holds(&bytes, SectionKind::PrivateKey) => {
                self.say(file, at, "holds a private key and no certificate", "name the file of the certificate");
            }
            _ => self.say(
                file,
                at,
                "holds no certificate in PEM",
                "write it as `-----BEGIN CERTIFICATE-----` and what follows",
            ),
        }
        Vec::new()
    }

    fn key(&mut self, file: &FilePath, at: &Path) -> Vec<u8> {
        let Some(bytes) = self.bytes(file, MAX_PEM, at) else { return Vec::new() };
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => return key.secret_der().to_vec(),
            Err(_) if String::from_utf8_lossy(&bytes).contains("ENCRYPTED") => {
                let remedy =
                    "take the passphrase off with `openssl pkey -in KEY -out KEY.open`, and keep that file to yourself";
                self.say(file, at, "holds a key with a passphrase", remedy);
            }
            Err(_) => {
                self.say(
                    file,
                    at,
                    "holds no private key in PEM",
                    "write it as `-----BEGIN PRIVATE KEY-----` and what follows",
                );
            }
        }
        Vec::new()
    }

    fn bytes(&mut self, file: &FilePath, most: usize, at: &Path) -> Option<Vec<u8>> {
        let full = self.context.world.directory.join(file);
        self.files.push(full.clone());
        match (self.context.world.read)(&full, most) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let (what, remedy) = crate::config::why_unreadable(&error, most);
                self.say(file, at, &what, remedy);
                None
            }
        }
    }

    fn say(&self, file: &FilePath, at: &Path, what: &str, remedy: &str) {
        self.context.say(&UNREADABLE_POOL_FILE, at, format!("the file `{}` {what}", file.display()), remedy);
    }
}

/// Whether there is a section of this kind.
fn holds(pem: &[u8], wanted: SectionKind) -> bool {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).flatten().any(|(kind, _)| kind == wanted)
}
