//! Who is measured: Evenkeel, Debian's PgBouncer, and Postgres without a pooler. The configurations are in
//! `tools/bench/peers`. Both poolers ask their clients for SCRAM-SHA-256 and pass what they learn on to Postgres.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::postgres::Postgres;
use crate::bench::process::Group;
use crate::bench::proxy;
use crate::program;
use crate::workspace::{Profile, Workspace};

/// How long a pooler may take to answer for the first time.
const START: Duration = Duration::from_secs(20);
/// Clients that a pooler admits.
const CLIENTS: &str = "4096";

/// One that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Evenkeel,
    Pgbouncer,
    Direct,
}

pub(super) const PEERS: [Peer; 3] = [Peer::Evenkeel, Peer::Pgbouncer, Peer::Direct];

/// One that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) peer: Peer,
    pub(super) version: String,
    pub(super) port: u16,
    /// `None` for Postgres itself, whose CPU time is not a pooler's.
    pub(super) group: Option<Group>,
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::Evenkeel => "evenkeel",
            Peer::Pgbouncer => "pgbouncer",
            Peer::Direct => "direct",
        }
    }

    /// Whether it can be asked for this mode: PgBouncer before 1.21 knows no prepared statements in transaction mode.
    pub(super) fn has(self, mode: &str, version: &str) -> bool {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        self != Peer::Pgbouncer || mode != "prepared" || (major, minor) >= (1, 21)
    }

    /// Starts it in front of `postgres` and waits until a query is answered.
    pub(super) fn start(self, workspace: &Workspace, postgres: &Postgres, profile: Profile) -> Result<Running> {
        self.try_start(workspace, postgres, profile).with_context(|| format!("starting {}", self.name()))
    }

    fn try_start(self, workspace: &Workspace, postgres: &Postgres, profile: Profile) -> Result<Running> {
        let (program, template) = match self {
            Peer::Direct => {
                let version = postgres.sql("postgres", "show server_version")?;
                let version = version.split_whitespace().next().unwrap_or_default().to_owned();
                return Ok(Running { peer: self, version, port: postgres.port, group: None });
            }
            Peer::Evenkeel => (workspace.build(profile)?, "evenkeel-pool.toml"),
            Peer::Pgbouncer => (program::debian("pgbouncer", "pgbouncer")?, "pgbouncer.ini"),
        };
        let told = Command::new(&program).arg("--version").output().context("asking for its version")?;
        let version = proxy::version(&String::from_utf8_lossy(&told.stdout));
        let [port, admin] = proxy::free_ports()?;
        let folder = postgres.room(self.name())?;
        let config = fill(&workspace.root.join(proxy::TEMPLATES).join(template), &folder, port, admin, postgres.port)?;
        let mut command = match self {
            Peer::Pgbouncer => {
                // It refuses to run as root.
                fs::write(folder.join("users.txt"), Postgres::users()).context("writing PgBouncer's users")?;
                let mut command = postgres.command(&program, &folder);
                command.arg(&config);
                command
            }
            _ => {
                let mut command = Command::new(&program);
                command.current_dir(&folder).arg("up").arg("-c").arg(&config);
                command
            }
        };
        let mut group = Group::server(None, &mut command, &folder.join("output"))?;
        group.await_ready(START, || postgres.answers(port))?;
        Ok(Running { peer: self, version, port, group: Some(group) })
    }
}

fn fill(template: &Path, folder: &Path, port: u16, admin: u16, upstream: u16) -> Result<PathBuf> {
    let text = fs::read_to_string(template).with_context(|| format!("reading {}", template.display()))?;
    let values = [
        ("@PORT@", port.to_string()),
        ("@ADMIN_PORT@", admin.to_string()),
        ("@UPSTREAM_PORT@", upstream.to_string()),
        ("@CONNECTIONS@", CLIENTS.to_owned()),
    ];
    let text = values.iter().fold(text, |text, (name, value)| text.replace(name, value));
    ensure!(!text.contains('@'), "the template {} has a name that is not known", template.display());
    let config = folder.join(template.file_name().context("the template's name")?);
    fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_filled_completely() {
        let folder = tempfile::tempdir().unwrap();
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(proxy::TEMPLATES);
        for name in ["evenkeel-pool.toml", "pgbouncer.ini"] {
            let config = fill(&templates.join(name), folder.path(), 5001, 5002, 5003).unwrap();
            let text = fs::read_to_string(config).unwrap();
            assert!(text.contains("5001") && text.contains("5003") && text.contains(CLIENTS), "{name}");
        }
    }

    #[test]
    fn prepared_statements_are_asked_of_who_has_them() {
        assert!(!Peer::Pgbouncer.has("prepared", "1.18.0") && Peer::Pgbouncer.has("extended", "1.18.0"));
        assert!(Peer::Pgbouncer.has("prepared", "1.25.2") && Peer::Evenkeel.has("prepared", "0.1.0"));
    }
}
