//! One state machine judges each endpoint of a service. (Being built: rule and vocabulary.)

use std::time::Duration;

/// What an operator has said about an endpoint; it stands above whatever checks and requests say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Taken out in an orderly way: it gets no new request, and those that it has are finished.
    Drained,
    /// Held for broken: as drained, and it counts as failed.
    Down,
}

/// How endpoints are judged by what requests meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierRule {
    /// Whether what requests meet may open an endpoint at all. Active checks and operators may in any case.
    pub enabled: bool,
    /// Failures in a row that open an endpoint, whatever the share.
    pub consecutive_failures: u32,
    /// The largest share of a tier's endpoints that may be open for what requests met, 0 to 1; rounded up, and one
    /// endpoint always stays.
    pub max_ejected: f64,
    /// How long an endpoint stays open the first time; doubles each time.
    pub base_ejection: Duration,
    /// How long at most.
    pub max_ejection: Duration,
    /// How long an endpoint that returns takes to reach its full share.
    pub slow_start: Duration,
}

impl Default for OutlierRule {
    fn default() -> OutlierRule {
        OutlierRule {
            enabled: true,
            consecutive_failures: 5,
            max_ejected: 0.5,
            base_ejection: Duration::from_secs(2),
            max_ejection: Duration::from_secs(60),
            slow_start: Duration::from_secs(10),
        }
    }
}
