//! A snapshot of the data plane for people and programs: what the console, the API and the command line show. It is
//! made on the control plane by summing the workers' cells; making one does not disturb a worker.

use kernel::metrics::LatencySum;
use policy::outlier::Forced;

/// The whole data plane at one instant.
#[derive(Clone, Debug, Default)]
pub struct GatewayView {
    /// How many workers there are.
    pub workers: usize,
    /// Open client connections.
    pub connections: u64,
    /// How often a configuration was taken over since the start (0: still the first).
    pub reloads: u64,
    /// Every route, in the order of the configuration.
    pub routes: Vec<TrafficView>,
    /// Every service.
    pub services: Vec<ServiceView>,
}

/// What flowed through a route, a service or an endpoint since the start.
#[derive(Clone, Debug, Default)]
pub struct TrafficView {
    /// Its name.
    pub name: String,
    /// Answers by class of status: 1xx (upgrades), 2xx, 3xx, 4xx, 5xx, and requests that got no answer.
    pub by_class: [u64; 6],
    /// Time to the end of the answer.
    pub latency: LatencySum,
    /// Requests being served.
    pub in_flight: u64,
}

/// A service and its endpoints.
#[derive(Clone, Debug, Default)]
pub struct ServiceView {
    /// Its traffic.
    pub traffic: TrafficView,
    /// The tier that takes its requests.
    pub active_tier: u8,
    /// The tier that an operator said should take them.
    pub forced_tier: Option<u8>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint.
#[derive(Clone, Debug, Default)]
pub struct EndpointView {
    /// Its traffic: attempts, so one request may count at two endpoints.
    pub traffic: TrafficView,
    /// Whether active checks (if any) hold it for healthy.
    pub healthy: bool,
    /// Why it is in that state, in words.
    pub reason: String,
    /// What an operator says about it.
    pub forced: Option<Forced>,
    /// Its tier.
    pub tier: u8,
    /// Its weight within the tier.
    pub weight: u32,
    /// Open connections to it, idle ones included.
    pub connections: u64,
    /// Idle connections to it.
    pub idle: u64,
    /// Connection attempts that failed.
    pub connect_failures: u64,
}

impl TrafficView {
    /// All requests.
    pub fn total(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// Requests that failed: 5xx and those without an answer.
    pub fn failed(&self) -> u64 {
        self.by_class[4] + self.by_class[5]
    }
}
