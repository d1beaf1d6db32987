//! What was done with each request, for `evenkeel why`. While a request is served, its steps are put down in a scratch
//! space that its worker reuses; when it ends, the story is kept if the request was not plain, or if it belongs to the
//! sample, and forgotten otherwise.
//!
//! A worker keeps three rings, so that a flood of one kind does not wash out another: troubled requests
//! ([`TROUBLED_MAX`]), those that were refused before they were for a service or shed ([`OTHERS_MAX`]), and the sample of
//! plain ones ([`OTHERS_MAX`]); some 4 MiB in all. A ring is a mutex that its worker takes for a request that is kept, and that
//! somebody who asks takes for a look. A story has at most [`MARKS_MAX`] steps. Everything here ends with the process.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kernel::trace::{BudgetLeft, Kept, RequestTrace, Step, TraceEnd, TraceLine, What, Why};
use kernel::{Clock, ErrorCode, Moment};

/// Troubled requests that a worker remembers: at ten a second, the last seven minutes of each core.
const TROUBLED_MAX: usize = 4_096;
/// Requests of each of the other two kinds.
const OTHERS_MAX: usize = 512;
/// Steps of one story: three tries with all that can happen to them.
const MARKS_MAX: usize = 48;
/// Bytes of a target, and of a host, that are kept; a name in DNS has at most that many.
const TARGET_MAX: usize = 256;
/// Bytes of a method that are kept.
const METHOD_MAX: usize = 32;
/// Bytes that are kept of what was wrong.
const DETAIL_MAX: usize = 512;
/// Requests of one id that are shown.
const SAME_ID_MAX: usize = 16;

