//! What the holder of the lease `retention` does to the series: what processes left behind becomes rows, minutes become
//! hours, and what is old goes.
//!
//! An hour is the sum of its minutes over all runs, an exact sum of integers. It is written when nothing more can come
//! ([`SETTLED`]), and again should something come all the same. `rolled` in `about` is the first hour that is not summed
//! up; minutes beyond it never go by age.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::code::{decode, decode_many, encode};
use crate::config::StoreConfig;
use crate::journal::signed;
use crate::rows::put_minute;
use crate::schema::{about, set_about};
use crate::tallies::MINUTE_MS;

/// A process that has written nothing for so long has ended, or what it goes on to write replaces this.
const ABANDONED_MS: u64 = 3 * MINUTE_MS;
/// After its end an hour can still be added to for that long: what stays in memory, and a little more.
const SETTLED: u64 = 65 * MINUTE_MS;
/// Milliseconds in an hour.
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Hours that are summed up in one go.
const HOURS_AT_ONCE: u64 = 48;
/// Hours of 15-second counts that go at a time for want of room; then hours of minutes; then hours.
const PIECES: [u64; 3] = [6, 24, 24 * 7];

/// All of it.
pub(crate) fn all(db: &mut Connection, wall_ms: u64, config: &StoreConfig) -> rusqlite::Result<()> {
    adopt(db, wall_ms)?;
    roll(db, wall_ms)?;
    forget(db, wall_ms, config)
}

/// The numbers of all subjects.
fn subjects(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    db.prepare("SELECT id FROM subject")?.query_map((), |row| row.get(0))?.collect()
}

