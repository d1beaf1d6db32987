//! A service's one gate: while every endpoint works on as many requests as it may, requests wait here, in one line with
//! a bound, for at most the time that the rule gives. `policy::gate` keeps the order; this is who sleeps and who wakes.
//!
//! Who leaves a good endpoint hands its place to the first in line, so that nobody takes it in between; at any other
//! endpoint, and when endpoints or limits change, who waits is woken to choose anew. Newcomers do not overtake: while
//! somebody waits they stand in line too. Lost wake-ups are excluded by order: a waiter first stands in line, then looks
//! for a place once more; who gives a place back does so first, then looks for waiters.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use kernel::Moment;
use policy::failover::Shares;
use policy::gate::{self, GateRule, Ticket, Turn};
use tokio::sync::oneshot;

use crate::service::Place;

/// The line of one service.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Requests that one endpoint works on at a time; 0: no limit.
    per_endpoint: AtomicU32,
    /// The tiers whose endpoints requests go to: the bits of [`Shares`].
    tiers: AtomicU64,
    waiting: AtomicU32,
    line: Mutex<gate::Gate<oneshot::Sender<Option<Place>>>>,
}

/// A place in the line; leaving it (by drop) is noticed.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    gate: &'a Gate,
    ticket: Ticket,
    turn: oneshot::Receiver<Option<Place>>,
    taken: bool,
    now: Moment,
}

impl Gate {
    pub(crate) fn new(rule: &GateRule) -> Gate {
        let per_endpoint = AtomicU32::new(rule.per_endpoint.unwrap_or(0));
        let tiers = AtomicU64::new(Shares::only(0).to_bits());
        Gate { per_endpoint, tiers, waiting: AtomicU32::new(0), line: Mutex::new(gate::Gate::new(rule.max_queue)) }
    }

    pub(crate) fn set_rule(&self, rule: &GateRule) {
        self.per_endpoint.store(rule.per_endpoint.unwrap_or(0), Ordering::Relaxed);
        self.lock().set_max_queue(rule.max_queue);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, gate::Gate<oneshot::Sender<Option<Place>>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that wait.
    #[inline]
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Stands in line until `until`, at the place of a ticket from before if there is one; `None` if the line is full.
    pub(crate) fn enter(&self, now: Moment, until: Moment, before: Option<Ticket>) -> Option<Waiter<'_>> {
        let (tx, turn) = oneshot::channel();
        let mut line = self.lock();
        let ticket = match before {
            Some(ticket) => line.enter_again(ticket, until, tx),
            None => line.enter(now, until, tx).ok()?,
        };
        self.publish(&line);
        Some(Waiter { gate: self, ticket, turn, taken: false, now })
    }

    /// Wakes the first in line, if there is one.
    pub(crate) fn let_in(&self, now: Moment) {
        let _nobody_waits = self.give(None, now);
    }

    /// Gives a place to the first in line; it comes back if nobody waits.
    pub(crate) fn hand_over(&self, place: Place, now: Moment) -> Option<Place> {
        self.give(Some(place), now)
    }

    fn give(&self, mut place: Option<Place>, now: Moment) -> Option<Place> {
        let mut line = self.lock();
        loop {
            match line.next(now) {
                // Who has left meanwhile needs no turn.
                Some(Turn::Go(waiter)) => match waiter.send(place) {
                    Ok(()) => {
                        place = None;
                        break;
                    }
                    Err(back) => place = back,
                },
                // Its own deadline tells it.
                Some(Turn::Late(_)) => {}
                None => break,
            }
        }
        self.publish(&line);
        place
    }

    /// Requests go to these tiers.
    pub(crate) fn set_tiers(&self, shares: Shares) {
        self.tiers.store(shares.to_bits(), Ordering::Relaxed);
    }

    /// Whether requests go to endpoints of this tier.
    pub(crate) fn takes_tier(&self, tier: u8) -> bool {
        Shares::from_bits(self.tiers.load(Ordering::Relaxed)).as_slice().iter().any(|(t, _)| *t == tier)
    }

    /// Whether an endpoint that works on so many requests is at or below its limit.
    pub(crate) fn is_within(&self, in_flight: u32) -> bool {
        let limit = self.per_endpoint.load(Ordering::Relaxed);
        limit == 0 || in_flight <= limit
    }

    /// Wakes as many as find room at endpoints that work on so many requests each: limits and endpoints change, and then
    /// nobody leaves who would wake them.
    pub(crate) fn fill(&self, in_flight: impl Iterator<Item = u32>, now: Moment) {
        let limit = self.per_endpoint.load(Ordering::Relaxed);
        let room = |n: u32| if limit == 0 { u32::MAX } else { limit.saturating_sub(n) };
        let all = in_flight.map(room).fold(0, u32::saturating_add);
        for _ in 0..all.min(self.waiting()) {
            self.let_in(now);
        }
    }

    fn publish(&self, line: &gate::Gate<oneshot::Sender<Option<Place>>>) {
        self.waiting.store(u32::try_from(line.len()).unwrap_or(u32::MAX), Ordering::SeqCst);
    }
}

impl Waiter<'_> {
    /// Its place in the order.
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Waits for its turn: a place, or the word that there may be one. Cancel safe: what comes too late goes to the next.
    pub(crate) async fn turn(&mut self) -> Option<Place> {
        // The sender is dropped only when the line has found this waiter overdue; its own deadline says the same.
        let turn = (&mut self.turn).await;
        self.taken = true;
        match turn {
            Ok(place) => place,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut line = self.gate.lock();
        let waited = line.leave(self.ticket).is_some();
        self.gate.publish(&line);
        drop(line);
        // What came and was not taken goes to the next: a place does so when it is dropped.
        if !waited && !self.taken && matches!(self.turn.try_recv(), Ok(None)) {
            self.gate.let_in(self.now);
        }
    }
}
