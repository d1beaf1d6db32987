//! A node whose answers the tests set, servers on port 0, and a client that shows every byte.

#![expect(clippy::unwrap_used, reason = "only tests use this module; a failure here is a test's failure")]

mod past;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use console::registrar::{RegisterError, Registered, Registrar, Wish};
use console::view::{
    Acted, ActionError, ConfigView, DeployMark, EndpointAction, EndpointView, Node, NodeView, Order, PoolAction,
    PoolClient, PoolConnection, PoolCounts, PoolGroup, PoolServer, PoolStatement, PoolView, ServiceAction, ServiceView,
    TrafficView,
};
use console::{
    AdminServer, AdminSettings, ApiServer, ApiSettings, Limits, Readiness, Token, TokenHash, TokenStore, Vitals,
    WebhookSecret,
};
use kernel::journal::JournalReader;
use kernel::store::FileHealth;
use kernel::tally::TallyReader;
use kernel::trace::{TraceLine, Why};
use kernel::{DrainTrigger, Finding, Severity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use past::{BEGIN_UNIX_S, ELSEWHERE, Past};

pub(crate) const OPERATOR_TOKEN: &str = "evk_operator-token";
pub(crate) const SHOP_TOKEN: &str = "evk_shop-token";
pub(crate) const READER_TOKEN: &str = "evk_reader-token";
pub(crate) const DEPLOY_TOKEN: &str = "evk_deploy-token";
pub(crate) const GITHUB_SECRET: &str = "It's a secret to everybody";

/// Nothing here takes longer than a moment; a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(crate) struct FakeNode {
    not_ready: Mutex<Option<String>>,
    reloads: AtomicUsize,
    views: AtomicUsize,
    refuse: Mutex<bool>,
    held: Mutex<bool>,
    released: Condvar,
    /// What was asked of it, a line each.
    acts: Mutex<Vec<String>>,
    pub(crate) past: Past,
}

impl FakeNode {
    pub(crate) fn set_ready(&self, reason: Option<&str>) {
        *self.not_ready.lock().unwrap() = reason.map(str::to_owned);
    }
    pub(crate) fn reloads(&self) -> usize {
        self.reloads.load(Ordering::SeqCst)
    }
    pub(crate) fn views(&self) -> usize {
        self.views.load(Ordering::SeqCst)
    }
    pub(crate) fn acts(&self) -> Vec<String> {
        std::mem::take(&mut *self.acts.lock().unwrap())
    }
    pub(crate) fn refuse_reloads(&self) {
        *self.refuse.lock().unwrap() = true;
    }
    /// Reloads do not end while the guard lives.
    pub(crate) fn hold_reloads(self: &Arc<Self>) -> Gate {
        *self.held.lock().unwrap() = true;
        Gate(Arc::clone(self))
    }
}

/// Holds reloads back until it is dropped.
#[derive(Debug)]
pub(crate) struct Gate(Arc<FakeNode>);

impl Drop for Gate {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap() = false;
        self.0.released.notify_all();
    }
}

