//! Services with several endpoints: who gets a request, where it goes when an endpoint cannot be reached, and what
//! active checks change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use gateway::plan::{HealthKind, HealthPlan};
use policy::balance::Balance;
use testkit::{Gate, Reply, ServingUpstream, Upstream, eventually};

use crate::support::{Running, SOON, Setup, code, endpoint, get, ms, post};

fn three() -> Vec<ServingUpstream> {
    ["a", "b", "c"].map(|name| Upstream::serving(move |_| Reply::ok(name)).unwrap()).into()
}

fn all(upstreams: &[ServingUpstream]) -> Vec<std::net::SocketAddr> {
    upstreams.iter().map(ServingUpstream::addr).collect()
}

fn chunked(target: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
}

#[test]
fn endpoints_take_turns() {
    let upstreams = three();
    let running = Setup::to_all(&all(&upstreams)).start();
    let mut client = running.client();
    let order: String = (0..9).map(|_| client.get("/", SOON).unwrap().text()).collect();
    assert_eq!(order, "abcabcabc");
}

#[test]
fn the_least_busy_endpoint_is_chosen() {
    let gate = Gate::new();
    let held = gate.clone();
    let busy = Upstream::serving(move |_| Reply::ok("busy").wait(&held)).unwrap();
    let upstreams = three();
    let mut addrs = all(&upstreams);
    addrs.insert(0, busy.addr());
    let running = Setup::to_all(&addrs).service(|s| s.balance = Balance::LeastOutstanding).start();
    let mut first = running.client();
    let mut client = running.client();
    first.send(get("/")).unwrap();
    eventually(SOON, "the request that takes long", || (busy.requests() == 1).then_some(()));
    // Who of the others gets how many depends on their speed, which is the machine's.
    let order: String = (0..30).map(|_| client.get("/", SOON).unwrap().text()).collect();
    assert!(!order.contains("busy") && ["a", "b", "c"].iter().all(|name| order.contains(name)), "{order}");
    gate.open();
    assert_eq!(first.read_response(SOON).unwrap().text(), "busy");
    let next: Vec<String> = (0..4).map(|_| client.get("/", SOON).unwrap().text()).collect();
    assert!(next.contains(&"busy".to_owned()), "{next:?}");
}

#[test]
fn a_refused_connection_goes_to_the_next_endpoint_at_once_whatever_the_method() {
    let (refusing, upstream) = (Upstream::refusing().unwrap(), Upstream::serving(|r| Reply::ok(r.text())).unwrap());
    let running = Setup::to_all(&[refusing.addr(), upstream.addr()]).start();
    let mut client = running.client();
    for n in 1..=2 {
        for request in [get("/"), post("/", "abc"), chunked("/"), post("/", &"x".repeat(50_000))] {
            client.send(&request).unwrap();
            let answer = client.read_response(SOON).unwrap();
            assert_eq!((answer.status, answer.closes()), (200, false), "{n}: {}", answer.text());
        }
    }
    assert_eq!((upstream.requests(), upstream.problems().len()), (8, 0));
    // Every second request tried the other one first, and is one request all the same.
    let service = || running.view().services.remove(0);
    assert_eq!(service().endpoints[0].connect_failures, 4);
    eventually(SOON, "the requests to be counted", || (service().traffic.total() == 8).then_some(()));
    assert_eq!(service().traffic.failed(), 0);
}

#[test]
fn an_endpoint_that_does_not_take_connections_is_left_in_time() {
    let (deaf, upstream) = (Upstream::deaf().unwrap(), Upstream::serving(|r| Reply::ok(r.text())).unwrap());
    let running = Setup::to_all(&[deaf.addr(), upstream.addr()]).service(|s| s.connect_timeout = ms(100)).start();
    for request in [get("/"), get("/"), post("/", "abc"), chunked("/")] {
        assert_eq!(running.ask(request).status, 200);
    }
    assert_eq!(running.view().services[0].endpoints[0].connect_failures, 2);
    // With nobody else, that is the answer; and if the request's time is up first, that is.
    for (connect, total, status, expected) in
        [(100, 5000, 503, "upstream-unreachable"), (5000, 100, 504, "upstream-timeout")]
    {
        let running =
            Setup::to(deaf.addr()).service(|s| (s.connect_timeout, s.timeout) = (ms(connect), ms(total))).start();
        let answer = running.ask(get("/"));
        assert_eq!((answer.status, code(&answer).as_str()), (status, expected));
    }
}

#[test]
fn addresses_of_one_endpoint_are_tried_in_order() {
    let (refusing, upstream) = (Upstream::refusing().unwrap(), Upstream::serving(|_| Reply::ok("ok")).unwrap());
    let mut both = endpoint(refusing.addr());
    both.addresses.push(upstream.addr());
    let running = Setup::to(refusing.addr()).service(|s| s.endpoints = vec![both]).start();
    assert_eq!(running.ask(get("/")).status, 200);
    assert_eq!(running.view().services[0].endpoints[0].connect_failures, 0);
}

