//! Peers behind the program under test: one that follows a [`Script`] to the byte ([`ScriptedUpstream`]), one that
//! serves requests with a handler ([`ServingUpstream`]), and two that cannot be reached ([`Refusing`], [`Deaf`]). All
//! listen on port 0 of 127.0.0.1.

mod reply;
mod script;
mod serving;

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, SockRef, Socket, Type};

pub use reply::{ReceivedRequest, Reply};
pub use script::{STEP, Script, ScriptedUpstream, Step, Transcript};
pub use serving::{ServingOptions, ServingUpstream};

use crate::poll::lock;

/// Where peers are made.
#[derive(Debug)]
pub enum Upstream {}

/// An address at which every connection is refused. The port stays reserved while this lives.
#[derive(Debug)]
pub struct Refusing {
    addr: SocketAddr,
    _port: Socket,
}

/// An address at which a connection is neither accepted nor refused, so that connecting takes for ever: a listener
/// whose queue is full. (The queue's behaviour is Linux's.)
#[derive(Debug)]
pub struct Deaf {
    addr: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Upstream {
    /// A peer that follows one script for each connection, in the order in which they are accepted.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn script(scripts: Vec<Script>) -> Result<ScriptedUpstream> {
        ScriptedUpstream::start(scripts)
    }

    /// A keep-alive server with a thread for each connection.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn serving(handler: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static) -> Result<ServingUpstream> {
        ServingUpstream::start(ServingOptions::default(), Arc::new(handler))
    }

    /// A keep-alive server as `options` say.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn serving_with(
        options: ServingOptions,
        handler: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) -> Result<ServingUpstream> {
        ServingUpstream::start(options, Arc::new(handler))
    }

    /// An address that refuses connections.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn refusing() -> Result<Refusing> {
        let (port, addr) = reserve_port()?;
        Ok(Refusing { addr, _port: port })
    }

    /// An address at which connecting takes for ever.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn deaf() -> Result<Deaf> {
        /// A queue of length 0 takes one or two connections; far more than that means that this is no such system.
        const QUEUE_AT_MOST: usize = 8;
        let (listener, addr) = reserve_port()?;
        listener.listen(0).context("listening without a queue")?;
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
            queued.push(stream);
            anyhow::ensure!(queued.len() <= QUEUE_AT_MOST, "a listener without a queue takes connections all the same");
        }
        Ok(Deaf { addr, _listener: listener, _queued: queued })
    }
}

impl Refusing {
    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Deaf {
    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A free port, bound and not listening: connections to it are refused, and as long as the socket lives the system
/// gives the port to nobody else, yet [`listen_on`] can listen on it.
pub(crate) fn reserve_port() -> Result<(Socket, SocketAddr)> {
    let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let addr = socket.local_addr().ok().and_then(|a| a.as_socket()).context("a bound socket has no address")?;
    Ok((socket, addr))
}

pub(crate) fn listen_on(addr: SocketAddr) -> Result<TcpListener> {
    let socket = bind(addr)?;
    socket.listen(1024).with_context(|| format!("listening on {addr}"))?;
    Ok(socket.into())
}

fn bind(addr: SocketAddr) -> Result<Socket> {
    let attempt = || format!("binding {addr}");
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).with_context(attempt)?;
    socket.set_reuse_address(true).with_context(attempt)?;
    socket.bind(&addr.into()).with_context(attempt)?;
    Ok(socket)
}

/// Makes `accept` on a listener fail for good, in whatever thread it waits. (On Linux.)
pub(crate) fn wake_listener(listener: &TcpListener) {
    // It may be closed already, which is what is wanted.
    let _already_closed = SockRef::from(listener).shutdown(Shutdown::Both).is_err();
}

/// Makes the next close of `stream` a reset.
pub(crate) fn reset_on_close(stream: &TcpStream) -> Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).context("asking for a reset on close")
}

/// The connections of a peer that are open, so that another thread can end them. After [`Open::cut`] none is taken in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open(Arc<Mutex<OpenState>>);

#[derive(Debug, Default)]
struct OpenState {
    streams: Vec<(usize, TcpStream)>,
    cut: bool,
}

impl Open {
    /// Takes in connection `id`; `false` if the peer has been told to end.
    pub(crate) fn add(&self, id: usize, stream: &TcpStream) -> bool {
        let mut state = lock(&self.0);
        match stream.try_clone() {
            Ok(clone) if !state.cut => {
                state.streams.push((id, clone));
                true
            }
            _ => false,
        }
    }

    pub(crate) fn remove(&self, id: usize) {
        lock(&self.0).streams.retain(|(other, _)| *other != id);
    }

    fn len(&self) -> usize {
        lock(&self.0).streams.len()
    }

    /// Ends every connection and takes in no other.
    pub(crate) fn cut(&self) {
        let mut state = lock(&self.0);
        state.cut = true;
        for (_, stream) in state.streams.drain(..) {
            let _already_gone = stream.shutdown(Shutdown::Both).is_err();
        }
    }
}

#[cfg(test)]
mod tests;
