//! A client that sends exactly the bytes it is told to and reads answers strictly (see [`crate::wire`]). Every read and
//! write has a deadline: that of the call, or [`PATIENCE`]. A connection that the peer closes in order and one that it
//! resets are different outcomes: a reset can destroy an answer that the client has not read yet.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, SockRef, Socket, Type};

use crate::poll::Deadline;
use crate::wire::{self, Framing, Wire, WireError, show};

/// How long connecting and sending may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How many interim answers are taken before a final one.
const INTERIM_LIMIT: usize = 32;
/// The most that [`RawClient::read_until_close`] keeps.
const READ_LIMIT: usize = 256 * 1024 * 1024;

/// A connection to the program under test.
#[derive(Debug)]
pub struct RawClient {
    wire: Wire,
    peer: SocketAddr,
}

/// How to connect, where the default will not do.
#[derive(Debug, Clone, Default)]
pub struct RawOptions {
    /// The local address, such as 127.0.0.2, to appear as another client.
    pub local: Option<std::net::IpAddr>,
    /// The size of the receive buffer, to be a client that soon stops taking bytes.
    pub receive_buffer: Option<usize>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// In order (FIN).
    Closed,
    /// By a reset (RST): unread bytes may have been lost.
    Reset,
}

/// A final answer and what came before it.
#[derive(Debug, Clone, Default)]
pub struct RawResponse {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The header lines as they came.
    pub lines: Vec<String>,
    /// How the body was framed; `None` if there was none.
    pub framing: Option<Framing>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The sizes of the chunks, if it was chunked.
    pub chunks: Vec<usize>,
    /// The trailer lines, if it was chunked.
    pub trailers: Vec<String>,
    /// Interim answers (1xx) that came before, in order.
    pub interim: Vec<Interim>,
}

/// An interim answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interim {
    /// Its status code, 100 to 199.
    pub status: u16,
    /// Its header lines as they came.
    pub lines: Vec<String>,
}

impl RawClient {
    /// Connects to `addr` within [`PATIENCE`].
    ///
    /// # Errors
    /// When the connection is refused or not established in time.
    pub fn connect(addr: SocketAddr) -> Result<RawClient> {
        RawClient::connect_with(addr, &RawOptions::default())
    }

