//! Open-loop load: the moments at which requests are due are fixed before the run, and latency and the client's time limit
//! count from them, so that a proxy or a generator that stalls shows as latency and never as fewer requests. Every request
//! has an outcome. A load is made of flows, each with its own path, rate and time limit.

mod client;
mod record;
mod schedule;
mod summary;

pub(crate) use record::{Kind, Record};
pub(crate) use schedule::due;
pub(crate) use summary::{Marks, summary};

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use kernel::{Clock, Moment};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use self::client::Client;
use self::schedule::Due;

/// What body a good answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Whatever it is, if it is whole.
    Anything,
    /// So many bytes, each an `x`.
    Xs(usize),
    /// So many bytes.
    Length(usize),
}

impl Expect {
    fn fits(self, bytes: u64, only_xs: bool) -> bool {
        match self {
            Expect::Anything => true,
            Expect::Xs(length) => bytes == length as u64 && only_xs,
            Expect::Length(length) => bytes == length as u64,
        }
    }
}

/// Requests of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// Requests a second from a second on; until the next step or the end.
    pub(crate) profile: Vec<(f64, f64)>,
    /// At random moments instead of even ones.
    pub(crate) poisson: bool,
    /// Share of the requests with `x-priority: high`.
    pub(crate) high_share: f64,
    /// Each request is an order with a key of its own.
    pub(crate) orders: bool,
    pub(crate) timeout: Duration,
    pub(crate) expect: Expect,
    /// How often the client tries again by itself, with the same key, when an attempt was not answered well.
    pub(crate) retries: u16,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            name: "main",
            method: "GET",
            path: "/item",
            profile: vec![(0.0, 500.0)],
            poisson: false,
            high_share: 0.0,
            orders: false,
            timeout: Duration::from_secs(2),
            expect: Expect::Xs(crate::upstream::ITEM),
            retries: 0,
        }
    }
}

/// All requests of a run.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Round robin; more than one is a client without a proxy.
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) secs: f64,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) records: Vec<Record>,
    /// Connections that the clients made.
    pub(crate) connections: u64,
}

/// Makes the load; second 0 is `start`. Returns when every request has its outcome.
pub(crate) fn run(load: Load, clock: Clock, start: Moment) -> Result<Outcome> {
    let plan = due(&load);
    let (sender, receiver) = mpsc::channel(plan.len().max(1));
    let pacing = clock.clone();
    let pacer = std::thread::Builder::new().name("pacer".into()).spawn(move || pace(plan, &pacing, start, &sender))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("making a runtime")?;
    sharp_timers()?;
    let outcome = LocalSet::new().block_on(&runtime, send(load, clock, start, receiver));
    pacer.join().map_err(|_| anyhow!("the pacer panicked"))??;
    outcome
}

/// The default slack of a timer (50 us) would be part of what is measured.
fn sharp_timers() -> Result<()> {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("setting the timer slack")
}

/// Hands each request over when it is due. The channel holds all of them, so it never waits.
fn pace(plan: Vec<Due>, clock: &Clock, start: Moment, sender: &mpsc::Sender<(u64, Due)>) -> Result<()> {
    sharp_timers()?;
    for (number, due) in plan.into_iter().enumerate() {
        let wait = (start + Duration::from_micros(due.at_us)).since(clock.now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        sender.try_send((number as u64, due)).context("the load ended before its last request was due")?;
    }
    Ok(())
}

async fn send(load: Load, clock: Clock, start: Moment, mut receiver: mpsc::Receiver<(u64, Due)>) -> Result<Outcome> {
    let client = Rc::new(Client::new(load, clock, start));
    let mut running = JoinSet::new();
    let mut outcome = Outcome::default();
    let mut is_open = true;
    while is_open || !running.is_empty() {
        tokio::select! {
            next = receiver.recv(), if is_open => match next {
                Some((number, due)) => { running.spawn_local(Rc::clone(&client).request(number, due)); }
                None => is_open = false,
            },
            Some(record) = running.join_next() => outcome.records.push(record.context("a client's task")?),
        }
    }
    outcome.connections = client.connections();
    client.close();
    Ok(outcome)
}
