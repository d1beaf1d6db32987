//! The counters are exact: they equal what the clients counted, in both formats, and a client cannot make a series.

use std::collections::BTreeMap;

use testkit::{Binary, Load, LoadOptions, LoadReport, LoadRequest, Reply, Upstream, eventually};

use crate::support::{Config, Metrics, SOON, ask, await_metric, saying};

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// Sends one request again and again from two clients until it was answered at least `least` times.
fn load(node: &Binary, request: LoadRequest, least: u64) -> LoadReport {
    let load = Load::start(LoadOptions::new(node.gateway(), 2).requests(vec![request])).unwrap();
    eventually(SOON, "some answers", || {
        let report = load.report();
        (report.ok >= least || report.failed > 0).then_some(())
    });
    let report = load.stop();
    report.assert_clean();
    assert_eq!(report.resent, 0, "{report:?}");
    report
}

/// Both formats of one scrape each.
fn scrapes(node: &Binary) -> [Metrics; 2] {
    let prometheus = ask(node.console(), "GET /metrics");
    let open = ask(node.console(), "GET /metrics\nAccept: application/openmetrics-text; version=1.0.0");
    assert_eq!(prometheus.header("content-type"), Some(PROMETHEUS));
    assert_eq!(open.header("content-type"), Some(OPEN_METRICS));
    assert!(open.text().ends_with("# EOF\n"));
    [Metrics::parse(&prometheus.text()), Metrics::parse(&open.text())]
}

/// A shop that answers with the status that the last segment of the path names, else with 200.
fn by_path() -> testkit::ServingUpstream {
    let answer = |r: &testkit::ReceivedRequest| {
        let status = r.path().rsplit('/').next().and_then(|s| s.parse().ok()).filter(|s| *s >= 200).unwrap_or(200);
        Reply::status(status, "answer")
    };
    Upstream::serving(answer).unwrap()
}

#[test]
fn counters_equal_what_the_clients_counted() {
    let (shop, blog) = (by_path(), by_path());
    let routes = "[[route]]\nname = \"cart\"\npath = \"/cart/{id}\"\nservice = \"shop\"\n\
                  [[route]]\nname = \"shop\"\npath = \"/shop/*\"\nservice = \"shop\"\n\
                  [[route]]\nname = \"blog\"\npath = \"/blog/*\"\nservice = \"blog\"";
    let node = Config::new().service("shop", &[shop.addr()], "").service("blog", &[blog.addr()], "").with(routes).up();
    let cases = [
        ("cart", "shop", "2xx", LoadRequest::get("/cart/7").expect(200)),
        ("cart", "shop", "4xx", LoadRequest::get("/cart/404").expect(404)),
        ("shop", "shop", "2xx", LoadRequest::post("/shop/x", "abc").expect(200)),
        ("shop", "shop", "3xx", LoadRequest::get("/shop/x/302").expect(302)),
        ("blog", "blog", "2xx", LoadRequest::get("/blog/204").expect(204)),
        ("blog", "blog", "5xx", LoadRequest::get("/blog/500").expect(500)),
    ];
    let mut expected: BTreeMap<String, f64> = BTreeMap::new();
    for kind in ["route", "service"] {
        for name in if kind == "route" { &["cart", "shop", "blog"][..] } else { &["shop", "blog"] } {
            for class in CLASSES {
                expected.insert(format!("evenkeel_{kind}_requests_total{{{kind}=\"{name}\",class=\"{class}\"}}"), 0.0);
            }
        }
    }
    for (name, addr) in [("shop", shop.addr()), ("blog", blog.addr())] {
        for class in CLASSES {
            let labels = format!("service=\"{name}\",endpoint=\"{addr}\",class=\"{class}\"");
            expected.insert(format!("evenkeel_endpoint_attempts_total{{{labels}}}"), 0.0);
        }
    }
    let mut durations: BTreeMap<String, f64> = BTreeMap::new();
    for (route, service, class, request) in cases {
        let count = load(&node, request, 60).ok as f64;
        let addr = if service == "shop" { shop.addr() } else { blog.addr() };
        let labels = [
            format!("evenkeel_route_requests_total{{route=\"{route}\",class=\"{class}\"}}"),
            format!("evenkeel_service_requests_total{{service=\"{service}\",class=\"{class}\"}}"),
            format!("evenkeel_endpoint_attempts_total{{service=\"{service}\",endpoint=\"{addr}\",class=\"{class}\"}}"),
        ];
        labels.into_iter().for_each(|series| *expected.get_mut(&series).unwrap() += count);
        for series in [
            format!("evenkeel_route_request_duration_seconds_count{{route=\"{route}\"}}"),
            format!("evenkeel_service_request_duration_seconds_count{{service=\"{service}\"}}"),
            format!("evenkeel_endpoint_attempt_duration_seconds_count{{service=\"{service}\",endpoint=\"{addr}\"}}"),
        ] {
            *durations.entry(series).or_default() += count;
        }
    }

    // A request is counted a moment after its answer is sent.
    let counted = |metrics: &Metrics, all: &BTreeMap<String, f64>| all.iter().all(|(s, n)| metrics.get(s) == Some(*n));
    eventually(SOON, &format!("exactly {expected:#?}"), || counted(&Metrics::of(&node), &expected).then_some(()));
    for metrics in scrapes(&node) {
        let found = |prefix: &str| metrics.starting(prefix).into_iter().map(|(s, n)| (s.to_owned(), n)).collect();
        let families: [BTreeMap<String, f64>; 3] =
            ["evenkeel_route_requests_total", "evenkeel_service_requests_total", "evenkeel_endpoint_attempts_total"]
                .map(found);
        let all: BTreeMap<String, f64> = families.into_iter().flatten().collect();
        assert_eq!(all, expected, "more or other series than there are routes, services and endpoints");
        for (series, count) in &durations {
            assert_eq!(metrics.get(series), Some(*count), "{series}");
        }
        let in_flight: f64 = metrics.starting("evenkeel_route_requests_in_flight").iter().map(|(_, v)| v).sum();
        assert_eq!(in_flight, 0.0);
    }
    assert_eq!(
        shop.requests() as f64,
        durations[&"evenkeel_service_request_duration_seconds_count{service=\"shop\"}".to_owned()]
    );
}

