//! What users see, as snapshots: each message names the place and the remedy.

use std::io;

use insta::assert_snapshot;

use super::{SECRET, ids, read};
use crate::config::{cannot_listen, catalogue, report, unreadable};

const SHOP: &str = "[gateway]\nlisten = \"127.0.0.1:8080\"\n[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = { path = \"/up\" }\n";

fn text(config: &str) -> String {
    read(config).text()
}

#[test]
fn wrong_keys() {
    assert_snapshot!(text(
        r#"
gatway = 1

[gateway]
lisen = "127.0.0.1:8080"
listen = "127.0.0.1:8080"
connect_timeout = "1s"
connections = 5

[services.shop]
endpoints = ["10.0.0.1:80"]

[service.shop]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
retries = 3
health = { url = "/healthz", path = "/healthz" }

[[route]]
service = "shop"
strip-prefix = "/x"
"#
    ));
}

#[test]
fn wrong_types() {
    assert_snapshot!(text(
        r#"
[gateway]
listen = 8080
header_timeout = 10
max_body = 1048576
min_rate = 240
max_headers = "100"
trusted_proxies = "10.0.0.0/8"
idle_timeout = 1.5
admin = true

[[service]]
name = "shop"

[service2]

[access_log]
sample = "0.5"
format = 3

[route]
service = "shop"
cors = ["https://app.example.com"]
"#
    ));
}

#[test]
fn wrong_values() {
    assert_snapshot!(text(
        r#"
[gateway]
listen = ":8080"
trusted_proxies = ["10.0.0.1/8", "office"]
header_timeout = "10 seconds"
body_idle_timeout = "1.5s"
idle_timeout = "60"
max_body = "64MB5"
max_uri = "1MiB"
max_headers = 100000

[listener.Main]
address = "localhost:80"

[admin]
listen = "7070"

[token.deploy]
hash = "evk_3q2-7wZWF0aGVyIGlzIGEgc2VjcmV0"
scopes = ["operators"]

[service.shop]
endpoints = ["http://10.0.0.1:8080/", "10.0.0.1", "10.0.0.1:99999", "fd00::1:80", "sh op:80"]
balance = "least-outstanding"
health = { path = "healthz", expect = ["2xx", "399-200"], fall = 0 }

[service.empty]
endpoints = []

[[route]]
host = ["*", "https://a.example", "a.*.example", "a.example:80"]
path = "cart"
methods = ["get"]
headers = { "x y" = true, x-beta = false }
service = "shop"
strip_prefix = "/a/*"
max_body = "2TB"
error_pages = { "200" = "ok.html" }

[[route]]
path = "/a/{id"
redirect = { to = "{scheme}://{host}" }
allow = ["::1/129"]
cors = { origins = ["app.example.com"] }
"#
    ));
}

#[test]
fn unreadable_secrets() {
    assert_snapshot!(text(&format!(
        "{SHOP}{}",
        r#"
[token.a]
hash = "${env:NOT_SET}"
scopes = ["operator"]

[token.b]
hash = "${file:/run/secrets/none}"
scopes = ["operator"]

[token.c]
hash = "${file:locked}"
scopes = ["operator"]

[token.h]
hash = "${file:logs}"
scopes = ["operator"]

[token.d]
hash = "${file:binary}"
scopes = ["operator"]

[token.e]
hash = "$${env:A} ${GOOD_HASH}"
scopes = ["operator"]

[token.f]
hash = "${vault:x}"
scopes = ["operator"]

[token.g]
hash = "${env:GOOD_HASH"
scopes = ["operator"]
"#
    )));
}

