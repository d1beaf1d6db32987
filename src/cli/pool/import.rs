//! `evenkeel pool import`: reads PgBouncer's configuration and prints `[pool.NAME]` tables for it, one for each server that
//! its databases are at, with a comment for each setting that has no counterpart, and why.
//!
//! No password is printed: what `[databases]` and `userlist.txt` hold of them stays there. `%include` is refused, for the
//! file may be anywhere. Exit codes: 0 printed, 1 the file cannot be taken over, 2 it could not be read.

mod access;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use kernel::Span;
use toml::Value;

use super::ini::{Entry, Ini, parse};
use super::settings::{DEFAULTS, Fate, fate};
use crate::cli::remote::print;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where Postgres and PgBouncer of the distributions have their sockets.
const SOCKETS: &str = "/var/run/postgresql";

/// Print the pools that a configuration of PgBouncer amounts to
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// PgBouncer's configuration
    #[arg(value_name = "FILE")]
    ini: PathBuf,
    /// Its file of users, if it is not where `auth_file` says
    #[arg(long, value_name = "FILE")]
    userlist: Option<PathBuf>,
}

/// Reads, and prints.
///
/// # Errors
/// When a file cannot be read, or the output cannot be written.
pub(super) fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let text = read(&args.ini)?;
    let users = match &args.userlist {
        Some(path) => Some((path.display().to_string(), read(path)?)),
        None => None,
    };
    let users = users.as_ref().map(|(path, text)| (path.as_str(), text.as_str()));
    match import(&args.ini.display().to_string(), &text, users) {
        Ok(toml) => {
            print(&toml)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(wrong) => {
            for what in wrong {
                crate::cli::complain(&anyhow::anyhow!("{}: {what}", args.ini.display()));
            }
            Ok(ExitCode::from(1))
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let size = std::fs::metadata(path).with_context(cannot)?.len();
    anyhow::ensure!(size <= MAX_FILE, "{} is larger than {} KiB", path.display(), MAX_FILE / 1024);
    std::fs::read_to_string(path).with_context(cannot)
}

/// The whole file that is printed.
///
/// # Errors
/// Why it cannot be made, a line each.
fn import(name: &str, text: &str, users: Option<(&str, &str)>) -> Result<String, Vec<String>> {
    let ini = parse(text)?;
    if ini.databases.is_empty() {
        return Err(vec!["there is nothing in `[databases]`, so there is nothing to pool".to_owned()]);
    }
    let mut import = Import { ini: &ini, users, todo: Vec::new(), without: Vec::new(), needless: Vec::new() };
    let pools = import.pools()?;
    let mut out = format!(
        "# The pools of {name}, as `evenkeel pool import` reads it. `evenkeel check` says whether they can be used.\n"
    );
    let mut list = |head: &str, items: &[String]| {
        if !items.is_empty() {
            let _infallible = writeln!(out, "#\n# {head}");
            for item in items {
                let _infallible = writeln!(out, "#   {}", item.replace(['\n', '\r'], " "));
            }
        }
    };
    list("To do:", &import.todo);
    list("Without a counterpart:", &import.without);
    list("Not needed here:", &import.needless);
    Ok(out + &pools)
}

/// One file on its way.
struct Import<'a> {
    ini: &'a Ini,
    users: Option<(&'a str, &'a str)>,
    todo: Vec<String>,
    without: Vec<String>,
    needless: Vec<String>,
}

/// Databases at the same servers.
struct Group<'a> {
    servers: Vec<String>,
    databases: Vec<&'a Entry>,
}

impl<'a> Import<'a> {
    fn pools(&mut self) -> Result<String, Vec<String>> {
        let groups = self.groups();
        self.settings();
        let lines = self.shared_lines(&groups)?;
        let rules_of_users = self.users();
        let mut out = String::new();
        let is_lone = groups.len() == 1;
        for (i, group) in groups.iter().enumerate() {
            let takes_all = group.databases.iter().any(|database| database.name == "*");
            let mut pool = format!("\n[pool.{}]\n{}", pool_name(i, group), lines.join("\n"));
            let _infallible = write!(pool, "\nservers = {}\n", array(&group.servers));
            if !takes_all {
                let names: Vec<String> = group.databases.iter().map(|database| database.name.clone()).collect();
                let _infallible = writeln!(pool, "databases = {}", array(&names));
            }
            let rules: String = group.databases.iter().map(|database| self.rule(database)).collect();
            let header = format!("[[pool.{}.rule]]", pool_name(i, group));
            pool.push_str(&format!("{rules}{rules_of_users}").replace("[[pool.NAME.rule]]", &header));
            if takes_all && !is_lone {
                self.todo.push(format!(
                    "`*` of [databases] is at {} while other databases are elsewhere: list under `databases` which ones are \
                     there, and take the signs of a comment away from `[pool.{}]`",
                    group.servers.join(", "),
                    pool_name(i, group)
                ));
                let commented: Vec<String> =
                    pool.trim().lines().map(|line| format!("# {line}").trim_end().to_owned()).collect();
                pool = format!("\n{}\n", commented.join("\n"));
            }
            out.push_str(&pool);
        }
        Ok(out)
    }

