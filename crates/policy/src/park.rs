//! Requests that wait because no endpoint can be reached. (Being built: the rule.)

use std::time::Duration;

/// How long and how many requests wait while nobody is reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkRule {
    /// The longest wait; half of what is left of the request's time if that is shorter. Zero: nobody waits.
    pub max_wait: Duration,
    /// Requests of one service that wait, at most.
    pub max_requests: u32,
    /// Their bytes, at most.
    pub max_bytes: u64,
}

impl Default for ParkRule {
    fn default() -> ParkRule {
        ParkRule { max_wait: Duration::from_secs(2), max_requests: 2048, max_bytes: 64 * 1024 * 1024 }
    }
}
