//! Plans that change and processes that stop, both under traffic: nothing that was accepted is lost.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use gateway::plan::RouteAction;
use kernel::DrainPhase;
use policy::route::RouteMatch;
use testkit::{
    Gate, Load, LoadOptions, LoadRequest, RawClient, Reply, Resend, Script, ServingUpstream, Upstream, WireError,
    eventually,
};

use crate::support::{Running, SOON, Setup, forward, get, ms, post, route, service};

fn echoes(n: usize) -> Vec<ServingUpstream> {
    (0..n).map(|_| Upstream::serving(|r| Reply::ok(r.body.clone())).unwrap()).collect()
}

#[test]
fn a_hundred_plans_under_load_cost_no_request() {
    let upstreams = echoes(3);
    let addrs: Vec<SocketAddr> = upstreams.iter().map(ServingUpstream::addr).collect();
    // Endpoints come and go, routes and services change their names, places and limits.
    let setup = |n: usize| {
        let mut setup = Setup::to_all(&[addrs[n % 3], addrs[(n + 1) % 3]]).workers(4);
        setup.services[0].max_connections = 4 + (n % 3) as u32;
        setup.services[0].name = format!("web{}", n % 2);
        setup.services.insert(0, service("idle", &addrs));
        let other = (RouteMatch::default(), route(&format!("all{}", n % 4), forward(1)));
        let never = RouteMatch { hosts: vec!["never.test".parse().unwrap()], ..RouteMatch::default() };
        let rows = vec![(never, route("never", forward(0))), other];
        setup.routes(if n.is_multiple_of(2) { rows } else { rows.into_iter().skip(1).collect() })
    };
    let running = setup(0).start();
    let requests =
        vec![LoadRequest::get("/"), LoadRequest::post("/", "abc"), LoadRequest::post("/", "x".repeat(40_000))];
    let options =
        LoadOptions { resend: Resend::Never, timeout: SOON, ..LoadOptions::new(running.addr, 8).requests(requests) };
    let load = Load::start(options).unwrap();
    for n in 1..=100 {
        let before = load.report().ok;
        running.gateway.apply(setup(n).plan()).unwrap();
        eventually(SOON, "requests under the new plan", || (load.report().ok >= before + 3).then_some(()));
    }
    let report = load.stop();
    report.assert_clean();
    assert_eq!(running.view().reloads, 100);
    running.at_rest();
    assert!(upstreams.iter().all(|u| u.problems().is_empty()));
}

#[test]
fn a_request_ends_under_the_plan_that_it_began_with() {
    let (asked, gate) = (Gate::new(), Gate::new());
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let upstream =
        Upstream::script(vec![Script::new().read_head().open(&asked).wait(&gate).read_body(3).send(ok).hold()])
            .unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert!(asked.wait(SOON));
    let action = RouteAction::Redirect { status: 307, location: "/elsewhere".to_owned() };
    let elsewhere = Setup::to(upstream.addr()).route(|r| r.action = action).service(|s| s.name = "other".to_owned());
    running.gateway.apply(elsewhere.plan()).unwrap();
    assert_eq!(running.ask(get("/")).status, 307);
    gate.open();
    client.send("3\r\nabc\r\n0\r\n\r\n").unwrap();
    // The script reads three bytes of the chunk's framing and answers: what counts is who answers.
    assert_eq!(client.read_response(SOON).unwrap().text(), "ok");
    assert_eq!(client.get("/", SOON).unwrap().status, 307);
}

/// Counters outlive a plan as long as their names do, and what is gone is forgotten.
#[test]
fn counters_outlive_a_plan() {
    let upstreams = echoes(2);
    let (first, second) = (Setup::to(upstreams[0].addr()), Setup::to(upstreams[1].addr()));
    let running = first.start();
    running.ask(get("/"));
    running.gateway.apply(second.plan()).unwrap();
    running.ask(get("/"));
    let totals = |v: gateway::GatewayView| (v.routes[0].total(), v.services[0].traffic.total());
    eventually(SOON, "both requests to be counted", || (totals(running.view()) == (2, 2)).then_some(()));
    let view = running.view();
    assert_eq!((view.services[0].endpoints.len(), view.services[0].endpoints[0].traffic.total()), (1, 1));
    assert_eq!((upstreams[0].requests(), upstreams[1].requests()), (1, 1));
    // A connection that nobody can use any more is not kept until it grows old.
    eventually(SOON, "the old endpoint's connection to end", || (upstreams[0].open_connections() == 0).then_some(()));
}

#[test]
fn a_limit_that_is_lowered_holds_for_connections_from_then_on() {
    let upstream = Upstream::serving(|_| Reply::ok("ok")).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut held = running.client();
    assert_eq!(held.get("/", SOON).unwrap().status, 200);
    running.gateway.apply(Setup::to(upstream.addr()).edge(|e| e.max_connections = 1).plan()).unwrap();
    assert_eq!(running.client().read_response(SOON).unwrap().status, 503);
    assert_eq!(held.get("/", SOON).unwrap().status, 200);
}

