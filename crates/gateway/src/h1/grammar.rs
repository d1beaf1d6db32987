//! Character classes of RFC 9110 and 9112 as one table, and the scans over them.

/// `tchar`: what names and methods are made of (RFC 9110, 5.6.2).
pub const TOKEN: u8 = 1;
/// What a field value may hold: HTAB, SP, VCHAR, obs-text (RFC 9110, 5.5).
pub const VALUE: u8 = 2;
/// What a request target may hold: visible ASCII without `"`, `<`, `>` and `#`. Wider than RFC 3986, because browsers
/// send `|`, `{`, `^` and the like unencoded in queries.
pub const TARGET: u8 = 4;
/// What a host name, an IPv4 address or the inside of an IPv6 literal is made of.
pub const HOST: u8 = 8;
/// Hexadecimal digits.
pub const HEX: u8 = 16;

const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let mut class = 0;
        let special = matches!(
            b,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        if b.is_ascii_alphanumeric() || special {
            class |= TOKEN;
        }
        if b == b'\t' || (b >= 0x20 && b != 0x7f) {
            class |= VALUE;
        }
        if b > 0x20 && b < 0x7f && !matches!(b, b'"' | b'<' | b'>' | b'#') {
            class |= TARGET;
        }
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        if b.is_ascii_hexdigit() {
            class |= HEX;
        }
        table[i] = class;
        i += 1;
    }
    table
}

/// Whether `byte` is of `class`.
#[inline]
pub fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

/// Whether all of `bytes` are of `class` (true if there are none).
#[inline]
pub fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|b| is(*b, class))
}

/// Whether `bytes` is a token: at least one `tchar` and nothing else.
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// `bytes` without optional white space (SP, HTAB) at both ends.
#[inline]
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a comma-separated list, trimmed, empty ones left out (RFC 9110, 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(trim).filter(|m| !m.is_empty())
}

/// A `Host` value or an authority: `uri-host [ ":" port ]`, without user information. Gives the host and the port.
pub fn host(value: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (host, rest) = if value.first() == Some(&b'[') {
        let close = value.iter().position(|b| *b == b']')?;
        let inside = std::str::from_utf8(&value[1..close]).ok()?;
        inside.parse::<std::net::Ipv6Addr>().ok()?;
        (&value[..=close], &value[close + 1..])
    } else {
        let end = value.iter().position(|b| *b == b':').unwrap_or(value.len());
        if end == 0 || !all(&value[..end], HOST) {
            return None;
        }
        (&value[..end], &value[end..])
    };
    match rest {
        [] => Some((host, None)),
        [b':', digits @ ..] => Some((host, Some(port(digits)?))),
        _ => None,
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    u16::try_from(decimal(digits)?).ok()
}

/// A number of decimal digits only: no sign, no space, at most 18 digits so that it cannot overflow.
#[inline]
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["a", "example.com", "a-b.c_d", "127.0.0.1", "h:80", "h:65535", "[::1]", "[2001:db8::1]:8080"] {
            assert!(host(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "", ":80", "h:", "h:65536", "h:8a", "a b", "u@h", "a/b", "[::1", "[::1]x", "[]", "[g::]", "h:80:80", "a,b",
            "h\t",
        ] {
            assert!(host(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(decimal(b"0010"), Some(10));
        for bad in ["", "+1", "-1", "1 ", "0x1", "1,1", "9999999999999999999"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn lists_skip_empty_members() {
        let members: Vec<&[u8]> = list(b" a ,, b\t,").collect();
        assert_eq!(members, [b"a", b"b"]);
    }
}
