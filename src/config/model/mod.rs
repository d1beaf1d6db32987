//! The configuration as it is written: one type per table. Nothing here is resolved, read or judged; that is what
//! `compile` and `lint` do. The JSON schema, the reference page, the known keys and the ranges that are enforced all come
//! from these types and their doc comments, so each field's comment has a fixed shape, which a test checks:
//!
//! ```text
//! What it is.
//!
//! Default: `value`. Range: `least` to `most`. Reload: live.
//!
//! Why: the reason for the default.
//! ```
//!
//! A range of two quoted values is enforced: as values of numbers and units, as lengths of texts, lists and tables.
//! `Reload: restart` marks what a running process does not take over.

pub mod discovery;
pub mod either;
pub mod gateway;
pub mod node;
pub mod pool;
mod pool_part;
mod pool_text;
pub mod request_part;
pub mod resilience;
pub mod route;
pub mod scalar;
pub mod service;
pub mod share;
pub mod text_or_table;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use discovery::{Dns, Register};
pub use gateway::{AccessLog, Gateway, Listener, LogFormat, Trace};
pub use node::{Admin, Api, Deploys, Scope, Store, Token};
pub use pool::Pool;
pub use resilience::{Failover, Hold, Outlier, Park, Queue, RetryBudget};
pub use route::{Cors, HeaderChanges, Redirect, Route};
pub use scalar::Name;
pub use service::{Health, Service};
pub use share::Share;
pub use text_or_table::{BalanceKind, EndpointEntry};

/// The whole file. Every table may be absent; what is absent has its defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Evenkeel configuration")]
pub struct Config {
    /// The gateway: where it listens and what it demands of clients.
    pub gateway: Gateway,
    /// More addresses to listen on, by name. All of them serve the same routes.
    ///
    /// Default: none (only `gateway.listen`). Range: `0` to `64` listeners. Reload: restart.
    ///
    /// Why: one address is what most need, and `gateway.listen` is the short way to write it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub listener: BTreeMap<Name, Listener>,
    /// The console, the operator API, `/livez`, `/readyz` and `/metrics`.
    pub admin: Admin,
    /// The API that applications call.
    ///
    /// Default: none (no API is served). Range: one table. Reload: restart.
    ///
    /// Why: nothing listens that nobody asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// What the node keeps on disk.
    pub store: Store,
    /// Who may call the operator API and the API, by name. `evenkeel token new NAME` makes one.
    ///
    /// Default: none (on loopback the console needs no token; nothing else is let in). Range: `0` to `1000` tokens.
    /// Reload: live.
    ///
    /// Why: a token that exists by default is a password that everybody knows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub token: BTreeMap<Name, Token>,
    /// Webhooks that tell of deployments, at `POST /v1/deploys` of `[api]`.
    ///
    /// Default: none (deployments are told by token alone). Range: one table. Reload: live.
    ///
    /// Why: a secret is shared only with whom somebody named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploys: Option<Deploys>,
    /// The services behind the gateway, by name.
    ///
    /// Default: none (every route must then redirect). Range: `0` to `1000` services. Reload: live.
    ///
    /// Why: only you know them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service: BTreeMap<Name, Service>,
    /// The Postgres servers whose connections clients share, by name.
    ///
    /// Default: none (nothing is pooled). Range: `0` to `100` pools. Reload: restart.
    ///
    /// Why: only you know them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pool: BTreeMap<Name, Pool>,
    /// Whom the names of `dns` and `srv` are asked of.
    ///
    /// Default: none (the servers of `/etc/resolv.conf`). Range: one table. Reload: live.
    ///
    /// Why: what everything else on the machine asks is mostly right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// Which requests go where. The first route that matches decides, in the order of the file.
    ///
    /// Default: none (a lone service takes every request; several services need routes). Range: `0` to `5000` routes.
    /// Reload: live.
    ///
    /// Why: with one service there is nothing to choose, and with several a guess would be wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<Route>,
    /// The access log.
    ///
    /// Default: none (no access log is written; the metrics count every request all the same). Range: one table.
    /// Reload: live.
    ///
    /// Why: a line for every request fills a disk that nobody watches; who wants the log says where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// Which requests `evenkeel why` can tell of.
    pub trace: Trace,
}
