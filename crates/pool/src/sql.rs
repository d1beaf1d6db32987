//! What can be seen of an SQL text without a parser: its shape, and what it may do to its session.
//!
//! [`scan`] reads a text once, without allocating, as PostgreSQL's lexer does (with `standard_conforming_strings` on). What
//! a statement does is told from its words, in their places: `SET` begins a statement, `set_config` is called anywhere.
//! Where that leaves a doubt, the touch is told: a string without an end, a number that runs into a word or an identifier
//! with escapes makes the whole text [`Touches::OPAQUE`]. A touch says what the text asks for; whether the server has done
//! it, its answer says.
//!
//! # What cannot be seen
//!
//! A text tells nothing of what happens on the server's side of it:
//! * functions and procedures that do it within: `SET`, `set_config`, advisory locks, temporary tables, `LISTEN`, dynamic
//!   SQL (`EXECUTE` in PL/pgSQL). `DO` and `CALL` are told as [`Touches::OPAQUE`]; a function in a query is not.
//! * triggers, rules, defaults, operators, casts and row security policies, which call functions.
//! * functions of extensions that keep something: `dblink_connect`, `set_limit`; of PostgreSQL's own: `setseed`, `lastval`
//!   and `currval`, a temporary replication slot.
//! * a temporary table that is made because `search_path` begins with `pg_temp`, or a view on a temporary table.
//! * a text that is read otherwise: after `SET standard_conforming_strings = off`, and `E''` strings in a client encoding
//!   whose characters may end with a backslash (SJIS, BIG5, GBK, UHC, GB18030).
//! * what a prepared statement does when it is run: it is told where it is prepared, by `Parse` or by `PREPARE`.

mod bytes;
mod call;
mod lexer;
mod normal;
mod session;
mod settings;
mod shape;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::{BitOr, BitOrAssign};

use lexer::{Class, Lexer, Token};
use normal::Fold;
use session::Watch;
use shape::Hash;

