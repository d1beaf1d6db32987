//! A server that follows a script: for each connection, in the order in which they are accepted, what it expects and what it
//! says. [`PgServer::finish`] fails unless each script was followed to its end and nobody connected beyond them; dropping a
//! server that has not been finished panics, unless the test has failed already.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::client::told;
use super::{PgMessage, read_message, say};
use crate::poll::{Deadline, Gate, lock, poll_until};
use crate::upstream::{Open, STEP, listen_on, reserve_port, reset_on_close, wake_listener};

#[derive(Debug, Clone)]
enum Step {
    Startup,
    Expect(u8, Option<Vec<u8>>),
    Send(Vec<u8>),
    Wait(Gate),
    Open(Gate),
    End,
    Reset,
    Freeze,
}

/// What happens on one connection; after the last step it is closed.
#[derive(Debug, Clone, Default)]
pub struct PgScript(Vec<Step>);

/// The messages that were received on a connection.
pub type PgReceived = Vec<PgMessage>;

/// A server on port 0 that follows scripts.
#[derive(Debug)]
pub struct PgServer {
    addr: SocketAddr,
    listener: Arc<TcpListener>,
    acceptor: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    is_finished: bool,
    _port: socket2::Socket,
}

#[derive(Debug)]
struct Shared {
    connections: Mutex<Vec<Connection>>,
    unexpected: Mutex<usize>,
    open: Open,
}

/// waiting (not begun) => following (a step) => ended; frozen ones are content where they are.
#[derive(Debug)]
struct Connection {
    script: PgScript,
    step: Option<usize>,
    is_frozen: bool,
    received: PgReceived,
    ended: Option<Result<(), String>>,
}

impl PgScript {
    /// A script without steps: the connection is closed at once.
    pub fn new() -> PgScript {
        PgScript::default()
    }

    /// Lets a client in that asks for protocol 3, without a password, and tells it this process number. A request for TLS
    /// or GSSAPI before it is refused.
    pub fn login(pid: i32) -> PgScript {
        PgScript::new().startup().send(say::welcome(pid))
    }

    fn step(mut self, step: Step) -> PgScript {
        self.0.push(step);
        self
    }

    /// Reads a startup packet, also one that asks for cancellation; requests for encryption before it are refused.
    #[must_use]
    pub fn startup(self) -> PgScript {
        self.step(Step::Startup)
    }

    /// Reads a message, which must have this tag.
    #[must_use]
    pub fn expect(self, tag: u8) -> PgScript {
        self.step(Step::Expect(tag, None))
    }

    /// Reads a message, which must be this one, its tag and length included.
    #[must_use]
    pub fn expect_exactly(self, message: impl Into<Vec<u8>>) -> PgScript {
        let message: Vec<u8> = message.into();
        let tag = message.first().copied().unwrap_or(0);
        self.step(Step::Expect(tag, Some(message.get(5..).unwrap_or_default().to_vec())))
    }

    /// Sends these bytes.
    #[must_use]
    pub fn send(self, bytes: impl Into<Vec<u8>>) -> PgScript {
        self.step(Step::Send(bytes.into()))
    }

    /// Waits until the test opens the gate.
    #[must_use]
    pub fn wait(self, gate: &Gate) -> PgScript {
        self.step(Step::Wait(gate.clone()))
    }

    /// Opens the gate: tells the test that the script came this far.
    #[must_use]
    pub fn open(self, gate: &Gate) -> PgScript {
        self.step(Step::Open(gate.clone()))
    }

    /// Waits until the other side closes, after `Terminate` or without it, and without another message.
    #[must_use]
    pub fn end(self) -> PgScript {
        self.step(Step::End)
    }

    /// Resets the connection.
    #[must_use]
    pub fn reset(self) -> PgScript {
        self.step(Step::Reset)
    }

    /// Keeps the connection and answers nothing, whatever comes, until the other side closes or the test finishes.
    #[must_use]
    pub fn freeze(self) -> PgScript {
        self.step(Step::Freeze)
    }
}

impl PgServer {
    /// Listens on a port of 127.0.0.1.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start(scripts: Vec<PgScript>) -> Result<PgServer> {
        let (port, addr) = reserve_port()?;
        let listener = Arc::new(listen_on(addr)?);
        let waiting = |script| Connection { script, step: None, is_frozen: false, received: Vec::new(), ended: None };
        let shared = Arc::new(Shared {
            connections: Mutex::new(scripts.into_iter().map(waiting).collect()),
            unexpected: Mutex::new(0),
            open: Open::default(),
        });
        let (theirs, accepting) = (Arc::clone(&shared), Arc::clone(&listener));
        let acceptor = std::thread::Builder::new()
            .name("pg-accept".to_owned())
            .spawn(move || accept(&theirs, &accepting))
            .context("starting the accepting thread of a scripted server")?;
        Ok(PgServer { addr, listener, acceptor: Some(acceptor), shared, is_finished: false, _port: port })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections were accepted, those too that no script was for.
    pub fn connections(&self) -> usize {
        lock(&self.shared.connections).iter().filter(|c| c.step.is_some()).count() + *lock(&self.shared.unexpected)
    }

