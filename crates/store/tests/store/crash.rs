//! Power failures. A process writes while `strace` records every write, truncation and flush of its files, with the data
//! and in their order, and what it said that it had kept. From that, disks are made as a failure could leave them at any
//! moment: all that was flushed, and of what was not, any part, down to single sectors, in any order. Each must open, be
//! whole, and hold what the process had said by then.
//!
//! A sector is written whole or not at all, and writing one changes none beside it; SQLite relies on the same. Names of
//! files are taken as kept once they are made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use kernel::Entropy;
use kernel::overrides::OverrideStore as _;
use kernel::store::FileState;
use rusqlite::Connection;

use crate::child::VARIABLE;
use crate::support::{Place, SOON, deployed};

/// What a disk writes at once.
const SECTOR: usize = 512;
/// Disks that are made.
const IMAGES: usize = 80;
/// Of these, those in which a whole node is started.
const NODES: usize = 8;

/// What the process did.
#[derive(Debug)]
enum Did {
    Write { file: String, at: usize, data: Vec<u8> },
    Truncate { file: String, to: usize },
    Flush { file: String },
    Say { text: String },
}

/// A file on a disk: what is certain, and what is on its way.
#[derive(Default)]
struct Disk {
    certain: Vec<u8>,
    on_its_way: Vec<(usize, Option<Vec<u8>>)>,
}

fn put(file: &mut Vec<u8>, at: usize, data: Option<&[u8]>) {
    match data {
        None => file.resize(at, 0),
        Some(data) => {
            if file.len() < at + data.len() {
                file.resize(at + data.len(), 0);
            }
            file[at..at + data.len()].copy_from_slice(data);
        }
    }
}

impl Disk {
    fn flush(&mut self) {
        for (at, data) in self.on_its_way.drain(..) {
            put(&mut self.certain, at, data.as_deref());
        }
    }

    /// What a failure leaves: `luck` of what is on its way, by sectors. Later sectors may be there without earlier ones.
    fn image(&self, entropy: &mut Entropy, luck: u64) -> Vec<u8> {
        let mut image = self.certain.clone();
        for (at, data) in &self.on_its_way {
            match data {
                None if entropy.below(100) < luck => put(&mut image, *at, None),
                None => {}
                Some(data) => {
                    let mut from = 0;
                    while from < data.len() {
                        let to = ((at + from) / SECTOR * SECTOR + SECTOR - at).min(data.len());
                        if entropy.below(100) < luck {
                            put(&mut image, at + from, Some(&data[from..to]));
                        }
                        from = to;
                    }
                }
            }
        }
        image
    }
}

/// The bytes of a text in which each is written as `\x00`.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
    text.as_bytes().chunks_exact(4).map(|byte| digit(byte[2]) << 4 | digit(byte[3])).collect()
}

/// The name of the file in `<…>`.
fn file_of(args: &str) -> Option<String> {
    let path = args.split_once('<')?.1.split_once('>')?.0;
    let path = String::from_utf8(unhex(path)).ok()?;
    Some(Path::new(&path).file_name()?.to_str()?.to_owned())
}

fn between(text: &str, mark: char) -> &str {
    text.split(mark).nth(1).unwrap_or_default()
}

/// Reads what `strace` wrote.
fn read(trace: &str) -> Vec<Did> {
    let mut began: HashMap<&str, &str> = HashMap::new();
    let mut position: HashMap<String, usize> = HashMap::new();
    let mut all = Vec::new();
    for line in trace.lines() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(head) = rest.strip_suffix(" <unfinished ...>") {
            began.insert(pid, head);
            continue;
        }
        let whole = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let tail = resumed.split_once("resumed>").unwrap().1;
                format!("{}{tail}", began.remove(pid).unwrap_or_default())
            }
            None => rest.to_owned(),
        };
        let Some((name, args)) = whole.split_once('(') else { continue };
        let Some((args, result)) = args.rsplit_once(" = ") else { continue };
        let result: i64 = result.split([' ', '<']).next().unwrap().parse().unwrap_or(-1);
        if result < 0 {
            continue;
        }
        let args = args.trim_end().trim_end_matches(')');
        if name == "write" && args.starts_with("1<") {
            all.push(Did::Say { text: String::from_utf8_lossy(&unhex(between(args, '"'))).into_owned() });
            continue;
        }
        let Some(file) = file_of(args).filter(|f| f.ends_with(".db") || f.ends_with(".db-wal")) else { continue };
        let last = || args.rsplit(", ").next().unwrap().parse::<usize>().unwrap();
        // Positions are of a descriptor.
        let key = args.split('>').next().unwrap().to_owned();
        match name {
            "lseek" => {
                position.insert(key, result as usize);
            }
            "write" | "pwrite64" => {
                let data = unhex(between(args, '"'));
                assert_eq!(data.len() as i64, result, "a write in parts");
                let at = if name == "write" { position.get(&key).copied().unwrap_or(0) } else { last() };
                position.insert(key, at + data.len());
                all.push(Did::Write { file, at, data });
            }
            "ftruncate" => all.push(Did::Truncate { file, to: last() }),
            "fsync" | "fdatasync" => all.push(Did::Flush { file }),
            other => panic!("{other}"),
        }
    }
    all
}

