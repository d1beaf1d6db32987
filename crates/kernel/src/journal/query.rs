//! Reading the journal: what is asked for, and the seam to whatever keeps it.

use std::fmt::Debug;
use std::io;

use serde::Serialize;

use super::Record;
use crate::event::Level;

/// Records in one answer, at most.
pub const LIMIT_MAX: usize = 1_000;

/// In which order records come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    #[default]
    NewestFirst,
    /// The oldest first: for following.
    OldestFirst,
}

/// Which records are asked for. Everything that is set has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalQuery {
    /// Beyond this cursor.
    pub after: Option<u64>,
    /// Before this cursor.
    pub before: Option<u64>,
    /// Happened (last) at or after this, in milliseconds since the Unix epoch.
    pub since_unix_ms: Option<u64>,
    /// Happened (first) before this.
    pub until_unix_ms: Option<u64>,
    /// Of one of these kinds, or of a group (`endpoint`); empty: all.
    pub kinds: Vec<String>,
    /// About this service.
    pub service: Option<String>,
    /// About this endpoint.
    pub endpoint: Option<String>,
    /// At least so grave.
    pub level: Level,
    /// Only what charts show as a change.
    pub marks: bool,
    /// How many, at most [`LIMIT_MAX`].
    pub limit: usize,
    /// In which order.
    pub order: Order,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JournalPage {
    /// In the order that was asked for.
    pub records: Vec<Record>,
    /// Whether there are more of them.
    pub more: bool,
}

/// Whatever keeps the journal. Calls may block on a disk.
pub trait JournalReader: Send + Sync + Debug {
    /// The records that are asked for.
    ///
    /// # Errors
    /// When they cannot be read now.
    fn read(&self, query: &JournalQuery) -> io::Result<JournalPage>;
}

impl Default for JournalQuery {
    fn default() -> JournalQuery {
        JournalQuery {
            after: None,
            before: None,
            since_unix_ms: None,
            until_unix_ms: None,
            kinds: Vec::new(),
            service: None,
            endpoint: None,
            level: Level::Info,
            marks: false,
            limit: 100,
            order: Order::NewestFirst,
        }
    }
}

impl JournalQuery {
    /// Whether a record is asked for.
    pub fn matches(&self, r: &Record) -> bool {
        let is = |kind: &String| {
            r.kind == *kind || r.kind.strip_prefix(kind.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        self.after.is_none_or(|c| r.cursor > c)
            && self.before.is_none_or(|c| r.cursor < c)
            && self.since_unix_ms.is_none_or(|t| r.until_unix_ms >= t)
            && self.until_unix_ms.is_none_or(|t| r.at_unix_ms < t)
            && (self.kinds.is_empty() || self.kinds.iter().any(is))
            && self.service.as_ref().is_none_or(|s| r.service == *s)
            && self.endpoint.as_ref().is_none_or(|e| r.endpoint == *e)
            && r.level >= self.level
            && (!self.marks || r.mark)
    }

    /// The answer from records that are all in memory, oldest first.
    pub fn answer_from(&self, records: impl DoubleEndedIterator<Item = Record>) -> JournalPage {
        let limit = self.limit.clamp(1, LIMIT_MAX);
        let wanted = |r: &Record| self.matches(r);
        let mut records: Vec<Record> = match self.order {
            Order::NewestFirst => records.rev().filter(wanted).take(limit + 1).collect(),
            Order::OldestFirst => records.filter(wanted).take(limit + 1).collect(),
        };
        let more = records.len() > limit;
        records.truncate(limit);
        JournalPage { records, more }
    }
}
