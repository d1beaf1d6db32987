//! The administrators' console, which is PgBouncer's: clients that connect to the database `evenkeel` (or `pgbouncer`) look
//! at pools and order them about in the words of its manual, so that exporters and scripts go on working. Sans I/O: an
//! [`AdminSession`] takes messages and appends answers; logging in, and who may log in, is the worker's.
//!
//! Both protocols are spoken: simple queries with several commands, and Parse, Bind, Describe and Execute without
//! parameters, in text or binary, because most drivers know nothing else. PgBouncer refuses the latter.
//!
//! `PAUSE` is answered when no client has a connection any more, as in PgBouncer. Until then the session
//! [is waiting](AdminSession::is_waiting): whoever runs it calls [`AdminSession::poll`] now and then, and gives it no
//! message. A client that leaves meanwhile leaves the pause in force.
//!
//! What is different: a database cannot be paused if its pool has others; `KILL` of a pool pauses it, too, as in PgBouncer;
//! `SET` changes nothing; errors have the SQLSTATE that PostgreSQL has for them, because drivers take PgBouncer's 08P01 for
//! a broken connection.
//!
//! Limits: 256 statements and portals a session; a text of 16 KiB.

mod answer;
mod averages;
mod command;
mod ordering;
mod session;
mod settings;
mod show;
mod show_sockets;
mod show_stats;
mod table;

use std::sync::Arc;

pub use averages::{Averages, Earlier, PERIOD};
pub use session::AdminSession;

use crate::orders::{Order, OrderError};
use crate::plan::PoolPlan;
use crate::view::{ClientView, ConnectionView, PoolView, StatementView};

/// What the console looks at, and who carries out what it orders. Nothing here waits for anything but a lock.
pub trait AdminNode {
    /// What pools run by, the one that the console was reached by first.
    fn plans(&self) -> Vec<Arc<PoolPlan>>;
    /// How they are.
    fn pools(&self) -> Vec<PoolView>;
    /// Their clients.
    fn clients(&self) -> Vec<ClientView>;
    /// Their server connections.
    fn connections(&self) -> Vec<ConnectionView>;
    /// Their statements by shape.
    fn statements(&self) -> Vec<StatementView>;
    /// What had been counted a while ago: see [`Averages::earlier`].
    fn earlier(&self) -> Earlier;
    /// Wall time, in seconds since the Unix epoch.
    fn now_unix(&self) -> u64;
    /// Does what a pool is ordered.
    ///
    /// # Errors
    /// If it cannot be done.
    fn order(&self, pool: &str, order: &Order) -> Result<(), OrderError>;
    /// Reads the configuration again.
    ///
    /// # Errors
    /// If it cannot be used: what is wrong with it.
    fn reload(&self) -> Result<(), String>;
}

#[cfg(test)]
pub(crate) mod tests;
