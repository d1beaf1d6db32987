//! What the demo writes: its banner, its status line, its summary. Each is made from plain values, so that the text can
//! be tested. The lines `gateway http://…` and `console http://…` are a contract: programs look for them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use gateway::GatewayView;
use gateway::inspect::EndpointView;

use super::traffic::TrafficReport;

/// A replica as the texts need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replica {
    pub(super) addr: SocketAddr,
    pub(super) control: SocketAddr,
}

/// What is printed at the start.
pub(super) fn banner(gateway: SocketAddr, console: SocketAddr, replicas: &[Replica], rate: u32) -> String {
    let mut text = format!("gateway http://{gateway}\nconsole http://{console}\n\n");
    let count = replicas.len();
    let _infallible = writeln!(
        text,
        "{count} copies of a small shop stand behind the gateway, and {rate} requests a second flow through it."
    );
    text.push_str("Try:\n");
    let mut line = |what: &str, how: String| {
        let _infallible = writeln!(text, "  {what:<24}{how}");
    };
    line("ask for a product", format!("curl -i http://{gateway}/product/3"));
    if let Some(Replica { control, .. }) = replicas.first() {
        let faults = format!("curl -X POST http://{control}/faults -d");
        line("kill replica 1", format!("{faults} '{{\"down\":true}}'"));
        line("bring it back", format!("{faults} '{{}}'"));
    }
    if let Some(Replica { control, .. }) = replicas.get(1) {
        line("slow replica 2 down", format!("curl -X POST http://{control}/faults -d '{{\"latency_ms\":300}}'"));
    }
    line("see what happens", format!("open http://{console} in a browser"));
    line("read the metrics", format!("curl http://{console}/metrics"));
    text.push_str("Ctrl-C ends it.\n");
    text
}

/// One line for those who watch.
pub(super) fn status_line(ran: Duration, report: &TrafficReport, replicas: &[Replica], view: &GatewayView) -> String {
    let up = replicas.iter().filter(|r| endpoint(view, r.addr).is_none_or(|e| e.healthy)).count();
    format!(
        "{:>5} s   {} requests   {} ok   {} failed   p50 {}   p99 {}   {up} of {} replicas healthy",
        ran.as_secs(),
        report.finished(),
        percent(report.ok, report.finished()),
        report.failed,
        millis(report.latencies.quantile(0.5)),
        millis(report.latencies.quantile(0.99)),
        replicas.len(),
    )
}

/// What is printed at the end.
pub(super) fn summary(
    ran: Duration,
    rate: u32,
    report: &TrafficReport,
    replicas: &[Replica],
    view: &GatewayView,
) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        let _infallible = writeln!(text, "{what:<12}{value}");
    };
    line("ran for", format!("{:.1} s at {rate} requests a second", ran.as_secs_f64()));
    let waiting = if report.waiting > 0 { format!(", {} still waiting", report.waiting) } else { String::new() };
    line("requests", format!("{}{waiting}", report.finished()));
    let share = percent(report.ok, report.finished());
    line("success", format!("{share} ({} ok, {} failed)", report.ok, report.failed));
    let (p50, p99) = (report.latencies.quantile(0.5), report.latencies.quantile(0.99));
    line("latency", format!("p50 {}, p99 {}", millis(p50), millis(p99)));
    for (i, (replica, answers)) in replicas.iter().zip(&report.by_replica).enumerate() {
        let state = match endpoint(view, replica.addr) {
            Some(endpoint) if endpoint.healthy => "healthy".to_owned(),
            Some(endpoint) => format!("out of rotation: {}", endpoint.reason),
            None => "unknown to the gateway".to_owned(),
        };
        let share = percent(*answers, report.ok);
        line(&format!("replica {}", i + 1), format!("{share:>8}{answers:>8} answers   {state}"));
    }
    let requests: u64 = view.services.iter().map(|s| s.traffic.total()).sum();
    let failed: u64 = view.services.iter().map(|s| s.traffic.failed()).sum();
    let unreached: u64 = view.services.iter().flat_map(|s| &s.endpoints).map(|e| e.connect_failures).sum();
    let workers = view.workers;
    line(
        "gateway",
        format!(
            "{requests} requests on {workers} workers, {failed} failed, {unreached} connection attempts to a replica failed"
        ),
    );
    if let Some(failure) = &report.first_failure {
        line("first fail", failure.clone());
    }
    text
}

