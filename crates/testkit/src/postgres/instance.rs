//! A Postgres of a test's own: its cluster, its port on 127.0.0.1, its Unix socket, its log, all in one directory with
//! a short path. The superuser is `postgres`, without a password over the Unix socket; everybody else proves a password
//! by SCRAM-SHA-256.
//!
//! ```text
//! running => stopped   stop_fast (SIGINT: sessions are ended), stop_immediate (SIGQUIT: as in a crash)
//! stopped => running   start_again, on the same port
//! running <=> frozen   freeze, thaw: the postmaster and every process of it stands still (SIGSTOP, SIGCONT)
//! ```
//! It ends with this value; also when the test's process dies without a word: a shell waits at a pipe that dies with it.
//! Nothing here is durable (`fsync` is off), so a test may not end the machine.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::install::{Install, Port, output};
use crate::poll::poll_until;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take; then it is killed.
const STOP: Duration = Duration::from_secs(30);
/// How many ports are tried: only somebody who is no test of this user can have taken one that was free.
const PORTS: u32 = 5;
/// Ends what is left in the directory `$1` when standard input does; what was frozen goes on first, or it would not hear.
const WATCH: &str = r#"read -r _
file=$1/data/postmaster.pid
if [ -f "$file" ] && read -r pid < "$file" && grep -q "$1" "/proc/$pid/cmdline" 2>/dev/null; then
  for stat in /proc/[0-9]*/stat; do
    read -r child _ _ parent _ < "$stat" && [ "$parent" = "$pid" ] && kill -CONT "$child"
  done 2>/dev/null
  kill -CONT "$pid"; kill -QUIT "$pid"
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do kill -0 "$pid" 2>/dev/null || break; sleep 0.5; done
fi
rm -rf "$1""#;

/// A running server.
#[derive(Debug)]
pub struct Instance {
    install: Install,
    directory: tempfile::TempDir,
    port: Port,
    /// `None` while it is stopped.
    server: Option<Child>,
    watch: Child,
    options: Options,
}

/// What differs from the usual instance.
#[derive(Debug, Clone, Default)]
pub struct Options {
    settings: Vec<(String, String)>,
    tls: Option<(String, String)>,
}

impl Options {
    /// The usual instance.
    pub fn new() -> Options {
        Options::default()
    }

    /// A setting as in `postgresql.conf`; the value is quoted here.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Options {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// TLS with this certificate and its key, both PEM.
    #[must_use]
    pub fn tls(mut self, certificate: &str, key: &str) -> Options {
        self.tls = Some((certificate.to_owned(), key.to_owned()));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When no Postgres is installed, or it does not start; with its log.
    pub fn start(self) -> Result<Instance> {
        Instance::make(self, |install, data| install.cluster(data))
    }
}

impl Instance {
    /// Starts the usual instance.
    ///
    /// # Errors
    /// As [`Options::start`].
    pub fn start() -> Result<Instance> {
        Options::new().start()
    }

    /// Starts an instance that offers TLS with this certificate and its key, both PEM.
    ///
    /// # Errors
    /// As [`Options::start`].
    pub fn with_ssl(certificate: &str, key: &str) -> Result<Instance> {
        Options::new().tls(certificate, key).start()
    }

