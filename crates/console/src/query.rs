//! What stands behind the `?` of an address, read strictly: a name that is not known, a value that cannot be meant and a
//! name given twice are refused, and the problem names the parameter and says what to write. An empty value counts as
//! left out, as forms send it.
//!
//! Limits: [`MAX_PAIRS`] pairs, values of [`MAX_VALUE_BYTES`]. Points in time are milliseconds since the Unix epoch.

use std::ops::RangeInclusive;
use std::time::Duration;

use kernel::Span;
use kernel::event::{EventKind, Level};
use kernel::journal::{JournalQuery, LIMIT_MAX, Order};

use crate::problem::{Problem, ProblemCode};
use crate::words;

/// Pairs of one query: every parameter, and each kind of event once.
const MAX_PAIRS: usize = 128;

/// The longest value: a name, or some kinds.
const MAX_VALUE_BYTES: usize = 2_000;

/// Below it a number of milliseconds lies before March 1973, and is a slip: most likely seconds.
const MIN_UNIX_MS: u64 = 100_000_000_000;

/// The parameters of a journal that is read, and of one that is followed.
const JOURNAL: [&str; 11] =
    ["after", "before", "since", "until", "kind", "service", "endpoint", "level", "marks", "limit", "order"];
const FOLLOW: [&str; 7] = ["after", "since", "kind", "service", "endpoint", "level", "marks"];

/// The parameters of one call.
#[derive(Debug)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

/// What is wrong with a parameter, and what to write.
pub(crate) fn wrong(name: &str, detail: impl AsRef<str>) -> Problem {
    let detail = words::tame(&format!("the parameter {name}: {}", detail.as_ref()));
    Problem::new(ProblemCode::MalformedCall, detail).with("parameter", name.into())
}

impl Params {
    /// The parameters of a call that knows these.
    pub(crate) fn read(query: Option<&str>, known: &[&str]) -> Result<Params, Problem> {
        let mut pairs = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let list = known.join(", ");
                return Err(wrong(&words::tame(&name), format!("it is not known here; there is {list}")));
            }
            if value.len() > MAX_VALUE_BYTES || pairs.len() == MAX_PAIRS {
                return Err(wrong(&name, format!("at most {MAX_PAIRS} values of {MAX_VALUE_BYTES} bytes are read")));
            }
            if !value.is_empty() {
                pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(Params { pairs })
    }

    /// A value that may be given once.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.pairs.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let first = values.next();
        match values.next() {
            Some(_) => Err(wrong(name, "it is there twice; give it once")),
            None => Ok(first),
        }
    }

    /// The same as a text of its own.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        Ok(self.one(name)?.map(str::to_owned))
    }

    /// Values that may be repeated, or stand in one value with commas between.
    pub(crate) fn many(&self, name: &str) -> Vec<&str> {
        let values = self.pairs.iter().filter(|(n, _)| n == name);
        values.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect()
    }

    /// A whole number.
    pub(crate) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = range.into_inner();
                let most = if most == u64::MAX { String::new() } else { format!(" to {most}") };
                Err(wrong(name, format!("{text:?} is not a whole number from {least}{most}")))
            }
        }
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let list = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
                Err(wrong(name, format!("{text:?} is none of {list}")))
            }
        }
    }

    /// A point in time, or a span back from `now`.
    pub(crate) fn instant(&self, name: &str, now_unix_ms: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        instant(text, now_unix_ms).map(Some).map_err(|detail| wrong(name, detail))
    }
}

