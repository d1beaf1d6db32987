//! Tokens that callers present, kept as SHA-256 hashes. A token is 256 random bits, so a plain hash is enough: there is
//! nothing to guess that a slow hash would protect. Lookup hashes what is presented and compares it with every stored
//! hash in constant time, so that time tells nothing about which bytes were right.
//!
//! Limits: [`MAX_TOKENS`] tokens; a presented token longer than [`MAX_TOKEN_BYTES`] is unknown without being hashed.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The scope of those who run the node.
pub const OPERATOR: &str = "operator";

/// The scope that reads the state of services.
pub const SERVICES_READ: &str = "services:read";

/// The scope that tells of deployments.
pub const DEPLOYS_WRITE: &str = "deploys:write";

/// What scopes begin with that let endpoints of a service register: its name follows, or [`ANY_SERVICE`].
pub const REGISTER: &str = "register:";

/// In place of a service's name: every service.
pub const ANY_SERVICE: &str = "*";

/// Tokens in a store: every lookup compares with all of them.
pub const MAX_TOKENS: usize = 1000;

/// The longest token that is looked up.
pub const MAX_TOKEN_BYTES: usize = 256;

/// What generated tokens begin with, so that secret scanners know them.
const PREFIX: &str = "evk_";

/// SHA-256 of a token; written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

/// A known token: its name and rights, never its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its name in the configuration, which logs show.
    pub name: String,
    /// What its text hashes to.
    pub hash: TokenHash,
    /// What it may do, such as [`OPERATOR`] or [`SERVICES_READ`]. No scope implies another.
    pub scopes: Vec<String>,
}

/// Every known token; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TokenStore(Arc<[Token]>);

/// A freshly made token. Its text is shown once and not kept.
pub struct NewToken {
    /// What the caller presents.
    pub text: String,
    /// What the configuration keeps.
    pub hash: TokenHash,
}

/// Why tokens could not be made or taken over.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The text is no hash.
    #[error("{0:?} is not a token hash: write sha256: and 64 hexadecimal digits")]
    BadHash(String),
    /// Too many.
    #[error("{0} tokens are more than the {MAX_TOKENS} that can be kept: remove some")]
    TooMany(usize),
    /// No randomness.
    #[error("reading random bytes from the operating system failed")]
    Random(#[from] getrandom::Error),
}

impl TokenHash {
    /// The hash of a token's text.
    pub fn of(text: &str) -> TokenHash {
        TokenHash(Sha256::digest(text.as_bytes()).into())
    }

    /// Reads `sha256:` and 64 hexadecimal digits of either case.
    ///
    /// # Errors
    /// [`TokenError::BadHash`] if it is anything else.
    pub fn parse(text: &str) -> Result<TokenHash, TokenError> {
        let bad = || TokenError::BadHash(text.chars().take(80).collect());
        let hex = text.strip_prefix("sha256:").ok_or_else(bad)?.as_bytes();
        let mut hash = [0; 32];
        let (pairs, rest) = hex.as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return Err(bad());
        }
        let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8).ok_or_else(bad);
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(TokenHash(hash))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl NewToken {
    /// A new token of 256 random bits.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<NewToken, TokenError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let hash = TokenHash::of(&text);
        Ok(NewToken { text, hash })
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl TokenStore {
    /// A store of these tokens.
    ///
    /// # Errors
    /// [`TokenError::TooMany`] beyond [`MAX_TOKENS`].
    pub fn new(tokens: Vec<Token>) -> Result<TokenStore, TokenError> {
        if tokens.len() > MAX_TOKENS {
            return Err(TokenError::TooMany(tokens.len()));
        }
        Ok(TokenStore(tokens.into()))
    }

    /// The token with this text.
    pub fn find(&self, text: &str) -> Option<&Token> {
        if text.is_empty() || text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let presented = TokenHash::of(text);
        let mut found = None;
        for token in self.0.iter() {
            // No early end: the time taken depends only on how many tokens there are.
            if bool::from(token.hash.0.ct_eq(&presented.0)) {
                found = Some(token);
            }
        }
        found
    }
}

impl Token {
    /// Whether it may do what `scope` names.
    pub fn allows(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| s == scope)
    }

    /// Whether it may register endpoints of `service`.
    pub fn may_register(&self, service: &str) -> bool {
        let services = self.scopes.iter().filter_map(|scope| scope.strip_prefix(REGISTER));
        services.into_iter().any(|allowed| allowed == service || allowed == ANY_SERVICE)
    }
}

