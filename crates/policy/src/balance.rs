//! Which endpoint of a service takes a request.
//!
//! Candidates are the endpoints that are usable (healthy) and that this request has not tried. If there are none, all
//! that it has not tried are candidates: when checks hold every endpoint for dead, the checks are as likely to be wrong
//! as the endpoints, and sending is the only way to find out (fail open). Only when every endpoint was tried is there
//! no choice.
//!
//! Equal candidates take turns. The turn is the caller's counter; it counts among the candidates, not among all
//! endpoints, so the neighbour of a dead endpoint does not get the dead one's share as well.
//!
//! The fleet's numbers may change while they are looked at (they are atomics of several workers); the choice is then
//! as good as what was seen, and never an endpoint that was tried.

use std::fmt;
use std::str::FromStr;

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest requests in flight; equals take turns.
    LeastOutstanding,
}

/// A text that names no [`Balance`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no way to balance; write round_robin or least_outstanding")]
pub struct BalanceError {
    text: String,
}

/// The endpoints of a service as one request sees them.
pub trait Fleet {
    /// How many endpoints there are.
    fn len(&self) -> usize;
    /// Requests that endpoint `i` has been sent and has not answered.
    fn in_flight(&self, i: usize) -> u32;
    /// Whether endpoint `i` counts as healthy.
    fn usable(&self, i: usize) -> bool;
    /// Whether this request has been sent to endpoint `i` already. This must not change during a choice.
    fn tried(&self, i: usize) -> bool;
    /// Whether there are no endpoints.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Balance {
    /// Every way to balance.
    pub const ALL: [Balance; 2] = [Balance::RoundRobin, Balance::LeastOutstanding];

    const fn name(self) -> &'static str {
        match self {
            Balance::RoundRobin => "round_robin",
            Balance::LeastOutstanding => "least_outstanding",
        }
    }
}

impl FromStr for Balance {
    type Err = BalanceError;

    fn from_str(text: &str) -> Result<Balance, BalanceError> {
        Balance::ALL.into_iter().find(|b| b.name() == text).ok_or_else(|| BalanceError { text: text.to_owned() })
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The endpoint that takes the request; `None` if all were tried or there are none. `turn` is a counter that the caller
/// raises with each request.
#[inline]
pub fn choose(balance: Balance, fleet: &impl Fleet, turn: u64) -> Option<usize> {
    match fleet.len() {
        0 => return None,
        1 => return (!fleet.tried(0)).then_some(0),
        _ => {}
    }
    among(balance, fleet, turn, |i| fleet.usable(i) && !fleet.tried(i))
        .or_else(|| among(balance, fleet, turn, |i| !fleet.tried(i)))
}

/// The choice among the endpoints that `is_candidate` says.
#[inline]
fn among(balance: Balance, fleet: &impl Fleet, turn: u64, is_candidate: impl Fn(usize) -> bool) -> Option<usize> {
    let load = |i| match balance {
        Balance::RoundRobin => 0,
        Balance::LeastOutstanding => fleet.in_flight(i),
    };
    let (mut first, mut least, mut equals) = (None, u32::MAX, 0u64);
    for i in (0..fleet.len()).filter(|i| is_candidate(*i)) {
        let load = load(i);
        if first.is_none() || load < least {
            (first, least, equals) = (Some(i), load, 1);
        } else if load == least {
            equals += 1;
        }
    }
    if equals <= 1 {
        return first;
    }
    let mut skip = turn % equals;
    for i in (first?..fleet.len()).filter(|i| is_candidate(*i)) {
        if load(i) <= least {
            if skip == 0 {
                return Some(i);
            }
            skip -= 1;
        }
    }
    // The numbers moved between the two looks.
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// (in flight, usable, tried) of each endpoint.
    #[derive(Debug)]
    struct Fixed(Vec<(u32, bool, bool)>);

    impl Fleet for Fixed {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn in_flight(&self, i: usize) -> u32 {
            self.0[i].0
        }
        fn usable(&self, i: usize) -> bool {
            self.0[i].1
        }
        fn tried(&self, i: usize) -> bool {
            self.0[i].2
        }
    }

    fn shares(balance: Balance, fleet: &Fixed, turns: u64) -> Vec<u32> {
        let mut shares = vec![0; fleet.len()];
        (0..turns).for_each(|turn| shares[choose(balance, fleet, turn).unwrap()] += 1);
        shares
    }

    #[test]
    fn names_are_read_and_written() {
        for balance in Balance::ALL {
            assert_eq!(balance.to_string().parse(), Ok(balance));
        }
        let error = "fastest".parse::<Balance>().unwrap_err().to_string();
        assert!(error.contains("round_robin or least_outstanding"), "{error}");
    }

    #[test]
    fn a_dead_endpoints_share_is_spread_over_all_others() {
        let fleet = Fixed(vec![(0, true, false), (0, false, false), (0, true, false), (0, true, false)]);
        for balance in Balance::ALL {
            assert_eq!(shares(balance, &fleet, 300), [100, 0, 100, 100], "{balance}");
        }
    }

    #[test]
    fn the_least_busy_are_chosen_and_equals_take_turns() {
        let fleet = Fixed(vec![(3, true, false), (1, true, false), (0, false, false), (1, true, false)]);
        assert_eq!(shares(Balance::LeastOutstanding, &fleet, 100), [0, 50, 0, 50]);
        assert_eq!(shares(Balance::RoundRobin, &fleet, 99), [33, 33, 0, 33]);
    }

    #[test]
    fn if_none_is_usable_all_untried_are() {
        let fleet = Fixed(vec![(0, false, false), (0, true, true), (0, false, false)]);
        for balance in Balance::ALL {
            assert_eq!(shares(balance, &fleet, 10), [5, 0, 5], "{balance}");
        }
    }

    #[test]
    fn an_endpoint_at_the_limit_of_the_counter_is_still_a_candidate() {
        let fleet = Fixed(vec![(u32::MAX, true, false), (u32::MAX, true, true)]);
        assert_eq!(choose(Balance::LeastOutstanding, &fleet, 7), Some(0));
    }

    proptest! {
        #[test]
        fn a_choice_is_untried_and_usable_if_it_can_be(
            endpoints in prop::collection::vec((0..4u32, any::<bool>(), any::<bool>()), 0..9),
            turn: u64,
            least: bool,
        ) {
            let fleet = Fixed(endpoints);
            let balance = if least { Balance::LeastOutstanding } else { Balance::RoundRobin };
            let untried: Vec<_> = (0..fleet.len()).filter(|i| !fleet.tried(*i)).collect();
            let usable: Vec<_> = untried.iter().copied().filter(|i| fleet.usable(*i)).collect();
            let candidates = if usable.is_empty() { &untried } else { &usable };
            match choose(balance, &fleet, turn) {
                None => prop_assert!(untried.is_empty()),
                Some(i) => {
                    prop_assert!(candidates.contains(&i));
                    let fewest = candidates.iter().map(|i| fleet.in_flight(*i)).min();
                    prop_assert!(!least || Some(fleet.in_flight(i)) == fewest);
                }
            }
        }
    }
}
