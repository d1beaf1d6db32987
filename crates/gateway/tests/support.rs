//! A gateway on port 0 for one test: a plan of sane, roomy limits that the test changes where it wants, workers, a
//! control runtime, and an end in order. Dropping [`Running`] cuts what is open and waits for the workers, so that a
//! worker that does not end fails the test that left it behind.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use gateway::plan::{EdgePlan, EndpointPlan, HeaderEdits, Plan, RouteAction, RoutePlan, ServicePlan, TracePlan};
use gateway::{Gateway, GatewayView};
use kernel::journal::Boot;
use kernel::metrics::{Collect, Family, Labels, LatencySum, Sink};
use kernel::{Clock, DrainPhase, DrainTrigger, Journal};
use policy::balance::Balance;
use policy::failover::FailoverRule;
use policy::gate::GateRule;
use policy::hold::HoldRule;
use policy::net::CidrSet;
use policy::outlier::OutlierRule;
use policy::park::ParkRule;
use policy::retry::RetryRule;
use policy::route::{RouteMatch, RouteTable};
use policy::split::WeightedSplit;
use testkit::{RawClient, RawResponse, eventually};
use tokio::runtime::Runtime;

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Milliseconds.
pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A plan in the making: routes with what they match, and the rest.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Each route with what it matches, in order.
    pub(crate) routes: Vec<(RouteMatch, RoutePlan)>,
    /// The services.
    pub(crate) services: Vec<ServicePlan>,
    /// Limits on clients.
    pub(crate) edge: EdgePlan,
    /// Peers that are believed.
    pub(crate) trusted: CidrSet,
    workers: usize,
}

/// A gateway that runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// The part under test.
    pub(crate) gateway: Arc<Gateway>,
    /// What it tells.
    pub(crate) journal: Journal,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// Stops it.
    pub(crate) trigger: DrainTrigger,
    _control: Runtime,
}

/// A service with these endpoints.
pub(crate) fn service(name: &str, endpoints: &[SocketAddr]) -> ServicePlan {
    ServicePlan {
        name: name.to_owned(),
        endpoints: endpoints.iter().map(|a| endpoint(*a)).collect(),
        balance: Balance::RoundRobin,
        health: None,
        connect_timeout: SOON,
        timeout: SOON,
        body_idle_timeout: SOON,
        max_connections: 1024,
        max_idle: 64,
        idle_timeout: Duration::from_secs(60),
        host: None,
        // Tests of what one attempt does see one attempt, as it is; those of second tries ask for them (`resilient`).
        outlier: OutlierRule { enabled: false, slow_start: Duration::ZERO, ..OutlierRule::default() },
        retry: RetryRule { attempts: 1, ..RetryRule::default() },
        hold: HoldRule { max_body: 0, ..HoldRule::default() },
        park: ParkRule { max_wait: Duration::ZERO, ..ParkRule::default() },
        gate: GateRule::default(),
        failover: FailoverRule::default(),
        fail_open: true,
    }
}

/// The same with everything that is on by default.
pub(crate) fn resilient(service: &mut ServicePlan) {
    (service.retry, service.park) = (RetryRule::default(), ParkRule::default());
    (service.outlier, service.hold) = (OutlierRule::default(), HoldRule::default());
}

/// An endpoint at this address, named after it.
pub(crate) fn endpoint(addr: SocketAddr) -> EndpointPlan {
    EndpointPlan { name: addr.to_string(), addresses: vec![addr], weight: 1, tier: 0 }
}

/// A route that does nothing but `action`.
pub(crate) fn route(name: &str, action: RouteAction) -> RoutePlan {
    RoutePlan {
        name: name.to_owned(),
        action,
        allow: CidrSet::default(),
        deny: CidrSet::default(),
        cors: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        timeout: None,
        max_body: None,
        error_pages: Vec::new(),
    }
}

