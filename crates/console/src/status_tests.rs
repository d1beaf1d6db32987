//! Tests of the summary and of the window's arithmetic, on a clock that stands until it is moved.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use kernel::journal::{Boot, Journal, JournalReader};
use kernel::metrics::Latency;
use kernel::store::FileHealth;
use kernel::tally::TallyReader;
use kernel::trace::{TraceLine, Why};
use kernel::{Clock, Entropy};

use super::*;
use crate::view::{Acted, ActionError, ConfigView, DeployMark, EndpointAction, NoTallies, Node, Order, ServiceAction};
use crate::vitals::{SAMPLE_EVERY, Vitals};

struct Fixed(Mutex<NodeView>);

impl Node for Fixed {
    fn view(&self) -> NodeView {
        self.0.lock().unwrap().clone()
    }
    fn ready(&self) -> Readiness {
        Readiness::yes()
    }
    fn metrics(&self, _accept: &str) -> (String, String) {
        (String::new(), String::new())
    }
    fn reload(&self) -> Result<String, Vec<Finding>> {
        Ok(String::new())
    }
    fn endpoint_action(&self, _: &str, _: &str, _: EndpointAction, _: &Order) -> Result<Acted, ActionError> {
        Ok(Acted::default())
    }
    fn service_action(&self, _: &str, _: ServiceAction, _: &Order) -> Result<Acted, ActionError> {
        Ok(Acted::default())
    }
    fn journal(&self) -> Arc<dyn JournalReader> {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        Arc::new(Journal::unkept(clock, Boot::new(&mut Entropy::from_seed(1))))
    }
    fn journal_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
    fn tallies(&self) -> Arc<dyn TallyReader> {
        Arc::new(NoTallies)
    }
    fn why(&self, _: &str) -> Why {
        Why::NotKept { oldest_unix_ms: None, sample_one_in: 0, slow_ms: 0 }
    }
    fn traces(&self, _: usize, _: Option<&str>) -> Vec<TraceLine> {
        Vec::new()
    }
    fn store(&self) -> Vec<FileHealth> {
        Vec::new()
    }
    fn deploy(&self, _: &DeployMark) -> Result<Acted, ActionError> {
        Ok(Acted::default())
    }
}

fn traffic(name: &str, good: u64, failed: u64, each_us: u64) -> TrafficView {
    let (latency, mut sum) = (Latency::default(), kernel::metrics::LatencySum::default());
    (0..good + failed).for_each(|_| latency.observe(each_us));
    latency.add_to(&mut sum);
    TrafficView { name: name.into(), by_class: [0, good, 0, 0, failed, 0], latency: sum, in_flight: 1 }
}

fn endpoint(name: &str, state: EndpointState, reason: &str) -> EndpointView {
    EndpointView { traffic: traffic(name, 0, 0, 0), state, reason: reason.into(), ..EndpointView::default() }
}

fn service(name: &str, states: &[EndpointState]) -> ServiceView {
    let endpoints = states.iter().enumerate();
    let endpoints = endpoints.map(|(at, state)| endpoint(&format!("10.0.0.1:{at}"), *state, "connection refused"));
    ServiceView { traffic: traffic(name, 0, 0, 0), endpoints: endpoints.collect(), ..ServiceView::default() }
}

struct Bench {
    node: Arc<Fixed>,
    clock: Clock,
    vitals: Vitals,
}

fn bench(services: Vec<ServiceView>) -> Bench {
    let node = Arc::new(Fixed(Mutex::new(NodeView { services, ..NodeView::default() })));
    let clock = Clock::manual(SystemTime::UNIX_EPOCH);
    let vitals = Vitals::new(node.clone(), clock.clone());
    Bench { node, clock, vitals }
}

impl Bench {
    /// Sets the totals of route `r`.
    fn route(&self, good: u64, failed: u64, each_us: u64) {
        self.node.0.lock().unwrap().routes = vec![traffic("r", good, failed, each_us)];
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.node.0.lock().unwrap().uptime += time;
    }

