//! Both servers over real sockets: who may call what, in which shape the answers come, and how the servers end.

#[path = "http/actions.rs"]
mod actions;
#[path = "http/deploys.rs"]
mod deploys;
#[path = "http/follow.rs"]
mod follow;
#[path = "http/journal.rs"]
mod journal;
mod kit;
#[path = "http/live.rs"]
mod live;
#[path = "http/pages.rs"]
mod pages;
#[path = "http/pools.rs"]
mod pools;
#[path = "http/registrations.rs"]
mod registrations;

use std::time::Duration;

use console::{Limits, TokenStore};
use kernel::DrainPhase;
use tokio::io::AsyncWriteExt;

use kit::{Admin, Answer, Api, OPERATOR_TOKEN, READER_TOKEN, ask, ask_raw, connect, get, until};

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let body = answer.json();
    assert_eq!(body["type"], format!("urn:evenkeel:problem:{code}"));
    assert_eq!(body["status"], status);
    assert!(body["detail"].as_str().is_some_and(|d| d.len() > 10), "{body}");
}

#[tokio::test]
async fn probes_are_free_and_follow_node_and_drain() {
    let admin = Admin::start(true).await;
    let ask = async |path: &str| ask(admin.addr, &format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n")).await;
    assert_eq!(ask("/livez").await.status, 200);
    assert_eq!((ask("/readyz").await.status, &*ask("/readyz").await.body), (200, "ready\n"));
    admin.node.set_ready(Some("no configuration yet"));
    let answer = ask("/readyz").await;
    assert_eq!((answer.status, &*answer.body), (503, "not ready: no configuration yet\n"));
    admin.node.set_ready(None);
    admin.trigger.advance(DrainPhase::Announced);
    let answer = ask("/readyz").await;
    assert_eq!((answer.status, &*answer.body), (503, "not ready: stopping\n"));
    assert_eq!(ask("/livez").await.status, 200);
}

#[tokio::test]
async fn on_loopback_only_harmless_hosts_are_answered() {
    let admin = Admin::start(false).await;
    for good in ["localhost", "127.0.0.1:7070", "[::1]:7070", "LOCALHOST:1", "keel.internal"] {
        let answer = ask(admin.addr, &format!("GET /v1/status HTTP/1.1\r\nHost: {good}\r\n")).await;
        assert_eq!(answer.status, 200, "{good}");
    }
    for bad in
        ["evil.example", "127.0.0.1.evil.example:7070", "localhost.evil.example", "192.168.0.9", "keel.internal.evil"]
    {
        let answer = ask(admin.addr, &format!("GET /v1/status HTTP/1.1\r\nHost: {bad}\r\n")).await;
        problem(&answer, 421, "host-refused");
        assert!(answer.json()["detail"].as_str().unwrap().contains("DNS rebinding"));
    }
    // An absolute target counts for more than Host; HTTP/1.0 may have no Host; two Hosts are none.
    let absolute = "GET http://evil.example/v1/status HTTP/1.1\r\nHost: localhost\r\n";
    problem(&ask(admin.addr, absolute).await, 421, "host-refused");
    problem(&ask(admin.addr, "GET /v1/status HTTP/1.0\r\n").await, 421, "host-refused");
    let twice = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n";
    problem(&ask(admin.addr, twice).await, 400, "malformed-call");
    // Paths that do not exist are guarded too.
    problem(&ask(admin.addr, "GET /nothing HTTP/1.1\r\nHost: evil.example\r\n").await, 421, "host-refused");
}

#[tokio::test]
async fn a_change_needs_the_secret_and_the_same_origin() {
    let admin = Admin::start(false).await;
    let csrf = get(admin.addr, "/v1/csrf").await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(csrf.len(), 64);
    let post = async |headers: &str, body: &str| {
        let length = body.len();
        let head = format!("POST /v1/reload HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: {length}\r\n{headers}");
        ask_raw(admin.addr, format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await
    };
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    problem(&post("", "").await, 403, "csrf-refused");
    problem(&post("X-CSRF-Token: 00\r\n", "").await, 403, "csrf-refused");
    problem(&post(&format!("X-CSRF-Token: {}\r\n", "0".repeat(64)), "").await, 403, "csrf-refused");
    problem(&post(form, "csrf=").await, 403, "csrf-refused");
    problem(&post("Content-Type: text/plain\r\n", &format!("csrf={csrf}")).await, 403, "csrf-refused");
    let token = format!("X-CSRF-Token: {csrf}\r\n");
    for origin in ["http://evil.example", "null", "http://localhost:2", "http://localhost", "localhost:1"] {
        problem(&post(&format!("{token}Origin: {origin}\r\n"), "").await, 403, "csrf-refused");
    }
    problem(&post(&format!("{token}Sec-Fetch-Site: cross-site\r\n"), "").await, 403, "csrf-refused");
    assert_eq!(admin.node.reloads(), 0);

    let answer = post(&format!("{token}Origin: http://localhost:1\r\nSec-Fetch-Site: same-origin\r\n"), "").await;
    assert_eq!((answer.status, answer.json()["applied"].as_bool()), (200, Some(true)));
    let answer = post(&format!("{form}{BROWSER}"), &format!("x=1&csrf={csrf}")).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/"));
    assert_eq!(post(&format!("{token}Accept: text/plain\r\n"), "").await.body, "3 routes\n");
    assert_eq!(admin.node.reloads(), 3);
}

#[tokio::test]
async fn a_refused_reload_lists_its_findings_and_a_second_one_at_a_time_is_refused() {
    let admin = Admin::start(false).await;
    let csrf = get(admin.addr, "/v1/csrf").await.json()["token"].as_str().unwrap().to_owned();
    let post = format!("POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nX-CSRF-Token: {csrf}\r\n");
    admin.node.refuse_reloads();
    let answer = ask(admin.addr, &post).await;
    problem(&answer, 422, "reload-refused");
    assert_eq!(answer.json()["findings"][0]["id"], "unknown-key");

    let gate = admin.node.hold_reloads();
    let first = tokio::spawn({
        let (addr, post) = (admin.addr, post.clone());
        async move { ask(addr, &post).await }
    });
    until(|| admin.node.reloads() == 2).await;
    problem(&ask(admin.addr, &post).await, 409, "reload-busy");
    drop(gate);
    assert_eq!(first.await.unwrap().status, 422);
    // Its turn is over.
    assert_eq!(ask(admin.addr, &post).await.status, 422);
}

#[tokio::test]
async fn beyond_loopback_a_token_with_the_operator_scope_is_needed() {
    let admin = Admin::start(true).await;
    let with = async |path: &str, header: &str| {
        ask(admin.addr, &format!("GET {path} HTTP/1.1\r\nHost: keel.example\r\n{header}")).await
    };
    for path in ["/", "/v1/status", "/metrics", "/v1/csrf", "/journal", "/why/x", "/live", "/nothing"] {
        let answer = with(path, "").await;
        problem(&answer, 401, "token-required");
        let challenges = answer.headers("www-authenticate");
        assert_eq!(challenges.len(), 2, "{challenges:?}");
        assert!(challenges[0].starts_with("Basic realm=") && challenges[1].starts_with("Bearer realm="));
    }
    problem(&with("/", "Authorization: Bearer evk_wrong\r\n").await, 401, "token-required");
    let answer = with("/", &format!("Authorization: Bearer {READER_TOKEN}\r\n")).await;
    problem(&answer, 403, "scope-missing");
    assert_eq!(answer.json()["scope"], "operator");
    let bearer = format!("Authorization: Bearer {OPERATOR_TOKEN}\r\n");
    assert_eq!(with("/v1/status", &bearer).await.status, 200);
    assert_eq!(
        with("/v1/status", &format!("Authorization: Basic {}\r\n", kit::base64(&format!("ops:{OPERATOR_TOKEN}"))))
            .await
            .status,
        200
    );
    // A token does not replace the proof of meaning.
    let post = format!("POST /v1/reload HTTP/1.1\r\nHost: keel.example\r\nContent-Length: 0\r\n{bearer}");
    problem(&ask(admin.addr, &post).await, 403, "csrf-refused");
    // Settings are swapped while the server runs.
    let mut settings = kit::settings(true);
    settings.tokens = TokenStore::default();
    admin.server.update(settings);
    problem(&with("/v1/status", &bearer).await, 401, "token-required");
}

#[tokio::test]
async fn one_state_comes_in_three_shapes() {
    let admin = Admin::start(false).await;
    let html = ask(admin.addr, &format!("GET / HTTP/1.1\r\nHost: localhost\r\n{BROWSER}")).await;
    assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
    assert!(html.body.contains("<h1>All 2 endpoints of 1 service are healthy;"), "{}", html.body);
    assert!(html.body.contains("shop&lt;b&gt;") && !html.body.contains("shop<b>"), "names are escaped");
    assert!(html.body.matches("<script").count() == 1 && html.body.contains("<script src=\"/assets/live-"));
    assert!(!html.body.contains("style=\"") && !html.body.contains("<style"));

    let text = ask(admin.addr, "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n").await;
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    assert!(text.body.contains("All 2 endpoints of 1 service are healthy;"), "{}", text.body);
    assert!(text.body.chars().all(|c| c == '\n' || !c.is_control()), "{}", text.body);

    let json = ask(admin.addr, "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n").await;
    assert_eq!(json.header("content-type"), "application/json");
    assert_eq!(json.json()["level"], "ok");
    let status = get(admin.addr, "/v1/status").await.json();
    assert_eq!(status["services"][0]["endpoints"][0]["state"], "healthy");
    assert_eq!(status["routes"][0]["answers_total"]["2xx"], 100);
    assert_eq!(status["routes"][0]["requests_total"], 100);
}

#[tokio::test]
async fn metrics_come_as_the_node_gives_them() {
    let admin = Admin::start(false).await;
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
    let answer = ask(admin.addr, &format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n")).await;
    assert_eq!(answer.header("content-type"), "text/fake; charset=utf-8");
    assert_eq!(answer.body, format!("# accept {accept}\n"));
}

#[tokio::test]
async fn every_answer_has_the_strict_headers() {
    let (admin, api) = (Admin::start(false).await, Api::start().await);
    for (addr, path) in [
        (admin.addr, "/"),
        (admin.addr, "/livez"),
        (admin.addr, "/nothing"),
        (admin.addr, "/journal"),
        (api.addr, "/v1/token"),
    ] {
        let answer = get(addr, path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-frame-options"), "DENY");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_callers_shape() {
    let admin = Admin::start(false).await;
    problem(&get(admin.addr, "/v1/nothing").await, 404, "not-found");
    let answer = ask(admin.addr, "DELETE / HTTP/1.1\r\nHost: localhost\r\n").await;
    problem(&answer, 403, "csrf-refused");
    problem(&ask(admin.addr, "OPTIONS / HTTP/1.1\r\nHost: localhost\r\n").await, 405, "method-not-allowed");
    assert_eq!(get(admin.addr, "/?live=%ff&x").await.status, 200);
    let answer = get(admin.addr, "/v1/reload").await;
    problem(&answer, 405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "POST");
    let page = ask(admin.addr, &format!("GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\n{BROWSER}")).await;
    assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"));
    assert!(page.body.contains("<h1>There is nothing at this address</h1>"), "{}", page.body);
    let head = ask(admin.addr, "HEAD / HTTP/1.1\r\nHost: localhost\r\n").await;
    assert_eq!((head.status, &*head.body), (200, ""));
}

#[tokio::test]
async fn bodies_heads_and_connections_are_limited() {
    let limits = Limits { connections: 2, head: Duration::from_millis(300), ..Limits::default() };
    let admin = Admin::start_with(kit::settings(false), limits).await;
    let big =
        format!("POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n{}", "x".repeat(20_000));
    problem(&ask_raw(admin.addr, big.as_bytes()).await, 413, "call-too-large");
    let slow = "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n";
    problem(&ask(admin.addr, slow).await, 408, "body-timeout");
    let many: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(ask(admin.addr, &format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}")).await.status, 431);
    // Two silent connections fill the server; a third is served once their heads are overdue.
    let silent = [connect(admin.addr).await, connect(admin.addr).await];
    assert_eq!(get(admin.addr, "/livez").await.status, 200);
    for stream in silent {
        assert_eq!(kit::read_to_end(stream).await, b"", "a connection without a request is closed");
    }
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_time() {
    let short = Duration::from_millis(100);
    let admin =
        Admin::start_with(kit::settings(false), Limits { lifetime: short, grace: short, ..Limits::default() }).await;
    let mut dribbling = connect(admin.addr).await;
    dribbling.write_all(b"GET / HTTP/1.1\r\nHost: local").await.unwrap();
    assert_eq!(kit::read_to_end(dribbling).await, b"", "long before its head is overdue");
}

#[tokio::test]
async fn sampling_begins_at_once_and_ends_with_the_drain() {
    let admin = Admin::start(false).await;
    let sampling = tokio::spawn(admin.vitals.clone().run(admin.trigger.subscribe()));
    until(|| admin.node.views() > 0).await;
    admin.trigger.advance(DrainPhase::Closed);
    kit::in_time(sampling).await.unwrap();
}

#[tokio::test]
async fn the_admin_answers_through_the_drain_and_ends_when_it_is_closed() {
    let mut admin = Admin::start(false).await;
    admin.trigger.advance(DrainPhase::Draining);
    let status = get(admin.addr, "/v1/status").await.json();
    assert_eq!(status["readiness"]["ready"], false);
    assert_eq!(status["notices"][0], "This node takes no new work: stopping.");

    // A request in flight finishes; an idle connection does not hold the end up.
    let csrf = get(admin.addr, "/v1/csrf").await.json()["token"].as_str().unwrap().to_owned();
    let gate = admin.node.hold_reloads();
    let addr = admin.addr;
    let flying = tokio::spawn(async move {
        let head =
            format!("POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nX-CSRF-Token: {csrf}\r\n");
        ask(addr, &head).await
    });
    let idle = connect(addr).await;
    until(|| admin.node.reloads() == 1).await;
    admin.trigger.advance(DrainPhase::Closed);
    assert_eq!(kit::read_to_end(idle).await, b"");
    assert!(!admin.serving.is_finished());
    drop(gate);
    assert_eq!(flying.await.unwrap().status, 200);
    kit::in_time(&mut admin.serving).await.unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_server_ends_when_told() {
    let mut admin = Admin::start(false).await;
    assert_eq!(get(admin.addr, "/livez").await.status, 200);
    admin.server.stop();
    kit::in_time(&mut admin.serving).await.unwrap();
    let mut api = Api::start().await;
    api.server.stop();
    kit::in_time(&mut api.serving).await.unwrap();
}

#[tokio::test]
async fn the_api_is_scoped() {
    let api = Api::start().await;
    let with = async |path: &str, token: &str| {
        ask(api.addr, &format!("GET {path} HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer {token}\r\n")).await
    };
    assert_eq!(get(api.addr, "/livez").await.status, 200);
    assert_eq!(get(api.addr, "/readyz").await.body, "ready\n");
    for path in ["/v1/token", "/v1/services", "/v1/services/shop", "/nothing"] {
        let answer = get(api.addr, path).await;
        problem(&answer, 401, "token-required");
        assert_eq!(answer.headers("www-authenticate"), ["Bearer realm=\"evenkeel\""]);
    }
    let token = with("/v1/token", READER_TOKEN).await.json();
    assert_eq!((token["name"].as_str(), token["scopes"][0].as_str()), (Some("reader"), Some("services:read")));

    // An operator's token has no rights here but its own scopes.
    let answer = with("/v1/services", OPERATOR_TOKEN).await;
    problem(&answer, 403, "scope-missing");
    assert_eq!(answer.json()["scope"], "services:read");
    assert!(answer.header("www-authenticate").contains("scope=\"services:read\""));

    let services = with("/v1/services", READER_TOKEN).await.json();
    assert_eq!(services["services"][0]["name"], "shop");
    assert_eq!(services["services"][0]["endpoints"][1]["reason"], "passed its checks");
    assert_eq!(with("/v1/services/shop", READER_TOKEN).await.json()["healthy"], 2);
    problem(&with("/v1/services/none", READER_TOKEN).await, 404, "not-found");
    problem(&with("/v1/services/%ff", READER_TOKEN).await, 404, "not-found");
    problem(&with("/v1/reload", READER_TOKEN).await, 404, "not-found");
    problem(&with("/v1/status", OPERATOR_TOKEN).await, 404, "not-found");
    api.trigger.advance(DrainPhase::Announced);
    assert_eq!(get(api.addr, "/readyz").await.status, 503);
}
