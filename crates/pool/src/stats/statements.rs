//! Statements by shape. A worker has one table for each pool; it counts by (database and user, fingerprint), at most as many
//! as the plan says, and everything beyond them together as [`OTHER`]. When the table is full, shapes that were not called
//! since the last look at all of them make room, and what they counted goes to `OTHER`, so that sums stay exact; a look costs
//! time for each entry and happens at most once for as many first sights as the table has entries. An entry that somebody
//! holds stays.
//!
//! A known shape costs one look into a map; a text is read again only at first sight, without its literals, which are not
//! kept. The table is the worker's; a [`StatementShelf`] is what others read, behind a lock that the worker takes at first
//! sights only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use kernel::metrics::Cell64;

use super::spread::{Spread, SpreadSum};
use crate::sql::normalise;
use crate::view::StatementView;

/// Bytes of a statement's text that are kept.
pub const TEXT_MAX: usize = 1_024;
/// What stands for the statements that are not counted apart.
const OTHER: &str = "(other statements)";
/// Pairs of a database and a user that a table tells apart; clients of more are counted under the last.
const GROUPS_MAX: usize = 65_536;

/// What one worker counts for one shape. Only that worker writes; anyone reads.
#[derive(Debug)]
pub struct StatementCells {
    fingerprint: u64,
    text: Box<str>,
    calls: Cell64,
    errors: Cell64,
    rows: Cell64,
    took: Spread,
}

/// The statements of one pool at one worker.
#[derive(Debug)]
pub struct StatementTable {
    most: usize,
    entries: HashMap<(u32, u64), Entry, RandomState>,
    groups: HashMap<(Arc<str>, Arc<str>), u32, RandomState>,
    /// By number of a group: what is not counted apart.
    others: Vec<Arc<StatementCells>>,
    /// First sights since all entries were looked at.
    unseen: usize,
    shelf: Arc<StatementShelf>,
}

#[derive(Debug)]
struct Entry {
    cells: Arc<StatementCells>,
    /// Its calls when all entries were last looked at.
    calls: u64,
}

/// The same, for those who read.
#[derive(Debug, Default)]
pub struct StatementShelf(Mutex<Shelved>);

#[derive(Debug, Default)]
struct Shelved {
    /// Database and user, by number.
    groups: Vec<(Arc<str>, Arc<str>)>,
    cells: HashMap<(u32, u64), Arc<StatementCells>, RandomState>,
    others: Vec<Arc<StatementCells>>,
}

impl StatementCells {
    fn new(fingerprint: u64, text: &str) -> StatementCells {
        StatementCells {
            fingerprint,
            text: text.into(),
            calls: Cell64::default(),
            errors: Cell64::default(),
            rows: Cell64::default(),
            took: Spread::default(),
        }
    }

    /// A call ended after `us` microseconds with `rows` rows, well or not. Only the worker may call it.
    #[inline]
    pub fn ended(&self, us: u64, rows: u64, has_failed: bool) {
        self.calls.inc();
        self.errors.add(u64::from(has_failed));
        self.rows.add(rows);
        self.took.observe(us);
    }

    /// Its text without literals, at most [`TEXT_MAX`] bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What identifies its shape; 0 for those that are not counted apart.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn take_in(&self, other: &StatementCells) {
        self.calls.add(other.calls.get());
        self.errors.add(other.errors.get());
        self.rows.add(other.rows.get());
        self.took.take_in(&other.took);
    }
}

impl StatementShelf {
    fn lock(&self) -> MutexGuard<'_, Shelved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatementTable {
    /// A table that tells at most `most` shapes apart.
    pub fn new(most: u32) -> StatementTable {
        StatementTable {
            most: most as usize,
            entries: HashMap::default(),
            groups: HashMap::default(),
            others: Vec::new(),
            unseen: 0,
            shelf: Arc::default(),
        }
    }

    /// What others read it by.
    pub fn shelf(&self) -> Arc<StatementShelf> {
        self.shelf.clone()
    }

    /// Another bound, after a reload. What is beyond it leaves when it is not called any more.
    pub fn set_most(&mut self, most: u32) {
        self.most = most as usize;
    }

