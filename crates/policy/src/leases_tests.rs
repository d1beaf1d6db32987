//! Tests of [`super`]: who leaves and who does not, by a clock that the tests move.

use proptest::prelude::*;

use super::*;

fn at(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], n))
}

fn lease(secs: u64) -> Terms {
    Terms { lease: Duration::from_secs(secs), weight: 1, tier: 0 }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A registry whose clock ticks as it should.
struct Run {
    leases: Leases,
    now: Moment,
    expired: Vec<SocketAddr>,
    doubtful: Vec<SocketAddr>,
}

impl Run {
    fn new() -> Run {
        let mut run =
            Run { leases: Leases::new(LONGEST), now: Moment::ZERO, expired: Vec::new(), doubtful: Vec::new() };
        run.tick();
        run
    }

    fn tick(&mut self) -> Option<Duration> {
        let ticked = self.leases.tick(self.now);
        self.expired.extend(ticked.expired);
        self.doubtful.extend(ticked.doubtful);
        ticked.stalled
    }

    /// Lets `time` pass in ticks, in which these beat every half second.
    fn pass(&mut self, time: Duration, beating: &[u16], terms: Terms) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + TICK;
            assert_eq!(self.tick(), None);
            if self.now.as_millis().is_multiple_of(500) {
                self.beat(beating, terms);
            }
        }
    }

    fn beat(&mut self, who: &[u16], terms: Terms) {
        for n in who {
            self.leases.beat(at(*n), terms, self.now).unwrap();
        }
    }

    /// Time passes in which nothing runs here.
    fn stall(&mut self, time: Duration) -> Option<Duration> {
        self.now = self.now + time;
        self.tick()
    }
}

#[test]
fn one_that_falls_silent_leaves_when_its_lease_ends_and_not_before() {
    let mut run = Run::new();
    run.beat(&[1, 2, 3, 4], lease(3));
    run.pass(ms(2900), &[2, 3, 4], lease(3));
    assert_eq!((run.expired.len(), run.leases.len()), (0, 4));
    run.pass(TICK, &[2, 3, 4], lease(3));
    assert_eq!((run.expired.as_slice(), run.leases.len()), (&[at(1)][..], 3));
    assert!(run.doubtful.is_empty(), "{:?}", run.doubtful);
}

#[test]
fn a_beat_says_what_it_did_and_who_leaves_is_gone_at_once() {
    let mut leases = Leases::new(LONGEST);
    assert_eq!(leases.beat(at(1), lease(5), Moment::ZERO), Ok(Beat::New));
    assert_eq!(leases.beat(at(1), lease(9), Moment::ZERO), Ok(Beat::Renewed));
    assert_eq!(leases.beat(at(1), Terms { weight: 3, ..lease(9) }, Moment::ZERO), Ok(Beat::Changed));
    assert_eq!(leases.beat(at(1), Terms { weight: 3, tier: 1, ..lease(9) }, Moment::ZERO), Ok(Beat::Changed));
    assert_eq!(leases.beat(at(2), Terms { weight: 0, ..lease(9) }, Moment::ZERO), Ok(Beat::New));
    assert_eq!(leases.in_force().last().unwrap().1.weight, 1);
    assert!(leases.leave(at(1)) && !leases.leave(at(1)) && leases.leave(at(2)));
    assert!(leases.is_empty());
}

#[test]
fn leases_and_registrations_are_bounded() {
    let mut leases = Leases::new(Duration::from_secs(10));
    assert_eq!(leases.longest(), Duration::from_secs(10));
    for good in [SHORTEST, Duration::from_secs(10)] {
        assert!(leases.beat(at(1), Terms { lease: good, ..lease(1) }, Moment::ZERO).is_ok(), "{good:?}");
    }
    for bad in [Duration::ZERO, ms(999), ms(10_001), Duration::MAX] {
        let refused = leases.beat(at(1), Terms { lease: bad, ..lease(1) }, Moment::ZERO);
        assert_eq!(refused, Err(LeaseError::OutOfRange { asked: bad, longest: Duration::from_secs(10) }));
    }
    leases.set_longest(Duration::from_secs(60 * 60 * 24));
    assert_eq!(leases.longest(), LONGEST);
    for n in 2..=MAX_REGISTRATIONS as u16 {
        leases.beat(at(n), lease(1), Moment::ZERO).unwrap();
    }
    assert_eq!(leases.beat(at(5000), lease(1), Moment::ZERO), Err(LeaseError::Full));
    assert_eq!(leases.beat(at(7), lease(1), Moment::ZERO), Ok(Beat::Renewed), "who is in may go on");
    assert!(leases.leave(at(7)));
    assert_eq!(leases.beat(at(5000), lease(1), Moment::ZERO), Ok(Beat::New));
}

