//! What a text does to its session: one pass over its tokens, statement by statement.
//!
//! [`Watch`] looks at the first word of a statement, and from there on at the words that matter to it; in most statements
//! these are few, and a table of lengths and first letters passes over the others. A semicolon ends a statement unless it
//! stands in parentheses (`CREATE RULE`) or between `BEGIN ATOMIC` and its `END`.

use super::bytes::key;
use super::call::Call;
use super::lexer::{Class, Token};
use super::{Kind, Touches};

/// How the words behind the first are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// No word yet.
    Undecided,
    /// Behind `EXPLAIN`, before what is explained.
    Explain,
    Other,
    Set,
    Create,
    Declare,
    Commit,
    Prepare,
}

/// Words that matter in any statement.
const MARKED: [&str; 13] = [
    "temp",
    "temporary",
    "pg_temp",
    "update",
    "pg_settings",
    "set_config",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_advisory_unlock_all",
];

/// By length: a bit for each first letter of a word that matters. A temporary schema's number may have six digits.
static IS_MARKED: [u32; 32] = marked();

const fn marked() -> [u32; 32] {
    let mut out = [0; 32];
    let mut i = 0;
    while i < MARKED.len() {
        let word = MARKED[i].as_bytes();
        out[word.len()] |= 1 << (word[0] & 31);
        i += 1;
    }
    let mut length = "pg_temp_".len();
    while length < 16 {
        out[length] |= 1 << (b'p' & 31);
        length += 1;
    }
    out
}

#[inline]
fn may_matter(length: usize, first: u8) -> bool {
    IS_MARKED.get(length).is_some_and(|letters| letters & (1 << (first & 31)) != 0)
}

