//! For each rule a file that breaks it and nothing else, so that a rule that stops working, or starts to speak out of
//! turn, is noticed; and each rule's own example, which must not break it.

use kernel::Severity;

use super::{ids, read};
use crate::config::catalogue;

/// What a fixture need not say.
const BASE: &str = "[gateway]\nlisten = \"127.0.0.1:8080\"\n";
const SHOP: &str = "[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\" }\n";

/// The same with an endpoint in each of two tiers.
const TIERS: &str = "[service.shop]\nendpoints = [\"10.0.0.1:80\", { address = \"10.0.0.2:80\", tier = 1 }]\nhealth = { path = \"/up\" }\n";

/// A pool that has nothing but what it needs.
const POOL: &str = "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"127.0.0.1:5432\"]\nauth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n";

/// Rules and what breaks them. `@` stands for [`BASE`], `#shop` for [`SHOP`], `#tiers` for [`TIERS`], `#pool` for [`POOL`].
const FIXTURES: &[(&str, &str)] = &[
    ("syntax", "[gateway]\nlisten = 127.0.0.1:8080\n"),
    ("unreadable-secret", "@#shop[token.a]\nhash = \"${env:NOT_SET}\"\nscopes = [\"operator\"]\n"),
    ("bad-reference", "@#shop[token.a]\nhash = \"${NOT_SET}\"\nscopes = [\"operator\"]\n"),
    ("unknown-key", "@ports = 1\n#shop"),
    ("wrong-type", "@max_headers = \"100\"\n#shop"),
    ("missing-key", "@#shop[token.a]\nhash = \"${env:GOOD_HASH}\"\n"),
    ("bad-value", "@trusted_proxies = [\"10.0.0.0/33\"]\n#shop"),
    ("out-of-range", "@max_headers = 0\n#shop"),
    ("no-listener", "[gateway]\n#shop"),
    ("same-address", "@[admin]\nlisten = \"127.0.0.1:8080\"\n#shop"),
    (
        "unresolvable-name",
        "@[service.shop]\nendpoints = [\"shop.invalid:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\" }\n",
    ),
    (
        "health-kind",
        "@[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\", tcp = true }\n",
    ),
    ("budget-ceiling", "@#shopretry_budget = { share = 0.5 }\n"),
    ("no-endpoints", "@[service.shop]\nhealth = { path = \"/up\" }\n"),
    ("nothing-to-serve", "@"),
    (
        "route-needed",
        "@#shop[service.next]\nendpoints = [\"10.0.0.3:80\", \"10.0.0.4:80\"]\nhealth = { path = \"/up\" }\n",
    ),
    ("route-target", "@#shop[[route]]\nservice = \"shop\"\nredirect = { to = \"/x\" }\n"),
    ("unknown-service", "@#shop[[route]]\nsplit = { shop = 90, shp = 10 }\n"),
    (
        "duplicate-name",
        "@#shop[[route]]\npath = \"/a\"\nname = \"a\"\nservice = \"shop\"\n[[route]]\nname = \"a\"\nservice = \"shop\"\n",
    ),
    ("empty-split", "@#shop[[route]]\npath = \"/a\"\nsplit = { shop = 0 }\n[[route]]\nservice = \"shop\"\n"),
    (
        "without-effect",
        "@#shop[[route]]\npath = \"/old\"\nredirect = { to = \"/x\" }\ntimeout = \"5s\"\n[[route]]\nservice = \"shop\"\n",
    ),
    ("rewrite-mismatch", "@#shop[[route]]\npath = \"/shopping/*\"\nstrip_prefix = \"/shop\"\nservice = \"shop\"\n"),
    ("bad-redirect-status", "@[[route]]\nredirect = { to = \"/x\", status = 200 }\n"),
    ("managed-header", "@#shop[[route]]\nservice = \"shop\"\nrequest_headers = { set = { Content-Length = \"0\" } }\n"),
    (
        "duplicate-header",
        "@#shop[[route]]\nservice = \"shop\"\nresponse_headers = { set = { X-A = \"1\", x-a = \"2\" } }\n",
    ),
    (
        "cors-any-with-credentials",
        "@#shop[[route]]\nservice = \"shop\"\ncors = { origins = [\"*\"], credentials = true }\n",
    ),
    ("bad-cors", "@#shop[[route]]\nservice = \"shop\"\ncors = { origins = [\"*\", \"https://a.example\"] }\n"),
    ("unreadable-page", "@#shop[[route]]\nservice = \"shop\"\nerror_pages = { \"503\" = \"huge.html\" }\n"),
    ("no-log-directory", "@#shop[access_log]\npath = \"/var/log/evenkeel/shop/access.log\"\n"),
    ("trust-everyone", "@trusted_proxies = [\"0.0.0.0/0\"]\nmax_connections_per_client = 1000\n#shop"),
    ("no-min-rate", "@min_rate = \"0B/s\"\n#shop"),
    ("huge-body", "@#shop[[route]]\nservice = \"shop\"\nmax_body = \"2GiB\"\n"),
    ("uri-above-request-line", "@max_uri = \"16KiB\"\n#shop"),
    ("client-takes-all", "@max_connections = 500\n#shop"),
    ("drain-below-timeout", "@drain_timeout = \"10s\"\n#shop"),
    ("no-drain-delay", "@drain_delay = \"0s\"\n#shop"),
    ("access-log-samples-nothing", "@#shop[access_log]\nsample = 0\n"),
    ("admin-exposed", "@[admin]\nlisten = \"0.0.0.0:7070\"\n#shop"),
    ("api-without-token", "@[api]\nlisten = \"127.0.0.1:7071\"\n#shop"),
    ("deploys-without-api", "@#shop[deploys]\ngithub_secret = \"${env:SECRET}\"\n"),
    ("scope-without-api", "@[token.a]\nhash = \"${env:GOOD_HASH}\"\nscopes = [\"services:read\"]\n#shop"),
    (
        "same-token",
        "@[token.a]\nhash = \"${env:GOOD_HASH}\"\nscopes = [\"operator\"]\n[token.b]\nhash = \"${env:GOOD_HASH}\"\nscopes = [\"operator\"]\n#shop",
    ),
    ("no-health-check", "@[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\n"),
    ("single-endpoint", "@[service.shop]\nendpoints = [\"10.0.0.1:80\"]\nhealth = { path = \"/up\" }\n"),
    ("same-endpoint", "@[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.1:80\"]\nhealth = { path = \"/up\" }\n"),
    ("unused-service", "@#shop[[route]]\nredirect = { to = \"/x\" }\n"),
    ("timeout-below-connect", "@#shop[[route]]\nservice = \"shop\"\ntimeout = \"500ms\"\n"),
    (
        "health-timeout-above-interval",
        "@[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\", timeout = \"3s\" }\n",
    ),
    (
        "slow-health-check",
        "@[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\", interval = \"30s\" }\n",
    ),
    (
        "health-accepts-errors",
        "@[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\", expect = [\"200-599\"] }\n",
    ),
    (
        "idle-above-connections",
        "@[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\" }\nmax_connections = 10\n",
    ),
    (
        "endpoint-loop",
        "@[service.shop]\nendpoints = [\"localhost:8080\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\" }\n",
    ),
    ("per-try-above-timeout", "@#shopper_try_timeout = \"6s\"\n[[route]]\nservice = \"shop\"\ntimeout = \"5s\"\n"),
    ("second-tries-off", "@#shopattempts = 1\nretry_budget = { share = \"10%\" }\n"),
    ("outlier-never-acts", "@#tiersoutlier = { consecutive_failures = 3 }\n"),
    ("ejection-above-max", "@#shopoutlier = { base_ejection = \"2m\" }\n"),
    ("hold-above-timeout", "@#shoptimeout = \"2s\"\nhold = { max_wait = \"2s\" }\n"),
    ("park-above-timeout", "@#shoptimeout = \"5s\"\npark = { max_wait = \"3s\" }\n"),
    ("queue-without-limit", "@#shopqueue = { max = 100 }\n"),
    ("requests-above-connections", "@#shopmax_requests = 513\n"),
    (
        "fast-interval-above-interval",
        "@[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { tcp = true, fast_interval = \"3s\" }\n",
    ),
    (
        "tiers-with-gap",
        "@[service.shop]\nendpoints = [\"10.0.0.1:80\", { address = \"10.0.0.2:80\", tier = 2 }]\nhealth = { path = \"/up\" }\n",
    ),
    (
        "lone-tier",
        "@[service.shop]\nendpoints = [{ address = \"10.0.0.1:80\", tier = 1 }, { address = \"10.0.0.2:80\", tier = 1 }]\nhealth = { path = \"/up\" }\n",
    ),
    ("failover-without-tiers", "@#shopfailover = { fail_back_delay = \"1m\" }\n"),
    ("hash-of-one", "@#tiersbalance = { hash = \"address\" }\n"),
    ("register-without-api", "@#shopregister = {}\n"),
    (
        "scope-without-register",
        "@[api]\nlisten = \"127.0.0.1:7071\"\n[token.a]\nhash = \"${env:GOOD_HASH}\"\nscopes = [\"register:shop\"]\n#shop",
    ),
    ("shadowed-route", "@#shop[[route]]\nservice = \"shop\"\n[[route]]\npath = \"/a/*\"\nservice = \"shop\"\n"),
    (
        "allowed-and-denied",
        "@#shop[[route]]\nservice = \"shop\"\nallow = [\"10.9.1.0/24\"]\ndeny = [\"10.9.0.0/16\"]\n",
    ),
    ("split-of-one", "@#shop[[route]]\nsplit = { shop = 100 }\n"),
    ("page-never-sent", "@#shop[[route]]\nservice = \"shop\"\nerror_pages = { \"418\" = \"sorry.html\" }\n"),
    ("unreadable-pool-file", "#poolauth_file = \"wrong.txt\"\n"),
    (
        "pools-share-database",
        "#pool[pool.other]\nlisten = \"127.0.0.1:6432\"\nservers = [\"127.0.0.1:5433\"]\nauth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n",
    ),
    (
        "certificate-without-ca",
        "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"127.0.0.1:5432\"]\nauth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\", certificate = true }\n",
    ),
    ("direct-without-tls", "#poolserver_tls = { direct = true }\n"),
    (
        "pool-loop",
        "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"localhost:6432\"]\nauth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n",
    ),
    (
        "same-server",
        "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"127.0.0.1\", \"127.0.0.1:5432\"]\nauth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n",
    ),
    ("pool-above-max-connections", "#poolsize = 78\nreserve = 3\n"),
    ("min-size-above-size", "#poolmin_size = 30\n"),
    ("pinned-take-all", "#poolmax_pinned = 20\n"),
    ("reserve-never-opens", "#poolreserve = 5\nreserve_after = \"2m\"\n"),
    ("queue-below-connect", "#poolqueue_timeout = \"4s\"\n"),
    ("pool-rule-without-effect", "#pool[[pool.main.rule]]\ndatabase = \"shop\"\n"),
    ("session-state-in-session-mode", "#poolmode = \"session\"\nsession_state = \"reset\"\n"),
    (
        "pool-in-the-clear",
        "[pool.main]\nlisten = \"0.0.0.0:6432\"\nservers = [\"127.0.0.1\"]\nauth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n",
    ),
    (
        "server-tls-unverified",
        "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"10.0.0.5\"]\nauth = { user = \"evenkeel\", password = \"${file:/etc/evenkeel/pg}\" }\n",
    ),
    ("weak-verifiers", "#poolauth_file = \"md5.txt\"\n"),
    (
        "password-in-configuration",
        "[pool.main]\nlisten = \"127.0.0.1:6432\"\nservers = [\"127.0.0.1\"]\nauth = { user = \"evenkeel\", password = \"hunter2\" }\n",
    ),
    (
        "cors-without-options",
        "@#shop[[route]]\nservice = \"shop\"\nmethods = [\"PUT\"]\ncors = { origins = [\"https://a.example\"] }\n",
    ),
];