#[test]
fn the_formats_differ_in_form_only() {
    let shop = saying("x");
    let node = Config::new().service("shop", &[shop.addr()], "").up();
    ask(node.gateway(), "GET /");
    let request = "evenkeel_route_requests_total{route=\"shop\",class=\"2xx\"}";
    await_metric(&node, request, 1.0);
    let names = |metrics: &Metrics| -> Vec<String> {
        // Bounds are written `1` in one and `1.0` in the other.
        let plain = |series: &String| series.replace(".0\"", "\"");
        let mut names: Vec<_> = metrics.all().keys().map(plain).collect();
        names.sort();
        names
    };
    let [prometheus, open] = scrapes(&node);
    assert_eq!(names(&prometheus), names(&open));
    assert!(prometheus.all().len() > 50, "{prometheus:?}");
    // A young process may have used less CPU time than the system counts in.
    for (process, least) in
        [("process_cpu_seconds_total", 0.0), ("process_resident_memory_bytes", 1e6), ("process_open_fds", 5.0)]
    {
        assert!(prometheus.get(process).is_some_and(|v| v >= least), "{process}");
    }
    assert_eq!(prometheus.get("evenkeel_scrape_dropped_series"), Some(0.0));
}

#[test]
fn what_clients_send_never_becomes_a_label() {
    let shop = by_path();
    let routes = "[[route]]\nname = \"cart\"\nhost = \"shop.example.com\"\npath = \"/cart/{id}\"\nservice = \"shop\"";
    let node = Config::new().service("shop", &[shop.addr()], "").with(routes).up();
    let before = Metrics::of(&node);
    for n in 0..30 {
        let known = ask(node.gateway(), &format!("GET /cart/tainted-{n}\nHost: shop.example.com"));
        assert_eq!(known.status, 200);
        let strange = ask(node.gateway(), &format!("GET /tainted-{n}\nHost: tainted-{n}.example"));
        assert_eq!(strange.status, 404);
        let method = ask(node.gateway(), &format!("TAINTED{n} /cart/x\nHost: shop.example.com"));
        assert_eq!(method.status, 200);
    }
    await_metric(&node, "evenkeel_route_requests_total{route=\"cart\",class=\"2xx\"}", 60.0);
    await_metric(&node, "evenkeel_gateway_errors_total{code=\"no-route\",kind=\"client\"}", 30.0);
    let text = ask(node.console(), "GET /metrics").text();
    assert!(!text.to_lowercase().contains("tainted"), "{text}");
    let after = Metrics::parse(&text);
    let by_request = |series: &&String| series.contains("route=") || series.contains("code=");
    let new: Vec<_> = after.all().keys().filter(by_request).filter(|s| !before.all().contains_key(*s)).collect();
    assert!(new.is_empty(), "{new:?}");
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let shop = saying("x");
    let node = Config::new().service("shop", &[shop.addr()], "").up();
    let mut clients: Vec<_> = (0..3).map(|_| testkit::RawClient::connect(node.gateway()).unwrap()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/", SOON).unwrap().status, 200);
    }
    let open = "evenkeel_gateway_connections_open";
    await_metric(&node, open, 3.0);
    assert_eq!(Metrics::of(&node).get("evenkeel_gateway_connections_accepted_total"), Some(3.0));
    drop(clients);
    await_metric(&node, open, 0.0);
    let idle = format!("evenkeel_endpoint_connections_idle{{service=\"shop\",endpoint=\"{}\"}}", shop.addr());
    assert!(Metrics::of(&node).get(&idle).is_some_and(|n| n >= 1.0));
}
