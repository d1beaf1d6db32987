//! Routes on real requests: which one takes a request, and what each kind of rule does to it. The rules themselves are
//! proven in `policy`; here is that the gateway asks them the right question and does what they say.

use std::sync::Arc;

use gateway::plan::{ErrorPage, HeaderEdits, RouteAction, RoutePlan};
use policy::cors::{CorsConfig, CorsPolicy};
use policy::route::{HeaderMatch, RouteMatch};
use policy::split::WeightedSplit;
use testkit::{RawResponse, Reply, ServingUpstream, Upstream};

use crate::support::{Running, SOON, Setup, cidrs, code, forward, get, post, route, service};

/// What a route matches, from words like `host=a.test path=/b/* method=GET x-a x-b=1`.
fn matching(words: &str) -> RouteMatch {
    let mut m = RouteMatch::default();
    for word in words.split_whitespace() {
        match word.split_once('=') {
            Some(("host", host)) => m.hosts.push(host.parse().unwrap()),
            Some(("path", path)) => m.path = Some(path.parse().unwrap()),
            Some(("method", method)) => m.methods.push(method.to_owned()),
            Some((name, value)) => m.headers.push(HeaderMatch { name: name.to_owned(), value: Some(value.to_owned()) }),
            None => m.headers.push(HeaderMatch { name: word.to_owned(), value: None }),
        }
    }
    m
}

/// Routes named after what they match, which all lead to one service.
fn table(routes: &[&str]) -> (ServingUpstream, Running) {
    let upstream = Upstream::serving(|r| Reply::ok(r.target.clone())).unwrap();
    let rows = routes.iter().map(|words| (matching(words), route(words, forward(0)))).collect();
    let running = Setup::to(upstream.addr()).routes(rows).start();
    (upstream, running)
}

/// One route for everything, changed.
fn one(change: impl FnOnce(&mut RoutePlan)) -> (ServingUpstream, Running) {
    let upstream = Upstream::serving(|r| {
        Reply::ok(r.text()).header("Server", "theirs").header("X-A", "1").header("Vary", "Accept")
    })
    .unwrap();
    let running = Setup::to(upstream.addr()).route(change).start();
    (upstream, running)
}

/// The route that took the last request, by its counter.
fn taken(running: &Running, before: &mut Vec<u64>) -> Option<String> {
    let now: Vec<u64> = running.view().routes.iter().map(|r| r.total() + r.in_flight).collect();
    before.resize(now.len(), 0);
    let at = (0..now.len()).find(|i| now[*i] > before[*i]);
    *before = now;
    at.map(|i| running.view().routes[i].name.clone())
}

