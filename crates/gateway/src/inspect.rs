//! A snapshot of the data plane for people and programs: what the console, the API and the command line show. It is
//! made on the control plane by summing the workers' cells; making one does not disturb a worker.

use std::time::Duration;

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
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
    /// The tier that takes its requests.
    pub active_tier: u8,
    /// The tier that an operator chose.
    pub forced_tier: Option<u8>,
    /// What second tries may cost.
    pub budget: BudgetView,
    /// Second tries since the start, by cause.
    pub second_tries: Vec<(&'static str, u64)>,
    /// Second tries that were not made, by reason.
    pub second_tries_refused: Vec<(&'static str, u64)>,
    /// Requests that are parked now, because nobody can be reached.
    pub parked: u32,
    /// Answers that are held now until they are whole.
    pub held: u32,
    /// Requests at the gate now.
    pub queued: u32,
    /// Endpoints that were taken out since the start, for what requests or checks met.
    pub ejections: u64,
}

/// A service's budget of second tries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BudgetView {
    /// Second tries for each request that are allowed now.
    pub share: f64,
    /// Second tries that were paid for in the last ten seconds.
    pub spent: u64,
    /// How many may be paid for in ten seconds.
    pub allowed: u64,
    /// Successes per second try, lately.
    pub yield_ratio: Option<f64>,
}

/// One endpoint.
#[derive(Clone, Debug, Default)]
pub struct EndpointView {
    /// Its traffic: attempts, so one request may count at two endpoints.
    pub traffic: TrafficView,
    /// Whether active checks (if any) hold it for healthy.
    pub healthy: bool,
    /// What it is held for.
    pub state: EndpointState,
    /// Why it is in that state, in words.
    pub reason: String,
    /// For how long it has been.
    pub since: Duration,
    /// What an operator says about it.
    pub forced: Option<Forced>,
    /// Its tier.
    pub tier: u8,
    /// Its weight.
    pub weight: u32,
    /// Its share of what its weight would give it, in thousandths; below 1000 while it returns.
    pub share_permille: u16,
    /// How often it was taken out in a row: the next time is as many steps longer.
    pub ejections: u32,
    /// How often it was taken out since the start.
    pub ejected_total: u64,
    /// Time to the first byte, as a moving average that follows peaks, in microseconds; 0: not known.
    pub latency_us: u64,
    /// After how long without a byte from it it is suspect; `None` while too little is known.
    pub suspect_after: Option<Duration>,
    /// Open connections to it, idle ones included.
    pub connections: u64,
    /// Idle connections to it.
    pub idle: u64,
    /// Connection attempts that failed.
    pub connect_failures: u64,
}

/// What an endpoint is held for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointState {
    /// Sent requests.
    #[default]
    Healthy,
    /// Silent beyond the usual: one request at a time.
    Suspect,
    /// Out for what requests met.
    Ejected,
    /// Returning: one request at a time.
    Probation,
    /// Out because active checks fail.
    Unhealthy,
    /// Taken out by an operator.
    Drained,
    /// Taken out by an operator as broken.
    Down,
}

impl EndpointState {
    /// Every state.
    pub const ALL: [EndpointState; 7] = [
        EndpointState::Healthy,
        EndpointState::Suspect,
        EndpointState::Ejected,
        EndpointState::Probation,
        EndpointState::Unhealthy,
        EndpointState::Drained,
        EndpointState::Down,
    ];

    /// The word for it, also its metric label.
    pub const fn label(self) -> &'static str {
        match self {
            EndpointState::Healthy => "healthy",
            EndpointState::Suspect => "suspect",
            EndpointState::Ejected => "ejected",
            EndpointState::Probation => "probation",
            EndpointState::Unhealthy => "unhealthy",
            EndpointState::Drained => "drained",
            EndpointState::Down => "down",
        }
    }
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
