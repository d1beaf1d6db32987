//! The state in one sentence, and what is being done about it: the worst thing first, since when, who takes the requests
//! meanwhile, and what clients saw of it. The present state comes from the node, the moment from the journal.

use std::time::Duration;

use kernel::journal::Record;
use kernel::store::{FileHealth, FileState};

use crate::status::{EndpointStatus, SUCCESS_FLOOR, ServiceStatus, Status};
use crate::view::EndpointState;
use crate::words;

/// Further things that are wrong and are said in a sentence each; the tables have them all.
const FURTHER: usize = 2;

/// What is said of a node of which all is well.
const NOTHING: &str = "Nothing needs to be done.";

/// The state, and what is done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Headline {
    /// The state in a sentence.
    pub(crate) headline: String,
    /// What is being done, and what else is to be known; a sentence each.
    pub(crate) doing: Vec<String>,
}

impl Headline {
    /// From the state and the newest records.
    pub(crate) fn of(status: &Status, records: &[Record], now_unix_ms: u64) -> Headline {
        let troubled = by_gravity(status);
        let mut doing = Vec::new();
        let headline = match troubled.first() {
            None if let Some(service) = failing(status) => {
                doing.extend(why_failing(service, records, now_unix_ms));
                seen_failing(service, status)
            }
            None => {
                if status.level == crate::status::Level::Ok {
                    doing.push(NOTHING.to_owned());
                }
                status.summary.clone()
            }
            Some((service, endpoint)) => {
                if service.is_lost() && service.is_answering() {
                    doing.push(answering_all_the_same(service, status));
                } else if service.is_lost() {
                    doing.extend(lost(service));
                } else {
                    doing.push(meanwhile(service, status));
                }
                sentence(service, endpoint, records, now_unix_ms)
            }
        };
        let mut further = troubled.iter().skip(1);
        for (service, endpoint) in further.by_ref().take(FURTHER) {
            doing.push(format!("Also: {}", sentence(service, endpoint, records, now_unix_ms)));
        }
        match further.count() {
            0 => {}
            1 => doing.push("One more endpoint is not healthy.".to_owned()),
            n => doing.push(format!("{n} more endpoints are not healthy.")),
        }
        let mut pools: Vec<_> = status.pools.iter().collect();
        pools.sort_by_key(|pool| std::cmp::Reverse(pool.level()));
        let mut headline = headline;
        let is_quiet = troubled.is_empty() && failing(status).is_none();
        let is_lost = troubled.iter().any(|(service, _)| service.is_lost());
        for (at, pool) in pools.into_iter().enumerate() {
            let Some(trouble) = pool.trouble_in_words() else { continue };
            // A pool without a primary is worse than an endpoint that others stand in for.
            if at == 0 && (is_quiet || (pool.level() == crate::status::Level::Down && !is_lost)) {
                let before = std::mem::replace(&mut headline, trouble);
                if !is_quiet {
                    doing.insert(0, format!("Also: {before}"));
                }
            } else {
                doing.push(format!("Also: {trouble}"));
            }
        }
        doing.extend(status.notices.iter().cloned());
        Headline { headline, doing }
    }

    /// With what is wrong with the files of the store: no request knows of it, but somebody has something to do.
    #[must_use]
    pub(crate) fn and_store(mut self, files: &[FileHealth]) -> Headline {
        let is_wrong = |f: &&FileHealth| matches!(f.state, FileState::Lost | FileState::Full);
        let Some(first) = files.iter().find(is_wrong) else { return self };
        let names: Vec<&str> = files.iter().filter(is_wrong).map(|f| f.file).collect();
        let (subject, verb) = (names.join(", "), if names.len() == 1 { "is" } else { "are" });
        let trouble = words::tame(&first.trouble);
        self.doing.retain(|sentence| sentence != NOTHING);
        self.doing.push(format!(
            "Not kept on disk: {subject} {verb} {} ({}: {trouble}). Requests are served all the same.",
            first.state.word(),
            words::tame(&first.path)
        ));
        self
    }
}

/// Endpoints in trouble, the worst first: those of services that nobody serves, then what is out, then what is in doubt.
fn by_gravity(status: &Status) -> Vec<(&ServiceStatus, &EndpointStatus)> {
    let all = status.services.iter().flat_map(|s| s.endpoints.iter().map(move |e| (s, e)));
    let mut troubled: Vec<_> = all.filter(|(_, e)| e.state.is_trouble()).collect();
    troubled.sort_by_key(|(service, e)| {
        let state = match e.state {
            EndpointState::Ejected | EndpointState::Unhealthy => 0,
            EndpointState::Probation => 1,
            EndpointState::Suspect => 2,
            // An operator knows of it.
            _ => 3,
        };
        (!service.is_lost(), state, e.since_seconds)
    });
    troubled
}

