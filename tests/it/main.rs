//! Whole-node tests: the real `evenkeel` binary with a real configuration file, real sockets, real signals. One binary,
//! one file for each subject; [`support`] writes configurations and asks questions. The binary is the one that
//! `EVENKEEL_BIN` names, else the one that cargo built beside the tests (`cargo build` first).
//!
//! Every port is 0, every wait has a deadline, nothing sleeps for state. What single parts do is tested where they are;
//! here is what only the whole can show.

#![expect(clippy::unwrap_used, reason = "all of this is tests; a failure anywhere is a test's failure")]

mod admin;
mod api;
mod cli;
mod config_errors;
mod demo;
mod discovery;
mod failover;
mod handover;
mod handover_load;
mod handover_refused;
mod handover_store;
mod journal;
mod metrics;
mod operate;
mod packaging;
mod pool_driver;
mod pool_failover;
mod pool_restart;
mod pool_told;
mod pooling;
mod reload;
mod service_manager;
mod stopping;
mod story;
mod support;
mod tallies;
mod traffic;
mod unseen;
