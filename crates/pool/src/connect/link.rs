//! A socket to a server in the hands of the control runtime: TCP, TCP with TLS, or Unix; and its way into other hands.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Address, OpenError, Security};
use crate::login::server::Channel;
use crate::plan::{ServerAddress, ServerPlan, ServerTlsMode};
use crate::tls::end_point_hash;
use crate::wire::{Frame, WireError, frame, frontend};

/// After so much silence the kernel asks whether the other end is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// And then so often, three times.
const KEEPALIVE_EACH: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// What was sent is acknowledged in this time, or the connection is over.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);
/// Read at once, at most.
const READ: usize = 16 * 1024;

/// A socket that goes to other hands: non-blocking.
#[derive(Debug)]
pub enum OpenSocket {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

/// A socket of the control runtime's.
#[derive(Debug)]
pub(crate) enum Link {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Link {
    /// Connects, without TLS.
    pub(crate) async fn connect(address: &Address) -> io::Result<Link> {
        match address {
            Address::Unix(path) => UnixStream::connect(path).await.map(Link::Unix),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let socket = SockRef::from(&stream);
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EACH);
                socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
                #[cfg(target_os = "linux")]
                socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
                Ok(Link::Tcp(stream))
            }
        }
    }

    /// Goes over to TLS, as far as the plan wants it and the server has it.
    pub(crate) async fn secure(self, server: &ServerPlan, security: Security<'_>) -> Result<Link, OpenError> {
        let mode = security.plan.mode;
        let Link::Tcp(mut stream) = self else { return Ok(self) };
        if mode == ServerTlsMode::Disable {
            return Ok(Link::Tcp(stream));
        }
        if !security.plan.direct && !ask_for_tls(&mut stream, server).await? {
            return match mode {
                ServerTlsMode::Prefer => Ok(Link::Tcp(stream)),
                _ => Err(OpenError::NoTls { server: server.name.clone() }),
            };
        }
        let failed = |source| OpenError::Tls { server: server.name.clone(), source };
        let name = server_name(server).map_err(failed)?;
        let connector = TlsConnector::from(Arc::clone(security.config));
        let stream = Box::pin(connector.connect(name, stream)).await.map_err(failed)?;
        Ok(Link::Tls(Box::new(stream)))
    }

    /// What lies between us and the server; with its certificate's hash for channel binding.
    pub(crate) fn channel(&self) -> Channel {
        match self {
            Link::Tcp(_) => Channel::Open,
            Link::Unix(_) => Channel::Local,
            Link::Tls(stream) => {
                let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                Channel::Tls(certificates.first().and_then(|certificate| end_point_hash(certificate)))
            }
        }
    }

    /// Sends all of it.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        AsyncWriteExt::write_all(self, bytes).await?;
        self.flush().await
    }

    /// Reads what is there; 0: the other end has closed. Cancel safe: nothing that was read is lost.
    pub(crate) async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        into.reserve(READ);
        self.take(READ as u64).read_buf(into).await
    }

    /// Reads until a whole message stands at the beginning of `buf`; `None`: the other end has closed. Cancel safe.
    pub(crate) async fn next(
        &mut self,
        buf: &mut Vec<u8>,
        most: usize,
    ) -> io::Result<Result<Option<Frame>, WireError>> {
        loop {
            match frame(buf) {
                Err(error) => return Ok(Err(error)),
                Ok(Some(frame)) if frame.len > most => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a message of {} bytes", frame.len),
                    ));
                }
                Ok(Some(frame)) if frame.len <= buf.len() => return Ok(Ok(Some(frame))),
                Ok(_) => {}
            }
            if self.read(buf).await? == 0 {
                return Ok(Ok(None));
            }
        }
    }

    /// Gives the socket away, with its TLS session.
    pub(crate) fn into_parts(self) -> io::Result<(OpenSocket, Option<Box<rustls::ClientConnection>>)> {
        Ok(match self {
            Link::Tcp(stream) => (OpenSocket::Tcp(stream.into_std()?), None),
            Link::Unix(stream) => (OpenSocket::Unix(stream.into_std()?), None),
            Link::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                (OpenSocket::Tcp(stream.into_std()?), Some(Box::new(session)))
            }
        })
    }
}

/// Asks whether the server speaks TLS.
async fn ask_for_tls(stream: &mut TcpStream, server: &ServerPlan) -> Result<bool, OpenError> {
    let broke = |source| OpenError::Broke { server: server.name.clone(), source };
    let mut request = Vec::with_capacity(8);
    frontend::put_ssl_request(&mut request);
    stream.write_all(&request).await.map_err(broke)?;
    match stream.read_u8().await.map_err(broke)? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // An error at this point comes from nobody who can be trusted: its text is not read.
        b'E' => Err(broke(io::Error::other("an error in answer to the request for TLS"))),
        other => {
            let text = format!("byte {other:#04x} in answer to the request for TLS");
            Err(broke(io::Error::new(io::ErrorKind::InvalidData, text)))
        }
    }
}

fn server_name(server: &ServerPlan) -> io::Result<ServerName<'static>> {
    let ServerAddress::Tcp { host, .. } = &server.address else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS over a Unix socket"));
    };
    crate::tls::server_name(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Link::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Link::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Link::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Link::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Link::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Link::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Link::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Link::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
