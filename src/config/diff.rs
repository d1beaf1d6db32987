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
/// Keys whose values are not shown, nor anything below them, in whatever case.
const SECRET_WORDS: [&str; 8] = ["secret", "password", "hash", "token", "key", "headers", "cookie", "auth"];

/// The changes from `before` to `after`; empty if there are none, or if one of them is no TOML.
pub(crate) fn changes(before: &str, after: &str) -> Vec<String> {
    let (Ok(before), Ok(after)) = (before.parse::<Table>(), after.parse::<Table>()) else { return Vec::new() };
    let mut found = Vec::new();
    tables(&mut found, &Place::default(), &before, &after);
    let more = found.len().saturating_sub(CHANGES_MAX);
    found.truncate(CHANGES_MAX);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found
}

/// Where a value stands, and whether it may be shown.
#[derive(Default)]
struct Place {
    text: String,
    is_secret: bool,
}

impl Place {
    fn key(&self, key: &str) -> Place {
        // A key may hold anything if it is quoted.
        let key = key.replace(char::is_control, " ");
        let lower = key.to_ascii_lowercase();
        let is_secret = self.is_secret || SECRET_WORDS.iter().any(|word| lower.contains(word));
        let text = if self.text.is_empty() { key } else { format!("{}.{key}", self.text) };
        Place { text, is_secret }
    }

    fn item(&self, number: usize) -> Place {
        Place { text: format!("{} {number}", self.text), is_secret: self.is_secret }
    }
}

fn tables(found: &mut Vec<String>, at: &Place, before: &Table, after: &Table) {
    let mut keys: Vec<&String> = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))).collect();
    keys.sort();
    for key in keys {
        let place = at.key(key);
        match (before.get(key), after.get(key)) {
            (Some(b), Some(a)) => values(found, &place, b, a),
            (None, Some(Value::Table(_) | Value::Array(_))) => found.push(format!("{}: new", place.text)),
            (None, Some(value)) => found.push(format!("{}: {} (was not set)", place.text, shown(&place, value))),
            (Some(_), None) => found.push(format!("{}: gone", place.text)),
            (None, None) => {}
        }
    }
}

fn values(found: &mut Vec<String>, at: &Place, before: &Value, after: &Value) {
    match (before, after) {
        (b, a) if b == a => {}
        (Value::Table(b), Value::Table(a)) => tables(found, at, b, a),
        (Value::Array(b), Value::Array(a)) if b.iter().chain(a).all(Value::is_table) => {
            for n in 0..b.len().max(a.len()) {
                let place = at.item(n + 1);
                match (b.get(n), a.get(n)) {
                    (Some(b), Some(a)) => values(found, &place, b, a),
                    (None, _) => found.push(format!("{}: new", place.text)),
                    (_, None) => found.push(format!("{}: gone", place.text)),
                }
            }
        }
        (b, a) => found.push(format!("{}: {} => {}", at.text, shown(at, b), shown(at, a))),
    }
}

fn shown(at: &Place, value: &Value) -> String {
    if at.is_secret || holds_secret(value) {
        return "(not shown)".to_owned();
    }
    let text = value.to_string().replace(char::is_control, " ");
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whether there is something in it that is a secret wherever it stands: a password or a query in an address, or a key
/// of a table whose value is one.
fn holds_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(['?', '@']),
        Value::Array(items) => items.iter().any(holds_secret),
        Value::Table(table) => {
            table.iter().any(|(key, value)| Place::default().key(key).is_secret || holds_secret(value))
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => false,
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
    fn what_may_be_a_secret_is_found_wherever_it_stands() {
        let cases = [
            "[deploys]\ngithub_secret = \"S\"",
            "[[route]]\nrequest_headers = { set = { Authorization = \"Bearer S\" } }",
            "[[route]]\nresponse_headers.set = { \"X.Y\" = \"S\" }",
            "[[route]]\nheaders = { \"X-API-KEY\" = \"S\" }",
            "[[route]]\nredirect = { to = \"https://me:S@other.example/\" }",
            "[service.a]\nhealth = { path = \"/up?code=S\" }",
            "a = [1, { password = \"S\" }]",
            "a = [[\"https://me:S@other.example/\"]]",
            "\"Pass-KEY\" = { a = { b = \"S\" } }",
            "\"key.x\" = \"S\"",
            "[pool.main]\nauth = { user = \"u\", password = \"S\" }",
            "[pool.main.auth]\nuser = \"S\"",
        ];
        for text in cases {
            // Changed, new, gone, and of another kind.
            let others = [text.replace('S', "S2"), String::new()];
            for other in &others {
                for changed in [changes(text, other), changes(other, text)] {
                    let shown = changed.join("\n").replace("Secret", "").replace("_secret", "");
                    assert!(!changed.is_empty() && !shown.contains('S'), "{text}: {shown}");
                }
            }
        }
        assert_eq!(changes("a = [1, { hash = \"S\" }]", "a = 1"), ["a: (not shown) => 1"]);
        assert_eq!(changes("\"a\\nb\" = 1", ""), ["a b: gone"]);
    }

    #[test]
    fn comments_and_order_are_no_change_and_what_is_too_much_is_counted() {
        assert!(changes("a = 1\nb = 2", "# said\nb = 2\na = 1").is_empty());
        let many: String = (0..100).map(|n| format!("k{n:03} = 1\n")).collect();
        let changed = changes(&many, &many.replace("= 1", "= 2"));
        assert_eq!((changed.len(), changed[CHANGES_MAX].as_str()), (CHANGES_MAX + 1, "and 80 more"));
    }
}
