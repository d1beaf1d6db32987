//! Whether the node counted what the clients counted, by class of answer, exactly: its counters in `/metrics` over the run,
//! and the sums of its minutes and of its quarters of a minute in `GET /v1/tallies` over its whole life.
//!
//! What a client counts as no whole answer (cut, or closed before a byte) the node counts as one too. A client that gave up
//! by itself would make the two differ, and so may a connection that closed as it was used again; a run in which that
//! happened proves nothing and is not accepted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kernel::Clock;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::http::once;
use crate::load::{Kind, Record};

/// Classes of answers, as labels of metrics.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];
/// How a class is called in the tallies, if otherwise.
const UNANSWERED: &str = "unanswered";
/// How long the node may take to have counted everything: what was added is kept each second.
const COUNTED: Duration = Duration::from_secs(10);
/// How long an answer of the console may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Counts by class.
pub(super) type Counts = [u64; 6];

/// By what is counted: `route shop`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node(BTreeMap<String, Counts>);

/// What clients counted.
pub(super) fn of_clients(records: &[Record]) -> Result<Counts> {
    let mut counts = [0; 6];
    for record in records {
        let class = match record.kind {
            Kind::Ok | Kind::Corrupt | Kind::ClientError | Kind::ServerError | Kind::OtherStatus => {
                usize::from(record.status / 100).checked_sub(1).filter(|class| *class < 5)
            }
            Kind::Body | Kind::Closed => Some(5),
            Kind::Timeout | Kind::Connect | Kind::Stale => {
                bail!("a request ended as {:?}, by the client's own doing: this run proves nothing", record.kind)
            }
        };
        counts[class.with_context(|| format!("there is no status {}", record.status))?] += 1;
    }
    Ok(counts)
}

/// What the counters of the node say.
pub(super) async fn of_metrics(admin: SocketAddr) -> Result<Node> {
    Ok(Node::of_metrics(&get(admin, "/metrics").await?))
}

