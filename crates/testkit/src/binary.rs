//! The real `evenkeel` binary as a child process: started with a configuration in a directory of its own, ready when
//! it says so, killed when dropped. The contract with `evenkeel up` is its standard output: a line
//! `listening KIND http://ADDR` for each listener (`gateway`, `console`, `api`, and `pool NAME` without a scheme), then a line `ready`.
//!
//! The binary is the one that `EVENKEEL_BIN` names, else the one that cargo built beside the test. What it writes is
//! kept up to [`LOG_LINES`] lines, the oldest are forgotten first.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, kill_process};

use crate::poll::{Deadline, lock, poll_until};

/// The environment variable that names the binary.
pub const BINARY_VARIABLE: &str = "EVENKEEL_BIN";
/// How many lines of output are kept.
pub const LOG_LINES: usize = 20_000;
/// How long the binary may take to be ready on a busy machine.
pub const START: Duration = Duration::from_secs(30);
/// The longest line that is kept; the rest of it is cut.
const LINE_BYTES: u64 = 64 * 1024;

/// A running `evenkeel up`.
#[derive(Debug)]
pub struct Binary {
    child: Child,
    directory: tempfile::TempDir,
    config: PathBuf,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    listening: Vec<(String, SocketAddr)>,
}

/// What is sent to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: end in order.
    Term,
    /// SIGINT: what Ctrl-C sends.
    Int,
    /// SIGHUP: read the configuration again.
    Hup,
    /// SIGUSR1: open the logs again.
    Usr1,
    /// SIGUSR2: start the next process.
    Usr2,
    /// SIGKILL.
    Kill,
    /// SIGSTOP: stand still.
    Stop,
    /// SIGCONT: go on.
    Cont,
}

/// How a process ended and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: VecDeque<(Stream, String)>,
    forgotten: usize,
    ended: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

/// Tells another child process what Ctrl-C tells it.
///
/// # Errors
/// When there is no such process any more.
pub fn interrupt(child: &Child) -> Result<()> {
    kill_process(Pid::from_child(child), rustix::process::Signal::INT).context("sending SIGINT to a command")
}

/// Where the binary is.
///
/// # Errors
/// When neither `EVENKEEL_BIN` names a file nor cargo has built one.
pub fn find() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(BINARY_VARIABLE).map(PathBuf::from) {
        anyhow::ensure!(named.is_file(), "{BINARY_VARIABLE}={} is not a file", named.display());
        return Ok(named);
    }
    let test = std::env::current_exe().context("asking for the path of this test")?;
    let name = format!("evenkeel{}", std::env::consts::EXE_SUFFIX);
    // A test is target/PROFILE/deps/test-HASH, the binary target/PROFILE/evenkeel.
    let found = test.ancestors().skip(1).take(3).map(|dir| dir.join(&name)).find(|path| path.is_file());
    found.with_context(|| {
        format!("no {name} beside {}; build it (cargo build) or name it in {BINARY_VARIABLE}", test.display())
    })
}

impl Binary {
    /// Starts `evenkeel up` with this configuration and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready within [`START`]; with what it wrote.
    pub fn up(config: &str) -> Result<Binary> {
        Binary::up_with(config, &[], &[])
    }

    /// Starts `evenkeel up` with more arguments and environment variables, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Binary::up`].
    pub fn up_with(config: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Binary> {
        let directory = tempfile::tempdir().context("making a directory for the binary's files")?;
        let path = directory.path().join("evenkeel.toml");
        std::fs::write(&path, config).with_context(|| format!("writing {}", path.display()))?;
        let mut command = Command::new(find()?);
        command.arg("up").arg("-c").arg(&path).args(args).envs(env.iter().copied()).current_dir(directory.path());
        let mut binary = Binary::spawn(command, directory, path)?;
        binary.await_ready()?;
        Ok(binary)
    }

    /// Starts `evenkeel up` as a service manager does that passes a listening socket: as descriptor 3, under this name.
    /// Waits until it is ready.
    ///
    /// # Errors
    /// As [`Binary::up`].
    pub fn up_with_socket(config: &str, socket: TcpListener, name: &str, env: &[(&str, &str)]) -> Result<Binary> {
        const LAUNCH: &str = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
        let directory = tempfile::tempdir().context("making a directory for the binary's files")?;
        let path = directory.path().join("evenkeel.toml");
        std::fs::write(&path, config).with_context(|| format!("writing {}", path.display()))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", LAUNCH, "launch"]).arg(find()?).arg("up").arg("-c").arg(&path);
        command.env("LISTEN_FDNAMES", name).envs(env.iter().copied()).current_dir(directory.path());
        let mut binary = Binary::spawn_with(command, OwnedFd::from(socket).into(), directory, path)?;
        binary.await_ready()?;
        Ok(binary)
    }

    /// Runs the binary with these arguments until it ends by itself, in `directory` if one is given.
    ///
    /// # Errors
    /// When it cannot be started or does not end within `within`; it is killed then.
    pub fn run(args: &[&str], directory: Option<&Path>, within: Duration) -> Result<Ended> {
        let own = tempfile::tempdir().context("making a directory for the binary")?;
        let mut command = Command::new(find()?);
        command.args(args).current_dir(directory.unwrap_or(own.path()));
        let mut binary = Binary::spawn(command, own, PathBuf::new())?;
        let code = binary.wait_exit(within)?;
        Ok(Ended { code, stdout: binary.text(Some(Stream::Out)), stderr: binary.text(Some(Stream::Err)) })
    }

    /// Starts the binary with these arguments and does not wait for anything; for commands other than `up`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(args: &[&str]) -> Result<Binary> {
        let directory = tempfile::tempdir().context("making a directory for the binary's files")?;
        let mut command = Command::new(find()?);
        command.args(args).current_dir(directory.path());
        Binary::spawn(command, directory, PathBuf::new())
    }

