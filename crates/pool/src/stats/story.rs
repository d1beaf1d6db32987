//! What happened in transactions, for `evenkeel why`. While one goes on, its steps are put down in the [`Transaction`] of
//! its connection, whose room is used again; when it ends, [`Stories`] keeps it if it failed, was slow, waited for
//! [`WAITED`] or was begun anew, and forgets it otherwise. What is put down costs a push; only what is kept is copied.
//!
//! A story has at most [`MARKS_MAX`] steps; beyond them a statement takes the place of the fastest one that went well. A
//! worker keeps two rings, so that a crowd that is turned away does not wash out the others: transactions that had a
//! connection ([`TROUBLED_MAX`]) and those that had none ([`TURNED_MAX`]). Statements stand in them without their literals;
//! of an error of Postgres there is the SQLSTATE, because its text may quote values. All of it ends with the process.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::trace::{Kept, RequestTrace, TraceLine};
use kernel::{Clock, Moment};

use super::slow::{Slow, SlowLog};
use super::statements::StatementCells;
use super::told::{NAME_MAX, Told, clip, micros, shown, what};

/// Steps of one story: some statements, and all else that can happen to a transaction.
const MARKS_MAX: usize = 24;
/// Transactions that had a connection, of one worker: at one a second, the last quarter of an hour; some 2 MiB as a rule.
const TROUBLED_MAX: usize = 1_024;
/// Transactions that had none.
const TURNED_MAX: usize = 256;
/// Whoever waits so long for a connection is remembered.
pub const WAITED: Duration = Duration::from_millis(250);

/// A SQLSTATE as it is on the wire.
pub type SqlState = [u8; 5];

