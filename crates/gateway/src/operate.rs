//! What operators say about endpoints and tiers, and how the data plane obeys: a forced endpoint is no candidate for a
//! new request, whatever checks say and whether or not another is left; requests that it has are finished. A forced tier
//! is the only one whose endpoints are candidates. Both take effect with the next choice of an endpoint.
//!
//! What is said here is forgotten with the process; a plan says it again ([`crate::plan::ForcedPlan`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use policy::outlier::Forced;

use crate::gateway::Gateway;
use crate::state::{EndpointState, ServiceState};

/// The value of a forced tier that stands for none.
pub(crate) const NO_TIER: u8 = u8::MAX;

/// A name that the plan in force does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// There is no such service.
    #[error("there is no service {service:?}")]
    Service {
        /// As it was given.
        service: String,
    },
    /// The service has no such endpoint.
    #[error("the service {service:?} has no endpoint {endpoint:?}")]
    Endpoint {
        /// The service.
        service: String,
        /// As it was given.
        endpoint: String,
    },
}

impl Gateway {
    /// Takes an endpoint out, or lets checks and requests judge it again (`None`).
    ///
    /// # Errors
    /// When the plan in force has no such service or endpoint.
    pub fn force_endpoint(&self, service: &str, endpoint: &str, forced: Option<Forced>) -> Result<(), UnknownName> {
        let snapshot = self.commons.snapshot.load();
        let known = snapshot.services.iter().zip(&snapshot.endpoints).find(|(s, _)| s.name == service);
        let Some((_, endpoints)) = known else { return Err(UnknownName::Service { service: service.to_owned() }) };
        let unknown = || UnknownName::Endpoint { service: service.to_owned(), endpoint: endpoint.to_owned() };
        let state = endpoints.iter().find(|e| e.plan.name == endpoint).ok_or_else(unknown)?;
        state.forced.store(code(forced), Ordering::Relaxed);
        Ok(())
    }

    /// Sends a service's requests to one tier alone, or lets the state of its tiers decide again (`None`).
    ///
    /// # Errors
    /// When the plan in force has no such service.
    pub fn force_tier(&self, service: &str, tier: Option<u8>) -> Result<(), UnknownName> {
        let snapshot = self.commons.snapshot.load();
        let known = snapshot.services.iter().find(|s| s.name == service);
        let state = known.ok_or_else(|| UnknownName::Service { service: service.to_owned() })?;
        state.forced_tier.store(tier.unwrap_or(NO_TIER), Ordering::Relaxed);
        Ok(())
    }
}

impl EndpointState {
    /// Whether operators let it take a request, when `tier` is the only one that may (or [`NO_TIER`]).
    #[inline]
    pub(crate) fn is_allowed(&self, tier: u8) -> bool {
        self.forced.load(Ordering::Relaxed) == code(None) && (tier == NO_TIER || tier == self.plan.tier)
    }
}

/// What an operator says, as the number that workers read.
pub(crate) const fn code(forced: Option<Forced>) -> u8 {
    match forced {
        None => 0,
        Some(Forced::Drained) => 1,
        Some(Forced::Down) => 2,
    }
}

/// What an operator says about an endpoint.
pub(crate) fn forced(endpoint: &EndpointState) -> Option<Forced> {
    [Forced::Drained, Forced::Down].into_iter().find(|f| code(Some(*f)) == endpoint.forced.load(Ordering::Relaxed))
}

/// The tier that an operator forced.
pub(crate) fn forced_tier(service: &ServiceState) -> Option<u8> {
    Some(service.forced_tier.load(Ordering::Relaxed)).filter(|tier| *tier != NO_TIER)
}

/// The forced tier, or the first that has an endpoint which can be used, or the first.
pub(crate) fn active_tier(service: &ServiceState, endpoints: &[Arc<EndpointState>]) -> u8 {
    let can_be_used = |e: &&Arc<EndpointState>| e.is_allowed(NO_TIER) && e.healthy.load(Ordering::Relaxed);
    let first = |e: &Arc<EndpointState>| e.plan.tier;
    let used = forced_tier(service).or_else(|| endpoints.iter().filter(can_be_used).map(first).min());
    used.or_else(|| endpoints.iter().map(first).min()).unwrap_or_default()
}
