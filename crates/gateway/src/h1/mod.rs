//! Strict HTTP/1.1 (RFC 9112), sans I/O: heads, framing and chunked bodies over borrowed buffers.
//!
//! Strict means that whatever two parsers could read differently is refused: bare CR or LF, obsolete folding, space
//! before a colon, a length given twice or in two ways, transfer codings other than one final `chunked`. Nothing here
//! does I/O, reads a clock or allocates per message once its vectors have grown.

pub mod chunked;
pub mod grammar;
pub mod head;
pub mod request;
pub mod response;

pub use chunked::{ChunkError, ChunkedDecoder, Piece};
pub use head::{HeadError, HeadLimits, Line, Name, Span};
pub use request::{Framing, RequestHead, RequestParser, Target};
pub use response::{AnswerFraming, ResponseHead, ResponseParser};

#[cfg(test)]
mod tests;
