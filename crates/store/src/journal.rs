//! The journal's writer, `journal-writer`: what waits in [`kernel::journal::Intake`] goes into `journal.db`, a batch a
//! transaction, and is confirmed once it is committed. A batch in which somebody waits for a record is flushed to the disk
//! before that is confirmed; any other survives the end of the process, and up to a checkpoint's worth of it may be lost
//! when the power fails.
//!
//! A record that is written again (after an error whose outcome is not known, or into a file that was begun anew) is
//! there once: process and number are unique. Into another file than before go the records that are still in memory.
//!
//! A cursor never comes twice, because whoever follows the journal has one: a file that takes the place of another begins
//! with cursors beyond those of the other.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kernel::journal::{Intake, RECENT_MAX, Record, Waiting, unix_ms};
use kernel::store::FileState;
use kernel::{Clock, Journal, Moment};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::config::StoreConfig;
use crate::room::{self, Tidier};
use crate::schema::Which;
use crate::shelf::{ASIDE, PAGE, REPLACED};
use crate::writer::Writer;

/// Records in one transaction, at most.
const BATCH_MAX: usize = 512;
/// Bytes in one transaction, more or less.
const BATCH_BYTES: u64 = 1 << 20;
/// How long the thread waits for something to do before it looks after its file.
const IDLE: Duration = Duration::from_millis(500);
/// How often it says, while the file is lost, that nothing can be kept for now.
const REFUSE_EVERY: Duration = Duration::from_millis(100);
/// Records that go at a time.
const CHUNK: i64 = 500;
/// 2025-01-01. Cursors of a file that takes the place of another begin at 100 for each second since.
const CURSORS_SINCE_MS: u64 = 1_735_689_600_000;

/// What the writer says to those who read.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The number of the last record of this process that is kept.
    pub(crate) kept: AtomicU64,
    /// The highest cursor that was given out.
    highest: AtomicU64,
}

/// The thread's side.
pub(crate) struct JournalWriter {
    pub(crate) writer: Writer,
    pub(crate) intake: Intake,
    pub(crate) journal: Journal,
    pub(crate) progress: Arc<Progress>,
    pub(crate) tidier: Tidier,
    pub(crate) clock: Clock,
    pub(crate) keep: Duration,
    pub(crate) stop: Arc<AtomicBool>,
    upkeep_at: Moment,
    upkeep_every: Duration,
}

impl JournalWriter {
    pub(crate) fn new(
        writer: Writer,
        intake: Intake,
        tidier: Tidier,
        progress: Arc<Progress>,
        stop: Arc<AtomicBool>,
        config: &StoreConfig,
        clock: Clock,
    ) -> JournalWriter {
        let journal = intake.journal();
        let (keep, upkeep_every) = (config.journal_keep, config.upkeep_every);
        let upkeep_at = Moment::ZERO;
        JournalWriter { writer, intake, journal, progress, tidier, clock, keep, stop, upkeep_at, upkeep_every }
    }

    /// Writes until the journal is closed and all of it is kept, or `stop` says that it has taken long enough.
    pub(crate) fn run(mut self) {
        while let Some(batch) = self.intake.next(BATCH_MAX, IDLE) {
            let shelf = self.writer.shelf.clone();
            shelf.waiting.store(self.journal.waiting() as u64, Ordering::Relaxed);
            shelf.dropped.store(self.journal.dropped(), Ordering::Relaxed);
            if self.stop.load(Ordering::Acquire) {
                break;
            }
            if !self.open() {
                self.intake.not_kept(&shelf.trouble());
                std::thread::sleep(self.writer.until_retry().min(REFUSE_EVERY).max(Duration::from_millis(1)));
                continue;
            }
            if batch.is_empty() {
                self.upkeep();
                continue;
            }
            let batch = self.fitting(batch);
            let durable = batch.iter().any(|waiting| waiting.durable);
            let records: Vec<&Record> = batch.iter().map(|waiting| &*waiting.record).collect();
            match self.write(&records, durable) {
                Ok(()) => {
                    if let Some(last) = records.last() {
                        self.progress.kept.store(last.number, Ordering::Release);
                    }
                    self.intake.kept(batch.len());
                    shelf.waiting.store(self.journal.waiting() as u64, Ordering::Relaxed);
                    self.writer.wrote();
                    self.upkeep();
                }
                Err(why) => self.intake.not_kept(&why),
            }
        }
        self.writer.close();
    }

