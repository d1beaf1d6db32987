//! What a text does to its session: one pass over its tokens, statement by statement.
//!
//! [`Watch`] looks at the first word of a statement, and from there on at the words that matter to it; in most statements
//! these are few, and a table of lengths and first letters passes over the others. A semicolon ends a statement unless it
//! stands in parentheses (`CREATE RULE`) or between `BEGIN ATOMIC` and its `END`.
//!
//! [`settings`] says which settings are changed, for a text of which [`Watch`] has said that some are.

use super::lexer::{Class, Lexer, Token, key};
use super::{Kind, Settings, Touches};

/// Most names that [`settings`] tells; a text with more is said to change others.
const NAMES_MAX: usize = 64;
/// Longest name that is told.
const NAME_MAX: usize = 255;
/// Tokens of `SET` that are looked at: a name of four parts behind `SESSION`.
const HEAD: usize = 10;

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
            self.tokens = self.tokens.saturating_add(1);
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
        if self.blocks > 0 || self.call.is_some() {
            self.pending |= Touches::OPAQUE;
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
        let (kind, lead, touches) = lead(token.key, word);
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
fn is_of_transaction(word: &[u8]) -> bool {
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

/// What has been seen of a call of `set_config` behind its name.
#[derive(Debug)]
struct Call {
    depth: u32,
    /// Which argument, from 0.
    argument: u32,
    /// Tokens of the argument.
    tokens: u32,
    name: Option<(usize, usize)>,
    is_true: bool,
}

/// A call of `set_config`.
#[derive(Debug, Clone, Copy)]
struct Called {
    is_local: bool,
    /// Where the literal is that is its first argument.
    name: Option<(usize, usize)>,
}

impl Call {
    const fn new() -> Self {
        Self { depth: 0, argument: 0, tokens: 0, name: None, is_true: false }
    }

    /// Takes a token behind the name; something if that was all of the call, within it what was called.
    fn token(&mut self, text: &[u8], token: &Token) -> Option<Option<Called>> {
        if self.depth == 0 {
            if !token.is_punct(b'(') {
                return Some(None);
            }
            self.depth = 1;
            return None;
        }
        if token.class == Class::End {
            return Some(Some(Called { is_local: false, name: None }));
        }
        if token.class == Class::Punct {
            match token.key as u8 {
                b'(' | b'[' => self.depth += 1,
                b')' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let is_local = self.argument == 2 && self.tokens == 1 && self.is_true;
                        return Some(Some(Called { is_local, name: self.name }));
                    }
                }
                b',' if self.depth == 1 => {
                    self.argument += 1;
                    self.tokens = 0;
                    return None;
                }
                _ => {}
            }
        }
        self.tokens += 1;
        if self.argument == 0 {
            let is_all = self.tokens == 1 && token.class == Class::Text;
            self.name = is_all.then_some((token.start, token.end));
        }
        self.is_true = token.is(text, "true");
        None
    }
}

/// Which settings a text may change for the rest of the session.
pub(super) fn settings(text: &[u8]) -> Settings {
    let mut found = Settings::default();
    let mut lexer = Lexer::new(text);
    let mut head: Vec<Token> = Vec::with_capacity(HEAD);
    let (mut depth, mut has_update) = (0_u32, false);
    let mut call: Option<Call> = None;
    loop {
        let token = lexer.next();
        if let Some(ended) = call.as_mut().and_then(|call| call.token(text, &token)) {
            call = None;
            if let Some(called) = ended.filter(|called| !called.is_local) {
                found.add(called.name.and_then(|(start, end)| literal(&text[start..end])));
            }
        }
        match token.class {
            Class::Punct if token.key == u64::from(b'(') => depth += 1,
            Class::Punct if token.key == u64::from(b')') => depth = depth.saturating_sub(1),
            Class::Word | Class::Quoted => {
                let name = identifier(token.of(text)).unwrap_or_default();
                has_update |= name == "update";
                found.unknown |= has_update && name == "pg_settings";
                if name == "set_config" {
                    found.unknown |= call.is_some();
                    call.get_or_insert(Call::new());
                }
            }
            _ => {}
        }
        if token.class == Class::End || (token.is_punct(b';') && depth == 0) {
            statement(text, &head, &mut found);
            head.clear();
            has_update = false;
        } else if head.len() < HEAD {
            head.push(token);
        }
        if token.class == Class::End {
            found.unknown |= lexer.is_doubtful();
            return found;
        }
    }
}

