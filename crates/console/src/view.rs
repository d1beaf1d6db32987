//! What the console asks of a node, and the raw snapshot that it gets. Counts run since the start of the process; what
//! happened in the last minute is worked out in `vitals` from two snapshots.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use kernel::Finding;
use kernel::journal::JournalReader;
use kernel::metrics::LatencySum;
use kernel::store::FileHealth;
use kernel::tally::TallyReader;
use kernel::trace::{TraceLine, Why};
use tokio::sync::watch;

mod past;
mod pools;

pub use past::{DeployMark, NoTallies};
pub use pools::{PoolAction, PoolClient, PoolConnection, PoolCounts, PoolGroup, PoolServer, PoolStatement, PoolView};

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
    /// Takes an endpoint out or lets it back in; may block on a disk.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    fn endpoint_action(
        &self,
        service: &str,
        endpoint: &str,
        action: EndpointAction,
        order: &Order,
    ) -> Result<Acted, ActionError>;
    /// Sends a service's requests to one tier, or lets the node decide again; may block on a disk.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    fn service_action(&self, service: &str, action: ServiceAction, order: &Order) -> Result<Acted, ActionError>;
    /// Statements of a pool by shape, those that took the most time first; may block. None without such a pool.
    fn pool_statements(&self, _pool: &str) -> Vec<PoolStatement> {
        Vec::new()
    }
    /// Clients of a pool; may block. None without such a pool.
    fn pool_clients(&self, _pool: &str) -> Vec<PoolClient> {
        Vec::new()
    }
    /// Server connections of a pool; may block. None without such a pool.
    fn pool_connections(&self, _pool: &str) -> Vec<PoolConnection> {
        Vec::new()
    }
    /// Does something to a pool; may block.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    fn pool_action(&self, pool: &str, _action: &PoolAction, _order: &Order) -> Result<Acted, ActionError> {
        Err(ActionError::UnknownPool { name: pool.to_owned(), known: Vec::new() })
    }
    /// What changed, as it is kept. Reading it may block on a disk.
    fn journal(&self) -> Arc<dyn JournalReader>;
    /// Told when this process has something new in its journal; another process may write to the same one untold.
    fn journal_changes(&self) -> watch::Receiver<u64>;
    /// How much flowed, as it is kept. Reading it may block on a disk.
    fn tallies(&self) -> Arc<dyn TallyReader>;
    /// What was done with the request of this id.
    fn why(&self, id: &str) -> Why;
    /// Requests whose traces are kept, newest first: those that were not plain, and a sample of the rest. Only those for
    /// `service`, if one is given.
    fn traces(&self, most: usize, service: Option<&str>) -> Vec<TraceLine>;
    /// How the files of the store are; none if this node keeps nothing.
    fn store(&self) -> Vec<FileHealth>;
    /// Puts a deployment into the journal; may block on a disk.
    ///
    /// # Errors
    /// When it is not known to be kept; it may be kept later all the same.
    fn deploy(&self, mark: &DeployMark) -> Result<Acted, ActionError>;
}

/// What an operator does to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointAction {
    /// No new requests; those that it has are finished.
    Drain,
    /// Checks and requests judge it again.
    Resume,
    /// As drained, and it counts as failed.
    Down,
}

/// What an operator does to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceAction {
    /// Only endpoints of one tier take requests.
    Failover {
        /// Which; `None`: the one after the tier that takes them now.
        tier: Option<u8>,
    },
    /// The state of the tiers decides again.
    Failback,
}

/// Who wants something done, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The name of the token that was presented, or `loopback`.
    pub actor: String,
    /// In the operator's words; empty if none was given. The node says whether it needs one.
    pub reason: String,
    /// Whether to do it although nothing that can take requests would be left.
    pub force: bool,
}

/// What came of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Acted {
    /// In a sentence or two.
    pub message: String,
    /// Whether it holds after a restart as well.
    pub kept: bool,
}

