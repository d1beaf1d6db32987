//! Sending again what a stale connection swallowed. An endpoint may close an idle connection at the very moment when
//! we reuse it; the request then ends without a byte of an answer, and nobody did anything wrong. Such a request is sent
//! once more on a fresh connection, where that cannot do harm:
//!
//! | connection | answer | request | body | |
//! | --- | --- | --- | --- | --- |
//! | fresh | | | | no: the endpoint failed, it did not merely grow tired of waiting |
//! | reused | begun | | | no: the request was seen |
//! | reused | none | idempotent, or not a byte of it was sent | can be replayed | **once** |
//! | reused | none | not idempotent, and some of it was sent | | no: it may have been done |
//!
//! Source: RFC 9110, 9.2.2 (idempotent methods) and RFC 9112, 9.3.1 (retrying requests). Retries for other reasons, and
//! their budget, are not decided here.

use std::time::Duration;

use crate::budget::BudgetRule;

/// When and how often a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryRule {
    /// Attempts at one request, the first included.
    pub attempts: u32,
    /// How long one attempt may take to be answered; `None`: as long as the request has.
    pub per_try_timeout: Option<Duration>,
    /// Whether silence far beyond the usual starts a second try beside the first.
    pub hedge: bool,
    /// Requests with a longer body are streamed, and not sent again once some of it was.
    pub max_replay: u64,
    /// How many second tries there may be.
    pub budget: BudgetRule,
}

impl Default for RetryRule {
    fn default() -> RetryRule {
        RetryRule {
            attempts: 3,
            per_try_timeout: None,
            hedge: true,
            max_replay: 64 * 1024,
            budget: BudgetRule::default(),
        }
    }
}

/// What becomes of a request whose connection ended, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleVerdict {
    /// It is sent again, on a fresh connection.
    Retry,
    /// The connection was fresh: this is no stale connection.
    NotReused,
    /// The answer had begun.
    AnswerBegun,
    /// It was sent again once already.
    AlreadyRetried,
    /// It is not idempotent and some of it was sent.
    NotIdempotent,
    /// Part of its body is gone.
    NotReplayable,
}

/// Whether sending a request with this method several times has the effect of sending it once.
#[inline]
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE")
}

/// What becomes of a request whose connection ended before its answer was complete. `bytes_sent` and `bytes_received`
/// count this request's bytes on this connection; `replayable`: whatever of the body was taken from the client is still
/// at hand.
pub fn stale_verdict(
    method: &[u8],
    reused: bool,
    bytes_sent: u64,
    bytes_received: u64,
    replayable: bool,
    already_retried: bool,
) -> StaleVerdict {
    if !reused {
        StaleVerdict::NotReused
    } else if bytes_received > 0 {
        StaleVerdict::AnswerBegun
    } else if already_retried {
        StaleVerdict::AlreadyRetried
    } else if bytes_sent > 0 && !is_idempotent(method) {
        StaleVerdict::NotIdempotent
    } else if !replayable {
        StaleVerdict::NotReplayable
    } else {
        StaleVerdict::Retry
    }
}

/// Whether [`stale_verdict`] is to send it again.
pub fn stale_connection(
    method: &[u8],
    reused: bool,
    bytes_sent: u64,
    bytes_received: u64,
    replayable: bool,
    already_retried: bool,
) -> bool {
    stale_verdict(method, reused, bytes_sent, bytes_received, replayable, already_retried) == StaleVerdict::Retry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotent_methods_are_those_of_rfc_9110() {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            assert!(is_idempotent(method.as_bytes()), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", "", "PROPFIND"] {
            assert!(!is_idempotent(method.as_bytes()), "{method}");
        }
    }

    #[test]
    fn only_a_reused_silent_connection_is_retried_and_only_once() {
        use StaleVerdict::*;
        for (method, reused, sent, received, replayable, again, verdict) in [
            ("GET", true, 80, 0, true, false, Retry),
            ("POST", true, 0, 0, true, false, Retry),
            ("GET", false, 80, 0, true, false, NotReused),
            ("GET", true, 80, 1, true, false, AnswerBegun),
            ("GET", true, 80, 0, true, true, AlreadyRetried),
            ("POST", true, 1, 0, true, false, NotIdempotent),
            ("PUT", true, 80, 0, false, false, NotReplayable),
            ("POST", true, 0, 0, false, false, NotReplayable),
        ] {
            let args = (method.as_bytes(), reused, sent, received, replayable, again);
            assert_eq!(stale_verdict(args.0, args.1, args.2, args.3, args.4, args.5), verdict, "{args:?}");
            assert_eq!(stale_connection(args.0, args.1, args.2, args.3, args.4, args.5), verdict == Retry, "{args:?}");
        }
    }
}