    /// The databases by where they are, in the order of the file.
    fn groups(&mut self) -> Vec<Group<'a>> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for database in &self.ini.databases {
            let servers = servers(database);
            match groups.iter_mut().find(|group| group.servers == servers) {
                Some(group) => group.databases.push(database),
                None => groups.push(Group { servers, databases: vec![database] }),
            }
        }
        if groups.iter().any(|group| group.servers.len() > 1) {
            self.needless
                .push("the order of `host`, and `load_balance_hosts`: traffic goes to whichever is primary".to_owned());
        }
        groups
    }

    /// What every setting becomes that is not taken over, in comments.
    fn settings(&mut self) {
        let mut needless: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
        for (key, value) in &self.ini.settings {
            match fate(key) {
                Some(Fate::Without(why)) => self.without.push(format!("{key} = {value}: {why}")),
                Some(Fate::Needless(why)) => needless.entry(why).or_default().push(key),
                Some(_) => {}
                None => self.without.push(format!("{key} = {value}: PgBouncer has no such setting that is known here")),
            }
        }
        self.needless.extend(needless.into_iter().map(|(why, keys)| format!("{}: {why}", keys.join(", "))));
        if self.ini.has_peers {
            self.needless.push(
                "[peers]: one process uses every core, so that there are no others to pass a cancel to".to_owned(),
            );
        }
    }

    /// What stands in each pool.
    fn shared_lines(&mut self, groups: &[Group<'_>]) -> Result<Vec<String>, Vec<String>> {
        let mut lines = vec![format!("listen = {}", self.listen()?)];
        lines.push(self.auth(groups));
        lines.extend(self.auth_file()?);
        lines.extend(self.mode("pool_mode", self.setting("pool_mode")));
        let mut seen = Vec::new();
        let keys = self.ini.settings.iter().map(|(key, _)| key.as_str()).chain(DEFAULTS.iter().map(|(key, _)| *key));
        for key in keys {
            let Some(value) = self.setting(key).filter(|_| !seen.contains(&key)) else { continue };
            seen.push(key);
            lines.extend(self.line(key, value));
        }
        lines.extend(self.max_connections(groups));
        lines.extend(self.tls());
        Ok(lines)
    }

    /// A setting as it is, or PgBouncer's own default where a pool has another.
    fn setting(&self, key: &str) -> Option<&'a str> {
        let default = || DEFAULTS.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        self.ini.get(key).filter(|value| !value.is_empty()).or_else(default)
    }

    fn line(&mut self, key: &str, value: &str) -> Option<String> {
        match fate(key)? {
            Fate::Seconds(name, least, most) => {
                let millis = seconds(value);
                self.ranged(key, value, millis, (least, most))
                    .map(|ms| format!("{name} = \"{}\"", Span::from_millis(ms)))
            }
            Fate::Count(name, least, most) => {
                self.ranged(key, value, value.parse().ok(), (least, most)).map(|n| format!("{name} = {n}"))
            }
            Fate::Names(name) => Some(format!("{name} = {}", array(&list(value)))),
            Fate::Apart if key == "max_prepared_statements" => {
                if value == "0" {
                    self.without.push("max_prepared_statements = 0: prepared statements always work".to_owned());
                    return None;
                }
                self.ranged(key, value, value.parse().ok(), (1, 100_000))
                    .map(|n| format!("max_prepared_statements = {n}"))
            }
            _ => None,
        }
    }

    /// The value within its range; what is outside is put to the nearest, and said.
    fn ranged(&mut self, key: &str, written: &str, value: Option<u64>, (least, most): (u64, u64)) -> Option<u64> {
        let Some(value) = value else {
            self.without.push(format!("{key} = {written}: this is no number"));
            return None;
        };
        // PgBouncer's 0 sets no limit; where there has to be one, it is the longest.
        let near = if value == 0 && least > 0 { most } else { value.clamp(least, most) };
        if near != value {
            self.todo
                .push(format!("{key} = {written} is outside of what is taken here; the nearest stands in its place"));
        }
        Some(near)
    }

    fn max_connections(&mut self, groups: &[Group<'_>]) -> Option<String> {
        let each = self.ini.get("max_db_connections").and_then(|n| n.parse::<u64>().ok()).filter(|n| *n > 0);
        let databases = groups.iter().map(|group| group.databases.len() as u64).max().unwrap_or(1);
        match each {
            Some(each) if databases > 1 => self.todo.push(format!(
                "max_db_connections = {each} counts for each database, and max_connections for the whole pool: see that Postgres \
                 has as many"
            )),
            Some(_) => {}
            None => self.todo.push(
                "max_connections is 80 for each pool unless you write another number: PgBouncer had no bound for the whole"
                    .to_owned(),
            ),
        }
        each.map(|each| format!("max_connections = {}", (each * databases).clamp(1, 100_000)))
    }

    /// What a database says for itself, as a rule; nothing if it says nothing.
    fn rule(&mut self, database: &Entry) -> String {
        let named = (database.name != "*").then(|| format!("database = {}", quoted(&database.name)));
        let mut lines = Vec::new();
        for (key, value) in &database.values {
            let what = format!("[databases] {}: {key}", database.name);
            let why = match key.as_str() {
                "host" | "port" | "auth_user" | "auth_query" | "auth_dbname" | "load_balance_hosts" => continue,
                "dbname" => {
                    if *value != database.name {
                        lines.push(format!("server_database = {}", quoted(value)));
                    }
                    continue;
                }
                "pool_mode" | "pool_size" | "min_pool_size" => {
                    lines.extend(self.special(&what, key, value));
                    continue;
                }
                "user" | "password" => "clients are themselves at Postgres too; give each its own user there",
                "connect_query" | "client_encoding" | "datestyle" | "timezone" => {
                    "let Postgres set it: `ALTER DATABASE … SET …`"
                }
                "max_db_connections" => "connections are bounded for the whole pool: see `max_connections`",
                "reserve_pool" | "reserve_pool_size" => "the reserve is the same for all: see `reserve`",
                _ => "there is nothing like it for one database",
            };
            let shown = if key == "password" { "(not shown)" } else { value };
            self.without.push(format!("{what} = {shown}: {why}"));
        }
        rule(named, &lines)
    }

    /// What users say for themselves, as rules of every pool.
    fn users(&mut self) -> String {
        let mut out = String::new();
        for user in &self.ini.users {
            let mut lines = Vec::new();
            for (key, value) in &user.values {
                let what = format!("[users] {}: {key}", user.name);
                match key.as_str() {
                    "pool_mode" | "pool_size" | "min_pool_size" => lines.extend(self.special(&what, key, value)),
                    "max_user_connections" => {
                        self.without.push(format!("{what} = {value}: see `size` of a rule, for each database"))
                    }
                    _ => self.without.push(format!("{what} = {value}: there is nothing like it for one user")),
                }
            }
            out.push_str(&rule(Some(format!("user = {}", quoted(&user.name))), &lines));
        }
        out
    }

    fn special(&mut self, what: &str, key: &str, value: &str) -> Option<String> {
        match key {
            "pool_mode" => self.mode(what, Some(value)),
            "pool_size" => self.ranged(what, value, value.parse().ok(), (1, 10_000)).map(|n| format!("size = {n}")),
            _ => self.ranged(what, value, value.parse().ok(), (0, 10_000)).map(|n| format!("min_size = {n}")),
        }
    }
}

