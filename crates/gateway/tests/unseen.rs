//! Nothing happens unseen: what changes is told to the journal, what was done with a request can be asked for, and what
//! is counted is handed on exactly, whatever plans come and go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gateway::plan::TracePlan;
use kernel::EventKind;
use kernel::tally::{Counts, Subject, TallySource};
use kernel::trace::{Kept, RequestTrace, What, Why};
use policy::retry::RetryRule;
use policy::route::RouteMatch;
use testkit::{Load, LoadOptions, LoadRequest, RawResponse, Reply, Resend, ServingUpstream, Upstream, eventually};

use crate::support::{Running, SOON, Setup, forward, get, ms, post, resilient, route, service};

/// The one request that is known by the id of this answer.
fn story(running: &Running, answer: &RawResponse) -> RequestTrace {
    let id = answer.header("x-request-id").unwrap().to_owned();
    // The record follows the last byte of the answer.
    eventually(SOON, "the story of a request", || match running.gateway.why(&id) {
        Why::Found(mut found) if found.len() == 1 => found.pop(),
        _ => None,
    })
}

fn words(trace: &RequestTrace) -> Vec<String> {
    let word = |what: &What| serde_json::to_value(what).unwrap()["step"].as_str().unwrap().to_owned();
    trace.steps.iter().map(|step| word(&step.what)).collect()
}

fn told(running: &Running, kind: EventKind) -> u64 {
    running.journal.told(kind)
}

