//! The past of a node, as the tests make it: a journal with cursors, counts, traces, files, and the deployments that it
//! was told of.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use console::view::{Acted, ActionError, DeployMark};
use kernel::event::Event;
use kernel::journal::{Boot, Journal, JournalPage, JournalQuery, JournalReader, Record};
use kernel::store::FileHealth;
use kernel::tally::{Period, Step, Subject, TallyReader};
use kernel::trace::{RequestTrace, TraceLine, What, Why};
use kernel::{Clock, Entropy};
use tokio::sync::watch;

/// When the tests' clocks begin: 2026-03-01 12:00:00 UTC.
pub(crate) const BEGIN_UNIX_S: u64 = 1_772_366_400;

/// Where the cursors of another process begin.
pub(crate) const ELSEWHERE: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Past {
    /// Stands until it is moved; servers of the kit share it.
    pub(crate) clock: Clock,
    /// Events are told here.
    pub(crate) journal: Journal,
    /// What another process tells, which writes to the same journal.
    pub(crate) elsewhere: Journal,
    kept: Arc<Kept>,
    pub(crate) tallies: Arc<Tallies>,
    /// Newest first.
    pub(crate) traces: Mutex<Vec<RequestTrace>>,
    pub(crate) files: Mutex<Vec<FileHealth>>,
    /// Deployments that were told, and whether the disk takes them.
    pub(crate) deploys: Mutex<Vec<DeployMark>>,
    pub(crate) disk_is_lost: Mutex<bool>,
}

/// A journal whose records have cursors.
#[derive(Debug)]
struct Kept {
    told: Journal,
    elsewhere: Journal,
    lost: Mutex<bool>,
}

/// Periods by subject and length.
#[derive(Debug, Default)]
pub(crate) struct Tallies(pub(crate) Mutex<HashMap<(Subject, u32), Vec<Period>>>);

impl Default for Past {
    fn default() -> Past {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN_UNIX_S));
        let journal = Journal::unkept(clock.clone(), Boot::new(&mut Entropy::from_seed(7)));
        let elsewhere = Journal::unkept(clock.clone(), Boot::new(&mut Entropy::from_seed(8)));
        Past {
            kept: Arc::new(Kept { told: journal.clone(), elsewhere: elsewhere.clone(), lost: Mutex::default() }),
            clock,
            journal,
            elsewhere,
            tallies: Arc::default(),
            traces: Mutex::default(),
            files: Mutex::default(),
            deploys: Mutex::default(),
            disk_is_lost: Mutex::default(),
        }
    }
}

impl Past {
    pub(crate) fn reader(&self) -> Arc<dyn JournalReader> {
        self.kept.clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.journal.changes()
    }

    /// Reading the journal fails from now on, or works again.
    pub(crate) fn lose_journal(&self, is_lost: bool) {
        *self.kept.lost.lock().unwrap() = is_lost;
    }

    pub(crate) fn why(&self, id: &str) -> Why {
        let traces = self.traces.lock().unwrap();
        let found: Vec<_> = traces.iter().filter(|t| t.id == id).cloned().collect();
        match found.is_empty() {
            false => Why::Found(found),
            true => Why::NotKept {
                oldest_unix_ms: traces.last().map(|t| t.at_unix_us / 1000),
                sample_one_in: 1_000,
                slow_ms: 1_000,
            },
        }
    }

    pub(crate) fn lines(&self, most: usize, service: Option<&str>) -> Vec<TraceLine> {
        let traces = self.traces.lock().unwrap();
        let wanted = traces.iter().filter(|t| service.is_none_or(|s| t.service == s));
        wanted.take(most).map(line).collect()
    }

    pub(crate) fn deploy(&self, mark: &DeployMark) -> Result<Acted, ActionError> {
        if *self.disk_is_lost.lock().unwrap() {
            return Err(ActionError::NotKept("the journal cannot be written: the disk is away".into()));
        }
        let mut deploys = self.deploys.lock().unwrap();
        deploys.push(mark.clone());
        let event = mark.event();
        let message = Event::sentence(&event);
        self.journal.tell(event);
        Ok(Acted { message, kept: true })
    }
}

fn line(t: &RequestTrace) -> TraceLine {
    TraceLine {
        id: t.id.clone(),
        at_unix_us: t.at_unix_us,
        method: t.method.clone(),
        target: t.target.clone(),
        service: t.service.clone(),
        route: t.route.clone(),
        status: t.end.status,
        error: t.end.error,
        took_us: t.end.took_us,
        tries: t.steps.iter().filter(|s| matches!(s.what, What::Try { .. })).count() as u32,
        kept: t.kept.clone(),
    }
}

impl JournalReader for Kept {
    fn read(&self, query: &JournalQuery) -> io::Result<JournalPage> {
        if *self.lost.lock().unwrap() {
            return Err(io::Error::other("the disk is away"));
        }
        let records = self.told.recent(usize::MAX).into_iter().rev();
        let records = records.map(|r| Record { cursor: r.number, ..r });
        let others = self.elsewhere.recent(usize::MAX).into_iter().rev();
        let records: Vec<Record> =
            records.chain(others.map(|r| Record { cursor: ELSEWHERE + r.number, ..r })).collect();
        Ok(query.answer_from(records.into_iter()))
    }
}

impl TallyReader for Tallies {
    fn read(&self, subject: &Subject, step: Step, from: u64, until: u64) -> io::Result<Vec<Period>> {
        let all = self.0.lock().unwrap();
        let periods = all.get(&(subject.clone(), step.seconds())).cloned().unwrap_or_default();
        Ok(periods.into_iter().filter(|p| (from..until).contains(&p.start_unix_s)).collect())
    }

    fn subjects(&self) -> io::Result<Vec<Subject>> {
        let mut subjects: Vec<_> = self.0.lock().unwrap().keys().map(|(subject, _)| subject.clone()).collect();
        subjects.sort();
        subjects.dedup();
        Ok(subjects)
    }
}
