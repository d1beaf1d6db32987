//! What each worker counts: a [`GroupCells`] for every (database, user) that it serves, and a [`StatementTable`] for every
//! pool. The worker is the only writer, so that counting is a plain load and store; whoever looks sums over the workers.
//!
//! | file | what |
//! | --- | --- |
//! | `group.rs` | counters and histograms of a (database, user) |
//! | `statements.rs` | statements by shape, a bounded number of them |
//! | `spread.rs` | how long the calls of one statement took |
//! | `slow.rs` | lines about slow transactions, a bounded number of them |
//! | `story.rs`, `told.rs` | what happened in transactions that were not plain, for `evenkeel why` |
//!
//! Times are in microseconds. Nothing here reads a clock or waits.

mod group;
mod slow;
mod spread;
mod statements;
pub mod story;
mod told;

pub use group::{Failure, GroupCells};
pub use spread::{Spread, SpreadSum};
pub use statements::{StatementCells, StatementShelf, StatementTable, TEXT_MAX, merge};
