//! `[admin]`, `[api]` and `[token.NAME]`: the node's own HTTP servers and who may call them; `[store]`: what it keeps. What the scopes allow is
//! decided by the `console` crate; here is the closed list of their names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{BareHost, Listen, StoredHash};

/// The console, the operator API, `/livez`, `/readyz` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The address to listen on, `IP:port`. Beyond loopback it demands a token with the scope `operator`.
    ///
    /// Default: `127.0.0.1:7070`. Range: any address; port `0` takes a free one. Reload: restart.
    ///
    /// Why: whoever is on the machine may look, nobody else.
    pub listen: Listen,
    /// Names without port under which browsers reach it, besides addresses and `localhost`. A request with another
    /// `Host` is refused, so that a foreign page cannot point its own name here. Beyond loopback, where a token is
    /// demanded anyway, any name will do.
    ///
    /// Default: `[]`. Range: `0` to `100` names. Reload: live.
    ///
    /// Why: on loopback no name is needed.
    pub hosts: Vec<BareHost>,
}

impl Default for Admin {
    fn default() -> Admin {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
        Admin { listen: Listen::from(loopback), hosts: Vec::new() }
    }
}

/// What the node keeps on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The directory for what must survive a restart: what operators decided about endpoints and tiers. It is made when
    /// it is first needed, for the node's user alone; each node needs its own. A relative path counts from the directory
    /// of this file.
    ///
    /// Default: `evenkeel-data`. Range: a path. Reload: restart.
    ///
    /// Why: what belongs to a node lies beside its configuration, where it is found and moves along; a service manager's
    /// directory can be named, such as `/var/lib/evenkeel` or `${env:STATE_DIRECTORY}`.
    pub directory: PathBuf,
}

impl Default for Store {
    fn default() -> Store {
        Store { directory: PathBuf::from("evenkeel-data") }
    }
}

/// The API that applications call. It never gives operator rights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The address to listen on, `IP:port`.
    ///
    /// Default: none (required). Range: any address; port `0` takes a free one. Reload: restart.
    ///
    /// Why: who must reach it differs from network to network.
    pub listen: Listen,
}

/// A token that a caller presents as `Authorization: Bearer evk_…`. Only its hash is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// `sha256:` and the 64 hexadecimal digits of the token's SHA-256, or a `${env:NAME}` or `${file:/path}` that holds
    /// them. `evenkeel token new` prints both the token and its hash.
    ///
    /// Default: none (required). Range: `sha256:` and 64 digits. Reload: live.
    ///
    /// Why: whoever reads this file learns no token from it.
    pub hash: StoredHash,
    /// What it may do. No scope implies another.
    ///
    /// Default: none (required). Range: `1` to `16` of `operator` and `services:read`. Reload: live.
    ///
    /// Why: a token should open what its holder needs and nothing else.
    pub scopes: Vec<Scope>,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// Everything on the admin address.
    #[serde(rename = "operator")]
    Operator,
    /// Read the state of services through the API.
    #[serde(rename = "services:read")]
    ServicesRead,
}

impl Scope {
    /// Every scope, as it is written.
    pub const NAMES: [&str; 2] = [console::token::OPERATOR, console::token::SERVICES_READ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Operator => console::token::OPERATOR,
            Scope::ServicesRead => console::token::SERVICES_READ,
        }
    }
}
