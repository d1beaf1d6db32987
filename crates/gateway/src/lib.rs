//! The HTTP data plane: a strict, fast HTTP/1.1 relay in front of services.
//!
//! [`Gateway`] is the part: started with a [`Plan`] and listening sockets, reloaded with another plan, drained by the
//! process's one signal. [`h1`] is the protocol, sans I/O. Everything between is private: workers that own their
//! connections ([`worker`](crate)), the pool of upstream connections, one request's way.
//!
//! Absent on purpose: configuration files (the plan is given), any store, TLS and HTTP/2 (not built yet).

mod access;
mod answering;
mod buf;
mod candidates;
mod checks;
mod collect;
mod collect_services;
mod conn;
mod core;
mod deadlines;
mod decide;
mod deciding;
mod discovered;
mod facts;
mod forward;
mod gate;
mod gateway;
pub mod h1;
pub mod inspect;
mod judged;
mod limits;
mod operate;
mod pace;
mod park;
pub mod plan;
mod pool;
mod problem;
mod queue;
mod relay;
mod request;
mod round;
mod sending;
mod service;
mod standing;
mod state;
mod story;
mod tallies;
mod tries;
mod tunnel;
mod upload;
mod waiting;
mod worker;

pub use gateway::Gateway;
pub use inspect::GatewayView;
pub use operate::UnknownName;
pub use plan::Plan;
