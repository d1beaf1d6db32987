//! The Postgres data plane: clients share a few server connections, and keep their transactions whatever happens to the
//! server.
//!
//! [`Pools`] is the part: started with a [`plan::Plan`] and listening sockets, reloaded with another plan, drained by the
//! process's one signal. [`wire`], [`sql`], [`auth`] and [`login`] are the protocol, sans I/O.
//!
//! Absent on purpose: configuration files (the plan is given), any store, a database driver; promoting a standby, splitting
//! reads from writes, sharding.

mod backend;
mod client;
mod console;
mod pairs;
mod pools;
mod relay;
mod server;
mod session;
mod shared;
mod statements;
mod worker;

pub mod admin;
pub mod aside;
pub mod auth;
pub mod cancel;
pub mod cluster;
pub mod collect;
pub mod connect;
pub mod login;
pub mod orders;
pub mod plan;
pub mod sql;
pub mod stats;
pub mod tls;
pub mod transport;
pub mod verifiers;
pub mod view;
pub mod wire;

pub use console::Reload;
pub use pools::{PoolSocket, Pools};
