//! Randomised tests that can be repeated: the seed comes from the operating system or from `EVENKEEL_SEED`, and is
//! printed when the test fails. A test whose threshold is statistical leaves three sigma even so.

use kernel::Entropy;

/// The environment variable that repeats a run.
pub const SEED_VARIABLE: &str = "EVENKEEL_SEED";

/// Runs `test` with a fresh stream of randomness and prints, if it panics, the seed that repeats it.
///
/// # Panics
/// When `test` does, when `EVENKEEL_SEED` is not a number, or when the operating system has no randomness to give.
#[track_caller]
pub fn seeded<T>(test: impl FnOnce(Entropy) -> T) -> T {
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(text) => match text.trim().parse() {
            Ok(seed) => seed,
            Err(error) => panic!("{SEED_VARIABLE}={text:?} is not a whole number from 0 to 2^64-1: {error}"),
        },
        Err(_) => match Entropy::from_os() {
            Ok(mut entropy) => entropy.next_u64(),
            Err(error) => panic!("cannot draw a seed from the operating system: {error}; set {SEED_VARIABLE}"),
        },
    };
    let tell = TellOnPanic(seed);
    let result = test(Entropy::from_seed(seed));
    drop(tell);
    result
}

struct TellOnPanic(u64);

impl Drop for TellOnPanic {
    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it with the failure, which is the only use of a seed"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this run can be repeated with {SEED_VARIABLE}={}", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_the_test_is_passed_on() {
        assert_eq!(seeded(|mut entropy| entropy.below(1)), 0);
    }
}
