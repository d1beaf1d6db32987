//! What the data plane runs by: the configuration as it is meant, built once from the configuration as it was written
//! and then shared, read-only, by every worker. A reload swaps one [`Plan`] for another; a request keeps the plan it
//! started under. Names are resolved and values are in range by the time a plan exists: nothing here can be wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use policy::balance::Balance;
use policy::cors::CorsPolicy;
use policy::failover::FailoverRule;
use policy::gate::GateRule;
use policy::hold::HoldRule;
use policy::net::CidrSet;
use policy::outlier::{Forced, OutlierRule};
use policy::park::ParkRule;
use policy::retry::RetryRule;
use policy::route::RouteTable;
use policy::split::WeightedSplit;

/// Everything that a worker needs to know to serve a request.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Matches a request to an index of `routes`.
    pub table: RouteTable,
    /// What each route does, in the order of the table.
    pub routes: Vec<RoutePlan>,
    /// The services that routes point at.
    pub services: Vec<ServicePlan>,
    /// Limits on clients.
    pub edge: EdgePlan,
    /// Peers whose `X-Forwarded-*` and `X-Request-Id` are believed.
    pub trusted_proxies: CidrSet,
    /// The access log; `None` writes none.
    pub access_log: Option<AccessLogPlan>,
    /// What operators have decided; names that the plan does not have are passed over.
    pub forced: ForcedPlan,
}

/// What operators have decided about endpoints and tiers. In force with the plan's first request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForcedPlan {
    /// Endpoints, by the names of service and endpoint.
    pub endpoints: Vec<(String, String, Forced)>,
    /// Tiers, by the name of the service.
    pub tiers: Vec<(String, u8)>,
}

/// What happens to the requests of one route.
#[derive(Debug, Clone)]
pub struct RoutePlan {
    /// The name of the route: its metric label and its name in logs.
    pub name: String,
    /// Forward, or answer with a redirect.
    pub action: RouteAction,
    /// Addresses that may use the route; empty: all may.
    pub allow: CidrSet,
    /// Addresses that may not, whatever `allow` says.
    pub deny: CidrSet,
    /// Cross-origin rules, if the gateway is to answer for them.
    pub cors: Option<CorsPolicy>,
    /// Changes to the request's headers.
    pub request_headers: HeaderEdits,
    /// Changes to the answer's headers.
    pub response_headers: HeaderEdits,
    /// The whole request must be answered in this time (the answer's head, if the body streams on); `None`: the service's.
    pub timeout: Option<Duration>,
    /// The largest request body, in bytes; `None`: the edge's.
    pub max_body: Option<u64>,
    /// Bodies for gateway-made errors by status; they replace the problem document for clients that accept HTML.
    pub error_pages: Vec<(u16, Arc<ErrorPage>)>,
}

/// Where a route leads.
#[derive(Debug, Clone)]
pub enum RouteAction {
    /// To one of these services.
    Forward {
        /// Indices into [`Plan::services`], in the order of the split.
        targets: Vec<usize>,
        /// How requests are split over the targets.
        split: WeightedSplit,
        /// Replaces the matched path prefix: (prefix to strip, what to put in its place).
        rewrite: Option<(String, String)>,
    },
    /// To another address.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// `Location`; `{host}`, `{path}` and `{query}` (with its question mark) are filled in.
        location: String,
    },
}

/// A static page for an error that the gateway makes.
#[derive(Debug)]
pub struct ErrorPage {
    /// `Content-Type` of the page.
    pub content_type: String,
    /// The page, at most 64 KiB.
    pub body: Vec<u8>,
}

/// Headers to remove, then headers to set (replacing what is there).
#[derive(Debug, Clone, Default)]
pub struct HeaderEdits {
    /// Names, lower case.
    pub remove: Vec<String>,
    /// Names as they are sent, and values.
    pub set: Vec<(String, String)>,
}

