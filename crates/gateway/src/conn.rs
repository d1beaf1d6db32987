//! One client connection: waiting (without a buffer), reading a head, serving a request, and again. A connection ends
//! when either side says so, when a request cannot be told from the next, when it is idle for too long, or on drain.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use kernel::{DrainPhase, ErrorCode, Moment};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::buf::{BUFFER_BYTES, Buf};
use crate::core::{Core, Scratch};
use crate::deadlines::Deadline;
use crate::h1::{HeadError, HeadLimits};
use crate::plan::EdgePlan;
use crate::problem::{self, Frame};
use crate::request;

/// While draining, a connection that has been idle for this long is closed; one that was busy just now gets the time
/// to send the request that may be on its way. After a hand-over nobody is hurried: an idle connection stays until its
/// next request, which is answered with `Connection: close`, or until it has been idle for its usual time.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// After a hand-over, requests that a client has sent ahead are answered, this many at most: one that never stops
/// sending ahead would keep the old process for as long as it may take.
const AHEAD_MAX: u32 = 256;
/// After an answer that ends the connection early, what the client still sends is read and dropped for this long …
const LINGER: Duration = Duration::from_secs(2);
/// … and up to this many bytes, so that a reset does not destroy the answer on its way. The buffers of a fast sender and of
/// both kernels hold some megabytes that it has sent before it can have seen the answer.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// A client connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) io: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) deadline: Deadline,
    /// Requests served on it.
    pub(crate) requests: u64,
    /// Of these, how many after the listeners were handed over.
    late: u32,
}

/// What comes after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another request.
    Keep,
    /// The end.
    Close,
    /// The end, after the client has had the time to read the answer.
    Linger,
}

enum HeadRead {
    Whole,
    /// Nothing there: back to waiting.
    Nothing,
    Closed,
    Refused(HeadError),
    Timeout,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(core: Rc<Core>, io: TcpStream, peer: SocketAddr) {
    let deadline = core.deadlines.add();
    let mut client = Client { io, peer, deadline, requests: 0, late: 0 };
    while client.wait(&core).await {
        // Boxed, so that a connection that waits holds none of what a request needs.
        if Box::pin(busy(&core, &mut client)).await == Next::Close {
            break;
        }
    }
}

/// Ends a connection that has been answered without being served.
pub(crate) async fn dismiss(core: &Rc<Core>, io: TcpStream, peer: SocketAddr) {
    let mut client = Client { io, peer, deadline: core.deadlines.add(), requests: 0, late: 0 };
    let mut buf = core.buffers.take();
    client.linger(core, &mut buf).await;
    core.buffers.give(buf);
}

/// Serves requests until the connection has nothing to read.
async fn busy(core: &Rc<Core>, client: &mut Client) -> Next {
    let mut scratch = core.take_scratch();
    let mut buf = core.buffers.take();
    let next = loop {
        match read_head(core, client, &mut buf, &mut scratch).await {
            HeadRead::Whole => {}
            HeadRead::Nothing => break Next::Keep,
            HeadRead::Closed => break Next::Close,
            HeadRead::Timeout => {
                refuse(core, client, &mut scratch, ErrorCode::RequestTimeout, "the head of the request").await;
                break Next::Close;
            }
            HeadRead::Refused(error) => {
                refuse(core, client, &mut scratch, code_of(error), &error.to_string()).await;
                client.linger(core, &mut buf).await;
                break Next::Close;
            }
        }
        client.late += u32::from(core.patient.get());
        match request::serve(core, client, &mut buf, &mut scratch).await {
            Next::Keep if buf.is_empty() => break Next::Keep,
            Next::Keep => {}
            // After a hand-over the client has not asked for the end, and may just have sent something.
            Next::Close if buf.is_empty() && !core.patient.get() => break Next::Close,
            // Closing with requests unread would be a reset, which could destroy the answer on its way.
            Next::Close | Next::Linger => {
                client.linger(core, &mut buf).await;
                break Next::Close;
            }
        }
    };
    core.buffers.give(buf);
    core.give_scratch(scratch);
    next
}

/// The limits on request heads.
pub(crate) fn head_limits(edge: &EdgePlan) -> HeadLimits {
    HeadLimits {
        first_line: edge.max_request_line,
        target: edge.max_uri,
        headers: edge.max_header_bytes,
        lines: edge.max_headers,
    }
}

async fn read_head(core: &Rc<Core>, client: &mut Client, buf: &mut Buf, scratch: &mut Scratch) -> HeadRead {
    let held = core.held();
    let edge = &held.snapshot.plan.edge;
    let limits = head_limits(edge);
    let most = limits.first_line + limits.headers + BUFFER_BYTES;
    let parser = &mut scratch.request;
    parser.reset();
    let mut timed = false;
    loop {
        if !buf.is_empty() {
            match parser.parse(buf.filled(), &limits) {
                Ok(true) => return HeadRead::Whole,
                Ok(false) => {}
                Err(error) => return HeadRead::Refused(error),
            }
            if !timed {
                timed = true;
                client.deadline.set(core.clock().now() + edge.header_timeout);
            }
        }
        if !buf.make_room(most) {
            return HeadRead::Refused(HeadError::HeadersTooLarge);
        }
        let filled = poll_fn(|cx| match buf.poll_fill(cx, &mut client.io) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            // Woken for nothing: wait without a buffer.
            Poll::Pending if buf.is_empty() => Poll::Ready(None),
            Poll::Pending => client.deadline.poll(cx).map(|()| Some(Err(std::io::ErrorKind::TimedOut.into()))),
        })
        .await;
        match filled {
            None => return HeadRead::Nothing,
            Some(Ok(0)) => return HeadRead::Closed,
            Some(Ok(_)) => {}
            Some(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => return HeadRead::Timeout,
            Some(Err(_)) => return HeadRead::Closed,
        }
    }
}

/// The code that a refused head is answered with.
fn code_of(error: HeadError) -> ErrorCode {
    use HeadError as E;
    match error {
        E::FirstLineTooLong | E::TargetTooLong => ErrorCode::UriTooLong,
        E::HeadersTooLarge | E::TooManyLines => ErrorCode::HeadersTooLarge,
        E::Version => ErrorCode::VersionNotSupported,
        E::NoHost | E::TwoHosts | E::BadHost | E::HostMismatch => ErrorCode::BadHost,
        E::TwoLengths | E::BadLength | E::LengthAndCoding | E::BadCoding | E::CodingInHttp10 => {
            ErrorCode::AmbiguousFraming
        }
        _ => ErrorCode::MalformedRequest,
    }
}

/// Answers a head that is no request; the connection ends behind it.
async fn refuse(core: &Rc<Core>, client: &mut Client, scratch: &mut Scratch, code: ErrorCode, detail: &str) {
    core.edge().errors[code.index()].inc();
    let frame = Frame { request_id: b"", close: true, to_head: false, http10: false };
    scratch.answer.clear();
    problem::write(&mut scratch.answer, frame, code, detail);
    let until = core.clock().now() + LINGER;
    let _sent = client.send(&scratch.answer, until).await;
    core.commons.access.refused(core.clock(), client.peer, code, detail);
}

/// Whether the client has closed its connection; what it sends instead is kept in `buf`, for later.
pub(crate) fn poll_gone(cx: &mut Context<'_>, io: &mut TcpStream, buf: &mut Buf) -> bool {
    while buf.make_room(BUFFER_BYTES) {
        match buf.poll_fill(cx, io) {
            Poll::Pending => return false,
            Poll::Ready(Ok(n)) if n > 0 => {}
            Poll::Ready(_) => return true,
        }
    }
    // Full of what waits for its turn: it is there.
    false
}

impl Client {
    /// Waits until there is something to read. False: the connection is to be closed.
    async fn wait(&mut self, core: &Core) -> bool {
        let held = core.held();
        let edge = &held.snapshot.plan.edge;
        let now = core.clock().now();
        let longest = if self.requests == 0 { edge.header_timeout } else { edge.idle_timeout };
        drop(held);
        self.deadline.set(now + longest);
        poll_fn(|cx| {
            match self.io.poll_read_ready(cx) {
                Poll::Ready(ready) => return Poll::Ready(ready.is_ok()),
                Poll::Pending => {}
            }
            if core.phase.get() >= DrainPhase::Draining && !core.patient.get() {
                self.deadline.set(self.deadline.at().min(now + DRAIN_IDLE));
            }
            self.deadline.poll(cx).map(|()| false)
        })
        .await
    }

