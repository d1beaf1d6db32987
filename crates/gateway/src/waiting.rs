//! Where a request waits before it is sent, or sent again: at its service's gate, for a pause, parked until somebody can
//! be reached. Whoever waits is there only as long as its client is.

use std::task::Poll;

use kernel::{Entropy, ErrorCode, Moment};

use crate::conn;
use crate::park;
use crate::request::{Failure, Serving};
use crate::sending::{Begun, Course, Next};
use crate::tries::{Fault, Over};

impl<'a> Serving<'a> {
    /// Waits at the gate, then tries again to begin.
    pub(crate) async fn stand_at_the_gate(&mut self, course: &mut Course<'a>, next: Next) -> Result<Begun, Failure> {
        let core = self.core;
        let now = core.clock().now();
        let state = course.state;
        let rule = &course.service.gate;
        let until = course.until.min(*course.gate_until.get_or_insert(now + rule.max_wait));
        let full = |why: &str| Failure {
            code: ErrorCode::ServiceOverloaded,
            detail: why.to_owned(),
            next: crate::conn::Next::Keep,
        };
        let cells = state.tries.shard(core.index);
        let Some(mut waiter) = state.gate.enter(now, until) else {
            cells.shed.inc();
            return Err(full("its queue is full"));
        };
        cells.queued.inc();
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
            Ok(()) => Ok(self.begin(course, next)),
            Err(Over::Timeout) => {
                cells.shed.inc();
                Err(full("no endpoint got free in time"))
            }
            Err(over) => Err(self.fault_over(over, false)),
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

    /// Nobody could be reached and nothing was sent: waits until somebody can be.
    pub(crate) async fn park(&mut self, course: &mut Course<'a>, fault: Fault) -> Result<(), Failure> {
        let core = self.core;
        loop {
            let now = core.clock().now();
            let rule = &course.service.park;
            let bytes = (self.scratch.out.len() + self.buf.len()) as u64;
            let Some(wait) = policy::park::wait(rule, course.until.since(now)) else {
                return Err(self.fault(fault, course.upload.is_done()));
            };
            let state = course.state;
            let park_until = *course.parked_until.get_or_insert(now + wait);
            let Some((mut parked, first)) = state.park.enter(rule, course.until, bytes) else {
                return Err(self.fault(fault, course.upload.is_done()));
            };
            state.tries.shard(core.index).parked.inc();
            if first {
                let entropy = Entropy::from_seed(core.entropy.borrow_mut().next_u64());
                core.commons.control.spawn(park::probe(state.clone(), core.clock().clone(), entropy));
            }
            let released = self.meanwhile(park_until.min(course.until), parked.released()).await;
            drop(parked);
            match released {
                Ok(()) => {}
                Err(Over::Timeout) => return Err(self.fault(fault, course.upload.is_done())),
                Err(over) => return Err(self.over(course, over)),
            }
            (course.tried, course.unreached) = (0, 0);
            match self.first(course).await {
                Ok(()) => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
    }
}
