//! Reading the series: what the file says, and instead of what it says of the last hour of this process, what memory
//! says. Minutes and quarters are summed over runs; covered is the union of the runs, so that two processes that overlap
//! cover a second once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use kernel::Clock;
use kernel::journal::unix_ms;
use kernel::tally::{Counts, Period, Step, Subject, TallyReader};
use rusqlite::{Connection, OptionalExtension as _};

use crate::code::{decode, decode_many, decode_slots};
use crate::config::StoreConfig;
use crate::journal::signed;
use crate::pool::Pool;
use crate::rows;
use crate::schema::about;
use crate::series::Counted;
use crate::tallies::Remembered;
use crate::upkeep::whole_from;

/// Reads `series.db`.
#[derive(Debug)]
pub(crate) struct KeptTallies {
    pub(crate) pool: Pool,
    pub(crate) counted: Arc<std::sync::OnceLock<Arc<Counted>>>,
    pub(crate) clock: Clock,
    pub(crate) config: StoreConfig,
}

/// What is asked for.
struct Wanted {
    step: Step,
    /// In seconds, both multiples of the step.
    from: u64,
    until: u64,
}

/// Counts by the beginning of their period, in seconds, and what is covered, in milliseconds.
#[derive(Default)]
struct Found {
    counts: BTreeMap<u64, Counts>,
    /// By run: from, to, gaps.
    runs: HashMap<Arc<str>, Covered>,
}

#[derive(Clone, Default)]
struct Covered {
    from_ms: u64,
    to_ms: u64,
    gaps: Vec<(u64, u64)>,
}

impl TallyReader for KeptTallies {
    fn read(&self, subject: &Subject, step: Step, from: u64, until: u64) -> io::Result<Vec<Period>> {
        let length = u64::from(step.seconds());
        let now = unix_ms(self.clock.wall()) / 1_000;
        let keep = match step {
            Step::Quarter => self.config.quarter_keep,
            Step::Minute => self.config.minute_keep,
            Step::Hour => self.config.hour_keep,
        };
        // Beyond what is kept there is nothing, and whoever asks for all of time gets an answer.
        let from = from.max(now.saturating_sub(keep.as_secs())).div_ceil(length) * length;
        let until = until.min(now + 2 * length).div_ceil(length) * length;
        let wanted = Wanted { step, from, until };
        // First memory: what is written meanwhile is then met twice, told apart, and not missed.
        let remembered = self.counted.get().map(|counted| counted.lock().remembered(subject)).unwrap_or_default();
        let read = self.pool.read(|db| {
            let mut found = Found::default();
            from_file(db, subject, &wanted, &remembered, &mut found)?;
            Ok(found)
        });
        // A file that cannot be read now leaves what is in memory.
        let mut found = read.unwrap_or_default();
        from_memory(subject, &wanted, &remembered, &mut found);
        Ok(periods(&wanted, found))
    }

