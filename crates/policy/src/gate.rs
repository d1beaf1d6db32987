//! The one gate of a service: who may go on to an endpoint, and who waits. A limiter (a fixed number per endpoint, or
//! any other) says when there is room; [`Gate`] is the one bounded queue before it, first come first served, whose
//! waiters leave at their deadline: work for somebody who has left is what keeps an overload alive.
//!
//! | event | |
//! | --- | --- |
//! | no room, queue not full | waits, for [`wait`] |
//! | no room, queue full | refused: 503 with `Retry-After`, never tried again |
//! | room | [`Gate::next`] until one may go on; those whose deadline has come are handed out as late |
//! | the client leaves, or the time is over | [`Gate::leave`] |

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::Moment;

/// Limits on the requests that a service works on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRule {
    /// Requests that one endpoint works on at a time; `None`: no limit.
    pub per_endpoint: Option<u32>,
    /// Requests that wait in the service's queue, at most.
    pub max_queue: u32,
    /// How long one waits there, at most.
    pub max_wait: Duration,
}

/// A bounded queue whose waiters have deadlines. What enters comes out once: by [`Gate::next`] or by [`Gate::leave`].
#[derive(Clone, Debug)]
pub struct Gate<T> {
    /// By arrival.
    waiting: BTreeMap<Ticket, Waiter<T>>,
    max_queue: u32,
    next: u64,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The queue is full; what wanted to wait comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// The first of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<T> {
    /// It goes on.
    Go(T),
    /// Its deadline has come: it is answered, and the next one asked.
    Late(T),
}

#[derive(Clone, Debug)]
struct Waiter<T> {
    until: Moment,
    item: T,
}

impl Default for GateRule {
    fn default() -> GateRule {
        GateRule { per_endpoint: None, max_queue: 1024, max_wait: Duration::from_millis(250) }
    }
}

/// How long a request with so much time `left` waits in the queue; `None`: not at all.
pub fn wait(rule: &GateRule, left: Duration) -> Option<Duration> {
    Some(rule.max_wait.min(left)).filter(|wait| !wait.is_zero())
}

impl<T> Gate<T> {
    /// An empty queue for `max_queue` waiters.
    pub fn new(max_queue: u32) -> Gate<T> {
        Gate { waiting: BTreeMap::new(), max_queue, next: 0 }
    }

    /// Goes on with another bound, as after a reload. Who waits stays.
    pub const fn set_max_queue(&mut self, max_queue: u32) {
        self.max_queue = max_queue;
    }

    /// Adds `item` at the end, where it waits `until` then.
    ///
    /// # Errors
    /// [`Full`], with the item, when there is no place, or `until` has come.
    pub fn enter(&mut self, now: Moment, until: Moment, item: T) -> Result<Ticket, Full<T>> {
        if self.waiting.len() >= self.max_queue as usize || until <= now {
            return Err(Full(item));
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, Waiter { until, item });
        Ok(ticket)
    }

    /// Puts `item`, which was let through and found no room, back where it stood.
    pub fn enter_again(&mut self, ticket: Ticket, until: Moment, item: T) -> Ticket {
        self.waiting.insert(ticket, Waiter { until, item });
        ticket
    }

    /// Takes out who waits with `ticket`, if nobody did.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.waiting.remove(&ticket).map(|waiter| waiter.item)
    }

    /// Takes out the first. There is room for one more: ask until the answer is `Go` or `None`.
    pub fn next(&mut self, now: Moment) -> Option<Turn<T>> {
        let (_, waiter) = self.waiting.pop_first()?;
        Some(if waiter.until > now { Turn::Go(waiter.item) } else { Turn::Late(waiter.item) })
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
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const AT: fn(u64) -> Moment = Moment::from_millis;

    #[test]
    fn a_request_waits_for_the_rule_or_for_what_it_has_left() {
        let rule = GateRule::default();
        for (left, expected) in [(MS(9000), Some(MS(250))), (MS(100), Some(MS(100))), (MS(0), None)] {
            assert_eq!(wait(&rule, left), expected, "{left:?}");
        }
        assert_eq!(wait(&GateRule { max_wait: MS(0), ..rule }, MS(9000)), None);
    }

    #[test]
    fn the_queue_is_bounded_and_gives_back_what_has_no_place() {
        let mut gate = Gate::new(2);
        let first = gate.enter(AT(0), AT(10), "a").unwrap();
        gate.enter(AT(0), AT(10), "b").unwrap();
        assert_eq!(gate.enter(AT(0), AT(10), "c"), Err(Full("c")));
        assert_eq!((gate.leave(first), gate.leave(first)), (Some("a"), None));
        assert!(gate.enter(AT(0), AT(10), "c").is_ok());
        assert_eq!(Gate::new(0).enter(AT(0), AT(10), 1), Err(Full(1)));
        assert_eq!(Gate::new(9).enter(AT(10), AT(10), 1), Err(Full(1)));
    }

    #[test]
    fn who_found_no_room_stands_where_it_stood() {
        let mut gate = Gate::new(2);
        let first = gate.enter(AT(0), AT(10), "a").unwrap();
        gate.enter(AT(0), AT(10), "b").unwrap();
        assert_eq!(gate.next(AT(1)), Some(Turn::Go("a")));
        assert_eq!(gate.enter_again(first, AT(10), "a"), first);
        assert_eq!((gate.next(AT(2)), gate.next(AT(2))), (Some(Turn::Go("a")), Some(Turn::Go("b"))));
    }

    #[test]
    fn first_come_goes_first_and_who_is_late_is_told_apart() {
        let mut gate = Gate::new(9);
        for (until, item) in [(30, "a"), (10, "b"), (20, "c")] {
            gate.enter(AT(0), AT(until), item).unwrap();
        }
        assert_eq!(gate.next(AT(9)), Some(Turn::Go("a")));
        assert_eq!(gate.next(AT(10)), Some(Turn::Late("b")));
        assert_eq!((gate.next(AT(10)), gate.next(AT(10))), (Some(Turn::Go("c")), None));
        assert!(gate.is_empty());
    }

    proptest! {
        #[test]
        fn no_order_of_events_loses_anyone_or_lets_the_late_through(max in 0..6u32, steps in prop::collection::vec((0..4u8, 0..20u64), 0..80)) {
            let (mut gate, mut model, mut now) = (Gate::new(max), VecDeque::new(), 0);
            for (id, (what, number)) in steps.into_iter().enumerate() {
                match what {
                    0 => match gate.enter(AT(now), AT(now + number), id) {
                        Ok(ticket) => model.push_back((ticket, now + number, id)),
                        Err(Full(back)) => prop_assert!(back == id && (model.len() == max as usize || number == 0)),
                    },
                    1 => now += number,
                    2 => {
                        let expected = model.pop_front().map(|(_, until, id)| {
                            if until > now { Turn::Go(id) } else { Turn::Late(id) }
                        });
                        prop_assert_eq!(gate.next(AT(now)), expected);
                    }
                    _ => {
                        if let Some((ticket, _, id)) = model.remove(number as usize % model.len().max(1)) {
                            prop_assert_eq!((gate.leave(ticket), gate.leave(ticket)), (Some(id), None));
                        }
                    }
                }
                prop_assert_eq!(gate.len(), model.len());
                prop_assert!(gate.len() <= max as usize);
            }
        }
    }
}
