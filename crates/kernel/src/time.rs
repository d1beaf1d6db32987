//! Time as an argument. A [`Moment`] is monotonic time in nanoseconds since the clock's origin; decisions take it as
//! an argument and never read a clock. A [`Clock`] is real, or manual in tests and simulations, where it moves only
//! when told. Wall time ([`Clock::wall`]) is for people and for wire formats, never for windows or deadlines.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A point of monotonic time: nanoseconds since the origin of the clock that made it (range: 584 years).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

/// The source of time. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    wall_origin: SystemTime,
    manual: Option<Arc<AtomicU64>>,
}

impl Moment {
    /// The clock's origin.
    pub const ZERO: Moment = Moment(0);
    /// Later than every moment a clock gives: "never".
    pub const MAX: Moment = Moment(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    /// The moment `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Moment {
        Moment(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the origin.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    /// Saturates at [`Moment::MAX`].
    fn add(self, by: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;
    /// Saturates at [`Moment::ZERO`].
    fn sub(self, by: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

impl Clock {
    /// The machine's clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn real() -> Clock {
        Clock { origin: Instant::now(), wall_origin: SystemTime::now(), manual: None }
    }

    /// A clock that stands at [`Moment::ZERO`] until [`Clock::advance`] moves it; its wall time starts at `wall`.
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant is needed to fill the field; a manual clock never reads it"
    )]
    pub fn manual(wall: SystemTime) -> Clock {
        Clock { origin: Instant::now(), wall_origin: wall, manual: Some(Arc::new(AtomicU64::new(0))) }
    }

    /// The present moment.
    #[inline]
    pub fn now(&self) -> Moment {
        match &self.manual {
            None => Moment(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)),
            Some(at) => Moment(at.load(Ordering::Acquire)),
        }
    }

    /// Wall-clock time, which can step; for people and wire formats only.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn wall(&self) -> SystemTime {
        match &self.manual {
            None => SystemTime::now(),
            Some(at) => self.wall_origin + Duration::from_nanos(at.load(Ordering::Acquire)),
        }
    }

    /// The wall time that `moment` had by this clock, for logs of past moments.
    pub fn wall_at(&self, moment: Moment) -> SystemTime {
        self.wall_origin + Duration::from_nanos(moment.0)
    }

    /// Moves a manual clock forward; does nothing to a real one.
    pub fn advance(&self, by: Duration) {
        if let Some(at) = &self.manual {
            at.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_its_clones_move_with_it() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        let twin = clock.clone();
        assert_eq!(clock.now(), Moment::ZERO);
        twin.advance(Duration::from_secs(2));
        assert_eq!(clock.now().since(Moment::ZERO), Duration::from_secs(2));
        assert_eq!(clock.wall(), SystemTime::UNIX_EPOCH + Duration::from_secs(2));
    }

    #[test]
    fn arithmetic_saturates_instead_of_panicking() {
        assert_eq!(Moment::MAX + Duration::from_secs(1), Moment::MAX);
        assert_eq!(Moment::ZERO - Duration::from_secs(1), Moment::ZERO);
        assert_eq!(Moment::ZERO.since(Moment::MAX), Duration::ZERO);
    }
}
