//! The way of an answer's body: from the upstream to the client, with backpressure and without waiting for more than
//! what is there. As soon as the last byte has arrived the upstream connection goes back to the pool, however slowly
//! the client reads the rest.

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use kernel::Moment;
use tokio::io::AsyncWrite;

use crate::buf::{BUFFER_BYTES, Buf};
use crate::conn::Client;
use crate::core::Core;
use crate::h1::{AnswerFraming, ChunkedDecoder, Piece};
use crate::pace::{Pace, Verdict};
use crate::plan::{EdgePlan, ServicePlan};
use crate::pool::UpConn;
use crate::upload::{Upload, write_chunk, write_last_chunk};

/// Bodies up to this size are copied behind their head, to be sent with it in one write.
const COPY_MAX: usize = 8 * 1024;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// The client has got all of it (as far as its socket is concerned).
    Complete,
    /// The client went away.
    ClientGone,
    /// The client reads too slowly.
    ClientSlow,
    /// The service broke off, or its framing broke.
    Truncated,
    /// The service fell silent.
    Stalled,
}

#[derive(Debug)]
enum Source {
    /// All of the body has been taken from the buffer.
    Done,
    /// So many bytes pass as they are; `u64::MAX`: until the connection ends.
    Direct(u64),
    /// Decoded, and framed anew if the client gets it chunked.
    Chunked(ChunkedDecoder),
    /// Until the connection ends; framed, so that the client's connection can be kept.
    Framed,
}

/// An answer that is being sent.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    pub(crate) core: &'a Rc<Core>,
    pub(crate) client: &'a mut Client,
    /// The client's buffer.
    pub(crate) request: &'a mut Buf,
    pub(crate) edge: &'a EdgePlan,
    pub(crate) service: &'a ServicePlan,
    pub(crate) upload: &'a mut Upload,
    /// Given back to the pool as soon as the answer has arrived.
    pub(crate) conn: Option<UpConn>,
    /// What was read from the upstream.
    pub(crate) buf: Buf,
    /// The head, then framed body bytes; and how much of it is sent.
    pub(crate) answer: &'a mut Vec<u8>,
    pub(crate) at: usize,
    source: Source,
    /// Whether the client gets it chunked.
    chunked: bool,
    /// Whether the upstream connection may be kept.
    keep: bool,
    /// What came with the head was not valid chunked coding; nothing has been sent yet.
    broken: bool,
    /// Body bytes sent.
    pub(crate) sent: u64,
    pace: Pace,
    blocked_on_client: bool,
}

/// What a relay is made from.
#[derive(Debug)]
pub(crate) struct RelayParts<'a> {
    pub(crate) core: &'a Rc<Core>,
    pub(crate) client: &'a mut Client,
    pub(crate) request: &'a mut Buf,
    pub(crate) edge: &'a EdgePlan,
    pub(crate) service: &'a ServicePlan,
    pub(crate) upload: &'a mut Upload,
    pub(crate) conn: UpConn,
    pub(crate) buf: Buf,
    pub(crate) answer: &'a mut Vec<u8>,
    pub(crate) framing: AnswerFraming,
    pub(crate) chunked: bool,
    pub(crate) keep: bool,
    pub(crate) now: Moment,
}

