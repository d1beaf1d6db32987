//! Randomness as an argument: a seeded generator (xoshiro256++, Blackman and Vigna 2018) for ids, jitter and choices.
//! It is not for secrets: those come from the operating system where they are made. A test seeds it and prints the seed.

/// A seeded stream of random numbers. Not cryptographic.
#[derive(Clone, Debug)]
pub struct Entropy {
    state: [u64; 4],
}

impl Entropy {
    /// A stream fully determined by `seed`.
    pub fn from_seed(seed: u64) -> Entropy {
        // SplitMix64 spreads a small seed over the whole state, as the authors of xoshiro advise.
        let mut z = seed;
        let state = std::array::from_fn(|_| {
            z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut x = z;
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            x ^ (x >> 31)
        });
        Entropy { state }
    }

    /// A stream seeded by the operating system.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn from_os() -> Result<Entropy, getrandom::Error> {
        getrandom::u64().map(Entropy::from_seed)
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..bound` (0 if `bound` is 0). The bias is below `bound` / 2^64.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[0, 1)`.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream() {
        let (mut a, mut b) = (Entropy::from_seed(7), Entropy::from_seed(7));
        assert!((0..1000).all(|_| a.next_u64() == b.next_u64()));
        assert_ne!(Entropy::from_seed(7).next_u64(), Entropy::from_seed(8).next_u64());
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut e = Entropy::from_seed(1);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[e.below(10) as usize] += 1;
        }
        // 1,000 expected, sigma 30: five sigma either way.
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert_eq!(e.below(0), 0);
    }

    #[test]
    fn unit_is_in_range() {
        let mut e = Entropy::from_seed(2);
        assert!((0..10_000).map(|_| e.unit()).all(|u| (0.0..1.0).contains(&u)));
    }
}
