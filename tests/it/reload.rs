//! Another configuration while the node runs: by signal, by a change of a file, under load; and one that is wrong.

use std::collections::BTreeSet;

use testkit::{Binary, Gate, Load, LoadOptions, LoadRequest, RawClient, Reply, Resend, Signal, Upstream, eventually};

use crate::support::{Config, Metrics, SOON, ask, ask_with, await_healthy, await_metric, json, saying};

const GENERATION: &str = "evenkeel_config_generation";
const VALID: &str = "evenkeel_config_valid";
const REFUSED: &str = "evenkeel_config_reloads_total{outcome=\"refused\"}";
const APPLIED: &str = "evenkeel_config_reloads_total{outcome=\"applied\"}";

/// Writes another file, tells the node by signal and waits until it says that it took it over: every request from then
/// on follows it.
#[track_caller]
fn take_over(node: &Binary, config: &Config) {
    let before = Metrics::of(node).get(APPLIED).unwrap();
    node.write_config(&config.text()).unwrap();
    node.signal(Signal::Hup).unwrap();
    // The file is watched too: one that both have seen may count twice.
    eventually(SOON, "the configuration to be taken over", || {
        (Metrics::of(node).get(APPLIED).unwrap() > before).then_some(())
    });
}

/// What the console says about the last reload.
fn last_reload(node: &Binary) -> serde_json::Value {
    json(&ask(node.console(), "GET /v1/status"))["config"]["last_reload"].clone()
}

#[test]
fn a_hundred_reloads_under_load_fail_nobody() {
    let (one, two) = (saying("one"), saying("two"));
    let single = Config::new().service("shop", &[one.addr()], "");
    let routed = Config::new()
        .gateway("max_headers = 60")
        .service("shop", &[two.addr(), one.addr()], "balance = \"round_robin\"\nmax_connections = 4\n")
        .service("spare", &[two.addr()], "health = { path = \"/\", interval = \"100ms\" }\n")
        .with("[[route]]\npath = \"/none/*\"\nservice = \"spare\"\n[[route]]\nname = \"all\"\nservice = \"shop\"");
    let node = single.up();
    let requests = vec![LoadRequest::get("/"), LoadRequest::post("/cart", "abc")];
    let options = LoadOptions { resend: Resend::Never, ..LoadOptions::new(node.gateway(), 6).requests(requests) };
    let load = Load::start(options).unwrap();
    for n in 1..=100 {
        let before = load.report().ok;
        take_over(&node, if n % 2 == 1 { &routed } else { &single });
        eventually(SOON, "requests under this configuration", || (load.report().ok > before).then_some(()));
    }
    let report = load.stop();
    report.assert_clean();
    assert_eq!(report.connections, 6, "a reload cost clients their connection: {report:?}");
    let metrics = Metrics::of(&node);
    assert!(metrics.get(APPLIED).unwrap() >= 100.0 && metrics.get(REFUSED) == Some(0.0));
    assert_eq!(metrics.get(VALID), Some(1.0));
    assert!(one.requests() > 0 && two.requests() > 0);
    assert_eq!([one.problems(), two.problems()].concat(), Vec::<String>::new());
}

#[test]
fn a_changed_file_is_picked_up_without_a_signal() {
    let (one, two) = (saying("one"), saying("two"));
    let node = Config::new().service("shop", &[one.addr()], "").up();
    // Right away: not even a change in the first moment may be missed.
    node.write_config(&Config::new().service("shop", &[two.addr()], "").text()).unwrap();
    eventually(SOON, "the new endpoint", || (ask(node.gateway(), "GET /").text() == "two").then_some(()));
    assert_eq!(Metrics::of(&node).get(GENERATION), Some(1.0));
    assert_eq!(last_reload(&node)["applied"], true);
}

#[test]
fn a_reload_that_is_asked_for_over_http_says_what_came_of_it() {
    let (one, two) = (saying("one"), saying("two"));
    let node = Config::new().service("shop", &[one.addr()], "").up();
    let token = json(&ask(node.console(), "GET /v1/csrf"))["token"].as_str().unwrap().to_owned();
    let reload = || ask_with(node.console(), &format!("POST /v1/reload\nX-Csrf-Token: {token}"), "");
    node.write_config(&Config::new().service("shop", &[two.addr()], "").text()).unwrap();
    let answer = reload();
    assert_eq!((answer.status, json(&answer)["message"].as_str()), (200, Some("in force")), "{answer:?}");
    assert_eq!(ask(node.gateway(), "GET /").text(), "two");

    // One error among things that are merely unwise: it is the error that is told.
    let text = Config::new().service("shop", &[two.addr()], "timeuot = \"5s\"\n").text();
    node.write_config(&text).unwrap();
    let answer = reload();
    assert_eq!(answer.status, 422, "{answer:?}");
    let problem = json(&answer);
    assert_eq!(problem["code"], "reload-refused");
    assert!(problem["detail"].as_str().unwrap().contains("`timeuot` is not a key"), "{problem}");
    let findings = problem["findings"].as_array().unwrap();
    assert!(findings.len() == 1 && findings[0]["place"]["line"] == 9, "{problem}");
    assert_eq!(ask(node.gateway(), "GET /").text(), "two");
}

