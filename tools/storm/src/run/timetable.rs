//! Does to the upstreams and the proxy what the scenario says, when it says so, and notes when it was done.

use std::cell::RefCell;
use std::path::Path;
use std::process::Child;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use kernel::{Clock, Moment};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::fleet::{self, COUNT, Fleet};
use super::process::Proxy;
use crate::scenario::Event;

/// How long an upstream that is asked to end may take.
const END: Duration = Duration::from_secs(5);
/// How long it then stays away.
const AWAY: Duration = Duration::from_secs(1);
/// How long a reload command is watched; it may stay for longer.
const RELOAD: Duration = Duration::from_secs(3);

/// What events act on.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) clock: Clock,
    pub(crate) start: Moment,
    pub(crate) fleet: Rc<RefCell<Fleet>>,
    pub(crate) proxy: Option<&'a Proxy>,
    pub(crate) reload: Option<&'a str>,
    pub(crate) folder: &'a Path,
}

/// Goes through the timetable; returns what was done when.
pub(crate) async fn follow(stage: &Stage<'_>, events: &[(f64, Event)]) -> Vec<Value> {
    let mut notes = Vec::new();
    let mut running: Vec<JoinHandle<()>> = Vec::new();
    let mut reloads = 0;
    for (second, event) in events {
        let at = stage.start + Duration::from_secs_f64(*second);
        sleep(at.since(stage.clock.now())).await;
        reloads += u32::from(matches!(event, Event::Reload));
        let done = perform(stage, event, reloads, &mut running).await;
        let late = stage.clock.now().since(at).as_secs_f64() * 1e3;
        let error = done.err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            eprintln!("storm: {event:?} at {second} s: {error}");
        }
        notes.push(json!({"at": second, "event": format!("{event:?}"), "done_after_ms": late, "error": error}));
    }
    for task in running {
        // A task that panicked has said so.
        task.await.ok();
    }
    notes
}

async fn perform(stage: &Stage<'_>, event: &Event, reload: u32, running: &mut Vec<JoinHandle<()>>) -> Result<()> {
    match event {
        Event::Kill(index) => stage.fleet.borrow_mut().kill(*index),
        Event::Restart(index) => stage.fleet.borrow_mut().spawn(*index)?,
        Event::Stop(index) => stage.fleet.borrow().signal(*index, Signal::STOP)?,
        Event::Continue(index) => stage.fleet.borrow().signal(*index, Signal::CONT)?,
        Event::Fault(index, fault) => fleet::set_fault(*index, fault).await?,
        Event::FaultAll(fault) => {
            for index in 0..COUNT {
                fleet::set_fault(index, fault).await?;
            }
        }
        Event::Roll(index) => {
            let roll = roll(Rc::clone(&stage.fleet), stage.clock.clone(), *index);
            running.push(tokio::task::spawn_local(roll));
        }
        Event::Reload => {
            let (proxy, command) = stage.proxy.zip(stage.reload).context("there is no --reload-cmd")?;
            let child = proxy.reload(command, stage.folder, reload)?;
            running.push(tokio::task::spawn_local(watch(child, stage.clock.clone())));
        }
    }
    Ok(())
}

/// Waits for a reload command, which may also stay, as in a hot restart.
async fn watch(mut command: Child, clock: Clock) {
    let end = clock.now() + RELOAD;
    while clock.now() < end {
        if let Ok(Some(status)) = command.try_wait() {
            if !status.success() {
                eprintln!("storm: the reload command ended with {status}");
            }
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Ends an upstream in order and starts it again.
async fn roll(fleet: Rc<RefCell<Fleet>>, clock: Clock, index: usize) {
    let asked = fleet.borrow().signal(index, Signal::TERM);
    if let Err(error) = asked {
        eprintln!("storm: {error:#}");
    }
    let end = clock.now() + END;
    while !fleet.borrow_mut().has_ended(index) {
        if clock.now() > end {
            fleet.borrow_mut().kill(index);
        }
        sleep(Duration::from_millis(5)).await;
    }
    sleep(AWAY).await;
    let started = fleet.borrow_mut().spawn(index);
    if let Err(error) = started {
        eprintln!("storm: {error:#}");
    }
}
