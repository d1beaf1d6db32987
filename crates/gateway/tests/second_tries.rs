//! Second tries: when a request is sent again, where, how often, and when it must not be; answers that are held until
//! they are whole; silence; the budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel::ErrorCode;
use policy::balance::Balance;
use policy::retry::RetryRule;
use testkit::{Gate, Reply, Script, ServingUpstream, Upstream, eventually};

use crate::support::{Running, SOON, Setup, code, get, ms, post, resilient};

/// A service that answers `n` requests by `bad`, and all others well.
fn bad_at_first(n: usize, bad: impl Fn() -> Reply + Send + Sync + 'static) -> ServingUpstream {
    let seen = AtomicUsize::new(0);
    Upstream::serving(move |_| if seen.fetch_add(1, Ordering::SeqCst) < n { bad() } else { Reply::ok("late") }).unwrap()
}

fn good() -> ServingUpstream {
    Upstream::serving(|r| Reply::ok(format!("good{}", r.text()))).unwrap()
}

/// Both, the bad one first in turn.
fn pair(bad: &ServingUpstream, good: &ServingUpstream) -> Setup {
    Setup::to_all(&[bad.addr(), good.addr()]).service(resilient)
}

fn second_tries(running: &Running, cause: &str) -> f64 {
    running.metric("evenkeel_service_second_tries_total", &[("cause", cause)])
}

#[test]
fn answers_that_say_the_endpoint_cannot_serve_are_tried_elsewhere() {
    for status in [502, 503, 504] {
        let (bad, good) = (bad_at_first(1, move || Reply::status(status, "no")), good());
        let running = pair(&bad, &good).start();
        assert_eq!(running.ask(get("/")).text(), "good", "{status}");
        assert_eq!((bad.requests(), good.requests()), (1, 1), "{status}");
        assert_eq!(second_tries(&running, "status"), 1.0);
        running.at_rest();
    }
}

#[test]
fn other_answers_and_other_methods_are_passed_on_as_they_are() {
    let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    for (status, request) in [
        (500, get("/")),
        (501, get("/")),
        (429, get("/")),
        (404, get("/")),
        (503, post("/", "x")),
        (500, put.to_owned()),
    ] {
        let (bad, good) = (bad_at_first(1, move || Reply::status(status, "no")), good());
        let running = pair(&bad, &good).start();
        let answer = running.ask(request);
        assert_eq!((answer.status, answer.text().as_str()), (status, "no"));
        assert_eq!((bad.requests(), good.requests()), (1, 0), "{status}");
    }
}

#[test]
fn an_idempotent_request_with_a_body_is_sent_again_whole() {
    let (bad, good) = (bad_at_first(1, || Reply::status(503, "no")), good());
    let running = pair(&bad, &good).start();
    let body = "b".repeat(60_000);
    let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(running.ask(request).text(), format!("good{body}"));
    assert_eq!(bad.received()[0].text().len(), body.len());
}

/// Beyond the replay buffer the body streams, and what is gone cannot be sent again.
#[test]
fn a_body_beyond_the_replay_buffer_is_not_sent_again() {
    let (bad, good) = (bad_at_first(1, || Reply::status(503, "no")), good());
    let running = pair(&bad, &good).start();
    let body = "b".repeat(70_000);
    let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(running.ask(request).status, 503);
    assert_eq!((bad.requests(), good.requests()), (1, 0));
    assert_eq!(running.metric("evenkeel_service_second_tries_refused_total", &[("why", "not_replayable")]), 1.0);
}

#[test]
fn a_request_gets_three_attempts_and_no_more() {
    let bad: Vec<ServingUpstream> = (0..4).map(|_| Upstream::serving(|_| Reply::status(503, "no")).unwrap()).collect();
    let addrs: Vec<_> = bad.iter().map(ServingUpstream::addr).collect();
    let running = Setup::to_all(&addrs).service(resilient).start();
    assert_eq!(running.ask(get("/")).status, 503);
    assert_eq!(bad.iter().map(ServingUpstream::requests).collect::<Vec<_>>(), [1, 1, 1, 0]);
}

