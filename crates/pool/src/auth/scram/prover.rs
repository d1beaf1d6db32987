//! The client's end: `client-first` as soon as the server's offer is known, `client-final` for `server-first`, and the
//! check of `server-final`.
//!
//! ```text
//! begun  => proven    the nonce extends ours, the salt and the iterations are in bounds
//! proven => accepted  the server's signature is right
//! any    => over      anything else
//! ```

use std::fmt;

use base64::Engine as _;
use subtle::ConstantTimeEq as _;

use super::{
    MOST_ITERATIONS, MOST_SALT, SCRAM, SCRAM_PLUS, STANDARD, ScramError, decimal, decode, is_nonce, nonce, take,
    text_of,
};
use crate::auth::keys::{self, Keys};

/// What is proven.
#[derive(Clone)]
pub enum ProverSecret {
    /// The password.
    Password(String),
    /// What was derived from it: right for the server's verifier only if that is the one it was derived for.
    Keys {
        /// `ClientKey`.
        client_key: [u8; 32],
        /// `ServerKey`.
        server_key: [u8; 32],
    },
}

impl fmt::Debug for ProverSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProverSecret(..)")
    }
}

/// How the exchange is bound to the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// We cannot: `n`.
    Unable,
    /// We could, and the server did not offer it: `y`. A server that did offer it then knows that somebody changed the
    /// offer.
    NotOffered,
    /// To the server's certificate, by its hash: `p=tls-server-end-point`.
    EndPoint(Vec<u8>),
}

impl Binding {
    /// The `gs2-header` that says so.
    fn header(&self) -> &'static str {
        match self {
            Binding::Unable => "n,,",
            Binding::NotOffered => "y,,",
            Binding::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }
}

/// The client's end of an exchange.
pub struct Prover {
    secret: ProverSecret,
    binding: Binding,
    state: State,
}

enum State {
    Begun { bare: String, nonce: String },
    Proven { signature: keys::Key },
    Over,
}

impl Prover {
    /// An exchange, and its `client-first-message`.
    ///
    /// # Errors
    ///
    /// If there is no randomness.
    pub fn begin(secret: ProverSecret, binding: Binding) -> Result<(Prover, String), ScramError> {
        // The startup message said who we are: PostgreSQL ignores the name here, and libpq leaves it empty.
        Ok(Prover::begin_with(secret, binding, "", nonce()?))
    }

    pub(super) fn begin_with(secret: ProverSecret, binding: Binding, user: &str, nonce: String) -> (Prover, String) {
        let bare = format!("n={user},r={nonce}");
        let first = format!("{}{bare}", binding.header());
        (Prover { secret, binding, state: State::Begun { bare, nonce } }, first)
    }

    /// The mechanism that goes with the binding.
    pub fn mechanism(&self) -> &'static str {
        if matches!(self.binding, Binding::EndPoint(_)) { SCRAM_PLUS } else { SCRAM }
    }

    /// `server-first-message` to `client-final-message`. With a password it blocks for as long as the iterations take, the
    /// first time that this salt is seen.
    ///
    /// # Errors
    ///
    /// The exchange is over.
    pub fn answer(&mut self, message: &[u8]) -> Result<String, ScramError> {
        let State::Begun { bare, nonce } = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::Malformed("a second first message of the server"));
        };
        let first = text_of(message)?;
        let mut rest = first;
        let both = take(&mut rest, "r=", "no nonce")?;
        if !is_nonce(both) {
            return Err(ScramError::Malformed("a nonce that is empty or not printable"));
        }
        if both.strip_prefix(nonce.as_str()).is_none_or(str::is_empty) {
            return Err(ScramError::Nonce);
        }
        let salt = decode(take(&mut rest, "s=", "no salt")?)
            .filter(|salt| !salt.is_empty() && salt.len() <= MOST_SALT)
            .ok_or(ScramError::Malformed("a salt that is empty, too long or not base64"))?;
        let iterations = decimal(take(&mut rest, "i=", "no iterations")?)
            .filter(|n| *n > 0)
            .ok_or(ScramError::Malformed("iterations that are not a positive number"))?;
        let iterations = u32::try_from(iterations)
            .ok()
            .filter(|n| *n <= MOST_ITERATIONS)
            .ok_or(ScramError::Iterations(iterations))?;

        let keys = match &self.secret {
            ProverSecret::Password(password) => keys::derive(password, &salt, iterations),
            ProverSecret::Keys { client_key, server_key } => Keys { client: *client_key, server: *server_key },
        };
        let mut channel = self.binding.header().as_bytes().to_vec();
        if let Binding::EndPoint(hash) = &self.binding {
            channel.extend_from_slice(hash);
        }
        let unproven = format!("c={},r={both}", STANDARD.encode(channel));
        let transcript = format!("{bare},{first},{unproven}");
        let signature = keys::hmac(&keys::sha256(&keys.client), &[transcript.as_bytes()]);
        let proof = keys::xor(&keys.client, &signature);
        self.state = State::Proven { signature: keys::hmac(&keys.server, &[transcript.as_bytes()]) };
        Ok(format!("{unproven},p={}", STANDARD.encode(proof)))
    }

    /// Checks `server-final-message`.
    ///
    /// # Errors
    ///
    /// If the server does not show that it has the verifier.
    pub fn check(&mut self, message: &[u8]) -> Result<(), ScramError> {
        let State::Proven { signature } = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::Malformed("a last message of the server before its first"));
        };
        let mut rest = text_of(message)?;
        if let Some(error) = rest.strip_prefix("e=") {
            let said = error.split(',').next().unwrap_or_default();
            return Err(ScramError::Refused(said.chars().filter(|c| !c.is_control()).collect()));
        }
        let shown = decode(take(&mut rest, "v=", "no signature")?)
            .ok_or(ScramError::Malformed("a signature that is not base64"))?;
        if shown.ct_eq(signature.as_slice()).into() { Ok(()) } else { Err(ScramError::Signature) }
    }
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Begun { .. } => "begun",
            State::Proven { .. } => "proven",
            State::Over => "over",
        };
        f.debug_struct("Prover").field("state", &state).field("binding", &self.binding).finish_non_exhaustive()
    }
}
