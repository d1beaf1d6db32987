//! What the targets share: where to cut an input up, and what must hold of every head that is accepted.
//!
//! An input is the message and nothing else, so that a corpus can be read and written by hand. Where it is cut comes from
//! its last bytes, which libFuzzer changes as it likes; mostly they are of no other importance.

#![forbid(unsafe_code)]

use gateway::h1::grammar;
use gateway::h1::{HeadLimits, Line, Name, Span};

/// Limits as a gateway has them that was told nothing else.
pub const WIDE: HeadLimits = HeadLimits { first_line: 8192, target: 8192, headers: 65536, lines: 100 };
/// Limits that many inputs exceed.
pub const TIGHT: HeadLimits = HeadLimits { first_line: 32, target: 16, headers: 64, lines: 3 };

/// Inputs up to this length may be cut at every byte; it costs their square.
const EVERY_BYTE_MAX: usize = 512;

/// Where to cut `data`: in ascending order, at most 8 places, or everywhere.
pub fn cuts(data: &[u8]) -> Vec<usize> {
    let tail = &data[data.len().saturating_sub(8)..];
    let mut seed = tail.iter().fold(data.len() as u64, |s, b| s.wrapping_mul(0x100_0000_01b3) ^ u64::from(*b));
    if seed % 4 == 0 && data.len() <= EVERY_BYTE_MAX {
        return (0..data.len()).collect();
    }
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let count = next() % 8 + 1;
    let mut at: Vec<usize> = (0..count).map(|_| next() % (data.len() + 1)).collect();
    at.sort_unstable();
    at
}

/// `data` in the pieces that `cuts` make.
pub fn pieces<'a>(data: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut start = 0;
    let mut out = Vec::with_capacity(cuts.len() + 1);
    for end in cuts.iter().copied().chain([data.len()]) {
        out.push(&data[start..end]);
        start = end;
    }
    out
}

/// The lines of an accepted head: valid, one behind the other, and the empty line behind the last.
///
/// # Panics
/// If they are not.
pub fn check_lines(buf: &[u8], lines: &[Line], length: usize, limits: &HeadLimits) {
    assert!(length <= buf.len() && buf[..length].ends_with(b"\r\n"));
    assert!(lines.len() <= limits.lines);
    let first = lines.first().map_or(length - 2, |l| l.name.start as usize);
    assert!(buf[..first].ends_with(b"\r\n"), "the first line begins within a line");
    assert!(length - 2 - first <= limits.headers);
    let mut at = first;
    for line in lines {
        assert_eq!(line.name.start as usize, at, "a gap between two lines");
        at = line.end as usize;
        let (name, value) = (line.name.of(buf), line.value.of(buf));
        assert!(grammar::is_token(name));
        assert!(grammar::all(value, grammar::VALUE));
        assert_eq!(grammar::trim(value), value);
        let whole = &buf[line.name.start as usize..at];
        assert!(whole.ends_with(b"\r\n") && whole[name.len()] == b':');
        assert_eq!(grammar::trim(&whole[name.len() + 1..whole.len() - 2]), value);
        assert!(!whole[..whole.len() - 2].iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
    }
    assert_eq!(at + 2, length, "the head does not end behind its last line");
}

/// How many lines are of this kind.
pub fn count(lines: &[Line], kind: Name) -> usize {
    lines.iter().filter(|l| l.kind == kind).count()
}

/// That `inner` is within `outer`, both within `length`.
///
/// # Panics
/// If it is not.
pub fn check_within(inner: Span, outer: Span, length: usize) {
    assert!(inner.start <= inner.end && outer.start <= inner.start && inner.end <= outer.end);
    assert!(outer.end as usize <= length);
}

/// Copies the lines that are sent on: not those of this hop, those that say where it goes or how it is framed, or those
/// that `Connection` names.
pub fn copy_lines(buf: &[u8], lines: &[Line], out: &mut Vec<u8>) {
    let named: Vec<&[u8]> =
        lines.iter().filter(|l| l.kind == Name::Connection).flat_map(|l| grammar::list(l.value.of(buf))).collect();
    for line in lines {
        let dropped = matches!(
            line.kind,
            Name::Host
                | Name::Connection
                | Name::ContentLength
                | Name::TransferEncoding
                | Name::KeepAlive
                | Name::ProxyConnection
                | Name::Te
                | Name::Upgrade
                | Name::Http2Settings
        );
        let name = line.name.of(buf);
        if !dropped && !named.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            out.extend_from_slice(&buf[line.name.start as usize..line.end as usize]);
        }
    }
}
