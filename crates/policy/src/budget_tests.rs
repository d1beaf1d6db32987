//! Tests of `budget`: its bound under any order of events, and its levels under steady ones. Storms of requests are
//! simulated in `tests/storm.rs`.

use proptest::prelude::*;

use super::*;

const AT: fn(u64) -> Moment = Moment::from_millis;
const RULE: BudgetRule = BudgetRule { share: 0.2, per_second: 10.0, ceiling: 0.45 };

/// A service with even failures, and second tries that are made at once or when they may.
struct Service {
    budget: Budget,
    total: u64,
    now_ms: u64,
    /// When postponed tries ask again.
    postponed: Vec<u64>,
    /// Fractions of failures and successes that are still to come.
    owed: (f64, f64),
    asked: u64,
    granted: u64,
}

impl Service {
    fn new() -> Service {
        let (budget, postponed, owed) = (Budget::new(RULE, AT(0)), Vec::new(), (0.0, 0.0));
        let mut service = Service { budget, total: 0, now_ms: 0, postponed, owed, asked: 0, granted: 0 };
        service.run(10, 500, 0.0, 1.0);
        service
    }

    /// `rate` requests a second for `seconds`, of which `failing` fail; of second tries, `worth` succeed.
    fn run(&mut self, seconds: u64, rate: u64, failing: f64, worth: f64) {
        for _ in 0..seconds * 10 {
            self.now_ms += 100;
            self.budget.tick(self.total, false, AT(self.now_ms));
            let due = self.postponed.iter().filter(|at| **at <= self.now_ms).count();
            self.postponed.retain(|at| *at > self.now_ms);
            (0..due).for_each(|_| self.ask(false, worth));
            self.total += rate / 10;
            self.owed.0 += failing * (rate / 10) as f64;
            while self.owed.0 >= 1.0 {
                self.owed.0 -= 1.0;
                self.asked += 1;
                self.ask(true, worth);
            }
        }
    }

    fn ask(&mut self, first: bool, worth: f64) {
        match self.budget.try_spend(self.total, first, AT(self.now_ms)) {
            Spend::Granted => {
                self.granted += 1;
                self.owed.1 += worth;
                let succeeded = self.owed.1 >= 1.0;
                self.owed.1 -= f64::from(u8::from(succeeded));
                self.budget.settle(succeeded, AT(self.now_ms));
            }
            Spend::Refused => {}
            Spend::After(wait) => self.postponed.push(self.now_ms + wait.as_millis() as u64),
        }
    }

    fn view(&self) -> BudgetView {
        self.budget.view(AT(self.now_ms))
    }

    /// A service whose share was raised to the ceiling.
    fn raised() -> Service {
        let mut service = Service::new();
        service.run(12, 500, 0.39, 0.7);
        assert!(service.view().share_in_force > 0.44, "{:?}", service.view());
        service
    }
}

fn grants(budget: &mut Budget, total: u64, at: Moment, times: u32) -> u32 {
    (0..times).map(|_| u32::from(budget.try_spend(total, true, at) == Spend::Granted)).sum()
}

#[test]
fn the_floor_is_there_at_the_first_moment_and_again_when_the_window_is_over() {
    let mut budget = Budget::new(RULE, AT(5_000));
    assert_eq!(grants(&mut budget, 0, AT(5_000), 150), 100);
    assert_eq!(grants(&mut budget, 0, AT(15_000), 150), 0);
    assert_eq!(grants(&mut budget, 0, AT(15_100), 150), 100);
}

#[test]
fn requests_grant_their_share_for_ten_seconds() {
    let mut budget = Budget::new(RULE, AT(0));
    // The first count seen is where it starts: what came before is nobody's deposit.
    budget.tick(7_000_000, false, AT(0));
    budget.tick(7_001_000, false, AT(100));
    assert_eq!(budget.view(AT(100)).allowed_in_window, 300);
    assert_eq!(grants(&mut budget, 7_001_000, AT(200), 500), 300);
    assert_eq!(budget.view(AT(200)).spent_in_window, 300);
    // A worker that read the count a little earlier takes nothing away.
    assert_eq!(grants(&mut budget, 7_000_990, AT(200), 1), 0);
    assert_eq!(grants(&mut budget, 7_001_005, AT(200), 2), 1);
    assert_eq!(budget.view(AT(10_100)).allowed_in_window, 101);
}

