//! What is known of a file, for whoever asks: its writer says how it goes, readers and the scrape look. And how a file is
//! opened: for writing, for reading, and what is done to one that is damaged.
//!
//! A file of the store must only be opened by SQLite while this process uses it: POSIX drops every lock that a process
//! has on a file when it closes any descriptor of it. Sizes and identities come from the directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::metrics::{Latency, LatencySum};
use kernel::store::{FileHealth, FileState};
use kernel::{Clock, Moment};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::config::{SMALLEST_CAP, StoreConfig};
use crate::schema::{self, Unfit, Which};

/// Held by every process that has the store open, and alone by whoever replaces its files.
pub(crate) const LOCK: &str = "store.lock";
/// After a file's name: held while it is opened or put aside, so that two processes do not do that at a time.
const ALONE: &str = ".lock";
/// After the name of a file that was damaged, before its number.
pub(crate) const ASIDE: &str = ".damaged-";
/// After the name of a file that a backup has replaced, before its number.
pub(crate) const REPLACED: &str = ".replaced-";
/// Files that were put aside, at most. That many mean that something is wrong which another file will not mend.
pub(crate) const ASIDE_MAX: usize = 5;
/// SQLite's page.
pub(crate) const PAGE: u64 = 4_096;
/// Pages of the write-ahead log after which it is brought into the file.
const CHECKPOINT_PAGES: u64 = 500;
/// What is left of the write-ahead log after that, on disk.
const LOG_KEPT: u64 = 4 << 20;
/// What of the cap is for the write-ahead log: what is written before it is brought over, and the largest transaction.
const LOG_MAX: u64 = 16 << 20;
/// Files up to this size are looked through when they are opened; that takes a tenth of a second at most. What is wrong
/// with a larger one shows when it is used.
const LOOK_THROUGH: u64 = 8 << 20;
/// How often a lock is tried.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A write that takes longer is said to be in trouble while it does.
const SLOW: Duration = Duration::from_secs(2);

/// What is known of a file.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) which: Which,
    pub(crate) path: PathBuf,
    pub(crate) cap: u64,
    pub(crate) waiting: AtomicU64,
    pub(crate) dropped: AtomicU64,
    clock: Clock,
    busy: Duration,
    status: Mutex<Status>,
    /// When the write that goes on began; 0: none does.
    writing_since: AtomicU64,
    writes: Latency,
}

#[derive(Debug)]
struct Status {
    state: FileState,
    trouble: String,
    since: Moment,
}

/// Which file it is, whatever its name.
pub(crate) type Identity = (u64, u64);

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
    #[error("another process opens or replaces it")]
    Replaced,
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
}

/// A file that is open for writing.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) db: Connection,
    pub(crate) identity: Identity,
    /// Whether it was begun just now.
    pub(crate) is_new: bool,
    /// Held as long as it is open.
    _lock: File,
}

impl Shelf {
    pub(crate) fn new(which: Which, config: &StoreConfig, clock: Clock) -> Arc<Shelf> {
        let cap = match which {
            Which::Ledger => config.ledger_cap,
            Which::Journal => config.journal_cap,
            Which::Series => config.series_cap,
        };
        let status = Status { state: FileState::Lost, trouble: "it is not open yet".to_owned(), since: clock.now() };
        Arc::new(Shelf {
            which,
            path: config.directory.join(which.file()),
            cap: cap.max(SMALLEST_CAP).as_bytes(),
            waiting: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            clock,
            busy: config.busy,
            status: Mutex::new(status),
            writing_since: AtomicU64::new(0),
            writes: Latency::default(),
        })
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> FileState {
        self.status().state
    }

    /// What is wrong, in words.
    pub(crate) fn trouble(&self) -> String {
        self.status().trouble.clone()
    }

    /// Says how the file is. For how long it was what it was before, if that has changed.
    pub(crate) fn set(&self, state: FileState, trouble: &str) -> Option<Duration> {
        let mut status = self.status();
        trouble.clone_into(&mut status.trouble);
        if status.state == state {
            return None;
        }
        let was = self.clock.now().since(status.since);
        (status.state, status.since) = (state, self.clock.now());
        Some(was)
    }

    /// Says what is wrong with a file that is lost.
    pub(crate) fn note(&self, trouble: &str) {
        let mut status = self.status();
        if status.state == FileState::Lost {
            trouble.clone_into(&mut status.trouble);
        }
    }

    /// Its size with that of its log, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
        size(&self.path) + size(&beside(&self.path, "-wal"))
    }

    /// Pages that the file itself may have.
    pub(crate) fn pages_max(&self) -> u64 {
        (self.cap - self.log_max()) / PAGE
    }

    fn log_max(&self) -> u64 {
        LOG_MAX.min(self.cap / 2)
    }

    /// Times a write. Only its writer may call it.
    pub(crate) fn timed<T>(&self, write: impl FnOnce() -> T) -> T {
        let began = self.clock.now();
        self.writing_since.store(began.as_nanos().max(1), Ordering::Relaxed);
        let result = write();
        self.writing_since.store(0, Ordering::Relaxed);
        let took = self.clock.now().since(began);
        self.writes.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        result
    }

    pub(crate) fn write_times(&self) -> LatencySum {
        let mut sum = LatencySum::default();
        self.writes.add_to(&mut sum);
        sum
    }

