//! The pooler logs in at a server: everything between the startup message, which the caller has sent, and the first
//! `ReadyForQuery`.
//!
//! ```text
//! begun    => exchange   SASL is asked for, a mechanism fits and a secret is there
//! begun    => answered   md5 or a password is asked for, and there
//! begun    => in         nothing is asked for
//! exchange => shown      the server has shown that it has the verifier
//! shown, answered => in  AuthenticationOk
//! in       => over       ReadyForQuery: the session
//! any      => over       ErrorResponse, and anything that is out of turn
//! ```
//!
//! Bounds: bodies [`MOST_BODY`], parameters 256; how many notices may come is bounded by the caller's deadline. A password is
//! shown in clear only where nobody can listen. Absent on purpose: GSSAPI, SSPI, OAuth.

use crate::auth::scram::{Binding, Prover, ProverSecret, SCRAM, SCRAM_PLUS, ScramError};
use crate::auth::{Secret, md5};
use crate::wire::backend::{self, Authentication, Fields};
use crate::wire::{WireError, frontend, tag};

/// Longest body of a message that is read while logging in: more than any error of a server.
pub const MOST_BODY: usize = 64 << 10;

/// Most parameters that a server reports: PostgreSQL has about 15.
const MOST_PARAMETERS: usize = 256;

/// The pooler at a server.
#[derive(Debug)]
pub struct ServerLogin {
    secret: Secret,
    user: String,
    channel: Channel,
    state: State,
    session: ServerSession,
}

/// What lies between us and the server, as far as it matters for showing a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// TCP without TLS.
    Open,
    /// A Unix socket.
    Local,
    /// TLS, and the hash of the server's certificate, if there is one for its kind of signature: see
    /// [`crate::tls::end_point_hash`].
    Tls(Option<Vec<u8>>),
}

/// How far a message has brought us.
#[derive(Debug)]
pub enum ServerStep {
    /// Not there yet: send what was appended, and read on.
    More,
    /// Logged in.
    Ready(ServerSession),
}

/// What a server said of the session.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServerSession {
    /// The backend's number; 0 if it said none.
    pub pid: i32,
    /// What cancels its queries; empty if it said none.
    pub key: Vec<u8>,
    /// What it reports of its settings, in its order, the last value of each.
    pub parameters: Vec<(String, String)>,
    /// `I`, `T` or `E`.
    pub status: u8,
    /// The newest minor version of protocol 3 that it speaks, if that is less than what was asked for.
    pub minor: Option<u16>,
}

