//! The series against a model: whatever processes do, end and write late, each request counts once where it belongs.

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;
use std::time::SystemTime;

use kernel::store::{Lease, Leases};
use kernel::tally::{Counts, Period, Step, TallyReader as _};
use kernel::{Entropy, Journal};

use super::*;
use crate::pool::Pool;
use crate::schema::Which;
use crate::shelf::Shelf;
use crate::tallies::SUBJECTS_MAX;
use crate::tally_read::KeptTallies;

/// An hour's beginning, some time ago.
const BEGIN_MS: u64 = 1_790_002_800_000;
const DAY_MS: u64 = 86_400_000;

#[derive(Debug)]
struct Always;

impl Leases for Always {
    fn take(&self, name: &str, _: Duration) -> io::Result<Option<Lease>> {
        Ok(Some(Lease { name: name.to_owned(), fence: 1 }))
    }

    fn release(&self, _: &Lease) -> io::Result<()> {
        Ok(())
    }
}

/// The file, and a clock that is ahead of all that is counted.
struct Place {
    _root: tempfile::TempDir,
    config: StoreConfig,
    shelf: Arc<Shelf>,
    clock: Clock,
}

/// One that counts.
struct Process {
    counted: Arc<Counted>,
    writer: SeriesWriter,
    now: Moment,
    wall_ms: u64,
}

fn place() -> Place {
    let root = tempfile::tempdir().unwrap();
    let config = StoreConfig::new(root.path().to_path_buf());
    let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_millis(BEGIN_MS + 5 * DAY_MS));
    let shelf = Shelf::new(Which::Series, &config, clock.clone());
    Place { _root: root, config, shelf, clock }
}

impl Place {
    fn process(&self, boot: &str, wall_ms: u64) -> Process {
        let (now, clock) = (Moment::from_millis(1_000), self.clock.clone());
        let counted = Arc::new(Counted::new(Tallies::new(boot, now, wall_ms)));
        let journal = Journal::unkept(clock.clone(), kernel::journal::Boot::from_text(boot));
        let writer = Writer::new(self.shelf.clone(), &self.config, clock.clone(), journal);
        let tidier = Tidier::new(Arc::new(Always), Duration::from_secs(60));
        let (stop, give_up) = (Arc::default(), Arc::default());
        let writer = SeriesWriter::new(writer, counted.clone(), tidier, self.config.clone(), clock, stop, give_up);
        Process { counted, writer, now, wall_ms }
    }

    fn reader(&self, process: Option<&Process>) -> KeptTallies {
        let cell = OnceLock::new();
        if let Some(process) = process {
            cell.set(process.counted.clone()).unwrap();
        }
        let (pool, clock) = (Pool::new(self.shelf.clone()), self.clock.clone());
        KeptTallies { pool, counted: Arc::new(cell), clock, config: self.config.clone() }
    }

    fn read(&self, process: Option<&Process>, subject: &Subject, step: Step) -> Vec<Period> {
        self.reader(process).read(subject, step, 0, u64::MAX).unwrap()
    }

    fn upkeep(&self, wall_ms: u64) {
        let mut opened = self.shelf.open().unwrap();
        upkeep::all(&mut opened.db, wall_ms, &self.config).unwrap();
    }
}

impl Process {
    /// Lets whole seconds pass, in which `counts` were counted.
    fn tick(&mut self, seconds: u64, set_by: i64, counts: Vec<(Subject, Counts)>) {
        self.now = self.now + Duration::from_secs(seconds);
        self.wall_ms = self.wall_ms.saturating_add(seconds * 1_000).saturating_add_signed(set_by * 1_000);
        self.counted.lock().tick(self.now, self.wall_ms, counts);
    }
}

fn some(n: u64) -> Counts {
    let mut counts = Counts { by_class: [0, n, 0, 0, n % 3, 0], second_tries: n % 2, ..Counts::default() };
    counts.latency.buckets[(n % 17) as usize] = n;
    counts.latency.sum_us = n * 997;
    counts
}

fn subjects() -> [Subject; 4] {
    let name = || "shop".to_owned();
    [
        Subject::Route { name: name() },
        Subject::Service { name: name() },
        Subject::Endpoint { service: name(), name: "a:1".to_owned() },
        Subject::Pool { name: name() },
    ]
}

/// What was counted: by subject and second.
type Model = BTreeMap<(usize, u64), Counts>;

