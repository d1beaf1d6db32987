//! Lines about slow statements: target `pool.slow`, with the id that `evenkeel why` takes and the text without literals. At
//! most [`BURST`] lines at once and [`A_SECOND`] a second from each worker; the next line says how many were left out.

use kernel::Moment;

use super::story::{About, Statement};
use super::told::state;

/// Lines at once, after a quiet time.
const BURST: u64 = 50;
/// Lines a second, in the long run.
const A_SECOND: u64 = 10;
/// Nanoseconds for each line.
const EACH: u64 = 1_000_000_000 / A_SECOND;

/// What keeps the lines few.
#[derive(Debug, Default)]
pub(super) struct SlowLog {
    /// How far what was written is ahead: it runs dry as time goes on.
    full_until: u64,
    left_out: u64,
}

/// A slow statement.
#[derive(Debug)]
pub(super) struct Slow<'a> {
    pub(super) id: &'a str,
    pub(super) about: &'a About<'a>,
    pub(super) statement: &'a Statement,
}

impl SlowLog {
    /// Whether a line may be written now; if so, how many were left out before.
    fn admit(&mut self, now: Moment) -> Option<u64> {
        let now = now.as_nanos();
        let full_until = self.full_until.max(now) + EACH;
        if full_until - now > BURST * EACH {
            self.left_out += 1;
            return None;
        }
        self.full_until = full_until;
        Some(std::mem::take(&mut self.left_out))
    }

    /// Writes a line, or counts one that is left out.
    pub(super) fn tell(&mut self, now: Moment, slow: &Slow<'_>) {
        let Some(left_out) = self.admit(now) else { return };
        let (about, Statement { cells, took_us, rows, error }) = (slow.about, slow.statement);
        tracing::warn!(
            target: "pool.slow",
            id = slow.id,
            pool = about.pool,
            database = about.database,
            user = about.user,
            application = about.application,
            client = ?about.client,
            took_ms = *took_us as f64 / 1_000.0,
            rows,
            error = error.map(state).unwrap_or_default(),
            fingerprint = format_args!("{:016x}", cells.fingerprint()),
            left_out,
            "slow statement: {}", cells.text()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_and_say_how_many_were_left_out() {
        let mut log = SlowLog::default();
        let start = Moment::from_millis(1_000);
        let written = (0..BURST + 30).filter(|_| log.admit(start).is_some()).count() as u64;
        assert_eq!(written, BURST);
        assert_eq!(log.admit(Moment::from_millis(1_099)), None);
        assert_eq!(log.admit(Moment::from_millis(1_100)), Some(31));
        assert_eq!(log.admit(Moment::from_millis(1_101)), None);
        let later = Moment::from_millis(60_000);
        assert_eq!((0..BURST + 1).filter(|_| log.admit(later).is_some()).count() as u64, BURST);
    }
}
