//! Read buffers and where they rest between uses. A connection that waits holds no buffer: it takes one when bytes
//! are there and gives it back when it has none left, so an idle connection costs its socket and its task only.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// Size of a buffer: holds a usual head, and a small body with it, in one read.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;
/// How many unused buffers a worker keeps (4 MiB).
const SPARE_MAX: usize = 256;

/// Bytes that were read and not yet used: `bytes[start..end]`.
#[derive(Debug)]
pub(crate) struct Buf {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// A worker's unused buffers.
#[derive(Debug, Default)]
pub(crate) struct BufferPool(RefCell<Vec<Box<[u8]>>>);

impl BufferPool {
    pub(crate) fn take(&self) -> Buf {
        let bytes = self.0.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Buf { bytes, start: 0, end: 0 }
    }

    pub(crate) fn give(&self, buf: Buf) {
        let mut spare = self.0.borrow_mut();
        if buf.bytes.len() == BUFFER_BYTES && spare.len() < SPARE_MAX {
            spare.push(buf.bytes);
        }
    }
}

impl Buf {
    #[inline]
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops the first `n` bytes.
    #[inline]
    pub(crate) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len());
        self.start += n;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room to read: moves what is there to the front, and grows up to `max` bytes if that is not enough.
    /// False if it is full.
    pub(crate) fn make_room(&mut self, max: usize) -> bool {
        if self.end < self.bytes.len() {
            return true;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return true;
        }
        if self.bytes.len() >= max {
            return false;
        }
        let mut larger = vec![0; (self.bytes.len() * 2).min(max)].into_boxed_slice();
        larger[..self.end].copy_from_slice(&self.bytes[..self.end]);
        self.bytes = larger;
        true
    }

    /// One read into the room that is there (see [`Buf::make_room`]); 0 is the end of the stream.
    #[inline]
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, io: &mut TcpStream) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(io).poll_read(cx, &mut room))?;
        let n = room.filled().len();
        self.end += n;
        Poll::Ready(Ok(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(bytes: &[u8]) -> Buf {
        let mut buf = BufferPool::default().take();
        buf.bytes[..bytes.len()].copy_from_slice(bytes);
        buf.end = bytes.len();
        buf
    }

    #[test]
    fn a_full_buffer_moves_then_grows_then_is_full() {
        let mut buf = with(&[7; BUFFER_BYTES]);
        buf.consume(10);
        assert!(buf.make_room(2 * BUFFER_BYTES));
        assert_eq!((buf.len(), buf.bytes.len()), (BUFFER_BYTES - 10, BUFFER_BYTES));
        buf.end = buf.bytes.len();
        assert!(buf.make_room(2 * BUFFER_BYTES));
        assert_eq!(buf.bytes.len(), 2 * BUFFER_BYTES);
        assert_eq!(buf.filled()[0], 7);
        buf.end = buf.bytes.len();
        assert!(!buf.make_room(2 * BUFFER_BYTES));
    }

    #[test]
    fn only_buffers_of_the_usual_size_are_kept() {
        let pool = BufferPool::default();
        let mut buf = with(&[1; BUFFER_BYTES]);
        assert!(buf.make_room(2 * BUFFER_BYTES));
        pool.give(buf);
        assert!(pool.0.borrow().is_empty());
        pool.give(pool.take());
        assert_eq!(pool.0.borrow().len(), 1);
    }
}
