//! The Postgres data plane: clients share a few server connections, and keep their transactions whatever happens to the
//! server.
//!
//! [`Pools`] is the part: started with a [`plan::Plan`] and listening sockets, reloaded with another plan, drained by the
//! process's one signal. [`wire`], [`sql`], [`auth`] and [`login`] are the protocol, sans I/O.
//!
//! Absent on purpose: configuration files (the plan is given), any store, a database driver; promoting a standby, splitting
//! reads from writes, sharding.

pub mod admin;
pub mod collect;
pub mod orders;
pub mod plan;
pub mod view;

pub mod auth;
pub mod login;
pub mod sql;
pub mod stats;
pub mod tallies;
pub mod wire;
