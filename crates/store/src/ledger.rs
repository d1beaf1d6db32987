//! The ledger: what must not be lost once somebody was told that it is kept. Operators' decisions and leases today.
//!
//! One thread, `ledger-writer`, has the file. What callers ask for while it commits is done in its next transaction, so
//! that many callers share one flush of the disk. Each caller's work is a savepoint of its own: one that fails takes
//! back nothing of the others.
//!
//! Decisions are rows. Two processes may have them open at once, so what is saved is the *difference* between what this
//! process knew and what it wants: rows that it did not touch stay as the other process left them, and of two decisions
//! about the same endpoint the later one counts. [`OverrideStore::news`] says what somebody else has decided. A process that could
//! not read the decisions at its start adds its own and removes none.
//!
//! A lease is a row with its holder, a fence that rises with each new holder, and an end by wall time. A lease that was
//! taken in the future (the clock was set back) counts as ended; two may then think that they hold it until the first
//! takes it again, and their fences tell them apart.
//!
//! Limits: [`QUEUE_MAX`] callers wait, for `patience` at most.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec;

use kernel::Clock;
use kernel::journal::unix_ms;
use kernel::overrides::{Loaded, MAX_OVERRIDES, OverrideSet, OverrideStore};
use kernel::store::{FileState, Lease, Leases};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::decisions::{place, read_all, write_difference};
use crate::import;
use crate::room;
use crate::schema::set_about;
use crate::shelf::Shelf;
use crate::writer::{Writer, plain};

/// Callers that wait at most; that many mean that the disk stands still.
const QUEUE_MAX: usize = 1_024;
/// Callers that share a transaction at most.
const GROUP_MAX: usize = 256;
/// Said to callers once the cap is reached.
const FULL: &str = "the ledger is as large as it may be";
/// How often the file is looked at while nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps decisions and leases. Calls block until the disk has them.
#[derive(Debug)]
pub struct Ledger {
    shelf: Arc<Shelf>,
    clock: Clock,
    holder: String,
    patience: Duration,
    jobs: SyncSender<Job>,
    known: Arc<Mutex<Known>>,
}

/// What this process knows of the decisions.
#[derive(Debug, Default)]
pub(crate) struct Known {
    set: OverrideSet,
    /// The file that it was read from or saved to, and its version there.
    at: Option<(String, i64)>,
    /// What happened to decisions before they could be read, to be said once.
    damage: Option<String>,
}

/// What the ledger's thread does for a caller, or says instead.
struct Job(Work, Refuse);
/// What it does for a caller; what went wrong with that.
type Work = Box<dyn FnOnce(&Connection) -> Worked + Send>;
type Worked = (Option<rusqlite::Error>, After);
/// What it does instead, if nothing can be done for a caller.
type Refuse = Box<dyn FnOnce(io::Error) + Send>;
/// What it does once that is kept, or is not.
type After = Box<dyn FnOnce(Result<(), io::Error>) + Send>;

/// The thread's side.
pub(crate) struct LedgerWriter {
    writer: Writer,
    jobs: Receiver<Job>,
    known: Arc<Mutex<Known>>,
    /// Told when the file was tried for the first time.
    tried: Option<SyncSender<()>>,
}

impl Ledger {
    pub(crate) fn new(
        writer: Writer,
        clock: Clock,
        holder: String,
        patience: Duration,
        tried: SyncSender<()>,
    ) -> (Ledger, LedgerWriter) {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let known = Arc::<Mutex<Known>>::default();
        let shelf = writer.shelf.clone();
        let side = LedgerWriter { writer, jobs: queue, known: known.clone(), tried: Some(tried) };
        (Ledger { shelf, clock, holder, patience, jobs, known }, side)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread do `work` in a transaction, and waits until that is on the disk.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = sync_channel::<io::Result<T>>(1);
        let refuse = tell.clone();
        let refuse: Refuse = Box::new(move |error| answer(&refuse, Err(error)));
        let work = move |db: &Connection| -> Worked {
            match work(db) {
                Ok(value) => (None, Box::new(move |kept| answer(&tell, kept.map(|()| value)))),
                Err(error) => {
                    let is_at_cap = room::is_full(&error) && room::is_at_cap(db);
                    let why = if is_at_cap { FULL.to_owned() } else { plain(&error) };
                    (Some(error), Box::new(move |_| answer(&tell, Err(io::Error::other(why)))))
                }
            }
        };
        let job = Job(Box::new(work), refuse);
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(io::Error::other("too many wait for the ledger")),
            Err(TrySendError::Disconnected(_)) => return Err(io::Error::other("the ledger was closed")),
        }
        self.shelf.waiting.fetch_add(1, Ordering::Relaxed);
        let answer = told.recv_timeout(self.patience);
        self.shelf.waiting.fetch_sub(1, Ordering::Relaxed);
        match answer {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                let text = format!("the disk takes longer than {} s; it may be kept later", self.patience.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the ledger was closed")),
        }
    }
}

