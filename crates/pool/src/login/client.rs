//! A client logs in here: from the request for a proof to `AuthenticationOk`, which is put by this.
//!
//! | verifier | what is asked for | what the login gives |
//! | --- | --- | --- |
//! | SCRAM | SCRAM, with -PLUS through TLS | the client's key, if the proof fits |
//! | a password | the same, against a verifier made of it | the password |
//! | md5 | md5 | the digest |
//! | none, or no such user | SCRAM against a made-up verifier, the same at each try | nothing: refused at the end |
//!
//! What a client can tell from outside is the same whether the user exists or not, except that users with md5 are asked for md5.
//! Clients that something else vouches for (a certificate, the operating system) go through [`vouched`].
//!
//! Bound: a message of [`MOST_BODY`]; there are two at most.

use crate::auth::scram::{Checker, MOST_MESSAGE, OWN_ITERATIONS, Proven, ScramError, ScramVerifier};
use crate::auth::{Secret, Verifier, keys, md5};
use crate::wire::{WireError, backend, frontend};

/// Longest body of a client's message while it logs in: a message of SCRAM and what is around it.
pub const MOST_BODY: usize = MOST_MESSAGE + 256;

/// Length of a salt that is made up: as PostgreSQL's.
const SALT: usize = 16;

/// A client that logs in.
#[derive(Debug)]
pub struct ClientLogin {
    user: String,
    /// What is answered where the proof is wrong.
    reason: Reason,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The first message of SCRAM is awaited, with the mechanism in front.
    Scram(Box<Checker>, Known),
    /// The mechanism was chosen without a first message.
    Chosen(Box<Checker>, Known, String),
    /// The proof is awaited.
    Proof(Box<Checker>, Known),
    /// The answer to this salt is awaited.
    Md5([u8; 32], [u8; 4]),
    Over,
}

/// What is known beside the proof.
#[derive(Debug)]
struct Known(Secret);

/// Why a password does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is wrong.
    Wrong,
    /// There is no such user.
    Unknown,
    /// The user has none.
    NoPassword,
}

/// Why a client is not logged in. What it displays is what the client may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The password does not do.
    #[error("password authentication failed for user \"{user}\"")]
    Password {
        /// Who.
        user: String,
        /// For the log only.
        reason: Reason,
    },
    /// The operating system's user is another.
    #[error("peer authentication failed for user \"{user}\"")]
    Peer {
        /// Who.
        user: String,
        /// Who the client is for the operating system, or why that is not known. For the log only.
        found: String,
    },
    /// The certificate is for another, or there is none.
    #[error("certificate authentication failed for user \"{user}\"")]
    Certificate {
        /// Who.
        user: String,
        /// The certificate's common name. For the log only.
        found: Option<String>,
    },
    /// The exchange went wrong.
    #[error("{0}")]
    Scram(ScramError),
    /// A message cannot be read.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// A message is too long for a login.
    #[error("the message is too long for a login: {MOST_BODY} bytes at most")]
    Long,
    /// A message after the end.
    #[error("the login is over")]
    Over,
}