/// What happened, as the relay puts it down.
#[derive(Debug, Clone)]
pub enum Mark {
    /// It got a connection.
    Assigned {
        /// The server.
        server: Arc<str>,
        /// The process at the server.
        process: u32,
    },
    /// So many settings were replayed.
    Replayed(u32),
    /// So many statements were prepared for it.
    Prepared(u32),
    /// It was begun anew at another connection, because of what is said.
    Moved(&'static str),
    /// Its client keeps the connection, because of what is said.
    Pinned(&'static str),
    /// It waited for a connection, for so many microseconds, because of what is said.
    Waited(&'static str, u64),
    /// A statement ended.
    Statement(Statement),
}

/// A statement that ended.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Where it is counted.
    pub cells: Arc<StatementCells>,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Its rows.
    pub rows: u64,
    /// What Postgres said, if it failed.
    pub error: Option<SqlState>,
}

/// The steps of the transaction that goes on at a connection.
#[derive(Debug, Default)]
pub struct Transaction {
    begun: Moment,
    marks: Vec<(Moment, Mark)>,
    is_clipped: bool,
    /// Bits of [`Kept`].
    kept: u16,
    id: Option<u64>,
}

/// Whose transaction it is.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The pool.
    pub pool: &'a str,
    /// The database.
    pub database: &'a str,
    /// The user.
    pub user: &'a str,
    /// What the client calls itself.
    pub application: &'a str,
    /// Where it comes from. It is read only if the transaction is kept.
    pub client: &'a dyn fmt::Debug,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    /// As its client wished, which includes that the client rolled it back.
    Well,
    /// It was rolled back for an error of Postgres, which a statement before has.
    Error,
    /// The pooler or the client's leaving ended it, because of what is said.
    Cut(&'a str),
    /// It was turned away without a connection, because of what is said.
    Turned(&'a str),
}

/// What a worker remembers of its transactions.
#[derive(Debug)]
pub struct Stories {
    worker: usize,
    seed: u64,
    rings: Mutex<Rings>,
}

#[derive(Debug, Default)]
struct Rings {
    next: u64,
    slow: SlowLog,
    troubled: VecDeque<Told>,
    turned: VecDeque<Told>,
}

impl Transaction {
    /// Another begins.
    #[inline]
    pub fn begin(&mut self, now: Moment) {
        self.marks.clear();
        (self.begun, self.is_clipped, self.kept, self.id) = (now, false, 0, None);
    }

    /// When it began.
    #[inline]
    pub fn begun(&self) -> Moment {
        self.begun
    }

    /// It waited for a connection before it began to run; `since` is when the wait began, and the transaction with it.
    pub fn waited(&mut self, since: Moment, now: Moment, reason: &'static str) {
        self.begun = self.begun.min(since);
        let waited = now.since(since);
        if waited >= WAITED {
            self.kept |= Kept::Waited.bit();
        }
        self.mark(now, Mark::Waited(reason, micros(waited)));
    }

    /// Puts a step down.
    pub fn mark(&mut self, now: Moment, mark: Mark) {
        if matches!(mark, Mark::Moved(_)) {
            self.kept |= Kept::Moved.bit();
        }
        if self.marks.len() < MARKS_MAX {
            self.marks.push((now, mark));
            return;
        }
        self.is_clipped = true;
        // What is not a statement is rare, and says more than one that went well.
        let weight = |mark: &Mark| match mark {
            Mark::Statement(Statement { took_us, error: None, .. }) => *took_us,
            _ => u64::MAX,
        };
        let least = self.marks.iter_mut().min_by_key(|(_, there)| weight(there));
        if let Some(place) = least.filter(|(_, there)| weight(there) < weight(&mark)) {
            *place = (now, mark);
        }
    }

    /// A statement ended. Whether it was slow is the caller's to say, by [`Stories::slow`].
    #[inline]
    pub fn statement(&mut self, now: Moment, statement: Statement) {
        self.mark(now, Mark::Statement(statement));
    }
}

fn name(text: &str) -> Box<str> {
    clip(text, NAME_MAX).into()
}

impl Stories {
    /// Those of one worker. Ids of another seed are other ids.
    pub fn new(worker: usize, seed: u64) -> Stories {
        Stories { worker, seed, rings: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A statement of `transaction` was slow: there is a line about it in the log, and the transaction is kept.
    #[cold]
    pub fn slow(&self, transaction: &mut Transaction, now: Moment, about: &About<'_>, statement: &Statement) {
        transaction.kept |= Kept::Slow.bit();
        let mut rings = self.lock();
        let id = *transaction.id.get_or_insert_with(|| rings.id(self.seed));
        rings.slow.tell(now, &Slow { id: &shown(id), about, statement });
    }

    /// A transaction ended. If it is worth it, it is kept; `slow`: what takes longer is.
    pub fn end(
        &self,
        transaction: &mut Transaction,
        now: Moment,
        about: &About<'_>,
        slow: Option<Duration>,
        ending: Ending<'_>,
    ) {
        let took = now.since(transaction.begun);
        if slow.is_some_and(|slow| took >= slow) {
            transaction.kept |= Kept::Slow.bit();
        }
        if ending != Ending::Well {
            transaction.kept |= Kept::Failed.bit();
        }
        if transaction.kept != 0 {
            self.keep(transaction, took, about, ending);
        }
        transaction.marks.clear();
    }

    #[cold]
    fn keep(&self, transaction: &mut Transaction, took: Duration, about: &About<'_>, ending: Ending<'_>) {
        // Debug of an address is the address; a writer that fails cannot be a String.
        let mut client = String::new();
        let _infallible = write!(client, "{:?}", about.client);
        let detail = match ending {
            Ending::Well | Ending::Error => "",
            Ending::Cut(why) | Ending::Turned(why) => why,
        };
        let told = Told {
            id: transaction.id.unwrap_or_default(),
            begun: transaction.begun,
            pool: name(about.pool),
            database: name(about.database),
            user: name(about.user),
            application: name(about.application),
            client: name(&client),
            kept: transaction.kept,
            steps: transaction.marks.drain(..).map(|(at, mark)| (at, what(mark))).collect(),
            is_clipped: transaction.is_clipped,
            is_whole: ending == Ending::Well,
            detail: name(detail),
            took_us: micros(took),
        };
        let mut rings = self.lock();
        let id = transaction.id.unwrap_or_else(|| rings.id(self.seed));
        let (ring, most) = match ending {
            Ending::Turned(_) => (&mut rings.turned, TURNED_MAX),
            _ => (&mut rings.troubled, TROUBLED_MAX),
        };
        if ring.len() >= most {
            ring.pop_front();
        }
        ring.push_back(Told { id, ..told });
    }
}

impl Rings {
    /// An id that no other transaction of this worker has: the finaliser of SplitMix64 gives no number twice.
    fn id(&mut self, seed: u64) -> u64 {
        self.next += 1;
        let mut x = seed.wrapping_add(self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn all(&self) -> impl Iterator<Item = &Told> {
        [&self.troubled, &self.turned].into_iter().flatten()
    }
}

/// What is known of the transaction `id`, from all workers.
pub fn why<'a>(all: impl IntoIterator<Item = &'a Stories>, id: &str, clock: &Clock) -> Option<RequestTrace> {
    let number = id.strip_prefix("tx-").filter(|hex| hex.len() == 16)?;
    let number = u64::from_str_radix(number, 16).ok()?;
    all.into_iter().find_map(|stories| {
        let rings = stories.lock();
        rings.all().find(|told| told.id == number).map(|told| told.read(stories.worker, clock))
    })
}

/// When the oldest transaction began that is known, in milliseconds since the Unix epoch.
pub fn oldest_unix_ms<'a>(all: impl IntoIterator<Item = &'a Stories>, clock: &Clock) -> Option<u64> {
    let oldest = |stories: &Stories| stories.lock().all().map(|told| told.begun).min();
    all.into_iter().filter_map(oldest).min().map(|at| kernel::journal::unix_ms(clock.wall_at(at)))
}

/// The newest transactions of all workers, newest first.
pub fn lines<'a>(all: impl IntoIterator<Item = &'a Stories>, most: usize, clock: &Clock) -> Vec<TraceLine> {
    let mut lines = Vec::new();
    for stories in all {
        let rings = stories.lock();
        for ring in [&rings.troubled, &rings.turned] {
            lines.extend(ring.iter().rev().take(most).map(|told| told.line(clock)));
        }
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.at_unix_us));
    lines.truncate(most);
    lines
}

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
