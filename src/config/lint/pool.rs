//! Lints on `[pool.NAME]`: sizes that cannot be reached or leave nothing over, and secrets on the wire and in files.

use kernel::{Rule, Severity};

use super::Lint;
use crate::config::compile::MAX_USERS;
use crate::config::context::Context;
use crate::config::document::Path;
use crate::config::model::pool::{Pool, PoolListen, PoolMode, PoolRule, SslMode};
use crate::path;

pub(super) const LINTS: &[Lint] = &[
    POOL_LOOP,
    SAME_SERVER,
    POOL_ABOVE_MAX,
    MIN_ABOVE_SIZE,
    PINNED_TAKE_ALL,
    RESERVE_NEVER_OPENS,
    QUEUE_BELOW_CONNECT,
    RULE_WITHOUT_EFFECT,
    STATE_IN_SESSION_MODE,
    POOL_IN_THE_CLEAR,
    SERVER_TLS_UNVERIFIED,
    WEAK_VERIFIERS,
    PASSWORD_IN_CONFIGURATION,
];

/// Each pool and where it stands.
fn pools<'a>(context: &Context<'a>) -> impl Iterator<Item = (&'a str, &'a Pool, Path)> {
    context.config.pool.iter().map(|(name, pool)| (name.as_str(), pool, path!["pool", name.as_str()]))
}

/// What an example of this file begins with.
macro_rules! example {
    ($more:literal) => {
        concat!(
            "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"127.0.0.1:5432\"]\n",
            "auth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n",
            $more
        )
    };
}

const POOL_LOOP: Lint = Lint {
    rule: Rule {
        id: "pool-loop",
        severity: Severity::Error,
        title: "A pool is a client of itself",
        what: "A server of a `[pool.NAME]` is an address that a pool of this file listens on.",
        why: "Each connection would open another one, until there are none left.",
        remedy: "Name the address of Postgres itself, mostly port 5432.",
        example: example!(""),
    },
    check: |context, rule| {
        let listens: Vec<&PoolListen> = context.config.pool.values().flat_map(|pool| &pool.listen.0).collect();
        let takes = |host: &str, port: u16| {
            let ip: Option<std::net::IpAddr> =
                if host == "localhost" { Some(std::net::Ipv4Addr::LOCALHOST.into()) } else { host.parse().ok() };
            let is_it = |listen: &&PoolListen| {
                let mine = listen.tcp().filter(|address| address.port() == port);
                mine.zip(ip)
                    .is_some_and(|(mine, ip)| mine.ip() == ip || (mine.ip().is_unspecified() && ip.is_loopback()))
            };
            listens.iter().any(is_it)
        };
        for (name, pool, at) in pools(context) {
            for (i, server) in pool.servers.iter().enumerate() {
                let (host, port) = server.tcp();
                if server.unix().is_none() && takes(host, port) {
                    let message = format!("`{server}` of the pool `{name}` is where a pool listens");
                    context.say(rule, &at.then("servers").then(i), message, "name the address of Postgres itself");
                }
            }
        }
    },
};

const SAME_SERVER: Lint = Lint {
    rule: Rule {
        id: "same-server",
        severity: Severity::Warning,
        title: "A server is listed twice",
        what: "`servers` of a `[pool.NAME]` has the same server more than once.",
        why: "Both would call themselves primary, and the pool cannot tell that they are one.",
        remedy: "List each server once.",
        example: example!(""),
    },
    check: |context, rule| {
        for (name, pool, at) in pools(context) {
            for (i, server) in pool.servers.iter().enumerate() {
                let is_same = |other: &&crate::config::model::pool::PoolServer| match server.unix() {
                    Some(path) => other.unix() == Some(path),
                    None => other.unix().is_none() && other.tcp() == server.tcp(),
                };
                if pool.servers[..i].iter().any(|other| is_same(&other)) {
                    let message = format!("the pool `{name}` lists `{server}` twice");
                    context.say(rule, &at.then("servers").then(i), message, "list it once");
                }
            }
        }
    },
};

