//! One connection of an upstream: served until it ends, the upstream refuses or ends, or it has been idle for too long.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kernel::Moment;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::counters::Counter;
use super::{State, answer};

/// What a connection and the bodies on it share.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) state: Arc<State>,
    /// The socket once more, so that a body can say how it closes.
    socket: OwnedFd,
    in_flight: AtomicUsize,
    last_use_ns: AtomicU64,
    is_used: AtomicBool,
}

/// Held as long as an exchange is under way.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Connection>);

impl Busy {
    pub(crate) fn new(connection: &Arc<Connection>) -> Busy {
        connection.in_flight.fetch_add(1, Relaxed);
        connection.is_used.store(true, Relaxed);
        Busy(Arc::clone(connection))
    }

    /// The close that follows will be a reset.
    pub(crate) fn reset_on_close(&self) {
        // A socket that has failed meanwhile is closed all the same.
        rustix::net::sockopt::set_socket_linger(&self.0.socket, Some(Duration::ZERO)).ok();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Connection {
    fn touch(&self) {
        self.last_use_ns.store(self.state.clock.now().as_nanos(), Relaxed);
    }

    fn idle_since(&self) -> Moment {
        Moment::from_nanos(self.last_use_ns.load(Relaxed))
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(state: Arc<State>, stream: TcpStream) {
    // Without either the answers are slower or not reset; both show in the results.
    stream.set_nodelay(true).ok();
    let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return };
    state.count(Counter::Connections);
    state.open.fetch_add(1, Relaxed);
    let connection = Arc::new(Connection {
        socket,
        in_flight: AtomicUsize::new(0),
        last_use_ns: AtomicU64::new(state.clock.now().as_nanos()),
        is_used: AtomicBool::new(false),
        state: Arc::clone(&state),
    });
    drive(&state, &connection, stream).await;
    state.open.fetch_sub(1, Relaxed);
}

async fn drive(state: &Arc<State>, connection: &Arc<Connection>, stream: TcpStream) {
    let shared = Arc::clone(connection);
    let http = hyper::server::conn::http1::Builder::new().serve_connection(
        TokioIo::new(stream),
        service_fn(move |request| answer::answer(Arc::clone(&shared), request)),
    );
    let mut http = std::pin::pin!(http);
    let (mut changed, mut ending) = (state.changed.subscribe(), state.ending.subscribe());
    let mut is_leaving = false;
    loop {
        if !is_leaving && *ending.borrow() {
            is_leaving = true;
            http.as_mut().graceful_shutdown();
            // A connection that never carried a request has nothing to finish.
            if !connection.is_used.load(Relaxed) {
                return;
            }
        }
        let fault = state.fault();
        if fault.refuse {
            return;
        }
        let idle_time = fault.idle_close_ms.map(|ms| Duration::from_secs_f64(ms / 1e3));
        let until_idle = idle_time.map(|time| (connection.idle_since() + time).since(state.clock.now()));
        tokio::select! {
            _ = http.as_mut() => return,
            _ = changed.changed() => {}
            _ = ending.changed(), if !is_leaving => {}
            () = sleep(until_idle.unwrap_or_default()), if until_idle.is_some() => {
                let is_due = idle_time.is_some_and(|time| state.clock.now().since(connection.idle_since()) >= time);
                if connection.in_flight.load(Relaxed) > 0 {
                    // Busy: it is looked at again after the idle time at the earliest.
                    connection.touch();
                } else if is_due {
                    // From here on nothing is read: a request that arrives now is answered by a reset.
                    sleep(Duration::from_secs_f64(fault.idle_close_lag_ms / 1e3)).await;
                    state.count(Counter::IdleCloses);
                    return;
                }
            }
        }
    }
}
