//! When a name is asked for again, and which answer is in force.
//!
//! ```text
//! nothing known => in force   the first answer that has something in it
//! in force      => in force   another such answer replaces it; the next question goes out just before its time to live ends
//! in force      => in force   no answer, an error, or an empty one: the last good answer stays, and the question is
//!                             repeated after 1 s, 2 s, 4 s … 30 s
//! ```
//! DNS that fails must not take down services that work, and an empty answer is more often a fault of whoever fills the
//! zone than a wish to have no service; who wants to end a service takes it out of the configuration. Serving on from an
//! old answer is what RFC 8767 describes for resolvers. Times to live are held within [`SHORTEST`] and [`LONGEST`]: 0 would
//! ask without a pause, and a day would not notice a move. Questions are up to a tenth early, so that many names, and many
//! gateways, do not ask at once, and an answer is never older than its time to live because of us.

use std::time::Duration;

use kernel::{Entropy, Moment};

/// An answer is used for at least so long.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// An answer is used without another question for at most so long.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);
/// The first pause after a failure.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two failures: an answer that is back is seen this late at worst.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is known of one name.
#[derive(Clone, Debug)]
pub struct Resolution<T> {
    in_force: Option<T>,
    failures: u32,
    due: Moment,
}

impl<T: PartialEq> Resolution<T> {
    /// Nothing is known, and the question is due at `now`.
    pub const fn new(now: Moment) -> Resolution<T> {
        Resolution { in_force: None, failures: 0, due: now }
    }

    /// An answer with something in it came. True if another one is in force now.
    pub fn answered(&mut self, answer: T, ttl: Duration, now: Moment, entropy: &mut Entropy) -> bool {
        self.failures = 0;
        self.due = now + ttl.clamp(SHORTEST, LONGEST).mul_f64(1.0 - 0.1 * entropy.unit());
        if self.in_force.as_ref() == Some(&answer) {
            return false;
        }
        self.in_force = Some(answer);
        true
    }

    /// There was no answer, or nothing in it.
    pub fn failed(&mut self, now: Moment, entropy: &mut Entropy) {
        let pause = FIRST_PAUSE.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
        self.failures = (self.failures + 1).min(16);
        self.due = now + pause.mul_f64(1.0 - 0.1 * entropy.unit());
    }

    /// When to ask.
    pub const fn due(&self) -> Moment {
        self.due
    }

    /// The last good answer.
    pub const fn in_force(&self) -> Option<&T> {
        self.in_force.as_ref()
    }

    /// Failures since the last good answer; counted up to 16.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_last_good_answer_stays_whatever_fails() {
        let (mut entropy, mut now) = (Entropy::from_seed(1), Moment::ZERO);
        let mut name = Resolution::new(now);
        name.failed(now, &mut entropy);
        assert_eq!((name.in_force(), name.failures()), (None, 1));
        assert!(name.answered(vec![1, 2], secs(30), now, &mut entropy));
        assert!(!name.answered(vec![1, 2], secs(30), now, &mut entropy), "the same answer changes nothing");
        for _ in 0..100 {
            now = name.due();
            name.failed(now, &mut entropy);
            assert_eq!(name.in_force(), Some(&vec![1, 2]));
        }
        assert!(name.answered(vec![3], secs(30), now, &mut entropy));
        assert_eq!((name.in_force(), name.failures()), (Some(&vec![3]), 0));
    }

    #[test]
    fn failures_are_asked_about_ever_more_slowly_up_to_a_bound() {
        let (mut entropy, now) = (Entropy::from_seed(2), Moment::ZERO);
        let mut name = Resolution::<u8>::new(now);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            name.failed(now, &mut entropy);
            pauses.push(name.due().since(now));
        }
        for (pause, wanted) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30]) {
            assert!(*pause <= secs(wanted) && *pause >= secs(wanted).mul_f64(0.9), "{pause:?} for {wanted} s");
        }
        assert!(pauses[5..].iter().all(|p| *p <= LONGEST_PAUSE && *p >= LONGEST_PAUSE.mul_f64(0.9)), "{pauses:?}");
    }

    proptest! {
        #[test]
        fn an_answer_is_asked_for_again_just_before_its_time_is_up(seed: u64, ttl in 0..200_000u64, at in 0..1_000_000u64) {
            let (mut entropy, now) = (Entropy::from_seed(seed), Moment::from_millis(at));
            let mut name = Resolution::new(now);
            name.answered(1, secs(ttl), now, &mut entropy);
            let (pause, held) = (name.due().since(now), secs(ttl).clamp(SHORTEST, LONGEST));
            prop_assert!(pause <= held && pause >= held.mul_f64(0.899), "{:?} for {:?}", pause, held);
        }

        #[test]
        fn what_is_in_force_is_the_last_good_answer(seed: u64, events in prop::collection::vec(prop::option::of(0..4u8), 0..60)) {
            let (mut entropy, mut now) = (Entropy::from_seed(seed), Moment::ZERO);
            let (mut name, mut last) = (Resolution::new(now), None);
            for event in events {
                now = name.due();
                match event {
                    Some(answer) => {
                        let changed = name.answered(answer, secs(5), now, &mut entropy);
                        prop_assert_eq!(changed, last != Some(answer));
                        last = Some(answer);
                    }
                    None => name.failed(now, &mut entropy),
                }
                prop_assert_eq!(name.in_force(), last.as_ref());
                prop_assert!(name.due() > now);
            }
        }
    }
}