#[test]
fn independent_failures_raise_the_share_in_steps_and_lose_no_second_try() {
    let mut service = Service::new();
    let mut shares = Vec::new();
    for _ in 0..120 {
        service.run(1, 500, 0.39, 0.7);
        shares.push(service.view().share_in_force);
    }
    assert!(shares[3] == 0.2 && shares.windows(2).all(|pair| pair[1] <= pair[0] + STEP + 1e-9), "{shares:?}");
    assert!(shares[20..].iter().all(|share| *share > 0.39), "{shares:?}");
    let waiting = service.postponed.len() as u64;
    assert_eq!(service.granted + waiting, service.asked);
}

#[test]
fn a_raised_share_falls_at_once_when_something_queues() {
    let mut service = Service::raised();
    service.budget.tick(service.total, true, AT(service.now_ms));
    assert_eq!((service.view().share_in_force, service.view().level), (0.2, BudgetLevel::Usual));
}

#[test]
fn a_raised_share_falls_with_the_try_that_shows_too_little_success() {
    let mut service = Service::raised();
    let at = AT(service.now_ms);
    while service.view().yield_ratio.is_some_and(|bought| bought >= WORTH) {
        assert!(service.view().share_in_force > 0.4);
        service.budget.settle(false, at);
    }
    assert_eq!(service.view().share_in_force, 0.2);
}

#[test]
fn a_raised_share_falls_when_first_tries_fail_more_than_they_did_in_the_pause() {
    let mut service = Service::raised();
    // Second tries still succeed at 0.7, but each displaces a first try.
    service.run(3, 500, 0.75, 0.7);
    assert_eq!(service.view().share_in_force, 0.2);
}

#[test]
fn a_raised_share_is_given_back_when_it_is_no_longer_needed() {
    let mut service = Service::raised();
    service.run(9, 500, 0.01, 1.0);
    assert_eq!((service.view().share_in_force, service.view().level), (0.2, BudgetLevel::Usual));
}

#[test]
fn below_sixty_requests_a_second_the_floor_is_enough_and_nothing_is_raised() {
    let mut service = Service::new();
    service.run(11, 20, 0.0, 1.0);
    for _ in 0..30 {
        service.run(1, 20, 0.39, 0.7);
        assert_eq!((service.view().share_in_force, service.postponed.len()), (0.2, 0));
    }
    assert_eq!(service.granted, service.asked);
}

#[test]
fn tries_that_hardly_ever_succeed_are_made_at_the_floors_pace_until_they_do() {
    let mut service = Service::new();
    service.run(2, 500, 0.5, 0.0);
    assert_eq!(service.view().level, BudgetLevel::Low);
    let before = service.granted;
    service.run(10, 500, 0.5, 0.0);
    assert!((80..=110).contains(&(service.granted - before)), "{}", service.granted - before);
    service.run(4, 500, 0.1, 1.0);
    assert_eq!(service.view().level, BudgetLevel::Usual);
}

#[test]
fn the_low_level_ends_when_nobody_asks_any_more() {
    let mut service = Service::new();
    service.run(2, 500, 0.5, 0.0);
    assert_eq!(service.view().level, BudgetLevel::Low);
    service.run(4, 500, 0.0, 0.0);
    assert_eq!(service.view().level, BudgetLevel::Usual);
}

#[test]
fn tries_wait_for_the_end_of_a_pause_spread_out_and_bounded() {
    let mut service = Service::new();
    while service.view().level != BudgetLevel::Pausing {
        service.run(1, 500, 0.39, 0.7);
        assert!(service.now_ms < 20_000);
        // Stops within the pause, which is longer than a tick.
        for _ in 0..9 {
            if service.view().level == BudgetLevel::Pausing {
                break;
            }
            service.now_ms += 100;
            service.budget.tick(service.total, false, AT(service.now_ms));
        }
    }
    let at = AT(service.now_ms);
    let told: Vec<_> = (0..MAX_POSTPONED + 1).map(|_| service.budget.try_spend(service.total, true, at)).collect();
    let longest = PAUSE_LONGEST + Duration::from_millis(u64::from(SPREAD_MS));
    let waits: Vec<_> =
        told.iter().filter_map(|told| if let Spend::After(wait) = told { Some(wait) } else { None }).collect();
    assert!(!waits.is_empty() && waits.len() <= MAX_POSTPONED as usize);
    assert!(waits.iter().all(|wait| **wait <= longest));
    assert!(waits.iter().max() > waits.iter().min());
    assert_eq!(told.last(), Some(&Spend::Refused));
}

