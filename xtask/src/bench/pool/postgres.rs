//! A private Postgres for the benchmark, filled by `pgbench -i`. As root it runs as the user `postgres`, in a folder of the
//! system's temporary ones, which that user can reach; both end with this value.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock::Stopwatch;
use crate::workspace::Workspace;
use crate::{program, sh};

/// User, password and database of the load.
pub(super) const USER: &str = "bench";
/// Its verifier (RFC 5802), of one iteration: what a client has to compute at login is next to nothing.
const VERIFIER: &str = "SCRAM-SHA-256$1:ZXZlbmtlZWwtYmVuY2gtMQ==$tWHrcanC/Q6aINtqZ2wiE/TCq6bdA/cG0ytYElI74Ic=:f6gVkGTGOWyAfS+0bC/002upnftxAusoxjr7vNVJDak=";
/// Not durable: commits are not what is measured.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
password_encryption = 'scram-sha-256'
shared_buffers = 512MB
max_connections = 300
fsync = off
synchronous_commit = off
autovacuum = off
logging_collector = off
";
const ADMISSION: &str = "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
/// How long a start and an end may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A running Postgres.
#[derive(Debug)]
pub(super) struct Postgres {
    bin: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    owner: Option<(u32, u32)>,
    server: Child,
}

impl Postgres {
    /// Starts it and fills it; `scale` is pgbench's, 100,000 rows each.
    pub(super) fn start(workspace: &Workspace, port: u16, scale: u32) -> Result<Postgres> {
        let bin = program::postgres()?;
        let owner = if rustix::process::getuid().is_root() { Some(postgres_user()?) } else { None };
        let folder = std::env::temp_dir().join(format!("ekbench-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        give(&folder, owner)?;
        let data = folder.join("data");
        quietly(as_owner(&bin.join("initdb"), &folder, owner).args(["-U", "postgres", "-N"]).arg("-D").arg(&data))?;
        let config = fs::read_to_string(data.join("postgresql.conf")).context("reading the settings of initdb")?;
        let place = folder.display();
        let own = format!("{SETTINGS}port = {port}\nunix_socket_directories = '{place}'\n");
        fs::write(data.join("postgresql.conf"), config + &own).context("writing the settings")?;
        fs::write(data.join("pg_hba.conf"), ADMISSION).context("writing who is admitted")?;
        let log = File::create(folder.join("log")).context("making the log of Postgres")?;
        let mut command = as_owner(&bin.join("postgres"), &folder, owner);
        command.arg("-D").arg(&data).stdout(log.try_clone()?).stderr(log).process_group(0);
        let server = command.spawn().context("starting postgres")?;
        let mut made = Postgres { bin, folder, port, owner, server };
        made.await_ready()?;
        made.fill(workspace, scale)?;
        Ok(made)
    }

    fn await_ready(&mut self) -> Result<()> {
        let watch = Stopwatch::start();
        let log = |folder: &Path| fs::read_to_string(folder.join("log")).unwrap_or_default();
        while self.sql("postgres", "select 1").is_err() {
            let ended = self.server.try_wait().context("asking for the status of postgres")?;
            if ended.is_some() || watch.elapsed() > LIMIT {
                bail!("postgres did not start: {}", log(&self.folder));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn fill(&mut self, workspace: &Workspace, scale: u32) -> Result<()> {
        self.sql(
            "postgres",
            &format!("create role {USER} login password '{VERIFIER}'; create role evenkeel login password 'evenkeel';"),
        )?;
        self.sql("postgres", &format!("create database {USER} owner {USER}"))?;
        let function = fs::read_to_string(workspace.root.join("tools/bench/peers/pool-auth.sql"));
        let function = function.context("reading the function of the pooler")?;
        for database in ["postgres", USER] {
            self.sql(database, &function)?;
        }
        let mut fill = self.pgbench(self.port);
        quietly(fill.args(["-i", "-q", "-s", &scale.to_string(), USER]))?;
        self.sql(USER, "vacuum analyze")?;
        Ok(())
    }

    /// The user of the load and its verifier, as PgBouncer reads them.
    pub(super) fn users() -> String {
        format!("\"{USER}\" \"{VERIFIER}\"\n")
    }

    /// What the superuser is answered.
    pub(super) fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = as_owner(&self.bin.join("psql"), &self.folder, self.owner);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]);
        quietly(psql.arg("-h").arg(&self.folder).arg("-p").arg(self.port.to_string()))
    }

    /// `pgbench` at a port of this machine.
    pub(super) fn pgbench(&self, port: u16) -> Command {
        let mut pgbench = Command::new(self.bin.join("pgbench"));
        pgbench.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", USER]);
        pgbench.env("PGPASSWORD", USER).stdin(Stdio::null()).current_dir(&self.folder);
        pgbench
    }

    /// Whether a query of the load's user is answered at this port.
    pub(super) fn answers(&self, port: u16) -> bool {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-t", "-c", "select 1"]).env("PGPASSWORD", USER);
        psql.arg(format!("host=127.0.0.1 port={port} user={USER} dbname={USER} connect_timeout=5"));
        psql.output().is_ok_and(|out| out.status.success())
    }

    /// A folder for a peer that runs as the same user.
    pub(super) fn room(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        give(&folder, self.owner)?;
        Ok(folder)
    }

    /// A program as the user of Postgres.
    pub(super) fn command(&self, program: &Path, folder: &Path) -> Command {
        as_owner(program, folder, self.owner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // One that has ended cannot be signalled. A fast stop; then by force.
        kill_process(Pid::from_child(&self.server), Signal::INT).ok();
        let watch = Stopwatch::start();
        while watch.elapsed() < LIMIT && matches!(self.server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.server.kill());
        drop(self.server.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn as_owner(program: &Path, folder: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    if let Some((uid, gid)) = owner {
        command.gid(gid).uid(uid);
    }
    command
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).with_context(|| format!("giving {} to postgres", path.display()))
}

fn postgres_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:")).context("there is no user `postgres`")?;
    let mut ids = line.split(':').skip(2).map_while(|field| field.parse::<u32>().ok());
    Ok((ids.next().context("the user's id")?, ids.next().context("the group's id")?))
}

/// Runs it to its end; returns what it wrote, and shows it only if it fails.
pub(super) fn quietly(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("starting `{}`", sh::shown(command)))?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "`{}` failed ({}): {}", sh::shown(command), out.status, said.trim());
    Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned())
}