/// The token that a request presents: `Bearer`, or the password of `Basic` (the user name does not matter).
pub(crate) fn presented(headers: &HeaderMap) -> Option<String> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let (scheme, credentials) = line.to_str().ok()?.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(credentials.to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") && credentials.len() <= 4 * MAX_TOKEN_BYTES {
        let plain = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
        plain.split_once(':').map(|(_, password)| password.to_owned())
    } else {
        None
    }
}

/// Takes the token of a webhook of GitLab, which comes in a header of its own, for one that was presented as usual.
pub(crate) fn take_gitlab(headers: &mut HeaderMap) {
    let mut lines = headers.get_all("x-gitlab-token").iter();
    if let (Some(line), None, false) = (lines.next(), lines.next(), headers.contains_key(AUTHORIZATION))
        && let Ok(value) = HeaderValue::try_from([b"Bearer ", line.as_bytes()].concat())
    {
        headers.insert(AUTHORIZATION, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, text: &str) -> Token {
        Token { name: name.into(), hash: TokenHash::of(text), scopes: vec![OPERATOR.into()] }
    }

    #[test]
    fn a_hash_is_written_and_read() {
        // SHA-256 of "abc", FIPS 180-2 appendix B.1.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of("abc").to_string(), text);
        assert_eq!(TokenHash::parse(text).unwrap(), TokenHash::of("abc"));
        assert_eq!(TokenHash::parse(&text.to_uppercase().replace("SHA", "sha")).unwrap(), TokenHash::of("abc"));
        for bad in ["", "abc", &text[7..], &text[..70], &format!("{text}0"), &text.replace('b', "g"), "sha256:é"] {
            assert!(TokenHash::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_store_finds_exactly_what_it_knows() {
        let new = NewToken::generate().unwrap();
        assert!(new.text.starts_with("evk_") && new.text.len() == 47, "{}", new.text);
        assert!(!format!("{new:?}").contains(&new.text));
        let store = TokenStore::new(vec![token("a", "one"), token("b", &new.text)]).unwrap();
        assert_eq!(store.find(&new.text).unwrap().name, "b");
        assert_eq!(store.find("one").unwrap().name, "a");
        for unknown in ["", "on", "one ", &new.text[..46], &"x".repeat(10_000)] {
            assert!(store.find(unknown).is_none());
        }
        assert!(TokenStore::new(vec![token("a", "one"); MAX_TOKENS + 1]).is_err());
    }

    #[test]
    fn a_token_registers_for_the_services_that_it_names() {
        let with = |scope: &str| Token { scopes: vec!["operator".into(), scope.into()], ..token("a", "one") };
        assert!(with("register:shop").may_register("shop") && with("register:*").may_register("shop"));
        for other in ["register:shop2", "register:sho", "register:", "register", "shop", "services:read"] {
            assert!(!with(other).may_register("shop"), "{other}");
        }
    }

    #[test]
    fn tokens_come_as_bearer_or_as_a_basic_password() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            presented(&headers)
        };
        assert_eq!(read("Bearer evk_x").as_deref(), Some("evk_x"));
        assert_eq!(read("bearer  evk_x").as_deref(), Some("evk_x"));
        assert_eq!(read(&format!("Basic {}", STANDARD.encode("ops:evk:x"))).as_deref(), Some("evk:x"));
        for bad in ["Bearer", "Basic !!", "Digest evk_x", &format!("Basic {}", STANDARD.encode("nocolon"))] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, "Bearer a".parse().unwrap());
        twice.append(AUTHORIZATION, "Bearer b".parse().unwrap());
        assert_eq!(presented(&twice), None);
        assert_eq!(presented(&HeaderMap::new()), None);
    }
}
