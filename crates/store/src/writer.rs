//! A writer's hold on its file, whatever happens to the file.
//!
//! ```text
//! lost => kept   it could be opened and something written to it
//! kept => lost   a write failed; it was removed or replaced; tried again after a pause that doubles
//! kept => full   SQLite refused a page beyond the cap
//! full => kept   a write succeeded again
//! any  => lost   what is in it cannot be right: it is put aside, and a new one begun at once
//! ```
//! Each of these is told once, through the journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::store::FileState;
use kernel::{Clock, Event, Journal, Moment};
use rusqlite::{Connection, ErrorCode};

use crate::config::StoreConfig;
use crate::room;
use crate::schema::Unfit;
use crate::shelf::{Identity, OpenError, Opened, Shelf};

/// A writer's hold on its file.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shelf: Arc<Shelf>,
    clock: Clock,
    journal: Journal,
    opened: Option<Opened>,
    /// What it was when it was open last.
    last: Option<Identity>,
    fresh: Fresh,
    retry_at: Moment,
    pause: Duration,
    pauses: (Duration, Duration),
    /// What was damaged and where it is now, in a sentence, until somebody takes it.
    pub(crate) damage: Option<String>,
    told_lost: bool,
    told_full: bool,
    /// When it was lost.
    dropped_before: u64,
}

/// What a writer has to know of a file before it goes on with it, until it says that it does ([`Writer::settled`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fresh {
    /// It was opened.
    pub(crate) is_opened: bool,
    /// It is not the file that was written before: nothing that this process wrote needs to be in it.
    pub(crate) is_other: bool,
    /// It was begun.
    pub(crate) is_new: bool,
}

/// What a writer meets when it wants its file.
pub(crate) struct Ready<'a> {
    pub(crate) db: &'a mut Connection,
    pub(crate) fresh: Fresh,
}

impl Writer {
    pub(crate) fn new(shelf: Arc<Shelf>, config: &StoreConfig, clock: Clock, journal: Journal) -> Writer {
        Writer {
            shelf,
            clock,
            journal,
            opened: None,
            last: None,
            fresh: Fresh::default(),
            retry_at: Moment::ZERO,
            pause: config.retry_first,
            pauses: (config.retry_first, config.retry_most),
            damage: None,
            told_lost: false,
            told_full: false,
            dropped_before: 0,
        }
    }

