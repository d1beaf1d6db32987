//! Each way of balancing: shares, load, keys.

use std::time::Duration;

use proptest::prelude::*;

use super::super::hash::ALWAYS;
use super::super::load::SCAN_MAX;
use super::*;

#[test]
fn a_service_at_rest_shares_by_weight() {
    for w in [&[1, 1, 2][..], &[1000, 1000, 100], &[7, 1, 1, 1, 90], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]] {
        for balance in [Balance::RoundRobin, Balance::LeastOutstanding] {
            assert_shares(&shares(&balance, &weights(w), 10_000), w);
        }
    }
}

#[test]
fn turns_by_weight_are_close_to_the_shares_at_every_moment() {
    let w = [3, 1, 1];
    for turns in 1..200u64 {
        let seen = shares(&Balance::RoundRobin, &weights(&w), turns);
        let off = |(n, w): (&u32, &u32)| (f64::from(*n) - turns as f64 * f64::from(*w) / 5.0).abs();
        assert!(seen.iter().zip(&w).map(off).fold(0.0, f64::max) <= 3.0, "{turns}: {seen:?}");
    }
}

#[test]
fn an_endpoint_that_comes_back_gets_what_slow_start_allows() {
    let window = Duration::from_secs(10);
    for (since, expected) in [(0, 100), (5, 550), (10, 1_000)] {
        let back = slow_start(Duration::from_secs(since), window);
        assert_eq!(back, expected);
        let w = [WHOLE, WHOLE, back];
        for balance in [Balance::RoundRobin, Balance::LeastOutstanding] {
            assert_shares(&shares(&balance, &weights(&w), 20_000), &w);
        }
        assert_shares(&keys_of(&weights(&w), 0..20_000), &w);
    }
}

/// Requests that end after `latency`, with so many at a time: who took how many of them.
fn busy(fleet: &mut Fixed, latency: impl Fn(usize) -> u64, at_a_time: usize, requests: u64) -> Vec<u32> {
    let (mut now, mut running, mut taken) = (0, Vec::<(u64, usize)>::new(), vec![0; fleet.len()]);
    let mut entropy = Entropy::from_seed(requests);
    for turn in 0..requests {
        if running.len() >= at_a_time {
            let next = (0..running.len()).min_by_key(|r| running[*r].0).unwrap();
            let (at, i) = running.swap_remove(next);
            now = now.max(at);
            fleet.0[i].in_flight -= 1;
        }
        let Pick::At(i) = choose(&Balance::LeastOutstanding, fleet, UNSAFE, turn, &mut entropy) else { panic!() };
        fleet.0[i].in_flight += 1;
        taken[i] += 1;
        running.push((now + latency(i) + entropy.below(latency(i) / 10), i));
    }
    taken
}

#[test]
fn equally_fast_endpoints_of_a_busy_service_share_by_weight() {
    for (w, at_a_time) in [([1, 1, 1], 64), ([1, 1, 2], 64), ([1000, 1000, 100], 64), ([1000, 1000, 100], 300)] {
        let taken = busy(&mut weights(&w), |_| 2_000, at_a_time, 20_000);
        let (all, total) = (20_000.0, f64::from(w.iter().sum::<u32>()));
        for (n, w) in taken.iter().zip(w) {
            let share = all * f64::from(w) / total;
            assert!((f64::from(*n) - share).abs() < share * 0.15, "{taken:?} with {at_a_time} at a time");
        }
    }
}

#[test]
fn an_endpoint_that_is_forty_times_slower_gets_little_at_rest_and_less_when_busy() {
    let latency = |i: usize| if i == 2 { 80_000 } else { 2_000 };
    let slow = |n: usize| fleet((0..n).map(|i| One { latency_us: latency(i), ..GOOD }));
    // A sixteenth of the others' shares: 1/33, and of 20 drawn in pairs less than 1/100.
    assert_shares(&shares(&Balance::LeastOutstanding, &slow(3), 10_000), &[16, 16, 1]);
    let many = shares(&Balance::LeastOutstanding, &slow(20), 10_000);
    assert!((1..100).contains(&many[2]), "{many:?}");
    for at_a_time in [4, 64] {
        let taken = busy(&mut slow(3), latency, at_a_time, 20_000);
        assert!((1..400).contains(&taken[2]), "{taken:?}");
    }
    let round = shares(&Balance::RoundRobin, &slow(3), 300);
    assert_eq!(round, [100, 100, 100], "turns are turns");
}

#[test]
fn differences_within_a_factor_of_two_or_below_a_millisecond_change_no_turn() {
    for times in [[2_000, 3_900, 2_500], [30, 900, 400], [0, 5_000, 0]] {
        let fleet = fleet(times.map(|latency_us| One { latency_us, ..GOOD }));
        assert_eq!(shares(&Balance::LeastOutstanding, &fleet, 300), [100, 100, 100]);
    }
}

#[test]
fn of_many_the_better_of_two_is_taken_and_the_busiest_never() {
    let n = SCAN_MAX + 4;
    let mut fleet = loads(&vec![1; n]);
    assert_shares(&shares(&Balance::LeastOutstanding, &fleet, 20_000), &vec![1; n]);
    let w: Vec<u32> = (0..n as u32).map(|i| 1 + i % 3).collect();
    assert_shares(&shares(&Balance::LeastOutstanding, &weights(&w), 20_000), &w);
    fleet.0[3].in_flight = 9;
    fleet.0[4].in_flight = 0;
    let seen = shares(&Balance::LeastOutstanding, &fleet, 20_000);
    // Only when both draws fall on it, 1 in 400; the idle one whenever one does, nearly 2 in 20.
    assert!(seen[3] < 90 && (1_750..2_150).contains(&seen[4]), "{seen:?}");
}

