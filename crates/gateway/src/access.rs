//! The access log: one line for each request that is worth one. Workers format their lines and hand them to one writer
//! thread through a bounded queue; when that is full, lines are dropped and counted, and no request waits. The file
//! is opened anew when told (after a rotation), and given up on, with a warning, only as long as it cannot be opened.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use kernel::{Clock, ErrorCode};

use crate::plan::AccessLogPlan;

/// Lines that may wait for the writer.
const QUEUE_MAX: usize = 8192;
/// Lines reach the file at least this often.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// Where workers put their lines.
#[derive(Debug)]
pub(crate) struct AccessSink {
    tx: SyncSender<Message>,
    pub(crate) dropped: AtomicU64,
    pub(crate) written: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Go on with this file (`None`: standard output), opened anew.
    Open(Option<PathBuf>),
    /// Go on with the same file, opened anew.
    Reopen,
    /// Write what is there, then say so.
    Flush(SyncSender<()>),
}

/// What a line tells.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) at: SystemTime,
    pub(crate) client: IpAddr,
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) host: &'a [u8],
    /// 0: there was no answer.
    pub(crate) status: u16,
    pub(crate) code: Option<ErrorCode>,
    pub(crate) took: Duration,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) route: Option<&'a str>,
    pub(crate) service: Option<&'a str>,
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) attempts: u32,
    pub(crate) reused: bool,
    pub(crate) request_id: &'a [u8],
}

impl AccessSink {
    /// A sink and its writer thread, which ends when the sink is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start() -> io::Result<AccessSink> {
        let (tx, rx) = sync_channel(QUEUE_MAX);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_lines(&rx))?;
        Ok(AccessSink { tx, dropped: AtomicU64::new(0), written: AtomicU64::new(0) })
    }

    /// Takes over what a new plan says.
    pub(crate) fn configure(&self, plan: Option<&AccessLogPlan>) {
        if let Some(plan) = plan {
            // A full queue means that the writer is stuck; the next reload or signal says it again.
            let _told = self.tx.try_send(Message::Open(plan.path.clone())).is_ok();
        }
    }

    /// Opens the file anew.
    pub(crate) fn reopen(&self) {
        let _told = self.tx.try_send(Message::Reopen).is_ok();
    }

    /// Waits until all lines so far are written, or for two seconds.
    pub(crate) fn flush(&self) {
        let (tx, rx) = sync_channel(1);
        if self.tx.try_send(Message::Flush(tx)).is_ok() {
            let _flushed = rx.recv_timeout(Duration::from_secs(2)).is_ok();
        }
    }

    pub(crate) fn log(&self, plan: &AccessLogPlan, entry: &Entry<'_>) {
        let line = if plan.json { json(entry) } else { text(entry) };
        match self.tx.try_send(Message::Line(line)) {
            Ok(()) => self.written.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.dropped.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// A head that was no request has no line of its own format: it goes to the log of the process.
    pub(crate) fn refused(&self, _clock: &Clock, peer: SocketAddr, code: ErrorCode, detail: &str) {
        tracing::debug!(%peer, code = code.code(), detail, "refused what is no request");
    }
}

fn json(e: &Entry<'_>) -> Vec<u8> {
    let text = |bytes: &[u8]| serde_json::Value::from(String::from_utf8_lossy(bytes));
    let value = serde_json::json!({
        "time": stamp(e.at),
        "client": e.client.to_string(),
        "method": text(e.method),
        "target": text(e.target),
        "host": text(e.host),
        "status": e.status,
        "error": e.code.map(ErrorCode::code),
        "duration_ms": (e.took.as_micros() as f64) / 1000.0,
        "bytes_in": e.bytes_in,
        "bytes_out": e.bytes_out,
        "route": e.route,
        "service": e.service,
        "endpoint": e.endpoint,
        "attempts": e.attempts,
        "reused": e.reused,
        "request_id": text(e.request_id),
    });
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn text(e: &Entry<'_>) -> Vec<u8> {
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{} {:>3} {:>9.3}ms {:<15} {:<6} {}{} -> {} {}{}{} id={}\n",
        stamp(e.at),
        e.status,
        (e.took.as_micros() as f64) / 1000.0,
        e.client,
        show(e.method),
        show(e.host),
        show(e.target),
        e.route.unwrap_or("-"),
        e.endpoint.unwrap_or("-"),
        if e.attempts > 1 { format!(" attempts={}", e.attempts) } else { String::new() },
        e.code.map(|c| format!(" error={}", c.code())).unwrap_or_default(),
        show(e.request_id),
    )
    .into_bytes()
}

fn stamp(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|t| format!("{t:.3}")).unwrap_or_default()
}

/// What lines are written to.
enum Out {
    Stdout(io::Stdout),
    File(BufWriter<File>),
    /// It cannot be opened for now.
    Nowhere,
}

impl Out {
    fn open(path: Option<&PathBuf>) -> Out {
        let Some(path) = path else { return Out::Stdout(io::stdout()) };
        match OpenOptions::new().append(true).create(true).open(path) {
            Ok(file) => Out::File(BufWriter::new(file)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot open the access log; its lines are dropped");
                Out::Nowhere
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Out::Stdout(out) => out.write_all(line),
            Out::File(out) => out.write_all(line),
            Out::Nowhere => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Out::Stdout(out) => out.flush(),
            Out::File(out) => out.flush(),
            Out::Nowhere => Ok(()),
        }
    }
}

fn write_lines(rx: &Receiver<Message>) {
    let mut path: Option<PathBuf> = None;
    let mut out = Out::Nowhere;
    let mut failed = false;
    loop {
        let done = match rx.recv_timeout(FLUSH_EVERY) {
            Ok(Message::Line(line)) => out.write(&line),
            Ok(Message::Open(new)) => {
                let flushed = out.flush();
                path = new;
                out = Out::open(path.as_ref());
                flushed
            }
            Ok(Message::Reopen) => {
                let flushed = out.flush();
                out = Out::open(path.as_ref());
                flushed
            }
            Ok(Message::Flush(tx)) => {
                let flushed = out.flush();
                let _told = tx.try_send(()).is_ok();
                flushed
            }
            Err(RecvTimeoutError::Timeout) => out.flush(),
            Err(RecvTimeoutError::Disconnected) => {
                let _last = out.flush().is_ok();
                return;
            }
        };
        match done {
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(%error, "cannot write the access log");
            }
            Err(_) => {}
            Ok(()) => failed = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>() -> Entry<'a> {
        Entry {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            client: IpAddr::from([127, 0, 0, 1]),
            method: b"GET",
            target: b"/a\"b",
            host: b"shop",
            status: 502,
            code: Some(ErrorCode::UpstreamClosed),
            took: Duration::from_micros(1234),
            bytes_in: 0,
            bytes_out: 10,
            route: Some("shop"),
            service: Some("shop"),
            endpoint: Some("127.0.0.1:9101"),
            attempts: 2,
            reused: false,
            request_id: b"id-1",
        }
    }

    #[test]
    fn a_json_line_is_json_whatever_the_target_holds() {
        let line = json(&entry());
        assert_eq!(line.last(), Some(&b'\n'));
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["target"], "/a\"b");
        assert_eq!(value["error"], "upstream-closed");
        assert_eq!(value["duration_ms"], 1.234);
        assert_eq!(value["time"], "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn a_text_line_shows_what_went_wrong() {
        let line = String::from_utf8(text(&entry())).unwrap();
        assert!(
            line.contains(" 502 ") && line.contains("attempts=2") && line.contains("error=upstream-closed"),
            "{line}"
        );
    }
}
