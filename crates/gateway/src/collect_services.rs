//! Metrics of what keeps requests alive while endpoints fail: how endpoints are judged, second tries and their budget,
//! held answers, the gate, parked requests, tiers.

use kernel::Moment;
use kernel::metrics::{Family, MetricKind, Sink};

use crate::inspect::{EndpointState as Shown, ServiceView};
use crate::service::TryCells;
use crate::state::Snapshot;

type Gauge = (&'static str, &'static str, fn(&ServiceView) -> f64);
type Counter = (&'static str, &'static str, fn(&TryCells) -> u64);

const GAUGES: [Gauge; 7] = [
    ("evenkeel_service_retry_budget_share", "Second tries for each request that are allowed now", |s| s.budget.share),
    ("evenkeel_service_retry_budget_spent", "Second tries that were paid for in the last ten seconds", |s| {
        s.budget.spent as f64
    }),
    ("evenkeel_service_retry_budget_allowed", "Second tries that may be paid for in ten seconds", |s| {
        s.budget.allowed as f64
    }),
    ("evenkeel_service_parked", "Requests that wait because no endpoint can be reached", |s| f64::from(s.parked)),
    ("evenkeel_service_held", "Small answers that are held until they are whole", |s| f64::from(s.held)),
    ("evenkeel_service_queued", "Requests that wait at the gate of a service", |s| f64::from(s.queued)),
    ("evenkeel_service_active_tier", "The tier that takes the requests of a service", |s| f64::from(s.active_tier)),
];

const COUNTERS: [Counter; 6] = [
    ("evenkeel_service_requests_parked_total", "Requests that had to wait until an endpoint could be reached", |c| {
        c.parked.get()
    }),
    ("evenkeel_service_requests_queued_total", "Requests that had to wait at the gate of a service", |c| {
        c.queued.get()
    }),
    ("evenkeel_service_requests_shed_total", "Requests that the gate of a service turned away", |c| c.shed.get()),
    ("evenkeel_service_answers_held_total", "Answers that were held until they were whole", |c| c.held.get()),
    ("evenkeel_service_answers_held_broken_total", "Held answers that broke and could be tried elsewhere", |c| {
        c.held_broken.get()
    }),
    ("evenkeel_service_tries_cancelled_total", "Tries given up because another one was faster", |c| c.cancelled.get()),
];

pub(crate) fn collect(sink: &mut dyn Sink, snapshot: &Snapshot, now: Moment) {
    let views: Vec<ServiceView> =
        snapshot.services.iter().zip(&snapshot.endpoints).map(|(s, endpoints)| s.view(endpoints, now)).collect();
    endpoints(sink, &views);
    for (name, help, read) in GAUGES {
        sink.family(Family { name, help, kind: MetricKind::Gauge });
        views.iter().for_each(|s| sink.sample(&[("service", &s.traffic.name)], read(s)));
    }
    sink.family(Family {
        name: "evenkeel_service_retry_yield",
        help: "Successes per second try that was paid for, lately; absent while there are too few",
        kind: MetricKind::Gauge,
    });
    for (view, ratio) in views.iter().filter_map(|s| s.budget.yield_ratio.map(|r| (s, r))) {
        sink.sample(&[("service", &view.traffic.name)], ratio);
    }
    for (name, help, read) in COUNTERS {
        sink.family(Family { name, help, kind: MetricKind::Counter });
        snapshot.services.iter().for_each(|s| sink.sample(&[("service", &s.name)], s.tries.sum(read) as f64));
    }
    by_label(sink, &views, "evenkeel_service_second_tries_total", "Second tries by what made them", "cause", |s| {
        &s.second_tries
    });
    by_label(
        sink,
        &views,
        "evenkeel_service_second_tries_refused_total",
        "Second tries that were not made, by reason",
        "why",
        |s| &s.second_tries_refused,
    );
}

fn by_label(
    sink: &mut dyn Sink,
    views: &[ServiceView],
    name: &'static str,
    help: &'static str,
    label: &'static str,
    read: fn(&ServiceView) -> &Vec<(&'static str, u64)>,
) {
    sink.family(Family { name, help, kind: MetricKind::Counter });
    for view in views {
        for (value, n) in read(view) {
            sink.sample(&[("service", &view.traffic.name), (label, value)], *n as f64);
        }
    }
}

fn endpoints(sink: &mut dyn Sink, views: &[ServiceView]) {
    sink.family(Family {
        name: "evenkeel_endpoint_state",
        help: "1 for the state that an endpoint is in",
        kind: MetricKind::Gauge,
    });
    for service in views {
        for endpoint in &service.endpoints {
            for state in Shown::ALL {
                let labels = [
                    ("service", service.traffic.name.as_str()),
                    ("endpoint", endpoint.traffic.name.as_str()),
                    ("state", state.label()),
                ];
                sink.sample(&labels, f64::from(u8::from(state == endpoint.state)));
            }
        }
    }
    sink.family(Family {
        name: "evenkeel_endpoint_suspect_after_seconds",
        help: "Silence after which an endpoint is suspect; absent while too little is known",
        kind: MetricKind::Gauge,
    });
    for service in views {
        for (endpoint, after) in service.endpoints.iter().filter_map(|e| e.suspect_after.map(|after| (e, after))) {
            let labels = [("service", service.traffic.name.as_str()), ("endpoint", endpoint.traffic.name.as_str())];
            sink.sample(&labels, after.as_secs_f64());
        }
    }
    sink.family(Family {
        name: "evenkeel_endpoint_ejections_total",
        help: "Times that an endpoint was taken out, for what requests or checks met",
        kind: MetricKind::Counter,
    });
    for service in views {
        for endpoint in &service.endpoints {
            let labels = [("service", service.traffic.name.as_str()), ("endpoint", endpoint.traffic.name.as_str())];
            sink.sample(&labels, endpoint.ejected_total as f64);
        }
    }
}
