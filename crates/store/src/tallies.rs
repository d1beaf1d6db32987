//! What was counted, in memory: the present minute, and the last hour in any case, so that it can be shown without a
//! disk and written once there is one again. It knows no file and reads no clock.
//!
//! Counts belong to a *run*: a stretch of a process during which wall time went on as monotonic time did. When the clock is
//! set, a new run begins. Within a run a minute comes once, so that the pair of run and minute names what was counted:
//! written twice, it counts once, and several processes or settings of the clock add up.
//!
//! Limits: [`KEPT_MINUTES`] and [`KEPT_BYTES`]; [`SUBJECTS_MAX`] subjects. What cannot be written for longer is lost: it
//! is counted, and that time is a gap, so that it is shown as not covered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::Moment;
use kernel::tally::{Counts, Subject};

use crate::code::{Slots, encode_slots};

/// Minutes that stay in memory.
pub(crate) const KEPT_MINUTES: usize = 60;
/// Bytes that they may take: an hour of some 5,000 subjects.
const KEPT_BYTES: usize = 32 << 20;
/// Subjects that are counted at a time, and kept.
pub(crate) const SUBJECTS_MAX: usize = 20_000;
/// Runs that are remembered: each setting of the clock makes one.
const RUNS_MAX: usize = 64;
/// How far wall time may be from monotonic time before the clock counts as set.
const SET_BY: u64 = 1_000;
/// Milliseconds in a minute.
pub(crate) const MINUTE_MS: u64 = 60_000;

/// What was counted, in memory.
#[derive(Debug)]
pub(crate) struct Tallies {
    boot: String,
    serial: u32,
    last: (Moment, u64),
    /// How often counts were added.
    pub(crate) ticks: u64,
    present: Present,
    closed: VecDeque<Arc<Closed>>,
    runs: VecDeque<Stretch>,
    /// Until when minutes were let go.
    let_go_ms: u64,
    /// Requests that were counted and are lost.
    pub(crate) dropped: u64,
}

#[derive(Debug)]
struct Present {
    minute: u64,
    subjects: HashMap<Subject, [Counts; 4]>,
    /// Requests of it that are written.
    written: u64,
}

/// A minute that is over.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) run: Arc<str>,
    pub(crate) minute: u64,
    /// Slots of the minute (0 to 3) by subject, encoded.
    pub(crate) rows: Vec<(Subject, Vec<u8>)>,
    bytes: usize,
    /// How many are in it that are not written.
    requests: u64,
    is_written: AtomicBool,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) name: Arc<str>,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    /// Until when it is written.
    pub(crate) written_ms: u64,
    /// Stretches of it whose counts are lost.
    pub(crate) gaps: Vec<(u64, u64)>,
}

/// What is to be written.
#[derive(Debug)]
pub(crate) struct Flush {
    pub(crate) runs: Vec<Stretch>,
    pub(crate) closed: Vec<Arc<Closed>>,
    /// The present minute, if all that was before it is in `closed`.
    pub(crate) present: Option<Closed>,
}

impl Tallies {
    /// Begins to count. `boot` names the process.
    pub(crate) fn new(boot: &str, now: Moment, wall_ms: u64) -> Tallies {
        let present = Present { minute: wall_ms / MINUTE_MS, subjects: HashMap::new(), written: 0 };
        let mut tallies = Tallies {
            boot: boot.to_owned(),
            serial: 0,
            last: (now, wall_ms),
            ticks: 0,
            present,
            closed: VecDeque::new(),
            runs: VecDeque::new(),
            let_go_ms: 0,
            dropped: 0,
        };
        tallies.begin(wall_ms);
        tallies
    }

    fn begin(&mut self, from_ms: u64) {
        self.serial += 1;
        let name = format!("{}.{}", self.boot, self.serial).into();
        if self.runs.len() == RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back(Stretch { name, from_ms, to_ms: from_ms, written_ms: from_ms, gaps: Vec::new() });
    }

    fn run(&self) -> Arc<str> {
        self.runs.back().map_or_else(|| "".into(), |run| run.name.clone())
    }

    /// Adds what was counted since the last call, which ended now.
    pub(crate) fn tick(&mut self, now: Moment, wall_ms: u64, taken: Vec<(Subject, Counts)>) {
        self.ticks += 1;
        let passed = u64::try_from(now.since(self.last.0).as_millis()).unwrap_or(u64::MAX);
        let mut wall_ms = wall_ms;
        if wall_ms.abs_diff(self.last.1.saturating_add(passed)) > SET_BY {
            self.close();
            self.begin(wall_ms.saturating_sub(passed));
        } else {
            // The clock is slewed: wall time stands still rather than going back.
            wall_ms = wall_ms.max(self.last.1);
        }
        self.last = (now, wall_ms);
        let run_from = self.runs.back().map_or(0, |run| run.from_ms);
        // A call comes shortly after the second that it is about.
        let second = wall_ms.saturating_sub(500).max(run_from) / 1_000;
        let (minute, slot) = (second / 60, (second % 60 / 15) as usize);
        if minute != self.present.minute {
            self.close();
            self.present.minute = minute;
        }
        for (subject, counts) in taken {
            let known = self.present.subjects.len();
            match self.present.subjects.get_mut(&subject) {
                Some(slots) => slots[slot].add(&counts),
                None if known >= SUBJECTS_MAX => self.dropped += counts.total(),
                None => self.present.subjects.entry(subject).or_default()[slot].add(&counts),
            }
        }
        if let Some(run) = self.runs.back_mut() {
            run.to_ms = wall_ms;
        }
    }

