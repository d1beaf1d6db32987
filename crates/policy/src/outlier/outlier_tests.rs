//! The state machine's edges one by one, and what must hold whatever happens.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A judge with a clock and with totals.
struct Bench {
    judge: Outliers,
    totals: Vec<Totals>,
    now: Moment,
}

impl Bench {
    /// A tier of endpoints that each answered 10 times a second for 20 s.
    fn warm(endpoints: u32) -> Bench {
        let mut bench = Bench::cold(endpoints);
        bench.answer(20 * SECOND, 0..endpoints);
        bench
    }

    fn cold(endpoints: u32) -> Bench {
        let mut judge = Outliers::new(OutlierRule::default());
        let members: Vec<_> = (0..endpoints).map(|id| Member { id, tier: 0 }).collect();
        assert_eq!(judge.sync(&members, Moment::ZERO), []);
        Bench { judge, totals: vec![Totals::default(); endpoints as usize], now: Moment::ZERO }
    }

    fn tick(&mut self) -> Vec<Transition> {
        self.now = self.now + Duration::from_millis(100);
        let totals = &self.totals;
        self.judge.tick(|id, into| into.clone_from(&totals[id as usize]), self.now)
    }

    /// Lets `ids` answer in 2 ms, one answer each 100 ms.
    fn answer(&mut self, time: Duration, ids: impl IntoIterator<Item = u32>) -> Vec<Transition> {
        let ids: Vec<_> = ids.into_iter().collect();
        let mut out = Vec::new();
        for _ in 0..time.as_millis() / 100 {
            for id in &ids {
                self.totals[*id as usize].ok += 1;
                self.totals[*id as usize].latency[latency::bucket_of(2_000)] += 1;
            }
            out.extend(self.tick());
        }
        out
    }

    fn state(&self, id: u32) -> State {
        self.judge.verdict(id).unwrap().state
    }

    fn fail(&mut self, id: u32, failure: Failure, times: u32) -> Vec<Transition> {
        (0..times).flat_map(|_| self.judge.failure(id, failure, self.now)).collect()
    }

    /// Opens endpoint 0 by ambiguous failures and lets the back-off end.
    fn in_probation(&mut self) {
        self.fail(0, Failure::Closed, 3);
        assert_eq!(self.state(0), State::Open);
        self.answer(2 * SECOND, [1, 2]);
        assert_eq!(self.state(0), State::Probation);
    }
}

fn moves(transitions: &[Transition]) -> Vec<(u32, State, State)> {
    transitions.iter().map(|t| (t.id, t.from, t.to)).collect()
}

#[test]
fn two_refusals_in_a_row_open_and_a_success_between_starts_anew() {
    let mut bench = Bench::cold(3);
    assert_eq!(bench.fail(1, Failure::Refused, 1), []);
    assert!(bench.judge.verdict(1).unwrap().wants_success);
    bench.judge.success(1, bench.now);
    assert_eq!(bench.fail(1, Failure::Refused, 1), []);
    let opened = bench.fail(1, Failure::ConnectTimeout, 1);
    assert_eq!(moves(&opened), [(1, State::Closed, State::Open)]);
    assert_eq!(opened[0].reason, "2 attempts to connect failed in a row");
}

#[test]
fn of_three_that_refuse_one_stays_and_a_connection_brings_the_others_back_at_once() {
    let mut bench = Bench::warm(3);
    for id in 0..3 {
        bench.fail(id, Failure::Refused, 5);
    }
    assert_eq!([0, 1, 2].map(|id| bench.state(id)), [State::Open, State::Open, State::Closed]);
    let back = bench.judge.connected(0, bench.now);
    assert_eq!(moves(&back), [(0, State::Open, State::Closed)]);
    let verdict = bench.judge.verdict(0).unwrap();
    assert_eq!((verdict.share_permille, verdict.ejections), (1000, 0));
}

