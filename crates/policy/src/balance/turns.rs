//! Endpoints take turns, each as often as its weight says.
//!
//! With equal weights the turn counts them through. With unequal ones the turn is multiplied by the golden ratio, and
//! the fraction of the product says where in the running sum of weights it falls (a Weyl sequence). Such points spread
//! as evenly as a sequence can: shares hold to within a few turns at every moment, neighbours in time differ, and
//! there is no state to keep.

use super::{Fleet, Tally};

/// The golden ratio's fraction, of 2^64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The candidate whose turn it is.
#[inline]
pub(super) fn choose(
    fleet: &impl Fleet,
    mut candidates: impl Iterator<Item = usize>,
    tally: &Tally,
    turn: u64,
) -> Option<usize> {
    if tally.is_even() {
        return candidates.nth((turn % tally.open) as usize);
    }
    let mut left = spread(turn, tally.weight);
    candidates.find(|i| falls_on(&mut left, u64::from(fleet.weight(*i))))
}

/// Where among `0..total` a turn falls.
#[inline]
pub(super) fn spread(turn: u64, total: u64) -> u64 {
    ((u128::from(turn.wrapping_mul(GOLDEN)) * u128::from(total)) >> 64) as u64
}

/// Whether a place in the running sum falls on the next weight; otherwise it is reckoned from the weight after it.
#[inline]
pub(super) fn falls_on(left: &mut u64, weight: u64) -> bool {
    let falls = *left < weight;
    *left = left.wrapping_sub(weight);
    falls
}
