//! Processes of a benchmark and what the kernel counts of them. A process is started, as a rule pinned to one core, in a process
//! group of its own; the group's CPU time and memory are read from `/proc`, over every process and thread in it. When
//! it is dropped the group is ended, first in order and then at once.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::clock::Stopwatch;
use crate::sh;

/// How long a group may take to end in order.
const END: Duration = Duration::from_secs(5);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A running process and its descendants.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    pid: Pid,
    log: Option<PathBuf>,
}

/// CPU time since the start, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cpu {
    pub(super) user: f64,
    pub(super) system: f64,
}

/// The cores that a benchmark uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cores {
    /// What is measured.
    pub(super) proxy: usize,
    /// The upstream and the load.
    pub(super) load: usize,
}

impl Cores {
    /// The first two cores that this process may use.
    pub(super) fn pick() -> Result<Cores> {
        let allowed = sched_getaffinity(None).context("asking which cores may be used")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (cores.next(), cores.next()) {
            (Some(proxy), Some(load)) => Ok(Cores { proxy, load }),
            _ => bail!("the benchmark needs two cores: one for the proxy, one for the upstream and the load"),
        }
    }
}

/// Starts something while this thread is pinned to `core`; children inherit that.
fn pinned<T>(core: usize, start: impl FnOnce() -> T) -> Result<T> {
    let before = sched_getaffinity(None).context("asking which cores may be used")?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).with_context(|| format!("pinning to core {core}"))?;
    let started = start();
    sched_setaffinity(None, &before).context("unpinning")?;
    Ok(started)
}

/// Runs a command to its end on one core and returns what it wrote.
pub(super) fn output_on(core: usize, command: &mut Command) -> Result<String> {
    let child = pinned(core, || command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn())?;
    let ended = child.with_context(|| format!("starting `{}`", sh::shown(command)))?.wait_with_output();
    let Output { status, stdout, stderr } = ended.with_context(|| format!("waiting for `{}`", sh::shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}): {}", sh::shown(command), String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Lets this process and its children open at least this many files.
pub(super) fn allow_files(files: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    let maximum = maximum.map(|maximum| maximum.max(files));
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum }).with_context(|| {
        format!("raising the limit of open files to {files} (`ulimit -n`; more than the hard limit needs root)")
    })
}

impl Group {
    /// Starts a server on one core, or on any, its output going to the file `log`.
    pub(super) fn server(core: impl Into<Option<usize>>, command: &mut Command, log: &Path) -> Result<Group> {
        let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Group::start(core, command, Some(log.to_owned()))
    }

    /// Starts a program on one core, or on any; its input and output are as the command says.
    pub(super) fn start(core: impl Into<Option<usize>>, command: &mut Command, log: Option<PathBuf>) -> Result<Group> {
        let mut start = || command.process_group(0).spawn();
        let child = match core.into() {
            Some(core) => pinned(core, start)?,
            None => start(),
        };
        let child = child.with_context(|| format!("starting `{}`", sh::shown(command)))?;
        let pid = Pid::from_child(&child);
        Ok(Group { child, pid, log })
    }

    /// The process that was started.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until `ready`; fails when the process ends or does not get there in time, with what it wrote last.
    pub(super) fn await_ready(&mut self, within: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let watch = Stopwatch::start();
        while !ready() {
            if let Some(status) = self.child.try_wait().context("asking for the status of a process")? {
                bail!("it ended at once ({status}): {}", self.last_words());
            }
            if watch.elapsed() > within {
                bail!("it was not ready within {within:?}: {}", self.last_words());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() { "it wrote nothing".to_owned() } else { lines[lines.len().saturating_sub(8)..].join("\n") }
    }

    fn members(&self) -> Result<Vec<(i32, Stat)>> {
        let mut members = Vec::new();
        for entry in fs::read_dir("/proc").context("listing /proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // A process may end while the list is read.
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            if let Some(stat) = Stat::parse(&text).filter(|stat| stat.group == self.pid.as_raw_pid()) {
                members.push((pid, stat));
            }
        }
        Ok(members)
    }

    /// CPU time of all processes of the group and all their threads. The kernel counts it exactly and tells it in ticks;
    /// how it splits into user and system is sampled.
    pub(super) fn cpu(&self) -> Result<Cpu> {
        let tick = rustix::param::clock_ticks_per_second() as f64;
        Ok(self.members()?.iter().fold(Cpu::default(), |sum, (_, stat)| Cpu {
            user: sum.user + stat.user as f64 / tick,
            system: sum.system + stat.system as f64 / tick,
        }))
    }

    /// Resident memory of the group in KiB: now (`VmRSS`) or at most so far (`VmHWM`).
    pub(super) fn memory(&self, field: &str) -> Result<u64> {
        let of = |pid: i32| status_field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, field);
        Ok(self.members()?.iter().filter_map(|(pid, _)| of(*pid)).sum())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group that has ended already cannot be signalled, which is what is wanted.
        kill_process_group(self.pid, Signal::TERM).ok();
        let watch = Stopwatch::start();
        while watch.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(POLL);
        }
        kill_process_group(self.pid, Signal::KILL).ok();
        drop(self.child.wait());
    }
}

