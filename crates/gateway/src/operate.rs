//! What an operator may tell the data plane: to take an endpoint out or back in, and to use another tier. An endpoint that
//! is out gets no new request, whatever checks say and whether or not another is left; requests that it has end as usual.
//!
//! What is said here is forgotten with the process; a plan says it again ([`crate::plan::ForcedPlan`]).

use std::sync::Arc;

use policy::outlier::Forced;

use crate::gateway::Gateway;
use crate::service::ServiceState;
use crate::state::EndpointState;

/// A name that the plan in force does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// No such service.
    #[error("there is no service {service:?}")]
    Service {
        /// As it was given.
        service: String,
    },
    /// No such endpoint.
    #[error("the service {service:?} has no endpoint {endpoint:?}")]
    Endpoint {
        /// The service.
        service: String,
        /// As it was given.
        endpoint: String,
    },
    /// No such tier.
    #[error("the service {service:?} has no tier {tier}")]
    Tier {
        /// The service.
        service: String,
        /// As it was given.
        tier: u8,
    },
}

impl Gateway {
    /// Takes an endpoint out ([`Forced`]) or, with `None`, leaves it to the judge again. Requests that it has end as
    /// usual.
    ///
    /// # Errors
    /// When there is no such service or endpoint.
    pub fn force_endpoint(&self, service: &str, endpoint: &str, forced: Option<Forced>) -> Result<(), UnknownName> {
        // Who changes the plan meanwhile changes it with this decision in it.
        let mut planning = self.planning();
        let (state, endpoints) = self.named(service)?;
        let Some(found) = endpoints.iter().find(|e| e.plan.name == endpoint) else {
            return Err(UnknownName::Endpoint { service: service.to_owned(), endpoint: endpoint.to_owned() });
        };
        let all = &mut planning.discovered.forced().endpoints;
        all.retain(|(s, e, _)| (s.as_str(), e.as_str()) != (service, endpoint));
        all.extend(forced.map(|forced| (service.to_owned(), endpoint.to_owned(), forced)));
        state.force(found, forced, self.commons.clock.now());
        Ok(())
    }

    /// Pins a service to a tier or, with `None`, leaves the choice to the failover rule again.
    ///
    /// # Errors
    /// When there is no such service or tier.
    pub fn force_tier(&self, service: &str, tier: Option<u8>) -> Result<(), UnknownName> {
        let mut planning = self.planning();
        let (state, endpoints) = self.named(service)?;
        if let Some(tier) = tier
            && !endpoints.iter().any(|e| e.tier() == tier)
        {
            return Err(UnknownName::Tier { service: service.to_owned(), tier });
        }
        let all = &mut planning.discovered.forced().tiers;
        all.retain(|(s, _)| s != service);
        all.extend(tier.map(|tier| (service.to_owned(), tier)));
        state.force_tier(tier, self.commons.clock.now());
        Ok(())
    }

    fn named(&self, service: &str) -> Result<(Arc<ServiceState>, Vec<Arc<EndpointState>>), UnknownName> {
        let snapshot = self.commons.snapshot.load();
        match snapshot.services.iter().position(|s| s.name == service) {
            Some(at) => Ok((snapshot.services[at].clone(), snapshot.endpoints[at].clone())),
            None => Err(UnknownName::Service { service: service.to_owned() }),
        }
    }
}
