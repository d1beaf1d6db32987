//! What was counted a while ago, so that the console can say averages, as PgBouncer does over its `stats_period` of a
//! minute. Whoever runs the console calls [`Averages::tick`] now and then; two looks are kept, so that a period is one to two
//! minutes long once there have been so many.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kernel::Moment;

use crate::view::{PoolView, Totals};

/// How far apart looks are.
pub const PERIOD: Duration = Duration::from_secs(60);

/// The last two looks.
#[derive(Debug, Default)]
pub struct Averages(Mutex<[Look; 2]>);

#[derive(Debug, Default)]
struct Look {
    at: Moment,
    totals: HashMap<String, Totals>,
}

/// What had been counted at an earlier time.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    /// How long ago; since the start, if nothing was looked at yet.
    pub age: Duration,
    /// By database.
    pub totals: HashMap<String, Totals>,
}

/// What was counted, by database.
pub(super) fn by_database(pools: &[PoolView]) -> HashMap<String, Totals> {
    let mut all: HashMap<String, Totals> = HashMap::new();
    for group in pools.iter().flat_map(|pool| &pool.groups) {
        match all.get_mut(&group.database) {
            Some(totals) => totals.add(&group.totals),
            None => {
                all.insert(group.database.clone(), group.totals.clone());
            }
        }
    }
    all
}

impl Averages {
    /// Looks, if the last look is [`PERIOD`] ago.
    pub fn tick(&self, now: Moment, pools: impl FnOnce() -> Vec<PoolView>) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(looks[1].at) >= PERIOD {
            looks.swap(0, 1);
            looks[1] = Look { at: now, totals: by_database(&pools()) };
        }
    }

    /// What had been counted a period ago.
    pub fn earlier(&self, now: Moment) -> Earlier {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Earlier { age: now.since(looks[0].at), totals: looks[0].totals.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{group, pool};

    #[test]
    fn a_period_is_one_to_two_minutes_long() {
        let averages = Averages::default();
        let at = |s: u64| Moment::from_millis(s * 1_000);
        for s in 0..=200 {
            averages.tick(at(s), || {
                let mut one = pool("main");
                one.groups = vec![group("shop", "app", s), group("shop", "other", 1)];
                vec![one]
            });
            let earlier = averages.earlier(at(s));
            let then = earlier.totals.get("shop").map_or(0, |totals| totals.transactions);
            match s {
                0..120 => assert_eq!((earlier.age.as_secs(), then), (s, 0)),
                120..180 => assert_eq!((earlier.age.as_secs(), then), (s - 60, 61)),
                _ => assert_eq!((earlier.age.as_secs(), then), (s - 120, 121)),
            }
        }
    }
}
