//! Tests of `retry`.

use proptest::prelude::*;

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn idempotent_methods_are_those_of_rfc_9110() {
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        assert!(is_idempotent(method.as_bytes()), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "get", "", "PROPFIND"] {
        assert!(!is_idempotent(method.as_bytes()), "{method}");
    }
}

/// A GET that met a 503 at the first of three endpoints.
const GET: Asked = Asked {
    outcome: Outcome::Status(503),
    idempotent: true,
    replayable: true,
    unsent: false,
    stale_race: false,
    free_used: false,
    attempts: 1,
    untried: 2,
    fleet_in_trouble: false,
    left: Duration::from_secs(30),
    retry_after: None,
};
/// A POST that found no connection.
const POST: Asked = Asked { outcome: Outcome::ConnectFailed, idempotent: false, unsent: true, ..GET };
const ELSEWHERE: Again = Again::Now { charged: true, same: false };

fn decide(asked: Asked) -> Again {
    again(&RetryRule::default(), &asked, &mut Entropy::from_seed(1))
}

#[test]
fn a_failure_is_tried_elsewhere_at_once_and_charged() {
    for outcome in [Outcome::Closed, Outcome::Broken, Outcome::TimedOut] {
        assert_eq!(decide(Asked { outcome, ..GET }), ELSEWHERE, "{outcome:?}");
    }
    for status in [502, 503, 504] {
        assert_eq!(decide(Asked { outcome: Outcome::Status(status), ..GET }), ELSEWHERE, "{status}");
    }
    for status in [429, 500, 501, 505] {
        assert_eq!(decide(Asked { outcome: Outcome::Status(status), ..GET }), Again::No(Why::Status), "{status}");
    }
}

#[test]
fn each_reason_against_it_has_its_name() {
    for (asked, why) in [
        (Asked { outcome: Outcome::Status(500), idempotent: false, ..GET }, Why::Status),
        (Asked { idempotent: false, ..GET }, Why::NotIdempotent),
        (Asked { outcome: Outcome::Status(503), ..POST }, Why::NotIdempotent),
        (Asked { outcome: Outcome::Closed, stale_race: true, idempotent: false, ..GET }, Why::NotIdempotent),
        (Asked { replayable: false, ..GET }, Why::NotReplayable),
        (Asked { replayable: false, ..POST }, Why::NotReplayable),
        (Asked { attempts: 3, ..GET }, Why::Attempts),
        (Asked { left: Duration::ZERO, ..GET }, Why::Deadline),
        (Asked { retry_after: Some(MS(1000)), untried: 0, ..GET }, Why::RetryAfter),
        (Asked { untried: 0, ..POST }, Why::Unreachable),
    ] {
        assert_eq!(decide(asked), Again::No(why), "{asked:?}");
    }
    let labels: std::collections::HashSet<_> = Why::ALL.iter().map(|why| why.label()).collect();
    assert_eq!(labels.len(), Why::ALL.len());
}

#[test]
fn retry_after_is_the_matter_of_its_endpoint() {
    assert_eq!(decide(Asked { retry_after: Some(MS(1000)), untried: 1, ..GET }), ELSEWHERE);
}

#[test]
fn what_costs_nobody_anything_is_free_and_at_once_whatever_the_method_and_the_fleet() {
    let free = Again::Now { charged: false, same: false };
    for asked in [
        POST,
        Asked { fleet_in_trouble: true, ..POST },
        Asked { free_used: true, ..POST },
        Asked { outcome: Outcome::Closed, ..POST },
        Asked { outcome: Outcome::ConnectFailed, ..GET },
        Asked { outcome: Outcome::Closed, stale_race: true, fleet_in_trouble: true, ..GET },
    ] {
        assert_eq!(decide(asked), free, "{asked:?}");
    }
}

#[test]
fn the_keep_alive_race_is_free_once_and_then_a_failure_like_any_other() {
    let race = Asked { outcome: Outcome::Closed, stale_race: true, ..GET };
    assert_eq!(decide(Asked { untried: 0, ..race }), Again::Now { charged: false, same: true });
    assert_eq!(decide(Asked { free_used: true, ..race }), ELSEWHERE);
    // What has another cause is no race, whatever the connection.
    assert_eq!(decide(Asked { outcome: Outcome::TimedOut, ..race }), ELSEWHERE);
}