#[test]
fn a_fleet_that_falls_silent_together_is_asked_before_it_is_dropped() {
    let mut run = Run::new();
    // Their beats are spread over a third of the lease, and so are the ends of their leases.
    for n in 1..=4 {
        run.beat(&[n], lease(3));
        run.pass(ms(200), &[], lease(3));
    }
    run.pass(ms(3100), &[], lease(3));
    assert_eq!(run.doubtful, [at(1), at(2), at(3), at(4)]);
    assert_eq!((run.expired.len(), run.leases.len()), (0, 4));
    assert_eq!(run.leases.silent(run.now), 4);
    // The two that answer stay; the two that do not are out.
    for (n, alive) in [(1, true), (2, false), (3, false), (4, true)] {
        let wanted = if alive { Probed::Kept } else { Probed::Expired };
        assert_eq!(run.leases.probed(at(n), alive, run.now), wanted);
        assert_eq!(run.leases.probed(at(n), alive, run.now), Probed::Settled);
    }
    assert_eq!(run.leases.in_force().map(|(a, _)| a).collect::<Vec<_>>(), [at(1), at(4)]);
    // They are asked again while they are silent, and no longer once they beat.
    run.doubtful.clear();
    run.pass(ms(1000), &[], lease(3));
    assert_eq!(run.doubtful, [at(1), at(4)]);
    run.beat(&[1, 4], lease(3));
    assert_eq!(run.leases.probed(at(1), false, run.now), Probed::Settled, "a beat counts for more than a knock");
    assert_eq!(run.leases.len(), 2);
}

#[test]
fn the_last_one_and_more_than_half_are_doubted_and_half_is_believed() {
    let mut run = Run::new();
    run.beat(&[1], lease(1));
    run.pass(ms(1000), &[], lease(1));
    assert_eq!((run.doubtful.as_slice(), run.expired.len()), (&[at(1)][..], 0));

    let mut run = Run::new();
    run.beat(&[1, 2, 3, 4], lease(2));
    run.pass(ms(2500), &[3, 4], lease(2));
    assert_eq!((run.doubtful.len(), run.expired.len()), (0, 2));

    let mut run = Run::new();
    run.beat(&[1, 2, 3, 4], lease(2));
    run.pass(ms(2500), &[4], lease(2));
    assert_eq!((run.doubtful.len(), run.expired.len()), (3, 0));
    // Once most beat again, the one that does not is believed without a knock.
    for n in 1..=3 {
        assert_eq!(run.leases.probed(at(n), true, run.now), Probed::Kept);
    }
    run.beat(&[2, 3], lease(2));
    run.pass(ms(2500), &[2, 3, 4], lease(2));
    assert_eq!((run.expired.as_slice(), run.leases.len()), (&[at(1)][..], 3));
}

#[test]
fn a_knock_that_nobody_answers_for_is_repeated() {
    let mut run = Run::new();
    run.beat(&[1], lease(1));
    run.pass(ms(1000), &[], lease(1));
    run.pass(ms(9900), &[], lease(1));
    assert_eq!(run.doubtful.len(), 1);
    run.pass(ms(200), &[], lease(1));
    assert_eq!(run.doubtful.len(), 2);
}