/// Who takes how many of the keys.
fn keys_of(fleet: &Fixed, keys: std::ops::Range<u64>) -> Vec<u32> {
    let mut taken = vec![0; fleet.len()];
    keys.for_each(|key| taken[at_of(fleet, key)] += 1);
    taken
}

fn at_of(fleet: &Fixed, key: u64) -> usize {
    let key = Some(hash(&key.to_le_bytes()));
    match pick(&Balance::Hash(HashKey::Address), fleet, Want { hash: key, ..UNSAFE }, 0) {
        Pick::At(i) => i,
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_are_spread_by_weight() {
    for w in [&[1, 1, 1][..], &[1, 2, 3], &[1000, 100], &[1; 100]] {
        let taken = keys_of(&weights(w), 0..20_000);
        let (all, total) = (20_000.0, f64::from(w.iter().sum::<u32>()));
        for (n, w) in taken.iter().zip(w) {
            let share = f64::from(*w) / total;
            // Four sigma: there are a hundred of them.
            assert!((f64::from(*n) - all * share).abs() < 4.0 * (all * share * (1.0 - share)).sqrt(), "{taken:?}");
        }
    }
}

#[test]
fn a_request_without_the_key_goes_where_the_load_is_least() {
    assert_eq!(pick(&Balance::Hash(HashKey::Cookie("s".into())), &loads(&[2, 1, 2]), SAFE, 0), Pick::At(1));
}

#[test]
fn a_popular_key_spreads_once_its_endpoint_has_a_quarter_more_than_the_mean() {
    let mut fleet = loads(&[0; 4]);
    for n in 0..400 {
        let at = at_of(&fleet, 7);
        fleet.0[at].in_flight += 1;
        assert!(n >= u64::from(ALWAYS) || at == at_of(&loads(&[0; 4]), 7));
    }
    let mut taken: Vec<u32> = fleet.0.iter().map(|one| one.in_flight).collect();
    taken.sort_unstable();
    assert_eq!(taken, [25, 125, 125, 125]);
}

#[test]
fn a_hash_depends_on_every_byte_and_the_length() {
    let texts = ["", "\0", "\0\0", "a", "b", "ab", "ba", "12345678", "123456780", "87654321", "1234567812345678"];
    let hashes: std::collections::HashSet<u64> = texts.iter().map(|t| hash(t.as_bytes())).collect();
    assert_eq!(hashes.len(), texts.len());
    // Written down, because every gateway and every version has to agree.
    assert_eq!(hash(b"10.0.0.1:80"), 1_776_930_595_371_280_113);
}

proptest! {
    #[test]
    fn among_equals_the_least_busy_is_taken(in_flight in prop::collection::vec(0..5u32, 1..=SCAN_MAX), turn: u64) {
        let fleet = loads(&in_flight);
        let Pick::At(i) = pick(&Balance::LeastOutstanding, &fleet, UNSAFE, turn) else { panic!() };
        prop_assert_eq!(Some(&in_flight[i]), in_flight.iter().min());
    }

    #[test]
    fn a_key_stays_while_its_endpoint_is_good_and_one_that_leaves_moves_only_its_own(
        w in prop::collection::vec(prop_oneof![Just(1_000u32), 100..1_000u32], 2..40),
        leaves: prop::sample::Index,
        first in 0..1_000_000u64,
        turn: u64,
    ) {
        let before = weights(&w);
        let gone = leaves.index(w.len());
        let mut after = before.clone();
        after.0[gone].standing = Standing::Dead;
        let mut shorter = before.clone();
        shorter.0.remove(gone);
        for key in first..first + 50 {
            let at = at_of(&before, key);
            let want = Want { hash: Some(hash(&key.to_le_bytes())), ..UNSAFE };
            prop_assert_eq!(pick(&Balance::Hash(HashKey::Address), &before, want, turn), Pick::At(at));
            prop_assert!(at == gone || at_of(&after, key) == at);
            prop_assert_eq!(shorter.0[at_of(&shorter, key)].identity, after.0[at_of(&after, key)].identity);
        }
    }

    #[test]
    fn an_endpoint_whose_weight_grows_only_gains_keys(less in 1..1_000u32, key: u64, n in 2..10usize) {
        let mut w = vec![1_000; n];
        w[0] = less;
        let (warming, warm) = (at_of(&weights(&w), key), at_of(&weights(&vec![1_000; n]), key));
        prop_assert!(warm == warming || warm == 0);
    }

    #[test]
    fn the_bound_is_never_exceeded(
        ones in prop::collection::vec((0..60u32, 1..5u32), 2..30),
        key: u64,
    ) {
        let fleet = fleet(ones.into_iter().map(|(in_flight, weight)| One { in_flight, weight, ..GOOD }));
        let at = at_of(&fleet, key);
        let sum = |of: fn(&One) -> u32| fleet.0.iter().map(|one| f64::from(of(one))).sum::<f64>();
        let one = &fleet.0[at];
        let bound = 1.25 * (sum(|o| o.in_flight) + 1.0) * f64::from(one.weight) / sum(|o| o.weight);
        prop_assert!(f64::from(one.in_flight + 1) <= bound.ceil().max(8.0), "{one:?}, bound {bound}");
    }
}
