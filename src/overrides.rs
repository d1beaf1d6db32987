//! What keeps operators' decisions: a file in the node's directory, or nothing but memory (the demo).
//!
//! `overrides.json` is JSON that a person can read. It is replaced as a whole: a temporary file beside it is written,
//! flushed to the disk and renamed over it, then the directory is flushed. A crash at any point leaves the old file or
//! the new one; a temporary file left behind is overwritten by the next save and never read. The directory is for the
//! node alone (0700), the file for its user (0600); both are made when the first decision is kept.
//!
//! ```text
//! absent            => nothing was decided
//! readable          => what was decided
//! not understood    => put aside as overrides.json.corrupt (then .corrupt-2 …); the node starts without it and says so
//! not to be read    => the node starts without it and says so; nothing is saved over it until a restart can read it
//! changed meanwhile => nothing is saved: somebody else writes here, and one of the two would be lost
//! ```
//!
//! Limits: a file of [`MAX_FILE_BYTES`]; [`MAX_ASIDE`] files put aside.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kernel::overrides::{Loaded, MAX_OVERRIDES, MAX_REASON_CHARS, OverrideSet, OverrideStore};
use kernel::{Rule, Severity};
use serde::{Deserialize, Serialize};

/// The name of the file.
const FILE: &str = "overrides.json";
/// What is written before it takes the file's place.
const TEMPORARY: &str = "overrides.json.tmp";
/// The form of the file. A change of it counts up.
const VERSION: u32 = 1;
/// Room for the most decisions with the longest reasons and names.
const MAX_FILE_BYTES: u64 = (MAX_OVERRIDES * (4 * MAX_REASON_CHARS + 1024)) as u64;
/// Files that were put aside. That many mean that something is wrong which another file will not mend.
const MAX_ASIDE: usize = 20;

/// The file cannot be understood.
pub(crate) const DAMAGED_OVERRIDES: Rule = Rule {
    id: "damaged-overrides",
    severity: Severity::Warning,
    title: "What operators had decided cannot be read",
    what: "The file `overrides.json` in `directory` of `[store]` is not what a node writes: it is cut short, was edited, \
           or was written by a newer version. The node has put it aside, as `overrides.json.corrupt`, and has started \
           without it.",
    why: "Endpoints that were drained or taken down before are sent requests again, and services that were switched to \
          another tier are back at their first.",
    remedy: "Read the file that was put aside: it is JSON and names each endpoint with state, person and reason. Take \
             the decisions that still hold anew with `evenkeel endpoint drain`, `evenkeel endpoint down` and `evenkeel \
             service failover`, then remove the file.",
    example: "[store]\ndirectory = \"/var/lib/evenkeel\"",
};

/// The file cannot be written, or not be read.
pub(crate) const OVERRIDES_NOT_KEPT: Rule = Rule {
    id: "overrides-not-kept",
    severity: Severity::Warning,
    title: "What operators decide does not survive a restart",
    what: "`directory` of `[store]` cannot be made, read or written, or its `overrides.json` was changed by something \
           other than this node. Decisions are in force, and are kept in memory alone.",
    why: "After a restart an endpoint that was drained would be sent requests again.",
    remedy: "Let the user that Evenkeel runs as write to the directory, or name another one. With systemd, \
             `StateDirectory=evenkeel` makes `/var/lib/evenkeel`. Each node needs a directory of its own. If the file was \
             changed by hand, restart the node to take it over.",
    example: "[store]\ndirectory = \"${env:STATE_DIRECTORY}\"",
};

/// Keeps decisions in a file.
#[derive(Debug)]
pub struct FileStore {
    directory: PathBuf,
    known: Mutex<Known>,
}