    /// As many of them as one transaction should bring: of a file that may be small only a part.
    fn fitting(&self, mut batch: Vec<Waiting>) -> Vec<Waiting> {
        let mut room = (self.writer.shelf.pages_max() * PAGE / 16).min(BATCH_BYTES);
        let mut fitting = 0;
        for Waiting { record: r, .. } in &batch {
            // Texts are there twice, as columns and in the data.
            let texts: usize = r.data.values().filter_map(|value| value.as_str()).map(str::len).sum();
            room = room.saturating_sub(300 + (r.sentence.len() + 2 * texts) as u64);
            if room == 0 {
                break;
            }
            fitting += 1;
        }
        batch.truncate(fitting.max(1));
        batch
    }

    /// Whether the file is open.
    fn open(&mut self) -> bool {
        let path = self.writer.shelf.path.clone();
        let Some(ready) = self.writer.ready() else { return false };
        let fresh = ready.fresh;
        let highest = self.progress.highest.load(Ordering::Relaxed);
        let begun = match fresh.is_new || fresh.is_other {
            true => begin_beyond(ready.db, highest, &path, unix_ms(self.clock.wall())),
            false => Ok(()),
        };
        if let Err(error) = begun {
            self.writer.failed(&error);
            return false;
        }
        if fresh.is_other || fresh.is_new {
            // What is still in memory and was kept in the other file.
            let kept = self.progress.kept.load(Ordering::Relaxed);
            let recent = self.journal.recent(RECENT_MAX);
            let again: Vec<&Record> = recent.iter().rev().filter(|r| r.number <= kept).collect();
            if !again.is_empty() && self.write(&again, false).is_err() {
                return false;
            }
        }
        self.writer.settled();
        true
    }

