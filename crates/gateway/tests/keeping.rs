//! What keeps a service going while endpoints fail: endpoints that are taken out and come back, requests that are parked
//! while nobody can be reached, the gate, tiers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gateway::inspect::EndpointState;
use policy::outlier::Forced;
use testkit::{Gate, Reply, ServingUpstream, Upstream, eventually};

use crate::support::{Running, SOON, Setup, code, get, ms, post, resilient};

/// Services that answer with their names, and fail while they are told to.
struct Fleet {
    upstreams: Vec<ServingUpstream>,
    failing: Vec<Arc<AtomicBool>>,
}

fn fleet(names: &[&'static str]) -> Fleet {
    let failing: Vec<_> = names.iter().map(|_| Arc::new(AtomicBool::new(false))).collect();
    let serve = |(name, fails): (&&'static str, &Arc<AtomicBool>)| {
        let (name, fails) = (*name, fails.clone());
        Upstream::serving(
            move |_| {
                if fails.load(Ordering::SeqCst) { Reply::status(503, "no") } else { Reply::ok(name) }
            },
        )
        .unwrap()
    };
    Fleet { upstreams: names.iter().zip(&failing).map(serve).collect(), failing }
}

impl Fleet {
    fn setup(&self) -> Setup {
        let addrs: Vec<_> = self.upstreams.iter().map(ServingUpstream::addr).collect();
        Setup::to_all(&addrs).service(resilient)
    }
}

fn state(running: &Running, i: usize) -> EndpointState {
    running.view().services[0].endpoints[i].state
}

#[test]
fn an_endpoint_that_fails_among_others_that_do_not_is_taken_out_and_comes_back() {
    let fleet = fleet(&["a", "b", "c"]);
    let running = fleet.setup().service(|s| s.outlier.base_ejection = ms(200)).start();
    let mut client = running.client();
    fleet.failing[0].store(true, Ordering::SeqCst);
    eventually(SOON, "the endpoint to be taken out", || {
        assert_eq!(client.get("/", SOON).unwrap().status, 200);
        (state(&running, 0) == EndpointState::Ejected).then_some(())
    });
    let view = &running.view().services[0].endpoints[0];
    assert!(view.reason.contains("503") || view.reason.contains("failed"), "{}", view.reason);
    fleet.failing[0].store(false, Ordering::SeqCst);
    eventually(SOON, "the endpoint to come back", || {
        assert_eq!(client.get("/", SOON).unwrap().status, 200);
        (state(&running, 0) == EndpointState::Healthy).then_some(())
    });
    assert!(running.metric("evenkeel_endpoint_ejections_total", &[]) >= 1.0);
}

#[test]
fn when_all_fail_alike_nobody_is_taken_out() {
    let fleet = fleet(&["a", "b", "c"]);
    let running = fleet.setup().start();
    let mut client = running.client();
    fleet.failing.iter().for_each(|f| f.store(true, Ordering::SeqCst));
    for _ in 0..60 {
        assert_eq!(client.get("/", SOON).unwrap().status, 503);
    }
    assert_eq!(running.metric("evenkeel_endpoint_ejections_total", &[]), 0.0);
}

#[test]
fn requests_are_parked_while_nobody_can_be_reached_whatever_their_method() {
    let fleet = fleet(&["a", "b"]);
    let running = fleet.setup().service(|s| s.park.max_wait = SOON).start();
    fleet.upstreams.iter().for_each(ServingUpstream::down);
    let mut clients: Vec<_> = (0..6).map(|_| running.client()).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.send(if i % 2 == 0 { get("/") } else { post("/", "x") }).unwrap();
    }
    eventually(SOON, "six parked requests", || (running.view().services[0].parked == 6).then_some(()));
    fleet.upstreams[1].up().unwrap();
    for client in &mut clients {
        assert_eq!(client.read_response(SOON).unwrap().text(), "b");
    }
    assert_eq!(running.view().services[0].parked, 0);
    fleet.upstreams[0].up().unwrap();
    drop(clients);
    running.at_rest();
}

#[test]
fn a_parked_request_does_not_wait_for_ever() {
    let refusing = Upstream::refusing().unwrap();
    let running = Setup::to(refusing.addr()).service(resilient).service(|s| s.park.max_wait = ms(150)).start();
    let answer = running.ask(get("/"));
    assert_eq!((answer.status, code(&answer).as_str()), (503, "upstream-unreachable"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    running.at_rest();
}

#[test]
fn no_more_requests_are_parked_than_may_be_and_who_leaves_makes_room() {
    let refusing = Upstream::refusing().unwrap();
    let running = Setup::to(refusing.addr())
        .service(resilient)
        .service(|s| (s.park.max_wait, s.park.max_requests) = (SOON, 1))
        .start();
    let mut first = running.client();
    first.send(get("/")).unwrap();
    eventually(SOON, "the first to be parked", || (running.view().services[0].parked == 1).then_some(()));
    assert_eq!(running.ask(get("/")).status, 503);
    drop(first);
    eventually(SOON, "the first to leave", || (running.view().services[0].parked == 0).then_some(()));
    running.at_rest();
}

/// A service that works on one request at a time and says how many it saw at once.
fn busy(gate: &Gate) -> (Arc<AtomicUsize>, ServingUpstream) {
    let peak = Arc::new(AtomicUsize::new(0));
    let (now, most, gate) = (AtomicUsize::new(0), peak.clone(), gate.clone());
    let upstream = Upstream::serving(move |_| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        assert!(gate.wait(SOON));
        now.fetch_sub(1, Ordering::SeqCst);
        Reply::ok("done")
    })
    .unwrap();
    (peak, upstream)
}

#[test]
fn the_gate_keeps_an_endpoint_at_its_limit_and_lets_in_who_waits() {
    let gate = Gate::new();
    let (peak, upstream) = busy(&gate);
    let running = Setup::to(upstream.addr())
        .workers(2)
        .service(|s| (s.gate.per_endpoint, s.gate.max_wait) = (Some(2), SOON))
        .start();
    let mut clients: Vec<_> = (0..8).map(|_| running.client()).collect();
    clients.iter_mut().for_each(|c| c.send(get("/")).unwrap());
    eventually(SOON, "six at the gate", || (running.view().services[0].queued == 6).then_some(()));
    eventually(SOON, "two at work", || (peak.load(Ordering::SeqCst) == 2).then_some(()));
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read_response(SOON).unwrap().text(), "done");
    }
    assert_eq!(peak.load(Ordering::SeqCst), 2);
    drop(clients);
    running.at_rest();
}