#[test]
fn the_first_route_that_matches_takes_the_request() {
    let routes = [
        "host=admin.test",
        "host=*.shop.test path=/a/*",
        "path=/exact",
        "path=/users/{id}/orders",
        "path=/api/* method=POST method=PUT",
        "path=/api/* x-beta=yes",
        "path=/api/* x-any",
        "path=/api/*",
    ];
    let (_upstream, running) = table(&routes);
    let request = |line: &str, host: &str, rest: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\n{rest}\r\n");
    let mut before = Vec::new();
    for (line, host, rest, expected) in [
        ("GET /", "admin.test", "", Some(0)),
        ("GET /", "ADMIN.test:8080", "", Some(0)),
        ("GET /", "admin.test.", "", Some(0)),
        ("GET http://admin.test/", "admin.test", "", Some(0)),
        ("GET /", "x.admin.test", "", None),
        ("GET /a/b", "x.shop.test", "", Some(1)),
        ("GET /a", "x.y.shop.test", "", Some(1)),
        ("GET /a/b", "shop.test", "", None),
        ("GET /ab", "x.shop.test", "", None),
        ("GET /exact", "a", "", Some(2)),
        ("GET /exact?q", "a", "", Some(2)),
        ("GET /ex%61ct", "a", "", Some(2)),
        ("GET //exact", "a", "", Some(2)),
        ("GET /exact/", "a", "", None),
        ("GET /Exact", "a", "", None),
        ("GET /users/7/orders", "a", "", Some(3)),
        ("GET /users//orders", "a", "", None),
        ("GET /users/7/8/orders", "a", "", None),
        ("PUT /api/x", "a", "", Some(4)),
        ("POST /api", "a", "", Some(4)),
        ("GET /api/x", "a", "X-Beta: yes\r\n", Some(5)),
        ("GET /api/x", "a", "x-BETA:  yes \r\n", Some(5)),
        ("GET /api/x", "a", "X-Beta: no\r\n", Some(7)),
        ("GET /api/x", "a", "X-Any: \r\n", Some(6)),
        ("GET /api/x", "a", "", Some(7)),
        ("GET /apis", "a", "", None),
    ] {
        let answer = running.ask(request(line, host, rest));
        let expected: Option<&str> = expected.map(|i: usize| routes[i]);
        assert_eq!(taken(&running, &mut before).as_deref(), expected, "{line} of {host} with {rest:?}");
        match expected {
            Some(_) => assert_eq!(answer.status, 200, "{line}"),
            None => {
                assert_eq!((answer.status, code(&answer).as_str(), answer.closes()), (404, "no-route", false), "{line}")
            }
        }
    }
}

#[test]
fn a_prefix_is_rewritten_and_nothing_else() {
    let rewrite = Some(("/api".to_owned(), "/v2".to_owned()));
    let action = RouteAction::Forward { targets: vec![0], split: WeightedSplit::new(&[1]).unwrap(), rewrite };
    let upstream = Upstream::serving(|r| Reply::ok(r.target.clone())).unwrap();
    let routes =
        vec![(matching("path=/api/*"), route("api", action)), (matching("path=/*"), route("rest", forward(0)))];
    let running = Setup::to(upstream.addr()).routes(routes).start();
    for (sent, expected) in [
        ("/api/x", "/v2/x"),
        ("/api", "/v2"),
        ("/api?q=/api", "/v2?q=/api"),
        ("/api/%61%2F?q", "/v2/%61%2F?q"),
        ("/%61pi/x", "/v2/x"),
        ("//api//x", "/v2/x"),
        ("/apis/x", "/apis/x"),
        ("/x/api", "/x/api"),
    ] {
        assert_eq!(running.ask(get(sent)).text(), expected, "{sent}");
    }
}

#[test]
fn a_redirect_is_answered_without_the_service() {
    let upstream = Upstream::script(Vec::new()).unwrap();
    let location = "https://{host}{path}{query}".to_owned();
    let running =
        Setup::to(upstream.addr()).route(|r| r.action = RouteAction::Redirect { status: 308, location }).start();
    let mut client = running.client();
    for (request, expected) in [
        (get("/a/b?c=d"), "https://a.test/a/b?c=d"),
        (get("/"), "https://a.test/"),
        (get("//evil.test/x"), "https://a.test/evil.test/x"),
        (post("/a", "body"), "https://a.test/a"),
    ] {
        client.send(&request).unwrap();
        let answer = client.read_response(SOON).unwrap();
        assert_eq!((answer.status, answer.header("location"), answer.closes()), (308, Some(expected), false));
        assert_eq!((answer.body.len(), answer.header("content-length")), (0, Some("0")));
    }
    // A body that is still coming ends the connection, as always.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    assert!(client.read_response(SOON).unwrap().closes());
    upstream.finish(SOON).unwrap();
}

