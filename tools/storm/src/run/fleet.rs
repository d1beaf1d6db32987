//! The three upstreams of a run: started, hurt, counted, and ended with it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use super::process::cpu_of;
use crate::http::once;
use crate::upstream::counters::{self, COUNTERS, Counter};

/// How many there are.
pub(crate) const COUNT: usize = 3;
/// Where they serve, as every proxy's configuration says.
const PORTS: [u16; COUNT] = [9101, 9102, 9103];
/// Where their faults are switched.
const CONTROLS: [u16; COUNT] = [9201, 9202, 9203];
/// How long control may take; an upstream has nothing else to do.
const CONTROL: Duration = Duration::from_secs(2);

/// The upstreams.
#[derive(Debug)]
pub(crate) struct Fleet {
    folder: PathBuf,
    children: [Option<Child>; COUNT],
    /// CPU time of those that have ended, in seconds.
    ended_cpu: f64,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Where the upstreams serve.
pub(crate) fn addresses() -> Vec<SocketAddr> {
    PORTS.map(local).to_vec()
}

fn id(index: usize) -> u64 {
    index as u64 + 1
}

impl Fleet {
    /// Starts all, with nothing counted.
    pub(crate) fn start(folder: &Path) -> Result<Fleet> {
        for port in PORTS.into_iter().chain(CONTROLS) {
            let is_free = TcpStream::connect(local(port)).is_err();
            ensure!(is_free, "port {port} is taken; run each scenario in a network namespace of its own");
        }
        let mut fleet = Fleet { folder: folder.to_owned(), children: Default::default(), ended_cpu: 0.0 };
        for index in 0..COUNT {
            fleet.spawn(index)?;
        }
        Ok(fleet)
    }

    /// Starts one that does not run.
    pub(crate) fn spawn(&mut self, index: usize) -> Result<()> {
        let log = self.folder.join(format!("upstream-{}.log", id(index)));
        let log = OpenOptions::new().append(true).create(true).open(log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("upstream")
            .args(["--port", &PORTS[index].to_string(), "--control", &CONTROLS[index].to_string()])
            .args(["--id", &id(index).to_string(), "--parent", &std::process::id().to_string(), "--state-dir"])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("starting upstream {}", id(index)))?;
        self.children[index] = Some(child);
        Ok(())
    }

    pub(crate) fn signal(&self, index: usize, signal: Signal) -> Result<()> {
        let child = self.children[index].as_ref().with_context(|| format!("upstream {} does not run", id(index)))?;
        kill_process(Pid::from_child(child), signal).with_context(|| format!("signalling upstream {}", id(index)))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, index: usize) {
        let Some(mut child) = self.children[index].take() else { return };
        self.ended_cpu += cpu_of(Pid::from_child(&child).as_raw_pid());
        // It may have ended by itself.
        drop(child.kill());
        drop(child.wait());
    }

    /// Whether it has ended by itself; then it can be started again.
    pub(crate) fn has_ended(&mut self, index: usize) -> bool {
        let Some(child) = self.children[index].as_mut() else { return true };
        let cpu = cpu_of(Pid::from_child(child).as_raw_pid());
        let ended = !matches!(child.try_wait(), Ok(None));
        if ended {
            self.ended_cpu += cpu;
            self.children[index] = None;
        }
        ended
    }

    /// CPU time of all, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let running = self.children.iter().flatten();
        self.ended_cpu + running.map(|child| cpu_of(Pid::from_child(child).as_raw_pid())).sum::<f64>()
    }

    fn counters(&self, index: usize) -> [u64; COUNTERS.len()] {
        counters::read(&counters::file(&self.folder, id(index)))
    }

    /// Sum of a counter over all, also of those that are frozen or dead.
    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        (0..COUNT).map(|index| self.counters(index)[counter as usize]).sum()
    }

    /// Every counter of every upstream.
    pub(crate) fn report(&self) -> Value {
        let of = |index: usize| -> Map<String, Value> {
            COUNTERS
                .iter()
                .zip(self.counters(index))
                .map(|((name, _), value)| ((*name).to_owned(), value.into()))
                .collect()
        };
        json!((0..COUNT).map(of).collect::<Vec<_>>())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        (0..COUNT).for_each(|index| self.kill(index));
    }
}

/// Asks one upstream for something.
async fn ask(index: usize, method: &str, path: &str, body: String) -> Result<hyper::body::Bytes> {
    let reply = once(local(CONTROLS[index]), method, path, body, CONTROL).await?;
    if reply.status != 200 {
        bail!("upstream {} answered {} to {path}: {}", id(index), reply.status, String::from_utf8_lossy(&reply.body));
    }
    Ok(reply.body)
}

pub(crate) async fn is_ready(index: usize) -> bool {
    ask(index, "GET", "/ready", String::new()).await.is_ok()
}

pub(crate) async fn set_fault(index: usize, fault: &Value) -> Result<()> {
    ask(index, "POST", "/fault", fault.to_string()).await.map(drop)
}

pub(crate) async fn clear(index: usize) -> Result<()> {
    ask(index, "POST", "/reset", String::new()).await.map(drop)
}

/// How often each order had its effect, over all upstreams.
pub(crate) async fn effects() -> Result<HashMap<String, u64>> {
    let mut all = HashMap::new();
    for index in 0..COUNT {
        let own: HashMap<String, u64> = serde_json::from_slice(&ask(index, "GET", "/effects", String::new()).await?)?;
        for (order, times) in own {
            *all.entry(order).or_insert(0) += times;
        }
    }
    Ok(all)
}