#[test]
fn who_waits_too_long_at_the_gate_or_finds_it_full_is_told_to_come_back() {
    let gate = Gate::new();
    let (_, upstream) = busy(&gate);
    let running = Setup::to(upstream.addr())
        .service(|s| (s.gate.per_endpoint, s.gate.max_wait, s.gate.max_queue) = (Some(1), ms(80), 1))
        .start();
    let mut first = running.client();
    first.send(get("/")).unwrap();
    eventually(SOON, "the first to be at work", || (upstream.requests() == 1).then_some(()));
    for _ in 0..2 {
        let answer = running.ask(post("/", "x"));
        assert_eq!((answer.status, code(&answer).as_str()), (503, "service-overloaded"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    gate.open();
    assert_eq!(first.read_response(SOON).unwrap().text(), "done");
    drop(first);
    running.at_rest();
}

#[test]
fn a_drained_endpoint_gets_no_request_and_a_resumed_one_does() {
    let fleet = fleet(&["a", "b"]);
    let running = fleet.setup().start();
    let name = fleet.upstreams[0].addr().to_string();
    let mut client = running.client();
    let mut answers = |n: usize| -> String { (0..n).map(|_| client.get("/", SOON).unwrap().text()).collect() };
    for forced in [Forced::Drained, Forced::Down] {
        running.gateway.force_endpoint("web", &name, Some(forced)).unwrap();
        assert_eq!(answers(4), "bbbb");
        running.gateway.force_endpoint("web", &name, None).unwrap();
        // It begins with a part of its share.
        eventually(SOON, "the resumed endpoint to answer", || answers(4).contains('a').then_some(()));
    }
    running.gateway.force_endpoint("web", &fleet.upstreams[1].addr().to_string(), Some(Forced::Drained)).unwrap();
    running.gateway.force_endpoint("web", &name, Some(Forced::Drained)).unwrap();
    let answer = running.ask(get("/"));
    assert_eq!((answer.status, code(&answer).as_str()), (503, "upstream-unreachable"));
}

/// Two tiers of two.
fn tiers(delay: Duration) -> (Fleet, Running) {
    let fleet = fleet(&["p", "p", "s", "s"]);
    let running = fleet
        .setup()
        .service(|s| {
            s.endpoints[2].tier = 1;
            s.endpoints[3].tier = 1;
            s.failover.fail_back_delay = delay;
            s.outlier.base_ejection = ms(100);
        })
        .start();
    (fleet, running)
}

#[test]
fn the_next_tier_takes_over_when_the_first_is_gone_and_gives_back_after_a_while() {
    let (fleet, running) = tiers(ms(300));
    let mut client = running.client();
    let mut ask = || client.get("/", SOON).unwrap().text();
    assert_eq!((0..8).map(|_| ask()).collect::<String>(), "pppppppp");
    fleet.upstreams[..2].iter().for_each(ServingUpstream::down);
    for _ in 0..30 {
        assert_eq!(ask(), "s");
    }
    fleet.upstreams[..2].iter().for_each(|u| u.up().unwrap());
    eventually(SOON, "the first tier to be back", || (ask() == "p").then_some(()));
    drop(client);
    running.at_rest();
}

#[test]
fn an_operator_moves_a_service_to_another_tier_and_back() {
    let (_fleet, running) = tiers(Duration::ZERO);
    let mut client = running.client();
    let mut ask = || client.get("/", SOON).unwrap().text();
    running.gateway.force_tier("web", Some(1)).unwrap();
    assert_eq!((0..6).map(|_| ask()).collect::<String>(), "ssssss");
    assert_eq!(running.view().services[0].forced_tier, Some(1));
    running.gateway.force_tier("web", None).unwrap();
    eventually(SOON, "the first tier to be back", || (ask() == "p").then_some(()));
    assert!(running.gateway.force_tier("web", Some(7)).is_err());
    assert!(running.gateway.force_tier("shop", Some(0)).is_err());
    assert!(running.gateway.force_endpoint("web", "127.0.0.1:1", None).is_err());
}
