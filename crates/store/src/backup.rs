//! Backups: one directory with the three files and a manifest, and the way back.
//!
//! A backup is taken while a node runs, with SQLite's backup in one step: each file is one state of the source; the three
//! are of moments shortly after one another, and nothing in them refers to another file. Each copy is looked through whole
//! and counted before the directory gets its name, so that a directory of that name is a whole backup.
//!
//! [`restore`] looks at sums, forms and contents before it touches anything, and refuses while a process has the store
//! open (all of them hold `store.lock` together; it wants it alone). What is there is renamed, not overwritten.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use kernel::Clock;
use kernel::journal::unix_ms;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use crate::import::sum_of;
use crate::journal::raise_cursor;
use crate::schema::{self, Unfit, Which};
use crate::shelf::{LOCK, REPLACED, beside, flush_directory, lock_file, make_private};

/// The manifest's name.
const MANIFEST: &str = "manifest.json";
/// The form of a backup.
const FORM: u32 = 1;
/// A manifest is smaller than that.
const MANIFEST_MAX: u64 = 64 << 10;
/// How often a file that is being written is tried again before a backup gives up.
const TRIES: u32 = 50;
/// Between such tries.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The form of the backup.
    pub form: u32,
    /// When it was taken, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Its files. One that the store did not have is not among them.
    pub files: Vec<FileReport>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 sum of its content, in hexadecimal.
    pub sha256: String,
    /// The form of its tables.
    pub version: u32,
    /// Rows by table.
    pub rows: BTreeMap<String, u64>,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no store.
    #[error("{0} holds no store: name the directory that `directory` of `[store]` names")]
    NoStore(PathBuf),
    /// The place is taken.
    #[error("{0} exists already: name a directory that does not exist")]
    Exists(PathBuf),
    /// A file could not be read.
    #[error("cannot copy {path}: {source}")]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A copy is not right; the source is damaged, or the disk of the copy is.
    #[error("the copy of {name} is not right: {problem}")]
    Wrong {
        /// The file.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A place could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The place.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why nothing was restored. Whatever it is, the store is as it was, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is no whole backup.
    #[error("{path} is no backup that can be restored: {problem}")]
    NotABackup {
        /// The place.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A node uses the store.
    #[error("a node has the store in {0} open: stop it first")]
    InUse(PathBuf),
    /// There is a store already.
    #[error("{0} holds a store already: say that it is to be replaced (what is there is kept under another name)")]
    Exists(PathBuf),
    /// A place could not be written.
    #[error(
        "cannot write {path}: {source}; files that were replaced are beside it, with `.replaced-` after their names"
    )]
    Write {
        /// The place.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Takes a backup of the store in `directory`, which may be in use, as the directory `out`, which must not exist.
///
/// # Errors
/// When there is none, when it cannot be read or written, or when the copy is not right. Nothing is left of it then.
pub fn backup(directory: &Path, out: &Path, clock: &Clock) -> Result<Report, BackupError> {
    if fs::symlink_metadata(out).is_ok() {
        return Err(BackupError::Exists(out.to_path_buf()));
    }
    if !Which::ALL.iter().any(|which| directory.join(which.file()).is_file()) {
        return Err(BackupError::NoStore(directory.to_path_buf()));
    }
    let temporary = beside(out, &format!(".unfinished-{}", std::process::id()));
    let whole = write(directory, &temporary, clock).and_then(|report| {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            |source| BackupError::Write { path, source }
        };
        fs::rename(&temporary, out).map_err(at(out))?;
        let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        flush_directory(parent).map_err(at(parent))?;
        Ok(report)
    });
    if whole.is_err() {
        // It is of no use, and says so by its name if it cannot be removed.
        let _left_there = fs::remove_dir_all(&temporary).is_err();
    }
    whole
}