/// What happened, as the hot path puts it down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    Routed { timeout_ms: u64, repeatable: bool, tier: u8 },
    Queued,
    LetIn,
    TurnedAway,
    Try { number: u32, at: u16, tier: u8, chosen: &'static str, cause: &'static str, charged: bool },
    Connected { number: u32, connection: &'static str, after_us: u64 },
    Silent { number: u32 },
    Answered { number: u32, status: u16, after_us: u64 },
    Held { number: u32 },
    Failed { number: u32, how: &'static str },
    GivenUp { number: u32 },
    Again { reason: &'static str, pause_ms: u32, budget: Option<BudgetLeft> },
    NotAgain { reason: &'static str, budget: Option<BudgetLeft> },
    Parked,
    Released,
    Turned { error: &'static str },
}

/// The story of the request that is being served.
#[derive(Debug, Default)]
pub(crate) struct Story {
    marks: Vec<(Moment, Mark)>,
    /// Whether anything is put down.
    on: bool,
    clipped: bool,
    /// Why it is worth keeping: bits of [`Kept`].
    kept: u16,
    /// What was wrong, in the words that the client got.
    detail: String,
}

/// What a worker remembers.
#[derive(Debug, Default)]
pub(crate) struct Stories(Mutex<Rings>);

#[derive(Debug, Default)]
struct Rings {
    troubled: VecDeque<Told>,
    refused: VecDeque<Told>,
    sample: VecDeque<Told>,
}

/// A story that is kept.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) id: Box<[u8]>,
    pub(crate) started: Moment,
    pub(crate) method: Box<[u8]>,
    pub(crate) target: Box<[u8]>,
    pub(crate) host: Box<[u8]>,
    pub(crate) client: IpAddr,
    pub(crate) route: Option<Box<str>>,
    pub(crate) service: Option<Box<str>>,
    /// Endpoints that its steps speak of, by their places.
    pub(crate) endpoints: Vec<(u16, Box<str>)>,
    pub(crate) kept: u16,
    pub(crate) marks: Box<[(Moment, Mark)]>,
    pub(crate) clipped: bool,
    pub(crate) detail: Box<str>,
    pub(crate) status: u16,
    pub(crate) code: Option<ErrorCode>,
    pub(crate) whole: bool,
    pub(crate) took_us: u64,
    pub(crate) bytes: u64,
}

impl Story {
    /// Begins another; nothing is put down of it unless it is `on`.
    pub(crate) fn begin(&mut self, on: bool) {
        self.marks.clear();
        self.on = on;
        (self.clipped, self.kept) = (false, 0);
        self.detail.clear();
    }

    /// Puts a step down.
    #[inline]
    pub(crate) fn mark(&mut self, at: Moment, mark: Mark) {
        if !self.on {
            return;
        }
        if self.marks.len() < MARKS_MAX {
            self.marks.push((at, mark));
        } else {
            self.clipped = true;
        }
    }

    /// It is worth keeping.
    #[inline]
    pub(crate) fn keep(&mut self, why: Kept) {
        self.kept |= why.bit();
    }

    /// What was wrong.
    pub(crate) fn explain(&mut self, mut detail: String) {
        detail.truncate(detail.floor_char_boundary(DETAIL_MAX));
        self.detail = detail;
    }

    /// Why it is worth keeping so far.
    #[inline]
    pub(crate) fn kept(&self) -> u16 {
        self.kept
    }

    /// Places of the endpoints that it speaks of.
    pub(crate) fn places(&self) -> Vec<u16> {
        let mut places: Vec<u16> = Vec::new();
        for (_, mark) in &self.marks {
            if let Mark::Try { at, .. } = mark
                && !places.contains(at)
            {
                places.push(*at);
            }
        }
        places
    }

    /// Moves what was put down into a story that is kept.
    pub(crate) fn give(&mut self, told: &mut Told) {
        told.marks = self.marks.as_slice().into();
        (told.clipped, told.kept) = (self.clipped, self.kept);
        told.detail = std::mem::take(&mut self.detail).into_boxed_str();
    }
}

/// The part of a target that is kept: without the query, which may hold secrets.
pub(crate) fn target_of(target: &[u8]) -> &[u8] {
    let path = memchr::memchr(b'?', target).map_or(target, |at| &target[..at]);
    &path[..path.len().min(TARGET_MAX)]
}

/// The part of a host that is kept.
pub(crate) fn host_of(host: &[u8]) -> &[u8] {
    &host[..host.len().min(TARGET_MAX)]
}

/// The part of a method that is kept.
pub(crate) fn method_of(method: &[u8]) -> &[u8] {
    &method[..method.len().min(METHOD_MAX)]
}

impl Stories {
    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a story.
    pub(crate) fn keep(&self, told: Told) {
        let mut rings = self.lock();
        // A flood that is shed looks the same request by request, and is not to wash out what is not like it.
        let is_refused = told.service.is_none() || told.kept & Kept::Shed.bit() != 0;
        let (ring, most) = match (told.kept == Kept::Sample.bit(), is_refused) {
            (true, _) => (&mut rings.sample, OTHERS_MAX),
            (false, true) => (&mut rings.refused, OTHERS_MAX),
            (false, false) => (&mut rings.troubled, TROUBLED_MAX),
        };
        if ring.len() >= most {
            ring.pop_front();
        }
        ring.push_back(told);
    }
}

impl Rings {
    fn all(&self) -> impl Iterator<Item = &Told> {
        // Newest first within a ring, the troubled ones before the others.
        [&self.troubled, &self.refused, &self.sample].into_iter().flat_map(|ring| ring.iter().rev())
    }
}

/// Everything that is known of an id, from all workers.
pub(crate) fn why<'a>(
    all: impl Iterator<Item = &'a Stories>,
    id: &[u8],
    clock: &Clock,
) -> Result<Vec<RequestTrace>, Option<u64>> {
    let (mut found, mut oldest) = (Vec::new(), None::<Moment>);
    for (worker, stories) in all.enumerate() {
        let rings = stories.lock();
        for told in rings.all() {
            oldest = Some(oldest.map_or(told.started, |o| o.min(told.started)));
            if *told.id == *id && found.len() < SAME_ID_MAX {
                found.push(told.read(worker, clock));
            }
        }
    }
    if found.is_empty() {
        return Err(oldest.map(|at| kernel::journal::unix_ms(clock.wall_at(at))));
    }
    found.sort_by_key(|trace| std::cmp::Reverse(trace.at_unix_us));
    Ok(found)
}

/// The newest stories of all workers, newest first; of one service, if it is named.
pub(crate) fn lines<'a>(
    all: impl Iterator<Item = &'a Stories>,
    most: usize,
    service: Option<&str>,
    clock: &Clock,
) -> Vec<TraceLine> {
    let mut lines = Vec::new();
    for stories in all {
        let rings = stories.lock();
        for ring in [&rings.troubled, &rings.refused, &rings.sample] {
            let wanted = |told: &&Told| service.is_none_or(|s| told.service.as_deref() == Some(s));
            lines.extend(ring.iter().rev().filter(wanted).take(most).map(|told| told.line(clock)));
        }
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.at_unix_us));
    lines.truncate(most);
    lines
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn unix_us(moment: Moment, clock: &Clock) -> u64 {
    let since = clock.wall_at(moment).duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Told {
    fn read(&self, worker: usize, clock: &Clock) -> RequestTrace {
        let mut marks: Vec<_> = self.marks.to_vec();
        // What a connection took is known only when its try has ended.
        marks.sort_by_key(|(at, _)| *at);
        let step = |(at, mark): &(Moment, Mark)| Step {
            at_us: u64::try_from(at.since(self.started).as_micros()).unwrap_or(u64::MAX),
            what: self.what(*mark),
        };
        RequestTrace {
            id: text(&self.id),
            at_unix_us: unix_us(self.started, clock),
            method: text(&self.method),
            target: text(&self.target),
            host: text(&self.host),
            client: self.client.to_string(),
            route: self.route.as_deref().unwrap_or_default().to_owned(),
            service: self.service.as_deref().unwrap_or_default().to_owned(),
            worker,
            kept: Kept::from_bits(self.kept),
            steps: marks.iter().map(step).collect(),
            clipped: self.clipped,
            end: TraceEnd {
                status: self.status,
                error: self.code.map(ErrorCode::code),
                detail: self.detail.to_string(),
                whole: self.whole,
                took_us: self.took_us,
                bytes: self.bytes,
            },
        }
    }

    fn what(&self, mark: Mark) -> What {
        match mark {
            Mark::Routed { timeout_ms, repeatable, tier } => What::Routed { timeout_ms, repeatable, tier },
            Mark::Queued => What::Queued,
            Mark::LetIn => What::LetIn,
            Mark::TurnedAway => What::TurnedAway,
            Mark::Try { number, at, tier, chosen, cause, charged } => {
                let named = self.endpoints.iter().find(|(place, _)| *place == at);
                let endpoint = named.map(|(_, name)| name.to_string()).unwrap_or_default();
                What::Try { number, endpoint, tier, chosen, cause, charged }
            }
            Mark::Connected { number, connection, after_us } => What::Connected { number, connection, after_us },
            Mark::Silent { number } => What::Silent { number },
            Mark::Answered { number, status, after_us } => What::Answered { number, status, after_us },
            Mark::Held { number } => What::Held { number },
            Mark::Failed { number, how } => What::Failed { number, reason: how.to_owned() },
            Mark::GivenUp { number } => What::GivenUp { number },
            Mark::Again { reason, pause_ms, budget } => What::Again { reason, pause_ms: pause_ms.into(), budget },
            Mark::NotAgain { reason, budget } => What::NotAgain { reason, budget },
            Mark::Parked => What::Parked,
            Mark::Released => What::Released,
            Mark::Turned { error } => What::Turned { error },
        }
    }

    fn line(&self, clock: &Clock) -> TraceLine {
        let tries = self.marks.iter().filter(|(_, mark)| matches!(mark, Mark::Try { .. })).count();
        TraceLine {
            id: text(&self.id),
            at_unix_us: unix_us(self.started, clock),
            method: text(&self.method),
            target: text(&self.target),
            service: self.service.as_deref().unwrap_or_default().to_owned(),
            route: self.route.as_deref().unwrap_or_default().to_owned(),
            status: self.status,
            error: self.code.map(ErrorCode::code),
            took_us: self.took_us,
            tries: u32::try_from(tries).unwrap_or(u32::MAX),
            kept: Kept::from_bits(self.kept),
        }
    }
}

impl crate::gateway::Gateway {
    /// What was done with the request of this id, as far as it is remembered.
    pub fn why(&self, id: &str) -> Why {
        let commons = &self.commons;
        match why(commons.stories.iter(), id.as_bytes(), &commons.clock) {
            Ok(found) => Why::Found(found),
            Err(oldest_unix_ms) => {
                let rule = commons.snapshot.load().plan.edge.trace;
                let slow_ms = u64::try_from(rule.slow.as_millis()).unwrap_or(u64::MAX);
                Why::NotKept { oldest_unix_ms, sample_one_in: if rule.on { rule.one_in } else { 0 }, slow_ms }
            }
        }
    }

    /// The newest requests that are remembered, newest first; of one service, if it is named.
    pub fn traces(&self, most: usize, service: Option<&str>) -> Vec<TraceLine> {
        lines(self.commons.stories.iter(), most, service, &self.commons.clock)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn told(id: &str, kept: Kept, service: Option<&str>) -> Told {
        Told {
            id: id.as_bytes().into(),
            started: Moment::from_millis(5),
            method: b"GET".as_slice().into(),
            target: b"/".as_slice().into(),
            host: b"h".as_slice().into(),
            client: IpAddr::from([127, 0, 0, 1]),
            route: None,
            service: service.map(Into::into),
            endpoints: vec![(3, "a:1".into())],
            kept: kept.bit(),
            marks: Box::default(),
            clipped: false,
            detail: "".into(),
            status: 200,
            code: None,
            whole: true,
            took_us: 1,
            bytes: 0,
        }
    }

    #[test]
    fn a_flood_of_one_kind_leaves_the_others() {
        let stories = Stories::default();
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        stories.keep(told("sampled", Kept::Sample, Some("s")));
        stories.keep(told("refused", Kept::Failed, None));
        (0..OTHERS_MAX).for_each(|n| stories.keep(told(&format!("shed{n}"), Kept::Shed, Some("s"))));
        stories.keep(told("refused", Kept::Failed, None));
        for n in 0..TROUBLED_MAX + 10 {
            stories.keep(told(&format!("t{n}"), Kept::Failed, Some("s")));
        }
        let find = |id: &str| why(std::iter::once(&stories), id.as_bytes(), &clock);
        assert!(find("sampled").is_ok() && find("refused").is_ok() && find("t10").is_ok());
        assert_eq!(find("t9"), Err(Some(5)));
        assert_eq!(lines(std::iter::once(&stories), 10_000, None, &clock).len(), TROUBLED_MAX + 1 + OTHERS_MAX);
        assert_eq!(lines(std::iter::once(&stories), 10, Some("other"), &clock).len(), 0);
    }

    #[test]
    fn steps_are_in_the_order_of_time_and_a_long_story_says_so() {
        let (mut story, clock) = (Story::default(), Clock::manual(SystemTime::UNIX_EPOCH));
        story.begin(true);
        let new = Mark::Try { number: 1, at: 3, tier: 0, chosen: "its turn", cause: "first", charged: false };
        story.mark(Moment::from_millis(6), new);
        story.mark(Moment::from_millis(9), Mark::Failed { number: 1, how: "reset" });
        story.mark(Moment::from_millis(7), Mark::Connected { number: 1, connection: "new", after_us: 1_000 });
        (0..MARKS_MAX).for_each(|_| story.mark(Moment::from_millis(10), Mark::Parked));
        let mut kept = told("x", Kept::Failed, Some("s"));
        story.give(&mut kept);
        let read = kept.read(0, &clock);
        assert!(read.clipped && read.steps.len() == MARKS_MAX);
        assert!(matches!(&read.steps[0].what, What::Try { endpoint, .. } if endpoint == "a:1"));
        assert!(matches!(read.steps[1].what, What::Connected { .. }) && read.steps[1].at_us == 2_000);
    }

    #[test]
    fn a_query_is_not_kept() {
        assert_eq!(target_of(b"/a?token=b"), b"/a");
        assert_eq!(target_of(&[b'a'; 1_000]).len(), TARGET_MAX);
    }
}
