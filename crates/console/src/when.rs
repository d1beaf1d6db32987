//! Points in time as people read them: UTC, since whoever reads about one incident may sit in several zones, and beside
//! it how long ago. Times are milliseconds since the Unix epoch, as records have them.

use std::time::Duration;

use jiff::Timestamp;

use crate::words;

fn written(unix_ms: u64, format: &str) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    match Timestamp::from_millisecond(ms) {
        Ok(at) => at.strftime(format).to_string(),
        // Beyond the year 9999: a clock that was set to nonsense.
        Err(_) => format!("{unix_ms} ms after 1970"),
    }
}

/// `2026-03-01 12:00:05 UTC`.
pub(crate) fn full(unix_ms: u64) -> String {
    written(unix_ms, "%Y-%m-%d %H:%M:%S UTC")
}

/// `2026-03-01T12:00:05.120Z`, for programs and for `since` and `until`.
pub(crate) fn machine(unix_ms: u64) -> String {
    written(unix_ms, "%Y-%m-%dT%H:%M:%S.%3fZ")
}

/// `12:00:05`.
pub(crate) fn clock(unix_ms: u64) -> String {
    written(unix_ms, "%H:%M:%S")
}

/// `12:00`.
pub(crate) fn minute(unix_ms: u64) -> String {
    written(unix_ms, "%H:%M")
}

/// `1 Mar`.
pub(crate) fn date(unix_ms: u64) -> String {
    written(unix_ms, "%-d %b")
}

/// `Sunday, 1 March 2026`.
pub(crate) fn day(unix_ms: u64) -> String {
    written(unix_ms, "%A, %-d %B %Y")
}

/// How long before `now` it was.
pub(crate) fn ago(unix_ms: u64, now_unix_ms: u64) -> String {
    words::ago(Duration::from_millis(now_unix_ms.saturating_sub(unix_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        let at = 1_772_366_405_120;
        assert_eq!(full(at), "2026-03-01 12:00:05 UTC");
        assert_eq!(machine(at), "2026-03-01T12:00:05.120Z");
        assert_eq!((clock(at), minute(at)), ("12:00:05".to_owned(), "12:00".to_owned()));
        assert_eq!((date(at), day(at)), ("1 Mar".to_owned(), "Sunday, 1 March 2026".to_owned()));
        assert_eq!(ago(at, at + 65_000), "1 min ago");
        assert_eq!(ago(at, at - 1), "just now");
        assert!(full(u64::MAX).ends_with("ms after 1970"));
    }
}
