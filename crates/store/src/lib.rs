//! The embedded store: what a node keeps on its own disk, in three SQLite files of one directory. It keeps, and decides
//! nothing: what is told, counted or decided comes through the seams of `kernel`, and goes back through them.
//!
//! | file | written by | flushed | beyond its cap |
//! | --- | --- | --- | --- |
//! | `ledger.db` | thread `ledger-writer` | before the caller is answered; callers share a flush | nothing more is taken |
//! | `journal.db` | `journal-writer` | for records that somebody waits for; others with the next checkpoint | the oldest records go |
//! | `series.db` | `series-writer`, from what `tally-keeper` takes each second | with the next checkpoint | the oldest counts by 15 s go, then by the minute, then by the hour |
//!
//! Two processes of one host may have it open while one takes over from the other; both write. Nothing that happens to a
//! file stops the node ([`Store::open`]): the states are those of `writer.rs`, and [`Store::health`] shows them.
//!
//! # Tables
//!
//! Every file has `application_id` `EvKl`, its steps in `user_version` (`schema.rs`), and
//! `about (key, value)`: `min_reader`, `opened_ms`, `file` (which one it is, by chance), and what is named below. Times are
//! in milliseconds (`_ms`), minutes or hours since the Unix epoch.
//!
//! | `ledger.db` | |
//! | --- | --- |
//! | `decision` (scope, service, endpoint, state, tier, actor, reason, at_s) | one decision of an operator; scope `endpoint` or `service` |
//! | `lease` (name, holder, fence, taken_ms, until_ms) | who may do what only one process may |
//! | `about` | `decisions_version`: rises with each save; `imported`: sum of the earlier version's file |
//!
//! | `journal.db` | |
//! | --- | --- |
//! | `boot` (id, name) | a process |
//! | `record` (cursor, boot, number, at_ms, until_ms, count, kind, version, level, mark, sentence, service, endpoint, actor, data) | one record; boot and number are unique, the cursor is never used twice |
//!
//! | `series.db` | |
//! | --- | --- |
//! | `subject` (id, scope, service, name) | what is counted: scope 0 route, 1 service, 2 endpoint |
//! | `run` (id, name, from_ms, to_ms) | a stretch of wall time in which one process counted; covered is the union of them |
//! | `gap` (run, from_ms, to_ms) | a part of a run whose counts are lost |
//! | `present` (run, minute, data) | the minute that goes on, all subjects, rewritten each second |
//! | `quarter` (subject, hour, run, data) | counts of the 240 quarters of a minute in an hour |
//! | `minute` (subject, minute, run, data) | counts of a minute |
//! | `hour` (subject, hour, data) | their exact sum over an hour and all runs |
//! | `about` | `rolled`: the first hour that is not summed up; `whole_from`: the first of which all minutes are there; `generation`: rises when subjects go |
//!
//! `data` of the series is written as `code.rs` says. Beside the files are `store.lock` (shared by all who have the store
//! open, held alone by [`restore()`]), a `.lock` for each, files that were put aside (`.damaged-N`, `.replaced-N`), and
//! `overrides.json.imported` of an earlier version.
//!
//! # Limits
//!
//! Caps and times are [`StoreConfig`]'s. In memory: 8,192 records that wait, 60 minutes or 32 MiB of counts, 1,024 callers.
//! 20,000 subjects. 5 damaged copies of a file. A file system with locks and shared memory: no NFS. Why it is so, what is
//! lost when, and what else was considered is in `docs/adr/2026-11-25-embedded-store.md`.

mod backup;
mod code;
mod config;
mod decisions;
mod import;
mod journal;
mod journal_read;
mod ledger;
mod metrics;
mod pool;
mod room;
mod rows;
mod schema;
mod series;
mod shelf;
mod store;
mod tallies;
mod tally_read;
mod upkeep;
mod writer;

pub use backup::{BackupError, FileReport, Report, RestoreError, backup, restore, verify};
pub use config::{SMALLEST_CAP, StoreConfig};
pub use ledger::Ledger;
pub use store::Store;
