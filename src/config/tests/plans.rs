//! What comes out: the plan holds what was written, and the examples can be used.

use std::path::Path;
use std::time::Duration;

use gateway::plan::{HealthKind, HealthPlan, RouteAction};
use policy::balance::Balance;

use super::read;
use crate::config::document::{Document, Path as Place, Step};
use crate::config::schema;
use crate::config::{Outcome, load_file};

fn example(name: &str) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    load_file(&path)
}

/// The statuses that pass a check.
fn expected(health: &HealthPlan) -> &[(u16, u16)] {
    let HealthKind::Http { expect, .. } = &health.kind else { return &[] };
    expect
}

#[test]
fn the_smallest_file_works_as_it_stands() {
    let outcome = example("minimal.toml");
    assert_eq!(outcome.text(), "", "nothing is to be said about it");
    let compiled = outcome.compiled.unwrap();
    let plan = &compiled.plan;
    assert_eq!(plan.routes.len(), 1);
    assert_eq!((plan.routes[0].name.as_str(), plan.table.routes().len()), ("shop", 1));
    assert!(matches!(&plan.routes[0].action, RouteAction::Forward { targets, rewrite: None, .. } if *targets == [0]));
    let shop = &plan.services[0];
    assert_eq!((shop.name.as_str(), shop.endpoints.len(), &shop.balance), ("shop", 3, &Balance::LeastOutstanding));
    assert_eq!((shop.connect_timeout, shop.timeout), (Duration::from_secs(1), Duration::from_secs(30)));
    let health = shop.health.as_ref().unwrap();
    assert_eq!((health.interval, health.fall, health.rise), (Duration::from_secs(2), 2, 2));
    assert_eq!(expected(health), [(200, 399)]);
    let edge = &plan.edge;
    assert_eq!((edge.header_timeout, edge.idle_timeout), (Duration::from_secs(10), Duration::from_secs(60)));
    assert_eq!((edge.max_request_line, edge.max_uri), (8 << 10, 8 << 10));
    assert_eq!((edge.max_header_bytes, edge.max_headers, edge.max_body), (64 << 10, 100, 64 << 20));
    assert_eq!((compiled.listeners.len(), compiled.workers), (1, None));
    assert_eq!(compiled.admin.address.to_string(), "127.0.0.1:7070");
    assert_eq!((compiled.drain_delay, compiled.drain_timeout), (Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!(compiled.handover_timeout, Duration::from_secs(600));
    assert!(plan.access_log.is_none() && compiled.api.is_none());
}

#[test]
fn the_full_example_has_every_key_and_nothing_to_complain_of() {
    let outcome = example("full.toml");
    assert_eq!(outcome.text(), "");
    assert!(outcome.compiled.is_some());
    let (document, _) = Document::parse(outcome.source.text());
    for fact in schema::facts(&schema::root()) {
        let table: Vec<&str> = fact.table.split('.').filter(|part| !part.is_empty()).collect();
        assert!(
            has(&document, &Place::default(), &table, &fact.key),
            "{}.{} is not in examples/full.toml",
            fact.table,
            fact.key
        );
    }
}

/// Whether the key is somewhere: `NAME` stands for any name, and a list for any of its items.
fn has(document: &Document<'_>, at: &Place, table: &[&str], key: &str) -> bool {
    let in_list = |at: &Place| (0..50).any(|i| document.says(&at.then(i)) && has(document, &at.then(i), table, key));
    if !matches!(at.0.last(), Some(Step::Index(_))) && in_list(at) {
        return true;
    }
    match table {
        [] => document.says(&at.then(key)),
        ["NAME", rest @ ..] => ["intern", "ops", "dashboard", "shop", "shop-next", "reports", "main"]
            .iter()
            .any(|name| has(document, &at.then(*name), rest, key)),
        [part, rest @ ..] => document.says(&at.then(*part)) && has(document, &at.then(*part), rest, key),
    }
}

#[test]
fn what_is_written_is_in_the_plan() {
    let compiled = example("full.toml").compiled.unwrap();
    let plan = &compiled.plan;
    let named: Vec<&str> = plan.routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(named, ["old-blog", "reports", "cart", "shop"]);
    let services: Vec<&str> = plan.services.iter().map(|s| s.name.as_str()).collect();
    let index = |name: &str| services.iter().position(|s| *s == name).unwrap();
    let RouteAction::Redirect { status: 308, location } = &plan.routes[0].action else {
        panic!("{:?}", plan.routes[0])
    };
    assert_eq!(location, "https://www.example.com/blog{path}{query}");
    let RouteAction::Forward { targets, rewrite, .. } = &plan.routes[1].action else { panic!("{:?}", plan.routes[1]) };
    assert_eq!(
        (targets.as_slice(), rewrite),
        (&[index("reports")][..], &Some(("/reports".to_owned(), "/v2".to_owned())))
    );
    assert_eq!((plan.routes[1].timeout, plan.routes[1].max_body), (Some(Duration::from_secs(120)), Some(1 << 30)));
    let inside = "10.1.2.3".parse().unwrap();
    assert!(plan.routes[1].allow.contains(inside) && !plan.routes[1].deny.contains(inside));
    let RouteAction::Forward { targets, .. } = &plan.routes[2].action else { panic!("{:?}", plan.routes[2]) };
    assert_eq!(targets.as_slice(), [index("shop"), index("shop-next")]);
    assert_eq!(plan.routes[2].request_headers.set, [("X-Cart".to_owned(), "split".to_owned())]);
    assert_eq!(plan.routes[2].response_headers.remove, ["server"]);
    let cors = plan.routes[3].cors.as_ref().unwrap().config();
    assert_eq!((cors.credentials, cors.max_age), (true, Some(Duration::from_secs(600))));
    let pages: Vec<u16> = plan.routes[3].error_pages.iter().map(|(status, _)| *status).collect();
    assert_eq!(pages, [502, 503, 504]);
    assert_eq!(plan.routes[3].error_pages[0].1.content_type, "text/html; charset=utf-8");
    assert_eq!(plan.services[index("reports")].balance, Balance::RoundRobin);
    assert_eq!(plan.services[index("reports")].health.as_ref().map(expected).unwrap(), [(200, 200), (204, 204)]);
    let log = plan.access_log.as_ref().unwrap();
    assert!(log.json && log.path.as_ref().unwrap().ends_with("examples/access.log"));
    assert!(plan.trusted_proxies.contains("10.0.0.9".parse().unwrap()));
    assert_eq!(
        (compiled.workers, compiled.listeners.len(), compiled.admin_hosts.as_slice()),
        (Some(4), 2, &["console.example.com".to_owned()][..])
    );
    assert_eq!(compiled.files.len(), 9, "the pages, and the files of the pool, are watched");
}

#[test]
fn names_are_resolved_once_and_tokens_open() {
    let outcome = read(
        "[gateway]\nlisten = \"127.0.0.1:8080\"\n[token.a]\nhash = \"${env:GOOD_HASH}\"\nscopes = [\"operator\"]\n\
         [service.shop]\nendpoints = [\"two.internal:8080\", \"[::1]:81\"]\nhealth = { path = \"/up\" }\n",
    );
    let compiled = outcome.compiled.unwrap();
    let endpoints = &compiled.plan.services[0].endpoints;
    assert_eq!(endpoints[0].name, "two.internal:8080");
    let addresses: Vec<String> = endpoints[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(endpoints[1].addresses[0].to_string(), "[::1]:81");
    assert!(compiled.tokens.find("x").is_none());
}

#[test]
fn a_prefix_is_written_in_normal_form() {
    let rewrite = |strip: &str, path: &str| {
        let text = format!(
            "[gateway]\nlisten = \"127.0.0.1:8080\"\n[service.shop]\nendpoints = [\"10.0.0.1:80\"]\n[[route]]\npath = \"{path}\"\n\
             service = \"shop\"\nstrip_prefix = \"{strip}\"\n"
        );
        let outcome = read(&text);
        let compiled = outcome.compiled.clone().unwrap_or_else(|| panic!("{}", outcome.text()));
        match &compiled.plan.routes[0].action {
            RouteAction::Forward { rewrite, .. } => rewrite.clone().unwrap().0,
            RouteAction::Redirect { .. } => panic!("{text}"),
        }
    };
    assert_eq!(rewrite("/shop/", "/shop/*"), "/shop");
    assert_eq!(rewrite("/", "/shop/*"), "");
    assert_eq!(rewrite("/users", "/users/{id}"), "/users");
}

/// Every file that is one slip away from a right one is read without a panic, and each place is within the file.
#[test]
fn no_slip_of_the_pen_panics() {
    let text = example("full.toml").source.text().to_owned();
    let starts: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
    let slips = ["", "\"", "[", "}", "=", "\n", "${", "ä", "0", "'", "\\", "#"];
    for (n, at) in starts.iter().enumerate().step_by(23) {
        let slip = slips[n % slips.len()];
        let end = text[*at..].chars().next().map_or(*at, |c| at + c.len_utf8());
        let outcome = read(&format!("{}{slip}{}", &text[..*at], &text[end..]));
        for place in outcome.findings.iter().filter_map(|f| f.place.as_ref()) {
            let line = outcome.source.line(place.line).unwrap_or_else(|| panic!("no line {place:?}"));
            assert!(place.column <= line.chars().count() + 1 && place.length >= 1, "{place:?} in {line:?}");
        }
    }
}