/// Adds what a statement changes, of which these are the first tokens.
fn statement(text: &[u8], head: &[Token], found: &mut Settings) {
    let is = |at: usize, word: &str| head.get(at).is_some_and(|token| token.is(text, word));
    let is_point = |at: usize| head.get(at).is_some_and(|token| token.is_punct(b'.'));
    let (is_set, is_reset) = (is(0, "set"), is(0, "reset"));
    if is(0, "discard") && is(1, "all") {
        found.all = true;
        ["role", "session_authorization"].into_iter().for_each(|name| found.add(Some(name.to_owned())));
    }
    if !is_set && !is_reset {
        return;
    }
    if is_reset && is(1, "all") && !is_point(2) {
        found.all = true;
        return;
    }
    if is_set && is(1, "local") && !is_point(2) {
        return;
    }
    let has_session = is_set && is(1, "session") && !is_point(2);
    // `SESSION` may be the first word of a name of two words.
    let at = if has_session && !is(2, "authorization") && !is(2, "characteristics") { 2 } else { 1 };
    let names: &[&str] = if is_point(at + 1) {
        &[]
    } else if is(at, "time") && is(at + 1, "zone") {
        &["timezone"]
    } else if is(at, "names") {
        &["client_encoding"]
    } else if is(at, "schema") {
        &["search_path"]
    } else if is(at, "xml") {
        &["xmloption"]
    } else if is(at, "session") && is(at + 1, "authorization") {
        &["session_authorization"]
    } else if is(at, "session") && is(at + 1, "characteristics") {
        &["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"]
    } else if head.get(at).is_some_and(|token| is_of_transaction(token.of(text))) {
        return;
    } else {
        &[]
    };
    if names.is_empty() {
        found.add(dotted(text, &head[at.min(head.len())..], head.len() == HEAD));
    }
    names.iter().for_each(|name| found.add(Some((*name).to_owned())));
}

/// A name of one or more parts at the start of `tokens`, in lower case; `is_cut`: there may be more of them.
fn dotted(text: &[u8], tokens: &[Token], is_cut: bool) -> Option<String> {
    let mut name = String::new();
    let mut at = 0;
    loop {
        let part = tokens.get(at).filter(|token| matches!(token.class, Class::Word | Class::Quoted))?;
        name.push_str(&identifier(part.of(text))?);
        match tokens.get(at + 1) {
            Some(token) if token.is_punct(b'.') => name.push('.'),
            None if is_cut => return None,
            _ => return Some(name.to_lowercase()),
        }
        at += 2;
    }
}

/// An identifier as PostgreSQL folds it; none if it has escapes or is not UTF-8.
pub(super) fn identifier(token: &[u8]) -> Option<String> {
    match token {
        [b'"', inner @ .., b'"'] => Some(std::str::from_utf8(inner).ok()?.replace("\"\"", "\"")),
        [b'"', ..] | [b'u' | b'U', b'&', ..] => None,
        word => Some(std::str::from_utf8(word).ok()?.to_ascii_lowercase()),
    }
}

/// The value of a string literal; none if it has escapes, goes on after a line break or is not UTF-8.
fn literal(token: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(token).ok()?;
    if let Some(inner) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        let value = inner.replace("''", "\u{0}");
        return (!value.contains('\'')).then(|| value.replace('\u{0}', "'"));
    }
    let tag = text.strip_prefix('$')?.find('$')? + 2;
    text.get(tag..text.len().checked_sub(tag)?).map(str::to_owned)
}

impl Settings {
    /// Adds a name; none stands for one that cannot be told.
    fn add(&mut self, name: Option<String>) {
        match name.filter(|name| !name.is_empty() && name.len() <= NAME_MAX && self.names.len() < NAMES_MAX) {
            None => self.unknown = true,
            Some(name) => {
                let name = name.to_lowercase();
                if !self.names.contains(&name) {
                    self.names.push(name);
                }
            }
        }
    }
}
