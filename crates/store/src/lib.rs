//! The embedded store.

mod backup;
mod code;
mod config;
mod import;
mod journal;
mod journal_read;
mod ledger;
mod metrics;
mod pool;
mod room;
mod schema;
mod series;
mod shelf;
mod store;
mod tallies;
mod tally_read;
mod upkeep;
mod writer;

pub use backup::{BackupError, FileReport, Report, RestoreError, backup, restore, verify};
pub use config::{SMALLEST_CAP, StoreConfig};
pub use ledger::Ledger;
pub use store::Store;
