//! What operators say about endpoints and tiers: it holds from the next request on, whatever checks say, and through
//! other plans.

use gateway::UnknownName;
use gateway::plan::ForcedPlan;
use policy::outlier::Forced;
use testkit::{Gate, RawClient, Reply, ServingUpstream, Upstream, eventually};

use crate::support::{Running, SOON, Setup};

fn saying(text: &'static str) -> ServingUpstream {
    Upstream::serving(move |_| Reply::ok(text)).unwrap()
}

/// Who answers a few requests, each once.
fn answers(running: &Running) -> Vec<String> {
    let mut all: Vec<_> = (0..6).map(|_| running.client().get("/", SOON).unwrap().text()).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_forced_endpoint_gets_no_new_request_and_finishes_what_it_has() {
    let gate = Gate::new();
    let held = gate.clone();
    let one = Upstream::serving(move |r| match r.path() {
        "/held" => Reply::ok("one").wait(&held),
        _ => Reply::ok("one"),
    });
    let (one, two) = (one.unwrap(), saying("two"));
    let running = Setup::to_all(&[one.addr(), two.addr()]).start();
    let (name, other) = (one.addr().to_string(), two.addr().to_string());
    running.gateway.force_endpoint("web", &other, Some(Forced::Down)).unwrap();
    let mut waiting: RawClient = running.client();
    waiting.send("GET /held HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
    eventually(SOON, "the request to arrive", || (one.requests() == 1).then_some(()));
    running.gateway.force_endpoint("web", &name, Some(Forced::Drained)).unwrap();
    running.gateway.force_endpoint("web", &other, None).unwrap();
    assert_eq!(answers(&running), ["two"]);
    gate.open();
    assert_eq!(waiting.read_response(SOON).unwrap().text(), "one");
    // The next request on the same connection goes elsewhere.
    assert_eq!(waiting.get("/", SOON).unwrap().text(), "two");

    // With all of them out there is no falling back to one.
    running.gateway.force_endpoint("web", &other, Some(Forced::Down)).unwrap();
    let refused = running.client().get("/", SOON).unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.text().contains("upstream-unreachable"), "{refused:?}");
    assert_eq!(running.gateway.view().services[0].endpoints[1].forced, Some(Forced::Down));
    running.gateway.force_endpoint("web", &name, None).unwrap();
    assert_eq!(answers(&running), ["one"]);
}

#[test]
fn a_forced_tier_is_the_only_one_and_a_plan_brings_its_own_decisions() {
    let (one, two) = (saying("one"), saying("two"));
    let mut setup = Setup::to_all(&[one.addr(), two.addr()]);
    setup.services[0].endpoints[1].tier = 1;
    let mut plan = setup.plan();
    let running = setup.start();
    running.gateway.force_tier("web", Some(1)).unwrap();
    assert_eq!(answers(&running), ["two"]);
    let view = running.gateway.view();
    assert_eq!((view.services[0].active_tier, view.services[0].forced_tier), (1, Some(1)));
    running.gateway.force_tier("web", Some(0)).unwrap();
    assert_eq!(answers(&running), ["one"]);

    let name = one.addr().to_string();
    plan.forced = ForcedPlan {
        endpoints: vec![("web".into(), name, Forced::Drained), ("gone".into(), "a:1".into(), Forced::Down)],
        tiers: vec![("gone".into(), 3)],
    };
    running.gateway.apply(plan).unwrap();
    assert_eq!(answers(&running), ["two"]);
    assert_eq!(running.gateway.view().services[0].forced_tier, None);
}

#[test]
fn names_that_the_plan_does_not_have_are_told() {
    let one = saying("one");
    let running = Setup::to_all(&[one.addr()]).start();
    let unknown = UnknownName::Service { service: "none".into() };
    assert_eq!(running.gateway.force_endpoint("none", "a:1", None), Err(unknown.clone()));
    assert_eq!(running.gateway.force_tier("none", Some(1)), Err(unknown));
    let told = running.gateway.force_endpoint("web", "a:1", Some(Forced::Down)).unwrap_err().to_string();
    assert_eq!(told, "the service \"web\" has no endpoint \"a:1\"");
}
