//! What Evenkeel says of itself during a run: the states of its endpoints in `/v1/status`, looked at four times a second, and
//! the sums of its counters in `/metrics` at the end. Other proxies are not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::http::once;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(1);
/// The states of an endpoint that is in use: a suspect is asked one request at a time until it has answered, and is not
/// taken out.
const IN_USE: [&str; 2] = ["healthy", "suspect"];

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    looks: u64,
    /// The fewest endpoints of a service that were in use, over all looks.
    fewest_healthy: Option<usize>,
    /// Every state but healthy that was seen.
    states: BTreeSet<String>,
    /// Looks that were not answered.
    unanswered: u64,
}

/// Looks for ever; ends by being dropped.
pub(crate) async fn watch(admin: SocketAddr, seen: &std::cell::RefCell<Seen>) {
    loop {
        let status = status(admin).await;
        seen.borrow_mut().take(status.ok().as_ref());
        sleep(PAUSE).await;
    }
}

async fn status(admin: SocketAddr) -> Result<Value> {
    Ok(serde_json::from_str(&get(admin, "/v1/status").await?)?)
}

async fn get(admin: SocketAddr, path: &str) -> Result<String> {
    let reply = once(admin, "GET", path, String::new(), LIMIT).await?;
    ensure!(reply.status == 200, "http://{admin}{path} was answered {}", reply.status);
    Ok(String::from_utf8_lossy(&reply.body).into_owned())
}

/// The states of all endpoints of each service.
fn states(status: &Value) -> Vec<Vec<String>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let state = |endpoint: &Value| endpoint["state"].as_str().unwrap_or("unknown").to_owned();
    list(&status["services"]).iter().map(|service| list(&service["endpoints"]).iter().map(state).collect()).collect()
}

impl Seen {
    fn take(&mut self, status: Option<&Value>) {
        let Some(status) = status else {
            self.unanswered += 1;
            return;
        };
        self.looks += 1;
        for service in states(status) {
            let healthy = service.iter().filter(|state| IN_USE.contains(&state.as_str())).count();
            self.fewest_healthy = Some(self.fewest_healthy.map_or(healthy, |fewest| fewest.min(healthy)));
            self.states.extend(service.into_iter().filter(|state| state != IN_USE[0]));
        }
    }

    /// With the counters as they are now.
    pub(crate) async fn report(&self, admin: SocketAddr) -> Result<Value> {
        let last = states(&status(admin).await?);
        let metrics = get(admin, "/metrics").await?;
        Ok(json!({
            "looks": self.looks,
            "unanswered": self.unanswered,
            "fewest_healthy": self.fewest_healthy,
            "other_states": self.states,
            "unhealthy_at_end": last.iter().flatten().filter(|state| !IN_USE.contains(&state.as_str())).count(),
            "counters": sums(&metrics),
        }))
    }
}

/// Each counter of the project's own, over all its labels.
fn sums(metrics: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("evenkeel_")) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        if let (true, Ok(value)) = (name.ends_with("_total"), value.parse::<f64>()) {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let text = "# TYPE evenkeel_a_total counter\nevenkeel_a_total{x=\"1 2\"} 2\nevenkeel_a_total{x=\"3\"} 3\n\
                    evenkeel_g 7\nprocess_x_total 9\nevenkeel_b_total 0\n";
        let sums = sums(text);
        assert_eq!(
            sums.into_iter().collect::<Vec<_>>(),
            [("evenkeel_a_total".into(), 5.0), ("evenkeel_b_total".into(), 0.0)]
        );
    }

    #[test]
    fn the_worst_look_counts() {
        let status =
            |states: [&str; 2]| json!({"services": [{"endpoints": [{"state": states[0]}, {"state": states[1]}]}]});
        let mut seen = Seen::default();
        seen.take(Some(&status(["healthy", "healthy"])));
        seen.take(Some(&status(["open", "healthy"])));
        seen.take(None);
        seen.take(Some(&status(["healthy", "healthy"])));
        assert_eq!((seen.looks, seen.unanswered, seen.fewest_healthy), (3, 1, Some(1)));
        assert_eq!(seen.states.into_iter().collect::<Vec<_>>(), ["open"]);
    }
}
