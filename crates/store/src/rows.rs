//! Counts as rows of the series.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::tally::Subject;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::code::{decode_slots, encode, encode_many, encode_slots, sum};
use crate::journal::signed;
use crate::schema::about;
use crate::tallies::{Flush, SUBJECTS_MAX, Stretch};
use crate::upkeep;

/// What a subject is called in the file.
pub(crate) fn parts(subject: &Subject) -> (i64, &str, &str) {
    match subject {
        Subject::Route { name } => (0, "", name),
        Subject::Service { name } => (1, "", name),
        Subject::Endpoint { service, name } => (2, service, name),
        Subject::Pool { name } => (3, "", name),
    }
}

/// The subject of this name, if this version knows such.
pub(crate) fn subject(scope: i64, service: String, name: String) -> Option<Subject> {
    match scope {
        0 => Some(Subject::Route { name }),
        1 => Some(Subject::Service { name }),
        2 => Some(Subject::Endpoint { service, name }),
        3 => Some(Subject::Pool { name }),
        // Of a newer version, which has added what is counted without changing the form of the file.
        _ => None,
    }
}

/// The number of a subject in the file. `None`: there are too many.
fn id(db: &Connection, subject: &Subject, ids: &mut HashMap<Subject, i64>) -> rusqlite::Result<Option<i64>> {
    if let Some(id) = ids.get(subject) {
        return Ok(Some(*id));
    }
    let (scope, service, name) = parts(subject);
    let known = db
        .query_row(
            "SELECT id FROM subject WHERE scope = ?1 AND service = ?2 AND name = ?3",
            (scope, service, name),
            |row| row.get(0),
        )
        .optional()?;
    let id = match known {
        Some(id) => id,
        None => {
            let count: i64 = db.query_row("SELECT count(*) FROM subject", (), |row| row.get(0))?;
            if count >= SUBJECTS_MAX as i64 {
                return Ok(None);
            }
            db.execute("INSERT INTO subject (scope, service, name) VALUES (?1, ?2, ?3)", (scope, service, name))?;
            db.last_insert_rowid()
        }
    };
    ids.insert(subject.clone(), id);
    Ok(Some(id))
}

/// Writes a run as far as it goes; its number.
fn put_run(db: &Connection, run: &Stretch) -> rusqlite::Result<i64> {
    let (from, to) = (signed(run.from_ms), signed(run.to_ms));
    db.execute(
        "INSERT INTO run (name, from_ms, to_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET to_ms = max(to_ms, excluded.to_ms)",
        (&*run.name, from, to),
    )?;
    let id = db.query_row("SELECT id FROM run WHERE name = ?1", [&*run.name], |row| row.get(0))?;
    for (from, to) in &run.gaps {
        db.execute(
            "INSERT OR REPLACE INTO gap (run, from_ms, to_ms) VALUES (?1, ?2, ?3)",
            (id, signed(*from), signed(*to)),
        )?;
    }
    Ok(id)
}

