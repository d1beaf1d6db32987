//! Records of the journal and points in time as aligned lines: for curl, and for the command line, which shows them in
//! local time. Texts are tamed: a line cannot move a cursor.

use std::fmt::Write as _;

use kernel::journal::Record;
use kernel::trace::TraceLine;

use crate::words;

/// A record as a line: time, level, sentence, and how often if more than once.
pub fn record(time: &str, level: &str, sentence: &str, count: u64) -> String {
    let mut line = format!("{time}  {level:<5}  {}", words::tame(sentence));
    if count > 1 {
        // Writing to a String cannot fail.
        let _infallible = write!(line, "  x{count}");
    }
    line
}

/// Milliseconds since the Unix epoch as `2026-03-01T12:00:00Z`.
pub fn utc(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

/// Records in UTC, each on a line of its own.
pub(crate) fn records<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let line = |r: &Record| record(&utc(r.at_unix_ms), r.level.word(), &r.sentence, r.count) + "\n";
    records.into_iter().map(line).collect()
}

/// A request as a line: time, id, status, how long, what it was for, and why it is known.
pub fn trace(time: &str, id: &str, status: u64, took_us: u64, request: &str, kept: &str) -> String {
    let status = if status == 0 { words::NONE.to_owned() } else { status.to_string() };
    let took = words::latency(Some(took_us as f64 / 1_000.0));
    words::tame(&format!("{time}  {id}  {status:>3}  {took:>7}  {request}: {kept}"))
}

/// Requests in UTC, each on a line of its own.
pub(crate) fn traces(traces: &[TraceLine]) -> String {
    let line = |t: &TraceLine| {
        let kept: Vec<_> = t.kept.iter().map(|kept| kept.words()).collect();
        let request = format!("{} {}", t.method, t.target);
        trace(&utc(t.at_unix_us / 1_000), &t.id, t.status.into(), t.took_us, &request, &kept.join(", ")) + "\n"
    };
    traces.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_aligned_line() {
        let time = utc(1_772_366_400_999);
        assert_eq!(record(&time, "warn", "a:1 is\x1b[31m out", 1), "2026-03-01T12:00:00Z  warn   a:1 is [31m out");
        assert_eq!(record("12:00", "error", "it is\nlost", 40), "12:00  error  it is lost  x40");
        assert_eq!(utc(u64::MAX), "");
    }
}