/// A point in time as people and programs write it: RFC 3339, milliseconds since the Unix epoch, or a span back from now
/// such as `15m`.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn instant(text: &str, now_unix_ms: u64) -> Result<u64, String> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u64>() {
            Ok(ms) if ms >= MIN_UNIX_MS => Ok(ms),
            Ok(seconds) => {
                Err(format!("{text} is taken for milliseconds and is too long ago; write {}", seconds * 1000))
            }
            Err(_) => Err(format!("{text} is too large for milliseconds since the Unix epoch")),
        };
    }
    if let Ok(span) = text.parse::<Span>() {
        let back = Duration::from(span).as_millis();
        return Ok(now_unix_ms.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX)));
    }
    // In a query the plus of an offset that was not encoded has become a blank.
    let time = match text.rfind(' ') {
        Some(at) if at > 10 => format!("{}+{}", &text[..at], &text[at + 1..]),
        _ => text.to_owned(),
    };
    let time = time.parse::<jiff::Timestamp>().map_err(|_| {
        format!(
            "{text:?} is no time; write 2026-03-01T12:00:00Z, milliseconds since the Unix epoch, or a span back: 15m"
        )
    })?;
    Ok(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

/// Which records of the journal a call asks for.
pub(crate) fn journal(query: Option<&str>, now_unix_ms: u64) -> Result<JournalQuery, Problem> {
    let params = Params::read(query, &JOURNAL)?;
    let mut wanted = filters(&params, now_unix_ms)?;
    wanted.before = params.number("before", 0..=u64::MAX)?;
    wanted.until_unix_ms = params.instant("until", now_unix_ms)?;
    if let Some(limit) = params.number("limit", 1..=LIMIT_MAX as u64)? {
        wanted.limit = limit as usize;
    }
    // Whoever has a place in the journal goes on from there.
    let natural = if wanted.after.is_some() { Order::OldestFirst } else { Order::NewestFirst };
    let orders = [("newest", Order::NewestFirst), ("oldest", Order::OldestFirst)];
    wanted.order = params.word("order", &orders)?.unwrap_or(natural);
    Ok(wanted)
}

/// Which records of the journal are to be followed.
pub(crate) fn follow(query: Option<&str>, now_unix_ms: u64) -> Result<JournalQuery, Problem> {
    let params = Params::read(query, &FOLLOW)?;
    Ok(JournalQuery { order: Order::OldestFirst, ..filters(&params, now_unix_ms)? })
}

fn filters(params: &Params, now_unix_ms: u64) -> Result<JournalQuery, Problem> {
    let levels = [("info", Level::Info), ("warn", Level::Warn), ("error", Level::Error)];
    Ok(JournalQuery {
        after: params.number("after", 0..=u64::MAX)?,
        since_unix_ms: params.instant("since", now_unix_ms)?,
        kinds: kinds(params)?,
        service: params.text("service")?,
        endpoint: params.text("endpoint")?,
        level: params.word("level", &levels)?.unwrap_or(Level::Info),
        marks: params.word("marks", &[("true", true), ("1", true), ("false", false), ("0", false)])?.unwrap_or(false),
        ..JournalQuery::default()
    })
}

fn kinds(params: &Params) -> Result<Vec<String>, Problem> {
    let group = |kind: &EventKind| kind.name().split('.').next().unwrap_or_default();
    let kinds = params.many("kind");
    for kind in &kinds {
        if EventKind::from_name(kind).is_none() && !EventKind::ALL.iter().any(|known| group(known) == *kind) {
            let mut groups: Vec<_> = EventKind::ALL.iter().map(group).collect();
            groups.dedup();
            let detail = format!("{kind:?} is no kind of event; write one such as endpoint.ejected, or a group: ");
            return Err(wrong("kind", detail + &groups.join(", ")));
        }
    }
    Ok(kinds.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_772_366_400_000;

    #[test]
    fn a_time_is_written_in_three_ways() {
        assert_eq!(instant("15m", NOW), Ok(NOW - 900_000));
        assert_eq!(instant("1772366400000", NOW), Ok(NOW));
        for text in ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "2026-03-01T13:00:00 01:00"] {
            assert_eq!(instant(text, NOW), Ok(NOW), "{text}");
        }
        assert_eq!(instant("1d", 5), Ok(0));
        assert!(instant("1772366400", NOW).unwrap_err().ends_with("write 1772366400000"));
        for bad in ["", "15", "yesterday", "2026-03-01", "-5m", "99999999999999999999", "2026-13-01T00:00:00Z", "é"] {
            assert!(instant(bad, NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_says_which_records_are_wanted() {
        let query = "after=7&since=1h&kind=endpoint,node.started&kind=deploy&service=shop&endpoint=a%3A1&level=warn\
                     &marks=true&limit=1000&until=";
        let wanted = journal(Some(query), NOW).unwrap();
        assert_eq!((wanted.after, wanted.since_unix_ms, wanted.until_unix_ms), (Some(7), Some(NOW - 3_600_000), None));
        assert_eq!(wanted.kinds, ["endpoint", "node.started", "deploy"]);
        assert_eq!((wanted.service.as_deref(), wanted.endpoint.as_deref()), (Some("shop"), Some("a:1")));
        assert_eq!((wanted.level, wanted.marks, wanted.limit), (Level::Warn, true, 1000));
        assert_eq!(wanted.order, Order::OldestFirst);
        assert_eq!(journal(Some("after=7&order=newest"), NOW).unwrap().order, Order::NewestFirst);
        assert_eq!(journal(None, NOW).unwrap(), JournalQuery::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let cases = [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=ten", "limit"),
            ("after=-1", "after"),
            ("level=fatal", "level"),
            ("order=up", "order"),
            ("marks=yes", "marks"),
            ("kind=endpoint.exploded", "kind"),
            ("kind=endpo", "kind"),
            ("since=soon", "since"),
            ("service=a&service=b", "service"),
            ("servce=a", "servce"),
        ];
        for (query, name) in cases {
            let problem = journal(Some(query), NOW).unwrap_err();
            assert_eq!(problem.code, ProblemCode::MalformedCall, "{query}");
            assert_eq!(problem.extra["parameter"], name, "{query}");
            assert!(problem.detail.starts_with(&format!("the parameter {name}: ")), "{}", problem.detail);
        }
        assert!(follow(Some("limit=5"), NOW).is_err());
        let many = vec!["kind=node"; MAX_PAIRS + 1].join("&");
        assert!(journal(Some(&many), NOW).is_err() && journal(Some(&many[10..]), NOW).is_ok());
        let long = format!("service={}", "x".repeat(MAX_VALUE_BYTES + 1));
        assert!(journal(Some(&long), NOW).is_err() && journal(Some(&long[..long.len() - 1]), NOW).is_ok());
    }
}
