//! The pooler's own side of a real Postgres: logging in, TLS, questions, cancellations, which server is the primary;
//! and what is told of those who came through it.

#![allow(clippy::unwrap_used, reason = "this is all test code; an unwrap that fails is a test that fails")]

mod cancel;
mod changes;
mod cluster;
mod deadlines;
mod failover;
mod hostile;
mod kit;
mod lookup;
mod open;
mod pretend;
mod relay;
mod through;
mod tls;
mod told;