fn write(directory: &Path, to: &Path, clock: &Clock) -> Result<Report, BackupError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        |source| BackupError::Write { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(failed(to))?;
    let mut report = Report { form: FORM, at_unix_ms: unix_ms(clock.wall()), files: Vec::new() };
    for which in Which::ALL {
        let (source, copy) = (directory.join(which.file()), to.join(which.file()));
        if !source.is_file() {
            continue;
        }
        copy_file(&source, &copy).map_err(|error| BackupError::Copy { path: source.clone(), source: error })?;
        let wrong = |problem: String| BackupError::Wrong { name: which.file().to_owned(), problem };
        let (version, rows) = look_through(&copy, which).map_err(wrong)?;
        make_private(&copy).and_then(|()| File::open(&copy)?.sync_all()).map_err(failed(&copy))?;
        let bytes = fs::metadata(&copy).map_err(failed(&copy))?.len();
        let sha256 = sum_of(&copy).map_err(failed(&copy))?;
        report.files.push(FileReport { name: which.file().to_owned(), bytes, sha256, version, rows });
    }
    let manifest = to.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&report).map_err(|e| failed(&manifest)(e.into()))?;
    fs::write(&manifest, text)
        .and_then(|()| make_private(&manifest))
        .and_then(|()| File::open(&manifest)?.sync_all())
        .and_then(|()| flush_directory(to))
        .map_err(failed(&manifest))?;
    Ok(report)
}

fn copy_file(source: &Path, copy: &Path) -> rusqlite::Result<()> {
    let from = Connection::open_with_flags(source, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    from.busy_timeout(PAUSE * TRIES)?;
    let mut to = Connection::open(copy)?;
    {
        let backup = Backup::new(&from, &mut to)?;
        let mut tries = 0;
        // All in one step: pages that change in between would begin it anew.
        loop {
            match backup.step(-1)? {
                StepResult::Done => break,
                _ if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                _ => return Err(busy()),
            }
        }
    }
    // One file, without a log beside it.
    to.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get::<_, String>(0))?;
    to.close().map_err(|(_, error)| error)
}

fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}

/// Looks through a file that nobody writes. The steps it has had, and its rows by table.
fn look_through(path: &Path, which: Which) -> Result<(u32, BTreeMap<String, u64>), String> {
    let look = || -> Result<_, Unfit> {
        let db = open_still(path)?;
        let version = schema::fits(&db, which)?;
        let mut problems = db.prepare("PRAGMA integrity_check(1)")?;
        let problem: String = problems.query_row((), |row| row.get(0))?;
        let names: Vec<String> = db
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")?
            .query_map((), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut rows = BTreeMap::new();
        for name in names {
            let count: i64 = db.query_row(&format!("SELECT count(*) FROM \"{name}\""), (), |row| row.get(0))?;
            rows.insert(name, count.unsigned_abs());
        }
        Ok((version, problem, rows))
    };
    match look() {
        Ok((0, ..)) => Err("it is empty".to_owned()),
        Ok((version, problem, rows)) if problem == "ok" => Ok((version, rows)),
        Ok((_, problem, _)) => Err(problem),
        Err(error) => Err(error.to_string()),
    }
}

/// Opens a file that nobody writes, without making anything beside it.
fn open_still(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags)
}

/// Looks at a backup as [`restore`] does before it touches anything.
///
/// # Errors
/// When it is not whole.
pub fn verify(from: &Path) -> Result<Report, RestoreError> {
    let not = |problem: String| RestoreError::NotABackup { path: from.to_path_buf(), problem };
    let manifest = from.join(MANIFEST);
    let size = fs::metadata(&manifest).map_err(|e| not(format!("its {MANIFEST} cannot be read: {e}")))?.len();
    if size > MANIFEST_MAX {
        return Err(not(format!("its {MANIFEST} is too large")));
    }
    let text = fs::read(&manifest).map_err(|e| not(format!("its {MANIFEST} cannot be read: {e}")))?;
    let report: Report = serde_json::from_slice(&text).map_err(|e| not(format!("its {MANIFEST} is not right: {e}")))?;
    if report.form != FORM {
        return Err(not(format!("it has the form {}, and this version reads {FORM}", report.form)));
    }
    if report.files.is_empty() {
        return Err(not("it has no files".to_owned()));
    }
    for file in &report.files {
        let known = Which::ALL.into_iter().find(|which| which.file() == file.name);
        let which = known.ok_or_else(|| not(format!("it has a file {} that a store does not have", file.name)))?;
        let path = from.join(which.file());
        let sum = sum_of(&path).map_err(|e| not(format!("{} cannot be read: {e}", file.name)))?;
        if sum != file.sha256 {
            return Err(not(format!("{} is not what was backed up: its sum is another", file.name)));
        }
        let (_, rows) = look_through(&path, which).map_err(|problem| not(format!("{}: {problem}", file.name)))?;
        if rows != file.rows {
            return Err(not(format!("{} has other rows than were backed up", file.name)));
        }
    }
    Ok(report)
}