    /// Starts a standby of this server: a copy that follows it by streaming, and answers queries.
    ///
    /// # Errors
    /// As [`Options::start`].
    pub fn standby(&self) -> Result<Instance> {
        Instance::make(self.options.clone(), |install, data| {
            let mut copy = install.program("pg_basebackup", self.directory.path());
            copy.args(["--username=postgres", "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]);
            copy.arg("--no-sync").arg("-h").arg(self.socket_dir()).arg("-p").arg(self.port().to_string());
            output(copy.arg("-D").arg(data)).map(drop)
        })
    }

    fn make(options: Options, fill: impl FnOnce(&Install, &Path) -> Result<()>) -> Result<Instance> {
        let install = Install::find()?;
        let directory = install.directory()?;
        fill(&install, &directory.path().join("data")).context("making the cluster")?;
        let mut watch = Command::new("/bin/sh");
        watch.args(["-c", WATCH, "watch"]).arg(directory.path()).current_dir("/");
        watch.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Groups of their own: whoever kills the test with its group leaves the watch to do its work.
        let watch = watch.process_group(0).spawn().context("starting the watch over the server")?;
        let mut made = Instance { install, directory, port: Port::reserve()?, server: None, watch, options };
        for _ in 1..PORTS {
            match made.start_again() {
                Err(_) if made.log().contains("could not create any TCP/IP sockets") => made.port = Port::reserve()?,
                Err(error) => return Err(error),
                Ok(()) => return Ok(made),
            }
        }
        made.start_again().map(|()| made)
    }

    /// The port on 127.0.0.1; the same for all its life.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The address.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// The directory of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.socket_dir().join(format!(".s.PGSQL.{}", self.port()))
    }

    /// Where one of Postgres's programs is, such as `psql` or `pgbench`.
    pub fn program(&self, name: &str) -> PathBuf {
        PathBuf::from(self.install.program(name, self.socket_dir()).get_program())
    }

    /// What the server wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The process id of the postmaster.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// What `psql` answers the superuser in the database `postgres`: values without decoration, a line a row.
    ///
    /// # Panics
    /// When a statement fails.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        match self.try_psql("postgres", sql) {
            Ok(answer) => answer,
            Err(error) => panic!("{error:#}\nasked: {sql}\nthe server's log:\n{}", self.log()),
        }
    }

