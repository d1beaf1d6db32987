//! The form of the files, as numbered steps. A step runs in one transaction and is never changed once it was released; a
//! new form is a new step. Steps only add (expand), until no binary that needs the old form can still be running
//! (contract): two binaries may have a file open at once while one takes over from the other.
//!
//! `user_version` says how many steps a file has had; `min_reader` in its table `about` the number of steps that a binary
//! must know to use it. A binary that knows fewer leaves the file alone: it counts as lost.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

/// `EvKl`: says whose file it is.
pub(crate) const APPLICATION_ID: i32 = 0x4576_4B6C;

/// One of the three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Ledger,
    Journal,
    Series,
}

/// A step, and the steps that a binary must know to use a file that has had it.
struct Step {
    min_reader: u32,
    sql: &'static str,
}

/// Why a file is not used, though it can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("it is the file of another program")]
    Foreign,
    #[error("a newer version wrote it (form {has}, which needs {needs}; this version knows {knows}): it is left alone")]
    Newer { has: u32, needs: u32, knows: u32 },
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
}

const ABOUT: &str = "CREATE TABLE about (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    INSERT INTO about VALUES ('opened_ms', 0), ('file', lower(hex(randomblob(16))));";

const LEDGER: &[Step] = &[Step {
    min_reader: 1,
    sql: "CREATE TABLE decision (
            scope TEXT NOT NULL, service TEXT NOT NULL, endpoint TEXT NOT NULL,
            state TEXT NOT NULL, tier INTEGER NOT NULL,
            actor TEXT NOT NULL, reason TEXT NOT NULL, at_s INTEGER NOT NULL,
            PRIMARY KEY (scope, service, endpoint)) STRICT, WITHOUT ROWID;
          CREATE TABLE lease (
            name TEXT PRIMARY KEY, holder TEXT NOT NULL, fence INTEGER NOT NULL,
            taken_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
          INSERT INTO about VALUES ('decisions_version', 0), ('imported', '');",
}];

const JOURNAL: &[Step] = &[Step {
    min_reader: 1,
    sql: "CREATE TABLE boot (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
          CREATE TABLE record (
            cursor INTEGER PRIMARY KEY AUTOINCREMENT,
            boot INTEGER NOT NULL, number INTEGER NOT NULL,
            at_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, count INTEGER NOT NULL,
            kind TEXT NOT NULL, version INTEGER NOT NULL, level INTEGER NOT NULL, mark INTEGER NOT NULL,
            sentence TEXT NOT NULL, service TEXT NOT NULL, endpoint TEXT NOT NULL, actor TEXT NOT NULL,
            data TEXT NOT NULL,
            UNIQUE (boot, number)) STRICT;
          CREATE INDEX record_until ON record (until_ms);
          CREATE INDEX record_kind ON record (kind);
          CREATE INDEX record_service ON record (service) WHERE service <> '';
          CREATE INDEX record_mark ON record (cursor) WHERE mark = 1;",
}];

const SERIES: &[Step] = &[Step {
    min_reader: 1,
    sql: "CREATE TABLE subject (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL, service TEXT NOT NULL, name TEXT NOT NULL,
            UNIQUE (scope, service, name)) STRICT;
          CREATE TABLE run (
            id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
            from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL) STRICT;
          CREATE INDEX run_to ON run (to_ms);
          CREATE TABLE gap (
            run INTEGER NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL,
            PRIMARY KEY (run, from_ms)) STRICT, WITHOUT ROWID;
          CREATE TABLE present (run INTEGER PRIMARY KEY, minute INTEGER NOT NULL, data BLOB NOT NULL) STRICT;
          CREATE TABLE quarter (
            subject INTEGER NOT NULL, hour INTEGER NOT NULL, run INTEGER NOT NULL, data BLOB NOT NULL,
            PRIMARY KEY (subject, hour, run)) STRICT, WITHOUT ROWID;
          CREATE TABLE minute (
            subject INTEGER NOT NULL, minute INTEGER NOT NULL, run INTEGER NOT NULL, data BLOB NOT NULL,
            PRIMARY KEY (subject, minute, run)) STRICT, WITHOUT ROWID;
          CREATE TABLE hour (
            subject INTEGER NOT NULL, hour INTEGER NOT NULL, data BLOB NOT NULL,
            PRIMARY KEY (subject, hour)) STRICT, WITHOUT ROWID;
          INSERT INTO about VALUES ('rolled', 0), ('generation', 0);",
}];

impl Which {
    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Which::Ledger => "ledger",
            Which::Journal => "journal",
            Which::Series => "series",
        }
    }

    /// The name of its file.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Which::Ledger => "ledger.db",
            Which::Journal => "journal.db",
            Which::Series => "series.db",
        }
    }

    /// All of them.
    pub(crate) const ALL: [Which; 3] = [Which::Ledger, Which::Journal, Which::Series];

    const fn steps(self) -> &'static [Step] {
        match self {
            Which::Ledger => LEDGER,
            Which::Journal => JOURNAL,
            Which::Series => SERIES,
        }
    }
}

