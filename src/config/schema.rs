//! The JSON schema of the configuration, made from its types. The doc comments are part of it: what they say in their fixed
//! shape (see [`super::model`]) becomes limits that are enforced, and facts that the reference page lists.

use kernel::{ByteSize, Rate, Span};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::model::{Config, Share};

/// What is known about one key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The table it stands in, as it is written: `gateway`, `service.NAME`, `route`; empty for the root.
    pub table: String,
    /// The key.
    pub key: String,
    /// What kind of value it takes, in words.
    pub kind: String,
    /// What it is, one or more sentences.
    pub meaning: String,
    /// The default as the comment says it, with its back-ticks.
    pub default: String,
    /// The real default as it would be written in the file, if there is one.
    pub real_default: Option<String>,
    /// The range as the comment says it.
    pub range: String,
    /// `live` or `restart`.
    pub reload: String,
    /// The reason for the default.
    pub why: String,
    /// Whether it opens a table of its own.
    pub is_table: bool,
    /// Whether it has to be there.
    pub is_required: bool,
}

/// The whole schema.
pub fn root() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    tidy(&mut schema);
    schema
}

/// The schema as it is published: pretty JSON with a line break at its end.
pub fn text() -> String {
    format!("{:#}\n", root())
}

/// Follows a reference.
pub fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/"));
    name.and_then(|name| root.get("$defs")?.get(name)).unwrap_or(schema)
}

/// The keys of a table, if it has fixed ones.
pub fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// Every key of every table, in the order of the reference page.
pub fn facts(root: &Value) -> Vec<Fact> {
    let mut facts = Vec::new();
    collect(root, root, String::new(), &mut facts);
    facts
}

/// A table as its header is written: `[gateway]`, `[[route]]`, and `route.cors` for what stands within a route.
pub fn header(table: &str) -> String {
    match table {
        "route" | "service.NAME.endpoints" | "pool.NAME.rule" => format!("[[{table}]]"),
        t if t.starts_with("route.") => t.to_owned(),
        t => format!("[{t}]"),
    }
}

/// The value of a text with a unit, for comparison.
pub fn measure(format: &str, text: &str) -> Option<u64> {
    match format {
        "evenkeel-duration" => text.parse().ok().map(Span::as_millis),
        "evenkeel-size" => text.parse().ok().map(ByteSize::as_bytes),
        "evenkeel-rate" => text.parse().ok().map(Rate::as_bytes_per_sec),
        "evenkeel-share" => Share::parse(text).ok().map(|share| share.millionths().into()),
        _ => None,
    }
}