#[test]
fn what_the_last_one_met_while_nobody_was_reachable_is_not_held_against_it() {
    // Whoever is reached first: one that was taken out, or the one that was left.
    for first in [0, 2] {
        let mut bench = Bench::warm(3);
        for id in 0..3 {
            bench.fail(id, Failure::Refused, 2);
        }
        bench.tick();
        bench.fail(2, Failure::Refused, 120);
        bench.tick();
        bench.judge.connected(first, bench.now);
        for id in [0, 1] {
            bench.judge.connected(id, bench.now);
        }
        let after = bench.answer(9 * SECOND, 0..3);
        assert_eq!(moves(&after), [], "{first} was reached first");
        assert_eq!([0, 1, 2].map(|id| bench.state(id)), [State::Closed; 3]);
        // What it meets from now on counts.
        assert_eq!(moves(&bench.fail(2, Failure::Refused, 2)), [(2, State::Closed, State::Open)]);
    }
}

#[test]
fn a_connection_does_not_end_what_failures_began() {
    let mut bench = Bench::warm(3);
    bench.fail(0, Failure::Closed, 3);
    assert_eq!(bench.judge.connected(0, bench.now), []);
    assert_eq!(bench.state(0), State::Open);
}

#[test]
fn five_failures_in_a_row_open_only_beside_peers_that_do_well() {
    let mut bench = Bench::warm(3);
    assert_eq!(bench.fail(0, Failure::Status(503), 4), []);
    bench.answer(SECOND * 4, [1, 2]);
    let opened = bench.fail(0, Failure::Status(503), 1);
    assert_eq!(moves(&opened), [(0, State::Closed, State::Open)]);
    assert_eq!(opened[0].reason, "5 failures in a row (503)");

    let mut alike = Bench::warm(3);
    for _ in 0..100 {
        for id in 0..3 {
            assert_eq!(alike.fail(id, Failure::Status(503), 1), []);
        }
        assert_eq!(alike.tick(), []);
    }
}

#[test]
fn three_ambiguous_failures_open_unless_the_peers_have_as_many() {
    for failure in [Failure::Closed, Failure::Broken] {
        let mut bench = Bench::warm(3);
        assert_eq!(bench.fail(0, failure, 2), []);
        assert_eq!(moves(&bench.fail(0, failure, 1)), [(0, State::Closed, State::Open)]);
        let mut alike = Bench::warm(3);
        assert_eq!(alike.fail(1, failure, 2), []);
        assert_eq!(alike.fail(2, failure, 2), []);
        assert_eq!(alike.fail(0, failure, 5), []);
        let mut rare = Bench::warm(3);
        rare.fail(0, failure, 2);
        rare.answer(11 * SECOND, 0..3);
        assert_eq!(rare.fail(0, failure, 1), [], "the first two are long ago");
    }
}

#[test]
fn silence_makes_suspect_and_three_silences_open() {
    let mut bench = Bench::warm(3);
    assert_eq!(bench.judge.verdict(0).unwrap().suspect_after, Some(SUSPECT_AT_LEAST));
    let suspect = bench.judge.silent(0, bench.now);
    assert_eq!(moves(&suspect), [(0, State::Closed, State::Suspect)]);
    assert_eq!(suspect[0].reason, "no byte came for 100 ms, far longer than usual");
    assert_eq!(bench.fail(0, Failure::Silent, 2), []);
    assert_eq!(moves(&bench.fail(0, Failure::Silent, 1)), [(0, State::Suspect, State::Open)]);
}

#[test]
fn a_suspect_that_is_heard_is_closed_at_once_and_its_silence_was_a_slow_request() {
    type Sound = fn(&mut Bench) -> Vec<Transition>;
    let sounds: [Sound; 3] = [
        |bench| bench.judge.heard(0, bench.now),
        |bench| bench.judge.success(0, bench.now),
        |bench| bench.judge.failure(0, Failure::Status(503), bench.now),
    ];
    for sound in sounds {
        let mut bench = Bench::warm(3);
        for _ in 0..10 {
            bench.judge.silent(0, bench.now);
            bench.fail(0, Failure::Silent, 1);
            assert_eq!(moves(&sound(&mut bench)), [(0, State::Suspect, State::Closed)]);
            bench.answer(5 * SECOND, 0..3);
            bench.judge.success(0, bench.now);
        }
    }
}