/// Forwarding to service number `target`.
pub(crate) fn forward(target: usize) -> RouteAction {
    RouteAction::Forward { targets: vec![target], split: WeightedSplit::new(&[1]).unwrap(), rewrite: None }
}

/// Limits that no test meets by accident.
pub(crate) fn roomy() -> EdgePlan {
    EdgePlan {
        header_timeout: SOON,
        body_idle_timeout: SOON,
        idle_timeout: SOON,
        tunnel_idle_timeout: SOON,
        min_rate: 0,
        min_rate_grace: SOON,
        max_request_line: 8 * 1024,
        max_uri: 4 * 1024,
        max_header_bytes: 16 * 1024,
        max_headers: 64,
        max_body: 16 * 1024 * 1024,
        max_connections: 1024,
        max_connections_per_client: 1024,
        deadline_header: None,
        trace: TracePlan { on: true, slow: SOON, one_in: 1 },
    }
}

impl Setup {
    /// One worker, one route for everything, one service with this endpoint.
    pub(crate) fn to(upstream: SocketAddr) -> Setup {
        Setup::to_all(&[upstream])
    }

    /// The same with several endpoints.
    pub(crate) fn to_all(upstreams: &[SocketAddr]) -> Setup {
        Setup {
            routes: vec![(RouteMatch::default(), route("all", forward(0)))],
            services: vec![service("web", upstreams)],
            edge: roomy(),
            trusted: CidrSet::default(),
            workers: 1,
        }
    }

    /// So many workers.
    pub(crate) fn workers(mut self, workers: usize) -> Setup {
        self.workers = workers;
        self
    }

    /// With other limits on clients.
    pub(crate) fn edge(mut self, change: impl FnOnce(&mut EdgePlan)) -> Setup {
        change(&mut self.edge);
        self
    }

    /// With another first service.
    pub(crate) fn service(mut self, change: impl FnOnce(&mut ServicePlan)) -> Setup {
        change(&mut self.services[0]);
        self
    }

    /// With another first route.
    pub(crate) fn route(mut self, change: impl FnOnce(&mut RoutePlan)) -> Setup {
        change(&mut self.routes[0].1);
        self
    }

    /// With these routes instead.
    pub(crate) fn routes(mut self, routes: Vec<(RouteMatch, RoutePlan)>) -> Setup {
        self.routes = routes;
        self
    }

    /// With these peers believed.
    pub(crate) fn trusting(mut self, networks: &[&str]) -> Setup {
        self.trusted = cidrs(networks);
        self
    }

    /// The plan.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            table: RouteTable::new(self.routes.iter().map(|(m, _)| m.clone()).collect()),
            routes: self.routes.iter().map(|(_, r)| r.clone()).collect(),
            services: self.services.clone(),
            edge: self.edge.clone(),
            trusted_proxies: self.trusted.clone(),
            access_log: None,
            forced: gateway::plan::ForcedPlan::default(),
        }
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (trigger, drain) = DrainTrigger::new();
        let handle = control.handle().clone();
        // The listener here is dropped at the end: the workers' own handles keep it open, and close it.
        let journal = Journal::unkept(Clock::real(), Boot::from_text("test"));
        let gateway =
            Gateway::start(self.plan(), &[listener], self.workers, Clock::real(), &drain, handle, journal.clone());
        let gateway = gateway.unwrap();
        Running { gateway: Arc::new(gateway), journal, addr, trigger, _control: control }
    }
}

/// These networks.
pub(crate) fn cidrs(networks: &[&str]) -> CidrSet {
    networks.iter().map(|n| n.parse().unwrap()).collect()
}

impl Running {
    /// A connection to it.
    pub(crate) fn client(&self) -> RawClient {
        RawClient::connect(self.addr).unwrap()
    }

    /// Sends `bytes` on a connection of their own and reads the answer to a GET.
    #[track_caller]
    pub(crate) fn ask(&self, bytes: impl AsRef<[u8]>) -> RawResponse {
        let mut client = self.client();
        client.send(bytes).unwrap();
        client.read_response(SOON).unwrap()
    }

