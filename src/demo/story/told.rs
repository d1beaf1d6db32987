//! What a chapter came to: what customers saw, what the gateway told, and whether it went as it should. Made from plain
//! values, and serialized as it is for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::journal::Record;
use kernel::trace::{RequestTrace, What};
use serde::Serialize;

use super::chapters::{Chapter, Sign};
use crate::demo::traffic::TrafficReport;

/// What customers saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) ok: u64,
    pub(super) failed: u64,
    /// Of the failed: not even sent, because too many waited.
    pub(super) unsent: u64,
    /// 0: no whole answer.
    pub(super) by_status: BTreeMap<u16, u64>,
    /// Of what was answered well.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// Of everything.
    pub(super) slowest_ms: f64,
    pub(super) first_failure: Option<String>,
}

/// A replica to which something was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Hurt {
    pub(super) replica: usize,
    pub(super) address: String,
}

/// One chapter, when it is over.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Told {
    pub(super) chapter: &'static str,
    pub(super) began_unix_ms: u64,
    pub(super) done_unix_ms: Option<u64>,
    pub(super) undone_unix_ms: Option<u64>,
    pub(super) ended_unix_ms: u64,
    pub(super) hurt: Vec<Hurt>,
    /// The customers of the shop.
    pub(super) clients: Seen,
    /// Those who made the flood.
    pub(super) flood: Option<Seen>,
    /// What the gateway counted meanwhile.
    pub(super) second_tries: u64,
    /// What the gateway told, in its order.
    pub(super) records: Vec<Record>,
    /// What the gateway did with one of the requests.
    pub(super) path: Option<RequestTrace>,
    /// From the moment in which it was undone.
    pub(super) recovered_after_ms: Option<u64>,
    /// What did not go as it should.
    pub(super) problems: Vec<String>,
}

impl Seen {
    pub(super) fn of(report: &TrafficReport) -> Seen {
        Seen {
            requests: report.finished() + report.waiting,
            ok: report.ok,
            failed: report.failed,
            unsent: report.unsent,
            by_status: report.by_status.clone(),
            p50_ms: report.latencies.quantile(0.5).map(millis),
            p99_ms: report.latencies.quantile(0.99).map(millis),
            slowest_ms: millis(report.slowest),
            first_failure: report.first_failure.clone(),
        }
    }

    /// How many were answered with this status.
    pub(super) fn with(&self, status: u16) -> u64 {
        self.by_status.get(&status).copied().unwrap_or(0)
    }
}

/// To a tenth.
fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 10_000.0).round() / 10.0
}

impl Sign {
    /// Whether a record is the sign, for the endpoint if there has to be one for each.
    fn is(&self, record: &Record, endpoint: &str) -> bool {
        record.kind == self.kind && record.service == self.service && (!self.of_each || record.endpoint == endpoint)
    }

    /// Which of the records are the sign, one for each of those it has to come for; `None` as long as one is missing.
    pub(super) fn found<'a>(&self, records: &'a [Record], since: u64, hurt: &[Hurt]) -> Option<Vec<&'a Record>> {
        let find = |endpoint: &str| records.iter().find(|r| r.until_unix_ms >= since && self.is(r, endpoint));
        match self.of_each {
            true => hurt.iter().map(|h| find(&h.address)).collect(),
            false => find("").map(|record| vec![record]),
        }
    }
}

/// Whether everything that these records tell of is over: who was taken out, suspected or put on trial is back, and nobody
/// waits any more.
pub(super) fn is_settled(records: &[Record]) -> bool {
    let mut open: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    let mut records: Vec<&Record> = records.iter().collect();
    // One that was folded comes late, and counts from when it happened last.
    records.sort_by_key(|record| record.until_unix_ms);
    for record in records {
        let is_open = match record.kind.as_str() {
            "endpoint.ejected" | "endpoint.suspected" | "endpoint.on_probation" | "parking.began" => true,
            "endpoint.returned" | "endpoint.cleared" | "parking.ended" => false,
            _ => continue,
        };
        open.insert((record.service.as_str(), record.endpoint.as_str()), is_open);
    }
    open.values().all(|is_open| !is_open)
}

/// Whether a request was sent to one of these.
pub(super) fn touches(trace: &RequestTrace, hurt: &[Hurt]) -> bool {
    let is_hurt = |name: &str| hurt.iter().any(|h| h.address == name);
    trace.steps.iter().any(|step| matches!(&step.what, What::Try { endpoint, .. } if is_hurt(endpoint)))
}

impl Told {
    /// What did not go as it should, beyond signs that did not come.
    pub(super) fn judge(&mut self, chapter: &Chapter) {
        let most = chapter.may_fail.most(self.clients.requests);
        if self.clients.failed > most {
            let first = self.clients.first_failure.as_deref().unwrap_or_default();
            self.problems.push(format!("{} requests failed; at most {most} may ({first})", self.clients.failed));
        }
        if self.clients.ok == 0 {
            self.problems.push("nothing was answered well".to_owned());
        }
        for record in self.records.iter().filter(|r| r.kind == "endpoint.ejected") {
            if !self.hurt.iter().any(|h| h.address == record.endpoint) {
                self.problems.push(format!("nothing was done to it, and yet {}", record.sentence));
            }
        }
        if let Some(flood) = &self.flood {
            let (ok, shed) = (flood.ok, flood.with(503));
            if ok == 0 || shed == 0 || ok + shed != flood.requests {
                self.problems.push(format!(
                    "of {} reports {ok} were answered and {shed} turned away; both should be some, and there should be no others ({})",
                    flood.requests,
                    flood.first_failure.as_deref().unwrap_or_default()
                ));
            }
        }
        if self.path.is_none() {
            self.problems.push("the gateway can tell of no request of this chapter".to_owned());
        }
    }
}