#[test]
fn an_invalid_file_changes_nothing_and_says_so_everywhere() {
    let shop = saying("still here");
    let config = Config::new().service("shop", &[shop.addr()], "");
    let node = config.up();
    assert_eq!(Metrics::of(&node).get(VALID), Some(1.0));
    let broken = config.text().replace("endpoints", "timeuot = \"5s\"\nendpoints");
    node.write_config(&broken).unwrap();
    node.signal(Signal::Hup).unwrap();
    await_metric(&node, VALID, 0.0);

    let metrics = Metrics::of(&node);
    assert!(metrics.get(REFUSED).unwrap() >= 1.0);
    assert_eq!((metrics.get(APPLIED), metrics.get(GENERATION)), (Some(0.0), Some(0.0)));
    assert_eq!(ask(node.gateway(), "GET /").text(), "still here");
    let line = node.wait_log("configuration refused", SOON).unwrap();
    assert!(
        line.contains("unknown-key") && line.contains("evenkeel.toml:8:1") && line.contains("did you mean `timeout`?"),
        "{line}"
    );

    let last = last_reload(&node);
    assert_eq!(last["applied"], false);
    assert!(last["findings"].as_array().unwrap().iter().any(|f| f["id"] == "unknown-key"), "{last}");
    for accept in ["text/plain", "text/html"] {
        let page = ask(node.console(), &format!("GET /\nAccept: {accept}")).text();
        assert!(page.contains("The last reload was refused") && page.contains("did you mean"), "{page}");
    }

    // It is complained about once, and a right one ends it.
    let complaints = metrics.get(REFUSED).unwrap();
    take_over(&node, &config.clone().gateway("max_headers = 60"));
    await_metric(&node, VALID, 1.0);
    assert_eq!(Metrics::of(&node).get(REFUSED), Some(complaints));
    assert_eq!(last_reload(&node)["applied"], true);
}

#[test]
fn a_file_that_is_gone_changes_nothing() {
    let shop = saying("still here");
    let config = Config::new().service("shop", &[shop.addr()], "");
    let node = config.up();
    std::fs::remove_file(node.config()).unwrap();
    node.signal(Signal::Hup).unwrap();
    await_metric(&node, VALID, 0.0);
    assert_eq!(ask(node.gateway(), "GET /").text(), "still here");
    node.write_config(&config.text()).unwrap();
    // Without a signal: the watch sees that it is back.
    await_metric(&node, VALID, 1.0);
}

#[test]
fn a_request_ends_under_what_it_began_with() {
    let gate = Gate::new();
    let held = gate.clone();
    let old = Upstream::serving(move |r| match r.path() {
        "/held" => Reply::ok("old").wait(&held),
        _ => Reply::ok("old"),
    });
    let (old, new) = (old.unwrap(), saying("new"));
    let header = |value: &str| {
        format!("[[route]]\nservice = \"shop\"\nresponse_headers = {{ set = {{ x-config = \"{value}\" }} }}")
    };
    let node = Config::new().service("shop", &[old.addr()], "").with(&header("first")).up();
    let mut client = RawClient::connect(node.gateway()).unwrap();
    client.send("GET /held HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
    eventually(SOON, "the request to arrive", || (old.requests() == 1).then_some(()));
    take_over(&node, &Config::new().service("shop", &[new.addr()], "").with(&header("second")));

    let fresh = ask(node.gateway(), "GET /");
    assert_eq!((fresh.text().as_str(), fresh.header("x-config")), ("new", Some("second")));
    gate.open();
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.text().as_str(), answer.header("x-config")), ("old", Some("first")));
    // The same connection goes on under the new configuration.
    let next = client.get("/", SOON).unwrap();
    assert_eq!((next.text().as_str(), next.header("x-config")), ("new", Some("second")));
}

#[test]
fn what_needs_a_restart_is_said_and_the_rest_is_taken_over() {
    let (one, two) = (saying("one"), saying("two"));
    let node = Config::new().service("shop", &[one.addr()], "").up();
    let changed = Config::new()
        .gateway("listen = \"127.0.0.2:0\"")
        .gateway("workers = 3")
        .service("shop", &[two.addr()], "")
        .with("[api]\nlisten = \"127.0.0.1:0\"");
    take_over(&node, &changed);
    let message = last_reload(&node)["message"].as_str().unwrap().to_owned();
    let expected = "in force, but a restart is needed for the gateway's addresses, api.listen, gateway.workers";
    assert_eq!(message, expected);
    node.wait_log(expected, SOON).unwrap();
    assert!(ask(node.console(), "GET /").text().contains(expected));
    assert_eq!(ask(node.gateway(), "GET /").text(), "two");
}

