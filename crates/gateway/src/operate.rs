//! What an operator may tell the data plane: to take an endpoint out or back in, and to use another tier.

use std::sync::Arc;

use policy::outlier::Forced;

use crate::gateway::Gateway;
use crate::service::ServiceState;
use crate::state::EndpointState;

/// A name that the plan in force does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// No such service.
    #[error("there is no service {name:?}; there are {known}")]
    Service {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No such endpoint.
    #[error("the service {service:?} has no endpoint {name:?}; it has {known}")]
    Endpoint {
        /// Its service.
        service: String,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No such tier.
    #[error("the service {service:?} has no tier {tier}; it has {known}")]
    Tier {
        /// The service.
        service: String,
        /// What was asked for.
        tier: u8,
        /// What there is.
        known: String,
    },
}

impl Gateway {
    /// Takes an endpoint out ([`Forced`]) or, with `None`, leaves it to the judge again. Requests that it has end as
    /// usual.
    ///
    /// # Errors
    /// When there is no such service or endpoint.
    pub fn force_endpoint(&self, service: &str, endpoint: &str, forced: Option<Forced>) -> Result<(), UnknownName> {
        let (state, endpoints) = self.named(service)?;
        let Some(found) = endpoints.iter().find(|e| e.plan.name == endpoint) else {
            let known = list(endpoints.iter().map(|e| e.plan.name.as_str()));
            return Err(UnknownName::Endpoint { service: service.to_owned(), name: endpoint.to_owned(), known });
        };
        state.force(found, forced, self.commons.clock.now());
        Ok(())
    }

    /// Pins a service to a tier or, with `None`, leaves the choice to the failover rule again.
    ///
    /// # Errors
    /// When there is no such service or tier.
    pub fn force_tier(&self, service: &str, tier: Option<u8>) -> Result<(), UnknownName> {
        let (state, endpoints) = self.named(service)?;
        if let Some(tier) = tier
            && !endpoints.iter().any(|e| e.plan.tier == tier)
        {
            let mut tiers: Vec<String> = endpoints.iter().map(|e| e.plan.tier.to_string()).collect();
            tiers.sort();
            tiers.dedup();
            let known = list(tiers.iter().map(String::as_str));
            return Err(UnknownName::Tier { service: service.to_owned(), tier, known });
        }
        state.force_tier(tier, self.commons.clock.now());
        Ok(())
    }

    fn named(&self, service: &str) -> Result<(Arc<ServiceState>, Vec<Arc<EndpointState>>), UnknownName> {
        let snapshot = self.commons.snapshot.load();
        match snapshot.services.iter().position(|s| s.name == service) {
            Some(at) => Ok((snapshot.services[at].clone(), snapshot.endpoints[at].clone())),
            None => {
                let known = list(snapshot.services.iter().map(|s| s.name.as_str()));
                Err(UnknownName::Service { name: service.to_owned(), known })
            }
        }
    }
}

/// Names for a message; none is said too.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
