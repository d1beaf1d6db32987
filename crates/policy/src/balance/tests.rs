//! Who may take a request at all, over fixed fleets.

mod ways;

use proptest::prelude::*;

use super::*;

const WAYS: [Balance; 3] = [Balance::RoundRobin, Balance::LeastOutstanding, Balance::Hash(HashKey::Address)];

#[derive(Clone, Debug)]
struct One {
    in_flight: u32,
    weight: u32,
    latency_us: u64,
    standing: Standing,
    tried: bool,
    full: bool,
    identity: u64,
}

const GOOD: One =
    One { in_flight: 0, weight: 1, latency_us: 0, standing: Standing::Good, tried: false, full: false, identity: 0 };

#[derive(Clone, Debug)]
struct Fixed(Vec<One>);

impl Fleet for Fixed {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn in_flight(&self, i: usize) -> u32 {
        self.0[i].in_flight
    }
    fn weight(&self, i: usize) -> u32 {
        self.0[i].weight
    }
    fn latency_us(&self, i: usize) -> u64 {
        self.0[i].latency_us
    }
    fn standing(&self, i: usize) -> Standing {
        self.0[i].standing
    }
    fn tried(&self, i: usize) -> bool {
        self.0[i].tried
    }
    fn full(&self, i: usize) -> bool {
        self.0[i].full
    }
    fn identity(&self, i: usize) -> u64 {
        self.0[i].identity
    }
}

fn fleet(ones: impl IntoIterator<Item = One>) -> Fixed {
    let named = |(i, one): (usize, One)| One { identity: hash(format!("10.0.0.{i}:80").as_bytes()), ..one };
    Fixed(ones.into_iter().enumerate().map(named).collect())
}

fn loads(in_flight: &[u32]) -> Fixed {
    fleet(in_flight.iter().map(|n| One { in_flight: *n, ..GOOD }))
}

fn weights(weights: &[u32]) -> Fixed {
    fleet(weights.iter().map(|w| One { weight: *w, ..GOOD }))
}

fn stands(standings: &[Standing]) -> Fixed {
    fleet(standings.iter().map(|s| One { standing: *s, ..GOOD }))
}

const SAFE: Want = Want { safe: true, again: false, hash: None, fail_open: true };
const UNSAFE: Want = Want { safe: false, ..SAFE };

fn pick(balance: &Balance, fleet: &Fixed, want: Want, turn: u64) -> Pick {
    choose(balance, fleet, want, turn, &mut Entropy::from_seed(turn))
}

/// Who takes how many of `turns` requests, one after the other.
fn shares(balance: &Balance, fleet: &Fixed, turns: u64) -> Vec<u32> {
    let mut entropy = Entropy::from_seed(turns);
    let mut shares = vec![0; fleet.len()];
    for turn in 0..turns {
        let Pick::At(i) = choose(balance, fleet, SAFE, turn, &mut entropy) else { panic!("nobody") };
        shares[i] += 1;
    }
    shares
}

/// Asserts that counts follow `weights` within three standard deviations of independent draws.
fn assert_shares(seen: &[u32], weights: &[u32]) {
    let (draws, total) = (f64::from(seen.iter().sum::<u32>()), f64::from(weights.iter().sum::<u32>()));
    for (n, weight) in seen.iter().zip(weights) {
        let share = f64::from(*weight) / total;
        let sigma = (draws * share * (1.0 - share)).sqrt();
        assert!((f64::from(*n) - draws * share).abs() <= 3.0 * sigma, "{seen:?} for {weights:?}");
    }
}

#[test]
fn a_dead_endpoints_share_is_spread_over_all_others() {
    let fleet = stands(&[Standing::Good, Standing::Dead, Standing::Good, Standing::Good]);
    for balance in WAYS {
        assert_eq!(shares(&balance, &fleet, 300), [100, 0, 100, 100], "{balance}");
    }
}

