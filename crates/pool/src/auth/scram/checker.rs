//! The server's end: an offer, `client-first` answered by `server-first`, `client-final` answered by `server-final` if the
//! proof fits.
//!
//! ```text
//! begun    => answered   client-first can be read, and its flag fits what was offered and chosen
//! answered => proven     nonce and channel are those of this exchange, and the proof fits the verifier
//! any      => over       anything else
//! ```
//!
//! An exchange that cannot end well (an unknown user) goes the same way and fails at the proof only, so that it tells
//! nothing about who exists.

use std::fmt;

use subtle::ConstantTimeEq as _;

use super::{SCRAM, SCRAM_PLUS, STANDARD, ScramError, ScramVerifier, decode, is_nonce, nonce, take, text_of};
use crate::auth::keys;
use base64::Engine as _;

/// The only channel binding there is here.
const END_POINT: &str = "tls-server-end-point";

/// What a proof that fits gave away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// `ClientKey`.
    pub client_key: [u8; 32],
    /// `ServerKey`, of the verifier.
    pub server_key: [u8; 32],
}

impl fmt::Debug for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proven(..)")
    }
}

/// The server's end of an exchange.
pub struct Checker {
    verifier: ScramVerifier,
    can_succeed: bool,
    /// Hash of our certificate, if channel binding is offered.
    channel: Option<Vec<u8>>,
    state: State,
}

enum State {
    Begun,
    Answered {
        /// What `c=` has to be.
        channel: String,
        /// Both parts.
        nonce: String,
        /// `client-first-message-bare,server-first-message`.
        transcript: String,
    },
    Over,
}

impl Checker {
    /// An exchange against a verifier. `can_succeed` is false for a made-up one; `channel` is the hash of our
    /// certificate if the client speaks through TLS.
    pub fn new(verifier: ScramVerifier, can_succeed: bool, channel: Option<Vec<u8>>) -> Checker {
        Checker { verifier, can_succeed, channel, state: State::Begun }
    }

    /// What is offered, the preferred one first.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        if self.channel.is_some() { &[SCRAM_PLUS, SCRAM] } else { &[SCRAM] }
    }

    /// `client-first-message` to `server-first-message`.
    ///
    /// # Errors
    ///
    /// The exchange is over.
    pub fn first(&mut self, mechanism: &str, message: &[u8]) -> Result<String, ScramError> {
        self.first_with(mechanism, message, nonce()?)
    }

    pub(super) fn first_with(&mut self, mechanism: &str, message: &[u8], own: String) -> Result<String, ScramError> {
        let State::Begun = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::Malformed("a second first message"));
        };
        let is_plus = match mechanism {
            SCRAM => false,
            SCRAM_PLUS if self.channel.is_some() => true,
            _ => return Err(ScramError::Mechanism("it was not offered")),
        };
        let text = text_of(message)?;
        let (header, bare) = self.header(text, is_plus)?;
        let mut rest = bare;
        take(&mut rest, "n=", "no user attribute")?;
        let theirs = take(&mut rest, "r=", "no nonce")?;
        if !is_nonce(theirs) {
            return Err(ScramError::Malformed("a nonce that is empty or not printable"));
        }
        let nonce = format!("{theirs}{own}");
        let salt = STANDARD.encode(&self.verifier.salt);
        let answer = format!("r={nonce},s={salt},i={}", self.verifier.iterations);
        let mut channel = header.as_bytes().to_vec();
        if is_plus {
            channel.extend_from_slice(self.channel.as_deref().unwrap_or_default());
        }
        let transcript = format!("{bare},{answer}");
        self.state = State::Answered { channel: STANDARD.encode(channel), nonce, transcript };
        Ok(answer)
    }

    /// Splits `client-first-message` behind its `gs2-header`, and checks the header.
    fn header<'a>(&self, text: &'a str, is_plus: bool) -> Result<(&'a str, &'a str), ScramError> {
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Malformed("no channel binding flag"))?;
        match (flag, is_plus) {
            ("n", false) => {}
            ("y", false) if self.channel.is_some() => return Err(ScramError::Downgrade),
            ("y", false) => {}
            ("n" | "y", true) => {
                return Err(ScramError::Mechanism("SCRAM-SHA-256-PLUS, but the message has no channel binding"));
            }
            (bound, _) => {
                let kind = bound.strip_prefix("p=").ok_or(ScramError::Malformed("an unknown channel binding flag"))?;
                if !is_plus {
                    return Err(ScramError::Mechanism("SCRAM-SHA-256, but the message has channel binding"));
                }
                if kind != END_POINT {
                    return Err(ScramError::Malformed("an unsupported kind of channel binding"));
                }
            }
        }
        let bare = rest.strip_prefix(',').ok_or(ScramError::Malformed("an authorization identity is not supported"))?;
        Ok(text.split_at(text.len() - bare.len()))
    }

    /// `client-final-message` to `server-final-message`, and what the proof gave away.
    ///
    /// # Errors
    ///
    /// The exchange is over; [`ScramError::Proof`] if the password is wrong.
    pub fn last(&mut self, message: &[u8]) -> Result<(String, Proven), ScramError> {
        let State::Answered { channel, nonce, transcript } = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramError::Malformed("a last message before the first"));
        };
        let text = text_of(message)?;
        let (unproven, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed("no proof at the end"))?;
        let proof: keys::Key = decode(proof)
            .and_then(|p| p.try_into().ok())
            .ok_or(ScramError::Malformed("a proof that is not 32 bytes"))?;
        let mut rest = unproven;
        let bound = take(&mut rest, "c=", "no channel binding")?;
        let said = take(&mut rest, "r=", "no nonce")?;
        if said != nonce {
            return Err(ScramError::Nonce);
        }
        if bound != channel {
            return Err(ScramError::Binding);
        }
        let transcript = format!("{transcript},{unproven}");
        let signature = keys::hmac(&self.verifier.stored_key, &[transcript.as_bytes()]);
        let client_key = keys::xor(&proof, &signature);
        let fits: bool = keys::sha256(&client_key).ct_eq(&self.verifier.stored_key).into();
        if !(fits && self.can_succeed) {
            return Err(ScramError::Proof);
        }
        let server_key = self.verifier.server_key;
        let shown = keys::hmac(&server_key, &[transcript.as_bytes()]);
        Ok((format!("v={}", STANDARD.encode(shown)), Proven { client_key, server_key }))
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Begun => "begun",
            State::Answered { .. } => "answered",
            State::Over => "over",
        };
        f.debug_struct("Checker").field("state", &state).finish_non_exhaustive()
    }
}
