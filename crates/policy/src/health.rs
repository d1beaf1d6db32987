//! Active checks: when an endpoint counts as down and when as up again.
//!
//! ```text
//! up   => down   after `fall` failures in a row: a single lost check is no outage
//! down => up     after `rise` successes in a row: a restarting endpoint may answer once and fail again
//! ```
//! An endpoint that was never checked counts as up, because a gateway that starts must not refuse traffic until it has
//! looked around; its first failure counts as the first of `fall`. Semantics and defaults are HAProxy's `rise`/`fall`.
//! What a check is and when it passed is not decided here.

use std::time::Duration;

use kernel::Entropy;

/// How many checks in a row change the state. A 0 counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Failures until an endpoint is down.
    pub fall: u32,
    /// Successes until it is up again.
    pub rise: u32,
}

/// The state of one endpoint as active checks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    rule: Rule,
    up: bool,
    /// Checks in a row that speak against the present state.
    against: u32,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The endpoint is up again.
    Up,
    /// The endpoint is down.
    Down,
}

impl Health {
    /// An endpoint that was not checked yet: it counts as up.
    pub const fn new(rule: Rule) -> Health {
        Health { rule, up: true, against: 0 }
    }

    /// Takes in the result of one check. Returns the change of state if it made one.
    pub fn observe(&mut self, passed: bool) -> Option<Change> {
        if passed == self.up {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let needed = if self.up { self.rule.fall } else { self.rule.rise };
        if self.against < needed.max(1) {
            return None;
        }
        self.up = passed;
        self.against = 0;
        Some(if passed { Change::Up } else { Change::Down })
    }

    /// Whether the endpoint counts as up.
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// How many checks in a row have spoken against the present state.
    pub const fn against(&self) -> u32 {
        self.against
    }

    /// Goes on under another rule, as after a reload; state and count stay, and the next check is judged by the new rule.
    pub const fn set_rule(&mut self, rule: Rule) {
        self.rule = rule;
    }
}

/// The time to the next check: `interval` give or take a tenth, so that checks of many endpoints, and of one endpoint
/// from many gateways, do not fall into step.
pub fn next_delay(interval: Duration, entropy: &mut Entropy) -> Duration {
    interval.mul_f64(0.9 + 0.2 * entropy.unit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: Rule = Rule { fall: 3, rise: 2 };

    #[test]
    fn it_falls_and_rises_by_the_rule() {
        let mut health = Health::new(RULE);
        assert!(health.is_up());
        let changes: Vec<_> = [false, false, false, true, false, true, true, true].map(|ok| health.observe(ok)).into();
        let expected = [None, None, Some(Change::Down), None, None, None, Some(Change::Up), None];
        assert_eq!(changes, expected);
    }

    #[test]
    fn a_success_starts_the_count_anew() {
        let mut health = Health::new(RULE);
        for ok in [false, false, true, false, false] {
            assert_eq!(health.observe(ok), None);
        }
        assert_eq!(health.against(), 2);
        assert_eq!(health.observe(false), Some(Change::Down));
    }

    #[test]
    fn a_zero_counts_as_one_and_a_new_rule_holds_from_the_next_check() {
        let mut health = Health::new(Rule { fall: 0, rise: 0 });
        assert_eq!(health.observe(false), Some(Change::Down));
        assert_eq!(health.observe(true), Some(Change::Up));
        health.set_rule(RULE);
        assert_eq!(health.observe(false), None);
        health.set_rule(Rule { fall: 1, rise: 1 });
        assert_eq!(health.observe(false), Some(Change::Down));
    }

    proptest! {
        #[test]
        fn the_state_is_what_the_last_long_run_says(fall in 1..5u32, rise in 1..5u32, checks in prop::collection::vec(any::<bool>(), 0..60)) {
            let mut health = Health::new(Rule { fall, rise });
            let (mut up, mut run, mut last) = (true, 0, None);
            for ok in checks {
                run = if last == Some(ok) { run + 1 } else { 1 };
                last = Some(ok);
                let was = up;
                if !ok && run >= fall { up = false; }
                if ok && run >= rise { up = true; }
                let change = health.observe(ok);
                prop_assert_eq!(health.is_up(), up);
                prop_assert_eq!(change.is_some(), was != up);
            }
        }

        #[test]
        fn the_delay_stays_within_a_tenth(seed: u64, millis in 1..600_000u64) {
            let interval = Duration::from_millis(millis);
            let delay = next_delay(interval, &mut Entropy::from_seed(seed));
            prop_assert!(delay >= interval.mul_f64(0.899) && delay <= interval.mul_f64(1.101), "{:?}", delay);
        }
    }
}
