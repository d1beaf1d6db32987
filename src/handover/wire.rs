//! Lines of JSON between two processes on a Unix socket, the first with descriptors. The side that asks blocks, with a
//! time limit on each line; the side that gives is part of the control plane and waits for nobody.
//!
//! Descriptors travel with the first byte of a message (`SCM_RIGHTS`, unix(7)); they are closed by whoever does not want
//! them, and are never inherited by a child.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::MAX_SOCKETS;

/// Room for the most sockets and registrations.
pub const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;
/// Read at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// A line with its end.
fn line_of(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > MAX_LINE_BYTES {
        return Err(io::Error::other(format!("a message of {} bytes is larger than {MAX_LINE_BYTES}", line.len())));
    }
    Ok(line)
}

/// The message in `bytes`, once they end with a line's end. Each side waits for an answer to each line, so that nothing
/// comes behind one.
fn message_in<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<Option<T>> {
    match bytes.split_last() {
        Some((b'\n', line)) => Ok(Some(serde_json::from_slice(line)?)),
        _ if bytes.len() >= MAX_LINE_BYTES => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line is longer than {MAX_LINE_BYTES} bytes")))
        }
        _ => Ok(None),
    }
}

/// The side that blocks.
#[derive(Debug)]
pub struct Blocking(pub StdStream);

impl Blocking {
    /// Sends a message.
    ///
    /// # Errors
    /// If the other side is gone or takes nothing for `within`.
    pub fn send(&mut self, message: &impl Serialize, within: Duration) -> io::Result<()> {
        self.0.set_write_timeout(Some(within))?;
        self.0.write_all(&line_of(message)?)
    }

    /// Receives a message and the descriptors that came with it; `None`: the other side is gone.
    ///
    /// # Errors
    /// If nothing comes for `within`, or what comes is no such message.
    pub fn receive<T: DeserializeOwned>(&mut self, within: Duration) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.0.set_read_timeout(Some(within))?;
        let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let n = if bytes.is_empty() {
                receive_with(&self.0, &mut piece, &mut descriptors)?
            } else {
                self.0.read(&mut piece)?
            };
            if n == 0 {
                return Ok(None);
            }
            bytes.extend_from_slice(&piece[..n]);
            if let Some(message) = message_in(&bytes)? {
                return Ok(Some((message, descriptors)));
            }
        }
    }
}

fn receive_with(from: &StdStream, piece: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(from, &mut [IoSliceMut::new(piece)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("not all descriptors could be received; the limit on open files may be too low"));
    }
    Ok(got.bytes)
}

/// Sends a message and descriptors. Cancelling it leaves a part of the message sent.
///
/// # Errors
/// If the other side is gone, or there are more than [`MAX_SOCKETS`] descriptors.
pub async fn send(to: &mut UnixStream, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = line_of(message)?;
    let mut sent = 0;
    if !descriptors.is_empty() {
        if descriptors.len() > MAX_SOCKETS {
            return Err(io::Error::other(format!("{} sockets; {MAX_SOCKETS} can be handed over", descriptors.len())));
        }
        let once = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            // The room is for as many as are let through above.
            let _fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
            Ok(sendmsg(to.as_fd(), &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?)
        };
        sent = to.async_io(Interest::WRITABLE, once).await?;
    }
    to.write_all(&line[sent..]).await
}

/// Receives a message; `None`: the other side is gone. Cancelling it loses what has come of the message.
///
/// # Errors
/// If what comes is no such message.
pub async fn receive<T: DeserializeOwned>(from: &mut UnixStream) -> io::Result<Option<T>> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let n = from.read(&mut piece).await?;
        if n == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece[..n]);
        if let Some(message) = message_in(&bytes)? {
            return Ok(Some(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const SOON: Duration = Duration::from_secs(10);

    fn pair() -> (UnixStream, Blocking) {
        let (one, other) = StdStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        (UnixStream::from_std(one).unwrap(), Blocking(other))
    }

    #[tokio::test]
    async fn sockets_arrive_with_a_line_that_is_longer_than_one_read() {
        let (mut one, mut other) = pair();
        let text = "x".repeat(10 * PIECE_BYTES);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let expected = text.clone();
        let address = listener.local_addr().unwrap();
        let reading = tokio::task::spawn_blocking(move || other.receive::<String>(SOON).unwrap().unwrap());
        send(&mut one, &text, &[listener.as_fd(), listener.as_fd()]).await.unwrap();
        let (got, descriptors) = reading.await.unwrap();
        assert_eq!(got, expected);
        assert_eq!(descriptors.len(), 2);
        for descriptor in descriptors {
            assert_eq!(TcpListener::from(descriptor).local_addr().unwrap(), address);
        }
    }

    #[tokio::test]
    async fn one_socket_too_many_is_refused_and_nothing_is_sent() {
        let (mut one, mut other) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let many = vec![listener.as_fd(); MAX_SOCKETS + 1];
        assert!(send(&mut one, &"hello", &many).await.is_err());
        send(&mut one, &"hello", &many[1..]).await.unwrap();
        let reading = tokio::task::spawn_blocking(move || other.receive::<String>(SOON).unwrap().unwrap());
        let (got, descriptors) = reading.await.unwrap();
        assert_eq!((got.as_str(), descriptors.len()), ("hello", MAX_SOCKETS));
    }

    #[tokio::test]
    async fn what_is_no_message_is_an_error_and_the_end_is_none() {
        let (mut one, mut other) = pair();
        other.0.write_all(b"{nonsense\n").unwrap();
        assert!(receive::<String>(&mut one).await.is_err());
        other.0.write_all(b"\"half a").unwrap();
        drop(other);
        assert!(receive::<String>(&mut one).await.unwrap().is_none());
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        let text = |n: usize| "x".repeat(n);
        assert!(line_of(&text(MAX_LINE_BYTES - 3)).is_ok(), "quotes and the end of the line count");
        assert!(line_of(&text(MAX_LINE_BYTES - 2)).is_err());
        assert!(message_in::<String>(&vec![b'x'; MAX_LINE_BYTES - 1]).unwrap().is_none());
        assert!(message_in::<String>(&vec![b'x'; MAX_LINE_BYTES]).is_err());
    }
}
