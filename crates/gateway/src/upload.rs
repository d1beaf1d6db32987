//! The way of a request body: from the client's buffer to the upstream, with backpressure. A body of known length
//! passes as it is; a chunked one is decoded and framed anew, so that extensions and odd framing end here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use kernel::Moment;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::buf::{BUFFER_BYTES, Buf};
use crate::h1::{ChunkError, ChunkedDecoder, Framing, Piece};
use crate::pace::Pace;
use crate::plan::EdgePlan;

/// A body that is being sent on.
#[derive(Debug)]
pub(crate) struct Upload {
    source: Source,
    /// Bytes framed for the upstream, and how many of them are sent.
    framed: Vec<u8>,
    framed_at: usize,
    /// Body bytes so far.
    total: u64,
    max: u64,
    /// Whom it waits for.
    pub(crate) waits_for: Side,
    pub(crate) pace: Pace,
}

#[derive(Debug)]
enum Source {
    Length(u64),
    Chunked(ChunkedDecoder),
    Done,
    /// The upstream takes no more; what the client still sends is not read.
    Abandoned,
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Upstream,
}

/// Why a body cannot be sent on.
#[derive(Debug)]
pub(crate) enum UploadFault {
    /// The client closed the connection or it broke.
    ClientGone,
    /// More than the route allows.
    TooLarge,
    /// Not valid chunked coding.
    Malformed(ChunkError),
    /// The upstream does not take it.
    Upstream(io::Error),
}

impl Upload {
    /// A body with this framing, of at most `max` bytes.
    pub(crate) fn new(framing: Framing, max: u64, edge: &EdgePlan, now: Moment) -> Upload {
        let source = match framing {
            Framing::None => Source::Done,
            Framing::Length(n) => Source::Length(n),
            Framing::Chunked => Source::Chunked(ChunkedDecoder::default()),
        };
        let pace = Pace::new(edge, edge.body_idle_timeout, now);
        Upload { source, framed: Vec::new(), framed_at: 0, total: 0, max, waits_for: Side::Client, pace }
    }

    /// Whether all of it has been sent.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.source, Source::Done) && self.framed_at == self.framed.len()
    }

    /// Whether nothing more will be sent, because all is or because the upstream takes no more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.source, Source::Abandoned) || self.is_done()
    }

    /// Whether nothing of it was taken from the client: it can be sent to whomever.
    pub(crate) fn is_intact(&self) -> bool {
        self.has_not_begun() && !matches!(self.source, Source::Abandoned)
    }

    /// Whether nothing of it has come from the client yet.
    pub(crate) fn has_not_begun(&self) -> bool {
        self.total == 0 && self.framed.is_empty()
    }

    /// Measures the client from now on.
    pub(crate) fn restart_pace(&mut self, edge: &EdgePlan, now: Moment) {
        self.pace = Pace::new(edge, edge.body_idle_timeout, now);
    }

    /// Gives up sending what is left; a body that is sent stays so, because nothing of it is left on the client's side.
    pub(crate) fn abandon(&mut self) {
        if !self.is_done() {
            self.source = Source::Abandoned;
            self.framed_at = self.framed.len();
        }
    }

    /// Body bytes read from the client so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Moves what can be moved; ready when the body is sent or cannot be.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut TcpStream,
        buf: &mut Buf,
        upstream: &mut TcpStream,
    ) -> Poll<Result<(), UploadFault>> {
        loop {
            if self.framed_at < self.framed.len() {
                match Pin::new(&mut *upstream).poll_write(cx, &self.framed[self.framed_at..]) {
                    Poll::Ready(Ok(n)) => {
                        self.framed_at += n;
                        self.pace.touch();
                    }
                    other => return self.blocked(other),
                }
                continue;
            }
            self.framed.clear();
            self.framed_at = 0;
            match &mut self.source {
                Source::Done | Source::Abandoned => return Poll::Ready(Ok(())),
                Source::Length(0) => self.source = Source::Done,
                Source::Length(left) if !buf.is_empty() => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                    match Pin::new(&mut *upstream).poll_write(cx, &buf.filled()[..n]) {
                        Poll::Ready(Ok(n)) => {
                            buf.consume(n);
                            *left -= n as u64;
                            self.total += n as u64;
                            self.pace.touch();
                        }
                        other => return self.blocked(other),
                    }
                }
                Source::Chunked(_) if !buf.is_empty() => {
                    if let Err(fault) = self.decode(buf) {
                        return Poll::Ready(Err(fault));
                    }
                }
                Source::Length(_) | Source::Chunked(_) => {
                    self.waits_for = Side::Client;
                    buf.make_room(BUFFER_BYTES);
                    match buf.poll_fill(cx, client) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(UploadFault::ClientGone)),
                        Poll::Ready(Ok(n)) => self.pace.add(n),
                    }
                }
            }
        }
    }

    fn blocked(&mut self, write: Poll<io::Result<usize>>) -> Poll<Result<(), UploadFault>> {
        match write {
            Poll::Ready(Err(error)) => Poll::Ready(Err(UploadFault::Upstream(error))),
            _ => {
                self.waits_for = Side::Upstream;
                Poll::Pending
            }
        }
    }

    /// Decodes what is in `buf` and frames it anew.
    fn decode(&mut self, buf: &mut Buf) -> Result<(), UploadFault> {
        let Source::Chunked(decoder) = &mut self.source else { return Ok(()) };
        while !buf.is_empty() {
            match decoder.next(buf.filled()).map_err(UploadFault::Malformed)? {
                Piece::Data { start, end } => {
                    self.total += (end - start) as u64;
                    if self.total > self.max {
                        return Err(UploadFault::TooLarge);
                    }
                    write_chunk(&mut self.framed, &buf.filled()[start..end]);
                    buf.consume(end);
                }
                Piece::More => {
                    let all = buf.len();
                    buf.consume(all);
                }
                Piece::Done(end) => {
                    write_last_chunk(&mut self.framed, decoder.trailers());
                    buf.consume(end);
                    self.source = Source::Done;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Frames `data`, which must not be empty, as one chunk.
pub(crate) fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut size = [0u8; 16];
    let (mut at, mut n) = (size.len(), data.len());
    while n > 0 {
        at -= 1;
        size[at] = DIGITS[n & 15];
        n >>= 4;
    }
    out.extend_from_slice(&size[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Ends a chunked body. `trailers` are whole lines.
pub(crate) fn write_last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}
