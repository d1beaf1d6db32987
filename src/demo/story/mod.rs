//! `evenkeel demo --story`: one thing after the other goes wrong on purpose, and each time it is told what was done, what
//! customers saw (counted by the traffic, request by request), what the gateway told of it (its journal), and what it did
//! with one of the requests.
//!
//! ```text
//! begun  => done     the chapter's act ([`chapters`]): replicas are hurt, or reports are asked for without end
//! done   => undone   the journal has told the sign of it, and it has lasted for a while; or SIGN has passed
//! undone => over     the journal has told the close of it, everybody is back in rotation and every request has its
//!                    outcome; or CLOSE has passed
//! ```
//! A chapter in which something did not come, or too many customers saw a failure, did not go as it should: it says so, and
//! so does the exit code. A signal ends the story where it is; what was told until then is summed up.

mod chapters;
mod lines;
mod text;
mod told;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kernel::journal::{JournalQuery, LIMIT_MAX, Order, Record, unix_ms};
use kernel::trace::{RequestTrace, Why};
use kernel::{Clock, Entropy, Moment};

use self::chapters::{Act, CHAPTERS, Chapter, Sign};
use self::told::{Hurt, Seen, Told};
use super::shop::Faults;
use super::stage::Stage;
use super::traffic::{Lap, Mix, Traffic, TrafficOptions, TrafficReport};
use super::{Asked, GRACE, StoryForm};

/// How long the journal may take to tell of what was done. Refused connections are told at once, five failures in a row
/// after some seconds, health checks after three.
const SIGN: Duration = Duration::from_secs(20);
/// How long it may take until everything is as before: a back-off of some steps, and trials.
const CLOSE: Duration = Duration::from_secs(40);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Requests among which one is looked for whose path is told: more than a gateway of two workers remembers.
const CANDIDATES: usize = 10_240;

/// Everything but the traffic and what has been told.
struct Teller<'a, W: Write> {
    out: &'a mut W,
    form: StoryForm,
    stage: &'a Stage,
    clock: Clock,
    rate: u32,
    seed: u64,
}

/// What the whole came to.
#[derive(Debug)]
struct Whole {
    /// What customers saw, of the shop and of the floods.
    seen: Vec<TrafficReport>,
    /// What the gateway counted, by class.
    counted: [u64; 6],
    is_interrupted: bool,
}

/// Goes through the story, on a stage that is set. True if every chapter that was told went as it should.
pub(super) async fn run(
    out: &mut impl Write,
    form: StoryForm,
    rate: u32,
    stage: Stage,
    mut entropy: Entropy,
    asked: &mut Asked,
) -> anyhow::Result<bool> {
    let clock = Clock::real();
    let (target, seed) = (stage.running.gateway, entropy.next_u64());
    let mut teller = Teller { out, form, stage: &stage, clock, rate, seed };
    teller.begin()?;
    let options = TrafficOptions { target, rate, seed, replicas: stage.replicas.len(), mix: Mix::Goods };
    let traffic = Traffic::start(options);
    let (mut all, mut floods) = (Vec::new(), Vec::new());
    let is_interrupted = tokio::select! {
        told = teller.tell(&traffic, &mut all, &mut floods) => { told?; false }
        () = asked.again() => true,
    };
    let mut seen = vec![traffic.stop(GRACE).await];
    seen.append(&mut floods);
    let counted = settled_counts(&stage, &seen).await;
    let whole = Whole { seen, counted, is_interrupted };
    let text = match form {
        StoryForm::Text => text::end(&all, &whole),
        StoryForm::Json => lines::end(&all, &whole)?,
    };
    stage.clear(asked).await;
    write!(out, "{text}")?;
    out.flush()?;
    Ok(all.iter().all(|told| told.problems.is_empty()))
}

/// What the gateway counted, once it has counted what was answered last.
async fn settled_counts(stage: &Stage, seen: &[TrafficReport]) -> [u64; 6] {
    let sent: u64 = seen.iter().map(|report| report.by_status.values().sum::<u64>()).sum();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let ends = Clock::real().now() + GRACE;
    loop {
        let mut counted = [0; 6];
        for route in (stage.running.view)().routes {
            counted.iter_mut().zip(route.by_class).for_each(|(all, one)| *all += one);
        }
        if counted.iter().sum::<u64>() >= sent || Clock::real().now() >= ends {
            return counted;
        }
        looks.tick().await;
    }
}

