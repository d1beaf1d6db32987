//! The ledger: what must not be lost once somebody was told that it is kept. Operators' decisions and leases today.
//!
//! One thread, `ledger-writer`, has the file. What callers ask for while it commits is done in its next transaction, so
//! that many callers share one flush of the disk. Each caller's work is a savepoint of its own: one that fails takes
//! back nothing of the others.
//!
//! Decisions are rows. Two processes may have them open at once, so what is saved is the *difference* between what this
//! process knew and what it wants: rows that it did not touch stay as the other process left them, and of two decisions
//! about the same endpoint the later one counts. [`Ledger::news`] says what somebody else has decided. A process that could
//! not read the decisions at its start adds its own and removes none.
//!
//! A lease is a row with its holder, a fence that rises with each new holder, and an end by wall time. A lease that was
//! taken in the future (the clock was set back) counts as ended; two may then think that they hold it until the first
//! takes it again, and their fences tell them apart.
//!
//! Limits: [`QUEUE_MAX`] callers wait, for `patience` at most.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::Clock;
use kernel::journal::unix_ms;
use kernel::overrides::{
    Decision, EndpointOverride, Loaded, MAX_OVERRIDES, OverrideSet, OverrideStore, TakenOut, TierOverride,
};
use kernel::store::{FileState, Lease, Leases};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::import;
use crate::room;
use crate::schema::{about, set_about};
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

/// What the ledger's thread does for a caller.
struct Job(Box<dyn FnOnce(Result<&Connection, io::Error>) -> rusqlite::Result<Option<After>> + Send>);
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

    /// What is decided, if it is not what this process knows: another process has decided something. From then on this
    /// process knows it.
    ///
    /// # Errors
    /// When it cannot be read now.
    pub fn news(&self) -> io::Result<Option<OverrideSet>> {
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread do `work` in a transaction, and waits until that is on the disk.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = sync_channel::<io::Result<T>>(1);
        let job = Job(Box::new(move |db| {
            // Whoever asked may be gone; that is no business of the thread's.
            let tell = move |answer| drop(tell.send(answer));
            let db = match db {
                Ok(db) => db,
                Err(error) => {
                    tell(Err(error));
                    return Ok(None);
                }
            };
            match work(db) {
                Ok(value) => Ok(Some(Box::new(move |kept: Result<(), io::Error>| tell(kept.map(|()| value))))),
                Err(error) => {
                    let is_at_cap = room::is_full(&error) && room::is_at_cap(db);
                    let why = if is_at_cap { FULL.to_owned() } else { plain(&error) };
                    tell(Err(io::Error::other(why)));
                    Err(error)
                }
            }
        }));
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

/// Which file it is, and how often decisions were saved in it.
fn place(db: &Connection) -> rusqlite::Result<(String, i64)> {
    Ok((about(db, "file")?.unwrap_or_default(), about(db, "decisions_version")?.unwrap_or_default()))
}

fn read_all(db: &Connection) -> rusqlite::Result<(OverrideSet, (String, i64))> {
    let mut set = OverrideSet::default();
    let mut rows = db.prepare("SELECT scope, service, endpoint, state, tier, actor, reason, at_s FROM decision")?;
    let mut rows = rows.query(())?;
    while let Some(row) = rows.next()? {
        let service: String = row.get(1)?;
        let at_unix_seconds = row.get::<_, i64>(7)?.unsigned_abs();
        let by = Decision { actor: row.get(5)?, reason: row.get(6)?, at_unix_seconds };
        if row.get_ref(0)?.as_str()? == "service" {
            set.services.insert(service, TierOverride { tier: row.get(4)?, by });
        } else {
            // A state that this version does not know takes the endpoint out as well.
            let is_down = row.get_ref(3)?.as_str()? == TakenOut::Down.word();
            let state = if is_down { TakenOut::Down } else { TakenOut::Drained };
            set.set_endpoint(&service, &row.get::<_, String>(2)?, Some(EndpointOverride { state, by }));
        }
    }
    Ok((set, place(db)?))
}

/// A decision's row: the key, then what is decided.
type Key<'a> = (&'static str, &'a str, &'a str);
type Row<'a> = (&'static str, u8, &'a Decision);

fn rows(set: &OverrideSet) -> BTreeMap<Key<'_>, Row<'_>> {
    let endpoints = set.endpoints.iter().flat_map(|(service, endpoints)| {
        endpoints
            .iter()
            .map(move |(endpoint, o)| (("endpoint", service.as_str(), endpoint.as_str()), (o.state.word(), 0, &o.by)))
    });
    let services = set.services.iter().map(|(service, o)| (("service", service.as_str(), ""), ("tier", o.tier, &o.by)));
    endpoints.chain(services).collect()
}

/// Writes what is different in `wanted`, and nothing else.
pub(crate) fn write_difference(db: &Connection, base: &OverrideSet, wanted: &OverrideSet) -> rusqlite::Result<()> {
    let (base, wanted) = (rows(base), rows(wanted));
    for (scope, service, endpoint) in base.keys().filter(|key| !wanted.contains_key(*key)) {
        db.execute(
            "DELETE FROM decision WHERE scope = ?1 AND service = ?2 AND endpoint = ?3",
            (scope, service, endpoint),
        )?;
    }
    for (key, row) in wanted.iter().filter(|(key, row)| base.get(*key) != Some(*row)) {
        let ((scope, service, endpoint), (state, tier, by)) = (key, row);
        db.execute(
            "INSERT OR REPLACE INTO decision (scope, service, endpoint, state, tier, actor, reason, at_s)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (scope, service, endpoint, state, tier, &by.actor, &by.reason, by.at_unix_seconds as i64),
        )?;
    }
    Ok(())
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
        if !ready.is_fresh {
            return;
        }
        match settle(ready.db, &self.known, &at) {
            Ok(damage) => {
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
            return jobs.into_iter().for_each(|Job(job)| {
                let error = io::Error::other(format!("the ledger cannot be used: {trouble}"));
                // A job that is only told of an error has nothing to fail with.
                drop(job(Err(error)));
            });
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

/// Does all of `jobs` in one transaction. What each does once it is known whether that is kept goes to `after`.
fn group(db: &mut Connection, jobs: Vec<Job>, after: &mut Vec<After>) -> rusqlite::Result<()> {
    let mut jobs = jobs.into_iter();
    let refuse = |jobs: &mut dyn Iterator<Item = Job>, error: &rusqlite::Error| {
        for Job(job) in jobs {
            // As above: there is nothing to fail with.
            drop(job(Err(io::Error::other(plain(error)))));
        }
    };
    let mut whole = match Transaction::new(db, TransactionBehavior::Immediate) {
        Ok(whole) => whole,
        Err(error) => {
            refuse(&mut jobs, &error);
            return Err(error);
        }
    };
    while let Some(Job(job)) = jobs.next() {
        let one = match whole.savepoint() {
            Ok(one) => one,
            Err(error) => {
                drop(job(Err(io::Error::other(plain(&error)))));
                refuse(&mut jobs, &error);
                return Err(error);
            }
        };
        match job(Ok(&one)) {
            Ok(done) => {
                one.commit()?;
                after.extend(done);
            }
            Err(error) => {
                drop(one);
                // Grave errors end the whole transaction, and with it what others had done in it.
                if whole.is_autocommit() {
                    refuse(&mut jobs, &error);
                    return Err(error);
                }
                if matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull)) {
                    // The others may still fit; that this one did not is worth knowing.
                    refuse(&mut jobs, &error);
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
