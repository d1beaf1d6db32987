//! Which answers are held until they are whole. (Being built: the rule.)

use std::time::Duration;

/// Small answers to idempotent requests are held until they are whole, so that a break can be tried elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldRule {
    /// Answers with a longer body are passed on as they come; 0: all are.
    pub max_body: u64,
    /// After this long what is there is passed on.
    pub max_wait: Duration,
    /// Held bytes of one service, over all its requests.
    pub max_bytes: u64,
}

impl Default for HoldRule {
    fn default() -> HoldRule {
        HoldRule { max_body: 64 * 1024, max_wait: Duration::from_millis(100), max_bytes: 64 * 1024 * 1024 }
    }
}
