//! `bench-openloop ADDR RATE CONNECTIONS SECONDS SEED`: open-loop load, then one line of JSON with latencies in
//! microseconds.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::time::Duration;

use bench::openloop::{OpenLoop, run};

fn main() -> anyhow::Result<()> {
    let [target, rate, connections, seconds, seed] =
        bench::arguments("bench-openloop", ["ADDR", "RATE", "CONNECTIONS", "SECONDS", "SEED"])?;
    let report = run(&OpenLoop {
        target: bench::parse("ADDR", &target)?,
        rate: bench::parse("RATE", &rate)?,
        connections: bench::parse("CONNECTIONS", &connections)?,
        time: Duration::from_secs(bench::parse("SECONDS", &seconds)?),
        seed: bench::parse("SEED", &seed)?,
    })?;
    println!("{report}");
    Ok(())
}
