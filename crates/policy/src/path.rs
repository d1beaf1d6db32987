//! Paths for matching. Routes are matched against a normal form, so that `/%61dmin` or `//admin` is not a way around a
//! rule for `/admin`. What is forwarded is the path as it was sent (or rewritten), never the normal form.
//!
//! - Escaped unreserved characters are decoded; all other escapes stay, in upper case: `%2F` is not a slash (RFC 3986,
//!   2.2 and 6.2.2).
//! - Runs of slashes count as one.
//! - Dot segments are an error and not resolved: a service may resolve them otherwise than we, and no client that
//!   follows RFC 3986, 5.2.4 sends them. Escaped dots count, and so do spellings that some servers take for a dot
//!   segment: borders made of `\`, `%5C` or `%2F`, and path parameters (`/..;x/`).
//! - Escaped control characters and escapes that are none are errors.
//!
//! A path without any of these is returned untouched after one scan. The parser has refused raw control characters.
//! An empty path counts as `/`; `*` (of `OPTIONS *`) stands for itself.

/// Why a path cannot be matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// It has a segment `.` or `..`, in whatever spelling.
    #[error("the path has a dot segment")]
    DotSegment,
    /// It has an escaped control character.
    #[error("the path has an escaped control character")]
    Control,
    /// A percent sign is not followed by two hexadecimal digits.
    #[error("the path has a percent sign without two hexadecimal digits")]
    BadEscape,
}

/// One character of a path in normal form.
#[derive(Clone, Copy)]
struct Unit {
    /// What it stands for, decoded.
    byte: u8,
    /// Whether it stays escaped.
    escaped: bool,
    /// Where it ends in the raw path.
    end: usize,
}

/// The normal form of `raw`, for matching. It is `raw` itself in the common case; else it is written to `scratch`.
///
/// # Errors
/// When the path is refused for one of the reasons above: the request is malformed.
#[inline]
pub fn normalise<'a>(raw: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], PathError> {
    match raw.first() {
        Some(b'/') if is_plain(raw) => Ok(raw),
        Some(b'/') => {
            scratch.clear();
            decode(raw, scratch)?;
            Ok(scratch)
        }
        None => Ok(b"/"),
        Some(_) if raw == b"*" => Ok(raw),
        Some(_) => Err(PathError::NotAbsolute),
    }
}

/// Whether `raw` is its own normal form for certain. Sixteen bytes at a time, without an early end, so that it runs on
/// vectors; the last sixteen may overlap those before.
#[inline]
fn is_plain(raw: &[u8]) -> bool {
    let special = |a: u8, b: u8| {
        (a == b'%') | (a == b'\\') | (b == b'%') | (b == b'\\') | ((a == b'/') & ((b == b'/') | (b == b'.')))
    };
    let any = |a: &[u8], b: &[u8]| a.iter().zip(b).fold(false, |found, (a, b)| found | special(*a, *b));
    let (heads, tails) = (&raw[..raw.len() - 1], &raw[1..]);
    let (Some(last_heads), Some(last_tails)) = (heads.last_chunk::<16>(), tails.last_chunk::<16>()) else {
        return !any(heads, tails);
    };
    let (chunks, _) = heads.as_chunks::<16>();
    let (next, _) = tails.as_chunks::<16>();
    !any(last_heads, last_tails) && !chunks.iter().zip(next).fold(false, |found, (a, b)| found | any(a, b))
}

fn decode(raw: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    // How many dots the segment consists of so far; `None`: of something else.
    let mut dots = None;
    let mut at = 0;
    while let Some(unit) = next_unit(raw, at)? {
        at = unit.end;
        match unit.byte {
            b'/' | b'\\' | b';' => {
                if matches!(dots, Some(1 | 2)) {
                    return Err(PathError::DotSegment);
                }
                dots = (unit.byte != b';').then_some(0);
            }
            b'.' => dots = dots.map(|n: u32| n.saturating_add(1)),
            _ => dots = None,
        }
        if !unit.escaped && unit.byte == b'/' && out.last() == Some(&b'/') {
            continue;
        }
        write_unit(unit, out);
    }
    if matches!(dots, Some(1 | 2)) { Err(PathError::DotSegment) } else { Ok(()) }
}

