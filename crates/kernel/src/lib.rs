//! What every part of Evenkeel shares: time and randomness as arguments, units, error codes, findings, metric
//! handles and the drain signal. It depends on no other crate of the project and knows no plane, store or protocol.

pub mod code;
pub mod drain;
pub mod entropy;
pub mod finding;
pub mod metrics;
pub mod overrides;
pub mod time;
pub mod units;

pub use code::{ErrorCode, ErrorKind};
pub use drain::{Drain, DrainPhase, DrainTrigger};
pub use entropy::Entropy;
pub use finding::{Finding, Place, Rule, Severity};
pub use time::{Clock, Moment};
pub use units::{ByteSize, Rate, Span};
