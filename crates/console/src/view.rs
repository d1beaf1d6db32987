//! What the console asks of a node, and the raw snapshot that it gets. Counts run since the start of the process; what
//! happened in the last minute is worked out in `vitals` from two snapshots.

use std::fmt::Debug;
use std::time::Duration;

use kernel::Finding;
use kernel::metrics::LatencySum;

/// The running node, as the console sees it. Methods are called on the control plane, several at a time.
pub trait Node: Send + Sync + 'static {
    /// A snapshot. Should take no longer than a few milliseconds.
    fn view(&self) -> NodeView;
    /// Whether new work should be sent here. The servers add the drain themselves.
    fn ready(&self) -> Readiness;
    /// Content type and text of the metrics, in the format that an `Accept` header asks for.
    fn metrics(&self, accept: &str) -> (String, String);
    /// Reads the configuration again and puts it in force; may block. Called once at a time.
    ///
    /// # Errors
    /// What is wrong with the configuration; the one from before stays in force.
    fn reload(&self) -> Result<String, Vec<Finding>>;
}

/// Whether new work should be sent to a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Readiness {
    /// Whether it should.
    pub ready: bool,
    /// Why not, in a few words; empty when ready.
    pub reason: String,
}

/// A node at one instant.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    /// Version of the build.
    pub version: String,
    /// Time since the start.
    pub uptime: Duration,
    /// Data-plane workers.
    pub workers: usize,
    /// Open client connections.
    pub connections: u64,
    /// Addresses on which clients are served, as URLs.
    pub listeners: Vec<String>,
    /// Every route, in the order of the configuration.
    pub routes: Vec<TrafficView>,
    /// Every service.
    pub services: Vec<ServiceView>,
    /// The configuration in force.
    pub config: ConfigView,
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
}

/// One endpoint.
#[derive(Clone, Debug, Default)]
pub struct EndpointView {
    /// Its traffic: attempts, so one request may count at two endpoints.
    pub traffic: TrafficView,
    /// Whether it is sent requests.
    pub state: EndpointState,
    /// Why it is in that state, in words.
    pub reason: String,
    /// Open connections to it, idle ones included.
    pub connections: u64,
    /// Idle connections to it.
    pub idle: u64,
    /// Connection attempts that failed.
    pub connect_failures: u64,
}

/// How an endpoint is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// Sent requests.
    #[default]
    Healthy,
    /// Not sent requests while another endpoint is healthy.
    Unhealthy,
}

/// The configuration in force.
#[derive(Clone, Debug, Default)]
pub struct ConfigView {
    /// Where it was read from.
    pub source: String,
    /// How often another configuration was put in force since the start.
    pub reloads: u64,
    /// The last attempt to reload, if there was one.
    pub last_reload: Option<ReloadView>,
}

/// An attempt to reload.
#[derive(Clone, Debug, Default)]
pub struct ReloadView {
    /// Whether the new configuration is in force.
    pub applied: bool,
    /// What came of it, in a sentence.
    pub message: String,
    /// What is wrong with the new configuration, if it was refused.
    pub findings: Vec<Finding>,
    /// How long ago it was.
    pub age: Duration,
}

impl Readiness {
    /// Ready for work.
    pub fn yes() -> Readiness {
        Readiness { ready: true, reason: String::new() }
    }

    /// Not ready, because of `reason`.
    pub fn no(reason: impl Into<String>) -> Readiness {
        Readiness { ready: false, reason: reason.into() }
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

impl EndpointState {
    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            EndpointState::Healthy => "healthy",
            EndpointState::Unhealthy => "unhealthy",
        }
    }
}
