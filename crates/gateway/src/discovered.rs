//! Endpoints that were found while running, beside those that the plan names: they come in addition, by service, and a
//! reload does not lose them. How they are found is not known here.

use std::collections::{HashMap, HashSet};

use crate::plan::{EndpointPlan, ForcedPlan, Plan, ServicePlan};

/// The plan as it was given, and what was found for its services.
#[derive(Debug)]
pub(crate) struct Discovered {
    written: Plan,
    found: HashMap<String, Vec<EndpointPlan>>,
}

impl Discovered {
    /// Nothing was found yet.
    pub(crate) fn new(written: Plan) -> Discovered {
        Discovered { written, found: HashMap::new() }
    }

    /// Goes on with another plan. What was found for services that it does not have is forgotten.
    pub(crate) fn set_plan(&mut self, written: Plan) {
        self.found.retain(|name, _| written.services.iter().any(|s| s.name == *name));
        self.written = written;
    }

    /// These endpoints, and no others, were found for `service`. False if that changes nothing, as for a service that the
    /// plan does not have.
    pub(crate) fn set_found(&mut self, service: &str, endpoints: Vec<EndpointPlan>) -> bool {
        let known = self.written.services.iter().any(|s| s.name == service);
        let before = self.found.get(service).map_or(&[][..], Vec::as_slice);
        if !known || before == endpoints.as_slice() {
            return false;
        }
        self.found.insert(service.to_owned(), endpoints);
        true
    }

    /// Operators have decided something anew.
    pub(crate) fn forced(&mut self) -> &mut ForcedPlan {
        &mut self.written.forced
    }

    /// The plan with everything that was found.
    pub(crate) fn merged(&self) -> Plan {
        let mut plan = self.written.clone();
        for service in &mut plan.services {
            if let Some(found) = self.found.get(&service.name) {
                add(service, found);
            }
        }
        plan
    }
}

/// Adds what was found. A name stands for one endpoint, so the first one of a name counts, and one that is written before
/// any that was found.
fn add(service: &mut ServicePlan, found: &[EndpointPlan]) {
    let mut names: HashSet<String> = service.endpoints.iter().map(|e| e.name.clone()).collect();
    let new = found.iter().filter(|e| !e.addresses.is_empty() && names.insert(e.name.clone()));
    service.endpoints.extend(new.cloned());
}
