//! Folding repetitions: what flaps is told a few times and then counted. The key is kind, service, and whatever else it is
//! about: endpoint, limit, file or name. The first [`FOLD_AFTER`] within [`FOLD_WINDOW`] are told as they come, because the
//! first ones are what somebody acts on; those after them become one record with a count, a first and a last time, the
//! text of the last, and the sum of what is an amount ([`SUMMED`]).

use std::collections::HashMap;
use std::time::Duration;

use super::Record;
use crate::time::Moment;

/// How often the same is told before it is folded.
pub const FOLD_AFTER: u32 = 3;
/// Within which time; and the longest that something is held back.
pub const FOLD_WINDOW: Duration = Duration::from_secs(60);
/// What has been quiet for so long is told.
pub const FOLD_QUIET: Duration = Duration::from_secs(10);
/// Keys that are followed at a time.
pub const FOLD_KEYS_MAX: usize = 4_096;
/// With as many keys as there may be, the old ones are looked for that often: a look goes through all of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Fields that are amounts: in a folded record, the sum.
const SUMMED: [&str; 4] = ["turned_away", "refused", "lines", "parked"];

type Key = (String, String, String);

fn key(record: &Record) -> Key {
    let field = |name: &&str| record.data.get(*name).and_then(|value| value.as_str()).map(str::to_owned);
    let about = match record.endpoint.as_str() {
        "" => ["limit", "file", "name"].iter().find_map(field).unwrap_or_default(),
        endpoint => endpoint.to_owned(),
    };
    (record.kind.clone(), record.service.clone(), about)
}

/// Adds the amounts of `earlier` to those of `later`.
fn sum(later: &mut Record, earlier: &Record) {
    for name in SUMMED {
        let amount = |record: &Record| record.data.get(name).and_then(serde_json::Value::as_u64);
        if let (Some(a), Some(b)) = (amount(later), amount(earlier)) {
            later.data.insert(name.to_owned(), a.saturating_add(b).into());
        }
    }
}

/// What is folded.
#[derive(Debug, Default)]
pub(super) struct Folds {
    all: HashMap<Key, Fold>,
    /// When old ones were looked for.
    looked: Option<Moment>,
}

#[derive(Debug)]
struct Fold {
    since: Moment,
    last: Moment,
    told: u32,
    /// What is held back, and since when.
    held: Option<(Record, Moment)>,
}

/// What becomes of a record.
pub(super) enum Offered {
    /// It is told.
    Tell(Box<Record>),
    /// It is counted, and told later.
    Folded,
}

impl Folds {
    pub(super) fn offer(&mut self, mut record: Record, now: Moment) -> Offered {
        let key = key(&record);
        if self.all.len() >= FOLD_KEYS_MAX && !self.all.contains_key(&key) {
            if self.looked.is_none_or(|at| now.since(at) >= LOOK_EVERY) {
                self.looked = Some(now);
                self.all.retain(|_, fold| fold.held.is_some() || now.since(fold.last) < FOLD_WINDOW);
            }
            if self.all.len() >= FOLD_KEYS_MAX {
                return Offered::Tell(Box::new(record));
            }
        }
        let fold = self.all.entry(key).or_insert(Fold { since: now, last: now, told: 0, held: None });
        fold.last = now;
        match &mut fold.held {
            Some((held, _)) => {
                let (count, at) = (held.count + record.count, held.at_unix_ms);
                sum(&mut record, held);
                *held = Record { count, at_unix_ms: at, ..record };
                Offered::Folded
            }
            None => {
                if now.since(fold.since) >= FOLD_WINDOW {
                    (fold.since, fold.told) = (now, 0);
                }
                if fold.told < FOLD_AFTER {
                    fold.told += 1;
                    return Offered::Tell(Box::new(record));
                }
                fold.held = Some((record, now));
                Offered::Folded
            }
        }
    }

    /// What is to be told now; at [`Moment::MAX`], everything.
    pub(super) fn due(&mut self, now: Moment) -> Vec<Record> {
        let mut due = Vec::new();
        for fold in self.all.values_mut() {
            let is_due = |since: Moment| now.since(fold.last) >= FOLD_QUIET || now.since(since) >= FOLD_WINDOW;
            if fold.held.as_ref().is_some_and(|(_, since)| is_due(*since)) {
                due.extend(fold.held.take().map(|(record, _)| record));
                // What goes on flapping goes on being folded.
                fold.since = now;
            }
        }
        due.sort_by_key(|record| record.at_unix_ms);
        due
    }
}
