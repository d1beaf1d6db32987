//! Exact counts, handed on: what was added to the workers' cells since the last time, for each route, service and
//! endpoint. What a plan no longer speaks of is counted for as long as a request can still add to it, so that a reload
//! loses nothing.

use std::sync::{Arc, Mutex, PoisonError};

use kernel::metrics::Sharded;
use kernel::tally::{Counts, Subject, TallySource};

use crate::gateway::Gateway;
use crate::service::ServiceState;
use crate::state::{EndpointState, RouteState, Traffic};

/// What of some counters has been handed on.
#[derive(Debug, Default)]
pub(crate) struct HandedOn(Mutex<Counts>);

/// What no plan speaks of any more.
#[derive(Debug)]
pub(crate) enum Leaving {
    Route(Arc<RouteState>),
    Service(Arc<ServiceState>),
    /// Of this service.
    Endpoint(String, Arc<EndpointState>),
}

fn counts(traffic: &Sharded<Traffic>) -> Counts {
    let mut counts = Counts::default();
    for shard in traffic.iter() {
        for (total, cell) in counts.by_class.iter_mut().zip(&shard.by_class) {
            *total += cell.get();
        }
        shard.latency.add_to(&mut counts.latency);
        counts.second_tries += shard.second_tries.get();
    }
    counts
}

impl HandedOn {
    /// What was added since the last time.
    fn take(&self, traffic: &Sharded<Traffic>) -> Counts {
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = counts(traffic);
        let gained = now.since(&before);
        *before = now;
        gained
    }
}

fn of_route(route: &RouteState) -> (Subject, Counts) {
    (Subject::Route { name: route.name.clone() }, route.handed_on.take(&route.traffic))
}

fn of_service(service: &ServiceState) -> (Subject, Counts) {
    (Subject::Service { name: service.name.clone() }, service.handed_on.take(&service.traffic))
}

fn of_endpoint(service: &str, endpoint: &EndpointState) -> (Subject, Counts) {
    let subject = Subject::Endpoint { service: service.to_owned(), name: endpoint.plan.name.clone() };
    (subject, endpoint.handed_on.take(&endpoint.traffic))
}

impl Leaving {
    fn take(&self) -> (Subject, Counts) {
        match self {
            Leaving::Route(route) => of_route(route),
            Leaving::Service(service) => of_service(service),
            Leaving::Endpoint(service, endpoint) => of_endpoint(service, endpoint),
        }
    }

    /// Whether nobody else holds it, so that nothing is added any more.
    fn is_last(&self) -> bool {
        match self {
            Leaving::Route(route) => Arc::strong_count(route) == 1,
            Leaving::Service(service) => Arc::strong_count(service) == 1,
            Leaving::Endpoint(_, endpoint) => Arc::strong_count(endpoint) == 1,
        }
    }
}

impl TallySource for Gateway {
    fn take(&self) -> Vec<(Subject, Counts)> {
        // What leaves is put on the list before the new plan is in force: looked at in this order, nothing is missed.
        let snapshot = self.commons.snapshot.load_full();
        let mut all: Vec<_> = snapshot.routes.iter().map(|r| of_route(r)).collect();
        for (service, endpoints) in snapshot.services.iter().zip(&snapshot.endpoints) {
            all.push(of_service(service));
            all.extend(endpoints.iter().map(|e| of_endpoint(&service.name, e)));
        }
        drop(snapshot);
        let mut leaving = self.commons.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|left| {
            // Looked at first: if nobody held it then, the counts below are its last.
            let is_last = left.is_last();
            all.push(left.take());
            !is_last
        });
        drop(leaving);
        all.retain(|(_, counts)| !counts.is_empty());
        all
    }
}
