//! A call of `set_config`, token by token: whether it is for the transaction only, and the setting's name if that is written
//! in it. It is for the transaction only if its third argument is the word `true` and nothing else.

use super::lexer::{Class, Token};

/// What has been seen of a call of `set_config` behind its name.
#[derive(Debug)]
pub(super) struct Call {
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
pub(super) struct Called {
    pub is_local: bool,
    /// Where the literal is that is its first argument.
    pub name: Option<(usize, usize)>,
}

impl Call {
    pub(super) const fn new() -> Self {
        Self { depth: 0, argument: 0, tokens: 0, name: None, is_true: false }
    }

    /// Takes a token behind the name; something if that was all of the call, within it what was called.
    pub(super) fn token(&mut self, text: &[u8], token: &Token) -> Option<Option<Called>> {
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
