//! The shape of a text: the same for texts that differ in values, white space, comments and case only.
//!
//! [`Fold`] decides what is shown, as a stream of pieces; one [`Sink`] hashes it, another writes it. Two texts are hashed
//! alike because they are written alike.
//!
//! | in the text | in the shape |
//! | --- | --- |
//! | a string or a number, with its sign | `?` |
//! | `in (1, $2, 'x'::text)`, `array[1, 2]` | `in (...)`, `array[...]` |
//! | `values (1, 2), (3, f(4))` | `values (?, ?),...`: rows behind the first are left out whatever is in them |
//! | keywords and identifiers without quotes | in lower case |
//! | `$1`, operators, identifiers in quotes | as they are |
//! | empty statements, a semicolon at the end | nothing |
//! | a byte that begins no token | `\` |
//!
//! The hash is fast, without a secret, and the same in every process: it tells shapes apart for statistics. Whoever looks
//! for two shapes with one hash will find them.

use super::lexer::{Class, Lexer, Token, key, load, lower};

/// Takes the pieces of a shape.
pub(super) trait Sink {
    /// What can be gone back to.
    type Mark: Copy;

    /// A word, whose first eight bytes in lower case are `key`.
    fn word(&mut self, key: u64, bytes: &[u8]);
    /// An identifier in quotes, or a parameter.
    fn exact(&mut self, bytes: &[u8]);
    /// An operator, or a stray byte, whose first eight bytes are `key`.
    fn operator(&mut self, key: u64, bytes: &[u8]);
    /// `::`
    fn cast(&mut self);
    /// A value.
    fn value(&mut self);
    /// Punctuation.
    fn punct(&mut self, byte: u8);
    /// Where the shape is now.
    fn mark(&self) -> Self::Mark;
    /// Back to where it was.
    fn rewind(&mut self, mark: Self::Mark);
}

#[derive(Debug, Clone, Copy)]
enum List<M> {
    None,
    /// Behind `in` or `array`.
    Opens(u8),
    /// Within the list, of which only values have been seen. `is_type`: behind `::`.
    Items {
        start: M,
        has_value: bool,
        is_type: bool,
    },
    /// Behind `values`.
    Values,
    /// Within the first row.
    First {
        depth: u32,
    },
    /// Behind a row.
    Between {
        is_cut: bool,
    },
    /// Behind the comma that follows a row.
    Comma {
        start: M,
        is_cut: bool,
    },
    /// Within a row behind the first.
    Next {
        start: M,
        is_cut: bool,
        depth: u32,
    },
}

#[derive(Debug, Clone, Copy)]
enum Last {
    Operand,
    Word(u64),
    Other,
}

/// Words behind which a sign is part of a number; each shorter than eight bytes, so that its key is no longer word's.
const BEFORE_SIGN: [u64; 19] = [
    key("select"),
    key("and"),
    key("or"),
    key("not"),
    key("when"),
    key("then"),
    key("else"),
    key("case"),
    key("between"),
    key("limit"),
    key("offset"),
    key("by"),
    key("where"),
    key("on"),
    key("having"),
    key("return"),
    key("like"),
    key("to"),
    key("in"),
];

/// Turns tokens into the pieces of a shape.
#[derive(Debug)]
pub(super) struct Fold<S: Sink> {
    sink: S,
    list: List<S::Mark>,
    last: Last,
    sign: Option<u8>,
    has_semicolon: bool,
    is_empty: bool,
}

impl<S: Sink> Fold<S> {
    pub(super) const fn new(sink: S) -> Self {
        Self { sink, list: List::None, last: Last::Other, sign: None, has_semicolon: false, is_empty: true }
    }

    pub(super) fn into_sink(self) -> S {
        self.sink
    }

    /// Takes the next token; [`Class::End`] is the last.
    #[inline]
    pub(super) fn token(&mut self, text: &[u8], token: &Token) {
        if token.is_punct(b';') {
            self.put_sign();
            self.has_semicolon = !self.is_empty;
            self.list = List::None;
            self.last = Last::Other;
            return;
        }
        if token.class == Class::End {
            return self.put_sign();
        }
        self.is_empty = false;
        if self.has_semicolon {
            self.has_semicolon = false;
            self.sink.punct(b';');
        }
        if self.sign.is_some() {
            if token.class == Class::Number {
                self.sign = None;
            } else {
                self.put_sign();
            }
        }
        if token.class == Class::Operator && token.end - token.start == 1 && self.is_sign(token) {
            self.sign = Some(token.key as u8);
            return;
        }
        if !matches!(self.list, List::None) && self.listed(token) {
            return;
        }
        self.put(text, token);
    }

