//! Connections to services: when one is used again, what happens when it has gone stale, who gets one when there are
//! few, and where a request goes when an endpoint cannot be reached.

use std::time::Duration;

use testkit::{
    Gate, Load, LoadOptions, LoadRequest, Reply, Script, ScriptedUpstream, ServingOptions, ServingUpstream, Upstream,
    eventually,
};

use crate::support::{Running, SOON, Setup, code, get, ms, post};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn idle(running: &Running) -> u64 {
    running.view().services[0].endpoints.iter().map(|e| e.idle).sum()
}

fn opened(running: &Running) -> f64 {
    running.metric("evenkeel_endpoint_connections_opened_total", &[])
}

#[test]
fn a_connection_is_used_again() {
    let upstream = Upstream::serving(|r| Reply::ok(r.body.clone())).unwrap();
    let running = Setup::to(upstream.addr()).start();
    for _ in 0..5 {
        let mut client = running.client();
        for request in [get("/"), post("/", "abc"), get("/")] {
            client.send(request).unwrap();
            assert_eq!(client.read_response(SOON).unwrap().status, 200);
        }
    }
    assert_eq!((upstream.requests(), upstream.connections()), (15, 1));
    assert_eq!((opened(&running), running.metric("evenkeel_endpoint_connections_reused_total", &[])), (1.0, 14.0));
}

/// What an answer leaves behind on its connection, or what asks for its end, keeps it from being used again.
#[test]
fn a_connection_that_is_not_clean_is_not_used_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n",
    ] {
        let scripts =
            vec![Script::new().read_request().send(answer).read_end(), Script::new().read_request().send(OK).hold()];
        let upstream = Upstream::script(scripts).unwrap();
        let running = Setup::to(upstream.addr()).start();
        let mut client = running.client();
        for _ in 0..2 {
            assert!(client.get("/", SOON).unwrap().status < 300, "{answer:?}");
        }
        upstream.finish(SOON).unwrap();
    }
    // HTTP/1.0 that keeps its connection.
    let kept = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    let upstream =
        Upstream::script(vec![Script::new().read_request().send(kept).read_request().send(OK).hold()]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    assert_eq!((running.ask(get("/")).status, running.ask(get("/")).status), (200, 200));
    upstream.finish(SOON).unwrap();
}

/// A service whose second request on its first connection gets no answer, and whose second connection follows `second`.
/// A request gets two attempts.
fn stale(second: Option<Script>) -> (ScriptedUpstream, Running) {
    let first = Script::new().read_request().send(OK).read_request().close();
    let upstream = Upstream::script(std::iter::once(first).chain(second).collect()).unwrap();
    let running = Setup::to(upstream.addr()).service(|s| s.retry.attempts = 2).start();
    assert_eq!(running.ask(get("/")).status, 200);
    (upstream, running)
}

#[test]
fn what_is_idempotent_is_sent_once_more_when_its_connection_was_stale() {
    for request in [
        get("/x"),
        "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ] {
        let (upstream, running) = stale(Some(Script::new().read_request().send(OK).hold()));
        let answer = running.ask(&request);
        assert_eq!((answer.status, answer.closes()), (200, false), "{request:?}");
        let id = answer.header("x-request-id").unwrap().to_owned();
        let transcripts = upstream.finish(SOON).unwrap();
        // The same request, byte for byte, with the same id.
        assert!(transcripts[0].text().ends_with(&transcripts[1].text()), "{transcripts:?}");
        assert!(transcripts[1].text().contains(&id));
        // It had hardly idled: that is no race of two who meant well.
        assert_eq!(running.metric("evenkeel_endpoint_stale_retries_total", &[]), 0.0);
        assert_eq!(running.metric("evenkeel_service_second_tries_total", &[("cause", "broken")]), 1.0);
    }
}