    fn spawn(command: Command, directory: tempfile::TempDir, config: PathBuf) -> Result<Binary> {
        Binary::spawn_with(command, Stdio::null(), directory, config)
    }

    fn spawn_with(mut command: Command, stdin: Stdio, directory: tempfile::TempDir, config: PathBuf) -> Result<Binary> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let log = Arc::new(Log::default());
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(read_lines(out, Stream::Out, &log)?);
        }
        if let Some(err) = child.stderr.take() {
            readers.push(read_lines(err, Stream::Err, &log)?);
        }
        Ok(Binary { child, directory, config, log, readers, listening: Vec::new() })
    }

    fn await_ready(&mut self) -> Result<()> {
        self.wait_line("the line `ready`", START, |line| (line.trim_end() == "ready").then_some(()))?;
        let state = lock(&self.log.state);
        for (_, line) in state.lines.iter().filter(|(stream, _)| *stream == Stream::Out) {
            let Some((kind, url)) = line.strip_prefix("listening ").and_then(|rest| rest.trim_end().rsplit_once(' '))
            else {
                continue;
            };
            if url.starts_with('/') {
                // A Unix socket.
                continue;
            }
            let addr = url.trim_start_matches("http://").parse().with_context(|| format!("the address in {line:?}"))?;
            self.listening.push((kind.to_owned(), addr));
        }
        Ok(())
    }

    /// Every listener of this kind, in the order in which they were announced.
    pub fn addrs(&self, kind: &str) -> Vec<SocketAddr> {
        self.listening.iter().filter(|(k, _)| k == kind).map(|(_, addr)| *addr).collect()
    }

    /// The gateway's (first) address.
    ///
    /// # Panics
    /// If none was announced.
    #[track_caller]
    pub fn gateway(&self) -> SocketAddr {
        self.one("gateway")
    }

    /// The console's address.
    ///
    /// # Panics
    /// If none was announced.
    #[track_caller]
    pub fn console(&self) -> SocketAddr {
        self.one("console")
    }

    /// The application API's address.
    ///
    /// # Panics
    /// If none was announced.
    #[track_caller]
    pub fn api(&self) -> SocketAddr {
        self.one("api")
    }

    #[track_caller]
    fn one(&self, kind: &str) -> SocketAddr {
        match self.addrs(kind).first() {
            Some(addr) => *addr,
            None => panic!("the binary announced no {kind}, only {:?}", self.listening),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory that is the process's working directory and goes with this value.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Replaces the configuration file in one step; the process is not told (see [`Signal::Hup`]).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        let new = self.config.with_extension("new");
        std::fs::write(&new, text).with_context(|| format!("writing {}", new.display()))?;
        std::fs::rename(&new, &self.config).with_context(|| format!("replacing {}", self.config.display()))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When there is no such process any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let number = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Int => rustix::process::Signal::INT,
            Signal::Hup => rustix::process::Signal::HUP,
            Signal::Usr1 => rustix::process::Signal::USR1,
            Signal::Usr2 => rustix::process::Signal::USR2,
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Cont => rustix::process::Signal::CONT,
        };
        kill_process(Pid::from_child(&self.child), number).with_context(|| format!("sending {signal:?} to the binary"))
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended and gives its exit code, `None` if a signal ended it.
    ///
    /// # Errors
    /// When it still runs after `within`; with what it wrote.
    pub fn wait_exit(&mut self, within: Duration) -> Result<Option<i32>> {
        let child = &mut self.child;
        let Some(status) = poll_until(within, || child.try_wait().transpose()) else {
            bail!("the binary still ran after {within:?}; it wrote:\n{}", self.logs());
        };
        for reader in self.readers.drain(..) {
            let _panicked = reader.join().is_err();
        }
        Ok(status.context("asking whether the binary has ended")?.code())
    }

    /// What it wrote so far to either stream.
    pub fn logs(&self) -> String {
        self.text(None)
    }

    /// Waits for a line that holds `part`, among those already written too, and gives it.
    ///
    /// # Errors
    /// When there is none within `within`, or the process ended without one.
    pub fn wait_log(&self, part: &str, within: Duration) -> Result<String> {
        self.wait_line(&format!("a line with {part:?}"), within, |line| line.contains(part).then(|| line.to_owned()))
    }

    fn wait_line<T>(&self, what: &str, within: Duration, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Deadline::after(within);
        let mut state = lock(&self.log.state);
        loop {
            if let Some(found) = state.lines.iter().find_map(|(_, line)| wanted(line)) {
                return Ok(found);
            }
            let left = deadline.left();
            if left.is_zero() || state.ended == 2 {
                let why = if state.ended == 2 { "ended without" } else { "did not write in time" };
                drop(state);
                bail!("the binary {why} {what}; it wrote:\n{}", self.logs());
            }
            state = self.log.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn text(&self, only: Option<Stream>) -> String {
        let state = lock(&self.log.state);
        let mut text = String::new();
        if state.forgotten > 0 {
            text.push_str(&format!("({} earlier lines are forgotten)\n", state.forgotten));
        }
        for (_, line) in state.lines.iter().filter(|(stream, _)| only.is_none_or(|o| o == *stream)) {
            text.push_str(line);
        }
        text
    }
}

impl Drop for Binary {
    #[expect(clippy::print_stderr, reason = "the test harness shows it with the failure, whose cause it often is")]
    fn drop(&mut self) {
        let _already_ended = self.child.kill().is_err();
        let _reaped = self.child.wait().is_ok();
        for reader in self.readers.drain(..) {
            let _panicked = reader.join().is_err();
        }
        if std::thread::panicking() {
            eprintln!("the binary (process {}) wrote:\n{}", self.child.id(), self.logs());
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({} lines)", lock(&self.state).lines.len())
    }
}

fn read_lines(from: impl Read + Send + 'static, stream: Stream, log: &Arc<Log>) -> Result<JoinHandle<()>> {
    let log = Arc::clone(log);
    let read = move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let mut state = lock(&log.state);
            if state.lines.len() == LOG_LINES {
                state.lines.pop_front();
                state.forgotten += 1;
            }
            state.lines.push_back((stream, String::from_utf8_lossy(&line).into_owned()));
            log.changed.notify_all();
            line.clear();
        }
        lock(&log.state).ended += 1;
        log.changed.notify_all();
    };
    std::thread::Builder::new().name("binary-output".to_owned()).spawn(read).context("starting a reader of the output")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Binary {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        Binary::spawn(command, tempfile::tempdir().unwrap(), PathBuf::new()).unwrap()
    }

    #[test]
    fn listeners_are_learned_from_the_output() {
        let mut binary = shell(
            "echo 'listening gateway http://127.0.0.1:81'; echo 'listening gateway http://[::1]:82'; \
             echo noise >&2; echo 'listening console http://127.0.0.1:83'; \
             echo 'listening pool main 127.0.0.1:84'; echo 'listening pool main /run/pool'; echo ready; exec sleep 600",
        );
        binary.await_ready().unwrap();
        assert_eq!(binary.addrs("pool main"), ["127.0.0.1:84".parse().unwrap()]);
        assert_eq!(binary.gateway(), "127.0.0.1:81".parse().unwrap());
        assert_eq!(binary.addrs("gateway").len(), 2);
        assert_eq!(binary.console().port(), 83);
        assert!(binary.is_running());
        binary.signal(Signal::Term).unwrap();
        assert_eq!(binary.wait_exit(SOON).unwrap(), None);
    }

    #[test]
    fn one_that_ends_before_it_is_ready_is_told_with_its_output() {
        let mut binary = shell("echo 'no such file' >&2; exit 3");
        let told = binary.await_ready().unwrap_err().to_string();
        assert!(told.contains("ended without") && told.contains("no such file"), "{told}");
        assert_eq!(binary.wait_exit(SOON).unwrap(), Some(3));
    }

    #[test]
    fn a_signal_arrives_and_a_line_can_be_waited_for() {
        let binary = shell("trap 'echo again' HUP; echo started; while :; do sleep 0.01; done");
        binary.wait_log("started", SOON).unwrap();
        binary.signal(Signal::Hup).unwrap();
        assert_eq!(binary.wait_log("again", SOON).unwrap(), "again\n");
    }
}