#[test]
fn headers_are_set_and_removed_both_ways() {
    let set = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let (upstream, running) = one(|r| {
        r.request_headers =
            HeaderEdits { remove: vec!["cookie".to_owned()], set: set(&[("X-Team", "shop"), ("X-New", "n")]) };
        r.response_headers = HeaderEdits { remove: vec!["server".to_owned()], set: set(&[("X-A", "2"), ("X-B", "b")]) };
    });
    let answer =
        running.ask("GET / HTTP/1.1\r\nHost: a\r\nCookie: a\r\nx-team: evil\r\nX-Team: evil\r\nCOOKIE: b\r\n\r\n");
    let received = upstream.received().pop().unwrap();
    assert_eq!((received.headers("cookie").len(), received.headers("x-team")), (0, vec!["shop"]));
    assert_eq!(received.headers("x-new"), ["n"]);
    assert_eq!(
        (answer.headers("server").len(), answer.headers("x-a"), answer.headers("x-b")),
        (0, vec!["2"], vec!["b"])
    );
}

#[test]
fn the_host_for_the_service_may_be_another() {
    let upstream = Upstream::serving(|_| Reply::ok("ok")).unwrap();
    let running = Setup::to(upstream.addr()).service(|s| s.host = Some("inner.test".to_owned())).start();
    running.ask(get("/"));
    let received = upstream.received().pop().unwrap();
    assert_eq!((received.headers("host"), received.headers("x-forwarded-host")), (vec!["inner.test"], vec!["a.test"]));
}

#[test]
fn addresses_are_allowed_and_denied() {
    for (allow, deny, status) in [
        (&[][..], &[][..], 200),
        (&["127.0.0.0/8"], &[], 200),
        (&["10.0.0.0/8"], &[], 403),
        (&[], &["127.0.0.1"], 403),
        (&["127.0.0.0/8"], &["127.0.0.1"], 403),
        (&[], &["10.0.0.0/8", "::/0"], 200),
    ] {
        let (upstream, running) = one(|r| (r.allow, r.deny) = (cidrs(allow), cidrs(deny)));
        // What an unknown peer says about itself changes nothing.
        let answer = running.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n");
        assert_eq!(answer.status, status, "{allow:?} {deny:?}");
        if status == 403 {
            assert_eq!(
                (code(&answer).as_str(), answer.closes(), upstream.connections()),
                ("forbidden-address", false, 0)
            );
        }
    }
}

#[test]
fn behind_a_trusted_proxy_the_client_counts() {
    let upstream = Upstream::serving(|_| Reply::ok("ok")).unwrap();
    let running =
        Setup::to(upstream.addr()).trusting(&["127.0.0.0/8"]).route(|r| r.deny = cidrs(&["10.0.0.0/8"])).start();
    for (forwarded, status) in [("10.1.1.1", 403), ("10.1.1.1, 192.0.2.1", 200), ("192.0.2.1, 10.1.1.1", 403)] {
        let answer = running.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {forwarded}\r\n\r\n"));
        assert_eq!(answer.status, status, "{forwarded}");
    }
}

fn cors() -> CorsPolicy {
    CorsPolicy::new(CorsConfig {
        origins: vec!["https://app.test".to_owned()],
        methods: vec!["PUT".to_owned()],
        headers: vec!["x-key".to_owned()],
        credentials: true,
        ..CorsConfig::default()
    })
    .unwrap()
}

fn preflight(origin: &str, method: &str) -> String {
    format!("OPTIONS /a HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\r\n")
}

