//! Numbers and states in words, the same in the page, in text and in sentences. Rounding never flatters: a success of
//! 99.999 % is not called 100 %.

use std::time::Duration;

/// What stands where there is nothing to measure.
pub(crate) const NONE: &str = "–";

/// Requests a second: one decimal below ten, whole numbers with thin groups above.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second <= 0.0 {
        "0".to_owned()
    } else if per_second < 0.1 {
        "<0.1".to_owned()
    } else if per_second < 9.95 {
        format!("{per_second:.1}")
    } else {
        grouped(per_second.round() as u64)
    }
}

/// A share as per cent with two decimals, rounded down; whole only where it is all or nothing.
pub(crate) fn percent(ratio: f64) -> String {
    // The small addend undoes binary representation (0.9998 * 10_000 is 9997.999…), not real failures.
    let hundredths = (ratio.clamp(0.0, 1.0) * 10_000.0 + 1e-6).floor() as u64;
    let hundredths = if ratio < 1.0 { hundredths.min(9_999) } else { hundredths };
    match hundredths {
        0 => "0 %".to_owned(),
        10_000 => "100 %".to_owned(),
        n => format!("{}.{:02} %", n / 100, n % 100),
    }
}

/// A share of something bad as per cent with two decimals, rounded up.
pub(crate) fn at_least(ratio: f64) -> String {
    let hundredths = (ratio.clamp(0.0, 1.0) * 10_000.0 - 1e-6).ceil() as u64;
    match hundredths {
        0 => "0 %".to_owned(),
        10_000 => "100 %".to_owned(),
        n => format!("{}.{:02} %", n / 100, n % 100),
    }
}

/// As [`percent`], or a dash.
pub(crate) fn success(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| NONE.to_owned(), percent)
}

/// Milliseconds with about three digits, or seconds from one second on; a dash without observations.
pub(crate) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => NONE.to_owned(),
        Some(ms) if ms < 9.95 => format!("{ms:.1} ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    }
}

/// A count with its thousands set apart by thin spaces.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A length of time in its two largest units.
pub fn span(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// How long ago, in its largest unit.
pub(crate) fn ago(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..5 => "just now".to_owned(),
        5..60 => format!("{s} s ago"),
        60..3_600 => format!("{} min ago", s / 60),
        3_600..86_400 => format!("{} h ago", s / 3_600),
        _ => format!("{} d ago", s / 86_400),
    }
}

/// The window's name in a sentence.
pub(crate) fn window(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..=1 => "the last second".to_owned(),
        2..50 => format!("the last {s} seconds"),
        50..90 => "the last minute".to_owned(),
        _ => format!("the last {} minutes", (s + 30) / 60),
    }
}

/// `1 endpoint`, `2 endpoints`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A name as one segment of a path (RFC 3986, 3.3): what could mean something else there is encoded.
pub fn path_segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What a segment of a path stands for; bytes that are no UTF-8 become the character for that.
pub(crate) fn percent_decoded(segment: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let bytes = segment.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let pair = if *byte == b'%' { digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2))) } else { None };
        match pair {
            Some((high, low)) => out.push(high * 16 + low),
            None => out.push(*byte),
        }
        at += if pair.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A value behind the `?` of an address.
pub(crate) fn query_value(value: &str) -> String {
    path_segment(value)
}

/// A size in bytes in a unit that suits it.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Text without characters that move a cursor or turn the order of others around, and of bounded length.
pub fn tame(text: &str) -> String {
    text.chars().take(300).map(|c| if is_unruly(c) { ' ' } else { c }).collect()
}

/// Whether a character could show a text as another than it is: controls, breaks of lines, and those that turn the
/// direction of writing (Unicode, UAX #9 and UAX #14).
pub fn is_unruly(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_never_flatters() {
        let cases = [(1.0, "100 %"), (0.999_999, "99.99 %"), (0.9998, "99.98 %"), (0.995, "99.50 %"), (0.0, "0 %")];
        cases.iter().for_each(|(ratio, text)| assert_eq!(percent(*ratio), *text));
        assert_eq!(percent(0.999_999_999_999_9), "99.99 %");
        assert_eq!(
            [0.0, 0.000_000_1, 0.0002, 0.013, 1.0].map(at_least),
            ["0 %", "0.01 %", "0.02 %", "1.30 %", "100 %"]
        );
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0.0, 0.04, 3.21, 9.96, 512.4].map(rate), ["0", "<0.1", "3.2", "10", "512"]);
        assert_eq!(rate(12_345.0), "12\u{202f}345");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(
            [None, Some(0.75), Some(9.96), Some(321.4), Some(2500.0)].map(latency),
            ["–", "0.8 ms", "10 ms", "321 ms", "2.5 s"]
        );
        assert_eq!(
            [7, 75, 8_100, 200_000].map(|s| span(Duration::from_secs(s))),
            ["7 s", "1 min 15 s", "2 h 15 min", "2 d 7 h"]
        );
        assert_eq!(
            [1, 25, 60, 180].map(|s| window(Duration::from_secs(s))),
            ["the last second", "the last 25 seconds", "the last minute", "the last 3 minutes"]
        );
    }

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(path_segment("127.0.0.1:9101"), "127.0.0.1:9101");
        assert_eq!(path_segment("[::1]:80/../a b?ü"), "%5B::1%5D:80%2F..%2Fa%20b%3F%C3%BC");
        for name in ["127.0.0.1:9101", "[::1]:80/../a b?ü", "100 %", "%2F", "a+b"] {
            assert_eq!(percent_decoded(&path_segment(name)), name);
        }
        assert_eq!(percent_decoded("%zz%4"), "%zz%4");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(tame("a\x1b[31mb\r\nc"), "a [31mb  c");
        assert_eq!(tame("\u{202e}a\u{2028}b\u{feff}é日\u{200d}"), " a b é日\u{200d}");
        assert_eq!(tame(&"x".repeat(1000)).len(), 300);
    }
}
