//! The table against a naive walk, and shadowing against what it claims.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, Default)]
struct Request {
    method: String,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
}

impl RequestView for Request {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn header(&self, lower_name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == lower_name).map(|(_, v)| v.as_bytes())
    }
}

fn get(host: &str, path: &str) -> Request {
    Request { method: "GET".into(), host: host.into(), path: path.into(), headers: Vec::new() }
}

fn route(host: &str, path: &str) -> RouteMatch {
    RouteMatch {
        hosts: host.split_whitespace().map(|h| h.parse().unwrap()).collect(),
        path: (!path.is_empty()).then(|| path.parse().unwrap()),
        ..RouteMatch::default()
    }
}

fn find(table: &RouteTable, request: &Request) -> Option<usize> {
    table.find(request, request.path.as_bytes())
}

#[test]
fn a_lone_route_without_conditions_takes_everything() {
    let table = RouteTable::new(vec![RouteMatch::default()]);
    for request in [get("", "/"), get("a:80", "/x/y"), get("[::1]:8080", "*")] {
        assert_eq!(find(&table, &request), Some(0), "{request:?}");
    }
    assert_eq!(find(&RouteTable::default(), &get("a", "/")), None);
}

#[test]
fn the_first_match_in_file_order_wins() {
    let table = RouteTable::new(vec![
        route("shop.example.com", "/admin/*"),
        route("*.example.com", "/{page}"),
        route("shop.example.com", "/admin"),
        route("", "/*"),
    ]);
    for (host, path, expected) in [
        ("shop.example.com", "/admin", 0),
        ("SHOP.example.com.:8443", "/admin/x", 0),
        ("shop.example.com", "/x", 1),
        ("shop.example.com", "/x/y", 3),
        ("example.com", "/admin", 3),
        ("", "/", 3),
    ] {
        assert_eq!(find(&table, &get(host, path)), Some(expected), "{host} {path}");
    }
}

#[test]
fn methods_and_headers_narrow_a_route() {
    let mut narrow = route("", "");
    narrow.methods = vec!["PUT".into(), "POST".into()];
    narrow.headers = vec![
        HeaderMatch { name: "x-beta".into(), value: None },
        HeaderMatch { name: "x-team".into(), value: Some("blue".into()) },
    ];
    let table = RouteTable::new(vec![narrow]);
    let mut request = get("a", "/");
    request.headers = vec![("x-beta".into(), String::new()), ("x-team".into(), "blue".into())];
    assert_eq!(find(&table, &request), None);
    request.method = "POST".into();
    assert_eq!(find(&table, &request), Some(0));
    request.headers[1].1 = "Blue".into();
    assert_eq!(find(&table, &request), None);
    request.headers.remove(1);
    assert_eq!(find(&table, &request), None);
}

#[test]
fn the_host_is_read_without_its_port() {
    for (sent, bare) in [
        ("a.b", "a.b"),
        ("a.b:80", "a.b"),
        ("a.b.:80", "a.b"),
        ("[::1]", "[::1]"),
        ("[::1]:80", "[::1]"),
        ("[::1", "[::1"),
        ("", ""),
        (":80", ""),
    ] {
        assert_eq!(bare_host(sent.as_bytes()), bare.as_bytes(), "{sent}");
    }
}

#[test]
fn a_thousand_routes_are_found_by_host_and_by_segment() {
    let hosts = (0..500).map(|i| route(&format!("h{i}.example.com *.w{i}.example.com"), "/*"));
    let paths = (0..500).map(|i| route("", &format!("/s{i}/{{id}}")));
    let table = RouteTable::new(hosts.chain(paths).collect());
    for i in [0, 1, 250, 499] {
        assert_eq!(find(&table, &get(&format!("H{i}.example.com:80"), "/s1/2")), Some(i));
        assert_eq!(find(&table, &get(&format!("a.b.w{i}.example.com"), "/s1/2")), Some(i));
        assert_eq!(find(&table, &get("other", &format!("/s{i}/2"))), Some(500 + i));
    }
    assert_eq!(find(&table, &get("other", "/s500/2")), None);
    assert_eq!(find(&table, &get(&"a.".repeat(200), "/s1/2")), Some(501), "longer than any host");
}

#[test]
fn shadowed_routes_are_named_with_what_shadows_them() {
    let mut only_get = route("", "/a");
    only_get.methods = vec!["GET".into()];
    let mut flagged = route("", "/a");
    flagged.headers = vec![HeaderMatch { name: "x".into(), value: Some("1".into()) }];
    let table = RouteTable::new(vec![
        only_get.clone(),               // 0
        flagged.clone(),                // 1
        route("a.example.com", "/a/*"), // 2
        route("*.example.com", "/a/b"), // 3
        route("a.example.com", "/a/b"), // 4: by 2
        only_get,                       // 5: by 0
        route("", "/a"),                // 6
        flagged,                        // 7: by 1
        route("b.example.com", "/a/b"), // 8: by 3
        route("", ""),                  // 9
        route("", "/*"),                // 10: by 9
        route("x.example.com", ""),     // 11: by 9
    ]);
    assert_eq!(table.shadowed(), [(4, 2), (5, 0), (7, 1), (8, 3), (10, 9), (11, 9)]);
    let by_star = RouteTable::new(vec![route("", "/*"), route("", "")]);
    assert_eq!(by_star.shadowed(), [(1, 0)]);
}

