//! What the scrape says of the three files.

use kernel::metrics::{Collect, Family, MetricKind, Sink};
use kernel::store::{FileHealth, FileState};

use crate::store::Store;

const STATES: [FileState; 3] = [FileState::Kept, FileState::Lost, FileState::Full];

/// A figure of a file.
type Figure = fn(&FileHealth) -> u64;

impl Collect for Store {
    fn collect(&self, sink: &mut dyn Sink) {
        let files = self.health();
        let family = |name, help, kind| Family { name, help, kind };
        sink.family(family("evenkeel_store_state", "How a file of the store is: 1 for its state", MetricKind::Gauge));
        for file in &files {
            for state in STATES {
                let is = f64::from(u8::from(file.state == state));
                sink.sample(&[("file", file.file), ("state", state.word())], is);
            }
        }
        let figures: [(_, _, _, Figure); 4] = [
            ("evenkeel_store_bytes", "Size of a file of the store with its log", MetricKind::Gauge, |f| f.bytes),
            ("evenkeel_store_cap_bytes", "How large a file of the store may be", MetricKind::Gauge, |f| f.cap_bytes),
            (
                "evenkeel_store_waiting",
                "What waits for a file: callers of the ledger, records, minutes of counts",
                MetricKind::Gauge,
                |f| f.waiting,
            ),
            (
                "evenkeel_store_dropped_total",
                "What was lost because a file could not be written: records, counted requests",
                MetricKind::Counter,
                |f| f.dropped,
            ),
        ];
        for (name, help, kind, value) in figures {
            sink.family(family(name, help, kind));
            for file in &files {
                sink.sample(&[("file", file.file)], value(file) as f64);
            }
        }
        let help = "Time that writes to a file of the store took";
        sink.family(family("evenkeel_store_write_seconds", help, MetricKind::Histogram));
        for (file, times) in self.write_times() {
            sink.latency(&[("file", file)], &times);
        }
    }
}
