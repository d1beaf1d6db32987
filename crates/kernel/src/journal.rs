//! The one journal of what changed. A part tells an [`Event`] through its [`Journal`]: the event is counted, said in the
//! log, kept among the recent ones and put on the way to the disk. Telling never blocks and never fails; what cannot be
//! written waits in memory, up to [`WAITING_MAX`] records, and what does not fit is counted ([`Journal::dropped`]).
//!
//! ```text
//! told     => waiting   at once; or folded, if the same has been told [`FOLD_AFTER`] times within [`FOLD_WINDOW`]
//! folded   => waiting   as one record with a count, once it has been quiet for [`FOLD_QUIET`] or folded for [`FOLD_WINDOW`]
//! waiting  => kept      the writer has committed it ([`Intake`])
//! waiting  => dropped   there is no room: the newest goes, because the oldest tells how it began
//! ```
//! A record is known by the process that told it ([`Boot`]) and a number that rises by one, so that writing it twice
//! keeps it once. Its cursor is its place in the whole journal, given when it is kept.
//!
//! Limits: [`FOLD_KEYS_MAX`] things that are folded at a time (further ones are told as they come), [`RECENT_MAX`]
//! records in memory. What is folded or waiting is lost when the process is killed; what somebody was told is kept
//! ([`Journal::tell_durably`]) is not. Not decided here: where records go (the seam [`JournalReader`] reads them back).

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::entropy::Entropy;
use crate::event::{Event, EventKind, Level};
use crate::metrics::{Collect, Family, MetricKind, Sink};
use crate::time::{Clock, Moment};

mod fold;
mod query;
#[cfg(test)]
mod tests;

pub use fold::{FOLD_AFTER, FOLD_KEYS_MAX, FOLD_QUIET, FOLD_WINDOW};
use fold::{Folds, Offered};
pub use query::{JournalPage, JournalQuery, JournalReader, LIMIT_MAX, Order};

/// Records that wait for the disk at most: some minutes of a bad day, about 8 MiB.
pub const WAITING_MAX: usize = 8_192;

/// Records that stay in memory to be read while the disk is away.
pub const RECENT_MAX: usize = 1_024;

/// A process that tells events: 64 random bits, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Boot(String);

/// An event as it is kept and read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Its place in the journal; 0 while it is not kept yet.
    pub cursor: u64,
    /// When it happened, in milliseconds since the Unix epoch; the first time, if it happened more than once.
    pub at_unix_ms: u64,
    /// When it happened last.
    pub until_unix_ms: u64,
    /// How often it happened between the two.
    pub count: u64,
    /// The process that told it.
    pub boot: Boot,
    /// Its number in that process, from 1.
    pub number: u64,
    /// The name of its kind.
    pub kind: String,
    /// Of the form of its data.
    pub version: u8,
    /// How grave it is.
    pub level: Level,
    /// Whether charts show it as a change.
    pub mark: bool,
    /// What people read.
    pub sentence: String,
    /// The service it is about; empty if it is about none.
    pub service: String,
    /// The endpoint it is about.
    pub endpoint: String,
    /// Who did it.
    pub actor: String,
    /// Every field of the event.
    pub data: Map<String, Value>,
}

/// Where events are told. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

/// The other end of a [`Journal`]: for the one writer that brings its records to the disk.
#[derive(Debug)]
pub struct Intake(Arc<Inner>);

/// A record on its way.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What is to be kept.
    pub record: Arc<Record>,
    /// Somebody waits to be told that it is kept, even through a power failure.
    pub durable: bool,
    receipt: Option<Arc<Slot>>,
}

/// What a durable record comes to.
#[derive(Debug)]
#[must_use = "the record is kept, or not, whether or not anybody looks"]
pub struct Receipt(Option<Arc<Slot>>);

/// A record is not known to be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written: {0}")]
pub struct NotKept(pub String);

#[derive(Debug, Default)]
struct Slot {
    outcome: Mutex<Option<Result<(), NotKept>>>,
    known: Condvar,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    boot: Boot,
    told: Box<[AtomicU64]>,
    dropped: AtomicU64,
    state: Mutex<State>,
    /// Woken when something begins to wait.
    wake: Condvar,
    /// Whether somebody writes.
    has_writer: AtomicBool,
    /// Rises with each record.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: VecDeque<Waiting>,
    folds: Folds,
    recent: VecDeque<Arc<Record>>,
    closed: bool,
}

impl Boot {
    /// A new one.
    pub fn new(entropy: &mut Entropy) -> Boot {
        Boot(format!("{:016x}", entropy.next_u64()))
    }