    /// How things are.
    pub(crate) fn view(&self) -> GatewayView {
        self.gateway.view()
    }

    /// The value of the metric `name`, summed over all samples that have these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut found = Find { name, labels, here: false, sum: None };
        self.gateway.collect(&mut found);
        found.sum.unwrap_or_else(|| panic!("there is no metric {name} with {labels:?}"))
    }

    /// Errors that were counted with this code.
    pub(crate) fn errors(&self, code: &str) -> u64 {
        self.metric("evenkeel_gateway_errors_total", &[("code", code)]) as u64
    }

    /// Waits until so many errors were counted with this code, which happens just behind the answer.
    #[track_caller]
    pub(crate) fn counted(&self, code: &str, n: u64) {
        let reached = eventually(SOON, &format!("{n} errors {code}"), || Some(self.errors(code)).filter(|e| *e >= n));
        assert_eq!(reached, n, "{code}");
    }

    /// Waits until nothing is under way and nothing is held that is not idle: whatever was counted up was counted down.
    #[track_caller]
    pub(crate) fn at_rest(&self) {
        let left = || {
            let view = self.view();
            let endpoints = || view.services.iter().flat_map(|s| &s.endpoints);
            let busy = endpoints().map(|e| e.connections - e.idle.min(e.connections)).sum::<u64>();
            let services = view.services.iter().map(|s| s.traffic.in_flight).sum::<u64>();
            let attempts = endpoints().map(|e| e.traffic.in_flight).sum::<u64>();
            let routes = view.routes.iter().map(|r| r.in_flight).sum::<u64>();
            let starving = self.metric("evenkeel_endpoint_connections_starving", &[]) as u64;
            [busy, services, attempts, routes, view.connections, starving]
        };
        let rest = testkit::poll_until(SOON, || (left() == [0; 6]).then_some(()));
        assert!(rest.is_some(), "busy, services, attempts, routes, clients, starving: {:?}", left());
    }

    /// Tells it to stop and waits until every worker has ended.
    #[track_caller]
    pub(crate) fn stop(&self, phase: DrainPhase) {
        self.trigger.advance(phase);
        let gateway = self.gateway.clone();
        let joined = std::thread::spawn(move || gateway.join());
        eventually(SOON, "the workers to end", || joined.is_finished().then_some(()));
        joined.join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.trigger.advance(DrainPhase::Closed);
        if !std::thread::panicking() {
            self.stop(DrainPhase::Closed);
        }
    }
}

struct Find<'a> {
    name: &'a str,
    labels: &'a [(&'a str, &'a str)],
    here: bool,
    sum: Option<f64>,
}

impl Sink for Find<'_> {
    fn family(&mut self, family: Family) {
        self.here = family.name == self.name;
    }

    fn sample(&mut self, labels: Labels<'_>, value: f64) {
        if self.here && self.labels.iter().all(|l| labels.contains(l)) {
            *self.sum.get_or_insert(0.0) += value;
        }
    }

    fn latency(&mut self, labels: Labels<'_>, sum: &LatencySum) {
        self.sample(labels, sum.count() as f64);
    }
}

/// The stable code of a problem document.
#[track_caller]
pub(crate) fn code(response: &RawResponse) -> String {
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{}", response.text());
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(json["status"], response.status, "{json}");
    assert_eq!(json["type"], format!("urn:evenkeel:problem:{}", json["code"].as_str().unwrap()));
    json["code"].as_str().unwrap().to_owned()
}

/// A GET without anything but its Host.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

/// A POST of `body` with its length.
pub(crate) fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Bytes that repeat late and differ everywhere, so that a lost, doubled or moved piece shows.
pub(crate) fn noise(n: usize) -> Vec<u8> {
    let mut entropy = kernel::Entropy::from_seed(n as u64);
    std::iter::repeat_with(|| entropy.next_u64().to_le_bytes()).flatten().take(n).collect()
}
