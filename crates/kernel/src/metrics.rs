//! Metric handles: exact integer cells that a hot path can afford, and the seam through which they are read.
//!
//! A data-plane worker owns one shard of every family and is the only writer of it, so an increment is a plain load
//! and store; a scrape sums the shards. What many threads write is a [`Shared`] cell. A part exposes what it counts
//! by implementing [`Collect`]; how samples become text is the business of whoever implements [`Sink`].

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Upper bounds of latency buckets, in microseconds: 0.5 ms to 30 s, then infinity. Chosen so that a 1 ms cache hit,
/// a 300 ms page and a 30 s timeout fall in different buckets, and so that the count stays small enough for
/// (routes + services + endpoints) x buckets series.
pub const LATENCY_BOUNDS_US: [u64; 16] = [
    500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 125_000, 250_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// A counter with one writer: the increment is not atomic as a whole, only its parts are.
#[derive(Debug, Default)]
pub struct Cell64(AtomicU64);

/// A signed value that any thread may change.
#[derive(Debug, Default)]
pub struct Shared(AtomicI64);

/// A latency histogram with one writer, over [`LATENCY_BOUNDS_US`].
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [Cell64; LATENCY_BOUNDS_US.len() + 1],
    sum_us: Cell64,
}

/// The sum of the shards of a [`Latency`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencySum {
    /// Counts by bucket (not cumulative); the last one is beyond the largest bound.
    pub buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// Sum of the observations, in microseconds.
    pub sum_us: u64,
}

/// One `T` for each data-plane worker, on cache lines of its own.
#[derive(Clone, Debug)]
pub struct Sharded<T>(Arc<[Padded<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution of latencies, in seconds.
    Histogram,
    /// Constant 1 whose labels are the message; its name ends in `_info`.
    Info,
}

/// The head of a family of samples. Names follow `evenkeel_<part>_<noun>_<unit>[_total]`.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The full name, with its `_total` or `_info` suffix.
    pub name: &'static str,
    /// One sentence, without a full stop.
    pub help: &'static str,
    /// What it counts.
    pub kind: MetricKind,
}

/// Label names and values of one sample, in a fixed order.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// Where a scrape goes. `family` comes first, then all samples of that family.
pub trait Sink {
    /// Starts a family. A family may be started once in a scrape.
    fn family(&mut self, family: Family);
    /// A sample of a counter, gauge or info.
    fn sample(&mut self, labels: Labels<'_>, value: f64);
    /// A sample of a histogram.
    fn latency(&mut self, labels: Labels<'_>, sum: &LatencySum);
}

/// A part that has metrics to show. Called on the control plane at each scrape.
pub trait Collect: Send + Sync + Debug {
    /// Writes every family of the part, each once.
    fn collect(&self, sink: &mut dyn Sink);
}

impl Cell64 {
    /// Adds one. Only the owning worker may call it.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`. Only the owning worker may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The present value, from any thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Adds `n`, which may be negative; gives the value before.
    #[inline]
    pub fn add(&self, n: i64) -> i64 {
        self.0.fetch_add(n, Ordering::Relaxed)
    }

    /// Sets the value.
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The present value.
    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Latency {
    /// Counts one observation, in microseconds.
    #[inline]
    pub fn observe(&self, us: u64) {
        let at = LATENCY_BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(LATENCY_BOUNDS_US.len());
        self.buckets[at].inc();
        self.sum_us.add(us);
    }

    /// Adds this shard to `sum`.
    pub fn add_to(&self, sum: &mut LatencySum) {
        for (total, cell) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += cell.get();
        }
        sum.sum_us += self.sum_us.get();
    }
}

impl LatencySum {
    /// How many observations there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The `q` quantile (0 to 1) in microseconds, interpolated within its bucket; `None` without observations. What
    /// lies beyond the largest bound is given as that bound.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (q * count as f64).max(1.0);
        let (mut before, mut low) = (0u64, 0u64);
        for (n, high) in self.buckets.iter().zip(LATENCY_BOUNDS_US) {
            if (before + n) as f64 >= rank {
                return Some(low + ((high - low) as f64 * (rank - before as f64) / *n as f64) as u64);
            }
            before += n;
            low = high;
        }
        Some(low)
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &LatencySum) {
        for (a, b) in self.buckets.iter_mut().zip(other.buckets) {
            *a += b;
        }
        self.sum_us += other.sum_us;
    }
}

impl<T: Default> Sharded<T> {
    /// `shards` empty shards; at least one.
    pub fn new(shards: usize) -> Sharded<T> {
        Sharded((0..shards.max(1)).map(|_| Padded::default()).collect())
    }

    /// The shard of worker `at`.
    ///
    /// # Panics
    /// If there is no such shard.
    #[inline]
    pub fn shard(&self, at: usize) -> &T {
        &self.0[at].0
    }

    /// Every shard.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|p| &p.0)
    }

    /// The sum of `read` over the shards.
    pub fn sum(&self, read: impl Fn(&T) -> u64) -> u64 {
        self.iter().map(read).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_sum_up() {
        let cells: Sharded<Cell64> = Sharded::new(3);
        cells.shard(0).add(2);
        cells.shard(2).inc();
        assert_eq!(cells.sum(Cell64::get), 3);
    }

    #[test]
    fn an_observation_falls_in_the_bucket_whose_bound_it_does_not_exceed() {
        let shards: Sharded<Latency> = Sharded::new(2);
        for (at, us) in [(0, 500), (1, 501), (0, 31_000_000)] {
            shards.shard(at).observe(us);
        }
        let mut sum = LatencySum::default();
        shards.iter().for_each(|s| s.add_to(&mut sum));
        assert_eq!((sum.buckets[0], sum.buckets[1], sum.buckets[16], sum.count()), (1, 1, 1, 3));
        assert_eq!(sum.sum_us, 31_001_001);
    }

    #[test]
    fn quantiles_interpolate_and_are_bounded() {
        let latency = Latency::default();
        assert_eq!(LatencySum::default().quantile_us(0.5), None);
        (0..100).for_each(|_| latency.observe(900));
        let mut sum = LatencySum::default();
        latency.add_to(&mut sum);
        assert_eq!(sum.quantile_us(0.5), Some(750));
        assert_eq!(sum.quantile_us(1.0), Some(1000));
    }
}
