//! What instances are made from: the newest Postgres that is installed, the user that it may run as, an empty cluster
//! that `initdb` makes once for each version and target directory, and ports that no other test takes.
//!
//! Servers are looked for where Debian puts them, `/usr/lib/postgresql/VERSION/bin`, then in the PATH. Postgres refuses
//! to run as root; for root everything runs as the user `postgres`, which Debian's package makes.

use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use kernel::Entropy;

/// Where Debian keeps its versions.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Counts up whenever what is written below changes, so that a template of before is not used.
const FORM: u32 = 1;
/// What every instance has: quick rather than durable, small, and the same everywhere.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
password_encryption = 'scram-sha-256'
shared_buffers = 16MB
fsync = off
full_page_writes = off
max_wal_size = 256MB
wal_keep_size = 64MB
autovacuum = off
jit = off
logging_collector = off
log_line_prefix = '%m [%p] %u@%d '
timezone = 'UTC'
include = 'instance.conf'
";
/// The superuser needs no password over the Unix socket; everybody else proves theirs, as Debian has it for TCP.
const ADMISSION: &str = "\
local all         postgres               trust
local replication postgres               trust
local all         all                    scram-sha-256
host  all         all       127.0.0.1/32 scram-sha-256
host  replication all       127.0.0.1/32 scram-sha-256
";
/// The lowest port that is tried.
const FIRST_PORT: u16 = 12_000;
/// Below which the system takes no port for an outgoing connection, where it does not say.
const EPHEMERAL: u16 = 32_768;
/// How long a Unix socket's path may be, with `/.s.PGSQL.12345` behind the directory.
const DIRECTORY_BYTES: usize = 80;

/// The installed server.
#[derive(Debug, Clone)]
pub(super) struct Install {
    bin: PathBuf,
    version: String,
    /// Who runs it, if that is not whoever runs the test.
    owner: Option<(u32, u32)>,
}

/// A port that is this process's among all tests of this user, for as long as it lives, also while nobody listens on it.
#[derive(Debug)]
pub struct Port {
    pub(super) number: u16,
    _lock: File,
}

impl Install {
    /// Finds it.
    pub(super) fn find() -> Result<Install> {
        let mut found: Vec<(u32, PathBuf)> = Vec::new();
        for entry in fs::read_dir(DEBIAN).into_iter().flatten().flatten() {
            let version = entry.file_name().to_string_lossy().parse::<u32>();
            let bin = entry.path().join("bin");
            if let (Ok(version), true) = (version, bin.join("initdb").is_file()) {
                found.push((version, bin));
            }
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let in_path = || std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file());
        let newest = found.into_iter().max_by_key(|(version, _)| *version).map(|(_, bin)| bin);
        let bin = newest.or_else(in_path).with_context(|| {
            format!("no Postgres server in {DEBIAN}/*/bin or the PATH; install the Debian package `postgresql`")
        })?;
        let told = Command::new(bin.join("postgres")).arg("--version").output().context("asking for its version")?;
        let version = String::from_utf8_lossy(&told.stdout);
        let version = version.split_whitespace().nth(2).context("postgres --version names no version")?.to_owned();
        let owner = if rustix::process::getuid().is_root() { Some(postgres_user()?) } else { None };
        Ok(Install { bin, version, owner })
    }

