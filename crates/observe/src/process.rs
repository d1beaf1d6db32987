//! The process's own figures, under the names that Prometheus client libraries have made standard: CPU, memory,
//! descriptors, threads, start time; and which build this is. A figure whose file cannot be read (another operating
//! system, a hardened container) is absent rather than zero.
//!
//! Utilisation is CPU time, resident memory and open descriptors; saturation is major page faults (memory that has to
//! be waited for) and how near the descriptors are to their limit. Errors are the parts' own business.
//!
//! Source of the fields: Linux, proc_pid_stat(5), proc_pid_limits(5), proc_stat(5).

use std::fmt::Debug;
use std::fs::File;
use std::io::Read;

use kernel::metrics::{Collect, Family, MetricKind, Sink};

/// The longest file that is read. `/proc/stat` grows with cores and interrupts; 1 MiB holds thousands of cores.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where the figures are read from: `/proc`, or a table in tests.
pub trait ProcSource: Send + Sync + Debug {
    /// The text of `/proc/{file}`; `None` if it cannot be read.
    fn text(&self, file: &str) -> Option<String>;
    /// How many entries the directory `/proc/{directory}` has.
    fn entries(&self, directory: &str) -> Option<u64>;
}

/// The running system's `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemProc;

/// The process as a part of the registry.
#[derive(Debug)]
pub struct Process<S = SystemProc> {
    source: S,
    version: String,
    units: Units,
}

/// What the kernel counts in.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page_bytes: u64,
}

/// The fields of `/proc/self/stat` that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    major_faults: u64,
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Process {
    /// The running process; `version` is that of the build.
    pub fn of_self(version: impl Into<String>) -> Process {
        let units = Units {
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            page_bytes: rustix::param::page_size() as u64,
        };
        Process { source: SystemProc, version: version.into(), units }
    }
}

impl<S: ProcSource> Collect for Process<S> {
    fn collect(&self, sink: &mut dyn Sink) {
        sink.family(family("evenkeel_build_info", "The build that is running", MetricKind::Info));
        let labels = [("version", &*self.version), ("arch", std::env::consts::ARCH), ("os", std::env::consts::OS)];
        sink.sample(&labels, 1.0);

        if let Some(stat) = self.source.text("self/stat").as_deref().and_then(parse_stat) {
            self.collect_stat(sink, &stat);
        }
        if let Some(open) = self.source.entries("self/fd") {
            one(sink, "process_open_fds", "File descriptors that are open", MetricKind::Gauge, open as f64);
        }
        if let Some(max) = self.source.text("self/limits").as_deref().and_then(parse_max_fds) {
            one(sink, "process_max_fds", "File descriptors that may be open at most", MetricKind::Gauge, max);
        }
    }
}

impl<S: ProcSource> Process<S> {
    fn collect_stat(&self, sink: &mut dyn Sink, stat: &Stat) {
        use MetricKind::{Counter, Gauge};
        let ticks = self.units.ticks_per_second.max(1) as f64;
        let cpu = stat.cpu_ticks as f64 / ticks;
        one(sink, "process_cpu_seconds_total", "CPU time used in user and system mode, in seconds", Counter, cpu);
        let resident = stat.resident_pages.saturating_mul(self.units.page_bytes);
        one(sink, "process_resident_memory_bytes", "Memory held in RAM, in bytes", Gauge, resident as f64);
        let virt = stat.virtual_bytes as f64;
        one(sink, "process_virtual_memory_bytes", "Address space in use, in bytes", Gauge, virt);
        one(sink, "process_threads", "Threads of the process", Gauge, stat.threads as f64);
        let faults = stat.major_faults as f64;
        one(sink, "process_major_page_faults_total", "Page faults that had to wait for a disk", Counter, faults);
        if let Some(boot) = self.source.text("stat").as_deref().and_then(parse_boot_seconds) {
            let start = boot as f64 + stat.start_ticks as f64 / ticks;
            let help = "When the process started, in seconds since the Unix epoch";
            one(sink, "process_start_time_seconds", help, Gauge, start);
        }
    }
}

