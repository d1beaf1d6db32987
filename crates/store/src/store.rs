//! The store as a whole: its threads, and what others get of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use kernel::journal::{Intake, JournalReader, unix_ms};
use kernel::metrics::LatencySum;
use kernel::store::FileHealth;
use kernel::tally::{TallyReader, TallySource};
use kernel::{Clock, Journal};

use crate::config::StoreConfig;
use crate::journal::{JournalWriter, Progress};
use crate::journal_read::KeptJournal;
use crate::ledger::Ledger;
use crate::pool::Pool;
use crate::room::Tidier;
use crate::schema::Which;
use crate::series::{Counted, SeriesWriter, Stop, TallyKeeper};
use crate::shelf::Shelf;
use crate::tallies::Tallies;
use crate::tally_read::KeptTallies;
use crate::writer::Writer;

/// How often whoever closes the store looks whether a thread has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The embedded store.
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    clock: Clock,
    journal: Journal,
    shelves: [Arc<Shelf>; 3],
    ledger: Arc<Ledger>,
    kept_journal: Arc<KeptJournal>,
    kept_tallies: Arc<KeptTallies>,
    progress: Arc<Progress>,
    counted: Arc<OnceLock<Arc<Counted>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Counting ends, and what was counted is written.
    stop: Arc<Stop>,
    /// Threads end whatever waits.
    give_up: Arc<AtomicBool>,
    ledger_stop: Arc<AtomicBool>,
}