    /// One of its programs, run as whoever runs the server, in `directory`, with nothing of this process's environment
    /// that could change what it does.
    pub(super) fn program(&self, name: &str, directory: &Path) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(directory).env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            command.gid(gid).uid(uid);
        }
        command
    }

    /// Makes a directory or file belong to whoever runs the server.
    pub(super) fn give(&self, path: &Path) -> Result<()> {
        match self.owner {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)).with_context(|| format!("giving {}", path.display())),
            None => Ok(()),
        }
    }

    /// A new directory with a short path, in which the server may write.
    pub(super) fn directory(&self) -> Result<tempfile::TempDir> {
        let usual = std::env::temp_dir();
        let place = if usual.as_os_str().len() + 16 < DIRECTORY_BYTES { usual } else { PathBuf::from("/tmp") };
        let made = tempfile::Builder::new().prefix("ekpg-").tempdir_in(&place);
        let made = made.with_context(|| format!("making a directory in {}", place.display()))?;
        self.give(made.path())?;
        Ok(made)
    }

    /// Makes `data` an empty cluster: a copy of the template.
    pub(super) fn cluster(&self, data: &Path) -> Result<()> {
        copy(&self.template()?, data)
    }

    /// The template, made now if there is none of this version. Others wait meanwhile.
    fn template(&self) -> Result<PathBuf> {
        let place = kept()?;
        let made = place.join(format!("postgres-template-{}-{FORM}", self.version));
        let lock = File::create(place.join("postgres-template.lock")).context("making the template's lock")?;
        lock.lock().context("waiting for the template's lock")?;
        if !made.is_dir() {
            // The server's user need not be able to reach the target directory: made elsewhere, then copied.
            let directory = self.directory()?;
            let data = directory.path().join("data");
            let mut initdb = self.program("initdb", directory.path());
            initdb.args(["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--auth=trust"]);
            // Segments of 1 MiB: a third of what has to be copied.
            output(initdb.arg("--wal-segsize=1").arg("-D").arg(&data))?;
            let config = data.join("postgresql.conf");
            let written = fs::read_to_string(&config).context("reading the settings that initdb made")?;
            fs::write(&config, written + SETTINGS).context("writing the template's settings")?;
            fs::write(data.join("pg_hba.conf"), ADMISSION).context("writing who is admitted")?;
            let new = made.with_extension("new");
            drop(fs::remove_dir_all(&new));
            copy(&data, &new)?;
            fs::rename(&new, &made).context("putting the template in its place")?;
        }
        Ok(made)
    }
}

impl Port {
    /// A port on which nobody listens, below those that the system gives to outgoing connections: one of those could be
    /// taken while a server restarts, even by a client that connects to the server itself.
    ///
    /// # Errors
    /// When every port is in use.
    pub fn reserve() -> Result<Port> {
        let place = std::env::temp_dir().join(format!("evenkeel-ports-{}", rustix::process::getuid().as_raw()));
        fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let end = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(EPHEMERAL);
        ensure!(end > FIRST_PORT + 100, "the system gives outgoing connections ports from {end} on");
        let count = u32::from(end - FIRST_PORT);
        let mut entropy = Entropy::from_os().context("drawing a port")?;
        let start = entropy.next_u64() % u64::from(count);
        for step in 0..u64::from(count) {
            let number = FIRST_PORT + u16::try_from((start + step) % u64::from(count)).unwrap_or_default();
            let file = File::options().create(true).append(true).open(place.join(number.to_string()));
            let lock = file.with_context(|| format!("opening the lock of port {number}"))?;
            match lock.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).context("locking a port"),
                Ok(()) if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() => {
                    return Ok(Port { number, _lock: lock });
                }
                Ok(()) => {}
            }
        }
        bail!("every port from {FIRST_PORT} to {end} is in use")
    }
}

impl Port {
    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Runs it to its end.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("starting {command:?}"))?;
    ensure!(out.status.success(), "{command:?} failed ({}): {}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    output(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}

/// Where the template is kept: `tmp` in the target directory that this program was built in, which cargo marks.
fn kept() -> Result<PathBuf> {
    let own = std::env::current_exe().context("asking for the path of this test")?;
    let target = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let place = target.map_or_else(std::env::temp_dir, |target| target.join("tmp"));
    fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
    Ok(place)
}

fn postgres_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == "postgres");
    let fields = fields.context("there is no user `postgres`, and Postgres does not run as root")?;
    let id = |at: usize| fields.get(at).and_then(|text| text.parse().ok()).context("the ids of the user `postgres`");
    Ok((id(2)?, id(3)?))
}
