//! Errors that are made here, told where the protocol has a place for them: to the next simple query, or to the next
//! message of an extended one, after which everything up to Sync is passed over.

use super::Worker;
use crate::client::State;
use crate::session::{Failure, Resume, Session};
use crate::sql::{self, Kind, Touches};
use crate::wire::frontend::{self, Bind, Parse};
use crate::wire::{Frame, HEADER, backend, tag};

/// A simple query is looked at to here: whether it rolls back.
const LOOKED_AT: usize = 1_024;

impl Worker {
    /// What a client sends that is owed an error, or that has had one and has not sent Sync. How many bytes were taken.
    pub(super) fn reject_input(&mut self, at: usize, frame: Frame, input: &[u8]) -> usize {
        let is_whole = input.len() >= frame.len;
        let session = &mut self.clients[at].session;
        let mut out = Vec::new();
        if frame.tag == tag::SYNC {
            if !is_whole {
                return 0;
            }
            let status = session.skipping.take().unwrap_or(session.status());
            backend::put_ready(&mut out, status);
            self.send_client(at, &out);
            return frame.len;
        }
        if session.skipping.is_none() {
            let is_simple = matches!(frame.tag, tag::QUERY | tag::FUNCTION_CALL);
            if session.owed.is_some() && session.resume == Some(Resume::Failed) {
                if !is_whole && frame.len < LOOKED_AT {
                    return 0;
                }
                if is_whole && rolls_back(session, frame.tag, &input[HEADER..frame.len]) {
                    // That is all there is left to do; it need not be told that it could do nothing else.
                    session.owed = None;
                    return 0;
                }
            }
            if !matches!(frame.tag, tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL)
                && let Some(failure) = session.owed.take()
            {
                put(&mut out, "ERROR", &failure);
                if is_simple && is_whole && commits(frame.tag, &input[HEADER..frame.len]) {
                    // A commit that fails ends its transaction.
                    session.resume = None;
                }
                let status = session.status();
                match is_simple {
                    true => backend::put_ready(&mut out, status),
                    false => session.skipping = Some(status),
                }
            }
        }
        let n = frame.len.min(input.len());
        session.dropping = frame.len - n;
        if !out.is_empty() {
            self.send_client(at, &out);
        }
        n
    }

    /// Sends a client away with an error.
    pub(super) fn dismiss(&mut self, at: usize, failure: &Failure) {
        match self.clients[at].state {
            State::Linked(server) if self.servers[server].backend.passing > 0 => {
                // It is within a message that is not all there, where nothing can be told.
                self.tell_cut(at, server, &failure.message);
                self.client_gone(at);
                return;
            }
            State::Linked(server) => self.tell_cut(at, server, &failure.message),
            State::Waiting => self.tell_turned(at, &failure.message),
            _ => {}
        }
        let mut out = Vec::new();
        put(&mut out, "FATAL", failure);
        self.say_goodbye(at, &out);
    }
}

/// Whether a message is the one that ends a failed transaction, or the first of those that do.
fn rolls_back(session: &Session, tag: u8, body: &[u8]) -> bool {
    let scan = match tag {
        tag::QUERY => frontend::query_text(body).ok().map(sql::scan),
        tag::PARSE => Parse::read(body).ok().map(|parse| sql::scan(parse.text)),
        tag::BIND => match Bind::read_names(body) {
            Ok(Some(bind)) if bind.statement.is_empty() => session.unnamed.as_ref().map(|statement| statement.scan),
            Ok(Some(bind)) => session.statements.get(bind.statement).map(|statement| statement.scan),
            _ => None,
        },
        _ => None,
    };
    // Not to a savepoint, which is gone.
    scan.is_some_and(|scan| scan.kind == Kind::Rollback && scan.touches.has(Touches::END))
}

/// Whether a simple query commits.
fn commits(tag: u8, body: &[u8]) -> bool {
    tag == tag::QUERY && frontend::query_text(body).is_ok_and(|text| sql::scan(text).kind == Kind::Commit)
}

/// Appends an error.
pub(super) fn put(out: &mut Vec<u8>, severity: &str, failure: &Failure) {
    backend::put_error(out, severity, &failure.sqlstate, &failure.message, None, failure.hint.as_deref());
}
