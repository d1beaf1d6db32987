//! Processes of a run: what `/proc` says of them, and the proxy under test, which is a process group of its own. Every
//! process ends with the runner: it asks the kernel for a signal when its parent ends, before it becomes what it runs.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use kernel::Clock;
use rustix::process::{Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal};

/// How long a proxy may take to end in order.
const END: Duration = Duration::from_secs(2);
/// How often its end is looked for.
const POLL: Duration = Duration::from_millis(10);

/// This process gets the signal when `parent` ends.
pub(crate) fn end_with(parent: i32, signal: Signal) -> Result<()> {
    set_parent_process_death_signal(Some(signal)).context("asking for a signal at the end of the parent")?;
    let is_there = getppid().is_some_and(|pid| pid.as_raw_pid() == parent);
    ensure!(is_there, "the process {parent} is not the parent, or has ended");
    Ok(())
}

/// Becomes a shell that gets SIGTERM when `parent` ends; returns only if that fails.
pub(crate) fn leashed(parent: i32, command: &str) -> anyhow::Error {
    if let Err(error) = end_with(parent, Signal::TERM) {
        return error;
    }
    anyhow!(Command::new("/bin/sh").arg("-c").arg(command).exec()).context("starting /bin/sh")
}

/// The fields of `/proc/PID/stat` after the name: state, parent, group, …
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// CPU time of a process so far, in seconds; 0 if there is none.
pub(crate) fn cpu_of(pid: i32) -> f64 {
    let ticks = |fields: &[String]| Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?);
    stat(pid).and_then(|fields| ticks(&fields)).unwrap_or(0.0) / rustix::param::clock_ticks_per_second() as f64
}

/// CPU time of this process.
pub(crate) fn own_cpu() -> f64 {
    cpu_of(rustix::process::getpid().as_raw_pid())
}

/// The living processes of a group.
fn members(group: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let group = group.to_string();
    let belongs =
        |fields: Vec<String>| fields.get(2) == Some(&group) && fields.first().is_none_or(|state| state != "Z");
    pids.filter(|pid| stat(*pid).is_some_and(belongs)).collect()
}

/// The proxy under test.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    pid: Pid,
    clock: Clock,
}

impl Proxy {
    /// Starts the shell command; it is to become the proxy and stay in the foreground.
    pub(crate) fn start(command: &str, folder: &Path, clock: Clock) -> Result<Proxy> {
        let child = shell(command, 0, folder, "proxy.log", &[])?;
        Ok(Proxy { pid: Pid::from_child(&child), child, clock })
    }

    /// Runs a command in its group.
    pub(crate) fn reload(&self, command: &str, folder: &Path, number: u32) -> Result<Child> {
        let own = [("STORM_PROXY_PID", self.group().to_string()), ("STORM_RELOAD", number.to_string())];
        shell(command, self.group(), folder, "reload.log", &own)
    }

    fn group(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// CPU time of each process of the group.
    pub(crate) fn cpu(&self) -> HashMap<i32, f64> {
        members(self.group()).into_iter().map(|pid| (pid, cpu_of(pid))).collect()
    }

    /// Resident memory of the group.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let pages = |pid: i32| {
            std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(1)?.parse::<u64>().ok()
        };
        members(self.group()).into_iter().filter_map(pages).sum::<u64>() * rustix::param::page_size() as u64
    }

    pub(crate) fn is_alive(&self) -> bool {
        !members(self.group()).is_empty()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A group that has ended already cannot be signalled, which is what is wanted.
        kill_process_group(self.pid, Signal::TERM).ok();
        let end = self.clock.now() + END;
        while self.is_alive() && self.clock.now() < end {
            // The child has to be waited for, or it stays as a zombie.
            drop(self.child.try_wait());
            std::thread::sleep(POLL);
        }
        kill_process_group(self.pid, Signal::KILL).ok();
        drop(self.child.wait());
    }
}

/// A shell command, in a process group (0: one of its own), writing to a log.
fn shell(command: &str, group: i32, folder: &Path, log: &str, own: &[(&str, String)]) -> Result<Child> {
    let log = folder.join(log);
    let file = OpenOptions::new().append(true).create(true).open(&log);
    let file = file.with_context(|| format!("opening {}", log.display()))?;
    let mut leashed = Command::new(std::env::current_exe().context("asking for the path of this program")?);
    leashed
        .arg("leashed")
        .arg(std::process::id().to_string())
        .arg(command)
        .process_group(group)
        .env("STORM_DIR", folder)
        .envs(own.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    leashed.spawn().with_context(|| format!("starting `{command}`"))
}
