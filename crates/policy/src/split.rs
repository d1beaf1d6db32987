//! A weighted split: which of several services takes a request. Each request is drawn on its own; shares hold on
//! average. A weight of 0 takes nothing. With one target that can be drawn, nothing is drawn and nothing is spent.

use kernel::Entropy;

/// Targets and their shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedSplit {
    /// Running sums of the weights; empty if only `only` can be drawn.
    sums: Vec<u64>,
    /// The target that takes all, if there is but one.
    only: usize,
}

/// Why weights make no split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// There is no target.
    #[error("a split without targets sends nothing anywhere; name at least one service")]
    Empty,
    /// Every weight is 0.
    #[error("every weight of the split is 0, so no request could be sent; give at least one service a weight above 0")]
    AllZero,
}

impl WeightedSplit {
    /// A split by `weights`, in the order of the targets.
    ///
    /// # Errors
    /// When there are no weights, or all of them are 0.
    pub fn new(weights: &[u32]) -> Result<WeightedSplit, SplitError> {
        if weights.is_empty() {
            return Err(SplitError::Empty);
        }
        let only = weights.iter().position(|w| *w > 0).ok_or(SplitError::AllZero)?;
        if weights[only + 1..].iter().all(|w| *w == 0) {
            return Ok(WeightedSplit { sums: Vec::new(), only });
        }
        let mut sum = 0u64;
        let sums = weights.iter().map(|w| {
            sum += u64::from(*w);
            sum
        });
        Ok(WeightedSplit { sums: sums.collect(), only })
    }

    /// The target that takes a request.
    #[inline]
    pub fn choose(&self, entropy: &mut Entropy) -> usize {
        let Some(total) = self.sums.last() else { return self.only };
        let drawn = entropy.below(*total);
        self.sums.partition_point(|sum| *sum <= drawn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_that_send_nothing_are_refused() {
        assert_eq!(WeightedSplit::new(&[]), Err(SplitError::Empty));
        assert_eq!(WeightedSplit::new(&[0, 0]), Err(SplitError::AllZero));
    }

    #[test]
    fn a_single_target_draws_nothing() {
        let mut entropy = Entropy::from_seed(1);
        let untouched = entropy.clone().next_u64();
        let split = WeightedSplit::new(&[0, 5, 0]).unwrap();
        assert!((0..100).all(|_| split.choose(&mut entropy) == 1));
        assert_eq!(entropy.next_u64(), untouched);
    }

    #[test]
    fn shares_follow_the_weights() {
        let seed = Entropy::from_os().unwrap().next_u64();
        let mut entropy = Entropy::from_seed(seed);
        let weights = [90u32, 0, 9, 1, u32::MAX >> 24];
        let split = WeightedSplit::new(&weights).unwrap();
        let (draws, total) = (200_000u32, f64::from(weights.iter().sum::<u32>()));
        let mut seen = [0u32; 5];
        (0..draws).for_each(|_| seen[split.choose(&mut entropy)] += 1);
        for (n, weight) in seen.iter().zip(weights) {
            let share = f64::from(weight) / total;
            let mean = f64::from(draws) * share;
            // Five sigma: a sound split fails once in more than 300,000 runs.
            let five_sigma = 5.0 * (mean * (1.0 - share)).sqrt();
            assert!((f64::from(*n) - mean).abs() <= five_sigma, "seed {seed}: {seen:?} for weights {weights:?}");
        }
    }

    proptest! {
        #[test]
        fn only_targets_with_weight_are_chosen(weights in prop::collection::vec(prop_oneof![Just(0), 1..4u32, Just(u32::MAX)], 1..8), seed: u64) {
            if let Ok(split) = WeightedSplit::new(&weights) {
                let mut entropy = Entropy::from_seed(seed);
                for _ in 0..50 {
                    prop_assert!(weights[split.choose(&mut entropy)] > 0);
                }
            }
        }
    }
}