/// Why an action was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// There is no such service.
    #[error("there is no service {name:?}; {}", known_names("there is", .known))]
    UnknownService {
        /// As it was given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The service has no such endpoint.
    #[error("{service} has no endpoint {name:?}; {}", known_names("it has", .known))]
    UnknownEndpoint {
        /// The service.
        service: String,
        /// As it was given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// There is no such pool.
    #[error("there is no pool {name:?}; {}", known_names("there is", .known))]
    UnknownPool {
        /// As it was given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A pool has no server, client or statement of this name, or cannot do now what it is asked for.
    #[error("{0}")]
    PoolRefused(String),
    /// The service has no such tier, or no other one.
    #[error("{0}")]
    UnknownTier(String),
    /// Nothing that can take requests would be left.
    #[error("{0}")]
    LastEndpoint(String),
    /// There is no reason, or it is too long.
    #[error("{0}")]
    BadReason(String),
    /// There are as many decisions as are kept.
    #[error("{0}")]
    TooMany(String),
    /// It is not known to be kept, and was to be.
    #[error("{0}")]
    NotKept(String),
}

/// Names that a message shows; an answer in JSON has them all.
const SHOWN_NAMES: usize = 8;

fn known_names(start: &str, known: &[String]) -> String {
    let shown = known.iter().take(SHOWN_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match known.len() {
        0 => format!("{start} none"),
        n if n > SHOWN_NAMES => format!("{start} {shown} and {} more", n - SHOWN_NAMES),
        _ => format!("{start} {shown}"),
    }
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
    /// Every pool.
    pub pools: Vec<PoolView>,
    /// The configuration in force.
    pub config: ConfigView,
    /// What else an operator should know, a sentence each.
    pub notices: Vec<String>,
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
    /// The tier that an operator chose, if one did.
    pub forced_tier: Option<u8>,
    /// Why the tier is what it is, in words; empty if there is nothing to say.
    pub tier_reason: String,
    /// What it may spend on second tries.
    pub budget: BudgetView,
    /// Requests that wait until an endpoint can be reached at all.
    pub parked: u64,
    /// Answers that are held back until they are whole.
    pub held: u64,
    /// Requests that wait for a place at an endpoint.
    pub queued: u64,
    /// Second tries since the start, by cause.
    pub second_tries: Vec<(String, u64)>,
}

/// What a service may spend on second tries, and what they bought.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct BudgetView {
    /// Second tries that are allowed for each request, 0 to 1; 0: the service has no budget.
    pub share: f64,
    /// Second tries in the budget's window.
    pub spent: u64,
    /// Second tries that the window has room for, those spent included.
    pub allowed: u64,
    /// Successes that each added try bought, if that is known.
    #[serde(rename = "yield")]
    pub yields: Option<f64>,
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
    /// How long it has been in that state, if that is known.
    pub since: Option<Duration>,
    /// Its tier: 0 is used first.
    pub tier: u8,
    /// Its share of the requests relative to the others of its tier.
    pub weight: u32,
    /// How often requests ejected it, since the start.
    pub ejections: u64,
    /// Its usual time to an answer, in microseconds, if that is known.
    pub latency_us: Option<u64>,
}

/// How an endpoint is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// Sent requests.
    #[default]
    Healthy,
    /// Sent single requests, to find out about it.
    Suspect,
    /// Not sent requests, for what they met there, until a time has passed.
    Ejected,
    /// Comes back from an ejection: sent one request or check at a time.
    Probation,
    /// Fails its checks: not sent requests while another endpoint is healthy.
    Unhealthy,
    /// Taken out by an operator, and still has requests to finish.
    Draining,
    /// Taken out by an operator.
    Drained,
    /// Held for broken by an operator.
    Down,
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

impl EndpointAction {
    /// Every action, in the order in which they are offered.
    pub const ALL: [EndpointAction; 3] = [EndpointAction::Drain, EndpointAction::Down, EndpointAction::Resume];

    /// The word for it, in paths and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            EndpointAction::Drain => "drain",
            EndpointAction::Resume => "resume",
            EndpointAction::Down => "down",
        }
    }
}

impl EndpointState {
    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            EndpointState::Healthy => "healthy",
            EndpointState::Suspect => "suspect",
            EndpointState::Ejected => "ejected",
            EndpointState::Probation => "probation",
            EndpointState::Unhealthy => "unhealthy",
            EndpointState::Draining => "draining",
            EndpointState::Drained => "drained",
            EndpointState::Down => "down",
        }
    }

    /// Whether it is sent requests as usual.
    pub const fn is_in_use(self) -> bool {
        matches!(self, EndpointState::Healthy | EndpointState::Suspect)
    }

    /// Whether an operator took it out.
    pub const fn is_taken_out(self) -> bool {
        matches!(self, EndpointState::Draining | EndpointState::Drained | EndpointState::Down)
    }

    /// Whether it is in trouble: what is drained on purpose is not.
    pub const fn is_trouble(self) -> bool {
        !matches!(self, EndpointState::Healthy | EndpointState::Draining | EndpointState::Drained)
    }
}
