//! Room in a file that must not grow beyond its cap, and who may make it.
//!
//! A file never has more pages than `max_page_count` lets it have. When nine tenths of them are used, the oldest goes, in
//! pieces, and its pages are used again; pages beyond the cap (it was lowered) are given back to the file system. That is
//! done by the process that holds the lease `retention`, and by whoever meets the cap while it writes: removing the oldest
//! twice harms nobody, and waiting for another process would.

use std::sync::Arc;
use std::time::Duration;

use kernel::Moment;
use kernel::store::Leases;
use rusqlite::{Connection, ErrorCode};

/// The lease of whoever clears away and sums up.
pub(crate) const LEASE: &str = "retention";
/// Pieces that go at a time: the writer has other things to do.
const PIECES_MAX: usize = 400;

/// How often the lease is asked for at most.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Says whether this process is the one that clears away.
#[derive(Debug)]
pub(crate) struct Tidier {
    leases: Arc<dyn Leases>,
    ttl: Duration,
    ask_every: Duration,
    /// When it may be asked for again.
    ask_at: Moment,
}

impl Tidier {
    pub(crate) fn new(leases: Arc<dyn Leases>, every: Duration) -> Tidier {
        // Long enough to be held from one time to the next, short enough to be taken over within minutes.
        Tidier { leases, ttl: every * 3, ask_every: every.min(ASK_EVERY), ask_at: Moment::ZERO }
    }

    /// Takes the lease, or goes on holding it. While the ledger is lost nobody does.
    pub(crate) fn may(&mut self, now: Moment) -> bool {
        if now < self.ask_at {
            return false;
        }
        self.ask_at = now + self.ask_every;
        matches!(self.leases.take(LEASE, self.ttl), Ok(Some(_)))
    }
}

/// Whether a write had no room.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Pages that hold something.
pub(crate) fn used(db: &Connection) -> rusqlite::Result<u64> {
    Ok(pragma(db, "page_count")?.saturating_sub(pragma(db, "freelist_count")?))
}

/// Whether a write that had no room met the cap, and not the end of the disk. What it had taken is given back by then, so
/// that the file is somewhat smaller than the cap.
pub(crate) fn is_at_cap(db: &Connection) -> bool {
    let (has, may) = (pragma(db, "page_count"), pragma(db, "max_page_count"));
    matches!((has, may), (Ok(has), Ok(may)) if has >= soft(may))
}

pub(crate) fn pragma(db: &Connection, name: &str) -> rusqlite::Result<u64> {
    db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Used pages at which room is made.
pub(crate) fn soft(max: u64) -> u64 {
    max / 10 * 9
}

/// Lets `forget` remove the oldest until there is room, and gives back what is beyond the cap.
pub(crate) fn make(
    db: &mut Connection,
    max: u64,
    mut forget: impl FnMut(&mut Connection) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    for _ in 0..PIECES_MAX {
        // A tenth less than where it begins, so that it is not done for each record.
        if used(db)? <= max / 10 * 8 || !forget(db)? {
            break;
        }
    }
    if pragma(db, "page_count")? > max {
        let mut vacuum = db.prepare("PRAGMA incremental_vacuum")?;
        let mut pages = vacuum.query(())?;
        while pages.next()?.is_some() {}
        drop(pages);
        drop(vacuum);
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0))?;
    }
    db.pragma_update_and_check(None, "max_page_count", max as i64, |row| row.get::<_, i64>(0))?;
    Ok(())
}
