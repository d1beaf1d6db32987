//! From a [`Config`] to what runs: names are resolved, pages are read, defaults are filled in, and what contradicts itself
//! is said. Each table has its file. A rule that is an error and needs what is made here stands beside the code that finds
//! it; what is legal but unwise is in [`super::lint`].
//!
//! [`Config`]: super::Config

mod discovery;
mod listen;
mod pool;
mod route;
mod rules_of_route;
mod service;

use std::time::Duration;

use console::{TokenStore, WebhookSecret};
use gateway::Plan;
use gateway::plan::{AccessLogPlan, EdgePlan, ForcedPlan, TracePlan};
use kernel::{Rule, Severity};

use super::context::Context;
use super::model::{AccessLog, LogFormat};
use crate::discovery::DiscoveryPlan;
use crate::path;
pub use listen::{Listening, cannot_listen};
pub(super) use pool::MAX_USERS;
pub(super) use route::{name_of_route, table};

/// The rules of this step.
pub(super) const RULES: &[&Rule] = &[
    &listen::NO_LISTENER,
    &listen::SAME_ADDRESS,
    &listen::ADDRESS_UNAVAILABLE,
    &service::UNRESOLVABLE_NAME,
    &service::HEALTH_KIND,
    &service::BUDGET_CEILING,
    &discovery::NO_ENDPOINTS,
    &rules_of_route::NOTHING_TO_SERVE,
    &rules_of_route::ROUTE_NEEDED,
    &rules_of_route::ROUTE_TARGET,
    &rules_of_route::UNKNOWN_SERVICE,
    &rules_of_route::DUPLICATE_NAME,
    &rules_of_route::EMPTY_SPLIT,
    &rules_of_route::WITHOUT_EFFECT,
    &rules_of_route::REWRITE_MISMATCH,
    &rules_of_route::BAD_REDIRECT_STATUS,
    &rules_of_route::MANAGED_HEADER,
    &rules_of_route::DUPLICATE_HEADER,
    &rules_of_route::CORS_ANY_WITH_CREDENTIALS,
    &rules_of_route::BAD_CORS,
    &rules_of_route::UNREADABLE_PAGE,
    &pool::UNREADABLE_POOL_FILE,
    &pool::POOLS_SHARE_DATABASE,
    &pool::CERTIFICATE_WITHOUT_CA,
    &pool::DIRECT_WITHOUT_TLS,
    &NO_LOG_DIRECTORY,
];

const NO_LOG_DIRECTORY: Rule = Rule {
    id: "no-log-directory",
    severity: Severity::Error,
    title: "There is no place for the access log",
    what: "`path` of `[access_log]` is a directory, or lies in a directory that does not exist.",
    why: "The log could not be opened, and every line of it would be lost.",
    remedy: "Create the directory, writable for the user that Evenkeel runs as, or correct the path. A relative path \
             counts from the directory of the configuration file. Without `path` the log goes to standard output.",
    example: "[access_log]\npath = \"/var/log/evenkeel/access.log\"",
};

/// What a node runs by.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The data plane.
    pub plan: Plan,
    /// Where clients come in.
    pub listeners: Vec<Listening>,
    /// Where the console and the operators' API are.
    pub admin: Listening,
    /// Names without port under which browsers reach the console.
    pub admin_hosts: Vec<String>,
    /// Where the API for applications is; `None`: there is none.
    pub api: Option<Listening>,
    /// Every token.
    pub tokens: TokenStore,
    /// What GitHub signs its webhooks with.
    pub github_secret: Option<WebhookSecret>,
    /// Threads of the data plane; `None`: one for each core.
    pub workers: Option<usize>,
    /// How long everything stays open after the node was told to stop.
    pub drain_delay: Duration,
    /// How long requests in flight may then take.
    pub drain_timeout: Duration,
    /// How long connections may go on after another process has taken the listeners over.
    pub handover_timeout: Duration,
    /// Where what must survive a restart is kept.
    pub store: std::path::PathBuf,
    /// How much of it is kept; `None`: nothing is kept on disk.
    pub keeping: Option<Keeping>,
    /// Where endpoints come from that nobody lists.
    pub discovery: DiscoveryPlan,
    /// The Postgres data plane.
    pub pools: ::pool::plan::Plan,
    /// Where its clients come in over TCP, each address once; Unix sockets are in the plan alone.
    pub pool_listeners: Vec<Listening>,
    /// Files that were read beside the configuration itself: pages and secrets. A change of one calls for a reload.
    pub files: Vec<std::path::PathBuf>,
}