#[test]
fn the_least_busy_are_chosen_and_equals_take_turns() {
    let mut fleet = loads(&[3, 1, 0, 1]);
    fleet.0[2].standing = Standing::Dead;
    assert_eq!(shares(&Balance::LeastOutstanding, &fleet, 100), [0, 50, 0, 50]);
    assert_eq!(shares(&Balance::RoundRobin, &fleet, 99), [33, 33, 0, 33]);
}

#[test]
fn a_request_that_can_be_repeated_tries_one_that_is_to_be_tried_and_others_leave_it_alone() {
    let mut fleet = stands(&[Standing::Good, Standing::Trial, Standing::Trial, Standing::Poor]);
    for balance in WAYS {
        assert_eq!((0..4).map(|t| pick(&balance, &fleet, SAFE, t)).collect::<Vec<_>>(), [1, 2, 1, 2].map(Pick::At));
        assert!((0..9).all(|turn| pick(&balance, &fleet, UNSAFE, turn) == Pick::At(0)));
    }
    // Neither tried again nor beyond its limit.
    fleet.0[1].tried = true;
    fleet.0[2].full = true;
    assert_eq!(pick(&Balance::RoundRobin, &fleet, SAFE, 0), Pick::At(0));
}

#[test]
fn without_good_ones_trials_and_poor_ones_are_taken_by_load_whatever_the_request() {
    let mut fleet = stands(&[Standing::Poor, Standing::Dead, Standing::Trial, Standing::Poor]);
    fleet.0[0].in_flight = 2;
    fleet.0[2].in_flight = 2;
    for balance in WAYS {
        let want = Want { hash: Some(7), ..UNSAFE };
        assert!((0..9).all(|turn| pick(&balance, &fleet, want, turn) == Pick::At(3)), "{balance}");
    }
}

#[test]
fn dead_ones_are_taken_last_and_only_if_the_service_fails_open() {
    let mut fleet = stands(&[Standing::Dead, Standing::Good, Standing::Dead, Standing::Never]);
    fleet.0[1].tried = true;
    for balance in WAYS {
        assert_eq!(shares(&balance, &fleet, 10), [5, 0, 5, 0], "{balance}");
        assert_eq!(pick(&balance, &fleet, Want { fail_open: false, ..SAFE }, 0), Pick::None);
    }
    fleet.0.iter_mut().for_each(|one| one.standing = Standing::Never);
    assert_eq!(pick(&Balance::RoundRobin, &fleet, Want { again: true, ..SAFE }, 0), Pick::None);
    assert_eq!(pick(&Balance::RoundRobin, &Fixed(Vec::new()), SAFE, 0), Pick::None);
}

#[test]
fn tried_ones_are_taken_only_by_request_and_after_the_untried_that_may_be_alive() {
    let again = Want { again: true, ..UNSAFE };
    let mut fleet = stands(&[Standing::Good, Standing::Poor, Standing::Dead]);
    fleet.0[0].tried = true;
    let order = |fleet: &mut Fixed, want| {
        let Pick::At(i) = pick(&Balance::LeastOutstanding, fleet, want, 0) else { return None };
        fleet.0[i].tried = true;
        Some(i)
    };
    assert_eq!(order(&mut fleet, again), Some(1));
    assert_eq!(order(&mut fleet, again), Some(0));
    assert_eq!(order(&mut fleet, UNSAFE), Some(2));
    assert_eq!(order(&mut fleet, UNSAFE), None);
    fleet.0[0].standing = Standing::Never;
    assert_eq!(order(&mut fleet, again), Some(1));
    fleet.0[1].standing = Standing::Dead;
    assert_eq!(order(&mut fleet, Want { fail_open: false, ..again }), None);
}

#[test]
fn one_at_its_limit_is_passed_over_and_if_all_good_ones_are_the_request_waits() {
    let mut fleet = stands(&[Standing::Good, Standing::Good, Standing::Poor, Standing::Dead]);
    fleet.0[0].full = true;
    for balance in WAYS {
        assert!((0..9).all(|turn| pick(&balance, &fleet, SAFE, turn) == Pick::At(1)));
    }
    fleet.0[1].full = true;
    assert_eq!(pick(&Balance::LeastOutstanding, &fleet, SAFE, 0), Pick::Full);
    fleet.0[0].tried = true;
    fleet.0[1].tried = true;
    assert_eq!(pick(&Balance::LeastOutstanding, &fleet, SAFE, 0), Pick::At(2));
}