    /// The number of a database and user, the same each time.
    pub fn group(&mut self, database: &str, user: &str) -> u32 {
        let key = (Arc::from(database), Arc::from(user));
        if let Some(number) = self.groups.get(&key) {
            return *number;
        }
        let number = self.others.len().min(GROUPS_MAX - 1);
        if number == self.others.len() {
            let other = Arc::new(StatementCells::new(0, OTHER));
            self.others.push(other.clone());
            let mut shelved = self.shelf.lock();
            shelved.groups.push(key.clone());
            shelved.others.push(other);
            drop(shelved);
            self.groups.insert(key, number as u32);
        }
        number as u32
    }

    /// Where to count calls of `text`, whose fingerprint is known.
    ///
    /// # Panics
    /// If `group` is no number that [`StatementTable::group`] gave.
    #[inline]
    pub fn entry(&mut self, group: u32, fingerprint: u64, text: &[u8]) -> Arc<StatementCells> {
        match self.entries.get(&(group, fingerprint)) {
            Some(entry) => entry.cells.clone(),
            None => self.first_sight(group, fingerprint, text),
        }
    }

    #[cold]
    fn first_sight(&mut self, group: u32, fingerprint: u64, text: &[u8]) -> Arc<StatementCells> {
        if self.entries.len() >= self.most {
            self.unseen += 1;
            if self.unseen >= self.most.max(1) {
                self.unseen = 0;
                self.make_room();
            }
            if self.entries.len() >= self.most {
                return self.others[group as usize].clone();
            }
        }
        let cells = Arc::new(StatementCells::new(fingerprint, &normalise(text, TEXT_MAX)));
        let key = (group, fingerprint);
        self.shelf.lock().cells.insert(key, cells.clone());
        self.entries.insert(key, Entry { cells: cells.clone(), calls: 0 });
        cells
    }

    /// Lets go of those that were not called since the last time, and remembers how often the others were.
    fn make_room(&mut self) {
        let mut shelved = self.shelf.lock();
        self.entries.retain(|key, entry| {
            let calls = entry.cells.calls.get();
            let is_idle = calls == entry.calls;
            entry.calls = calls;
            // The table and the shelf hold it; whoever else does may still count.
            if !is_idle || Arc::strong_count(&entry.cells) > 2 {
                return true;
            }
            self.others[key.0 as usize].take_in(&entry.cells);
            shelved.cells.remove(key);
            false
        });
    }
}

/// What all workers of a pool counted, by database, user and fingerprint; those that took most time first.
pub fn merge<'a>(pool: &str, shelves: impl IntoIterator<Item = &'a StatementShelf>) -> Vec<StatementView> {
    type Key = (Arc<str>, Arc<str>, u64);
    let mut all: HashMap<Key, (StatementView, SpreadSum), RandomState> = HashMap::with_hasher(RandomState::default());
    for shelf in shelves {
        // Cloned, so that a worker never waits for the sums.
        let (groups, cells) = {
            let shelved = shelf.lock();
            let cells = shelved.cells.iter().map(|((group, _), cells)| (*group as usize, cells.clone()));
            let others = shelved.others.iter().cloned().enumerate();
            (shelved.groups.clone(), cells.chain(others).collect::<Vec<_>>())
        };
        for (group, cells) in cells {
            let Some((database, user)) = groups.get(group) else { continue };
            let (view, took) = all
                .entry((database.clone(), user.clone(), cells.fingerprint))
                .or_insert_with(|| (view(pool, database, user, &cells), SpreadSum::default()));
            view.calls += cells.calls.get();
            view.errors += cells.errors.get();
            view.rows += cells.rows.get();
            cells.took.add_to(took);
        }
    }
    let mut views: Vec<StatementView> = all
        .into_values()
        .filter(|(view, _)| view.calls > 0)
        .map(|(view, took)| StatementView {
            total_us: took.sum_us,
            p50_us: took.quantile_us(0.5),
            p99_us: took.quantile_us(0.99),
            ..view
        })
        .collect();
    views.sort_by(|a, b| b.total_us.cmp(&a.total_us).then_with(|| a.fingerprint.cmp(&b.fingerprint)));
    views
}