#[test]
fn a_request_that_was_tried_again_tells_each_try_and_why() {
    let seen = AtomicUsize::new(0);
    let bad =
        move |_: &_| if seen.fetch_add(1, Ordering::SeqCst) == 0 { Reply::status(503, "no") } else { Reply::ok("a") };
    let (bad, good) = (Upstream::serving(bad).unwrap(), Upstream::serving(|_| Reply::ok("b")).unwrap());
    let running = Setup::to_all(&[bad.addr(), good.addr()]).service(resilient).start();
    let answer = running.ask("GET /a?secret=1 HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    let trace = story(&running, &answer);
    assert_eq!((trace.method.as_str(), trace.target.as_str(), trace.host.as_str()), ("GET", "/a", "shop.test"));
    assert_eq!((trace.route.as_str(), trace.service.as_str()), ("all", "web"));
    assert_eq!(trace.kept, [Kept::Retried]);
    assert_eq!((trace.end.status, trace.end.error, trace.end.whole), (200, None, true));
    let expected = ["routed", "try", "connected", "answered", "again", "try", "connected", "answered"];
    assert_eq!(words(&trace), expected);
    let at = trace
        .steps
        .iter()
        .filter_map(|s| if let What::Try { endpoint, .. } = &s.what { Some(endpoint.clone()) } else { None });
    assert_eq!(at.collect::<Vec<_>>(), [bad.addr().to_string(), good.addr().to_string()]);
    let Some(What::Again { budget: Some(budget), .. }) = trace.steps.iter().map(|s| s.what.clone()).nth(4) else {
        panic!("{trace:?}")
    };
    assert!(budget.allowed >= 100 && budget.spent >= 1, "{budget:?}");
    assert!(trace.steps.windows(2).all(|two| two[0].at_us <= two[1].at_us));
    assert_eq!(running.gateway.traces(10, Some("web"))[0].tries, 2);
}

#[test]
fn a_request_that_may_not_be_repeated_says_so() {
    let bad = Upstream::serving(|_| Reply::status(503, "no")).unwrap();
    let running = Setup::to_all(&[bad.addr(), bad.addr()]).service(resilient).start();
    let trace = story(&running, &running.ask(post("/", "x")));
    assert_eq!(trace.kept, [Kept::Failed, Kept::Refused]);
    let refusal = trace.steps.iter().find_map(|s| match s.what {
        What::NotAgain { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(refusal, Some("it may have been done, and its method may not be repeated"));
}

#[test]
fn parking_is_told_and_remembered() {
    let upstream = Upstream::serving(|_| Reply::ok("back")).unwrap();
    let running = Setup::to(upstream.addr()).service(resilient).service(|s| s.park.max_wait = SOON).start();
    upstream.down();
    let mut client = running.client();
    client.send(get("/")).unwrap();
    eventually(SOON, "a parked request", || (running.view().services[0].parked == 1).then_some(()));
    upstream.up().unwrap();
    let trace = story(&running, &client.read_response(SOON).unwrap());
    assert!(trace.kept.contains(&Kept::Parked), "{trace:?}");
    let steps = words(&trace);
    let parked = steps.iter().position(|w| w == "parked").unwrap();
    assert_eq!(steps[parked - 1..parked + 3], ["failed", "parked", "released", "try"]);
    eventually(SOON, "the end of parking to be told", || (told(&running, EventKind::ParkingEnded) == 1).then_some(()));
    let record = running.journal.recent(10).into_iter().find(|r| r.kind == "parking.ended").unwrap();
    assert_eq!((record.data["parked"].as_u64(), record.service.as_str()), (Some(1), "web"));
    assert_eq!(told(&running, EventKind::ParkingBegan), 1);
}

#[test]
fn an_endpoint_that_goes_and_comes_back_is_told_both_times() {
    let failing = Arc::new(AtomicBool::new(true));
    let fails = failing.clone();
    let bad =
        Upstream::serving(move |_| if fails.load(Ordering::SeqCst) { Reply::status(503, "no") } else { Reply::ok("") });
    let (bad, good) = (bad.unwrap(), Upstream::serving(|_| Reply::ok("")).unwrap());
    let addrs = [bad.addr(), good.addr(), good.addr()];
    let running = Setup::to_all(&addrs[..2]).service(resilient).service(|s| s.outlier.base_ejection = ms(200)).start();
    let mut client = running.client();
    for (kind, fails) in [(EventKind::EndpointEjected, true), (EventKind::EndpointReturned, false)] {
        failing.store(fails, Ordering::SeqCst);
        eventually(SOON, kind.name(), || {
            assert_eq!(client.get("/", SOON).unwrap().status, 200);
            (told(&running, kind) >= 1).then_some(())
        });
    }
    let records = running.journal.recent(100);
    let ejected = records.iter().rev().find(|r| r.kind == "endpoint.ejected").unwrap();
    assert_eq!(ejected.endpoint, bad.addr().to_string());
    assert!(ejected.mark && ejected.sentence.contains("was taken out"), "{}", ejected.sentence);
    let trial = running.gateway.traces(1_000, None).into_iter().find(|t| t.kept.contains(&Kept::Trial));
    assert!(trial.is_some(), "the trials that brought it back are remembered");
}

#[test]
fn plain_requests_are_sampled_slow_ones_kept_and_others_forgotten() {
    let gate = testkit::Gate::new();
    let held = gate.clone();
    let upstream =
        Upstream::serving(move |r| if r.path() == "/slow" { Reply::ok("").wait(&held) } else { Reply::ok("") });
    let upstream = upstream.unwrap();
    let rule = TracePlan { on: true, slow: ms(200), one_in: 10 };
    let running = Setup::to(upstream.addr()).edge(|e| e.trace = rule).start();
    let mut client = running.client();
    for _ in 0..100 {
        client.get("/", SOON).unwrap();
    }
    client.send(get("/slow")).unwrap();
    eventually(SOON, "a request that waits long enough", || {
        let view = running.view();
        (view.services[0].traffic.in_flight == 1).then_some(())
    });
    client.expect_silence(ms(250)).unwrap();
    gate.open();
    let slow = story(&running, &client.read_response(SOON).unwrap());
    assert_eq!(slow.kept, [Kept::Slow]);
    let kept = running.gateway.traces(1_000, None);
    let sampled = kept.iter().filter(|line| line.kept == [Kept::Sample]).count();
    assert!((8..=10).contains(&sampled), "{sampled}");
    let Why::NotKept { sample_one_in: 10, slow_ms: 200, oldest_unix_ms: Some(_) } = running.gateway.why("unknown")
    else {
        panic!("an id that nobody has used is found")
    };
}

#[test]
fn a_request_that_matches_no_route_says_that() {
    let upstream = Upstream::serving(|_| Reply::ok("")).unwrap();
    let never = RouteMatch { hosts: vec!["never.test".parse().unwrap()], ..RouteMatch::default() };
    let running = Setup::to(upstream.addr()).routes(vec![(never, route("never", forward(0)))]).start();
    let trace = story(&running, &running.ask(get("/")));
    assert_eq!((trace.end.error, words(&trace)), (Some("no-route"), vec!["turned".to_owned()]));
}

/// What is taken, by subject.
#[derive(Default)]
struct Sums(BTreeMap<Subject, Counts>);

impl Sums {
    fn take(&mut self, running: &Running) {
        for (subject, counts) in TallySource::take(running.gateway.as_ref()) {
            self.0.entry(subject).or_default().add(&counts);
        }
    }

    fn total(&self, wanted: impl Fn(&Subject) -> bool) -> u64 {
        self.0.iter().filter(|(subject, _)| wanted(subject)).map(|(_, counts)| counts.total()).sum()
    }
}

#[test]
fn counts_are_exact_through_a_hundred_plans() {
    let upstreams: Vec<_> = (0..3).map(|_| Upstream::serving(|_| Reply::ok("x")).unwrap()).collect();
    let addrs: Vec<SocketAddr> = upstreams.iter().map(ServingUpstream::addr).collect();
    // Routes, services and endpoints come and go under the load.
    let setup = |n: usize| {
        let mut setup = Setup::to_all(&[addrs[n % 3], addrs[(n + 1) % 3]]).workers(2);
        setup.services[0].name = format!("web{}", n % 2);
        setup.services[0].retry = RetryRule::default();
        setup.services.insert(0, service("idle", &addrs));
        setup.routes(vec![(RouteMatch::default(), route(&format!("all{}", n % 4), forward(1)))])
    };
    let running = setup(0).start();
    let requests = vec![LoadRequest::get("/"), LoadRequest::post("/", "abc")];
    let options =
        LoadOptions { resend: Resend::Never, timeout: SOON, ..LoadOptions::new(running.addr, 4).requests(requests) };
    let load = Load::start(options).unwrap();
    let mut sums = Sums::default();
    for n in 1..=100 {
        let before = load.report().ok;
        running.gateway.apply(setup(n).plan()).unwrap();
        eventually(SOON, "requests under the new plan", || (load.report().ok >= before + 3).then_some(()));
        sums.take(&running);
    }
    let report = load.stop();
    report.assert_clean();
    running.at_rest();
    eventually(SOON, "every request to be counted", || {
        sums.take(&running);
        let by_route = sums.total(|s| matches!(s, Subject::Route { .. }));
        assert!(by_route <= report.ok, "{by_route} of {}", report.ok);
        (by_route == report.ok).then_some(())
    });
    assert_eq!(sums.total(|s| matches!(s, Subject::Service { .. })), report.ok);
    let asked: usize = upstreams.iter().map(ServingUpstream::requests).sum();
    assert_eq!(sums.total(|s| matches!(s, Subject::Endpoint { .. })), asked as u64);
    assert_eq!(sums.0.values().map(Counts::failed).sum::<u64>(), 0);
}
