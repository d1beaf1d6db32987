//! What takes the pieces of a shape: [`Hash`] hashes them, [`Write`] writes them. Two texts are hashed alike if and only if
//! they are written alike: how pieces are spaced follows from the pieces, and can be undone.
//!
//! The hash is fast, without a secret, and the same in every process: it tells shapes apart for statistics. Whoever looks
//! for two shapes with one hash will find them.

use super::bytes::{key, load, lower};

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
        let shown = &bytes[..bytes.len().min(self.most.saturating_add(1))];
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
        let glue = match byte {
            // The third point: something has been left out, and what follows stands apart.
            b'.' if self.out.ends_with(b"..") => Glue::Loose,
            b'(' | b'[' | b'.' => Glue::Tight,
            _ => Glue::Loose,
        };
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