/// What the file is known to hold.
#[derive(Debug)]
enum Known {
    /// This; `None`: there is no file.
    Holds(Option<Vec<u8>>),
    /// It could not be read.
    Unreadable,
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl FileStore {
    /// A store in `directory`, which need not exist.
    pub fn new(directory: PathBuf) -> FileStore {
        FileStore { directory, known: Mutex::new(Known::Unreadable) }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Why the directory could not be written to, as far as that can be told without writing.
    pub fn obstacle(&self) -> Option<io::Error> {
        use rustix::fs::{Access, access};
        // What does not exist yet would be made, in the nearest directory that does.
        let here = |path: &&Path| path.as_os_str().is_empty() || path.exists();
        let nearest = self.directory.ancestors().find(here).unwrap_or(&self.directory);
        let nearest = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
        if !nearest.is_dir() {
            return Some(io::ErrorKind::NotADirectory.into());
        }
        access(nearest, Access::WRITE_OK | Access::EXEC_OK).err().map(io::Error::from)
    }

    /// Puts a file that cannot be understood aside. Its new name.
    fn put_aside(&self) -> io::Result<PathBuf> {
        let name = |n: usize| match n {
            1 => format!("{FILE}.corrupt"),
            n => format!("{FILE}.corrupt-{n}"),
        };
        let free =
            (1..=MAX_ASIDE).map(|n| self.directory.join(name(n))).find(|path| fs::symlink_metadata(path).is_err());
        let aside = free.ok_or_else(|| io::Error::other(format!("{MAX_ASIDE} files were put aside already")))?;
        fs::rename(self.path(), &aside)?;
        self.flush_directory()?;
        Ok(aside)
    }

    fn flush_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let temporary = self.directory.join(TEMPORARY);
        // One left behind by a crash may have other rights than a new one gets.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, self.path())
    }
}

impl OverrideStore for FileStore {
    fn place(&self) -> String {
        self.path().display().to_string()
    }

    fn load(&self) -> io::Result<Loaded> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Known::Unreadable;
        let bytes = read(&self.path())?;
        let Some(bytes) = bytes else {
            *known = Known::Holds(None);
            return Ok(Loaded::default());
        };
        match parse(&bytes) {
            Ok(set) => {
                *known = Known::Holds(Some(bytes));
                Ok(Loaded { set, damage: None })
            }
            Err(problem) => {
                let aside = self.put_aside()?;
                *known = Known::Holds(None);
                let damage =
                    format!("{} cannot be read ({problem}); it was put aside as {}", self.place(), aside.display());
                Ok(Loaded { set: OverrideSet::default(), damage: Some(damage) })
            }
        }
    }

    fn save(&self, set: &OverrideSet) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known::Holds(before) = &*known else {
            return Err(io::Error::other("what it held at the start could not be read, and is not overwritten"));
        };
        if read(&self.path())? != *before {
            return Err(io::Error::other("it was changed by something other than this node, and is not overwritten"));
        }
        let bytes = text(set)?;
        self.replace(&bytes)?;
        *known = Known::Holds(Some(bytes));
        self.flush_directory()
    }
}

/// The file's content; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn text(set: &OverrideSet) -> io::Result<Vec<u8>> {
    let serde_json::Value::Object(rest) = serde_json::to_value(set)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut bytes = serde_json::to_vec_pretty(&Written { version: VERSION, rest })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Why it is not understood, in a few words.
fn parse(bytes: &[u8]) -> Result<OverrideSet, String> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is larger than {MAX_FILE_BYTES} bytes"));
    }
    let written: Written = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if written.version != VERSION {
        return Err(format!("it has the form {}, and this version of Evenkeel reads {VERSION}", written.version));
    }
    let set: OverrideSet = serde_json::from_value(written.rest.into()).map_err(|error| error.to_string())?;
    if set.len() > MAX_OVERRIDES {
        return Err(format!("it holds more than {MAX_OVERRIDES} decisions"));
    }
    Ok(set)
}

/// Keeps decisions as long as the process runs.
#[derive(Debug, Default)]
pub struct MemoryStore;

impl OverrideStore for MemoryStore {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn load(&self) -> io::Result<Loaded> {
        Ok(Loaded::default())
    }

    fn save(&self, _set: &OverrideSet) -> io::Result<()> {
        Err(io::Error::other("this node keeps nothing on disk"))
    }
}

#[cfg(test)]
#[path = "overrides_tests.rs"]
mod tests;