/// Why we are not logged in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerLoginError {
    /// The server said no.
    #[error("{message}")]
    Refused {
        /// Its code.
        sqlstate: String,
        /// Its text.
        message: String,
        /// Its detail.
        detail: Option<String>,
        /// Its hint.
        hint: Option<String>,
    },
    /// Nothing is known that could be shown.
    #[error(
        "no key of user \"{user}\" is known yet: the pooler learns it when the user next logs in to it with a password"
    )]
    NoKey {
        /// Who.
        user: String,
    },
    /// What is known does not fit what the server asks for.
    #[error("the server asks user \"{user}\" for {asked}, and only {known} is known to the pooler")]
    Unfit {
        /// Who.
        user: String,
        /// What is asked for.
        asked: &'static str,
        /// What there is.
        known: &'static str,
    },
    /// The server wants the password in clear on a connection that others can read.
    #[error("the server asks for the password of user \"{user}\" in clear on a connection without TLS: it is not sent")]
    Exposed {
        /// Who.
        user: String,
    },
    /// The server asks for what is not spoken here.
    #[error("the server asks for an authentication that is not supported: {0}")]
    Unsupported(String),
    /// The exchange went wrong.
    #[error("SCRAM with the server: {0}")]
    Scram(#[from] ScramError),
    /// The server let us in without showing that it has the verifier.
    #[error("the server ended SCRAM without showing that it knows the password")]
    Unproven,
    /// A message cannot be read.
    #[error("the server's answer to the login: {0}")]
    Wire(#[from] WireError),
    /// A message that has no place here.
    #[error("the server's answer to the login: {what} (message {})", tag.escape_ascii())]
    Unexpected {
        /// Its tag.
        tag: u8,
        /// What is wrong with it.
        what: &'static str,
    },
}

#[derive(Debug)]
enum State {
    Begun,
    Exchange(Box<Prover>),
    Shown,
    Answered,
    In,
    Over,
}

impl ServerLogin {
    /// Begins behind the startup message, for `user`.
    pub fn begin(secret: Secret, user: &str, channel: Channel) -> ServerLogin {
        let session = ServerSession { status: b'I', ..ServerSession::default() };
        ServerLogin { secret, user: user.to_owned(), channel, state: State::Begun, session }
    }

    /// Reads the server's next message and appends the answer to `out`. With a password it blocks for as long as the
    /// server's iterations take, up to about a third of a second, the first time that a salt is seen.
    ///
    /// # Errors
    ///
    /// The login is over, and the connection of no use.
    pub fn message(&mut self, tag: u8, body: &[u8], out: &mut Vec<u8>) -> Result<ServerStep, ServerLoginError> {
        if body.len() > MOST_BODY {
            return Err(self.unexpected(tag, "too long for a login"));
        }
        match (tag, &self.state) {
            (_, State::Over) => return Err(self.unexpected(tag, "the login is over")),
            (tag::NOTICE, _) => {
                Fields::read(body)?;
            }
            (tag::ERROR, _) => return Err(self.refused(body)),
            (tag::NEGOTIATE, State::Begun) => self.session.minor = Some(backend::negotiate(body)?.0),
            (tag::AUTHENTICATION, _) => {
                let step = backend::authentication(body)?;
                self.state = match (step, std::mem::replace(&mut self.state, State::Over)) {
                    (Authentication::Ok, State::Begun | State::Shown | State::Answered) => State::In,
                    (Authentication::Ok, State::Exchange(_)) => return Err(ServerLoginError::Unproven),
                    (step, State::Begun) => self.answer(&step, out)?,
                    (Authentication::SaslContinue(said), State::Exchange(mut prover)) => {
                        frontend::put_sasl_response(out, prover.answer(said)?.as_bytes());
                        State::Exchange(prover)
                    }
                    (Authentication::SaslFinal(said), State::Exchange(mut prover)) => {
                        prover.check(said)?;
                        State::Shown
                    }
                    _ => return Err(self.unexpected(tag, "a step of authentication out of turn")),
                };
            }
            (tag::PARAMETER_STATUS, State::In) => self.parameter(body)?,
            (tag::KEY_DATA, State::In) => {
                let (pid, key) = backend::key_data(body)?;
                (self.session.pid, self.session.key) = (pid, key.to_vec());
            }
            (tag::READY, State::In) => {
                self.session.status = backend::ready_status(body)?;
                self.state = State::Over;
                return Ok(ServerStep::Ready(std::mem::take(&mut self.session)));
            }
            _ => return Err(self.unexpected(tag, "it has no place in a login")),
        }
        Ok(ServerStep::More)
    }

    /// Answers what the server asks for first.
    fn answer(&mut self, asked: &Authentication<'_>, out: &mut Vec<u8>) -> Result<State, ServerLoginError> {
        match asked {
            Authentication::Sasl(mechanisms) => self.begin_scram(mechanisms, out),
            Authentication::Md5(salt) => {
                let kept = match &self.secret {
                    Secret::Password(password) => md5::digest(password, &self.user),
                    Secret::Md5(digest) => *digest,
                    Secret::Scram { .. } | Secret::None => return Err(self.unfit("md5")),
                };
                frontend::put_password(out, &md5::answer(&kept, *salt));
                Ok(State::Answered)
            }
            Authentication::Cleartext => {
                let Secret::Password(password) = &self.secret else { return Err(self.unfit("the password in clear")) };
                if self.channel == Channel::Open {
                    return Err(ServerLoginError::Exposed { user: self.user.clone() });
                }
                frontend::put_password(out, password.as_bytes());
                Ok(State::Answered)
            }
            Authentication::Other(code) => {
                let known = match code {
                    2 => "Kerberos V5",
                    7 => "GSSAPI",
                    9 => "SSPI",
                    _ => return Err(ServerLoginError::Unsupported(format!("code {code}"))),
                };
                Err(ServerLoginError::Unsupported(known.to_owned()))
            }
            Authentication::Ok | Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
                Err(self.unexpected(tag::AUTHENTICATION, "a step of authentication out of turn"))
            }
        }
    }

    fn begin_scram(&self, mechanisms: &[&str], out: &mut Vec<u8>) -> Result<State, ServerLoginError> {
        let has_plus = mechanisms.contains(&SCRAM_PLUS);
        let binding = match &self.channel {
            Channel::Tls(Some(hash)) if has_plus => Binding::EndPoint(hash.clone()),
            Channel::Tls(Some(_)) => Binding::NotOffered,
            Channel::Tls(None) => Binding::Unable,
            // A server offers binding only through TLS: somebody in between ends the TLS of another connection.
            Channel::Open | Channel::Local if has_plus => {
                return Err(ServerLoginError::Unsupported("SCRAM-SHA-256-PLUS without TLS".to_owned()));
            }
            Channel::Open | Channel::Local => Binding::Unable,
        };
        if !matches!(binding, Binding::EndPoint(_)) && !mechanisms.contains(&SCRAM) {
            let offered: Vec<String> = mechanisms.iter().take(8).map(|m| m.escape_debug().take(40).collect()).collect();
            return Err(ServerLoginError::Unsupported(format!("SASL with {}", offered.join(", "))));
        }
        let secret = match &self.secret {
            Secret::Password(password) => ProverSecret::Password(password.clone()),
            Secret::Scram { client_key, server_key } => {
                ProverSecret::Keys { client_key: *client_key, server_key: *server_key }
            }
            Secret::Md5(_) | Secret::None => return Err(self.unfit("SCRAM-SHA-256")),
        };
        let (prover, first) = Prover::begin(secret, binding)?;
        frontend::put_sasl_initial(out, prover.mechanism(), first.as_bytes());
        Ok(State::Exchange(Box::new(prover)))
    }

    fn parameter(&mut self, body: &[u8]) -> Result<(), ServerLoginError> {
        let (name, value) = match backend::parameter_status(body) {
            Ok(pair) => pair,
            // A value in the database's encoding, such as `application_name`, cannot be told on.
            Err(WireError::Utf8 { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let parameters = &mut self.session.parameters;
        if let Some((_, known)) = parameters.iter_mut().find(|(known, _)| known == name) {
            value.clone_into(known);
        } else if parameters.len() < MOST_PARAMETERS {
            parameters.push((name.to_owned(), value.to_owned()));
        } else {
            return Err(self.unexpected(tag::PARAMETER_STATUS, "more than 256 parameters"));
        }
        Ok(())
    }

    fn refused(&mut self, body: &[u8]) -> ServerLoginError {
        self.state = State::Over;
        match Fields::read(body) {
            Ok(fields) => {
                let text = |code| fields.raw(code).map(|raw| String::from_utf8_lossy(raw).into_owned());
                let (detail, hint) = (text(b'D'), text(b'H'));
                ServerLoginError::Refused {
                    sqlstate: fields.sqlstate().to_owned(),
                    message: fields.message(),
                    detail,
                    hint,
                }
            }
            Err(error) => error.into(),
        }
    }

    fn unfit(&self, asked: &'static str) -> ServerLoginError {
        let user = self.user.clone();
        let known = match self.secret {
            Secret::None => return ServerLoginError::NoKey { user },
            Secret::Password(_) => "a password",
            Secret::Scram { .. } => "a SCRAM key",
            Secret::Md5(_) => "an md5 digest",
        };
        ServerLoginError::Unfit { user, asked, known }
    }

    fn unexpected(&mut self, tag: u8, what: &'static str) -> ServerLoginError {
        self.state = State::Over;
        ServerLoginError::Unexpected { tag, what }
    }
}

impl ServerLoginError {
    /// The code to tell a client that waits for the connection: the server's own, or the one that fits.
    pub fn sqlstate(&self) -> &str {
        match self {
            ServerLoginError::Refused { sqlstate, .. } => sqlstate,
            ServerLoginError::NoKey { .. }
            | ServerLoginError::Unfit { .. }
            | ServerLoginError::Exposed { .. }
            | ServerLoginError::Unsupported(_)
            | ServerLoginError::Unproven => "28000",
            ServerLoginError::Scram(error) => error.sqlstate(),
            ServerLoginError::Wire(_) | ServerLoginError::Unexpected { .. } => "08P01",
        }
    }
}

impl std::fmt::Debug for ServerSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerSession")
            .field("pid", &self.pid)
            .field("parameters", &self.parameters)
            .field("status", &char::from(self.status))
            .field("minor", &self.minor)
            .finish_non_exhaustive()
    }
}