fn of_step(model: &Model, subject: usize, step: Step) -> BTreeMap<u64, Counts> {
    let mut periods: BTreeMap<u64, Counts> = BTreeMap::new();
    for ((_, second), counts) in model.iter().filter(|((of, _), _)| *of == subject) {
        periods.entry(second - second % u64::from(step.seconds())).or_default().add(counts);
    }
    periods
}

fn by_start(periods: &[Period]) -> BTreeMap<u64, Counts> {
    let counted = periods.iter().filter(|p| !p.counts.is_empty());
    counted.map(|p| (p.start_unix_s, p.counts.clone())).collect()
}

fn length(mut parts: Vec<(u64, u64)>) -> u64 {
    parts.sort_unstable();
    let (mut sum, mut at) = (0, 0);
    for (from, to) in parts {
        sum += to.max(at) - from.max(at);
        at = at.max(to);
    }
    sum
}

#[test]
fn each_request_counts_once_where_it_belongs() {
    testkit::seeded(|mut entropy: Entropy| {
        let place = place();
        let subjects = subjects();
        let (mut model, mut covered) = (Model::new(), Vec::new());
        let mut boots = 0;
        let mut start = |wall: u64| {
            boots += 1;
            place.process(&format!("boot{boots}"), wall)
        };
        let mut processes = [start(BEGIN_MS + 10), start(BEGIN_MS + 10)];
        // What a process has counted and not written.
        let mut unwritten: [(Model, Vec<(u64, u64)>); 2] = Default::default();
        for _ in 0..600 {
            let at = entropy.below(2) as usize;
            let (process, (counts, parts)) = (&mut processes[at], &mut unwritten[at]);
            match entropy.below(40) {
                // It is killed, and another one starts.
                0 => {
                    *process = start(process.wall_ms);
                    (*counts, *parts) = Default::default();
                }
                1 => place.upkeep(process.wall_ms),
                n => {
                    let seconds = [1, 1, 1, 7, 20, 61, 400][entropy.below(7) as usize];
                    let set_by = if n < 4 { entropy.below(7_000) as i64 - 3_500 } else { 0 };
                    let taken: Vec<(usize, Counts)> = (0..entropy.below(3))
                        .map(|_| (entropy.below(4) as usize, some(1 + entropy.below(50))))
                        .collect();
                    let named = taken.iter().map(|(of, counts)| (subjects[*of].clone(), counts.clone())).collect();
                    process.tick(seconds, set_by, named);
                    let second = process.wall_ms / 1_000 - 1;
                    for (of, more) in taken {
                        counts.entry((of, second)).or_default().add(&more);
                    }
                    parts.push((process.wall_ms - seconds * 1_000, process.wall_ms));
                }
            }
            if entropy.below(3) == 0 {
                assert!(processes[at].writer.flush());
                for (key, counts) in std::mem::take(&mut unwritten[at].0) {
                    model.entry(key).or_default().add(&counts);
                }
                covered.append(&mut unwritten[at].1);
            }
        }
        for (process, (counts, parts)) in processes.iter_mut().zip(unwritten) {
            assert!(process.writer.flush());
            for (key, counts) in counts {
                model.entry(key).or_default().add(&counts);
            }
            covered.extend(parts);
        }
        let check = |what: &str| {
            for step in [Step::Quarter, Step::Minute, Step::Hour] {
                for (of, subject) in subjects.iter().enumerate() {
                    for process in [None, Some(&processes[0]), Some(&processes[1])] {
                        let periods = place.read(process, subject, step);
                        assert_eq!(by_start(&periods), of_step(&model, of, step), "{what} {step:?} {subject}");
                        let all: u64 = periods.iter().map(|p| u64::from(p.covered_ms)).sum();
                        assert_eq!(all, length(covered.clone()), "{what} {step:?}");
                    }
                }
            }
        };
        check("as it was written");
        for _ in 0..10 {
            place.upkeep(BEGIN_MS + 4 * DAY_MS);
        }
        check("summed up");
        let hours: i64 =
            place.shelf.open().unwrap().db.query_row("SELECT count(*) FROM hour", (), |r| r.get(0)).unwrap();
        assert!(hours > 0);
    });
}

