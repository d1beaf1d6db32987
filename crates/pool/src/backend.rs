//! What is known of a server connection: what it was sent and has not answered, what it has prepared and set.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use kernel::Moment;

use crate::pairs::Pairs;
use crate::session::{Failure, Resume, Session};
use crate::sql::Touches;
use crate::statements::Statement;
use crate::stats::StatementCells;
use crate::stats::story::{SqlState, Transaction};

/// Most messages that are sent before the first of them is answered: beyond it the client is not read.
pub(crate) const MAX_REPLIES: usize = 4_096;
/// Most bytes of a transaction's beginning that are kept so that it can begin anew.
pub(crate) const MAX_REPLAY: usize = 16 << 10;

/// A server connection's side of the protocol.
#[derive(Debug)]
pub(crate) struct Backend {
    /// What was sent and what answers it, in order.
    pub(crate) replies: VecDeque<Reply>,
    /// As the last `ReadyForQuery` said.
    pub(crate) status: u8,
    /// An error was answered; the server passes everything over until Sync, which has not been sent yet.
    pub(crate) is_failed: bool,
    /// The server takes the data of a COPY.
    pub(crate) copy_in: bool,
    /// Bytes of the message that it is sending which are passed on as they come.
    pub(crate) passing: usize,
    /// What it has prepared.
    pub(crate) known: Known,
    /// Its unnamed statement.
    pub(crate) unnamed: Unnamed,
    /// Messages of the extended protocol were sent and no Sync behind them: what they did is not committed.
    pub(crate) in_batch: bool,
    /// A message was sent that takes prepared statements away: nothing is sent behind its batch before it is answered.
    pub(crate) is_sweeping: bool,
    /// The client's next message depends on how a batch ends that is under way.
    pub(crate) is_waiting: bool,
    /// What a `DEALLOCATE` that is under way takes away.
    pub(crate) deallocating: Option<Deallocating>,
    /// A Sync that was sent to a COPY: the COPY passes it over, but if it fails early, Sync is answered.
    pub(crate) has_loose_sync: bool,
    /// A Sync is to be sent, so that an attempt that does not count comes to its end.
    pub(crate) owes_sync: bool,
    /// Some of what it has prepared is not what it was: all of it is given up when the transaction is over.
    pub(crate) is_stale: bool,
    /// Names, not of the pooler's, that were prepared by accident of an error and have to be closed.
    pub(crate) litter: Vec<Box<[u8]>>,
    /// What is set on it.
    pub(crate) settings: Arc<Pairs>,
    /// What it has reported.
    pub(crate) reported: Arc<Pairs>,
    /// What the pooler itself is having done, while the client waits.
    pub(crate) chore: Option<Chore>,
    /// The last word of a server that ends the connection.
    pub(crate) fatal: Option<Box<Failure>>,
    /// What a reply could not be matched with: the connection is not used again.
    pub(crate) is_spoilt: bool,
    /// The client's turn.
    pub(crate) turn: Turn,
    /// What happens in the transaction that goes on, for who asks later.
    pub(crate) story: Transaction,
}

/// What was sent and waits for its answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Parse with a name. The statement is known once it is answered, and not if it fails.
    Parse {
        /// Its id; `None`: it is none that the pooler names.
        id: Option<u64>,
        /// The client's name for it, if the client asked for it.
        name: Option<Box<[u8]>>,
        /// Whether the client has not asked for it.
        is_silent: bool,
    },
    /// Parse without a name.
    Unnamed {
        /// The client's unnamed statement before.
        before: Option<Arc<Statement>>,
        /// Whether the client has not asked for it.
        is_silent: bool,
    },
    /// Close of the unnamed statement.
    CloseUnnamed {
        /// The client's unnamed statement before.
        before: Option<Arc<Statement>>,
        /// Whether the client has not asked for it.
        is_silent: bool,
    },
    /// Parse that was not sent because the server has the statement: the pooler answers.
    Parsed {
        /// The client's name for it.
        name: Box<[u8]>,
    },
    /// Bind.
    Bind,
    /// Describe.
    Describe,
    /// Execute.
    Execute(Measure),
    /// Close of a portal.
    Close,
    /// Close of a statement that makes room for another; the client has not asked for it.
    Evict(Arc<Statement>),
    /// Close of a statement that stays: the pooler answers.
    Closed {
        /// What the client has given up, by which name.
        was: Option<(Box<[u8]>, Arc<Statement>)>,
    },
    /// A simple query, to its `ReadyForQuery`.
    Query(Measure),
    /// A function call, to its `ReadyForQuery`.
    Call,
    /// Sync.
    Sync,
    /// Sync that the client has not asked for.
    Quiet,
    /// The end of the data of a COPY, which nothing answers.
    CopyEnd,
    /// The simple query that follows drops the client's unnamed statement, which was this one, unless it is passed over.
    Forgets(Option<Arc<Statement>>),
}

