//! A configuration file as a document with places: it is read once, and then whatever cannot be used is taken out of it,
//! piece by piece, so that all errors are found and not only the first. What is left keeps its places, so that checks of
//! meaning can still point into the file. Limits: a file of 1 MiB, [`MAX_FINDINGS`] findings.

use std::fmt;
use std::ops::Range;

use kernel::{Finding, Place, Rule};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Findings of one file, at most: who has more has a file of another kind.
pub const MAX_FINDINGS: usize = 100;

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// The text of a file and where its lines begin.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    starts: Vec<usize>,
}

/// One step from a table or list to what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a table.
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

/// The way from the root to a value, such as `service.shop.endpoints[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

/// What in a document a span belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// The key itself.
    Key(Path),
    /// The value.
    Value(Path),
}

/// A parsed file: as it was written, and what is left of it.
#[derive(Clone, Debug)]
pub struct Document<'t> {
    written: DeValue<'t>,
    left: DeValue<'t>,
}

/// Builds a [`Path`] from keys and places: `path!["service", name, "endpoints", 1]`.
#[macro_export]
macro_rules! path {
    ($($step:expr),* $(,)?) => { $crate::config::document::Path(vec![$( $crate::config::document::Step::from($step) ),*]) };
}

impl From<&str> for Step {
    fn from(key: &str) -> Step {
        Step::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Step {
        Step::Index(index)
    }
}

impl Path {
    /// One step further.
    #[must_use]
    pub fn then(&self, step: impl Into<Step>) -> Path {
        let mut steps = self.0.clone();
        steps.push(step.into());
        Path(steps)
    }

    /// The last key on the way, for messages that name a value.
    pub fn key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
    }

