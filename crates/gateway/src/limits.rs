//! Looks once a second at what the edge's limits turned away and at what the access log dropped, and tells the journal.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::{ErrorCode, Event, Moment};

use crate::core::Commons;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// Limits of the edge: what a request or connection meets, and the key that sets it.
const LIMITS: [(ErrorCode, &str); 3] = [
    (ErrorCode::ConnectionLimit, "gateway.max_connections"),
    (ErrorCode::ClientConnections, "gateway.max_connections_per_client"),
    (ErrorCode::UpstreamSaturated, "max_connections of a service"),
];

/// What was told last.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    next: Moment,
    seen: [u64; LIMITS.len()],
    dropped: u64,
}

impl Limits {
    /// Looks, if it is time.
    pub(crate) fn look(&mut self, commons: &Commons, now: Moment) {
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        for ((code, limit), seen) in LIMITS.iter().zip(&mut self.seen) {
            let all = commons.edge.sum(|cells| cells.errors[code.index()].get());
            let turned_away = all - std::mem::replace(seen, all);
            if turned_away > 0 {
                let (service, limit) = (String::new(), (*limit).to_owned());
                commons.journal.tell(Event::LimitReached { service, limit, turned_away });
            }
        }
        let all = commons.access.dropped.load(Ordering::Relaxed);
        let lines = all - std::mem::replace(&mut self.dropped, all);
        if lines > 0 {
            commons.journal.tell(Event::AccessLogDropping { lines });
        }
    }
}
