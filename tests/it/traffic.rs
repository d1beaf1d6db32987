//! What a team sees on its first day: the smallest file, the access log, and an upstream with few threads.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use testkit::{Binary, Load, LoadOptions, LoadRequest, Reply, Resend, ServingOptions, Signal, Upstream, eventually};

use crate::support::{Config, SOON, ask, ask_with, await_file, await_healthy, json, saying};

/// The smallest useful file, as the documentation shows it.
const SMALLEST: &str = r#"
[gateway]
listen = "127.0.0.1:8080"
[admin]
listen = "127.0.0.1:7070"          # console, operator API, /livez, /readyz, /metrics
[service.shop]
endpoints = ["127.0.0.1:9101", "127.0.0.1:9102", "127.0.0.1:9103"]
health = { path = "/healthz" }
"#;

#[test]
fn the_smallest_file_works_as_it_stands() {
    let shops: Vec<_> = ["one", "two", "three"].map(saying).into_iter().collect();
    let mut text = SMALLEST.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:7070", "127.0.0.1:0");
    for (i, shop) in shops.iter().enumerate() {
        text = text.replace(&format!("127.0.0.1:910{}", i + 1), &shop.addr().to_string());
    }
    let node = Binary::up(&text).unwrap();
    assert_eq!(ask(node.console(), "GET /readyz").status, 200);
    await_healthy(&node, 3);

    // A lone service takes every request: whatever host, path and method.
    let mut seen = BTreeSet::new();
    for n in 0..12 {
        for head in ["GET /", "PUT /cart/7?n=1\nHost: shop.example.com", "POST /deep/er\nHost: [::1]:8080"] {
            let answer = ask_with(node.gateway(), head, if head.starts_with("GET") { "" } else { "abc" });
            assert_eq!(answer.status, 200, "{n} {head}: {answer:?}");
            seen.insert(answer.text());
        }
    }
    assert_eq!(seen.len(), 3, "not every copy was asked: {seen:?}");
    let checked = |r: &std::sync::Arc<testkit::ReceivedRequest>| r.target == "/healthz" && r.method == "GET";
    for shop in &shops {
        eventually(SOON, "a health check", || shop.received().iter().any(checked).then_some(()));
        assert_eq!(shop.problems(), Vec::<String>::new());
    }
}

#[test]
fn the_service_learns_who_asked_and_the_client_which_request_it_was() {
    let shop = saying("x");
    let node = Config::new().service("shop", &[shop.addr()], "").up();
    let answer =
        ask(node.gateway(), "GET /a?b=c\nHost: shop.example.com\nX-Forwarded-For: 6.6.6.6\nX-Request-Id: mine");
    let received = shop.received();
    let [request] = received.as_slice() else { panic!("one request was sent, {received:?} came") };
    assert_eq!(request.target, "/a?b=c");
    assert_eq!(request.header("host"), Some("shop.example.com"));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-host"), Some("shop.example.com"));
    let id = request.header("x-request-id").unwrap();
    assert_ne!(id, "mine", "a client that is not trusted chose the id");
    assert_eq!(answer.header("x-request-id"), Some(id));
    assert!(request.header("traceparent").unwrap().starts_with("00-"));
}

