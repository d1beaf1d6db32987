//! What is different between two texts of a configuration, in the words of the configuration: one change a line, key by
//! key, in the order of the keys. Values that may be secrets are not shown, only that they changed.
//!
//! ```text
//! service.shop.timeout: "30s" => "5s"
//! service.cart: new
//! route 2: gone
//! ```

use toml::{Table, Value};

/// Changes that are named; more are counted.
const CHANGES_MAX: usize = 20;
/// Characters of a value that are shown.
const VALUE_MAX: usize = 60;
/// Keys whose values are not shown, wherever they stand.
const SECRET_WORDS: [&str; 5] = ["secret", "password", "hash", "token", "key"];

/// The changes from `before` to `after`; empty if there are none, or if one of them is no TOML.
pub(crate) fn changes(before: &str, after: &str) -> Vec<String> {
    let (Ok(before), Ok(after)) = (before.parse::<Table>(), after.parse::<Table>()) else { return Vec::new() };
    let mut found = Vec::new();
    tables(&mut found, "", &before, &after);
    let more = found.len().saturating_sub(CHANGES_MAX);
    found.truncate(CHANGES_MAX);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found
}

fn tables(found: &mut Vec<String>, at: &str, before: &Table, after: &Table) {
    let mut keys: Vec<&String> = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))).collect();
    keys.sort();
    for key in keys {
        let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match (before.get(key), after.get(key)) {
            (Some(b), Some(a)) => values(found, &place, b, a),
            (None, Some(Value::Table(_) | Value::Array(_))) => found.push(format!("{place}: new")),
            (None, Some(value)) => found.push(format!("{place}: {} (was not set)", shown(&place, value))),
            (Some(_), None) => found.push(format!("{place}: gone")),
            (None, None) => {}
        }
    }
}

fn values(found: &mut Vec<String>, at: &str, before: &Value, after: &Value) {
    match (before, after) {
        (b, a) if b == a => {}
        (Value::Table(b), Value::Table(a)) => tables(found, at, b, a),
        (Value::Array(b), Value::Array(a)) if b.iter().chain(a).all(Value::is_table) => {
            for n in 0..b.len().max(a.len()) {
                let place = format!("{at} {}", n + 1);
                match (b.get(n), a.get(n)) {
                    (Some(b), Some(a)) => values(found, &place, b, a),
                    (None, _) => found.push(format!("{place}: new")),
                    (_, None) => found.push(format!("{place}: gone")),
                }
            }
        }
        (b, a) => found.push(format!("{at}: {} => {}", shown(at, b), shown(at, a))),
    }
}

fn shown(at: &str, value: &Value) -> String {
    let key = at.rsplit('.').next().unwrap_or(at);
    if SECRET_WORDS.iter().any(|word| key.contains(word)) {
        return "(not shown)".to_owned();
    }
    let text = value.to_string().replace(char::is_control, " ");
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
        [gateway]
        listen = "127.0.0.1:80"
        [service.shop]
        endpoints = ["a:1", "b:1"]
        timeout = "30s"
        [token.ops]
        hash = "sha256:aa"
        [[route]]
        service = "shop"
        [[route]]
        service = "cart"
    "#;

    #[test]
    fn changes_are_named_key_by_key() {
        let after = BEFORE
            .replace("\"30s\"", "\"5s\"")
            .replace("\"b:1\"]", "\"c:1\"]\nhost = \"x\"")
            .replace("[[route]]\n        service = \"cart\"", "[service.cart]\nendpoints = []");
        assert_eq!(
            changes(BEFORE, &after),
            [
                "route 2: gone",
                "service.cart: new",
                "service.shop.endpoints: [\"a:1\", \"b:1\"] => [\"a:1\", \"c:1\"]",
                "service.shop.host: \"x\" (was not set)",
                "service.shop.timeout: \"30s\" => \"5s\"",
            ]
        );
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let changed = changes(BEFORE, &BEFORE.replace("sha256:aa", "sha256:bb"));
        assert_eq!(changed, ["token.ops.hash: (not shown) => (not shown)"]);
    }

    #[test]
    fn comments_and_order_are_no_change_and_what_is_too_much_is_counted() {
        assert!(changes("a = 1\nb = 2", "# said\nb = 2\na = 1").is_empty());
        let many: String = (0..100).map(|n| format!("k{n:03} = 1\n")).collect();
        let changed = changes(&many, &many.replace("= 1", "= 2"));
        assert_eq!((changed.len(), changed[CHANGES_MAX].as_str()), (CHANGES_MAX + 1, "and 80 more"));
    }
}
