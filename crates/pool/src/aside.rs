//! The pooler's own questions: a session of its own at a server, that asks one thing at a time and keeps the whole answer.
//!
//! Texts are the pooler's own, or the operator's (`auth_query`); values travel as parameters, never inside a text. Answers
//! are bounded by [`ROWS_MAX`] and [`BYTES_MAX`].
//!
//! Cancel safety: [`Aside::idle`] loses nothing. A question whose future was dropped leaves the session in the middle of an
//! answer: it says so ([`Aside::is_usable`]) and answers nothing more.

use std::io;
use std::time::Duration;

use crate::connect::{self, Account, Address, Link, Live, OpenError, Security};
use crate::login::server::ServerSession;
use crate::plan::ServerPlan;
use crate::wire::{HEADER, WireError, backend, frontend, tag};

/// Rows of one answer, at most.
pub const ROWS_MAX: usize = 10_000;
/// Bytes of one message of an answer, and of all rows together, at most.
pub const BYTES_MAX: usize = 1 << 20;

/// Settings that a server reports, at most; others are not kept.
const PARAMETERS_MAX: usize = 256;

/// The rows of an answer; `None` is NULL. What is not UTF-8 is replaced.
pub type Rows = Vec<Vec<Option<String>>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AsideError {
    /// The server said no; the session may go on.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Refused {
        /// Its code.
        sqlstate: String,
        /// Its text.
        message: String,
    },
    /// The server ended the session.
    #[error("the session has ended: {0}")]
    Ended(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broke(#[from] io::Error),
    /// What came is not the protocol.
    #[error("the server's answer: {0}")]
    Wire(#[from] WireError),
    /// The answer is too large.
    #[error("the answer is larger than {ROWS_MAX} rows or {BYTES_MAX} bytes")]
    TooLarge,
    /// A question before it was given up.
    #[error("the session is in the middle of another answer")]
    Unusable,
}

impl AsideError {
    /// The SQLSTATE of a refusal.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            AsideError::Refused { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }
}

/// A session of the pooler's own.
#[derive(Debug)]
pub struct Aside {
    link: Link,
    buf: Vec<u8>,
    out: Vec<u8>,
    parameters: Vec<(String, String)>,
    is_usable: bool,
}

impl Aside {
    /// Opens a session.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        server: &ServerPlan,
        security: Security<'_>,
        account: Account<'_>,
        timeout: Duration,
    ) -> Result<Aside, OpenError> {
        connect::session(server, security, account, timeout).await.map(Aside::from_live)
    }

    pub(crate) fn from_live(live: Live) -> Aside {
        let parameters = live.session.parameters;
        Aside { link: live.link, buf: live.rest, out: Vec::new(), parameters, is_usable: true }
    }

    /// Gives the connection back, between questions.
    pub(crate) fn into_live(self, session: ServerSession, address: Address) -> Live {
        let session = ServerSession { parameters: self.parameters, ..session };
        Live { link: self.link, session, rest: self.buf, address }
    }

    /// Whether it can be asked.
    pub fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// What the server reports of its settings, as it is now.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// One of them.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Asks a text of one statement.
    ///
    /// # Errors
    /// [`AsideError`]; after anything but a refusal the session is of no use.
    pub async fn query(&mut self, text: &str) -> Result<Rows, AsideError> {
        self.out.clear();
        frontend::put_query(&mut self.out, text.as_bytes());
        self.answer().await
    }

    /// Asks a text with parameters `$1`, `$2`…, whose types the server infers.
    ///
    /// # Errors
    /// As [`Aside::query`].
    pub async fn ask(&mut self, text: &str, values: &[&str]) -> Result<Rows, AsideError> {
        self.out.clear();
        let values: Vec<Option<&str>> = values.iter().map(|value| Some(*value)).collect();
        frontend::put_parse(&mut self.out, b"", text.as_bytes(), &[0, 0]);
        frontend::put_bind(&mut self.out, b"", b"", &values);
        frontend::put_execute(&mut self.out, b"", 0);
        frontend::put_sync(&mut self.out);
        self.answer().await
    }

    /// Waits, between questions, for what the server says unasked: returns when the session has ended, and why; takes in
    /// settings that change. Cancel safe.
    pub async fn idle(&mut self) -> AsideError {
        loop {
            match self.message().await {
                Ok((tag, _)) if connect::is_aside(tag) => {}
                Ok((tag::ERROR, body)) => return AsideError::Ended(connect::refusal(&body).1),
                Ok((tag, _)) => return AsideError::Ended(format!("an answer to no question (message {tag:#04x})")),
                Err(error) => return error,
            }
        }
    }

    /// Ends the session as a guest should.
    pub async fn close(mut self) {
        self.out.clear();
        frontend::put_terminate(&mut self.out);
        if let Err(error) = self.link.write_all(&self.out).await {
            tracing::debug!(%error, "a session had ended before it was closed");
        }
    }

    async fn answer(&mut self) -> Result<Rows, AsideError> {
        if !std::mem::replace(&mut self.is_usable, false) {
            return Err(AsideError::Unusable);
        }
        let out = std::mem::take(&mut self.out);
        self.link.write_all(&out).await?;
        self.out = out;
        let (mut rows, mut bytes, mut refused) = (Rows::new(), 0, None);
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                tag::DATA_ROW => {
                    bytes += body.len();
                    if rows.len() == ROWS_MAX || bytes > BYTES_MAX {
                        return Err(AsideError::TooLarge);
                    }
                    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                    rows.push(backend::data_row(&body)?.into_iter().map(|value| value.map(text)).collect());
                }
                tag::ERROR => {
                    let (sqlstate, message) = connect::refusal(&body);
                    if connect::is_shutdown(&sqlstate) {
                        return Err(AsideError::Ended(message));
                    }
                    refused.get_or_insert(AsideError::Refused { sqlstate, message });
                }
                tag::READY => {
                    self.is_usable = backend::ready_status(&body)? == b'I';
                    return refused.map_or(Ok(rows), Err);
                }
                // Descriptions and confirmations; a text that copies has no place here, and its data is no answer.
                _ => {}
            }
        }
    }

    /// The next message. Cancel safe.
    async fn message(&mut self) -> Result<(u8, Vec<u8>), AsideError> {
        let Some(frame) = self.link.next(&mut self.buf, BYTES_MAX).await?? else {
            return Err(AsideError::Ended("closed by the server".to_owned()));
        };
        let body = self.buf[HEADER..frame.len].to_vec();
        self.buf.drain(..frame.len);
        if frame.tag == tag::PARAMETER_STATUS {
            let (name, value) = backend::parameter_status(&body)?;
            match self.parameters.iter().position(|(n, _)| n == name) {
                Some(at) => value.clone_into(&mut self.parameters[at].1),
                None if self.parameters.len() < PARAMETERS_MAX => {
                    self.parameters.push((name.to_owned(), value.to_owned()));
                }
                None => {}
            }
        }
        Ok((frame.tag, body))
    }
}
