//! The shape of a text: the same for texts that differ in values, white space, comments and case only.
//!
//! [`Fold`] decides what is shown, as a stream of pieces, which a [`Sink`] takes.
//!
//! | in the text | in the shape |
//! | --- | --- |
//! | a string or a number, with its sign | `?` |
//! | `in (1, $2, 'x'::text)`, `array[1, 2]` | `in (...)`, `array[...]` |
//! | `values (1, 2), (3, f(4))` | `values (?, ?),...`: rows behind the first are left out whatever is in them |
//! | keywords and identifiers without quotes | in lower case |
//! | the operator `?` | taken for a value |
//! | `$1`, other operators, identifiers in quotes | as they are |
//! | empty statements, a semicolon at the end | nothing |
//! | a byte that begins no token | `\` |

use super::bytes::key;
use super::lexer::{Class, Lexer, Token};
use super::shape::{Sink, Write};

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
            self.end_statement();
            self.has_semicolon = !self.is_empty;
            return;
        }
        if token.class == Class::End {
            return self.end_statement();
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

    fn end_statement(&mut self) {
        self.put_sign();
        // A row that does not end is left out as one that does.
        if let List::Next { start, is_cut, .. } = self.list {
            self.cut_row(start, is_cut);
        }
        self.list = List::None;
        self.last = Last::Other;
    }

    /// Leaves out what has been put since `start`: a row behind the first.
    fn cut_row(&mut self, start: S::Mark, is_cut: bool) {
        self.sink.rewind(start);
        if !is_cut {
            self.sink.punct(b',');
            self.dots();
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
                    self.cut_row(start, is_cut);
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