/// With fewer endpoints than attempts the next one goes to an endpoint that was met before, after a moment.
#[test]
fn a_lone_endpoint_is_asked_again() {
    let lone = bad_at_first(2, || Reply::status(503, "no"));
    let running = Setup::to(lone.addr()).service(resilient).start();
    assert_eq!(running.ask(get("/")).text(), "late");
    assert_eq!(lone.requests(), 3);
}

#[test]
fn a_small_answer_that_breaks_is_tried_elsewhere_and_nobody_notices() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it";
    for end in [Script::close as fn(Script) -> Script, Script::reset] {
        let bad = Upstream::script(vec![end(Script::new().read_request().send(half))]).unwrap();
        let good = good();
        let running = Setup::to_all(&[bad.addr(), good.addr()]).service(resilient).start();
        assert_eq!(running.ask(get("/")).text(), "good");
        bad.finish(SOON).unwrap();
        assert_eq!(second_tries(&running, "broken"), 1.0);
        assert_eq!(running.metric("evenkeel_service_answers_held_broken_total", &[]), 1.0);
        running.at_rest();
    }
}

#[test]
fn what_is_not_held_breaks_at_the_client() {
    let large = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nx";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
    for head in [large, chunked] {
        let bad = Upstream::script(vec![Script::new().read_request().send(head).close()]).unwrap();
        let good = good();
        let running = Setup::to_all(&[bad.addr(), good.addr()]).service(resilient).start();
        let mut client = running.client();
        client.send(get("/")).unwrap();
        assert_eq!(client.read_response_head(SOON).unwrap().status, 200);
        client.read_to_ending(SOON).unwrap();
        bad.finish(SOON).unwrap();
        assert_eq!(good.requests(), 0);
        running.counted("upstream-truncated", 1);
    }
}

/// A body that drips is not kept from the client for longer than the rule says.
#[test]
fn a_held_answer_is_passed_on_when_its_time_is_up() {
    let drip = Gate::new();
    let script =
        Script::new().read_request().send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").wait(&drip).send("cd");
    let upstream = Upstream::script(vec![script.hold()]).unwrap();
    let running = Setup::to(upstream.addr()).service(resilient).start();
    let mut client = running.client();
    client.send(get("/")).unwrap();
    let mut answer = client.read_response_head(SOON).unwrap();
    assert_eq!(client.read_exact(2, SOON).unwrap(), b"ab");
    drip.open();
    assert_eq!(client.read_exact(2, SOON).unwrap(), b"cd");
    answer.body.clear();
    assert_eq!(running.metric("evenkeel_service_held", &[]), 0.0);
}

/// Whether it is known of every endpoint how long it may be silent.
fn knows_silence(running: &Running) -> bool {
    running.view().services[0].endpoints.iter().all(|e| e.suspect_after.is_some())
}

/// A gateway that knows how fast its service is, with an endpoint that then falls silent.
fn with_a_silent_endpoint(gate: &Gate) -> (Arc<AtomicUsize>, ServingUpstream, ServingUpstream, Running) {
    let frozen = Arc::new(AtomicUsize::new(0));
    let (flag, gate) = (frozen.clone(), gate.clone());
    let silent = Upstream::serving(move |_| {
        let reply = Reply::ok("silent");
        if flag.load(Ordering::SeqCst) > 0 { reply.wait(&gate) } else { reply }
    })
    .unwrap();
    let good = good();
    let running =
        pair(&silent, &good).service(|s| (s.balance, s.hold.max_wait) = (Balance::RoundRobin, ms(100))).start();
    let mut client = running.client();
    for _ in 0..60 {
        assert_eq!(client.get("/", SOON).unwrap().status, 200);
    }
    eventually(SOON, "the usual time to be known", || knows_silence(&running).then_some(()));
    frozen.store(1, Ordering::SeqCst);
    (frozen, silent, good, running)
}

