//! Pure decisions, one file each: what a plane does with a request, an endpoint or a connection. No I/O, no clock, no
//! runtime, no thread-local randomness: `now` is a [`kernel::Moment`] and randomness a [`kernel::Entropy`], both
//! arguments. The plane that uses a decision has a thin adapter that performs it; the same code serves every plane.
//!
//! What runs once per request (`path`, `route`, `split`, `balance`, `ids`) allocates nothing in the common case.

pub mod balance;
pub mod budget;
mod budget_slices;
pub mod cors;
pub mod failover;
pub mod forwarded;
pub mod gate;
pub mod health;
pub mod hold;
pub mod ids;
pub mod keepalive;
pub mod latency;
pub mod leases;
pub mod net;
pub mod outlier;
pub mod park;
pub mod path;
pub mod pattern;
pub mod primary;
pub mod rate;
pub mod request;
pub mod resolve;
pub mod retry;
pub mod route;
pub mod split;
