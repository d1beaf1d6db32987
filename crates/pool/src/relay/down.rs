//! From the server to the client.

use std::sync::Arc;

use super::Context;
use super::tell::{Teller, state};
use crate::backend::{Backend, Chore, Measure, Reply, Unnamed};
use crate::pairs::{Interner, Pairs};
use crate::session::{Failure, Session};
use crate::sql::Touches;
use crate::stats::GroupCells;
use crate::stats::story::{SqlState, Statement};
use crate::wire::backend::{self as messages, Fields};
use crate::wire::{self, HEADER, WireError, tag};

/// Messages that are looked into are waited for up to here; of a longer error the beginning is enough.
const WHOLE_MAX: usize = 16 << 10;

/// What became of a server's bytes.
#[derive(Debug, Default)]
pub(crate) struct Down {
    /// How many were taken; the rest is a message that is not all there.
    pub(crate) taken: usize,
    /// Whether the client's transaction is over, and nothing of it is under way.
    pub(crate) is_over: bool,
    /// What the pooler had done is done.
    pub(crate) done: Option<Chore>,
    /// The transaction is to begin anew at this connection: a prepared statement was not what it had been, and nothing has
    /// happened.
    pub(crate) again: bool,
}

/// What the way down needs beside the two ends.
#[derive(Debug)]
pub(crate) struct Below<'a, 'c> {
    pub(crate) context: &'a mut Context<'c>,
    pub(crate) cells: &'a GroupCells,
    pub(crate) teller: &'a Teller<'a>,
    pub(crate) interner: &'a mut Interner,
    /// The connection is quiet after an error, until its `ReadyForQuery`: then the transaction begins anew.
    pub(crate) is_rewinding: &'a mut bool,
}

/// Takes what the server sent and appends to `out` what the client gets.
///
/// # Errors
/// If it breaks the protocol: the connection is closed.
pub(crate) fn down(
    mut session: Option<&mut Session>,
    backend: &mut Backend,
    input: &[u8],
    out: &mut Vec<u8>,
    below: &mut Below<'_, '_>,
) -> Result<Down, WireError> {
    let mut outcome = Down::default();
    let mut at = 0;
    // Where what passes as it is begins.
    let mut run = 0;
    let started = out.len();
    let (mut is_async_told, mut is_answered) = (false, backend.passing > 0);
    while at < input.len() && !outcome.again && outcome.done.is_none() {
        if backend.passing > 0 {
            let n = backend.passing.min(input.len() - at);
            backend.passing -= n;
            at += n;
            if backend.passing == 0 {
                out.extend_from_slice(&input[run..at]);
                run = at;
                put_due(backend, out);
            }
            continue;
        }
        let Some(frame) = wire::frame(&input[at..])? else { break };
        let have = &input[at..input.len().min(at + frame.len)];
        let is_whole = have.len() == frame.len;
        let is_bulk = matches!(
            frame.tag,
            tag::DATA_ROW | tag::COPY_DATA | tag::ROW_DESCRIPTION | tag::PARAMETER_DESCRIPTION | tag::FUNCTION_RESULT
        ) && session.is_some()
            && backend.chore.is_none()
            && !*below.is_rewinding;
        if !is_whole && !is_bulk && have.len() < WHOLE_MAX {
            break;
        }
        if !is_whole && !is_bulk && !matches!(frame.tag, tag::ERROR | tag::NOTICE) {
            return Err(WireError::Value { message: "a message", what: "more bytes than a server sends" });
        }
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        let is_answer = !matches!(frame.tag, tag::PARAMETER_STATUS | tag::NOTIFICATION | tag::NOTICE);
        if is_answer && backend.chore.is_none() && !*below.is_rewinding {
            put_due(backend, &mut before);
        }
        let mut step = Step { session: session.as_deref_mut(), backend, below, outcome: &mut outcome, is_async_told };
        let verdict = step.message(frame.tag, &have[HEADER..])?;
        is_async_told |= !is_answer && verdict == Verdict::Pass;
        // A notice, such as that of a server that is about to crash, answers nothing.
        is_answered |= is_answer && verdict == Verdict::Pass || !before.is_empty();
        backend.passing = frame.len - have.len();
        if is_answer && verdict != Verdict::Rewind {
            put_due(backend, &mut behind);
        }
        let end = at + have.len();
        if verdict == Verdict::Rewind {
            out.truncate(started);
            run = end;
        } else if verdict == Verdict::Swallow || !before.is_empty() || !behind.is_empty() {
            out.extend_from_slice(&input[run..at]);
            out.extend_from_slice(&before);
            if verdict == Verdict::Pass {
                out.extend_from_slice(have);
            }
            out.extend_from_slice(&behind);
            run = end;
        }
        at = end;
        if backend.passing > 0 && verdict != Verdict::Pass {
            return Err(WireError::Value { message: "a message", what: "more bytes than a server sends" });
        }
    }
    out.extend_from_slice(&input[run..at]);
    outcome.taken = at;
    backend.turn.is_answered |= is_answered && out.len() > started;
    backend.turn.is_told |= out.len() > started;
    Ok(outcome)
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The client gets it.
    Pass,
    /// It does not.
    Swallow,
    /// Nor does it get what came with it.
    Rewind,
}