/// A service that is known to close connections that have idled for a while closes one just as it is used again.
#[test]
fn a_race_with_an_idle_close_costs_nothing_and_is_held_against_nobody() {
    let used_late = Gate::new();
    let scripts = vec![
        Script::new().read_request().send(OK).wait(&used_late).close(),
        Script::new().read_request().send(OK).read_request().close(),
        Script::new().read_request().send(OK).hold(),
    ];
    let upstream = Upstream::script(scripts).unwrap();
    let running = Setup::to(upstream.addr())
        .service(|s| {
            // A second try that had to be paid for would not be made.
            s.retry.budget = policy::budget::BudgetRule { share: 0.0, per_second: 0.0, ceiling: 0.0 };
            s.retry.attempts = 3;
        })
        .start();
    let clock = kernel::Clock::real();
    assert_eq!(running.ask(get("/")).status, 200);
    let answered = clock.now();
    testkit::pace(ms(400));
    used_late.open();
    eventually(SOON, "the idle close to be seen", || (idle(&running) == 0).then_some(()));
    let idled = clock.now().since(answered);
    assert_eq!(running.ask(get("/")).status, 200);
    // For more than half as long as the one that was closed, and less than as long.
    testkit::pace(idled.mul_f64(0.65));
    assert_eq!(running.ask(get("/")).status, 200);
    assert_eq!(running.metric("evenkeel_endpoint_stale_retries_total", &[]), 1.0);
    upstream.finish(SOON).unwrap();
}

#[test]
fn what_is_not_idempotent_is_never_sent_twice() {
    let patch = "PATCH /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned();
    let chunked = "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned();
    // The body of the last one is gone once it is sent: it cannot be sent again either.
    for request in [post("/x", "abc"), patch, chunked] {
        let (upstream, running) = stale(None);
        let mut client = running.client();
        client.send(&request).unwrap();
        let answer = client.read_response(SOON).unwrap();
        assert_eq!(
            (answer.status, code(&answer).as_str(), answer.closes()),
            (502, "upstream-closed", false),
            "{request:?}"
        );
        // No other connection was made.
        upstream.finish(SOON).unwrap();
        assert_eq!(opened(&running), 1.0);
    }
}

