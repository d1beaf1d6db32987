//! What a node says instead of starting. Each message names the place and the remedy; the snapshots are the messages as
//! people see them on standard error. The exit code is 2 and standard output stays empty.

use std::path::Path;

use crate::support::{directory, run_in, taken_port};

/// Runs `evenkeel up` in `directory` and gives what it says.
#[track_caller]
fn refused(directory: &Path, args: &[&str]) -> String {
    let ended = run_in(directory, args);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    ended.stderr
}

/// Runs `evenkeel up` with this file.
#[track_caller]
fn refused_file(text: &str) -> String {
    refused(directory(text).path(), &["up"])
}

const SERVICE: &str = "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\n";

#[test]
fn wrong_keys() {
    insta::assert_snapshot!(refused_file(
        r#"[gatway]
listen = "127.0.0.1:8080"

[gateway]
listn = "127.0.0.1:8080"
drain-delay = "1s"

[service.shop]
endpoints = ["127.0.0.1:9101"]
healthcheck = { path = "/healthz" }
health = { path = "/healthz", intervall = "2s" }

[[route]]
service = "shop"
pth = "/cart/*"
response_headers = { add = { x-team = "blue" } }
"#
    ));
}

#[test]
fn wrong_types() {
    insta::assert_snapshot!(refused_file(
        r#"[gateway]
listen = 8080
workers = "four"
drain_delay = 5
max_body = "64 megabytes"
min_rate = "240B"
trusted_proxies = "10.0.0.0/8"

[service.shop]
endpoints = "127.0.0.1:9101"
timeout = "soon"
max_connections = -1

[service.blog]
endpoints = ["http://127.0.0.1:9102/", 9103]
balance = "random"

[[route]]
service = ["shop"]
"#
    ));
}

#[test]
fn values_out_of_range() {
    insta::assert_snapshot!(refused_file(
        r#"[gateway]
listen = "localhost:8080"
workers = 0
header_timeout = "0s"

[service.shop]
endpoints = []
timeout = "2d"

[access_log]
sample = 2
"#
    ));
}

#[test]
fn missing_keys() {
    insta::assert_snapshot!(refused_file(
        "[gateway]\nlisten = \"127.0.0.1:8080\"\n[listener.second]\n[api]\n[token.ops]\n[service.shop]\nhealth = {}\n"
    ));
}

#[test]
fn unreadable_secrets() {
    let text = format!(
        r#"[gateway]
listen = "127.0.0.1:8080"
{SERVICE}
[token.unset]
hash = "${{env:EVENKEEL_TEST_UNSET}}"
scopes = ["operator"]

[token.absent]
hash = "${{file:secrets/absent}}"
scopes = ["operator"]

[token.directory]
hash = "${{file:secrets}}"
scopes = ["operator"]

[token.binary]
hash = "${{file:secrets/binary}}"
scopes = ["operator"]

[token.shell]
hash = "${{OPS_HASH}}"
scopes = ["operator"]

[token.open]
hash = "${{env:OPS_HASH"
scopes = ["operator"]
"#
    );
    let directory = directory(&text);
    std::fs::create_dir(directory.path().join("secrets")).unwrap();
    std::fs::write(directory.path().join("secrets/binary"), [0xff, 0xfe]).unwrap();
    insta::assert_snapshot!(refused(directory.path(), &["up"]));
}

#[test]
fn secrets_that_are_no_hashes() {
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:8080\"\n{SERVICE}[token.file]\nhash = \"${{file:secret}}\"\nscopes = [\"operator\"]\n\
         [token.plain]\nhash = \"evk_c2VjcmV0LW9mLXRoZS1vcGVyYXRvcg\"\nscopes = [\"operator\", \"root\"]\n"
    );
    let directory = directory(&text);
    std::fs::write(directory.path().join("secret"), "correct-horse-battery\n").unwrap();
    let said = refused(directory.path(), &["up"]);
    assert!(!said.contains("correct-horse"), "{said}");
    insta::assert_snapshot!(said);
}

#[test]
fn a_taken_port() {
    let (_gateway, gateway) = taken_port();
    let (_admin, admin) = taken_port();
    let text = format!("[gateway]\nlisten = \"{gateway}\"\n[admin]\nlisten = \"{admin}\"\n{SERVICE}");
    let said = refused_file(&text);
    let said = said.replace(&gateway.port().to_string(), "GPORT").replace(&admin.port().to_string(), "APORT");
    insta::assert_snapshot!(said);
}

#[test]
fn an_address_of_another_machine() {
    // From the block for documentation (RFC 5737), which no machine has.
    let text = format!("[gateway]\nlisten = \"192.0.2.1:8080\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{SERVICE}");
    insta::assert_snapshot!(refused_file(&text));
}

#[test]
fn an_unresolvable_name() {
    let text = "[gateway]\nlisten = \"127.0.0.1:8080\"\n[service.shop]\nendpoints = [\"127.0.0.1:9101\", \"shop.invalid:9102\"]\n";
    let said = refused_file(text);
    // What the resolver says depends on the machine.
    let (before, after) = said.split_once("cannot be resolved: ").unwrap_or_else(|| panic!("{said}"));
    let (why, rest) = after.split_once('\n').unwrap();
    assert!(!why.is_empty());
    insta::assert_snapshot!(format!("{before}cannot be resolved: (what the resolver says)\n{rest}"));
}

#[test]
fn no_configuration() {
    let empty = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("no_configuration_by_default", refused(empty.path(), &["up"]));
    insta::assert_snapshot!("no_configuration_by_name", refused(empty.path(), &["up", "-c", "etc/keel.toml"]));
    insta::assert_snapshot!("a_directory", refused(empty.path(), &["up", "-c", "."]));
    std::fs::write(empty.path().join("binary.toml"), [0xff, 0xfe]).unwrap();
    insta::assert_snapshot!("not_text", refused(empty.path(), &["up", "-c", "binary.toml"]));
    insta::assert_snapshot!("empty", refused_file(""));
}

#[test]
fn syntax() {
    insta::assert_snapshot!(refused_file(
        "[gateway\nlisten = \"127.0.0.1:8080\"\n[service.shop]\nendpoints = [\"a:1\", \n"
    ));
}

#[test]
fn parts_that_do_not_fit_together() {
    insta::assert_snapshot!(refused_file(
        r#"[gateway]
listen = "127.0.0.1:8080"

[admin]
listen = "0.0.0.0:8080"

[service.shop]
endpoints = ["127.0.0.1:8080"]

[service.blog]
endpoints = ["127.0.0.1:9102"]

[[route]]
path = "/blog/*"
service = "blgo"

[[route]]
service = "shop"
redirect = { to = "/x" }
error_pages = { "503" = "sorry.html" }
"#
    ));
}