/// Watches the tokens of a text.
#[derive(Debug)]
pub(super) struct Watch {
    touches: Touches,
    statements: u32,
    kind: Kind,
    /// Of the statement so far.
    pending: Touches,
    lead: Lead,
    /// How many tokens it has; no more than 255 are counted.
    tokens: u8,
    depth: u32,
    /// Keys of the last two tokens, as far as they have one.
    before: [u64; 2],
    /// `BEGIN ATOMIC` and `CASE` that are open.
    blocks: u32,
    /// `CREATE`: what may stand before `TEMPORARY`; any: a word `UPDATE` has been seen; `CREATE`: a word `AS`.
    is_open: bool,
    has_update: bool,
    has_as: bool,
    /// `SET`: which token says that it is for the transaction only.
    brief_at: u8,
    call: Option<Call>,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Self {
            touches: Touches::NONE,
            statements: 0,
            kind: Kind::Empty,
            pending: Touches::NONE,
            lead: Lead::Undecided,
            tokens: 0,
            depth: 0,
            before: [0; 2],
            blocks: 0,
            is_open: false,
            has_update: false,
            has_as: false,
            brief_at: 0,
            call: None,
        }
    }

    /// What the text is and does, once [`Class::End`] has been taken.
    pub(super) const fn told(&self) -> (u32, Kind, Touches) {
        (self.statements, self.kind, self.touches)
    }

    /// Takes the next token; [`Class::End`] is the last.
    #[inline]
    pub(super) fn token(&mut self, text: &[u8], token: &Token) {
        if self.call.is_some() {
            self.called(text, token);
        }
        if token.class == Class::Word {
            self.tokens = self.tokens.saturating_add(1);
            if matches!(self.lead, Lead::Undecided | Lead::Explain) {
                self.first(text, token);
            } else {
                if self.lead != Lead::Other {
                    self.within(text, token);
                }
                if may_matter(token.end - token.start, text[token.start]) {
                    self.named(token.of(text));
                }
            }
        } else if token.is_punct(b';') || token.class == Class::End {
            if token.class == Class::End || (self.depth == 0 && self.blocks == 0) {
                return self.end();
            }
        } else {
            // Parentheses before the first word are not counted: a word's place is told from that one.
            if !(self.lead == Lead::Undecided && token.is_punct(b'(')) {
                self.tokens = self.tokens.saturating_add(1);
            }
            self.other(text, token);
        }
        self.before = [self.before[1], token.key];
    }

    fn end(&mut self) {
        if self.tokens == 0 {
            return;
        }
        self.statements = self.statements.saturating_add(1);
        if self.kind == Kind::Empty {
            self.kind = Kind::Other;
        }
        // Neither has ended, which the server does not take.
        if self.blocks > 0 {
            self.pending |= Touches::OPAQUE;
        }
        if self.call.is_some() {
            self.pending |= Touches::SET_CONFIG;
        }
        self.touches |= self.pending;
        *self = Self { touches: self.touches, statements: self.statements, kind: self.kind, ..Self::new() };
    }

    /// A token that is no word and does not end the statement.
    #[inline]
    fn other(&mut self, text: &[u8], token: &Token) {
        match token.class {
            Class::Punct => match token.key as u8 {
                b'(' => self.depth += 1,
                b')' => self.depth = self.depth.saturating_sub(1),
                // `SET local.x = 1`: it was a name after all.
                b'.' if self.brief_at > 0 && self.tokens == self.brief_at + 1 => self.pending |= Touches::SET,
                _ => {}
            },
            Class::Quoted => {
                let name = token.of(text);
                let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name);
                if self.lead != Lead::Undecided && may_matter(name.len(), name.first().copied().unwrap_or(0)) {
                    // In quotes, case matters, and what is not a name in lower case is another name.
                    if !name.iter().any(u8::is_ascii_uppercase) && !matches!(name, b"temp" | b"temporary" | b"update") {
                        self.named(name);
                    }
                }
            }
            Class::Text if self.lead == Lead::Prepare && self.tokens == 3 && self.before[1] == TRANSACTION => {
                self.pending = Touches::END;
            }
            _ => {}
        }
        if self.lead == Lead::Undecided && !token.is_punct(b'(') {
            self.lead = Lead::Other;
        }
    }

    /// The first word of a statement, or a word behind `EXPLAIN`.
    #[inline]
    fn first(&mut self, text: &[u8], token: &Token) {
        let word = token.of(text);
        if self.lead == Lead::Explain
            && (self.depth > 0
                || matches!(token.key, k if k == key("analyze") || k == key("analyse") || k == key("verbose")))
        {
            if may_matter(word.len(), word[0]) {
                self.named(word);
            }
            return;
        }
        let (kind, mut lead, mut touches) = lead(token.key, word);
        if self.lead == Lead::Explain && !matches!(lead, Lead::Create | Lead::Declare) {
            // Of the others only what EXECUTE runs can be explained and does something.
            lead = Lead::Other;
            touches = if touches == Touches::EXECUTE { touches } else { Touches::NONE };
        }
        if self.kind == Kind::Empty {
            self.kind = kind;
        }
        self.lead = lead;
        self.pending |= touches;
        self.is_open = true;
        self.has_update = kind == Kind::Update;
    }

    /// A word of a statement whose words mean something.
    fn within(&mut self, text: &[u8], token: &Token) {
        let (word, k) = (token.of(text), token.key);
        match self.lead {
            Lead::Set => self.within_set(word, k),
            Lead::Create => self.within_create(word, k),
            Lead::Declare => {
                if k == key("hold") && self.before[1] == key("with") {
                    self.pending |= Touches::HOLD;
                } else if k == key("for") {
                    self.lead = Lead::Other;
                }
            }
            Lead::Commit => {
                if k == key("chain") && self.before[1] == key("and") {
                    self.pending |= Touches::BEGIN;
                } else if k == key("to") && word.len() == 2 && self.tokens <= 3 {
                    self.pending = Touches::ROLLBACK_TO;
                    self.lead = Lead::Other;
                }
            }
            Lead::Prepare => match self.tokens {
                // With a text behind it, it is the end of a transaction; else a statement of that name.
                2 if k == TRANSACTION => {}
                _ => self.lead = Lead::Other,
            },
            Lead::Undecided | Lead::Explain | Lead::Other => {}
        }
    }

    fn within_set(&mut self, word: &[u8], k: u64) {
        let is_name = match self.tokens {
            2 => true,
            3 => self.before[1] == key("session"),
            _ => {
                self.lead = Lead::Other;
                return;
            }
        };
        if !is_name {
            return;
        }
        let is_brief = (self.tokens == 2 && k == key("local")) || is_of_transaction(word);
        if is_brief {
            self.brief_at = self.tokens;
            self.pending = self.pending.without(Touches::SET);
        }
    }

    fn within_create(&mut self, word: &[u8], k: u64) {
        if self.blocks > 0 {
            // A word behind `AS` or a point is a name, whatever it is.
            if self.before[1] != key("as") && self.before[1] != u64::from(b'.') {
                if k == key("case") {
                    self.blocks += 1;
                } else if k == key("end") {
                    self.blocks -= 1;
                }
            }
            return;
        }
        if self.is_open {
            if is_temporary(word) {
                self.pending |= Touches::TEMPORARY;
            }
            self.is_open = [key("or"), key("replace"), key("global"), key("local")].contains(&k);
        }
        if self.depth > 0 {
            return;
        }
        if k == key("drop") && self.before == [key("on"), key("commit")] && !self.has_as {
            self.pending = self.pending.without(Touches::TEMPORARY);
        } else if k == key("as") {
            self.has_as = true;
        } else if k == key("execute") && self.before[1] == key("as") {
            self.pending |= Touches::EXECUTE;
        } else if k == key("atomic") && self.before[1] == key("begin") {
            self.blocks = 1;
        }
    }

    /// A word, or a name without its quotes, that may be one of [`MARKED`].
    #[cold]
    fn named(&mut self, word: &[u8]) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is_temporary(word) {
            if self.is_made_into() {
                self.pending |= Touches::TEMPORARY;
            }
        } else if word.len() >= 7 && word[..7].eq_ignore_ascii_case(b"pg_temp") {
            if self.lead == Lead::Create || self.is_made_into() {
                self.pending |= Touches::TEMPORARY;
            }
        } else if is("update") {
            self.has_update = true;
        } else if is("pg_settings") {
            if self.has_update {
                self.pending |= Touches::SET_CONFIG;
            }
        } else if is("set_config") {
            if self.call.is_some() {
                self.pending |= Touches::SET_CONFIG;
            } else {
                self.call = Some(Call::new());
            }
        } else if ["pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all"].iter().any(|n| is(n)) {
            self.pending |= Touches::UNLOCK;
        } else if MARKED[6..10].iter().any(|name| is(name)) {
            self.pending |= Touches::LOCK;
        }
    }

    /// Whether the next word names what `SELECT … INTO` makes. `INSERT INTO temp` means a table of that name.
    fn is_made_into(&self) -> bool {
        match self.before {
            [before, last] if last == key("into") => before != key("insert") && before != key("merge"),
            before => before == [key("into"), key("table")],
        }
    }

    #[cold]
    fn called(&mut self, text: &[u8], token: &Token) {
        let Some(call) = &mut self.call else { return };
        match call.token(text, token) {
            None => {}
            Some(ended) => {
                self.call = None;
                if ended.is_some_and(|ended| !ended.is_local) {
                    self.pending |= Touches::SET_CONFIG;
                }
            }
        }
    }
}

