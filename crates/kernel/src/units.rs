//! Units that people write: durations (`250ms`, `1m30s`), sizes (`64KiB`, `10MB`) and rates (`240B/s`).
//!
//! One text has one meaning: a number without a unit, a fraction, a blank or a sign is refused, and the error says what
//! to write instead. `KiB`, `MiB`, `GiB` are powers of 1024; `kB`, `MB`, `GB` are powers of 1000. [`Display`] writes the
//! shortest text that reads back as the same value. Limits: durations up to 3,650 days, sizes and rates up to 2^63 bytes.
//!
//! [`Display`]: std::fmt::Display

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units of a duration, largest first, in milliseconds.
const SPAN_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of a size, in the order in which [`ByteSize`] prefers them when it is written.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Ten years: beyond it a duration is a slip of the pen.
const MAX_SPAN_MS: u64 = 3_650 * 86_400_000;

/// TOML has no integers beyond this.
const MAX_BYTES: u64 = 1 << 63;

/// A length of time, in whole milliseconds; written `250ms`, `2s`, `1m30s`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

/// A number of bytes; written `512B`, `64KiB`, `1MiB`, `10MB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Bytes a second; written `240B/s`, `1MiB/s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

/// Why a text is not a value with a unit. Each message ends with what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Nothing there.
    #[error("empty text is not a {kind}: write {example}")]
    Empty {
        /// `duration`, `size` or `rate`.
        kind: &'static str,
        /// What a right one looks like.
        example: &'static str,
    },
    /// A bare number.
    #[error("`{text}` has no unit: write {hint}")]
    NoUnit {
        /// What was written.
        text: String,
        /// The number with the likeliest units.
        hint: String,
    },
    /// Not one of our units.
    #[error("`{unit}` in `{text}` is not a unit of a {kind}: use {units}")]
    UnknownUnit {
        /// What was written.
        text: String,
        /// The part that is no unit.
        unit: String,
        /// `duration`, `size` or `rate`.
        kind: &'static str,
        /// The units there are.
        units: &'static str,
    },
    /// A fraction.
    #[error("`{text}` is a fraction: write whole numbers, such as {example}")]
    Fraction {
        /// What was written.
        text: String,
        /// How to write a fraction without one.
        example: &'static str,
    },
    /// Anything else that is not number and unit.
    #[error("`{text}` is not a {kind}: write {example}")]
    Malformed {
        /// What was written.
        text: String,
        /// `duration`, `size` or `rate`.
        kind: &'static str,
        /// What a right one looks like.
        example: &'static str,
    },
    /// More than can be meant.
    #[error("`{text}` is more than the largest {kind}, {largest}")]
    TooLarge {
        /// What was written.
        text: String,
        /// `duration`, `size` or `rate`.
        kind: &'static str,
        /// The bound.
        largest: &'static str,
    },
}

/// What the parser needs to know about a kind of value.
struct Kind {
    name: &'static str,
    example: &'static str,
    fraction: &'static str,
    units: &'static str,
    largest: &'static str,
    likely: [&'static str; 2],
}

const SPAN: Kind = Kind {
    name: "duration",
    example: "`250ms`, `2s` or `1m30s`",
    fraction: "`1s500ms`",
    units: "`ms`, `s`, `m`, `h` or `d`",
    largest: "3650d",
    likely: ["s", "ms"],
};

const SIZE: Kind = Kind {
    name: "size",
    example: "`512B`, `64KiB` or `10MB`",
    fraction: "`1536KiB`",
    units: "`B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`",
    largest: "2^63 bytes",
    likely: ["KiB", "B"],
};

const RATE: Kind = Kind {
    name: "rate",
    example: "`240B/s` or `64KiB/s`",
    fraction: "`1536KiB/s`",
    units: "`B/s`, `KiB/s`, `MiB/s`, `GiB/s`, `kB/s`, `MB/s` or `GB/s`",
    largest: "2^63 bytes a second",
    likely: ["B/s", "KiB/s"],
};

impl Kind {
    /// Splits `12abc` into 12, `abc` and the rest after the letters.
    fn part<'a>(&self, whole: &str, rest: &'a str) -> Result<(u64, &'a str, &'a str), UnitError> {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(self.malformed(whole));
        }
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        if unit.starts_with(['.', ',']) {
            return Err(UnitError::Fraction { text: shown(whole), example: self.fraction });
        }
        if unit.is_empty() {
            let [a, b] = self.likely;
            return Err(UnitError::NoUnit { text: shown(whole), hint: format!("`{number}{a}` or `{number}{b}`") });
        }
        let number = number.parse().map_err(|_| self.too_large(whole))?;
        Ok((number, unit, tail))
    }

    fn malformed(&self, text: &str) -> UnitError {
        match text {
            "" => UnitError::Empty { kind: self.name, example: self.example },
            _ => UnitError::Malformed { text: shown(text), kind: self.name, example: self.example },
        }
    }

    fn too_large(&self, text: &str) -> UnitError {
        UnitError::TooLarge { text: shown(text), kind: self.name, largest: self.largest }
    }

    fn unknown(&self, text: &str, unit: &str) -> UnitError {
        match unit.chars().all(|c| c.is_alphabetic() || c == '/') {
            true => UnitError::UnknownUnit { text: shown(text), unit: shown(unit), kind: self.name, units: self.units },
            false => self.malformed(text),
        }
    }
}

