//! Requests with the same key go to the same endpoint: rendezvous hashing (Thaler and Ravishankar 1998) with bounded
//! load (Mirrokni, Thorup and Zadimoghaddam 2016).
//!
//! Each endpoint has a score for each key, and the highest takes the request. An endpoint that goes away moves only its
//! own keys, evenly over all others; one that comes moves only the keys that it takes. No ring is kept. With unequal
//! weights the score is `weight / -ln(u)`, with `u` the hash as a fraction (Schindelhauer and Schomaker 2005): shares
//! are the weights, and an endpoint whose weight grows only gains keys. With equal weights the order is the same
//! without the logarithm.
//!
//! An endpoint with more than 5/4 of the mean load of the candidates, by weight, is passed over for the one with the
//! next score: a popular key burdens several endpoints rather than break one. Below [`ALWAYS`] requests in flight the
//! bound does not count, because the mean of a quiet service says nothing.
//!
//! The hash is neither keyed nor secret: gateways beside each other, and the same one after a restart, send a key to
//! the same endpoint. A client that forges keys can choose its endpoint, and is held by the bound.

use super::{Fleet, Tally};

/// Fewer requests in flight than this are never too many: what one browser asks at a time (six connections for each
/// host) stays together.
pub(super) const ALWAYS: u32 = 8;

/// The candidate that takes the requests of `key`.
#[inline]
pub(super) fn choose(
    fleet: &impl Fleet,
    candidates: impl Iterator<Item = usize> + Clone,
    tally: &Tally,
    key: u64,
) -> Option<usize> {
    let loads = candidates.clone().map(|i| u64::from(fleet.in_flight(i)));
    let with_this_one = loads.sum::<u64>() + 1;
    let has_room = |i| {
        let in_flight = fleet.in_flight(i);
        // in_flight < 5/4 x with_this_one x weight / total. Somebody has room: were none below, the sum would be more.
        let (mine, mean) = (u128::from(tally.weight) * 4, u128::from(with_this_one) * 5);
        in_flight < ALWAYS || u128::from(in_flight) * mine < mean * u128::from(fleet.weight(i))
    };
    if tally.is_even() {
        return candidates.filter(|i| has_room(*i)).max_by_key(|i| mix(key ^ fleet.identity(*i)));
    }
    let score = |i: usize| {
        // The middle of one of 2^53 steps: never 0, whose logarithm is none.
        let u = ((mix(key ^ fleet.identity(i)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        f64::from(fleet.weight(i)) / -u.ln()
    };
    let scored = candidates.filter(|i| has_room(*i)).map(|i| (i, score(i)));
    scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

/// A hash of `bytes`, the same everywhere and always. Not for secrets.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = mix(bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = mix(state.rotate_left(23) ^ u64::from_le_bytes(word));
    }
    state
}

/// Spreads each bit over all of them.
#[inline]
fn mix(x: u64) -> u64 {
    let x = (x ^ 0x2545_F491_4F6C_DD1D).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let x = (x ^ (x >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^ (x >> 32)
}
