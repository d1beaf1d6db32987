//! The keys of SCRAM-SHA-256 (RFC 5802, section 3) from a password, a salt and a count of iterations, and the little
//! arithmetic that both ends of an exchange share.
//!
//! Deriving keys costs about a millisecond at PostgreSQL's 4,096 iterations, and a pool opens many connections with one
//! password: what was derived is remembered for the life of the process, under a keyed digest of what it came from.
//! Bound: 1,024 entries, then all are forgotten at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// A digest or key of SHA-256.
pub(crate) type Key = [u8; 32];

/// Most derivations that are remembered: more passwords than any file of users that a pooler is given.
const REMEMBERED: usize = 1_024;

/// A secret of this process: what is made up for users that do not exist depends on it, and the memory of derivations.
/// `None` if the operating system had no randomness to give; then nobody logs in.
static PROCESS_KEY: LazyLock<Option<Key>> = LazyLock::new(|| random().ok());

static DERIVED: LazyLock<Mutex<HashMap<Key, Keys, foldhash::fast::RandomState>>> = LazyLock::new(Mutex::default);

/// `ClientKey` and `ServerKey`.
#[derive(Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) client: Key,
    pub(crate) server: Key,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// `N` bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// HMAC-SHA-256 over the parts, one after the other.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

/// One key masked by another.
pub(crate) fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// Bytes that are the same for the same name and purpose in this process, and that nobody else can tell from random
/// ones.
pub(crate) fn made_up(purpose: &str, name: &str) -> Option<Key> {
    PROCESS_KEY.as_ref().map(|key| hmac(key, &[purpose.as_bytes(), b"\0", name.as_bytes()]))
}

/// The keys of a password, remembered or derived. Blocks for as long as the iterations take.
pub(crate) fn derive(password: &str, salt: &[u8], iterations: u32) -> Keys {
    let name = PROCESS_KEY.as_ref().map(|key| {
        let length = (salt.len() as u64).to_be_bytes();
        hmac(key, &[b"derived\0", &iterations.to_be_bytes(), &length, salt, password.as_bytes()])
    });
    let Some(name) = name else { return compute(password, salt, iterations) };
    if let Some(keys) = DERIVED.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
        return *keys;
    }
    let keys = compute(password, salt, iterations);
    let mut derived = DERIVED.lock().unwrap_or_else(PoisonError::into_inner);
    if derived.len() >= REMEMBERED {
        derived.clear();
    }
    derived.insert(name, keys);
    keys
}

/// `Hi`, then both keys. A password that SASLprep refuses is used as it is, as PostgreSQL does.
fn compute(password: &str, salt: &[u8], iterations: u32) -> Keys {
    let prepared = stringprep::saslprep(password);
    let password = prepared.as_deref().unwrap_or(password);
    let salted: Key = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations);
    Keys { client: hmac(&salted, &[b"Client Key"]), server: hmac(&salted, &[b"Server Key"]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_derived_is_what_is_remembered() {
        let first = derive("remembered", b"salt", 10);
        let again = derive("remembered", b"salt", 10);
        let computed = compute("remembered", b"salt", 10);
        assert_eq!((first.client, first.server), (computed.client, computed.server));
        assert_eq!((first.client, first.server), (again.client, again.server));
        assert_ne!(first.client, derive("remembered", b"salt", 11).client);
        assert_ne!(derive("b", b"a", 10).client, derive("ab", b"", 10).client);
    }

    #[test]
    fn the_memory_is_bounded() {
        for i in 0..REMEMBERED + 10 {
            derive(&format!("bounded{i}"), b"s", 1);
        }
        assert!(DERIVED.lock().unwrap().len() <= REMEMBERED);
    }

    #[test]
    fn passwords_are_prepared_and_used_as_they_are_if_they_cannot_be() {
        // A soft hyphen is mapped to nothing; U+2168 is normalised to IX (RFC 4013, section 3).
        assert_eq!(compute("I\u{ad}X", b"s", 1).client, compute("IX", b"s", 1).client);
        assert_eq!(compute("\u{2168}", b"s", 1).client, compute("IX", b"s", 1).client);
        // A control character is prohibited.
        assert_ne!(compute("\u{7}", b"s", 1).client, compute("", b"s", 1).client);
    }

    #[test]
    fn what_is_made_up_is_constant_and_different_for_each_name() {
        assert_eq!(made_up("salt", "a"), made_up("salt", "a"));
        assert_ne!(made_up("salt", "a"), made_up("salt", "b"));
        assert_ne!(made_up("salt", "a"), made_up("key", "a"));
    }
}
