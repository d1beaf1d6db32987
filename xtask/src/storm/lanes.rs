//! Runs beside each other: each in a network namespace of its own, where the fixed ports meet nobody else's. A run whose
//! load was late is repeated, because it says more about the machine than about the proxy.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peers::Peer;
use super::{Scenario, result_file};
use crate::{program, sh};

/// How often a run is tried before it stays void.
const TRIES: u32 = 4;

/// When the run ends, and when the fault begins and ends, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Times {
    pub(super) secs: f64,
    pub(super) inject: f64,
    pub(super) heal: f64,
}

/// Whether runs can have networks of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    Namespaces,
    /// One run at a time on the machine's loopback.
    None,
}

/// One scenario on one peer.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) storm: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) scenario: &'a Scenario,
    pub(super) peer: &'a Peer,
    pub(super) repeat: u32,
    pub(super) times: Option<Times>,
}

impl Isolation {
    /// Looks what the machine allows, and says so if it is not what is wanted.
    pub(super) fn find() -> Result<Isolation> {
        let try_one = || -> Result<()> {
            let probe = "ip link set lo up";
            program::debian("unshare", "util-linux")?;
            program::debian("ip", "iproute2")?;
            let made = Command::new("unshare").args(["-n", "sh", "-c", probe]).output().context("starting unshare")?;
            ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr).trim());
            Ok(())
        };
        Ok(match try_one() {
            Ok(()) => Isolation::Namespaces,
            Err(error) => {
                println!(
                    "network namespaces cannot be made here ({error:#}); that takes root, or CAP_SYS_ADMIN in a container. \
                     Runs go one at a time on this machine's loopback, where the ports 7070, 8080, 8081, 9101 to 9103 \
                     and 9201 to 9203 have to be free; figures of peers are comparable only among such runs."
                );
                Isolation::None
            }
        })
    }
}

/// Runs all jobs, at most `width` at a time; returns the names of those that failed.
pub(super) fn run(jobs: &[Job<'_>], width: usize, isolation: Isolation, must_be_prompt: bool) -> Vec<String> {
    let width = if isolation == Isolation::None { 1 } else { width.min(jobs.len()) };
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for lane in 0..width {
            let (next, failed) = (&next, &failed);
            scope.spawn(move || {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = job.run(lane, isolation, must_be_prompt) {
                        println!("{}: {error:#}", job.name());
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(job.name());
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Job<'_> {
    fn name(&self) -> String {
        format!("{} on {}", self.scenario.key, self.peer.name())
    }

    /// Runs until the load was prompt, or often enough.
    fn run(&self, lane: usize, isolation: Isolation, must_be_prompt: bool) -> Result<()> {
        let file = result_file(self.folder, &self.scenario.key, self.peer.name(), self.repeat);
        for number in 1..=TRIES {
            self.once(lane, isolation, &file)?;
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let result: Value = serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
            if !must_be_prompt || result["is_void"] == false {
                return Ok(());
            }
            let rest = if number < TRIES { "again" } else { "it stays void" };
            println!("{}: the load was late, so the run is void; {rest}", self.name());
        }
        Ok(())
    }

    fn once(&self, lane: usize, isolation: Isolation, file: &Path) -> Result<()> {
        let run = self.folder.join(format!("run/{}.{}.{}", self.scenario.key, self.peer.name(), self.repeat));
        // What an earlier try wrote is no part of this one.
        drop(fs::remove_dir_all(&run));
        let commands = self.peer.commands(self.scenario);
        let mut command = match isolation {
            Isolation::None => Command::new(self.storm),
            Isolation::Namespaces => {
                let mut command = Command::new("unshare");
                command.args(["-n", "sh", "-c", "ip link set lo up && exec \"$@\"", "storm"]).arg(self.storm);
                command
            }
        };
        command
            .args(["run", &self.scenario.key, "--name", self.peer.name(), "--proxy-url", commands.url])
            .args(["--seed", &self.repeat.to_string(), "--parent", &std::process::id().to_string()])
            .arg("--dir")
            .arg(&run)
            .arg("--out")
            .arg(file)
            .env("LANE", lane.to_string())
            .stdin(Stdio::null());
        let admin = commands.admin.map(str::to_owned);
        let optional = [
            ("--proxy-cmd", commands.start),
            ("--health", commands.health),
            ("--reload-cmd", commands.reload),
            ("--admin", admin),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                command.arg(name).arg(value);
            }
        }
        if self.scenario.is_exact {
            command.arg("--exact");
        }
        if let Some(times) = self.times {
            for (name, value) in [("--secs", times.secs), ("--inject", times.inject), ("--heal", times.heal)] {
                command.arg(name).arg(value.to_string());
            }
        }
        let status = command.status().with_context(|| format!("starting `{}`", sh::shown(&command)))?;
        ensure!(status.success(), "storm ended with {status}; its logs are in {}", run.display());
        Ok(())
    }
}