    fn write(&mut self, records: &[&Record], durable: bool) -> Result<(), String> {
        let lost = "it was removed meanwhile";
        let shelf = self.writer.shelf.clone();
        // Once more if there was no room and some was made.
        for attempt in 0..2 {
            let Some(ready) = self.writer.ready() else { return Err(shelf.trouble()) };
            let wrote = shelf.timed(|| insert(ready.db, records, durable));
            // Kept only if it is still the file that the next reader will open.
            if !self.writer.look() {
                return Err(lost.to_owned());
            }
            match wrote {
                Ok(highest) => {
                    self.progress.highest.fetch_max(highest, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => {
                    if attempt == 0 && room::is_full(&error) && self.writer.is_at_cap() {
                        self.make_room(true);
                        continue;
                    }
                    self.writer.failed(&error);
                    return Err(shelf.trouble());
                }
            }
        }
        Err(shelf.trouble())
    }

    /// Clears the old away, if it is time.
    fn upkeep(&mut self) {
        let now = self.clock.now();
        let is_due = now >= self.upkeep_at;
        let shelf = self.writer.shelf.clone();
        let Some(ready) = self.writer.ready() else { return };
        let is_tight = room::used(ready.db).is_ok_and(|pages| pages > room::soft(shelf.pages_max()));
        if !(is_due || is_tight) || !self.tidier.may(now) {
            return;
        }
        self.upkeep_at = now + self.upkeep_every;
        if is_tight {
            self.make_room(false);
        }
        let before =
            unix_ms(self.clock.wall()).saturating_sub(u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX));
        let Some(ready) = self.writer.ready() else { return };
        if let Err(error) = shelf.timed(|| forget(ready.db, before)) {
            self.writer.failed(&error);
        }
    }

    fn make_room(&mut self, pressed: bool) {
        let shelf = self.writer.shelf.clone();
        let Some(ready) = self.writer.ready() else { return };
        let made = shelf.timed(|| room::make(ready.db, shelf.pages_max(), forget_oldest));
        match made {
            Ok(_) => self.writer.full("the oldest records are dropped", FileState::Kept),
            Err(error) if !pressed => self.writer.failed(&error),
            // The write that has no room says so.
            Err(_) => {}
        }
    }
}

/// Writes records; the highest cursor.
fn insert(db: &mut Connection, records: &[&Record], durable: bool) -> rusqlite::Result<u64> {
    db.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
    let whole = Transaction::new(db, TransactionBehavior::Immediate)?;
    {
        let mut put = whole.prepare(
            "INSERT OR IGNORE INTO record (boot, number, at_ms, until_ms, count, kind, version, level, mark, sentence,
             service, endpoint, actor, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?;
        let mut boot: Option<(&str, i64)> = None;
        for r in records {
            let id = match boot {
                Some((name, id)) if name == r.boot.as_str() => id,
                _ => boot_id(&whole, r.boot.as_str())?,
            };
            boot = Some((r.boot.as_str(), id));
            let data = serde_json::to_string(&r.data).unwrap_or_default();
            put.execute(rusqlite::params![
                id,
                signed(r.number),
                signed(r.at_unix_ms),
                signed(r.until_unix_ms),
                signed(r.count),
                r.kind,
                r.version,
                r.level as u8,
                r.mark,
                r.sentence,
                r.service,
                r.endpoint,
                r.actor,
                data
            ])?;
        }
    }
    let highest = whole.last_insert_rowid().unsigned_abs();
    whole.commit()?;
    Ok(highest)
}

/// SQLite has no larger numbers.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn boot_id(db: &Connection, name: &str) -> rusqlite::Result<i64> {
    let known = db.query_row("SELECT id FROM boot WHERE name = ?1", [name], |row| row.get(0)).optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    db.execute("INSERT INTO boot (name) VALUES (?1)", [name])?;
    Ok(db.last_insert_rowid())
}

/// Lets the cursors of a new file begin beyond those that somebody may have.
fn begin_beyond(db: &Connection, highest: u64, path: &Path, now_ms: u64) -> rusqlite::Result<()> {
    let begin = match highest {
        0 if has_predecessor(path).unwrap_or(false) => now_ms.saturating_sub(CURSORS_SINCE_MS) / 10,
        highest => highest,
    };
    raise_cursor(db, signed(begin))
}

/// Lets the next cursor be beyond `cursor`.
pub(crate) fn raise_cursor(db: &Connection, cursor: i64) -> rusqlite::Result<()> {
    // SQLite makes the row with the first record, and never two of them.
    db.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'record' AND seq < ?1", [cursor])?;
    db.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'record', ?1
         WHERE ?1 > 0 AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'record')",
        [cursor],
    )?;
    Ok(())
}

/// Whether a journal was put aside here.
fn has_predecessor(path: &Path) -> io::Result<bool> {
    let aside = [ASIDE, REPLACED].map(|end| format!("{}{end}", Which::Journal.file()));
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new(".")))? {
        let name = entry?.file_name();
        if aside.iter().any(|aside| name.to_string_lossy().starts_with(aside)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes what is older than `before`.
fn forget(db: &mut Connection, before: u64) -> rusqlite::Result<()> {
    loop {
        let gone = db.execute(
            "DELETE FROM record WHERE cursor IN (SELECT cursor FROM record WHERE until_ms < ?1 LIMIT ?2)",
            (signed(before), CHUNK),
        )?;
        if (gone as i64) < CHUNK {
            break;
        }
    }
    db.execute("DELETE FROM boot WHERE NOT EXISTS (SELECT 1 FROM record WHERE record.boot = boot.id)", ())?;
    Ok(())
}

/// Removes the oldest records. Whether there were any.
fn forget_oldest(db: &mut Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT coalesce(max(cursor) - min(cursor), 0) FROM record";
    let about: i64 = db.query_row(sql, (), |row| row.get(0))?;
    let sql = "DELETE FROM record WHERE cursor IN (SELECT cursor FROM record ORDER BY cursor LIMIT ?1)";
    Ok(db.execute(sql, [(about / 16).clamp(8, CHUNK)])? > 0)
}