const POOL_ABOVE_MAX: Lint = Lint {
    rule: Rule {
        id: "pool-above-max-connections",
        severity: Severity::Warning,
        title: "One database and user may take more connections than the pool has",
        what: "`size` and `reserve` of a `[pool.NAME]`, or `size` of one of its rules, are together above `max_connections`.",
        why: "The size is never reached, and one database and user can keep all others waiting.",
        remedy: "Lower `size`, or raise `max_connections` as far as `max_connections` of Postgres allows.",
        example: example!("size = 40\nmax_connections = 80"),
    },
    check: |context, rule| {
        for (name, pool, at) in pools(context) {
            let own = (at.then("size"), pool.size);
            let rules = pool.rule.iter().enumerate();
            let rules = rules.filter_map(|(i, r)| Some((at.then("rule").then(i).then("size"), r.size?)));
            for (at, size) in std::iter::once(own).chain(rules) {
                let wanted = size.saturating_add(pool.reserve);
                if wanted > pool.max_connections {
                    let most = pool.max_connections;
                    let message =
                        format!("one database and user of `{name}` may have {wanted} connections, all together {most}");
                    context.say(
                        rule,
                        &at,
                        message,
                        format!("lower it, or raise `max_connections` to at least {wanted}"),
                    );
                }
            }
        }
    },
};

const MIN_ABOVE_SIZE: Lint = Lint {
    rule: Rule {
        id: "min-size-above-size",
        severity: Severity::Warning,
        title: "More connections are kept open than there may be",
        what: "`min_size` of a `[pool.NAME]` or of one of its rules is above its `size`.",
        why: "No more than `size` are ever opened.",
        remedy: "Lower `min_size` or raise `size`.",
        example: example!("size = 20\nmin_size = 5"),
    },
    check: |context, rule| {
        for (_, pool, at) in pools(context) {
            let own = std::iter::once((at.clone(), pool.min_size, pool.size, true));
            let of_rule = |(i, r): (usize, &PoolRule)| {
                let says = r.min_size.is_some() || r.size.is_some();
                (at.then("rule").then(i), r.min_size.unwrap_or(pool.min_size), r.size.unwrap_or(pool.size), says)
            };
            for (at, least, most, says) in own.chain(pool.rule.iter().enumerate().map(of_rule)) {
                if says && least > most {
                    let message = format!("{least} connections are to be kept open, and {most} may be");
                    let key = if context.document.says(&at.then("min_size")) { "min_size" } else { "size" };
                    context.say(rule, &at.then(key), message, "lower `min_size` or raise `size`");
                }
            }
        }
    },
};

const PINNED_TAKE_ALL: Lint = Lint {
    rule: Rule {
        id: "pinned-take-all",
        severity: Severity::Warning,
        title: "Pinned clients may take every connection",
        what: "`max_pinned` of a `[pool.NAME]` is not below `size`.",
        why: "Clients that keep a connection for themselves (for `LISTEN`, a lock or a temporary table) can then keep all \
              others waiting for as long as they like.",
        remedy: "Set it to less than `size`; the default is half of it.",
        example: example!("size = 20\nmax_pinned = 10"),
    },
    check: |context, rule| {
        for (name, pool, at) in pools(context) {
            if let Some(pinned) = pool.max_pinned.filter(|pinned| *pinned >= pool.size) {
                let message =
                    format!("{pinned} clients of `{name}` may keep a connection, and there are {}", pool.size);
                context.say(rule, &at.then("max_pinned"), message, "set it to less than `size`, or leave it out");
            }
        }
    },
};

const RESERVE_NEVER_OPENS: Lint = Lint {
    rule: Rule {
        id: "reserve-never-opens",
        severity: Severity::Warning,
        title: "The reserve is never opened",
        what: "`reserve_after` of a `[pool.NAME]` that has a `reserve` is not below `queue_timeout`.",
        why: "Clients are refused before they have waited long enough for the reserve.",
        remedy: "Lower `reserve_after`, or take `reserve` out.",
        example: example!("reserve = 5\nreserve_after = \"3s\""),
    },
    check: |context, rule| {
        for (_, pool, at) in pools(context) {
            if pool.reserve > 0 && pool.reserve_after >= pool.queue_timeout {
                let message = format!(
                    "clients wait for at most {}, and the reserve opens after {}",
                    pool.queue_timeout, pool.reserve_after
                );
                let key =
                    if context.document.says(&at.then("reserve_after")) { "reserve_after" } else { "queue_timeout" };
                context.say(rule, &at.then(key), message, "lower `reserve_after`, or raise `queue_timeout`");
            }
        }
    },
};

