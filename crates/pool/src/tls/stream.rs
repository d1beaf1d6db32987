//! TLS over a non-blocking socket, made for edge-triggered readiness.
//!
//! Reading follows the rule of a plain socket: fewer bytes than asked for mean that the socket had no more, and the next edge
//! tells when it has. So [`TlsStream::read`] goes on until the buffer is full or the socket is empty; what it had to leave
//! inside (the buffer was too small, the connection ended behind the last bytes) is announced by
//! [`TlsStream::has_more`].
//!
//! Writing: [`TlsStream::write`] encrypts what fits into the buffer of 64 KiB and sends as much of it as the socket takes at
//! once. What is left goes out with [`TlsStream::flush`], which has to be called on each edge of writability.
//!
//! The handshake goes on within reads, writes and flushes. An end without `close_notify` is an end: the protocol inside has
//! frames of its own. Absent on purpose: early data, renegotiation.

use std::fmt;
use std::io::{self, Read, Write};

use rustls::Connection;

/// Most encrypted bytes that wait for the socket.
const MOST_WAITING: usize = 64 << 10;

/// A TLS connection and its socket.
pub struct TlsStream<S> {
    connection: Connection,
    socket: S,
    /// Decrypted bytes that nobody has read; behind an error, an upper bound.
    plaintext: usize,
    /// Whether the last read of the socket filled all the room it was given.
    may_have_more: bool,
    /// What is to be said by the next read, behind bytes that were read before it.
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    Closed,
    Failed(io::Error),
}

/// A socket, and whether a read of it left room.
struct Watched<'a, S> {
    socket: &'a mut S,
    filled: bool,
}

impl<S: Read> Read for Watched<'_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(buf)?;
        self.filled = read == buf.len();
        Ok(read)
    }
}

impl<S: Read + Write> TlsStream<S> {
    /// Goes on with a connection, in its handshake or behind it. `early` are bytes that were already read from the socket and
    /// belong to TLS.
    ///
    /// # Errors
    ///
    /// If `early` is not TLS as it has to be; an alert was sent.
    pub fn new(connection: impl Into<Connection>, socket: S, mut early: &[u8]) -> io::Result<TlsStream<S>> {
        let mut connection = connection.into();
        connection.set_buffer_limit(Some(MOST_WAITING));
        let mut stream = TlsStream { connection, socket, plaintext: 0, may_have_more: false, end: None };
        stream.process()?;
        while !early.is_empty() {
            if stream.connection.read_tls(&mut early)? == 0 {
                break;
            }
            stream.process()?;
        }
        stream.flush()?;
        Ok(stream)
    }

    /// Reads plaintext; 0: the other side is done. `buf` must have room.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if there is none now, [`io::ErrorKind::InvalidData`] if the other side does not speak TLS
    /// as it has to.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            filled += self.take(&mut buf[filled..]);
            if filled == buf.len() {
                return Ok(filled);
            }
            if filled > 0 && (self.end.is_some() || !self.may_have_more) {
                return Ok(filled);
            }
            match self.end.take() {
                Some(End::Closed) => {
                    self.end = Some(End::Closed);
                    return Ok(0);
                }
                Some(End::Failed(error)) => {
                    self.end = Some(End::Closed);
                    return Err(error);
                }
                None => {}
            }
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.may_have_more = false;
                    return if filled > 0 { Ok(filled) } else { Err(error) };
                }
                Err(error) => self.end = Some(End::Failed(error)),
            }
        }
    }

    /// Takes plaintext that is there.
    fn take(&mut self, buf: &mut [u8]) -> usize {
        let mut taken = 0;
        while self.plaintext > 0 && taken < buf.len() {
            match self.connection.reader().read(&mut buf[taken..]) {
                Ok(read) if read > 0 => {
                    taken += read;
                    self.plaintext -= read;
                }
                // There was less than assumed; how it ends is kept in `end`.
                Ok(_) | Err(_) => self.plaintext = 0,
            }
        }
        taken
    }

    /// Reads the socket once, and decrypts.
    fn fill(&mut self) -> io::Result<()> {
        let mut watched = Watched { socket: &mut self.socket, filled: false };
        let read = loop {
            match self.connection.read_tls(&mut watched) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.may_have_more = watched.filled;
        if read == 0 {
            self.end = Some(End::Closed);
            return Ok(());
        }
        self.process()?;
        // An answer of the handshake, or to a change of keys. What the socket does not take now goes with a later flush.
        if self.connection.wants_write() {
            self.flush()?;
        }
        Ok(())
    }

    fn process(&mut self) -> io::Result<()> {
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.plaintext = state.plaintext_bytes_to_read();
                if state.peer_has_closed() {
                    self.end = Some(End::Closed);
                }
                Ok(())
            }
            Err(error) => {
                // The alert is a courtesy: the error is what counts.
                drop(self.flush());
                // Records before the broken one may have been decrypted; rustls does not say how much.
                self.plaintext = usize::MAX;
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Takes as much of `buf` as fits, and sends what the socket takes. What was taken is not yet sent as long as
    /// [`TlsStream::wants_write`] says so.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if nothing fits.
    pub fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let mut taken = self.connection.writer().write(buf)?;
        if taken == 0 {
            self.flush()?;
            taken = self.connection.writer().write(buf)?;
        }
        self.flush()?;
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Sends what waits; true: nothing waits any more.
    ///
    /// # Errors
    ///
    /// If the socket fails; a full socket is no error.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Says that nothing more will be sent, as far as the socket takes it.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
        // Whoever does not hear it finds the socket closed.
        drop(self.flush());
    }

    /// Whether a read would give something that no edge will announce.
    pub fn has_more(&self) -> bool {
        self.plaintext > 0 || self.may_have_more || self.end.is_some()
    }

    /// Whether encrypted bytes wait for the socket.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Whether the handshake goes on.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The other side's certificate in DER, if it has shown one and the handshake has come so far.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.connection.peer_certificates().and_then(|chain| chain.first()).map(AsRef::as_ref)
    }

    /// What was agreed on by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Version and cipher suite, for people.
    pub fn description(&self) -> Option<String> {
        let version = match self.connection.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "TLS",
        };
        Some(format!("{version}/{:?}", self.connection.negotiated_cipher_suite()?.suite()))
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The socket.
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("plaintext", &self.plaintext).field("end", &self.end).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