    fn status(&self) -> Status {
        self.vitals.status(Readiness::yes())
    }
}

use EndpointState::{Healthy, Unhealthy};

#[test]
fn a_calm_minute_reads_like_this() {
    let bench = bench(vec![service("shop", &[Healthy; 3])]);
    bench.route(0, 0, 0);
    for second in 0..12 {
        bench.vitals.sample();
        bench.pass(SAMPLE_EVERY);
        bench.route((second + 1) * 2560, 0, 900);
    }
    bench.route(30_714, 6, 900);
    let status = bench.status();
    assert_eq!(
        status.summary,
        "All 3 endpoints of 1 service are healthy; 512 requests/s, 99.98 % successful in the last minute."
    );
    assert_eq!((status.level, status.window_seconds), (Level::Ok, 60.0));
    assert_eq!(status.traffic.requests_total, 30_720);
    assert_eq!(status.traffic.failed_total, 6);
    assert_eq!(status.routes[0].latency_p50_ms, Some(0.75));
}

#[test]
fn the_window_forgets_what_is_older_than_a_minute() {
    let bench = bench(vec![service("shop", &[Healthy])]);
    bench.route(0, 0, 0);
    bench.vitals.sample();
    bench.pass(SAMPLE_EVERY);
    bench.route(0, 1000, 25_000_000);
    assert_eq!(bench.status().level, Level::Degraded);
    // The failures end; each sample moves the window on.
    for _ in 0..13 {
        bench.vitals.sample();
        bench.pass(SAMPLE_EVERY);
    }
    let status = bench.status();
    assert_eq!((status.level, status.traffic.success_ratio, status.traffic.latency_p99_ms), (Level::Ok, None, None));
    assert_eq!(status.summary, "The only endpoint of shop is healthy; no requests in the last minute.");
    assert_eq!(status.traffic.failed_total, 1000);
}

#[test]
fn before_the_first_sample_the_window_is_the_uptime() {
    let bench = bench(Vec::new());
    bench.route(20, 0, 900);
    bench.pass(Duration::from_secs(4));
    let status = bench.status();
    assert_eq!(status.summary, "No service is configured; 5.0 requests/s, 100 % successful in the last 4 seconds.");
    assert!(status.history.is_empty());
}

#[test]
fn counters_that_begin_anew_and_new_routes_are_counted_from_zero() {
    let bench = bench(Vec::new());
    bench.route(5000, 10, 900);
    bench.vitals.sample();
    bench.pass(Duration::from_secs(10));
    bench.node.0.lock().unwrap().routes = vec![traffic("r", 100, 0, 900), traffic("new", 50, 0, 900)];
    let status = bench.status();
    assert_eq!(status.routes[0].requests_per_second, 10.0);
    assert_eq!(status.routes[1].requests_per_second, 5.0);
}

#[test]
fn history_has_a_piece_for_each_pair_of_samples() {
    let bench = bench(Vec::new());
    for (good, failed) in [(0, 0), (50, 0), (50, 50)] {
        bench.route(good, failed, 900);
        bench.vitals.sample();
        bench.pass(SAMPLE_EVERY);
    }
    bench.route(60, 50, 900);
    let pieces: Vec<_> = bench.status().history.iter().map(|i| (i.requests_per_second, i.failed_per_second)).collect();
    assert_eq!(pieces, [(10.0, 0.0), (10.0, 10.0), (2.0, 0.0)]);
}

#[test]
fn the_ring_is_bounded_even_if_time_stands_still() {
    let bench = bench(Vec::new());
    (0..1000).for_each(|_| bench.vitals.sample());
    bench.pass(SAMPLE_EVERY);
    assert!(bench.status().history.len() <= 13);
}