/// Waits until the node has counted what the clients counted since `before`, and its tallies what its counters have. Gives
/// what was compared.
pub(super) async fn compare(admin: SocketAddr, before: &Node, clients: Counts, clock: &Clock) -> Result<Value> {
    let ends = clock.now() + COUNTED;
    loop {
        let now = of_metrics(admin).await?;
        let minutes = of_tallies(admin, "1m").await?;
        let quarters = of_tallies(admin, "15s").await?;
        let gained: Node = now.since(before);
        let routes = gained.sum("route ");
        let report = json!({
            "classes": CLASSES, "clients": clients, "metrics": routes, "metrics_since_start": now.0,
            "minutes": minutes.0, "quarters": quarters.0,
        });
        let is_equal = routes == clients && gained.sum("service ") == clients && minutes == now && quarters == now;
        if is_equal {
            ensure!(clients.iter().sum::<u64>() > 0, "nothing was counted");
            return Ok(report);
        }
        if clock.now() >= ends {
            bail!("the counts differ: {report:#}");
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// What was found to be equal, in one line.
pub(super) fn line(report: &Value) -> String {
    let of = |key: &str| report[key].as_array().cloned().unwrap_or_default();
    let counts = of("classes").into_iter().zip(of("clients")).filter(|(_, n)| *n != 0);
    let counts: Vec<String> = counts.map(|(class, n)| format!("{} {n}", class.as_str().unwrap_or_default())).collect();
    format!("clients, metrics and tallies have counted the same: {}", counts.join(", "))
}

/// What is kept of the counts, in periods of this step.
async fn of_tallies(admin: SocketAddr, step: &str) -> Result<Node> {
    let document = |text: String| serde_json::from_str::<Value>(&text).context("reading what the console said");
    let subjects = document(get(admin, "/v1/tallies").await?)?;
    let mut node = Node::default();
    for subject in subjects["subjects"].as_array().context("the console lists no subjects")? {
        let text = |key: &str| subject[key].as_str().unwrap_or_default();
        let (scope, name, service) = (text("scope"), text("name"), text("service"));
        let of = if service.is_empty() { String::new() } else { format!("&service={service}") };
        let tallies = document(get(admin, &format!("/v1/tallies?scope={scope}&name={name}{of}&step={step}")).await?)?;
        let mut counts = [0; 6];
        for period in tallies["periods"].as_array().context("the console lists no periods")? {
            for (count, class) in counts.iter_mut().zip(CLASSES) {
                let class = if class == "none" { UNANSWERED } else { class };
                *count += period["answers"][class].as_u64().with_context(|| format!("no {class} in {period}"))?;
            }
        }
        node.add(subject_name(scope, name, service), counts);
    }
    Ok(node)
}

async fn get(admin: SocketAddr, path: &str) -> Result<String> {
    let reply = once(admin, "GET", path, String::new(), LIMIT).await?;
    ensure!(reply.status == 200, "http://{admin}{path} was answered {}", reply.status);
    Ok(String::from_utf8_lossy(&reply.body).into_owned())
}

fn subject_name(scope: &str, name: &str, service: &str) -> String {
    if service.is_empty() { format!("{scope} {name}") } else { format!("{scope} {name} of {service}") }
}

impl Node {
    /// What was never counted is not there, as in the tallies.
    fn add(&mut self, subject: String, counts: Counts) {
        if counts != [0; 6] {
            self.0.insert(subject, counts);
        }
    }

    fn of_metrics(text: &str) -> Node {
        let mut found: BTreeMap<String, Counts> = BTreeMap::new();
        let families = [
            ("route", "evenkeel_route_requests_total{"),
            ("service", "evenkeel_service_requests_total{"),
            ("endpoint", "evenkeel_endpoint_attempts_total{"),
        ];
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            for (scope, family) in families {
                let Some(labels) = series.strip_prefix(family) else { continue };
                let label = |name: &str| {
                    let rest = labels.split_once(&format!("{name}=\""))?.1;
                    Some(rest.split('"').next().unwrap_or(rest))
                };
                let class = label("class").and_then(|class| CLASSES.iter().position(|c| *c == class));
                let (Some(name), Some(class), Ok(value)) = (label(scope), class, value.parse::<f64>()) else {
                    continue;
                };
                let service = if scope == "endpoint" { label("service").unwrap_or_default() } else { "" };
                found.entry(subject_name(scope, name, service)).or_default()[class] += value as u64;
            }
        }
        let mut node = Node::default();
        found.into_iter().for_each(|(subject, counts)| node.add(subject, counts));
        node
    }

    fn since(&self, before: &Node) -> Node {
        let gained = self.0.iter().map(|(subject, now)| {
            let then = before.0.get(subject).copied().unwrap_or_default();
            (subject.clone(), std::array::from_fn(|class| now[class] - then[class]))
        });
        Node(gained.collect())
    }

    /// All whose name begins so.
    fn sum(&self, scope: &str) -> Counts {
        let mut sum = [0; 6];
        for (_, counts) in self.0.iter().filter(|(subject, _)| subject.starts_with(scope)) {
            sum.iter_mut().zip(counts).for_each(|(all, one)| *all += one);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# TYPE evenkeel_route_requests_total counter\n\
        evenkeel_route_requests_total{route=\"a\",class=\"2xx\"} 7\n\
        evenkeel_route_requests_total{route=\"a\",class=\"none\"} 1\n\
        evenkeel_route_requests_total{route=\"b\",class=\"5xx\"} 2\n\
        evenkeel_route_requests_total{route=\"c\",class=\"5xx\"} 0\n\
        evenkeel_endpoint_attempts_total{service=\"shop\",endpoint=\"h:1\",class=\"2xx\"} 9\n\
        evenkeel_other{route=\"a\",class=\"2xx\"} 5\n";

    #[test]
    fn counters_are_read_by_what_they_count() {
        let node = Node::of_metrics(METRICS);
        assert_eq!(node.0.keys().collect::<Vec<_>>(), ["endpoint h:1 of shop", "route a", "route b"]);
        assert_eq!((node.sum("route "), node.0["endpoint h:1 of shop"]), ([0, 7, 0, 0, 2, 1], [0, 9, 0, 0, 0, 0]));
        let before = Node([("route a".to_owned(), [0, 5, 0, 0, 0, 1])].into());
        assert_eq!(node.since(&before).sum("route "), [0, 2, 0, 0, 2, 0]);
    }

    #[test]
    fn clients_count_answers_by_status_and_the_rest_as_none() {
        let record = |kind, status| Record {
            at_us: 0,
            latency_us: 1,
            first_byte_us: None,
            lag_us: 0,
            kind,
            status,
            attempts: 1,
            is_high: false,
            flow: 0,
        };
        let all = [
            record(Kind::Ok, 201),
            record(Kind::ClientError, 400),
            record(Kind::ServerError, 503),
            record(Kind::Body, 200),
            record(Kind::Closed, 0),
        ];
        assert_eq!(of_clients(&all).unwrap(), [0, 1, 0, 1, 1, 2]);
        for kind in [Kind::Timeout, Kind::Connect, Kind::Stale] {
            assert!(of_clients(&[record(kind, 0)]).is_err(), "{kind:?}");
        }
    }
}
