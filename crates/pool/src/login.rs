//! Logging in, sans I/O: [`client`] is a client that logs in here, where the pooler is the server; [`server`] is the pooler
//! that logs in at a server. Both are given whole messages and append what is to be sent to a buffer; sockets, deadlines
//! and the startup message are with who uses them.

pub mod client;
pub mod server;

pub use client::{ClientLogin, LoginError, vouched};
pub use server::{ServerLogin, ServerLoginError, ServerSession, ServerStep};

#[cfg(test)]
mod tests;