/// Makes what runs, as far as it goes; what is wrong is said. What is made is of use only if nothing was an error.
pub(super) fn compile(context: &Context<'_>) -> Option<Compiled> {
    let config = context.config;
    let listeners = listen::listeners(context);
    let tokens = tokens(context);
    let services = service::services(context);
    let discovery = discovery::discovery(context);
    let mut files = context.secrets.files.clone();
    let pools = pool::pools(context, &mut files);
    let routes = route::routes(context, &mut files);
    let access_log = config.access_log.as_ref().map(|log| access_log(context, log));
    let plan = Plan {
        table: table(config),
        routes: routes?,
        services,
        edge: edge(context),
        trusted_proxies: config.gateway.trusted_proxies.iter().filter_map(|c| c.block()).collect(),
        access_log,
        forced: ForcedPlan::default(),
    };
    Some(Compiled {
        plan,
        listeners: listeners.gateway,
        admin: listeners.admin,
        admin_hosts: config.admin.hosts.iter().map(ToString::to_string).collect(),
        api: listeners.api,
        tokens: tokens?,
        github_secret: config.deploys.as_ref().map(|deploys| WebhookSecret::new(deploys.github_secret.as_str())),
        workers: config.gateway.workers.map(|n| n as usize),
        drain_delay: config.gateway.drain_delay.into(),
        drain_timeout: config.gateway.drain_timeout.into(),
        handover_timeout: config.gateway.handover_timeout.into(),
        store: context.world.directory.join(&config.store.directory),
        keeping: config.store.enabled.then(|| Keeping {
            journal_max: config.store.journal_max_size.as_bytes(),
            journal_retention: config.store.journal_retention.into(),
            series_max: config.store.series_max_size.as_bytes(),
        }),
        discovery,
        pools,
        pool_listeners: listeners.pools,
        files,
    })
}

/// `None` if there are too many, which the shape of the file forbids.
fn tokens(context: &Context<'_>) -> Option<TokenStore> {
    let token = |(name, token): (&super::model::Name, &super::model::Token)| {
        Some(console::Token {
            name: name.to_string(),
            hash: console::TokenHash::parse(token.hash.as_str()).ok()?,
            scopes: token.scopes.iter().map(ToString::to_string).collect(),
        })
    };
    TokenStore::new(context.config.token.iter().filter_map(token).collect()).ok()
}

fn edge(context: &Context<'_>) -> EdgePlan {
    let gateway = &context.config.gateway;
    let deadline_header = gateway.deadline_header.lower_case();
    route::forbid_managed(context, &path!["gateway", "deadline_header"], deadline_header.as_deref());
    EdgePlan {
        header_timeout: gateway.header_timeout.into(),
        body_idle_timeout: gateway.body_idle_timeout.into(),
        idle_timeout: gateway.idle_timeout.into(),
        tunnel_idle_timeout: gateway.tunnel_idle_timeout.into(),
        min_rate: gateway.min_rate.as_bytes_per_sec(),
        min_rate_grace: gateway.min_rate_grace.into(),
        max_request_line: gateway.max_request_line.as_usize(),
        max_uri: gateway.max_uri.as_usize(),
        max_header_bytes: gateway.max_header_bytes.as_usize(),
        max_headers: gateway.max_headers as usize,
        max_body: gateway.max_body.as_bytes(),
        max_connections: gateway.max_connections,
        max_connections_per_client: gateway.max_connections_per_client,
        deadline_header,
        trace: trace(context),
    }
}

/// How much the store may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Of the journal, in bytes.
    pub journal_max: u64,
    /// How long its records are kept.
    pub journal_retention: Duration,
    /// Of counts, in bytes.
    pub series_max: u64,
}

impl Keeping {
    /// The store in `directory`.
    pub fn store(self, directory: &std::path::Path) -> store::StoreConfig {
        store::StoreConfig {
            journal_cap: kernel::ByteSize::from_bytes(self.journal_max),
            journal_keep: self.journal_retention,
            series_cap: kernel::ByteSize::from_bytes(self.series_max),
            ..store::StoreConfig::new(directory.to_owned())
        }
    }
}

fn trace(context: &Context<'_>) -> TracePlan {
    let trace = &context.config.trace;
    let one_in = if trace.sample > 0.0 { (1.0 / trace.sample).round() as u64 } else { 0 };
    TracePlan { on: trace.enabled, slow: trace.slow.into(), one_in }
}

fn access_log(context: &Context<'_>, log: &AccessLog) -> AccessLogPlan {
    let path = log.path.as_ref().map(|path| context.world.directory.join(path));
    if let (Some(written), Some(path)) = (&log.path, &path) {
        let directory = path.parent().unwrap_or(path);
        let here = directory.as_os_str().is_empty();
        let at = path!["access_log", "path"];
        if context.world.is_directory(path) {
            let message = format!("`{}` is a directory", written.display());
            context.say(&NO_LOG_DIRECTORY, &at, message, "name a file in it");
        } else if !here && !context.world.is_directory(directory) {
            let message = format!("there is no directory for the access log `{}`", written.display());
            context.say(
                &NO_LOG_DIRECTORY,
                &at,
                message,
                format!("create `{}`, or correct the path", directory.display()),
            );
        }
    }
    AccessLogPlan { path, json: log.format == LogFormat::Json, sample: log.sample }
}