#[test]
fn a_request_is_sent_again_as_often_as_the_rule_says() {
    let closing = || Script::new().read_request().close();
    // The new connection ends as well: that is the answer.
    let (upstream, running) = stale(Some(closing()));
    let answer = running.ask(get("/x"));
    assert_eq!((answer.status, code(&answer).as_str()), (502, "upstream-closed"));
    upstream.finish(SOON).unwrap();
    // One attempt is one attempt.
    let upstream = Upstream::script(vec![closing()]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    assert_eq!(running.ask(get("/x")).status, 502);
    upstream.finish(SOON).unwrap();
    // An answer that had begun is one too.
    let begun = Script::new().read_request().send(OK).read_request().send("HTTP/1.1 2").close();
    let upstream = Upstream::script(vec![begun]).unwrap();
    let running = Setup::to(upstream.addr()).start();
    assert_eq!((running.ask(get("/")).status, running.ask(get("/")).status), (200, 502));
    upstream.finish(SOON).unwrap();
}

/// An idle connection that the service closes is noticed before a request is lost on it.
#[test]
fn a_closed_connection_is_not_used() {
    let scripts = vec![Script::new().read_request().send(OK).close(), Script::new().read_request().send(OK).hold()];
    let upstream = Upstream::script(scripts).unwrap();
    let running = Setup::to(upstream.addr()).start();
    assert_eq!(running.ask(get("/")).status, 200);
    eventually(SOON, "the close to be noticed", || (idle(&running) == 0).then_some(()));
    assert_eq!(running.ask(post("/", "abc")).status, 200);
    assert_eq!(running.metric("evenkeel_endpoint_stale_retries_total", &[]), 0.0);
    upstream.finish(SOON).unwrap();
}

fn keeping(options: ServingOptions) -> ServingUpstream {
    Upstream::serving_with(options, |r| Reply::ok(r.body.clone())).unwrap()
}

/// After `Keep-Alive: timeout=`, or the configured time, an idle connection is closed by this side.
#[test]
fn an_idle_connection_is_closed_before_the_service_does() {
    let announcing = ServingOptions { announce_idle_timeout: Some(1), ..ServingOptions::default() };
    for (options, configured) in [(announcing, Duration::from_secs(60)), (ServingOptions::default(), ms(700))] {
        let upstream = keeping(options);
        let running = Setup::to(upstream.addr()).service(|s| s.idle_timeout = configured).start();
        assert_eq!(running.ask(get("/")).status, 200);
        eventually(SOON, "an idle connection", || (idle(&running) == 1).then_some(()));
        // Meanwhile it serves what may be repeated.
        assert_eq!(running.ask(get("/")).status, 200);
        assert_eq!(upstream.connections(), 1);
        eventually(SOON, "its end", || (upstream.open_connections() == 0).then_some(()));
        assert_eq!(idle(&running), 0);
    }
}

/// The end of an idle connection is near, or might be: what must not be repeated goes on a new one.
#[test]
fn a_post_keeps_away_from_a_connection_that_is_about_to_expire() {
    let announcing = ServingOptions { announce_idle_timeout: Some(2), ..ServingOptions::default() };
    let upstream = keeping(announcing);
    let running = Setup::to(upstream.addr()).start();
    for _ in 0..2 {
        assert_eq!(running.ask(get("/")).status, 200);
    }
    assert_eq!((upstream.connections(), running.ask(post("/", "abc")).text().as_str()), (1, "abc"));
    assert_eq!(upstream.connections(), 2);

    // The same for a time that was learned from a close: 300 ms are far below what a POST needs.
    let upstream = keeping(ServingOptions { idle_timeout: Some(ms(300)), ..ServingOptions::default() });
    let running = Setup::to(upstream.addr()).start();
    assert_eq!(running.ask(get("/")).status, 200);
    eventually(SOON, "the service's close", || (upstream.open_connections() == 0 && idle(&running) == 0).then_some(()));
    assert_eq!((running.ask(get("/")).status, running.ask(post("/", "abc")).text().as_str()), (200, "abc"));
    assert_eq!(upstream.connections(), 3);
}

/// Also when every connection that may be open is idle: it is closed for a new one.
#[test]
fn a_post_that_stands_in_line_is_not_given_a_connection_that_is_about_to_expire() {
    let upstream = keeping(ServingOptions { announce_idle_timeout: Some(2), ..ServingOptions::default() });
    let running = Setup::to(upstream.addr()).workers(2).service(|s| s.max_connections = 1).start();
    for n in 1..4 {
        assert_eq!(running.ask(get("/")).status, 200);
        assert_eq!(running.ask(post("/", "abc")).text(), "abc");
        assert!(upstream.requests_by_connection().len() > n, "{:?}", upstream.requests_by_connection());
    }
    assert!(upstream.peak_connections() <= 2, "{}", upstream.peak_connections());
}

/// Load of GETs and POSTs by `clients` until each of them has had `rounds` answers; then all of it must have gone well.
fn load(running: &Running, clients: usize, rounds: u64) {
    let requests = vec![LoadRequest::get("/"), LoadRequest::post("/", "abc")];
    let load = Load::start(LoadOptions { timeout: SOON, ..LoadOptions::new(running.addr, clients).requests(requests) })
        .unwrap();
    let all = || load.report().by_client.iter().all(|n| *n >= rounds).then_some(());
    testkit::poll_until(SOON * 2, all);
    let report = load.stop();
    report.assert_clean();
    assert!(report.by_client.iter().all(|n| *n >= rounds), "starved: {report:?}");
    running.at_rest();
}

#[test]
fn few_connections_for_many_workers_and_clients() {
    let upstream = keeping(ServingOptions::default());
    let running = Setup::to(upstream.addr()).workers(8).service(|s| s.max_connections = 2).start();
    load(&running, 32, 10);
    assert!(upstream.peak_connections() <= 2, "{}", upstream.peak_connections());
    assert!(running.metric("evenkeel_endpoint_connections_handed_over_total", &[]) > 0.0);
    assert_eq!(upstream.problems(), [""; 0]);
}

/// A server with two threads serves two connections at a time and leaves the others in its queue, also the idle ones
/// of other workers. Without any limit being configured, nobody may starve behind those.
#[test]
fn a_service_with_two_threads_behind_eight_workers() {
    let upstream = keeping(ServingOptions { workers: Some(2), ..ServingOptions::default() });
    let running = Setup::to(upstream.addr()).workers(8).start();
    load(&running, 32, 5);
    assert_eq!(upstream.problems(), [""; 0]);
}

/// An idle connection of one worker fills a server with one thread; the others must not wait for it to grow old.
#[test]
fn an_idle_connection_of_another_worker_starves_nobody() {
    let upstream = keeping(ServingOptions { workers: Some(1), ..ServingOptions::default() });
    let running = Setup::to(upstream.addr()).workers(8).start();
    let mut client = running.client();
    for _ in 0..2 {
        assert_eq!(client.get("/", SOON).unwrap().status, 200);
    }
    // Which worker takes a connection is up to the system: so many are made until four of them had to give way.
    let served = (0..500).take_while(|_| upstream.connections() < 5).map(|_| running.ask(get("/")).status);
    assert!(served.into_iter().all(|status| status == 200));
    assert_eq!(upstream.connections(), 5, "one worker took every connection, so nothing was shown");
}

/// A slow service is not one whose connections starve: they are used again.
#[test]
fn a_slow_service_keeps_its_connections() {
    let upstream = Upstream::serving(|_| Reply::ok("ok").delay(ms(150))).unwrap();
    let running = Setup::to(upstream.addr()).workers(2).start();
    load(&running, 4, 6);
    assert!(upstream.connections() <= 12, "{:?}", upstream.requests_by_connection());
}

/// Every connection is in use, and stays so for longer than a request has time.
#[test]
fn a_request_waits_in_line_for_no_longer_than_it_has_time() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::serving(move |_| Reply::ok("held").wait(&held)).unwrap();
    let running = Setup::to(upstream.addr()).workers(2).service(|s| s.max_connections = 1).start();
    let mut first = running.client();
    first.send(get("/")).unwrap();
    eventually(SOON, "the first request", || (upstream.requests() == 1).then_some(()));
    // From here on, requests have less time.
    let hurried = Setup::to(upstream.addr()).service(|s| (s.max_connections, s.timeout) = (1, ms(200)));
    running.gateway.apply(hurried.plan()).unwrap();
    let mut second = running.client();
    for request in [get("/"), post("/", "abc")] {
        second.send(request).unwrap();
        let answer = second.read_response(SOON).unwrap();
        assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (503, "upstream-saturated", false));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    gate.open();
    assert_eq!(first.read_response(SOON).unwrap().text(), "held");
    assert_eq!((upstream.requests(), second.get("/", SOON).unwrap().status), (1, 200));
}

