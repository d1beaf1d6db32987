//! Which answers are held until they are whole. An answer of which nothing was passed on can still be had elsewhere when
//! its connection breaks; one that has begun at the client cannot.
//!
//! | request | answer | memory | |
//! | --- | --- | --- | --- |
//! | not idempotent | | | passed on as it comes: it could not be tried again anyway |
//! | idempotent | chunked, or a type that streams | | passed on as it comes: somebody waits for its parts |
//! | idempotent | complete in the first read | | whole already |
//! | idempotent | `Content-Length` up to [`HoldRule::max_body`] | there is room | **held**, for [`HoldRule::max_wait`] at most |
//! | idempotent | longer, or of unknown length | | passed on as it comes |
//! | idempotent | | no room | passed on as it comes |

use std::time::Duration;

use kernel::Moment;

/// Small answers to idempotent requests are held until they are whole, so that a break can be tried elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldRule {
    /// Answers with a longer body are passed on as they come; 0: all are.
    pub max_body: u64,
    /// After this long what is there is passed on.
    pub max_wait: Duration,
    /// Held bytes of one service, over all its requests.
    pub max_bytes: u64,
}

impl Default for HoldRule {
    fn default() -> HoldRule {
        HoldRule { max_body: 64 * 1024, max_wait: Duration::from_millis(100), max_bytes: 64 * 1024 * 1024 }
    }
}

/// Whether an answer is held until it is whole. `content_length`: what it says of its body; `complete_in_first_read`: it
/// is there with its head; `chunked_or_stream`: its framing or its type says that it comes in parts; `held_bytes_now`:
/// what the service's other answers hold, in bytes of body (the caller adds this one's in the same step).
pub const fn may_hold(
    rule: &HoldRule,
    idempotent: bool,
    content_length: Option<u64>,
    complete_in_first_read: bool,
    chunked_or_stream: bool,
    held_bytes_now: u64,
) -> bool {
    if rule.max_body == 0 || rule.max_wait.is_zero() || !idempotent || chunked_or_stream {
        return false;
    }
    match content_length {
        Some(length) => length <= rule.max_body && held_bytes_now.saturating_add(length) <= rule.max_bytes,
        None => complete_in_first_read,
    }
}

/// When what is there is passed on: [`HoldRule::max_wait`] after the answer `began`, or at the request's `deadline` if
/// that comes first.
pub fn until(rule: &HoldRule, began: Moment, deadline: Moment) -> Moment {
    (began + rule.max_wait).min(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: HoldRule = HoldRule { max_body: 1000, max_wait: Duration::from_millis(100), max_bytes: 5000 };

    #[test]
    fn small_whole_answers_to_repeatable_requests_are_held() {
        for (idempotent, length, complete, parts, held, expected) in [
            (true, Some(1000), false, false, 4000, true),
            (true, Some(1001), false, false, 0, false),
            (true, Some(1000), false, false, 4001, false),
            (true, Some(1000), false, false, u64::MAX, false),
            (true, Some(0), true, false, 5000, true),
            (true, None, true, false, 0, true),
            (true, None, false, false, 0, false),
            (true, Some(10), true, true, 0, false),
            (false, Some(10), true, false, 0, false),
        ] {
            let held_back = may_hold(&RULE, idempotent, length, complete, parts, held);
            assert_eq!(held_back, expected, "{idempotent} {length:?} {complete} {parts} {held}");
        }
    }

    #[test]
    fn a_rule_of_nothing_holds_nothing() {
        assert!(!may_hold(&HoldRule { max_body: 0, ..RULE }, true, Some(0), true, false, 0));
        assert!(!may_hold(&HoldRule { max_wait: Duration::ZERO, ..RULE }, true, Some(0), true, false, 0));
    }

    #[test]
    fn nothing_is_held_beyond_the_wait_or_the_deadline() {
        let at = Moment::from_millis;
        assert_eq!(until(&RULE, at(50), at(1000)), at(150));
        assert_eq!(until(&RULE, at(50), at(90)), at(90));
        assert_eq!(until(&HoldRule { max_wait: Duration::MAX, ..RULE }, at(50), Moment::MAX), Moment::MAX);
    }
}
