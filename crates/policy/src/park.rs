//! Requests that wait because no endpoint can be reached: every endpoint refused or failed to connect for this request,
//! so that nothing of it was sent and any method may wait. While some do, connects are tried every 50 to 100 ms; the
//! first that succeeds lets them go, the one whose deadline is nearest first, through the service's gate.
//!
//! A request waits for [`ParkRule::max_wait`] at most, and for half of the time that it has left if that is shorter: the
//! other half is for its answer. Requests and bytes are bounded; beyond, and after the wait, the answer is 503 with
//! `Retry-After`.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Entropy, Moment};

/// The shortest time between two tries to connect.
pub const PROBE_SHORTEST: Duration = Duration::from_millis(50);
/// The longest: this much later than possible a parked request goes on, at worst.
pub const PROBE_LONGEST: Duration = Duration::from_millis(100);

/// How long and how many requests wait while nobody is reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkRule {
    /// The longest wait; half of what is left of the request's time if that is shorter. Zero: nobody waits.
    pub max_wait: Duration,
    /// Requests of one service that wait, at most.
    pub max_requests: u32,
    /// Their bytes, at most.
    pub max_bytes: u64,
}

/// Who waits, by deadline. It has no bound of its own: [`may_park`] is asked before.
#[derive(Clone, Debug)]
pub struct ParkQueue<T> {
    waiting: BTreeMap<ParkTicket, T>,
    next: u64,
}

/// A place among those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParkTicket {
    deadline: Moment,
    number: u64,
}

impl Default for ParkRule {
    fn default() -> ParkRule {
        ParkRule { max_wait: Duration::from_secs(2), max_requests: 2048, max_bytes: 64 * 1024 * 1024 }
    }
}

/// How long a request with so much time `left` waits; `None`: not at all.
pub fn wait(rule: &ParkRule, left: Duration) -> Option<Duration> {
    Some(rule.max_wait.min(left / 2)).filter(|wait| !wait.is_zero())
}

/// Whether a request of `bytes_of_this` may wait, when `parked_now` requests of `bytes_now` do.
pub const fn may_park(rule: &ParkRule, parked_now: u32, bytes_now: u64, bytes_of_this: u64) -> bool {
    parked_now < rule.max_requests && bytes_now.saturating_add(bytes_of_this) <= rule.max_bytes
}

/// The time to the next try to connect.
pub fn probe_delay(entropy: &mut Entropy) -> Duration {
    PROBE_SHORTEST + (PROBE_LONGEST - PROBE_SHORTEST).mul_f64(entropy.unit())
}

impl<T> Default for ParkQueue<T> {
    fn default() -> ParkQueue<T> {
        ParkQueue { waiting: BTreeMap::new(), next: 0 }
    }
}

impl<T> ParkQueue<T> {
    /// Adds `item`, which waits until `deadline`.
    pub fn park(&mut self, deadline: Moment, item: T) -> ParkTicket {
        let ticket = ParkTicket { deadline, number: self.next };
        self.next += 1;
        self.waiting.insert(ticket, item);
        ticket
    }

    /// Takes out who waits with `ticket`, if nobody did.
    pub fn leave(&mut self, ticket: ParkTicket) -> Option<T> {
        self.waiting.remove(&ticket)
    }

    /// Takes out the one whose deadline is the nearest of those that are still to come.
    pub fn release(&mut self, now: Moment) -> Option<T> {
        let first = ParkTicket { deadline: now, number: u64::MAX };
        let ticket = *self.waiting.range(first..).next()?.0;
        self.waiting.remove(&ticket)
    }

    /// Takes out one whose deadline has come.
    pub fn expire(&mut self, now: Moment) -> Option<T> {
        let ticket = *self.waiting.first_key_value().filter(|(ticket, _)| ticket.deadline <= now)?.0;
        self.waiting.remove(&ticket)
    }

    /// The nearest deadline.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.waiting.first_key_value().map(|(ticket, _)| ticket.deadline)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const AT: fn(u64) -> Moment = Moment::from_millis;

    #[test]
    fn a_request_waits_two_seconds_or_half_of_its_time() {
        let rule = ParkRule::default();
        for (left, expected) in [(S(30), Some(S(2))), (S(3), Some(S(3) / 2)), (S(0), None), (Duration::MAX, Some(S(2)))]
        {
            assert_eq!(wait(&rule, left), expected, "{left:?}");
        }
        assert_eq!(wait(&ParkRule { max_wait: S(0), ..rule }, S(30)), None);
    }

    #[test]
    fn requests_and_bytes_are_bounded() {
        let rule = ParkRule { max_requests: 2, max_bytes: 100, ..ParkRule::default() };
        for (parked, bytes, this, expected) in [
            (0, 0, 100, true),
            (0, 0, 101, false),
            (1, 60, 40, true),
            (1, 60, 41, false),
            (2, 0, 0, false),
            (1, u64::MAX, 1, false),
        ] {
            assert_eq!(may_park(&rule, parked, bytes, this), expected, "{parked} {bytes} {this}");
        }
    }

    #[test]
    fn connects_are_tried_every_50_to_100_ms() {
        let mut entropy = Entropy::from_seed(1);
        assert!(
            (0..1000).map(|_| probe_delay(&mut entropy)).all(|wait| (PROBE_SHORTEST..PROBE_LONGEST).contains(&wait))
        );
    }

    #[test]
    fn the_nearest_deadline_goes_first_and_the_dead_do_not_go() {
        let mut queue = ParkQueue::default();
        let tickets = [40, 10, 30, 20, 20].map(|deadline| queue.park(AT(deadline), deadline));
        assert_eq!(queue.next_deadline(), Some(AT(10)));
        assert_eq!((queue.release(AT(10)), queue.leave(tickets[4])), (Some(20), Some(20)));
        assert_eq!((queue.leave(tickets[3]), queue.expire(AT(9))), (None, None));
        assert_eq!((queue.release(AT(35)), queue.release(AT(40))), (Some(40), None));
        assert_eq!((queue.expire(AT(40)), queue.expire(AT(40)), queue.expire(AT(40))), (Some(10), Some(30), None));
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_nobody_goes_after_the_deadline(steps in prop::collection::vec((0..4u8, 0..50u64), 0..80)) {
            let (mut queue, mut now, mut inside) = (ParkQueue::default(), 0, Vec::new());
            for (id, (what, number)) in steps.into_iter().enumerate() {
                match what {
                    0 => inside.push((queue.park(AT(now + number), id), now + number, id)),
                    1 => now += number / 5,
                    2 => {
                        let living = inside.iter().filter(|(_, deadline, _)| *deadline > now);
                        let expected = living.min_by_key(|(ticket, ..)| *ticket).map(|(.., id)| *id);
                        prop_assert_eq!(queue.release(AT(now)), expected);
                        inside.retain(|(.., id)| Some(*id) != expected);
                    }
                    _ if inside.is_empty() => prop_assert_eq!(queue.expire(AT(now)), None),
                    _ => {
                        let (ticket, _, id) = inside.remove(number as usize % inside.len());
                        prop_assert_eq!((queue.leave(ticket), queue.leave(ticket)), (Some(id), None));
                    }
                }
                prop_assert_eq!(queue.len(), inside.len());
            }
            prop_assert_eq!(std::iter::from_fn(|| queue.expire(Moment::MAX)).count(), inside.len());
        }
    }
}
