//! Where a request waits before it is sent, or sent again: at its service's gate, for a pause, parked until somebody can
//! be reached. Whoever waits is there only as long as its client is.

use std::sync::atomic::Ordering;
use std::task::Poll;

use kernel::trace::Kept;
use kernel::{Entropy, ErrorCode, Event, Moment};

use crate::conn;
use crate::park;
use crate::request::{Failure, Serving};
use crate::sending::{Begun, Course, Next};
use crate::story::Mark;
use crate::tries::{Fault, Over};

impl<'a> Serving<'a> {
    /// Waits at the gate, then tries again to begin.
    pub(crate) async fn stand_at_the_gate(&mut self, course: &mut Course<'a>, next: Next) -> Result<Begun, Failure> {
        let core = self.core;
        let now = core.clock().now();
        let state = course.state;
        let rule = &course.service.gate;
        let wait = policy::gate::wait(rule, course.until.since(now)).unwrap_or_default();
        let until = *course.gate_until.get_or_insert(now + wait);
        let cells = state.tries.shard(core.index);
        let Some(mut waiter) = state.gate.enter(now, until, course.ticket) else {
            cells.shed.inc();
            self.keep(Kept::Shed);
            self.mark(now, Mark::TurnedAway);
            return Err(self.not_sent(course, ErrorCode::ServiceOverloaded, "its queue is full"));
        };
        if course.ticket.replace(waiter.ticket()).is_none() {
            cells.queued.inc();
        }
        self.keep(Kept::Queued);
        self.mark(now, Mark::Queued);
        // The place in line is announced: what gets free from here on wakes it. What was free already is looked for, but
        // only by the first in line.
        if state.gate.waiting() == 1
            && let Begun::Yes = self.begin(course, next)
        {
            return Ok(Begun::Yes);
        }
        let turn = self.meanwhile(until, waiter.turn()).await;
        drop(waiter);
        match turn {
            Ok(place) => {
                self.mark(core.clock().now(), Mark::LetIn);
                let begun = place.is_some_and(|place| self.begin_at(course, next, place));
                Ok(if begun { Begun::Yes } else { self.begin(course, next) })
            }
            Err(Over::Timeout) => {
                cells.shed.inc();
                self.keep(Kept::Shed);
                self.mark(core.clock().now(), Mark::TurnedAway);
                Err(self.not_sent(course, ErrorCode::ServiceOverloaded, "no endpoint got free in time"))
            }
            Err(over) => Err(self.over(course, over)),
        }
    }

    /// Waits for `future` as long as the client is there and it is not `until` yet.
    pub(crate) async fn meanwhile<F: Future>(&mut self, until: Moment, future: F) -> Result<F::Output, Over> {
        let conn::Client { io, deadline, .. } = &mut *self.client;
        let buf = &mut *self.buf;
        deadline.set(until);
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if conn::poll_gone(cx, io, buf) {
                return Poll::Ready(Err(Over::ClientGone));
            }
            deadline.poll(cx).map(|()| Err(Over::Timeout))
        })
        .await
    }

    /// Waits until then, as long as the client is there.
    pub(crate) async fn pause(&mut self, until: Moment) -> Result<(), Over> {
        match self.meanwhile(until, std::future::pending::<()>()).await {
            Err(Over::ClientGone) => Err(Over::ClientGone),
            _ => Ok(()),
        }
    }

    /// Nobody can be reached, and the request may be sent to whoever can be first: waits for that, then goes through the
    /// gate as if it had just come.
    pub(crate) async fn park(&mut self, course: &mut Course<'a>, fault: Fault) -> Result<(), Failure> {
        let core = self.core;
        let now = core.clock().now();
        let rule = &course.service.park;
        let state = course.state;
        let bytes = (self.scratch.out.len() + self.buf.len()) as u64;
        let wait = policy::park::wait(rule, course.until.since(now));
        let parked = wait.and_then(|_| state.park.enter(rule, course.until, bytes));
        let (Some(wait), Some((mut parked, first))) = (wait, parked) else {
            return Err(self.fault(fault, course.upload.is_done()));
        };
        if course.parked_until.is_none() {
            state.tries.shard(core.index).parked.inc();
        }
        self.keep(Kept::Parked);
        self.mark(now, Mark::Parked);
        let until = *course.parked_until.get_or_insert(now + wait);
        if first {
            state.journal.tell(Event::ParkingBegan { service: state.name.clone() });
            let entropy = Entropy::from_seed(core.entropy.borrow_mut().next_u64());
            core.commons.control.spawn(park::probe(state.clone(), core.clock().clone(), entropy));
        }
        let released = self.meanwhile(until.min(course.until), parked.released()).await;
        drop(parked);
        match released {
            Ok(()) => self.mark(core.clock().now(), Mark::Released),
            Err(Over::Timeout) => return Err(self.fault(fault, course.upload.is_done())),
            Err(over) => return Err(self.over(course, over)),
        }
        if course.endpoints.iter().all(|e| e.retired.load(Ordering::Relaxed)) {
            let why = "its endpoints have left the configuration meanwhile";
            return Err(self.not_sent(course, ErrorCode::UpstreamUnreachable, why));
        }
        (course.tried, course.unreached) = (0, 0);
        self.first(course).await
    }
}
