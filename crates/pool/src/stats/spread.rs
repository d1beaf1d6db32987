//! How long the calls of one statement took: counts by buckets that are a half of a power of two wide, from 16 us to 67 s,
//! which tells a read from memory (50 us) from one from disk (1 ms) where the buckets of the metrics do not. One writer.
//! A quantile is off by at most a quarter.

use kernel::metrics::Cell64;

/// Values below `1 << LOW` share the first bucket.
const LOW: u32 = 4;
/// Values from `1 << HIGH` share the last.
const HIGH: u32 = 26;
/// Two for each power of two, and the two ends.
const BUCKETS: usize = ((HIGH - LOW) * 2 + 2) as usize;

/// A histogram with one writer.
#[derive(Debug)]
pub struct Spread {
    buckets: [Cell64; BUCKETS],
    sum_us: Cell64,
}

/// The sum of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpreadSum {
    buckets: [u64; BUCKETS],
    /// All of it, in microseconds.
    pub sum_us: u64,
}

impl Default for Spread {
    fn default() -> Spread {
        Spread { buckets: std::array::from_fn(|_| Cell64::default()), sum_us: Cell64::default() }
    }
}

impl Default for SpreadSum {
    fn default() -> SpreadSum {
        SpreadSum { buckets: [0; BUCKETS], sum_us: 0 }
    }
}

/// The bucket of a value.
#[inline]
fn bucket(us: u64) -> usize {
    match us.checked_ilog2() {
        None => 0,
        Some(log) if log < LOW => 0,
        Some(log) if log >= HIGH => BUCKETS - 1,
        Some(log) => 1 + ((log - LOW) * 2) as usize + usize::from(us >> (log - 1) & 1 == 1),
    }
}

/// The first value of a bucket, and the first beyond it.
fn range(bucket: usize) -> (u64, u64) {
    let first = |at: usize| match at {
        0 => 0,
        at => {
            let log = LOW + (at as u32 - 1) / 2;
            (1u64 << log) + if at % 2 == 0 { 1u64 << (log - 1) } else { 0 }
        }
    };
    (first(bucket), if bucket == BUCKETS - 1 { first(bucket) } else { first(bucket + 1) })
}

impl Spread {
    /// Counts one observation. Only the owner may call it.
    #[inline]
    pub fn observe(&self, us: u64) {
        self.buckets[bucket(us)].inc();
        self.sum_us.add(us);
    }

    /// Adds this to `sum`.
    pub fn add_to(&self, sum: &mut SpreadSum) {
        for (total, cell) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += cell.get();
        }
        sum.sum_us += self.sum_us.get();
    }

    /// Adds what another counted. Only the owner may call it.
    pub(super) fn take_in(&self, other: &Spread) {
        for (mine, more) in self.buckets.iter().zip(&other.buckets) {
            mine.add(more.get());
        }
        self.sum_us.add(other.sum_us.get());
    }
}

impl SpreadSum {
    /// The `q` quantile (0 to 1) in microseconds; `None` without observations.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let count: u64 = self.buckets.iter().sum();
        if count == 0 {
            return None;
        }
        let rank = (q * count as f64).max(1.0);
        let mut before = 0u64;
        for (at, n) in self.buckets.iter().enumerate() {
            if (before + n) as f64 >= rank {
                let (low, high) = range(at);
                return Some(low + ((high - low) as f64 * (rank - before as f64) / *n as f64) as u64);
            }
            before += n;
        }
        Some(range(BUCKETS - 1).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_range_of_its_bucket_and_buckets_leave_no_gap() {
        for at in 0..BUCKETS - 1 {
            assert_eq!(range(at).1, range(at + 1).0);
        }
        for us in (0..200_000).chain([1 << 25, (1 << 26) - 1]) {
            let (low, high) = range(bucket(us));
            assert!(low <= us && us < high, "{us} is not in {low}..{high}");
        }
        assert_eq!((bucket(1 << 26), bucket(u64::MAX), bucket(0)), (BUCKETS - 1, BUCKETS - 1, 0));
    }

    #[test]
    fn quantiles_are_near_the_truth() {
        let spread = Spread::default();
        (1..=10_000u64).for_each(|us| spread.observe(us));
        let mut sum = SpreadSum::default();
        assert_eq!(sum.quantile_us(0.5), None);
        spread.add_to(&mut sum);
        for (q, exact) in [(0.1, 1_000.0), (0.5, 5_000.0), (0.9, 9_000.0)] {
            let found = sum.quantile_us(q).unwrap() as f64;
            assert!((found - exact).abs() < exact / 4.0, "{q}: {found}");
        }
        assert_eq!(sum.sum_us, 50_005_000);
        let far = Spread::default();
        far.observe(u64::MAX / 2);
        let mut sum = SpreadSum::default();
        far.add_to(&mut sum);
        assert_eq!(sum.quantile_us(0.99), Some(1 << 26));
    }
}