    fn subjects(&self) -> io::Result<Vec<Subject>> {
        let mut all: HashSet<Subject> =
            self.counted.get().map(|counted| counted.lock().subjects()).unwrap_or_default().into_iter().collect();
        let kept = self.pool.read(|db| {
            let mut rows = db.prepare("SELECT scope, service, name FROM subject")?;
            let rows = rows.query_map((), |row| Ok(rows::subject(row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.filter_map(Result::transpose).collect::<rusqlite::Result<Vec<Subject>>>()
        });
        all.extend(kept.unwrap_or_default());
        let mut all: Vec<Subject> = all.into_iter().collect();
        all.sort();
        Ok(all)
    }
}

impl Wanted {
    /// Adds counts of the time at `second`.
    fn add(&self, found: &mut Found, second: u64, counts: &Counts) {
        let start = second - second % u64::from(self.step.seconds());
        if (self.from..self.until).contains(&start) && !counts.is_empty() {
            found.counts.entry(start).or_default().add(counts);
        }
    }

    /// Adds the slots of a minute or an hour that begins at `second`.
    fn add_slots(&self, found: &mut Found, second: u64, slots: &[u8]) {
        for (slot, counts) in decode_slots(slots).unwrap_or_default() {
            self.add(found, second + u64::from(slot) * 15, &counts);
        }
    }
}

fn from_memory(subject: &Subject, wanted: &Wanted, remembered: &Remembered, found: &mut Found) {
    for minute in &remembered.minutes {
        for (_, slots) in minute.rows.iter().filter(|(of, _)| of == subject) {
            wanted.add_slots(found, minute.minute * 60, slots);
        }
    }
    for run in &remembered.runs {
        let covered = found.runs.entry(run.name.clone()).or_insert_with(|| Covered {
            from_ms: run.from_ms,
            to_ms: run.to_ms,
            gaps: Vec::new(),
        });
        covered.to_ms = covered.to_ms.max(run.to_ms);
        covered.gaps.extend(&run.gaps);
    }
}

fn from_file(
    db: &Connection,
    subject: &Subject,
    wanted: &Wanted,
    remembered: &Remembered,
    found: &mut Found,
) -> rusqlite::Result<()> {
    runs(db, wanted, found)?;
    let (scope, service, name) = rows::parts(subject);
    let id: Option<i64> = db
        .query_row(
            "SELECT id FROM subject WHERE scope = ?1 AND service = ?2 AND name = ?3",
            (scope, service, name),
            |row| row.get(0),
        )
        .optional()?;
    let Some(id) = id else { return Ok(()) };
    // What is said elsewhere: run and minute.
    let mut elsewhere: HashSet<(i64, u64)> = HashSet::new();
    for minute in &remembered.minutes {
        let run: Option<i64> =
            db.query_row("SELECT id FROM run WHERE name = ?1", [&*minute.run], |row| row.get(0)).optional()?;
        elsewhere.extend(run.map(|run| (run, minute.minute)));
    }
    present(db, id, wanted, &mut elsewhere, found)?;
    match wanted.step {
        Step::Quarter => quarters(db, id, wanted, &elsewhere, found),
        Step::Minute => minutes(db, id, wanted, (wanted.from / 60, wanted.until / 60), &elsewhere, found),
        Step::Hour => hours(db, id, wanted, &elsewhere, found),
    }
}

/// The minutes that go on in other processes.
fn present(
    db: &Connection,
    id: i64,
    wanted: &Wanted,
    elsewhere: &mut HashSet<(i64, u64)>,
    found: &mut Found,
) -> rusqlite::Result<()> {
    let mut rows = db.prepare("SELECT run, minute, data FROM present")?;
    let mut rows = rows.query(())?;
    while let Some(row) = rows.next()? {
        let (run, minute) = (row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs());
        if !elsewhere.insert((run, minute)) {
            continue;
        }
        for (_, slots) in
            decode_many(row.get_ref(2)?.as_blob()?).unwrap_or_default().into_iter().filter(|(of, _)| *of == id)
        {
            wanted.add_slots(found, minute * 60, slots);
        }
    }
    Ok(())
}

fn quarters(
    db: &Connection,
    id: i64,
    wanted: &Wanted,
    elsewhere: &HashSet<(i64, u64)>,
    found: &mut Found,
) -> rusqlite::Result<()> {
    let mut rows = db.prepare("SELECT hour, run, data FROM quarter WHERE subject = ?1 AND hour >= ?2 AND hour < ?3")?;
    let mut rows = rows.query((id, signed(wanted.from / 3_600), signed(wanted.until.div_ceil(3_600))))?;
    while let Some(row) = rows.next()? {
        let (hour, run) = (row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?);
        for (slot, counts) in decode_slots(row.get_ref(2)?.as_blob()?).unwrap_or_default() {
            let second = hour * 3_600 + u64::from(slot) * 15;
            if !elsewhere.contains(&(run, second / 60)) {
                wanted.add(found, second, &counts);
            }
        }
    }
    Ok(())
}

fn minutes(
    db: &Connection,
    id: i64,
    wanted: &Wanted,
    (from, until): (u64, u64),
    elsewhere: &HashSet<(i64, u64)>,
    found: &mut Found,
) -> rusqlite::Result<()> {
    let mut rows =
        db.prepare("SELECT minute, run, data FROM minute WHERE subject = ?1 AND minute >= ?2 AND minute < ?3")?;
    let mut rows = rows.query((id, signed(from), signed(until)))?;
    while let Some(row) = rows.next()? {
        let (minute, run) = (row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?);
        if let Some(counts) = decode(row.get_ref(2)?.as_blob()?).filter(|_| !elsewhere.contains(&(run, minute))) {
            wanted.add(found, minute * 60, &counts);
        }
    }
    Ok(())
}

fn hours(
    db: &Connection,
    id: i64,
    wanted: &Wanted,
    elsewhere: &HashSet<(i64, u64)>,
    found: &mut Found,
) -> rusqlite::Result<()> {
    let rolled = about::<i64>(db, "rolled")?.unwrap_or_default().unsigned_abs();
    // Of an hour of which something is said elsewhere the minutes are told apart.
    let told_apart = elsewhere.iter().map(|(_, minute)| minute / 60).min().unwrap_or(u64::MAX);
    let border = rolled.min(told_apart).max(whole_from(db)?);
    let (from, until) = (wanted.from / 3_600, wanted.until / 3_600);
    let mut rows = db.prepare("SELECT hour, data FROM hour WHERE subject = ?1 AND hour >= ?2 AND hour < ?3")?;
    let mut rows = rows.query((id, signed(from), signed(until.min(border))))?;
    while let Some(row) = rows.next()? {
        if let Some(counts) = decode(row.get_ref(1)?.as_blob()?) {
            wanted.add(found, row.get::<_, i64>(0)?.unsigned_abs() * 3_600, &counts);
        }
    }
    minutes(db, id, wanted, (from.max(border) * 60, until * 60), elsewhere, found)
}

fn runs(db: &Connection, wanted: &Wanted, found: &mut Found) -> rusqlite::Result<()> {
    let (from, until) = (signed(wanted.from * 1_000), signed(wanted.until * 1_000));
    let mut rows = db.prepare("SELECT id, name, from_ms, to_ms FROM run WHERE to_ms > ?1 AND from_ms < ?2")?;
    let mut gaps = db.prepare("SELECT from_ms, to_ms FROM gap WHERE run = ?1")?;
    let mut rows = rows.query((from, until))?;
    let ms = |n: i64| n.unsigned_abs();
    while let Some(row) = rows.next()? {
        let gaps = gaps.query_map([row.get::<_, i64>(0)?], |row| Ok((ms(row.get(0)?), ms(row.get(1)?))))?;
        let gaps = gaps.collect::<rusqlite::Result<_>>()?;
        let covered = Covered { from_ms: ms(row.get(2)?), to_ms: ms(row.get(3)?), gaps };
        found.runs.insert(row.get::<_, String>(1)?.into(), covered);
    }
    Ok(())
}

/// The periods, with what of them is covered.
fn periods(wanted: &Wanted, found: Found) -> Vec<Period> {
    let covered = union(found.runs.into_values());
    let length_ms = u64::from(wanted.step.seconds()) * 1_000;
    let mut by_start: BTreeMap<u64, u64> = found.counts.keys().map(|start| (*start, 0)).collect();
    for (from, to) in covered {
        let (from, to) = (from.max(wanted.from * 1_000), to.min(wanted.until * 1_000));
        let mut at = from;
        while at < to {
            let start = at - at % length_ms;
            let end = (start + length_ms).min(to);
            *by_start.entry(start / 1_000).or_default() += end - at;
            at = end;
        }
    }
    let mut counts = found.counts;
    let periods = by_start.into_iter().map(|(start, covered_ms)| Period {
        start_unix_s: start,
        seconds: wanted.step.seconds(),
        covered_ms: u32::try_from(covered_ms).unwrap_or(u32::MAX),
        counts: counts.remove(&start).unwrap_or_default(),
    });
    periods.filter(|p| p.covered_ms > 0 || !p.counts.is_empty()).collect()
}

/// Stretches of time without their gaps, put together.
fn union(runs: impl Iterator<Item = Covered>) -> Vec<(u64, u64)> {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for run in runs {
        let mut gaps = run.gaps;
        gaps.sort_unstable();
        let mut at = run.from_ms;
        for (from, to) in gaps {
            parts.push((at, from.min(run.to_ms)));
            at = at.max(to);
        }
        parts.push((at, run.to_ms));
    }
    parts.retain(|(from, to)| from < to);
    parts.sort_unstable();
    let mut whole: Vec<(u64, u64)> = Vec::new();
    for (from, to) in parts {
        match whole.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => whole.push((from, to)),
        }
    }
    whole
}
