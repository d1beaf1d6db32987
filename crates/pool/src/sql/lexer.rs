//! PostgreSQL's lexer, as far as boundaries and classes of tokens go: no values are decoded, nothing is allocated, and any
//! bytes have some reading.
//!
//! Follows `src/backend/parser/scan.l` with `standard_conforming_strings` on: strings that go on after a line break, `E''`,
//! `U&''`, dollar quotes, nested comments, operators that end before a comment or a sign. Where versions differ (`0x1f`,
//! `1_000`, `1abc`), the later reading is taken, and what an earlier one would read otherwise is a doubt.
//!
//! A text with a [doubt](Lexer::is_doubtful) may mean something else to the server: it has a quote or a comment without an
//! end, an identifier with escapes, or a number that runs into a word.

use memchr::memchr2;

use super::bytes::{Byte, IN_WORD, class, find, is_newline, is_space, load, lower};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A keyword or an identifier without quotes.
    Word,
    /// An identifier in quotes.
    Quoted,
    /// A string of any kind; also the operator `?`, which is how a shape writes values, so that it can be read again.
    Text,
    /// A number.
    Number,
    /// `$1`.
    Parameter,
    /// An operator.
    Operator,
    /// `::`.
    Cast,
    /// One of `( ) [ ] , ; .`.
    Punct,
    /// A byte that begins no token.
    Stray,
    /// The end of the text.
    End,
}

/// A token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub class: Class,
    /// For a word or an operator its first eight bytes in lower case, as [`key`](super::bytes::key) has them; for punctuation the byte; else 0.
    pub key: u64,
    pub start: usize,
    pub end: usize,
}

impl Token {
    pub(super) fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start..self.end]
    }

    /// Whether it is this word, which is in lower case.
    pub(super) fn is(&self, text: &[u8], word: &str) -> bool {
        self.class == Class::Word && self.of(text).eq_ignore_ascii_case(word.as_bytes())
    }

    #[inline]
    pub(super) fn is_punct(&self, byte: u8) -> bool {
        self.class == Class::Punct && self.key == byte as u64
    }
}