impl OverrideStore for Ledger {
    fn place(&self) -> String {
        self.shelf.path.display().to_string()
    }

    fn load(&self) -> io::Result<Loaded> {
        let (set, at) = self.call(read_all)?;
        let mut known = self.known();
        known.set = set.clone();
        known.at = Some(at);
        Ok(Loaded { set, damage: known.damage.take() })
    }

    fn save(&self, set: &OverrideSet) -> io::Result<()> {
        if set.len() > MAX_OVERRIDES {
            return Err(io::Error::other(format!("there are more than {MAX_OVERRIDES} decisions")));
        }
        let (base, at) = {
            let known = self.known();
            (known.set.clone(), known.at.clone())
        };
        let wanted = set.clone();
        let (version, file) = self.call(move |db| {
            let (file, version) = place(db)?;
            // In a file that this process has not seen nothing of what it knew can be relied on.
            let is_known = at.as_ref().is_some_and(|(known, _)| *known == file);
            let base = if is_known { &base } else { &OverrideSet::default() };
            write_difference(db, base, &wanted)?;
            set_about(db, "decisions_version", &(version + 1))?;
            // What somebody else decided meanwhile is still news.
            let is_ours = is_known && at.is_some_and(|(_, known)| known == version);
            Ok((if is_ours { version + 1 } else { -1 }, file))
        })?;
        let mut known = self.known();
        known.set = set.clone();
        known.at = Some((file, version));
        Ok(())
    }
    fn news(&self) -> io::Result<Option<OverrideSet>> {
        let knew = self.known().at.clone();
        let (set, at) = self.call(read_all)?;
        if knew.as_ref() == Some(&at) {
            return Ok(None);
        }
        let mut known = self.known();
        let is_news = known.set != set;
        known.set = set.clone();
        known.at = Some(at);
        Ok(is_news.then_some(set))
    }
}

impl Leases for Ledger {
    fn take(&self, name: &str, ttl: Duration) -> io::Result<Option<Lease>> {
        let (name, holder) = (name.to_owned(), self.holder.clone());
        let now = unix_ms(self.clock.wall()) as i64;
        let until = now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        self.call(move |db| {
            let held: Option<(String, i64, i64, i64)> = db
                .query_row("SELECT holder, fence, taken_ms, until_ms FROM lease WHERE name = ?1", [&name], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()?;
            let fence = match held {
                Some((by, fence, ..)) if by == holder => fence,
                // A second beyond, because two processes need not read the clock in the same order.
                Some((_, _, taken, until)) if until > now && taken <= now + 1_000 => return Ok(None),
                Some((_, fence, ..)) => fence + 1,
                None => 1,
            };
            db.execute(
                "INSERT OR REPLACE INTO lease (name, holder, fence, taken_ms, until_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                (&name, &holder, fence, now, until),
            )?;
            Ok(Some(Lease { name, fence: fence.unsigned_abs() }))
        })
    }

    fn release(&self, lease: &Lease) -> io::Result<()> {
        let (lease, holder) = (lease.clone(), self.holder.clone());
        self.call(move |db| {
            // The row stays, so that the fence goes on rising.
            db.execute(
                "UPDATE lease SET holder = '', until_ms = 0 WHERE name = ?1 AND holder = ?2 AND fence = ?3",
                (&lease.name, &holder, lease.fence as i64),
            )
        })
        .map(drop)
    }
}

impl LedgerWriter {
    /// Works until every [`Ledger`] is gone, or `is_closed` says so.
    pub(crate) fn run(mut self, is_closed: impl Fn() -> bool) {
        self.open();
        if let Some(tried) = self.tried.take() {
            // Whoever started the store may have stopped waiting.
            let _waits_no_more = tried.send(()).is_err();
        }
        loop {
            let first = match self.jobs.recv_timeout(LOOK_EVERY.min(Duration::from_millis(100))) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut jobs: Vec<Job> = first.into_iter().collect();
            jobs.extend(self.jobs.try_iter().take(GROUP_MAX - 1));
            self.open();
            self.work(jobs);
            if is_closed() {
                break;
            }
        }
        self.writer.close();
    }

