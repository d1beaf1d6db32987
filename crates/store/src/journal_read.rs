//! Reading the journal: what [`JournalQuery::matches`] says, in SQL, and with it the records of this process that are not
//! kept yet, which have no cursor. While the file cannot be read, what this process remembers is the answer.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kernel::journal::{Boot, JournalPage, JournalQuery, JournalReader, LIMIT_MAX, Order, RECENT_MAX, Record};
use kernel::{Journal, Level};
use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use crate::journal::{Progress, signed};
use crate::pool::Pool;

/// Kinds that one question may name; the list comes from people.
const KINDS_MAX: usize = 64;

/// Reads `journal.db`.
#[derive(Debug)]
pub(crate) struct KeptJournal {
    pub(crate) pool: Pool,
    pub(crate) journal: Journal,
    pub(crate) progress: Arc<Progress>,
}

impl JournalReader for KeptJournal {
    fn read(&self, query: &JournalQuery) -> io::Result<JournalPage> {
        if query.kinds.len() > KINDS_MAX {
            let wrong = format!("{} kinds are asked for; {KINDS_MAX} are the most", query.kinds.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
        }
        // First what is not kept: what is kept meanwhile is then met twice, and not missed.
        let kept = self.progress.kept.load(Ordering::Acquire);
        let mut unkept = self.journal.recent(RECENT_MAX);
        unkept.retain(|record| record.number > kept);
        unkept.reverse();
        match self.pool.read(|db| select(db, query)) {
            Ok(page) => Ok(merge(query, page, unkept)),
            Err(_) => self.journal.read(query),
        }
    }
}

/// Adds what is not kept, which is newer than all that is.
fn merge(query: &JournalQuery, page: JournalPage, unkept: Vec<Record>) -> JournalPage {
    // Who pages by cursor has met them on the first page, or meets them once they are kept.
    if query.after.is_some() || query.before.is_some() {
        return page;
    }
    let met: HashSet<(&Boot, u64)> = page.records.iter().map(|r| (&r.boot, r.number)).collect();
    let mut unkept: Vec<Record> =
        unkept.into_iter().filter(|r| query.matches(r) && !met.contains(&(&r.boot, r.number))).collect();
    let limit = query.limit.clamp(1, LIMIT_MAX);
    let mut records = page.records;
    match query.order {
        Order::NewestFirst => {
            unkept.reverse();
            unkept.append(&mut records);
            records = unkept;
        }
        Order::OldestFirst if page.more => {}
        Order::OldestFirst => records.append(&mut unkept),
    }
    let more = page.more || records.len() > limit;
    records.truncate(limit);
    JournalPage { records, more }
}

/// What is asked for, in SQL.
struct Conditions {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, sql: &str, value: Value) {
        self.values.push(value);
        self.sql.push(format!("{sql} ?{}", self.values.len()));
    }

    fn of(query: &JournalQuery) -> Conditions {
        let mut all = Conditions { sql: vec!["1".to_owned()], values: Vec::new() };
        let number = |n: u64| Value::Integer(signed(n));
        for (sql, wanted) in [
            ("record.cursor >", query.after),
            ("record.cursor <", query.before),
            ("until_ms >=", query.since_unix_ms),
            ("at_ms <", query.until_unix_ms),
        ] {
            if let Some(n) = wanted {
                all.add(sql, number(n));
            }
        }
        for (sql, wanted) in [("service =", &query.service), ("endpoint =", &query.endpoint)] {
            if let Some(text) = wanted {
                all.add(sql, Value::Text(text.clone()));
            }
        }
        if query.level > Level::Info {
            all.add("level >=", Value::Integer(query.level as i64));
        }
        if query.marks {
            all.sql.push("mark = 1".to_owned());
        }
        if !query.kinds.is_empty() {
            let mut any = Conditions { sql: Vec::new(), values: std::mem::take(&mut all.values) };
            for kind in &query.kinds {
                any.add("kind =", Value::Text(kind.clone()));
                // A group: whatever begins with it and a full stop. The character after that is a slash.
                any.values.extend([Value::Text(format!("{kind}.")), Value::Text(format!("{kind}/"))]);
                any.sql.push(format!("kind >= ?{} AND kind < ?{}", any.values.len() - 1, any.values.len()));
            }
            all.values = any.values;
            all.sql.push(format!("({})", any.sql.join(" OR ")));
        }
        all
    }
}

fn select(db: &Connection, query: &JournalQuery) -> rusqlite::Result<JournalPage> {
    let limit = query.limit.clamp(1, LIMIT_MAX);
    let mut conditions = Conditions::of(query);
    conditions.values.push(Value::Integer(limit as i64 + 1));
    let order = match query.order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    let sql = format!(
        "SELECT record.cursor, at_ms, until_ms, count, boot.name, number, kind, version, level, mark, sentence, service,
                endpoint, actor, data
         FROM record JOIN boot ON boot.id = record.boot
         WHERE {} ORDER BY record.cursor {order} LIMIT ?{}",
        conditions.sql.join(" AND "),
        conditions.values.len()
    );
    let mut rows = db.prepare(&sql)?;
    let rows = rows.query_map(rusqlite::params_from_iter(conditions.values), record)?;
    let mut records = rows.collect::<rusqlite::Result<Vec<Record>>>()?;
    let more = records.len() > limit;
    records.truncate(limit);
    Ok(JournalPage { records, more })
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let number = |at: usize| row.get::<_, i64>(at).map(i64::unsigned_abs);
    Ok(Record {
        cursor: number(0)?,
        at_unix_ms: number(1)?,
        until_unix_ms: number(2)?,
        count: number(3)?,
        boot: Boot::from_text(&row.get::<_, String>(4)?),
        number: number(5)?,
        kind: row.get(6)?,
        version: row.get(7)?,
        level: match number(8)? {
            0 => Level::Info,
            1 => Level::Warn,
            _ => Level::Error,
        },
        mark: row.get(9)?,
        sentence: row.get(10)?,
        service: row.get(11)?,
        endpoint: row.get(12)?,
        actor: row.get(13)?,
        data: serde_json::from_str(row.get_ref(14)?.as_str()?).unwrap_or_default(),
    })
}
