//! Memory of an idle keep-alive connection: the growth of a proxy's resident memory from a few connections to many,
//! divided by their number. Each connection has carried one request. The first connections are there so that what a
//! proxy allocates once is not charged to the others. Memory that the kernel holds for sockets is not counted.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::process::Group;
use super::proxy::{Proxy, Setting};
use super::{Ground, tool};

/// Connections before the first reading, at most a tenth of all.
const FIRST: u64 = 100;
/// Memory counts once it has been the same, to 1 %, for this many readings.
const STEADY: usize = 5;
/// The most readings; a proxy that has not come to rest by then is measured as it is.
const READINGS: usize = 100;
/// Between two readings.
const PAUSE: Duration = Duration::from_millis(100);

/// What one proxy needed, in KiB.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    before: u64,
    after: u64,
    connections: u64,
}

impl Measured {
    fn per_connection(self) -> f64 {
        (self.after as f64 - self.before as f64) / self.connections as f64
    }
}

/// Measures one proxy after the other, prints the table and returns it for the report.
pub(super) fn measure(ground: &Ground<'_>, setting: &Setting, count: u64) -> Result<Value> {
    println!("\nidle keep-alive connections: {count}, one request on each, then rest\n");
    println!("{:<24}{:>12}{:>12}{:>18}", "", "before MiB", "after MiB", "KiB a connection");
    let mut rows = Vec::new();
    for proxy in &ground.proxies {
        let name = proxy.kind.name();
        let measured = one(ground, proxy, setting, count).with_context(|| format!("idle connections of {name}"))?;
        let label: String = format!("{name} {}", proxy.version).chars().take(23).collect();
        let mib = |kib: u64| kib as f64 / 1024.0;
        println!(
            "{label:<24}{:>12.1}{:>12.1}{:>18.2}",
            mib(measured.before),
            mib(measured.after),
            measured.per_connection()
        );
        rows.push(json!({
            "name": name, "version": proxy.version, "before_kib": measured.before, "after_kib": measured.after,
            "connections": measured.connections, "kib_per_connection": measured.per_connection(),
        }));
    }
    println!();
    Ok(json!({"benchmark": "idle", "machine": super::machine(), "connections": count, "rows": rows}))
}

fn one(ground: &Ground<'_>, proxy: &Proxy, setting: &Setting, count: u64) -> Result<Measured> {
    let running = proxy.start(ground.workspace, &ground.run, setting)?;
    let first = FIRST.min(count / 10).max(1);
    let mut command = Command::new(tool(ground.workspace, "bench-idle"));
    command.args([running.address.to_string(), first.to_string(), count.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = Group::start(ground.cores.load, &mut command, None)?;
    let mut talk = Talk::new(&mut holder)?;
    talk.expect(&format!("holding {first}"))?;
    let before = steady(|| running.group.memory("VmRSS"))?;
    talk.go_on()?;
    talk.expect(&format!("holding {count}"))?;
    let after = steady(|| running.group.memory("VmRSS"))?;
    talk.go_on()?;
    talk.expect(&format!("at rest {count}")).context("the proxy has not kept every connection")?;
    Ok(Measured { before, after, connections: count - first })
}

/// The line-by-line talk with the holder of the connections.
struct Talk {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Talk {
    fn new(holder: &mut Group) -> Result<Talk> {
        let child = holder.child();
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("bench-idle was started without pipes")
        };
        Ok(Talk { to, from: BufReader::new(from) })
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        let mut line = String::new();
        self.from.read_line(&mut line).context("reading from bench-idle")?;
        ensure!(line.trim_end() == wanted, "bench-idle said {:?}, not {wanted:?}", line.trim_end());
        Ok(())
    }

    fn go_on(&mut self) -> Result<()> {
        self.to.write_all(b"\n").context("writing to bench-idle")
    }
}

/// Reads until the value has come to rest.
pub(super) fn steady(read: impl Fn() -> Result<u64>) -> Result<u64> {
    let mut last: Vec<u64> = Vec::new();
    for _ in 0..READINGS {
        last.push(read()?);
        let recent = &last[last.len().saturating_sub(STEADY)..];
        let (least, most) = (recent.iter().min(), recent.iter().max());
        if let (STEADY, Some(least), Some(most)) = (recent.len(), least, most)
            && most - least <= most / 100
        {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    last.last().copied().context("no reading was taken")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn memory_counts_once_it_rests() {
        let reads = Cell::new(0);
        let falling = || {
            reads.set(reads.get() + 1);
            Ok([900, 700, 500, 400, 300, 200, 200, 201, 200, 200][reads.get() - 1])
        };
        assert_eq!(steady(falling).unwrap(), 200);
        assert_eq!(reads.get(), 10);
    }

    #[test]
    fn a_connection_costs_the_growth_shared_by_all() {
        assert_eq!(Measured { before: 1000, after: 51_000, connections: 10_000 }.per_connection(), 5.0);
        assert!(Measured { before: 10, after: 5, connections: 5 }.per_connection() < 0.0);
    }
}
