//! A peer that follows a script: for each connection a list of [`Step`]s, performed on a thread of its own. What it
//! received is kept, and [`ScriptedUpstream::finish`] fails unless every script was followed to its end and nobody
//! connected beyond them. Each step has a deadline ([`STEP`]), so a script that is not met ends the test, never hangs it.

use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::Socket;

use super::{Open, listen_on, reserve_port, reset_on_close, wake_listener};
use crate::poll::{Deadline, Gate, lock, poll_until};
use crate::wire::{Framing, Record, Wire, show};

/// How long one step may take.
pub const STEP: Duration = Duration::from_secs(10);
/// The longest stretch that [`Step::ReadUntil`] reads.
const READ_LIMIT: usize = 16 * 1024 * 1024;

/// One thing that the peer does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads a request's head, which must be well-formed.
    ReadHead,
    /// Reads a whole request by its framing.
    ReadRequest,
    /// Reads exactly this many bytes.
    ReadBody(usize),
    /// Reads up to and including these bytes.
    ReadUntil(Vec<u8>),
    /// Waits until the other side closes, without another byte.
    ReadEnd,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes in pieces, with a pause in between.
    SendSlowly {
        /// What to send.
        bytes: Vec<u8>,
        /// How much at a time.
        piece: usize,
        /// How long to pause.
        pause: Duration,
    },
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Opens the gate: tells the test that the script came this far.
    Open(Gate),
    /// Closes the sending side.
    HalfClose,
    /// Closes the connection. If something was received and not read, the system makes a reset of it.
    Close,
    /// Resets the connection.
    Reset,
    /// Keeps the connection open, reading whatever comes, until the other side closes or the test finishes.
    Hold,
}

/// What happens on one connection; after the last step it is closed.
#[derive(Debug, Clone, Default)]
pub struct Script(Vec<Step>);

/// What the peer received on one connection.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    /// The bytes (the first 8 MiB of them).
    pub received: Vec<u8>,
    /// How many bytes there were.
    pub total: u64,
}

/// A peer that follows scripts.
#[derive(Debug)]
pub struct ScriptedUpstream {
    addr: SocketAddr,
    listener: Arc<TcpListener>,
    acceptor: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    _port: Socket,
}

#[derive(Debug)]
struct Shared {
    connections: Mutex<Vec<Connection>>,
    unexpected: Mutex<usize>,
    open: Open,
}

#[derive(Debug)]
struct Connection {
    script: Script,
    state: State,
    record: Record,
}

/// waiting => following (accepted) => holding (at a last `Hold`) => ended; following => ended (no such `Hold`).
#[derive(Debug, Clone)]
enum State {
    Waiting,
    Following(usize),
    Holding,
    Ended(Result<(), String>),
}

impl Script {
    /// A script without steps: the connection is closed at once.
    pub fn new() -> Script {
        Script::default()
    }

    /// With this step at the end.
    #[must_use]
    pub fn step(mut self, step: Step) -> Script {
        self.0.push(step);
        self
    }

    /// Then [`Step::ReadHead`].
    #[must_use]
    pub fn read_head(self) -> Script {
        self.step(Step::ReadHead)
    }

    /// Then [`Step::ReadRequest`].
    #[must_use]
    pub fn read_request(self) -> Script {
        self.step(Step::ReadRequest)
    }

    /// Then [`Step::ReadBody`].
    #[must_use]
    pub fn read_body(self, n: usize) -> Script {
        self.step(Step::ReadBody(n))
    }

    /// Then [`Step::ReadUntil`].
    #[must_use]
    pub fn read_until(self, end: impl Into<Vec<u8>>) -> Script {
        self.step(Step::ReadUntil(end.into()))
    }

    /// Then [`Step::ReadEnd`].
    #[must_use]
    pub fn read_end(self) -> Script {
        self.step(Step::ReadEnd)
    }

    /// Then [`Step::Send`].
    #[must_use]
    pub fn send(self, bytes: impl Into<Vec<u8>>) -> Script {
        self.step(Step::Send(bytes.into()))
    }

    /// Then [`Step::SendSlowly`].
    #[must_use]
    pub fn send_slowly(self, bytes: impl Into<Vec<u8>>, piece: usize, pause: Duration) -> Script {
        self.step(Step::SendSlowly { bytes: bytes.into(), piece, pause })
    }