const QUEUE_BELOW_CONNECT: Lint = Lint {
    rule: Rule {
        id: "queue-below-connect",
        severity: Severity::Warning,
        title: "Clients give up before a connection can be there",
        what: "`queue_timeout` of a `[pool.NAME]` is below `connect_timeout`.",
        why: "A client that needs a new connection is refused while the connection may still come, and a restart of Postgres \
              fails every client.",
        remedy: "Raise `queue_timeout`, or lower `connect_timeout`.",
        example: example!("queue_timeout = \"30s\"\nconnect_timeout = \"2s\""),
    },
    check: |context, rule| {
        for (_, pool, at) in pools(context) {
            if pool.queue_timeout < pool.connect_timeout {
                let message = format!(
                    "clients wait for at most {}, and opening a connection may take {}",
                    pool.queue_timeout, pool.connect_timeout
                );
                let key =
                    if context.document.says(&at.then("queue_timeout")) { "queue_timeout" } else { "connect_timeout" };
                context.say(rule, &at.then(key), message, "raise `queue_timeout`, or lower `connect_timeout`");
            }
        }
    },
};

const RULE_WITHOUT_EFFECT: Lint = Lint {
    rule: Rule {
        id: "pool-rule-without-effect",
        severity: Severity::Warning,
        title: "A rule of a pool changes nothing",
        what: "A `[[pool.NAME.rule]]` says nothing but whom it is for, or is for a database that `databases` does not list.",
        why: "Nobody is treated differently by it.",
        remedy: "Say in it what is different, correct the database's name, or take the rule out.",
        example: example!("[[pool.main.rule]]\nuser = \"reports\"\nsize = 2"),
    },
    check: |context, rule| {
        for (name, pool, at) in pools(context) {
            for (i, one) in pool.rule.iter().enumerate() {
                let at = at.then("rule").then(i);
                let bare = PoolRule { database: one.database.clone(), user: one.user.clone(), ..PoolRule::default() };
                let listed = |database| pool.databases.as_ref().is_none_or(|all| all.contains(database));
                if *one == bare {
                    let message = format!("rule {} of the pool `{name}` says nothing that is different", i + 1);
                    context.say(rule, &at, message, "say in it what is different, or take it out");
                } else if let Some(database) = one.database.as_ref().filter(|database| !listed(database)) {
                    let message = format!("`databases` of the pool `{name}` does not list `{database}`");
                    context.say(rule, &at.then("database"), message, "list it there, or correct its name here");
                }
            }
        }
    },
};

const STATE_IN_SESSION_MODE: Lint = Lint {
    rule: Rule {
        id: "session-state-in-session-mode",
        severity: Severity::Note,
        title: "A client that keeps its connection needs no care for its state",
        what: "`session_state` is set in a `[pool.NAME]` that has `mode = \"session\"`, as have all its rules.",
        why: "A connection then changes its client only after everything was cleared, so the key has no effect.",
        remedy: "Take `session_state` out, or choose the mode `transaction`.",
        example: example!("mode = \"session\""),
    },
    check: |context, rule| {
        for (name, pool, at) in pools(context) {
            let all =
                pool.rule.iter().filter_map(|one| one.mode).chain([pool.mode]).all(|mode| mode == PoolMode::Session);
            if all && context.document.says(&at.then("session_state")) {
                let message =
                    format!("clients of `{name}` keep their connections, so nothing of their state need be kept");
                context.say(rule, &at.then("session_state"), message, "take it out, or choose the mode `transaction`");
            }
        }
    },
};

const POOL_IN_THE_CLEAR: Lint = Lint {
    rule: Rule {
        id: "pool-in-the-clear",
        severity: Severity::Warning,
        title: "A pool is reached over the network without TLS",
        what: "A `[pool.NAME]` listens beyond loopback and has no `tls`.",
        why: "Queries and what they return can be read and changed on the way. Passwords are not sent in the clear, but a session \
              can be taken over.",
        remedy: "Add `tls` with a certificate, and `required = true` once every client uses it; or listen on `127.0.0.1` or a \
                 Unix socket.",
        example: example!("tls = { certificate = \"pool.pem\", key = \"pool.key\", required = true }"),
    },
    check: |context, rule| {
        for (name, pool, at) in pools(context) {
            let open = pool.listen.0.iter().filter_map(PoolListen::tcp).find(|address| !address.ip().is_loopback());
            if let Some(address) = open.filter(|_| pool.tls.is_none() && !context.is_damaged(&at.then("tls"))) {
                let message = format!("the pool `{name}` listens on {address}, beyond this machine, without TLS");
                context.say(rule, &at.then("listen"), message, "add `tls` with `certificate` and `key`");
            }
        }
    },
};

