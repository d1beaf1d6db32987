//! Waiting with a deadline: for a state that can only be asked for ([`eventually`], the one place that sleeps for
//! state), for another thread ([`Gate`]), and the [`Deadline`] that every read and write of the kit draws from.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::{Clock, Moment};

/// The first pause of a poll: short enough that a fast state costs nothing noticeable.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause of a poll: a test is late by this much at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A point in time until which something may take. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Deadline {
    clock: Clock,
    at: Moment,
}

/// A door between threads: closed at first, open for good once [`Gate::open`] was called. Clones share the door.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

/// Asks `probe` until it gives something, pausing shortly in between, and fails the test after `within`.
///
/// # Panics
/// When `within` has passed; the message says `what` was awaited.
#[track_caller]
pub fn eventually<T>(within: Duration, what: &str, probe: impl FnMut() -> Option<T>) -> T {
    match poll_until(within, probe) {
        Some(value) => value,
        None => panic!("waited {within:?} in vain for: {what}"),
    }
}

/// Like [`eventually`], but gives `None` when `within` has passed. `probe` is asked at least once.
pub fn poll_until<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Deadline::after(within);
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        let left = deadline.left();
        if left.is_zero() {
            return None;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Lets `span` pass between two pieces that a peer sends or reads: the slowness that a test is about, not a way to wait
/// for a state.
pub fn pace(span: Duration) {
    std::thread::sleep(span);
}

impl Deadline {
    /// The deadline `within` from now.
    pub fn after(within: Duration) -> Deadline {
        let clock = Clock::real();
        let at = clock.now() + within;
        Deadline { clock, at }
    }

    /// A deadline that never passes.
    pub fn never() -> Deadline {
        Deadline { clock: Clock::real(), at: Moment::MAX }
    }

    /// What is left; zero once it has passed.
    pub fn left(&self) -> Duration {
        self.at.since(self.clock.now())
    }

    /// Whether it never passes.
    pub fn is_never(&self) -> bool {
        self.at == Moment::MAX
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// Opens it for good and wakes everyone who waits.
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        *lock(&self.0.0)
    }

    /// Waits until it is open; `false` if it is still closed after `within`.
    #[must_use]
    pub fn wait(&self, within: Duration) -> bool {
        let closed = lock(&self.0.0);
        let (open, _) =
            self.0.1.wait_timeout_while(closed, within, |open| !*open).unwrap_or_else(PoisonError::into_inner);
        *open
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({})", if self.is_open() { "open" } else { "closed" })
    }
}

/// Locks, also when another thread panicked while it held the lock: in a test that panic is reported anyway, and what
/// the kit keeps under locks stays consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_asks_until_there_is_an_answer_and_gives_up_in_time() {
        let mut asked = 0;
        let third = eventually(Duration::from_secs(5), "the third question", || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(third, 3);
        assert_eq!(poll_until(Duration::ZERO, || None::<()>), None);
    }

    #[test]
    #[should_panic(expected = "in vain for: a miracle")]
    fn what_never_comes_fails_the_test_by_name() {
        eventually(Duration::from_millis(5), "a miracle", || None::<()>);
    }

    #[test]
    fn a_gate_opens_for_every_clone() {
        let gate = Gate::new();
        assert!(!gate.wait(Duration::ZERO));
        let twin = gate.clone();
        let waiter = std::thread::spawn(move || twin.wait(Duration::from_secs(10)));
        gate.open();
        assert!(waiter.join().unwrap());
    }
}
