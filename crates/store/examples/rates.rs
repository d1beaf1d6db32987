//! How fast the store writes and how much room it takes, on the disk of the directory that is named (or a temporary one).
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "an example that measures and speaks to people")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel::journal::{Boot, JournalQuery, WAITING_MAX};
use kernel::store::Leases as _;
use kernel::tally::{Counts, Step, Subject, TallySource};
use kernel::{Clock, Entropy, Event, Journal};
use store::{Store, StoreConfig};

const LONG: Duration = Duration::from_secs(60);
const SUBJECTS: u64 = 50;
const MINUTES: u64 = 60;

#[derive(Debug, Default)]
struct Source(Mutex<Vec<(Subject, Counts)>>);

impl TallySource for Source {
    fn take(&self) -> Vec<(Subject, Counts)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// One that is not folded.
fn event(n: u64) -> Event {
    Event::EndpointDrained {
        service: "checkout".into(),
        endpoint: format!("10.0.3.{}:8080", n % 250),
        actor: "maria".into(),
        reason: format!("a new disk goes in, see ticket {n}; back before the evening"),
        kept: true,
    }
}

/// Counts of a quarter of a minute: some hundred requests a second, with the spread that answers have.
fn quarter(entropy: &mut Entropy, rate: u64) -> Counts {
    let mut counts = Counts::default();
    for _ in 0..rate * 15 {
        // The product of four: most are short, few are long.
        let us = (0..4).fold(400.0, |us, _| us * (1.0 + 3.0 * entropy.unit())) as u64;
        let at = kernel::metrics::LATENCY_BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(16);
        counts.latency.buckets[at] += 1;
        counts.latency.sum_us += us;
        counts.by_class[if entropy.below(500) == 0 { 4 } else { 1 }] += 1;
    }
    counts
}

fn main() {
    let temporary = tempfile::tempdir().unwrap();
    let root = std::env::args().nth(1).map_or_else(|| temporary.path().to_path_buf(), Into::into);
    let config = StoreConfig::new(root.join("evenkeel-rates"));
    let clock = Clock::real();
    let (journal, intake) = Journal::new(clock.clone(), Boot::new(&mut Entropy::from_os().unwrap()));
    let store = Store::open(config.clone(), clock.clone(), journal.clone());
    store.keep_journal(intake);
    let source = Arc::<Source>::default();
    let seconds = |from| clock.now().since(from).as_secs_f64();
    let size = |name: &str| std::fs::metadata(config.directory.join(name)).map_or(0, |m| m.len());

    journal.tell_durably(event(0)).wait(LONG).unwrap();
    let began = clock.now();
    let mut told = 0u64;
    while seconds(began) < 5.0 {
        if journal.waiting() < WAITING_MAX / 2 {
            told += 1;
            journal.tell(event(told));
        } else {
            std::thread::yield_now();
        }
    }
    journal.tell_durably(event(told + 1)).wait(LONG).unwrap();
    println!("journal, plain:               {:>9.0} records/s", told as f64 / seconds(began));

    let began = clock.now();
    let mut durable = 0u64;
    while seconds(began) < 3.0 {
        durable += 1;
        journal.tell_durably(event(told + 1 + durable)).wait(LONG).unwrap();
    }
    println!("journal, durable, one caller: {:>9.0} records/s", durable as f64 / seconds(began));

    let began = clock.now();
    let group = Mutex::new(0u64);
    std::thread::scope(|threads| {
        for caller in 0..32u64 {
            let (journal, clock, group) = (&journal, &clock, &group);
            threads.spawn(move || {
                let mut n = 0;
                while clock.now().since(began).as_secs_f64() < 3.0 {
                    n += 1;
                    journal.tell_durably(event((caller + 1) << 32 | n)).wait(LONG).unwrap();
                }
                *group.lock().unwrap() += n;
            });
        }
    });
    println!("journal, durable, 32 callers: {:>9.0} records/s", *group.lock().unwrap() as f64 / seconds(began));

    let ledger = store.ledger();
    for callers in [1, 32] {
        let began = clock.now();
        let taken = Mutex::new(0u64);
        std::thread::scope(|threads| {
            for caller in 0..callers {
                let (ledger, clock, taken) = (&ledger, &clock, &taken);
                threads.spawn(move || {
                    let mut n = 0;
                    while clock.now().since(began).as_secs_f64() < 3.0 {
                        n += 1;
                        ledger.take(&format!("lease-{caller}"), LONG).unwrap();
                    }
                    *taken.lock().unwrap() += n;
                });
            }
        });
        println!(
            "ledger, {callers:>2} callers:           {:>9.0} commits/s",
            *taken.lock().unwrap() as f64 / seconds(began)
        );
    }

    let began = clock.now();
    let page = store.journal().read(&JournalQuery::default()).unwrap();
    println!("journal, newest {} records:  {:>9.2} ms", page.records.len(), seconds(began) * 1e3);
    let rare = JournalQuery { service: Some("nobody".into()), kinds: vec!["dns".into()], ..JournalQuery::default() };
    let began = clock.now();
    assert!(store.journal().read(&rare).unwrap().records.is_empty());
    println!("journal, a rare kind:         {:>9.2} ms", seconds(began) * 1e3);
    assert!(store.close(LONG));
    let records = told + durable + 2 + *group.lock().unwrap();
    println!(
        "journal, room:                {:>9.0} bytes/record ({records} records)",
        size("journal.db") as f64 / records as f64
    );

    // Series: an hour of counts, brought over as if the disk had been away.
    let wall = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_002_800);
    let manual = Clock::manual(wall);
    let (journal, _intake) = Journal::new(manual.clone(), Boot::new(&mut Entropy::from_os().unwrap()));
    let store = Store::open(config.clone(), manual.clone(), journal);
    store.keep_tallies(source.clone());
    let subjects: Vec<Subject> = (0..SUBJECTS).map(|n| Subject::Service { name: format!("service-{n}") }).collect();
    let mut entropy = Entropy::from_seed(7);
    let began = clock.now();
    for _ in 0..MINUTES * 4 {
        let taken: Vec<_> = subjects.iter().map(|s| (s.clone(), quarter(&mut entropy, 100))).collect();
        *source.0.lock().unwrap() = taken;
        manual.advance(Duration::from_secs(15));
        while !source.0.lock().unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let read_began = clock.now();
    let periods = store.tallies().read(&subjects[0], Step::Quarter, 0, u64::MAX).unwrap();
    println!("series, an hour by 15 s:      {:>9.2} ms ({} periods)", seconds(read_began) * 1e3, periods.len());
    assert!(store.close(LONG));
    println!("series, {SUBJECTS} subjects for {MINUTES} min written in {:.1} s", seconds(began));
    let samples = SUBJECTS * MINUTES * 4;
    let db = rusqlite::Connection::open(config.directory.join("series.db")).unwrap();
    for (table, of) in [("quarter", samples), ("minute", samples / 4)] {
        let bytes: i64 = db.query_row(&format!("SELECT sum(length(data)) FROM {table}"), (), |row| row.get(0)).unwrap();
        println!("series, {table:<8}             {:>9.1} bytes/sample", bytes as f64 / of as f64);
    }
    println!(
        "series, room:                 {:>9.1} bytes/15 s sample, with minutes and all else",
        size("series.db") as f64 / samples as f64
    );
}