#[test]
fn a_request_that_waits_in_line_is_served_when_its_turn_comes() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::serving(move |r| match r.path() {
        "/held" => Reply::ok("held").wait(&held),
        path => Reply::ok(path),
    })
    .unwrap();
    let running = Setup::to(upstream.addr()).workers(4).service(|s| s.max_connections = 1).start();
    let mut first = running.client();
    first.send(get("/held")).unwrap();
    eventually(SOON, "the first request", || (upstream.requests() == 1).then_some(()));
    let mut waiting: Vec<_> = (0..8)
        .map(|i| {
            let mut client = running.client();
            client.send(if i % 2 == 0 { get(&format!("/{i}")) } else { post(&format!("/{i}"), "abc") }).unwrap();
            client
        })
        .collect();
    eventually(SOON, "all of them in line", || (running.view().services[0].traffic.in_flight == 9).then_some(()));
    assert_eq!(upstream.requests(), 1);
    gate.open();
    for (i, client) in waiting.iter_mut().enumerate() {
        assert_eq!(client.read_response(SOON).unwrap().text(), format!("/{i}"));
    }
    assert_eq!(first.read_response(SOON).unwrap().text(), "held");
    assert_eq!(upstream.connections(), 1);
}

/// Time in line is no slowness of the client's.
#[test]
fn time_in_line_does_not_count_against_a_body() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::serving(move |r| match r.path() {
        "/held" => Reply::ok("held").wait(&held),
        _ => Reply::ok(r.body.clone()),
    })
    .unwrap();
    let running = Setup::to(upstream.addr())
        .edge(|e| (e.min_rate, e.min_rate_grace) = (10_000, ms(500)))
        .service(|s| s.max_connections = 1)
        .start();
    let mut first = running.client();
    first.send(get("/held")).unwrap();
    eventually(SOON, "the first request", || (upstream.requests() == 1).then_some(()));
    let mut second = running.client();
    second.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").unwrap();
    second.expect_silence(ms(1200)).unwrap();
    gate.open();
    assert_eq!(first.read_response(SOON).unwrap().status, 200);
    second.send("3\r\ndef\r\n0\r\n\r\n").unwrap();
    assert_eq!(second.read_response(SOON).unwrap().text(), "abcdef");
}

