//! The capacity of an upstream in virtual time: workers with a fixed service time behind a queue, first come first served.
//! A request's finish is computed when it arrives, so the capacity is exact and does not drift with timers. A request that
//! is admitted is served even when its client has left, as a server with a pool of threads does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use kernel::Moment;

use super::fault::Capacity;

/// When each worker is free, and when those in the queue begin.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    free_at: BinaryHeap<Reverse<Moment>>,
    starts: VecDeque<Moment>,
    longest: usize,
}

impl Workers {
    /// When the request will be done; `None` when the queue is full.
    pub(crate) fn admit(&mut self, capacity: &Capacity, now: Moment) -> Option<Moment> {
        while self.free_at.len() < capacity.workers {
            self.free_at.push(Reverse(now));
        }
        while self.starts.front().is_some_and(|start| *start <= now) {
            self.starts.pop_front();
        }
        let Reverse(free) = *self.free_at.peek()?;
        if free > now && self.starts.len() >= capacity.queue {
            return None;
        }
        self.free_at.pop();
        let start = free.max(now);
        let end = start + Duration::from_secs_f64(capacity.service_ms / 1e3);
        self.free_at.push(Reverse(end));
        if start > now {
            self.starts.push_back(start);
            self.longest = self.longest.max(self.starts.len());
        }
        Some(end)
    }

    /// The longest that the queue has been.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_served_in_order_and_refuses_what_does_not_fit() {
        let capacity = Capacity { workers: 2, service_ms: 20.0, queue: 3 };
        let mut workers = Workers::default();
        let ends: Vec<Option<u64>> =
            (0..6).map(|_| workers.admit(&capacity, Moment::ZERO).map(Moment::as_millis)).collect();
        assert_eq!(ends, [Some(20), Some(20), Some(40), Some(40), Some(60), None]);
        assert_eq!(workers.longest(), 3);
        // At 20 ms both workers take the next two, and only one is left in the queue.
        let ends: Vec<Option<u64>> =
            (0..3).map(|_| workers.admit(&capacity, Moment::from_millis(20)).map(Moment::as_millis)).collect();
        assert_eq!(ends, [Some(60), Some(80), None]);
    }

    #[test]
    fn the_capacity_is_exact_over_a_long_overload() {
        let capacity = Capacity { workers: 2, service_ms: 20.0, queue: 100_000 };
        let mut workers = Workers::default();
        let mut last = Moment::ZERO;
        for request in 0..2000 {
            last = workers.admit(&capacity, Moment::from_millis(request * 5)).unwrap();
        }
        // 100 a second, whatever is asked for; the second worker begins 5 ms in.
        assert_eq!(last.as_millis(), 20_005);
    }
}
