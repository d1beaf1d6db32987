//! Whether a document has the shape of a configuration: only known keys, values of the right kind and within their range,
//! and everything that has to be there. It walks the document beside the schema, so it finds all errors in one go; what it
//! finds is taken out, so that nothing is reported twice. The formats of texts are checked afterwards by the types
//! themselves.

use std::ops::Range;

use kernel::{ByteSize, Finding, Rule, Severity};
use serde_json::Value;
use toml::de::DeValue;

use super::document::{Document, MAX_FINDINGS, Path, Source, Step, placed};
use super::interpolate::Secrets;
use super::schema::{choices, header, measure, properties, resolve};

pub(super) const UNKNOWN_KEY: Rule = Rule {
    id: "unknown-key",
    severity: Severity::Error,
    title: "A key is not known",
    what: "A table holds a key that Evenkeel does not have, or does not have there.",
    why: "A key that is not understood is not obeyed: a misspelt `timeout` would leave the default in force, and \
          nobody would know.",
    remedy: "Correct the key (the message names the nearest one), move it to the table it belongs to, or take it \
             out. `evenkeel reference` lists all keys.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\ntimeout = \"5s\"   # not: timeuot = \"5s\"",
};

pub(super) const WRONG_TYPE: Rule = Rule {
    id: "wrong-type",
    severity: Severity::Error,
    title: "A value is of the wrong kind",
    what: "A key holds a number where a text belongs, a text where a list belongs, a table where a list of tables \
           belongs, and the like.",
    why: "There is no value that could be meant without guessing. A duration without a unit, for one, could be \
          seconds or milliseconds.",
    remedy: "Write the value as the message says. Durations, sizes and rates are texts with a unit: `\"5s\"`, \
             `\"64KiB\"`, `\"240B/s\"`.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]   # not: endpoints = \"127.0.0.1:9101\"\n\
              timeout = \"5s\"                    # not: timeout = 5",
};

pub(super) const OUT_OF_RANGE: Rule = Rule {
    id: "out-of-range",
    severity: Severity::Error,
    title: "A value is out of its range",
    what: "A number, duration, size or rate is smaller or larger than the key takes, or a list or table has too few \
           or too many entries.",
    why: "Beyond its range a value is a slip of the pen, or would exhaust the machine.",
    remedy: "Choose a value within the range that the message names. The reference page lists the range of every key.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\n\
              health = { path = \"/healthz\", fall = 2 }   # not: fall = 0",
};

pub(super) const MISSING_KEY: Rule = Rule {
    id: "missing-key",
    severity: Severity::Error,
    title: "A key that has to be there is missing",
    what: "A table lacks a key that has no default.",
    why: "Without it the table means nothing: a service without endpoints is nowhere.",
    remedy: "Add the key. The reference page says what it holds.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]",
};

pub(super) const BAD_VALUE: Rule = Rule {
    id: "bad-value",
    severity: Severity::Error,
    title: "A text does not say what it should",
    what: "A text is not the address, network, duration, path, name or other thing that the key takes.",
    why: "It cannot be used as it is, and nothing else can be read into it without guessing.",
    remedy: "Write it as the message says.",
    example: "[gateway]\nlisten = \"127.0.0.1:8080\"               # not: listen = \"localhost\"\n\
              trusted_proxies = [\"10.0.0.0/8\"]   # not: [\"10.0.0.0/33\"]",
};

/// What is to be said about a place, and what of the document to take out.
struct Problem {
    rule: &'static Rule,
    path: Path,
    span: Option<Range<usize>>,
    message: String,
    remedy: String,
    remove: bool,
}

struct Walk<'a> {
    document: &'a Document<'a>,
    root: &'a Value,
    secrets: &'a Secrets,
    problems: Vec<Problem>,
}

/// Finds what does not fit and takes it out of the document.
pub(super) fn check(
    doc: &mut Document<'_>,
    schema: &Value,
    source: &Source,
    secrets: &Secrets,
    findings: &mut Vec<Finding>,
) {
    let mut walk = Walk { document: &*doc, root: schema, secrets, problems: Vec::new() };
    walk.table(doc.root(), schema, &Path::default(), None);
    let problems = walk.problems;
    for problem in problems.iter().take(MAX_FINDINGS) {
        let (message, remedy) = (problem.message.clone(), problem.remedy.clone());
        let mut finding = placed(problem.rule, source, problem.span.clone(), message, remedy);
        finding.subject = Some(doc.as_written(&problem.path).to_string());
        findings.push(finding);
    }
    // Backwards, so that taking out one item of a list moves none that is still to come.
    problems.iter().rev().filter(|p| p.remove).for_each(|p| doc.remove(&p.path));
}

