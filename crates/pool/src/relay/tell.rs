//! What becomes of statements and transactions for who asks later: counted, put into the story of the transaction, and
//! into the log if it was slow.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kernel::Moment;

use crate::backend::{Backend, Measure};
use crate::session::Session;
use crate::stats::GroupCells;
use crate::stats::story::{About, Ending, Mark, SqlState, Statement, Stories, Transaction};

/// Whose transactions at which connection they are, and where they are told.
#[derive(Debug)]
pub(crate) struct Teller<'a> {
    pub(crate) stories: &'a Stories,
    pub(crate) pool: &'a str,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
    /// Where the client comes from.
    pub(crate) peer: Peer,
    /// From when on a statement, or a transaction, is slow.
    pub(crate) slow: Option<Duration>,
    /// The server, and the process there.
    pub(crate) server: &'a Arc<str>,
    pub(crate) process: u32,
}

/// Where a client comes from.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) Option<SocketAddr>);

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("unix"),
        }
    }
}

/// What a client calls itself.
pub(crate) fn application(session: &Session) -> &str {
    session.settings.get("application_name").unwrap_or_default()
}

/// The SQLSTATE of an error as it is kept.
pub(crate) fn state(text: &str) -> SqlState {
    text.as_bytes().try_into().unwrap_or(*b"XX000")
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Teller<'_> {
    fn about<'s>(&'s self, session: Option<&'s Session>) -> About<'s> {
        About {
            pool: self.pool,
            database: self.database,
            user: self.user,
            application: session.map_or("", application),
            client: &self.peer,
        }
    }

    /// A transaction begins at the connection.
    pub(crate) fn begin(&self, story: &mut Transaction, now: Moment) {
        story.begin(now);
        story.mark(now, Mark::Assigned { server: self.server.clone(), process: self.process });
    }

    /// A statement has ended.
    pub(crate) fn statement(
        &self,
        session: Option<&Session>,
        (story, cells): (&mut Transaction, &GroupCells),
        measure: Measure,
        now: Moment,
    ) {
        let took = now.since(measure.since);
        let took_us = micros(took);
        cells.query_ended(took_us);
        let Measure { cells: Some(cells), rows, error, .. } = measure else { return };
        cells.ended(took_us, rows, error.is_some());
        let statement = Statement { cells, took_us, rows, error };
        if self.slow.is_some_and(|slow| took >= slow) {
            self.stories.slow(story, now, &self.about(session), &statement);
        }
        story.statement(now, statement);
    }

    /// The server has no transaction open any more; if the client's turn goes on, another is under way already.
    pub(crate) fn transaction_over(
        &self,
        session: Option<&Session>,
        backend: &mut Backend,
        cells: &GroupCells,
        now: Moment,
        goes_on: bool,
    ) {
        let turn = &mut backend.turn;
        if !std::mem::take(&mut turn.is_counted) {
            cells.transaction_ended(micros(now.since(turn.since)), turn.has_failed);
            let ending = if turn.has_failed { Ending::Error } else { Ending::Well };
            self.stories.end(&mut backend.story, now, &self.about(session), self.slow, ending);
        }
        turn.since = now;
        turn.has_failed = false;
        if goes_on {
            self.begin(&mut backend.story, now);
        }
    }
}