impl<'a> Relay<'a> {
    /// Begins to send: what has arrived with the head goes out with it.
    pub(crate) fn new(parts: RelayParts<'a>) -> Relay<'a> {
        let source = match parts.framing {
            AnswerFraming::None => Source::Done,
            AnswerFraming::Length(n) => Source::Direct(n),
            AnswerFraming::Chunked => Source::Chunked(ChunkedDecoder::default()),
            AnswerFraming::UntilClose if parts.chunked => Source::Framed,
            AnswerFraming::UntilClose => Source::Direct(u64::MAX),
        };
        let idle = parts.edge.body_idle_timeout.min(parts.service.body_idle_timeout);
        let pace = Pace::new(parts.edge, idle, parts.now);
        let mut relay = Relay {
            core: parts.core,
            client: parts.client,
            request: parts.request,
            edge: parts.edge,
            service: parts.service,
            upload: parts.upload,
            conn: Some(parts.conn),
            buf: parts.buf,
            answer: parts.answer,
            at: 0,
            source,
            chunked: parts.chunked,
            keep: parts.keep,
            broken: false,
            sent: 0,
            pace,
            blocked_on_client: false,
        };
        relay.copy_small();
        relay.free_early();
        relay
    }

    /// A small body that is there already goes out with the head, and the upstream connection is free.
    fn copy_small(&mut self) {
        if let Source::Direct(left) = self.source {
            let n = self.buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if n <= COPY_MAX && n as u64 == left {
                self.answer.extend_from_slice(&self.buf.filled()[..n]);
                self.buf.consume(n);
                self.sent += n as u64;
                self.source = Source::Done;
            }
        }
        if matches!(self.source, Source::Chunked(_) | Source::Framed) && !self.buf.is_empty() {
            self.broken = !self.take();
        }
        if matches!(self.source, Source::Done) {
            self.release();
        }
    }

    /// Whether the service's answer turned out to be no valid answer before anything was sent.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// The answer has arrived: the upstream connection goes back to the pool, or is closed.
    fn release(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        // Bytes behind the answer are an answer to nothing.
        if self.keep && self.upload.is_done() && self.buf.is_empty() {
            self.core.pool.release(self.core, self.service, conn);
        }
    }

    /// Sends the rest.
    pub(crate) async fn run(&mut self) -> Relayed {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Relayed> {
        loop {
            if let Poll::Ready(end) = self.poll_move(cx) {
                return Poll::Ready(end);
            }
            if self.poll_client(cx) {
                return Poll::Ready(Relayed::ClientGone);
            }
            if self.client.deadline.at() != self.pace.next_look() {
                self.client.deadline.set(self.pace.next_look());
            }
            if self.client.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let idle =
                if self.blocked_on_client { self.edge.body_idle_timeout } else { self.service.body_idle_timeout };
            match self.pace.look(self.edge, idle, self.blocked_on_client, self.core.clock().now()) {
                Verdict::Fine => {}
                Verdict::Idle if !self.blocked_on_client => return Poll::Ready(Relayed::Stalled),
                Verdict::Idle | Verdict::TooSlow => return Poll::Ready(Relayed::ClientSlow),
            }
        }
    }

    /// Moves what can be moved. Ready: the answer has ended, one way or the other.
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<Relayed> {
        loop {
            let direct = match self.source {
                Source::Direct(left) => self.buf.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
                _ => 0,
            };
            if self.at < self.answer.len() || direct > 0 {
                match self.poll_write(cx, direct) {
                    Poll::Pending => {
                        self.blocked_on_client = true;
                        return Poll::Pending;
                    }
                    Poll::Ready(false) => return Poll::Ready(Relayed::ClientGone),
                    Poll::Ready(true) => continue,
                }
            }
            if self.blocked_on_client {
                // The client has caught up: it is measured anew when it falls behind again.
                self.blocked_on_client = false;
                let idle = self.edge.body_idle_timeout.min(self.service.body_idle_timeout);
                self.pace = Pace::new(self.edge, idle, self.core.clock().now());
            }
            self.answer.clear();
            self.at = 0;
            if matches!(self.source, Source::Done) {
                return Poll::Ready(Relayed::Complete);
            }
            if !self.buf.is_empty() {
                if !self.take() {
                    return Poll::Ready(Relayed::Truncated);
                }
                continue;
            }
            let Some(conn) = self.conn.as_mut() else { return Poll::Ready(Relayed::Truncated) };
            self.buf.make_room(BUFFER_BYTES);
            match self.buf.poll_fill(cx, &mut conn.io) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.pace.touch();
                    conn.slot.endpoint().hear(self.core.clock().now());
                    self.free_early();
                }
                Poll::Ready(end) => {
                    if let Some(end) = self.ended(end.is_ok()) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
    }

    /// The last bytes of a body of known length are in the buffer: the upstream connection is free.
    fn free_early(&mut self) {
        if let Source::Direct(left) = self.source
            && self.buf.len() as u64 == left
            && self.keep
            && self.upload.is_done()
            && let Some(conn) = self.conn.take()
        {
            self.core.pool.release(self.core, self.service, conn);
        }
    }

    /// The upstream connection has ended. `None`: that is how the body ends; its end is to be sent.
    fn ended(&mut self, cleanly: bool) -> Option<Relayed> {
        match self.source {
            Source::Framed if cleanly => write_last_chunk(self.answer, b""),
            Source::Direct(u64::MAX) if cleanly => {}
            _ => return Some(Relayed::Truncated),
        }
        self.source = Source::Done;
        self.keep = false;
        self.release();
        None
    }

    /// Writes what is ready: the answer, then `direct` bytes of the buffer. Ready(false): the client is gone.
    fn poll_write(&mut self, cx: &mut Context<'_>, direct: usize) -> Poll<bool> {
        let head = &self.answer[self.at..];
        let body = &self.buf.filled()[..direct];
        let io = Pin::new(&mut self.client.io);
        let wrote = match (head.is_empty(), body.is_empty()) {
            (false, false) => io.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]),
            (false, true) => io.poll_write(cx, head),
            (true, _) => io.poll_write(cx, body),
        };
        let n = match wrote {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(n)) if n > 0 => n,
            Poll::Ready(_) => return Poll::Ready(false),
        };
        self.pace.add(n);
        let of_head = n.min(head.len());
        self.at += of_head;
        let of_body = n - of_head;
        if of_body > 0 {
            self.buf.consume(of_body);
            self.sent += of_body as u64;
            if let Source::Direct(left) = &mut self.source {
                if *left != u64::MAX {
                    *left -= of_body as u64;
                }
                if *left == 0 {
                    self.source = Source::Done;
                    self.release();
                }
            }
        }
        Poll::Ready(true)
    }

