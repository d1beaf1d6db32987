//! One worker: a thread with a runtime of its own that accepts, serves and ends connections. Workers share nothing but
//! atomics and the endpoint's line; all accept from the same listening sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Drain, DrainPhase, Entropy, ErrorCode};
use policy::net::client_key;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::conn;
use crate::core::{Commons, Core};
use crate::problem::{self, Frame};
use crate::standing::Standing;

/// Connections accepted in a row before others get their turn: a burst is then spread over the workers.
const ACCEPT_BURST: u32 = 16;
/// Connections beyond the limits that a worker gives the time to read their answer; more are closed at once.
const TURNED_AWAY_MAX: u32 = 64;
/// How long accepting rests when the process is out of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// How long a handshake that has begun may take to end before the listener is closed: a round trip across an ocean.
const HANDSHAKE: Duration = Duration::from_millis(200);

/// Runs worker `index` until the drain has ended. Call it on a thread of its own.
///
/// # Errors
/// When the runtime or the listeners cannot be set up.
pub(crate) fn run(
    index: usize,
    commons: Arc<Commons>,
    listeners: Vec<StdListener>,
    standing: Arc<Standing>,
    drain: Drain,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let entropy = Entropy::from_os().map_err(io::Error::other)?;
    runtime.block_on(async {
        let core = Core::new(index, commons, entropy);
        let ended = Rc::new(Notify::new());
        let mut accepting = Vec::new();
        for (which, listener) in listeners.into_iter().enumerate() {
            listener.set_nonblocking(true)?;
            let door = Door { listener: TcpListener::from_std(listener)?, which, standing: standing.clone() };
            accepting.push(tokio::task::spawn_local(accept(core.clone(), door, drain.clone(), ended.clone())));
        }
        spawn_upkeep(&core, standing);
        live(&core, drain, accepting, &ended).await;
        Ok(())
    })
}

/// Follows the drain to its end, or to the end of the last connection.
async fn live(core: &Rc<Core>, mut drain: Drain, accepting: Vec<JoinHandle<()>>, ended: &Notify) {
    for phase in [DrainPhase::Announced, DrainPhase::Draining] {
        drain.reached(phase).await;
        core.patient.set(drain.is_patient());
        core.phase.set(drain.phase().max(phase));
    }
    // Idle connections end now or soon; each looks at the phase when it is woken.
    core.deadlines.wake_all();
    for accept in accepting {
        // It ends by itself once the queue is empty; a panic in it has ended it already.
        let _ended = accept.await.is_ok();
    }
    let mut hurry = drain.clone();
    while core.connections.get() > 0 {
        tokio::select! {
            () = ended.notified() => {}
            () = drain.reached(DrainPhase::Closed) => break,
            () = hurry.hurried(), if core.patient.get() => {
                core.patient.set(false);
                core.deadlines.wake_all();
            }
        }
    }
}

/// The tasks that keep deadlines, idle connections and requests of other workers.
fn spawn_upkeep(core: &Rc<Core>, standing: Arc<Standing>) {
    let sweeper = core.clone();
    let deadlines = core.deadlines.clone();
    tokio::task::spawn_local(async move {
        let mut swept = kernel::Moment::ZERO;
        deadlines
            .run(move |now| {
                standing.beat(sweeper.index, now);
                if now.since(swept) >= Duration::from_millis(500) {
                    swept = now;
                    sweeper.pool.sweep(&sweeper, now);
                }
            })
            .await;
    });
    let watcher = core.clone();
    tokio::task::spawn_local(async move {
        loop {
            watcher.pool.stirred().await;
            let now = watcher.clock().now();
            watcher.pool.sweep(&watcher, now);
        }
    });
    let clerk = core.clone();
    tokio::task::spawn_local(async move {
        loop {
            let wants = clerk.commons.mailboxes[clerk.index].take().await;
            for (endpoint, want) in wants {
                clerk.pool.serve(&clerk, endpoint, want);
            }
        }
    });
}

/// A listener as one worker has it.
struct Door {
    listener: TcpListener,
    /// Which of the gateway's listeners it is.
    which: usize,
    standing: Arc<Standing>,
}

