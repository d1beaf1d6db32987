//! The endpoint with the least to do for its weight and its speed.
//!
//! The load of an endpoint is its requests in flight divided by its effective weight: the weight, halved once for each
//! power of two by which its answers take longer than those of the fastest ([`latency::class`]).
//!
//! Taking the least `(in flight + 1) / weight` would starve light endpoints of a service with little to do, because
//! the heaviest idle one always has the least. So that cost is only the level: all whose load is below the least cost
//! are equal candidates and take turns by effective weight. With equal weights these are exactly the ones with the
//! fewest in flight; with nobody in flight they are all, and shares are the weights; under load the requests in flight
//! settle in proportion to the weights. A slow endpoint keeps a trickle, by which it is seen to recover.
//!
//! Beyond [`SCAN_MAX`] candidates two are drawn by weight and the better one is taken: nearly as even (Mitzenmacher
//! 2001), and many workers that look at the same moment do not all go for the same one.

use kernel::Entropy;

use super::latency::{self, CLASS_MAX};
use super::turns::{falls_on, spread};
use super::{Fleet, Tally};

/// Up to so many candidates are compared one with another.
pub(super) const SCAN_MAX: usize = 16;

/// A candidate's numbers, read once.
#[derive(Clone, Copy, Default)]
struct Seat {
    at: usize,
    in_flight: u64,
    latency_us: u64,
    /// The weight; the effective one after [`weigh`].
    weight: u64,
}

impl Seat {
    fn read(fleet: &impl Fleet, at: usize) -> Seat {
        Seat {
            at,
            in_flight: u64::from(fleet.in_flight(at)),
            latency_us: fleet.latency_us(at),
            weight: u64::from(fleet.weight(at)),
        }
    }

    /// The load with one more, as a fraction.
    fn cost(&self) -> (u64, u64) {
        (self.in_flight + 1, self.weight)
    }

    /// Whether the load is below `level`.
    fn is_below(&self, level: (u64, u64)) -> bool {
        is_less((self.in_flight, self.weight), level)
    }
}

/// Whether the fraction `a` is less than `b`, exactly. At most 2^33 times 2^36: the product needs the wider type.
fn is_less(a: (u64, u64), b: (u64, u64)) -> bool {
    u128::from(a.0) * u128::from(b.1) < u128::from(b.0) * u128::from(a.1)
}

/// The candidate that takes the request.
#[inline]
pub(super) fn choose(
    fleet: &impl Fleet,
    candidates: impl Iterator<Item = usize>,
    tally: &Tally,
    turn: u64,
    entropy: &mut Entropy,
) -> Option<usize> {
    if tally.open > SCAN_MAX as u64 {
        return of_two(fleet, candidates, tally, entropy);
    }
    let mut seats = [Seat::default(); SCAN_MAX];
    let mut n = 0;
    // A weight of 0 came since the first look; nothing is divided by it.
    for seat in candidates.map(|i| Seat::read(fleet, i)).filter(|s| s.weight > 0).take(SCAN_MAX) {
        seats[n] = seat;
        n += 1;
    }
    of_all(&mut seats[..n], turn)
}

/// Turns weights into effective weights.
fn weigh(seats: &mut [Seat]) {
    let fastest = seats.iter().map(|s| s.latency_us).filter(|us| *us > 0).min().unwrap_or(0);
    for seat in seats {
        seat.weight <<= CLASS_MAX - latency::class(seat.latency_us, fastest);
    }
}

/// The choice among a few.
fn of_all(seats: &mut [Seat], turn: u64) -> Option<usize> {
    weigh(seats);
    let level = seats.iter().map(Seat::cost).reduce(|least, cost| if is_less(cost, least) { cost } else { least })?;
    let below = || seats.iter().filter(|s| s.is_below(level));
    let (mut count, mut total, mut lightest, mut heaviest) = (0u64, 0u64, u64::MAX, 0u64);
    for seat in below() {
        (count, total) = (count + 1, total + seat.weight);
        (lightest, heaviest) = (lightest.min(seat.weight), heaviest.max(seat.weight));
    }
    if lightest == heaviest {
        return below().nth((turn % count) as usize).map(|s| s.at);
    }
    let mut left = spread(turn, total);
    below().find(|s| falls_on(&mut left, s.weight)).map(|s| s.at)
}

/// The choice among many: the better of two that are drawn.
fn of_two(
    fleet: &impl Fleet,
    candidates: impl Iterator<Item = usize>,
    tally: &Tally,
    entropy: &mut Entropy,
) -> Option<usize> {
    let mut left = [entropy.below(tally.weight), entropy.below(tally.weight)];
    let mut drawn = [None; 2];
    for i in candidates {
        let weight = u64::from(fleet.weight(i));
        for (left, drawn) in left.iter_mut().zip(&mut drawn) {
            if drawn.is_none() && falls_on(left, weight) {
                *drawn = Some(i);
            }
        }
        if drawn[0].is_some() && drawn[1].is_some() {
            break;
        }
    }
    let (a, b) = (drawn[0]?, drawn[1]?);
    let mut seats = [Seat::read(fleet, a), Seat::read(fleet, b)];
    let weight = seats[0].weight.max(1);
    weigh(&mut seats);
    let [mut first, mut second] = seats;
    // The first drawn is kept unless the other has less to do. Were it always so, a slow and idle endpoint would get
    // its whole share: it gives way as often as its effective weight is short of its weight.
    if entropy.below(weight << CLASS_MAX) >= first.weight {
        (first, second) = (second, first);
    }
    Some(if first.is_below(second.cost()) { first.at } else { second.at })
}