/// What was said so far, by word: the highest number.
fn said<'a>(dids: impl Iterator<Item = &'a Did>) -> BTreeMap<String, u64> {
    let mut said = BTreeMap::new();
    for did in dids {
        let Did::Say { text } = did else { continue };
        for line in text.lines() {
            if let Some((word, Ok(n))) = line.split_once(' ').map(|(word, n)| (word.to_owned(), n.parse())) {
                said.insert(word, n);
            }
        }
    }
    said
}

fn check(directory: &Path, said: &BTreeMap<String, u64>, what: &str) {
    let told = |word: &str| said.get(word).copied().unwrap_or(0);
    let open = |name: &str| -> Option<Connection> {
        let db = Connection::open(directory.join(name)).unwrap();
        let sound: String = db.query_row("PRAGMA integrity_check", (), |row| row.get(0)).expect(what);
        assert_eq!(sound, "ok", "{what} {name}");
        let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).unwrap();
        (tables > 0).then_some(db)
    };
    if let Some(db) = open("journal.db").or_else(|| (told("kept") > 0).then(|| panic!("{what}: no journal"))) {
        let texts = |sql: &str| -> Vec<String> {
            let mut rows = db.prepare(sql).unwrap();
            rows.query_map((), |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
        };
        let keys = texts("SELECT data ->> 'key' FROM record WHERE kind = 'deploy.marked' ORDER BY cursor");
        let distinct: BTreeSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{what}: nothing is there twice");
        for n in 1..=told("kept") {
            assert!(distinct.contains(&n.to_string()), "{what}: {n} was said to be kept, of {}", told("kept"));
        }
        // What is there is all up to some moment.
        let numbers = texts("SELECT CAST(number AS TEXT) FROM record ORDER BY cursor");
        let expected: Vec<String> = (1..=numbers.len()).map(|n| n.to_string()).collect();
        assert_eq!(numbers, expected, "{what}");
    }
    if let Some(db) = open("ledger.db").or_else(|| (told("leased") > 0).then(|| panic!("{what}: no ledger"))) {
        let sql = "SELECT count(*) FROM lease WHERE name LIKE 'lease-%'";
        let leases: i64 = db.query_row(sql, (), |row| row.get(0)).unwrap_or(0);
        let leased = told("leased") as i64;
        assert!(leases >= leased && leases <= leased + 1, "{what}: {leases} of {leased}");
    }
    drop(open("series.db"));
}

#[test]
fn a_power_failure_at_any_moment_takes_nothing_that_was_said_to_be_kept() {
    testkit::seeded(|mut entropy| {
        let root = tempfile::tempdir().unwrap();
        let (data, trace) = (root.path().join("data"), root.path().join("trace"));
        let done = Command::new("strace")
            .args(["-f", "-y", "-xx", "-s", "2000000", "-o"])
            .arg(&trace)
            .args(["-e", "trace=lseek,write,pwrite64,ftruncate,fsync,fdatasync"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child::the_second_process_does_as_it_is_told", "--nocapture"])
            .env(VARIABLE, format!("power:{}", data.display()))
            .output()
            .expect("strace is needed, and may watch its children");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let all = read(&std::fs::read_to_string(&trace).unwrap());
        let at_the_end = said(all.iter());
        assert!(at_the_end["kept"] >= 100 && at_the_end["leased"] >= 50, "{at_the_end:?}");
        let flushed: BTreeSet<&str> = all
            .iter()
            .filter_map(|did| if let Did::Flush { file } = did { Some(file.as_str()) } else { None })
            .collect();
        assert!(
            flushed.contains("journal.db") && flushed.contains("journal.db-wal"),
            "checkpoints happen: {flushed:?}"
        );

        let mut moments: Vec<usize> = (0..IMAGES).map(|_| entropy.below(all.len() as u64) as usize).collect();
        moments.sort_unstable();
        let mut disks: BTreeMap<&str, Disk> = BTreeMap::new();
        let mut reached = 0;
        for (image, moment) in moments.into_iter().enumerate() {
            for did in &all[reached..moment] {
                match did {
                    Did::Write { file, at, data } => {
                        disks.entry(file).or_default().on_its_way.push((*at, Some(data.clone())));
                    }
                    Did::Truncate { file, to } => disks.entry(file).or_default().on_its_way.push((*to, None)),
                    Did::Flush { file } => disks.entry(file).or_default().flush(),
                    Did::Say { .. } => {}
                }
            }
            reached = moment;
            let luck = [0, 10, 50, 90, 100][entropy.below(5) as usize];
            let place = Place::new();
            let directory: &PathBuf = &place.config.directory;
            std::fs::create_dir(directory).unwrap();
            for (file, disk) in &disks {
                std::fs::write(directory.join(file), disk.image(&mut entropy, luck)).unwrap();
            }
            let said = said(all[..moment].iter());
            let what = format!("call {moment} of {}, {luck} %", all.len());
            if image % (IMAGES / NODES) == 0 {
                // A node finds its way in it.
                let node = place.node();
                node.store.ledger().load().unwrap();
                for file in ["journal", "series"] {
                    node.wait_for(file, FileState::Kept);
                }
                assert_eq!(node.journal.told(kernel::EventKind::StoreDamaged), 0, "{what}");
                node.journal.tell_durably(deployed("after")).wait(SOON).unwrap();
                let kept = node.records().iter().filter(|r| r.kind == "deploy.marked").count() as u64;
                assert!(kept > said.get("kept").copied().unwrap_or(0), "{what}");
                node.close();
            } else {
                check(directory, &said, &what);
            }
        }
    });
}
