//! What an upstream has counted and which effects it has had, kept so that both survive SIGKILL: each change is written to
//! a file before the request is answered. The runner reads the files as well, also those of an upstream that is frozen or
//! dead.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Bytes of a counter in the file.
const WIDTH: usize = 8;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Requests other than checks.
    Requests,
    Health,
    Connections,
    Effects,
    Errors,
    Hangs,
    Resets,
    Closes,
    QueueFull,
    LongestQueue,
    Answered,
    IdleCloses,
}

/// Every counter with its name, in the order of the file.
pub(crate) const COUNTERS: [(&str, Counter); 12] = [
    ("requests", Counter::Requests),
    ("health", Counter::Health),
    ("connections", Counter::Connections),
    ("effects", Counter::Effects),
    ("errors", Counter::Errors),
    ("hangs", Counter::Hangs),
    ("resets", Counter::Resets),
    ("closes", Counter::Closes),
    ("queue_full", Counter::QueueFull),
    ("longest_queue", Counter::LongestQueue),
    ("answered", Counter::Answered),
    ("idle_closes", Counter::IdleCloses),
];

/// The file of an upstream's counters.
pub(crate) fn file(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("counters-{id}.bin"))
}

/// Reads a file of counters; all are 0 when there is none.
pub(crate) fn read(file: &Path) -> [u64; COUNTERS.len()] {
    let bytes = std::fs::read(file).unwrap_or_default();
    std::array::from_fn(|index| {
        let at = index * WIDTH;
        bytes.get(at..at + WIDTH).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    })
}

/// Counters, in memory and in their file.
#[derive(Debug)]
pub(crate) struct Counters {
    values: [u64; COUNTERS.len()],
    file: File,
}

impl Counters {
    /// Goes on where the file ends.
    pub(crate) fn open(path: &Path) -> Result<Counters> {
        let values = read(path);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        Ok(Counters { values, file: file.with_context(|| format!("opening {}", path.display()))? })
    }

    /// One more.
    pub(crate) fn add(&mut self, counter: Counter) -> std::io::Result<()> {
        self.set(counter, self.values[counter as usize] + 1)
    }

    /// Sets it to `value` if that is more.
    pub(crate) fn raise(&mut self, counter: Counter, value: u64) -> std::io::Result<()> {
        if value > self.values[counter as usize] { self.set(counter, value) } else { Ok(()) }
    }

    /// All begin at 0 again.
    pub(crate) fn clear(&mut self) -> std::io::Result<()> {
        self.values = [0; COUNTERS.len()];
        self.file.write_all_at(&[0; COUNTERS.len() * WIDTH], 0)
    }

    fn set(&mut self, counter: Counter, value: u64) -> std::io::Result<()> {
        self.values[counter as usize] = value;
        self.file.write_all_at(&value.to_le_bytes(), (counter as usize * WIDTH) as u64)
    }
}

/// How often each order had its effect, in memory and in a log.
#[derive(Debug)]
pub(crate) struct Effects {
    pub(crate) times: HashMap<String, u64>,
    log: File,
}

impl Effects {
    /// Goes on where the log ends.
    pub(crate) fn open(folder: &Path, id: u64) -> Result<Effects> {
        let path = folder.join(format!("effects-{id}.log"));
        let mut times = HashMap::new();
        for order in std::fs::read_to_string(&path).unwrap_or_default().lines() {
            *times.entry(order.to_owned()).or_insert(0) += 1;
        }
        let log = OpenOptions::new().append(true).create(true).open(&path);
        Ok(Effects { times, log: log.with_context(|| format!("opening {}", path.display()))? })
    }

    /// An order has its effect, once more.
    pub(crate) fn add(&mut self, order: String) -> std::io::Result<()> {
        self.log.write_all(format!("{order}\n").as_bytes())?;
        *self.times.entry(order).or_insert(0) += 1;
        Ok(())
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) -> std::io::Result<()> {
        self.times.clear();
        self.log.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_in_the_order_of_their_names() {
        assert!(COUNTERS.iter().enumerate().all(|(index, (_, counter))| *counter as usize == index));
    }

    #[test]
    fn what_was_counted_is_there_after_a_crash() {
        let folder = std::env::temp_dir().join(format!("storm-counters-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = file(&folder, 1);
        let mut counters = Counters::open(&path).unwrap();
        counters.clear().unwrap();
        counters.add(Counter::Resets).unwrap();
        counters.add(Counter::Resets).unwrap();
        counters.raise(Counter::LongestQueue, 7).unwrap();
        counters.raise(Counter::LongestQueue, 5).unwrap();
        let read = |counter: Counter| super::read(&path)[counter as usize];
        assert_eq!([read(Counter::Resets), read(Counter::LongestQueue), read(Counter::Requests)], [2, 7, 0]);
        let mut effects = Effects::open(&folder, 1).unwrap();
        effects.clear().unwrap();
        effects.add("a".to_owned()).unwrap();
        effects.add("a".to_owned()).unwrap();
        assert_eq!(Effects::open(&folder, 1).unwrap().times["a"], 2);
        assert_eq!(Counters::open(&path).unwrap().values[Counter::Resets as usize], 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
