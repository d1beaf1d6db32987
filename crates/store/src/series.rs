//! The series' writer. `tally-keeper` takes what was counted each second of wall time into memory ([`Tallies`]);
//! `series-writer` brings it into `series.db` right after, so that a killed process loses a second. The two are apart, so
//! that a disk that stands still does not blur the seconds.
//!
//! A second costs one small row, `present`: the counts of the minute that goes on. When a minute is over, it becomes rows
//! of `minute` and part of the rows of `quarter`, in one transaction. All of it is absolute: what is written again
//! replaces what was written. A `present` whose process is gone becomes such rows by whoever holds the lease `retention`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::journal::unix_ms;
use kernel::store::FileState;
use kernel::tally::{Subject, TallySource};
use kernel::{Clock, Moment};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::code::{decode_slots, encode, encode_many, encode_slots, sum};
use crate::config::StoreConfig;
use crate::journal::signed;
use crate::room::{self, Tidier};
use crate::schema::about;
use crate::tallies::{Flush, SUBJECTS_MAX, Stretch, Tallies, to_next_second};
use crate::upkeep;
use crate::writer::Writer;

/// Minutes that one transaction brings over after the file was lost.
const MINUTES_AT_ONCE: usize = 5;

/// The memory that both threads and readers share.
#[derive(Debug)]
pub(crate) struct Counted {
    tallies: Mutex<Tallies>,
    /// Woken at each tick.
    ticked: Condvar,
}

/// Takes what was counted, each second.
#[derive(Debug)]
pub(crate) struct TallyKeeper {
    pub(crate) counted: Arc<Counted>,
    pub(crate) source: Arc<dyn TallySource>,
    pub(crate) clock: Clock,
    pub(crate) stop: Arc<Stop>,
}

/// Tells threads to end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_set: Mutex<bool>,
    wake: Condvar,
}

/// Writes what was counted.
pub(crate) struct SeriesWriter {
    pub(crate) writer: Writer,
    counted: Arc<Counted>,
    tidier: Tidier,
    clock: Clock,
    config: StoreConfig,
    /// Numbers of subjects in the file, and the generation they are of.
    ids: HashMap<Subject, i64>,
    generation: i64,
    upkeep_at: Moment,
    stop: Arc<Stop>,
    give_up: Arc<AtomicBool>,
}

