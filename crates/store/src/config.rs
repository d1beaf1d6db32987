//! How the store is kept: where, how large, for how long, and how patient it is. Everything has a default but the place.

use std::path::PathBuf;
use std::time::Duration;

use kernel::ByteSize;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);
/// The smallest file that is still of use: its tables and indexes take some 100 KiB while they are empty.
pub const SMALLEST_CAP: ByteSize = ByteSize::from_mib(1);

/// How the store is kept.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where its files are. Made if it is not there, for this user alone.
    pub directory: PathBuf,
    /// How large `ledger.db` may get. Beyond it nothing more is taken.
    pub ledger_cap: ByteSize,
    /// How large `journal.db` may get. Beyond it the oldest records go.
    pub journal_cap: ByteSize,
    /// How large `series.db` may get. Beyond it the oldest and finest counts go.
    pub series_cap: ByteSize,
    /// How long records of the journal are kept.
    pub journal_keep: Duration,
    /// How long counts by 15 seconds are kept.
    pub quarter_keep: Duration,
    /// How long counts by the minute are kept.
    pub minute_keep: Duration,
    /// How long counts by the hour are kept.
    pub hour_keep: Duration,
    /// How long a lock of another process is waited for before a write counts as failed.
    pub busy: Duration,
    /// How long [`crate::Store::open`] waits for the ledger at most.
    pub start: Duration,
    /// How long a caller of the ledger waits for the disk at most.
    pub patience: Duration,
    /// The first pause before a file that is lost is tried again; it doubles with each failure.
    pub retry_first: Duration,
    /// The longest such pause.
    pub retry_most: Duration,
    /// How often the old is cleared away and hours are summed up.
    pub upkeep_every: Duration,
}

impl StoreConfig {
    /// The defaults, in `directory`.
    pub fn new(directory: PathBuf) -> StoreConfig {
        StoreConfig {
            directory,
            ledger_cap: ByteSize::from_mib(256),
            journal_cap: ByteSize::from_mib(256),
            series_cap: ByteSize::from_mib(512),
            journal_keep: DAY * 400,
            quarter_keep: DAY * 15,
            minute_keep: DAY * 35,
            hour_keep: DAY * 396,
            busy: Duration::from_secs(2),
            start: Duration::from_secs(2),
            patience: Duration::from_secs(5),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(30),
            upkeep_every: Duration::from_secs(60),
        }
    }
}