/// Rules that no text can break: they are about files that cannot be read or written and addresses that are taken.
const ELSEWHERE: [&str; 4] = ["unreadable-file", "address-unavailable", "damaged-overrides", "overrides-not-kept"];

fn fixture(text: &str) -> String {
    text.replace('@', BASE).replace("#shop", SHOP).replace("#tiers", TIERS).replace("#pool", POOL)
}

#[test]
fn each_rule_is_broken_by_its_fixture_and_no_other_is() {
    for (id, text) in FIXTURES {
        let text = fixture(text);
        let outcome = read(&text);
        assert_eq!(ids(&outcome), [*id], "{text}\n{}", outcome.text());
        let finding = &outcome.findings[0];
        assert!(!finding.remedy.is_empty(), "{id}");
        let needs_place = !matches!(*id, "nothing-to-serve");
        assert_eq!(finding.place.is_some(), needs_place, "{id}");
        assert_eq!(outcome.compiled.is_none(), finding.severity == Severity::Error, "{id}");
    }
}

#[test]
fn each_rule_has_a_fixture() {
    for rule in catalogue::rules().filter(|rule| !ELSEWHERE.contains(&rule.id)) {
        assert!(FIXTURES.iter().any(|(id, _)| *id == rule.id), "no fixture breaks {}", rule.id);
    }
    for (id, _) in FIXTURES {
        assert!(catalogue::rules().any(|rule| rule.id == *id), "there is no rule {id}");
    }
}