/// The character of `raw` that begins at `at`.
fn next_unit(raw: &[u8], at: usize) -> Result<Option<Unit>, PathError> {
    let Some(&first) = raw.get(at) else { return Ok(None) };
    if first != b'%' {
        return Ok(Some(Unit { byte: first, escaped: false, end: at + 1 }));
    }
    let digit = |i: usize| raw.get(i).and_then(|b| char::from(*b).to_digit(16)).ok_or(PathError::BadEscape);
    let byte = (digit(at + 1)? * 16 + digit(at + 2)?) as u8;
    if byte.is_ascii_control() {
        return Err(PathError::Control);
    }
    Ok(Some(Unit { byte, escaped: !is_unreserved(byte), end: at + 3 }))
}

fn write_unit(unit: Unit, out: &mut Vec<u8>) {
    if unit.escaped { write_escaped(unit.byte, out) } else { out.push(unit.byte) }
}

/// Writes `%XX`.
pub(crate) fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// RFC 3986, 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Writes `raw_path` (without its query) behind what is in `out`, with the prefix `strip` replaced by `put`; all else
/// stays as it was sent. `strip` (without doubled slashes) ends at a segment's border, so `/api` is no prefix of `/apis`; the
/// two parts meet in one slash. Returns whether the path had the prefix; if not, it is written as it is.
///
/// | path | strip | put | written |
/// | --- | --- | --- | --- |
/// | `/api/x` | `/api` | `` or `/` | `/x` |
/// | `/api` | `/api` | `` | `/` |
/// | `//%61pi/x` | `/api` | `/v2` | `/v2/x` |
/// | `/x` | `` or `/` | `/v2` | `/v2/x` |
pub fn rewrite_prefix(raw_path: &[u8], strip: &str, put: &str, out: &mut Vec<u8>) -> bool {
    let Some(rest) = behind_prefix(raw_path, strip.trim_end_matches('/').as_bytes()) else {
        out.extend_from_slice(raw_path);
        return false;
    };
    let slashes = rest.iter().take_while(|b| **b == b'/').count();
    let put = if slashes > 0 { put.strip_suffix('/').unwrap_or(put) } else { put };
    let slash_follows = put.is_empty() && slashes > 0;
    if !slash_follows && !put.starts_with('/') {
        out.push(b'/');
    }
    out.extend_from_slice(put.as_bytes());
    if slashes > 0 {
        out.extend_from_slice(&rest[slashes - 1..]);
    }
    true
}