/// A rule of the pool `NAME`; nothing if it says nothing.
fn rule(named: Option<String>, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = named.into_iter().chain(lines.iter().cloned()).collect();
    format!("\n[[pool.NAME.rule]]\n{}\n", lines.join("\n"))
}

/// Where a database is.
fn servers(database: &Entry) -> Vec<String> {
    let ports = list(database.get("port").unwrap_or("5432"));
    let hosts = list(database.get("host").unwrap_or_default());
    let hosts = if hosts.is_empty() { vec![SOCKETS.to_owned()] } else { hosts };
    let server = |(i, host): (usize, &String)| {
        let port = ports.get(i).or(ports.last()).map_or("5432", String::as_str);
        match host.strip_prefix('@') {
            Some(_) => host.clone(),
            None if host.starts_with('/') && port == "5432" => format!("unix:{host}"),
            None if host.starts_with('/') => format!("unix:{}/.s.PGSQL.{port}", host.trim_end_matches('/')),
            None if host.contains(':') => format!("[{host}]:{port}"),
            None => format!("{}:{port}", host.to_ascii_lowercase()),
        }
    };
    hosts.iter().enumerate().map(server).collect()
}

/// The first pool is `main`, others are called after their first database.
fn pool_name(i: usize, group: &Group<'_>) -> String {
    let first = group.databases.first().map(|database| database.name.to_ascii_lowercase()).unwrap_or_default();
    let plain: String =
        first.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-' || *c == '_').collect();
    match plain.trim_start_matches(['-', '_']) {
        _ if i == 0 => "main".to_owned(),
        "" | "main" => format!("pool-{}", i + 1),
        name => format!("{}-{}", &name[..name.len().min(40)], i + 1),
    }
}

/// Seconds, perhaps with a fraction, as milliseconds.
fn seconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..1e12).contains(&seconds).then(|| (seconds * 1000.0).round() as u64)
}

/// What stands between commas.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// A text of TOML in which nothing is a reference.
fn quoted(text: &str) -> String {
    Value::from(text.replace("${", "$${")).to_string()
}

fn array(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