    /// Waits until every script has been followed to its end, or to where it freezes, ends all connections, and gives what
    /// was received on each.
    ///
    /// # Errors
    /// When a script was not met, not reached or not finished within `within`, or when there was a connection that no
    /// script was for. The message tells each of them.
    pub fn finish(mut self, within: Duration) -> Result<Vec<PgReceived>> {
        self.is_finished = true;
        let is_done = |c: &Connection| c.is_frozen || c.ended.is_some();
        let has_failed = |c: &Connection| matches!(c.ended, Some(Err(_)));
        let _unfinished = poll_until(within, || {
            let connections = lock(&self.shared.connections);
            (connections.iter().all(is_done) || connections.iter().any(has_failed)).then_some(())
        });
        let mut complaints = Vec::new();
        for (i, connection) in lock(&self.shared.connections).iter().enumerate() {
            let received = told(&connection.received);
            match (&connection.ended, connection.step) {
                (Some(Err(error)), _) => complaints.push(format!("connection {i}: {error}; it received {received}")),
                (None, None) => complaints.push(format!("connection {i} was never made")),
                (None, Some(at)) if !connection.is_frozen => {
                    let step = connection.script.0.get(at);
                    complaints.push(format!("connection {i} is still at step {at} ({step:?}); it received {received}"));
                }
                _ => {}
            }
        }
        let unexpected = *lock(&self.shared.unexpected);
        if unexpected > 0 {
            complaints.push(format!("{unexpected} connection(s) more than there were scripts"));
        }
        if !complaints.is_empty() {
            bail!("the scripted server {} is not content:\n  {}", self.addr, complaints.join("\n  "));
        }
        self.stop();
        Ok(lock(&self.shared.connections).iter_mut().map(|c| std::mem::take(&mut c.received)).collect())
    }

    fn stop(&mut self) {
        wake_listener(&self.listener);
        self.shared.open.cut();
        if let Some(acceptor) = self.acceptor.take() {
            let _panicked = acceptor.join().is_err();
        }
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        self.stop();
        assert!(self.is_finished || std::thread::panicking(), "a scripted server was dropped without `finish`");
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        let next = lock(&shared.connections).iter().position(|c| c.step.is_none());
        let Some(i) = next else {
            *lock(&shared.unexpected) += 1;
            continue;
        };
        if !shared.open.add(i, &stream) {
            return;
        }
        lock(&shared.connections)[i].step = Some(0);
        let theirs = Arc::clone(shared);
        let spawned = std::thread::Builder::new().name(format!("pg-{i}")).spawn(move || {
            let result = follow(&theirs, i, stream).map_err(|error| format!("{error:#}"));
            theirs.open.remove(i);
            lock(&theirs.connections)[i].ended = Some(result);
        });
        if let Err(error) = spawned {
            lock(&shared.connections)[i].ended = Some(Err(format!("no thread for it: {error}")));
        }
    }
}

fn follow(shared: &Shared, i: usize, mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(STEP))?;
    let steps = lock(&shared.connections)[i].script.0.clone();
    for (at, step) in steps.iter().enumerate() {
        {
            let connection = &mut lock(&shared.connections)[i];
            (connection.step, connection.is_frozen) = (Some(at), matches!(step, Step::Freeze));
        }
        perform(shared, i, &mut stream, step).with_context(|| format!("step {at} ({step:?})"))?;
    }
    Ok(())
}

fn perform(shared: &Shared, i: usize, stream: &mut TcpStream, step: &Step) -> Result<()> {
    let receive = |stream: &mut TcpStream, has_tag| -> Result<Option<PgMessage>> {
        let message = read_message(stream, has_tag, &Deadline::after(STEP))?;
        lock(&shared.connections)[i].received.extend(message.clone());
        Ok(message)
    };
    match step {
        Step::Startup => loop {
            let (_, body) = receive(stream, false)?.context("closed before a startup packet")?;
            match body[..] {
                // 80877103 and 80877104: TLS and GSSAPI.
                [0x04, 0xd2, 0x16, 0x2f | 0x30] => stream.write_all(b"N")?,
                [0, 3, ..] | [0x04, 0xd2, 0x16, 0x2e, ..] => return Ok(()),
                _ => bail!("a startup packet of another protocol: {}", body.escape_ascii()),
            }
        },
        Step::Expect(tag, expected) => {
            let (found, body) = receive(stream, true)?.context("closed instead")?;
            ensure!(found == *tag, "there came {}", told(&[(found, body)]));
            if let Some(expected) = expected {
                ensure!(body == *expected, "there came {}", told(&[(found, body)]));
            }
        }
        Step::Send(bytes) => stream.write_all(bytes)?,
        Step::Wait(gate) => ensure!(gate.wait(STEP), "the gate stayed shut"),
        Step::Open(gate) => gate.open(),
        Step::End => match receive(stream, true)? {
            None => {}
            Some((b'X', _)) => {
                if let Some(message) = receive(stream, true)? {
                    bail!("after Terminate there came {}", told(&[message]));
                }
            }
            Some(message) => bail!("there came {}", told(&[message])),
        },
        Step::Reset => reset_on_close(stream)?,
        Step::Freeze => {
            stream.set_read_timeout(None)?;
            let mut sink = [0; 4096];
            while stream.read(&mut sink).is_ok_and(|count| count > 0) {}
        }
    }
    Ok(())
}
