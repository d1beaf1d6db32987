//! The data plane's metrics: RED for each route, service and endpoint, connections, and errors by code. Label values
//! come from the configuration, so their number is bounded by it; a host or path of a request is never a label.

use std::sync::atomic::Ordering;

use kernel::ErrorCode;
use kernel::metrics::{Cell64, Collect, Family, MetricKind, Sink};

use crate::collect_services;
use crate::gateway::Gateway;
use crate::inspect::TrafficView;
use crate::state::{EndpointState, LinkCells, Snapshot, traffic_view};

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// One family over all routes, services or endpoints: labels and traffic of each.
type Rows<'a> = Vec<(Vec<(&'a str, &'a str)>, TrafficView)>;

struct Names {
    requests: &'static str,
    in_flight: &'static str,
    duration: &'static str,
    what: [&'static str; 3],
}

const ROUTE: Names = Names {
    requests: "evenkeel_route_requests_total",
    in_flight: "evenkeel_route_requests_in_flight",
    duration: "evenkeel_route_request_duration_seconds",
    what: [
        "Requests of a route by class of their answer, none if there was no whole answer",
        "Requests of a route that are being served",
        "Time from a request's head to the end of its answer",
    ],
};
const SERVICE: Names = Names {
    requests: "evenkeel_service_requests_total",
    in_flight: "evenkeel_service_requests_in_flight",
    duration: "evenkeel_service_request_duration_seconds",
    what: [
        "Requests to a service by class of their answer, none if there was no whole answer",
        "Requests to a service that are being served",
        "Time from a request's head to the end of its answer",
    ],
};
const ENDPOINT: Names = Names {
    requests: "evenkeel_endpoint_attempts_total",
    in_flight: "evenkeel_endpoint_attempts_in_flight",
    duration: "evenkeel_endpoint_attempt_duration_seconds",
    what: [
        "Attempts at an endpoint by class of their answer, none if there was no whole answer",
        "Attempts at an endpoint that have not ended",
        "Time from a request's head to the end of the attempt",
    ],
};

impl Collect for Gateway {
    fn collect(&self, sink: &mut dyn Sink) {
        let snapshot = self.commons.snapshot.load();
        let routes = snapshot.routes.iter().map(|r| (vec![("route", r.name.as_str())], traffic_view("", &r.traffic)));
        traffic(sink, &ROUTE, &routes.collect());
        let services =
            snapshot.services.iter().map(|s| (vec![("service", s.name.as_str())], traffic_view("", &s.traffic)));
        traffic(sink, &SERVICE, &services.collect());
        let rows = endpoints(&snapshot).map(|(labels, e)| (labels, traffic_view("", &e.traffic)));
        traffic(sink, &ENDPOINT, &rows.collect());
        self.collect_endpoints(sink, &snapshot);
        collect_services::collect(sink, &snapshot, self.commons.clock.now());
        self.collect_edge(sink);
        let generation = Family {
            name: "evenkeel_config_generation",
            help: "How often another configuration was taken over since the start",
            kind: MetricKind::Gauge,
        };
        sink.family(generation);
        sink.sample(&[], self.reloads.load(Ordering::Relaxed) as f64);
    }
}

fn endpoints(snapshot: &Snapshot) -> impl Iterator<Item = (Vec<(&str, &str)>, &EndpointState)> {
    snapshot.services.iter().zip(&snapshot.endpoints).flat_map(|(service, endpoints)| {
        endpoints
            .iter()
            .map(|e| (vec![("service", service.name.as_str()), ("endpoint", e.plan.name.as_str())], e.as_ref()))
    })
}

fn traffic(sink: &mut dyn Sink, names: &Names, rows: &Rows<'_>) {
    sink.family(Family { name: names.requests, help: names.what[0], kind: MetricKind::Counter });
    for (labels, view) in rows {
        for (class, n) in CLASSES.iter().zip(view.by_class) {
            let mut labels = labels.clone();
            labels.push(("class", class));
            sink.sample(&labels, n as f64);
        }
    }
    sink.family(Family { name: names.in_flight, help: names.what[1], kind: MetricKind::Gauge });
    rows.iter().for_each(|(labels, view)| sink.sample(labels, view.in_flight as f64));
    sink.family(Family { name: names.duration, help: names.what[2], kind: MetricKind::Histogram });
    rows.iter().for_each(|(labels, view)| sink.latency(labels, &view.latency));
}

impl Gateway {
    fn collect_endpoints(&self, sink: &mut dyn Sink, snapshot: &Snapshot) {
        type Read = fn(&EndpointState) -> f64;
        let gauges: [(&'static str, &'static str, Read); 4] = [
            ("evenkeel_endpoint_healthy", "1 if active checks hold the endpoint for healthy", |e| {
                f64::from(u8::from(e.healthy.load(Ordering::Relaxed)))
            }),
            ("evenkeel_endpoint_connections_open", "Open connections to an endpoint, idle ones included", |e| {
                f64::from(e.queue.open())
            }),
            ("evenkeel_endpoint_connections_idle", "Idle connections to an endpoint", |e| e.idle_total() as f64),
            (
                "evenkeel_endpoint_connections_starving",
                "New connections whose first answer is far later than usual",
                |e| f64::from(e.starving.load(Ordering::Relaxed)),
            ),
        ];
        for (name, help, read) in gauges {
            sink.family(Family { name, help, kind: MetricKind::Gauge });
            endpoints(snapshot).for_each(|(labels, e)| sink.sample(&labels, read(e)));
        }
        type ReadLinks = fn(&LinkCells) -> u64;
        let counters: [(&'static str, &'static str, ReadLinks); 5] = [
            ("evenkeel_endpoint_connections_opened_total", "Connections opened to an endpoint", |l| l.opened.get()),
            ("evenkeel_endpoint_connections_reused_total", "Requests sent on a connection that was idle", |l| {
                l.reused.get()
            }),
            ("evenkeel_endpoint_connect_failures_total", "Connections that did not come about", |l| {
                l.connect_failures.get()
            }),
            ("evenkeel_endpoint_stale_retries_total", "Requests repeated because a reused connection had ended", |l| {
                l.stale_retries.get()
            }),
            (
                "evenkeel_endpoint_connections_handed_over_total",
                "Connections given to a request that stood in line",
                |l| l.handed_over.get(),
            ),
        ];
        for (name, help, read) in counters {
            sink.family(Family { name, help, kind: MetricKind::Counter });
            endpoints(snapshot).for_each(|(labels, e)| sink.sample(&labels, e.links.sum(read) as f64));
        }
    }

