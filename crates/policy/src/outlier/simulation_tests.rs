//! A service on virtual time: endpoints that fail in known ways, a balancer that sends to the least busy, second tries,
//! and the judge between them. What is asserted is whom it opens, how soon, and what the fault costs until then.

use std::collections::BTreeMap;

use kernel::Entropy;

use super::*;

/// What an endpoint does with a request.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// Answers in about 2 ms.
    Well,
    /// Fails with 503 this often, 0 to 1; answers else.
    Flaky(f64),
    /// Breaks the answer off this often.
    Breaking(f64),
    /// Answers so many ms later.
    Slow(u64),
    /// Never answers.
    Frozen,
    /// Refuses connections.
    Dead,
    /// Answers in 2 ms, and this often only after so many ms.
    Mixed(f64, u64),
}

use Behaviour::*;

#[derive(Clone, Copy, Debug)]
struct Attempt {
    request: usize,
    endpoint: usize,
    sent_ms: u64,
    is_trial: bool,
    hedged: bool,
    outcome: Option<Failure>,
}

#[derive(Debug, Default)]
struct Request {
    tried: Vec<usize>,
    done: bool,
    live: u32,
}

struct World {
    judge: Outliers,
    random: Entropy,
    rate: u64,
    now_ms: u64,
    now_us: u64,
    behaviours: Vec<Behaviour>,
    totals: Vec<Totals>,
    attempts: Vec<Option<Attempt>>,
    /// When answers come: (us, attempt).
    answers: BTreeMap<(u64, usize), ()>,
    waiting: Vec<Vec<usize>>,
    last_byte_ms: Vec<u64>,
    trial: Vec<bool>,
    requests: Vec<Request>,
    sent: Vec<u64>,
    failures: Vec<u64>,
    extra: u64,
    transitions: Vec<(u64, Transition)>,
}