/// `a:1 of shop was taken out 40 s ago: 5 failures in a row.`
fn sentence(service: &ServiceStatus, e: &EndpointStatus, records: &[Record], now_unix_ms: u64) -> String {
    let what = match e.state {
        EndpointState::Healthy => "is healthy",
        EndpointState::Suspect => "became suspect",
        EndpointState::Ejected => "was taken out",
        EndpointState::Probation => "was put on trial",
        EndpointState::Unhealthy => "began to fail its checks",
        EndpointState::Draining | EndpointState::Drained => "was drained",
        EndpointState::Down => "was taken down",
    };
    let is_it = |r: &&Record| r.service == service.traffic.name && r.endpoint == e.traffic.name && r.mark;
    // The journal knows the moment; the state counts from the last change of any kind.
    let told = match e.state {
        EndpointState::Ejected | EndpointState::Down => records.iter().find(is_it).map(|r| r.until_unix_ms),
        _ => None,
    };
    let since = told.map(|at| now_unix_ms.saturating_sub(at) / 1_000).or(e.since_seconds);
    let when = since.map(|s| format!(" {}", words::ago(Duration::from_secs(s)))).unwrap_or_default();
    let reason = words::tame(&e.reason);
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("{} of {} {what}{when}{why}.", e.traffic.name, service.traffic.name)
}

/// The service whose clients see the most failures, if that is more than a hundredth, while nothing is held against any of
/// its endpoints.
fn failing(status: &Status) -> Option<&ServiceStatus> {
    let ratio = |s: &&ServiceStatus| s.traffic.success_ratio.unwrap_or(1.0);
    let worst = status.services.iter().min_by(|a, b| ratio(a).total_cmp(&ratio(b)))?;
    (ratio(&worst) < SUCCESS_FLOOR).then_some(worst)
}

fn seen_failing(service: &ServiceStatus, status: &Status) -> String {
    let window = words::window(Duration::from_secs_f64(status.window_seconds));
    let failures = words::at_least(1.0 - service.traffic.success_ratio.unwrap_or(1.0));
    let healthy = match service.endpoints.len() {
        1 => "its only endpoint counts as healthy".to_owned(),
        n => format!("its {n} endpoints count as healthy: they fail alike, or requests are turned away before them"),
    };
    format!("Clients of {} saw {failures} failures in {window}, while {healthy}.", service.traffic.name)
}

/// What the journal knows of it, and where to look.
fn why_failing(service: &ServiceStatus, records: &[Record], now_unix_ms: u64) -> Vec<String> {
    let name = &service.traffic.name;
    let tells = |r: &&Record| {
        let lately = now_unix_ms.saturating_sub(r.until_unix_ms) < 120_000;
        r.service == *name
            && lately
            && matches!(r.kind.as_str(), "limit.reached" | "budget.exhausted" | "parking.began")
    };
    let mut told: Vec<&Record> = Vec::new();
    for record in records.iter().filter(tells) {
        if !told.iter().any(|t| t.kind == record.kind) {
            told.push(record);
        }
    }
    let said = |r: &Record| format!("The journal says: {}.", words::tame(&r.sentence));
    let mut text: Vec<String> = told.into_iter().map(said).collect();
    text.push(format!("What was done with each request that failed: evenkeel why, or the page Why, for {name}."));
    text
}

/// Nobody is healthy, and whoever is there answers.
fn answering_all_the_same(service: &ServiceStatus, status: &Status) -> String {
    let window = words::window(Duration::from_secs_f64(status.window_seconds));
    let ratio = words::percent(service.traffic.success_ratio.unwrap_or_default());
    format!(
        "No endpoint of {} is healthy; its requests are sent to them all the same, and {ratio} succeeded in {window}.",
        service.traffic.name
    )
}

/// Who takes the requests of a service in trouble, and what clients saw.
fn meanwhile(service: &ServiceStatus, status: &Status) -> String {
    let is_taking = |e: &&EndpointStatus| e.tier == service.active_tier && e.state.is_in_use();
    let usable = service.endpoints.iter().filter(is_taking).count();
    let who = match usable {
        0 => "No other endpoint of its tier takes the requests".to_owned(),
        1 => "Its one other endpoint takes the requests".to_owned(),
        n => format!("Its {n} others take the requests"),
    };
    let window = words::window(Duration::from_secs_f64(status.window_seconds));
    let name = &service.traffic.name;
    let seen = match service.traffic.success_ratio {
        None => format!("nobody asked for {name} in {window}"),
        Some(ratio) if ratio >= 1.0 => format!("clients of {name} saw no failure in {window}"),
        Some(ratio) => format!("clients of {name} saw {} failures in {window}", words::at_least(1.0 - ratio)),
    };
    format!("{who}; {seen}.")
}

/// What becomes of requests to a service that nobody serves.
fn lost(service: &ServiceStatus) -> Vec<String> {
    let name = &service.traffic.name;
    let mut text = vec![format!("No endpoint of {name} takes requests.")];
    if service.parked > 0 {
        let n = words::grouped(service.parked);
        let verb = if service.parked == 1 { "request waits" } else { "requests wait" };
        text.push(format!("{n} {verb} for one that can be reached; it is tried again all the time."));
    } else {
        text.push("Each is tried again all the time; the first that answers takes requests again.".to_owned());
    }
    text
}

#[cfg(test)]
#[path = "headline_tests.rs"]
mod tests;