#[test]
fn silence_starts_a_second_try_beside_the_first_and_the_first_answer_wins() {
    let gate = Gate::new();
    let (_frozen, silent, _good, running) = with_a_silent_endpoint(&gate);
    let mut client = running.client();
    for _ in 0..8 {
        assert_eq!(client.get("/", SOON).unwrap().text(), "good");
    }
    assert!(second_tries(&running, "silence") >= 1.0);
    assert!(running.metric("evenkeel_service_tries_cancelled_total", &[]) >= 1.0);
    let seen = silent.requests();
    assert!(seen <= 30 + 5, "{seen} requests met the silent endpoint");
    gate.open();
    drop(client);
    running.at_rest();
}

/// A request that must not be repeated waits, and is answered by the endpoint that has it.
#[test]
fn a_post_waits_for_a_silent_endpoint() {
    let gate = Gate::new();
    let (_frozen, silent, good, running) = with_a_silent_endpoint(&gate);
    let before = (silent.requests(), good.requests());
    let mut clients: Vec<_> = (0..2).map(|_| running.client()).collect();
    for client in &mut clients {
        client.send(post("/", "x")).unwrap();
    }
    eventually(SOON, "the endpoint to be suspect", || {
        (running.metric("evenkeel_endpoint_state", &[("state", "suspect")]) == 1.0).then_some(())
    });
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read_response(SOON).unwrap().status, 200);
    }
    assert_eq!(silent.requests() + good.requests(), before.0 + before.1 + 2);
    assert_eq!(second_tries(&running, "silence"), 0.0);
}

#[test]
fn without_a_budget_there_is_no_second_try() {
    let (bad, good) = (Upstream::serving(|_| Reply::status(503, "no")).unwrap(), good());
    let running = pair(&bad, &good)
        .service(|s| {
            let budget = policy::budget::BudgetRule { share: 0.0, per_second: 0.0, ceiling: 0.0 };
            s.retry = RetryRule { budget, ..RetryRule::default() };
        })
        .start();
    assert_eq!(running.ask(get("/")).status, 503);
    assert_eq!(running.metric("evenkeel_service_second_tries_refused_total", &[("why", "budget")]), 1.0);
}

/// What a refused connection costs nobody is free.
#[test]
fn refused_connections_are_not_charged() {
    let (refusing, good) = (Upstream::refusing().unwrap(), good());
    let running = Setup::to_all(&[refusing.addr(), good.addr()])
        .service(|s| {
            let budget = policy::budget::BudgetRule { share: 0.0, per_second: 0.0, ceiling: 0.0 };
            s.retry = RetryRule { budget, ..RetryRule::default() };
        })
        .start();
    let mut client = running.client();
    for _ in 0..4 {
        client.send(post("/", "x")).unwrap();
        assert_eq!(client.read_response(SOON).unwrap().text(), "goodx");
    }
}

#[test]
fn an_endpoint_that_asks_for_a_pause_gets_it() {
    let (bad, good) = (bad_at_first(1, || Reply::status(503, "no").header("Retry-After", "20")), good());
    let running = pair(&bad, &good).start();
    let mut client = running.client();
    for _ in 0..6 {
        assert_eq!(client.get("/", SOON).unwrap().text(), "good");
    }
    assert_eq!(bad.requests(), 1);
}

/// One attempt may be given a time of its own.
#[test]
fn a_try_that_takes_too_long_is_followed_by_another() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Upstream::serving(move |_| Reply::ok("slow").wait(&held)).unwrap();
    let good = good();
    let running = pair(&slow, &good).service(|s| s.retry.per_try_timeout = Some(ms(400))).start();
    assert_eq!(running.ask(get("/")).text(), "good");
    assert_eq!(second_tries(&running, "slow"), 1.0);
    let answer = running.ask(post("/", "x"));
    assert!([200, 504].contains(&answer.status));
    gate.open();
}