#[test]
fn the_usual_silence_follows_the_p99_of_the_peers() {
    let mut bench = Bench::warm(2);
    for _ in 0..200 {
        bench.totals[1].latency[latency::bucket_of(3_000_000)] += 1;
        bench.answer(Duration::from_millis(100), [0, 1]);
    }
    let after = |id: u32| bench.judge.verdict(id).unwrap().suspect_after.unwrap();
    assert!(after(0) >= 12 * SECOND, "{:?}", after(0));
    assert_eq!(after(1), SUSPECT_AT_LEAST);
    assert_eq!(Bench::cold(2).judge.verdict(0).unwrap().suspect_after, None);
}

#[test]
fn five_passed_trials_end_a_probation_with_a_slow_start() {
    let mut bench = Bench::warm(3);
    bench.in_probation();
    for _ in 1..PROBATION_PASSES {
        assert_eq!(bench.judge.success(0, bench.now), []);
    }
    assert_eq!(moves(&bench.judge.success(0, bench.now)), [(0, State::Probation, State::Closed)]);
    assert_eq!(bench.judge.verdict(0).unwrap().share_permille, SLOW_START_PERMILLE);
    bench.answer(5 * SECOND, 0..3);
    assert_eq!(bench.judge.verdict(0).unwrap().share_permille, 550);
    bench.answer(5 * SECOND, 0..3);
    assert_eq!((bench.judge.verdict(0).unwrap().share_permille, bench.state(0)), (1000, State::Closed));
}

#[test]
fn checks_alone_do_not_end_a_probation_unless_no_request_came_for_a_whole_back_off() {
    let mut bench = Bench::warm(3);
    bench.in_probation();
    for _ in 0..19 {
        assert_eq!(bench.judge.check_passed(0, bench.now), []);
        bench.answer(Duration::from_millis(100), [1, 2]);
    }
    bench.answer(Duration::from_millis(100), [1, 2]);
    let back = bench.judge.check_passed(0, bench.now);
    assert_eq!(moves(&back), [(0, State::Probation, State::Closed)]);

    let mut bench = Bench::warm(3);
    bench.in_probation();
    for _ in 0..10 {
        assert_eq!(bench.judge.check_passed(0, bench.now), []);
    }
    assert_eq!(moves(&bench.judge.success(0, bench.now)), [(0, State::Probation, State::Closed)]);
}