    /// Then [`Step::Wait`].
    #[must_use]
    pub fn wait(self, gate: &Gate) -> Script {
        self.step(Step::Wait(gate.clone()))
    }

    /// Then [`Step::Open`].
    #[must_use]
    pub fn open(self, gate: &Gate) -> Script {
        self.step(Step::Open(gate.clone()))
    }

    /// Then [`Step::HalfClose`].
    #[must_use]
    pub fn half_close(self) -> Script {
        self.step(Step::HalfClose)
    }

    /// Then [`Step::Close`].
    #[must_use]
    pub fn close(self) -> Script {
        self.step(Step::Close)
    }

    /// Then [`Step::Reset`].
    #[must_use]
    pub fn reset(self) -> Script {
        self.step(Step::Reset)
    }

    /// Then [`Step::Hold`].
    #[must_use]
    pub fn hold(self) -> Script {
        self.step(Step::Hold)
    }
}

impl ScriptedUpstream {
    pub(super) fn start(scripts: Vec<Script>) -> Result<ScriptedUpstream> {
        let (port, addr) = reserve_port()?;
        let listener = Arc::new(listen_on(addr)?);
        let waiting = |script| Connection { script, state: State::Waiting, record: Record::default() };
        let shared = Arc::new(Shared {
            connections: Mutex::new(scripts.into_iter().map(waiting).collect()),
            unexpected: Mutex::new(0),
            open: Open::default(),
        });
        let (theirs, accepting) = (Arc::clone(&shared), Arc::clone(&listener));
        let acceptor = std::thread::Builder::new()
            .name("scripted-accept".to_owned())
            .spawn(move || accept(&theirs, &accepting))
            .context("starting the accepting thread of a scripted peer")?;
        Ok(ScriptedUpstream { addr, listener, acceptor: Some(acceptor), shared, _port: port })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections were accepted, unexpected ones included.
    pub fn connections(&self) -> usize {
        let accepted = |c: &&Connection| !matches!(c.state, State::Waiting);
        lock(&self.shared.connections).iter().filter(accepted).count() + *lock(&self.shared.unexpected)
    }

    /// Waits until every script has been followed to its end (a final `Hold` counts as one), ends what is held, and
    /// gives what was received on each connection.
    ///
    /// # Errors
    /// When a script was not met, not reached, or not finished within `within`, or when there was a connection that
    /// no script was for. The message tells each of them.
    pub fn finish(mut self, within: Duration) -> Result<Vec<Transcript>> {
        let done = |c: &Connection| matches!(c.state, State::Holding | State::Ended(_));
        let failed = |c: &Connection| matches!(c.state, State::Ended(Err(_)));
        let all_done = poll_until(within, || {
            let connections = lock(&self.shared.connections);
            (connections.iter().all(done) || connections.iter().any(failed)).then_some(())
        });
        let mut complaints = Vec::new();
        for (i, connection) in lock(&self.shared.connections).iter().enumerate() {
            let script = &connection.script.0;
            match &connection.state {
                State::Ended(Ok(())) | State::Holding => {}
                State::Ended(Err(error)) => complaints.push(format!("connection {i}: {error}")),
                State::Waiting => complaints.push(format!("connection {i} was never made; its script: {script:?}")),
                State::Following(at) if all_done.is_none() => {
                    complaints
                        .push(format!("connection {i} was still at step {at} after {within:?}: {:?}", script.get(*at)));
                }
                State::Following(_) => {}
            }
        }
        let unexpected = *lock(&self.shared.unexpected);
        if unexpected > 0 {
            complaints.push(format!("{unexpected} connection(s) more than there were scripts"));
        }
        if !complaints.is_empty() {
            bail!("the scripted peer {} is not content:\n  {}", self.addr, complaints.join("\n  "));
        }
        self.stop();
        // Held connections note what they received when they end, which they have been told to.
        let ended = || lock(&self.shared.connections).iter().all(|c| matches!(c.state, State::Ended(_))).then_some(());
        ensure!(poll_until(STEP, ended).is_some(), "a held connection of the scripted peer did not end");
        let mut connections = lock(&self.shared.connections);
        Ok(connections
            .iter_mut()
            .map(|c| std::mem::take(&mut c.record))
            .map(|record| Transcript { received: record.bytes, total: record.total })
            .collect())
    }

    fn stop(&mut self) {
        wake_listener(&self.listener);
        self.shared.open.cut();
        if let Some(acceptor) = self.acceptor.take() {
            let _panicked = acceptor.join().is_err();
        }
    }
}

impl Drop for ScriptedUpstream {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Transcript {
    /// What was received, as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        let next = lock(&shared.connections).iter().position(|c| matches!(c.state, State::Waiting));
        let Some(i) = next else {
            *lock(&shared.unexpected) += 1;
            continue;
        };
        if !shared.open.add(i, &stream) {
            return;
        }
        lock(&shared.connections)[i].state = State::Following(0);
        let theirs = Arc::clone(shared);
        let spawned = std::thread::Builder::new().name(format!("scripted-{i}")).spawn(move || {
            let mut wire = Wire::recording(stream);
            let result = follow(&theirs, i, &mut wire).map_err(|error| format!("{error:#}"));
            let record = wire.record();
            // The socket closes when its last handle does: first this one, then the one kept among the open ones.
            drop(wire);
            theirs.open.remove(i);
            let connection = &mut lock(&theirs.connections)[i];
            (connection.record, connection.state) = (record, State::Ended(result));
        });
        if let Err(error) = spawned {
            lock(&shared.connections)[i].state = State::Ended(Err(format!("no thread for it: {error}")));
        }
    }
}

fn follow(shared: &Shared, i: usize, wire: &mut Wire) -> Result<()> {
    wire.stream().set_nodelay(true)?;
    let steps = lock(&shared.connections)[i].script.clone().0;
    let last = steps.len().saturating_sub(1);
    for (at, step) in steps.into_iter().enumerate() {
        let holding = at == last && matches!(step, Step::Hold);
        lock(&shared.connections)[i].state = if holding { State::Holding } else { State::Following(at) };
        let told = format!("step {at} ({step:?})");
        if perform(wire, step).context(told)? {
            break;
        }
    }
    Ok(())
}

/// Performs one step; `true` if it ended the connection.
fn perform(wire: &mut Wire, step: Step) -> Result<bool> {
    let deadline = Deadline::after(STEP);
    match step {
        Step::ReadHead => {
            wire.read_head(&deadline)?.as_request()?;
        }
        Step::ReadRequest => {
            let (_, framing) = wire.read_head(&deadline)?.as_request()?;
            wire.read_body(framing, &deadline)?;
        }
        Step::ReadBody(n) => {
            wire.read_body(Framing::Length(n as u64), &deadline)?;
        }
        Step::ReadUntil(end) => {
            wire.read_until(&end, READ_LIMIT, &deadline)?;
        }
        Step::ReadEnd => {
            let more = !wire.pending().is_empty() || wire.fill(&deadline, "waiting for the end of the connection")?;
            ensure!(!more, "the end was awaited, but there came {}", show(wire.pending()));
        }
        Step::Send(bytes) => wire.write(&bytes, &deadline).map_err(|(_, error)| error)?,
        Step::SendSlowly { bytes, piece, pause } => {
            for piece in bytes.chunks(piece.max(1)) {
                wire.write(piece, &Deadline::after(STEP)).map_err(|(_, error)| error)?;
                std::thread::sleep(pause);
            }
        }
        Step::Wait(gate) => ensure!(gate.wait(STEP), "the test did not open the gate within {STEP:?}"),
        Step::Open(gate) => gate.open(),
        Step::HalfClose => wire.stream().shutdown(Shutdown::Write)?,
        Step::Close => return Ok(true),
        Step::Reset => {
            reset_on_close(wire.stream())?;
            return Ok(true);
        }
        Step::Hold => hold(wire),
    }
    Ok(false)
}

/// Reads and forgets until the connection ends in whatever way; the test ends it when it finishes.
fn hold(wire: &mut Wire) {
    while let Ok(true) = wire.fill(&Deadline::never(), "holding the connection") {
        wire.take(wire.pending().len());
    }
}
