//! A rule for the journal's vocabulary: each kind of event that is declared is made by some part of the product, tests
//! aside. A declaration that nothing tells would be a promise in the catalogue that nobody keeps. Declarations are read from
//! their source, because this program uses no crate of the project.

use std::collections::BTreeSet;
use std::path::Path;

use super::Finding;

/// Where events are declared.
const EVENTS: &str = "crates/kernel/src/event.rs";

/// What is declared, and what is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    declared: Vec<(usize, String)>,
    told: BTreeSet<String>,
}

impl Told {
    /// Takes in a file.
    pub(super) fn read(&mut self, file: &Path, content: &str) {
        if file == Path::new(EVENTS) {
            let lines = content.lines().enumerate();
            self.declared = lines.filter_map(|(at, line)| Some((at + 1, declared(line)?.to_owned()))).collect();
        } else if is_product(file) {
            // Tests that stand in the file stand last in it.
            let product = content.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            self.told
                .extend(product.split("Event::").skip(1).map(word).filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }

    /// Says which declarations nothing tells.
    pub(super) fn check(&self) -> Vec<Finding> {
        let file = Path::new(EVENTS);
        if self.declared.is_empty() {
            return vec![Finding::error(file, 0, "has no line of the form `Variant \"part.what\" 1 Info mark once {`")];
        }
        let untold = self.declared.iter().filter(|(_, name)| !self.told.contains(name));
        untold
            .map(|(line, name)| Finding::error(file, *line, format!("`{name}` is declared and told by nobody")))
            .collect()
    }
}

/// The variant in a line `Variant "part.what" 1 Info mark once {`.
fn declared(line: &str) -> Option<&str> {
    let (variant, rest) = line.trim().split_once(" \"")?;
    let (_, rest) = rest.split_once('"')?;
    let mut words = rest.split_whitespace();
    let is_declaration = words.next()?.parse::<u8>().is_ok() && rest.trim_end().ends_with('{');
    (is_declaration && word(variant) == variant).then_some(variant)
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default()
}

/// Code of the product: not a test, not an example, not a program beside it.
fn is_product(file: &Path) -> bool {
    let is_source = file.starts_with("src") || (file.starts_with("crates") && !file.starts_with("crates/testkit"));
    let mut parts = file.iter().filter_map(|part| part.to_str());
    is_source
        && !parts.any(|part| part == "tests" || part == "examples" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &str = "events! {\n    /// X.\n    NodeStarted \"node.started\" 1 Info mark once {\n        a: u64,\n    } \
                            \"x\"\n    NodeLost \"node.lost\" 1 Warn plain often {\n    } \"y\"\n}\n";

    fn found(others: &[(&str, &str)]) -> Vec<String> {
        let mut told = Told::default();
        others.iter().for_each(|(file, content)| told.read(Path::new(file), content));
        told.read(Path::new(EVENTS), DECLARED);
        told.check().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_declared_is_told_somewhere() {
        let all = "tell(Event::NodeStarted { a: 1 }); tell(Event::NodeLost {})";
        assert_eq!(found(&[("src/a.rs", all)]), [""; 0]);
        let one = "tell(Event::NodeStarted { a: 1 });\n#[cfg(test)]\nmod tests { tell(Event::NodeLost {}) }";
        let found =
            found(&[("crates/gateway/src/a.rs", one), ("crates/store/tests/a.rs", all), ("src/a/tests.rs", all)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`NodeLost` is declared and told by nobody"), "{found:?}");
    }

    #[test]
    fn declarations_that_are_not_found_are_an_error() {
        let mut told = Told::default();
        told.read(Path::new(EVENTS), "enum Event {}");
        assert_eq!(told.check().len(), 1);
    }
}
