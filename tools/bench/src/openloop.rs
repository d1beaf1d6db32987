//! Load that does not wait for the one under load: requests are due at random moments (a Poisson process) whatever
//! becomes of the earlier ones, and a request's latency counts from the moment it was due, so that a stall is charged to
//! every request that it delayed (no coordinated omission). One thread, keep-alive connections, GET without a body.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kernel::{Clock, Entropy, Moment};

use crate::answer::{Answer, Progress};
use crate::percentile::percentile;
use crate::poller::Poller;

/// Time before the measured part, in which connections and caches warm up.
pub const WARM_UP: Duration = Duration::from_secs(1);
/// How long the answers that are still due may take after the last request.
pub const GRACE: Duration = Duration::from_secs(2);
/// The most connections.
pub const CONNECTIONS: usize = 20_000;
/// The most requests in one run.
pub const REQUESTS: f64 = 10_000_000.0;

/// What load to make.
#[derive(Debug, Clone, Copy)]
pub struct OpenLoop {
    /// Where to.
    pub target: SocketAddr,
    /// Requests a second, on average.
    pub rate: f64,
    /// Keep-alive connections; a request that finds all of them busy waits, and its wait counts.
    pub connections: usize,
    /// How long the measured part lasts.
    pub time: Duration,
    /// Decides the moments at which requests are due.
    pub seed: u64,
}

/// What came of it. Latencies are in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Latencies of the answers to measured requests, sorted upwards.
    pub latencies: Vec<u64>,
    /// Requests sent, the warm-up's among them.
    pub sent: u64,
    /// Answers other than 200, connections that broke, requests that could not be written.
    pub errors: u64,
    /// Measured requests without an answer at the end.
    pub unanswered: u64,
    /// The most requests that waited for a connection at a time.
    pub longest_queue: usize,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    answer: Answer,
    due: Option<Moment>,
}

struct Run<'a> {
    load: &'a OpenLoop,
    clock: Clock,
    poller: Poller,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    queue: VecDeque<Moment>,
    request: Vec<u8>,
    measured_from: Moment,
    report: Report,
}

/// Makes the load and measures.
///
/// # Errors
/// When a value is out of range or the target cannot be connected to; a connection that breaks later is counted.
pub fn run(load: &OpenLoop) -> Result<Report> {
    ensure!(load.rate > 0.0 && load.rate.is_finite(), "a rate of {} requests a second makes no load", load.rate);
    let (rate, time) = (load.rate, load.time.as_secs_f64());
    ensure!(rate * time <= REQUESTS, "{rate} a second for {time} s are more than {REQUESTS} requests");
    ensure!((1..=CONNECTIONS).contains(&load.connections), "connections are 1 to {CONNECTIONS}");
    // The default slack of a timer (50 us) would be a good part of what is measured.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("setting the timer slack")?;
    let poller = Poller::new().context("making an epoll descriptor")?;
    let connections = (0..load.connections).map(|_| connect(load.target)).collect::<Result<Vec<_>>>()?;
    for (token, connection) in connections.iter().enumerate() {
        poller.watch(&connection.socket, token).context("watching a connection")?;
    }
    let clock = Clock::real();
    let measured_from = clock.now() + WARM_UP;
    let mut run = Run {
        load,
        poller,
        idle: (0..connections.len()).collect(),
        connections,
        queue: VecDeque::new(),
        request: format!("GET /bench HTTP/1.1\r\nHost: {}\r\n\r\n", load.target).into_bytes(),
        measured_from,
        report: Report { latencies: Vec::with_capacity((rate * time * 1.1) as usize), ..Report::default() },
        clock,
    };
    run.drive()?;
    run.report.latencies.sort_unstable();
    Ok(run.report)
}

fn connect(target: SocketAddr) -> Result<Connection> {
    let socket = TcpStream::connect(target).with_context(|| format!("connecting to {target}"))?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(Connection { socket, answer: Answer::default(), due: None })
}

impl Run<'_> {
    fn drive(&mut self) -> Result<()> {
        let mut entropy = Entropy::from_seed(self.load.seed);
        let mut pause = move |rate: f64| Duration::from_secs_f64(-(1.0 - entropy.unit()).ln() / rate);
        let end = self.measured_from + self.load.time;
        let mut next = self.clock.now() + pause(self.load.rate);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let now = self.clock.now();
            while next <= now && next < end {
                self.queue.push_back(next);
                next = next + pause(self.load.rate);
            }
            self.report.longest_queue = self.report.longest_queue.max(self.queue.len());
            self.send();
            let busy = self.connections.len() > self.idle.len() || !self.queue.is_empty();
            if now >= end + GRACE || (now >= end && !busy) {
                break;
            }
            let until = if next < end { next } else { end + if now < end { Duration::ZERO } else { GRACE } };
            let wait = until.since(self.clock.now());
            let mut ready = Vec::new();
            self.poller.wait(Some(wait), |_, token| {
                ready.push(token);
                Ok(())
            })?;
            for token in ready {
                self.receive(token, &mut buffer)?;
            }
        }
        let unanswered = self.connections.iter().filter_map(|c| c.due).chain(self.queue.iter().copied());
        self.report.unanswered = unanswered.filter(|due| *due >= self.measured_from).count() as u64;
        Ok(())
    }

    fn send(&mut self) {
        while let (Some(&due), Some(&token)) = (self.queue.front(), self.idle.front()) {
            self.queue.pop_front();
            self.idle.pop_front();
            let connection = &mut self.connections[token];
            connection.due = Some(due);
            self.report.sent += 1;
            // The request is far smaller than a send buffer; one that does not fit breaks the connection, and the end
            // of the connection is seen by `receive`.
            if !connection.socket.write(&self.request).is_ok_and(|n| n == self.request.len()) {
                self.report.errors += 1;
            }
        }
    }

    fn receive(&mut self, token: usize, buffer: &mut [u8]) -> Result<()> {
        let connection = &mut self.connections[token];
        let progress = match connection.socket.read(buffer) {
            Ok(0) => Progress::Broken,
            Ok(read) => connection.answer.take(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => Progress::Broken,
        };
        match (progress, connection.due) {
            (Progress::Partial, _) => {}
            (Progress::Whole(status), Some(due)) => {
                connection.due = None;
                self.idle.push_back(token);
                if status != 200 {
                    self.report.errors += 1;
                } else if due >= self.measured_from {
                    let latency = self.clock.now().since(due);
                    self.report.latencies.push(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
                }
            }
            (Progress::Broken | Progress::Whole(_), due) => {
                self.report.errors += 1;
                *connection = connect(self.load.target)?;
                self.poller.watch(&connection.socket, token).context("watching a connection")?;
                if due.is_some() {
                    self.idle.push_back(token);
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    /// One line of JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, p999, max] = [0.5, 0.9, 0.99, 0.999, 1.0].map(|share| percentile(&self.latencies, share));
        write!(
            f,
            "{{\"answered\":{},\"sent\":{},\"errors\":{},\"unanswered\":{},\"longest_queue\":{},\"p50_us\":{p50},\
             \"p90_us\":{p90},\"p99_us\":{p99},\"p999_us\":{p999},\"max_us\":{max}}}",
            self.latencies.len(),
            self.sent,
            self.errors,
            self.unanswered,
            self.longest_queue
        )
    }
}