impl Walk<'_> {
    fn say(
        &mut self,
        rule: &'static Rule,
        path: &Path,
        span: Option<Range<usize>>,
        remove: bool,
        what: (String, String),
    ) {
        let hide = |text: &str| self.secrets.hide(text, span.as_ref());
        let (message, remedy) = (hide(&what.0), hide(&what.1));
        self.problems.push(Problem { rule, path: path.clone(), span, message, remedy, remove });
    }

    fn value(&mut self, value: &DeValue<'_>, schema: &Value, path: &Path, span: Range<usize>) {
        let schema = resolve(self.root, schema);
        if !fits(value, schema) {
            let what = wrong_type(value, schema, path);
            return self.say(&WRONG_TYPE, path, Some(span), true, what);
        }
        match value {
            DeValue::Table(_) => self.table(value, schema, path, Some(span)),
            DeValue::Array(list) => {
                self.count(list.len(), schema, path, &span);
                let item = schema.get("items").unwrap_or(&Value::Null);
                list.iter().enumerate().for_each(|(i, v)| self.value(v.get_ref(), item, &path.then(i), v.span()));
            }
            DeValue::String(text) => self.text(text, schema, path, span),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = number(value).unwrap_or(f64::NAN);
                let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
                let (least, most) = (bound("minimum").unwrap_or(f64::MIN), bound("maximum").unwrap_or(f64::MAX));
                if !(least..=most).contains(&number) {
                    let is_share = schema.get("format").is_some_and(|format| format == "evenkeel-share");
                    let or_text = if is_share { ", or a text such as `\"20%\"`" } else { "" };
                    let what = (
                        format!("`{}` is {}", name(path), shown(value).trim_start_matches("the number ")),
                        format!("choose a number from {least} to {most}{or_text}"),
                    );
                    self.say(&OUT_OF_RANGE, path, Some(span), true, what);
                }
            }
            _ => {}
        }
    }

    fn table(&mut self, value: &DeValue<'_>, schema: &Value, path: &Path, span: Option<Range<usize>>) {
        let DeValue::Table(table) = value else { return };
        if let Some(keys) = properties(schema) {
            for (key, value) in table.iter() {
                let path_of_key = path.then(key.get_ref().as_ref());
                match keys.get(key.get_ref().as_ref()) {
                    Some(schema) => self.value(value.get_ref(), schema, &path_of_key, value.span()),
                    None => {
                        let what = self.unknown(key.get_ref(), keys, path);
                        self.say(&UNKNOWN_KEY, &path_of_key, Some(key.span()), true, what);
                    }
                }
            }
            let required = schema.get("required").and_then(Value::as_array);
            // What the file has and could not be read is no longer in the table, and was said already.
            let written = self.document.as_written(path);
            let missing = |key: &&str| !table.contains_key(*key) && !self.document.says(&written.then(*key));
            for key in required.into_iter().flatten().filter_map(Value::as_str).filter(missing) {
                let meaning = keys.get(key).and_then(|k| k.get("description")?.as_str()).unwrap_or_default();
                let meaning =
                    meaning.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
                let what = (
                    format!("{} has no `{key}`", path.table()),
                    format!(
                        "add `{key}`: {}",
                        lower_first(meaning.split(". ").next().unwrap_or_default().trim_end_matches('.'))
                    ),
                );
                self.say(&MISSING_KEY, path, span.clone(), false, what);
            }
        } else if let Some(inner) = schema.get("additionalProperties") {
            if let Some(span) = &span {
                self.count(table.len(), schema, path, span);
            }
            let schema = inner;
            table.iter().for_each(|(k, v)| self.value(v.get_ref(), schema, &path.then(k.get_ref().as_ref()), v.span()));
        }
    }

    fn count(&mut self, entries: usize, schema: &Value, path: &Path, span: &Range<usize>) {
        let bound = |a: &str, b: &str| schema.get(a).or_else(|| schema.get(b)).and_then(Value::as_u64);
        let least = bound("minItems", "minProperties").unwrap_or(0);
        let most = bound("maxItems", "maxProperties").unwrap_or(u64::MAX);
        if !(least..=most).contains(&(entries as u64)) {
            let message = if entries == 0 {
                format!("`{}` is empty", name(path))
            } else {
                format!("`{}` has {entries} entries", name(path))
            };
            let remedy = if entries == 0 { "name at least one".to_owned() } else { format!("write {least} to {most}") };
            // An empty list stays, so that what refers to the table around it still finds it.
            self.say(&OUT_OF_RANGE, path, Some(span.clone()), false, (message, remedy));
        }
    }

    fn text(&mut self, text: &str, schema: &Value, path: &Path, span: Range<usize>) {
        let choices = choices(schema);
        if !choices.is_empty() && !choices.contains(&text) {
            let list = expected(schema);
            let remedy = match nearest(text, choices.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? It takes {list}"),
                None => format!("write {list}"),
            };
            let message = format!("`{}` is not a value of `{}`", cut(text), path.key().unwrap_or_default());
            return self.say(&BAD_VALUE, path, Some(span), true, (message, remedy));
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let bound = |name: &str| schema.get(name).and_then(Value::as_str).and_then(|b| Some((b, measure(format, b)?)));
        let (Some(value), Some(least), Some(most)) = (measure(format, text), bound("x-minimum"), bound("x-maximum"))
        else {
            return;
        };
        if value < least.1 || value > most.1 {
            let message = format!("`{}` is {text}", name(path));
            let what = (message, format!("choose a value from {} to {}", least.0, most.0));
            self.say(&OUT_OF_RANGE, path, Some(span), true, what);
        }
    }

    fn unknown(&self, key: &str, keys: &serde_json::Map<String, Value>, path: &Path) -> (String, String) {
        let key = cut(key);
        let message = format!("`{key}` is not a key of {}", path.table());
        if let Some(near) = nearest(&key, keys.keys().map(String::as_str)) {
            return (message, format!("did you mean `{near}`?"));
        }
        let facts = super::schema::facts(self.root);
        // A pool and a service have little in common but the names of some keys.
        let in_pool = matches!(path.0.first(), Some(Step::Key(root)) if root == "pool");
        let is_near = |table: &str| table.is_empty() || table.starts_with("pool.") == in_pool;
        let elsewhere = facts.iter().filter(|f| f.key == key && is_near(&f.table)).map(|f| match f.table.as_str() {
            "" => format!("`[{}]`", f.key),
            table => format!("`{}`", header(table)),
        });
        let elsewhere = elsewhere.collect::<Vec<_>>().join(" and ");
        let all = keys.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
        match elsewhere.is_empty() {
            false => (message, format!("it belongs in {elsewhere}")),
            true => (message, format!("the keys there are {all}")),
        }
    }
}

