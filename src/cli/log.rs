//! The log's way to standard error: over a bounded queue, so that whoever reads it, and may stand still, holds up nobody
//! who logs. What finds no room is dropped, and counted in the next line that does.
//!
//! Limits: [`WAITING_MAX`] lines. [`flush`] waits [`FLUSH`] at most; what nobody reads by then is lost.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait at most: what a node says in a bad second, many times over.
const WAITING_MAX: usize = 4_096;
/// How long the end of a process waits for its last lines.
const FLUSH: Duration = Duration::from_secs(1);

/// The one queue: where the end of a process finds it.
static LINES: OnceLock<SyncSender<Said>> = OnceLock::new();

/// What goes to the thread.
#[derive(Debug)]
enum Said {
    Line(Vec<u8>),
    /// Told once all that was said before is written.
    Flush(SyncSender<()>),
}

/// Where lines are put.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    queue: SyncSender<Said>,
    dropped: Arc<AtomicU64>,
}

/// A line in the making; it goes when it is dropped.
#[derive(Debug)]
pub(super) struct Line {
    to: Lines,
    text: Vec<u8>,
}

impl Lines {
    /// Starts the thread that writes to standard error.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start() -> io::Result<Lines> {
        let lines = Lines::to(io::stderr())?;
        let _first = LINES.set(lines.queue.clone()).is_ok();
        Ok(lines)
    }

    fn to(out: impl io::Write + Send + 'static) -> io::Result<Lines> {
        let (queue, said) = sync_channel(WAITING_MAX);
        let dropped = Arc::<AtomicU64>::default();
        let lines = Lines { queue, dropped: dropped.clone() };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write(out, &said, &dropped))?;
        Ok(lines)
    }

    fn put(&self, text: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Said::Line(text)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Nobody can be told that standard error cannot be written.
fn write(mut out: impl io::Write, said: &Receiver<Said>, dropped: &AtomicU64) {
    while let Ok(said) = said.recv() {
        match said {
            Said::Line(text) => {
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _unwritable = writeln!(out, "{lost} lines of the log were dropped: nobody read them").is_err();
                }
                let _unwritable = out.write_all(&text).is_err();
            }
            Said::Flush(done) => {
                let _unwritable = out.flush().is_err();
                let _waits_no_more = done.send(()).is_err();
            }
        }
    }
}

/// Waits until what was said is written, for [`FLUSH`] at most.
pub(super) fn flush() {
    let Some(queue) = LINES.get() else { return };
    let (done, written) = sync_channel(1);
    // With a full queue nobody reads, and there is nothing to wait for.
    if queue.try_send(Said::Flush(done)).is_ok() {
        let _in_time = written.recv_timeout(FLUSH).is_ok();
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { to: self.clone(), text: Vec::new() }
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.to.put(std::mem::take(&mut self.text));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;

    use super::*;

    /// Says when it is asked to write, and waits for leave.
    struct Slow {
        begun: SyncSender<()>,
        leave: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl io::Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once the test is over nobody listens.
            let _nobody = self.begun.send(()).is_err();
            let _free = self.leave.recv().is_err();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_up_nobody_and_what_was_dropped_is_counted() {
        let ((begun, begins), (give, leave)) = (sync_channel(4 * WAITING_MAX), sync_channel::<()>(1));
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let lines = Lines::to(Slow { begun, leave, written: written.clone() }).unwrap();
        let say = |text: String| lines.make_writer().write_all(text.as_bytes()).unwrap();
        say("first\n".to_owned());
        begins.recv().unwrap();
        // The thread stands in the first line; so many fit, and 7 do not.
        (0..WAITING_MAX + 7).for_each(|n| say(format!("{n}\n")));
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 7);
        drop(give);
        let (done, flushed) = sync_channel(1);
        lines.queue.send(Said::Flush(done)).unwrap();
        flushed.recv().unwrap();
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let mut all = text.lines();
        assert_eq!(all.next(), Some("first"));
        assert_eq!(all.next(), Some("7 lines of the log were dropped: nobody read them"));
        assert_eq!(all.count(), WAITING_MAX);
    }
}