/// What a `DEALLOCATE` takes away, unless it fails.
#[derive(Debug)]
pub(crate) struct Deallocating {
    /// The client's name for it.
    pub(crate) name: Box<[u8]>,
    /// What it is.
    pub(crate) statement: Arc<Statement>,
    /// Whether the server has it.
    pub(crate) is_there: bool,
}

/// What is known of a connection's unnamed statement.
#[derive(Debug)]
pub(crate) enum Unnamed {
    /// There is none.
    Nothing,
    /// It is this one.
    Is(Arc<Statement>),
    /// Messages were passed over: it is what it was before, whatever that is.
    Unsure,
}

/// A statement that runs.
#[derive(Debug)]
pub(crate) struct Measure {
    /// Since when.
    pub(crate) since: Moment,
    /// Where it is counted.
    pub(crate) cells: Option<Arc<StatementCells>>,
    /// Its shape.
    pub(crate) fingerprint: u64,
    /// Rows so far.
    pub(crate) rows: u64,
    /// What it failed with.
    pub(crate) error: Option<SqlState>,
}

/// What the pooler has done on a connection, by a simple query of its own.
#[derive(Debug)]
pub(crate) struct Chore {
    /// What for.
    pub(crate) kind: ChoreKind,
    /// What it failed with.
    pub(crate) error: Option<Failure>,
    /// The last row.
    pub(crate) row: Vec<Option<String>>,
}

/// What the pooler has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChoreKind {
    /// The client's settings are set.
    Replay {
        /// What is in force if it fails.
        before: Arc<Pairs>,
    },
    /// A transaction that had lost its connection goes on.
    Begin {
        /// How.
        resume: Resume,
    },
    /// What the session has left behind is looked up.
    Ask {
        /// The settings whose values are asked for.
        names: Vec<String>,
    },
    /// What was left behind is cleared.
    Clean,
}

/// What a client has done since it was given the connection.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// When the turn, and so the transaction, began.
    pub(crate) since: Moment,
    /// What its statements did to the session.
    pub(crate) touches: Touches,
    /// Settings that may have been changed.
    pub(crate) names: Vec<String>,
    /// Whether any setting may have been changed.
    pub(crate) all_names: bool,
    /// Whether a setting was changed whose name cannot be seen.
    pub(crate) is_unseen: bool,
    /// The client's messages, as long as the transaction can begin anew.
    pub(crate) replay: Vec<u8>,
    /// Whether `replay` has everything, and it may be sent a second time.
    pub(crate) can_replay: bool,
    /// Whether a BEGIN is all that was sent.
    pub(crate) only_begun: bool,
    /// Whether the client has had an answer.
    pub(crate) is_answered: bool,
    /// Whether it was told anything, such as a notice.
    pub(crate) is_told: bool,
    /// The client's unnamed statement when the turn began.
    pub(crate) unnamed: Option<Arc<Statement>>,
    /// Whether a statement has failed, and it was not rolled back to before it.
    pub(crate) has_failed: bool,
    /// Whether what there is of the transaction has been counted: it lost its connection, or was ended here.
    pub(crate) is_counted: bool,
    /// How many statements there were.
    pub(crate) statements: u64,
    /// Whether the transaction was lost with the connection before, and this one was brought into a failed one.
    pub(crate) is_lost: bool,
    /// Whether what was sent last leaves a transaction open, if it succeeds; `None`: as the server says.
    pub(crate) leaves_open: Option<bool>,
}

/// The statements that a connection has prepared, up to a bound; the one that was used least recently goes first.
#[derive(Debug, Default)]
pub(crate) struct Known {
    by_id: HashMap<u64, Held, RandomState>,
    tick: u64,
}