    /// The file, opened if it is due. `None`: it is lost.
    pub(crate) fn ready(&mut self) -> Option<Ready<'_>> {
        self.look();
        if self.opened.is_none() {
            if self.clock.now() < self.retry_at {
                return None;
            }
            let shelf = self.shelf.clone();
            // A second try at once: the first may have put a damaged file aside.
            for _ in 0..2 {
                match shelf.timed(|| shelf.open()) {
                    Ok(opened) => {
                        let is_other = self.last.is_some_and(|last| last != opened.identity);
                        self.fresh.is_opened = true;
                        self.fresh.is_other |= is_other;
                        self.fresh.is_new |= opened.is_new;
                        self.last = Some(opened.identity);
                        self.opened = Some(opened);
                        self.returned();
                        break;
                    }
                    Err(error) => {
                        if !self.not_opened(&error) {
                            break;
                        }
                    }
                }
            }
        }
        let opened = self.opened.as_mut()?;
        Some(Ready { db: &mut opened.db, fresh: self.fresh })
    }

    /// What had to be done with a file that was opened is done.
    pub(crate) fn settled(&mut self) {
        self.fresh = Fresh::default();
    }

    /// How long until it is worth another try.
    pub(crate) fn until_retry(&self) -> Duration {
        if self.opened.is_some() { Duration::ZERO } else { self.retry_at.since(self.clock.now()) }
    }

    /// Tries at once next time.
    pub(crate) fn hurry(&mut self) {
        self.retry_at = Moment::ZERO;
    }

    /// Whether the file that is written is still the one at its path; if not, it is let go.
    pub(crate) fn look(&mut self) -> bool {
        let Some(opened) = &self.opened else { return false };
        let there = self.shelf.identity();
        if there == Some(opened.identity) {
            return true;
        }
        let what = if there.is_none() { "it was removed while it was in use" } else { "another file is in its place" };
        self.lose(what);
        // There is nothing to wait for.
        self.retry_at = self.clock.now();
        false
    }

    /// A write succeeded.
    pub(crate) fn wrote(&mut self) {
        self.pause = self.pauses.0;
        if self.shelf.state() == FileState::Full {
            self.shelf.set(FileState::Kept, "");
            self.told_full = false;
        }
    }

    /// A write failed.
    pub(crate) fn failed(&mut self, error: &rusqlite::Error) {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                self.damaged(&error.to_string());
            }
            Some(ErrorCode::DiskFull) if self.is_at_cap() => {
                self.full("nothing more is taken", FileState::Full);
            }
            _ => self.lose(&plain(error)),
        }
    }

    /// Whether a write that had no room met the cap.
    pub(crate) fn is_at_cap(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| room::is_at_cap(&opened.db))
    }

    /// Tells, once, that the cap is reached.
    pub(crate) fn full(&mut self, behaviour: &str, state: FileState) {
        let trouble = if state == FileState::Full { "it is as large as it may be" } else { "" };
        self.shelf.set(state, trouble);
        if !self.told_full {
            self.told_full = true;
            self.journal.tell(Event::StoreFull {
                file: self.shelf.which.word().to_owned(),
                cap_bytes: self.shelf.cap,
                behaviour: behaviour.to_owned(),
            });
        }
    }

    /// Lets the file go, and tries again later.
    pub(crate) fn lose(&mut self, why: &str) {
        self.opened = None;
        self.retry_at = self.clock.now() + self.pause;
        self.pause = (self.pause * 2).min(self.pauses.1);
        self.shelf.set(FileState::Lost, why);
        if !self.told_lost {
            self.told_lost = true;
            self.dropped_before = self.shelf.dropped.load(Ordering::Relaxed);
            self.journal.tell(Event::StoreLost { file: self.shelf.which.word().to_owned(), error: why.to_owned() });
        }
    }

    /// Closes the file in an orderly way.
    pub(crate) fn close(&mut self) {
        if let Some(opened) = self.opened.take() {
            // What is in the log is kept there, too: that it is not brought into the file is no loss.
            let _not_brought_over =
                opened.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0)).is_err();
            self.shelf.set(FileState::Lost, "it was closed");
        }
    }

    fn returned(&mut self) {
        let lost = self.shelf.set(FileState::Kept, "");
        if self.told_lost {
            self.told_lost = false;
            let dropped = self.shelf.dropped.load(Ordering::Relaxed).saturating_sub(self.dropped_before);
            self.journal.tell(Event::StoreReturned {
                file: self.shelf.which.word().to_owned(),
                lost_ms: u64::try_from(lost.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
                kept: self.shelf.waiting.load(Ordering::Relaxed),
                dropped,
            });
        }
    }

    /// Whether it is worth another try at once.
    fn not_opened(&mut self, error: &OpenError) -> bool {
        let damage = match error {
            OpenError::Damaged(what) => Some(what.clone()),
            OpenError::Sql(e) | OpenError::Unfit(Unfit::Sql(e)) => match e.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Some(e.to_string()),
                _ => None,
            },
            _ => None,
        };
        match damage {
            Some(damage) => self.damaged(&damage),
            None => {
                let why = match error {
                    OpenError::Sql(e) | OpenError::Unfit(Unfit::Sql(e)) => plain(e),
                    other => other.to_string(),
                };
                self.lose(&why);
                false
            }
        }
    }

    /// Puts the file aside. Whether a new one can be begun.
    fn damaged(&mut self, what: &str) -> bool {
        let identity = self.opened.as_ref().map(|opened| opened.identity);
        // SQLite must not touch the file any more once it has another name.
        self.opened = None;
        match self.shelf.put_aside(identity) {
            Ok(aside) => {
                self.shelf.set(FileState::Lost, what);
                if let Some(aside) = aside {
                    let (path, to) = (self.shelf.path.display(), aside.display());
                    self.damage = Some(format!("{path} was damaged ({what}); it was put aside as {to}"));
                    self.journal.tell(Event::StoreDamaged {
                        file: self.shelf.which.word().to_owned(),
                        error: what.to_owned(),
                        aside: aside.display().to_string(),
                    });
                }
                self.retry_at = self.clock.now();
                true
            }
            Err(error) => {
                self.lose(&format!("it is damaged ({what}) and cannot be put aside: {error}"));
                false
            }
        }
    }
}

/// The error in words that say what to look for.
pub(crate) fn plain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process has locked it".to_owned(),
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(ErrorCode::ReadOnly) => {
            "it cannot be written: it, its directory or its file system is read-only".to_owned()
        }
        _ => error.to_string(),
    }
}
