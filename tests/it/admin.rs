//! The console of a whole node: who is let in, in which shape the answers come, and what a browser is told.

use testkit::Binary;

use crate::support::{Config, NewToken, ask, ask_with, await_metric, directory, json, new_token, run_in, saying};

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn problem(answer: &testkit::RawResponse, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(json(answer)["code"], code, "{answer:?}");
}

fn node() -> (Binary, testkit::ServingUpstream) {
    let shop = saying("x");
    (Config::new().service("shop", &[shop.addr()], "").up(), shop)
}

#[test]
fn a_name_that_anyone_can_point_here_is_refused() {
    let shop = saying("x");
    let config = Config::new().service("shop", &[shop.addr()], "");
    let node = Binary::up(&config.text().replace("[admin]\n", "[admin]\nhosts = [\"keel.internal\"]\n")).unwrap();
    for host in ["rebound.example", "localhost.rebound.example", "10.0.0.7:7070", "127.0.0.1.nip.io"] {
        for path in ["/", "/v1/status", "/v1/csrf", "/metrics", "/journal", "/why", "/unknown"] {
            problem(&ask(node.console(), &format!("GET {path}\nHost: {host}")), 421, "host-refused");
        }
        // A probe tells nothing that is worth a secret.
        assert_eq!(ask(node.console(), &format!("GET /livez\nHost: {host}")).status, 200);
    }
    let port = node.console().port();
    for host in [&format!("localhost:{port}"), &format!("127.0.0.1:{port}"), "[::1]", "KEEL.internal:443"] {
        assert_eq!(ask(node.console(), &format!("GET /v1/status\nHost: {host}")).status, 200, "{host}");
    }
}

#[test]
fn a_change_must_be_meant() {
    let (node, _shop) = node();
    let reload = |lines: &str, body: &str| ask_with(node.console(), &format!("POST /v1/reload\n{lines}"), body);
    let token = json(&ask(node.console(), "GET /v1/csrf"))["token"].as_str().unwrap().to_owned();
    let here = format!("http://{}", node.console());
    problem(&reload("", ""), 403, "csrf-refused");
    problem(&reload("X-Csrf-Token: 0000", ""), 403, "csrf-refused");
    problem(&reload(&format!("X-Csrf-Token: {token}\nOrigin: https://evil.example"), ""), 403, "csrf-refused");
    problem(&reload(&format!("X-Csrf-Token: {token}\nSec-Fetch-Site: cross-site"), ""), 403, "csrf-refused");
    problem(&ask(node.console(), "GET /v1/reload"), 405, "method-not-allowed");
    // Nothing of this was a reload.
    await_metric(&node, "evenkeel_config_generation", 0.0);

    let answer = reload(&format!("X-Csrf-Token: {token}\nOrigin: {here}\nSec-Fetch-Site: same-origin"), "");
    assert_eq!((answer.status, json(&answer)["applied"].as_bool()), (200, Some(true)), "{answer:?}");
    // As the button of the page sends it.
    let form = "Content-Type: application/x-www-form-urlencoded";
    let answer = reload(&format!("{form}\nOrigin: {here}\n{BROWSER}"), &format!("csrf={token}"));
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{answer:?}");
    await_metric(&node, "evenkeel_config_generation", 2.0);
    assert!(ask(node.console(), &format!("GET /\n{BROWSER}")).text().contains(&token), "the page's own form has it");
}

