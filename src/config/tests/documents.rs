//! The documentation that is made from the types, and the pages: nothing is missing, wrong or out of date.

use std::collections::BTreeSet;
use std::path::Path;

use kernel::ErrorCode;
use serde_json::Value;

use crate::cli::reference::stale;
use crate::config::catalogue::{self, Topic};
use crate::config::schema::{self, Fact};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn facts() -> Vec<Fact> {
    schema::facts(&schema::root())
}

/// Tables of the root that have all their defaults themselves.
fn is_plain_table(fact: &Fact) -> bool {
    fact.table.is_empty() && matches!(fact.key.as_str(), "gateway" | "admin" | "store" | "trace")
}

#[test]
fn each_key_says_what_it_is_its_default_range_reload_and_reason() {
    for fact in facts().iter().filter(|fact| !is_plain_table(fact)) {
        let key = format!("{}.{}", fact.table, fact.key);
        assert!(fact.meaning.ends_with('.'), "{key} has no meaning: {fact:?}");
        assert!(!fact.default.is_empty(), "{key} has no `Default:`");
        assert!(!fact.range.is_empty(), "{key} has no `Range:`");
        assert!(
            matches!(fact.reload.as_str(), "live" | "restart"),
            "{key} has no `Reload: live.` or `Reload: restart.`"
        );
        assert!(fact.why.ends_with('.'), "{key} has no `Why:`");
    }
}

#[test]
fn each_default_that_is_said_is_the_real_one() {
    for fact in facts().iter().filter(|fact| !is_plain_table(fact)) {
        let key = format!("{}.{}", fact.table, fact.key);
        let said = fact.default.strip_prefix('`').and_then(|d| d.strip_suffix('`'));
        match (&fact.real_default, said) {
            (Some(real), Some(said)) => assert_eq!(said, real, "{key}"),
            // The schema does not show the default of a list or table that is left out when it is empty.
            (None, Some(said)) => assert_eq!(said, if fact.kind == "list" { "[]" } else { "{}" }, "{key}"),
            (real, None) => {
                assert_eq!(*real, None, "{key} does not say its default");
                assert!(fact.default.starts_with("none ("), "{key}: {}", fact.default);
                assert_eq!(fact.is_required, fact.default == "none (required)", "{key}");
            }
        }
    }
}

#[test]
fn each_number_and_measure_has_limits_that_hold_its_default() {
    let root = schema::root();
    let mut seen = 0;
    for definition in root["$defs"].as_object().unwrap().values() {
        for (key, property) in schema::properties(definition).into_iter().flatten() {
            let format = property["format"].as_str().unwrap_or_default();
            let (low, high) = match property["type"].as_str() {
                Some("integer" | "number") if key != "status" => ("minimum", "maximum"),
                Some("string") if ["evenkeel-duration", "evenkeel-size", "evenkeel-rate"].contains(&format) => {
                    ("x-minimum", "x-maximum")
                }
                None if format == "evenkeel-share" => ("x-minimum", "x-maximum"),
                Some("array") => ("minItems", "maxItems"),
                _ => continue,
            };
            seen += 1;
            let value = |v: &Value| match v {
                Value::String(text) => schema::measure(format, text).map(|v| v as f64),
                Value::Array(list) => Some(list.len() as f64),
                other => other.as_f64(),
            };
            let (Some(least), Some(most)) = (value(&property[low]), value(&property[high])) else {
                panic!("{key} has no limits: its range must be written `a` to `b`");
            };
            assert!(least < most, "{key}");
            if let Some(default) = property.get("default").and_then(value) {
                assert!((least..=most).contains(&default), "{key}: {default} is not in {least}..={most}");
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn generated_files_are_up_to_date() {
    let stale = stale(repository()).unwrap();
    assert!(stale.is_empty(), "write them anew with `cargo run -- reference --write .`: {stale:?}");
}

#[test]
fn each_topic_has_a_page_and_each_page_a_topic() {
    let mut ids = BTreeSet::new();
    for topic in catalogue::topics() {
        let (id, page) = (topic.id(), topic.page());
        assert!(ids.insert(id), "two topics are called {id}");
        if let Topic::Event(kind) = topic {
            assert!(page.starts_with(&format!("# {id}\n\n{}.\n", topic.title())), "{id}: {page}");
            assert!(kind.declared().fields.iter().all(|(field, _)| page.contains(&format!("| `{field}` |"))), "{page}");
            continue;
        }
        assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{id}");
        assert!(page.starts_with(&format!("# {id}\n\n{}.\n", topic.title())), "{id}: {page}");
        assert!(page.contains("\n## Remedy\n"), "{id}");
        assert_eq!(catalogue::find(id).unwrap().id(), id);
    }
    for (directory, is_error) in [("docs/errors", true), ("docs/findings", false)] {
        let there = std::fs::read_dir(repository().join(directory)).unwrap();
        let there: BTreeSet<String> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let paged = catalogue::topics().filter(|topic| !matches!(topic, Topic::Event(_)));
        let wanted = paged.filter(|topic| matches!(topic, Topic::Error(_)) == is_error);
        let wanted: BTreeSet<String> =
            wanted.map(|topic| format!("{}.md", topic.id())).chain(["README.md".to_owned()]).collect();
        assert_eq!(there, wanted, "{directory}");
    }
}

#[test]
fn the_page_of_an_error_names_its_status_and_kind() {
    for code in ErrorCode::ALL {
        let page = Topic::Error(*code).page();
        let line = format!("\nStatus: {}. Kind: {}.\n", code.status(), code.kind().label());
        assert!(page.contains(&line), "{}: {line}", code.code());
        assert!(page.contains("\n## Cause\n"), "{}", code.code());
    }
    let index = std::fs::read_to_string(repository().join("docs/errors/README.md")).unwrap();
    for code in ErrorCode::ALL {
        let row = format!(
            "| [{c}]({c}.md) | {} | {} | {} |",
            code.status(),
            code.kind().label(),
            code.title(),
            c = code.code()
        );
        assert!(index.contains(&row), "{row}");
    }
}

#[test]
fn a_topic_that_does_not_exist_is_answered_with_the_nearest() {
    assert_eq!(catalogue::find("unknown_key").unwrap_err(), Some("unknown-key"));
    assert_eq!(catalogue::find("upstream-timeot").unwrap_err(), Some("upstream-timeout"));
    assert_eq!(catalogue::find("endpoint.on-probation").unwrap_err(), Some("endpoint.on_probation"));
    assert_eq!(catalogue::find("x").unwrap_err(), None);
}
