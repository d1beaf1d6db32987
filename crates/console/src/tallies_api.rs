//! Exact counts over HTTP: `GET /v1/tallies`. Without a `scope` it lists what is counted; with one, the periods of a
//! route, a service, an endpoint or a pool. A period says how much of it was covered by a process that counted: what was not
//! covered is not known, which is something else than nothing.
//!
//! | `step` | kept for | if `since` is left out |
//! | --- | --- | --- |
//! | `15s` | 15 days | an hour |
//! | `1m` (usual) | 35 days | six hours |
//! | `1h` | 13 months | seven days |
//!
//! Limit: [`MAX_POINTS`] periods in one answer.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use kernel::tally::{Period, Step, Subject, bounds_seconds};
use serde_json::{Value, json};

use crate::admin::Shared;
use crate::journal_api::{kept, now_unix_ms};
use crate::problem::Problem;
use crate::query::{Params, wrong};

/// As many points as common tools take in one series.
const MAX_POINTS: u64 = 11_000;

const KNOWN: [&str; 6] = ["scope", "name", "service", "step", "since", "until"];

#[derive(Clone, Copy, Debug)]
enum Scope {
    Route,
    Service,
    Endpoint,
    Pool,
}

/// `GET /v1/tallies`.
pub(crate) async fn read(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &KNOWN)?;
    let Some(subject) = subject(&params)? else {
        let subjects = kept(&shared, "what was counted", |node| node.tallies().subjects()).await?;
        return Ok(Json(json!({ "subjects": subjects })).into_response());
    };
    let steps = [("15s", Step::Quarter), ("1m", Step::Minute), ("1h", Step::Hour)];
    let step = params.word("step", &steps)?.unwrap_or(Step::Minute);
    let (from, until) = range(&params, step, now_unix_ms(&shared))?;
    let asked = subject.clone();
    let read = kept(&shared, "what was counted", move |node| node.tallies().read(&asked, step, from, until)).await?;
    let periods: Vec<Value> = read.iter().map(period).collect();
    let document = json!({
        "subject": subject,
        "step_seconds": step.seconds(),
        "since_unix_s": from,
        "until_unix_s": until,
        "latency_bounds_seconds": bounds_seconds().collect::<Vec<_>>(),
        "periods": periods,
    });
    Ok(Json(document).into_response())
}

fn subject(params: &Params) -> Result<Option<Subject>, Problem> {
    let scopes =
        [("route", Scope::Route), ("service", Scope::Service), ("endpoint", Scope::Endpoint), ("pool", Scope::Pool)];
    let scope = params.word("scope", &scopes)?;
    let (name, service) = (params.text("name")?, params.text("service")?);
    let Some(scope) = scope else {
        return match params.one("name")? {
            Some(_) => Err(wrong("scope", "say of what the name is: route, service, endpoint or pool")),
            None => Ok(None),
        };
    };
    let Some(name) = name else { return Err(wrong("name", "it is missing; GET /v1/tallies lists what is counted")) };
    match (scope, service) {
        (Scope::Route, None) => Ok(Some(Subject::Route { name })),
        (Scope::Service, None) => Ok(Some(Subject::Service { name })),
        (Scope::Pool, None) => Ok(Some(Subject::Pool { name })),
        (Scope::Endpoint, Some(service)) => Ok(Some(Subject::Endpoint { service, name })),
        (Scope::Endpoint, None) => Err(wrong("service", "it is missing; an endpoint is one of a service")),
        (_, Some(_)) => Err(wrong("service", "it belongs to the scope endpoint; leave it out")),
    }
}

/// From when and until when, in seconds since the Unix epoch, on the borders of periods.
fn range(params: &Params, step: Step, now_unix_ms: u64) -> Result<(u64, u64), Problem> {
    let seconds = u64::from(step.seconds());
    let until = params.instant("until", now_unix_ms)?.unwrap_or(now_unix_ms + 1).div_ceil(1_000);
    let back = match step {
        Step::Quarter => 3_600,
        Step::Minute => 6 * 3_600,
        Step::Hour => 7 * 86_400,
    };
    let since = params.instant("since", now_unix_ms)?.map_or(until.saturating_sub(back), |ms| ms / 1_000);
    let (from, until) = (since - since % seconds, until.div_ceil(seconds) * seconds);
    if from >= until {
        return Err(wrong("since", "it is not before until"));
    }
    if (until - from) / seconds > MAX_POINTS {
        let detail = format!(
            "{} periods of {seconds} s are more than {MAX_POINTS}; take a longer step or a later since",
            (until - from) / seconds
        );
        return Err(wrong("since", detail));
    }
    Ok((from, until))
}

fn period(period: &Period) -> Value {
    let counts = &period.counts;
    let [upgraded, success, redirect, client_error, server_error, unanswered] = counts.by_class;
    json!({
        "start_unix_s": period.start_unix_s,
        "seconds": period.seconds,
        "covered_ms": period.covered_ms,
        "requests": counts.total(),
        "failed": counts.failed(),
        "answers": {
            "1xx": upgraded, "2xx": success, "3xx": redirect, "4xx": client_error, "5xx": server_error,
            "unanswered": unanswered,
        },
        "second_tries": counts.second_tries,
        "latency": { "buckets": counts.latency.buckets, "sum_us": counts.latency.sum_us },
    })
}
