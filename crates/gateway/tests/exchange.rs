//! One exchange and its turns: interim answers, expectations, HEAD, old clients, trailers, early answers, pipelining.

use std::time::Duration;

use testkit::{Framing, Gate, RawClient, Reply, Script, ScriptedUpstream, Upstream, WireError};

use crate::support::{Running, SOON, Setup, code, get, ms, post};

/// A service that follows `scripts`, one for each connection, and a gateway before it.
fn scripted(scripts: Vec<Script>) -> (ScriptedUpstream, Running) {
    let upstream = Upstream::script(scripts).unwrap();
    let running = Setup::to(upstream.addr()).start();
    (upstream, running)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn interim_answers_are_passed_on_before_the_final_one() {
    let gate = Gate::new();
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\nX: y\r\n\r\n";
    let script = Script::new().read_head().send(early).wait(&gate).send(early).send(OK).hold();
    let (upstream, running) = scripted(vec![script]);
    let mut client = running.client();
    client.send(get("/")).unwrap();
    let interim = client.read_interim(SOON).unwrap();
    assert_eq!((interim.status, interim.lines), (103, vec!["Link: </a.css>; rel=preload".to_owned()]));
    gate.open();
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, answer.interim.len(), answer.interim[0].status), (200, 1, 103));
    assert!(!answer.closes());
    upstream.finish(SOON).unwrap();
}

#[test]
fn a_flood_of_interim_answers_is_ended() {
    let flood = "HTTP/1.1 102 Processing\r\n\r\n".repeat(200) + OK;
    let upstream = Upstream::serving(move |_| Reply::raw(flood.clone())).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
    // An old client is sent none of them.
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (502, "upstream-malformed", false));
    client.send(get("/")).unwrap();
    let mut interim = 0;
    while client.read_interim(SOON).is_ok() {
        interim += 1;
    }
    assert!((16..100).contains(&interim), "{interim}");
    running.counted("upstream-malformed", 2);
}

#[test]
fn a_continue_that_nobody_asked_for_is_dropped() {
    let script = Script::new().read_head().send("HTTP/1.1 100 Continue\r\n\r\n").send(OK).hold();
    let (upstream, running) = scripted(vec![script]);
    let answer = running.ask(get("/"));
    assert_eq!((answer.status, answer.interim.len()), (200, 0));
    upstream.finish(SOON).unwrap();
}

#[test]
fn an_expectation_is_the_services_to_meet() {
    let script = Script::new()
        .read_head()
        .send("HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n")
        .read_body(3)
        .send(OK)
        .read_request()
        .send(OK)
        .hold();
    let (upstream, running) = scripted(vec![script]);
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n").unwrap();
    assert_eq!(client.read_interim(SOON).unwrap().status, 100);
    client.send("abc").unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 200);
    client.send(get("/next")).unwrap();
    assert_eq!(client.read_response(SOON).unwrap().status, 200);
    let received = upstream.finish(SOON).unwrap().remove(0).text();
    assert!(received.contains("Expect: 100-Continue\r\n") && received.contains("\r\n\r\nabcGET /next"), "{received}");
}

/// The client has not sent its body and need not: what it sends next could be either, so the connection ends.
#[test]
fn an_expectation_that_is_answered_at_once_ends_the_connection() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";
    let (upstream, running) = scripted(vec![Script::new().read_head().send(refusal).read_end()]);
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").unwrap();
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.closes()), (401, "no", true));
    client.expect_close(SOON).unwrap();
    upstream.finish(SOON).unwrap();
}

#[test]
fn a_body_beyond_the_limit_is_refused_before_it_is_asked_for() {
    let (upstream, running) = scripted(Vec::new());
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n").unwrap();
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, answer.interim.len(), answer.closes()), (413, 0, true));
    upstream.finish(SOON).unwrap();
}

#[test]
fn a_head_has_no_body_however_it_is_framed() {
    for (framing, kept) in
        [("Content-Length: 5000", Some("5000")), ("Transfer-Encoding: chunked", None), ("X-A: b", None)]
    {
        let script = Script::new()
            .read_request()
            .send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))
            .read_request()
            .send(OK)
            .hold();
        let (upstream, running) = scripted(vec![script]);
        let mut client = running.client();
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let answer = client.read_response_to("HEAD", SOON).unwrap();
        assert_eq!((answer.status, answer.header("content-length"), answer.closes()), (200, kept, false), "{framing}");
        assert_eq!(answer.headers("transfer-encoding"), [""; 0]);
        client.send(get("/")).unwrap();
        assert_eq!(client.read_response(SOON).unwrap().text(), "ok", "{framing}");
        upstream.finish(SOON).unwrap();
    }
    // Errors that the gateway makes keep to it as well.
    let refusing = Upstream::refusing().unwrap();
    let running = Setup::to(refusing.addr()).start();
    let mut client = running.client();
    client.send(format!("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n{}", get("/"))).unwrap();
    let head = client.read_response_to("HEAD", SOON).unwrap();
    let whole = client.read_response(SOON).unwrap();
    assert_eq!((head.status, whole.status), (503, 503));
    assert_eq!(head.header("content-length").unwrap(), whole.body.len().to_string());
}