fn endpoint(view: &GatewayView, addr: SocketAddr) -> Option<&EndpointView> {
    let name = addr.to_string();
    view.services.iter().flat_map(|s| &s.endpoints).find(|e| e.traffic.name == name)
}

/// A share that is shown as 100 % only if it is: 9,999 of 10,000 are 99.99 %, and so are 99,999 of 100,000.
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let hundredths = u128::from(part) * 10_000 / u128::from(whole);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

fn millis(latency: Option<Duration>) -> String {
    latency.map_or_else(|| "-".to_owned(), |l| format!("{:.1} ms", l.as_secs_f64() * 1000.0))
}

#[cfg(test)]
mod tests {
    use gateway::inspect::{ServiceView, TrafficView};
    use kernel::Entropy;

    use super::*;
    use crate::demo::sample::Sample;

    fn replicas() -> Vec<Replica> {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (1..=2).map(|n| Replica { addr: addr(9100 + n), control: addr(9200 + n) }).collect()
    }

    fn report() -> TrafficReport {
        let mut latencies = Sample::new(Entropy::from_seed(1));
        (1..=100).for_each(|ms| latencies.observe(Duration::from_millis(ms)));
        let first_failure = Some("Browse: status 503".to_owned());
        TrafficReport {
            ok: 399,
            failed: 1,
            unsent: 0,
            by_status: [(200, 399), (503, 1)].into(),
            waiting: 2,
            first_failure,
            by_replica: vec![300, 99],
            latencies,
            slowest: Duration::from_millis(100),
        }
    }

    fn view() -> GatewayView {
        let traffic = |name: &str, by_class| TrafficView { name: name.to_owned(), by_class, ..TrafficView::default() };
        let end = |name, healthy, reason: &str| EndpointView {
            traffic: traffic(name, [0; 6]),
            healthy,
            reason: reason.to_owned(),
            connect_failures: 2,
            ..EndpointView::default()
        };
        let endpoints = vec![end("127.0.0.1:9101", true, ""), end("127.0.0.1:9102", false, "2 checks failed")];
        let service =
            ServiceView { traffic: traffic("shop", [0, 399, 0, 0, 1, 0]), endpoints, ..ServiceView::default() };
        GatewayView { workers: 2, services: vec![service], ..GatewayView::default() }
    }

    #[test]
    fn the_summary_is_aligned_and_tells_who_did_what() {
        let text = summary(Duration::from_millis(8040), 50, &report(), &replicas(), &view());
        let expected = "\
ran for     8.0 s at 50 requests a second
requests    400, 2 still waiting
success     99.75 % (399 ok, 1 failed)
latency     p50 50.0 ms, p99 99.0 ms
replica 1    75.18 %     300 answers   healthy
replica 2    24.81 %      99 answers   out of rotation: 2 checks failed
gateway     400 requests on 2 workers, 1 failed, 4 connection attempts to a replica failed
first fail  Browse: status 503
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_banner_keeps_its_contract() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let text = banner(addr(8080), addr(7070), &replicas(), 50);
        assert!(text.starts_with("gateway http://127.0.0.1:8080\nconsole http://127.0.0.1:7070\n"), "{text}");
        assert!(text.contains("curl -X POST http://127.0.0.1:9201/faults -d '{\"down\":true}'"), "{text}");
    }

    #[test]
    fn the_status_line_counts_what_is_healthy() {
        let line = status_line(Duration::from_secs(5), &report(), &replicas(), &view());
        let expected =
            "    5 s   400 requests   99.75 % ok   1 failed   p50 50.0 ms   p99 99.0 ms   1 of 2 replicas healthy";
        assert_eq!(line, expected);
    }

    #[test]
    fn only_everything_is_all() {
        assert_eq!((percent(99_999, 100_000), percent(7, 7)), ("99.99 %".to_owned(), "100.00 %".to_owned()));
        assert_eq!((percent(0, 0), percent(0, 3)), ("-".to_owned(), "0.00 %".to_owned()));
    }
}
