//! How long an idle connection to an endpoint can be kept, and when one may still be used.
//!
//! Servers close idle connections after a time of their own, mostly without saying so. A request that goes out at that
//! very moment is lost. A repeatable one is sent again ([`crate::retry`]); any other must not go out on a connection
//! about to expire. The limit is therefore the least of three: what is configured, what the endpoint announced
//! (`Keep-Alive: timeout=N`), and what was learned from the idle times after which it closed connections.
//!
//! # What is learned
//! The shortest idle time at which the endpoint closed a connection, with these corrections:
//! - **Young closes teach nothing** (below [`YOUNGEST`]): no server has so short a timeout; it meant to end that
//!   connection and did not say so.
//! - **A restart is no timeout.** It closes connections of all ages at once. Closes within [`TOGETHER`] whose ages
//!   differ by more than [`SCATTER`] and a factor of two take back what the first of them taught.
//! - **One close may be chance.** It is believed at once, but doubted: the limit doubles with every [`DOUBT`] until a
//!   second close at about the same age (a quarter more or less), at another time, confirms it.
//! - **Servers change.** A confirmed time is forgotten slowly: it grows by a tenth with each hour in which nothing closed
//!   earlier or at about that age. If it grew beyond the truth, the next close corrects it.
//!
//! A restart is known by scattered closes as above or, on a busy endpoint whose connections are all young, by
//! [`BURST`] closes within [`TOGETHER`] whose ages, young ones included, differ by more than a factor of two
//! ([`IdleMemory::in_mass_close`]). The latter excuses closes, and teaches and takes back nothing.
//!
//! | state | close seen | becomes |
//! | --- | --- | --- |
//! | nothing | at `t` | doubted `t` |
//! | doubted or confirmed `l` | at about `l`, at another time | confirmed, the shorter of both |
//! | doubted `l` | at the same time, scattered | what was before; further closes of that moment are ignored |
//! | doubted `l` | much later than `l` | doubted at the new age: the connection outlived `l` |
//! | confirmed `l` | later than the limit has grown to | unchanged |
//! | any `l` | earlier than the limit has grown to | doubted at the new age |

use std::time::Duration;

use kernel::Moment;

/// Closes of connections that idled less than this teach nothing.
pub const YOUNGEST: Duration = Duration::from_millis(20);
/// Closes within this time count as one event: our own view of idle connections is about a second old at worst.
pub const TOGETHER: Duration = Duration::from_secs(1);
/// Ages of one event that differ by more than this (and a factor of two) are scattered; the reason is the same second.
pub const SCATTER: Duration = Duration::from_secs(1);
/// So many closes within [`TOGETHER`], of different ages, are a restart: one or two are chance.
pub const BURST: u32 = 3;
/// A doubted time doubles with each of these: a misread restart of a busy service is forgotten in minutes.
pub const DOUBT: Duration = Duration::from_secs(30);
/// After a close that nothing explains, requests that cannot be repeated keep off kept connections for this long: twice
/// the time in which closes count as one event.
pub const UNSURE: Duration = Duration::from_secs(2);
/// How much of the time before the expected close is left alone when a request cannot be repeated: the endpoint's clock
/// began to run up to a round trip before ours, and the request still has to arrive; a lost packet costs up to a second
/// (RFC 6298, 2.4).
pub const MARGIN: Duration = Duration::from_secs(1);
/// What is taken for the limit of a request that cannot be repeated, if the limit is longer: the shortest default of
/// widespread servers (Node.js, Uvicorn, Apache). Their first expiry must do no harm before anything was learned.
pub const ASSUMED: Duration = Duration::from_secs(5);
/// The longest announced timeout that is taken at its word.
const LONGEST_ANNOUNCED: u64 = 24 * 60 * 60;
/// A confirmed time grows by this factor each hour.
const FORGET_PER_HOUR: f64 = 1.1;