/// Accepts, once the gateway is open, until the drain begins; then takes what is still in the queue and closes the
/// listener. If another process holds the same socket, the queue is that one's.
async fn accept(core: Rc<Core>, door: Door, mut drain: Drain, ended: Rc<Notify>) {
    let Door { listener, which, standing } = door;
    let mut burst = 0;
    tokio::select! {
        () = drain.reached(DrainPhase::Draining) => {}
        () = standing.opened() => {}
    }
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.reached(DrainPhase::Draining) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((io, peer)) => take(&core, io, peer, &ended),
            Err(error) => {
                if is_exhaustion(&error) {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
        burst += 1;
        if burst >= ACCEPT_BURST {
            burst = 0;
            tokio::task::yield_now().await;
        }
    }
    if standing.is_elsewhere(which) {
        // Neither a filter, which would hold for the other one too, nor a look at the queue. A close that is not the last
        // resets nothing.
        return;
    }
    // What the system has begun to set up comes through; what it has not begun waits, and is refused after the close.
    begin_no_more(&listener);
    let handshakes = async {
        while let Ok((io, peer)) = listener.accept().await {
            take(&core, io, peer, &ended);
        }
    };
    let _over = tokio::time::timeout(HANDSHAKE, handshakes).await.is_err();
    // Asked of the system and not of the runtime, which may not have heard yet of what is in the queue.
    let Ok(listener) = listener.into_std() else { return };
    loop {
        match listener.accept() {
            Ok((io, peer)) => {
                if io.set_nonblocking(true).is_ok()
                    && let Ok(io) = TcpStream::from_std(io)
                {
                    take(&core, io, peer, &ended);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_exhaustion(&error) => return,
            Err(_) => {}
        }
    }
}

/// Makes the system ignore wishes for a connection on this socket, whoever holds it: closing a listener resets every
/// connection in its queue, and one could come between the last look and the close. A client repeats its wish after a
/// second and is then refused. Without the filter (another system than Linux) only that moment is left open.
fn begin_no_more(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    {
        use socket2::{SockFilter, SockRef};
        // Classic BPF over the TCP header: load the byte of flags (offset 13); with SYN (2) drop, else pass whole.
        let filter = [
            SockFilter::new(0x30, 0, 0, 13),
            SockFilter::new(0x45, 0, 1, 2),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
            tracing::debug!(%error, "cannot filter new connections; closing the listener may reset some");
        }
    }
}

/// Errors of the process, not of the one connection (which went away before it was accepted).
fn is_exhaustion(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Counts a connection as long as it lives.
struct Counted {
    core: Rc<Core>,
    client: IpAddr,
    ended: Rc<Notify>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.core.commons.clients.leave(self.client);
        self.core.connections.set(self.core.connections.get() - 1);
        if self.core.phase.get() >= DrainPhase::Draining {
            self.ended.notify_one();
        }
    }
}

fn take(core: &Rc<Core>, io: TcpStream, peer: SocketAddr, ended: &Rc<Notify>) {
    let held = core.held();
    let edge = &held.snapshot.plan.edge;
    let client = client_key(peer.ip());
    core.edge().accepted.inc();
    // A trusted proxy stands for many clients: it is held to the overall limit only.
    let trusted = held.snapshot.plan.trusted_proxies.contains(peer.ip());
    let most = if trusted { u32::MAX } else { edge.max_connections_per_client };
    if let Err(code) = core.commons.clients.enter(client, edge.max_connections, most) {
        turn_away(core, io, peer, code);
        return;
    }
    core.connections.set(core.connections.get() + 1);
    let counted = Counted { core: core.clone(), client, ended: ended.clone() };
    // An error here means that the client is gone already; the first read will say so.
    let _set = io.set_nodelay(true).is_ok();
    let core = core.clone();
    tokio::task::spawn_local(async move {
        let _counted = counted;
        conn::serve(core, io, peer).await;
    });
}

/// Answers a connection beyond the limits, whatever it asks. What it sends is read for a short while and dropped:
/// closing with bytes unread would be a reset, which can overtake the answer.
fn turn_away(core: &Rc<Core>, io: TcpStream, peer: SocketAddr, code: ErrorCode) {
    core.edge().errors[code.index()].inc();
    let mut answer = Vec::new();
    let frame = Frame { request_id: b"", close: true, to_head: false, http10: false };
    problem::write(&mut answer, frame, code, "try again in a moment");
    // A fresh socket takes this much at once, or the client is gone.
    let _sent = io.try_write(&answer).is_ok();
    tracing::debug!(%peer, code = code.code(), "turned a connection away");
    if core.turned_away.get() >= TURNED_AWAY_MAX {
        return;
    }
    core.turned_away.set(core.turned_away.get() + 1);
    let core = core.clone();
    tokio::task::spawn_local(async move {
        conn::dismiss(&core, io, peer).await;
        core.turned_away.set(core.turned_away.get() - 1);
    });
}