#[test]
fn an_answer_without_a_body_keeps_the_connection_to_the_service() {
    for status in ["204 No Content\r\n", "304 Not Modified\r\nContent-Length: 7\r\nETag: \"a\"\r\n"] {
        let empty = format!("HTTP/1.1 {status}\r\n");
        let script = Script::new().read_request().send(empty).read_request().send(OK).hold();
        let (upstream, running) = scripted(vec![script]);
        let mut client = running.client();
        client.send(get("/")).unwrap();
        let answer = client.read_response(SOON).unwrap();
        assert_eq!((answer.body.len(), answer.closes()), (0, false));
        client.send(get("/")).unwrap();
        assert_eq!(client.read_response(SOON).unwrap().text(), "ok");
        upstream.finish(SOON).unwrap();
    }
}

/// An old client knows no chunks: the body is told from the end of the connection, and a break shows as a reset.
#[test]
fn an_old_client_gets_chunks_undone() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\nX-A: b\r\n\r\n";
    for (bytes, whole) in [(chunks.to_owned(), true), (chunks.replace("0\r\nX-A: b\r\n\r\n", ""), false)] {
        let upstream = Upstream::serving(move |_| Reply::raw(bytes.clone())).unwrap();
        let running = Setup::to(upstream.addr()).start();
        let mut client = running.client();
        client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let mut answer = client.read_response_head(SOON).unwrap();
        assert_eq!((answer.framing, answer.headers("connection")), (Some(Framing::UntilClose), vec!["close"]));
        let rest = client.read_rest(&mut answer, SOON);
        match whole {
            true => assert_eq!(answer.text(), "abc"),
            false => assert!(matches!(rest.unwrap_err().downcast_ref(), Some(WireError::Reset { .. }))),
        }
    }
}

#[test]
fn a_body_until_the_end_of_the_connection_is_framed_for_new_clients() {
    let upstream = Upstream::serving(|_| Reply::until_close("abc")).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    for _ in 0..2 {
        client.send(get("/")).unwrap();
        let answer = client.read_response(SOON).unwrap();
        assert_eq!((answer.framing, answer.text().as_str()), (Some(Framing::Chunked), "abc"));
    }
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.read_until_close(SOON).unwrap().split_off_body(), b"abc");
}

/// A service that is reset in the middle of such a body has not ended it.
#[test]
fn a_reset_is_no_end_of_a_body() {
    let head = "HTTP/1.1 200 OK\r\n\r\nabc";
    let seen = Gate::new();
    let (upstream, running) = scripted(vec![Script::new().read_request().send(head).wait(&seen).reset()]);
    let mut client = running.client();
    client.send(get("/")).unwrap();
    let mut answer = client.read_response_head(SOON).unwrap();
    seen.open();
    let error = client.read_rest(&mut answer, SOON).unwrap_err();
    assert!(error.downcast_ref::<WireError>().is_some_and(WireError::is_gone), "{error:#}");
    upstream.finish(SOON).unwrap();
    running.counted("upstream-truncated", 1);
}