/// What is known of an endpoint's idle timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleMemory {
    learned: Option<Learned>,
    /// What a restart would bring back.
    before: Option<Learned>,
    /// When the endpoint last closed connections of all ages at once.
    restarted: Option<Moment>,
    /// The latest closes that came together.
    burst: Burst,
    /// When the endpoint last closed a connection at an age at which it was not known to.
    unexplained: Option<Moment>,
}

/// Closes that came together, each within [`TOGETHER`] of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Burst {
    first: Moment,
    last: Moment,
    closes: u32,
    youngest: Duration,
    oldest: Duration,
}

/// A learned idle time: plain values, for those who keep them elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The connection had idled this long when the endpoint closed it.
    pub idle: Duration,
    /// When that was last seen.
    pub at: Moment,
    /// Whether it was seen at least twice.
    pub confirmed: bool,
}

impl IdleMemory {
    /// The endpoint closed a connection that had been idle for `idle_for`.
    pub fn observe_close(&mut self, idle_for: Duration, now: Moment) {
        self.burst.observe(idle_for, now);
        if !self.learned.is_some_and(|known| is_about(idle_for, known.idle)) {
            self.unexplained = Some(now);
        }
        let in_restart = self.restarted.is_some_and(|at| now.since(at) < TOGETHER);
        if idle_for < YOUNGEST || in_restart {
            return;
        }
        let fresh = Learned { idle: idle_for, at: now, confirmed: false };
        let Some(old) = self.learned else {
            self.learned = Some(fresh);
            return;
        };
        let together = now.since(old.at) < TOGETHER;
        if is_about(idle_for, old.idle) {
            let confirmed = old.confirmed || !together;
            self.learned = Some(Learned { idle: old.idle.min(idle_for), at: now, confirmed });
        } else if together && !old.confirmed && is_scattered(idle_for, old.idle) {
            self.learned = self.before;
            self.restarted = Some(now);
        } else if idle_for < grown(old, now) || !old.confirmed {
            self.before = old.confirmed.then_some(old).or(self.before);
            self.learned = Some(fresh);
        }
    }

    /// How long an idle connection may be kept: the least of what is configured, announced and learned.
    pub fn limit(&self, configured: Duration, announced: Option<Duration>, now: Moment) -> Duration {
        limit(configured, announced, self.learned.map(|learned| grown(learned, now)))
    }

    /// Until when a request that cannot be repeated takes a new connection: for [`UNSURE`] after a close that what was
    /// learned does not explain. A new timeout shows itself by then, and a restart has ended.
    pub fn unsure_until(&self) -> Moment {
        self.unexplained.map_or(Moment::ZERO, |at| at + UNSURE)
    }

    /// What was learned, if anything.
    pub const fn learned(&self) -> Option<Learned> {
        self.learned
    }

    /// The shortest idle time after which the endpoint was seen to close a connection, as it is believed now: what a
    /// restart closed does not count, and what has been refuted neither.
    pub fn shortest(&self) -> Option<Duration> {
        self.learned.map(|learned| learned.idle)
    }

    /// Whether the endpoint is closing connections of all ages, as in a restart: seen within the last [`TOGETHER`].
    pub fn in_mass_close(&self, now: Moment) -> bool {
        let lately = |at: Moment| now.since(at) < TOGETHER;
        self.restarted.is_some_and(lately) || self.burst.is_mass() && lately(self.burst.last)
    }
}

impl Burst {
    /// Adds a close, or begins anew with it.
    fn observe(&mut self, idle_for: Duration, now: Moment) {
        if self.closes == 0 || now.since(self.first) >= TOGETHER {
            *self = Burst { first: now, last: now, closes: 1, youngest: idle_for, oldest: idle_for };
            return;
        }
        self.closes = self.closes.saturating_add(1);
        self.last = self.last.max(now);
        self.youngest = self.youngest.min(idle_for);
        self.oldest = self.oldest.max(idle_for);
    }

