//! `[service.NAME]`: some endpoints that answer alike, how they are checked and how they are used. Semantics of the
//! values are those of `gateway::plan::ServicePlan`; fall, rise and interval follow HAProxy's checks. What is done while
//! endpoints fail has tables of its own, in `resilience`.

use kernel::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::discovery::{HostAndPort, Register, SrvName};
use super::either::StatusRange;
use super::resilience::{Failover, Hold, Outlier, Park, Queue, RetryBudget};
use super::scalar::{CheckPath, HostName};
use super::text_or_table::{BalanceKind, EndpointEntry};

/// A service: some endpoints that answer alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Where it is: `host:port`, the host being a name or an address (IPv6 in brackets), or a table with weight and tier.
    ///
    /// Default: `[]`. Range: `0` to `1000` endpoints. Reload: live.
    ///
    /// Why: only you know them; or `dns`, `srv` or `register` does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointEntry>,
    /// A name in DNS whose addresses are endpoints, in addition to `endpoints`: `name:port`. It is asked for again when
    /// the answer's time to live ends, within a second and an hour; while there is no answer, the last good one counts.
    ///
    /// Default: none (no name is asked for). Range: `name:port`. Reload: live.
    ///
    /// Why: only you know whether the names in your DNS follow the copies of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<HostAndPort>,
    /// A name in DNS whose SRV records are endpoints, in addition: their priority is the tier, their weight the weight.
    /// Otherwise like `dns`.
    ///
    /// Default: none (no records are asked for). Range: `_service._proto.name`. Reload: live.
    ///
    /// Why: only you know whether your DNS has such records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srv: Option<SrvName>,
    /// Lets endpoints register themselves through `[api]`, in addition, with a token of the scope `register:NAME`. `{}` is
    /// enough.
    ///
    /// Default: none (no endpoint may register). Range: one table. Reload: live.
    ///
    /// Why: whoever may register gets requests, so it is allowed by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<Register>,
    /// Active checks of each endpoint.
    ///
    /// Default: none (an endpoint is judged by what requests meet alone). Range: one table. Reload: live.
    ///
    /// Why: only you know which path tells whether the service can work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What happens while every endpoint fails its checks: `true` sends requests all the same, `false` answers 503.
    ///
    /// Default: `true`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: when all checks fail at once, it is mostly the check that is wrong; if not, a request finds out.
    #[serde(default = "yes")]
    pub fail_open: bool,
    /// How an endpoint is chosen: `least_outstanding` takes the one with the fewest requests in flight, `round_robin` one
    /// after the other, and a table with `hash` the same one for the same key.
    ///
    /// Default: `least_outstanding`. Range: `least_outstanding`, `round_robin` or a table. Reload: live.
    ///
    /// Why: an endpoint that is slow for the moment gets fewer requests by itself.
    #[serde(default)]
    pub balance: BalanceKind,
    /// How long a connection to an endpoint may take to be established. Then the next endpoint is tried.
    ///
    /// Default: `1s`. Range: `1ms` to `5m`. Reload: live.
    ///
    /// Why: within one network a connection takes a few milliseconds, and one lost packet costs a second.
    #[serde(default = "one_second")]
    pub connect_timeout: Span,
    /// How long a request may take to be answered (the head of the answer), waiting and all attempts included.
    ///
    /// Default: `30s`. Range: `1ms` to `1d`. Reload: live.
    ///
    /// Why: nobody waits longer, and what takes longer is a job rather than a request.
    #[serde(default = "half_a_minute")]
    pub timeout: Span,
    /// Attempts at one request, the first included; each goes to an endpoint that has not had it, as long as there is one,
    /// and then to one that has, after a pause. Only what can do no harm is sent again. `1` turns second tries off.
    ///
    /// Default: `3`. Range: `1` to `5`. Reload: live.
    ///
    /// Why: where three attempts in ten fail, three in a row fail for one request in 37; a fourth helps few, and asks more
    /// of a service that is in trouble.
    #[serde(default = "three")]
    pub attempts: u32,
    /// How long one attempt may take to be answered, before the next is made.
    ///
    /// Default: none (as long as the request has). Range: `1ms` to `1d`. Reload: live.
    ///
    /// Why: a fixed time cuts off the slow answers of a healthy service; silence beyond the usual is noticed without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Span>,
    /// Whether silence far beyond the usual starts a second try beside the first; the first whole answer counts. Only
    /// for idempotent methods.
    ///
    /// Default: `true`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: an endpoint that hangs says nothing, so waiting for it to fail is waiting for the timeout.
    #[serde(default = "yes")]
    pub hedge: bool,
    /// A request with a longer body is streamed, and not sent again once some of it was.
    ///
    /// Default: `64KiB`. Range: `0B` to `1MiB`. Reload: live.
    ///
    /// Why: forms and calls of an API fit; what is longer is an upload, and keeping many of those fills the memory.
    #[serde(default = "max_replay")]
    pub max_replay: ByteSize,
    /// How many second tries there may be.
    ///
    /// Default: none (each key has its own). Range: one table. Reload: live.
    ///
    /// Why: without a limit second tries turn a short overload into a long one.
    #[serde(default)]
    pub retry_budget: RetryBudget,
    /// The longest silence within an answer's body.
    ///
    /// Default: `30s`. Range: `100ms` to `1d`. Reload: live.
    ///
    /// Why: an answer that has begun and then says nothing for that long will not go on; event streams send comments
    /// more often.
    #[serde(default = "half_a_minute")]
    pub body_idle_timeout: Span,
    /// Connections to one endpoint, of all workers together. A request that finds them all in use waits for one.
    ///
    /// Default: `512`. Range: `1` to `65535`. Reload: live.
    ///
    /// Why: more requests at a time than that make an application slower rather than busier.
    #[serde(default = "connections")]
    pub max_connections: u32,
    /// Idle connections that one worker keeps for one endpoint.
    ///
    /// Default: `32`. Range: `0` to `65535`. Reload: live.
    ///
    /// Why: a burst finds open connections, and the endpoint does not hold hundreds for nothing.
    #[serde(default = "idle_connections")]
    pub max_idle: u32,
    /// An idle connection to an endpoint is closed after this long, or earlier if the endpoint is known to close earlier.
    ///
    /// Default: `1m`. Range: `1s` to `1h`. Reload: live.
    ///
    /// Why: most application servers keep a connection for 60 s or longer; those that do not are learned.
    #[serde(default = "one_minute")]
    pub idle_timeout: Span,
    /// Requests that one endpoint works on at a time. More wait in the queue.
    ///
    /// Default: none (no limit). Range: `1` to `65535`. Reload: live.
    ///
    /// Why: only you know how many it can; a limit that is too low would refuse requests that could be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// How requests wait for an endpoint that has room. It needs `max_requests`.
    ///
    /// Default: none (each key has its own). Range: one table. Reload: live.
    ///
    /// Why: a queue without bounds turns an overload into answers that come too late for everybody.
    #[serde(default)]
    pub queue: Queue,
    /// How endpoints are judged by what requests meet.
    ///
    /// Default: none (each key has its own). Range: one table. Reload: live.
    ///
    /// Why: an endpoint that fails is left out without anybody's help, and never the last one.
    #[serde(default)]
    pub outlier: Outlier,
    /// Which answers are held until they are whole.
    ///
    /// Default: none (each key has its own). Range: one table. Reload: live.
    ///
    /// Why: an answer that breaks off after its first byte was passed on cannot be tried again.
    #[serde(default)]
    pub hold: Hold,
    /// How requests wait while no endpoint can be reached.
    ///
    /// Default: none (each key has its own). Range: one table. Reload: live.
    ///
    /// Why: a restart then costs a moment instead of errors.
    #[serde(default)]
    pub park: Park,
    /// When a tier of endpoints gives way to the next.
    ///
    /// Default: none (each key has its own). Range: one table. Reload: live.
    ///
    /// Why: it acts only where endpoints have tiers.
    #[serde(default)]
    pub failover: Failover,
    /// The `Host` that is sent to the service.
    ///
    /// Default: none (the client's). Range: a host name, with a port if needed. Reload: live.
    ///
    /// Why: an application makes its links from the name under which the client knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
}