const SERVER_TLS_UNVERIFIED: Lint = Lint {
    rule: Rule {
        id: "server-tls-unverified",
        severity: Severity::Note,
        title: "Postgres is reached over the network by whoever answers",
        what: "A `[pool.NAME]` has a server on another machine, and `mode` of its `server_tls` is below `verify-ca`.",
        why: "Who can redirect the connection can answer in the place of Postgres. `prefer` may even speak without TLS.",
        remedy: "Set `mode` to `verify-full`, with `ca` if the server's authority is not one that the system trusts. In a \
                 network of your own this may be more than you need.",
        example: example!("server_tls = { mode = \"verify-full\" }"),
    },
    check: |context, rule| {
        for (name, pool, at) in pools(context) {
            let far = pool.servers.iter().position(|server| !server.is_local());
            if let Some(i) = far.filter(|_| pool.server_tls.mode < SslMode::VerifyCa) {
                let message = format!(
                    "`{}` of the pool `{name}` is another machine, and its certificate is not looked at",
                    pool.servers[i]
                );
                let mode = at.then("server_tls").then("mode");
                let at = if context.document.says(&mode) { mode } else { at.then("servers").then(i) };
                context.say(rule, &at, message, "set `server_tls = { mode = \"verify-full\" }`");
            }
        }
    },
};

const WEAK_VERIFIERS: Lint = Lint {
    rule: Rule {
        id: "weak-verifiers",
        severity: Severity::Note,
        title: "A file of users holds passwords, or what is as good as them",
        what: "`auth_file` of a `[pool.NAME]` holds passwords as they are, or md5 verifiers.",
        why: "Whoever reads the file can log in: an md5 verifier is all that the md5 method asks for. A SCRAM verifier only serves \
              to check a password.",
        remedy: "Take the SCRAM verifiers from `pg_authid`, or leave `auth_file` out and let Postgres be asked. Passwords that \
                 Postgres still has as md5 are made anew with `password_encryption = 'scram-sha-256'`.",
        example: example!(""),
    },
    check: |context, rule| {
        for (_, pool, at) in pools(context) {
            let Some(file) = &pool.auth_file else { continue };
            let bytes = (context.world.read)(&context.world.directory.join(file), MAX_USERS).unwrap_or_default();
            let users =
                String::from_utf8(bytes).ok().and_then(|text| pool::auth::users_file(&text).ok()).unwrap_or_default();
            let weak = users.iter().filter(|(_, verifier)| !verifier.starts_with("SCRAM-SHA-256$")).count();
            if weak > 0 {
                let message =
                    format!("{weak} of the {} users in `{}` have no SCRAM verifier", users.len(), file.display());
                let remedy = "take the verifiers from `pg_authid`, or leave `auth_file` out";
                context.say(rule, &at.then("auth_file"), message, remedy);
            }
        }
    },
};

const PASSWORD_IN_CONFIGURATION: Lint = Lint {
    rule: Rule {
        id: "password-in-configuration",
        severity: Severity::Warning,
        title: "A password is written in the configuration",
        what: "`password` in `auth` of a `[pool.NAME]` is written out.",
        why: "The file is read by more people and programs than the password is meant for, and is kept in version control.",
        remedy: "Put it into a file that only Evenkeel's user may read, and write `${file:/path}`; or into the environment, and \
                 write `${env:NAME}`.",
        example: example!(""),
    },
    check: |context, rule| {
        for (name, _, at) in pools(context) {
            let at = at.then("auth").then("password");
            let span = context.document.span(&at).filter(|_| context.document.says(&at));
            if span.is_some_and(|span| context.secrets.written(&span).is_none()) {
                let message = format!("the password of the pool `{name}` is written out");
                context.say(rule, &at, message, "put it into a file and write `${file:/path}`");
            }
        }
    },
};