impl ProcSource for SystemProc {
    fn text(&self, file: &str) -> Option<String> {
        let mut text = Vec::new();
        File::open(format!("/proc/{file}")).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn entries(&self, directory: &str) -> Option<u64> {
        let count = std::fs::read_dir(format!("/proc/{directory}")).ok()?.count() as u64;
        // Listing one's own descriptors opens one more, which is gone by the time the figure is read.
        Some(if directory == "self/fd" { count.saturating_sub(1) } else { count })
    }
}

const fn family(name: &'static str, help: &'static str, kind: MetricKind) -> Family {
    Family { name, help, kind }
}

/// A family of one sample without labels.
fn one(sink: &mut dyn Sink, name: &'static str, help: &'static str, kind: MetricKind, value: f64) {
    sink.family(family(name, help, kind));
    sink.sample(&[], value);
}

/// The command name stands in parentheses and may itself hold spaces and parentheses, so fields are counted from the
/// last closing one; the field after it is number 3 of the manual page.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        major_faults: field(12)?,
        cpu_ticks: field(14)?.saturating_add(field(15)?),
        threads: field(20)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

/// The soft limit; infinity if there is none.
fn parse_max_fds(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        soft => soft.parse::<u64>().ok().map(|n| n as f64),
    }
}

fn parse_boot_seconds(stat: &str) -> Option<u64> {
    stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::registry::Registry;
    use crate::text::Format;

    const STAT: &str = "4242 (even) keel)) S 1 4242 4242 0 -1 4194560 2000 0 7 0 150 50 0 0 20 0 9 0 12300 \
                        104857600 2560 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max cpu time              unlimited            unlimited            seconds   \n\
                          Max open files            1024                 524288               files     \n";

    #[derive(Debug, Default)]
    struct Table {
        texts: HashMap<&'static str, &'static str>,
        fds: Option<u64>,
    }

    impl ProcSource for Table {
        fn text(&self, file: &str) -> Option<String> {
            self.texts.get(file).map(|t| (*t).to_owned())
        }
        fn entries(&self, directory: &str) -> Option<u64> {
            self.fds.filter(|_| directory == "self/fd")
        }
    }

    fn render(source: Table) -> String {
        let units = Units { ticks_per_second: 100, page_bytes: 4096 };
        Registry::new().with(Arc::new(Process { source, version: "1.2.3".into(), units })).render(Format::OpenMetrics)
    }

    #[test]
    fn every_figure_is_read_and_converted() {
        let texts = HashMap::from([
            ("self/stat", STAT),
            ("self/limits", LIMITS),
            ("stat", "cpu  1 2 3\nctxt 5\nbtime 1700000000\nprocesses 9\n"),
        ]);
        let text = render(Table { texts, fds: Some(17) });
        for line in [
            "process_cpu_seconds_total 2",
            "process_resident_memory_bytes 10485760",
            "process_virtual_memory_bytes 104857600",
            "process_threads 9",
            "process_major_page_faults_total 7",
            "process_start_time_seconds 1700000123",
            "process_open_fds 17",
            "process_max_fds 1024",
            "# UNIT process_start_time_seconds seconds",
            "# UNIT process_cpu_seconds seconds",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is missing from:\n{text}");
        }
        assert!(text.contains("evenkeel_build_info{version=\"1.2.3\",arch="), "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let text = render(Table::default());
        assert!(text.contains("evenkeel_build_info{"));
        assert!(!text.contains("process_"), "{text}");
        let texts = HashMap::from([("self/stat", "1 (short) S 1"), ("self/limits", "Max open files  many few files")]);
        assert!(!render(Table { texts, fds: None }).contains("process_"));
    }

    #[test]
    fn no_limit_on_descriptors_is_infinity() {
        assert_eq!(
            parse_max_fds("Max open files            unlimited            unlimited  files\n"),
            Some(f64::INFINITY)
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_running_process_shows_all_of_them() {
        let text = Registry::new().with(Arc::new(Process::of_self("0.0.0"))).render(Format::Prometheus);
        for name in ["cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds"] {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name} is missing from:\n{text}");
        }
        for name in ["threads", "start_time_seconds"] {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name} is missing from:\n{text}");
        }
    }
}