/// Tells the tokens of a text, one by one.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    doubtful: bool,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, doubtful: false }
    }

    /// Whether what has been read may mean something else to the server.
    pub(super) const fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    #[inline]
    fn peek(&self, ahead: usize) -> u8 {
        // A zero byte is a stray one, as the end is.
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The next token; [`Class::End`] for ever at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Token {
        // What comes most often comes first, by branches that a processor learns.
        if self.peek(0) == b' ' {
            self.at += 1;
        }
        if class(self.peek(0)) == Byte::Letter {
            return self.word();
        }
        loop {
            let Some(&byte) = self.text.get(self.at) else { return self.token(Class::End, 0, self.at) };
            let start = self.at;
            return match class(byte) {
                Byte::Space => {
                    self.at += 1;
                    continue;
                }
                Byte::Letter => self.word(),
                Byte::Punct if byte == b'.' && self.peek(1).is_ascii_digit() => self.number(),
                Byte::Punct => {
                    self.at += 1;
                    self.token(Class::Punct, u64::from(byte), start)
                }
                Byte::Digit => self.number(),
                Byte::Operator => {
                    if (byte == b'-' && self.peek(1) == b'-') || (byte == b'/' && self.peek(1) == b'*') {
                        self.comment();
                        continue;
                    }
                    self.operator()
                }
                Byte::Quote => self.string(false),
                Byte::DoubleQuote => self.quoted(start),
                Byte::Dollar => self.dollar(),
                Byte::Colon => self.colon(),
                Byte::Stray => {
                    self.at += 1;
                    self.token(Class::Stray, 0, start)
                }
            };
        }
    }

    #[inline]
    const fn token(&self, class: Class, key: u64, start: usize) -> Token {
        Token { class, key, start, end: self.at }
    }

    #[inline]
    fn word(&mut self) -> Token {
        let start = self.at;
        let rest = &self.text[start..];
        let mut length = 1;
        while rest.get(length).is_some_and(|byte| IN_WORD[*byte as usize]) {
            length += 1;
        }
        self.at = start + length;
        if length == 1 && matches!(self.peek(0), b'\'' | b'&') {
            match (rest[0] | 0x20, self.peek(0), self.peek(1)) {
                (b'e', b'\'', _) => return self.prefixed(start, 0, true),
                (b'b' | b'x' | b'n', b'\'', _) => return self.prefixed(start, 0, false),
                (b'u', b'&', b'\'') => return self.prefixed(start, 1, false),
                (b'u', b'&', b'"') => {
                    self.at += 1;
                    self.doubtful = true;
                    return self.quoted(start);
                }
                _ => {}
            }
        }
        self.token(Class::Word, lower(load(self.text, start, self.at)), start)
    }

    #[cold]
    fn prefixed(&mut self, start: usize, skip: usize, escapes: bool) -> Token {
        self.at += skip;
        Token { start, ..self.string(escapes) }
    }

    /// A string, from its first quote on. It goes on if white space with a line break and another quote follow.
    fn string(&mut self, escapes: bool) -> Token {
        let start = self.at;
        loop {
            self.at += 1;
            self.string_part(escapes);
            if !(is_space(self.peek(0)) || self.peek(0) == b'-') {
                break;
            }
            match self.continuation() {
                Some(quote) => self.at = quote,
                None => break,
            }
        }
        self.token(Class::Text, 0, start)
    }

    /// Behind the quote that ends what has begun before `at`.
    fn string_part(&mut self, escapes: bool) {
        loop {
            let rest = &self.text[self.at..];
            let found = if escapes { memchr2(b'\'', b'\\', rest) } else { find(b'\'', rest) };
            let Some(offset) = found else { return self.unterminated() };
            self.at += offset;
            if self.peek(0) == b'\\' {
                if self.at + 2 > self.text.len() {
                    return self.unterminated();
                }
                self.at += 2;
            } else if self.peek(1) == b'\'' {
                self.at += 2;
            } else {
                self.at += 1;
                return;
            }
        }
    }

    fn unterminated(&mut self) {
        self.at = self.text.len();
        self.doubtful = true;
    }

    /// Where the quote is that continues the string that ends before `at`.
    fn continuation(&self) -> Option<usize> {
        let (mut at, mut has_newline) = (self.at, false);
        loop {
            match self.text.get(at)? {
                b'\'' if has_newline => return Some(at),
                byte if is_space(*byte) => {
                    has_newline |= is_newline(*byte);
                    at += 1;
                }
                b'-' if self.text.get(at + 1) == Some(&b'-') => {
                    at += 2 + memchr2(b'\n', b'\r', &self.text[at + 2..])?;
                }
                _ => return None,
            }
        }
    }

    /// An identifier whose quote is at `at`.
    fn quoted(&mut self, start: usize) -> Token {
        self.at += 1;
        loop {
            let Some(offset) = find(b'"', &self.text[self.at..]) else {
                self.unterminated();
                break;
            };
            self.at += offset + 1;
            if self.peek(0) != b'"' {
                break;
            }
            self.at += 1;
        }
        self.token(Class::Quoted, 0, start)
    }

    /// A parameter, a string in dollar quotes, or a dollar sign.
    fn dollar(&mut self) -> Token {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_ascii_digit() {
            self.digits();
            self.junk();
            return self.token(Class::Parameter, 0, start);
        }
        let tag = self.text[self.at..].iter().position(|b| !matches!(class(*b), Byte::Letter | Byte::Digit));
        let Some(length) = tag.filter(|length| self.peek(*length) == b'$') else {
            return self.token(Class::Stray, 0, start);
        };
        let body = self.at + length + 1;
        let delimiter = &self.text[start..body];
        match memchr::memmem::find(&self.text[body..], delimiter) {
            Some(offset) => self.at = body + offset + delimiter.len(),
            None => self.unterminated(),
        }
        self.token(Class::Text, 0, start)
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() || (self.peek(0) == b'_' && self.peek(1).is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Token {
        let start = self.at;
        let radix: Option<fn(&u8) -> bool> = match (self.peek(0), self.peek(1) | 0x20) {
            (b'0', b'x') => Some(u8::is_ascii_hexdigit),
            (b'0', b'o') => Some(|b| matches!(b, b'0'..=b'7')),
            (b'0', b'b') => Some(|b| matches!(b, b'0' | b'1')),
            _ => None,
        };
        let first = if self.peek(2) == b'_' { 3 } else { 2 };
        if let Some(is_digit) = radix.filter(|is_digit| is_digit(&self.peek(first))) {
            self.at += first;
            while is_digit(&self.peek(0)) || (self.peek(0) == b'_' && is_digit(&self.peek(1))) {
                self.at += 1;
            }
        } else {
            self.digits();
            // Two points are a range: `1..10` begins with an integer.
            if self.peek(0) == b'.' && self.peek(1) != b'.' {
                self.at += 1;
                self.digits();
            }
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if self.peek(0) | 0x20 == b'e' && self.peek(1 + sign).is_ascii_digit() {
                self.at += 1 + sign;
                self.digits();
            }
        }
        self.junk();
        self.token(Class::Number, 0, start)
    }

    /// A word right behind a number is an error since PostgreSQL 15, and was a word before.
    fn junk(&mut self) {
        self.doubtful |= class(self.peek(0)) == Byte::Letter;
    }

    #[inline]
    fn operator(&mut self) -> Token {
        let start = self.at;
        self.at += 1;
        while class(self.peek(0)) == Byte::Operator
            && !(self.peek(0) == b'-' && self.peek(1) == b'-')
            && !(self.peek(0) == b'/' && self.peek(1) == b'*')
        {
            self.at += 1;
        }
        // A sign at its end belongs to what follows, unless the operator has a byte that SQL's own operators have not.
        while self.at - start > 1
            && matches!(self.text[self.at - 1], b'+' | b'-')
            && !self.text[start..self.at]
                .iter()
                .any(|b| matches!(b, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'))
        {
            self.at -= 1;
        }
        let is_value = self.at == start + 1 && self.text[start] == b'?';
        let class = if is_value { Class::Text } else { Class::Operator };
        self.token(class, load(self.text, start, self.at), start)
    }

    fn colon(&mut self) -> Token {
        let start = self.at;
        self.at += 1;
        match self.peek(0) {
            b':' => {
                self.at += 1;
                self.token(Class::Cast, 0, start)
            }
            b'=' => {
                self.at += 1;
                self.token(Class::Operator, load(self.text, start, self.at), start)
            }
            _ => self.token(Class::Operator, u64::from(b':'), start),
        }
    }

    #[cold]
    fn comment(&mut self) {
        let is_line = self.peek(0) == b'-';
        self.at += 2;
        if is_line {
            self.at = memchr2(b'\n', b'\r', &self.text[self.at..]).map_or(self.text.len(), |offset| self.at + offset);
            return;
        }
        let mut depth = 1;
        while depth > 0 {
            let Some(offset) = memchr2(b'*', b'/', &self.text[self.at..]) else { return self.unterminated() };
            self.at += offset;
            match (self.peek(0), self.peek(1)) {
                (b'*', b'/') => depth -= 1,
                (b'/', b'*') => depth += 1,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 2;
        }
    }
}
