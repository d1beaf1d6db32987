//! The endpoints of a service as one request sees them: which it has met, how the others stand, and who has room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kernel::Moment;
use policy::balance::{Fleet, Standing};

use crate::sending::Course;
use crate::state::EndpointState;

/// The endpoints of a service as one request sees them.
pub(crate) struct Candidates<'c> {
    endpoints: &'c [Arc<EndpointState>],
    tried: u128,
    /// The only tier that is asked; `None`: all are.
    pub(crate) tier: Option<u8>,
    most: Option<u32>,
    now: Moment,
}

impl Fleet for Candidates<'_> {
    fn len(&self) -> usize {
        self.endpoints.len()
    }

    fn in_flight(&self, i: usize) -> u32 {
        self.endpoints[i].in_flight.load(Ordering::Relaxed)
    }

    fn weight(&self, i: usize) -> u32 {
        self.endpoints[i].weight_permille()
    }

    fn latency_us(&self, i: usize) -> u64 {
        self.endpoints[i].latency_us()
    }

    fn standing(&self, i: usize) -> Standing {
        let endpoint = &self.endpoints[i];
        if self.tier.is_some_and(|tier| tier != endpoint.tier()) {
            return Standing::Never;
        }
        endpoint.standing(self.now)
    }

    fn tried(&self, i: usize) -> bool {
        i < 128 && self.tried & (1 << i) != 0
    }

    fn identity(&self, i: usize) -> u64 {
        self.endpoints[i].identity
    }

    fn full(&self, i: usize) -> bool {
        self.most.is_some_and(|most| self.endpoints[i].in_flight.load(Ordering::SeqCst) >= most)
    }
}

impl<'a> Course<'a> {
    /// The service's endpoints as this request sees them; of one tier, or of all.
    pub(crate) fn candidates(&self, tier: Option<u8>, now: Moment) -> Candidates<'a> {
        let (endpoints, tried) = (self.endpoints, self.tried);
        Candidates { endpoints, tried, tier, most: self.service.gate.per_endpoint, now }
    }

    /// Endpoints that the request has not met and that it may be sent to. One that asked to be left alone is none.
    pub(crate) fn untried(&self, now: Moment) -> usize {
        // So many connections that did not come about are everybody's.
        if self.unreached >= self.endpoints.len() {
            return 0;
        }
        let fleet = self.candidates(self.state.forced_tier().is_some().then_some(self.tier), now);
        let dead = |i: usize| matches!(fleet.standing(i), Standing::Dead | Standing::Never);
        let all_dead = (0..fleet.len()).all(dead);
        let usable = |i: &usize| {
            !fleet.tried(*i)
                && !self.endpoints[*i].rests(now)
                && match fleet.standing(*i) {
                    Standing::Never => false,
                    // Checks can be wrong about all, hardly about some.
                    Standing::Dead => self.service.fail_open && all_dead,
                    _ => true,
                }
        };
        (0..fleet.len()).filter(usable).count()
    }

    /// Whether everybody whom the request has not met is in trouble.
    pub(crate) fn in_trouble(&self, now: Moment) -> bool {
        !self.endpoints.iter().any(|e| matches!(e.standing(now), Standing::Good | Standing::Trial))
    }
}