    /// Takes body bytes from the buffer, decodes and frames them. False: the framing is broken.
    fn take(&mut self) -> bool {
        match &mut self.source {
            Source::Done | Source::Direct(_) => true,
            Source::Framed => {
                write_chunk(self.answer, self.buf.filled());
                self.sent += self.buf.len() as u64;
                self.buf.consume(self.buf.len());
                true
            }
            Source::Chunked(decoder) => {
                while !self.buf.is_empty() {
                    match decoder.next(self.buf.filled()) {
                        Err(_) => return false,
                        Ok(Piece::More) => self.buf.consume(self.buf.len()),
                        Ok(Piece::Data { start, end }) => {
                            let data = &self.buf.filled()[start..end];
                            self.sent += data.len() as u64;
                            if self.chunked {
                                write_chunk(self.answer, data);
                            } else {
                                self.answer.extend_from_slice(data);
                            }
                            self.buf.consume(end);
                        }
                        Ok(Piece::Done(end)) => {
                            if self.chunked {
                                write_last_chunk(self.answer, decoder.trailers());
                            }
                            self.buf.consume(end);
                            self.source = Source::Done;
                            self.release();
                            return true;
                        }
                    }
                }
                true
            }
        }
    }

    /// The other direction meanwhile: a body that is still coming, or a client that goes away.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> bool {
        if let (false, Some(conn)) = (self.upload.is_over(), self.conn.as_mut()) {
            let before = self.upload.total();
            let polled = self.upload.poll(cx, &mut self.client.io, self.request, &mut conn.io);
            if self.upload.total() != before {
                // A service may be silent while it takes a body.
                self.pace.touch();
            }
            match polled {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => {}
                // The answer is what counts now; the rest of the body is not wanted or not to be had.
                Poll::Ready(Err(_)) => self.upload.abandon(),
            }
        }
        self.upload.is_over() && self.client.poll_gone(cx, self.request)
    }
}