#[test]
fn a_secret_is_never_shown() {
    let config = format!(
        "{SHOP}{}",
        r#"
[token.a]
hash = "${env:SECRET}"
scopes = ["operator"]

[token.b]
hash = "${env:EMPTY}"
scopes = ["${env:SECRET}"]

[[route]]
service = "${file:/run/secrets/team}"
timeout = "${env:SECRET}"
request_headers = { set = { authorization = "Bearer ${env:SECRET}", x-y = "ä${env:SECRET}" } }
"#
    );
    let outcome = read(&config);
    assert_snapshot!(outcome.text());
    let sarif = report::sarif::render(&outcome.findings, catalogue::rules(), "0");
    for shown in [outcome.text(), report::json::render(&outcome.findings), sarif, outcome.effective] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn unresolvable_names() {
    assert_snapshot!(text(
        r#"
[gateway]
listen = "127.0.0.1:8080"

[service.shop]
endpoints = ["shop.internal:8080", "shop.intrenal:8080", "empty.internal:80", "10.0.0.1:80"]
health = { path = "/healthz" }
"#
    ));
}

#[test]
fn contradictions() {
    assert_snapshot!(text(
        r#"
[gateway]
listen = "0.0.0.0:7070"

[listener.second]
address = "127.0.0.1:8081"

[api]
listen = "127.0.0.1:8081"

[service.shop]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
health = { path = "/up" }

[[route]]
path = "/a"
service = "shpo"

[[route]]
path = "/b"

[[route]]
path = "/c"
service = "shop"
split = { shop = 1 }

[[route]]
path = "/d/*"
service = "shop"
replace_prefix = "/e"

[[route]]
strip_prefix = "/f"
service = "shop"

[[route]]
redirect = { to = "/g", status = 418 }
strip_prefix = "/f"

[[route]]
service = "shop"
request_headers = { set = { Host = "a" }, remove = ["X-Forwarded-For"] }
cors = { origins = ["*"], headers = ["*"], methods = ["TRACE"], credentials = true }
error_pages = { "503" = "none.html", "502" = "locked", "504" = "sorry.html" }

[access_log]
path = "logs"
"#
    ));
}

#[test]
fn all_errors_come_at_once() {
    let config = r#"
[gateway]
lissten = "127.0.0.1:8080"
listen = "127.0.0.1:8080"
max_headers = "100"
trusted_proxies = ["10.0.0.0/33"]

[service.shop]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
timeuot = "5s"
timeout = 5
health = { path = "/healthz" }

[token.deploy]
hash = "${env:NOT_SET}"
scopes = ["operator"]

[[route]]
service = "shop"
colour = "blue"
"#;
    let outcome = read(config);
    assert_eq!(
        ids(&outcome),
        ["unknown-key", "wrong-type", "bad-value", "unknown-key", "wrong-type", "unreadable-secret", "unknown-key"]
    );
    assert!(outcome.compiled.is_none());
    assert_snapshot!(outcome.text());
}

#[test]
fn what_follows_from_an_error_is_not_said_too() {
    // Each file has one fault; the rest of it leans on what the fault took away.
    let files = [
        // The service that the route names.
        "[gateway]\nlisten = \"1.1.1.1:1\"\n[service.shop]\nendpoints = 1\n[[route]]\nservice = \"shop\"\n",
        // The only listener.
        "[gateway]\nlisten = 1\n[service.shop]\nendpoints = [\"10.0.0.1:80\"]\n",
        // The only operator token.
        "[gateway]\nlisten = \"1.1.1.1:1\"\n[admin]\nlisten = \"1.1.1.1:2\"\n[token.a]\nhash = \"x\"\nscopes = [\"operator\"]\n[service.shop]\nendpoints = [\"10.0.0.1:80\"]\n",
        // The path of a health check, and the address of an endpoint in a table.
        "[gateway]\nlisten = \"1.1.1.1:1\"\n[service.shop]\nendpoints = [\"10.0.0.1:80\"]\nhealth = { path = \"up\" }\n",
        "[gateway]\nlisten = \"1.1.1.1:1\"\n[service.shop]\nendpoints = [{ address = \"10.0.0.1\", tier = 1 }]\n",
        // The share that is above its ceiling.
        "[gateway]\nlisten = \"1.1.1.1:1\"\n[service.shop]\nendpoints = [\"10.0.0.1:80\"]\nretry_budget = { share = 0.5, ceiling = \"60\" }\n",
        // The target of a route, and its prefix.
        "[gateway]\nlisten = \"1.1.1.1:1\"\n[service.shop]\nendpoints = [\"10.0.0.1:80\"]\n[[route]]\nservice = 7\n",
        "[gateway]\nlisten = \"1.1.1.1:1\"\n[service.shop]\nendpoints = [\"10.0.0.1:80\"]\n[[route]]\nservice = \"shop\"\nstrip_prefix = 1\nreplace_prefix = \"/x\"\n",
        // The only route of two services, in a list where the first one goes.
        "[gateway]\nlisten = \"1.1.1.1:1\"\n[service.a]\nendpoints = [\"10.0.0.1:80\"]\n[service.b]\nendpoints = [\"10.0.0.1:80\"]\n[[route]]\nname = \"!\"\nservice = \"a\"\n",
        // The key that a table has to have, in the second of two.
        "[gateway]\nlisten = \"1.1.1.1:1\"\n[service.a]\nendpoints = [\"10.0.0.1:80\"]\n[[route]]\nredirect = { to = \"/\" }\n[[route]]\nredirect = { to = 1 }\n",
    ];
    for file in files {
        let outcome = read(file);
        assert_eq!(outcome.findings.len(), 1, "{file}\n{}", outcome.text());
    }
}

#[test]
fn syntax_errors() {
    let slips = [
        "[gateway]\nlisten = 127.0.0.1:8080\n",
        "[gateway]\nlisten = \"127.0.0.1:8080\ntimeout = 5s\n",
        "[gateway\nlisten = \"x\"\n",
        "[[route]\nservice = \"shop\"\n",
        "listen: \"127.0.0.1:8080\"\n",
        "health = { path: \"/x\" }\n",
        "listen\n",
        "listen =\n",
        "a = 1\na = 2\n",
        "[service.a]\n[service.a]\n",
        "a = 1\n[a.b]\n",
        "endpoints = [\"a\" \"b\"]\n",
        "endpoints = [\"a\",\n",
        "health = { path = \"/x\"\n",
        "credentials = True\n",
        "credentials = yes\n",
        "path = \"C:\\pages\"\n",
        "path = \u{201c}/x\u{201d}\n",
        "fall = 02\n",
        "path = \"/x\" retries = 3\n",
        "= 1\n",
        "\"\"\"\n",
    ];
    let all = slips.map(|slip| {
        let outcome = read(slip);
        assert!(!outcome.findings.is_empty() && outcome.compiled.is_none(), "{slip}");
        outcome.text()
    });
    assert_snapshot!(all.concat());
}

#[test]
fn a_file_that_cannot_be_read() {
    let path = std::path::Path::new("evenkeel.toml");
    let kinds = [
        io::ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::InvalidData,
        io::ErrorKind::FileTooLarge,
    ];
    let findings = kinds.map(|kind| unreadable(path, &kind.into()));
    assert_snapshot!(report::text::render(&findings, None));
}

#[test]
fn an_address_that_is_taken() {
    let outcome = read(&format!("{SHOP}[listener.public]\naddress = \"192.0.2.1:80\"\n"));
    let compiled = outcome.compiled.as_ref().unwrap();
    let findings = [
        cannot_listen(&compiled.listeners[0], &io::ErrorKind::AddrInUse.into()),
        cannot_listen(&compiled.listeners[1], &io::ErrorKind::PermissionDenied.into()),
        cannot_listen(&compiled.listeners[1], &io::ErrorKind::AddrNotAvailable.into()),
        cannot_listen(&compiled.admin, &io::ErrorKind::AddrInUse.into()),
    ];
    assert_snapshot!(report::text::render(&findings, Some(&outcome.source)));
}

#[test]
fn lints_in_text_json_and_sarif() {
    let outcome = read(
        r#"
[gateway]
listen = "127.0.0.1:8080"
trusted_proxies = ["0.0.0.0/0"]
min_rate = "0B/s"

[service.shop]
endpoints = ["10.0.0.1:80", "10.0.0.1:80"]

[service.old]
endpoints = ["10.0.0.9:80"]
health = { path = "/up" }

[[route]]
service = "shop"

[[route]]
path = "/api/*"
service = "shop"
"#,
    );
    assert!(outcome.compiled.is_some(), "{}", outcome.text());
    assert_snapshot!("lints_text", outcome.text());
    assert_snapshot!("lints_json", report::json::render(&outcome.findings));
    assert_snapshot!("lints_sarif", report::sarif::render(&outcome.findings, catalogue::rules(), "0.1.0"));
}

#[test]
fn effective_configuration() {
    let outcome = read(&format!(
        "{SHOP}{}",
        r#"
[token.deploy]
hash = "${env:GOOD_HASH}"
scopes = ["operator"]

[[route]]
path = "/shop/*"
service = "shop"
strip_prefix = "/shop"
headers = { x-beta = true, "x.y" = "1" }
request_headers = { set = { authorization = "Bearer ${env:SECRET}" } }
cors = { origins = ["https://app.example.com"] }

[[route]]
host = ["a.example", "b.example"]
redirect = { to = "https://c.example{path}" }
"#
    ));
    assert!(outcome.compiled.is_some(), "{}", outcome.text());
    assert_snapshot!(outcome.effective);
    let again = read(&outcome.effective);
    assert_eq!(again.config, outcome.config, "what is printed reads back as the same");
}

#[test]
fn a_file_that_is_wrong_all_over_has_at_most_a_hundred_findings() {
    let keys: String = (0..500).map(|i| format!("key-{i} = 1\n")).collect();
    let bad: String = (0..300).map(|_| "\"1.1.1.1/99\",").collect();
    let outcome = read(&format!("{keys}[gateway]\ntrusted_proxies = [{bad}]\n"));
    assert_eq!(outcome.findings.len(), 100);
    assert!(outcome.compiled.is_none());
}
