//! `pgbench -S` at one peer: one indexed row by its key, over and over. From it come transactions a second and latency, from
//! the kernel the pooler's CPU time; from both, CPU time a transaction.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::peers::Running;
use super::postgres::{Postgres, USER, quietly};

/// How it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    /// pgbench's protocol: simple, extended or prepared; or a connection for each transaction.
    pub(super) mode: &'static str,
    pub(super) clients: u32,
}

/// The mode with a connection for each transaction.
pub(super) const CONNECT: &str = "connect";

/// What one part came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    pub(super) latency_ms: f64,
    /// The pooler's CPU time a transaction; 0 without a pooler.
    pub(super) user_us: f64,
    pub(super) system_us: f64,
}

impl Sample {
    pub(super) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "transactions_per_second": self.per_second, "latency_ms": self.latency_ms,
            "cpu_us": self.cpu_us(), "user_us": self.user_us, "system_us": self.system_us,
        })
    }
}

/// Measures one part.
pub(super) fn sample(postgres: &Postgres, target: &Running, cell: Cell, seconds: u64) -> Result<Sample> {
    let protocol = if cell.mode == CONNECT { "simple" } else { cell.mode };
    let mut pgbench = postgres.pgbench(target.port);
    pgbench.args(["-n", "-S", "-M", protocol, "-j", "2", "-c", &cell.clients.to_string(), "-T", &seconds.to_string()]);
    if cell.mode == CONNECT {
        pgbench.arg("-C");
    }
    let cpu = || target.group.as_ref().map_or(Ok(Default::default()), |group| group.cpu());
    let before = cpu()?;
    let told = quietly(pgbench.arg(USER))?;
    let after = cpu()?;
    let told = Told::parse(&told).with_context(|| format!("pgbench said: {told}"))?;
    Ok(Sample {
        per_second: told.per_second,
        latency_ms: told.latency_ms,
        user_us: (after.user - before.user) / told.transactions * 1e6,
        system_us: (after.system - before.system) / told.transactions * 1e6,
    })
}

/// What pgbench says at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Told {
    transactions: f64,
    per_second: f64,
    latency_ms: f64,
}

impl Told {
    fn parse(text: &str) -> Result<Told> {
        let number = |start: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(start));
            let word = line.and_then(|rest| rest.split_whitespace().find(|word| !matches!(*word, "=" | ":")));
            match word.and_then(|word| word.split('/').next()?.parse().ok()) {
                Some(number) => Ok(number),
                None => bail!("there is no number behind {start:?}"),
            }
        };
        let transactions = number("number of transactions actually processed:")?;
        let failed = number("number of failed transactions:").unwrap_or(0.0);
        ensure!(transactions > 0.0 && failed == 0.0, "{transactions} transactions, {failed} failed");
        Ok(Told { transactions, per_second: number("tps =")?, latency_ms: number("latency average =")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "pgbench (15.20)\ntransaction type: <builtin: select only>\nscaling factor: 10\n\
        number of clients: 8\nnumber of transactions actually processed: 181372\n\
        number of failed transactions: 0 (0.000%)\nlatency average = 0.219 ms\n\
        initial connection time = 21.5 ms\ntps = 36501.12 (without initial connection time)\n";

    #[test]
    fn what_pgbench_says_is_read_and_failures_do_not_count() {
        let told = Told { transactions: 181_372.0, per_second: 36_501.12, latency_ms: 0.219 };
        assert_eq!(Told::parse(TOLD).unwrap(), told);
        assert!(Told::parse(&TOLD.replace("failed transactions: 0", "failed transactions: 4")).is_err());
        assert!(Told::parse("pgbench: error: connection failed").is_err());
    }
}
