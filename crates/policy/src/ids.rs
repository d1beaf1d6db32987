//! Request ids and trace context: made on every request, so digits come from a table and nothing is formatted.
//!
//! - A request id is a UUID version 7 (RFC 9562, 5.7): 48 bits of wall time in milliseconds, so that ids sort by time,
//!   and 74 random bits. It is no secret and not to be used as one.
//! - A `traceparent` (W3C Trace Context, level 1) is made if a client sent no valid one. Its trace id is the request id,
//!   so that one search finds both. It is marked as sampled: the usual sampler of OpenTelemetry follows its parent,
//!   and an unmarked parent would switch off the tracing of every service that traced by itself before.

use std::fmt;
use std::str::FromStr;

use kernel::Entropy;

/// Longest client-made request id that is passed on, in bytes.
pub const MAX_CLIENT_REQUEST_ID: usize = 128;

/// An id for one request: a UUID version 7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId([u8; 16]);

/// A text that is no [`RequestId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a request id; one looks like 018f6b0e-5c1a-7d2e-9f33-0123456789ab")]
pub struct RequestIdError {
    text: String,
}

/// The two digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = [digits[i >> 4], digits[i & 15]];
        i += 1;
    }
    table
};

/// What may stand in a request id that a client made: nothing that has a meaning in a log line, JSON, CSV, HTML, a
/// shell or a header list.
const SAFE: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 128 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b':' | b'+' | b'/' | b'=');
        i += 1;
    }
    table
};

