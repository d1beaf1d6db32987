//! What every part of Evenkeel shares: time and randomness as arguments, units, error codes, findings, metric
//! handles, the drain signal; the vocabulary of events and the journal they are told to; counts and traces; the seams
//! to whatever keeps them. It depends on no other crate of the project and knows no plane, store or protocol.

pub mod code;
pub mod drain;
pub mod entropy;
pub mod event;
pub mod finding;
pub mod journal;
pub mod metrics;
pub mod overrides;
pub mod store;
pub mod tally;
pub mod time;
pub mod trace;
pub mod units;

pub use code::{ErrorCode, ErrorKind};
pub use drain::{Drain, DrainPhase, DrainTrigger};
pub use entropy::Entropy;
pub use event::{Event, EventKind, Level};
pub use finding::{Finding, Place, Rule, Severity};
pub use journal::Journal;
pub use time::{Clock, Moment};
pub use units::{ByteSize, Rate, Span};
