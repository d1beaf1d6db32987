//! Exact counts of transactions, handed on each second: what was added for each pool since the last time. A transaction that
//! failed, or was turned away before it had a connection, counts as failed; the time is that of transactions which had one.
//!
//! Differences are taken for each (database, user), so that one that is given up hides nothing of the others; what it counted
//! after the last look is lost with it, which is why whoever gives it up has to show it once more.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use kernel::tally::{Counts, Subject, TallySource};

use crate::stats::Failure;
use crate::view::{PoolView, Totals};

/// Where answers of 2xx and of 5xx stand.
const OK: usize = 1;
const FAILED: usize = 4;

type Seen = HashMap<(String, String, String), Counts>;

/// What the pools that `views` tells of have counted.
pub struct PoolTallies<F> {
    views: F,
    seen: Mutex<Seen>,
}

impl<F: Fn() -> Vec<PoolView> + Send + Sync> PoolTallies<F> {
    /// Counts of what `views` gives.
    pub fn new(views: F) -> PoolTallies<F> {
        PoolTallies { views, seen: Mutex::default() }
    }
}

impl<F> fmt::Debug for PoolTallies<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolTallies")
    }
}

fn counts(totals: &Totals) -> Counts {
    let turned_away = Failure::ALL.into_iter().filter(|f| f.is_before()).map(|f| totals.failures[f.index()]);
    let mut counts = Counts { latency: totals.transaction.clone(), ..Counts::default() };
    counts.by_class[OK] = totals.transactions.saturating_sub(totals.failed);
    counts.by_class[FAILED] = totals.failed + turned_away.sum::<u64>();
    counts
}

/// What was added; all of it, if it began anew meanwhile.
fn gained(now: &Counts, before: &Counts) -> Counts {
    let is_less = now.total() < before.total() || now.latency.sum_us < before.latency.sum_us;
    if is_less { now.clone() } else { now.since(before) }
}

impl<F: Fn() -> Vec<PoolView> + Send + Sync> TallySource for PoolTallies<F> {
    fn take(&self) -> Vec<(Subject, Counts)> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut present, mut all) = (Seen::new(), Vec::new());
        for pool in (self.views)() {
            let mut sum = Counts::default();
            for group in pool.groups {
                let now = counts(&group.totals);
                let key = (pool.name.clone(), group.database, group.user);
                match seen.get(&key) {
                    Some(before) => sum.add(&gained(&now, before)),
                    None => sum.add(&now),
                }
                present.insert(key, now);
            }
            if !sum.is_empty() {
                all.push((Subject::Pool { name: pool.name }, sum));
            }
        }
        *seen = present;
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::admin::tests::{group, pool};

    #[test]
    fn what_was_added_is_handed_on_once() {
        let shown = Arc::new(Mutex::new(vec![pool("main"), pool("idle")]));
        let views = shown.clone();
        let tallies = PoolTallies::new(move || views.lock().unwrap().clone());
        let set = |groups: Vec<crate::view::GroupView>| shown.lock().unwrap()[0].groups = groups;
        let take = || {
            let taken = tallies.take();
            taken.iter().for_each(|(subject, _)| assert_eq!(*subject, Subject::Pool { name: "main".to_owned() }));
            taken.into_iter().next().map(|(_, c)| (c.by_class[OK], c.by_class[FAILED], c.latency.count()))
        };
        assert_eq!(take(), None);
        let mut app = group("shop", "app", 10);
        app.totals.failed = 2;
        app.totals.failures = [1, 1, 1, 9, 9, 9, 9, 9];
        app.totals.transaction.buckets[3] = 10;
        let other = group("shop", "other", 100);
        set(vec![app.clone(), other.clone()]);
        assert_eq!(take(), Some((108, 5, 10)));
        assert_eq!(take(), None);
        // One group goes, which hides nothing of the other.
        app.totals.transactions += 3;
        set(vec![app.clone()]);
        assert_eq!(take(), Some((3, 0, 0)));
        // A group that comes back begins at 0.
        set(vec![app.clone(), group("shop", "other", 5)]);
        assert_eq!(take(), Some((5, 0, 0)));
        set(vec![app, group("shop", "other", 4)]);
        assert_eq!(take(), Some((4, 0, 0)), "it began anew between two looks");
    }
}
