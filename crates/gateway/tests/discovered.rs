//! Endpoints that are found while the gateway runs: in addition to those of the plan, kept over reloads, and none at all.

use testkit::{Load, LoadOptions, LoadRequest, Reply, Resend, ServingUpstream, Upstream, eventually};

use crate::support::{Running, SOON, Setup, code, endpoint, get, ms};

fn named(n: usize) -> Vec<ServingUpstream> {
    (0..n).map(|i| Upstream::serving(move |_| Reply::ok(format!("{i}"))).unwrap()).collect()
}

/// Which endpoints the service has.
fn endpoints(running: &Running) -> Vec<String> {
    running.view().services[0].endpoints.iter().map(|e| e.traffic.name.clone()).collect()
}

#[test]
fn a_service_without_an_endpoint_answers_503_until_one_is_found() {
    let upstream = &named(1)[0];
    let running = Setup::to_all(&[]).start();
    let answer = running.ask(get("/"));
    assert_eq!((answer.status, code(&answer).as_str()), (503, "upstream-unreachable"));
    assert!(answer.text().contains("no endpoint is known yet"), "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    running.gateway.set_endpoints("web", vec![endpoint(upstream.addr())]).unwrap();
    assert_eq!(running.ask(get("/")).text(), "0");
    running.gateway.set_endpoints("web", Vec::new()).unwrap();
    assert_eq!(running.ask(get("/")).status, 503);
}

#[test]
fn what_was_found_comes_in_addition_and_outlives_a_reload_but_not_its_service() {
    let upstreams = named(3);
    let addrs: Vec<_> = upstreams.iter().map(ServingUpstream::addr).collect();
    let setup = || Setup::to_all(&addrs[..1]);
    let running = setup().start();
    // A name that the plan has already, or that was found twice, is one endpoint.
    let found = [0, 1, 1, 2].map(|i| endpoint(addrs[i])).to_vec();
    running.gateway.set_endpoints("web", found).unwrap();
    let all: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints(&running), all);
    assert_eq!(running.view().reloads, 0, "what is found is no other configuration");
    running.gateway.apply(setup().plan()).unwrap();
    assert_eq!((endpoints(&running), running.view().reloads), (all, 1));
    let mut texts: Vec<String> = (0..3).map(|_| running.ask(get("/")).text()).collect();
    texts.sort();
    assert_eq!(texts, ["0", "1", "2"]);
    // Unknown services are passed over; a service that comes back begins with what it is written with.
    running.gateway.set_endpoints("none", vec![endpoint(addrs[2])]).unwrap();
    running.gateway.apply(setup().service(|s| s.name = "other".to_owned()).plan()).unwrap();
    running.gateway.apply(setup().plan()).unwrap();
    assert_eq!(endpoints(&running), [addrs[0].to_string()]);
}

#[test]
fn endpoints_that_come_and_go_under_load_cost_no_request_and_those_that_stay_keep_what_they_had() {
    let upstreams = named(3);
    let addrs: Vec<_> = upstreams.iter().map(ServingUpstream::addr).collect();
    let running = Setup::to_all(&addrs[..1]).workers(2).start();
    let options = LoadOptions {
        resend: Resend::Never,
        timeout: SOON,
        ..LoadOptions::new(running.addr, 4).requests(vec![LoadRequest::get("/"), LoadRequest::post("/", "abc")])
    };
    let load = Load::start(options).unwrap();
    for n in 1..=60 {
        let before = load.report().ok;
        let found = if n % 2 == 0 { vec![endpoint(addrs[1])] } else { vec![endpoint(addrs[1]), endpoint(addrs[2])] };
        running.gateway.set_endpoints("web", found).unwrap();
        eventually(SOON, "requests with these endpoints", || (load.report().ok >= before + 5).then_some(()));
    }
    load.stop().assert_clean();
    let opened = |i: usize| {
        running.metric("evenkeel_endpoint_connections_opened_total", &[("endpoint", &addrs[i].to_string())]) as u64
    };
    // Had each change made them new, each would have opened connections sixty times.
    assert!(opened(0) <= 20 && opened(1) <= 20, "{} and {}", opened(0), opened(1));
    running.at_rest();
}

#[test]
fn a_knock_at_one_without_checks_is_a_connect() {
    let upstream = &named(1)[0];
    let running = Setup::to_all(&[upstream.addr()]).service(|s| s.connect_timeout = ms(500)).start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let name = upstream.addr().to_string();
    assert!(runtime.block_on(running.gateway.probe("web", &name)));
    upstream.down();
    assert!(!runtime.block_on(running.gateway.probe("web", &name)));
}

#[test]
fn what_is_found_is_checked_like_the_others() {
    let bad = Upstream::serving(|_| Reply::status(500, "").close()).unwrap();
    let plan = gateway::plan::HealthPlan {
        kind: gateway::plan::HealthKind::Http { path: "/".to_owned(), host: None, expect: vec![(200, 299)] },
        interval: ms(20),
        fast_interval: ms(20),
        timeout: SOON,
        fall: 2,
        rise: 2,
    };
    let running = Setup::to_all(&[]).service(|s| s.health = Some(plan)).start();
    running.gateway.set_endpoints("web", vec![endpoint(bad.addr())]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let alive = |service: &str, name: &str| runtime.block_on(running.gateway.probe(service, name));
    let name = bad.addr().to_string();
    assert!(!alive("web", &name), "it accepts connections, but the check says no");
    assert!(!alive("web", "127.0.0.1:1") && !alive("none", &name));
    eventually(SOON, "it to fall", || (!running.view().services[0].endpoints[0].healthy).then_some(()));
    running.gateway.set_endpoints("web", Vec::new()).unwrap();
    // The check of one that is gone has ended: nothing is asked of it any more.
    let asked = bad.requests();
    assert!(testkit::poll_until(ms(200), || (bad.requests() > asked + 1).then_some(())).is_none());
}