/// A service: some endpoints that answer alike.
#[derive(Debug, Clone)]
pub struct ServicePlan {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is.
    pub endpoints: Vec<EndpointPlan>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Active checks; `None`: every endpoint counts as healthy.
    pub health: Option<HealthPlan>,
    /// How long a connection may take to be established.
    pub connect_timeout: Duration,
    /// How long a request may take to be answered (head), all attempts and queueing included.
    pub timeout: Duration,
    /// The longest silence within an answer's body.
    pub body_idle_timeout: Duration,
    /// Connections to one endpoint over all workers, at most.
    pub max_connections: u32,
    /// Idle connections kept for one endpoint by one worker, at most.
    pub max_idle: u32,
    /// An idle connection is closed after this long, or earlier if the endpoint is known to close earlier.
    pub idle_timeout: Duration,
    /// `Host` sent to the service; `None`: the client's.
    pub host: Option<String>,
    /// How endpoints are judged by what requests meet.
    pub outlier: OutlierRule,
    /// When a request is sent again.
    pub retry: RetryRule,
    /// Which answers are held until whole.
    pub hold: HoldRule,
    /// How requests wait while nobody is reachable.
    pub park: ParkRule,
    /// Limits on requests at a time.
    pub gate: GateRule,
    /// When a tier gives way to the next.
    pub failover: FailoverRule,
    /// Whether requests are sent to endpoints that active checks hold for down, if no other is left.
    pub fail_open: bool,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPlan {
    /// As it was written, `host:port`: its metric label.
    pub name: String,
    /// What the name resolved to; tried in order. Never empty.
    pub addresses: Vec<SocketAddr>,
    /// Its share of the requests relative to the others of its tier; at least 1.
    pub weight: u32,
    /// 0 is used first; a higher one takes over when those below it cannot.
    pub tier: u8,
}

/// Active checks of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPlan {
    /// What is asked.
    pub kind: HealthKind,
    /// Time between checks of one endpoint, jittered by a tenth.
    pub interval: Duration,
    /// The same while the last check contradicts the endpoint's state, or requests find it suspect; at most `interval`.
    pub fast_interval: Duration,
    /// A check without an answer in this time has failed.
    pub timeout: Duration,
    /// Failures in a row until an endpoint is down.
    pub fall: u32,
    /// Successes in a row until it is up again.
    pub rise: u32,
}

/// What an active check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthKind {
    /// GET.
    Http {
        /// Path that is asked for.
        path: String,
        /// `Host` of the check; `None`: the endpoint's name.
        host: Option<String>,
        /// Statuses that pass, as inclusive ranges.
        expect: Vec<(u16, u16)>,
    },
    /// Whether a connection can be made.
    Tcp,
}

/// Limits on clients, the same for every listener.
#[derive(Debug, Clone)]
pub struct EdgePlan {
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// The longest silence within a request body, and of a client that does not read its answer.
    pub body_idle_timeout: Duration,
    /// A keep-alive connection without a request is closed after this long.
    pub idle_timeout: Duration,
    /// A tunnel (WebSocket) without a byte in either direction is closed after this long.
    pub tunnel_idle_timeout: Duration,
    /// Bodies slower than this many bytes a second, either way, are cut; 0: no limit.
    pub min_rate: u64,
    /// How long a body may take before `min_rate` counts.
    pub min_rate_grace: Duration,
    /// Method, target and version together, in bytes.
    pub max_request_line: usize,
    /// The request target, in bytes.
    pub max_uri: usize,
    /// All header lines together, in bytes.
    pub max_header_bytes: usize,
    /// Header lines of a request.
    pub max_headers: usize,
    /// Request body, in bytes.
    pub max_body: u64,
    /// Connections of all clients.
    pub max_connections: u32,
    /// Connections of one client address (an IPv6 client is its /64).
    pub max_connections_per_client: u32,
    /// The header, lower case, in which a client says how many milliseconds it waits, and in which a service is told
    /// how many are left; `None`: neither.
    pub deadline_header: Option<String>,
    /// Which requests `why` can tell of.
    pub trace: TracePlan,
}

/// Which requests are remembered with what was done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TracePlan {
    /// Whether any are.
    pub on: bool,
    /// A request that takes longer is slow, and remembered.
    pub slow: Duration,
    /// Of so many plain requests one is remembered; 0: none.
    pub one_in: u64,
}

/// The access log.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLogPlan {
    /// Where it goes; `None`: standard output.
    pub path: Option<std::path::PathBuf>,
    /// JSON lines or aligned text.
    pub json: bool,
    /// Share of the successful requests that are written, 0 to 1; errors are always written.
    pub sample: f64,
}
