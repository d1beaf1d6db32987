//! The faults of an upstream as they are switched: one JSON object replaces the last one whole; `{}` heals. A field that
//! does not exist is refused, because a fault that is misspelt would look like a proxy that copes with it.

use serde::{Deserialize, Serialize};

/// How wrong things go. Rates are shares of requests, 0 to 1.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fault {
    /// Added latency.
    pub(crate) latency_ms: f64,
    /// Requests that get the latency.
    pub(crate) latency_rate: f64,
    /// Answered with `error_status`, before any effect.
    pub(crate) error_rate: f64,
    pub(crate) error_status: u16,
    /// Read and never answered.
    pub(crate) hang_rate: f64,
    /// Half of the body, then a reset.
    pub(crate) reset_rate: f64,
    /// Closed after the effect and before any byte of the answer.
    pub(crate) close_rate: f64,
    /// Listener and every connection closed, as by a crash.
    pub(crate) refuse: bool,
    /// How much is served at all.
    pub(crate) capacity: Option<Capacity>,
    /// A connection is closed when it has been idle for this long …
    pub(crate) idle_close_ms: Option<f64>,
    /// … and for this long before the close is seen, nothing is read any more: it stands for the way of the FIN and of a
    /// request that has been sent already. On loopback that window is some 50 us, and would hardly ever be hit.
    pub(crate) idle_close_lag_ms: f64,
    /// What `/healthz` says.
    pub(crate) health: Health,
}

/// What `/healthz` says.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    /// All is well, whatever happens to other requests: a grey failure.
    #[default]
    Ok,
    /// 503.
    Fail,
    /// Meets the same faults as other requests.
    Follow,
}

/// So many workers with a fixed service time behind a queue that ends somewhere.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capacity {
    pub(crate) workers: usize,
    pub(crate) service_ms: f64,
    /// Requests that wait; one more is refused at once.
    pub(crate) queue: usize,
}

impl Default for Fault {
    fn default() -> Fault {
        Fault {
            latency_ms: 0.0,
            latency_rate: 1.0,
            error_rate: 0.0,
            error_status: 503,
            hang_rate: 0.0,
            reset_rate: 0.0,
            close_rate: 0.0,
            refuse: false,
            capacity: None,
            idle_close_ms: None,
            idle_close_lag_ms: 0.0,
            health: Health::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn a_misspelt_fault_is_refused() {
        let wrong = [r#"{"eror_rate":0.5}"#, r#"{"health":"green"}"#, r#"{"capacity":{"workers":2}}"#];
        for text in wrong {
            assert!(serde_json::from_str::<Fault>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Fault>("{}").unwrap(), Fault::default());
    }
}