/// A client says how long it waits; the service is told what remains of it.
#[test]
fn the_clients_deadline_counts_if_it_is_shorter_and_is_passed_on() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream =
        Upstream::serving(move |r| if r.path() == "/slow" { Reply::ok("").wait(&held) } else { Reply::ok("fine") })
            .unwrap();
    let running = Setup::to(upstream.addr())
        .edge(|e| e.deadline_header = Some("x-request-timeout-ms".to_owned()))
        .service(|s| s.timeout = Duration::from_secs(15))
        .start();
    let left =
        |i: usize| -> u64 { upstream.received()[i].headers("x-request-timeout-ms").join(",").trim().parse().unwrap() };
    for (sent, least, most) in [("", 14_000, 15_000), ("X-Request-Timeout-Ms: 9000\r\n", 8_000, 9_000)] {
        let answer = running.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{sent}\r\n"));
        assert_eq!(answer.status, 200);
        let left = left(upstream.requests() - 1);
        assert!((least..=most).contains(&left), "{left}");
    }
    let answer = running.ask("GET /slow HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: 50\r\n\r\n");
    assert_eq!(code(&answer), ErrorCode::UpstreamTimeout.code());
    gate.open();
    // With no time at all nobody is asked; a number that is none is passed over.
    let before = upstream.requests();
    let answer = running.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: 0\r\n\r\n");
    assert_eq!((code(&answer).as_str(), upstream.requests()), (ErrorCode::UpstreamTimeout.code(), before));
    assert_eq!(running.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: soon\r\n\r\n").status, 200);
}

/// A client's short patience is no silence of the endpoint.
#[test]
fn a_client_that_hardly_waits_ejects_nobody() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow =
        Upstream::serving(move |r| if r.path() == "/slow" { Reply::ok("").wait(&held) } else { Reply::ok("fine") })
            .unwrap();
    let good = good();
    let running = pair(&slow, &good).edge(|e| e.deadline_header = Some("x-request-timeout-ms".to_owned())).start();
    for _ in 0..12 {
        let answer = running.ask("GET /slow HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: 20\r\n\r\n");
        assert!([200, 504].contains(&answer.status));
    }
    assert_eq!(running.metric("evenkeel_endpoint_ejections_total", &[]), 0.0);
    gate.open();
}

/// An answer that has begun to come is worth more than an error.
#[test]
fn a_held_answer_is_passed_on_when_the_requests_time_is_up() {
    let drip = Gate::new();
    let script =
        Script::new().read_request().send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").wait(&drip).send("cd");
    let upstream = Upstream::script(vec![script.hold()]).unwrap();
    let running = Setup::to(upstream.addr())
        .service(resilient)
        .service(|s| (s.timeout, s.hold.max_wait) = (ms(1500), SOON))
        .start();
    let mut client = running.client();
    client.send(get("/")).unwrap();
    assert_eq!(client.read_response_head(SOON).unwrap().status, 200);
    assert_eq!(client.read_exact(2, SOON).unwrap(), b"ab");
    drip.open();
    assert_eq!(client.read_exact(2, SOON).unwrap(), b"cd");
}

/// What is being streamed does not end with the time of one attempt: nothing is expected before its end.
#[test]
fn a_long_upload_outlives_the_time_of_one_attempt() {
    let upstream = good();
    let running =
        Setup::to(upstream.addr()).service(resilient).service(|s| s.retry.per_try_timeout = Some(ms(500))).start();
    let mut client = running.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..5 {
        client.send("2\r\nab\r\n").unwrap();
        testkit::pace(ms(150));
    }
    client.send("0\r\n\r\n").unwrap();
    assert_eq!(client.read_response(SOON).unwrap().text(), "goodababababab");
}
