//! What the pages show, as data: each struct is rendered as HTML, as JSON and as text, so that the three never differ.
//! Everything here may read the journal and the counts, which may block on a disk: it runs on a blocking thread.

pub(crate) mod headline;
pub(crate) mod home;
pub(crate) mod log;
pub(crate) mod pool;
pub(crate) mod range;
pub(crate) mod series;
pub(crate) mod spark;
pub(crate) mod subject;

use std::collections::HashMap;

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
        let is_about = |r: &Record| r.service.is_empty() || traces.iter().any(|t| t.subject() == r.service);
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

    /// Those that tell the same about the same endpoint as one, in the place of the newest, with a count, a first and a
    /// last time.
    pub(crate) fn folded(mut self) -> Records {
        let mut kept: Vec<Record> = Vec::with_capacity(self.records.len());
        let mut places: HashMap<[String; 4], usize> = HashMap::new();
        for record in self.records {
            let key = [&record.kind, &record.service, &record.endpoint, &record.actor].map(String::clone);
            match places.get(&key).and_then(|at| kept.get_mut(*at)) {
                Some(newer) if !record.endpoint.is_empty() => {
                    newer.count += record.count;
                    newer.at_unix_ms = newer.at_unix_ms.min(record.at_unix_ms);
                }
                _ => {
                    places.insert(key, kept.len());
                    kept.push(record);
                }
            }
        }
        self.records = kept;
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use kernel::event::Event;
    use kernel::journal::{Boot, Journal};
    use kernel::{Clock, Entropy};

    use super::*;

    #[test]
    fn what_repeats_is_one_line_in_the_place_of_the_newest() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        let journal = Journal::unkept(clock.clone(), Boot::new(&mut Entropy::from_seed(1)));
        for endpoint in ["a:1", "b:2", "a:1"] {
            let (service, reason) = ("shop".to_owned(), "silent".to_owned());
            journal.tell(Event::EndpointSuspected { service: service.clone(), endpoint: endpoint.into(), reason });
            journal.tell(Event::NodeStopping { pid: 1, reason: endpoint.into() });
            clock.advance(Duration::from_secs(5));
        }
        let records = Records { records: journal.recent(9), ..Records::default() }.folded().at_most(4);
        let shown: Vec<_> = records.records.iter().map(|r| (&*r.endpoint, r.count, r.at_unix_ms / 1_000)).collect();
        // What is about no endpoint is told each time.
        assert_eq!(shown, [("", 1, 1_010), ("a:1", 2, 1_000), ("", 1, 1_005), ("b:2", 1, 1_005)]);
        assert!(records.more);
    }
}