struct Step<'s, 'a, 'c> {
    session: Option<&'s mut Session>,
    backend: &'s mut Backend,
    below: &'s mut Below<'a, 'c>,
    outcome: &'s mut Down,
    /// The client is being told something that is no answer, and must not miss it.
    is_async_told: bool,
}

impl Step<'_, '_, '_> {
    fn message(&mut self, tag: u8, body: &[u8]) -> Result<Verdict, WireError> {
        match tag {
            tag::PARAMETER_STATUS => return self.reported(body),
            tag::NOTIFICATION => {
                return Ok(if self.listens() { Verdict::Pass } else { Verdict::Swallow });
            }
            _ => {}
        }
        if self.backend.chore.is_some() {
            return self.chore(tag, body);
        }
        if *self.below.is_rewinding {
            return self.rewinding(tag, body);
        }
        if self.backend.replies.is_empty() && (self.session.is_none() || !matches!(tag, tag::NOTICE | tag::READY)) {
            return self.unasked(tag, body);
        }
        match tag {
            tag::DATA_ROW => {
                if let Some(measure) = self.running() {
                    measure.rows += 1;
                }
            }
            tag::COPY_DATA | tag::PARAMETER_DESCRIPTION | tag::NOTICE | tag::COPY_OUT | tag::COPY_DONE => {}
            tag::ROW_DESCRIPTION | tag::NO_DATA => {
                if let Some(Reply::Describe) = self.backend.replies.front() {
                    self.backend.replies.pop_front();
                }
            }
            tag::PARSE_COMPLETE => match self.backend.replies.pop_front() {
                Some(Reply::Parse { is_silent: true, .. } | Reply::Unnamed { is_silent: true, .. }) => {
                    return Ok(Verdict::Swallow);
                }
                Some(Reply::Parse { .. } | Reply::Unnamed { .. }) => {}
                other => return Err(unexpected("ParseComplete", other.as_ref())),
            },
            tag::BIND_COMPLETE => match self.backend.replies.pop_front() {
                Some(Reply::Bind) => {}
                other => return Err(unexpected("BindComplete", other.as_ref())),
            },
            tag::CLOSE_COMPLETE => match self.backend.replies.pop_front() {
                Some(Reply::Evict(_) | Reply::CloseUnnamed { is_silent: true, .. }) => return Ok(Verdict::Swallow),
                Some(Reply::Close | Reply::CloseUnnamed { .. }) => {}
                other => return Err(unexpected("CloseComplete", other.as_ref())),
            },
            tag::COMMAND_COMPLETE => self.command(body)?,
            tag::EMPTY_QUERY | tag::PORTAL_SUSPENDED => self.executed(),
            tag::FUNCTION_RESULT => {}
            tag::COPY_IN => self.copy_in(),
            tag::ERROR => return self.error(body),
            tag::READY => return self.ready(messages::ready_status(body)?),
            _ => return Err(WireError::Value { message: "a message", what: "a tag that servers do not send here" }),
        }
        Ok(Verdict::Pass)
    }

    fn running(&mut self) -> Option<&mut Measure> {
        match self.backend.replies.front_mut() {
            Some(Reply::Execute(measure) | Reply::Query(measure)) => Some(measure),
            _ => None,
        }
    }

    /// Whether the client may be told what it listens to: what another one has left behind is none of its business.
    fn listens(&self) -> bool {
        let touches = self.backend.turn.touches;
        let listened = touches.has_any(Touches::LISTEN | Touches::OPAQUE) || self.below.context.is_session_mode;
        self.session.as_deref().is_some_and(|session| listened || session.pinned.is_some())
    }

    /// A parameter of the session has another value.
    fn reported(&mut self, body: &[u8]) -> Result<Verdict, WireError> {
        let (name, value) = match messages::parameter_status(body) {
            // It is in the session's encoding; nobody is told, lest the next client is not.
            Err(WireError::Utf8 { .. }) => return Ok(Verdict::Swallow),
            read => read?,
        };
        if self.backend.reported.get(name) != Some(value) {
            let mut reported = Pairs::clone(&self.backend.reported);
            reported.set(name, value);
            self.backend.reported = self.below.interner.intern(reported);
        }
        let Some(session) = &mut self.session else { return Ok(Verdict::Swallow) };
        if session.told.get(name) == Some(value) {
            return Ok(Verdict::Swallow);
        }
        let mut told = Pairs::clone(&session.told);
        told.set(name, value);
        session.told = self.below.interner.intern(told);
        Ok(Verdict::Pass)
    }

    /// Answers to what the pooler itself asked.
    fn chore(&mut self, tag: u8, body: &[u8]) -> Result<Verdict, WireError> {
        let Some(chore) = &mut self.backend.chore else { return Ok(Verdict::Swallow) };
        match tag {
            tag::DATA_ROW => {
                let row = messages::data_row(body)?;
                chore.row = row.into_iter().map(|v| v.map(|v| String::from_utf8_lossy(v).into_owned())).collect();
            }
            tag::ERROR => {
                let failure = failure(body);
                if is_last_word(body) {
                    self.backend.fatal = Some(Box::new(failure.clone()));
                }
                chore.error.get_or_insert(failure);
            }
            tag::READY => {
                self.backend.status = messages::ready_status(body)?;
                self.outcome.done = self.backend.chore.take();
            }
            _ => {}
        }
        Ok(Verdict::Swallow)
    }

    /// Nobody has asked for anything: it is the server's last word, or none of anybody's business.
    fn unasked(&mut self, tag: u8, body: &[u8]) -> Result<Verdict, WireError> {
        match tag {
            tag::ERROR => self.backend.fatal = Some(Box::new(failure(body))),
            tag::NOTICE => {}
            _ => return Err(WireError::Value { message: "a message", what: "nobody who has asked for it" }),
        }
        Ok(Verdict::Swallow)
    }

    /// What is left of the attempt that did not count.
    fn rewinding(&mut self, tag: u8, body: &[u8]) -> Result<Verdict, WireError> {
        match tag {
            tag::ERROR if is_last_word(body) => self.backend.fatal = Some(Box::new(failure(body))),
            tag::READY => {
                self.backend.status = messages::ready_status(body)?;
                *self.below.is_rewinding = false;
                self.outcome.again = true;
            }
            _ => {}
        }
        Ok(Verdict::Swallow)
    }

    fn command(&mut self, body: &[u8]) -> Result<(), WireError> {
        let tag = messages::command_tag(body)?;
        match tag {
            b"DISCARD ALL" | b"DEALLOCATE ALL" => {
                self.backend.known.clear();
                if let Some(session) = &mut self.session {
                    session.statements.clear();
                }
            }
            // One that the client has not prepared by the protocol, and perhaps one of the pooler's.
            b"DEALLOCATE" if self.backend.deallocating.is_none() => self.backend.is_stale = true,
            _ => {}
        }
        // "INSERT 0 5", "UPDATE 5", "COPY 5"; rows of SELECT have been counted as they came.
        let counts = !tag.starts_with(b"SELECT") && !tag.starts_with(b"FETCH");
        if counts && let Some(measure) = self.running() {
            let digits = tag.rsplit(|b| *b == b' ').next().unwrap_or_default();
            let number = std::str::from_utf8(digits).ok().and_then(|d| d.parse::<u64>().ok());
            measure.rows = measure.rows.saturating_add(number.unwrap_or(0));
        }
        self.executed();
        Ok(())
    }

    /// The end of an Execute; a simple query goes on to its `ReadyForQuery`.
    fn executed(&mut self) {
        self.backend.has_loose_sync = false;
        if let Some(Reply::Execute(_)) = self.backend.replies.front()
            && let Some(Reply::Execute(measure)) = self.backend.replies.pop_front()
        {
            self.ended(measure);
        }
    }

    fn ended(&mut self, measure: Measure) {
        let below = &self.below;
        let to = (&mut self.backend.story, below.cells);
        below.teller.statement(self.session.as_deref(), to, measure, below.context.now);
    }

    /// The server takes data. What was sent behind the statement before this was known: Sync is passed over, as Flush is; the
    /// end of the data may be there already; anything else ends the COPY, and takes the connection out of step.
    fn copy_in(&mut self) {
        let end = self.backend.replies.iter().position(|reply| matches!(reply, Reply::CopyEnd));
        let until = end.unwrap_or(self.backend.replies.len());
        let mut at = 0;
        let (mut is_spoilt, mut has_loose_sync) = (false, self.backend.has_loose_sync);
        self.backend.replies.retain(|reply| {
            at += 1;
            if at == 1 || at > until {
                return true;
            }
            is_spoilt |= !matches!(reply, Reply::Sync);
            has_loose_sync |= matches!(reply, Reply::Sync);
            !matches!(reply, Reply::Sync)
        });
        self.backend.is_spoilt |= is_spoilt;
        self.backend.has_loose_sync = has_loose_sync;
        self.backend.in_batch |= has_loose_sync && matches!(self.backend.replies.front(), Some(Reply::Execute(_)));
        self.backend.copy_in = end.is_none();
        self.backend.turn.can_replay = false;
    }

    fn error(&mut self, body: &[u8]) -> Result<Verdict, WireError> {
        self.below.cells.server_errors.inc();
        self.backend.copy_in = false;
        if std::mem::take(&mut self.backend.has_loose_sync) {
            // It may be answered or not.
            self.backend.is_spoilt = true;
        }
        if is_last_word(body) {
            // The client is told by whoever deals with the loss.
            self.backend.fatal = Some(Box::new(failure(body)));
            return Ok(Verdict::Swallow);
        }
        if let Some(Reply::Query(measure)) = self.backend.replies.front_mut() {
            measure.error.get_or_insert(sql_state(body));
            self.backend.turn.has_failed = true;
            if self.backend.replies.len() == 1 {
                self.backend.not_deallocated(self.session.as_deref_mut());
            }
            return Ok(Verdict::Pass);
        }
        if let Some(Reply::Call) = self.backend.replies.front() {
            self.backend.turn.has_failed = true;
            return Ok(Verdict::Pass);
        }
        if self.may_rewind(body) {
            return Ok(Verdict::Rewind);
        }
        self.backend.turn.has_failed = true;
        let replies = &self.backend.replies;
        let end = replies.iter().position(|reply| matches!(reply, Reply::Sync | Reply::Quiet));
        let is_quiet = end.is_some_and(|at| matches!(replies[at], Reply::Quiet));
        let end_at = end.unwrap_or(replies.len());
        let prepared = self.prepares();
        // The last one that is given is the first: it gets the blame, the others have not been run.
        let mut blamed = None;
        self.backend.undo(self.session.as_deref_mut(), end_at, false, |measure| blamed = Some(measure));
        let error = sql_state(body);
        if let Some(mut measure) = blamed {
            measure.error = Some(error);
            self.ended(measure);
        } else if let Some(statement) = prepared {
            // It was not to be run yet, so that it is no call; but it is what went wrong.
            let context = &mut *self.below.context;
            let cells = context.table.entry(context.group, statement.scan.fingerprint, &statement.text);
            let told = Statement { cells, took_us: 0, rows: 0, error: Some(error) };
            self.backend.story.statement(context.now, told);
        }
        self.backend.is_failed = end.is_none();
        Ok(if is_quiet { Verdict::Swallow } else { Verdict::Pass })
    }

    /// The statement that is prepared next.
    fn prepares(&self) -> Option<Arc<crate::statements::Statement>> {
        match self.backend.replies.front()? {
            Reply::Parse { id: Some(id), .. } => self.backend.known.get(*id).cloned(),
            Reply::Unnamed { .. } => match &self.backend.unnamed {
                Unnamed::Is(statement) => Some(statement.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The plan of a prepared statement has become invalid, or it was deallocated unseen. If nothing has happened in this
    /// transaction, and the client has had no answer, it begins anew with the statements prepared again.
    fn may_rewind(&mut self, body: &[u8]) -> bool {
        let Ok(fields) = Fields::read(body) else { return false };
        // With other columns, the rows are not for a client that does not ask what they are.
        let is_described = || describes(&self.backend.turn.replay);
        let may_repeat = match fields.sqlstate() {
            "0A000" if fields.field(b'R') == Some("RevalidateCachedQuery") => is_described(),
            "26000" => match missing(&fields.message()) {
                Some(id) => {
                    self.backend.known.remove(id);
                    true
                }
                None => return false,
            },
            _ => return false,
        };
        self.backend.is_stale = true;
        let turn = &self.backend.turn;
        let Some(session) = &self.session else { return false };
        // An Execute that was answered would have been told to the client.
        if !may_repeat || !turn.can_replay || turn.is_answered || turn.is_told || self.is_async_told {
            return false;
        }
        if self.backend.status != b'I' || session.passing > 0 {
            return false;
        }
        // What stands behind the end of the batch would be run, and run again.
        let is_end = |reply: &Reply| matches!(reply, Reply::Sync | Reply::Quiet | Reply::Query(_) | Reply::Call);
        let end = self.backend.replies.iter().position(is_end);
        if end.is_some_and(|end| end + 1 < self.backend.replies.len()) {
            return false;
        }
        // The batch has no end yet: the server waits for one.
        self.backend.owes_sync = end.is_none();
        self.backend.replies.clear();
        self.backend.in_batch = false;
        *self.below.is_rewinding = true;
        true
    }

    fn ready(&mut self, status: u8) -> Result<Verdict, WireError> {
        let mut verdict = Verdict::Pass;
        match self.backend.replies.pop_front() {
            Some(Reply::Query(measure)) => {
                if self.backend.replies.is_empty() {
                    // Nothing is sent behind a DEALLOCATE.
                    self.backend.deallocating = None;
                }
                self.ended(measure);
            }
            Some(Reply::Sync | Reply::Call) => {}
            Some(Reply::Quiet) => verdict = Verdict::Swallow,
            // The Sync that a COPY was expected to pass over.
            None if self.backend.is_spoilt => (self.backend.is_failed, self.backend.in_batch) = (false, false),
            other => return Err(unexpected("ReadyForQuery", other.as_ref())),
        }
        self.backend.status = status;
        while let Some(Reply::CopyEnd) = self.backend.replies.front() {
            self.backend.replies.pop_front();
        }
        let is_at_end = self.backend.replies.is_empty() && !self.backend.copy_in;
        if is_at_end {
            self.backend.turn.leaves_open = None;
        }
        self.outcome.is_over = status == b'I' && is_at_end && !self.backend.is_in_batch();
        match status {
            b'I' => {
                let (below, session) = (&self.below, self.session.as_deref());
                let goes_on = !self.outcome.is_over || session.is_some_and(|session| session.passing > 0);
                below.teller.transaction_over(session, self.backend, below.cells, below.context.now, goes_on);
            }
            // Whatever has failed was rolled back to a savepoint.
            b'T' => self.backend.turn.has_failed = false,
            _ => {}
        }
        Ok(verdict)
    }
}

/// Appends what is answered here, as far as its turn has come.
pub(crate) fn put_due(backend: &mut Backend, out: &mut Vec<u8>) {
    if backend.passing > 0 {
        // Not within a message that is not all there.
        return;
    }
    while let Some(front) = backend.replies.front() {
        match front {
            Reply::Parsed { .. } => messages::put_parse_complete(out),
            Reply::Closed { .. } => messages::put_close_complete(out),
            Reply::CopyEnd | Reply::Forgets(_) => {}
            _ => break,
        }
        backend.replies.pop_front();
    }
}

/// The pooler's statement that an error says is missing, whatever the language.
fn missing(message: &str) -> Option<u64> {
    let (_, rest) = message.split_once("_ek")?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    u64::from_str_radix(&rest[..end], 16).ok()
}

/// Whether messages ask what a statement's rows look like.
fn describes(mut messages: &[u8]) -> bool {
    while let Ok(Some(frame)) = wire::frame(messages) {
        if frame.tag == tag::DESCRIBE {
            return true;
        }
        messages = messages.get(frame.len..).unwrap_or_default();
    }
    false
}

/// Whether it is the last word of a server that ends the connection.
fn is_last_word(body: &[u8]) -> bool {
    Fields::read(body).is_ok_and(|fields| matches!(fields.severity(), "FATAL" | "PANIC"))
}

fn sql_state(body: &[u8]) -> SqlState {
    Fields::read(body).map_or(*b"XX000", |fields| state(fields.sqlstate()))
}

fn failure(body: &[u8]) -> Failure {
    match Fields::read(body) {
        Ok(fields) => Failure {
            sqlstate: fields.sqlstate().into(),
            message: fields.message(),
            hint: fields.field(b'H').map(str::to_owned),
        },
        Err(_) => Failure::new("XX000", "an error that cannot be read"),
    }
}

fn unexpected(message: &'static str, front: Option<&Reply>) -> WireError {
    tracing::debug!(message, ?front, "the server is out of step");
    WireError::Value { message, what: "no place here" }
}

/// Appends what differs between what the client was told and what the server has reported.
pub(crate) fn put_reported(session: &mut Session, reported: &Arc<Pairs>, interner: &mut Interner, out: &mut Vec<u8>) {
    if crate::pairs::same(&session.told, reported) {
        return;
    }
    let mut told = Pairs::clone(&session.told);
    for (name, value) in reported.iter() {
        if told.get(name) != Some(value) {
            messages::put_parameter_status(out, name, value);
            told.set(name, value);
        }
    }
    session.told = interner.intern(told);
}