/// What the first statement of a text is, by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// There is no statement.
    Empty,
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`, also to a savepoint.
    Rollback,
    /// `SAVEPOINT`, `RELEASE`.
    Savepoint,
    /// `SELECT`, `VALUES`, `TABLE`.
    Select,
    /// `WITH`.
    With,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `MERGE`.
    Merge,
    /// `COPY`.
    Copy,
    /// `SET`, `RESET`.
    Set,
    /// `SHOW`.
    Show,
    /// `EXPLAIN`.
    Explain,
    /// `CREATE`.
    Create,
    /// `ALTER`.
    Alter,
    /// `DROP`.
    Drop,
    /// `DECLARE`.
    Declare,
    /// `FETCH`, `MOVE`.
    Fetch,
    /// `CLOSE`.
    Close,
    /// `LISTEN`, `UNLISTEN`.
    Listen,
    /// `PREPARE`, also of a transaction.
    Prepare,
    /// `EXECUTE`.
    Execute,
    /// `DEALLOCATE`.
    Deallocate,
    /// `DISCARD`.
    Discard,
    /// `DO`, `CALL`.
    Call,
    /// Anything else.
    Other,
}

/// What a text may do to its session or transaction: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Touches(u32);

impl Touches {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `SET` or `RESET` of a setting, for longer than the transaction: not `SET LOCAL`, `SET TRANSACTION`, `SET CONSTRAINTS`.
    pub const SET: Self = Self(1);
    /// `set_config(…)`, unless its third argument is the word `true`; an update of `pg_settings`.
    pub const SET_CONFIG: Self = Self(1 << 1);
    /// `LISTEN`.
    pub const LISTEN: Self = Self(1 << 2);
    /// `UNLISTEN`.
    pub const UNLISTEN: Self = Self(1 << 3);
    /// An advisory lock that outlives the transaction.
    pub const LOCK: Self = Self(1 << 4);
    /// Such a lock is given up.
    pub const UNLOCK: Self = Self(1 << 5);
    /// Something temporary is made that outlives the transaction: not with `ON COMMIT DROP`.
    pub const TEMPORARY: Self = Self(1 << 6);
    /// A cursor `WITH HOLD`.
    pub const HOLD: Self = Self(1 << 7);
    /// `CLOSE` of a cursor.
    pub const CLOSE: Self = Self(1 << 8);
    /// `PREPARE` of a statement.
    pub const PREPARE: Self = Self(1 << 9);
    /// `DEALLOCATE`.
    pub const DEALLOCATE: Self = Self(1 << 10);
    /// `DISCARD`.
    pub const DISCARD: Self = Self(1 << 11);
    /// `LOAD` of a library.
    pub const LOAD: Self = Self(1 << 12);
    /// What cannot be seen: `DO`, `CALL`, or a text that leaves a doubt.
    pub const OPAQUE: Self = Self(1 << 13);
    /// A transaction begins: `BEGIN`, `START TRANSACTION`, `COMMIT AND CHAIN`.
    pub const BEGIN: Self = Self(1 << 14);
    /// A transaction ends: `COMMIT`, `END`, `ROLLBACK`, `ABORT`, `PREPARE TRANSACTION`; `COMMIT PREPARED` too.
    pub const END: Self = Self(1 << 15);
    /// `ROLLBACK TO SAVEPOINT`.
    pub const ROLLBACK_TO: Self = Self(1 << 16);
    /// `COPY`.
    pub const COPY: Self = Self(1 << 17);
    /// `DROP`: it may give up a temporary table.
    pub const DROP: Self = Self(1 << 18);
    /// `EXECUTE` of a statement that was prepared with `PREPARE`.
    pub const EXECUTE: Self = Self(1 << 19);

    /// Whether all of `other` is in it.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in it.
    #[inline]
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What is in either.
    #[must_use]
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in it and not in `other`.
    #[must_use]
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Touches {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitOrAssign for Touches {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

/// What [`scan`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// A hash of the text's shape: the same for two texts if [`normalise`] is.
    pub fingerprint: u64,
    /// How many statements there are; empty ones are none.
    pub statements: u32,
    /// What the first one is.
    pub kind: Kind,
    /// What they may do, all together.
    pub touches: Touches,
}

/// Reads a text.
pub fn scan(text: &[u8]) -> Scan {
    let mut lexer = Lexer::new(text);
    let mut fold = Fold::new(Hash::new());
    let mut watch = Watch::new();
    loop {
        let token = lexer.next();
        fold.token(text, &token);
        watch.token(text, &token);
        if token.class == Class::End {
            break;
        }
    }
    let (statements, kind, mut touches) = watch.told();
    if lexer.is_doubtful() {
        touches |= Touches::OPAQUE;
    }
    Scan { fingerprint: fold.into_sink().finish(), statements, kind, touches }
}

/// The shape of a text: values as `?`, lists and rows of them short, words in lower case, white space single, comments gone.
/// At most `most` bytes of it.
pub fn normalise(text: &[u8], most: usize) -> String {
    normal::write(text, most)
}

/// What a `DEALLOCATE` gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deallocate<'a> {
    /// The statement of this name, folded as PostgreSQL folds identifiers but not shortened.
    Name(Cow<'a, [u8]>),
    /// All of them.
    All,
}

/// What is given up by a text that is one `DEALLOCATE` and nothing else; `None` for any other.
pub fn deallocates(text: &[u8]) -> Option<Deallocate<'_>> {
    let mut statement = Only::new(text);
    let first = statement.next()?;
    if !first.is(text, "deallocate") {
        return None;
    }
    let mut name = statement.next()?;
    let mut behind = statement.next();
    if name.is(text, "prepare")
        && let Some(token) = behind
    {
        name = token;
        behind = statement.next();
    }
    if behind.is_some() || !statement.is_only() {
        return None;
    }
    match (name.class, name.of(text)) {
        (Class::Word, word) if word.eq_ignore_ascii_case(b"all") => Some(Deallocate::All),
        (Class::Word, word) if !word.iter().any(u8::is_ascii_uppercase) => Some(Deallocate::Name(Cow::Borrowed(word))),
        (Class::Word, word) => Some(Deallocate::Name(Cow::Owned(word.to_ascii_lowercase()))),
        (Class::Quoted, [b'"', inner @ .., b'"']) => Some(Deallocate::Name(unquoted(inner))),
        _ => None,
    }
}

/// The inside of a quoted identifier, its doubled quotes made single.
fn unquoted(inner: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'"', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == b'"' {
            bytes.next();
        }
    }
    Cow::Owned(out)
}

/// Which settings a text may change for the rest of the session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Their names in lower case, each once. What has a syntax of its own is there by the setting's name: `timezone`,
    /// `client_encoding`, `search_path`, `xmloption`, `role`, `session_authorization`, `default_transaction_…`.
    pub names: Vec<String>,
    /// Whether it may change all that `RESET ALL` changes; not `role` and `session_authorization`.
    pub all: bool,
    /// Whether it may change others that cannot be told.
    pub unknown: bool,
}

/// Which settings a text may change for the rest of the session; for texts with [`Touches::SET`], [`Touches::SET_CONFIG`]
/// or [`Touches::DISCARD`].
pub fn settings(text: &[u8]) -> Settings {
    settings::settings(text)
}

/// Whether a text is one `BEGIN` or `START TRANSACTION`, with any options, and nothing else.
pub fn is_plain_begin(text: &[u8]) -> bool {
    const OPTIONS: [&str; 13] = [
        "work",
        "transaction",
        "isolation",
        "level",
        "serializable",
        "repeatable",
        "read",
        "committed",
        "uncommitted",
        "only",
        "write",
        "not",
        "deferrable",
    ];
    let mut statement = Only::new(text);
    let Some(first) = statement.next() else { return false };
    let is_start = first.is(text, "start");
    if !is_start && !first.is(text, "begin") {
        return false;
    }
    let mut is_first = true;
    while let Some(token) = statement.next() {
        let is_option = token.is_punct(b',') || OPTIONS.iter().any(|option| token.is(text, option));
        if !is_option || (is_first && is_start && !token.is(text, "transaction")) {
            return false;
        }
        is_first = false;
    }
    statement.is_only() && !(is_first && is_start)
}

/// The tokens of a text's first statement.
#[derive(Debug)]
struct Only<'a> {
    lexer: Lexer<'a>,
    /// The first token behind it, once that has been read.
    behind: Option<Token>,
}

impl<'a> Only<'a> {
    fn new(text: &'a [u8]) -> Self {
        let mut only = Self { lexer: Lexer::new(text), behind: None };
        let first = only.skip_semicolons();
        only.behind = Some(first);
        only
    }

    fn skip_semicolons(&mut self) -> Token {
        loop {
            let token = self.lexer.next();
            if !token.is_punct(b';') {
                return token;
            }
        }
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.behind.take().unwrap_or_else(|| self.lexer.next());
        if token.class == Class::End || token.is_punct(b';') {
            self.behind = Some(token);
            return None;
        }
        Some(token)
    }

    /// Whether there is no other statement and no doubt, once [`Only::next`] has said that this one is over.
    fn is_only(&mut self) -> bool {
        self.next().is_none() && self.skip_semicolons().class == Class::End && !self.lexer.is_doubtful()
    }
}
