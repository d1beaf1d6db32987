//! Sequences of losses and returns, and what holds in all of them.

use proptest::prelude::*;

use super::*;

/// A tier with so many usable of so many endpoints.
fn tier(tier: u8, usable: u32, total: u32) -> TierState {
    TierState { tier, usable_weight: usable, total_weight: total }
}

/// Tiers 0, 1, … with so many usable of ten each.
fn tens(usable: &[u32]) -> Vec<TierState> {
    usable.iter().zip(0..).map(|(usable, at)| tier(at, *usable, 10)).collect()
}

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1_000)
}

fn service() -> Failover {
    Failover::new(FailoverRule::default())
}

fn shares(failover: &Failover) -> Vec<(u8, u16)> {
    failover.shares().as_slice().to_vec()
}

/// The second, how many of ten are usable in each tier, and the shares that are expected.
type Step<'a> = (u64, &'a [u32], &'a [(u8, u16)]);

/// Plays the steps and asserts each; counts the changes of shares.
fn play(failover: &mut Failover, steps: &[Step<'_>]) -> usize {
    let mut changes = 0;
    for (second, usable, expected) in steps {
        let before = failover.shares();
        let change = failover.update(&tens(usable), at(*second));
        assert_eq!(shares(failover), *expected, "second {second}");
        if let Some(change) = change {
            assert_eq!((change.from, change.to), (before, failover.shares()));
            changes += usize::from(change.from != change.to);
        } else {
            assert_eq!(before, failover.shares(), "a change that was not told");
        }
    }
    changes
}

#[test]
fn when_the_primary_is_gone_the_next_takes_all_and_gives_it_back_after_the_delay() {
    let mut failover = service();
    let changes = play(
        &mut failover,
        &[
            (0, &[10, 10], &[(0, 1000)]),
            (1, &[0, 10], &[(1, 1000)]),
            (20, &[0, 10], &[(1, 1000)]),
            (21, &[10, 10], &[(1, 1000)]),
            (30, &[10, 10], &[(1, 1000)]),
            (31, &[10, 10], &[(0, 1000)]),
        ],
    );
    assert_eq!(changes, 2);
}

#[test]
fn each_step_says_why() {
    let mut failover = service();
    let mut reasons = Vec::new();
    for (second, usable) in [(0, [10, 10]), (1, [4, 10]), (2, [0, 10]), (3, [0, 0]), (4, [10, 10]), (14, [10, 10])] {
        failover.update(&tens(&usable), at(second));
        reasons.push(failover.reason());
    }
    use Reason::*;
    assert_eq!(reasons, [Whole(0), Weak(0), Gone(0), Nobody, Returning(0), Whole(0)]);
    let change = failover.update(&tens(&[4, 10]), at(15)).unwrap();
    let said = format!("{} => {}, because {}", change.from, change.to, change.reason);
    assert_eq!(said, "tier 0 => tier 0: 80.0 %, tier 1: 20.0 %, because too few of tier 0 are usable");
}

#[test]
fn a_primary_that_comes_and_goes_every_two_seconds_takes_nothing() {
    let mut failover = service();
    failover.update(&tens(&[10, 10]), at(0));
    let changes = (1..600).filter(|second| {
        let usable = if second / 2 % 2 == 0 { 0 } else { 10 };
        failover.update(&tens(&[usable, 10]), at(*second)).is_some()
    });
    assert_eq!(changes.count(), 1);
    assert_eq!(shares(&failover), [(1, 1000)]);
}

#[test]
fn a_partial_loss_spills_over_in_proportion_and_only_below_the_limit() {
    let mut failover = service();
    play(
        &mut failover,
        &[
            (0, &[6, 10], &[(0, 1000)]),
            (1, &[5, 10], &[(0, 1000)]),
            (2, &[4, 10], &[(0, 800), (1, 200)]),
            (3, &[1, 10], &[(0, 200), (1, 800)]),
            // Back to the least that was there for ten seconds, and whole only with the margin.
            (4, &[5, 10], &[(0, 200), (1, 800)]),
            (9, &[3, 10], &[(0, 200), (1, 800)]),
            (10, &[5, 10], &[(0, 200), (1, 800)]),
            (14, &[5, 10], &[(0, 500), (1, 500)]),
            (24, &[5, 10], &[(0, 833), (1, 167)]),
            (60, &[5, 10], &[(0, 833), (1, 167)]),
            (61, &[6, 10], &[(0, 833), (1, 167)]),
            (71, &[6, 10], &[(0, 1000)]),
            (72, &[5, 10], &[(0, 1000)]),
        ],
    );
}

#[test]
fn one_that_moves_about_the_limit_moves_no_requests() {
    let mut failover = service();
    failover.update(&tens(&[4, 10]), at(0));
    let moved = (1..600).filter(|s| failover.update(&tens(&[4 + (*s % 2) as u32, 10]), at(*s)).is_some());
    assert_eq!(moved.count(), 0);
}

#[test]
fn three_tiers_stand_in_for_each_other_in_order() {
    play(
        &mut service(),
        &[
            (0, &[10, 10, 10], &[(0, 1000)]),
            (1, &[0, 10, 10], &[(1, 1000)]),
            (2, &[0, 0, 10], &[(2, 1000)]),
            (3, &[0, 10, 10], &[(2, 1000)]),
            (13, &[0, 10, 10], &[(1, 1000)]),
            (14, &[10, 4, 10], &[(1, 800), (2, 200)]),
            (24, &[10, 4, 10], &[(0, 1000)]),
            (40, &[2, 1, 10], &[(0, 400), (1, 200), (2, 400)]),
        ],
    );
    // Nobody can take it all: in proportion.
    play(&mut service(), &[(0, &[1, 1, 0], &[(0, 500), (1, 500)]), (1, &[1, 0, 0], &[(0, 1000)])]);
}

#[test]
fn a_tier_that_waits_is_used_where_nobody_else_is_left() {
    play(
        &mut service(),
        &[
            (0, &[10, 10], &[(0, 1000)]),
            (1, &[0, 10], &[(1, 1000)]),
            (2, &[10, 10], &[(1, 1000)]),
            (3, &[10, 1], &[(0, 800), (1, 200)]),
            (4, &[10, 0], &[(0, 1000)]),
        ],
    );
}

#[test]
fn when_nobody_is_left_all_stays_and_the_first_who_returns_takes_all() {
    let mut failover = service();
    failover.update(&tens(&[0, 10]), at(0));
    let change = failover.update(&tens(&[0, 0]), at(1)).unwrap();
    assert_eq!((change.from, change.to, change.reason), (Shares::only(1), Shares::only(1), Reason::Nobody));
    assert_eq!(failover.update(&tens(&[0, 0]), at(2)), None);
    play(&mut failover, &[(3, &[0, 1], &[(1, 1000)]), (4, &[0, 0], &[(1, 1000)]), (5, &[1, 0], &[(0, 1000)])]);
}

#[test]
fn an_operators_choice_stays_until_it_is_taken_back() {
    let mut failover = service();
    failover.update(&tens(&[10, 10]), at(0));
    let change = failover.force(Some(1)).unwrap();
    let forced = |usable| Reason::Forced { tier: 1, usable };
    assert_eq!((change.to, change.reason), (Shares::only(1), forced(true)));
    assert_eq!(failover.update(&tens(&[10, 10]), at(60)), None);
    // With nobody there as well, which is said once.
    let change = failover.update(&tens(&[10, 0]), at(61)).unwrap();
    assert_eq!((change.from, change.to, change.reason), (Shares::only(1), Shares::only(1), forced(false)));
    assert_eq!(failover.update(&tens(&[10, 0]), at(62)), None);
    assert_eq!(failover.reason().to_string(), "tier 1 was chosen by an operator, and nobody of it is usable");
    // The primary was whole all the time and need not wait.
    assert_eq!((failover.force(None).unwrap().to, failover.forced()), (Shares::only(0), None));
}

#[test]
fn while_an_operator_has_chosen_the_other_tiers_are_judged_all_the_same() {
    let mut failover = service();
    failover.update(&tens(&[10, 10]), at(0));
    failover.force(Some(2));
    assert_eq!(failover.reason(), Reason::Forced { tier: 2, usable: false });
    failover.update(&tens(&[0, 10]), at(1));
    failover.update(&tens(&[10, 10]), at(2));
    assert_eq!(failover.force(None).unwrap().to, Shares::only(1));
    play(&mut failover, &[(11, &[10, 10], &[(1, 1000)]), (12, &[10, 10], &[(0, 1000)])]);
}

#[test]
fn a_tier_that_appears_later_has_to_stay_for_the_delay() {
    let mut failover = service();
    failover.update(&[tier(3, 1, 1)], at(0));
    assert_eq!(shares(&failover), [(3, 1000)]);
    let both = [tier(3, 1, 1), tier(1, 2, 2)];
    failover.update(&both, at(1));
    assert_eq!(shares(&failover), [(3, 1000)]);
    failover.update(&both, at(11));
    assert_eq!(shares(&failover), [(1, 1000)]);
    failover.update(&[tier(3, 1, 1)], at(12));
    assert_eq!(shares(&failover), [(3, 1000)]);
}

#[test]
fn rules_at_their_limits_hold() {
    let mut never = Failover::new(FailoverRule { spill_below: 0.0, fail_back_delay: Duration::ZERO });
    play(&mut never, &[(0, &[1, 10], &[(0, 1000)]), (1, &[0, 10], &[(1, 1000)]), (2, &[1, 10], &[(0, 1000)])]);
    let mut always = Failover::new(FailoverRule { spill_below: 1.0, fail_back_delay: Duration::ZERO });
    play(&mut always, &[(0, &[9, 10], &[(0, 900), (1, 100)]), (1, &[10, 10], &[(0, 1000)])]);
    assert_eq!(service().update(&[], at(0)).map(|c| (c.to, c.reason)), Some((Shares::only(0), Reason::Nobody)));
    assert!(service().update(&[tier(0, 0, 0), tier(1, 1, 1)], at(0)).is_some());
}

#[test]
fn more_tiers_than_can_share_leave_the_rest_to_the_last_that_does() {
    let usable: Vec<_> = (0..9).map(|at| tier(at, 1, 100)).collect();
    let mut failover = service();
    failover.update(&usable, at(0));
    assert_eq!(shares(&failover).iter().map(|(tier, _)| *tier).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn requests_are_drawn_by_share_and_one_tier_draws_nothing() {
    let mut failover = service();
    failover.update(&tens(&[4, 10]), at(0));
    let mut entropy = Entropy::from_seed(11);
    let first = (0..10_000).filter(|_| failover.pick(&mut entropy) == 0).count();
    // 8,000 expected, sigma 40.
    assert!((7_880..=8_120).contains(&first), "{first}");
    let untouched = entropy.clone().next_u64();
    assert_eq!(Shares::only(7).pick(&mut entropy), 7);
    assert_eq!(entropy.next_u64(), untouched);
}

prop_compose! {
    fn any_tiers()(usable in prop::collection::btree_map(0..6u8, (0..=10u32, 0..=10u32), 0..6)) -> Vec<TierState> {
        usable.into_iter().map(|(at, (usable, more))| tier(at, usable, usable + more)).collect()
    }
}

proptest! {
    #[test]
    fn shares_make_up_the_whole_and_go_to_those_who_have_somebody(
        steps in prop::collection::vec((any_tiers(), 0..15_000u64), 1..40),
        spill_below in 0.0..=1.0f64,
        forced: Option<u8>,
    ) {
        let mut failover = Failover::new(FailoverRule { spill_below, ..FailoverRule::default() });
        let mut now = Moment::ZERO;
        for (tiers, millis) in steps {
            now = now + Duration::from_millis(millis);
            failover.update(&tiers, now);
            let shares = failover.shares();
            prop_assert_eq!(shares.as_slice().iter().map(|s| s.1).sum::<u16>(), ALL);
            prop_assert!(shares.as_slice().windows(2).all(|w| w[0].0 < w[1].0));
            prop_assert_eq!(Shares::from_bits(shares.to_bits()), shares);
            let usable = |at| tiers.iter().any(|t| t.tier == at && t.usable_weight > 0);
            if tiers.iter().any(|t| t.usable_weight > 0) {
                prop_assert!(shares.as_slice().iter().all(|(at, share)| *share > 0 && usable(*at)), "{shares:?}");
            }
        }
        if let Some(tier) = forced {
            failover.force(forced);
            prop_assert_eq!(failover.shares(), Shares::only(tier));
        }
    }

    #[test]
    fn the_lowest_tier_never_gains_within_the_delay_while_the_next_is_whole(
        steps in prop::collection::vec((0..=10u32, 1..3_000u64), 1..100),
    ) {
        let mut failover = service();
        let (mut now, mut since, mut before) = (Moment::ZERO, None, ALL);
        for (usable, millis) in steps {
            now = now + Duration::from_millis(millis);
            failover.update(&tens(&[usable, 10]), now);
            let share = failover.shares().as_slice().iter().find(|s| s.0 == 0).map_or(0, |s| s.1);
            // Since when it could have carried more than it did.
            let could = f64::from(usable) / 10.0 / 0.6 * 1000.0;
            since = if could.round() <= f64::from(before) { None } else { since.or(Some(now)) };
            if share > before {
                let waited = since.map_or(Duration::ZERO, |since| now.since(since));
                prop_assert!(waited >= FailoverRule::default().fail_back_delay, "{waited:?}");
                since = Some(now);
            }
            before = share;
        }
    }

    #[test]
    fn any_word_unpacks_to_shares(bits: u64, seed: u64) {
        let shares = Shares::from_bits(bits);
        prop_assert_eq!(shares.as_slice().iter().map(|s| s.1).sum::<u16>(), ALL);
        let tier = shares.pick(&mut Entropy::from_seed(seed));
        prop_assert!(shares.as_slice().iter().any(|s| s.0 == tier));
    }
}