#[test]
fn an_endpoint_at_the_limit_of_the_counters_is_still_a_candidate() {
    let most = One { in_flight: u32::MAX, weight: u32::MAX, latency_us: u64::MAX, ..GOOD };
    let fleet = fleet([most.clone(), most.clone(), One { weight: 0, ..GOOD }, One { weight: 1, ..most }]);
    for balance in WAYS {
        let picks: Vec<_> = (0..9).map(|turn| pick(&balance, &fleet, Want { hash: Some(3), ..SAFE }, turn)).collect();
        assert!(picks.iter().all(|p| matches!(p, Pick::At(0 | 1 | 3))), "{balance}: {picks:?}");
    }
}

#[test]
fn the_way_has_a_name_for_people() {
    let ways = [Balance::RoundRobin, Balance::LeastOutstanding, Balance::Hash(HashKey::Header("x-user".into()))];
    let names = ways.map(|way| way.to_string());
    assert_eq!(names, ["round_robin", "least_outstanding", "hash of header x-user"]);
}

fn any_standing() -> impl Strategy<Value = Standing> {
    use Standing::*;
    prop::sample::select(vec![Good, Good, Trial, Poor, Dead, Never])
}

prop_compose! {
    fn any_one()(
        in_flight in 0..20u32,
        weight in prop_oneof![Just(0), Just(1_000), 1..5u32],
        latency_us in prop_oneof![Just(0), 1..100_000u64],
        standing in any_standing(),
        tried in any::<bool>(),
        full in prop::bool::weighted(0.2),
    ) -> One {
        One { in_flight, weight, latency_us, standing, tried, full, identity: 0 }
    }
}

proptest! {
    #[test]
    fn a_choice_is_of_the_best_standing_untried_and_below_its_limit(
        ones in prop::collection::vec(any_one(), 0..40),
        way in 0..3usize,
        safe: bool,
        again: bool,
        fail_open: bool,
        key: Option<u64>,
        turn: u64,
    ) {
        let fleet = fleet(ones);
        let want = Want { safe, again, fail_open, hash: key };
        let wanted = |one: &One, tried: bool, good: &[Standing]| {
            one.weight > 0 && one.tried == tried && good.contains(&one.standing)
        };
        let any = |tried, good: &[Standing], open: bool| fleet.0.iter().any(|o| wanted(o, tried, good) && !(open && o.full));
        let ranks = [
            (safe && any(false, &[Standing::Trial], true), false, &[Standing::Trial][..]),
            (any(false, &[Standing::Good], false), false, &[Standing::Good]),
            (any(false, &[Standing::Trial, Standing::Poor], false), false, &[Standing::Trial, Standing::Poor]),
            (again && any(true, &[Standing::Good], false), true, &[Standing::Good]),
            (again && any(true, &[Standing::Trial, Standing::Poor], false), true, &[Standing::Trial, Standing::Poor]),
            (fail_open && any(false, &[Standing::Dead], false), false, &[Standing::Dead]),
            (again && fail_open && any(true, &[Standing::Dead], false), true, &[Standing::Dead]),
        ];
        let best = ranks.iter().find(|rank| rank.0);
        match (pick(&WAYS[way], &fleet, want, turn), best) {
            (Pick::None, best) => prop_assert!(best.is_none()),
            (Pick::Full, Some((_, tried, good))) => prop_assert!(!any(*tried, good, true)),
            (Pick::At(i), Some((_, tried, good))) => {
                prop_assert!(wanted(&fleet.0[i], *tried, good) && !fleet.0[i].full);
            }
            (pick, None) => prop_assert!(false, "{pick:?} of nobody"),
        }
    }
}