#[test]
fn a_line_of_text_tells_a_request() {
    let shop = saying("hello");
    let log = "[access_log]\npath = \"access.log\"\n";
    let node = Config::new().service("shop", &[shop.addr()], "").with(log).up();
    let answer = ask(node.gateway(), "GET /cart?id=7\nHost: shop.example.com");
    let id = answer.header("x-request-id").unwrap().to_owned();
    // The path counts from the directory of the configuration.
    let text = await_file(&node.directory().join("access.log"), "a line", |text| text.ends_with('\n'));
    let part = format!("shop.example.com/cart?id=7 -> shop {}", shop.addr());
    for part in [" 200 ", " GET ", "127.0.0.1 ", &part, &format!("id={id}")] {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_line_of_json_tells_a_request() {
    let shop = Upstream::serving(|r| if r.target == "/bad" { Reply::hang_up() } else { Reply::ok("hello") }).unwrap();
    let tables = "[access_log]\npath = \"access.log\"\nformat = \"json\"\n\
                  [[route]]\nname = \"carts\"\nhost = \"shop.example.com\"\nservice = \"shop\"\n";
    let node = Config::new().service("shop", &[shop.addr()], "").with(tables).up();
    let host = "Host: shop.example.com";
    let good = ask_with(node.gateway(), &format!("POST /cart?id=7\n{host}"), "abc");
    let lost = ask(node.gateway(), "GET /x\nHost: other.example");
    let failed = ask_with(node.gateway(), &format!("POST /bad\n{host}"), "abc");
    assert_eq!((good.status, lost.status, failed.status), (200, 404, 502));

    let text = await_file(&node.directory().join("access.log"), "three lines", |text| text.lines().count() == 3);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |answer: &testkit::RawResponse| {
        let id = answer.header("x-request-id").unwrap();
        lines.iter().find(|line| line["request_id"] == id).unwrap_or_else(|| panic!("no {id} in {text}"))
    };
    let good_line = line(&good);
    let told = |line: &Value, names: &[&str]| names.iter().map(|n| line[n].clone()).collect::<Vec<_>>();
    let endpoint = shop.addr().to_string();
    assert_eq!(
        told(good_line, &["client", "method", "target", "host", "status", "error", "route", "service", "endpoint"]),
        [
            "127.0.0.1".into(),
            "POST".into(),
            "/cart?id=7".into(),
            "shop.example.com".into(),
            200.into(),
            Value::Null,
            "carts".into(),
            "shop".into(),
            Value::from(endpoint.as_str()),
        ]
    );
    assert_eq!(told(good_line, &["bytes_in", "bytes_out", "attempts"]), [3, 5, 1], "{good_line}");
    assert!(good_line["duration_ms"].as_f64().unwrap() > 0.0 && good_line["time"].as_str().unwrap().ends_with('Z'));
    let lost_line = line(&lost);
    assert_eq!(told(lost_line, &["status", "error", "route"]), [Value::from(404), "no-route".into(), Value::Null]);
    let failed_line = line(&failed);
    assert_eq!(
        told(failed_line, &["status", "error", "route"]),
        [Value::from(502), "upstream-closed".into(), "carts".into()]
    );
}

#[test]
fn without_a_path_the_access_log_is_standard_output() {
    let shop = saying("hello");
    let log = "[access_log]\nformat = \"json\"\n";
    let node = Config::new().service("shop", &[shop.addr()], "").with(log).up();
    let answer = ask(node.gateway(), "GET /stdout");
    let line = node.wait_log("\"/stdout\"", SOON).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["request_id"], answer.header("x-request-id").unwrap());
}

#[test]
fn of_what_went_well_a_sample_is_written_and_of_failures_all() {
    let shop = Upstream::serving(|r| match r.target.as_str() {
        "/fails" => Reply::status(503, "no"),
        _ => Reply::ok("x"),
    });
    let shop = shop.unwrap();
    let log = "[access_log]\npath = \"access.log\"\nformat = \"json\"\nsample = 0.5\n";
    let node = Config::new().service("shop", &[shop.addr()], "").with(log).up();
    let mut client = testkit::RawClient::connect(node.gateway()).unwrap();
    for n in 0..400 {
        assert_eq!(client.get("/fine", SOON).unwrap().status, 200);
        if n % 20 == 0 {
            assert_eq!(client.get("/fails", SOON).unwrap().status, 503);
        }
    }
    assert_eq!(client.get("/fails?last", SOON).unwrap().status, 200);
    ask(node.gateway(), "GET /fails");
    let text = await_file(&node.directory().join("access.log"), "the last failure", |text| {
        text.lines().filter(|line| line.contains("\"/fails\"")).count() == 21
    });
    // Of 400 even chances 200 come true with a sigma of 10: five of them either way.
    let fine = text.lines().filter(|line| line.contains("\"/fine\"")).count();
    assert!((150..=250).contains(&fine), "{fine} of 400 lines were written at a sample of a half");
}

#[test]
fn a_rotated_access_log_loses_no_line() {
    let shop = saying("x");
    let log = "[access_log]\npath = \"access.log\"\n";
    let node = Config::new().service("shop", &[shop.addr()], "").with(log).up();
    let (path, old) = (node.directory().join("access.log"), node.directory().join("access.log.1"));
    let load = Load::start(LoadOptions::new(node.gateway(), 2)).unwrap();
    await_file(&path, "a first line", |text| !text.is_empty());
    std::fs::rename(&path, &old).unwrap();
    // Until the signal the lines follow the file to its new name.
    let before = load.report().ok;
    eventually(SOON, "requests after the rename", || (load.report().ok > before + 20).then_some(()));
    assert!(!path.exists());
    node.signal(Signal::Usr1).unwrap();
    await_file(&path, "a line in the new file", |text| !text.is_empty());
    let report = load.stop();
    report.assert_clean();
    let lines = |path: &PathBuf| std::fs::read_to_string(path).unwrap().lines().count() as u64;
    eventually(SOON, "a line for each request", || (lines(&old) + lines(&path) == report.ok).then_some(()));
    let dropped = crate::support::Metrics::of(&node).get("evenkeel_access_log_dropped_total");
    assert_eq!(dropped, Some(0.0));
}

/// An application server with two threads, each of which serves one connection until that closes, behind a gateway with
/// eight workers and sixteen clients: every client is served, and nothing fails.
fn two_threads_serve_everyone(service: &str) {
    let options = ServingOptions { workers: Some(2), ..ServingOptions::default() };
    let shop = Upstream::serving_with(options, |r| Reply::ok(format!("{} {}", r.method, r.body.len()))).unwrap();
    let node = Config::new().gateway("workers = 8").service("shop", &[shop.addr()], service).up();
    let requests = vec![LoadRequest::get("/"), LoadRequest::post("/", "abc"), LoadRequest::get("/other")];
    let options = LoadOptions { resend: Resend::Never, ..LoadOptions::new(node.gateway(), 16).requests(requests) };
    let load = Load::start(options).unwrap();
    let served = testkit::poll_until(SOON, || {
        let report = load.report();
        let everyone = report.by_client.iter().all(|n| *n >= 25);
        (everyone || report.failed > 0).then_some(())
    });
    let report = load.stop();
    assert!(served.is_some(), "some client starved: {report:?}");
    report.assert_clean();
    assert_eq!(shop.problems(), Vec::<String>::new());
}

#[test]
fn an_upstream_with_two_threads_starves_nobody_by_default() {
    two_threads_serve_everyone("");
}

#[test]
fn an_upstream_with_two_threads_starves_nobody_with_as_many_connections() {
    two_threads_serve_everyone("max_connections = 2\n");
}

#[test]
fn an_upstream_with_two_threads_starves_nobody_while_it_is_checked() {
    two_threads_serve_everyone("health = { path = \"/healthz\", interval = \"200ms\" }\n");
}

#[test]
fn what_the_gateway_makes_itself_is_a_problem_document() {
    let refusing = Upstream::refusing().unwrap();
    let tables = "[[route]]\npath = \"/shop/*\"\nservice = \"shop\"\n";
    let node = Config::new().service("shop", &[refusing.addr()], "").with(tables).up();
    for (head, status, code) in [
        ("GET /shop/x", 503, "upstream-unreachable"),
        ("GET /elsewhere", 404, "no-route"),
        ("GET /shop/../x", 400, "malformed-request"),
    ] {
        let answer = ask(node.gateway(), head);
        assert_eq!(answer.status, status, "{head}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let document = json(&answer);
        assert_eq!(document["code"], code, "{head}");
        assert_eq!(document["request_id"].as_str(), answer.header("x-request-id"), "{head}");
    }
}