/// Puts the backup `from` in the place of the store in `directory`. With `force` also if there is one, which is then kept
/// beside it, with `.replaced-` and a number after the names of its files.
///
/// # Errors
/// When it is no whole backup, a node has the store open, there is one and `force` is not set, or a disk fails.
pub fn restore(from: &Path, directory: &Path, force: bool) -> Result<Report, RestoreError> {
    let report = verify(from)?;
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        |source| RestoreError::Write { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed(directory))?;
    let lock_path = directory.join(LOCK);
    let lock = lock_file(&lock_path).map_err(failed(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(RestoreError::InUse(directory.to_path_buf())),
        Err(TryLockError::Error(error)) => return Err(failed(&lock_path)(error)),
    }
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    let there: Vec<Which> = Which::ALL.into_iter().filter(|which| is_there(&directory.join(which.file()))).collect();
    if !force && !there.is_empty() {
        return Err(RestoreError::Exists(directory.to_path_buf()));
    }
    // Everything that can fail for want of room comes first.
    for file in &report.files {
        let unfinished = directory.join(format!("{}.restoring", file.name));
        fs::copy(from.join(&file.name), &unfinished)
            .and_then(|_| make_private(&unfinished))
            .and_then(|()| File::open(&unfinished)?.sync_all())
            .map_err(failed(&unfinished))?;
        if sum_of(&unfinished).map_err(failed(&unfinished))? != file.sha256 {
            let problem = io::Error::other("what was written reads back as something else");
            return Err(failed(&unfinished)(problem));
        }
        let is_journal = file.name == Which::Journal.file();
        if let Some(cursor) = last_cursor(directory).filter(|_| is_journal && there.contains(&Which::Journal)) {
            // Whoever follows the journal has a cursor of the one that goes.
            raise(&unfinished, cursor).map_err(|e| failed(&unfinished)(io::Error::other(e)))?;
        }
    }
    for which in there {
        put_by(&directory.join(which.file())).map_err(failed(directory))?;
    }
    for file in &report.files {
        let path = directory.join(&file.name);
        fs::rename(directory.join(format!("{}.restoring", file.name)), &path).map_err(failed(&path))?;
    }
    flush_directory(directory).map_err(failed(directory))?;
    Ok(report)
}

/// Gives a file and its log another name.
fn put_by(path: &Path) -> io::Result<()> {
    // What is in its log goes into it first, if it can be read at all.
    let _unreadable = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|db| db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0)))
        .is_err();
    let by = (1..)
        .map(|n: u32| beside(path, &format!("{REPLACED}{n}")))
        .find(|by| fs::symlink_metadata(by).is_err())
        .ok_or(io::ErrorKind::AlreadyExists)?;
    for end in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, end), beside(&by, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound || end.is_empty() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The last cursor that the journal here has given out, if it can be read.
fn last_cursor(directory: &Path) -> Option<i64> {
    let path = directory.join(Which::Journal.file());
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    db.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'record'", (), |row| row.get(0)).ok()
}

fn raise(path: &Path, cursor: i64) -> rusqlite::Result<()> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    raise_cursor(&db, cursor)?;
    db.close().map_err(|(_, error)| error)
}