#[test]
fn preflights_are_answered_here() {
    let (upstream, running) = one(|r| r.cors = Some(cors()));
    let granted = running.ask(preflight("https://app.test", "PUT"));
    assert_eq!((granted.status, granted.header("access-control-allow-origin")), (204, Some("https://app.test")));
    assert_eq!(granted.header("access-control-allow-methods"), Some("PUT"));
    assert_eq!(
        (granted.header("access-control-allow-credentials"), granted.header("vary")),
        (Some("true"), Some("Origin"))
    );
    for (origin, method) in [("https://evil.test", "PUT"), ("https://app.test", "DELETE")] {
        let refused = running.ask(preflight(origin, method));
        assert_eq!((refused.status, refused.headers("access-control-allow-origin").len()), (204, 0));
        assert_eq!(refused.header("vary"), Some("Origin"));
    }
    assert_eq!(upstream.connections(), 0);
    // Without an origin it is an ordinary OPTIONS, and so it is without a method to ask for.
    assert_eq!(running.ask("OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(running.ask("OPTIONS /a HTTP/1.1\r\nHost: a\r\nOrigin: https://app.test\r\n\r\n").status, 200);
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn answers_say_who_may_read_them() {
    let upstream =
        Upstream::serving(|_| Reply::ok("ok").header("Access-Control-Allow-Origin", "*").header("Vary", "Accept"))
            .unwrap();
    let running = Setup::to(upstream.addr()).route(|r| r.cors = Some(cors())).start();
    let ask = |origin: &str| running.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{origin}\r\n"));
    let allowed = ask("Origin: https://app.test\r\n");
    assert_eq!(allowed.headers("access-control-allow-origin"), ["https://app.test"]);
    assert_eq!(
        (allowed.header("access-control-allow-credentials"), allowed.headers("vary")),
        (Some("true"), vec!["Accept", "Origin"])
    );
    for origin in ["Origin: https://evil.test\r\n", ""] {
        assert_eq!(ask(origin).headers("vary"), ["Accept", "Origin"], "{origin}");
    }
    // What the service says for itself is not the last word.
    assert_eq!(ask("Origin: https://evil.test\r\n").headers("access-control-allow-origin"), [""; 0]);
}

fn page() -> Vec<(u16, Arc<ErrorPage>)> {
    let page = ErrorPage { content_type: "text/html".to_owned(), body: b"<p>back soon</p>".to_vec() };
    vec![(503, Arc::new(page))]
}

/// Sends a GET with this `Accept`.
fn accepting(running: &Running, accept: &str) -> RawResponse {
    running.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"))
}

#[test]
fn people_get_the_page_of_an_error_and_programs_its_document() {
    let refusing = Upstream::refusing().unwrap();
    let running = Setup::to(refusing.addr()).route(|r| r.error_pages = page()).start();
    let shown = accepting(&running, "text/html,application/xhtml+xml,*/*;q=0.8");
    assert_eq!(
        (shown.status, shown.header("content-type"), shown.text().as_str()),
        (503, Some("text/html"), "<p>back soon</p>")
    );
    assert_eq!((shown.header("retry-after"), shown.header("cache-control")), (Some("1"), Some("no-store")));
    let document = accepting(&running, "application/json");
    assert_eq!(
        (document.status, code(&document).as_str(), document.header("retry-after")),
        (503, "upstream-unreachable", Some("1"))
    );
    // An error of the service is the service's to show.
    let upstream = Upstream::serving(|_| Reply::status(503, "theirs")).unwrap();
    let running = Setup::to(upstream.addr()).route(|r| r.error_pages = page()).start();
    assert_eq!(accepting(&running, "text/html").text(), "theirs");
}

#[test]
fn a_split_follows_its_weights() {
    let (a, b) = (Upstream::serving(|_| Reply::ok("a")).unwrap(), Upstream::serving(|_| Reply::ok("b")).unwrap());
    let split = WeightedSplit::new(&[3, 1]).unwrap();
    let mut setup =
        Setup::to(a.addr()).route(|r| r.action = RouteAction::Forward { targets: vec![0, 1], split, rewrite: None });
    setup.services.push(service("other", &[b.addr()]));
    let running = setup.start();
    let mut client = running.client();
    let draws = 800;
    for _ in 0..draws {
        assert_eq!(client.get("/", SOON).unwrap().status, 200);
    }
    // 600 are expected; sigma is 12.2, and six of them are left either way.
    assert!((527..=673).contains(&a.requests()), "{} of {draws}", a.requests());
    assert_eq!(a.requests() + b.requests(), draws);
}
