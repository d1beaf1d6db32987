//! What is said about hand-overs, each thing in one place.

use kernel::{Event, Journal};

/// The next process wants the sockets.
pub(super) fn asked(pid: u32, release: &str) {
    tracing::info!(pid, release, "hand-over: the next process has asked for the listeners");
}

/// Nothing comes of it; this process goes on as before.
pub(super) fn refused(journal: &Journal, pid: u32, why: &str) {
    tracing::debug!(pid, "hand-over: nothing is handed over, this process goes on");
    journal.tell(Event::NodeHandOverFailed { reason: format!("process {pid} asked for the sockets: {why}") });
}

/// The next process serves; this one finishes what it has.
pub(super) fn done(pid: u32) {
    tracing::info!(pid, "hand-over: the next process serves; connections from before are finished here");
}

/// This process serves in the place of another.
pub(super) fn taken_over(pid: u32, release: &str) {
    tracing::info!(pid, release, "hand-over: this process serves in the place of the one before");
}

/// The process before ended while it handed over.
pub(super) fn orphaned(pid: u32) {
    tracing::warn!(pid, "hand-over: the process before has ended meanwhile; its listeners are served here");
}

/// There is nobody in whose place this process could serve.
pub(super) fn nobody(place: &std::path::Path) {
    tracing::info!(place = %place.display(), "hand-over: nobody is there to take over from; this is a usual start");
}