#[test]
fn endpoints_come_and_go_and_those_that_stay_keep_their_counters() {
    let shops = ["one", "two", "three"].map(saying);
    let [one, two, three] = [0, 1, 2].map(|i| shops[i].addr());
    let checks = "health = { path = \"/healthz\", interval = \"100ms\" }\nbalance = \"round_robin\"\n";
    let node = Config::new().service("shop", &[one, two], checks).up();
    await_healthy(&node, 2);
    let ask_some = || (0..8).map(|_| ask(node.gateway(), "GET /").text()).collect::<BTreeSet<_>>();
    assert_eq!(ask_some().into_iter().collect::<Vec<_>>(), ["one", "two"]);
    let attempts = |addr: std::net::SocketAddr| {
        let series = format!("evenkeel_endpoint_attempts_total{{service=\"shop\",endpoint=\"{addr}\",class=\"2xx\"}}");
        Metrics::of(&node).get(&series)
    };
    let at_one = eventually(SOON, "the attempts to be counted", || {
        let (at_one, at_two) = (attempts(one)?, attempts(two)?);
        (at_one + at_two == 8.0).then_some(at_one)
    });

    take_over(&node, &Config::new().service("shop", &[one, three], checks));
    await_healthy(&node, 2);
    assert_eq!(ask_some().into_iter().collect::<Vec<_>>(), ["one", "three"]);
    assert_eq!(attempts(two), None, "an endpoint that is gone still has a series");
    let sum = || Some(attempts(one)? + attempts(three)?);
    eventually(SOON, "the attempts to go on counting", || (sum()? == at_one + 8.0).then_some(()));
    // Nobody asks an endpoint that is gone, for its health neither.
    let (asked, checked) = (shops[1].requests(), shops[2].requests());
    eventually(SOON, "more checks", || (shops[2].requests() > checked + 5).then_some(()));
    assert_eq!(shops[1].requests(), asked);
    eventually(SOON, "its connections to close", || (shops[1].open_connections() == 0).then_some(()));
}

#[test]
fn a_changed_error_page_is_picked_up() {
    let refusing = Upstream::refusing().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("sorry.html");
    std::fs::write(&page, "<p>sorry</p>").unwrap();
    let route = format!("[[route]]\nservice = \"shop\"\nerror_pages = {{ \"503\" = \"{}\" }}", page.display());
    let node = Config::new().service("shop", &[refusing.addr()], "").with(&route).up();
    let shown = || ask(node.gateway(), "GET /\nAccept: text/html");
    let first = shown();
    assert_eq!((first.status, first.text().as_str()), (503, "<p>sorry</p>"));
    assert_eq!(first.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(json(&ask(node.gateway(), "GET /\nAccept: application/json"))["code"], "upstream-unreachable");

    std::fs::write(&page, "<p>truly sorry</p>").unwrap();
    eventually(SOON, "the new page", || (shown().text() == "<p>truly sorry</p>").then_some(()));

    // A page that is gone is an error, the old one stays in force; when it is back, that is seen too.
    std::fs::remove_file(&page).unwrap();
    await_metric(&node, VALID, 0.0);
    assert_eq!(shown().text(), "<p>truly sorry</p>");
    std::fs::write(&page, "<p>back</p>").unwrap();
    eventually(SOON, "the page that is back", || (shown().text() == "<p>back</p>").then_some(()));
    assert_eq!(Metrics::of(&node).get(VALID), Some(1.0));
}

#[test]
fn tokens_and_the_access_log_change_live() {
    let shop = saying("x");
    let config = Config::new().service("shop", &[shop.addr()], "").with("[api]\nlisten = \"127.0.0.1:0\"");
    let node = config.up();
    let token = crate::support::new_token("reader", &["services:read"]);
    let ask_api = || ask(node.api(), &format!("GET /v1/services\nAuthorization: Bearer {}", token.text)).status;
    assert_eq!(ask_api(), 401);
    take_over(&node, &config.clone().with(&token.stanza).with("[access_log]\npath = \"access.log\""));
    assert_eq!(ask_api(), 200);
    ask(node.gateway(), "GET /logged");
    crate::support::await_file(&node.directory().join("access.log"), "a line", |text| text.contains("/logged"));
    take_over(&node, &config);
    eventually(SOON, "the token to be withdrawn", || (ask_api() == 401).then_some(()));
}