impl Store {
    /// Opens the store. Never fails: a file that cannot be used is lost, which `journal` and [`Store::health`] tell, and is
    /// tried again. Blocks for [`StoreConfig::start`] at most.
    pub fn open(config: StoreConfig, clock: Clock, journal: Journal) -> Arc<Store> {
        let shelves = Which::ALL.map(|which| Shelf::new(which, &config, clock.clone()));
        let [ledger_shelf, journal_shelf, series_shelf] = &shelves;
        let writer = Writer::new(ledger_shelf.clone(), &config, clock.clone(), journal.clone());
        let (tried, first_try) = sync_channel(1);
        let holder = journal.boot().as_str().to_owned();
        let (ledger, side) = Ledger::new(writer, clock.clone(), holder, config.patience, tried);
        let progress = Arc::<Progress>::default();
        let counted = Arc::<OnceLock<Arc<Counted>>>::default();
        let kept_journal = KeptJournal {
            pool: Pool::new(journal_shelf.clone()),
            journal: journal.clone(),
            progress: progress.clone(),
        };
        let kept_tallies = KeptTallies {
            pool: Pool::new(series_shelf.clone()),
            counted: counted.clone(),
            clock: clock.clone(),
            config: config.clone(),
        };
        let start = config.start;
        let store = Arc::new(Store {
            config,
            clock,
            journal,
            shelves,
            ledger: Arc::new(ledger),
            kept_journal: Arc::new(kept_journal),
            kept_tallies: Arc::new(kept_tallies),
            progress,
            counted,
            threads: Mutex::default(),
            stop: Arc::default(),
            give_up: Arc::default(),
            ledger_stop: Arc::default(),
        });
        let stop = store.ledger_stop.clone();
        store.spawn("ledger-writer", Which::Ledger, move || side.run(|| stop.load(Ordering::Acquire)));
        match first_try.recv_timeout(start) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => {
                store.shelves[0].note("opening it takes long");
            }
        }
        store
    }

    /// Decisions and leases.
    pub fn ledger(&self) -> Arc<Ledger> {
        self.ledger.clone()
    }

    /// Keeps what is told to the journal, from now on. Once.
    pub fn keep_journal(&self, intake: Intake) {
        let writer = Writer::new(self.shelves[1].clone(), &self.config, self.clock.clone(), intake.journal());
        let side = JournalWriter::new(
            writer,
            intake,
            Tidier::new(self.ledger.clone(), self.config.upkeep_every),
            self.progress.clone(),
            self.give_up.clone(),
            &self.config,
            self.clock.clone(),
        );
        self.spawn("journal-writer", Which::Journal, move || side.run());
    }

    /// Keeps what `source` counts, from now on. Once.
    pub fn keep_tallies(&self, source: Arc<dyn TallySource>) {
        let now = (self.clock.now(), unix_ms(self.clock.wall()));
        let tallies = Tallies::new(self.journal.boot().as_str(), now.0, now.1);
        let counted = Arc::new(Counted::new(tallies));
        if self.counted.set(counted.clone()).is_err() {
            // Somebody else is kept already, and one memory has one source.
            return;
        }
        let keeper =
            TallyKeeper { counted: counted.clone(), source, clock: self.clock.clone(), stop: self.stop.clone() };
        let writer = Writer::new(self.shelves[2].clone(), &self.config, self.clock.clone(), self.journal.clone());
        let side = SeriesWriter::new(
            writer,
            counted,
            Tidier::new(self.ledger.clone(), self.config.upkeep_every),
            self.config.clone(),
            self.clock.clone(),
            self.stop.clone(),
            self.give_up.clone(),
        );
        self.spawn("tally-keeper", Which::Series, move || keeper.run());
        self.spawn("series-writer", Which::Series, move || side.run());
    }

    /// Reads the journal.
    pub fn journal(&self) -> Arc<dyn JournalReader> {
        self.kept_journal.clone()
    }

    /// Reads the series.
    pub fn tallies(&self) -> Arc<dyn TallyReader> {
        self.kept_tallies.clone()
    }

    /// How its files are.
    pub fn health(&self) -> Vec<FileHealth> {
        self.shelves.iter().map(|shelf| shelf.health()).collect()
    }

    pub(crate) fn write_times(&self) -> Vec<(&'static str, LatencySum)> {
        self.shelves.iter().map(|shelf| (shelf.which.word(), shelf.write_times())).collect()
    }

    /// Writes all that waits and ends the threads; after `most` they end whatever waits. Closes the journal: nothing that
    /// is told after that is kept. Whether everything was written.
    pub fn close(&self, most: Duration) -> bool {
        let until = self.clock.now() + most;
        self.journal.close();
        self.stop.set();
        let mut threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let mut is_whole = true;
        // The ledger last: the others ask it who clears away.
        for (at, mut most) in [(1, Some(until)), (0, None)] {
            if at == 0 {
                self.ledger_stop.store(true, Ordering::Release);
                most = Some(until.max(self.clock.now() + LOOK_EVERY * 20));
            }
            let (mine, rest): (Vec<_>, Vec<_>) =
                threads.into_iter().partition(|t| (t.thread().name() == Some("ledger-writer")) == (at == 0));
            threads = rest;
            for thread in mine {
                while !thread.is_finished() && most.is_some_and(|until| self.clock.now() < until) {
                    std::thread::sleep(LOOK_EVERY);
                }
                if !thread.is_finished() {
                    is_whole = false;
                    // One that is in the middle of a write ends after it; nobody waits for that.
                    self.give_up.store(true, Ordering::Release);
                }
            }
        }
        self.kept_journal.pool.clear();
        self.kept_tallies.pool.clear();
        is_whole && self.shelves.iter().all(|shelf| shelf.waiting.load(Ordering::Relaxed) == 0)
    }

    fn spawn(&self, name: &str, which: Which, work: impl FnOnce() + Send + 'static) {
        match Builder::new().name(name.to_owned()).spawn(work) {
            Ok(thread) => self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
            Err(error) => {
                let why = format!("its thread cannot be started: {error}");
                self.shelves.iter().filter(|shelf| shelf.which == which).for_each(|shelf| shelf.note(&why));
            }
        }
    }
}

impl Drop for Store {
    /// Ends the threads, without waiting for them. [`Store::close`] is the orderly way.
    fn drop(&mut self) {
        self.stop.set();
        self.give_up.store(true, Ordering::Release);
        self.ledger_stop.store(true, Ordering::Release);
    }
}