fn view(pool: &str, database: &str, user: &str, cells: &StatementCells) -> StatementView {
    StatementView {
        pool: pool.to_owned(),
        database: database.to_owned(),
        user: user.to_owned(),
        fingerprint: format!("{:016x}", cells.fingerprint),
        text: cells.text.to_string(),
        calls: 0,
        errors: 0,
        rows: 0,
        total_us: 0,
        p50_us: None,
        p99_us: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(table: &StatementTable) -> Vec<(String, String, u64)> {
        let views = merge("main", [&*table.shelf()]);
        let mut all: Vec<_> = views.into_iter().map(|v| (v.user, v.text, v.calls)).collect();
        all.sort();
        all
    }

    #[test]
    fn workers_are_summed_by_database_user_and_shape() {
        let mut workers = [StatementTable::new(10), StatementTable::new(10)];
        // Numbers of groups differ from worker to worker.
        workers[1].group("other", "u");
        for table in &mut workers {
            let group = table.group("shop", "app");
            assert_eq!(group, table.group("shop", "app"));
            table.entry(group, 7, b"select ?").ended(100, 2, false);
            table.entry(group, 7, b"select ?").ended(300, 0, true);
        }
        let shelves: Vec<_> = workers.iter().map(StatementTable::shelf).collect();
        let views = merge("main", shelves.iter().map(|s| &**s));
        assert_eq!(views.len(), 1);
        let view = &views[0];
        assert_eq!((view.calls, view.errors, view.rows, view.total_us), (4, 2, 4, 800));
        assert_eq!((&*view.pool, &*view.database, &*view.user), ("main", "shop", "app"));
        assert_eq!((&*view.fingerprint, &*view.text), ("0000000000000007", "select ?"));
        assert!(view.p50_us < view.p99_us);
    }

    #[test]
    fn what_does_not_fit_is_counted_together() {
        let mut table = StatementTable::new(2);
        let group = table.group("d", "u");
        for fingerprint in 1..=4 {
            table.entry(group, fingerprint, format!("s{fingerprint}").as_bytes()).ended(1, 0, false);
        }
        let expected = [(OTHER, 2), ("s1", 1), ("s2", 1)].map(|(t, n)| ("u".to_owned(), t.to_owned(), n));
        assert_eq!(calls(&table), expected);
        let mut none = StatementTable::new(0);
        let group = none.group("d", "u");
        none.entry(group, 1, b"s").ended(1, 0, false);
        assert_eq!(calls(&none), [("u".to_owned(), OTHER.to_owned(), 1)]);
    }

    #[test]
    fn those_that_are_not_called_make_room_and_nothing_is_lost() {
        let mut table = StatementTable::new(4);
        let group = table.group("d", "u");
        let held = table.entry(group, 1, b"held");
        let mut total = 0u64;
        for round in 0..40u64 {
            table.entry(group, 2, b"busy").ended(1, 0, false);
            table.entry(group, 100 + round, format!("once{round:02}").as_bytes()).ended(1, 0, false);
            total += 2;
        }
        held.ended(1, 0, false);
        let all = calls(&table);
        assert_eq!(all.iter().map(|(_, _, n)| n).sum::<u64>(), total + 1);
        assert!(table.entries.len() <= 4 && table.shelf.lock().cells.len() <= 4);
        let of = |text: &str| all.iter().find(|(_, t, _)| t == text).map(|(_, _, n)| *n);
        assert_eq!((of("held"), of("busy"), of("once00")), (Some(1), Some(40), None));
        assert!(all.iter().any(|(_, t, _)| t > &"once10".to_owned()), "newcomers come in: {all:?}");
    }

    #[test]
    fn a_text_is_clipped() {
        let mut table = StatementTable::new(1);
        let group = table.group("d", "u");
        let text = "é".repeat(TEXT_MAX);
        assert!(table.entry(group, 1, text.as_bytes()).text().len() <= TEXT_MAX);
    }
}