    /// Ends the present minute.
    fn close(&mut self) {
        let subjects = std::mem::take(&mut self.present.subjects);
        let mut closed = self.closed(subjects);
        closed.requests = closed.requests.saturating_sub(std::mem::take(&mut self.present.written));
        if !closed.rows.is_empty() {
            self.closed.push_back(Arc::new(closed));
        }
        self.bound();
    }

    fn closed(&self, subjects: impl IntoIterator<Item = (Subject, [Counts; 4])>) -> Closed {
        let mut closed = Closed {
            run: self.run(),
            minute: self.present.minute,
            rows: Vec::new(),
            bytes: 0,
            requests: 0,
            is_written: false.into(),
        };
        for (subject, slots) in subjects {
            closed.requests += slots.iter().map(Counts::total).sum::<u64>();
            let slots: Slots = (0u8..).zip(slots).filter(|(_, counts)| !counts.is_empty()).collect();
            if !slots.is_empty() {
                let row = encode_slots(&slots);
                closed.bytes += row.len() + size_of::<(Subject, Vec<u8>)>() + 32;
                closed.rows.push((subject, row));
            }
        }
        closed
    }

    /// Lets go what there is no room for.
    fn bound(&mut self) {
        while self.closed.len() > KEPT_MINUTES || self.closed.iter().map(|c| c.bytes).sum::<usize>() > KEPT_BYTES {
            let Some(oldest) = self.closed.pop_front() else { break };
            self.let_go_ms = (oldest.minute + 1) * MINUTE_MS;
            if oldest.is_written.load(Ordering::Relaxed) {
                continue;
            }
            self.dropped += oldest.requests;
            let Some(run) = self.runs.iter_mut().find(|run| run.name == oldest.run) else { continue };
            let (from, to) = (run.written_ms, ((oldest.minute + 1) * MINUTE_MS).min(run.to_ms));
            match run.gaps.last_mut() {
                // One gap that grows.
                Some(gap) if gap.0 == from => gap.1 = gap.1.max(to),
                _ if to > from => run.gaps.push((from, to)),
                _ => {}
            }
        }
    }

    /// What is to be written next, at most `minutes` that are over.
    pub(crate) fn flush(&self, minutes: usize) -> Flush {
        let mut unwritten = self.closed.iter().filter(|c| !c.is_written.load(Ordering::Relaxed));
        let closed: Vec<Arc<Closed>> = unwritten.by_ref().take(minutes).cloned().collect();
        let next = unwritten.next();
        let mut runs: Vec<Stretch> = self.runs.iter().cloned().collect();
        if let Some(next) = next {
            // Runs are written as far as what was counted in them.
            let at = runs.iter().position(|run| run.name == next.run).unwrap_or(0);
            runs.truncate(at + 1);
            if let Some(run) = runs.last_mut() {
                run.to_ms = run.to_ms.min(next.minute * MINUTE_MS).max(run.from_ms);
            }
        }
        let subjects = || self.present.subjects.iter().map(|(subject, slots)| (subject.clone(), slots.clone()));
        let present = next.is_none().then(|| self.closed(subjects()));
        Flush { runs, closed, present }
    }

    /// It was written. Whether that was all.
    pub(crate) fn written(&mut self, flush: &Flush) -> bool {
        for closed in &flush.closed {
            closed.is_written.store(true, Ordering::Relaxed);
        }
        for written in &flush.runs {
            if let Some(run) = self.runs.iter_mut().find(|run| run.name == written.name) {
                run.written_ms = run.written_ms.max(written.to_ms);
                run.gaps.retain(|gap| !written.gaps.contains(gap));
            }
        }
        let is_present = |p: &&Closed| p.minute == self.present.minute && p.run == self.run();
        if let Some(present) = flush.present.as_ref().filter(is_present) {
            self.present.written = present.requests;
        }
        flush.present.is_some()
    }

    /// Another file is written from now on: what is in memory is not in it.
    pub(crate) fn forget_written(&mut self) {
        self.present.written = 0;
        for closed in &self.closed {
            closed.is_written.store(false, Ordering::Relaxed);
        }
        for run in &mut self.runs {
            // What was let go is in the other file alone.
            if run.to_ms > self.let_go_ms {
                run.from_ms = run.from_ms.max(self.let_go_ms);
            }
            run.written_ms = run.from_ms;
        }
    }

    /// Minutes that wait to be written.
    pub(crate) fn waiting(&self) -> u64 {
        self.closed.iter().filter(|c| !c.is_written.load(Ordering::Relaxed)).count() as u64
    }

    /// What is in memory: the minutes that are over and the present one, and the runs.
    pub(crate) fn remembered(&self, subject: &Subject) -> Remembered {
        let present = self.present.subjects.get(subject).cloned().map(|slots| (subject.clone(), slots));
        let mut minutes: Vec<Arc<Closed>> = self.closed.iter().cloned().collect();
        minutes.push(Arc::new(self.closed(present)));
        Remembered { minutes, runs: self.runs.iter().cloned().collect() }
    }

    /// Every subject in memory.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let closed = self.closed.iter().flat_map(|c| c.rows.iter().map(|(subject, _)| subject));
        self.present.subjects.keys().chain(closed).cloned().collect()
    }
}

/// What is in memory. It stands for what the file says of the same runs and minutes.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    pub(crate) minutes: Vec<Arc<Closed>>,
    pub(crate) runs: Vec<Stretch>,
}

/// How long until the next second of wall time begins.
pub(crate) fn to_next_second(wall_ms: u64) -> Duration {
    Duration::from_millis(1_000 - wall_ms % 1_000)
}
