//! The pooler's own side of a real Postgres: logging in, TLS, questions, cancellations, and which server is the primary.

mod cancel;
mod cluster;
mod failover;
mod kit;
mod lookup;
mod open;
mod tls;
