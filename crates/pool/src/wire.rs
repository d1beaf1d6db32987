//! The messages of PostgreSQL's protocol 3, sans I/O: where a message ends, what the startup packet says, and readers and
//! builders of the messages that the pooler has to understand. The rest passes as bytes.
//!
//! Readers borrow from the buffer. They take the body, which is what stands behind the tag and the length, and are strict:
//! what the documentation does not allow is a [`WireError`]. Builders append to a buffer and cannot fail; a text that has
//! to end with a zero byte ends at the first one that is in it.
//!
//! Limits: a message of [`MESSAGE_MAX`] bytes, a startup packet of [`STARTUP_MAX`], a cancel key of [`KEY_MAX`]. A reader
//! holds no more than a few words for each element of a body that is already in memory.
//!
//! Source: the chapter "Frontend/Backend Protocol" of PostgreSQL 18; `src/backend/libpq/pqcomm.c` and
//! `src/backend/tcop/backend_startup.c` for what the server tolerates. Protocol 2 and replication are not spoken.

pub mod backend;
pub mod frontend;
pub mod tag;

#[cfg(test)]
mod tests;

use memchr::memchr;

/// Largest value of a message's length field: PostgreSQL cannot allocate more at once (`MaxAllocSize`).
pub const MESSAGE_MAX: usize = 0x3fff_ffff;
/// Most bytes of a startup packet behind its length field (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_MAX: usize = 10_000;
/// Most bytes of a cancel key (protocol 3.2).
pub const KEY_MAX: usize = 256;
/// Fewest bytes of a cancel key; exactly as many up to protocol 3.1.
pub const KEY_MIN: usize = 4;

/// Bytes of a tag and a length field.
pub const HEADER: usize = 5;

const CANCEL_CODE: u32 = 80_877_102;
const SSL_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;
/// The protocol's major version.
const MAJOR: u16 = 3;

/// A message that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The length field is below 4 or above [`MESSAGE_MAX`].
    #[error("message {} says that it is {length} bytes long", tag.escape_ascii())]
    Length {
        /// The message's tag.
        tag: u8,
        /// What the length field says.
        length: u32,
    },
    /// The startup packet is too short or longer than [`STARTUP_MAX`].
    #[error("the startup packet says that it is {length} bytes long")]
    StartupLength {
        /// What the length field says.
        length: u32,
    },
    /// Another protocol than 3.
    #[error("protocol {major}.{minor} is not spoken here: 3.0 and 3.2 are")]
    Version {
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// The message ends within a field.
    #[error("{message} ends within a field")]
    Short {
        /// The message.
        message: &'static str,
    },
    /// There are bytes behind the last field.
    #[error("{message} has bytes behind its last field")]
    Trailing {
        /// The message.
        message: &'static str,
    },
    /// A text that has to be UTF-8 is not.
    #[error("{message} has a text that is not UTF-8")]
    Utf8 {
        /// The message.
        message: &'static str,
    },
    /// A field has a value that the protocol does not know.
    #[error("{message} has {what}")]
    Value {
        /// The message.
        message: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl WireError {
    /// The code to tell the other side: `08P01`, as PostgreSQL does; `0A000` for another protocol.
    pub const fn sqlstate(&self) -> &'static str {
        match self {
            Self::Version { .. } => "0A000",
            _ => "08P01",
        }
    }
}

/// The first bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Which message; see [`tag`].
    pub tag: u8,
    /// The whole message, tag and length field included.
    pub len: usize,
}

/// Reads the header of the message at the start of `buf`; `None` if it is not there yet. The body need not be.
///
/// # Errors
/// If the length field is out of range.
#[inline]
pub fn frame(buf: &[u8]) -> Result<Option<Frame>, WireError> {
    let Some(&[tag, a, b, c, d]) = buf.first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length < 4 || length as usize > MESSAGE_MAX {
        return Err(WireError::Length { tag, length });
    }
    Ok(Some(Frame { tag, len: length as usize + 1 }))
}

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup<'a> {
    /// It asks for TLS.
    Ssl,
    /// It asks for GSSAPI encryption.
    Gss,
    /// It asks that a query be cancelled.
    Cancel {
        /// The process of the session.
        pid: i32,
        /// The session's secret.
        key: &'a [u8],
    },
    /// It asks for a session of protocol 3.
    Session {
        /// The minor version.
        minor: u16,
        /// Names and values in the order in which they came.
        parameters: Vec<(&'a str, &'a str)>,
    },
}

