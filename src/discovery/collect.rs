//! What discovery counts. Services come from the configuration, so the number of series is bounded by it.

use kernel::metrics::{Collect, Family, MetricKind, Sink};
use policy::leases::Leases;

use super::{Discovery, Found};

/// What happened to a service's sources since they are there.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Beats that were taken, the first ones included.
    pub(super) beats: u64,
    /// Registrations that ended because the endpoint said so.
    pub(super) left: u64,
    /// … because the lease ended.
    pub(super) expired: u64,
    /// … because the lease ended, with many others, and nobody answered.
    pub(super) unanswered: u64,
    /// Registrations that went on without a beat because somebody answered.
    pub(super) kept: u64,
    /// Questions to DNS with a good answer,
    pub(super) answered: u64,
    /// with an empty one,
    pub(super) empty: u64,
    /// and with none.
    pub(super) failed: u64,
}

impl Collect for Discovery {
    fn collect(&self, sink: &mut dyn Sink) {
        let state = self.inner.state();
        let now = self.inner.clock.now();
        let registering =
            || state.services.iter().filter_map(|(name, found)| Some((name, found, found.leases.as_ref()?)));
        type Read<'a> = &'a dyn Fn(&Leases, &Found) -> f64;
        let gauges: [(&'static str, &'static str, MetricKind, Read<'_>); 4] = [
            (
                "evenkeel_registrations",
                "Endpoints that have registered and are in force",
                MetricKind::Gauge,
                &|l, _| l.len() as f64,
            ),
            (
                "evenkeel_registrations_silent",
                "Registered endpoints that are in force although their lease has ended",
                MetricKind::Gauge,
                &|l, _| l.silent(now) as f64,
            ),
            ("evenkeel_registration_beats_total", "Heartbeats taken", MetricKind::Counter, &|_, f| {
                f.counts.beats as f64
            }),
            (
                "evenkeel_registrations_kept_total",
                "Registrations that went on without a heartbeat because the endpoint answered a check",
                MetricKind::Counter,
                &|_, f| f.counts.kept as f64,
            ),
        ];
        for (name, help, kind, read) in gauges {
            sink.family(Family { name, help, kind });
            registering()
                .for_each(|(service, found, leases)| sink.sample(&[("service", service)], read(leases, found)));
        }
        sink.family(Family {
            name: "evenkeel_registrations_ended_total",
            help: "Registrations that ended, by cause",
            kind: MetricKind::Counter,
        });
        for (service, found, _) in registering() {
            let Counts { left, expired, unanswered, .. } = found.counts;
            for (cause, n) in [("left", left), ("expired", expired), ("unanswered", unanswered)] {
                sink.sample(&[("service", service), ("cause", cause)], n as f64);
            }
        }
        sink.family(Family {
            name: "evenkeel_registration_stalls_total",
            help: "Times in which this process stood still and leases were made longer for it",
            kind: MetricKind::Counter,
        });
        sink.sample(&[], state.stalls as f64);
        sink.family(Family {
            name: "evenkeel_dns_answers_total",
            help: "Questions to DNS for endpoints, by outcome",
            kind: MetricKind::Counter,
        });
        for (service, found) in state.services.iter().filter(|(_, found)| !found.asked.is_empty()) {
            let Counts { answered, empty, failed, .. } = found.counts;
            for (outcome, n) in [("answered", answered), ("empty", empty), ("failed", failed)] {
                sink.sample(&[("service", service), ("outcome", outcome)], n as f64);
            }
        }
    }
}
