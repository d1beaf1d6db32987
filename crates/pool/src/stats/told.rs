//! A transaction that is kept, and how it reads.

use std::time::Duration;

use kernel::trace::{Kept, RequestTrace, Step, TRANSACTION, TraceEnd, TraceLine, What};
use kernel::{Clock, Moment};

use super::story::{Mark, SqlState, Statement};

/// Bytes of a statement that a story keeps.
const TEXT_MAX: usize = 256;
/// Bytes of a name, and of what was wrong, that a story keeps.
pub(super) const NAME_MAX: usize = 256;

/// A story that is kept.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) id: u64,
    pub(super) begun: Moment,
    pub(super) pool: Box<str>,
    pub(super) database: Box<str>,
    pub(super) user: Box<str>,
    pub(super) application: Box<str>,
    pub(super) client: Box<str>,
    pub(super) kept: u16,
    pub(super) steps: Box<[(Moment, What)]>,
    pub(super) is_clipped: bool,
    pub(super) is_whole: bool,
    pub(super) detail: Box<str>,
    pub(super) took_us: u64,
}

/// As it is in a log: `tx-` and 16 hexadecimal digits.
pub(super) fn shown(id: u64) -> String {
    format!("tx-{id:016x}")
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn clip(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

pub(super) fn state(error: SqlState) -> String {
    error.iter().map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '?' }).collect()
}

pub(super) fn what(mark: Mark) -> What {
    match mark {
        Mark::Assigned { server, process } => What::Assigned { server: clip(&server, NAME_MAX).to_owned(), process },
        Mark::Replayed(settings) => What::Replayed { settings },
        Mark::Prepared(statements) => What::Prepared { statements },
        Mark::Moved(reason) => What::Moved { reason },
        Mark::Pinned(reason) => What::Pinned { reason },
        Mark::Waited(reason, after_us) => What::Waited { reason, after_us },
        Mark::Statement(Statement { cells, took_us, rows, error }) => {
            What::Statement { text: clip(cells.text(), TEXT_MAX).to_owned(), took_us, rows, error: error.map(state) }
        }
    }
}

impl Told {
    fn at_unix_us(&self, clock: &Clock) -> u64 {
        micros(clock.wall_at(self.begun).duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
    }

    /// The text of its first statement.
    fn target(&self) -> String {
        let text = |(_, what): &(Moment, What)| match what {
            What::Statement { text, .. } => Some(text.clone()),
            _ => None,
        };
        self.steps.iter().find_map(text).unwrap_or_default()
    }

    pub(super) fn read(&self, worker: usize, clock: &Clock) -> RequestTrace {
        let began = What::Began {
            pool: self.pool.to_string(),
            database: self.database.to_string(),
            user: self.user.to_string(),
            application: self.application.to_string(),
        };
        let mut steps = vec![Step { at_us: 0, what: began }];
        steps.extend(
            self.steps.iter().map(|(at, what)| Step { at_us: micros(at.since(self.begun)), what: what.clone() }),
        );
        // A statement may stand in the place of an earlier one.
        steps[1..].sort_by_key(|step| step.at_us);
        RequestTrace {
            id: shown(self.id),
            at_unix_us: self.at_unix_us(clock),
            method: TRANSACTION.to_owned(),
            target: self.target(),
            host: String::new(),
            client: self.client.to_string(),
            route: String::new(),
            service: String::new(),
            worker,
            kept: Kept::from_bits(self.kept),
            steps,
            clipped: self.is_clipped,
            end: TraceEnd {
                whole: self.is_whole,
                detail: self.detail.to_string(),
                took_us: self.took_us,
                ..TraceEnd::default()
            },
        }
    }

    pub(super) fn line(&self, clock: &Clock) -> TraceLine {
        TraceLine {
            id: shown(self.id),
            at_unix_us: self.at_unix_us(clock),
            method: TRANSACTION.to_owned(),
            target: self.target(),
            service: String::new(),
            route: String::new(),
            status: 0,
            error: None,
            took_us: self.took_us,
            tries: 1,
            kept: Kept::from_bits(self.kept),
        }
    }
}
