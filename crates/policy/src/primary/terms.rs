//! What the choice of a primary takes in and gives out: what servers say, what changed, how each is seen.

use std::time::Duration;

/// How patient to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryRule {
    /// Without an answer for so long, nothing new is sent to the primary.
    pub suspect_after: Duration,
    /// Without an answer for so long, it is no longer the primary.
    pub give_up_after: Duration,
    /// After a start, all servers are waited for so long before one is chosen.
    pub settle: Duration,
}

/// What a server calls itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It is in recovery.
    Standby,
}

/// What a server said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub role: Role,
    /// The timeline that it writes, if it is primary.
    pub timeline: u32,
    /// How far it has come in the write-ahead log.
    pub lsn: Option<u64>,
    /// Which cluster it belongs to, if that can be read.
    pub system: Option<u64>,
    /// When it started: any number that is another after a restart.
    pub started: Option<u64>,
}

/// Why a server did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is not there, or does not take sessions: refused, shutting down, starting up.
    Gone,
    /// A session broke. It may be that session alone: it has to be asked anew, at once.
    Broken,
    /// No answer, or nothing that says how it is.
    Unclear,
    /// It is there, and does not let the pooler in: too many connections, a wrong password.
    Denied,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first primary, or one that is back.
    Found {
        /// Which.
        server: usize,
    },
    /// Another server was promoted, and is followed.
    Promoted {
        /// Who was primary last.
        from: usize,
        /// Who is.
        to: usize,
    },
    /// There is no primary.
    Lost {
        /// Who was.
        server: usize,
        /// Why it no longer is.
        why: Why,
    },
    /// The primary started anew between two answers.
    Restarted {
        /// Which.
        server: usize,
    },
    /// The primary is silent.
    Suspected {
        /// Which.
        server: usize,
    },
    /// It is not silent any more.
    Cleared {
        /// Which.
        server: usize,
    },
    /// A server calls itself primary on a timeline that has been left.
    Fenced {
        /// Which.
        server: usize,
        /// Its timeline.
        timeline: u32,
        /// The latest that was followed.
        latest: u32,
    },
    /// Two servers call themselves primary, and neither is later; or one is of another cluster.
    Conflict {
        /// One of them, who is not chosen.
        server: usize,
        /// The other: the primary, if there is one.
        with: usize,
        /// Whether they are of different clusters.
        is_stranger: bool,
    },
}

/// Why a server is no longer the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It cannot be reached.
    Gone,
    /// It did not answer.
    Silent,
    /// It is a standby now.
    Demoted,
    /// It came back on a timeline that has been left.
    Fenced,
    /// An operator said so.
    Ordered,
    /// It is no longer in the configuration.
    Removed,
}

/// Where transactions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The primary.
    pub server: Option<usize>,
    /// Rises with each change.
    pub epoch: u64,
    /// Whether the primary is silent.
    pub is_suspect: bool,
}

/// How one server is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// Nothing is known of it yet.
    Unknown,
    /// It is the primary, or could be.
    Primary,
    /// It follows one.
    Standby,
    /// It calls itself primary and is not followed: its timeline has been left, or is that of the primary; or it is of
    /// another cluster.
    Fenced,
    /// An operator took it out.
    Drained,
    /// It does not answer.
    Unreachable,
}

/// Why there is no primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Not all have been heard of.
    Settling,
    /// An operator ordered that this one be followed, and it is not primary yet.
    Awaited(usize),
    /// These two call themselves primary.
    Conflict(usize, usize),
    /// This one calls itself primary and was left behind.
    Fenced(usize),
    /// This one is primary and was taken out.
    Drained(usize),
    /// Those that answer are standbys.
    Standbys,
    /// None answers.
    Unreachable,
}
