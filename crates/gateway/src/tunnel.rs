//! An upgraded connection (WebSocket and whatever else was agreed on): bytes both ways, each side's end passed on,
//! until both have ended, one breaks, or neither has said anything for the tunnel's idle time.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::buf::{BUFFER_BYTES, Buf};
use crate::conn::Client;
use crate::core::Core;

/// One direction of a tunnel.
#[derive(Debug)]
struct Way {
    buf: Buf,
    ended: bool,
    shut: bool,
    bytes: u64,
}

impl Way {
    /// Moves what can be moved. Ready when this direction has ended and its end is passed on.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut TcpStream, to: &mut TcpStream) -> Poll<io::Result<()>> {
        loop {
            while !self.buf.is_empty() {
                let n = ready!(Pin::new(&mut *to).poll_write(cx, self.buf.filled()))?;
                self.buf.consume(n);
                self.bytes += n as u64;
            }
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.shut = true;
                continue;
            }
            self.buf.make_room(BUFFER_BYTES);
            self.ended = ready!(self.buf.poll_fill(cx, from))? == 0;
        }
    }
}

/// Runs a tunnel to its end; gives the bytes up and down. `up` and `down` hold what was read ahead.
pub(crate) async fn run(
    core: &Rc<Core>,
    client: &mut Client,
    upstream: &mut TcpStream,
    up: Buf,
    down: Buf,
    idle: Duration,
) -> (u64, u64) {
    let new = |buf| Way { buf, ended: false, shut: false, bytes: 0 };
    let (mut up, mut down) = (new(up), new(down));
    client.deadline.set(core.clock().now() + idle);
    let mut seen = 0;
    poll_fn(|cx| {
        loop {
            let one = up.poll(cx, &mut client.io, upstream);
            let other = down.poll(cx, upstream, &mut client.io);
            match (one, other) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
                _ => {}
            }
            if client.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Bytes are looked at when the time is up, not when they pass: a silence is noticed up to twice as late.
            let moved = up.bytes + down.bytes;
            if moved == seen {
                return Poll::Ready(());
            }
            seen = moved;
            client.deadline.set(core.clock().now() + idle);
        }
    })
    .await;
    let bytes = (up.bytes, down.bytes);
    core.buffers.give(up.buf);
    core.buffers.give(down.buf);
    bytes
}