    /// As [`Instance::psql`], in a database, with its failure.
    ///
    /// # Errors
    /// When a statement fails; with what `psql` said.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.install.program("psql", self.socket_dir());
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        psql.arg("-h").arg(self.socket_dir()).arg("-p").arg(self.port().to_string());
        // By a file, so that each statement is one of its own and may be CREATE DATABASE.
        let file = self.directory.path().join(format!("ask-{:?}.sql", std::thread::current().id()));
        fs::write(&file, sql).with_context(|| format!("writing {}", file.display()))?;
        self.install.give(&file)?;
        let answer = output(psql.arg("-f").arg(&file))?;
        Ok(answer.trim_end().to_owned())
    }

    /// A role with a password, kept as a SCRAM verifier, and a database of its own.
    ///
    /// # Errors
    /// When one of them exists or cannot be made.
    pub fn create_app(&self, user: &str, password: &str, database: &str) -> Result<()> {
        let sql = format!(
            "create role {0} login password {1};\ncreate database {2} owner {0};\n",
            identifier(user),
            literal(password),
            identifier(database)
        );
        self.try_psql("postgres", &sql).map(drop)
    }

    /// The pooler's own role, and `create_function_sql` in every database, also in those that are made later.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn setup_auth(&self, user: &str, password: &str, create_function_sql: &str) -> Result<()> {
        let user_sql = format!("create role {} login password {};", identifier(user), literal(password));
        self.try_psql("postgres", &user_sql)?;
        let databases = self.try_psql("postgres", "select datname from pg_database where datallowconn")?;
        for database in databases.lines() {
            self.try_psql(database, create_function_sql).with_context(|| format!("in the database {database}"))?;
        }
        Ok(())
    }

    /// `pg_ctl promote`: a standby becomes a primary, on the next timeline. Returns once it is one.
    ///
    /// # Errors
    /// When it is no standby, or does not become a primary.
    pub fn promote(&self) -> Result<()> {
        let mut promote = self.install.program("pg_ctl", self.socket_dir());
        output(promote.args(["promote", "-w", "-D"]).arg(self.data())).map(drop)
    }

    /// A fast shutdown (sessions are ended with 57P01) and a start.
    ///
    /// # Errors
    /// When it does not stop or start.
    pub fn restart_fast(&mut self) -> Result<()> {
        self.stop_fast()?;
        self.start_again()
    }

    /// A fast shutdown, and waits for its end.
    ///
    /// # Errors
    /// When it is not running, or does not end.
    pub fn stop_fast(&mut self) -> Result<()> {
        self.stop(Signal::INT)
    }

    /// An immediate shutdown, as after a crash, and waits for its end.
    ///
    /// # Errors
    /// When it is not running, or does not end.
    pub fn stop_immediate(&mut self) -> Result<()> {
        self.stop(Signal::QUIT)
    }

    fn stop(&mut self, signal: Signal) -> Result<()> {
        let server = self.server.as_mut().context("the server is not running")?;
        kill_process(Pid::from_child(server), signal).context("signalling the server")?;
        ensure!(ended(server, STOP), "the server still ran after {STOP:?}; its log:\n{}", self.log());
        self.server = None;
        Ok(())
    }

    /// Starts a server that was stopped, and waits until it accepts.
    ///
    /// # Errors
    /// When it runs, or does not start; with its log.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "the server is running");
        self.configure()?;
        let log = self.directory.path().join("log");
        let log = File::options().create(true).append(true).open(&log).context("opening the server's log")?;
        let mut command = self.install.program("postgres", self.socket_dir());
        command.arg("-D").arg(self.data()).stdout(log.try_clone().context("a second handle of the log")?).stderr(log);
        let mut server = command.process_group(0).spawn().context("starting postgres")?;
        let state = self.data().join("postmaster.pid");
        let own = server.id().to_string();
        // The eighth line says how far it has come; the file may still be that of a process before it.
        let ready = poll_until(START, || {
            let text = fs::read_to_string(&state).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
            let up = lines.first() == Some(&own.as_str()) && matches!(lines.get(7), Some(&("ready" | "standby")));
            (up || !matches!(server.try_wait(), Ok(None))).then_some(up)
        });
        if ready != Some(true) {
            drop(server.kill());
            drop(server.wait());
            bail!("postgres did not start; its log:\n{}", self.log());
        }
        self.server = Some(server);
        Ok(())
    }

    /// Stops every process of the server where it stands. Connections stay open and nothing is answered.
    ///
    /// # Errors
    /// When it is not running.
    pub fn freeze(&self) -> Result<()> {
        let postmaster = self.pid().context("the server is not running")?;
        // The postmaster first: it starts no other process from here on.
        kill(postmaster, Signal::STOP)?;
        children(postmaster).into_iter().try_for_each(|child| kill(child, Signal::STOP))
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When it is not running.
    pub fn thaw(&self) -> Result<()> {
        let postmaster = self.pid().context("the server is not running")?;
        children(postmaster).into_iter().try_for_each(|child| kill(child, Signal::CONT))?;
        kill(postmaster, Signal::CONT)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Writes what is this instance's own.
    fn configure(&self) -> Result<()> {
        let place = self.socket_dir().display();
        let mut text = format!("port = {}\nunix_socket_directories = '{place}'\n", self.port());
        if let Some((certificate, key)) = &self.options.tls {
            for (name, pem) in [("server.crt", certificate), ("server.key", key)] {
                let path = self.data().join(name);
                fs::write(&path, pem).with_context(|| format!("writing {}", path.display()))?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context("closing the key's file")?;
                self.install.give(&path)?;
            }
            text.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n");
        }
        for (name, value) in &self.options.settings {
            writeln!(text, "{name} = {}", literal(value))?;
        }
        let path = self.data().join("instance.conf");
        let mut file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
        file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
        self.install.give(&path)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Whatever cannot be signalled has ended already.
        if self.server.is_some() {
            drop(self.thaw());
        }
        if let Some(server) = &mut self.server
            && (kill_process(Pid::from_child(server), Signal::QUIT).is_err() || !ended(server, STOP))
        {
            drop(server.kill());
            drop(server.wait());
        }
        drop(self.watch.stdin.take());
        drop(self.watch.wait());
    }
}

/// Waits for the end of a process; `false` if it still runs after `within`.
fn ended(process: &mut Child, within: Duration) -> bool {
    poll_until(within, || (!matches!(process.try_wait(), Ok(None))).then_some(())).is_some()
}

/// Signals a process; one that has ended is no error.
fn kill(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id")?;
    match kill_process(pid, signal) {
        Err(error) if error != rustix::io::Errno::SRCH => Err(error).context("signalling a process of the server"),
        _ => Ok(()),
    }
}

/// The processes that this one started and that still run.
fn children(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name of a process, in parentheses, may hold anything; its state and its parent follow.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if parent == Some(of) {
            found.push(pid);
        }
    }
    found
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
