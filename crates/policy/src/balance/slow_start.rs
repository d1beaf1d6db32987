//! An endpoint that comes back gets its share little by little: caches are cold, pools are empty, and code is not yet
//! compiled. Its share grows in a line from a tenth to the whole. A tenth and not nothing, because an endpoint without
//! requests warms up for nobody.
//!
//! It is a factor on the weight: when all of a fleet start together, none is held back.

use std::time::Duration;

/// The whole share, in permille.
pub const WHOLE: u32 = 1_000;

/// The share at the beginning, in permille.
const BEGIN: u32 = 100;

/// The share in permille of an endpoint that came back `since` ago, with `window` to warm up in.
pub fn slow_start(since: Duration, window: Duration) -> u32 {
    if since >= window {
        return WHOLE;
    }
    let done = since.as_nanos() * u128::from(WHOLE - BEGIN) / window.as_nanos();
    BEGIN + u32::try_from(done).unwrap_or(WHOLE - BEGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_from_a_tenth_to_the_whole() {
        let shares = [0, 1, 5, 9, 10, 11].map(|s| slow_start(Duration::from_secs(s), Duration::from_secs(10)));
        assert_eq!(shares, [100, 190, 550, 910, 1_000, 1_000]);
    }

    #[test]
    fn without_a_window_it_is_whole_at_once() {
        assert_eq!(slow_start(Duration::ZERO, Duration::ZERO), WHOLE);
        assert_eq!(slow_start(Duration::MAX, Duration::MAX), WHOLE);
        assert_eq!(slow_start(Duration::MAX - Duration::from_secs(1), Duration::MAX), WHOLE - 1);
    }
}