#[test]
fn a_failed_trial_takes_the_next_step_of_the_back_off_and_calm_takes_it_back() {
    let mut bench = Bench::warm(3);
    bench.in_probation();
    for (step, seconds) in [(2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (7, 60)] {
        assert_eq!(moves(&bench.fail(0, Failure::Status(503), 1)), [(0, State::Probation, State::Open)]);
        let verdict = bench.judge.verdict(0).unwrap();
        assert_eq!((verdict.ejections, verdict.until), (step, Some(bench.now + seconds * SECOND)));
        bench.answer(seconds * SECOND, [1, 2]);
    }
    (0..PROBATION_PASSES).for_each(|_| drop(bench.judge.success(0, bench.now)));
    assert_eq!((bench.state(0), bench.judge.verdict(0).unwrap().ejections), (State::Closed, 7));
    bench.answer(121 * SECOND, 0..3);
    assert_eq!(bench.judge.verdict(0).unwrap().ejections, 5);
}

#[test]
fn a_bad_slow_start_goes_straight_back() {
    let mut bench = Bench::warm(3);
    bench.in_probation();
    (0..PROBATION_PASSES).for_each(|_| drop(bench.judge.success(0, bench.now)));
    bench.answer(4 * SECOND, [1, 2]);
    assert_eq!(bench.fail(0, Failure::Status(503), 1), []);
    let back = bench.fail(0, Failure::Status(503), 1);
    assert_eq!(moves(&back), [(0, State::Closed, State::Open)], "{:?}", bench.judge.verdict(0));
    assert_eq!(bench.judge.verdict(0).unwrap().ejections, 2);
}

#[test]
fn checks_open_all_and_their_passing_ends_that_and_nothing_else() {
    let mut bench = Bench::warm(2);
    for id in 0..2 {
        assert_eq!(moves(&bench.judge.checked(id, Change::Down, bench.now)), [(id, State::Closed, State::Open)]);
        assert!(bench.judge.verdict(id).unwrap().by_check);
    }
    let up = bench.judge.checked(0, Change::Up, bench.now);
    assert_eq!(moves(&up), [(0, State::Open, State::Closed)]);
    assert_eq!(bench.judge.verdict(0).unwrap().share_permille, SLOW_START_PERMILLE);

    let mut grey = Bench::warm(3);
    grey.fail(0, Failure::Broken, 3);
    assert_eq!(grey.judge.checked(0, Change::Down, grey.now), []);
    assert_eq!(grey.judge.checked(0, Change::Up, grey.now), []);
    let verdict = grey.judge.verdict(0).unwrap();
    assert_eq!((verdict.state, verdict.by_check), (State::Open, false));
    assert!(verdict.reason.contains("ambiguous"), "{}", verdict.reason);
}

#[test]
fn a_check_that_passes_again_brings_an_unreachable_endpoint_to_its_trials() {
    let mut bench = Bench::warm(3);
    bench.fail(0, Failure::Refused, 2);
    bench.judge.checked(0, Change::Down, bench.now);
    let up = bench.judge.checked(0, Change::Up, bench.now);
    assert_eq!(moves(&up), [(0, State::Open, State::Probation)]);
}

#[test]
fn an_operator_overrules_and_gives_back() {
    let mut bench = Bench::warm(3);
    let drained = bench.judge.force(0, Some(Forced::Drained), bench.now);
    assert_eq!(moves(&drained), [(0, State::Closed, State::Drained)]);
    assert_eq!(bench.fail(0, Failure::Refused, 5), []);
    assert_eq!(bench.judge.checked(0, Change::Down, bench.now), []);
    assert_eq!(bench.judge.checked(0, Change::Up, bench.now), []);
    let down = bench.judge.force(0, Some(Forced::Down), bench.now);
    assert_eq!(moves(&down), [(0, State::Drained, State::Down)]);
    let back = bench.judge.force(0, None, bench.now);
    assert_eq!(moves(&back), [(0, State::Down, State::Closed)]);
    assert_eq!(bench.judge.verdict(0).unwrap().share_permille, SLOW_START_PERMILLE);
}

#[test]
fn when_nobody_else_is_left_an_opened_endpoint_comes_back() {
    let mut bench = Bench::warm(2);
    bench.fail(0, Failure::Broken, 3);
    let moved = bench.judge.force(1, Some(Forced::Drained), bench.now);
    assert_eq!(moves(&moved), [(1, State::Closed, State::Drained), (0, State::Open, State::Closed)]);
    let mut bench = Bench::warm(2);
    bench.fail(0, Failure::Broken, 3);
    let moved = bench.judge.sync(&[Member { id: 0, tier: 0 }], bench.now);
    assert_eq!(moves(&moved), [(0, State::Open, State::Closed)]);
}

#[test]
fn the_only_endpoint_of_a_tier_is_never_touched() {
    let mut bench = Bench::warm(1);
    bench.judge.sync(&[Member { id: 0, tier: 0 }, Member { id: 1, tier: 1 }], bench.now);
    assert_eq!(bench.judge.silent(0, bench.now), []);
    for failure in [Failure::Refused, Failure::Broken, Failure::Silent, Failure::Status(503)] {
        assert_eq!(bench.fail(0, failure, 50), []);
    }
}

#[test]
fn who_was_opened_first_is_acquitted_when_the_others_fail_as_well() {
    let mut bench = Bench::warm(3);
    bench.fail(0, Failure::Broken, 3);
    let mut moved = Vec::new();
    for _ in 0..10 {
        for id in [1, 2] {
            bench.fail(id, Failure::Broken, 2);
        }
        moved.extend(bench.answer(Duration::from_millis(100), [1, 2]));
    }
    assert_eq!(moves(&moved), [(0, State::Open, State::Closed)]);
    assert_eq!(bench.judge.verdict(0).unwrap().ejections, 0);
}

#[test]
fn the_slow_one_of_two_is_opened_and_a_service_that_slows_down_is_not() {
    let mut bench = Bench::warm(2);
    let mut slow = |ids: &[u32]| {
        let mut moved = Vec::new();
        for _ in 0..30 {
            for id in 0..2 {
                let us = if ids.contains(&id) { 400_000 } else { 2_000 };
                bench.totals[id as usize].latency[latency::bucket_of(us)] += 3;
            }
            moved.extend(bench.tick());
        }
        moved
    };
    assert_eq!(slow(&[0, 1]), []);
    let mut bench = Bench::warm(2);
    for _ in 0..15 {
        bench.totals[0].latency[latency::bucket_of(400_000)] += 3;
        bench.totals[1].latency[latency::bucket_of(2_000)] += 3;
        bench.tick();
    }
    let verdict = bench.judge.verdict(0).unwrap();
    assert_eq!(verdict.state, State::Open);
    assert!(verdict.reason.starts_with("half of its answers take 459 ms or more"), "{}", verdict.reason);
}

#[test]
fn a_rule_that_judges_nobody_closes_what_was_opened() {
    let mut bench = Bench::warm(3);
    bench.fail(0, Failure::Refused, 2);
    bench.judge.set_rule(OutlierRule { enabled: false, ..OutlierRule::default() });
    assert_eq!(moves(&bench.tick()), [(0, State::Open, State::Closed)]);
    assert_eq!(bench.fail(0, Failure::Refused, 20), []);
}

#[derive(Clone, Debug)]
enum Event {
    Fail(u32, Failure, u32),
    Success(u32),
    Silent(u32),
    Heard(u32),
    Checked(u32, bool),
    CheckPassed(u32),
    Connected(u32),
    Force(u32, Option<Forced>),
    Pass(u64, u32),
    Sync(Vec<u8>),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let id = || 0..5u32;
    let failure = prop::sample::select(vec![
        Failure::Refused,
        Failure::ConnectTimeout,
        Failure::Closed,
        Failure::Broken,
        Failure::Status(503),
        Failure::Silent,
    ]);
    let forced = prop::sample::select(vec![None, None, Some(Forced::Drained), Some(Forced::Down)]);
    let event = prop_oneof![
        8 => (id(), failure, 1..12u32).prop_map(|(id, failure, times)| Event::Fail(id, failure, times)),
        2 => id().prop_map(Event::Success),
        2 => id().prop_map(Event::Silent),
        1 => id().prop_map(Event::Heard),
        2 => (id(), any::<bool>()).prop_map(|(id, up)| Event::Checked(id, up)),
        1 => id().prop_map(Event::CheckPassed),
        1 => id().prop_map(Event::Connected),
        1 => (id(), forced).prop_map(|(id, forced)| Event::Force(id, forced)),
        6 => (1..40u64, 0..32u32).prop_map(|(ticks, who)| Event::Pass(ticks, who)),
        1 => prop::collection::vec(0..3u8, 1..5).prop_map(Event::Sync),
    ];
    prop::collection::vec(event, 1..120)
}

/// What the endpoints of a tier are: (members, gone by passive rules alone, not gone).
fn tier_of(judge: &Outliers, tier: u8) -> (usize, usize, usize) {
    let members = || judge.endpoints.iter().filter(|e| e.tier == tier);
    let passively = members().filter(|e| e.is_gone_passively() && !e.is_gone_otherwise()).count();
    (members().count(), passively, members().filter(|e| !e.is_gone()).count())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn passive_rules_keep_their_bounds_whatever_happens(events in events(), max_ejected in 0.0..1.0f64) {
        let mut bench = Bench::warm(5);
        bench.judge.set_rule(OutlierRule { max_ejected, ..OutlierRule::default() });
        for event in events {
            let now = bench.now;
            let opened: Vec<_> =
                bench.judge.endpoints.iter().filter(|e| e.is_gone_passively()).map(|e| e.id).collect();
            let passive = matches!(event, Event::Fail(..) | Event::Silent(_) | Event::Pass(..));
            let moved = match event.clone() {
                Event::Fail(id, failure, times) => bench.fail(id, failure, times),
                Event::Success(id) => bench.judge.success(id, now),
                Event::Silent(id) => bench.judge.silent(id, now),
                Event::Heard(id) => bench.judge.heard(id, now),
                Event::Checked(id, true) => bench.judge.checked(id, Change::Up, now),
                Event::Checked(id, false) => bench.judge.checked(id, Change::Down, now),
                Event::CheckPassed(id) => bench.judge.check_passed(id, now),
                Event::Connected(id) => bench.judge.connected(id, now),
                Event::Force(id, forced) => bench.judge.force(id, forced, now),
                Event::Pass(ticks, who) => {
                    bench.answer(Duration::from_millis(100 * ticks), (0..5).filter(|id| who & (1 << id) != 0))
                }
                Event::Sync(tiers) => {
                    let member = |(id, tier): (usize, &u8)| Member { id: id as u32, tier: *tier };
                    bench.judge.sync(&tiers.iter().enumerate().map(member).collect::<Vec<_>>(), now)
                }
            };
            if let Event::Checked(id, true) = event {
                let closed = moved.iter().any(|t| (t.id, t.to) == (id, State::Closed) && !t.reason.contains("is left"));
                prop_assert!(!closed || !opened.contains(&id), "a green check ended {:?}", moved);
            }
            for t in &moved {
                prop_assert!(t.from != t.to && !t.reason.is_empty(), "{:?}", t);
                let tier = bench.judge.endpoints.iter().find(|e| e.id == t.id).map(|e| e.tier);
                let Some(tier) = tier else { continue };
                let (members, _, here) = tier_of(&bench.judge, tier);
                let opened = passive && t.to == State::Open && t.from != State::Probation;
                if opened && bench.state(t.id) == State::Open && !matches!(event, Event::Pass(..)) {
                    let certain = matches!(event, Event::Fail(_, Failure::Refused | Failure::ConnectTimeout, _));
                    let share = (max_ejected * members as f64 - 1e-9).ceil() as usize;
                    let limit = if certain { members - 1 } else { share.min(members - 1) };
                    prop_assert!(members - here <= limit, "{:?} of {} for {:?}", members - here, members, t);
                }
            }
            for tier in 0..3 {
                let (members, passively, here) = tier_of(&bench.judge, tier);
                prop_assert!(passively == 0 || here > 0, "all of tier {} are gone after {:?}", tier, event);
                prop_assert!(members != 1 || passively == 0);
            }
            for e in &bench.judge.endpoints {
                prop_assert_eq!(e.verdict.state, e.in_effect());
                prop_assert!((SLOW_START_PERMILLE..=1000).contains(&e.verdict.share_permille));
                prop_assert!(e.ejection <= OutlierRule::default().max_ejection);
            }
            for t in &bench.judge.tiers {
                let mut record = Record::new(0);
                let here = bench.judge.endpoints.iter().filter(|e| e.tier == t.tier && !e.is_gone());
                here.for_each(|e| record.add_all(&e.record));
                let slot = bench.judge.slot;
                prop_assert_eq!(t.record.sum(0, slot), record.sum(0, slot), "a tier is the sum of those that are here");
            }
        }
    }
}