#[test]
fn each_reader_gets_the_state_in_its_shape() {
    let (node, _shop) = node();
    ask(node.gateway(), "GET /");
    await_metric(&node, "evenkeel_route_requests_total{route=\"shop\",class=\"2xx\"}", 1.0);
    let cases = [
        ("", "text/plain; charset=utf-8"),
        ("Accept: */*", "text/plain; charset=utf-8"),
        ("Accept: application/json", "application/json"),
        (BROWSER, "text/html; charset=utf-8"),
    ];
    for (accept, kind) in cases {
        let answer = ask(node.console(), &format!("GET /\n{accept}"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{accept}");
        assert!(answer.text().contains("The only endpoint of shop is healthy"), "{}", answer.text());
    }
    let status = json(&ask(node.console(), "GET /v1/status"));
    assert_eq!(status["level"], "ok");
    assert_eq!(status["workers"], 2);
    assert_eq!(status["listeners"][0], format!("http://{}", node.gateway()));
    assert_eq!(status["routes"][0]["answers_total"]["2xx"], 1);
    assert_eq!(status["services"][0]["endpoints"][0]["state"], "healthy");
    assert_eq!(status["config"]["source"], node.config().display().to_string());
    problem(&ask(node.console(), "GET /unknown"), 404, "not-found");
}

#[test]
fn a_browser_runs_one_own_script_and_loads_nothing_from_elsewhere() {
    let (node, _shop) = node();
    for path in ["/", "/v1/status", "/metrics", "/livez", "/unknown", "/v1/reload"] {
        let answer = ask(node.console(), &format!("GET {path}\n{BROWSER}"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(
            policy.contains("script-src 'self';") && !policy.contains("unsafe") && !policy.contains('*'),
            "{path}: {policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let page = ask(node.console(), &format!("GET /\n{BROWSER}")).text();
    assert!(page.matches("<script").count() == 1 && page.contains("<script src=\"/assets/live-"), "{page}");
    for foreign in [" onclick", "src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!page.contains(foreign), "{foreign} in {page}");
    }
}

/// A node whose console everyone can reach, and its operator.
fn exposed() -> (Binary, testkit::ServingUpstream, NewToken, NewToken) {
    let shop = saying("x");
    let (operator, reader) = (new_token("ops", &["operator"]), new_token("reader", &["services:read"]));
    let config = Config::new().service("shop", &[shop.addr()], "").with(&operator.stanza).with(&reader.stanza).text();
    let node =
        Binary::up(&config.replace("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"0.0.0.0:0\"")).unwrap();
    (node, shop, operator, reader)
}

#[test]
fn beyond_loopback_it_demands_a_token_at_every_door() {
    let (node, _shop, operator, reader) = exposed();
    assert_eq!(node.console().ip().to_string(), "0.0.0.0");
    let console = std::net::SocketAddr::from(([127, 0, 0, 1], node.console().port()));
    let with = |path: &str, authorization: &str| ask(console, &format!("GET {path}\nAuthorization: {authorization}"));
    let bearer = |token: &NewToken| format!("Bearer {}", token.text);
    for path in ["/", "/v1/status", "/v1/csrf", "/metrics", "/journal", "/why", "/unknown"] {
        let answer = ask(console, &format!("GET {path}"));
        problem(&answer, 401, "token-required");
        assert_eq!(answer.headers("www-authenticate").len(), 2, "{answer:?}");
        problem(&with(path, "Bearer evk_AAAA"), 401, "token-required");
        problem(&with(path, &bearer(&reader)), 403, "scope-missing");
        // The stored hash is no password.
        problem(&with(path, &format!("Bearer {}", operator.hash)), 401, "token-required");
        let status = with(path, &bearer(&operator)).status;
        assert_eq!(status, if path == "/unknown" { 404 } else { 200 }, "{path}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask(console, &format!("GET {path}")).status, 200);
    }
    // By any name, for no page at another name has a token to send.
    let named = ask(console, &format!("GET /v1/status\nHost: keel.example\nAuthorization: {}", bearer(&operator)));
    assert_eq!(named.status, 200);
    // A change needs both.
    problem(&ask_with(console, "POST /v1/reload", ""), 401, "token-required");
    let reload = format!("POST /v1/reload\nAuthorization: {}", bearer(&operator));
    problem(&ask_with(console, &reload, ""), 403, "csrf-refused");
    let csrf = json(&with("/v1/csrf", &bearer(&operator)))["token"].as_str().unwrap().to_owned();
    let answer = ask_with(console, &format!("{reload}\nX-Csrf-Token: {csrf}"), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    // The log names who did it, and never how it was proven.
    let line = node.wait_log("reload asked for over HTTP", crate::support::SOON).unwrap();
    assert!(line.contains("ops"), "{line}");
    let logs = node.logs();
    for secret in [&operator.text, &reader.text, &operator.hash, &reader.hash, &csrf] {
        assert!(!logs.contains(secret.as_str()), "{secret} is in the log:\n{logs}");
    }
}

#[test]
fn beyond_loopback_without_an_operator_it_does_not_start() {
    let reader = new_token("reader", &["services:read"]);
    let open = "[gateway]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"0.0.0.0:0\"\n\
                [service.shop]\nendpoints = [\"127.0.0.1:9\"]\n";
    for text in [open.to_owned(), format!("{open}{}", reader.stanza)] {
        let ended = run_in(directory(&text).path(), &["up"]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("error[admin-exposed]"), "{}", ended.stderr);
        assert!(ended.stderr.contains("evenkeel token new"), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}