#[derive(Debug)]
struct Held {
    used: u64,
    statement: Arc<Statement>,
}

impl Backend {
    /// Of a connection that is ready and has reported these parameters.
    pub(crate) fn new(reported: Arc<Pairs>, nothing: Arc<Pairs>) -> Backend {
        Backend {
            replies: VecDeque::new(),
            status: b'I',
            is_failed: false,
            copy_in: false,
            passing: 0,
            known: Known::default(),
            unnamed: Unnamed::Nothing,
            in_batch: false,
            is_sweeping: false,
            is_waiting: false,
            deallocating: None,
            has_loose_sync: false,
            owes_sync: false,
            is_stale: false,
            litter: Vec::new(),
            settings: nothing,
            reported,
            chore: None,
            fatal: None,
            is_spoilt: false,
            turn: Turn::default(),
            story: Transaction::default(),
        }
    }

    /// Whether it owes no answer and no transaction is open.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.status == b'I'
            && self.replies.is_empty()
            && self.chore.is_none()
            && !self.is_in_batch()
            && self.passing == 0
    }

    /// Whether a batch of the extended protocol has no end yet: what it did is not committed, or will be passed over.
    pub(crate) fn is_in_batch(&self) -> bool {
        self.in_batch || self.is_failed
    }

    /// Whether answers have to come before anything else is sent.
    pub(crate) fn is_held(&self) -> bool {
        self.is_waiting || self.sweeps()
    }

    /// Whether no batch before this one can change what a name stands for by failing.
    pub(crate) fn is_settled(&self, is_unnamed: bool) -> bool {
        let mut is_before = false;
        for reply in self.replies.iter().rev() {
            match reply {
                Reply::Sync | Reply::Quiet | Reply::Query(_) | Reply::Call => is_before = true,
                Reply::Unnamed { .. } | Reply::CloseUnnamed { .. } | Reply::Forgets(_) if is_unnamed => {
                    return !is_before;
                }
                Reply::Parse { .. } | Reply::Parsed { .. } | Reply::Closed { .. } | Reply::Evict(_)
                    if is_before && !is_unnamed =>
                {
                    return false;
                }
                _ => {}
            }
        }
        true
    }

    /// Whether what takes prepared statements away has been sent, and its end.
    pub(crate) fn sweeps(&self) -> bool {
        self.is_sweeping
            && matches!(self.replies.back(), Some(Reply::Sync | Reply::Quiet | Reply::Query(_) | Reply::Call))
    }

    /// A `DEALLOCATE` has failed, or was passed over.
    pub(crate) fn not_deallocated(&mut self, session: Option<&mut Session>) {
        let Some(taken) = self.deallocating.take() else { return };
        if taken.is_there {
            self.known.insert(&taken.statement);
        }
        if let Some(session) = session {
            session.statements.insert(taken.name, taken.statement);
        }
    }

    /// Takes back what the replies up to `end` stand for: the first of them failed, the others were passed over. Or, with
    /// `is_lost`, all of them were lost. What ran is given to `ended`.
    pub(crate) fn undo(
        &mut self,
        mut session: Option<&mut Session>,
        end: usize,
        is_lost: bool,
        mut ended: impl FnMut(Measure),
    ) {
        let mut replies = std::mem::take(&mut self.replies);
        let (mut left, last) = (end, replies.len());
        let (mut found, mut restored) = (None, None);
        for reply in replies.drain(..end).rev() {
            left -= 1;
            let has_failed = left == 0 && !is_lost;
            match reply {
                Reply::Parse { id, name, .. } => {
                    if let Some(id) = id {
                        self.known.remove(id);
                        if let Some(taken) = self.deallocating.as_mut().filter(|taken| taken.statement.id == id) {
                            taken.is_there = false;
                        }
                    }
                    if let (Some(name), Some(session)) = (name, session.as_deref_mut()) {
                        session.statements.remove(&name);
                    }
                }
                Reply::Parsed { name } => {
                    if let Some(session) = session.as_deref_mut() {
                        session.statements.remove(&name);
                    }
                }
                Reply::Unnamed { before, is_silent } | Reply::CloseUnnamed { before, is_silent } => {
                    found = Some(if has_failed { Unnamed::Nothing } else { Unnamed::Unsure });
                    if !is_silent {
                        restored = Some(before.filter(|_| !has_failed));
                    }
                }
                Reply::Closed { was: Some((name, statement)) } => {
                    if let Some(session) = session.as_deref_mut() {
                        session.statements.insert(name, statement);
                    }
                }
                Reply::Forgets(before) => restored = Some(before),
                // Nothing is sent behind a DEALLOCATE.
                Reply::Query(_) if left + 1 == last => self.not_deallocated(session.as_deref_mut()),
                Reply::Evict(statement) => self.known.insert(&statement),
                Reply::Execute(measure) => ended(measure),
                _ => {}
            }
        }
        self.replies = replies;
        // What was sent since has the last word.
        for reply in &mut self.replies {
            match reply {
                Reply::Query(_) => return,
                Reply::Unnamed { before, is_silent } | Reply::CloseUnnamed { before, is_silent } => {
                    if !*is_silent {
                        *before = restored.unwrap_or_else(|| before.take());
                        return;
                    }
                    found = None;
                }
                Reply::Forgets(before) => {
                    *before = restored.unwrap_or_else(|| before.take());
                    return;
                }
                _ => {}
            }
        }
        self.unnamed = found.unwrap_or_else(|| std::mem::replace(&mut self.unnamed, Unnamed::Unsure));
        if let (Some(session), Some(restored)) = (session, restored) {
            session.unnamed = restored;
        }
    }
}

