//! The tables of `[service.NAME]` that say what is done while endpoints fail: who is judged how, what is tried again, what
//! waits, and where requests go instead. Each key is one of a rule in `policy`, which says how it is applied; the defaults
//! are those of the rules, which a test checks.

use kernel::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::share::Share;

/// The queue in which requests wait while every endpoint works on as many as `max_requests` allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Requests that wait. One more is answered 503 at once.
    ///
    /// Default: `1024`. Range: `0` to `65535`. Reload: live.
    ///
    /// Why: it holds a burst, and `timeout` keeps it from becoming a standing queue.
    pub max: u32,
    /// How long a request waits before it is answered 503.
    ///
    /// Default: `250ms`. Range: `0s` to `1m`. Reload: live.
    ///
    /// Why: a service that catches up does so in that time; one that does not is only made later by a longer queue.
    pub timeout: Span,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { max: 1024, timeout: Span::from_millis(250) }
    }
}

/// How many second tries a service may get, over ten seconds. Tries of what never left the gateway are free.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBudget {
    /// Second tries as a share of the requests.
    ///
    /// Default: `20%`. Range: `0%` to `100%`. Reload: live.
    ///
    /// Why: it covers one endpoint of five that fails, and an overloaded service gets at most a fifth more than it was
    /// sent.
    pub share: Share,
    /// Second tries a second, whatever the number of requests.
    ///
    /// Default: `10`. Range: `0` to `10000`. Reload: live.
    ///
    /// Why: a share of few requests is none, and ten requests a second overload nobody.
    pub per_second: f64,
    /// What the share may rise to, in steps, while second tries are seen to succeed; it falls back at once when they do
    /// not. The same as `share` keeps it from rising.
    ///
    /// Default: `45%`. Range: `0%` to `100%`. Reload: live.
    ///
    /// Why: where three attempts in ten fail, three attempts at a request come to 39 % more; and only success opens it,
    /// so that it stays shut in an overload, where second tries do harm.
    pub ceiling: Share,
}

impl Default for RetryBudget {
    fn default() -> RetryBudget {
        RetryBudget { share: Share::percent(20), per_second: 10.0, ceiling: Share::percent(45) }
    }
}

/// How endpoints are judged by what requests meet: failures, latency and silence. The last endpoint is never taken out,
/// nor are all of them when all look alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outlier {
    /// Whether what requests meet may take an endpoint out at all. Health checks and operators may in any case.
    ///
    /// Default: `true`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: a health check asks one path now and then; requests know sooner, and know about all of them.
    pub enabled: bool,
    /// Failures in a row that take an endpoint out, whatever its share of failures.
    ///
    /// Default: `5`. Range: `1` to `1000`. Reload: live.
    ///
    /// Why: an endpoint that fails one request in ten by itself gets there once in 100,000 requests, a dead one in a
    /// moment.
    pub consecutive_failures: u32,
    /// The largest share of a tier's endpoints that may be out for what requests met. It is rounded up, and one endpoint
    /// always stays.
    ///
    /// Default: `50%`. Range: `0%` to `100%`. Reload: live.
    ///
    /// Why: one of two and two of three may go; where more than half look bad, it is hardly the endpoints.
    pub max_ejected: Share,
    /// How long an endpoint stays out the first time. The time doubles when it fails again.
    ///
    /// Default: `2s`. Range: `100ms` to `1h`. Reload: live.
    ///
    /// Why: most restarts and pauses are over by then, and a first judgement may be wrong.
    pub base_ejection: Span,
    /// How long at most.
    ///
    /// Default: `1m`. Range: `100ms` to `1d`. Reload: live.
    ///
    /// Why: an endpoint that was mended gets requests again within a minute, without anybody's help.
    pub max_ejection: Span,
    /// How long an endpoint that returns takes to reach its full share. `0s` gives it all at once.
    ///
    /// Default: `10s`. Range: `0s` to `1h`. Reload: live.
    ///
    /// Why: a process that has just started has cold caches and no connections to its database.
    pub slow_start: Span,
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier {
            enabled: true,
            consecutive_failures: 5,
            max_ejected: Share::percent(50),
            base_ejection: Span::from_secs(2),
            max_ejection: Span::from_secs(60),
            slow_start: Span::from_secs(10),
        }
    }
}

/// Small answers to idempotent requests are held until they are whole, so that one that breaks off can be tried
/// elsewhere. Event streams and answers of unknown length are never held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// Answers with a longer body are passed on as they come. `0B` holds none.
    ///
    /// Default: `64KiB`. Range: `0B` to `1MiB`. Reload: live.
    ///
    /// Why: most answers of an API and most pages are smaller, and come in one piece anyway.
    pub max_body: ByteSize,
    /// After this long what is there is passed on.
    ///
    /// Default: `100ms`. Range: `0s` to `10s`. Reload: live.
    ///
    /// Why: nobody sees a tenth of a second, and an answer that comes in drops is meant to be seen in drops.
    pub max_wait: Span,
}

impl Default for Hold {
    fn default() -> Hold {
        Hold { max_body: ByteSize::from_kib(64), max_wait: Span::from_millis(100) }
    }
}

/// How requests wait while no endpoint can be reached at all, as in a restart of the only one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Park {
    /// How long a request waits before it is answered 503; half of the time it has left, if that is shorter. `0s` lets
    /// none wait.
    ///
    /// Default: `2s`. Range: `0s` to `1m`. Reload: live.
    ///
    /// Why: a quick restart is over by then, and a reader who has waited longer tries again anyway.
    pub max_wait: Span,
    /// Requests that wait. One more is answered 503 at once.
    ///
    /// Default: `2048`. Range: `1` to `65535`. Reload: live.
    ///
    /// Why: it is what a busy service gets in two seconds, and as much as it can work off in another two.
    pub max_requests: u32,
    /// Their bytes, heads and bodies together.
    ///
    /// Default: `64MiB`. Range: `1KiB` to `16GiB`. Reload: live.
    ///
    /// Why: 2,048 requests are 32 KiB each, and a small machine has that much to spare.
    pub max_bytes: ByteSize,
}

impl Default for Park {
    fn default() -> Park {
        Park { max_wait: Span::from_secs(2), max_requests: 2048, max_bytes: ByteSize::from_mib(64) }
    }
}

/// When a tier of endpoints gives way to the next. A service whose endpoints are all in one tier has nothing to fail over
/// to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Failover {
    /// A tier with a smaller share of usable endpoints, by weight, hands a part of its requests to the next, in
    /// proportion.
    ///
    /// Default: `50%`. Range: `0%` to `100%`. Reload: live.
    ///
    /// Why: the half that is left mostly carries the load, while the next tier may be further away.
    pub spill_below: Share,
    /// How long a tier has to be whole enough until it takes its requests back.
    ///
    /// Default: `10s`. Range: `0s` to `1d`. Reload: live.
    ///
    /// Why: an endpoint that returns often goes again, and moving all requests to and fro costs more than waiting.
    pub fail_back_delay: Span,
}

impl Default for Failover {
    fn default() -> Failover {
        Failover { spill_below: Share::percent(50), fail_back_delay: Span::from_secs(10) }
    }
}
