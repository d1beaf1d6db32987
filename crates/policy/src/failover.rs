//! Which tiers of a service take its requests. (Being built: the rule.)

use std::time::Duration;

/// When a tier gives way to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailoverRule {
    /// A tier whose share of usable endpoints (by weight) falls below this spills over to the next, in proportion.
    pub spill_below: f64,
    /// A tier takes its requests back once it has been whole enough for so long.
    pub fail_back_delay: Duration,
}

impl Default for FailoverRule {
    fn default() -> FailoverRule {
        FailoverRule { spill_below: 0.5, fail_back_delay: Duration::from_secs(10) }
    }
}