fn fits(value: &DeValue<'_>, schema: &Value) -> bool {
    let one = |json_type: &str| match value {
        DeValue::String(_) => json_type == "string",
        DeValue::Integer(_) => json_type == "integer" || json_type == "number",
        DeValue::Float(_) => json_type == "number",
        DeValue::Boolean(_) => json_type == "boolean",
        DeValue::Array(_) => json_type == "array",
        DeValue::Table(_) => json_type == "object",
        DeValue::Datetime(_) => false,
    };
    match schema.get("type") {
        Some(Value::String(json_type)) => one(json_type),
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).any(one),
        // An enumeration with documented values has no type of its own.
        _ if !choices(schema).is_empty() => one("string"),
        _ => true,
    }
}

fn wrong_type(value: &DeValue<'_>, schema: &Value, path: &Path) -> (String, String) {
    let expected = expected(schema);
    let message = format!("`{}` takes {expected}, not {}", name(path), shown(value));
    let json_type = schema.get("type").and_then(Value::as_str).unwrap_or("string");
    let plain = match value {
        DeValue::Integer(i) => i.to_string(),
        DeValue::Float(f) => f.to_string(),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::String(s) => cut(s),
        _ => String::new(),
    };
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    let is_table_list = schema.get("items").is_some_and(|items| items.get("$ref").is_some());
    let is_named = schema.get("additionalProperties").is_some_and(|v| v.get("$ref").is_some());
    let remedy = match (json_type, value) {
        ("string", DeValue::Integer(_)) if format == "evenkeel-duration" => {
            format!("write `\"{plain}s\"` for seconds or `\"{plain}ms\"` for milliseconds")
        }
        ("string", DeValue::Integer(_)) if format == "evenkeel-size" => {
            let bytes = plain.parse().map_or_else(|_| format!("{plain}B"), |n| ByteSize::from_bytes(n).to_string());
            format!("write `\"{bytes}\"` if bytes are meant")
        }
        ("string", _) if !choices(schema).is_empty() => {
            let quoted = choices(schema).iter().map(|c| format!("`\"{c}\"`")).collect::<Vec<_>>();
            format!("write {}", quoted.join(" or "))
        }
        ("string", DeValue::Integer(_)) if format == "evenkeel-rate" => format!("write `\"{plain}B/s\"`"),
        ("string", DeValue::Integer(_)) if format == "evenkeel-listen" => format!("write `\"127.0.0.1:{plain}\"`"),
        ("string", DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)) if format.is_empty() => {
            format!("put it in quotes: `\"{plain}\"`")
        }
        ("string", DeValue::Array(list)) if list.len() == 1 => "write the one value without brackets".to_owned(),
        ("integer" | "number", DeValue::String(_)) if plain.parse::<f64>().is_ok() => {
            format!("write `{plain}` without quotes")
        }
        ("boolean", DeValue::String(_)) if plain == "true" || plain == "false" => {
            format!("write `{plain}` without quotes")
        }
        ("array", DeValue::Table(_)) if is_table_list => format!("write `[[{}]]` with double brackets", name(path)),
        ("array", DeValue::String(_)) => format!("put it in brackets: `[\"{plain}\"]`"),
        ("object", _) if is_named => format!("open a table with a name: `[{}.NAME]`", name(path)),
        ("object", _) => format!("open a table `[{path}]`, or write `{{ key = value }}`"),
        _ => format!("write {expected}"),
    };
    (message, remedy)
}

