//! `[gateway]`, `[listener.NAME]` and `[access_log]`: where requests come in, what is demanded of clients, and what is
//! written down about them. The limits are those of `gateway::plan::EdgePlan`, which says how each one is applied.

use std::path::PathBuf;

use kernel::{ByteSize, Rate, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request_part::HeaderNameOrNone;
use super::scalar::{Cidr, Listen};

/// The gateway: where it listens, whom it believes, and its limits on clients. They hold for every listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// The address to listen on, `IP:port`. More addresses go into `[listener.NAME]`.
    ///
    /// Default: none (then a `[listener.NAME]` must name one). Range: any address; port `0` takes a free one.
    /// Reload: restart.
    ///
    /// Why: whether the gateway is open to the network or to this machine only is yours to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Listen>,
    /// Peers whose `X-Forwarded-*` and `X-Request-Id` are believed, as addresses or networks. From all others these
    /// headers are replaced.
    ///
    /// Default: `[]`. Range: `0` to `1000` networks. Reload: live.
    ///
    /// Why: a client that is believed can pretend to be anyone, past every allow list.
    pub trusted_proxies: Vec<Cidr>,
    /// Worker threads of the data plane, each with its own connections.
    ///
    /// Default: none (one for each core the process may use). Range: `1` to `1024`. Reload: restart.
    ///
    /// Why: a worker never waits, so more of them than cores only adds switching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// On SIGTERM: how long `/readyz` fails before the listeners close, so that balancers look elsewhere first. Ctrl-C
    /// in a terminal does not wait.
    ///
    /// Default: `5s`. Range: `0s` to `10m`. Reload: live.
    ///
    /// Why: it covers a balancer that asks every second or two and needs two refusals.
    pub drain_delay: Span,
    /// On SIGTERM, after `drain_delay`: how long requests in flight may take to end before they are cut.
    ///
    /// Default: `30s`. Range: `0s` to `1h`. Reload: live.
    ///
    /// Why: it is the longest a request may take by default, so none that keeps its time is cut.
    pub drain_timeout: Span,
    /// After another process has taken the listeners over (`evenkeel up --take-over`): how long connections from before
    /// may go on, tunnels and idle ones among them, before they are cut.
    ///
    /// Default: `10m`. Range: `0s` to `7d`. Reload: live.
    ///
    /// Why: requests and idle connections end long before, and it gives people in a chat or a terminal the time to finish.
    pub handover_timeout: Span,
    /// From the first byte of a request's head to its last.
    ///
    /// Default: `10s`. Range: `100ms` to `10m`. Reload: live.
    ///
    /// Why: a head is one or two packets; ten seconds forgive a bad mobile link and end a slow-header attack.
    pub header_timeout: Span,
    /// The longest silence within a request body, and of a client that does not read its answer.
    ///
    /// Default: `30s`. Range: `100ms` to `1h`. Reload: live.
    ///
    /// Why: a live connection moves something in that time even when packets are lost and sent again.
    pub body_idle_timeout: Span,
    /// A keep-alive connection without a request is closed after this long.
    ///
    /// Default: `1m`. Range: `1s` to `1h`. Reload: live.
    ///
    /// Why: a reader's next click finds the connection open, and an idle connection costs only a few KiB.
    pub idle_timeout: Span,
    /// A tunnel (WebSocket) without a byte in either direction is closed after this long.
    ///
    /// Default: `1h`. Range: `1s` to `7d`. Reload: live.
    ///
    /// Why: many applications send no pings, and a quiet tunnel is not a broken one.
    pub tunnel_idle_timeout: Span,
    /// Bodies slower than this, either way, are cut; `0B/s` sets no limit.
    ///
    /// Default: `240B/s`. Range: `0B/s` to `1GiB/s`. Reload: live.
    ///
    /// Why: no link that people use is slower, and an attacker who drips bytes is.
    pub min_rate: Rate,
    /// How long a body may take before `min_rate` counts.
    ///
    /// Default: `10s`. Range: `0s` to `10m`. Reload: live.
    ///
    /// Why: a new connection starts slowly, and a lost packet stalls it for seconds.
    pub min_rate_grace: Span,
    /// Method, target and version of a request together.
    ///
    /// Default: `8KiB`. Range: `64B` to `64KiB`. Reload: live.
    ///
    /// Why: it is what other proxies and most application servers take.
    pub max_request_line: ByteSize,
    /// The target of a request (path and query). A longer one is answered 414.
    ///
    /// Default: `8KiB`. Range: `16B` to `64KiB`. Reload: live.
    ///
    /// Why: no browser's address bar and hardly any application needs more.
    pub max_uri: ByteSize,
    /// All header lines of a request together. More are answered 431.
    ///
    /// Default: `64KiB`. Range: `1KiB` to `1MiB`. Reload: live.
    ///
    /// Why: large cookies and single sign-on tokens fit, and 10,000 clients cannot exhaust the memory of a small machine.
    pub max_header_bytes: ByteSize,
    /// Header lines of a request. More are answered 431.
    ///
    /// Default: `100`. Range: `1` to `1000`. Reload: live.
    ///
    /// Why: browsers send about twenty; every line costs time at each hop.
    pub max_headers: u32,
    /// A request body, unless its route says otherwise. A larger one is answered 413.
    ///
    /// Default: `64MiB`. Range: `0B` to `1024GiB`. Reload: live.
    ///
    /// Why: photographs and spreadsheets pass; what is larger is an upload that deserves a route of its own.
    pub max_body: ByteSize,
    /// Connections of all clients together.
    ///
    /// Default: `10000`. Range: `1` to `1000000`. Reload: live.
    ///
    /// Why: at most 6 KiB for an idle one make 60 MiB, which any machine has to spare.
    pub max_connections: u32,
    /// Connections of one client address; an IPv6 client is its /64. Trusted proxies are not counted.
    ///
    /// Default: `1000`. Range: `1` to `1000000`. Reload: live.
    ///
    /// Why: a whole office behind one address fits, and one client cannot take every place.
    pub max_connections_per_client: u32,
    /// The header in which a client may say how many milliseconds it waits; the shorter of that and the route's or
    /// service's `timeout` counts. In the same header the service is told how many are left. `""` turns both off.
    ///
    /// Default: `X-Request-Timeout-Ms`. Range: a header name, or nothing. Reload: live.
    ///
    /// Why: work on an answer that nobody waits for any more is lost, most of all when there is too much of it.
    pub deadline_header: HeaderNameOrNone,
}