/// Reads the startup packet at the start of `buf` and says how long it is; `None` if it is not all there.
///
/// # Errors
/// If it is too long, of another protocol, or not laid out as it has to be.
pub fn startup(buf: &[u8]) -> Result<Option<(Startup<'_>, usize)>, WireError> {
    const MESSAGE: &str = "the startup packet";
    let Some(&field) = buf.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(field);
    let whole = length as usize;
    if !(8..=STARTUP_MAX + 4).contains(&whole) {
        return Err(WireError::StartupLength { length });
    }
    let Some(packet) = buf.get(4..whole) else { return Ok(None) };
    let mut body = Body::new(MESSAGE, packet);
    let code = body.u32()?;
    let said = match code {
        SSL_CODE => Startup::Ssl,
        GSS_CODE => Startup::Gss,
        CANCEL_CODE => {
            let pid = body.i32()?;
            Startup::Cancel { pid, key: body.key()? }
        }
        _ => {
            let (major, minor) = ((code >> 16) as u16, code as u16);
            if major != MAJOR {
                return Err(WireError::Version { major, minor });
            }
            let mut parameters = Vec::new();
            loop {
                let name = body.str()?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, body.str()?));
            }
            Startup::Session { minor, parameters }
        }
    };
    body.end()?;
    Ok(Some((said, whole)))
}

/// What is left of a body.
#[derive(Debug)]
struct Body<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    const fn new(message: &'static str, rest: &'a [u8]) -> Self {
        Self { message, rest }
    }

    fn short(&self) -> WireError {
        WireError::Short { message: self.message }
    }

    fn value(&self, what: &'static str) -> WireError {
        WireError::Value { message: self.message, what }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A count of elements; PostgreSQL reads it without a sign where it can be large.
    fn count(&mut self) -> Result<usize, WireError> {
        self.array().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    /// The bytes before the next zero byte.
    fn text(&mut self) -> Result<&'a [u8], WireError> {
        let at = memchr(0, self.rest).ok_or_else(|| self.short())?;
        let text = &self.rest[..at];
        self.rest = &self.rest[at + 1..];
        Ok(text)
    }

    fn str(&mut self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.text()?).map_err(|_| WireError::Utf8 { message: self.message })
    }

    /// All that is left, as a cancel key.
    fn key(&mut self) -> Result<&'a [u8], WireError> {
        let key = std::mem::take(&mut self.rest);
        if (KEY_MIN..=KEY_MAX).contains(&key.len()) { Ok(key) } else { Err(self.value("a key of the wrong length")) }
    }

    fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing { message: self.message }) }
    }
}

/// Appends a message: `body` appends what stands behind the length field.
fn put(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    put_untagged(out, body);
}

/// Appends a message without a tag, as the first ones of a connection are.
fn put_untagged(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = out.len() - at;
    debug_assert!(length <= MESSAGE_MAX, "what is built comes from messages and constants, which are shorter");
    out[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
}

/// Appends a text and its zero byte.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(memchr(0, text).map_or(text, |at| &text[..at]));
    out.push(0);
}

/// Appends a count of elements.
fn put_count(out: &mut Vec<u8>, count: usize) {
    debug_assert!(u16::try_from(count).is_ok(), "no message has so many elements");
    out.extend_from_slice(&(count as u16).to_be_bytes());
}

/// Appends values as text, each behind its length; -1 stands for NULL.
fn put_values(out: &mut Vec<u8>, values: &[Option<&str>]) {
    put_count(out, values.len());
    for value in values {
        match value {
            Some(value) => {
                out.extend_from_slice(&(value.len() as u32).to_be_bytes());
                out.extend_from_slice(value.as_bytes());
            }
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
}
