//! `bench-upstream`: listens on a free loopback port, prints `listening ADDR` and answers every request with 1 KiB until
//! it is ended.
#![expect(clippy::print_stdout, reason = "the address is this program's output")]

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let [] = bench::arguments("bench-upstream", [])?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening on a free port of 127.0.0.1")?;
    println!("listening {}", listener.local_addr()?);
    bench::upstream::serve(&listener)
}
