//! What a client has said and been told: the state that is its own, wherever its transactions run.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::pairs::Pairs;
use crate::statements::Statement;
use crate::stats::story::Transaction;

/// Most names of prepared statements of one client.
pub(crate) const MAX_NAMES: usize = 10_000;

/// A client's side of the protocol.
#[derive(Debug)]
pub(crate) struct Session {
    /// What its names of prepared statements stand for.
    pub(crate) statements: HashMap<Box<[u8]>, Arc<Statement>, RandomState>,
    /// Its unnamed statement.
    pub(crate) unnamed: Option<Arc<Statement>>,
    /// The statement of the portal that it bound last.
    pub(crate) bound: Option<Arc<Statement>>,
    /// What it has set.
    pub(crate) settings: Arc<Pairs>,
    /// What it was told that the server's parameters are.
    pub(crate) told: Arc<Pairs>,
    /// Bytes of the message that it is sending which are passed on as they come.
    pub(crate) passing: usize,
    /// Bytes of the message that it is sending which go nowhere.
    pub(crate) dropping: usize,
    /// After an error that was made here, everything is passed over until Sync, which is answered with this status.
    pub(crate) skipping: Option<u8>,
    /// How its transaction goes on at the next connection.
    pub(crate) resume: Option<Resume>,
    /// What its next message is answered with, because it could not be told when it happened.
    pub(crate) owed: Option<Box<Failure>>,
    /// The story so far of its transaction, if that moves to another connection.
    pub(crate) story: Option<Box<Transaction>>,
    /// How often its transaction has moved to another connection.
    pub(crate) moves: u8,
    /// Why it keeps its connection; empty: it does not.
    pub(crate) pinned: Option<Box<str>>,
}

/// How a transaction goes on that has lost its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resume {
    /// It had only begun: with these words.
    Begin(Box<[u8]>),
    /// It failed; it has to be rolled back.
    Failed,
}

/// An error that is made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Five characters.
    pub(crate) sqlstate: Box<str>,
    /// What happened.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Session {
    /// Of a client that has logged in.
    pub(crate) fn new(settings: Arc<Pairs>, told: Arc<Pairs>) -> Session {
        Session {
            statements: HashMap::default(),
            unnamed: None,
            bound: None,
            settings,
            told,
            passing: 0,
            dropping: 0,
            skipping: None,
            resume: None,
            owed: None,
            story: None,
            moves: 0,
            pinned: None,
        }
    }

    /// What `ReadyForQuery` says when no connection is there.
    pub(crate) fn status(&self) -> u8 {
        match &self.resume {
            None => b'I',
            Some(Resume::Begin(_)) => b'T',
            Some(Resume::Failed) => b'E',
        }
    }
}

impl Failure {
    /// Without a hint.
    pub(crate) fn new(sqlstate: &str, message: impl Into<String>) -> Failure {
        Failure { sqlstate: sqlstate.into(), message: message.into(), hint: None }
    }

    /// With a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}