/// How long one core was busy since the start of the machine, in seconds.
pub(super) fn core_busy(core: usize) -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let ticks = busy_ticks(&text, core).with_context(|| format!("no core {core} in /proc/stat"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn busy_ticks(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    [0, 1, 2, 5, 6].iter().map(|at| fields.get(*at)).sum()
}

/// What is needed of `/proc/PID/stat`; times in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    group: i32,
    user: u64,
    system: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name stands in parentheses and may hold blanks and parentheses itself.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Stat {
            group: fields.get(2)?.parse().ok()?,
            user: fields.get(11)?.parse().ok()?,
            system: fields.get(12)?.parse().ok()?,
        })
    }
}

fn status_field(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.split(':').next() == Some(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "7 (a b) c) S 1 42 42 0 -1 4194560 1 0 0 0 123 45 0 0 20 0 1 0 9 9 9\n";
        assert_eq!(Stat::parse(stat), Some(Stat { group: 42, user: 123, system: 45 }));
        assert_eq!(Stat::parse("garbage"), None);
        let status = "Name:\tx\nVmHWM:\t    900 kB\nVmRSS:\t    800 kB\n";
        assert_eq!([status_field(status, "VmHWM"), status_field(status, "VmRSS")], [Some(900), Some(800)]);
        let cores = "cpu  9 9 9 9 9 9 9 9\ncpu0 1 2 3 1000 1000 4 5 1000 0 0\ncpu10 7 0 0 0 0 0 0 0\n";
        assert_eq!([busy_ticks(cores, 0), busy_ticks(cores, 1), busy_ticks(cores, 10)], [Some(15), None, Some(7)]);
    }

    #[test]
    fn a_group_is_counted_with_its_children_and_gone_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let mut shell = Command::new("sh");
        // The child burns CPU for the group; the shell itself only waits.
        shell.args(["-c", "(while :; do :; done) & echo $! > \"$0\"; wait"]).arg(&mark);
        let core = Cores::pick().map_or(0, |cores| cores.proxy);
        let mut group = Group::server(core, &mut shell, &folder.path().join("log")).unwrap();
        let used = |group: &Group| group.cpu().map(|cpu| cpu.user + cpu.system).unwrap();
        let watch = Stopwatch::start();
        while used(&group) < 0.1 {
            assert!(watch.elapsed() < Duration::from_secs(30), "no CPU time was counted");
            std::thread::yield_now();
        }
        assert!(group.memory("VmRSS").unwrap() > 0);
        group.await_ready(Duration::from_secs(5), || mark.is_file()).unwrap();
        let pid = group.pid;
        drop(group);
        // Nobody is left to be signalled once the children were reaped.
        while rustix::process::test_kill_process_group(pid).is_ok() {
            assert!(watch.elapsed() < Duration::from_secs(30), "the group lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_server_that_ends_at_once_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo no such thing; exit 1"]);
        let core = Cores::pick().map_or(0, |cores| cores.proxy);
        let mut group = Group::server(core, &mut shell, &folder.path().join("log")).unwrap();
        let error = group.await_ready(Duration::from_secs(30), || false).unwrap_err().to_string();
        assert!(error.contains("no such thing"), "{error}");
    }
}
