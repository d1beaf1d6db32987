//! Percentiles of measured values by nearest rank: the smallest value that at least the given share does not exceed.

/// The percentile `share` (0 to 1) of values sorted upwards; 0 if there are none.
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn it_is_the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([0.0, 0.5, 0.99, 0.999, 1.0].map(|share| percentile(&hundred, share)), [1, 50, 99, 100, 100]);
        assert_eq!(percentile(&[7], 0.5), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