/// What a key takes, with an example where there is one.
fn expected(schema: &Value) -> String {
    if let Some(expected) = schema.get("x-expected").and_then(Value::as_str) {
        return expected.to_owned();
    }
    let items = schema.get("items").and_then(|items| items.get("x-expected")).and_then(Value::as_str);
    let choices = choices(schema).iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(" or ");
    match schema.get("type").and_then(Value::as_str) {
        _ if !choices.is_empty() => choices,
        Some("integer") => "a whole number".to_owned(),
        Some("number") => "a number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("array") => items.map_or("a list".to_owned(), |item| format!("a list, each item {item}")),
        Some("object") => "a table".to_owned(),
        _ => "a text".to_owned(),
    }
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text `\"{}\"`", cut(text)),
        DeValue::Integer(i) => format!("the number {i}"),
        DeValue::Float(f) => format!("the number {f}"),
        DeValue::Boolean(b) => format!("`{b}`"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(i) => i128::from_str_radix(i.as_str(), i.radix()).ok().map(|n| n as f64),
        DeValue::Float(f) => f.as_str().parse().ok(),
        _ => None,
    }
}

/// The last key of a path with what follows it, such as `endpoints[1]`.
fn name(path: &Path) -> String {
    let from = path.0.iter().rposition(|step| matches!(step, Step::Key(_))).unwrap_or(0);
    Path(path.0[from..].to_vec()).to_string()
}

/// The key that was probably meant.
pub(super) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    let lower = written.to_ascii_lowercase().replace('-', "_");
    let distance = |key: &&str| strsim::damerau_levenshtein(&lower, &key.replace('-', "_"));
    let known: Vec<&str> = known.collect();
    let best = known.iter().copied().min_by_key(|key| distance(key)).filter(|key| distance(key) <= allowed);
    // A part of the right word is as good a hint: `connections` for `max_connections`.
    best.or_else(|| {
        known.into_iter().find(|key| lower.len() > 3 && (key.contains(&lower) || lower.contains(key)) && key.len() > 3)
    })
}

/// What is repeated of a user's text in a message.
pub(super) fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect::<String>().escape_debug().to_string().replace("\\\"", "\"");
    if text.chars().count() > 60 {
        shown.push('…');
    }
    shown
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    format!("{first}{}", chars.as_str())
}