/// Waits until nobody listens any more.
fn gone(running: &Running) {
    eventually(SOON, "the listener to close", || RawClient::connect(running.addr).err());
}

#[test]
fn an_announced_stop_serves_on_and_tells_connections_to_close() {
    let upstreams = echoes(1);
    let running = Setup::to(upstreams[0].addr()).workers(2).start();
    let mut kept = running.client();
    assert!(!kept.get("/", SOON).unwrap().closes());
    running.trigger.advance(DrainPhase::Announced);
    eventually(SOON, "the workers to know", || running.ask(get("/")).closes().then_some(()));
    let answer = kept.get("/", SOON).unwrap();
    if answer.closes() {
        kept.expect_close(SOON).unwrap();
    }
    running.stop(DrainPhase::Draining);
    gone(&running);
}

#[test]
fn a_stop_finishes_what_has_begun_and_ends_what_is_idle() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::serving(move |r| Reply::ok(r.body.clone()).wait(&held)).unwrap();
    let running = Setup::to(upstream.addr()).workers(3).start();
    let mut asked = running.client();
    asked.send(get("/")).unwrap();
    // One whose body is still coming, one whose head is, and one that says nothing.
    let mut sending = running.client();
    sending.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n").unwrap();
    let mut beginning = running.client();
    beginning.send("GET / HTTP/1.1\r\nHo").unwrap();
    let mut idle = running.client();
    eventually(SOON, "requests and connections", || {
        (running.view().routes[0].in_flight == 2 && running.view().connections == 4).then_some(())
    });
    running.trigger.advance(DrainPhase::Draining);
    gone(&running);
    idle.expect_close(SOON).unwrap();
    beginning.send("st: a\r\n\r\n").unwrap();
    sending.send(vec![b'x'; 50_000]).unwrap();
    gate.open();
    for (client, length) in [(&mut asked, 0), (&mut sending, 50_000), (&mut beginning, 0)] {
        let answer = client.read_response(SOON).unwrap();
        assert_eq!((answer.status, answer.body.len(), answer.closes()), (200, length, true));
        client.expect_close(SOON).unwrap();
    }
    running.stop(DrainPhase::Draining);
    assert_eq!((upstream.requests(), running.view().connections), (3, 0));
}

#[test]
fn the_end_of_a_stop_cuts_what_is_left() {
    let upstream = Upstream::script(vec![Script::new().read_head().hold()]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send(get("/")).unwrap();
    eventually(SOON, "the request", || (running.view().routes[0].in_flight == 1).then_some(()));
    running.trigger.advance(DrainPhase::Draining);
    client.expect_silence(ms(100)).unwrap();
    running.stop(DrainPhase::Closed);
    client.expect_end(SOON).unwrap();
    upstream.finish(SOON).unwrap();
}

/// Sends request after request on one connection until the gateway says that it is the last. Gives how many there were.
fn until_told(client: &mut RawClient, answered: &AtomicUsize) -> Result<usize, String> {
    for n in 0.. {
        let request = if n % 2 == 0 { get("/") } else { post("/", "abc") };
        let asked = client.send(request).and_then(|()| client.read_response(SOON));
        match asked {
            Ok(answer) if answer.status != 200 => return Err(format!("request {n}: {}", answer.status)),
            Ok(answer) => {
                answered.fetch_add(1, Ordering::Relaxed);
                if answer.closes() {
                    return client.expect_close(SOON).map(|()| n).map_err(|e| format!("behind request {n}: {e:#}"));
                }
            }
            Err(error) => {
                let gone = error.downcast_ref::<WireError>().is_some_and(WireError::is_gone);
                return Err(format!("request {n} was lost (gone: {gone}): {error:#}"));
            }
        }
    }
    Err("nobody counts that far".to_owned())
}

#[test]
fn a_stop_under_load_costs_no_request() {
    let upstreams = echoes(2);
    let addrs: Vec<SocketAddr> = upstreams.iter().map(ServingUpstream::addr).collect();
    for phase in [DrainPhase::Draining, DrainPhase::Announced] {
        let running = Setup::to_all(&addrs).workers(4).start();
        let answered = AtomicUsize::new(0);
        let lost = Mutex::new(Vec::new());
        let clients: Vec<RawClient> = (0..12).map(|_| running.client()).collect();
        std::thread::scope(|scope| {
            for mut client in clients {
                let (answered, lost) = (&answered, &lost);
                scope.spawn(move || {
                    if let Err(error) = until_told(&mut client, answered) {
                        lost.lock().unwrap().push(error);
                    }
                });
            }
            eventually(SOON, "traffic", || (answered.load(Ordering::Relaxed) > 100).then_some(()));
            running.trigger.advance(phase);
        });
        assert_eq!(*lost.lock().unwrap(), [""; 0]);
        running.stop(DrainPhase::Draining);
        gone(&running);
    }
}