impl Node for FakeNode {
    fn view(&self) -> NodeView {
        self.views.fetch_add(1, Ordering::SeqCst);
        let traffic =
            |name: &str| TrafficView { name: name.into(), by_class: [0, 100, 0, 0, 0, 0], ..TrafficView::default() };
        let endpoint = |name: &str| EndpointView {
            traffic: traffic(name),
            reason: "passed its checks".into(),
            ..EndpointView::default()
        };
        NodeView {
            version: "0.0.0".into(),
            uptime: Duration::from_secs(10),
            workers: 1,
            routes: vec![traffic("shop<b>\u{1b}[31m")],
            services: vec![ServiceView {
                traffic: traffic("shop"),
                endpoints: vec![endpoint("a:1"), EndpointView { tier: 1, ..endpoint("b:2") }],
                ..ServiceView::default()
            }],
            pools: vec![pool()],
            config: ConfigView { source: "evenkeel.toml".into(), ..ConfigView::default() },
            ..NodeView::default()
        }
    }
    fn ready(&self) -> Readiness {
        self.not_ready.lock().unwrap().clone().map_or_else(Readiness::yes, Readiness::no)
    }
    fn metrics(&self, accept: &str) -> (String, String) {
        ("text/fake; charset=utf-8".into(), format!("# accept {accept}\n"))
    }
    fn reload(&self) -> Result<String, Vec<Finding>> {
        self.reloads.fetch_add(1, Ordering::SeqCst);
        drop(self.released.wait_while(self.held.lock().unwrap(), |held| *held).unwrap());
        if !*self.refuse.lock().unwrap() {
            return Ok("3 routes".into());
        }
        Err(vec![Finding {
            id: "unknown-key",
            severity: Severity::Error,
            message: "no such key".into(),
            remedy: "remove it".into(),
            place: None,
            subject: None,
        }])
    }
    fn endpoint_action(
        &self,
        service: &str,
        endpoint: &str,
        action: EndpointAction,
        order: &Order,
    ) -> Result<Acted, ActionError> {
        self.acts.lock().unwrap().push(format!("{service} {endpoint} {action:?} {}", said(order)));
        match (service, endpoint) {
            ("shop", "a:1" | "[::1]:80/x y") => Ok(Acted { message: "it is done".into(), kept: true }),
            ("shop", "b:2") => Err(ActionError::LastEndpoint("b:2 is the last one".into())),
            ("shop", _) => Err(ActionError::UnknownEndpoint {
                service: service.into(),
                name: endpoint.into(),
                known: vec!["a:1".into(), "b:2".into()],
            }),
            _ => Err(ActionError::UnknownService { name: service.into(), known: vec!["shop".into()] }),
        }
    }
    fn service_action(&self, service: &str, action: ServiceAction, order: &Order) -> Result<Acted, ActionError> {
        self.acts.lock().unwrap().push(format!("{service} {action:?} {}", said(order)));
        match action {
            ServiceAction::Failover { tier: Some(7) } => Err(ActionError::UnknownTier("shop has no tier 7".into())),
            _ => Ok(Acted { message: "it is done".into(), kept: false }),
        }
    }
    fn pool_statements(&self, _: &str) -> Vec<PoolStatement> {
        let statement = |n: u64| PoolStatement {
            database: POOL_HOSTILE.into(),
            user: POOL_HOSTILE.into(),
            fingerprint: format!("{n:016x}"),
            text: POOL_HOSTILE.into(),
            calls: n,
            total_us: n,
            ..PoolStatement::default()
        };
        (1..=30).map(statement).collect()
    }
    fn pool_clients(&self, _: &str) -> Vec<PoolClient> {
        vec![PoolClient { id: 7, ..PoolClient::default() }]
    }
    fn pool_connections(&self, _: &str) -> Vec<PoolConnection> {
        vec![PoolConnection { id: 8, ..PoolConnection::default() }]
    }
    fn pool_action(&self, pool: &str, action: &PoolAction, order: &Order) -> Result<Acted, ActionError> {
        self.acts.lock().unwrap().push(format!("{pool} {action:?} {}", said(order)));
        match (pool, action) {
            ("main", PoolAction::KillClient(_)) => Err(ActionError::PoolRefused("there is no such client".into())),
            ("main", _) => Ok(Acted { message: "it is done".into(), kept: false }),
            _ => Err(ActionError::UnknownPool { name: pool.into(), known: vec!["main".into()] }),
        }
    }
    fn journal(&self) -> Arc<dyn JournalReader> {
        self.past.reader()
    }
    fn journal_changes(&self) -> watch::Receiver<u64> {
        self.past.changes()
    }
    fn tallies(&self) -> Arc<dyn TallyReader> {
        self.past.tallies.clone()
    }
    fn why(&self, id: &str) -> Why {
        self.past.why(id)
    }
    fn traces(&self, most: usize, service: Option<&str>) -> Vec<TraceLine> {
        self.past.lines(most, service)
    }
    fn store(&self) -> Vec<FileHealth> {
        self.past.files.lock().unwrap().clone()
    }
    fn deploy(&self, mark: &DeployMark) -> Result<Acted, ActionError> {
        self.past.deploy(mark)
    }
}

/// A name of a database, and text of a statement, as an attacker would choose them: these come from clients.
pub(crate) const POOL_HOSTILE: &str = "\"><script>alert(2)</script>\u{1b}[31m";

fn pool() -> PoolView {
    let server = |name: &str, role: &str| PoolServer { name: name.into(), role: role.into(), ..PoolServer::default() };
    let group = PoolGroup {
        database: POOL_HOSTILE.into(),
        user: POOL_HOSTILE.into(),
        clients_waiting: 2,
        max_wait: Duration::from_millis(250),
        counts: PoolCounts { transactions: 50, ..PoolCounts::default() },
        ..PoolGroup::default()
    };
    let away = PoolServer { error: Some(POOL_HOSTILE.into()), ..server("b:5432", "drained") };
    PoolView {
        name: "main".into(),
        listen: vec!["127.0.0.1:6432".into()],
        servers: vec![server("a:5432", "primary"), away],
        primary: Some(0),
        groups: vec![group],
        ..PoolView::default()
    }
}

fn said(order: &Order) -> String {
    format!("{:?} by {}{}", order.reason, order.actor, if order.force { ", force" } else { "" })
}

/// Knows the service `shop`, gives leases of ten seconds, and takes two endpoints.
#[derive(Debug, Default)]
pub(crate) struct FakeRegister(Mutex<Vec<(SocketAddr, Wish)>>);

impl FakeRegister {
    pub(crate) fn wishes(&self) -> Vec<(SocketAddr, Wish)> {
        self.0.lock().unwrap().clone()
    }

    fn check(service: &str) -> Result<(), RegisterError> {
        if service == "shop" { Ok(()) } else { Err(RegisterError::NotTaken(service.to_owned())) }
    }
}

