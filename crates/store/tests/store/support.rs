//! A store in a directory of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel::journal::{Boot, JournalQuery, LIMIT_MAX, Order, Record};
use kernel::store::{FileHealth, FileState};
use kernel::tally::{Counts, Subject, TallySource};
use kernel::{Clock, Entropy, Event, Journal};
use store::{Store, StoreConfig};
use testkit::eventually;

/// How long anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A directory that goes with the test, and how the store in it is kept.
pub(crate) struct Place {
    _root: tempfile::TempDir,
    pub(crate) config: StoreConfig,
}

/// A store that runs, as a process would have it.
pub(crate) struct Node {
    pub(crate) store: Arc<Store>,
    pub(crate) journal: Journal,
    pub(crate) source: Arc<Source>,
}

/// Counts by hand.
#[derive(Debug, Default)]
pub(crate) struct Source(Mutex<Vec<(Subject, Counts)>>);

impl Place {
    pub(crate) fn new() -> Place {
        let root = tempfile::tempdir().unwrap();
        let mut config = StoreConfig::new(root.path().join("data"));
        config.retry_first = Duration::from_millis(20);
        config.retry_most = Duration::from_millis(100);
        Place { _root: root, config }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.config.directory.join(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.config.directory).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A process that has the store open, with a journal and a source of counts.
    pub(crate) fn node(&self) -> Node {
        self.node_by(Clock::real())
    }

    pub(crate) fn node_by(&self, clock: Clock) -> Node {
        let (journal, intake) = Journal::new(clock.clone(), boot());
        let store = Store::open(self.config.clone(), clock, journal.clone());
        store.keep_journal(intake);
        let source = Arc::<Source>::default();
        store.keep_tallies(source.clone());
        Node { store, journal, source }
    }
}

pub(crate) fn boot() -> Boot {
    Boot::new(&mut Entropy::from_os().unwrap())
}

impl Node {
    pub(crate) fn close(self) {
        assert!(self.store.close(SOON), "{:?}", self.store.health());
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        let all = JournalQuery { limit: LIMIT_MAX, order: Order::OldestFirst, ..JournalQuery::default() };
        self.store.journal().read(&all).unwrap().records
    }

    pub(crate) fn health(&self, file: &str) -> FileHealth {
        self.store.health().into_iter().find(|f| f.file == file).unwrap()
    }

    pub(crate) fn wait_for(&self, file: &str, state: FileState) -> FileHealth {
        eventually(SOON, &format!("the {file} to be {state:?}: {:?}", self.store.health()), || {
            Some(self.health(file)).filter(|f| f.state == state)
        })
    }

    /// The first record of this kind.
    pub(crate) fn wait_told(&self, kind: &str) -> Record {
        eventually(SOON, kind, || self.journal.recent(1_000).into_iter().find(|r| r.kind == kind))
    }
}

impl Source {
    pub(crate) fn count(&self, subject: &Subject, requests: u64) {
        let mut counts = Counts { by_class: [0, requests, 0, 0, 0, 0], ..Counts::default() };
        counts.latency.buckets[2] = requests;
        counts.latency.sum_us = requests * 1_500;
        self.0.lock().unwrap().push((subject.clone(), counts));
    }
}

impl TallySource for Source {
    fn take(&self) -> Vec<(Subject, Counts)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

pub(crate) fn ejected(service: &str, endpoint: &str) -> Event {
    let text = |s: &str| s.to_owned();
    Event::EndpointEjected {
        service: text(service),
        endpoint: text(endpoint),
        from: text("closed"),
        reason: text("refused"),
    }
}

pub(crate) fn deployed(key: &str) -> Event {
    let text = |s: &str| s.to_owned();
    Event::DeployMarked {
        service: text("shop"),
        version: text("1.2.3"),
        environment: text("production"),
        status: text("succeeded"),
        actor: text("ci"),
        url: String::new(),
        source: text("api"),
        key: text(key),
    }
}

pub(crate) fn shop() -> Subject {
    Subject::Service { name: "shop".to_owned() }
}