impl ClientLogin {
    /// Begins: appends what is asked for to `out`. `verifier` is `None` for a user that does not exist; `channel` is the hash of
    /// our certificate if the client speaks through TLS, which offers channel binding.
    ///
    /// For a password it blocks for about a millisecond, the first time that it is used in this process.
    ///
    /// # Errors
    ///
    /// If the operating system gives no randomness.
    pub fn begin(
        user: &str,
        verifier: Option<&Verifier>,
        channel: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<ClientLogin, LoginError> {
        let made_up = |purpose| keys::made_up(purpose, user).ok_or(LoginError::Scram(ScramError::Random));
        let mut reason = Reason::Wrong;
        let (verifier, known) = match verifier {
            Some(Verifier::Md5(digest)) => {
                let salt = keys::random().map_err(|_| LoginError::Scram(ScramError::Random))?;
                backend::put_authentication_md5(out, salt);
                return Ok(ClientLogin { user: user.to_owned(), reason, state: State::Md5(*digest, salt) });
            }
            Some(Verifier::Scram(verifier)) => (verifier.clone(), Secret::None),
            Some(Verifier::Plain(password)) => {
                let salt = &made_up("salt")?[..SALT];
                let verifier = ScramVerifier::of_password(password, salt, OWN_ITERATIONS);
                (verifier, Secret::Password(password.clone()))
            }
            None | Some(Verifier::None) => {
                reason = if verifier.is_none() { Reason::Unknown } else { Reason::NoPassword };
                let salt = made_up("salt")?[..SALT].to_vec();
                let (stored_key, server_key) = (made_up("stored")?, made_up("server")?);
                (ScramVerifier { iterations: OWN_ITERATIONS, salt, stored_key, server_key }, Secret::None)
            }
        };
        let checker = Checker::new(verifier, reason == Reason::Wrong, channel.map(<[u8]>::to_vec));
        backend::put_authentication_sasl(out, checker.mechanisms());
        Ok(ClientLogin { user: user.to_owned(), reason, state: State::Scram(Box::new(checker), Known(known)) })
    }

    /// Reads the body of the client's next `p` message and appends the answer to `out`: `AuthenticationOk` included, where
    /// `Some` is returned. That is what the server can be shown for this user.
    ///
    /// # Errors
    ///
    /// The login is over; [`LoginError::put`] tells the client.
    pub fn message(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<Option<Secret>, LoginError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        if body.len() > MOST_BODY {
            return Err(LoginError::Long);
        }
        self.state = match state {
            State::Scram(checker, known) => match frontend::sasl_initial(body)? {
                (mechanism, Some(first)) => self.first(checker, known, mechanism, first, out)?,
                (mechanism, None) => {
                    backend::put_authentication_sasl_continue(out, b"");
                    State::Chosen(checker, known, mechanism.to_owned())
                }
            },
            State::Chosen(checker, known, mechanism) => self.first(checker, known, &mechanism, body, out)?,
            State::Proof(mut checker, Known(known)) => {
                let (last, proven) = checker.last(body).map_err(|error| self.failed(error))?;
                backend::put_authentication_sasl_final(out, last.as_bytes());
                backend::put_authentication_ok(out);
                let Proven { client_key, server_key } = proven;
                let secret = if known.is_none() { Secret::Scram { client_key, server_key } } else { known };
                return Ok(Some(secret));
            }
            State::Md5(digest, salt) => {
                if !md5::is_right(&digest, salt, frontend::password(body)?) {
                    return Err(self.wrong());
                }
                backend::put_authentication_ok(out);
                return Ok(Some(Secret::Md5(digest)));
            }
            State::Over => return Err(LoginError::Over),
        };
        Ok(None)
    }

    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    fn first(
        &self,
        mut checker: Box<Checker>,
        known: Known,
        mechanism: &str,
        first: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<State, LoginError> {
        let answer = checker.first(mechanism, first).map_err(|error| self.failed(error))?;
        backend::put_authentication_sasl_continue(out, answer.as_bytes());
        Ok(State::Proof(checker, known))
    }

    fn failed(&self, error: ScramError) -> LoginError {
        if error == ScramError::Proof { self.wrong() } else { LoginError::Scram(error) }
    }

    fn wrong(&self) -> LoginError {
        LoginError::Password { user: self.user.clone(), reason: self.reason }
    }
}

/// Logs a client in that something else vouches for: appends `AuthenticationOk`, and returns what can be shown to a server for
/// the user. With a SCRAM verifier that is nothing, until somebody logs in as the same user with a password.
pub fn vouched(verifier: Option<&Verifier>, out: &mut Vec<u8>) -> Secret {
    backend::put_authentication_ok(out);
    verifier.map_or(Secret::None, Verifier::secret)
}

impl LoginError {
    /// The code that the client is told.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            LoginError::Password { .. } => "28P01",
            LoginError::Peer { .. } | LoginError::Certificate { .. } => "28000",
            LoginError::Scram(error) => error.sqlstate(),
            LoginError::Wire(error) => error.sqlstate(),
            LoginError::Long | LoginError::Over => "08P01",
        }
    }

    /// Whether the verifier did not fit: it may be older than the user's password.
    pub fn is_about_the_verifier(&self) -> bool {
        matches!(self, LoginError::Password { .. })
    }

    /// What the log says: more than the client may know.
    pub fn reason(&self) -> String {
        match self {
            LoginError::Password { user, reason: Reason::Wrong } => format!("wrong password for user \"{user}\""),
            LoginError::Password { user, reason: Reason::Unknown } => format!("there is no user \"{user}\""),
            LoginError::Password { user, reason: Reason::NoPassword } => {
                format!("user \"{user}\" has no password, or a verifier that cannot be read")
            }
            LoginError::Peer { user, found } => format!("the client is not the system's user \"{user}\": {found}"),
            LoginError::Certificate { user, found: Some(found) } => {
                format!("the client's certificate is for \"{found}\", not for user \"{user}\"")
            }
            LoginError::Certificate { user, found: None } => {
                format!("the client that logs in as \"{user}\" has shown no certificate with a common name")
            }
            other => other.to_string(),
        }
    }

    /// Appends what the client is told, before it is sent away.
    pub fn put(&self, out: &mut Vec<u8>) {
        backend::put_error(out, "FATAL", self.sqlstate(), &self.to_string(), None, None);
    }
}
