//! What a node tells of its past over HTTP: pages of the journal, single requests, counts; and what is refused.

#![expect(clippy::unwrap_used, reason = "only tests use this module; a failure here is a test's failure")]

use std::time::Duration;

use kernel::event::Event;
use kernel::tally::{Counts, Period, Subject};
use kernel::trace::{Kept, RequestTrace, Step, TraceEnd, What};
use serde_json::{Value, json};

use crate::kit::{Admin, Answer, OPERATOR_TOKEN, ask, get};
use crate::problem;

const BEGIN_MS: u64 = crate::kit::BEGIN_UNIX_S * 1_000;

pub(crate) fn ejected(endpoint: &str) -> Event {
    let [service, from, reason] = ["shop", "closed", "refused twice"].map(str::to_owned);
    Event::EndpointEjected { service, endpoint: endpoint.to_owned(), from, reason }
}

pub(crate) fn stopping(reason: &str) -> Event {
    Event::NodeStopping { pid: 7, reason: reason.to_owned() }
}

/// Three events, a minute apart.
async fn told() -> Admin {
    let admin = Admin::start(false).await;
    let past = &admin.node.past;
    for event in [stopping("one"), ejected("a:1"), ejected("b:2")] {
        past.journal.tell(event);
        past.clock.advance(Duration::from_secs(60));
    }
    admin
}

