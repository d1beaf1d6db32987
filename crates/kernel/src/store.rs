//! What every part that keeps something on disk shares: leases for what only one process may do, and how its files are.

use std::fmt::Debug;
use std::io;
use std::time::Duration;

use serde::Serialize;

/// The right to be the one that does something, for a while. Its number rises with each holder, so that what an earlier
/// holder still does can be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is for.
    pub name: String,
    /// Rises each time somebody else takes it.
    pub fence: u64,
}

/// Whatever gives leases. Calls may block on a disk.
pub trait Leases: Send + Sync + Debug {
    /// Takes the lease `name`, or goes on holding it, for `ttl` from now. `None`: somebody else holds it.
    ///
    /// # Errors
    /// When it cannot be known.
    fn take(&self, name: &str, ttl: Duration) -> io::Result<Option<Lease>>;
    /// Gives it back; nothing happens if it is somebody else's by now.
    ///
    /// # Errors
    /// When it cannot be known; it ends by itself.
    fn release(&self, lease: &Lease) -> io::Result<()>;
}

/// How a file of the store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileHealth {
    /// Which: ledger, journal or series.
    pub file: &'static str,
    /// Where it is.
    pub path: String,
    /// Whether it is written now.
    pub state: FileState,
    /// What is wrong, in words; empty if nothing is.
    pub trouble: String,
    /// For how long it has been so, in milliseconds.
    pub since_ms: u64,
    /// How large it is, in bytes.
    pub bytes: u64,
    /// How large it may be.
    pub cap_bytes: u64,
    /// What waits in memory to be written.
    pub waiting: u64,
    /// What was lost because it could not be written, since the start.
    pub dropped: u64,
}

/// Whether a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// It is.
    Kept,
    /// It cannot be used now.
    Lost,
    /// It is as large as it may be, and takes nothing more.
    Full,
    /// There is none: what it would keep is in memory only.
    Memory,
}

impl FileState {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            FileState::Kept => "kept",
            FileState::Lost => "lost",
            FileState::Full => "full",
            FileState::Memory => "memory",
        }
    }
}