impl RequestId {
    /// A new id, made at `unix_millis` (milliseconds since 1970; 48 bits of it count, enough until the year 10889).
    #[inline]
    pub fn new(unix_millis: u64, entropy: &mut Entropy) -> RequestId {
        let a = entropy.next_u64();
        let b = entropy.next_u64();
        let high = (unix_millis << 16) | 0x7000 | (a & 0x0fff);
        let low = (b >> 2) | (0b10 << 62);
        RequestId(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// When it was made, in milliseconds since 1970.
    pub const fn unix_millis(&self) -> u64 {
        (u128::from_be_bytes(self.0) >> 80) as u64
    }

    /// The 36 characters of the usual form, such as `018f6b0e-5c1a-7d2e-9f33-0123456789ab`.
    #[inline]
    pub fn text(&self) -> [u8; 36] {
        let hex = self.hex();
        let mut text = [b'-'; 36];
        text[..8].copy_from_slice(&hex[..8]);
        text[9..13].copy_from_slice(&hex[8..12]);
        text[14..18].copy_from_slice(&hex[12..16]);
        text[19..23].copy_from_slice(&hex[16..20]);
        text[24..].copy_from_slice(&hex[20..]);
        text
    }

    /// Writes the usual form, 36 characters, behind what is in `out`.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text());
    }

    /// The 32 hexadecimal digits, as a trace id has them.
    #[inline]
    pub fn hex(&self) -> [u8; 32] {
        hex_digits(self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The digits are ASCII.
        f.pad(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl FromStr for RequestId {
    type Err = RequestIdError;

    /// Reads the usual form or the bare digits, in either case. Any UUID will do: the id may be a client's.
    fn from_str(text: &str) -> Result<RequestId, RequestIdError> {
        let fail = || RequestIdError { text: text.chars().take(64).collect() };
        let bytes = text.as_bytes();
        let hyphens = match bytes.len() {
            32 => false,
            36 => true,
            _ => return Err(fail()),
        };
        let (mut value, mut digits) = (0u128, 0);
        for (i, b) in bytes.iter().enumerate() {
            if hyphens && matches!(i, 8 | 13 | 18 | 23) {
                if *b != b'-' {
                    return Err(fail());
                }
                continue;
            }
            value = value << 4 | u128::from(char::from(*b).to_digit(16).ok_or_else(fail)?);
            digits += 1;
        }
        if digits == 32 { Ok(RequestId(value.to_be_bytes())) } else { Err(fail()) }
    }
}

/// Writes a new `traceparent` value, 55 characters, behind what is in `out`: the request's id as the trace, a random
/// parent, sampled.
#[inline]
pub fn write_traceparent(id: &RequestId, entropy: &mut Entropy, out: &mut Vec<u8>) {
    // All zeroes mean "no parent".
    let parent = entropy.next_u64().max(1);
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
    text[3..35].copy_from_slice(&id.hex());
    text[36..52].copy_from_slice(&hex_digits::<8, 16>(parent.to_be_bytes()));
    out.extend_from_slice(&text);
}

/// Whether a `traceparent` value can be passed on. Version 00 has to be exact; a later version has to begin like it and
/// may go on behind a dash, as the specification asks for (W3C Trace Context, 3.2.4 of level 1). Version ff is invalid, and so are
/// trace and parent ids of zeroes, and digits in upper case.
#[inline]
pub fn valid_traceparent(value: &[u8]) -> bool {
    let Some((head, rest)) = value.split_first_chunk::<55>() else { return false };
    let (version, trace, parent, flags) = (&head[..2], &head[3..35], &head[36..52], &head[53..]);
    let is_hex = |part: &[u8]| part.iter().fold(true, |all, b| all & matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    [head[2], head[35], head[52]] == [b'-'; 3]
        && [version, trace, parent, flags].into_iter().all(is_hex)
        && version != b"ff"
        && !is_zero(trace)
        && !is_zero(parent)
        && (rest.is_empty() || (version != b"00" && rest[0] == b'-'))
}

/// Whether a client's request id can be passed on and logged: 1 to [`MAX_CLIENT_REQUEST_ID`] letters, digits and
/// `-_.~:+/=`, which is enough for UUIDs, ULIDs, base64 and the ids of the large clouds.
#[inline]
pub fn valid_client_request_id(value: &[u8]) -> bool {
    (1..=MAX_CLIENT_REQUEST_ID).contains(&value.len()) && value.iter().all(|b| SAFE[usize::from(*b)])
}

#[inline]
fn hex_digits<const BYTES: usize, const DIGITS: usize>(bytes: [u8; BYTES]) -> [u8; DIGITS] {
    let mut out = [b'0'; DIGITS];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&HEX[usize::from(byte)]);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_has_the_layout_of_rfc_9562() {
        // The example of appendix A.6: made on 2022-02-22 at 19:22:22 UTC.
        let id = RequestId::new(0x017F_22E2_79B0, &mut Entropy::from_seed(1));
        let text = id.to_string();
        assert!(text.starts_with("017f22e2-79b0-7"), "{text}");
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{text}");
        assert_eq!(id.unix_millis(), 0x017F_22E2_79B0);
        assert_eq!(
            "017F22E2-79B0-7CC3-98C4-DC0C0C07398F".parse::<RequestId>().unwrap().unix_millis(),
            0x017F_22E2_79B0
        );
    }

    #[test]
    fn ids_differ_and_sort_by_time() {
        let mut entropy = Entropy::from_seed(2);
        let ids: Vec<_> = (0..10_000).map(|ms| RequestId::new(1_700_000_000_000 + ms / 10, &mut entropy)).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(ids.iter().zip(&ids[10..]).all(|(a, b)| a < b && a.to_string() < b.to_string()));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "018f6b0e-5c1a-7d2e-9f33-0123456789a",
            "018f6b0e-5c1a-7d2e-9f33-0123456789abc",
            "018f6b0e-5c1a-7d2e-9f33-0123456789ag",
            "018f6b0e5-c1a-7d2e-9f33-0123456789ab",
            "018f6b0e-5c1a-7d2e-9f330123456789abcd",
            "+18f6b0e5c1a7d2e9f330123456789abc",
            "018f6b0e5c1a7d2e9f3301234567é9ab",
        ] {
            assert!(text.parse::<RequestId>().is_err(), "{text}");
        }
    }

    #[test]
    fn traceparents_are_judged_as_the_specification_says() {
        const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (value, valid) in [
            (GOOD.to_owned(), true),
            (GOOD.replace("-01", "-ff"), true),
            (GOOD.replace("00-", "cc-"), true),
            (format!("{}-what-the-future-brings", GOOD.replace("00-", "cc-")), true),
            (format!("{}.x", GOOD.replace("00-", "cc-")), false),
            (format!("{}-", GOOD.replace("00-", "cc-")), true),
            (format!("{GOOD}-x"), false),
            (format!("{GOOD} "), false),
            (GOOD.replace("00-", "ff-"), false),
            (GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), false),
            (GOOD.replace("b7ad6b7169203331", &"0".repeat(16)), false),
            (GOOD.to_uppercase(), false),
            (GOOD.replace("-01", "-0x"), false),
            (GOOD.replacen('-', "_", 1), false),
            (GOOD[..54].to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(valid_traceparent(value.as_bytes()), valid, "{value}");
        }
    }

    #[test]
    fn client_ids_are_judged_by_length_and_alphabet() {
        for value in
            ["1", "018f6b0e-5c1a-7d2e-9f33-0123456789ab", "Root=1-67891233-abcdef", "a+b/c==", &"x".repeat(128)]
        {
            assert!(valid_client_request_id(value.as_bytes()), "{value}");
        }
        for value in ["", &"x".repeat(129), "a b", "a\"b", "a,b", "a;b", "<b>", "a\\b", "é", "a\tb", "$(x)", "a%20"] {
            assert!(!valid_client_request_id(value.as_bytes()), "{value}");
        }
    }

    proptest! {
        #[test]
        fn an_id_survives_being_written_and_read(millis in 0..1u64 << 48, seed: u64) {
            let id = RequestId::new(millis, &mut Entropy::from_seed(seed));
            let mut text = b"id=".to_vec();
            id.write(&mut text);
            let text = String::from_utf8(text[3..].to_vec()).unwrap();
            let hex = String::from_utf8(id.hex().to_vec()).unwrap();
            prop_assert_eq!(text.parse(), Ok(id));
            prop_assert_eq!(hex.parse(), Ok(id));
            prop_assert_eq!(id.unix_millis(), millis);
        }

        #[test]
        fn a_made_traceparent_is_valid_and_names_the_request(seed: u64) {
            let mut entropy = Entropy::from_seed(seed);
            let id = RequestId::new(seed >> 16, &mut entropy);
            let mut value = Vec::new();
            write_traceparent(&id, &mut entropy, &mut value);
            prop_assert!(valid_traceparent(&value));
            prop_assert_eq!(&value[3..35], &id.hex()[..]);
        }
    }
}