impl Turn {
    /// Begins one.
    pub(crate) fn begin(&mut self, now: Moment, unnamed: Option<Arc<Statement>>) {
        self.since = now;
        self.touches = Touches::default();
        self.names.clear();
        self.all_names = false;
        self.is_unseen = false;
        self.replay.clear();
        if self.replay.capacity() > 4_096 {
            self.replay = Vec::new();
        }
        self.can_replay = true;
        self.only_begun = false;
        self.is_answered = false;
        self.is_told = false;
        self.unnamed = unnamed;
        self.has_failed = false;
        self.is_counted = false;
        self.statements = 0;
        self.leaves_open = None;
        self.is_lost = false;
    }
}

impl Measure {
    /// It begins now.
    pub(crate) fn new(since: Moment, fingerprint: u64, cells: Option<Arc<StatementCells>>) -> Measure {
        Measure { since, cells, fingerprint, rows: 0, error: None }
    }
}

impl Known {
    /// Whether the statement is there; it counts as used.
    pub(crate) fn touch(&mut self, id: u64) -> bool {
        self.tick += 1;
        match self.by_id.get_mut(&id) {
            Some(held) => {
                held.used = self.tick;
                true
            }
            None => false,
        }
    }

    /// The one that has to go so that another has room among `most`.
    pub(crate) fn make_room(&mut self, most: usize) -> Option<Arc<Statement>> {
        if self.by_id.len() < most.max(1) {
            return None;
        }
        let id = self.by_id.iter().min_by_key(|(_, held)| held.used).map(|(id, _)| *id)?;
        self.by_id.remove(&id).map(|held| held.statement)
    }

    /// It is there from now on.
    pub(crate) fn insert(&mut self, statement: &Arc<Statement>) {
        self.tick += 1;
        self.by_id.insert(statement.id, Held { used: self.tick, statement: statement.clone() });
    }

    /// It is not there any more.
    pub(crate) fn remove(&mut self, id: u64) {
        self.by_id.remove(&id);
    }

    /// None is there any more.
    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
    }

    /// The statement of this id, if it is there.
    pub(crate) fn get(&self, id: u64) -> Option<&Arc<Statement>> {
        self.by_id.get(&id).map(|held| &held.statement)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::Statements;

    #[test]
    fn the_least_recently_used_statement_makes_room() {
        let all = Statements::default();
        let [a, b, c] = ["a", "b", "c"].map(|text| all.intern(text.as_bytes(), &[0, 0]).unwrap());
        let mut known = Known::default();
        known.insert(&a);
        known.insert(&b);
        assert!(known.make_room(3).is_none());
        assert!(known.touch(a.id) && !known.touch(c.id));
        assert_eq!(known.make_room(2).unwrap().id, b.id);
        known.insert(&c);
        assert_eq!(known.len(), 2);
        assert!(known.touch(c.id) && known.touch(a.id) && !known.touch(b.id));
    }
}