#[test]
fn chunks_that_break_behind_the_head_break_the_answer() {
    let (gate, seen) = (Gate::new(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let script = Script::new().read_request().send(seen).wait(&gate).send("x\r\n").hold();
    let (upstream, running) = scripted(vec![script]);
    let mut client = running.client();
    client.send(get("/")).unwrap();
    client.read_response_head(SOON).unwrap();
    assert_eq!(client.read_chunk(SOON).unwrap().unwrap(), b"abc");
    gate.open();
    let error = client.read_chunk(SOON).unwrap_err();
    assert!(error.downcast_ref::<WireError>().is_some_and(WireError::is_gone), "{error:#}");
    upstream.finish(SOON).unwrap();
    running.counted("upstream-truncated", 1);
}

#[test]
fn trailers_of_answers_pass_but_for_those_that_belong_before_the_body() {
    let upstream = Upstream::serving(|_| {
        Reply::chunked(vec![b"ab".to_vec(), b"c".to_vec()], Duration::ZERO)
            .header("Trailer", "X-Sum")
            .trailer("X-Sum", "1")
            .trailer("Set-Cookie", "a=b")
            .trailer("Content-Length", "9")
    })
    .unwrap();
    let running = Setup::to(upstream.addr()).start();
    let answer = running.ask(get("/"));
    assert_eq!((answer.text().as_str(), answer.trailers), ("abc", vec!["X-Sum: 1".to_owned()]));
}

#[test]
fn headers_of_answers_pass_or_end_here() {
    let upstream = Upstream::serving(|_| {
        Reply::ok("abc")
            .header("Connection", "x-hop, keep-alive")
            .header("X-Hop", "1")
            .header("Keep-Alive", "timeout=9")
            .header("Proxy-Authenticate", "Basic")
            .header("Proxy-Connection", "close")
            .header("Upgrade", "h2")
            .header("TE", "x")
            .header("X-Request-Id", "theirs")
            .header("Server", "s")
            .header("Set-Cookie", "a=b")
            .header("Set-Cookie", "c=d")
            .header("x-lower", "")
    })
    .unwrap();
    let running = Setup::to(upstream.addr()).start();
    let answer = running.ask(get("/"));
    for name in ["connection", "x-hop", "keep-alive", "proxy-authenticate", "proxy-connection", "upgrade", "te"] {
        assert_eq!(answer.headers(name), [""; 0], "{name}");
    }
    assert_eq!(answer.headers("set-cookie"), ["a=b", "c=d"]);
    assert_eq!((answer.header("server"), answer.header("x-lower")), (Some("s"), Some("")));
    assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
    assert_eq!(answer.reason, "Scripted");
}

/// The answer may come while the body is still coming. It goes on, and the connection ends: what follows of the body
/// must not be taken for a request.
#[test]
fn an_early_answer_is_passed_on_while_the_body_is_still_coming() {
    let next = Script::new().read_request().send(OK).hold();
    let (upstream, running) = scripted(vec![Script::new().read_head().send(OK).hold(), next]);
    let mut client = running.client();
    let smuggled = get("/smuggled");
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{smuggled}")).unwrap();
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.closes()), (200, "ok", true));
    client.send_until_refused(smuggled.repeat(10), SOON).unwrap();
    client.expect_end(SOON).unwrap();
    // The service's connection is in the middle of a body: it is not used again.
    assert_eq!(running.ask(get("/next")).text(), "ok");
    upstream.finish(SOON).unwrap();
}

/// An answer that streams and a body that streams, at the same time.
#[test]
fn both_directions_stream_at_once() {
    let chunk = |c: char| format!("1\r\n{c}\r\n");
    let script = Script::new()
        .read_head()
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .read_until(chunk('a'))
        .send(chunk('A'))
        .read_until(chunk('b'))
        .send(chunk('B'))
        .read_until("0\r\n\r\n")
        .send("0\r\n\r\n")
        .hold();
    let (upstream, running) = scripted(vec![script]);
    let mut client = running.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    client.read_response_head(SOON).unwrap();
    for (sent, answered) in [('a', "A"), ('b', "B")] {
        client.send(chunk(sent)).unwrap();
        assert_eq!(client.read_chunk(SOON).unwrap().unwrap(), answered.as_bytes());
    }
    client.send("0\r\n\r\n").unwrap();
    assert_eq!(client.read_chunk(SOON).unwrap(), None);
    upstream.finish(SOON).unwrap();
}

/// The service ends in the middle of a body without a word of an answer. What the client still sends of the body must
/// not be taken for a request.
#[test]
fn a_service_that_ends_within_a_body_does_not_leave_the_rest_of_it_as_a_request() {
    // So much that the gateway is in the middle of sending it when the service resets the connection.
    let body = get("/smuggled").repeat(500_000);
    let upstream = Upstream::script(vec![Script::new().read_head().read_body(100_000).reset()]).unwrap();
    let running = Setup::to(upstream.addr()).edge(|e| e.max_body = body.len() as u64).start();
    let mut client = running.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).unwrap();
    client.send_until_refused(&body, SOON).unwrap();
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (502, "upstream-closed", true));
    client.expect_end(SOON).unwrap();
    // One attempt, and nothing behind it.
    upstream.finish(SOON).unwrap();
    assert_eq!(running.view().routes[0].total(), 1);
}

