//! Operators' decisions as rows: reading all of them, and writing what is different from what was known.

use std::collections::BTreeMap;

use kernel::overrides::{Decision, EndpointOverride, OverrideSet, TakenOut, TierOverride};
use rusqlite::Connection;

use crate::schema::about;

/// Which file it is, and how often decisions were saved in it.
pub(crate) fn place(db: &Connection) -> rusqlite::Result<(String, i64)> {
    Ok((about(db, "file")?.unwrap_or_default(), about(db, "decisions_version")?.unwrap_or_default()))
}

pub(crate) fn read_all(db: &Connection) -> rusqlite::Result<(OverrideSet, (String, i64))> {
    let mut set = OverrideSet::default();
    let mut rows = db.prepare("SELECT scope, service, endpoint, state, tier, actor, reason, at_s FROM decision")?;
    let mut rows = rows.query(())?;
    while let Some(row) = rows.next()? {
        let service: String = row.get(1)?;
        let at_unix_seconds = row.get::<_, i64>(7)?.unsigned_abs();
        let by = Decision { actor: row.get(5)?, reason: row.get(6)?, at_unix_seconds };
        if row.get_ref(0)?.as_str()? == "service" {
            set.services.insert(service, TierOverride { tier: row.get(4)?, by });
        } else {
            // A state that this version does not know takes the endpoint out as well.
            let is_down = row.get_ref(3)?.as_str()? == TakenOut::Down.word();
            let state = if is_down { TakenOut::Down } else { TakenOut::Drained };
            set.set_endpoint(&service, &row.get::<_, String>(2)?, Some(EndpointOverride { state, by }));
        }
    }
    Ok((set, place(db)?))
}

/// A decision's row: the key, then what is decided.
type Key<'a> = (&'static str, &'a str, &'a str);
type Row<'a> = (&'static str, u8, &'a Decision);

fn rows(set: &OverrideSet) -> BTreeMap<Key<'_>, Row<'_>> {
    let endpoints = set.endpoints.iter().flat_map(|(service, endpoints)| {
        endpoints
            .iter()
            .map(move |(endpoint, o)| (("endpoint", service.as_str(), endpoint.as_str()), (o.state.word(), 0, &o.by)))
    });
    let services = set.services.iter().map(|(service, o)| (("service", service.as_str(), ""), ("tier", o.tier, &o.by)));
    endpoints.chain(services).collect()
}

/// Writes what is different in `wanted`, and nothing else.
pub(crate) fn write_difference(db: &Connection, base: &OverrideSet, wanted: &OverrideSet) -> rusqlite::Result<()> {
    let (base, wanted) = (rows(base), rows(wanted));
    for (scope, service, endpoint) in base.keys().filter(|key| !wanted.contains_key(*key)) {
        db.execute(
            "DELETE FROM decision WHERE scope = ?1 AND service = ?2 AND endpoint = ?3",
            (scope, service, endpoint),
        )?;
    }
    for (key, row) in wanted.iter().filter(|(key, row)| base.get(*key) != Some(*row)) {
        let ((scope, service, endpoint), (state, tier, by)) = (key, row);
        db.execute(
            "INSERT OR REPLACE INTO decision (scope, service, endpoint, state, tier, actor, reason, at_s)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (scope, service, endpoint, state, tier, &by.actor, &by.reason, by.at_unix_seconds as i64),
        )?;
    }
    Ok(())
}