/// A client that leaves while it stands in line gives up its place.
#[test]
fn a_client_that_leaves_the_line_is_not_served() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::serving(move |r| match r.path() {
        "/held" => Reply::ok("held").wait(&held),
        path => Reply::ok(path),
    })
    .unwrap();
    let running = Setup::to(upstream.addr()).service(|s| s.max_connections = 1).start();
    let mut first = running.client();
    first.send(get("/held")).unwrap();
    eventually(SOON, "the first request", || (upstream.requests() == 1).then_some(()));
    let mut second = running.client();
    second.send(get("/left")).unwrap();
    eventually(SOON, "the second in line", || (running.view().services[0].traffic.in_flight == 2).then_some(()));
    drop(second);
    eventually(SOON, "the second to be gone", || (running.errors("client-gone") == 1).then_some(()));
    gate.open();
    assert_eq!(first.read_response(SOON).unwrap().text(), "held");
    assert_eq!(upstream.requests(), 1);
}

/// Every idle connection is elsewhere, and as many requests stand in line: each of them gets one, and not only the first.
#[test]
fn who_stands_in_line_gets_an_idle_connection_of_another_worker() {
    let gates: Vec<Gate> = (0..ROUNDS).map(|_| Gate::new()).collect();
    let held = gates.clone();
    let upstream = Upstream::serving(move |r| match r.path()[1..].parse::<usize>() {
        Ok(round) => Reply::ok(r.connection.to_string()).wait(&held[round]),
        Err(_) => Reply::ok(r.connection.to_string()),
    })
    .unwrap();
    let running = Setup::to(upstream.addr()).workers(2).service(|s| s.max_connections = 2).start();
    // The first worker to serve has connection 0 from then on, the other one connection 1: two clients for each.
    let mut clients: [Vec<testkit::RawClient>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..2000 {
        let mut client = running.client();
        let worker: usize = client.get("/", SOON).unwrap().text().parse().unwrap();
        if clients[worker].len() < 2 {
            clients[worker].push(client);
        }
        if clients.iter().all(|c| c.len() == 2) {
            break;
        }
    }
    for (round, gate) in gates.iter().enumerate() {
        let before = upstream.requests();
        let pair = &mut clients[round % 2][..2];
        pair.iter_mut().for_each(|c| c.send(get(&format!("/{round}"))).unwrap());
        // Both connections are now at this worker, or on their way.
        eventually(SOON, "both requests to be sent on", || (upstream.requests() == before + 2).then_some(()));
        gate.open();
        pair.iter_mut().for_each(|c| assert_eq!(c.read_response(SOON).unwrap().status, 200));
    }
    assert_eq!(upstream.connections(), 2);
}

/// Enough for two requests to ask for a connection at the very same time.
const ROUNDS: usize = 100;
