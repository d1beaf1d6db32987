//! One pool over a stretch of time: how it is, what its statements took, how much flowed, and what changed meanwhile.

use kernel::Clock;
use kernel::tally::Subject;
use serde::Serialize;

use super::range::Range;
use super::subject::Past;
use crate::pool_status::PoolStatus;
use crate::view::{Node, PoolStatement};

/// Statements that are shown; the API has them all.
const STATEMENTS: usize = 25;

/// A pool.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PoolFacts {
    #[serde(flatten)]
    pub(crate) status: PoolStatus,
    #[serde(flatten)]
    pub(crate) past: Past,
    /// Those that took the most time.
    pub(crate) statements: Vec<PoolStatement>,
    /// How many shapes of statements there are.
    pub(crate) statements_known: usize,
}

impl PoolFacts {
    /// Looks at everything. Blocks.
    pub(crate) fn look(node: &dyn Node, clock: &Clock, status: PoolStatus, range: Range) -> PoolFacts {
        let past = Past::look(node, clock, &Subject::Pool { name: status.name.clone() }, range);
        let mut statements = node.pool_statements(&status.name);
        statements.sort_by_key(|statement| std::cmp::Reverse(statement.total_us));
        let statements_known = statements.len();
        statements.truncate(STATEMENTS);
        PoolFacts { status, past, statements, statements_known }
    }
}