    /// Whether there is more to answer on a connection that ends because the listeners were handed over: what the client
    /// sent ahead, be it read already (`read`) or not. The last answer says that the connection ends.
    pub(crate) fn owes_more(&self, core: &Core, read: bool) -> bool {
        let arrived = || {
            let mut byte = [std::mem::MaybeUninit::uninit()];
            matches!(socket2::SockRef::from(&self.io).peek(&mut byte), Ok(n) if n > 0)
        };
        core.patient.get() && self.late <= AHEAD_MAX && (read || arrived())
    }

    /// Whether the client has closed the connection; see [`poll_gone`].
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>, buf: &mut Buf) -> bool {
        poll_gone(cx, &mut self.io, buf)
    }

    /// Sends `bytes` before `until`; false if the client is gone or too slow.
    pub(crate) async fn send(&mut self, bytes: &[u8], until: Moment) -> bool {
        let mut at = 0;
        self.deadline.set(until);
        poll_fn(|cx| {
            while at < bytes.len() {
                match Pin::new(&mut self.io).poll_write(cx, &bytes[at..]) {
                    Poll::Ready(Ok(n)) if n > 0 => at += n,
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => return self.deadline.poll(cx).map(|()| false),
                }
            }
            Poll::Ready(true)
        })
        .await
    }

    /// Ends our side, and reads what still comes for a short while, so that the client can read the answer.
    async fn linger(&mut self, core: &Core, buf: &mut Buf) {
        self.deadline.set(core.clock().now() + LINGER);
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            if Pin::new(&mut self.io).poll_shutdown(cx).is_pending() {
                return self.deadline.poll(cx);
            }
            loop {
                let all = buf.len();
                left = left.saturating_sub(all);
                buf.consume(all);
                match buf.poll_fill(cx, &mut self.io) {
                    Poll::Ready(Ok(n)) if n > 0 && left > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.deadline.poll(cx),
                }
            }
        })
        .await;
    }
}