/// Writes what is to be written, in one transaction. What does not fit is added to `dropped`.
pub(crate) fn put(
    db: &mut Connection,
    flush: &Flush,
    ids: &mut HashMap<Subject, i64>,
    generation: &mut i64,
    dropped: &mut u64,
) -> rusqlite::Result<()> {
    let whole = Transaction::new(db, TransactionBehavior::Immediate)?;
    let present: i64 = about(&whole, "generation")?.unwrap_or_default();
    if present != *generation {
        // Subjects went, and others may have come.
        ids.clear();
        *generation = present;
    }
    let mut runs = HashMap::new();
    for run in
        flush.runs.iter().filter(|run| run.to_ms > run.written_ms || !run.gaps.is_empty() || run.to_ms == run.from_ms)
    {
        runs.insert(run.name.clone(), put_run(&whole, run)?);
    }
    let mut run_id = |whole: &Connection, name: &Arc<str>| -> rusqlite::Result<i64> {
        if let Some(id) = runs.get(name) {
            return Ok(*id);
        }
        let id = whole.query_row("SELECT id FROM run WHERE name = ?1", [&**name], |row| row.get(0)).optional()?;
        let id = match id {
            Some(id) => id,
            // It was forgotten in memory: nothing says that it was covered.
            None => put_run(whole, &Stretch { name: name.clone(), from_ms: 0, to_ms: 0, written_ms: 0, gaps: vec![] })?,
        };
        runs.insert(name.clone(), id);
        Ok(id)
    };
    for closed in &flush.closed {
        let run = run_id(&whole, &closed.run)?;
        // What was written of a minute that has no place in memory any more.
        upkeep::adopt_one(&whole, run, Some(closed.minute))?;
        let mut rows = Vec::with_capacity(closed.rows.len());
        for (subject, slots) in &closed.rows {
            match id(&whole, subject, ids)? {
                Some(id) => rows.push((id, slots.as_slice())),
                None => *dropped += decode_slots(slots).map_or(0, |slots| sum(slots.iter().map(|(_, c)| c)).total()),
            }
        }
        put_minute(&whole, run, closed.minute, &rows)?;
        whole.execute("DELETE FROM present WHERE run = ?1", [run])?;
    }
    if let Some(present) = &flush.present {
        let run = run_id(&whole, &present.run)?;
        upkeep::adopt_one(&whole, run, Some(present.minute))?;
        let mut rows = Vec::with_capacity(present.rows.len());
        for (subject, slots) in &present.rows {
            if let Some(id) = id(&whole, subject, ids)? {
                rows.push((id, slots.as_slice()));
            }
        }
        whole.execute(
            "INSERT OR REPLACE INTO present (run, minute, data) VALUES (?1, ?2, ?3)",
            (run, signed(present.minute), encode_many(rows.into_iter())),
        )?;
    }
    whole.commit()
}

/// Writes a minute that is over.
pub(crate) fn put_minute(db: &Connection, run: i64, minute: u64, rows: &[(i64, &[u8])]) -> rusqlite::Result<()> {
    let (hour, first) = (minute / 60, (minute % 60 * 4) as u8);
    if hour < upkeep::whole_from(db)? {
        // Its hour was summed up and its other minutes are gone: it comes too late by days.
        return Ok(());
    }
    let mut put_minute =
        db.prepare("INSERT OR REPLACE INTO minute (subject, minute, run, data) VALUES (?1, ?2, ?3, ?4)")?;
    let mut get = db.prepare("SELECT data FROM quarter WHERE subject = ?1 AND hour = ?2 AND run = ?3")?;
    let mut put = db.prepare("INSERT OR REPLACE INTO quarter (subject, hour, run, data) VALUES (?1, ?2, ?3, ?4)")?;
    for (subject, slots) in rows {
        let Some(slots) = decode_slots(slots) else { continue };
        put_minute.execute((subject, signed(minute), run, encode(&sum(slots.iter().map(|(_, c)| c)))))?;
        let of_hour = get.query_row((subject, signed(hour), run), |row| row.get::<_, Vec<u8>>(0)).optional()?;
        let mut of_hour = of_hour.and_then(|bytes| decode_slots(&bytes)).unwrap_or_default();
        of_hour.retain(|(slot, _)| !(first..first + 4).contains(slot));
        of_hour.extend(slots.into_iter().map(|(slot, counts)| (first + slot, counts)));
        of_hour.sort_by_key(|(slot, _)| *slot);
        put.execute((subject, signed(hour), run, encode_slots(&of_hour)))?;
    }
    // An hour that was summed up already is so again.
    db.execute("UPDATE about SET value = ?1 WHERE key = 'rolled' AND value > ?1", [signed(hour)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_comes_back_as_it_went_and_one_of_a_newer_version_is_left_out() {
        let name = || "a".to_owned();
        for one in [
            Subject::Route { name: name() },
            Subject::Service { name: name() },
            Subject::Endpoint { service: "s".to_owned(), name: name() },
            Subject::Pool { name: name() },
        ] {
            let (scope, service, name) = parts(&one);
            assert_eq!(subject(scope, service.to_owned(), name.to_owned()), Some(one));
        }
        assert_eq!(subject(4, String::new(), name()), None);
    }
}