/// Takes out what TOML cannot say (null), and turns ranges in comments into limits.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            un_null(object);
            if let Some(text) = object.get("description").and_then(Value::as_str) {
                let range = quoted_range(text).map(|(a, b)| (a.to_owned(), b.to_owned()));
                if let Some((least, most)) = range {
                    limit(object, &least, &most);
                }
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// `Option<T>` is a key that may be left out, not one that may be null.
fn un_null(object: &mut Map<String, Value>) {
    let null = json!({ "type": "null" });
    if let Some(Value::Array(any)) = object.get_mut("anyOf") {
        any.retain(|schema| *schema != null);
        if let [Value::Object(one)] = any.as_slice() {
            let one = one.clone();
            object.remove("anyOf");
            one.into_iter().for_each(|(key, value)| {
                object.entry(key).or_insert(value);
            });
        }
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|t| t != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    if object.get("default") == Some(&Value::Null) {
        object.remove("default");
    }
}

fn limit(object: &mut Map<String, Value>, least: &str, most: &str) {
    let whole = |text: &str| text.parse::<u64>().ok();
    let float = |text: &str| text.parse::<f64>().ok();
    match object.get("type").and_then(Value::as_str) {
        Some("integer") => set(object, "minimum", whole(least), "maximum", whole(most)),
        Some("number") => set(object, "minimum", float(least), "maximum", float(most)),
        Some("array") => set(object, "minItems", whole(least), "maxItems", whole(most)),
        Some("object") => set(object, "minProperties", whole(least), "maxProperties", whole(most)),
        Some("string") => set(object, "x-minimum", Some(least), "x-maximum", Some(most)),
        None if object.get("format").is_some_and(|format| format == "evenkeel-share") => {
            let number = |text: &str| Share::parse(text).ok().map(Share::as_f64);
            set(object, "minimum", number(least), "maximum", number(most));
            set(object, "x-minimum", Some(least), "x-maximum", Some(most));
        }
        _ => {}
    }
}

fn set<T: Into<Value>>(object: &mut Map<String, Value>, low: &str, least: Option<T>, high: &str, most: Option<T>) {
    if let (Some(least), Some(most)) = (least, most) {
        object.insert(low.to_owned(), least.into());
        object.insert(high.to_owned(), most.into());
    }
}

/// `a` and `b` of "Range: `a` to `b`".
fn quoted_range(description: &str) -> Option<(&str, &str)> {
    let mut parts = description.split_once("Range: `")?.1.splitn(4, '`');
    let (least, to, most) = (parts.next()?, parts.next()?, parts.next()?);
    (to.split_whitespace().eq(["to"])).then_some((least, most))
}

fn collect(root: &Value, schema: &Value, table: String, facts: &mut Vec<Fact>) {
    let Some(keys) = properties(schema) else { return };
    let required =
        |key: &str| schema.get("required").and_then(Value::as_array).is_some_and(|r| r.iter().any(|k| k == key));
    let mut below = Vec::new();
    for (key, property) in keys {
        let inner = resolve(root, property);
        let path = if table.is_empty() { key.clone() } else { format!("{table}.{key}") };
        let item = inner.get("items").map(|item| resolve(root, item)).filter(|item| properties(item).is_some());
        let named = inner.get("additionalProperties").map(|v| resolve(root, v)).filter(|v| properties(v).is_some());
        let opens = properties(inner).map(|_| (inner, path.clone()));
        let opens = opens.or(item.map(|item| (item, path.clone()))).or(named.map(|v| (v, format!("{path}.NAME"))));
        facts.push(fact(&table, key, property, inner, opens.is_some(), required(key)));
        below.extend(opens);
    }
    below.into_iter().for_each(|(schema, path)| collect(root, schema, path, facts));
}

fn fact(table: &str, key: &str, property: &Value, inner: &Value, is_table: bool, is_required: bool) -> Fact {
    let text =
        property.get("description").or_else(|| inner.get("description")).and_then(Value::as_str).unwrap_or_default();
    // The parts may be broken over lines.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let between = |from: &str, to: &str| {
        let rest = text.split_once(from).map_or("", |(_, rest)| rest);
        rest.split_once(to).map_or(rest, |(part, _)| part).trim().to_owned()
    };
    Fact {
        table: table.to_owned(),
        key: key.to_owned(),
        kind: kind(inner),
        meaning: text.split("Default: ").next().unwrap_or_default().trim().to_owned(),
        default: between("Default: ", ". Range: "),
        // The default of a table is that of each of its keys, which say it themselves.
        real_default: property.get("default").filter(|default| !(is_table && is_filled(default))).map(written),
        range: between(". Range: ", ". Reload: "),
        reload: between(". Reload: ", "."),
        why: text.split_once(" Why: ").map_or("", |(_, why)| why).to_owned(),
        is_table,
        is_required,
    }
}

fn is_filled(value: &Value) -> bool {
    value.as_object().is_some_and(|object| !object.is_empty())
}

/// A default as it would be written in the file, texts without quotes.
fn written(default: &Value) -> String {
    match default {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(f) if number.is_f64() => f.to_string(),
            _ => number.to_string(),
        },
        Value::Array(items) => {
            let items = items.iter().map(Value::to_string).collect::<Vec<_>>();
            format!("[{}]", items.join(", "))
        }
        Value::Object(object) if object.is_empty() => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// The kind of value, in words.
pub fn kind(schema: &Value) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        let or_table = if properties(schema).is_some() { " or table" } else { "" };
        return choices.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(" or ") + or_table;
    }
    let known = match schema.get("format").and_then(Value::as_str) {
        Some("evenkeel-duration") => "duration",
        Some("evenkeel-size") => "size",
        Some("evenkeel-rate") => "rate",
        Some("evenkeel-share") => "share",
        Some("evenkeel-listen") => "address",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).map(word).collect::<Vec<_>>().join(" or "),
        Some(Value::String(one)) => word(one).to_owned(),
        _ => "table".to_owned(),
    }
}

fn word(json_type: &str) -> &str {
    match json_type {
        "string" => "text",
        "integer" => "whole number",
        "number" => "number",
        "boolean" => "`true` or `false`",
        "array" => "list",
        _ => "table",
    }
}

/// The texts that an enumeration takes; empty if it is none.
pub fn choices(schema: &Value) -> Vec<&str> {
    // A text that may also be a table cannot have an `enum`, which would forbid the table.
    if let Some(list) = schema.get("enum").or_else(|| schema.get("x-choices")).and_then(Value::as_array) {
        return list.iter().filter_map(Value::as_str).collect();
    }
    let one_of = schema.get("oneOf").and_then(Value::as_array);
    one_of.into_iter().flatten().filter_map(|s| s.get("const")?.as_str()).collect()
}