impl<W: Write> Teller<'_, W> {
    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    fn now_unix_ms(&self) -> u64 {
        unix_ms(self.clock.wall())
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let running = &self.stage.running;
        let text = match self.form {
            StoryForm::Text => text::begin(running.gateway, running.console, self.stage.replicas.len(), self.rate),
            StoryForm::Json => lines::begin(running.gateway, running.console, &self.stage.replicas, self.rate)?,
        };
        self.say(&text)
    }

    /// Goes through all chapters. What was told stays in `all` and `floods` when this is dropped.
    async fn tell(
        &mut self,
        traffic: &Traffic,
        all: &mut Vec<Told>,
        floods: &mut Vec<TrafficReport>,
    ) -> anyhow::Result<()> {
        let mut lap = traffic.lap();
        for (number, chapter) in (1..).zip(&CHAPTERS) {
            let (told, next) = self.chapter(number, chapter, traffic, lap, floods).await?;
            lap = next;
            let text = match self.form {
                StoryForm::Text => text::told(&told, self.now_unix_ms()),
                StoryForm::Json => lines::told(&told)?,
            };
            self.say(&text)?;
            all.push(told);
        }
        Ok(())
    }

    async fn chapter(
        &mut self,
        number: usize,
        chapter: &Chapter,
        traffic: &Traffic,
        lap: Lap,
        floods: &mut Vec<TrafficReport>,
    ) -> anyhow::Result<(Told, Lap)> {
        let began_unix_ms = self.now_unix_ms();
        let tries_before = self.second_tries();
        let heading = match self.form {
            StoryForm::Text => text::heading(number, chapter),
            StoryForm::Json => lines::heading(number, chapter, began_unix_ms)?,
        };
        self.say(&heading)?;
        let mut told = Told {
            chapter: chapter.name,
            began_unix_ms,
            done_unix_ms: None,
            undone_unix_ms: None,
            ended_unix_ms: 0,
            hurt: self.hurt(chapter),
            clients: Seen::default(),
            flood: None,
            second_tries: 0,
            records: Vec::new(),
            path: None,
            recovered_after_ms: None,
            problems: Vec::new(),
        };
        let flood = self.perform(chapter, &mut told).await?;
        if let Some(report) = flood {
            told.flood = Some(Seen::of(&report));
            floods.push(report);
        }
        self.await_close(chapter, &mut told).await?;
        let next = traffic.lap();
        told.ended_unix_ms = self.now_unix_ms();
        self.await_answers(&lap, &mut told).await;
        told.clients = Seen::of(&lap.report());
        told.records = self.records(began_unix_ms, told.ended_unix_ms).await?;
        told.second_tries = self.second_tries() - tries_before;
        told.path = self.path(chapter, &told);
        told.judge(chapter);
        Ok((told, next))
    }

    /// Does what the chapter does, for as long as it lasts, and undoes it; gives what those saw who made a flood.
    async fn perform(&mut self, chapter: &Chapter, told: &mut Told) -> anyhow::Result<Option<TrafficReport>> {
        let (began, done) = (self.clock.now(), self.now_unix_ms());
        let flood = match chapter.act {
            Act::Nothing => None,
            Act::Hurt { faults, .. } => {
                self.set(chapter, faults).await?;
                None
            }
            Act::Flood { rate } => {
                let (target, seed, replicas) = (self.stage.running.gateway, self.seed, self.stage.replicas.len());
                Some(Traffic::start(TrafficOptions { target, rate, seed, replicas, mix: Mix::Reports }))
            }
        };
        told.done_unix_ms = self.deed(chapter.done(), done, told, "done")?;
        if let Some(sign) = chapter.sign {
            self.await_sign(sign, SIGN, told.done_unix_ms, told).await?;
        }
        tokio::time::sleep((began + chapter.lasts).since(self.clock.now())).await;
        let undone = self.now_unix_ms();
        if let Act::Hurt { .. } = chapter.act {
            self.set(chapter, Faults::default()).await?;
        }
        told.undone_unix_ms = self.deed(chapter.undone(), undone, told, "undone")?;
        let Some(flood) = flood else { return Ok(None) };
        let undone = self.clock.now();
        let seen = flood.stop(CLOSE).await;
        told.recovered_after_ms = Some(millis_since(undone, &self.clock));
        Ok(Some(seen))
    }

    async fn set(&self, chapter: &Chapter, faults: Faults) -> anyhow::Result<()> {
        let hurt: Vec<_> = chapter.hurt().iter().filter_map(|n| self.stage.handles.get(n - 1)).collect();
        for handle in &hurt {
            handle.set(faults).map_err(anyhow::Error::msg).context("setting the faults of a replica")?;
        }
        for handle in hurt {
            anyhow::ensure!(handle.settled().await, "replica {} does not do what it is told", handle.number());
        }
        Ok(())
    }

    /// Tells of a deed; gives when it was, if there was one.
    fn deed(&mut self, what: Option<String>, at: u64, told: &Told, which: &str) -> anyhow::Result<Option<u64>> {
        let Some(what) = what else { return Ok(None) };
        let text = match self.form {
            StoryForm::Text => text::deed(&what, at - told.began_unix_ms),
            StoryForm::Json => lines::deed(told.chapter, which, at, &told.hurt, &what)?,
        };
        self.say(&text)?;
        Ok(Some(at))
    }

    fn hurt(&self, chapter: &Chapter) -> Vec<Hurt> {
        let address = |replica: &usize| self.stage.replicas.get(replica - 1).map(|r| r.addr.to_string());
        let hurt = chapter.hurt().iter().filter_map(|n| Some(Hurt { replica: *n, address: address(n)? }));
        hurt.collect()
    }

    /// Waits until the journal has told `sign` of everybody that it has to be told of.
    async fn await_sign(
        &self,
        sign: Sign,
        most: Duration,
        since: Option<u64>,
        told: &mut Told,
    ) -> anyhow::Result<Option<u64>> {
        let ends = self.clock.now() + most;
        let since = since.unwrap_or(told.began_unix_ms);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let records = self.records(told.began_unix_ms, u64::MAX).await?;
            if let Some(found) = sign.found(&records, since, &told.hurt) {
                return Ok(found.iter().map(|r| r.at_unix_ms).max());
            }
            if self.clock.now() >= ends {
                let whom: Vec<&str> = told.hurt.iter().map(|h| h.address.as_str()).collect();
                let (Sign { kind, service, .. }, whom) = (sign, whom.join(", "));
                told.problems.push(format!("the journal did not tell {kind} of {service} {whom} within {most:?}"));
                return Ok(None);
            }
            looks.tick().await;
        }
    }

    /// Waits until all is as before.
    async fn await_close(&self, chapter: &Chapter, told: &mut Told) -> anyhow::Result<()> {
        let ends = self.clock.now() + CLOSE;
        if let (Some(close), Some(undone)) = (chapter.close, told.undone_unix_ms) {
            let closed = self.await_sign(close, CLOSE, told.undone_unix_ms, told).await?;
            told.recovered_after_ms = closed.map(|at| at.saturating_sub(undone));
        }
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let records = self.records(told.began_unix_ms, u64::MAX).await?;
            let is_whole = (self.stage.running.view)().services.iter().flat_map(|s| &s.endpoints).all(|e| e.healthy);
            if is_whole && told::is_settled(&records) {
                return Ok(());
            }
            if self.clock.now() >= ends {
                told.problems.push(format!("not everything was as before within {CLOSE:?}"));
                return Ok(());
            }
            looks.tick().await;
        }
    }

    /// Waits until each request of the lap has its outcome.
    async fn await_answers(&self, lap: &Lap, told: &mut Told) {
        let ends = self.clock.now() + CLOSE;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while lap.waiting() > 0 {
            if self.clock.now() >= ends {
                told.problems.push(format!("{} requests have no outcome after {CLOSE:?}", lap.waiting()));
                return;
            }
            looks.tick().await;
        }
    }

    /// What was told in a stretch of time, in its order.
    async fn records(&self, since: u64, until: u64) -> anyhow::Result<Vec<Record>> {
        let query = JournalQuery {
            since_unix_ms: Some(since),
            until_unix_ms: Some(until),
            limit: LIMIT_MAX,
            order: Order::OldestFirst,
            ..JournalQuery::default()
        };
        let journal = Arc::clone(&self.stage.running.journal);
        let page = tokio::task::spawn_blocking(move || journal.read(&query)).await?;
        Ok(page.context("reading the journal")?.records)
    }

    fn second_tries(&self) -> u64 {
        let services = (self.stage.running.view)().services;
        services.iter().flat_map(|s| &s.second_tries).map(|(_, n)| n).sum()
    }

    /// The path of a request of this chapter: of the kind that tells most of it, at one of those that were hurt.
    fn path(&self, chapter: &Chapter, told: &Told) -> Option<RequestTrace> {
        let service = if told.flood.is_some() { "reports" } else { "shop" };
        let lines = (self.stage.running.traces)(CANDIDATES, service);
        let is_of_it = |at_us: u64| (told.began_unix_ms..=told.ended_unix_ms).contains(&(at_us / 1_000));
        let mine: Vec<_> = lines.iter().filter(|line| is_of_it(line.at_unix_us)).collect();
        for kind in chapter.paths {
            // The oldest first: how it began tells most.
            for line in mine.iter().rev().filter(|line| line.kept.contains(kind)) {
                let Why::Found(traces) = (self.stage.running.why)(&line.id) else { continue };
                let found = traces.into_iter().find(|t| is_of_it(t.at_unix_us));
                if let Some(trace) = found.filter(|t| told.hurt.is_empty() || told::touches(t, &told.hurt)) {
                    return Some(trace);
                }
            }
        }
        None
    }
}

fn millis_since(then: Moment, clock: &Clock) -> u64 {
    u64::try_from(clock.now().since(then).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
