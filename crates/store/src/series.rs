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

use crate::config::StoreConfig;
use crate::room::{self, Tidier};
use crate::rows::put;
use crate::tallies::{Flush, Tallies, to_next_second};
use crate::upkeep;
use crate::writer::{Ready, Writer};

/// Minutes that one transaction brings over after the file was lost.
const MINUTES_AT_ONCE: usize = 5;

/// Between tries at the end, while the file is lost.
const AT_THE_END: Duration = Duration::from_millis(100);

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
            let ticks = self.counted.lock().ticks;
            let is_done = self.flush();
            if self.give_up.load(Ordering::Acquire) || is_last && is_done {
                break;
            }
            if is_last {
                // Not for long: whoever closes says when to give up.
                self.wait(ticks, AT_THE_END);
                self.writer.hurry();
                continue;
            }
            self.upkeep();
            self.wait(ticks, Duration::from_secs(1));
        }
        self.writer.close();
    }

    /// Waits for the next tick, for `most` at most.
    fn wait(&self, ticks: u64, most: Duration) {
        let guard = self.counted.lock();
        drop(self.counted.ticked.wait_timeout_while(guard, most, |tallies| tallies.ticks == ticks));
    }

    /// Writes all there is. Whether that is kept.
    pub(crate) fn flush(&mut self) -> bool {
        loop {
            let is_open = self.open();
            let flush = self.counted.lock().flush(MINUTES_AT_ONCE);
            let is_kept = is_open && self.write(&flush);
            let mut tallies = self.counted.lock();
            let is_done = is_kept && tallies.written(&flush);
            self.writer.shelf.waiting.store(tallies.waiting(), Ordering::Relaxed);
            self.writer.shelf.dropped.store(tallies.dropped, Ordering::Relaxed);
            if !is_kept || is_done {
                return is_done;
            }
        }
    }

    /// Opens the file if it is due. Whether it is open.
    fn open(&mut self) -> bool {
        let Some(Ready { fresh, .. }) = self.writer.ready() else { return false };
        if fresh.is_opened {
            (self.ids, self.generation) = (HashMap::new(), -1);
            if fresh.is_other || fresh.is_new {
                self.counted.lock().forget_written();
            }
            self.writer.settled();
        }
        true
    }

    fn write(&mut self, flush: &Flush) -> bool {
        let shelf = self.writer.shelf.clone();
        let mut dropped = 0;
        for attempt in 0..2 {
            let Some(ready) = self.writer.ready() else { return false };
            if ready.fresh.is_opened {
                // It was opened in between: what is to be written may be another by now.
                return false;
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

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