impl Stop {
    pub(crate) fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `most`. Whether to end.
    fn wait(&self, most: Duration) -> bool {
        let guard = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        *self.wake.wait_timeout_while(guard, most, |set| !*set).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Counted {
    pub(crate) fn new(tallies: Tallies) -> Counted {
        Counted { tallies: Mutex::new(tallies), ticked: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TallyKeeper {
    /// Takes what was counted until it is told to end, and once more then.
    pub(crate) fn run(self) {
        loop {
            let is_last = self.stop.wait(to_next_second(unix_ms(self.clock.wall())));
            self.tick();
            if is_last {
                return;
            }
        }
    }

    pub(crate) fn tick(&self) {
        // A source may take its time: nobody waits for it with the lock.
        let taken = self.source.take();
        self.counted.lock().tick(self.clock.now(), unix_ms(self.clock.wall()), taken);
        self.counted.ticked.notify_all();
    }
}

impl SeriesWriter {
    pub(crate) fn new(
        writer: Writer,
        counted: Arc<Counted>,
        tidier: Tidier,
        config: StoreConfig,
        clock: Clock,
        stop: Arc<Stop>,
        give_up: Arc<AtomicBool>,
    ) -> SeriesWriter {
        let (ids, generation, upkeep_at) = (HashMap::new(), -1, Moment::ZERO);
        SeriesWriter { writer, counted, tidier, clock, config, ids, generation, upkeep_at, stop, give_up }
    }

    /// Writes after each tick, until it is told to end and all is written, or to give up.
    pub(crate) fn run(mut self) {
        loop {
            let is_last = self.stop.is_set();
            let is_done = self.flush();
            if self.give_up.load(Ordering::Acquire) || is_last && is_done {
                break;
            }
            if is_last {
                // Not for long: whoever closes says when to give up.
                self.stop_wait();
                self.writer.hurry();
                continue;
            }
            self.upkeep();
            let guard = self.counted.lock();
            let _waited = self.counted.ticked.wait_timeout(guard, Duration::from_secs(1));
        }
        self.writer.close();
    }

    fn stop_wait(&self) {
        let guard = self.counted.lock();
        let _waited = self.counted.ticked.wait_timeout(guard, Duration::from_millis(100));
    }

    /// Writes all there is. Whether that is kept.
    pub(crate) fn flush(&mut self) -> bool {
        loop {
            let flush = self.counted.lock().flush(MINUTES_AT_ONCE);
            let is_kept = self.write(&flush);
            let mut tallies = self.counted.lock();
            let is_done = is_kept && tallies.written(&flush);
            self.writer.shelf.waiting.store(tallies.waiting(), Ordering::Relaxed);
            self.writer.shelf.dropped.store(tallies.dropped, Ordering::Relaxed);
            if !is_kept || is_done {
                return is_done;
            }
        }
    }

    fn write(&mut self, flush: &Flush) -> bool {
        let shelf = self.writer.shelf.clone();
        let mut dropped = 0;
        for attempt in 0..2 {
            let Some(ready) = self.writer.ready() else { return false };
            if ready.is_fresh {
                (self.ids, self.generation) = (HashMap::new(), -1);
            }
            if ready.is_other || ready.is_new {
                self.counted.lock().forget_written();
                // What is to be written is another by now.
                return ready.is_new && self.write_again();
            }
            let (ids, generation) = (&mut self.ids, &mut self.generation);
            let wrote = shelf.timed(|| put(ready.db, flush, ids, generation, &mut dropped));
            if !self.writer.look() {
                return false;
            }
            match wrote {
                Ok(()) => {
                    self.counted.lock().dropped += dropped;
                    self.writer.wrote();
                    return true;
                }
                Err(error) => {
                    // Numbers that were given in a transaction that did not come about.
                    (self.ids, self.generation) = (HashMap::new(), -1);
                    if attempt == 0 && room::is_full(&error) && self.writer.is_at_cap() {
                        self.make_room(true);
                        continue;
                    }
                    self.writer.failed(&error);
                    return false;
                }
            }
        }
        false
    }

    fn write_again(&mut self) -> bool {
        let flush = self.counted.lock().flush(MINUTES_AT_ONCE);
        self.write(&flush) && self.counted.lock().written(&flush)
    }

    fn upkeep(&mut self) {
        let now = self.clock.now();
        let shelf = self.writer.shelf.clone();
        let Some(ready) = self.writer.ready() else { return };
        let is_tight = room::used(ready.db).is_ok_and(|pages| pages > room::soft(shelf.pages_max()));
        if !(is_tight || now >= self.upkeep_at) || !self.tidier.may() {
            return;
        }
        self.upkeep_at = now + self.config.upkeep_every;
        let wall = unix_ms(self.clock.wall());
        let Some(ready) = self.writer.ready() else { return };
        if let Err(error) = shelf.timed(|| upkeep::all(ready.db, wall, &self.config)) {
            self.writer.failed(&error);
        } else if is_tight {
            self.make_room(false);
        }
    }

    fn make_room(&mut self, pressed: bool) {
        let shelf = self.writer.shelf.clone();
        let Some(ready) = self.writer.ready() else { return };
        let wall = unix_ms(self.clock.wall());
        let made = shelf.timed(|| room::make(ready.db, shelf.pages_max(), |db| upkeep::forget_oldest(db, wall)));
        match made {
            Ok(()) => self.writer.full(
                "the oldest counts by 15 seconds are dropped, then those by the minute, then those by the hour",
                FileState::Kept,
            ),
            Err(error) if !pressed => self.writer.failed(&error),
            // The write that has no room says so.
            Err(_) => {}
        }
    }
}

/// What a subject is called in the file.
pub(crate) fn parts(subject: &Subject) -> (i64, &str, &str) {
    match subject {
        Subject::Route { name } => (0, "", name),
        Subject::Service { name } => (1, "", name),
        Subject::Endpoint { service, name } => (2, service, name),
    }
}

/// The subject of this name, if this version knows such.
pub(crate) fn subject(scope: i64, service: String, name: String) -> Option<Subject> {
    match scope {
        0 => Some(Subject::Route { name }),
        1 => Some(Subject::Service { name }),
        2 => Some(Subject::Endpoint { service, name }),
        _ => None,
    }
}

/// The number of a subject in the file. `None`: there are too many.
fn id(db: &Connection, subject: &Subject, ids: &mut HashMap<Subject, i64>) -> rusqlite::Result<Option<i64>> {
    if let Some(id) = ids.get(subject) {
        return Ok(Some(*id));
    }
    let (scope, service, name) = parts(subject);
    let known = db
        .query_row(
            "SELECT id FROM subject WHERE scope = ?1 AND service = ?2 AND name = ?3",
            (scope, service, name),
            |row| row.get(0),
        )
        .optional()?;
    let id = match known {
        Some(id) => id,
        None => {
            let count: i64 = db.query_row("SELECT count(*) FROM subject", (), |row| row.get(0))?;
            if count >= SUBJECTS_MAX as i64 {
                return Ok(None);
            }
            db.execute("INSERT INTO subject (scope, service, name) VALUES (?1, ?2, ?3)", (scope, service, name))?;
            db.last_insert_rowid()
        }
    };
    ids.insert(subject.clone(), id);
    Ok(Some(id))
}

/// Writes a run as far as it goes; its number.
fn put_run(db: &Connection, run: &Stretch) -> rusqlite::Result<i64> {
    let (from, to) = (signed(run.from_ms), signed(run.to_ms));
    db.execute(
        "INSERT INTO run (name, from_ms, to_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET to_ms = max(to_ms, excluded.to_ms)",
        (&*run.name, from, to),
    )?;
    let id = db.query_row("SELECT id FROM run WHERE name = ?1", [&*run.name], |row| row.get(0))?;
    for (from, to) in &run.gaps {
        db.execute(
            "INSERT OR REPLACE INTO gap (run, from_ms, to_ms) VALUES (?1, ?2, ?3)",
            (id, signed(*from), signed(*to)),
        )?;
    }
    Ok(id)
}

fn put(
    db: &mut Connection,
    flush: &Flush,
    ids: &mut HashMap<Subject, i64>,
    generation: &mut i64,
    dropped: &mut u64,
) -> rusqlite::Result<()> {
    let whole = Transaction::new(db, TransactionBehavior::Immediate)?;
    let present: i64 = about(&whole, "generation")?.unwrap_or_default();
    if present != *generation {
        // Subjects went, and others may have come.
        ids.clear();
        *generation = present;
    }
    let mut runs = HashMap::new();
    for run in
        flush.runs.iter().filter(|run| run.to_ms > run.written_ms || !run.gaps.is_empty() || run.to_ms == run.from_ms)
    {
        runs.insert(run.name.clone(), put_run(&whole, run)?);
    }
    let mut run_id = |whole: &Connection, name: &Arc<str>| -> rusqlite::Result<i64> {
        if let Some(id) = runs.get(name) {
            return Ok(*id);
        }
        let id = whole.query_row("SELECT id FROM run WHERE name = ?1", [&**name], |row| row.get(0)).optional()?;
        let id = match id {
            Some(id) => id,
            // It was forgotten in memory: nothing says that it was covered.
            None => put_run(whole, &Stretch { name: name.clone(), from_ms: 0, to_ms: 0, written_ms: 0, gaps: vec![] })?,
        };
        runs.insert(name.clone(), id);
        Ok(id)
    };
    for closed in &flush.closed {
        let run = run_id(&whole, &closed.run)?;
        let mut rows = Vec::with_capacity(closed.rows.len());
        for (subject, slots) in &closed.rows {
            match id(&whole, subject, ids)? {
                Some(id) => rows.push((id, slots.as_slice())),
                None => *dropped += decode_slots(slots).map_or(0, |slots| sum(slots.iter().map(|(_, c)| c)).total()),
            }
        }
        put_minute(&whole, run, closed.minute, &rows)?;
        whole.execute("DELETE FROM present WHERE run = ?1", [run])?;
    }
    if let Some(present) = &flush.present {
        let run = run_id(&whole, &present.run)?;
        let mut rows = Vec::with_capacity(present.rows.len());
        for (subject, slots) in &present.rows {
            if let Some(id) = id(&whole, subject, ids)? {
                rows.push((id, slots.as_slice()));
            }
        }
        whole.execute(
            "INSERT OR REPLACE INTO present (run, minute, data) VALUES (?1, ?2, ?3)",
            (run, signed(present.minute), encode_many(rows.into_iter())),
        )?;
    }
    whole.commit()
}

/// Writes a minute that is over.
pub(crate) fn put_minute(db: &Connection, run: i64, minute: u64, rows: &[(i64, &[u8])]) -> rusqlite::Result<()> {
    let (hour, first) = (minute / 60, (minute % 60 * 4) as u8);
    if hour < upkeep::whole_from(db)? {
        // Its hour was summed up and its other minutes are gone: it comes too late by days.
        return Ok(());
    }
    let mut put_minute =
        db.prepare("INSERT OR REPLACE INTO minute (subject, minute, run, data) VALUES (?1, ?2, ?3, ?4)")?;
    let mut get = db.prepare("SELECT data FROM quarter WHERE subject = ?1 AND hour = ?2 AND run = ?3")?;
    let mut put = db.prepare("INSERT OR REPLACE INTO quarter (subject, hour, run, data) VALUES (?1, ?2, ?3, ?4)")?;
    for (subject, slots) in rows {
        let Some(slots) = decode_slots(slots) else { continue };
        put_minute.execute((subject, signed(minute), run, encode(&sum(slots.iter().map(|(_, c)| c)))))?;
        let of_hour = get.query_row((subject, signed(hour), run), |row| row.get::<_, Vec<u8>>(0)).optional()?;
        let mut of_hour = of_hour.and_then(|bytes| decode_slots(&bytes)).unwrap_or_default();
        of_hour.retain(|(slot, _)| !(first..first + 4).contains(slot));
        of_hour.extend(slots.into_iter().map(|(slot, counts)| (first + slot, counts)));
        of_hour.sort_by_key(|(slot, _)| *slot);
        put.execute((subject, signed(hour), run, encode_slots(&of_hour)))?;
    }
    // An hour that was summed up already is so again.
    db.execute("UPDATE about SET value = ?1 WHERE key = 'rolled' AND value > ?1", [signed(hour)])?;
    Ok(())
}