async fn page(admin: &Admin, query: &str) -> Value {
    let answer = get(admin.addr, &format!("/v1/journal{query}")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{answer:?}");
    answer.json()
}

fn cursors(page: &Value) -> Vec<u64> {
    page["records"].as_array().unwrap().iter().map(|record| record["cursor"].as_u64().unwrap()).collect()
}

async fn text(admin: &Admin, path: &str) -> Answer {
    ask(admin.addr, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n")).await
}

#[tokio::test]
async fn the_journal_is_read_from_either_end_and_by_what_it_is_about() {
    let admin = told().await;
    let all = page(&admin, "").await;
    assert_eq!((cursors(&all), &all["more"]), (vec![3, 2, 1], &json!(false)));
    let newest = &all["records"][0];
    assert_eq!(
        (&newest["kind"], &newest["level"], &newest["mark"]),
        (&json!("endpoint.ejected"), &json!("warn"), &json!(true))
    );
    assert_eq!(newest["sentence"], "b:2 of shop was taken out: refused twice");
    assert_eq!((&newest["service"], &newest["data"]["reason"]), (&json!("shop"), &json!("refused twice")));
    for (query, wanted) in [
        ("?order=oldest", vec![1, 2, 3]),
        ("?after=1", vec![2, 3]),
        ("?after=1&order=newest", vec![3, 2]),
        ("?before=3", vec![2, 1]),
        ("?kind=node", vec![1]),
        ("?kind=node.stopping&kind=endpoint.ejected", vec![3, 2, 1]),
        ("?kind=config,deploy", vec![]),
        ("?service=shop&endpoint=a%3A1", vec![2]),
        ("?level=warn", vec![3, 2]),
        ("?level=error", vec![]),
        ("?marks=true&level=info", vec![3, 2, 1]),
        ("?since=90s", vec![3]),
        ("?since=2026-03-01T12:01:00Z&until=2026-03-01T12:02:00Z", vec![2]),
        (&format!("?until={}", BEGIN_MS + 1), vec![1]),
    ] {
        assert_eq!(cursors(&page(&admin, query).await), wanted, "{query}");
    }
    let first = page(&admin, "?limit=2").await;
    assert_eq!((cursors(&first), &first["more"]), (vec![3, 2], &json!(true)));
    let lines = text(&admin, "/v1/journal?order=oldest&limit=2").await;
    assert_eq!(lines.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(
        lines.body,
        "2026-03-01T12:00:00Z  info   process 7 stops: one\n\
         2026-03-01T12:01:00Z  warn   a:1 of shop was taken out: refused twice\n"
    );
}

#[tokio::test]
async fn a_parameter_that_cannot_be_meant_is_refused_by_its_name() {
    let admin = told().await;
    for (path, name) in [
        ("/v1/journal?limit=1001", "limit"),
        ("/v1/journal?kind=endpoint.exploded", "kind"),
        ("/v1/journal?since=soon", "since"),
        ("/v1/journal?sinc=1h", "sinc"),
        ("/v1/journal/follow?until=1h", "until"),
        ("/v1/journal/follow?after=x", "after"),
        ("/v1/traces?limit=0", "limit"),
        ("/v1/traces?services=shop", "services"),
        ("/v1/tallies?scope=node&name=x", "scope"),
        ("/v1/tallies?name=x", "scope"),
        ("/v1/tallies?scope=service", "name"),
        ("/v1/tallies?scope=endpoint&name=a:1", "service"),
        ("/v1/tallies?scope=route&name=a&service=shop", "service"),
        ("/v1/tallies?scope=pool&name=a&service=shop", "service"),
        ("/v1/tallies?scope=route&name=a&step=5s", "step"),
        ("/v1/tallies?scope=route&name=a&since=1h&until=2h", "since"),
        ("/v1/tallies?scope=route&name=a&step=15s&since=15d", "since"),
    ] {
        let answer = get(admin.addr, path).await;
        problem(&answer, 400, "malformed-call");
        assert_eq!(answer.json()["parameter"], name, "{path}");
    }
    let head = "GET /v1/journal/follow HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: seven\r\n";
    problem(&ask(admin.addr, head).await, 400, "malformed-call");
    for path in ["/v1/journal", "/v1/why/x", "/v1/traces", "/v1/tallies", "/v1/journal/follow"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n");
        problem(&ask(admin.addr, &head).await, 403, "csrf-refused");
        let strict = Admin::start(true).await;
        problem(&get(strict.addr, path).await, 401, "token-required");
    }
    let strict = Admin::start(true).await;
    let head = format!("GET /v1/journal HTTP/1.1\r\nHost: keel\r\nAuthorization: Bearer {OPERATOR_TOKEN}\r\n");
    assert_eq!(ask(strict.addr, &head).await.status, 200);
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_said() {
    let admin = told().await;
    admin.node.past.lose_journal(true);
    let answer = get(admin.addr, "/v1/journal").await;
    problem(&answer, 503, "store-unreadable");
    assert!(answer.json()["detail"].as_str().unwrap().contains("the disk is away"), "{answer:?}");
}

fn request(id: &str, service: &str) -> RequestTrace {
    let step = |at_us, what| Step { at_us, what };
    RequestTrace {
        id: id.into(),
        at_unix_us: BEGIN_MS * 1_000,
        method: "GET".into(),
        target: "/cart".into(),
        host: "shop.example".into(),
        client: "10.0.0.7".into(),
        route: "shop".into(),
        service: service.into(),
        worker: 0,
        kept: vec![Kept::Failed],
        steps: vec![
            step(10, What::Routed { timeout_ms: 900, repeatable: true, tier: 0 }),
            step(90, What::NotAgain { reason: "its time is up", budget: None }),
        ],
        clipped: false,
        end: TraceEnd { status: 504, error: Some("upstream-timeout"), took_us: 900_000, ..TraceEnd::default() },
    }
}

#[tokio::test]
async fn a_request_is_explained_with_what_happened_in_its_minutes() {
    let admin = told().await;
    let cart = Event::EndpointDrained {
        service: "cart".into(),
        endpoint: "c:3".into(),
        actor: "ann".into(),
        reason: "a disk".into(),
        kept: true,
    };
    admin.node.past.journal.tell(cart);
    *admin.node.past.traces.lock().unwrap() = vec![request("abc", "shop"), request("d/e", "cart")];
    let why = get(admin.addr, "/v1/why/abc").await;
    assert_eq!(why.status, 200, "{why:?}");
    let why = why.json();
    assert_eq!((&why["found"][0]["id"], &why["found"][0]["end"]["status"]), (&json!("abc"), &json!(504)));
    assert_eq!(why["found"][0]["steps"][1]["step"], "not_again");
    // The third of them was two minutes later; the one of another service is not about it.
    let kinds: Vec<_> = why["journal"].as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["node.stopping", "endpoint.ejected"]);
    let text = text(&admin, "/v1/why/d%2Fe").await.body;
    assert!(text.contains("GET /cart") && text.contains("its time is up"), "{text}");
    // What was decided of the request is told even if the journal cannot be read.
    admin.node.past.lose_journal(true);
    let why = get(admin.addr, "/v1/why/abc").await.json();
    assert_eq!((why["found"].as_array().unwrap().len(), &why["journal"]), (1, &json!([])));
    let unknown = get(admin.addr, "/v1/why/%1b%5B31m").await;
    problem(&unknown, 404, "trace-unknown");
    assert_eq!(unknown.json()["not_kept"]["sample_one_in"], 1_000);
    assert!(!unknown.json()["detail"].as_str().unwrap().contains('\u{1b}'));
    problem(&get(admin.addr, "/v1/why/%ff").await, 404, "trace-unknown");
}

#[tokio::test]
async fn known_requests_are_listed() {
    let admin = Admin::start(false).await;
    *admin.node.past.traces.lock().unwrap() = vec![request("abc", "shop"), request("def\u{7}", "cart")];
    let all = get(admin.addr, "/v1/traces").await.json();
    assert_eq!(all["traces"].as_array().unwrap().len(), 2);
    assert_eq!(all["traces"][0]["kept"], json!(["failed"]));
    let cart = get(admin.addr, "/v1/traces?service=cart&limit=1").await.json();
    assert_eq!(cart["traces"][0]["service"], "cart");
    let text = text(&admin, "/v1/traces?service=cart").await;
    assert_eq!(text.body, "2026-03-01T12:00:00Z  def   504   900 ms  GET /cart: it failed\n");
}

#[tokio::test]
async fn counts_come_as_whole_periods() {
    let admin = Admin::start(false).await;
    let begin = BEGIN_MS / 1_000;
    let subject = Subject::Endpoint { service: "shop".into(), name: "a:1".into() };
    let period = |at: u64| {
        let mut counts = Counts { by_class: [0, 7, 0, 1, 2, 1], second_tries: 3, ..Counts::default() };
        counts.latency.buckets[2] = 11;
        counts.latency.sum_us = 20_000;
        Period { start_unix_s: at, seconds: 60, covered_ms: 59_000, counts }
    };
    let periods = [begin - 7_200, begin - 60, begin].map(period).to_vec();
    admin.node.past.tallies.0.lock().unwrap().insert((subject, 60), periods);
    let listed = get(admin.addr, "/v1/tallies").await.json();
    assert_eq!(listed["subjects"], json!([{ "scope": "endpoint", "service": "shop", "name": "a:1" }]));
    let read = get(admin.addr, "/v1/tallies?scope=endpoint&service=shop&name=a:1&since=1h").await.json();
    assert_eq!((&read["since_unix_s"], &read["until_unix_s"]), (&json!(begin - 3_600), &json!(begin + 60)));
    assert_eq!((&read["step_seconds"], read["periods"].as_array().unwrap().len()), (&json!(60), 2));
    let first = &read["periods"][0];
    assert_eq!((&first["start_unix_s"], &first["covered_ms"]), (&json!(begin - 60), &json!(59_000)));
    assert_eq!((&first["requests"], &first["failed"], &first["second_tries"]), (&json!(11), &json!(3), &json!(3)));
    assert_eq!((&first["answers"]["2xx"], &first["answers"]["unanswered"]), (&json!(7), &json!(1)));
    let pool = get(admin.addr, "/v1/tallies?scope=pool&name=main").await.json();
    assert_eq!(pool["subject"], json!({ "scope": "pool", "name": "main" }));
    let bounds = read["latency_bounds_seconds"].as_array().unwrap().len();
    assert_eq!(first["latency"]["buckets"].as_array().unwrap().len(), bounds + 1);
    let most = get(admin.addr, "/v1/tallies?scope=service&name=shop&since=10999m&until=0s").await;
    assert_eq!(most.status, 200, "{most:?}");
}
