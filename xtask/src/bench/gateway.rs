//! CPU per request and latency, in rotated rounds. In each round every proxy has two parts of the same length: a closed
//! loop by `wrk`, in which the proxy's CPU time is divided by the requests that were answered, and an open loop at a fixed
//! rate, in which latency is measured. All proxies run all the time, on the same core; only one has traffic.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::proxy::{Kind, Running, Setting};
use super::table::{self, Sample};
use super::{Ground, Options, process, tool};
use crate::clock::Stopwatch;
use crate::program;

/// The name of the row without a proxy.
pub(super) const DIRECT: &str = "direct";
/// The part before the first round, in seconds; not measured.
const WARM_UP: u64 = 1;

/// Measures, prints the table and returns everything for the report.
pub(super) fn measure(ground: &Ground<'_>, setting: &Setting, options: &Options) -> Result<Value> {
    let wrk = program::debian("wrk", "wrk")?;
    let start = |proxy: &super::Proxy| proxy.start(ground.workspace, &ground.run, setting);
    let running = ground.proxies.iter().map(start).collect::<Result<Vec<Running>>>()?;
    let load = Load { ground, options, wrk };
    let names: Vec<&str> = std::iter::once(DIRECT).chain(running.iter().map(|proxy| proxy.name)).collect();
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); names.len()];
    for target in 0..names.len() {
        load.closed(load.target(&running, target), WARM_UP)?;
    }
    for round in 0..options.rounds {
        let watch = Stopwatch::start();
        for place in 0..names.len() {
            // By two, so that not everyone always follows the same neighbour.
            let target = (place + round as usize * 2) % names.len();
            let sample = load.sample(load.target(&running, target), round);
            samples[target].push(sample.with_context(|| format!("round {}, {}", round + 1, names[target]))?);
        }
        println!("round {} of {} took {watch}", round + 1, options.rounds);
    }
    let rows: Vec<(&str, &[Sample])> = names.iter().copied().zip(samples.iter().map(Vec::as_slice)).collect();
    let versions: Vec<(&str, &str)> = ground.proxies.iter().map(|p| (p.kind.name(), p.version.as_str())).collect();
    println!(
        "\nGET, 1 KiB, {} keep-alive connections; one worker on core {}, upstream and load on core {}; no TLS\n\
         medians of {} rounds of {} s; latency of an open loop at {} requests a second\n",
        options.connections, ground.cores.proxy, ground.cores.load, options.rounds, options.seconds, options.rate
    );
    println!("{}", table::rows(&rows, &versions));
    print!("{}", table::conclusion(&rows, Kind::Evenkeel.name()));
    let failed: u64 = rows.iter().flat_map(|(_, samples)| samples.iter()).map(|sample| sample.errors).sum();
    ensure!(failed == 0, "{failed} requests failed; the figures above are not valid");
    Ok(report(options, &rows, &versions))
}

struct Load<'a> {
    ground: &'a Ground<'a>,
    options: &'a Options,
    wrk: std::path::PathBuf,
}

/// Who gets the traffic.
#[derive(Clone, Copy)]
struct Target<'a> {
    address: std::net::SocketAddr,
    group: &'a process::Group,
}