#[test]
fn trouble_is_named() {
    let sentence = |services| bench(services).status();
    let one = sentence(vec![service("shop", &[Healthy, Unhealthy]), service("images", &[Healthy])]);
    assert_eq!(one.level, Level::Degraded);
    assert!(
        one.summary.starts_with("1 of 3 endpoints is unhealthy: 10.0.0.1:1 of shop (connection refused);"),
        "{}",
        one.summary
    );
    let many = sentence(vec![service("shop", &[Healthy, Unhealthy, Unhealthy, Unhealthy, Unhealthy])]);
    assert!(
        many.summary.contains("4 of 5 endpoints are unhealthy:") && many.summary.contains(", 2 more;"),
        "{}",
        many.summary
    );
    let lost = sentence(vec![service("images", &[Healthy]), service("shop", &[Unhealthy, Unhealthy])]);
    assert_eq!(lost.level, Level::Down);
    assert!(lost.summary.starts_with("shop has no healthy endpoint (connection refused);"), "{}", lost.summary);
}

#[test]
fn a_refused_reload_and_a_stop_are_said() {
    let bench = bench(vec![service("shop", &[Healthy])]);
    let refused = ReloadView { applied: false, ..ReloadView::default() };
    bench.node.0.lock().unwrap().config = ConfigView { last_reload: Some(refused), ..ConfigView::default() };
    let status = bench.vitals.status(Readiness::no("stopping"));
    assert_eq!(status.level, Level::Degraded);
    assert_eq!(
        status.notices,
        [
            "This node takes no new work: stopping.",
            "The last reload was refused: the configuration from before stays in force."
        ]
    );
}

#[test]
fn what_an_operator_drained_is_no_trouble_and_what_is_down_is() {
    use EndpointState::{Down, Drained, Draining, Ejected, Suspect};
    let status = |states: &[EndpointState]| bench(vec![service("shop", states)]).status();
    let calm = status(&[Healthy, Drained, Draining]);
    assert_eq!(calm.level, Level::Ok);
    assert!(calm.summary.starts_with("1 of 3 endpoints are healthy, 2 are drained;"), "{}", calm.summary);
    for states in [[Healthy, Down], [Healthy, Ejected], [Healthy, Suspect]] {
        let degraded = status(&states);
        assert_eq!(degraded.level, Level::Degraded, "{states:?}");
        assert!(degraded.summary.starts_with("1 of 2 endpoints is not healthy:"), "{}", degraded.summary);
    }
    for states in [[Drained, Draining], [Down, Drained], [Ejected, Unhealthy]] {
        let down = status(&states);
        assert_eq!(down.level, Level::Down, "{states:?}");
        assert!(down.summary.starts_with("shop has no healthy endpoint ("), "{}", down.summary);
    }
}

#[test]
fn budget_second_tries_tiers_and_what_the_node_has_to_say_are_told_in_words() {
    let mut shop = service("shop", &[Healthy, Healthy]);
    shop.endpoints[1].tier = 1;
    (shop.active_tier, shop.forced_tier, shop.tier_reason) = (1, Some(1), "ops chose it: a new rack".into());
    shop.budget = BudgetView { share: 0.2, spent: 12, allowed: 340, yields: Some(0.7) };
    shop.second_tries = vec![("reset".into(), 2), ("connect".into(), 10), ("stale".into(), 0)];
    (shop.parked, shop.held) = (3, 1);
    let bench = bench(vec![shop]);
    bench.node.0.lock().unwrap().notices = vec!["Nothing is\u{1b}[31m kept.".into()];
    let status = bench.status();
    assert_eq!(status.notices, ["shop uses tier 1: ops chose it: a new rack.", "Nothing is [31m kept."]);
    let shop = &status.services[0];
    let expected = "12 of 340 spent, at most 20 % of requests, each brought 0.70 successes";
    assert_eq!(shop.budget_in_words().as_deref(), Some(expected));
    assert_eq!(shop.second_tries_in_words(), "10 connect, 2 reset");
    assert_eq!(shop.waiting_in_words(), "3 parked, 1 held");
    assert_eq!(serde_json::to_value(shop).unwrap()["budget"]["yield"], 0.7);
}