impl Registrar for FakeRegister {
    fn register(&self, service: &str, address: SocketAddr, wish: Wish) -> Result<Registered, RegisterError> {
        FakeRegister::check(service)?;
        let mut held = self.0.lock().unwrap();
        let is_new = held.iter().all(|(known, _)| *known != address);
        if is_new && held.len() == 2 {
            return Err(RegisterError::Full("two are enough".to_owned()));
        }
        if wish.lease.is_some_and(|lease| lease < Duration::from_secs(1)) {
            return Err(RegisterError::Refused("too short".to_owned()));
        }
        held.retain(|(known, _)| *known != address);
        held.push((address, wish));
        let lease = wish.lease.unwrap_or(Duration::from_secs(10));
        Ok(Registered { is_new, lease, renew_in: lease / 3 })
    }

    fn withdraw(&self, service: &str, address: SocketAddr) -> Result<bool, RegisterError> {
        FakeRegister::check(service)?;
        let mut held = self.0.lock().unwrap();
        let before = held.len();
        held.retain(|(known, _)| *known != address);
        Ok(held.len() < before)
    }
}

fn tokens() -> TokenStore {
    let token = |name: &str, text: &str, scope: &str| Token {
        name: name.into(),
        hash: TokenHash::of(text),
        scopes: vec![scope.into()],
    };
    TokenStore::new(vec![
        token("ops", OPERATOR_TOKEN, console::token::OPERATOR),
        token("shop", SHOP_TOKEN, "register:shop"),
        token("reader", READER_TOKEN, console::token::SERVICES_READ),
        token("ci", DEPLOY_TOKEN, console::token::DEPLOYS_WRITE),
    ])
    .unwrap()
}

pub(crate) fn settings(require_token: bool) -> AdminSettings {
    AdminSettings { hosts: vec!["keel.internal".into()], require_token, tokens: tokens() }
}

pub(crate) struct Admin {
    pub(crate) addr: SocketAddr,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) vitals: Vitals,
    pub(crate) server: AdminServer,
    pub(crate) trigger: DrainTrigger,
    pub(crate) serving: JoinHandle<()>,
}

impl Admin {
    pub(crate) async fn start(require_token: bool) -> Admin {
        Admin::start_with(settings(require_token), Limits::default()).await
    }

    pub(crate) async fn start_with(settings: AdminSettings, limits: Limits) -> Admin {
        let node = Arc::new(FakeNode::default());
        let vitals = Vitals::new(node.clone(), node.past.clock.clone());
        let server = AdminServer::new(vitals.clone(), settings, limits).unwrap();
        let (trigger, drain) = DrainTrigger::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(server.clone().serve(listener, drain));
        Admin { addr, node, vitals, server, trigger, serving }
    }
}

pub(crate) struct Api {
    pub(crate) addr: SocketAddr,
    #[allow(dead_code, reason = "tests of what applications tell the node look at it")]
    pub(crate) node: Arc<FakeNode>,
    pub(crate) server: ApiServer,
    pub(crate) register: Arc<FakeRegister>,
    pub(crate) trigger: DrainTrigger,
    pub(crate) serving: JoinHandle<()>,
}

impl Api {
    pub(crate) async fn start() -> Api {
        let node = Arc::new(FakeNode::default());
        let vitals = Vitals::new(node.clone(), node.past.clock.clone());
        let register = Arc::new(FakeRegister::default());
        let github_secret = Some(WebhookSecret::new(GITHUB_SECRET));
        let settings = ApiSettings { tokens: tokens(), github_secret };
        let server = ApiServer::new(vitals, register.clone(), settings, Limits::default());
        let (trigger, drain) = DrainTrigger::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(server.clone().serve(listener, drain));
        Api { addr, node, server, register, trigger, serving }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Answer {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let head = lines.map(|l| l.split_once(": ").unwrap()).map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
        Answer { status, head: head.collect(), body: body.to_owned() }
    }
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        self.head.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers(name).first().copied().unwrap_or_default()
    }
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it took too long")
}

/// Waits until `true`, letting other tasks run.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    in_time(async {
        let mut look = tokio::time::interval(Duration::from_millis(2));
        while !holds() {
            look.tick().await;
        }
    })
    .await;
}

pub(crate) async fn connect(addr: SocketAddr) -> TcpStream {
    in_time(TcpStream::connect(addr)).await.unwrap()
}

/// Everything until the server closes; a reset after the answer (unread request bytes) ends it as well.
pub(crate) async fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _reset_or_length = in_time(stream.read_to_end(&mut all)).await;
    all
}

pub(crate) async fn ask_raw(addr: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(addr).await;
    in_time(stream.write_all(bytes)).await.unwrap();
    Answer::parse(&read_to_end(stream).await)
}

/// Sends this head, asking to close, without a body.
pub(crate) async fn ask(addr: SocketAddr, head: &str) -> Answer {
    ask_raw(addr, format!("{head}Connection: close\r\n\r\n").as_bytes()).await
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n")).await
}

/// The token that changes need.
pub(crate) async fn csrf(addr: SocketAddr, headers: &str) -> String {
    let answer = ask(addr, &format!("GET /v1/csrf HTTP/1.1\r\n{headers}")).await.json();
    answer["token"].as_str().unwrap().to_owned()
}

pub(crate) fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
