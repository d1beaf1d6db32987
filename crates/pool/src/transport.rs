//! A connection of the pooler's worker: a TCP or Unix socket of mio, plain or through TLS, with one way to read, write and
//! register it.
//!
//! Both kinds keep the same rule for edge-triggered readiness: a read that gives fewer bytes than asked for has emptied the
//! socket, unless [`Transport::has_more`]; an event that says that the other side has closed is followed by reads until 0 or
//! an error. After writes, [`Transport::flush`] on each edge of writability until it says true.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token, event::Source};

use crate::tls::TlsStream;

/// A socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

/// A connection.
#[derive(Debug)]
pub enum Transport {
    /// As it is.
    Plain(Socket),
    /// Through TLS, as a server or as a client.
    Tls(Box<TlsStream<Socket>>),
}

impl Socket {
    /// A TCP socket of the standard library, which is made non-blocking.
    ///
    /// # Errors
    ///
    /// If it cannot be.
    pub fn from_tcp(socket: std::net::TcpStream) -> io::Result<Socket> {
        socket.set_nonblocking(true)?;
        Ok(Socket::Tcp(TcpStream::from_std(socket)))
    }

    /// A Unix socket of the standard library, which is made non-blocking.
    ///
    /// # Errors
    ///
    /// If it cannot be.
    pub fn from_unix(socket: std::os::unix::net::UnixStream) -> io::Result<Socket> {
        socket.set_nonblocking(true)?;
        Ok(Socket::Unix(UnixStream::from_std(socket)))
    }

    /// Whether it is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self, Socket::Unix(_))
    }

    /// Ends one or both directions.
    ///
    /// # Errors
    ///
    /// If it is not connected any more.
    pub fn shutdown(&self, how: std::net::Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.shutdown(how),
            Socket::Unix(socket) => socket.shutdown(how),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(socket) => socket,
            Socket::Unix(socket) => socket,
        }
    }
}

impl Read for Socket {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buf),
            Socket::Unix(socket) => socket.read(buf),
        }
    }
}

impl Write for Socket {
    #[inline]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(buf),
            Socket::Unix(socket) => socket.write(buf),
        }
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write_vectored(bufs),
            Socket::Unix(socket) => socket.write_vectored(bufs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

impl Transport {
    /// Begins TLS as a server. `early` are bytes that were already read and belong to TLS: none behind an answered
    /// `SSLRequest` (whatever came before the answer was sent by somebody who could not know it), the client's first bytes
    /// with direct TLS.
    ///
    /// # Errors
    ///
    /// If it is TLS already, or `early` is not what it has to be.
    pub fn accept_tls(self, config: &Arc<rustls::ServerConfig>, early: &[u8]) -> io::Result<Transport> {
        let connection = rustls::ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        match self {
            Transport::Plain(socket) => Ok(Transport::Tls(Box::new(TlsStream::new(connection, socket, early)?))),
            Transport::Tls(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS within TLS")),
        }
    }

    /// Goes on with TLS that was begun as a client.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    pub fn client_tls(socket: Socket, connection: rustls::ClientConnection) -> io::Result<Transport> {
        Ok(Transport::Tls(Box::new(TlsStream::new(connection, socket, &[])?)))
    }

    /// Reads; 0: the other side is done.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if there is nothing now.
    #[inline]
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.read(buf),
            Transport::Tls(stream) => stream.read(buf),
        }
    }

    /// Writes as much as is taken now.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if nothing is.
    #[inline]
    pub fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.write(buf),
            Transport::Tls(stream) => stream.write(buf),
        }
    }

    /// Sends what was taken and waits inside; true: nothing does.
    ///
    /// # Errors
    ///
    /// If the socket fails.
    #[inline]
    pub fn flush(&mut self) -> io::Result<bool> {
        match self {
            Transport::Plain(_) => Ok(true),
            Transport::Tls(stream) => stream.flush(),
        }
    }

    /// Whether a read would give something that no edge will announce.
    #[inline]
    pub fn has_more(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(stream) => stream.has_more(),
        }
    }

    /// Whether bytes that were taken wait for the socket.
    #[inline]
    pub fn wants_write(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(stream) => stream.wants_write(),
        }
    }

    /// Whether TLS is still being agreed on.
    pub fn is_handshaking(&self) -> bool {
        self.tls().is_some_and(TlsStream::is_handshaking)
    }

    /// TLS, if it is there: certificate, ALPN, description.
    pub fn tls(&self) -> Option<&TlsStream<Socket>> {
        match self {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => Some(stream),
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.socket(),
        }
    }

    /// Says goodbye as far as the socket takes it, and ends both directions: what was written before is still sent.
    pub fn close(&mut self) {
        if let Transport::Tls(stream) = self {
            stream.close();
        }
        // It may be closed already.
        drop(self.socket().shutdown(std::net::Shutdown::Both));
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl Source for Transport {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

impl Transport {
    fn source(&mut self) -> &mut Socket {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.socket_mut(),
        }
    }
}

#[cfg(test)]
mod tests;