/// Before the answer, in the middle of its body, and in the middle of the answer. The client leaves once it has read
/// what was answered: the gateway then has nothing unread, and the service sees an end rather than a reset.
#[test]
fn a_client_that_goes_away_ends_its_request_at_the_service() {
    let (chunk, head) = ("3\r\nabc\r\n", "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
    for (request, script, answered) in [
        (get("/"), Script::new().read_request(), false),
        (format!("POST / HTTP/1.1\r\n{head}{chunk}"), Script::new().read_until(chunk), false),
        (format!("POST / HTTP/1.1\r\n{head}{chunk}"), Script::new().read_until(chunk).send(endless.as_str()), true),
        (get("/"), Script::new().read_request().send(endless.as_str()), true),
    ] {
        let asked = Gate::new();
        let (upstream, running) = scripted(vec![script.open(&asked).read_end()]);
        let mut client = running.client();
        client.send(&request).unwrap();
        assert!(asked.wait(SOON));
        if answered {
            client.read_response_head(SOON).unwrap();
            assert_eq!(client.read_chunk(SOON).unwrap().unwrap(), b"abc");
        }
        drop(client);
        upstream.finish(SOON).unwrap();
        running.counted("client-gone", 1);
        running.at_rest();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::serving(|r| match r.path() {
        "/slow" => Reply::ok("/slow").delay(ms(50)),
        path => Reply::ok(format!("{path}{}", r.text())),
    })
    .unwrap();
    let running = Setup::to(upstream.addr()).start();
    for n in 2..=8 {
        let mut client = running.client();
        let requests: String = (0..n)
            .map(|i| match i % 3 {
                0 => get("/slow"),
                1 => post(&format!("/{i}"), "body"),
                _ => format!("PUT /{i} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            })
            .collect();
        client.send(requests).unwrap();
        for (i, answer) in client.read_responses(n, SOON).unwrap().into_iter().enumerate() {
            let expected = match i % 3 {
                0 => "/slow".to_owned(),
                1 => format!("/{i}body"),
                _ => format!("/{i}abc"),
            };
            assert_eq!((answer.text(), answer.closes()), (expected, false), "{i} of {n}");
        }
    }
    assert_eq!(upstream.problems(), [""; 0]);
}

#[test]
fn a_bad_request_in_a_pipeline_ends_it_behind_the_answers_before() {
    let upstream = Upstream::serving(|r| Reply::ok(r.path())).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    client.send(format!("{}{}BAD\r\n\r\n{}", get("/1"), get("/2"), get("/3"))).unwrap();
    let answers = client.read_responses(3, SOON).unwrap();
    assert_eq!(answers.iter().map(|a| a.status).collect::<Vec<_>>(), [200, 200, 400]);
    assert_eq!((answers[1].text().as_str(), answers[2].closes()), ("/2", true));
    client.expect_close(SOON).unwrap();
    assert_eq!(upstream.requests(), 2);
}

/// Requests behind one that asks for the end are not served, and do not cost the client its answer.
#[test]
fn what_follows_a_close_is_not_served() {
    let upstream = Upstream::serving(|r| Reply::ok(r.path())).unwrap();
    let running = Setup::to(upstream.addr()).start();
    for first in ["GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET /1 HTTP/1.0\r\nHost: a\r\n\r\n"] {
        let before = upstream.requests();
        let mut client = running.client();
        // More than fits into a buffer, so that some of it is still unread when the answer goes out.
        client.send_until_refused(format!("{first}{}", get("/2").repeat(1000)), SOON).unwrap();
        let answer = client.read_response(SOON).unwrap();
        assert_eq!((answer.text().as_str(), answer.closes()), ("/1", true));
        client.expect_close(SOON).unwrap();
        assert_eq!(upstream.requests(), before + 1);
    }
}

/// A client that has nothing more to say may end its side and still read its answer.
fn ends_its_side(client: &mut RawClient, request: &str) {
    client.send(request).unwrap();
    client.half_close().unwrap();
}

#[test]
fn a_client_that_ends_its_side_before_the_answer_is_gone() {
    let upstream = Upstream::serving(|_| Reply::ok("late").delay(ms(100))).unwrap();
    let running = Setup::to(upstream.addr()).start();
    let mut client = running.client();
    ends_its_side(&mut client, &get("/"));
    // As with most proxies: an end before the answer cannot be told from a client that went away.
    assert_eq!(client.read_to_ending(SOON).unwrap().0, b"");
    running.counted("client-gone", 1);
}

/// What is behind the empty line.
trait SplitOffBody {
    fn split_off_body(self) -> Vec<u8>;
}

impl SplitOffBody for Vec<u8> {
    fn split_off_body(mut self) -> Vec<u8> {
        let at = self.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        self.split_off(at + 4)
    }
}
