//! `evenkeel journal`: what changed, from the journal of a running node, the newest last; with `--follow` also what changes
//! from now on. A follower comes back by itself when the node restarts or hands over, goes on where it was, and prints
//! nothing twice: places in the journal are those of the journal, not of the process.
//!
//! Times are local. With `--json` a page is one object, and what is followed one object on each line.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use console::lines;
use console::query::instant;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kernel::Clock;
use kernel::journal::unix_ms;
use serde_json::Value;

use super::events::Event;
use super::remote::{Query, Remote, RemoteArgs, print};

/// Before a node that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Show what changed, and follow it
#[derive(Debug, Args)]
pub struct JournalArgs {
    /// Go on printing what is told from now on
    #[arg(short, long, conflicts_with = "until")]
    follow: bool,
    /// Only what happened since then: 15m, or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what happened before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only this kind, such as endpoint.ejected, or this group, such as endpoint; repeat it for more
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only what is about this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only what is about this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Only what is at least so grave: info, warn or error
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// Only what charts show as a change: starts, reloads, deployments, endpoints that went and came back
    #[arg(long)]
    marks: bool,
    /// How many to print at most, the newest; 1000 at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// What was printed of records that had no place yet.
type Met = HashSet<(String, u64)>;

/// Asks the node, and prints its answer.
///
/// # Errors
/// When the node cannot be reached or refuses what is asked, or the output cannot be written.
pub fn run(args: &JournalArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::of(&args.remote)?;
    let wanted = args.wanted()?;
    let page = remote.get(&wanted.clone().with("limit", Some(&args.limit.to_string())).path("/v1/journal"))?;
    let mut records = page["records"].as_array().cloned().unwrap_or_default();
    records.reverse();
    let text = match (args.remote.json, args.follow) {
        (true, false) => format!("{page:#}\n"),
        _ => records.iter().map(|record| shown(record, args.remote.json)).collect(),
    };
    if !args.follow || !text.is_empty() {
        print(&text)?;
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    let (after, met) = (place(&records), met(&records));
    remote.run(follow(&remote, &wanted, after, met, args.remote.json))
}

impl JournalArgs {
    /// What page and stream have in common. Spans are counted from now, also when a stream is taken up again.
    fn wanted(&self) -> anyhow::Result<Query> {
        let now = unix_ms(Clock::real().wall());
        let time = |name: &str, text: &Option<String>| match text {
            Some(text) => {
                instant(text, now).map(|ms| Some(ms.to_string())).map_err(|wrong| anyhow::anyhow!("--{name}: {wrong}"))
            }
            None => Ok(None),
        };
        let (since, until) = (time("since", &self.since)?, time("until", &self.until)?);
        let query = Query::default().with("since", since.as_deref()).with("until", until.as_deref());
        let query = self.kinds.iter().fold(query, |query, kind| query.with("kind", Some(kind)));
        Ok(query
            .with("service", self.service.as_deref())
            .with("endpoint", self.endpoint.as_deref())
            .with("level", self.level.as_deref())
            .with("marks", self.marks.then_some("true")))
    }
}

/// Where a stream goes on: behind the last record that has a place. With nothing to show, all that comes is new.
fn place(records: &[Value]) -> Option<u64> {
    let places = records.iter().filter_map(|record| record["cursor"].as_u64()).filter(|cursor| *cursor > 0);
    places.max().or(records.is_empty().then_some(0))
}

/// Records without a place yet: they come again once they have one.
fn met(records: &[Value]) -> Met {
    records.iter().filter(|record| record["cursor"] == 0).map(key).collect()
}

/// The process that told it, and its number there.
fn key(record: &Value) -> (String, u64) {
    (record["boot"].as_str().unwrap_or_default().to_owned(), record["number"].as_u64().unwrap_or_default())
}

async fn follow(
    remote: &Remote,
    wanted: &Query,
    mut after: Option<u64>,
    mut met: Met,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut is_first = true;
    let mut trouble = false;
    loop {
        let path = wanted.clone().with("after", after.map(|place| place.to_string()).as_deref());
        match remote.events(&path.path("/v1/journal/follow")).await {
            Ok(mut events) => {
                (is_first, trouble) = (false, false);
                let mut is_empty = true;
                while let Some(event) = events.next().await {
                    is_empty = false;
                    let Event { id, data } = event;
                    let Ok(record) = serde_json::from_str::<Value>(&data) else { continue };
                    after = id.parse().ok().or(after);
                    if !met.remove(&key(&record)) {
                        print(&shown(&record, json))?;
                    }
                }
                // Whatever ends a stream at once does so again.
                if is_empty {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Err(error) => {
                ensure!(!is_first && remote.may_come_back(&error), error);
                if !std::mem::replace(&mut trouble, true) {
                    super::complain(&error.context("the node is waited for"));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn shown(record: &Value, json: bool) -> String {
    match json {
        true => format!("{record}\n"),
        false => line(record, &TimeZone::system()) + "\n",
    }
}

fn line(record: &Value, zone: &TimeZone) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    let time = local(record["at_unix_ms"].as_u64().unwrap_or_default(), zone);
    lines::record(&time, text("level"), text("sentence"), record["count"].as_u64().unwrap_or(1))
}

/// A point in time as people here write it.
pub(super) fn local(unix_ms: u64, zone: &TimeZone) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map(|time| time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_a_line_in_local_time() {
        let record =
            json!({ "at_unix_ms": 1_772_366_400_123_u64, "level": "warn", "sentence": "a:1 is out", "count": 4 });
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(line(&record, &zone), "2026-03-01 14:00:00  warn   a:1 is out  x4");
    }

    #[test]
    fn a_stream_goes_on_behind_what_was_shown() {
        let record = |cursor: u64, number: u64| json!({ "cursor": cursor, "boot": "b", "number": number });
        let records = [record(7, 1), record(9, 2), record(0, 3)];
        assert_eq!(place(&records), Some(9));
        assert_eq!(met(&records), HashSet::from([("b".to_owned(), 3)]));
        assert_eq!((place(&[]), place(&records[2..])), (Some(0), None));
    }
}