#[test]
fn after_a_stall_of_ours_each_lease_has_one_more_term() {
    let mut run = Run::new();
    run.beat(&[1, 2, 3, 4], lease(2));
    run.pass(ms(1000), &[], lease(2));
    assert_eq!(run.stall(Duration::from_secs(60)), Some(Duration::from_secs(60) - TICK));
    assert_eq!((run.leases.len(), run.doubtful.len()), (4, 0));
    run.pass(ms(1900), &[2, 3, 4], lease(2));
    assert_eq!(run.leases.len(), 4);
    // One more term, and not two.
    run.pass(ms(100), &[2, 3, 4], lease(2));
    assert_eq!(run.expired, [at(1)]);
}

#[test]
fn a_short_stall_costs_a_long_lease_no_more_than_itself() {
    let mut run = Run::new();
    run.beat(&[1, 2, 3, 4], lease(30));
    assert_eq!(run.stall(Duration::from_secs(5)), Some(ms(4900)));
    run.pass(ms(29_800), &[2, 3, 4], lease(30));
    assert_eq!(run.expired, []);
    run.pass(ms(200), &[2, 3, 4], lease(30));
    assert_eq!(run.expired, [at(1)]);
    assert_eq!(Run::new().stall(TICK * 2), None, "a tick that is a little late is no stall");
}

#[test]
fn a_beat_that_came_in_the_stall_is_not_made_longer_by_it() {
    let mut run = Run::new();
    run.beat(&[2, 3, 4], lease(30));
    run.now = run.now + Duration::from_secs(5);
    run.beat(&[1], lease(30));
    run.tick();
    run.pass(Duration::from_secs(30), &[2, 3, 4], lease(30));
    assert_eq!(run.expired, [at(1)]);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Beat(u16, u64),
    Leave(u16),
    Pass(u64),
    Probe(u16, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..6u16, 1..5u64).prop_map(|(n, lease)| Event::Beat(n, lease)),
        1 => (0..6u16).prop_map(Event::Leave),
        5 => (0..4_000u64).prop_map(Event::Pass),
        2 => (0..6u16, any::<bool>()).prop_map(|(n, alive)| Event::Probe(n, alive)),
    ]
}

proptest! {
    #[test]
    fn nobody_leaves_before_the_lease_ends_and_the_last_one_never_without_a_knock(events in prop::collection::vec(event(), 0..200)) {
        let (mut leases, mut now) = (Leases::new(LONGEST), Moment::ZERO);
        let mut ends: BTreeMap<SocketAddr, Moment> = BTreeMap::new();
        leases.tick(now);
        for event in events {
            match event {
                Event::Beat(n, secs) => {
                    leases.beat(at(n), lease(secs), now).unwrap();
                    ends.insert(at(n), now + Duration::from_secs(secs));
                }
                Event::Leave(n) => {
                    prop_assert_eq!(leases.leave(at(n)), ends.remove(&at(n)).is_some());
                }
                Event::Probe(n, alive) => {
                    let asked = leases.probed(at(n), alive, now);
                    if asked == Probed::Expired {
                        prop_assert!(ends.remove(&at(n)).is_some_and(|end| end <= now) && !alive);
                    }
                }
                Event::Pass(millis) => {
                    now = now + ms(millis);
                    let before = leases.len();
                    let ticked = leases.tick(now);
                    for gone in &ticked.expired {
                        prop_assert!(ends.remove(gone).is_some_and(|end| end <= now));
                    }
                    prop_assert!(ticked.expired.len() * 2 <= before, "{ticked:?} of {before}");
                    prop_assert!(before == 0 || !leases.is_empty());
                }
            }
            prop_assert_eq!(leases.in_force().map(|(a, _)| a).collect::<Vec<_>>(), ends.keys().copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn with_ticks_in_time_one_silent_among_many_is_out_when_its_lease_ends(secs in 1..20u64, others in 2..8u16) {
        let mut run = Run::new();
        run.beat(&[0], lease(secs));
        let others: Vec<u16> = (1..=others).collect();
        run.beat(&others, lease(60));
        run.pass(Duration::from_secs(secs), &others, lease(60));
        prop_assert_eq!(run.expired, vec![at(0)]);
    }
}
