//! Everything that `evenkeel explain` knows: each rule of the configuration, each error of the data plane and each kind of
//! event, with its page. The pages are in the binary, so that they are there when nothing else is.

use kernel::{ErrorCode, EventKind, Rule};

use crate::overrides;
use crate::pages::events;

use super::{UNREADABLE_FILE, compile, interpolate, lint, shape, syntax};

/// The rules about reading a file.
const READING: &[&Rule] = &[
    &UNREADABLE_FILE,
    &syntax::SYNTAX,
    &interpolate::UNREADABLE_SECRET,
    &interpolate::BAD_REFERENCE,
    &shape::UNKNOWN_KEY,
    &shape::WRONG_TYPE,
    &shape::MISSING_KEY,
    &shape::BAD_VALUE,
    &shape::OUT_OF_RANGE,
];

macro_rules! pages {
    ($($code:literal)*) => { [ $( ($code, include_str!(concat!("../../docs/errors/", $code, ".md"))), )* ] };
}

/// The rules about what a node keeps; it finds them while it runs.
const RUNNING: &[&Rule] = &[&overrides::DAMAGED_OVERRIDES, &overrides::OVERRIDES_NOT_KEPT];

/// The page of each error code.
const ERROR_PAGES: [(&str, &str); 23] = pages! {
    "malformed-request" "ambiguous-framing" "bad-host" "forbidden-address" "no-route" "request-timeout" "body-too-large"
    "uri-too-long" "expectation-failed" "client-connection-limit" "headers-too-large" "client-gone" "internal"
    "method-not-supported" "upstream-closed" "upstream-malformed" "upstream-truncated" "upstream-unreachable"
    "upstream-saturated" "service-overloaded" "connection-limit" "upstream-timeout" "version-not-supported"
};

/// Something that can be explained.
#[derive(Clone, Copy, Debug)]
pub enum Topic {
    /// A rule that findings come from.
    Rule(&'static Rule),
    /// An error that clients see.
    Error(ErrorCode),
    /// A kind of event that the journal tells.
    Event(EventKind),
}

impl Topic {
    /// Its id.
    pub fn id(self) -> &'static str {
        match self {
            Topic::Rule(rule) => rule.id,
            Topic::Error(code) => code.code(),
            Topic::Event(kind) => kind.name(),
        }
    }

    /// One line about it.
    pub fn title(self) -> &'static str {
        match self {
            Topic::Rule(rule) => rule.title,
            Topic::Error(code) => code.title(),
            Topic::Event(kind) => kind.declared().meaning.trim().trim_end_matches('.'),
        }
    }

    /// The page that explains it, in Markdown.
    pub fn page(self) -> String {
        match self {
            Topic::Rule(rule) => rule.page(),
            Topic::Error(code) => ERROR_PAGES
                .iter()
                .find(|(id, _)| *id == code.code())
                .map(|(_, page)| (*page).to_owned())
                .unwrap_or_default(),
            Topic::Event(kind) => events::explained(kind),
        }
    }
}

/// Every rule: reading first, then meaning, then lints, then what a running node finds.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    let told = READING.iter().chain(compile::RULES).copied().chain(lint::all().map(|lint| &lint.rule));
    told.chain(RUNNING.iter().copied())
}

/// Every topic.
pub fn topics() -> impl Iterator<Item = Topic> {
    let errors = ErrorCode::ALL.iter().copied().map(Topic::Error);
    rules().map(Topic::Rule).chain(errors).chain(EventKind::ALL.iter().copied().map(Topic::Event))
}

/// The topic with this id.
///
/// # Errors
/// The nearest id, if there is one.
pub fn find(id: &str) -> Result<Topic, Option<&'static str>> {
    topics().find(|topic| topic.id() == id).ok_or_else(|| nearest_id(id))
}

fn nearest_id(id: &str) -> Option<&'static str> {
    let like = |id: &str| id.to_ascii_lowercase().replace('_', "-");
    let wanted = like(id);
    let distance = |id: &str| strsim::damerau_levenshtein(&wanted, &like(id));
    let best = topics().map(Topic::id).min_by_key(|id| distance(id));
    best.filter(|id| distance(id) <= wanted.len() / 2)
}
