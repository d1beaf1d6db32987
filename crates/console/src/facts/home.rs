//! The whole node, as the first page shows it: the state and what is done about it, the golden signals with their sparks,
//! what changed, and how the node itself is.

use kernel::journal::{JournalQuery, unix_ms};
use kernel::store::FileHealth;
use kernel::tally::Subject;
use kernel::{Clock, Level};
use serde::Serialize;

use super::Records;
use super::headline::Headline;
use super::spark::{self, Spark, Sparks};
use crate::status::{Status, Traffic};
use crate::view::Node;

/// Changes that are shown.
const CHANGES: usize = 10;

/// Records that are looked at for the moment of what is wrong now.
const LOOKED_AT: usize = 100;

/// The node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Home {
    #[serde(flatten)]
    pub(crate) status: Status,
    #[serde(flatten)]
    pub(crate) headline: Headline,
    /// When this was so.
    pub(crate) at_unix_ms: u64,
    /// The newest changes and warnings.
    pub(crate) changes: Records,
    /// The files of the store.
    pub(crate) store: Vec<FileHealth>,
    /// Small charts; left out where they are not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sparks: Option<Sparks>,
}

impl Home {
    /// Looks at everything. Blocks.
    pub(crate) fn look(node: &dyn Node, clock: &Clock, status: Status, sparks: Option<Sparks>) -> Home {
        let at_unix_ms = unix_ms(clock.wall());
        let marks = JournalQuery { marks: true, limit: LOOKED_AT, ..JournalQuery::default() };
        let warnings = JournalQuery { level: Level::Warn, limit: LOOKED_AT, ..JournalQuery::default() };
        let marks = Records::read(node, &marks);
        let store = node.store();
        let headline = Headline::of(&status, &marks.records, at_unix_ms).and_store(&store);
        let changes = marks.and(Records::read(node, &warnings)).folded().at_most(CHANGES);
        Home { headline, at_unix_ms, changes, store, sparks, status }
    }
}

impl Sparks {
    /// Those of every route and service. Blocks.
    pub(crate) fn look(node: &dyn Node, clock: &Clock, status: &Status) -> Sparks {
        let now_unix_s = unix_ms(clock.wall()) / 1_000;
        let services = || status.services.iter().map(|s| &s.traffic);
        let subjects: Vec<Subject> = services()
            .map(|s| Subject::Service { name: s.name.clone() })
            .chain(status.routes.iter().map(|r| Subject::Route { name: r.name.clone() }))
            .collect();
        let mut read = spark::read(node.tallies().as_ref(), &subjects, now_unix_s).into_iter();
        let mut named = |t: &Traffic| {
            let spark = read.next().flatten().or_else(|| spark_of_memory(t));
            spark.map(|spark| (t.name.clone(), spark))
        };
        Sparks {
            services: services().filter_map(&mut named).collect(),
            routes: status.routes.iter().filter_map(named).collect(),
        }
    }
}

/// The last minute, from memory.
pub(crate) fn spark_of_memory(traffic: &Traffic) -> Option<Spark> {
    Spark::lately(&traffic.recent, crate::vitals::SAMPLE_EVERY.as_secs_f64())
}