impl Default for Gateway {
    fn default() -> Gateway {
        Gateway {
            listen: None,
            trusted_proxies: Vec::new(),
            workers: None,
            drain_delay: Span::from_secs(5),
            drain_timeout: Span::from_secs(30),
            handover_timeout: Span::from_secs(600),
            header_timeout: Span::from_secs(10),
            body_idle_timeout: Span::from_secs(30),
            idle_timeout: Span::from_secs(60),
            tunnel_idle_timeout: Span::from_secs(3600),
            min_rate: Rate::from_bytes_per_sec(240),
            min_rate_grace: Span::from_secs(10),
            max_request_line: ByteSize::from_kib(8),
            max_uri: ByteSize::from_kib(8),
            max_header_bytes: ByteSize::from_kib(64),
            max_headers: 100,
            max_body: ByteSize::from_mib(64),
            max_connections: 10_000,
            max_connections_per_client: 1_000,
            deadline_header: HeaderNameOrNone::deadline(),
        }
    }
}

/// One more address to listen on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address, `IP:port`.
    ///
    /// Default: none (required). Range: any address; port `0` takes a free one. Reload: restart.
    ///
    /// Why: only you know it.
    pub address: Listen,
}

/// The access log: a line for each request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// The file that lines are appended to. It is opened again on SIGUSR1, for log rotation.
    ///
    /// Default: none (standard output). Range: a path in a directory that exists. Reload: live.
    ///
    /// Why: standard output is where containers and systemd collect from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// `text` for people, `json` for programs: one object a line.
    ///
    /// Default: `text`. Range: `text` or `json`. Reload: live.
    ///
    /// Why: whoever turns it on reads it first with their own eyes.
    pub format: LogFormat,
    /// The share of successful requests that is written. Failed ones are always written.
    ///
    /// Default: `1`. Range: `0` to `1`. Reload: live.
    ///
    /// Why: a log that is whole is the one that holds the line you look for.
    pub sample: f64,
}

/// Which requests `evenkeel why` can tell of. They are kept in memory, 5,120 of them for each worker, some 4 MiB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// Whether what was done with requests is remembered: with all that failed, were tried again, waited or were slow, and
    /// with a sample of the others.
    ///
    /// Default: `true`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: the request that somebody asks about is never the one that you had thought of.
    pub enabled: bool,
    /// A request that takes longer than this is remembered as slow.
    ///
    /// Default: `1s`. Range: `1ms` to `1h`. Reload: live.
    ///
    /// Why: a second is what people notice, and what few services take for their usual requests.
    pub slow: Span,
    /// The share of plain requests that is remembered.
    ///
    /// Default: `0.01`. Range: `0` to `1`. Reload: live.
    ///
    /// Why: some of them show what is usual; all of them would cost time and wash out the others.
    pub sample: f64,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace { enabled: true, slow: Span::from_secs(1), sample: 0.01 }
    }
}

/// How the access log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Aligned text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for AccessLog {
    fn default() -> AccessLog {
        AccessLog { path: None, format: LogFormat::Text, sample: 1.0 }
    }
}
