//! Decisions of an earlier version, which kept them in `overrides.json`: taken over when that file is there, which is
//! then called `overrides.json.imported`. A file that cannot be understood is put aside as `overrides.json.corrupt` and said.
//!
//! The file is renamed after the ledger has committed. A crash in between finds it again; its sum, kept with the
//! decisions, says that it was taken over already. A file with another content (the earlier version ran once more) is
//! taken over again, and what it says counts.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use kernel::overrides::{MAX_OVERRIDES, OverrideSet};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use crate::decisions::write_difference;
use crate::schema::{about, set_about};
use crate::shelf::flush_directory;

/// The earlier version's file.
const FILE: &str = "overrides.json";
/// It wrote no more than that.
const MAX_BYTES: u64 = 4 << 20;

/// What remains to be done with the file.
pub(crate) enum Imported {
    /// It was taken over.
    Taken,
    /// It could not be understood, and why.
    Corrupt(String),
}

/// The earlier version's form.
#[derive(serde::Deserialize)]
struct Written {
    version: u32,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Takes the decisions over, if there are any.
pub(crate) fn take(db: &Connection, directory: &Path) -> rusqlite::Result<Option<Imported>> {
    let bytes = match fs::metadata(directory.join(FILE)).map(|m| m.len()) {
        Ok(size) if size > MAX_BYTES => return Ok(Some(Imported::Corrupt("it is too large".to_owned()))),
        Ok(_) => match fs::read(directory.join(FILE)) {
            Ok(bytes) => bytes,
            // It stays where it is, and is looked at again at the next start.
            Err(_) => return Ok(None),
        },
        Err(_) => return Ok(None),
    };
    let set = match parse(&bytes) {
        Ok(set) => set,
        Err(why) => return Ok(Some(Imported::Corrupt(why))),
    };
    let sum = hex(&Sha256::digest(&bytes));
    if about::<String>(db, "imported")?.as_ref() != Some(&sum) {
        write_difference(db, &OverrideSet::default(), &set)?;
        let version: i64 = about(db, "decisions_version")?.unwrap_or_default();
        set_about(db, "decisions_version", &(version + 1))?;
        set_about(db, "imported", &sum)?;
    }
    Ok(Some(Imported::Taken))
}

impl Imported {
    /// Gives the file its new name, once the ledger has committed. What could not be taken over, in a sentence.
    pub(crate) fn finish(self, directory: &Path) -> Option<String> {
        let (end, damage) = match self {
            Imported::Taken => ("imported", None),
            Imported::Corrupt(why) => ("corrupt", Some(why)),
        };
        let to = directory.join(format!("{FILE}.{end}"));
        let renamed = fs::rename(directory.join(FILE), &to).and_then(|()| flush_directory(directory));
        let damage = damage?;
        let place = directory.join(FILE);
        Some(match renamed {
            Ok(()) => format!("{} cannot be read ({damage}); it was put aside as {}", place.display(), to.display()),
            Err(error) => format!("{} cannot be read ({damage}), nor put aside: {error}", place.display()),
        })
    }
}

fn parse(bytes: &[u8]) -> Result<OverrideSet, String> {
    let written: Written = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if written.version != 1 {
        return Err(format!("it has the form {}", written.version));
    }
    let set: OverrideSet = serde_json::from_value(written.rest.into()).map_err(|error| error.to_string())?;
    if set.len() > MAX_OVERRIDES {
        return Err(format!("it holds more than {MAX_OVERRIDES} decisions"));
    }
    Ok(set)
}

/// In hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        let _cannot_fail = write!(text, "{byte:02x}").is_err();
        text
    })
}

/// The sum of a file's content.
pub(crate) fn sum_of(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = io::Read::read(&mut file, &mut buffer)?;
        if n == 0 {
            return Ok(hex(&sum.finalize()));
        }
        sum.update(&buffer[..n]);
    }
}
