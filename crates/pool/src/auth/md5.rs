//! md5 as PostgreSQL has it: the server keeps `md5(password user)`, and asks for `md5(that salt)`, both in hex. Kept for
//! databases that still have it; PostgreSQL itself deprecates it since 18.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

/// A digest in lower-case hex.
pub(crate) type Hex = [u8; 32];

/// The digest in a verifier `md5` and 32 hex digits; `None`: it is none.
pub(crate) fn read_verifier(text: &str) -> Option<Hex> {
    let digest: Hex = text.strip_prefix("md5")?.as_bytes().try_into().ok()?;
    digest.iter().all(u8::is_ascii_hexdigit).then(|| digest.map(|digit| digit.to_ascii_lowercase()))
}

/// What a server keeps for a password.
pub(crate) fn digest(password: &str, user: &str) -> Hex {
    hex_of(&[password.as_bytes(), user.as_bytes()])
}

/// What a client answers with: `md5` and the digest of what is kept and the salt.
pub(crate) fn answer(kept: &Hex, salt: [u8; 4]) -> [u8; 35] {
    let mut answer = [0; 35];
    answer[..3].copy_from_slice(b"md5");
    answer[3..].copy_from_slice(&hex_of(&[kept, &salt]));
    answer
}

/// Whether the answer is right, in constant time.
pub(crate) fn is_right(kept: &Hex, salt: [u8; 4], said: &[u8]) -> bool {
    answer(kept, salt).as_slice().ct_eq(said).into()
}

fn hex_of(parts: &[&[u8]]) -> Hex {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    let digest: [u8; 16] = md5.finalize().into();
    std::array::from_fn(|i| {
        let nibble = if i % 2 == 0 { digest[i / 2] >> 4 } else { digest[i / 2] & 0xf };
        b"0123456789abcdef"[usize::from(nibble)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_postgres() {
        // md5('secret' || 'alice') and its answer to the salt 01020304, by coreutils' md5sum.
        let kept = digest("secret", "alice");
        assert_eq!(&kept, b"4a0a68b43b6cd5cf266fa02f196e2371");
        assert_eq!(&answer(&kept, [1, 2, 3, 4]), b"md598a0412b9c31436fc53776e863350083");
        assert!(is_right(&kept, [1, 2, 3, 4], b"md598a0412b9c31436fc53776e863350083"));
        assert!(!is_right(&kept, [1, 2, 3, 5], b"md598a0412b9c31436fc53776e863350083"));
        assert!(!is_right(&kept, [1, 2, 3, 4], b"md5"));
    }

    #[test]
    fn a_verifier_has_exactly_32_digits() {
        assert!(read_verifier("md50123456789abcdef0123456789ABCDEF").is_some_and(|d| d.ends_with(b"abcdef")));
        assert!(read_verifier("md50123456789abcdef0123456789abcde").is_none());
        assert!(read_verifier("md50123456789abcdef0123456789abcdefa").is_none());
        assert!(read_verifier("md50123456789abcdef0123456789abcdeg").is_none());
    }
}