    fn collect_edge(&self, sink: &mut dyn Sink) {
        let edge = &self.commons.edge;
        let open = self.commons.clients.total().max(0);
        sink.family(Family {
            name: "evenkeel_gateway_connections_open",
            help: "Open client connections",
            kind: MetricKind::Gauge,
        });
        sink.sample(&[], open as f64);
        let access = &self.commons.access;
        let counters: [(&'static str, &'static str, u64); 5] = [
            (
                "evenkeel_gateway_connections_accepted_total",
                "Client connections accepted",
                edge.sum(|c| c.accepted.get()),
            ),
            ("evenkeel_gateway_tunnels_total", "Connections upgraded to a tunnel", edge.sum(|c| c.tunnels.get())),
            (
                "evenkeel_gateway_sent_bytes_total",
                "Bytes of answers' bodies sent to clients",
                edge.sum(|c| c.bytes_out.get()),
            ),
            (
                "evenkeel_access_log_lines_total",
                "Lines given to the access log",
                access.written.load(Ordering::Relaxed),
            ),
            (
                "evenkeel_access_log_dropped_total",
                "Lines dropped because the access log could not keep up",
                access.dropped.load(Ordering::Relaxed),
            ),
        ];
        for (name, help, value) in counters {
            sink.family(Family { name, help, kind: MetricKind::Counter });
            sink.sample(&[], value as f64);
        }
        sink.family(Family {
            name: "evenkeel_gateway_errors_total",
            help: "Requests that ended with an error the gateway made or saw, by stable code",
            kind: MetricKind::Counter,
        });
        for code in ErrorCode::ALL {
            let n = edge.sum(|c| Cell64::get(&c.errors[code.index()]));
            sink.sample(&[("code", code.code()), ("kind", code.kind().label())], n as f64);
        }
    }
}