impl Service {
    /// Whether endpoints may come from elsewhere than the list.
    pub const fn finds_endpoints(&self) -> bool {
        self.dns.is_some() || self.srv.is_some() || self.register.is_some()
    }
}

/// Active checks of a service's endpoints: an HTTP request to `path`, or, with `tcp`, a connection and no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The path that is asked for with GET.
    ///
    /// Default: none (then `tcp` has to be `true`). Range: an absolute path, with a query if needed. Reload: live.
    ///
    /// Why: only you know which one tells the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<CheckPath>,
    /// Whether a connection that is established is enough, and nothing is asked.
    ///
    /// Default: `false`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: a process that hangs still takes connections, so a path tells more.
    #[serde(default)]
    pub tcp: bool,
    /// Time between checks of one endpoint, jittered by a tenth.
    ///
    /// Default: `2s`. Range: `100ms` to `1h`. Reload: live.
    ///
    /// Why: with `fall = 2` and `fast_interval` a dead endpoint is out after about two and a half seconds, for half a
    /// request a second.
    #[serde(default = "two_seconds")]
    pub interval: Span,
    /// Time between checks of one endpoint while the last one contradicts its state, or requests find it suspect; at most
    /// `interval`.
    ///
    /// Default: `500ms`. Range: `50ms` to `1h`. Reload: live.
    ///
    /// Why: whether a first failure was chance is known half a second later rather than two, in both directions.
    #[serde(default = "fast_interval")]
    pub fast_interval: Span,
    /// A check without an answer in this time has failed.
    ///
    /// Default: `1s`. Range: `10ms` to `5m`. Reload: live.
    ///
    /// Why: an endpoint that needs a second for its simplest answer is in no state to serve.
    #[serde(default = "one_second")]
    pub timeout: Span,
    /// Failures in a row until an endpoint is down.
    ///
    /// Default: `2`. Range: `1` to `100`. Reload: live.
    ///
    /// Why: one failure may be a lost packet; two in a row hardly ever are.
    #[serde(default = "two")]
    pub fall: u32,
    /// Successes in a row until it is up again.
    ///
    /// Default: `2`. Range: `1` to `100`. Reload: live.
    ///
    /// Why: an endpoint that is starting often answers once before it can carry load.
    #[serde(default = "two")]
    pub rise: u32,
    /// The statuses that pass: `"200"` or `"200-399"`.
    ///
    /// Default: `["200-399"]`. Range: `1` to `32` ranges within 100-599. Reload: live.
    ///
    /// Why: a redirect to a login page is an answer of a healthy application.
    #[serde(default = "success")]
    pub expect: Vec<StatusRange>,
    /// The `Host` of the check.
    ///
    /// Default: none (the endpoint's own name). Range: a host name, with a port if needed. Reload: live.
    ///
    /// Why: most applications do not look at it for their health path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
}

const fn one_second() -> Span {
    Span::from_secs(1)
}

/// The default of `fast_interval`.
pub(crate) const fn fast_interval() -> Span {
    Span::from_millis(500)
}

const fn two_seconds() -> Span {
    Span::from_secs(2)
}

const fn half_a_minute() -> Span {
    Span::from_secs(30)
}

const fn one_minute() -> Span {
    Span::from_secs(60)
}

const fn connections() -> u32 {
    512
}

const fn idle_connections() -> u32 {
    32
}

/// The default of `max_replay`.
pub(crate) const fn max_replay() -> ByteSize {
    ByteSize::from_kib(64)
}

const fn yes() -> bool {
    true
}

const fn three() -> u32 {
    3
}

const fn two() -> u32 {
    2
}

/// The default of `expect`.
pub(crate) fn success() -> Vec<StatusRange> {
    vec![StatusRange::new(200, 399)]
}