#[test]
fn the_same_endpoint_or_a_fleet_in_trouble_is_given_a_pause() {
    for (asked, most, again_there) in [
        (Asked { untried: 0, ..GET }, MS(25), true),
        (Asked { untried: 0, attempts: 2, ..GET }, MS(50), true),
        (Asked { fleet_in_trouble: true, ..GET }, MS(25), false),
        (Asked { untried: 0, left: MS(10), ..GET }, MS(5), true),
    ] {
        let waits = (0..1000).map(|seed| match again(&RetryRule::default(), &asked, &mut Entropy::from_seed(seed)) {
            Again::After { wait, charged: true, same } if same == again_there => wait,
            other => panic!("{other:?} for {asked:?}"),
        });
        let (shortest, longest) = waits.fold((most, Duration::ZERO), |(a, b), wait| (a.min(wait), b.max(wait)));
        // Of 1,000 even draws the extremes lie within a hundredth but once in 20,000 seeds.
        assert!(shortest < most / 100 && longest > most * 99 / 100 && longest <= most, "{shortest:?} to {longest:?}");
    }
}

#[test]
fn a_close_is_the_keep_alive_race_only_after_half_of_the_shortest_idle_time_seen() {
    for (reused, idled, shortest, mass_close, race) in [
        (false, MS(60_000), Some(MS(5_000)), true, false),
        (true, MS(2_500), Some(MS(5_000)), false, true),
        (true, MS(2_499), Some(MS(5_000)), false, false),
        (true, MS(6), None, false, false),
        (true, MS(6), Some(MS(5_000)), false, false),
        (true, MS(999), None, false, false),
        (true, MS(1_000), None, false, true),
        (true, MS(6), None, true, true),
    ] {
        assert_eq!(stale_race(reused, idled, shortest, mass_close), race, "{idled:?} of {shortest:?}");
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::ConnectFailed),
        Just(Outcome::Closed),
        Just(Outcome::Broken),
        Just(Outcome::TimedOut),
        (100..600u16).prop_map(Outcome::Status),
        (502..505u16).prop_map(Outcome::Status),
    ]
}

prop_compose! {
    fn asked()(
        outcome in outcomes(),
        (idempotent, replayable, unsent, stale_race) in any::<(bool, bool, bool, bool)>(),
        (free_used, fleet_in_trouble, attempts) in (any::<bool>(), any::<bool>(), 0..5u32),
        untried in 0..4usize,
        left_us in 0..1_000_000u64,
        retry_after in prop::option::of(Just(MS(1000))),
    ) -> Asked {
        let left = Duration::from_micros(left_us);
        Asked { outcome, idempotent, replayable, unsent, stale_race, free_used, attempts, untried, fleet_in_trouble, left, retry_after }
    }
}

proptest! {
    #[test]
    fn what_may_have_been_done_is_never_sent_again_and_no_wait_passes_the_deadline(asked in asked(), seed: u64) {
        let decision = again(&RetryRule::default(), &asked, &mut Entropy::from_seed(seed));
        if let Again::No(_) = decision {
            return Ok(());
        }
        prop_assert!(asked.idempotent || asked.unsent);
        prop_assert!(asked.replayable && asked.attempts < 3);
        let (wait, charged, same) = match decision {
            Again::Now { charged, same } => (Duration::ZERO, charged, same),
            Again::After { wait, charged, same } => (wait, charged, same),
            Again::No(_) => unreachable!(),
        };
        prop_assert!(wait < asked.left && wait <= BACKOFF_CAP);
        prop_assert_eq!(same, asked.untried == 0);
        prop_assert!(charged || asked.unsent || asked.outcome == Outcome::ConnectFailed || !asked.free_used);
    }

    #[test]
    fn no_request_has_more_attempts_than_the_rule(attempts in 0..6u32, tries in prop::collection::vec(asked(), 10), seed: u64) {
        let rule = RetryRule { attempts, ..RetryRule::default() };
        let mut entropy = Entropy::from_seed(seed);
        let mut made = 1;
        for asked in tries {
            match again(&rule, &Asked { attempts: made, ..asked }, &mut entropy) {
                Again::No(_) => break,
                _ => made += 1,
            }
        }
        prop_assert!(made <= attempts.max(1));
    }
}