#[test]
fn an_hour_outlives_its_minutes_and_those_their_quarters() {
    let mut place = place();
    let [_, subject, ..] = subjects();
    let mut process = place.process("a", BEGIN_MS + 10);
    for n in 0..180 {
        process.tick(60, 0, vec![(subject.clone(), some(n + 1))]);
        assert!(process.writer.flush());
    }
    let total =
        |place: &Place, step| -> u64 { place.read(None, &subject, step).iter().map(|p| p.counts.total()).sum() };
    let whole: u64 = (0..180).map(|n| some(n + 1).total()).sum();
    let steps = [Step::Quarter, Step::Minute, Step::Hour];
    assert_eq!(steps.map(|step| total(&place, step)), [whole; 3]);
    let mut expect = |days: u64, expected: [u64; 3]| {
        let wall = BEGIN_MS + days * DAY_MS;
        place.clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_millis(wall));
        place.upkeep(wall);
        place.upkeep(wall);
        assert_eq!(steps.map(|step| total(&place, step)), expected, "after {days} days");
    };
    expect(14, [whole; 3]);
    expect(16, [0, whole, whole]);
    expect(34, [0, whole, whole]);
    expect(36, [0, 0, whole]);
    expect(395, [0, 0, whole]);
    expect(398, [0, 0, 0]);
    let db = place.shelf.open().unwrap().db;
    let left: i64 =
        db.query_row("SELECT (SELECT count(*) FROM subject) + (SELECT count(*) FROM run)", (), |r| r.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn what_waits_for_longer_than_an_hour_is_lost_and_shown_as_a_gap() {
    let place = place();
    let [_, subject, ..] = subjects();
    let mut process = place.process("a", BEGIN_MS);
    process.tick(60, 0, vec![(subject.clone(), some(5))]);
    assert!(process.writer.flush());
    for _ in 0..100 {
        process.tick(60, 0, vec![(subject.clone(), some(5))]);
    }
    assert!(process.writer.flush());
    let dropped = process.counted.lock().dropped;
    let periods = place.read(None, &subject, Step::Minute);
    let counted: u64 = periods.iter().map(|p| p.counts.total()).sum();
    assert_eq!(counted + dropped, 101 * some(5).total());
    assert!(dropped > 30 * some(5).total(), "{dropped}");
    let covered: u64 = periods.iter().map(|p| u64::from(p.covered_ms)).sum();
    let lost = dropped / some(5).total();
    assert_eq!(covered, (101 - lost) * 60_000);
    assert_eq!(place.read(Some(&process), &subject, Step::Minute), periods);
}

#[test]
fn a_full_file_loses_the_finest_first_and_no_hour() {
    let mut place = place();
    place.config.series_cap = crate::SMALLEST_CAP;
    place.shelf = Shelf::new(Which::Series, &place.config, place.clock.clone());
    let subjects: Vec<Subject> = (0..20).map(|n| Subject::Service { name: format!("service-{n}") }).collect();
    let mut process = place.process("a", BEGIN_MS);
    let mut entropy = Entropy::from_seed(7);
    let mut whole = 0;
    for _ in 0..10 * 60 {
        let taken: Vec<_> = subjects.iter().map(|s| (s.clone(), some(1 + entropy.below(500)))).collect();
        whole += taken[0].1.total();
        process.tick(60, 0, taken);
        // The writer's clock is the one that says what has settled.
        assert!(process.writer.flush());
        assert!(place.shelf.bytes() <= place.shelf.cap, "{} of {}", place.shelf.bytes(), place.shelf.cap);
    }
    let total = |step| -> u64 { place.read(None, &subjects[0], step).iter().map(|p| p.counts.total()).sum() };
    let [quarters, minutes, hours] = [Step::Quarter, Step::Minute, Step::Hour].map(total);
    assert!(quarters < minutes && minutes <= hours, "{quarters} {minutes} {hours}");
    assert_eq!(hours, whole);
}

#[test]
fn subjects_beyond_the_limit_are_counted_as_dropped() {
    let mut tallies = Tallies::new("a", Moment::ZERO, BEGIN_MS);
    let one = |n: usize| (Subject::Route { name: n.to_string() }, some(1));
    tallies.tick(Moment::from_millis(1_000), BEGIN_MS + 1_000, (0..SUBJECTS_MAX).map(one).collect());
    assert_eq!(tallies.dropped, 0);
    tallies.tick(Moment::from_millis(2_000), BEGIN_MS + 2_000, (SUBJECTS_MAX - 1..SUBJECTS_MAX + 3).map(one).collect());
    assert_eq!(tallies.dropped, 3 * some(1).total());
}
