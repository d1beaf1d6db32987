//! The journal as its page shows it, and what is known of one request with the journal of those minutes.

use kernel::Clock;
use kernel::event::EventKind;
use kernel::journal::{JournalQuery, unix_ms};
use kernel::trace::{TraceLine, Why};
use serde::Serialize;

use super::Records;
use crate::view::Node;

/// Records on one page.
const PAGE: usize = 100;

/// The longest page that is rendered; programs read more from `/v1/journal`.
const PAGE_MAX: usize = 500;

/// Requests in the list.
const LISTED: usize = 50;

/// A page of the journal.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Log {
    /// When it was read.
    pub(crate) at_unix_ms: u64,
    #[serde(flatten)]
    pub(crate) records: Records,
}

/// What is known of a request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WhyFacts {
    /// The id that was asked for.
    pub(crate) id: String,
    /// When this was asked.
    pub(crate) at_unix_ms: u64,
    /// What is known.
    pub(crate) why: Why,
    /// The journal of those minutes.
    #[serde(flatten)]
    pub(crate) records: Records,
}

/// Requests whose traces are kept.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TraceList {
    /// When they were listed.
    pub(crate) at_unix_ms: u64,
    /// Newest first.
    pub(crate) traces: Vec<TraceLine>,
}

/// The groups of kinds of events, in the order of their declarations.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut groups: Vec<_> = EventKind::ALL.iter().filter_map(|kind| kind.name().split('.').next()).collect();
    groups.dedup();
    groups
}

impl Log {
    /// Reads a page. Blocks.
    pub(crate) fn look(node: &dyn Node, clock: &Clock, query: &JournalQuery) -> Log {
        let limit = if query.limit == JournalQuery::default().limit { PAGE } else { query.limit.min(PAGE_MAX) };
        let records = Records::read(node, &JournalQuery { limit, ..query.clone() });
        Log { at_unix_ms: unix_ms(clock.wall()), records }
    }
}

impl WhyFacts {
    /// Whether anything is known of it.
    pub(crate) fn is_found(&self) -> bool {
        matches!(self.why, Why::Found(_))
    }

    /// What is known of `id`. Blocks.
    pub(crate) fn look(node: &dyn Node, clock: &Clock, id: String) -> WhyFacts {
        let why = node.why(&id);
        let records = match &why {
            Why::Found(traces) if !traces.is_empty() => Records::beside(node, traces),
            _ => Records::default(),
        };
        WhyFacts { id, at_unix_ms: unix_ms(clock.wall()), why, records }
    }
}

impl TraceList {
    /// The newest, of `service` if one is given.
    pub(crate) fn look(node: &dyn Node, clock: &Clock, service: Option<&str>) -> TraceList {
        TraceList { at_unix_ms: unix_ms(clock.wall()), traces: node.traces(LISTED, service) }
    }
}
