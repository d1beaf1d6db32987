//! What the pages show, as data: each struct is rendered as HTML, as JSON and as text, so that the three never differ.
//! Everything here may read the journal and the counts, which may block on a disk: it runs on a blocking thread.

pub(crate) mod headline;
pub(crate) mod home;
pub(crate) mod log;
pub(crate) mod range;
pub(crate) mod series;
pub(crate) mod spark;
pub(crate) mod subject;

use kernel::journal::{JournalQuery, Order, Record};

use crate::view::Node;

/// Records, or why there are none to show.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Records {
    /// Newest first.
    pub(crate) records: Vec<Record>,
    /// Whether there are more.
    pub(crate) more: bool,
    /// Why they could not be read; empty if they could.
    pub(crate) trouble: String,
}

impl Records {
    /// Those that are asked for, newest first. Blocks.
    pub(crate) fn read(node: &dyn Node, query: &JournalQuery) -> Records {
        let query = JournalQuery { order: Order::NewestFirst, ..query.clone() };
        match node.journal().read(&query) {
            Ok(page) => Records { records: page.records, more: page.more, trouble: String::new() },
            Err(error) => {
                Records { trouble: format!("The journal cannot be read now: {error}."), ..Records::default() }
            }
        }
    }

    /// With those of another, newest first, each once.
    pub(crate) fn and(mut self, other: Records) -> Records {
        self.records.extend(other.records);
        self.records.sort_by_key(|r| std::cmp::Reverse((r.until_unix_ms, r.cursor, r.number)));
        self.records.dedup_by(|a, b| a.boot == b.boot && a.number == b.number);
        self.more |= other.more;
        if self.trouble.is_empty() {
            self.trouble = other.trouble;
        }
        self
    }

    /// Neighbours that tell the same about the same endpoint as one, with a count, a first and a last time.
    pub(crate) fn folded(mut self) -> Records {
        self.records.dedup_by(|older, newer| {
            let is_same = (&older.kind, &older.service, &older.endpoint)
                == (&newer.kind, &newer.service, &newer.endpoint)
                && !newer.endpoint.is_empty()
                && older.actor == newer.actor;
            if is_same {
                newer.count += older.count;
                newer.at_unix_ms = newer.at_unix_ms.min(older.at_unix_ms);
            }
            is_same
        });
        self
    }

    /// No more than `most`.
    pub(crate) fn at_most(mut self, most: usize) -> Records {
        self.more |= self.records.len() > most;
        self.records.truncate(most);
        self
    }

    /// Only those about `service`, or about none.
    pub(crate) fn that_touch(mut self, service: &str) -> Records {
        self.records.retain(|r| r.service == service || r.service.is_empty());
        self
    }
}
