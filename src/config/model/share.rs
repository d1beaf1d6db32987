//! A share of a whole: `"20%"` or `0.2`. It is kept in millionths, so that what is written, compared and shown is exact.
//! Limits: from nothing to the whole, four places of a per cent.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// Millionths of the whole.
const WHOLE: u32 = 1_000_000;

/// Millionths of one per cent.
const PER_CENT: u32 = WHOLE / 100;

const EXPECTED: &str = "a share such as \"20%\" or 0.2";

/// A share of a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// This many hundredths, at most the whole.
    pub const fn percent(percent: u32) -> Share {
        Share(if percent > 100 { WHOLE } else { percent * PER_CENT })
    }

    /// As a number from 0 to 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }

    /// In millionths, for comparison.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// Takes a text that is right.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str) -> Result<Share, String> {
        let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number = text.strip_suffix('%').map_or(text, str::trim_end);
        let Ok(value) = number.parse::<f64>().map_err(drop).and_then(|n| plain(number).then_some(n).ok_or(())) else {
            return Err(format!("`{text}` is not a share: write one such as `20%`"));
        };
        match text.ends_with('%') {
            true => {
                Share::of(value / 100.0).ok_or_else(|| format!("`{text}` is more than the whole: write at most `100%`"))
            }
            false if value > 1.0 => Err(format!("`{text}` has no unit: write `{number}%`")),
            false => Err(format!(
                "`{text}` has no unit: write it without quotes, or as `{}`",
                Share::of(value).unwrap_or_default()
            )),
        }
    }

    /// Of a number from 0 to 1.
    fn of(number: f64) -> Option<Share> {
        // In range, so nothing is cut off but what is beyond a millionth.
        (0.0..=1.0).contains(&number).then(|| Share((number * f64::from(WHOLE)).round() as u32))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / PER_CENT, self.0 % PER_CENT);
        match rest {
            0 => write!(f, "{whole}%"),
            _ => write!(f, "{whole}.{}%", format!("{rest:04}").trim_end_matches('0')),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Share, D::Error> {
        struct TextOrNumber;
        impl serde::de::Visitor<'_> for TextOrNumber {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Share, E> {
                Share::parse(text).map_err(E::custom)
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Share, E> {
                Share::of(number)
                    .ok_or_else(|| E::custom(format!("`{number}` is not a share: write a number from 0 to 1")))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Share, E> {
                // Beyond 1 it is out of range, however it is rounded.
                self.visit_f64(number as f64)
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "format": "evenkeel-share", "x-expected": EXPECTED })
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn a_share_is_exact_and_reads_back_as_it_is_shown() {
        for (text, shown, number) in [
            ("20%", "20%", 0.2),
            ("45 %", "45%", 0.45),
            ("0%", "0%", 0.0),
            ("100%", "100%", 1.0),
            ("0.25%", "0.25%", 0.0025),
        ] {
            let share = Share::parse(text).unwrap();
            assert_eq!((share.to_string().as_str(), share.as_f64()), (shown, number));
            assert_eq!(Share::parse(shown), Ok(share));
        }
        assert_eq!(Share::percent(7).to_string(), "7%");
        assert_eq!(Share::percent(700), Share::percent(100));
    }

    #[test]
    fn what_is_no_share_is_told_what_to_write() {
        for (text, write) in
            [("20", "write `20%`"), ("0.2", "as `20%`"), ("101%", "at most `100%`"), ("half", "such as `20%`")]
        {
            let why = Share::parse(text).unwrap_err();
            assert!(why.ends_with(write), "{why}");
        }
        assert!(["", "%", "-1%", "+1%", "inf%", "nan%", "1e1%", "1,5%"].iter().all(|t| Share::parse(t).is_err()));
    }
}