fn host_pattern() -> impl Strategy<Value = HostPattern> {
    prop::sample::select(vec!["a.test", "b.a.test", "*.a.test", "*.test", "[::1]"]).prop_map(|t| t.parse().unwrap())
}

fn path_pattern() -> impl Strategy<Value = PathPattern> {
    let segment = || prop::sample::select(vec!["a", "b", "{x}"]);
    (prop::option::of(segment()), prop::option::of(prop::sample::select(vec!["a", "b", "{y}", "*", ""]))).prop_map(
        |(first, second)| {
            let text = match (first, second) {
                (None, Some("*")) => "/*".to_owned(),
                (None, _) => "/".to_owned(),
                (Some(first), None) => format!("/{first}"),
                (Some(first), Some(second)) => format!("/{first}/{second}"),
            };
            text.parse().unwrap()
        },
    )
}

fn a_route() -> impl Strategy<Value = RouteMatch> {
    let header = (prop::sample::select(vec!["x", "y"]), prop::option::of(prop::sample::select(vec!["1", "2"])))
        .prop_map(|(name, value)| HeaderMatch { name: name.into(), value: value.map(Into::into) });
    (
        prop::collection::vec(host_pattern(), 0..3),
        prop::option::of(path_pattern()),
        prop::collection::vec(prop::sample::select(vec!["GET".to_owned(), "POST".to_owned()]), 0..2),
        prop::collection::vec(header, 0..2),
    )
        .prop_map(|(hosts, path, methods, headers)| RouteMatch { hosts, path, methods, headers })
}

fn a_request() -> impl Strategy<Value = Request> {
    let sample = |values: &[&str]| prop::sample::select(values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
    (
        sample(&["GET", "POST", "PUT"]),
        sample(&["a.test", "A.Test:80", "b.a.test", "c.b.a.test.", "x.test", "test", "[::1]:9", ""]),
        sample(&["/", "/a", "/b", "/c", "/a/", "/a/a", "/a/b", "/b/c", "/c/a", "/a/b/c", "*"]),
        prop::option::of(sample(&["1", "2", "3"])),
        prop::option::of(sample(&["1", "2"])),
    )
        .prop_map(|(method, host, path, x, y)| {
            let headers = [("x", x), ("y", y)].into_iter().filter_map(|(n, v)| Some((n.to_owned(), v?)));
            Request { method, host, path, headers: headers.collect() }
        })
}

/// The definition, written without any of the table's code.
fn takes(route: &RouteMatch, request: &Request) -> bool {
    let host = request.host.to_lowercase();
    let host = host.strip_suffix(":80").or(host.strip_suffix(":9")).unwrap_or(&host).trim_end_matches('.');
    let host_ok = |pattern: &HostPattern| match pattern.to_string().strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => host == pattern.to_string(),
    };
    let path_ok = |pattern: &PathPattern| {
        let text = pattern.to_string();
        if text == "/*" {
            return true;
        }
        let mut pattern: Vec<_> = text.split('/').collect();
        let mut path: Vec<_> = request.path.split('/').collect();
        if pattern.last() == Some(&"*") {
            pattern.pop();
            path.truncate(pattern.len());
        }
        pattern.len() == path.len()
            && pattern.iter().zip(&path).all(|(p, s)| p == s || (p.starts_with('{') && !s.is_empty()))
    };
    let header_ok = |h: &HeaderMatch| {
        let value = request.headers.iter().find(|(n, _)| *n == h.name).map(|(_, v)| v);
        value.is_some_and(|v| h.value.as_ref().is_none_or(|wanted| wanted == v))
    };
    (route.hosts.is_empty() || route.hosts.iter().any(host_ok))
        && route.path.as_ref().is_none_or(path_ok)
        && (route.methods.is_empty() || route.methods.contains(&request.method))
        && route.headers.iter().all(header_ok)
}

proptest! {
    #[test]
    fn the_table_finds_what_a_naive_walk_finds(
        routes in prop::collection::vec(a_route(), 0..24),
        requests in prop::collection::vec(a_request(), 1..20),
    ) {
        let table = RouteTable::new(routes.clone());
        for request in requests {
            let expected = routes.iter().position(|r| takes(r, &request));
            prop_assert_eq!(find(&table, &request), expected, "{:?}", request);
        }
    }

    #[test]
    fn a_shadowed_route_is_never_taken_and_its_shadow_takes_all_of_it(
        routes in prop::collection::vec(a_route(), 2..6),
        requests in prop::collection::vec(a_request(), 50),
    ) {
        let table = RouteTable::new(routes.clone());
        for (shadowed, by) in table.shadowed() {
            prop_assert!(by < shadowed);
            for request in &requests {
                prop_assert!(find(&table, request) != Some(shadowed), "{:?}", request);
                prop_assert!(!takes(&routes[shadowed], request) || takes(&routes[by], request), "{:?}", request);
            }
        }
    }
}