    /// One that was kept.
    pub fn from_text(text: &str) -> Boot {
        Boot(text.to_owned())
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Record {
    fn new(event: &Event, at: u64, boot: &Boot) -> Record {
        let declared = event.kind().declared();
        let text = |name| event.text(name).unwrap_or_default().to_owned();
        Record {
            cursor: 0,
            at_unix_ms: at,
            until_unix_ms: at,
            count: 1,
            boot: boot.clone(),
            number: 0,
            kind: declared.name.to_owned(),
            version: declared.version,
            level: declared.level,
            mark: declared.is_mark,
            sentence: event.sentence(),
            service: text("service"),
            endpoint: text("endpoint"),
            actor: text("actor"),
            data: event.data(),
        }
    }

    fn log(&self) {
        let Record { kind, service, endpoint, sentence, count, .. } = self;
        let text = if *count == 1 { sentence.clone() } else { format!("{sentence} ({count} times)") };
        match self.level {
            Level::Info => tracing::info!(target: "journal", kind, service, endpoint, "{text}"),
            Level::Warn => tracing::warn!(target: "journal", kind, service, endpoint, "{text}"),
            Level::Error => tracing::error!(target: "journal", kind, service, endpoint, "{text}"),
        }
    }
}

impl Journal {
    /// A journal and the end from which it is written.
    pub fn new(clock: Clock, boot: Boot) -> (Journal, Intake) {
        let journal = Journal::unkept(clock, boot);
        journal.0.has_writer.store(true, Ordering::Release);
        let intake = Intake(journal.0.clone());
        (journal, intake)
    }

    /// A journal that nobody writes: it counts, logs, and remembers what was recent.
    pub fn unkept(clock: Clock, boot: Boot) -> Journal {
        Journal(Arc::new(Inner {
            clock,
            boot,
            told: EventKind::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            dropped: AtomicU64::new(0),
            state: Mutex::default(),
            wake: Condvar::new(),
            has_writer: AtomicBool::new(false),
            changed: watch::Sender::new(0),
        }))
    }

    /// Tells an event. Never blocks for longer than another caller does.
    pub fn tell(&self, event: Event) {
        let _nobody_waits = self.put(&event, false);
    }

    /// Tells an event that somebody is to be told is kept. Such an event is not folded.
    pub fn tell_durably(&self, event: Event) -> Receipt {
        Receipt(self.put(&event, true))
    }

    fn put(&self, event: &Event, durable: bool) -> Option<Arc<Slot>> {
        let inner = &self.0;
        let kind = event.kind();
        inner.told[kind.index()].fetch_add(1, Ordering::Relaxed);
        let record = Record::new(event, unix_ms(inner.clock.wall()), &inner.boot);
        let mut state = inner.lock();
        let record = match kind.declared().may_fold && !durable {
            true => match state.folds.offer(record, inner.clock.now()) {
                Offered::Tell(record) => *record,
                Offered::Folded => return None,
            },
            false => record,
        };
        let receipt = durable.then(Arc::<Slot>::default);
        let record = inner.accept(&mut state, record, receipt.clone());
        drop(state);
        // Whoever reads the log may stand still, and must not hold up others that tell or write.
        record.log();
        receipt
    }

    /// The newest records of this process, newest first.
    pub fn recent(&self, most: usize) -> Vec<Record> {
        let recent: Vec<Arc<Record>> = self.0.lock().recent.iter().rev().take(most).cloned().collect();
        recent.iter().map(|record| Record::clone(record)).collect()
    }

    /// Told when there is something new, in this process.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Records that were not kept for want of room.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Records that wait for the disk.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// How often an event of this kind was told.
    pub fn told(&self, kind: EventKind) -> u64 {
        self.0.told[kind.index()].load(Ordering::Relaxed)
    }

    /// The process that tells.
    pub fn boot(&self) -> &Boot {
        &self.0.boot
    }

    /// Lets go what is folded, and says that nothing more comes: the writer ends once all is kept.
    pub fn close(&self) {
        let mut state = self.0.lock();
        let unfolded = self.0.unfold(&mut state, Moment::MAX);
        state.closed = true;
        drop(state);
        self.0.wake.notify_all();
        unfolded.iter().for_each(|record| record.log());
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record in. Whoever calls says it in the log, without the lock.
    fn accept(&self, state: &mut State, mut record: Record, receipt: Option<Arc<Slot>>) -> Arc<Record> {
        state.next += 1;
        record.number = state.next;
        let record = Arc::new(record);
        if state.recent.len() == RECENT_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back(record.clone());
        let refusal = match self.has_writer.load(Ordering::Acquire) {
            false => Some("this node keeps no journal"),
            true if state.waiting.len() >= WAITING_MAX => Some("too much waits for the disk"),
            true => None,
        };
        match (refusal, receipt) {
            (None, receipt) => {
                state.waiting.push_back(Waiting { record: record.clone(), durable: receipt.is_some(), receipt });
                self.wake.notify_one();
            }
            (Some(why), receipt) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                if let Some(slot) = receipt {
                    slot.settle(Err(NotKept(why.to_owned())));
                }
            }
        }
        self.changed.send_modify(|n| *n += 1);
        record
    }

    /// Takes in what was folded and is due, as [`Inner::accept`] does.
    fn unfold(&self, state: &mut State, now: Moment) -> Vec<Arc<Record>> {
        state.folds.due(now).into_iter().map(|record| self.accept(state, record, None)).collect()
    }
}

impl Intake {
    /// Waits until records wait or `most` has passed, and shows the first `max` of them. They stay until [`Intake::kept`].
    /// `None`: the journal is closed and nothing waits.
    pub fn next(&mut self, max: usize, most: Duration) -> Option<Vec<Waiting>> {
        let inner = &self.0;
        let mut state = inner.lock();
        let mut unfolded = inner.unfold(&mut state, inner.clock.now());
        if state.waiting.is_empty() && !state.closed {
            state = inner.wake.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0;
            unfolded.extend(inner.unfold(&mut state, inner.clock.now()));
        }
        let is_over = state.waiting.is_empty() && state.closed;
        let batch = (!is_over).then(|| state.waiting.iter().take(max).cloned().collect());
        drop(state);
        unfolded.iter().for_each(|record| record.log());
        batch
    }

    /// The first `n` that wait are kept: whoever waits for them is told, and they go.
    pub fn kept(&mut self, n: usize) {
        let done: Vec<Waiting> = {
            let mut state = self.0.lock();
            let n = n.min(state.waiting.len());
            state.waiting.drain(..n).collect()
        };
        done.into_iter().filter_map(|w| w.receipt).for_each(|slot| slot.settle(Ok(())));
    }

    /// They could not be kept, for now: whoever waits for one of them is told so; they go on waiting.
    pub fn not_kept(&mut self, why: &str) {
        let slots: Vec<Arc<Slot>> = {
            let mut state = self.0.lock();
            state.waiting.iter_mut().filter_map(|w| w.receipt.take()).collect()
        };
        slots.iter().for_each(|slot| slot.settle(Err(NotKept(why.to_owned()))));
    }

    /// The journal that is written, to tell what becomes of its own file.
    pub fn journal(&self) -> Journal {
        Journal(self.0.clone())
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.0.has_writer.store(false, Ordering::Release);
        self.not_kept("its writer has ended");
        self.0.lock().waiting.clear();
    }
}

impl Slot {
    fn settle(&self, outcome: Result<(), NotKept>) {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(outcome);
        self.known.notify_all();
    }
}

impl Receipt {
    /// Waits until the record is kept. Blocks the thread.
    ///
    /// # Errors
    /// When it is not known to be kept within `most`; it may be kept later all the same.
    pub fn wait(self, most: Duration) -> Result<(), NotKept> {
        let Some(slot) = self.0 else { return Err(NotKept("this node keeps no journal".to_owned())) };
        let outcome = slot.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, _) =
            slot.known.wait_timeout_while(outcome, most, |o| o.is_none()).unwrap_or_else(PoisonError::into_inner);
        outcome.clone().unwrap_or_else(|| Err(NotKept("the disk takes too long".to_owned())))
    }
}

impl JournalReader for Journal {
    /// What is recent in this process, for as long as nothing else can be read.
    fn read(&self, query: &JournalQuery) -> io::Result<JournalPage> {
        let recent: Vec<Arc<Record>> = self.0.lock().recent.iter().cloned().collect();
        Ok(query.answer_from(recent.iter().map(|record| Record::clone(record))))
    }
}

impl Collect for Journal {
    fn collect(&self, sink: &mut dyn Sink) {
        sink.family(Family {
            name: "evenkeel_events_total",
            help: "Events told to the journal, by kind",
            kind: MetricKind::Counter,
        });
        for kind in EventKind::ALL {
            sink.sample(&[("kind", kind.name())], self.told(*kind) as f64);
        }
        sink.family(Family {
            name: "evenkeel_journal_dropped_total",
            help: "Records of the journal that were lost because the disk was away for too long",
            kind: MetricKind::Counter,
        });
        sink.sample(&[], self.dropped() as f64);
        sink.family(Family {
            name: "evenkeel_journal_waiting",
            help: "Records of the journal that wait for the disk",
            kind: MetricKind::Gauge,
        });
        sink.sample(&[], self.waiting() as f64);
    }
}