/// What of `raw` is left behind a prefix that ends at a segment's border: nothing, or a slash and more. Both are read
/// character by character, so that spellings do not matter.
fn behind_prefix<'a>(raw: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (mut at, mut matched) = (0, 0);
    let is_slash = |unit: Unit| !unit.escaped && unit.byte == b'/';
    let mut behind_slash = false;
    while let Some(wanted) = next_unit(prefix, matched).ok()? {
        let unit = next_unit(raw, at).ok()??;
        at = unit.end;
        if behind_slash && is_slash(unit) {
            continue;
        }
        if (unit.byte, unit.escaped) != (wanted.byte, wanted.escaped) {
            return None;
        }
        matched = wanted.end;
        behind_slash = is_slash(unit);
    }
    let rest = &raw[at..];
    (rest.is_empty() || rest[0] == b'/').then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(raw: &str) -> Result<String, PathError> {
        let mut scratch = b"left over".to_vec();
        normalise(raw.as_bytes(), &mut scratch).map(|p| String::from_utf8(p.to_vec()).unwrap())
    }

    #[test]
    fn a_path_without_anything_special_is_returned_untouched() {
        for raw in ["/", "/a", "/a/b.html", "/a/", "/a;v=1/b", "/@me/x:y", "*", "/caf\u{e9}", "/a./b..c"] {
            let mut scratch = Vec::new();
            let normal = normalise(raw.as_bytes(), &mut scratch).unwrap();
            assert!(std::ptr::eq(normal, raw.as_bytes()), "{raw}");
        }
    }

    #[test]
    fn the_normal_form_is_what_rules_are_written_for() {
        for (raw, expected) in [
            ("", "/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/%61dmin", "/admin"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb%40", "/a%2Fb%40"),
            ("/%7euser%2D", "/~user-"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/%2541", "/%2541"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a/..b/c..", "/a/..b/c.."),
            ("/a;../b", "/a;../b"),
            ("/%61;../b", "/a;../b"),
            ("/a\\b", "/a\\b"),
        ] {
            assert_eq!(normal(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn what_may_mean_another_path_elsewhere_is_refused() {
        use PathError::*;
        for (raw, error) in [
            ("/..", DotSegment),
            ("/.", DotSegment),
            ("/a/../b", DotSegment),
            ("/a/./b", DotSegment),
            ("/a/%2e%2E/b", DotSegment),
            ("/a/.%2e", DotSegment),
            ("/a/..;x=1/b", DotSegment),
            ("/a/..%3bx/b", DotSegment),
            ("/a\\..\\b", DotSegment),
            ("/a%5c..%5Cb", DotSegment),
            ("/a%2f..%2Fb", DotSegment),
            ("/a%2F..", DotSegment),
            ("/a%00", Control),
            ("/a%0d%0aX", Control),
            ("/a%7f", Control),
            ("/%", BadEscape),
            ("/%2", BadEscape),
            ("/%zz", BadEscape),
            ("/%+1", BadEscape),
            ("/%%41", BadEscape),
            ("a", NotAbsolute),
            ("**", NotAbsolute),
        ] {
            assert_eq!(normal(raw), Err(error), "{raw}");
        }
    }

    fn rewritten(raw: &str, strip: &str, put: &str) -> (bool, String) {
        let mut out = b"GET ".to_vec();
        let had = rewrite_prefix(raw.as_bytes(), strip, put, &mut out);
        (had, String::from_utf8(out).unwrap().strip_prefix("GET ").unwrap().to_owned())
    }

    #[test]
    fn a_prefix_is_replaced_at_its_border_and_the_rest_is_as_it_was_sent() {
        for (raw, strip, put, expected) in [
            ("/api/x", "/api", "", "/x"),
            ("/api/x", "/api", "/", "/x"),
            ("/api/x", "/api/", "/v2/", "/v2/x"),
            ("/api", "/api", "", "/"),
            ("/api", "/api", "/v2", "/v2"),
            ("/api/", "/api", "/v2", "/v2/"),
            ("/api", "/api", "v2", "/v2"),
            ("//%61pi/%61//b%2f", "/api", "/v2", "/v2/%61//b%2f"),
            ("/api//evil.example", "/api", "", "/evil.example"),
            ("/a//b/c", "/a/b", "/z", "/z/c"),
            ("/x%2fy/z", "/x%2Fy", "", "/z"),
            ("/caf%c3%A9/z", "/%63af%C3%a9", "", "/z"),
            ("/x", "", "/v2", "/v2/x"),
            ("/x", "/", "/v2", "/v2/x"),
            ("", "", "/v2", "/v2"),
            ("", "", "", "/"),
        ] {
            assert_eq!(rewritten(raw, strip, put), (true, expected.to_owned()), "{raw} {strip} {put}");
        }
    }

    #[test]
    fn a_path_without_the_prefix_stays() {
        for raw in ["/apis", "/ap", "/b/api", "/%", "*", "/api%2Fx", "%2Fapi", "/%61pi%2F"] {
            assert_eq!(rewritten(raw, "/api", "/v2"), (false, raw.to_owned()), "{raw}");
        }
    }

    /// The scan by sixteens finds what is special wherever it stands.
    #[test]
    fn what_is_special_is_found_at_every_place() {
        for length in 1..70 {
            for special in ["%41", "//", "/.x", "\\"] {
                for at in 1..=length {
                    let raw = format!("/{}{special}{}", "a".repeat(at - 1), "b".repeat(length - at));
                    assert!(!is_plain(raw.as_bytes()), "{raw}");
                }
            }
            assert!(is_plain(format!("/{}/", "a.".repeat(length)).as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own_normal_form(raw in "/([a./;\\\\%]|%2[eEfF5]|%5[cC]|%41|%c3){0,12}") {
            if let Ok(once) = normal(&raw) {
                prop_assert_eq!(normal(&once), Ok(once.clone()));
                prop_assert!(!once.contains("//") && !format!("{once}/").contains("/../"), "{}", once);
            }
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(raw: Vec<u8>, strip in "(/[a%2]{1,3}){0,2}") {
            let mut scratch = Vec::new();
            if let Ok(normal) = normalise(&raw, &mut scratch) {
                prop_assert!(normal.len() <= raw.len().max(1));
            }
            rewrite_prefix(&raw, &strip, "/p", &mut scratch);
        }

        /// Rewriting a prefix and normalising commute.
        #[test]
        fn a_rewritten_path_means_what_the_normal_form_says(
            raw in "/{1,2}(a|%61)(/{1,2}(b|c|%62|%2f)){0,3}/?",
            put in "(/p){0,2}",
        ) {
            let (had, out) = rewritten(&raw, "/a", &put);
            prop_assert!(had);
            let rest = normal(&raw).unwrap()[2..].to_owned();
            let expected = if put.is_empty() && rest.is_empty() { "/".to_owned() } else { format!("{put}{rest}") };
            prop_assert_eq!(normal(&out), Ok(expected));
            prop_assert!(!out.starts_with("//"));
        }
    }
}