    #[inline]
    fn put(&mut self, text: &[u8], token: &Token) {
        match token.class {
            Class::Word => {
                self.sink.word(token.key, token.of(text));
                self.last = Last::Word(token.key);
                if matches!(self.list, List::None) {
                    self.list = match (token.key, token.end - token.start) {
                        (IN, 2) => List::Opens(b'('),
                        (ARRAY, 5) => List::Opens(b'['),
                        (VALUES, 6) => List::Values,
                        _ => List::None,
                    };
                }
                return;
            }
            Class::Punct => {
                self.sink.punct(token.key as u8);
                self.last = if matches!(token.key as u8, b')' | b']') { Last::Operand } else { Last::Other };
                return;
            }
            Class::Text | Class::Number => self.sink.value(),
            Class::Quoted | Class::Parameter => self.sink.exact(token.of(text)),
            Class::Operator => {
                self.sink.operator(token.key, token.of(text));
                self.last = Last::Other;
                return;
            }
            Class::Cast => self.sink.cast(),
            Class::Stray => self.sink.operator(u64::from(b'\\'), b"\\"),
            Class::End => {}
        }
        self.last = Last::Operand;
    }

    fn is_sign(&self, token: &Token) -> bool {
        matches!(token.key as u8, b'+' | b'-')
            && match self.last {
                Last::Operand => false,
                Last::Word(key) => BEFORE_SIGN.contains(&key),
                Last::Other => true,
            }
    }

    /// The sign that turned out to be an operator.
    fn put_sign(&mut self) {
        let Some(byte) = self.sign.take() else { return };
        if !matches!(self.list, List::First { .. } | List::Next { .. }) {
            self.list = List::None;
        }
        self.sink.operator(u64::from(byte), &[byte]);
        self.last = Last::Other;
    }

    /// A token where a list may be; whether it has been dealt with.
    fn listed(&mut self, token: &Token) -> bool {
        let opens = token.is_punct(b'(');
        let closes = token.is_punct(b')');
        match self.list {
            List::None => {}
            List::Opens(byte) => {
                self.list = List::None;
                if token.is_punct(byte) {
                    self.open(byte);
                    self.list = List::Items { start: self.sink.mark(), has_value: false, is_type: false };
                    return true;
                }
            }
            List::Items { start, has_value, is_type } => {
                self.list = match token.class {
                    Class::Text | Class::Number | Class::Parameter => {
                        List::Items { start, has_value: true, is_type: false }
                    }
                    Class::Cast => List::Items { start, has_value, is_type: true },
                    Class::Word if is_type => self.list,
                    Class::Punct if token.key == u64::from(b',') => List::Items { start, has_value, is_type: false },
                    _ => List::None,
                };
                if has_value && (closes || token.is_punct(b']')) {
                    self.sink.rewind(start);
                    self.dots();
                }
            }
            List::Values => {
                self.list = if opens { List::First { depth: 1 } } else { List::None };
            }
            List::First { depth } => match depth + u32::from(opens) - u32::from(closes) {
                0 => self.list = List::Between { is_cut: false },
                depth => self.list = List::First { depth },
            },
            List::Between { is_cut } => {
                self.list = List::None;
                if token.is_punct(b',') {
                    let start = self.sink.mark();
                    self.sink.punct(b',');
                    self.last = Last::Other;
                    self.list = List::Comma { start, is_cut };
                    return true;
                }
            }
            List::Comma { start, is_cut } => {
                self.list = if opens { List::Next { start, is_cut, depth: 1 } } else { List::None };
            }
            List::Next { start, is_cut, depth } => match depth + u32::from(opens) - u32::from(closes) {
                0 => {
                    self.sink.rewind(start);
                    if !is_cut {
                        self.sink.punct(b',');
                        self.dots();
                    }
                    self.list = List::Between { is_cut: true };
                    self.last = Last::Operand;
                    return true;
                }
                depth => self.list = List::Next { start, is_cut, depth },
            },
        }
        false
    }

    fn open(&mut self, byte: u8) {
        self.sink.punct(byte);
        self.last = Last::Other;
    }

    fn dots(&mut self) {
        for _ in 0..3 {
            self.sink.punct(b'.');
        }
    }
}

const IN: u64 = key("in");
const ARRAY: u64 = key("array");
const VALUES: u64 = key("values");

/// Hashes a shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash(u64);

/// The fractional part of the golden ratio: odd, and without a pattern.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Sets the second and later parts of a piece apart from pieces of their own.
const MORE: u64 = 0x8ebc_6af0_9c88_c6e3;

impl Hash {
    pub(super) const fn new() -> Self {
        Self(0x5bd1_e995_27d4_eb2f)
    }

    pub(super) const fn finish(self) -> u64 {
        self.0
    }

    #[inline]
    const fn mix(&mut self, part: u64) {
        let product = (self.0 ^ part) as u128 * FACTOR as u128;
        // The sum, so that a half that is zero does not wipe out the other.
        self.0 = ((product >> 64) as u64).wrapping_add(product as u64).rotate_left(29);
    }

    fn more(&mut self, bytes: &[u8], fold: fn(u64) -> u64) {
        let mut at = 8;
        while at < bytes.len() {
            let end = bytes.len().min(at + 8);
            self.mix(fold(load(bytes, at, end)) ^ MORE);
            at = end;
        }
    }
}

impl Sink for Hash {
    type Mark = u64;

