//! A minimum rate: when a body that trickles is cut. A sender has `grace`, plus the time that its bytes take at the
//! minimum rate; who keeps up with the rate is never cut, however long the body (the rule of Apache's mod_reqtimeout).
//! A clock that runs only while the sender is waited for keeps our own backpressure out of `elapsed`: that is the
//! caller's part.

use std::time::Duration;

/// Whether `bytes` (in bytes) within `elapsed` are too few: `elapsed` is longer than `grace` and the time that the bytes
/// take at `min_rate` (bytes a second; 0: no minimum).
#[inline]
pub fn too_slow(bytes: u64, elapsed: Duration, grace: Duration, min_rate: u64) -> bool {
    if min_rate == 0 || elapsed <= grace {
        return false;
    }
    // bytes < rate * seconds, with both sides in nano-bytes: exact, and no product reaches 2^128.
    u128::from(bytes) * 1_000_000_000 < u128::from(min_rate) * (elapsed - grace).as_nanos().min(u128::from(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn the_grace_comes_first_and_then_the_rate() {
        for (bytes, elapsed, slow) in [
            (0, S(10), false),
            (0, Duration::from_millis(10_001), true),
            (100, S(11), false),
            (99, S(11), true),
            (100, S(12), true),
            (1_000_000, S(10_010), false),
            (999_999, S(10_010), true),
        ] {
            assert_eq!(too_slow(bytes, elapsed, S(10), 100), slow, "{bytes} bytes in {elapsed:?}");
        }
    }

    #[test]
    fn no_minimum_cuts_nothing_and_extremes_do_not_overflow() {
        assert!(!too_slow(0, Duration::MAX, Duration::ZERO, 0));
        assert!(too_slow(0, Duration::MAX, Duration::ZERO, u64::MAX));
        assert!(!too_slow(u64::MAX, Duration::from_nanos(1), Duration::ZERO, u64::MAX));
    }
}