    /// Connects to `addr` as `options` say.
    ///
    /// # Errors
    /// When the connection is refused or not established in time.
    pub fn connect_with(addr: SocketAddr, options: &RawOptions) -> Result<RawClient> {
        let attempt = || format!("connecting to {addr} with {options:?}");
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).with_context(attempt)?;
        if let Some(size) = options.receive_buffer {
            socket.set_recv_buffer_size(size).with_context(attempt)?;
        }
        if let Some(local) = options.local {
            socket.bind(&SocketAddr::new(local, 0).into()).with_context(attempt)?;
        }
        socket.connect_timeout(&addr.into(), PATIENCE).with_context(attempt)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).with_context(attempt)?;
        Ok(RawClient { wire: Wire::new(stream), peer: addr })
    }

    /// This side's address.
    ///
    /// # Errors
    /// When the socket has none any more.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.wire.stream().local_addr()?)
    }

    /// The address that was connected to.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// When the peer is gone or takes no more bytes for [`PATIENCE`].
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.wire.write(bytes.as_ref(), &Deadline::after(PATIENCE)).map_err(|(_, error)| error.into())
    }

    /// Sends `bytes` in pieces of `size` with `pause` in between, each in a segment of its own.
    ///
    /// # Errors
    /// As [`RawClient::send`].
    pub fn send_in_pieces(&mut self, bytes: impl AsRef<[u8]>, size: usize, pause: Duration) -> Result<()> {
        for (i, piece) in bytes.as_ref().chunks(size.max(1)).enumerate() {
            if i > 0 && !pause.is_zero() {
                std::thread::sleep(pause);
            }
            self.send(piece)?;
        }
        Ok(())
    }

    /// Sends `bytes` in two parts, split before byte `at`, with `pause` in between.
    ///
    /// # Errors
    /// As [`RawClient::send`].
    pub fn send_split(&mut self, bytes: impl AsRef<[u8]>, at: usize, pause: Duration) -> Result<()> {
        let (first, second) = bytes.as_ref().split_at(at);
        self.send(first)?;
        std::thread::sleep(pause);
        self.send(second)
    }

    /// Sends as much of `bytes` as the peer takes and gives how much that was: a peer that closes, resets or takes no
    /// more within `within` is not an error.
    ///
    /// # Errors
    /// When the socket fails in another way.
    pub fn send_until_refused(&mut self, bytes: impl AsRef<[u8]>, within: Duration) -> Result<usize> {
        match self.wire.write(bytes.as_ref(), &Deadline::after(within)) {
            Ok(()) => Ok(bytes.as_ref().len()),
            Err((sent, error)) if error.is_gone() || error.is_timeout() => Ok(sent),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// Reads the answer to a request that may have a body in its answer (any but HEAD and CONNECT).
    ///
    /// # Errors
    /// A [`WireError`], with what had been received.
    pub fn read_response(&mut self, within: Duration) -> Result<RawResponse> {
        self.read_response_to("GET", within)
    }

    /// Reads the answer to a request with this method, which decides whether there is a body.
    ///
    /// # Errors
    /// A [`WireError`], with what had been received.
    pub fn read_response_to(&mut self, method: &str, within: Duration) -> Result<RawResponse> {
        let deadline = Deadline::after(within);
        let mut response = self.read_head_by(method, &deadline)?;
        self.read_rest_by(&mut response, &deadline)?;
        Ok(response)
    }

    /// Reads `n` answers, as to `n` pipelined requests, all within `within`.
    ///
    /// # Errors
    /// A [`WireError`]; its context says which answer it was.
    pub fn read_responses(&mut self, n: usize, within: Duration) -> Result<Vec<RawResponse>> {
        let deadline = Deadline::after(within);
        let read = |i| self.read_response(deadline.left()).with_context(|| format!("answer {} of {n}", i + 1));
        (0..n).map(read).collect()
    }

    /// Reads the answer's head and leaves its body on the wire; for answers that stream.
    ///
    /// # Errors
    /// A [`WireError`], with what had been received.
    pub fn read_response_head(&mut self, within: Duration) -> Result<RawResponse> {
        self.read_head_by("GET", &Deadline::after(within))
    }

    /// Reads the body of an answer whose head [`RawClient::read_response_head`] gave.
    ///
    /// # Errors
    /// A [`WireError`], with what had been received.
    pub fn read_rest(&mut self, response: &mut RawResponse, within: Duration) -> Result<()> {
        self.read_rest_by(response, &Deadline::after(within))
    }

    /// Reads one interim answer (1xx other than 101), and nothing after it.
    ///
    /// # Errors
    /// A [`WireError`], or when a final answer comes instead.
    pub fn read_interim(&mut self, within: Duration) -> Result<Interim> {
        let head = self.wire.read_head(&Deadline::after(within))?;
        let (status, _, _) = head.as_response("GET")?;
        ensure!(status < 200 && status != 101, "an interim answer was awaited, got {:?}", head.first);
        Ok(Interim { status, lines: head.lines })
    }

    fn read_head_by(&mut self, method: &str, deadline: &Deadline) -> Result<RawResponse> {
        let mut response = RawResponse::default();
        loop {
            let head = self.wire.read_head(deadline)?;
            let (status, reason, framing) = head.as_response(method)?;
            if (100..200).contains(&status) && status != 101 {
                response.interim.push(Interim { status, lines: head.lines });
                ensure!(response.interim.len() <= INTERIM_LIMIT, "more than {INTERIM_LIMIT} interim answers");
                continue;
            }
            (response.status, response.reason, response.lines) = (status, reason, head.lines);
            response.framing = (framing != Framing::None).then_some(framing);
            return Ok(response);
        }
    }

    fn read_rest_by(&mut self, response: &mut RawResponse, deadline: &Deadline) -> Result<()> {
        let body = self
            .wire
            .read_body(response.framing.unwrap_or(Framing::None), deadline)
            .with_context(|| format!("the body of an answer with status {} {:?}", response.status, response.lines))?;
        (response.body, response.chunks, response.trailers) = (body.bytes, body.chunks, body.trailers);
        Ok(())
    }

    /// Reads the next chunk of a chunked body; `None` is its end, trailers included.
    ///
    /// # Errors
    /// A [`WireError`], with what had been received.
    pub fn read_chunk(&mut self, within: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = Deadline::after(within);
        let chunk = self.wire.read_chunk(&deadline)?;
        if chunk.is_none() {
            self.wire.read_trailers(&deadline)?;
        }
        Ok(chunk)
    }

    /// Reads exactly `n` bytes.
    ///
    /// # Errors
    /// A [`WireError`], with what had been received.
    pub fn read_exact(&mut self, n: usize, within: Duration) -> Result<Vec<u8>> {
        Ok(self.wire.read_exact(n, &Deadline::after(within), "reading an exact number of bytes")?)
    }

    /// Reads up to and including `end`.
    ///
    /// # Errors
    /// A [`WireError`], with what had been received.
    pub fn read_until(&mut self, end: impl AsRef<[u8]>, within: Duration) -> Result<Vec<u8>> {
        Ok(self.wire.read_until(end.as_ref(), READ_LIMIT, &Deadline::after(within))?)
    }

    /// Reads whatever comes until the peer closes in order.
    ///
    /// # Errors
    /// When it resets the connection instead, or the deadline passes.
    pub fn read_until_close(&mut self, within: Duration) -> Result<Vec<u8>> {
        match self.read_to_ending(within)? {
            (bytes, Ending::Closed) => Ok(bytes),
            (bytes, Ending::Reset) => bail!("the connection was reset after {}", show(&bytes)),
        }
    }

    /// Reads whatever comes until the connection ends, and says how it did.
    ///
    /// # Errors
    /// When the deadline passes first.
    pub fn read_to_ending(&mut self, within: Duration) -> Result<(Vec<u8>, Ending)> {
        let deadline = Deadline::after(within);
        let ending = loop {
            match self.wire.fill(&deadline, "reading up to the end of the connection") {
                Ok(true) => {}
                Ok(false) => break Ending::Closed,
                Err(WireError::Reset { .. }) => break Ending::Reset,
                Err(error) => return Err(error.into()),
            }
            ensure!(self.wire.pending().len() <= READ_LIMIT, "more than {READ_LIMIT} bytes before the end");
        };
        let bytes = self.wire.take(self.wire.pending().len());
        Ok((bytes, ending))
    }

    /// Waits until the peer closes in order, without another byte.
    ///
    /// # Errors
    /// When bytes come, the connection is reset, or the deadline passes.
    pub fn expect_close(&mut self, within: Duration) -> Result<()> {
        let bytes = self.read_until_close(within)?;
        ensure!(bytes.is_empty(), "the connection should just have been closed, but there came {}", show(&bytes));
        Ok(())
    }

    /// Waits until the connection ends in whatever way, without another byte.
    ///
    /// # Errors
    /// When bytes come or the deadline passes.
    pub fn expect_end(&mut self, within: Duration) -> Result<Ending> {
        let (bytes, ending) = self.read_to_ending(within)?;
        ensure!(bytes.is_empty(), "the connection should just have ended, but there came {}", show(&bytes));
        Ok(ending)
    }

    /// Makes sure that nothing comes and the connection stays open for `span`.
    ///
    /// # Errors
    /// When something comes or the connection ends.
    pub fn expect_silence(&mut self, span: Duration) -> Result<()> {
        ensure!(self.wire.pending().is_empty(), "silence was awaited; unread: {}", show(self.wire.pending()));
        match self.wire.fill(&Deadline::after(span), "listening to silence") {
            Err(error) if error.is_timeout() => Ok(()),
            Ok(true) => bail!("silence was awaited, but there came {}", show(self.wire.pending())),
            Ok(false) => bail!("silence was awaited, but the peer closed"),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends this side of the connection; the other can still be read.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub fn half_close(&mut self) -> Result<()> {
        self.wire.stream().shutdown(Shutdown::Write).context("closing the sending side")
    }

    /// Ends the connection by a reset.
    ///
    /// # Errors
    /// When the socket does not take the option.
    pub fn reset(self) -> Result<()> {
        SockRef::from(self.wire.stream()).set_linger(Some(Duration::ZERO)).context("asking for a reset on close")
    }

    /// Sends a GET for `target` with a Host header and reads the answer.
    ///
    /// # Errors
    /// As [`RawClient::send`] and [`RawClient::read_response`].
    pub fn get(&mut self, target: &str, within: Duration) -> Result<RawResponse> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.peer))?;
        self.read_response(within)
    }
}

impl RawResponse {
    /// The values of every header named `name`, in order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        wire::values(&self.lines, name)
    }

    /// The value of the one header named `name`; `None` if there is none or more than one.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.headers(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the connection ends with this answer.
    pub fn closes(&self) -> bool {
        self.framing == Some(Framing::UntilClose) || wire::lists(&self.lines, "connection", "close")
    }
}
