//! `bench-idle ADDR FIRST COUNT`: opens FIRST connections and prints `holding FIRST`; at a line on standard input opens
//! more until COUNT rest and prints `holding COUNT`; at the next line prints `at rest N`, how many the server has kept.
#![expect(clippy::print_stdout, reason = "the counts are this program's output")]

use std::io::stdin;

use anyhow::{Context, Result, ensure};

fn main() -> Result<()> {
    let [target, first, count] = bench::arguments("bench-idle", ["ADDR", "FIRST", "COUNT"])?;
    let target = bench::parse("ADDR", &target)?;
    let mut idle = bench::idle::Idle::default();
    for count in [bench::parse("FIRST", &first)?, bench::parse("COUNT", &count)?] {
        idle.grow(target, count)?;
        println!("holding {count}");
        let read = stdin().read_line(&mut String::new()).context("waiting for a line on standard input")?;
        ensure!(read > 0, "standard input ended");
    }
    println!("at rest {}", idle.at_rest()?);
    Ok(())
}