impl Load<'_> {
    fn target<'a>(&'a self, running: &'a [Running], index: usize) -> Target<'a> {
        match index.checked_sub(1).and_then(|index| running.get(index)) {
            Some(proxy) => Target { address: proxy.address, group: &proxy.group },
            None => Target { address: self.ground.upstream_address, group: &self.ground.upstream },
        }
    }

    /// `wrk` for some seconds.
    fn closed(&self, target: Target<'_>, seconds: u64) -> Result<Closed> {
        let mut wrk = Command::new(&self.wrk);
        wrk.args(["-t1", &format!("-c{}", self.options.connections), &format!("-d{seconds}s")]);
        let told = process::output_on(self.ground.cores.load, wrk.arg(format!("http://{}/bench", target.address)))?;
        Closed::parse(&told).with_context(|| format!("wrk said: {told}"))
    }

    fn sample(&self, target: Target<'_>, round: u32) -> Result<Sample> {
        let cores = self.ground.cores;
        let own = if target.address == self.ground.upstream_address { cores.load } else { cores.proxy };
        let (cpu, busy) = (target.group.cpu()?, process::core_busy(own)?);
        let closed = self.closed(target, self.options.seconds)?;
        let (cpu_after, busy_after) = (target.group.cpu()?, process::core_busy(own)?);
        let (user, system) = (cpu_after.user - cpu.user, cpu_after.system - cpu.system);
        let mut open = Command::new(tool(self.ground.workspace, "bench-openloop"));
        open.arg(target.address.to_string()).args([
            self.options.rate.to_string(),
            self.options.connections.to_string(),
            self.options.seconds.to_string(),
            round.to_string(),
        ]);
        let open: Value = serde_json::from_str(&process::output_on(cores.load, &mut open)?)?;
        let number = |key: &str| open[key].as_u64().with_context(|| format!("bench-openloop gave no {key}: {open}"));
        let requests = closed.requests as f64;
        let others = ((busy_after - busy) - (user + system)).max(0.0) / closed.time.as_secs_f64();
        Ok(Sample {
            user_us: user * 1e6 / requests,
            system_us: system * 1e6 / requests,
            per_second: requests / closed.time.as_secs_f64(),
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            p999_us: number("p999_us")?,
            peak_kib: target.group.memory("VmHWM")?,
            others: if own == cores.proxy { Some(others) } else { None },
            errors: closed.errors + number("errors")? + number("unanswered")?,
        })
    }
}

/// What `wrk` counted.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Closed {
    requests: u64,
    time: Duration,
    errors: u64,
}

impl Closed {
    fn parse(told: &str) -> Result<Closed> {
        let line =
            told.lines().find_map(|line| line.trim().split_once(" requests in ")).context("no count of requests")?;
        let requests: u64 = line.0.parse().context("the count of requests")?;
        let time = line.1.split(',').next().and_then(seconds).context("the time")?;
        ensure!(requests > 0, "no request was answered");
        let after = |mark: &str| told.lines().find_map(|line| line.trim().strip_prefix(mark));
        let numbers = |text: &str| -> u64 {
            text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum()
        };
        let errors = after("Non-2xx or 3xx responses:").map_or(0, numbers) + after("Socket errors:").map_or(0, numbers);
        Ok(Closed { requests, time, errors })
    }
}

/// `4.10s`, `850.00ms` or `1.02m`.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let units = [("ms", 0.001), ("us", 0.000_001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (number, scale) = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * scale))
}

fn report(options: &Options, rows: &[(&str, &[Sample])], versions: &[(&str, &str)]) -> Value {
    let version = |name: &str| versions.iter().find(|(known, _)| *known == name).map(|(_, version)| *version);
    let rows: Vec<Value> = rows
        .iter()
        .map(|(name, samples)| {
            let rounds: Vec<Value> = samples.iter().map(Sample::json).collect();
            json!({"name": name, "version": version(name), "median": table::median(samples).json(), "rounds": rounds})
        })
        .collect();
    json!({
        "benchmark": "gateway",
        "machine": super::machine(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "rate": options.rate,
        "connections": options.connections,
        "rows": rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "Running 4s test @ http://127.0.0.1:1/bench\n  1 threads and 64 connections\n  \
                        Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   600us   1ms  20ms   90%\n  \
                        388123 requests in 4.10s, 436.11MB read\nRequests/sec:  94664.15\nTransfer/sec: 106.37MB\n";

    #[test]
    fn what_wrk_says_is_read() {
        let good = Closed { requests: 388_123, time: Duration::from_millis(4100), errors: 0 };
        assert_eq!(Closed::parse(TOLD).unwrap(), good);
        let bad =
            format!("{TOLD}  Socket errors: connect 0, read 3, write 0, timeout 2\n  Non-2xx or 3xx responses: 10\n");
        assert_eq!(Closed::parse(&bad).unwrap(), Closed { errors: 15, ..good });
        assert!(Closed::parse("unable to connect").is_err());
        assert!(Closed::parse("0 requests in 1.00s, 0.00B read").is_err());
        assert_eq!(seconds("1.5m"), Some(Duration::from_secs(90)));
        assert_eq!(seconds("250.00ms"), Some(Duration::from_millis(250)));
    }
}
