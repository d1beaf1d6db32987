//! What is kept of the counts equals what the clients counted, by class of answer, while endpoints come and go. The long form
//! of this is `cargo xtask storm --counts`.

use std::collections::BTreeMap;
use std::time::Duration;

use testkit::{
    Binary, Load, LoadOptions, LoadRequest, ReceivedRequest, Reply, Resend, ServingUpstream, Upstream, eventually,
};

use crate::support::{Config, Metrics, SOON, ask, await_healthy, json};

/// Classes as metrics have them, and as tallies do.
const CLASSES: [(&str, &str); 6] =
    [("1xx", "1xx"), ("2xx", "2xx"), ("3xx", "3xx"), ("4xx", "4xx"), ("5xx", "5xx"), ("none", "unanswered")];

type Counts = [u64; 6];

/// Answers with the status that the path names; `/cut` breaks off behind more than is ever held.
fn answer(request: &ReceivedRequest) -> Reply {
    match request.path() {
        "/cut" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n";
            Reply::raw([head.as_bytes(), &[b'x'; 150_000]].concat()).close()
        }
        path => Reply::status(path[1..].parse().unwrap_or(200), "answer"),
    }
}

/// Everything that is kept, by subject, in periods of this step.
fn tallies(node: &Binary, step: &str) -> BTreeMap<String, Counts> {
    let list = json(&ask(node.console(), "GET /v1/tallies"));
    let subjects = list["subjects"].as_array().unwrap().iter();
    let read = subjects.map(|subject| {
        let text = |key: &str| subject[key].as_str().unwrap_or_default().to_owned();
        let (scope, name, service) = (text("scope"), text("name"), text("service"));
        let of = if service.is_empty() { String::new() } else { format!("&service={service}") };
        let page = json(&ask(node.console(), &format!("GET /v1/tallies?scope={scope}&name={name}{of}&step={step}")));
        let mut counts = [0; 6];
        for period in page["periods"].as_array().unwrap() {
            for (count, (_, class)) in counts.iter_mut().zip(CLASSES) {
                *count += period["answers"][class].as_u64().unwrap();
            }
        }
        (format!("{scope} {name}"), counts)
    });
    read.collect()
}

/// The same, as the counters have it.
fn metrics(node: &Binary) -> BTreeMap<String, Counts> {
    let all = Metrics::of(node);
    let mut found: BTreeMap<String, Counts> = BTreeMap::new();
    for (scope, family) in [
        ("route", "evenkeel_route_requests_total{"),
        ("service", "evenkeel_service_requests_total{"),
        ("endpoint", "evenkeel_endpoint_attempts_total{"),
    ] {
        for (series, value) in all.starting(family) {
            let label = |name: &str| series.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
            let class = CLASSES.iter().position(|(class, _)| *class == label("class")).unwrap();
            found.entry(format!("{scope} {}", label(scope))).or_default()[class] += value as u64;
        }
    }
    found.retain(|_, counts| *counts != [0; 6]);
    found
}

/// Requests for one path: those that are answered as expected, and those that are not.
fn clients(node: &Binary, path: &str, status: u16) -> Load {
    let options = LoadOptions::new(node.gateway(), 2).requests(vec![LoadRequest::get(path).expect(status)]);
    Load::start(LoadOptions { resend: Resend::Never, pause: Duration::from_millis(2), ..options }).unwrap()
}

#[test]
fn tallies_counters_and_clients_have_the_same_counts_while_endpoints_fail() {
    let shop: [ServingUpstream; 3] = [(); 3].map(|()| Upstream::serving(answer).unwrap());
    let addresses = shop.each_ref().map(ServingUpstream::addr);
    let checks = "health = { tcp = true, interval = \"200ms\", fast_interval = \"100ms\" }\n\
                  outlier = { base_ejection = \"100ms\" }";
    let node = Config::new().service("shop", &addresses, checks).up();
    let loads = [("/200", 200, 1), ("/301", 301, 2), ("/404", 404, 3), ("/500", 500, 4)];
    let loads = loads.map(|(path, status, class)| (clients(&node, path, status), class));
    let cut = clients(&node, "/cut", 200);
    let go_on = |least: u64| {
        let before: Vec<u64> = loads.iter().map(|(load, _)| load.report().ok).collect();
        eventually(SOON, "more answers of each kind", || {
            let mut gained = loads.iter().zip(&before).map(|((load, _), before)| load.report().ok - before);
            gained.all(|n| n >= least).then_some(())
        });
    };
    for upstream in &shop[..2] {
        go_on(100);
        upstream.down();
        await_healthy(&node, 2);
        go_on(100);
        upstream.up().unwrap();
        await_healthy(&node, 3);
    }
    eventually(SOON, "answers that break off", || (cut.report().failed >= 20).then_some(()));

    let mut expected: Counts = [0; 6];
    for (load, class) in loads {
        let report = load.stop();
        // A replica that goes takes what it was answering with it: what was broken off is 502, once it cannot be tried again.
        assert_eq!(report.failed, 0, "{report:?}");
        expected[class] += report.ok;
    }
    let report = cut.stop();
    expected[5] = report.failed;
    assert_eq!(report.ok, 0, "{report:?}");

    eventually(SOON, &format!("the node to count {expected:?}"), || {
        let (counters, minutes, quarters) = (metrics(&node), tallies(&node, "1m"), tallies(&node, "15s"));
        let of = |subject: &str| counters.get(subject).copied().unwrap_or_default();
        let is_equal = of("route shop") == expected && of("service shop") == expected;
        (is_equal && minutes == counters && quarters == counters).then_some(())
    });
}