/// The number that a file's header has under `name`.
fn number(db: &Connection, name: &str) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, name, |row| row.get(0))
}

/// A value of the table `about`.
pub(crate) fn about<T: rusqlite::types::FromSql>(db: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    db.query_row("SELECT value FROM about WHERE key = ?1", [key], |row| row.get(0)).optional()
}

/// Sets a value of the table `about`.
pub(crate) fn set_about(db: &Connection, key: &str, value: &dyn rusqlite::ToSql) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO about (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
        (key, value),
    )?;
    Ok(())
}

/// Whether the file is ours, and of a form that this version can use. The steps it has had.
pub(crate) fn fits(db: &Connection, which: Which) -> Result<u32, Unfit> {
    fits_knowing(db, which.steps().len() as u32)
}

fn fits_knowing(db: &Connection, knows: u32) -> Result<u32, Unfit> {
    let id = number(db, "application_id")?;
    let has = u32::try_from(number(db, "user_version")?).unwrap_or(u32::MAX);
    if id != i64::from(APPLICATION_ID) {
        let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
        return if id == 0 && has == 0 && tables == 0 { Ok(0) } else { Err(Unfit::Foreign) };
    }
    if has > knows {
        let needs: Option<u32> = about(db, "min_reader")?;
        let needs = needs.unwrap_or(has);
        if needs > knows {
            return Err(Unfit::Newer { has, needs, knows });
        }
    }
    Ok(has)
}

/// Brings the file to the form that this version knows. Whether it was empty before.
pub(crate) fn migrate(db: &mut Connection, which: Which) -> Result<bool, Unfit> {
    migrate_by(db, which.steps())
}

fn migrate_by(db: &mut Connection, steps: &[Step]) -> Result<bool, Unfit> {
    let mut was_empty = false;
    while (fits_knowing(db, steps.len() as u32)? as usize) < steps.len() {
        let step = Transaction::new(db, TransactionBehavior::Immediate)?;
        // Another process may have been quicker.
        let has = fits_knowing(&step, steps.len() as u32)? as usize;
        let Some(next) = steps.get(has) else { continue };
        if has == 0 {
            was_empty = true;
            step.pragma_update(None, "application_id", APPLICATION_ID)?;
            step.execute_batch(ABOUT)?;
        }
        step.execute_batch(next.sql)?;
        set_about(&step, "min_reader", &next.min_reader)?;
        step.pragma_update(None, "user_version", has as i64 + 1)?;
        step.commit()?;
    }
    Ok(was_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Step = Step { min_reader: 1, sql: "CREATE TABLE a (x)" };
    const EXPANDS: Step = Step { min_reader: 1, sql: "ALTER TABLE a ADD COLUMN y" };
    const CONTRACTS: Step = Step { min_reader: 2, sql: "ALTER TABLE a DROP COLUMN x" };
    const FAILS: Step = Step { min_reader: 1, sql: "CREATE TABLE b (x); INSERT INTO nothing VALUES (1)" };

    fn empty() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    #[test]
    fn every_file_comes_to_its_form_once() {
        for which in Which::ALL {
            let mut db = empty();
            assert!(migrate(&mut db, which).unwrap());
            assert!(!migrate(&mut db, which).unwrap());
            assert_eq!(fits(&db, which).unwrap() as usize, which.steps().len());
        }
    }

    #[test]
    fn an_older_binary_uses_a_file_that_was_only_expanded() {
        let mut db = empty();
        migrate_by(&mut db, &[ONE, EXPANDS]).unwrap();
        assert!(!migrate_by(&mut db, &[ONE]).unwrap());
        db.execute("INSERT INTO a (x) VALUES (1)", ()).unwrap();
        assert_eq!(number(&db, "user_version").unwrap(), 2);
    }

    #[test]
    fn an_older_binary_leaves_a_file_alone_whose_form_it_does_not_know() {
        let mut db = empty();
        migrate_by(&mut db, &[ONE, EXPANDS, CONTRACTS]).unwrap();
        assert!(!migrate_by(&mut db, &[ONE, EXPANDS]).unwrap());
        let error = migrate_by(&mut db, &[ONE]).unwrap_err();
        assert!(error.to_string().contains("a newer version wrote it (form 3, which needs 2"), "{error}");
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        let mut db = empty();
        assert!(migrate_by(&mut db, &[ONE, FAILS]).is_err());
        assert_eq!(number(&db, "user_version").unwrap(), 1);
        let tables: i64 =
            db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'b'", (), |row| row.get(0)).unwrap();
        assert_eq!(tables, 0);
        assert!(!migrate_by(&mut db, &[ONE, EXPANDS]).unwrap());
    }

    #[test]
    fn the_file_of_another_program_is_not_touched() {
        let mut db = empty();
        db.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(migrate(&mut db, Which::Ledger), Err(Unfit::Foreign)));
        let mut db = empty();
        db.pragma_update(None, "application_id", 7).unwrap();
        assert!(matches!(migrate(&mut db, Which::Ledger), Err(Unfit::Foreign)));
    }
}