impl World {
    fn new(endpoints: usize, rate: u64, seed: u64) -> World {
        let mut judge = Outliers::new(OutlierRule::default());
        let members: Vec<_> = (0..endpoints as u32).map(|id| Member { id, tier: 0 }).collect();
        assert!(judge.sync(&members, Moment::ZERO).is_empty());
        World {
            judge,
            random: Entropy::from_seed(seed),
            rate,
            now_ms: 0,
            now_us: 0,
            behaviours: vec![Well; endpoints],
            totals: vec![Totals::default(); endpoints],
            attempts: Vec::new(),
            answers: BTreeMap::new(),
            waiting: vec![Vec::new(); endpoints],
            last_byte_ms: vec![0; endpoints],
            trial: vec![false; endpoints],
            requests: Vec::new(),
            sent: vec![0; endpoints],
            failures: vec![0; endpoints],
            extra: 0,
            transitions: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(self.now_us * 1000)
    }

    fn note(&mut self, transitions: Vec<Transition>) {
        self.transitions.extend(transitions.into_iter().map(|t| (self.now_ms, t)));
    }

    /// The endpoint for a request, and whether it is a trial.
    fn choose(&mut self, tried: &[usize]) -> Option<(usize, bool)> {
        let states: Vec<_> = self.judge.verdicts().map(|(_, v)| (v.state, v.share_permille)).collect();
        let trial = |i: &usize| matches!(states[*i].0, State::Suspect | State::Probation) && !self.trial[*i];
        if tried.is_empty()
            && let Some(i) = (0..states.len()).find(trial)
        {
            return Some((i, true));
        }
        let closed: Vec<_> = (0..states.len()).filter(|i| states[*i].0 == State::Closed).collect();
        let mut candidates: Vec<_> = closed.iter().copied().filter(|i| !tried.contains(i)).collect();
        let full = candidates.iter().any(|i| states[*i].1 == 1000);
        if full {
            candidates.retain(|i| self.random.below(1000) < u64::from(states[*i].1));
        }
        if candidates.is_empty() {
            candidates = (0..states.len()).filter(|i| !tried.contains(i)).collect();
        }
        let least = candidates.iter().map(|i| self.waiting[*i].len()).min()?;
        candidates.retain(|i| self.waiting[*i].len() == least);
        Some((candidates[self.random.below(candidates.len() as u64) as usize], false))
    }

    fn send(&mut self, request: usize) {
        let tried = self.requests[request].tried.clone();
        if tried.len() >= 3 {
            return;
        }
        let Some((endpoint, is_trial)) = self.choose(&tried) else { return };
        self.extra += u64::from(!tried.is_empty());
        self.requests[request].tried.push(endpoint);
        self.requests[request].live += 1;
        self.sent[endpoint] += 1;
        self.trial[endpoint] |= is_trial;
        let usual = 1_000 + self.random.below(2_000);
        let chance = self.random.unit();
        let (after_us, outcome) = match self.behaviours[endpoint] {
            Well => (Some(usual), None),
            Flaky(share) => (Some(usual), (chance < share).then_some(Failure::Status(503))),
            Breaking(share) => (Some(usual), (chance < share).then_some(Failure::Broken)),
            Slow(ms) => (Some(usual + ms * 1000), None),
            Frozen => (None, None),
            Dead => (Some(100), Some(Failure::Refused)),
            Mixed(share, ms) => (Some(if chance < share { ms * 1000 + usual } else { usual }), None),
        };
        let id = self.attempts.len();
        self.attempts.push(Some(Attempt { request, endpoint, sent_ms: self.now_ms, is_trial, hedged: false, outcome }));
        self.waiting[endpoint].push(id);
        if let Some(us) = after_us {
            self.answers.insert((self.now_us + us, id), ());
        }
    }

    /// Ends an attempt without an answer from it.
    fn take_back(&mut self, id: usize) -> Option<Attempt> {
        let attempt = self.attempts[id].take()?;
        self.waiting[attempt.endpoint].retain(|other| *other != id);
        self.requests[attempt.request].live -= 1;
        self.trial[attempt.endpoint] &= !attempt.is_trial;
        Some(attempt)
    }

    fn fail(&mut self, attempt: Attempt, failure: Failure) {
        let id = attempt.endpoint as u32;
        self.failures[attempt.endpoint] += 1;
        let verdict = self.judge.verdict(id).unwrap();
        if verdict.state == State::Probation && !attempt.is_trial {
            return;
        }
        let transitions = self.judge.failure(id, failure, self.now());
        self.note(transitions);
    }

    fn answer(&mut self, id: usize) {
        let Some(attempt) = self.take_back(id) else { return };
        let endpoint = attempt.endpoint;
        self.last_byte_ms[endpoint] = self.now_ms;
        if let Some(failure) = attempt.outcome {
            self.fail(attempt, failure);
            if !self.requests[attempt.request].done && self.requests[attempt.request].live == 0 {
                self.send(attempt.request);
            }
            return;
        }
        let took = (self.now_ms - attempt.sent_ms) * 1000 + 500;
        self.totals[endpoint].ok += 1;
        self.totals[endpoint].latency[latency::bucket_of(took)] += 1;
        if self.judge.verdict(endpoint as u32).unwrap().wants_success {
            let transitions = self.judge.success(endpoint as u32, self.now());
            self.note(transitions);
        }
        self.requests[attempt.request].done = true;
        // The losers are cancelled.
        if self.requests[attempt.request].live == 0 {
            return;
        }
        let of_request = |id: &&usize| self.attempts[**id].is_some_and(|other| other.request == attempt.request);
        let losers: Vec<_> = self.waiting.iter().flatten().filter(of_request).copied().collect();
        for loser in losers {
            let Some(lost) = self.take_back(loser) else { continue };
            let usual = self.judge.verdict(lost.endpoint as u32).unwrap().suspect_after.map_or(0, |d| d.as_millis());
            if lost.hedged && u128::from(self.now_ms - lost.sent_ms) * 2 >= usual {
                self.fail(lost, Failure::Silent);
            }
        }
    }

    /// Suspicion, second tries for what waits at a suspect, and the end of a request's time (2 s).
    fn sweep(&mut self) {
        for endpoint in 0..self.behaviours.len() {
            let verdict = self.judge.verdict(endpoint as u32).unwrap();
            let (state, after) = (verdict.state, verdict.suspect_after);
            let oldest = self.waiting[endpoint].first().and_then(|id| self.attempts[*id]);
            if let (Some(oldest), Some(after)) = (oldest, after)
                && u128::from(self.now_ms - oldest.sent_ms) > after.as_millis()
                && self.last_byte_ms[endpoint] <= oldest.sent_ms
                && state == State::Closed
            {
                let transitions = self.judge.silent(endpoint as u32, self.now());
                self.note(transitions);
            }
            let verdict = self.judge.verdict(endpoint as u32).unwrap();
            let (state, since_ms) = (verdict.state, verdict.since.as_millis());
            let has_closed = (0..self.behaviours.len())
                .any(|i| i != endpoint && self.judge.verdict(i as u32).unwrap().state == State::Closed);
            for id in self.waiting[endpoint].clone() {
                let Some(attempt) = self.attempts[id] else { continue };
                let waits = self.now_ms - attempt.sent_ms;
                // What waited when the suspicion arose goes elsewhere at once; a trial has half of the usual time.
                let late = after.is_some_and(|after| u128::from(waits) * 2 > after.as_millis());
                let second = late || (state == State::Suspect && attempt.sent_ms <= since_ms);
                if second && !attempt.hedged && has_closed && state != State::Closed {
                    self.attempts[id] = Some(Attempt { hedged: true, ..attempt });
                    self.send(attempt.request);
                } else if waits >= 10_000
                    && let Some(attempt) = self.take_back(id)
                {
                    self.fail(attempt, Failure::Silent);
                }
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now_ms + seconds * 1000;
        while self.now_ms < end {
            self.now_ms += 1;
            let ms_end = self.now_ms * 1000;
            // Arrivals are a Poisson process, as good as a coin per ms makes it.
            let arrives = self.random.unit() < self.rate as f64 / 1000.0;
            while let Some((&(us, id), ())) = self.answers.first_key_value().filter(|((us, _), ())| *us <= ms_end) {
                self.answers.pop_first();
                self.now_us = us;
                self.answer(id);
            }
            self.now_us = ms_end;
            if arrives {
                self.requests.push(Request::default());
                self.send(self.requests.len() - 1);
            }
            if self.now_ms.is_multiple_of(10) {
                self.sweep();
            }
            if self.now_ms.is_multiple_of(100) {
                let totals = &self.totals;
                let now = Moment::from_nanos(self.now_us * 1000);
                let transitions = self.judge.tick(|id, into| into.clone_from(&totals[id as usize]), now);
                self.note(transitions);
            }
        }
    }

    /// (ms, id, reason) of each opening.
    fn openings(&self) -> Vec<(u64, u32, &str)> {
        let open = self.transitions.iter().filter(|(_, t)| t.to == State::Open);
        open.map(|(at, t)| (*at, t.id, t.reason.as_str())).collect()
    }

    /// 10 s of health, then the behaviours for `seconds`.
    fn fault(endpoints: usize, rate: u64, seed: u64, behaviours: &[Behaviour], seconds: u64) -> World {
        let mut world = World::new(endpoints, rate, seed);
        world.run(10);
        assert_eq!(world.openings(), [], "seed {seed}: a healthy service");
        world.behaviours[..behaviours.len()].copy_from_slice(behaviours);
        (world.failures, world.extra) = (vec![0; endpoints], 0);
        world.run(seconds);
        world
    }
}

fn assert_only_the_first_opens_within(world: &World, ms: u64, context: &str) {
    let openings = world.openings();
    assert!(openings.iter().all(|(_, id, _)| *id == 0), "{context}: {openings:?}");
    let first = openings.first().map(|(at, _, _)| at - 10_000);
    assert!(first.is_some_and(|at| at <= ms), "{context}: {openings:?}");
}

#[test]
fn a_flaky_endpoint_is_opened_within_some_twenty_attempts() {
    for seed in 0..10 {
        let world = World::fault(3, 500, seed, &[Flaky(0.5)], 8);
        assert_only_the_first_opens_within(&world, 400, &format!("seed {seed}"));
        assert!(world.failures[0] < 25, "seed {seed}: {} of {:?}", world.failures[0], world.openings());
        assert!(world.extra <= 40, "seed {seed}: {} second tries", world.extra);
    }
}

#[test]
fn a_flaky_endpoint_is_opened_within_seconds_at_20_a_second() {
    for (seed, endpoints) in (0..8).flat_map(|seed| [(seed, 2), (seed, 3)]) {
        let world = World::fault(endpoints, 20, seed, &[Flaky(0.5)], 30);
        assert_only_the_first_opens_within(&world, 9_000, &format!("seed {seed}, {endpoints} endpoints"));
    }
}

#[test]
fn a_brownout_opens_nobody() {
    for seed in 0..2 {
        for (share, rate, endpoints) in [(0.3, 500, 3), (0.6, 500, 3), (0.3, 20, 3), (0.6, 20, 3), (0.3, 500, 2)] {
            let world = World::fault(endpoints, rate, seed, &vec![Flaky(share); endpoints], 60);
            assert_eq!(world.openings(), [], "seed {seed}: {share} of {rate}/s");
        }
    }
}

#[test]
fn answers_that_break_off_open_one_endpoint_and_acquit_it_when_all_break_off() {
    for seed in 0..4 {
        let one = World::fault(3, 500, seed, &[Breaking(0.5)], 8);
        assert_only_the_first_opens_within(&one, 200, &format!("seed {seed}"));
        assert!(one.failures[0] <= 14, "seed {seed}: {}", one.failures[0]);
        let all = World::fault(3, 500, seed, &[Breaking(0.3); 3], 20);
        assert!(all.openings().len() <= 2, "seed {seed}: {:?}", all.openings());
        let closed = (0..3).filter(|id| all.judge.verdict(*id).unwrap().state == State::Closed).count();
        assert_eq!(closed, 3, "seed {seed}: {:?}", all.transitions);
    }
}

#[test]
fn a_frozen_endpoint_is_suspect_after_100_ms_and_open_soon_after() {
    for (seed, rate, within) in (0..6).flat_map(|seed| [(seed, 500, 250), (seed, 20, 3_000)]) {
        let world = World::fault(3, rate, seed, &[Frozen], 8);
        assert_only_the_first_opens_within(&world, within, &format!("seed {seed} at {rate}/s"));
        let suspect = world.transitions.iter().find(|(_, t)| t.to == State::Suspect).map(|(at, _)| at - 10_000);
        assert!(rate == 20 || suspect.is_some_and(|at| at <= 150), "seed {seed}: {suspect:?}");
    }
}

#[test]
fn an_endpoint_that_answers_much_later_is_opened() {
    for (seed, rate, within) in (0..6).flat_map(|seed| [(seed, 500, 300), (seed, 20, 4_000)]) {
        let world = World::fault(3, rate, seed, &[Slow(1_500)], 8);
        assert_only_the_first_opens_within(&world, within, &format!("seed {seed} at {rate}/s"));
    }
}

#[test]
fn a_dead_endpoint_is_opened_after_two_refusals() {
    for (seed, rate, within) in (0..6).flat_map(|seed| [(seed, 500, 100), (seed, 20, 2_000)]) {
        let world = World::fault(3, rate, seed, &[Dead], 8);
        assert_only_the_first_opens_within(&world, within, &format!("seed {seed} at {rate}/s"));
        assert!(world.failures[0] <= 5, "seed {seed}: {}", world.failures[0]);
    }
}

#[test]
fn one_of_the_dead_always_stays() {
    let world = World::fault(3, 500, 1, &[Dead; 3], 8);
    let closed = (0..3).filter(|id| world.judge.verdict(*id).unwrap().state == State::Closed).count();
    assert_eq!(closed, 1, "{:?}", world.transitions);
}

#[test]
fn fast_and_slow_requests_side_by_side_open_nobody() {
    for (seed, rate) in (0..2).flat_map(|seed| [(seed, 500), (seed, 60), (seed, 20)]) {
        for mix in [Mixed(0.05, 3_000), Mixed(0.001, 8_000), Mixed(0.5, 200)] {
            let mut world = World::new(3, rate, seed);
            world.behaviours = vec![mix; 3];
            world.run(60);
            assert_eq!(world.openings(), [], "seed {seed}: {mix:?} at {rate}/s");
        }
    }
}

#[test]
fn a_whole_service_that_slows_down_opens_nobody() {
    for seed in 0..2 {
        for all in [Slow(50), Slow(400), Slow(1_500), Frozen] {
            let world = World::fault(3, 200, seed, &[all; 3], 20);
            assert_eq!(world.openings(), [], "seed {seed}: {all:?}");
        }
    }
}

#[test]
fn a_cold_start_opens_nobody() {
    for seed in 0..5 {
        for all in [Well, Flaky(0.1), Flaky(0.6), Slow(300), Mixed(0.05, 3_000)] {
            let mut world = World::new(3, 200, seed);
            world.behaviours = vec![all; 3];
            world.run(5);
            assert_eq!(world.openings(), [], "seed {seed}: {all:?}");
        }
    }
}
