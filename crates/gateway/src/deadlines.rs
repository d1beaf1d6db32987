//! The deadlines of one worker's connections. Setting one is a store into a slot, so that a request which sets five
//! and misses none pays next to nothing; one task per worker looks at all slots when the earliest could be due and
//! wakes the connections whose time has come. A deadline fires up to 5 ms late, never early.
//!
//! The look over all slots is linear; it happens at most every 5 ms while something is due soon, else once a second.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kernel::{Clock, Moment};

/// Looks are at least this far apart.
const LOOK_MIN: Duration = Duration::from_millis(5);
/// And at most this far.
const LOOK_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Slot {
    at: Cell<Moment>,
    waker: RefCell<Option<Waker>>,
}

/// All deadlines of one worker.
#[derive(Debug)]
pub(crate) struct Deadlines {
    slots: RefCell<Vec<Rc<Slot>>>,
    /// When the next look is due; a deadline before that brings it forward.
    next_look: Cell<Moment>,
    looker: RefCell<Option<Waker>>,
    clock: Clock,
}

/// One connection's deadline; it is forgotten when dropped.
#[derive(Debug)]
pub(crate) struct Deadline {
    slot: Rc<Slot>,
    all: Rc<Deadlines>,
}

impl Deadlines {
    pub(crate) fn new(clock: Clock) -> Rc<Deadlines> {
        Rc::new(Deadlines {
            slots: RefCell::default(),
            next_look: Cell::new(Moment::ZERO),
            looker: RefCell::default(),
            clock,
        })
    }

    /// A deadline that is not set.
    pub(crate) fn add(self: &Rc<Self>) -> Deadline {
        let slot = Rc::new(Slot { at: Cell::new(Moment::MAX), waker: RefCell::default() });
        self.slots.borrow_mut().push(slot.clone());
        Deadline { slot, all: self.clone() }
    }

    /// Wakes every connection, due or not; each looks at what has changed.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<Waker> = self.slots.borrow().iter().filter_map(|s| s.waker.borrow().clone()).collect();
        wakers.iter().for_each(Waker::wake_by_ref);
    }

    /// Wakes what is due, drops what is gone, and says when to look again.
    fn look(&self, now: Moment) -> Moment {
        let mut due = Vec::new();
        let mut earliest = Moment::MAX;
        self.slots.borrow_mut().retain(|slot| {
            let at = slot.at.get();
            if at <= now {
                due.extend(slot.waker.borrow_mut().take());
            } else {
                earliest = earliest.min(at);
            }
            // The other owner is the Deadline; without it nobody waits.
            Rc::strong_count(slot) > 1
        });
        due.into_iter().for_each(Waker::wake);
        earliest.clamp(now + LOOK_MIN, now + LOOK_MAX)
    }

    /// Looks for ever; run as one task of the worker. `each_look` is called at every look (about every second or more often).
    pub(crate) async fn run(self: Rc<Self>, mut each_look: impl FnMut(Moment)) {
        loop {
            let now = self.clock.now();
            self.next_look.set(self.look(now));
            each_look(now);
            self.wait().await;
        }
    }

    /// Waits until the next look is due, even if it is brought forward meanwhile.
    async fn wait(&self) {
        let mut sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut set_for = Moment::MAX;
        poll_fn(|cx| {
            let at = self.next_look.get();
            let now = self.clock.now();
            if now >= at {
                return Poll::Ready(());
            }
            if set_for != at {
                set_for = at;
                sleep.set(tokio::time::sleep(at.since(now)));
            }
            *self.looker.borrow_mut() = Some(cx.waker().clone());
            sleep.as_mut().poll(cx)
        })
        .await;
    }
}

impl Deadline {
    /// Sets the deadline; [`Moment::MAX`] unsets it.
    #[inline]
    pub(crate) fn set(&self, at: Moment) {
        self.slot.at.set(at);
        if at < self.all.next_look.get() {
            self.bring_forward(at);
        }
    }

    #[cold]
    fn bring_forward(&self, at: Moment) {
        self.all.next_look.set(at);
        if let Some(waker) = self.all.looker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The deadline that is set.
    #[inline]
    pub(crate) fn at(&self) -> Moment {
        self.slot.at.get()
    }

    /// Ready once the deadline has passed. Else the task is woken when it does.
    #[inline]
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.slot.at.get();
        let mut waker = self.slot.waker.borrow_mut();
        match &*waker {
            // The waker is taken only when the deadline was due: while it is there, there is no need to ask the clock.
            Some(w) if w.will_wake(cx.waker()) => return Poll::Pending,
            _ => {}
        }
        if at <= self.all.clock.now() {
            return Poll::Ready(());
        }
        *waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.slot.at.set(Moment::MAX);
        self.slot.waker.borrow_mut().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn a_look_wakes_what_is_due_and_forgets_what_is_gone() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        let all = Deadlines::new(clock.clone());
        let (soon, late, gone) = (all.add(), all.add(), all.add());
        let mut cx = Context::from_waker(Waker::noop());
        soon.set(Moment::from_millis(50));
        late.set(Moment::from_millis(700));
        assert!(soon.poll(&mut cx).is_pending() && late.poll(&mut cx).is_pending());
        drop(gone);
        assert_eq!(all.look(clock.now()), Moment::from_millis(50));
        assert_eq!(all.slots.borrow().len(), 2);
        clock.advance(Duration::from_millis(50));
        assert_eq!(all.look(clock.now()), Moment::from_millis(700));
        assert!(soon.poll(&mut cx).is_ready());
        assert!(late.poll(&mut cx).is_pending());
    }

    #[test]
    fn an_earlier_deadline_brings_the_look_forward() {
        let all = Deadlines::new(Clock::manual(SystemTime::UNIX_EPOCH));
        all.next_look.set(Moment::from_millis(1000));
        let one = all.add();
        one.set(Moment::from_millis(2000));
        assert_eq!(all.next_look.get(), Moment::from_millis(1000));
        one.set(Moment::from_millis(20));
        assert_eq!(all.next_look.get(), Moment::from_millis(20));
    }

    #[test]
    fn moving_a_deadline_back_keeps_it_from_firing() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        let all = Deadlines::new(clock.clone());
        let one = all.add();
        let mut cx = Context::from_waker(Waker::noop());
        one.set(Moment::from_millis(10));
        assert!(one.poll(&mut cx).is_pending());
        one.set(Moment::from_millis(100));
        clock.advance(Duration::from_millis(50));
        let _next = all.look(clock.now());
        assert!(one.poll(&mut cx).is_pending());
    }
}
