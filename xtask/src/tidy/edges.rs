//! Which crate of the workspace may depend on which: the arrows of ARCHITECTURE.md as a table. Read from
//! `cargo metadata`, so every kind of dependency counts, also one behind a condition.

use std::path::Path;

use serde_json::Value;

use super::Finding;

/// What one crate may use.
struct Edges {
    name: &'static str,
    /// Crates of the workspace that it may depend on.
    uses: &'static [&'static str],
    /// Crates of the workspace that its tests may use besides.
    tests: &'static [&'static str],
    /// Crates from outside that it must not depend on, because what they bring is absent here by design.
    never: &'static [&'static str],
}

const EVENKEEL: &str = "evenkeel";
const KERNEL: &str = "evenkeel-kernel";
const POLICY: &str = "evenkeel-policy";
const OBSERVE: &str = "evenkeel-observe";
const GATEWAY: &str = "evenkeel-gateway";
const CONSOLE: &str = "evenkeel-console";
const STORE: &str = "evenkeel-store";
const POOL: &str = "evenkeel-pool";
const TESTKIT: &str = "evenkeel-testkit";

/// The planes know no database, and libraries name their errors.
const NO_STORE: &[&str] = &["anyhow", "rusqlite", "tokio-postgres", "redis", "fred"];
/// Only the store names a database driver.
const NO_DRIVER: &[&str] = &["rusqlite", "tokio-postgres", "redis", "fred"];
/// Decisions are pure: no runtime, no socket, no randomness of their own, no clock.
const PURE: &[&str] =
    &["anyhow", "getrandom", "jiff", "rand", "rustix", "socket2", "tokio", "rusqlite", "tokio-postgres"];

const TABLE: &[Edges] = &[
    Edges { name: KERNEL, uses: &[], tests: &[], never: NO_STORE },
    Edges { name: POLICY, uses: &[KERNEL], tests: &[], never: PURE },
    Edges { name: OBSERVE, uses: &[KERNEL], tests: &[TESTKIT], never: NO_STORE },
    Edges { name: GATEWAY, uses: &[KERNEL, POLICY], tests: &[TESTKIT], never: NO_STORE },
    Edges { name: POOL, uses: &[KERNEL, POLICY], tests: &[TESTKIT], never: NO_STORE },
    Edges { name: CONSOLE, uses: &[KERNEL], tests: &[TESTKIT], never: NO_STORE },
    Edges { name: STORE, uses: &[KERNEL], tests: &[TESTKIT], never: &["anyhow", "tokio", "tokio-postgres"] },
    Edges {
        name: EVENKEEL,
        uses: &[KERNEL, POLICY, OBSERVE, GATEWAY, CONSOLE, STORE, POOL],
        tests: &[TESTKIT],
        never: NO_DRIVER,
    },
    // Dev only: what follows is in no product.
    Edges { name: TESTKIT, uses: &[KERNEL], tests: &[], never: &[] },
    Edges {
        name: "evenkeel-it",
        uses: &[],
        tests: &[EVENKEEL, KERNEL, POLICY, OBSERVE, GATEWAY, CONSOLE, STORE, POOL, TESTKIT],
        never: &[],
    },
    Edges { name: "evenkeel-bench", uses: &[KERNEL], tests: &[], never: &[] },
    Edges { name: "evenkeel-storm", uses: &[KERNEL], tests: &[], never: &[] },
    Edges { name: "xtask", uses: &[], tests: &[], never: &[] },
];

/// Compares the workspace with the table.
pub(super) fn check(metadata: &Value) -> Vec<Finding> {
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let manifest = manifest.strip_prefix(root).unwrap_or(manifest);
        let mut error = |text: String| findings.push(Finding::error(manifest, 0, text));
        let Some(edges) = TABLE.iter().find(|edges| edges.name == name) else {
            error(format!("`{name}` has no place in the table of crate edges (xtask/src/tidy/edges.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap_or(&empty) {
            let used = dependency["name"].as_str().unwrap_or_default();
            let test = dependency["kind"].as_str() == Some("dev");
            if dependency["path"].is_null() {
                if edges.never.contains(&used) && !test {
                    error(format!("`{name}` must not depend on `{used}`: what it brings is absent there by design"));
                }
            } else if !(edges.uses.contains(&used) || test && edges.tests.contains(&used)) {
                let kind = if test { "use in tests" } else { "depend on" };
                error(format!("`{name}` must not {kind} `{used}`: crates depend on each other in one direction only"));
            }
        }
    }
    if packages.is_empty() {
        findings.push(Finding::error(Path::new("Cargo.toml"), 0, "cargo metadata lists no crate"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(name: &str, dependencies: &[Value]) -> Value {
        let package = json!({"name": name, "manifest_path": "/w/a/Cargo.toml", "dependencies": dependencies});
        json!({"workspace_root": "/w", "packages": [package]})
    }

    fn own(name: &str, kind: Option<&str>) -> Value {
        json!({"name": name, "kind": kind, "path": "/w/b"})
    }

    #[test]
    fn what_the_table_allows_passes() {
        let uses = [own(KERNEL, None), own(TESTKIT, Some("dev")), json!({"name": "tokio", "kind": null, "path": null})];
        assert_eq!(check(&metadata(GATEWAY, &uses)), []);
    }

    #[test]
    fn an_edge_the_wrong_way_is_named_with_its_manifest() {
        for (from, to) in [(KERNEL, POLICY), (GATEWAY, CONSOLE), (OBSERVE, EVENKEEL), (GATEWAY, TESTKIT)] {
            let found = check(&metadata(from, &[own(to, None)]));
            assert_eq!(found.len(), 1, "{from} -> {to}");
            assert!(found[0].text.contains(from) && found[0].text.contains(to), "{}", found[0]);
            assert_eq!(found[0].file, Path::new("a/Cargo.toml"));
        }
    }

    #[test]
    fn a_pure_crate_may_not_bring_in_a_runtime_and_a_new_crate_needs_a_row() {
        let tokio = json!({"name": "tokio", "kind": null, "path": null});
        assert_eq!(check(&metadata(POLICY, &[tokio])).len(), 1);
        assert!(check(&metadata("evenkeel-new", &[]))[0].text.contains("no place in the table"));
    }
}