    /// Opens the file if it is due, and brings into it what has to be there.
    fn open(&mut self) {
        let at = self.writer.shelf.path.clone();
        let Some(ready) = self.writer.ready() else { return };
        if !ready.fresh.is_opened {
            return;
        }
        match settle(ready.db, &self.known, &at) {
            Ok(damage) => {
                self.writer.settled();
                let damage: Vec<String> = self.writer.damage.take().into_iter().chain(damage).collect();
                if !damage.is_empty() {
                    self.known.lock().unwrap_or_else(PoisonError::into_inner).damage = Some(damage.join("; "));
                }
            }
            Err(error) => self.writer.failed(&error),
        }
    }

    fn work(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let shelf = self.writer.shelf.clone();
        let Some(ready) = self.writer.ready() else {
            let trouble = shelf.trouble();
            let error = || io::Error::other(format!("the ledger cannot be used: {trouble}"));
            return jobs.into_iter().for_each(|Job(_, refuse)| refuse(error()));
        };
        let mut after = Vec::new();
        let outcome = shelf.timed(|| group(ready.db, jobs, &mut after));
        // Kept only if it is still the file that the next process will open.
        let outcome = outcome.map_err(|e| (plain(&e), Some(e)));
        let is_there = self.writer.look();
        let outcome = match outcome {
            Ok(()) if !is_there => Err(("it was removed meanwhile".to_owned(), None)),
            outcome => outcome,
        };
        match &outcome {
            Ok(()) => self.writer.wrote(),
            Err((_, Some(error))) if is_there => self.writer.failed(error),
            Err(_) => {}
        }
        let full = shelf.state() == FileState::Full;
        for after in after {
            after(match &outcome {
                Ok(()) => Ok(()),
                Err(_) if full => Err(io::Error::other(FULL)),
                Err((why, _)) => Err(io::Error::other(format!("the ledger cannot be written: {why}"))),
            });
        }
    }
}

/// Answers a caller, who may be gone.
fn answer<T>(to: &SyncSender<io::Result<T>>, answer: io::Result<T>) {
    let _is_gone = to.send(answer).is_err();
}

/// Does all of `jobs` in one transaction. What each does once it is known whether that is kept goes to `after`.
fn group(db: &mut Connection, jobs: Vec<Job>, after: &mut Vec<After>) -> rusqlite::Result<()> {
    let mut jobs = jobs.into_iter();
    let outcome = together(db, &mut jobs, after);
    if let Err(error) = &outcome {
        jobs.for_each(|Job(_, refuse)| refuse(io::Error::other(plain(error))));
    }
    outcome
}

fn together(db: &mut Connection, jobs: &mut vec::IntoIter<Job>, after: &mut Vec<After>) -> rusqlite::Result<()> {
    let mut whole = Transaction::new(db, TransactionBehavior::Immediate)?;
    while !jobs.as_slice().is_empty() {
        let one = whole.savepoint()?;
        let Some(Job(job, _)) = jobs.next() else { break };
        let (error, then) = job(&one);
        after.push(then);
        match error {
            None => one.commit()?,
            Some(error) => {
                drop(one);
                // Grave errors end the whole transaction, and with it what others had done in it. That there is no room
                // is worth knowing beyond the one whom it met.
                if whole.is_autocommit() || room::is_full(&error) {
                    return Err(error);
                }
            }
        }
    }
    whole.commit()
}

/// What a file has to hold that was opened just now: decisions that this process knows and another file held, and
/// those of an earlier version's file. What could not be taken over, in a sentence.
fn settle(db: &mut Connection, known: &Mutex<Known>, path: &std::path::Path) -> rusqlite::Result<Option<String>> {
    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let whole = Transaction::new(db, TransactionBehavior::Immediate)?;
    let (file, version) = place(&whole)?;
    if known.at.as_ref().is_some_and(|(at, _)| *at != file) && !known.set.is_empty() {
        write_difference(&whole, &OverrideSet::default(), &known.set)?;
        set_about(&whole, "decisions_version", &(version + 1))?;
    }
    drop(known);
    let directory = path.parent().unwrap_or(std::path::Path::new("."));
    let imported = import::take(&whole, directory)?;
    whole.commit()?;
    Ok(imported.and_then(|imported| imported.finish(directory)))
}