    pub(crate) fn health(&self) -> FileHealth {
        let now = self.clock.now();
        let (state, mut trouble, since) = {
            let status = self.status();
            (status.state, status.trouble.clone(), status.since)
        };
        let writing = self.writing_since.load(Ordering::Relaxed);
        let slow = now.since(Moment::from_nanos(writing));
        if writing != 0 && slow >= SLOW && trouble.is_empty() {
            trouble = format!("a write has been going on for {} s", slow.as_secs());
        }
        FileHealth {
            file: self.which.word(),
            path: self.path.display().to_string(),
            state,
            trouble,
            since_ms: u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX),
            bytes: self.bytes(),
            cap_bytes: self.cap,
            waiting: self.waiting.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// Which file is at the path now.
    pub(crate) fn identity(&self) -> Option<Identity> {
        fs::metadata(&self.path).ok().map(|m| (m.dev(), m.ino()))
    }

    /// Opens the file for writing, and makes it if there is none.
    pub(crate) fn open(&self) -> Result<Opened, OpenError> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let at = |what| move |error| OpenError::Io(what, error);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at("its directory cannot be made"))?;
        let lock = lock_file(&directory.join(LOCK)).map_err(at("its directory cannot be written"))?;
        match lock.try_lock_shared() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(OpenError::Replaced),
            Err(fs::TryLockError::Error(error)) => return Err(OpenError::Io("its directory cannot be locked", error)),
        }
        let _alone = self.alone()?;
        // Only a new file is opened here, see above.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path) {
            Ok(file) => {
                drop(file);
                flush_directory(directory).map_err(at("its directory cannot be flushed"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(OpenError::Io("it cannot be made", error)),
        }
        let identity = self.identity();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(self.busy)?;
        keep_log(&db)?;
        // What is not ours must not be changed, not even in its header.
        schema::fits(&db, self.which)?;
        for (name, value) in [("mmap_size", 0), ("cell_size_check", 1), ("trusted_schema", 0), ("auto_vacuum", 2)] {
            db.pragma_update(None, name, value)?;
        }
        let mode: String = db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if mode != "wal" {
            return Err(OpenError::Io("it cannot have a write-ahead log", io::Error::other(mode)));
        }
        let synchronous = if self.which == Which::Ledger { "FULL" } else { "NORMAL" };
        db.pragma_update(None, "synchronous", synchronous)?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES.min(self.log_max() / PAGE / 4) as i64)?;
        db.pragma_update(None, "journal_size_limit", LOG_KEPT.min(self.log_max()) as i64)?;
        let is_new = schema::migrate(&mut db, self.which)?;
        if self.bytes() <= LOOK_THROUGH {
            let found: String = db.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
            if found != "ok" {
                return Err(OpenError::Damaged(found));
            }
        }
        db.pragma_update_and_check(None, "max_page_count", self.pages_max() as i64, |row| row.get::<_, i64>(0))?;
        // It counts as usable once something could be written.
        schema::set_about(&db, "opened_ms", &(kernel::journal::unix_ms(self.clock.wall()) as i64))?;
        let gone = || OpenError::Io("it was removed while it was opened", io::ErrorKind::NotFound.into());
        let identity = identity.filter(|i| self.identity() == Some(*i)).ok_or_else(gone)?;
        Ok(Opened { db, identity, is_new, _lock: lock })
    }

    /// Waits until no other process opens the file or puts it aside.
    fn alone(&self) -> Result<File, OpenError> {
        let path = beside(&self.path, ALONE);
        let lock = lock_file(&path).map_err(|e| OpenError::Io("its directory cannot be written", e))?;
        for _ in 0..=self.busy.as_millis() / LOOK_EVERY.as_millis() {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOOK_EVERY),
                Err(fs::TryLockError::Error(e)) => return Err(OpenError::Io("it cannot be locked", e)),
            }
        }
        Err(OpenError::Replaced)
    }

    /// Opens the file for reading, if it is one that this version can read.
    pub(crate) fn open_to_read(&self) -> io::Result<(Connection, Identity)> {
        let identity = self.identity().ok_or(io::ErrorKind::NotFound)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> Result<Connection, Unfit> {
            let db = Connection::open_with_flags(&self.path, flags)?;
            db.busy_timeout(self.busy)?;
            keep_log(&db)?;
            db.pragma_update(None, "mmap_size", 0)?;
            db.pragma_update(None, "cell_size_check", 1)?;
            if schema::fits(&db, self.which)? == 0 {
                return Err(Unfit::Foreign);
            }
            Ok(db)
        };
        Ok((open().map_err(io::Error::other)?, identity))
    }

    /// Puts a damaged file aside, unless somebody else has done so. Its new name.
    pub(crate) fn put_aside(&self, identity: Option<Identity>) -> io::Result<Option<PathBuf>> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let _alone = self.alone().map_err(io::Error::other)?;
        if identity.is_some() && self.identity() != identity {
            return Ok(None);
        }
        let aside = (1..=ASIDE_MAX)
            .map(|n| beside(&self.path, &format!("{ASIDE}{n}")))
            .find(|path| fs::symlink_metadata(path).is_err())
            .ok_or_else(|| io::Error::other(format!("{ASIDE_MAX} damaged files were put aside already")))?;
        // The log first: a new file must not meet an old log.
        for end in ["-wal", "-shm", ""] {
            match fs::rename(beside(&self.path, end), beside(&aside, end)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound || end.is_empty() => return Err(error),
                _ => {}
            }
        }
        flush_directory(directory)?;
        Ok(Some(aside))
    }
}

/// Keeps SQLite from removing the log when a connection is closed: it does so by name, and by then the name may be that
/// of another file's log.
fn keep_log(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// The path with something after it.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A file that is there to be locked.
pub(crate) fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

pub(crate) fn flush_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// For this user alone.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
