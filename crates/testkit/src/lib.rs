//! Dev only: what the tests of every crate share. Raw sockets with deadlines ([`raw`]), peers that follow a script or
//! serve ([`upstream`]), Postgres and both ends of its protocol ([`postgres`]), a DNS server ([`dns`]), load ([`load`]), the
//! real binary ([`binary`]), polling ([`poll`]) and seeds ([`seed`]).
//! Everything blocks, so that a test reads from top to bottom; every port is 0; every wait has a deadline.
//!
//! It speaks HTTP/1.1 by a parser of its own ([`wire`], RFC 9112) that is stricter than the product may be, and shares
//! no code with the product's, so that one cannot hide a fault of the other. It knows neither HTTP/2 nor TLS.

pub mod binary;
pub mod dns;
pub mod load;
pub mod poll;
pub mod postgres;
pub mod raw;
pub mod seed;
pub mod upstream;
pub mod wire;

pub use binary::{Binary, Signal};
pub use dns::DnsServer;
pub use load::{Load, LoadOptions, LoadReport, LoadRequest, Resend};
pub use poll::{Deadline, Gate, eventually, pace, poll_until};
pub use postgres::{PgClient, PgMessage, PgScript, PgServer};
pub use raw::{Ending, RawClient, RawOptions, RawResponse};
pub use seed::seeded;
pub use upstream::{ReceivedRequest, Reply, Script, ScriptedUpstream, ServingOptions, ServingUpstream, Upstream};
pub use wire::{Framing, Head, WireError};