/// Whether `SET` of this is for the transaction only, whatever stands before it.
pub(super) fn is_of_transaction(word: &[u8]) -> bool {
    ["constraints", "transaction", "transaction_isolation", "transaction_read_only", "transaction_deferrable"]
        .iter()
        .any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}

const TRANSACTION: u64 = key("transaction");

fn is_temporary(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"temp") || word.eq_ignore_ascii_case(b"temporary")
}

/// What the first word of a statement says.
#[inline]
fn lead(k: u64, word: &[u8]) -> (Kind, Lead, Touches) {
    const SELECT: u64 = key("select");
    const INSERT: u64 = key("insert");
    const UPDATE: u64 = key("update");
    const DELETE: u64 = key("delete");
    const BEGIN: u64 = key("begin");
    const COMMIT: u64 = key("commit");
    const END: u64 = key("end");
    // The eight bytes of these are all of them.
    match k {
        SELECT => return (Kind::Select, Lead::Other, Touches::NONE),
        BEGIN => return (Kind::Begin, Lead::Other, Touches::BEGIN),
        COMMIT | END => return (Kind::Commit, Lead::Commit, Touches::END),
        INSERT => return (Kind::Insert, Lead::Other, Touches::NONE),
        UPDATE => return (Kind::Update, Lead::Other, Touches::NONE),
        DELETE => return (Kind::Delete, Lead::Other, Touches::NONE),
        _ => {}
    }
    rare_lead(word)
}

fn rare_lead(word: &[u8]) -> (Kind, Lead, Touches) {
    let mut folded = [0; 10];
    let Some(folded) = folded.get_mut(..word.len()) else { return (Kind::Other, Lead::Other, Touches::NONE) };
    folded.copy_from_slice(word);
    folded.make_ascii_lowercase();
    match &*folded {
        b"start" => (Kind::Begin, Lead::Other, Touches::BEGIN),
        b"rollback" | b"abort" => (Kind::Rollback, Lead::Commit, Touches::END),
        b"savepoint" | b"release" => (Kind::Savepoint, Lead::Other, Touches::NONE),
        b"with" => (Kind::With, Lead::Other, Touches::NONE),
        b"values" | b"table" => (Kind::Select, Lead::Other, Touches::NONE),
        b"merge" => (Kind::Merge, Lead::Other, Touches::NONE),
        b"copy" => (Kind::Copy, Lead::Other, Touches::COPY),
        b"set" => (Kind::Set, Lead::Set, Touches::SET),
        b"reset" => (Kind::Set, Lead::Other, Touches::SET),
        b"show" => (Kind::Show, Lead::Other, Touches::NONE),
        b"explain" => (Kind::Explain, Lead::Explain, Touches::NONE),
        b"create" => (Kind::Create, Lead::Create, Touches::NONE),
        b"alter" => (Kind::Alter, Lead::Other, Touches::NONE),
        b"drop" => (Kind::Drop, Lead::Other, Touches::DROP),
        b"declare" => (Kind::Declare, Lead::Declare, Touches::NONE),
        b"fetch" | b"move" => (Kind::Fetch, Lead::Other, Touches::NONE),
        b"close" => (Kind::Close, Lead::Other, Touches::CLOSE),
        b"listen" => (Kind::Listen, Lead::Other, Touches::LISTEN),
        b"unlisten" => (Kind::Listen, Lead::Other, Touches::UNLISTEN),
        b"prepare" => (Kind::Prepare, Lead::Prepare, Touches::PREPARE),
        b"execute" => (Kind::Execute, Lead::Other, Touches::EXECUTE),
        b"deallocate" => (Kind::Deallocate, Lead::Other, Touches::DEALLOCATE),
        b"discard" => (Kind::Discard, Lead::Other, Touches::DISCARD),
        b"load" => (Kind::Other, Lead::Other, Touches::LOAD),
        b"do" | b"call" => (Kind::Call, Lead::Other, Touches::OPAQUE),
        _ => (Kind::Other, Lead::Other, Touches::NONE),
    }
}
