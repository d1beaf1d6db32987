//! What the pages show, as data: each struct is rendered as HTML, as JSON and as text, so that the three never differ.
//! Everything here may read the journal and the counts, which may block on a disk: it runs on a blocking thread.

pub(crate) mod headline;
pub(crate) mod home;
pub(crate) mod log;
pub(crate) mod range;
pub(crate) mod series;
pub(crate) mod spark;
pub(crate) mod subject;

use kernel::journal::{JournalQuery, LIMIT_MAX, Order, Record};
use kernel::trace::RequestTrace;

use crate::view::Node;

/// Records beside a request.
const BESIDE: usize = 100;

/// How long before and after a request the journal is shown.
const AROUND_MS: u64 = 60_000;

/// Records, or why there are none to show.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Records {
    /// Newest first, if nothing else is said.
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

    /// What the journal tells of the minute before, the minute after and what is between, about the node and the services
    /// of these requests, oldest first. Blocks.
    pub(crate) fn beside(node: &dyn Node, traces: &[RequestTrace]) -> Records {
        let begin = traces.iter().map(|t| t.at_unix_us).min().unwrap_or_default() / 1_000;
        let end = traces.iter().map(|t| t.at_unix_us + t.end.took_us).max().unwrap_or_default() / 1_000;
        let query = JournalQuery {
            since_unix_ms: Some(begin.saturating_sub(AROUND_MS)),
            until_unix_ms: Some(end + AROUND_MS),
            limit: LIMIT_MAX,
            ..JournalQuery::default()
        };
        let mut records = Records::read(node, &query);
        let is_about = |r: &Record| r.service.is_empty() || traces.iter().any(|t| t.service == r.service);
        records.records.retain(is_about);
        records.records.reverse();
        records.at_most(BESIDE)
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