    /// As a table is written in the file: `[service.shop]`, or `the file` for the root. A table in a list within a table
    /// has no header of its own that tells which one it is.
    pub fn table(&self) -> String {
        match self.0.as_slice() {
            [] => "the file".to_owned(),
            [Step::Key(key), Step::Index(_)] => format!("`[[{key}]]`"),
            [.., Step::Index(_)] => format!("`{self}`"),
            _ => format!("`[{self}]`"),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    let dot = if i == 0 { "" } else { "." };
                    let bare =
                        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                    if bare { write!(f, "{dot}{key}")? } else { write!(f, "{dot}{key:?}")? }
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Source {
    /// A text under the name by which the user knows it.
    pub fn new(name: &str, text: String) -> Source {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Source { name: name.to_owned(), text, starts }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A line from 1, without its end.
    pub fn line(&self, line: usize) -> Option<&str> {
        let start = *self.starts.get(line.checked_sub(1)?)?;
        let rest = self.text.get(start..)?;
        Some(rest.split('\n').next().unwrap_or(rest).trim_end_matches('\r'))
    }

    /// Where `span` (bytes) is. It is cut at the end of its first line; an empty one is one character long.
    pub fn place(&self, span: &Range<usize>) -> Place {
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let line = self.starts.partition_point(|s| *s <= start).max(1);
        let begin = self.starts[line - 1];
        let content = self.line(line).unwrap_or_default();
        let before = self.text[begin..start].chars().count().min(content.chars().count());
        let end = self.text.floor_char_boundary(span.end.min(begin + content.len()).max(start));
        let length = self.text[start..end].chars().count().max(1);
        Place { file: self.name.clone(), line, column: before + 1, length }
    }
}

impl<'t> Document<'t> {
    /// Reads TOML. Also gives the syntax errors; if there are any, the document holds what could be made of the rest.
    pub fn parse(text: &'t str) -> (Document<'t>, Vec<toml::de::Error>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let written = DeValue::Table(root.into_inner());
        (Document { left: written.clone(), written }, errors)
    }

    /// What is left.
    pub fn root(&self) -> &DeValue<'t> {
        &self.left
    }

    /// Whether the file says something at `path`, right or wrong.
    pub fn says(&self, path: &Path) -> bool {
        follow(&self.written, path).is_some()
    }

    /// Whether something was taken out of what the file says at `path`.
    pub fn is_damaged(&self, path: &Path) -> bool {
        match (follow(&self.written, path), follow(&self.left, path)) {
            (Some((_, written)), Some((_, left))) => count(written.get_ref()) != count(left.get_ref()),
            (None, None) => false,
            _ => true,
        }
    }

    /// The span of the value at `path`, or of the nearest table around it that is in the file.
    pub fn span(&self, path: &Path) -> Option<Range<usize>> {
        (0..=path.0.len()).rev().filter(|n| *n > 0).find_map(|n| {
            let path = Path(path.0[..n].to_vec());
            follow(&self.left, &path).or_else(|| follow(&self.written, &path)).map(|(_, value)| value.span())
        })
    }

    /// The span of the key at `path`.
    pub fn key_span(&self, path: &Path) -> Option<Range<usize>> {
        follow(&self.left, path).and_then(|(key, _)| key)
    }

    /// Takes out what is at `path`.
    pub fn remove(&mut self, path: &Path) {
        let Some((last, parents)) = path.0.split_last() else { return };
        let mut at = &mut self.left;
        for step in parents {
            let next = match (step, at) {
                (Step::Key(key), DeValue::Table(table)) => table.get_mut(key.as_str()),
                (Step::Index(index), DeValue::Array(list)) => list.get_mut(*index),
                _ => None,
            };
            let Some(next) = next else { return };
            at = next.get_mut();
        }
        match (last, at) {
            (Step::Key(key), DeValue::Table(table)) => {
                table.remove(key.as_str());
            }
            (Step::Index(index), DeValue::Array(list)) => {
                let old = list.clone();
                *list = old.into_iter().enumerate().filter(|(i, _)| i != index).map(|(_, value)| value).collect();
            }
            _ => {}
        }
    }

    /// Puts `text` in the place of the text at `path`.
    pub fn replace_text(&mut self, path: &Path, text: String) {
        let mut at = &mut self.left;
        for step in &path.0 {
            let next = match (step, at) {
                (Step::Key(key), DeValue::Table(table)) => table.get_mut(key.as_str()),
                (Step::Index(index), DeValue::Array(list)) => list.get_mut(*index),
                _ => None,
            };
            let Some(next) = next else { return };
            at = next.get_mut();
        }
        *at = DeValue::String(text.into());
    }

    /// What has exactly this span; of several, the innermost.
    pub fn find(&self, span: &Range<usize>) -> Option<Spot> {
        let mut found = None;
        search(&self.left, &Path::default(), span, &mut found);
        found
    }

    /// Where a value that is now at `path` stood in the file: places in lists count as they were written.
    pub fn as_written(&self, path: &Path) -> Path {
        let Some((_, value)) = follow(&self.left, path) else { return path.clone() };
        let mut found = None;
        search(&self.written, &Path::default(), &value.span(), &mut found);
        match found {
            Some(Spot::Value(written)) if written.0.len() == path.0.len() => written,
            _ => path.clone(),
        }
    }

    /// Reads what is left as a `T`.
    ///
    /// # Errors
    /// What does not fit, with its span.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, toml::de::Error> {
        T::deserialize(toml::de::ValueDeserializer::from(Spanned::new(0..0, self.left.clone())))
    }
}

/// A finding with its place in the file.
pub fn placed(rule: &Rule, source: &Source, span: Option<Range<usize>>, message: String, remedy: String) -> Finding {
    let mut finding = rule.finding(message, remedy);
    finding.place = span.map(|span| source.place(&span));
    finding
}

type Found<'a, 't> = (Option<Range<usize>>, &'a Spanned<DeValue<'t>>);

/// The value at `path`, and the span of its key if it has one. The root has no span and is never found.
fn follow<'a, 't>(root: &'a DeValue<'t>, path: &Path) -> Option<Found<'a, 't>> {
    let mut at: Option<Found<'a, 't>> = None;
    for step in &path.0 {
        let value = at.map_or(root, |(_, value)| value.get_ref());
        at = match (step, value) {
            (Step::Key(key), DeValue::Table(table)) => {
                Some(table.get_key_value(key.as_str()).map(|(k, v)| (Some(k.span()), v))?)
            }
            (Step::Index(index), DeValue::Array(list)) => Some((None, list.get(*index)?)),
            _ => return None,
        };
    }
    at
}

/// How many values there are at and below this one.
fn count(value: &DeValue<'_>) -> usize {
    1 + match value {
        DeValue::Table(table) => table.values().map(|v| count(v.get_ref())).sum(),
        DeValue::Array(list) => list.iter().map(|v| count(v.get_ref())).sum::<usize>(),
        _ => 0,
    }
}

fn search(value: &DeValue<'_>, path: &Path, span: &Range<usize>, found: &mut Option<Spot>) {
    match value {
        DeValue::Table(table) => {
            for (key, value) in table.iter() {
                let path = path.then(key.get_ref().as_ref());
                if value.span() == *span {
                    *found = Some(Spot::Value(path.clone()));
                } else if key.span() == *span {
                    *found = Some(Spot::Key(path.clone()));
                }
                search(value.get_ref(), &path, span, found);
            }
        }
        DeValue::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                let path = path.then(index);
                if value.span() == *span {
                    *found = Some(Spot::Value(path.clone()));
                }
                search(value.get_ref(), &path, span, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[service.shop]\nendpoints = [\"a\", \"ü\", \"c\"]\n[[route]]\nname = \"x\"\n";

    #[test]
    fn what_is_taken_out_moves_no_place_of_the_rest() {
        let (mut doc, errors) = Document::parse(TEXT);
        assert!(errors.is_empty());
        doc.remove(&path!["service", "shop", "endpoints", 0]);
        let span = doc.span(&path!["service", "shop", "endpoints", 1]).unwrap();
        assert_eq!(&TEXT[span.clone()], "\"c\"");
        let now = path!["service", "shop", "endpoints", 1];
        assert_eq!(doc.find(&span), Some(Spot::Value(now.clone())));
        assert_eq!(doc.as_written(&now).to_string(), "service.shop.endpoints[2]");
        assert!(doc.is_damaged(&path!["service", "shop"]) && !doc.is_damaged(&path!["route"]));
    }

    #[test]
    fn places_count_characters_and_stay_within_their_line() {
        let source = Source::new("f", TEXT.to_owned());
        let at = TEXT.find("\"c\"").unwrap();
        assert_eq!(source.place(&(at..at + 3)), Place { file: "f".into(), line: 2, column: 24, length: 3 });
        assert_eq!(source.place(&(0..TEXT.len())).length, 14);
        let end = source.place(&(TEXT.len()..TEXT.len() + 9));
        assert_eq!((end.line, end.column, end.length), (5, 1, 1));
    }

    #[test]
    fn what_is_absent_has_the_place_of_the_table_around_it() {
        let (doc, _) = Document::parse(TEXT);
        let span = doc.span(&path!["service", "shop", "timeout"]).unwrap();
        assert_eq!(&TEXT[span], "[service.shop]");
        assert_eq!(doc.span(&path!["gateway", "listen"]), None);
    }
}