#[test]
fn impossible_rules_are_made_possible() {
    for (share, per_second, ceiling) in [(f64::NAN, f64::NAN, f64::NAN), (-1.0, -1.0, -1.0), (0.0, 0.0, 0.0)] {
        let mut budget = Budget::new(BudgetRule { share, per_second, ceiling }, AT(0));
        budget.tick(0, false, AT(0));
        assert_eq!(budget.try_spend(1000, true, AT(1)), Spend::Refused);
    }
    let mut budget = Budget::new(RULE, AT(0));
    budget.tick(0, false, AT(0));
    budget.set_rule(BudgetRule { share: 0.5, per_second: 0.0, ceiling: 0.1 });
    assert_eq!(grants(&mut budget, 10, AT(1), 100), 5);
}

/// What may happen, and how much of it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Requests(u64),
    Try(u64),
    Settle(u64, bool),
    Tick(bool),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![Just(100), 0..400u64, 0..30_000u64, Just(86_400_000)].prop_map(Step::Wait),
        2 => (0..300u64).prop_map(Step::Requests),
        2 => (0..150u64).prop_map(Step::Try),
        2 => (0..60u64, prop::bool::weighted(0.7)).prop_map(|(times, succeeded)| Step::Settle(times, succeeded)),
        2 => prop::bool::weighted(0.1).prop_map(Step::Tick),
    ]
}

proptest! {
    #[test]
    fn under_any_order_of_events_no_ten_seconds_hold_more_than_the_ceiling(steps in prop::collection::vec(steps(), 0..120)) {
        let (mut budget, mut now_ms, mut total, mut queueing) = (Budget::new(RULE, AT(0)), 0u64, 0, false);
        budget.tick(0, false, AT(0));
        // What happened: when, requests that were reported, tries that were granted.
        let mut log = vec![(0, 0, 0)];
        for step in steps {
            let seen: u64 = log.iter().map(|(_, requests, _)| requests).sum();
            match step {
                Step::Wait(ms) => now_ms = now_ms.saturating_add(ms),
                Step::Requests(more) => total += more,
                Step::Try(times) => {
                    log.push((now_ms, total - seen, u64::from(grants(&mut budget, total, AT(now_ms), times as u32))));
                    if times == 0 { log.pop(); }
                }
                Step::Settle(times, succeeded) => (0..times).for_each(|_| budget.settle(succeeded, AT(now_ms))),
                Step::Tick(queues) => {
                    queueing = queues;
                    budget.tick(total, queues, AT(now_ms));
                    log.push((now_ms, total - seen, 0));
                }
            }
            let window = log.iter().filter(|(at, ..)| at + 10_000 > now_ms);
            let (requests, spent) = window.fold((0, 0), |sum, (_, requests, spent)| (sum.0 + requests, sum.1 + spent));
            if log.last().is_some_and(|(at, _, spent)| *at == now_ms && *spent > 0) {
                prop_assert!(spent as f64 <= RULE.ceiling * requests as f64 + 100.0, "{} of {}", spent, requests);
            }
            let view = budget.view(AT(now_ms));
            prop_assert!(view.spent_in_window >= spent);
            prop_assert!(view.share_in_force <= RULE.ceiling);
            if queueing || view.yield_ratio.is_some_and(|bought| bought < WORTH) {
                prop_assert!(view.share_in_force <= RULE.share, "{:?}", view);
            }
        }
    }

    #[test]
    fn time_that_jumps_or_runs_backwards_does_no_harm(moments in prop::collection::vec(any::<u64>(), 0..60)) {
        let mut budget = Budget::new(RULE, Moment::from_nanos(moments.first().copied().unwrap_or(0)));
        for (total, nanos) in moments.iter().enumerate() {
            let now = Moment::from_nanos(*nanos);
            budget.tick(total as u64 * 40, false, now);
            grants(&mut budget, total as u64 * 40, now, 30);
            (0..30).for_each(|n| budget.settle(n % 3 > 0, now));
            prop_assert!(budget.view(now).share_in_force <= RULE.ceiling);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn under_any_course_of_failures_the_share_is_never_raised_while_tries_are_not_worth_it(
        phases in prop::collection::vec((1..12u64, 2..100u64, 0.0..1.0f64, 0.0..1.0f64), 1..6)
    ) {
        let mut service = Service::new();
        for (seconds, rate, failing, worth) in phases {
            for _ in 0..seconds {
                service.run(1, rate * 5, failing, worth);
                let view = service.view();
                prop_assert!(view.share_in_force <= RULE.ceiling);
                prop_assert!(view.share_in_force <= RULE.share || view.yield_ratio.is_none_or(|bought| bought >= WORTH));
            }
        }
    }
}
