//! Where endpoints come from that nobody lists: `dns`, `srv` and `register` of `[service.NAME]`, and `[dns]`. Semantics of
//! what is found are those of `policy::resolve` and `policy::leases`; SRV records are those of RFC 2782.

use std::net::SocketAddr;

use kernel::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::Listen;
pub use super::scalar::{HostAndPort, SrvName};

/// Whom names of `dns` and `srv` are asked of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// The DNS servers, `IP:port`, over UDP and, for long answers, TCP. Names are then asked for as they are written,
    /// without search domains.
    ///
    /// Default: none (required). Range: `1` to `8` servers. Reload: live.
    ///
    /// Why: without this table the servers and search domains of `/etc/resolv.conf` are asked, as everybody else's are.
    pub servers: Vec<Listen>,
}

/// That endpoints may register themselves through the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The longest lease that an endpoint may ask for. One that asks for none gets ten seconds, or this if it is shorter.
    ///
    /// Default: `1m`. Range: `1s` to `1h`. Reload: live.
    ///
    /// Why: an endpoint that dies without a word is missed after its lease, and until then only health checks and failed
    /// requests know.
    #[serde(default = "one_minute")]
    pub max_lease: Span,
}

impl Dns {
    /// The servers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Listen::addr).collect()
    }
}

const fn one_minute() -> Span {
    Span::from_secs(60)
}