/// What is repeated of a user's text in a message, at most.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// This many milliseconds.
    pub const fn from_millis(millis: u64) -> Span {
        Span(millis)
    }

    /// This many seconds.
    pub const fn from_secs(secs: u64) -> Span {
        Span(secs.saturating_mul(1_000))
    }

    /// Whole milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// For the machinery that runs by it.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        span.as_duration()
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Span, UnitError> {
        let (mut rest, mut total, mut last) = (text, 0u64, u64::MAX);
        loop {
            let (number, unit, tail) = SPAN.part(text, rest)?;
            let unit_ms = SPAN_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
            let unit_ms = unit_ms.ok_or_else(|| SPAN.unknown(text, unit))?;
            // `30s1m` and `1s1s` are slips, not sums.
            if unit_ms >= last {
                return Err(SPAN.malformed(text));
            }
            last = unit_ms;
            let sum = number.checked_mul(unit_ms).and_then(|ms| total.checked_add(ms));
            total = sum.filter(|ms| *ms <= MAX_SPAN_MS).ok_or_else(|| SPAN.too_large(text))?;
            if tail.is_empty() {
                return Ok(Span(total));
            }
            rest = tail;
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, ms) in SPAN_UNITS {
            if rest >= ms {
                write!(f, "{}{unit}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

impl ByteSize {
    /// This many bytes.
    pub const fn from_bytes(bytes: u64) -> ByteSize {
        ByteSize(bytes)
    }

    /// This many KiB.
    pub const fn from_kib(kib: u64) -> ByteSize {
        ByteSize(kib.saturating_mul(1 << 10))
    }

    /// This many MiB.
    pub const fn from_mib(mib: u64) -> ByteSize {
        ByteSize(mib.saturating_mul(1 << 20))
    }

    /// In bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// In bytes, for buffers; saturates where `usize` is smaller.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

fn parse_bytes(kind: &Kind, text: &str, suffix: &str) -> Result<u64, UnitError> {
    let (number, unit, tail) = kind.part(text, text)?;
    let name = unit.strip_suffix(suffix).filter(|_| tail.is_empty());
    let scale = name.and_then(|name| SIZE_UNITS.iter().find(|(n, _)| *n == name)).map(|(_, bytes)| *bytes);
    let scale = scale.ok_or_else(|| if tail.is_empty() { kind.unknown(text, unit) } else { kind.malformed(text) })?;
    number.checked_mul(scale).filter(|bytes| *bytes <= MAX_BYTES).ok_or_else(|| kind.too_large(text))
}

fn write_bytes(f: &mut fmt::Formatter<'_>, bytes: u64, suffix: &str) -> fmt::Result {
    let fits = |scale: u64| bytes != 0 && bytes.is_multiple_of(scale);
    let (unit, scale) = SIZE_UNITS.iter().copied().find(|(_, scale)| fits(*scale)).unwrap_or(("B", 1));
    write!(f, "{}{unit}{suffix}", bytes / scale)
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<ByteSize, UnitError> {
        parse_bytes(&SIZE, text, "").map(ByteSize)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_bytes(f, self.0, "")
    }
}

impl Rate {
    /// This many bytes a second.
    pub const fn from_bytes_per_sec(bytes: u64) -> Rate {
        Rate(bytes)
    }

    /// In bytes a second.
    pub const fn as_bytes_per_sec(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Rate, UnitError> {
        parse_bytes(&RATE, text, "/s").map(Rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_bytes(f, self.0, "/s")
    }
}

macro_rules! as_text {
    ($type:ident, $kind:expr, $format:literal, $pattern:literal, $expected:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "a {} such as {}", $kind.name, $kind.example)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "pattern": $pattern, "x-expected": $expected })
            }
        }
    };
}

as_text!(Span, SPAN, "evenkeel-duration", r"^([0-9]+(d|h|m|s|ms))+$|\$\{", "a duration such as \"30s\"");
as_text!(ByteSize, SIZE, "evenkeel-size", r"^[0-9]+(B|KiB|MiB|GiB|kB|MB|GB)$|\$\{", "a size such as \"64KiB\"");
as_text!(Rate, RATE, "evenkeel-rate", r"^[0-9]+(B|KiB|MiB|GiB|kB|MB|GB)/s$|\$\{", "a rate such as \"240B/s\"");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(text: &str) -> Result<u64, String> {
        text.parse::<Span>().map(Span::as_millis).map_err(|e| e.to_string())
    }

    fn size(text: &str) -> Result<u64, String> {
        text.parse::<ByteSize>().map(ByteSize::as_bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn durations_read_as_they_are_meant() {
        let good =
            [("0s", 0), ("250ms", 250), ("2s", 2_000), ("1m30s", 90_000), ("1h1ms", 3_600_001), ("7d", 604_800_000)];
        for (text, ms) in good {
            assert_eq!(span(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_says_what_to_write() {
        let bad = [
            ("", "empty text is not a duration: write `250ms`, `2s` or `1m30s`"),
            ("30", "`30` has no unit: write `30s` or `30ms`"),
            ("1.5s", "`1.5s` is a fraction: write whole numbers, such as `1s500ms`"),
            ("5sec", "`sec` in `5sec` is not a unit of a duration: use `ms`, `s`, `m`, `h` or `d`"),
            ("s", "`s` is not a duration: write `250ms`, `2s` or `1m30s`"),
            ("-1s", "`-1s` is not a duration: write `250ms`, `2s` or `1m30s`"),
            ("1 s", "`1 s` is not a duration: write `250ms`, `2s` or `1m30s`"),
            ("30s1m", "`30s1m` is not a duration: write `250ms`, `2s` or `1m30s`"),
            ("4000d", "`4000d` is more than the largest duration, 3650d"),
            ("99999999999999999999s", "`99999999999999999999s` is more than the largest duration, 3650d"),
        ];
        for (text, message) in bad {
            assert_eq!(span(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn sizes_and_rates_read_as_they_are_meant() {
        let good =
            [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("1MiB", 1 << 20), ("10MB", 10_000_000), ("1GiB", 1 << 30)];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(format!("{text}/s").parse::<Rate>().map(Rate::as_bytes_per_sec), Ok(bytes), "{text}/s");
        }
    }

    #[test]
    fn what_is_not_a_size_or_rate_says_what_to_write() {
        let bad = [
            ("64", "`64` has no unit: write `64KiB` or `64B`"),
            ("64K", "`K` in `64K` is not a unit of a size: use `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`"),
            ("1.5MiB", "`1.5MiB` is a fraction: write whole numbers, such as `1536KiB`"),
            ("1MiB2", "`1MiB2` is not a size: write `512B`, `64KiB` or `10MB`"),
            ("99999999999GiB", "`99999999999GiB` is more than the largest size, 2^63 bytes"),
        ];
        for (text, message) in bad {
            assert_eq!(size(text), Err(message.to_owned()), "{text}");
        }
        let rate = "240B".parse::<Rate>().unwrap_err().to_string();
        assert!(rate.starts_with("`B` in `240B` is not a unit of a rate: use `B/s`"), "{rate}");
    }

    #[test]
    fn serde_uses_the_text() {
        assert_eq!(serde_json::to_string(&Span::from_secs(90)).unwrap(), "\"1m30s\"");
        assert_eq!(serde_json::from_str::<ByteSize>("\"64KiB\"").unwrap(), ByteSize::from_kib(64));
        let wrong = serde_json::from_str::<Rate>("5").unwrap_err().to_string();
        assert!(wrong.contains("expected a rate such as `240B/s` or `64KiB/s`"), "{wrong}");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0..=MAX_SPAN_MS, bytes in 0..=MAX_BYTES) {
            prop_assert_eq!(Span(ms).to_string().parse(), Ok(Span(ms)));
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
            prop_assert_eq!(Rate(bytes).to_string().parse(), Ok(Rate(bytes)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}", numbers in "[0-9]{1,24}[a-zA-Z./]{0,4}[0-9]{0,3}[a-z]{0,2}") {
            for text in [text, numbers] {
                // A text that is accepted is one whose value reads back.
                if let Ok(span) = text.parse::<Span>() {
                    prop_assert_eq!(span.to_string().parse(), Ok(span));
                }
                if let Ok(size) = text.parse::<ByteSize>() {
                    prop_assert_eq!(size.to_string().parse(), Ok(size));
                }
                prop_assert!(text.parse::<Rate>().is_err() || text.ends_with("/s"));
            }
        }
    }
}