#[test]
fn when_none_can_be_reached_the_client_is_told_to_come_back() {
    let refusing: Vec<_> = (0..3).map(|_| Upstream::refusing().unwrap()).collect();
    let addrs: Vec<_> = refusing.iter().map(|r| r.addr()).collect();
    let running = Setup::to_all(&addrs).start();
    let mut client = running.client();
    for request in [get("/"), post("/", "abc")] {
        client.send(&request).unwrap();
        let answer = client.read_response(SOON).unwrap();
        assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (503, "upstream-unreachable", false));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // A body that is not read ends the connection.
    client.send(chunked("/")).unwrap();
    assert!(client.read_response(SOON).unwrap().closes());
    eventually(SOON, "the requests to be counted", || {
        (running.view().services[0].traffic.by_class[4] == 3).then_some(())
    });
    let failures: Vec<u64> = running.view().services[0].endpoints.iter().map(|e| e.connect_failures).collect();
    assert_eq!(failures, [3, 3, 3]);
    drop(client);
    running.at_rest();
}

/// A service of two whose first endpoint answers checks with a status that the test sets.
struct Checked {
    status: Arc<AtomicU16>,
    upstreams: [ServingUpstream; 2],
    running: Running,
}

fn checked(change: impl FnOnce(&mut HealthPlan)) -> Checked {
    let status = Arc::new(AtomicU16::new(200));
    let answered = status.clone();
    let first = Upstream::serving(move |r| match r.path() {
        "/health" => Reply::status(answered.load(Ordering::Relaxed), "").close(),
        _ => Reply::ok("first"),
    })
    .unwrap();
    let second = Upstream::serving(|r| match r.path() {
        "/health" => Reply::status(200, "").close(),
        _ => Reply::ok("second"),
    })
    .unwrap();
    let mut plan = HealthPlan {
        kind: asks(None, (200, 299)),
        interval: ms(30),
        fast_interval: ms(30),
        timeout: SOON,
        fall: 2,
        rise: 2,
    };
    change(&mut plan);
    let running = Setup::to_all(&[first.addr(), second.addr()]).service(|s| s.health = Some(plan)).start();
    Checked { status, upstreams: [first, second], running }
}

/// A check by GET.
fn asks(host: Option<&str>, expect: (u16, u16)) -> HealthKind {
    HealthKind::Http { path: "/health".to_owned(), host: host.map(str::to_owned), expect: vec![expect] }
}

impl Checked {
    fn until(&self, healthy: bool) {
        let what = if healthy { "the endpoint to rise" } else { "the endpoint to fall" };
        let state = || self.running.view().services[0].endpoints[0].healthy;
        eventually(SOON, what, || (state() == healthy).then_some(()));
    }

    /// Who answers ten requests.
    fn answers(&self) -> (usize, usize) {
        let mut client = self.running.client();
        let texts: Vec<String> = (0..10).map(|_| client.get("/", SOON).unwrap().text()).collect();
        (texts.iter().filter(|t| *t == "first").count(), texts.iter().filter(|t| *t == "second").count())
    }
}

#[test]
fn checks_take_an_endpoint_out_and_back_in() {
    let checked = checked(|_| {});
    assert_eq!(checked.answers(), (5, 5));
    for _ in 0..2 {
        checked.status.store(500, Ordering::Relaxed);
        checked.until(false);
        assert_eq!(checked.answers(), (0, 10));
        let reason = checked.running.view().services[0].endpoints[0].reason.clone();
        assert!(reason.contains("500"), "{reason}");
        assert_eq!(checked.running.metric("evenkeel_endpoint_healthy", &[]), 1.0);
        checked.status.store(204, Ordering::Relaxed);
        checked.until(true);
        assert_eq!(checked.answers(), (5, 5));
    }
    let check = checked.upstreams[0].received().into_iter().find(|r| r.path() == "/health").unwrap();
    assert_eq!(check.header("host"), Some(checked.upstreams[0].addr().to_string().as_str()));
}

/// The checks may be wrong about all of them, and there is nothing to lose by asking.
#[test]
fn when_every_endpoint_is_down_all_are_asked() {
    let checked = checked(|h| h.kind = asks(None, (418, 418)));
    let down = || checked.running.view().services[0].endpoints.iter().all(|e| !e.healthy);
    eventually(SOON, "both to fall", || down().then_some(()));
    assert_eq!(checked.answers(), (5, 5));
}

#[test]
fn a_check_that_is_not_answered_has_failed() {
    let checked = checked(|h| (h.timeout, h.kind) = (ms(80), asks(Some("check.test"), (200, 299))));
    checked.until(true);
    checked.upstreams[0].down();
    checked.until(false);
    assert_eq!(checked.answers(), (0, 10));
    checked.upstreams[0].up().unwrap();
    checked.until(true);
    let check = checked.upstreams[0].received().into_iter().find(|r| r.path() == "/health").unwrap();
    assert_eq!(check.header("host"), Some("check.test"));
}

/// An endpoint that goes down between two checks costs no request: its connections are refused or stale.
#[test]
fn an_endpoint_that_dies_costs_no_request_that_may_be_repeated() {
    let upstreams = three();
    let running = Setup::to_all(&all(&upstreams)).start();
    let mut client = running.client();
    for n in 0..30 {
        if n == 10 {
            upstreams[1].down();
        }
        assert_eq!(client.get("/", SOON).unwrap().status, 200, "{n}");
    }
    assert!(upstreams[1].requests() < 5);
}
