//! A bounded sample of latencies: exact quantiles of the first [`CAPACITY`] observations, and of an evenly chosen
//! sample of that size afterwards (reservoir sampling, Vitter's algorithm R, 1985).

use std::time::Duration;

use kernel::Entropy;

/// How many observations are kept, at 4 bytes each: 20 minutes of the default traffic are exact.
pub const CAPACITY: usize = 65_536;

/// Observations, of which a bounded number is kept.
#[derive(Debug, Clone)]
pub struct Sample {
    micros: Vec<u32>,
    seen: u64,
    entropy: Entropy,
}

impl Sample {
    /// Without observations; `entropy` chooses what is kept once there are too many.
    pub fn new(entropy: Entropy) -> Sample {
        Sample { micros: Vec::new(), seen: 0, entropy }
    }

    /// Takes in one observation; beyond 71 minutes it counts as 71 minutes.
    pub fn observe(&mut self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.seen += 1;
        if self.micros.len() < CAPACITY {
            self.micros.push(micros);
            return;
        }
        if let Some(kept) = self.micros.get_mut(self.entropy.below(self.seen) as usize) {
            *kept = micros;
        }
    }

    /// How many observations there were.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The smallest observation that at least a share `q` (0 to 1) of all do not exceed; `None` without any.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = (q * self.micros.len() as f64).ceil() as usize;
        let at = rank.clamp(1, self.micros.len().max(1)) - 1;
        let mut micros = self.micros.clone();
        (at < micros.len()).then(|| Duration::from_micros(u64::from(*micros.select_nth_unstable(at).1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl Iterator<Item = u64>) -> Sample {
        let mut sample = Sample::new(Entropy::from_seed(3));
        values.for_each(|us| sample.observe(Duration::from_micros(us)));
        sample
    }

    #[test]
    fn quantiles_of_a_small_sample_are_exact() {
        let sample = of((1..=100).rev());
        let at = |q| sample.quantile(q).map(|d| d.as_micros());
        assert_eq!((at(0.0), at(0.5), at(0.99), at(1.0)), (Some(1), Some(50), Some(99), Some(100)));
        assert_eq!(of(std::iter::empty()).quantile(0.5), None);
    }

    #[test]
    fn a_full_sample_stays_bounded_and_even() {
        let sample = of(0..1_000_000);
        assert_eq!((sample.micros.len(), sample.seen()), (CAPACITY, 1_000_000));
        // The median of 65,536 even draws has a sigma of about 1,950: five of them either way.
        let median = sample.quantile(0.5).unwrap().as_micros();
        assert!((490_000..510_000).contains(&median), "{median}");
    }
}
