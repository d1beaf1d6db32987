//! Bytes of SQL texts: what each can begin, and up to eight of them as one number, so that words are folded, compared and
//! hashed at once.

use memchr::memchr;

/// The first eight bytes of a word, as a number. Words of up to eight bytes differ if and only if their keys do.
pub(super) const fn key(word: &str) -> u64 {
    let bytes = word.as_bytes();
    let (mut out, mut i) = (0, 0);
    while i < bytes.len() && i < 8 {
        out |= (bytes[i] as u64) << (8 * i);
        i += 1;
    }
    out
}

/// `A` to `Z` of eight bytes in lower case, the others as they are.
#[inline]
pub(super) const fn lower(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let low = bytes & !HIGH;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let after_z = low + (0x80 - b'Z' as u64 - 1) * ONES;
    bytes | (((from_a ^ after_z) & !bytes & HIGH) >> 2)
}

/// Up to eight bytes from `start` to `end`, as a number.
#[inline]
pub(super) fn load(text: &[u8], start: usize, end: usize) -> u64 {
    let length = end - start;
    if let Some(bytes) = text.get(start..).and_then(|rest| rest.first_chunk::<8>()) {
        let whole = u64::from_le_bytes(*bytes);
        return if length >= 8 { whole } else { whole & ((1 << (8 * length)) - 1) };
    }
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(&text[start..end]) {
        *to = *from;
    }
    u64::from_le_bytes(bytes)
}

/// What a byte can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Byte {
    Space,
    Letter,
    Digit,
    Dollar,
    Operator,
    Punct,
    Colon,
    Quote,
    DoubleQuote,
    Stray,
}

static BYTES: [Byte; 256] = bytes();

const fn bytes() -> [Byte; 256] {
    let mut out = [Byte::Stray; 256];
    let mut i = 0;
    while i < 256 {
        out[i] = match i as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Byte::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => Byte::Letter,
            b'0'..=b'9' => Byte::Digit,
            b'$' => Byte::Dollar,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<'
            | b'>' | b'=' => Byte::Operator,
            b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' => Byte::Punct,
            b':' => Byte::Colon,
            b'\'' => Byte::Quote,
            b'"' => Byte::DoubleQuote,
            _ => Byte::Stray,
        };
        i += 1;
    }
    out
}

/// Bytes that a word may have behind its first.
pub(super) static IN_WORD: [bool; 256] = in_word();

const fn in_word() -> [bool; 256] {
    let mut out = [false; 256];
    let mut i = 0;
    while i < 256 {
        out[i] = matches!(BYTES[i], Byte::Letter | Byte::Digit | Byte::Dollar);
        i += 1;
    }
    out
}

#[inline]
pub(super) fn class(byte: u8) -> Byte {
    BYTES[byte as usize]
}

pub(super) fn is_space(byte: u8) -> bool {
    class(byte) == Byte::Space
}

pub(super) fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Where a byte is first. Most names and strings are shorter than it takes to begin with something better than a loop.
#[inline]
pub(super) fn find(byte: u8, text: &[u8]) -> Option<usize> {
    const NEAR: usize = 16;
    let near = text.len().min(NEAR);
    text[..near].iter().position(|b| *b == byte).or_else(|| memchr(byte, &text[near..]).map(|at| at + near))
}