/// Makes rows of what processes that are gone left as present.
fn adopt(db: &mut Connection, wall_ms: u64) -> rusqlite::Result<()> {
    let whole = Transaction::new(db, TransactionBehavior::Immediate)?;
    let before = signed(wall_ms.saturating_sub(ABANDONED_MS));
    let left: Vec<i64> = whole
        .prepare("SELECT run FROM present JOIN run ON run.id = present.run WHERE to_ms < ?1")?
        .query_map([before], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for run in left {
        adopt_one(&whole, run, None)?;
        whole.execute("DELETE FROM present WHERE run = ?1", [run])?;
    }
    whole.commit()
}

/// Makes rows of a run's present, unless it is of the minute `but`.
pub(crate) fn adopt_one(db: &Connection, run: i64, but: Option<u64>) -> rusqlite::Result<()> {
    let present = db
        .query_row("SELECT minute, data FROM present WHERE run = ?1", [run], |row| {
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    match present {
        Some((minute, data)) if Some(minute) != but => {
            // Bytes that say nothing are nobody's counts.
            decode_many(&data).map_or(Ok(()), |rows| put_minute(db, run, minute, &rows))
        }
        _ => Ok(()),
    }
}

/// Sums up hours.
fn roll(db: &mut Connection, wall_ms: u64) -> rusqlite::Result<()> {
    let end = wall_ms.saturating_sub(SETTLED) / HOUR_MS;
    let rolled = about::<i64>(db, "rolled")?.unwrap_or_default().unsigned_abs();
    if rolled >= end {
        return Ok(());
    }
    let whole = Transaction::new(db, TransactionBehavior::Immediate)?;
    let rolled = about::<i64>(&whole, "rolled")?.unwrap_or_default().unsigned_abs();
    let subjects = subjects(&whole)?;
    let mut first = None;
    let sql = "SELECT min(minute) FROM minute WHERE subject = ?1 AND minute >= ?2";
    for subject in &subjects {
        let minute: Option<i64> = whole.query_row(sql, (subject, signed(rolled * 60)), |row| row.get(0))?;
        let hour = minute.map(|minute| minute.unsigned_abs() / 60);
        first = first.into_iter().chain(hour).min();
    }
    // Nothing was counted before the first; and what is not whole is not summed up again.
    let from = first.unwrap_or(end).max(rolled).max(whole_from(&whole)?);
    let until = end.min(from.saturating_add(HOURS_AT_ONCE));
    for hour in from..until {
        put_hour(&whole, &subjects, hour)?;
    }
    set_about(&whole, "rolled", &signed(until.max(rolled)))?;
    whole.commit()
}

/// Sums up one hour.
fn put_hour(db: &Connection, subjects: &[i64], hour: u64) -> rusqlite::Result<()> {
    for subject in subjects {
        if let Some(counts) = sum_of_minutes(db, *subject, hour)? {
            db.execute(
                "INSERT OR REPLACE INTO hour (subject, hour, data) VALUES (?1, ?2, ?3)",
                (subject, signed(hour), encode(&counts)),
            )?;
        }
    }
    Ok(())
}

fn sum_of_minutes(db: &Connection, subject: i64, hour: u64) -> rusqlite::Result<Option<kernel::tally::Counts>> {
    let mut minutes = db.prepare("SELECT data FROM minute WHERE subject = ?1 AND minute >= ?2 AND minute < ?3")?;
    let mut minutes = minutes.query((subject, signed(hour * 60), signed((hour + 1) * 60)))?;
    let mut sum: Option<kernel::tally::Counts> = None;
    while let Some(row) = minutes.next()? {
        if let Some(counts) = decode(row.get_ref(0)?.as_blob()?) {
            sum.get_or_insert_default().add(&counts);
        }
    }
    Ok(sum)
}

/// Removes what is older than it is kept.
fn forget(db: &mut Connection, wall_ms: u64, config: &StoreConfig) -> rusqlite::Result<()> {
    let hour = |keep: Duration| wall_ms.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX)) / HOUR_MS;
    let rolled = about::<i64>(db, "rolled")?.unwrap_or_default().unsigned_abs();
    let minutes = hour(config.minute_keep).min(rolled) * 60;
    for subject in subjects(db)? {
        db.execute(
            "DELETE FROM quarter WHERE subject = ?1 AND hour < ?2",
            (subject, signed(hour(config.quarter_keep))),
        )?;
        forget_minutes(db, subject, minutes / 60)?;
        db.execute("DELETE FROM hour WHERE subject = ?1 AND hour < ?2", (subject, signed(hour(config.hour_keep))))?;
    }
    let whole = Transaction::new(db, TransactionBehavior::Immediate)?;
    let covered = signed(hour(config.hour_keep) * HOUR_MS);
    whole.execute(
        "DELETE FROM run WHERE to_ms < ?1 AND NOT EXISTS (SELECT 1 FROM present WHERE present.run = run.id)",
        [covered],
    )?;
    whole.execute("DELETE FROM gap WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.id = gap.run)", ())?;
    let mut gone = 0;
    for subject in unused(&whole)? {
        gone += whole.execute("DELETE FROM subject WHERE id = ?1", [subject])?;
    }
    if gone > 0 {
        let generation: i64 = about(&whole, "generation")?.unwrap_or_default();
        set_about(&whole, "generation", &(generation + 1))?;
    }
    whole.commit()
}

/// The first hour of which all minutes are there.
pub(crate) fn whole_from(db: &Connection) -> rusqlite::Result<u64> {
    Ok(about::<i64>(db, "whole_from")?.unwrap_or_default().unsigned_abs())
}

/// Removes the minutes before `hour`.
fn forget_minutes(db: &Connection, subject: i64, hour: u64) -> rusqlite::Result<()> {
    if hour > whole_from(db)? {
        set_about(db, "whole_from", &signed(hour))?;
    }
    db.execute("DELETE FROM minute WHERE subject = ?1 AND minute < ?2", (subject, signed(hour * 60)))?;
    Ok(())
}

/// Subjects of which nothing is kept.
fn unused(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    // One that is counted for the first time is in no other table yet.
    let mut present = std::collections::HashSet::new();
    let mut rows = db.prepare("SELECT data FROM present")?;
    let mut rows = rows.query(())?;
    while let Some(row) = rows.next()? {
        let many = decode_many(row.get_ref(0)?.as_blob()?).unwrap_or_default();
        present.extend(many.into_iter().map(|(subject, _)| subject));
    }
    let mut unused: Vec<i64> = db
        .prepare(
            "SELECT id FROM subject WHERE NOT EXISTS (SELECT 1 FROM minute WHERE minute.subject = subject.id)
             AND NOT EXISTS (SELECT 1 FROM hour WHERE hour.subject = subject.id)
             AND NOT EXISTS (SELECT 1 FROM quarter WHERE quarter.subject = subject.id)",
        )?
        .query_map((), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    unused.retain(|subject| !present.contains(subject));
    Ok(unused)
}

/// Removes the oldest of the finest that there is. Whether there was any.
pub(crate) fn forget_oldest(db: &mut Connection, wall_ms: u64) -> rusqlite::Result<bool> {
    let whole = Transaction::new(db, TransactionBehavior::Immediate)?;
    let subjects = subjects(&whole)?;
    let oldest = |sql: &str| -> rusqlite::Result<Option<u64>> {
        let mut oldest: Option<i64> = None;
        for subject in &subjects {
            let first: Option<i64> = whole.query_row(sql, [subject], |row| row.get(0))?;
            oldest = oldest.into_iter().chain(first).min();
        }
        Ok(oldest.map(i64::unsigned_abs))
    };
    let [quarters, minutes, hours] = PIECES;
    // Minutes of an hour that is not settled may be written again: they stay.
    let settled = wall_ms.saturating_sub(SETTLED) / HOUR_MS;
    if let Some(hour) = oldest("SELECT min(hour) FROM quarter WHERE subject = ?1")? {
        for subject in &subjects {
            let until = signed(hour + quarters);
            whole.execute("DELETE FROM quarter WHERE subject = ?1 AND hour < ?2", (subject, until))?;
        }
    } else if let Some(hour) =
        oldest("SELECT min(minute) FROM minute WHERE subject = ?1")?.map(|m| m / 60).filter(|h| *h < settled)
    {
        let rolled = about::<i64>(&whole, "rolled")?.unwrap_or_default().unsigned_abs();
        let until = (hour + minutes).min(settled);
        // Their hours stay.
        for hour in rolled.max(hour)..until {
            put_hour(&whole, &subjects, hour)?;
        }
        set_about(&whole, "rolled", &signed(rolled.max(until)))?;
        for subject in &subjects {
            forget_minutes(&whole, *subject, until)?;
        }
    } else if let Some(hour) = oldest("SELECT min(hour) FROM hour WHERE subject = ?1")? {
        for subject in &subjects {
            let until = signed(hour + hours);
            whole.execute("DELETE FROM hour WHERE subject = ?1 AND hour < ?2", (subject, until))?;
        }
    } else {
        return Ok(false);
    }
    whole.commit()?;
    Ok(true)
}
