//! The chunked transfer coding (RFC 9112, 7.1), decoded incrementally over borrowed bytes.
//!
//! States: size => extension => size LF => data => data CR => data LF => size …, and behind the last chunk:
//! trailer lines => done. Refused: a size without digits or beyond 15 hexadecimal digits, anything but `;` or CR behind
//! it, extensions beyond 256 bytes (16 KiB in a whole body) or with control characters, a bare LF or CR anywhere, a
//! missing CRLF behind the data, trailer lines that are not valid fields or beyond 8 KiB or 64 lines. Extensions are
//! read and dropped, and so are trailers that a recipient could mistake for what has to come before the body.

use super::grammar::{self, VALUE};
use super::head::{HeadError, Name, Span, field};

/// The longest chunk extension, in bytes.
const EXTENSION_MAX: u16 = 256;
/// All extensions of a body together, in bytes: many small chunks with long extensions are no way to send anything.
const EXTENSIONS_MAX: u16 = 16 * 1024;
/// All trailer lines together with their CRLFs, in bytes, dropped ones included.
const TRAILER_BYTES_MAX: u16 = 8 * 1024;
/// How many trailer lines, dropped ones included.
const TRAILER_LINES_MAX: u16 = 64;

/// Fields that a proxy need not know but that mean nothing, or harm, behind the body: authentication, request
/// modifiers, controls and content format (RFC 9110, 6.5.1). Those of [`Name`] are dropped as well, but for `Date`.
const NOT_IN_TRAILERS: [&[u8]; 27] = [
    b"age",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-language",
    b"content-location",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expires",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"location",
    b"max-forwards",
    b"pragma",
    b"proxy-authentication-info",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"strict-transport-security",
    b"vary",
    b"via",
    b"warning",
    b"www-authenticate",
];

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message is its documentation")]
pub enum ChunkError {
    #[error("a chunk size is missing, malformed or too large")]
    Size,
    #[error("a chunk extension is malformed or too long, or there is too much of them")]
    Extension,
    #[error("a chunk is not followed by CRLF")]
    Delimiter,
    #[error("the trailers are too large or too many")]
    TrailersTooLarge,
    #[error("a trailer is malformed: {0}")]
    Trailer(HeadError),
}

/// What one call of [`ChunkedDecoder::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Body bytes: `input[start..end]`; consume up to `end`.
    Data {
        /// First byte.
        start: usize,
        /// Behind the last byte.
        end: usize,
    },
    /// All of the input is framing that was read; more is needed.
    More,
    /// The body is complete; it ended at this offset of the input.
    Done(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    Done,
}

/// Decodes one chunked body.
#[derive(Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    /// The size that is being read, or what is left of the chunk.
    left: u64,
    digits: u8,
    /// Length of the extension that is being read, and of all so far.
    extension: u16,
    extensions: u16,
    trailer_lines: u16,
    trailer_bytes: u16,
    /// Trailer lines with their CRLF, ready to be sent on; the line that is being read is at the end.
    trailers: Vec<u8>,
    line_at: usize,
}

impl ChunkedDecoder {
    /// The trailer fields, each with its CRLF, without those that have to come before the body.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers[..self.line_at]
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes `input`, which must begin where the last call stopped. Call again with what is behind the piece.
    ///
    /// # Errors
    /// When the body can no longer become a valid one.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, ChunkError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::SizeStart | State::Size => match byte {
                    b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' if self.digits < 15 => {
                        let digit = (byte as char).to_digit(16).unwrap_or(0);
                        self.left = self.left << 4 | u64::from(digit);
                        self.digits += 1;
                        self.state = State::Size;
                    }
                    b';' if self.state == State::Size => self.state = State::Extension,
                    b'\r' if self.state == State::Size => self.state = State::SizeLf,
                    _ => return Err(ChunkError::Size),
                },
                State::Extension => match byte {
                    b'\r' => self.state = State::SizeLf,
                    b if grammar::is(b, VALUE)
                        && self.extension < EXTENSION_MAX
                        && self.extensions < EXTENSIONS_MAX =>
                    {
                        self.extension += 1;
                        self.extensions += 1;
                    }
                    _ => return Err(ChunkError::Extension),
                },
                State::SizeLf => {
                    if byte != b'\n' {
                        return Err(ChunkError::Delimiter);
                    }
                    self.state = if self.left == 0 { State::Trailer } else { State::Data };
                }
                State::Data => {
                    let n = self.left.min((input.len() - at) as u64);
                    self.left -= n;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Piece::Data { start: at, end: at + n as usize });
                }
                State::DataCr if byte == b'\r' => self.state = State::DataLf,
                State::DataLf if byte == b'\n' => {
                    self.state = State::SizeStart;
                    (self.digits, self.extension) = (0, 0);
                }
                State::DataCr | State::DataLf => return Err(ChunkError::Delimiter),
                State::Trailer => {
                    self.trailer_byte(byte)?;
                    if self.state == State::Done {
                        return Ok(Piece::Done(at + 1));
                    }
                }
                State::Done => return Ok(Piece::Done(at)),
            }
            at += 1;
        }
        Ok(if self.state == State::Done { Piece::Done(at) } else { Piece::More })
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        // The empty line at the end does not count.
        if self.trailer_bytes == TRAILER_BYTES_MAX + 2 {
            return Err(ChunkError::TrailersTooLarge);
        }
        self.trailer_bytes += 1;
        self.trailers.push(byte);
        if byte != b'\n' {
            return Ok(());
        }
        let end = self.trailers.len();
        if !self.trailers[self.line_at..].ends_with(b"\r\n") {
            return Err(ChunkError::Trailer(HeadError::BareLf));
        }
        if end - self.line_at == 2 {
            self.trailers.truncate(self.line_at);
            self.state = State::Done;
            return Ok(());
        }
        if self.trailer_lines == TRAILER_LINES_MAX || self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailersTooLarge);
        }
        self.trailer_lines += 1;
        let line = field(&self.trailers, Span::new(self.line_at, end - 2)).map_err(ChunkError::Trailer)?;
        let name = line.name.of(&self.trailers);
        let kept = match line.kind {
            Name::Other => !NOT_IN_TRAILERS.iter().any(|n| name.eq_ignore_ascii_case(n)),
            kind => kind == Name::Date,
        };
        if kept {
            self.line_at = end;
        } else {
            self.trailers.truncate(self.line_at);
        }
        Ok(())
    }
}