#[test]
fn the_example_of_a_rule_does_not_break_it() {
    for rule in catalogue::rules() {
        let text = completed(rule.example);
        let outcome = read(&text);
        assert!(!ids(&outcome).contains(&rule.id), "{}\n{}", rule.id, outcome.text());
        let shape = ["syntax", "unknown-key", "wrong-type", "missing-key", "bad-value", "out-of-range"];
        let broken = ids(&outcome).into_iter().filter(|id| shape.contains(id)).collect::<Vec<_>>();
        assert!(broken.is_empty(), "the example of {} is no configuration\n{}", rule.id, outcome.text());
    }
}

/// An example with what it leaves out: a listener, the services its routes name, and secrets and pages that exist here.
fn completed(example: &str) -> String {
    let mut root: toml::Table = example.parse().unwrap();
    let gateway = root.entry("gateway").or_insert_with(|| toml::Table::new().into());
    gateway.as_table_mut().unwrap().entry("listen").or_insert("127.0.0.1:8080".into());
    let routes = root.get("route").and_then(|r| r.as_array()).cloned().unwrap_or_default();
    let mut names: Vec<String> = routes.iter().filter_map(|r| Some(r.get("service")?.as_str()?.to_owned())).collect();
    names.extend(routes.iter().filter_map(|r| r.get("split")?.as_table()).flat_map(|split| split.keys().cloned()));
    let services = root.entry("service").or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
    if names.is_empty() && services.is_empty() {
        names.push("shop".to_owned());
    }
    for name in names {
        let service: toml::Table =
            "endpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\" }".parse().unwrap();
        services.entry(name).or_insert(service.into());
    }
    let text = root.to_string();
    let hashes = [
        "${file:/run/secrets/deploy-token-hash}",
        "${env:DEPLOY_TOKEN_HASH}",
        "${file:/etc/evenkeel/ops-token-hash}",
        "${file:/etc/evenkeel/dashboard-token-hash}",
        "${file:/etc/evenkeel/shop-token-hash}",
    ];
    let text = hashes.iter().fold(text, |text, hash| text.replace(hash, "${env:GOOD_HASH}"));
    text.replace("pages/sorry.html", "sorry.html")
}