    #[inline]
    fn word(&mut self, key: u64, bytes: &[u8]) {
        self.mix(key);
        if bytes.len() > 8 {
            self.more(bytes, lower);
        }
    }

    fn exact(&mut self, bytes: &[u8]) {
        self.mix(load(bytes, 0, bytes.len().min(8)));
        self.more(bytes, |part| part);
        // It may end with zero bytes, which a part is filled up with.
        self.mix(bytes.len() as u64 ^ MORE);
    }

    #[inline]
    fn operator(&mut self, key: u64, bytes: &[u8]) {
        self.mix(key);
        if bytes.len() > 8 {
            self.more(bytes, |part| part);
        }
    }

    fn cast(&mut self) {
        self.mix(key("::"));
    }

    fn value(&mut self) {
        self.mix(u64::from(b'?'));
    }

    #[inline]
    fn punct(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn mark(&self) -> u64 {
        self.0
    }

    fn rewind(&mut self, mark: u64) {
        self.0 = mark;
    }
}

/// What was written last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Glue {
    /// Nothing, or what stands close to what follows.
    Tight,
    /// `::`, close to all but an operator.
    Cast,
    /// A name that may be a function's.
    Name,
    Operator,
    Loose,
}

/// Words before a parenthesis that are no functions.
const BEFORE_PARENTHESIS: [u64; 22] = [
    key("in"),
    key("values"),
    key("and"),
    key("or"),
    key("not"),
    key("as"),
    key("on"),
    key("using"),
    key("from"),
    key("join"),
    key("where"),
    key("having"),
    key("select"),
    key("union"),
    key("over"),
    key("filter"),
    key("by"),
    key("when"),
    key("then"),
    key("else"),
    key("like"),
    key("with"),
];

/// Writes a shape, up to a length.
#[derive(Debug)]
pub(super) struct Write {
    out: Vec<u8>,
    most: usize,
    is_full: bool,
    glue: Glue,
}

impl Write {
    pub(super) const fn new(most: usize) -> Self {
        Self { out: Vec::new(), most, is_full: false, glue: Glue::Tight }
    }

    /// What was written. What is not UTF-8 is replaced.
    pub(super) fn finish(mut self) -> String {
        if self.is_full
            && let Err(error) = std::str::from_utf8(&self.out)
            && error.error_len().is_none()
        {
            self.out.truncate(error.valid_up_to());
        }
        let mut out =
            String::from_utf8(self.out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        out.truncate(out.floor_char_boundary(self.most));
        out
    }

    fn put(&mut self, bytes: &[u8], glue: Glue, is_spaced: bool) {
        if is_spaced {
            self.raw(b" ");
        }
        self.raw(bytes);
        self.glue = glue;
    }

    fn raw(&mut self, bytes: &[u8]) {
        if self.is_full {
            return;
        }
        let room = self.most - self.out.len();
        self.is_full = bytes.len() > room;
        self.out.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn is_tight(&self) -> bool {
        matches!(self.glue, Glue::Tight | Glue::Cast)
    }
}

impl Sink for Write {
    type Mark = (usize, bool, Glue);

    fn word(&mut self, key: u64, bytes: &[u8]) {
        let is_name = bytes.len() > 8 || !BEFORE_PARENTHESIS.contains(&key);
        let glue = if is_name { Glue::Name } else { Glue::Loose };
        // No more than can be shown of a word that may be long.
        let shown = &bytes[..bytes.len().min(self.most + 1)];
        self.put(&shown.to_ascii_lowercase(), glue, !self.is_tight());
    }

    fn exact(&mut self, bytes: &[u8]) {
        let glue = if bytes[0] == b'$' { Glue::Loose } else { Glue::Name };
        self.put(bytes, glue, !self.is_tight());
    }

    fn operator(&mut self, _: u64, bytes: &[u8]) {
        self.put(bytes, Glue::Operator, self.glue != Glue::Tight);
    }

    fn cast(&mut self) {
        self.put(b"::", Glue::Cast, matches!(self.glue, Glue::Operator | Glue::Cast));
    }

    fn value(&mut self) {
        self.put(b"?", Glue::Loose, !self.is_tight());
    }

    fn punct(&mut self, byte: u8) {
        let glue = if matches!(byte, b'(' | b'[' | b'.') { Glue::Tight } else { Glue::Loose };
        let is_spaced = byte == b'(' && !self.is_tight() && self.glue != Glue::Name;
        self.put(&[byte], glue, is_spaced);
    }

    fn mark(&self) -> Self::Mark {
        (self.out.len(), self.is_full, self.glue)
    }

    fn rewind(&mut self, (length, is_full, glue): Self::Mark) {
        self.out.truncate(length);
        self.is_full = is_full;
        self.glue = glue;
    }
}

/// The shape of a text, up to `most` bytes.
pub(super) fn write(text: &[u8], most: usize) -> String {
    let mut lexer = Lexer::new(text);
    let mut fold = Fold::new(Write::new(most));
    loop {
        let token = lexer.next();
        fold.token(text, &token);
        if token.class == Class::End {
            return fold.into_sink().finish();
        }
    }
}
