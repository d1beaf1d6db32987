//! The one gate of a service: who may go on to an endpoint, and who waits. (Being built: the rule.)

use std::time::Duration;

/// Limits on the requests that a service works on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRule {
    /// Requests that one endpoint works on at a time; `None`: no limit.
    pub per_endpoint: Option<u32>,
    /// Requests that wait in the service's queue, at most.
    pub max_queue: u32,
    /// How long one waits there, at most.
    pub max_wait: Duration,
}

impl Default for GateRule {
    fn default() -> GateRule {
        GateRule { per_endpoint: None, max_queue: 1024, max_wait: Duration::from_millis(250) }
    }
}