    /// Whether these are too many and too different for timeouts.
    fn is_mass(&self) -> bool {
        self.closes >= BURST && self.oldest > self.youngest.saturating_mul(2)
    }
}

/// What a learned time counts for at `now`: it grows as it is doubted or forgotten.
pub fn grown(learned: Learned, now: Moment) -> Duration {
    let quiet = now.since(learned.at).as_secs_f64();
    let factor =
        if learned.confirmed { FORGET_PER_HOUR.powf(quiet / 3600.0) } else { 2f64.powf(quiet / DOUBT.as_secs_f64()) };
    Duration::try_from_secs_f64(learned.idle.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// The least of what is configured, announced and learned.
#[inline]
pub fn limit(configured: Duration, announced: Option<Duration>, learned: Option<Duration>) -> Duration {
    configured.min(announced.unwrap_or(Duration::MAX)).min(learned.unwrap_or(Duration::MAX))
}

/// Whether a connection that has been idle for `idle_for` may be used, when one may be kept for `limit`.
///
/// A request that is safe to repeat may use it up to the limit. Any other may use it during the first half of the limit,
/// or of [`ASSUMED`] if that is shorter, less [`MARGIN`]: 1.5 s at most, and not at all if the limit is 2 s or less. Half,
/// because the limit is partly a guess: a learned time may have grown beyond the truth, a server may look at its timers
/// only now and then, and its new configuration may have halved what was learned. The price is small: under
/// load the connection used last has idled for milliseconds, and without load a new connection is cheap.
#[inline]
pub fn may_reuse(idle_for: Duration, limit: Duration, safe_to_repeat: bool) -> bool {
    if safe_to_repeat { idle_for < limit } else { idle_for < (limit.min(ASSUMED) / 2).saturating_sub(MARGIN) }
}

/// The timeout of a `Keep-Alive` value such as `timeout=5, max=100`: whole seconds, at most a day. `None` if it has none
/// or it cannot be read; of several, the first that can.
pub fn parse_keep_alive(value: &[u8]) -> Option<Duration> {
    value.split(|b| *b == b',').find_map(|member| {
        let equals = member.iter().position(|b| *b == b'=')?;
        let (name, seconds) = (member[..equals].trim_ascii(), member[equals + 1..].trim_ascii());
        if !name.eq_ignore_ascii_case(b"timeout") || seconds.is_empty() || !seconds.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = seconds.iter().fold(0u64, |n, b| n.saturating_mul(10).saturating_add(u64::from(b - b'0')));
        Some(Duration::from_secs(number.min(LONGEST_ANNOUNCED)))
    })
}

/// Whether two ages differ by a quarter at most.
fn is_about(a: Duration, b: Duration) -> bool {
    a.max(b) <= a.min(b).saturating_mul(5) / 4
}

/// Whether two ages are too far apart for one timeout.
fn is_scattered(a: Duration, b: Duration) -> bool {
    a.abs_diff(b) > SCATTER && a.max(b) > a.min(b).saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const MS: fn(u64) -> Duration = Duration::from_millis;
    const T: fn(u64) -> Moment = |s| Moment::from_millis(s * 1000);

    fn after(closes: &[(Duration, Moment)]) -> IdleMemory {
        let mut memory = IdleMemory::default();
        closes.iter().for_each(|(idle, at)| memory.observe_close(*idle, *at));
        memory
    }

    #[test]
    fn the_limit_is_the_least_of_configured_announced_and_learned() {
        let nothing = IdleMemory::default();
        assert_eq!(nothing.limit(S(60), None, T(9)), S(60));
        assert_eq!(nothing.limit(S(60), Some(S(5)), T(9)), S(5));
        assert_eq!(nothing.limit(S(3), Some(S(5)), T(9)), S(3));
        let five = after(&[(S(5), T(10))]);
        assert_eq!(five.limit(S(60), None, T(10)), S(5));
        assert_eq!(five.limit(S(60), Some(S(2)), T(10)), S(2));
    }

    #[test]
    fn a_single_close_is_believed_but_doubted() {
        let memory = after(&[(S(5), T(10))]);
        assert_eq!(memory.limit(S(60), None, T(40)), S(10));
        assert_eq!(memory.limit(S(60), None, T(10_000)), S(60));
    }

    #[test]
    fn a_confirmed_time_is_forgotten_by_a_tenth_each_hour() {
        let memory = after(&[(S(5), T(10)), (MS(5100), T(100))]);
        assert!(memory.learned().unwrap().confirmed);
        assert_eq!(memory.limit(S(60), None, T(100)), S(5));
        let hour = memory.limit(S(60), None, T(3700));
        assert!((MS(5499)..MS(5501)).contains(&hour), "{hour:?}");
        // Within a fortnight even a confirmed time no longer binds.
        assert_eq!(memory.limit(S(60), None, T(14 * 24 * 3600)), S(60));
    }

    #[test]
    fn an_earlier_close_shortens_at_once_and_a_later_one_does_not_lengthen_what_is_confirmed() {
        let memory = after(&[(S(5), T(10)), (S(5), T(20)), (S(2), T(30))]);
        assert_eq!(memory.limit(S(60), None, T(30)), S(2));
        let memory = after(&[(S(5), T(10)), (S(5), T(20)), (S(30), T(30))]);
        assert_eq!(memory.limit(S(60), None, T(20)), S(5));
    }

    #[test]
    fn a_connection_that_outlived_a_doubted_time_refutes_it() {
        let memory = after(&[(S(1), T(10)), (S(20), T(15))]);
        assert_eq!(memory.limit(S(60), None, T(15)), S(20));
    }

    #[test]
    fn a_restart_teaches_nothing() {
        let at = T(1000);
        let restart = [(MS(40), at), (S(3), at + MS(5)), (S(9), at + MS(9)), (MS(700), at + MS(20))];
        assert_eq!(after(&restart).learned(), None);
        let mut memory = after(&[(S(5), T(10)), (S(5), T(20))]);
        restart.iter().for_each(|(idle, at)| memory.observe_close(*idle, *at));
        assert_eq!(memory.learned(), Some(Learned { idle: S(5), at: T(20), confirmed: true }));
    }

    #[test]
    fn a_close_that_nothing_explains_makes_unsure_for_a_while() {
        assert_eq!(IdleMemory::default().unsure_until(), Moment::ZERO);
        // The first of its kind, another of the same, a much younger one, and the same in a restart.
        for (closes, until) in [
            (vec![(S(5), T(10))], T(12)),
            (vec![(S(5), T(10)), (MS(5100), T(20))], T(12)),
            (vec![(S(5), T(10)), (MS(50), T(20))], T(22)),
            (vec![(MS(1200), T(10)), (MS(50), T(10) + MS(50)), (MS(51), T(10) + MS(90))], T(12) + MS(90)),
        ] {
            assert_eq!(after(&closes).unsure_until(), until, "{closes:?}");
        }
    }

    #[test]
    fn a_restart_is_known_for_a_second_by_the_different_ages_of_what_it_closes() {
        let at = T(1000);
        let scattered = after(&[(MS(40), at), (S(3), at + MS(5))]);
        assert!(scattered.in_mass_close(at + MS(900)) && !scattered.in_mass_close(at + MS(1005)));
        let busy = after(&[(MS(2), at), (MS(6), at), (MS(9), at + MS(1))]);
        assert!(busy.in_mass_close(at + MS(1000)) && !busy.in_mass_close(at + MS(1001)));
        assert_eq!(busy.shortest(), None);
    }

    #[test]
    fn closes_of_one_age_or_few_closes_or_scattered_in_time_are_no_restart() {
        let at = T(1000);
        for closes in [[(S(5), at), (MS(5001), at), (MS(5900), at)], [(MS(2), at), (MS(6), at), (MS(9), at + S(1))]] {
            assert!(!after(&closes).in_mass_close(at + S(1)), "{closes:?}");
        }
        assert!(!after(&[(MS(2), at), (MS(6), at)]).in_mass_close(at));
        assert!(!IdleMemory::default().in_mass_close(Moment::ZERO));
        assert_eq!(after(&[(S(5), T(10)), (S(2), T(30)), (S(9), T(50))]).shortest(), Some(S(9)));
        assert_eq!(after(&[(S(5), T(10)), (S(5), T(30)), (S(9), T(50))]).shortest(), Some(S(5)));
    }

    #[test]
    fn closes_of_one_moment_at_one_age_are_one_timeout_seen_once() {
        let memory = after(&[(S(5), T(10)), (MS(5001), T(10)), (MS(5002), T(10))]);
        assert_eq!(memory.learned(), Some(Learned { idle: S(5), at: T(10), confirmed: false }));
    }

    #[test]
    fn young_closes_teach_nothing() {
        assert_eq!(after(&[(MS(1), T(10)), (MS(19), T(20))]).learned(), None);
    }

    #[test]
    fn what_cannot_be_repeated_stays_far_from_the_limit() {
        for (idle, limit, safe, expected) in [
            (MS(4999), S(5), true, true),
            (S(5), S(5), true, false),
            (MS(1499), S(5), false, true),
            (MS(1500), S(5), false, false),
            (S(0), S(2), false, false),
            (S(0), MS(300), false, false),
            (S(0), MS(300), true, true),
            (MS(1499), S(60), false, true),
            (MS(1500), S(60), false, false),
            (MS(59_999), S(60), true, true),
            (MS(499), S(3), false, true),
            (MS(500), S(3), false, false),
        ] {
            assert_eq!(may_reuse(idle, limit, safe), expected, "{idle:?} of {limit:?}, safe: {safe}");
        }
    }

    #[test]
    fn announced_timeouts_are_read() {
        for (value, expected) in [
            ("timeout=5", Some(S(5))),
            ("timeout=5, max=100", Some(S(5))),
            ("max=100 , Timeout = 75 ", Some(S(75))),
            ("timeout=0", Some(S(0))),
            ("timeout=99999999999999999999999", Some(S(86400))),
            ("timeout=x, timeout=7", Some(S(7))),
            ("timeout=-1", None),
            ("timeout=", None),
            ("timeout", None),
            ("max=5", None),
            ("xtimeout=5", None),
            ("", None),
        ] {
            assert_eq!(parse_keep_alive(value.as_bytes()), expected, "{value}");
        }
    }

    proptest! {
        /// An endpoint with a fixed timeout, watched by connections that idle for random times: whatever else was
        /// seen, after two expiries the limit is that timeout, and no unrepeatable request goes out near it.
        #[test]
        fn a_fixed_timeout_is_learned(timeout_ms in 100..90_000u64, closes in prop::collection::vec(1..600u64, 2..20)) {
            let mut memory = IdleMemory::default();
            let mut now = T(10);
            for pause in closes {
                now = now + S(pause) + TOGETHER;
                memory.observe_close(MS(timeout_ms), now);
            }
            let limit = memory.limit(S(120), None, now);
            prop_assert_eq!(limit, MS(timeout_ms));
            prop_assert!(!may_reuse(MS(timeout_ms) / 2, limit, false));
            let day_after = memory.limit(S(120), None, now + S(7 * 3600));
            prop_assert!(!may_reuse(MS(timeout_ms), day_after, false));
        }

        #[test]
        fn no_history_makes_it_panic_or_exceed_what_is_configured(closes in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20), now: u64) {
            let mut memory = IdleMemory::default();
            for (idle, at) in closes {
                memory.observe_close(Duration::from_nanos(idle), Moment::from_nanos(at));
            }
            prop_assert!(memory.limit(S(60), None, Moment::from_nanos(now)) <= S(60));
        }
    }
}
