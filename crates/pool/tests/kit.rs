//! Plans for servers of a test's own, and a cluster that is watched.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use kernel::journal::{Boot, Journal};
use kernel::{Clock, Entropy};
use pool::auth::Secret;
use pool::cluster::{Cluster, Standing};
use pool::connect::{OpenError, Opened, Security};
use pool::plan::{
    AuthMethods, AuthPlan, Mode, PoolPlan, ServerAddress, ServerPlan, ServerTlsMode, ServerTlsPlan, SessionState,
};
use testkit::postgres::Instance;
use tokio::runtime::{Handle, Runtime};

/// The pooler's own user.
pub(crate) const POOLER: (&str, &str) = ("evenkeel", "keel");
/// A user, a password and a database.
pub(crate) const APP: (&str, &str, &str) = ("app", "sécret", "shop");
/// Any state of a cluster comes in this time, also on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// Runs to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

pub(crate) fn control() -> Handle {
    RUNTIME.handle().clone()
}

/// A server that many tests ask and none stops.
pub(crate) fn shared() -> &'static Instance {
    static SHARED: OnceLock<Instance> = OnceLock::new();
    SHARED.get_or_init(|| prepared(Instance::start().unwrap()))
}

/// With users, a database, and what the pooler needs.
pub(crate) fn prepared(instance: Instance) -> Instance {
    instance.setup_auth(POOLER.0, POOLER.1, &pool::verifiers::create_function(POOLER.0)).unwrap();
    instance.create_app(APP.0, APP.1, APP.2).unwrap();
    instance
}

pub(crate) fn server(instance: &Instance) -> ServerPlan {
    ServerPlan {
        name: format!("127.0.0.1:{}", instance.port()),
        address: ServerAddress::Tcp { host: "127.0.0.1".into(), port: instance.port() },
    }
}

pub(crate) const NO_TLS: ServerTlsPlan = ServerTlsPlan { mode: ServerTlsMode::Disable, direct: false, ca: Vec::new() };

/// What opening needs to know of TLS.
pub(crate) struct Tls(pub(crate) ServerTlsPlan, Arc<rustls::ClientConfig>);

impl Tls {
    pub(crate) fn new(plan: ServerTlsPlan) -> Tls {
        let config = pool::tls::connect_config(&plan).unwrap();
        Tls(plan, config)
    }

    pub(crate) fn security(&self) -> Security<'_> {
        Security { plan: &self.0, config: &self.1 }
    }
}

pub(crate) fn plan(servers: &[&Instance]) -> PoolPlan {
    PoolPlan {
        name: "main".into(),
        listen: Vec::new(),
        servers: servers.iter().map(|instance| server(instance)).collect(),
        databases: None,
        rules: Vec::new(),
        auth: AuthPlan {
            user: POOLER.0.into(),
            password: POOLER.1.into(),
            database: "postgres".into(),
            query: pool::verifiers::DEFAULT_QUERY.into(),
            users: Vec::new(),
            methods: AuthMethods { certificate: false, peer: false },
        },
        mode: Mode::Transaction,
        session_state: SessionState::Track,
        size: 20,
        min_size: 0,
        reserve: 0,
        reserve_after: Duration::from_secs(1),
        max_connections: 80,
        max_clients: 1_000,
        max_waiting: 1_000,
        queue_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(10),
        login_timeout: Duration::from_secs(10),
        lifetime: None,
        idle_timeout: None,
        client_idle_timeout: None,
        query_timeout: None,
        idle_in_transaction_timeout: None,
        transaction_timeout: None,
        max_prepared_statements: 200,
        max_pinned: 10,
        slow: None,
        statements: 1_000,
        probe_interval: Duration::from_millis(250),
        admin_users: Vec::new(),
        stats_users: Vec::new(),
        tls: None,
        server_tls: NO_TLS,
    }
}

/// A cluster, and what it tells.
pub(crate) struct Watched {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
}

pub(crate) fn watch(plan: PoolPlan) -> Watched {
    let clock = Clock::real();
    let journal = Journal::unkept(clock.clone(), Boot::new(&mut Entropy::from_seed(1)));
    let cluster = Cluster::start(Arc::new(plan), clock.clone(), journal.clone(), control(), Arc::new(|| ())).unwrap();
    Watched { cluster, journal, clock }
}

impl Watched {
    /// Waits for a standing.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is: impl Fn(&Standing) -> bool) -> Arc<Standing> {
        let found =
            testkit::poll_until(SOON, || Some(Arc::clone(&self.cluster.primary())).filter(|standing| is(standing)));
        found.unwrap_or_else(|| {
            panic!("waited for {what}; {:?}; {:#?}; {:?}", self.cluster, self.kinds(), self.cluster.views())
        })
    }

    /// Opens a connection as [`APP`], as soon as there is a primary that answers.
    #[track_caller]
    pub(crate) fn open(&self) -> (Opened, usize, u64) {
        loop {
            self.until("a primary", Standing::is_open);
            let secret = Secret::Password(APP.1.to_owned());
            match block_on(self.cluster.open_at_primary(APP.2, APP.0, secret)) {
                Ok(opened) => return opened,
                // It was silent for a moment in between: a busy machine's.
                Err(OpenError::NoPrimary(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The kinds of what was told, in order.
    pub(crate) fn kinds(&self) -> Vec<String> {
        let mut told: Vec<_> = self.journal.recent(1_000);
        told.sort_by_key(|record| record.number);
        told.into_iter().map(|record| record.kind.clone()).collect()
    }
}
