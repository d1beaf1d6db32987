//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677, RFC 5929), as text: [`Checker`] is the server's end, which
//! checks a client's proof against a verifier, [`Prover`] the client's, which proves that it has a secret and makes the
//! server show that it has the verifier.
//!
//! As PostgreSQL has it: the user's name inside the exchange is ignored, since the startup message said it; there is no
//! authorization identity; channel binding is `tls-server-end-point` only; extensions that must be understood are
//! refused. Bounds: messages by who reads them ([`MOST_MESSAGE`]), salts 1,024 bytes, iterations by
//! [`MOST_ITERATIONS`] where we pay for them.

pub mod checker;
pub mod prover;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use checker::{Checker, Proven};
pub use prover::{Binding, Prover, ProverSecret};

use super::keys;

/// The mechanism without channel binding.
pub const SCRAM: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Longest message of an exchange that is read: PostgreSQL's own bound.
pub const MOST_MESSAGE: usize = 1_024;

/// Most iterations that a server can make us derive: about a third of a second, and 250 times PostgreSQL's default.
pub const MOST_ITERATIONS: u32 = 1_000_000;

/// Iterations of verifiers that we make ourselves: PostgreSQL's default, so that users who do not exist look like those
/// who do.
pub const OWN_ITERATIONS: u32 = 4_096;

/// How a verifier of SCRAM begins.
pub(super) const VERIFIER_PREFIX: &str = "SCRAM-SHA-256$";

/// Random bytes in our part of a nonce, as in PostgreSQL.
const NONCE_BYTES: usize = 18;

const MOST_SALT: usize = 1_024;

/// What PostgreSQL keeps of a password: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    /// How often the password was hashed.
    pub iterations: u32,
    /// What it was hashed with.
    pub salt: Vec<u8>,
    /// The digest of `ClientKey`: what a proof is checked with.
    pub stored_key: [u8; 32],
    /// What a server shows that it has the verifier with.
    pub server_key: [u8; 32],
}

/// Why an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message is not what RFC 5802 says.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The client chose what was not offered, or what does not go with its own flag.
    #[error("the client selected a SASL mechanism that does not fit: {0}")]
    Mechanism(&'static str),
    /// The client could bind to the channel and did not see that we can: somebody may have changed the offer.
    #[error("the client supports SCRAM channel binding but thinks that the server does not, although it was offered")]
    Downgrade,
    /// The client is bound to another channel.
    #[error("SCRAM channel binding check failed: the client sees another certificate than ours")]
    Binding,
    /// A nonce is not the one of this exchange.
    #[error("SCRAM nonce mismatch")]
    Nonce,
    /// The client does not know the password.
    #[error("the proof does not fit the verifier")]
    Proof,
    /// The server asks for more work than we do for it.
    #[error("the server asks for {0} iterations of PBKDF2, more than {MOST_ITERATIONS}")]
    Iterations(u64),
    /// The server does not have the verifier.
    #[error(
        "the server's signature is wrong: it does not know the password, or it is not the server that it seems to be"
    )]
    Signature,
    /// The server said `e=`.
    #[error("the server refused the exchange: {0}")]
    Refused(String),
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Random,
}

impl ScramError {
    /// The SQLSTATE that PostgreSQL has for it.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            ScramError::Malformed(_) | ScramError::Mechanism(_) | ScramError::Nonce | ScramError::Iterations(_) => {
                "08P01"
            }
            ScramError::Downgrade | ScramError::Binding | ScramError::Signature | ScramError::Refused(_) => "28000",
            ScramError::Proof => "28P01",
            ScramError::Random => "XX000",
        }
    }
}

impl ScramVerifier {
    /// Reads one; `None`: it is none.
    pub fn parse(text: &str) -> Option<ScramVerifier> {
        let (cost, both) = text.strip_prefix(VERIFIER_PREFIX)?.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored, server) = both.split_once(':')?;
        let verifier = ScramVerifier {
            iterations: decimal(iterations).and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= i32::MAX as u32)?,
            salt: decode(salt).filter(|salt| !salt.is_empty() && salt.len() <= MOST_SALT)?,
            stored_key: decode(stored)?.try_into().ok()?,
            server_key: decode(server)?.try_into().ok()?,
        };
        (verifier.iterations > 0).then_some(verifier)
    }

    /// Makes one. Blocks for as long as the iterations take, the first time.
    pub fn of_password(password: &str, salt: &[u8], iterations: u32) -> ScramVerifier {
        let derived = keys::derive(password, salt, iterations);
        let stored_key = keys::sha256(&derived.client);
        ScramVerifier { iterations, salt: salt.to_vec(), stored_key, server_key: derived.server }
    }
}

/// As PostgreSQL keeps it. The only way in which a verifier's keys are shown, and only where it is asked for.
impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, stored, server) =
            (STANDARD.encode(&self.salt), STANDARD.encode(self.stored_key), STANDARD.encode(self.server_key));
        write!(f, "{VERIFIER_PREFIX}{}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Digits only: no sign, no blank.
fn decimal(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

/// Our part of a nonce.
fn nonce() -> Result<String, ScramError> {
    keys::random::<NONCE_BYTES>().map(|bytes| STANDARD.encode(bytes)).map_err(|_| ScramError::Random)
}

/// Whether a nonce is made of what RFC 5802 allows: printable ASCII without a comma.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b',')
}

fn text_of(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MOST_MESSAGE {
        return Err(ScramError::Malformed("longer than 1,024 bytes"));
    }
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))?;
    if text.contains('\0') { Err(ScramError::Malformed("a zero byte")) } else { Ok(text) }
}

/// Takes `name=value` and the comma behind it off the front.
fn take<'a>(rest: &mut &'a str, name: &'static str, missing: &'static str) -> Result<&'a str, ScramError> {
    if rest.starts_with("m=") {
        return Err(ScramError::Malformed("an extension that must be understood is not"));
    }
    let attribute = rest.strip_prefix(name).ok_or(ScramError::Malformed(missing))?;
    let (value, behind) = attribute.split_once(',').unwrap_or((attribute, ""));
    *rest = behind;
    Ok(value)
}

#[cfg(test)]
mod tests;
