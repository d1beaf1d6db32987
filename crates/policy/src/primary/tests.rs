//! Tables of what is decided, and a simulation of servers that freeze, restart and are promoted.

use kernel::Entropy;
use proptest::prelude::*;

use super::*;

const RULE: PrimaryRule = PrimaryRule {
    suspect_after: Duration::from_millis(250),
    give_up_after: Duration::from_secs(1),
    settle: Duration::from_secs(1),
};
const SYSTEM: u64 = 7;

fn at(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

fn primary(timeline: u32) -> Facts {
    Facts { role: Role::Primary, timeline, lsn: Some(1), system: Some(SYSTEM), started: None }
}

fn standby() -> Facts {
    Facts { role: Role::Standby, timeline: 0, ..primary(0) }
}

/// A primary and a standby that have been heard of.
fn pair() -> Primary {
    let mut p = Primary::new(RULE, 2, at(0));
    assert_eq!(p.answered(0, primary(1), at(1)), [], "the other has not been heard of");
    assert_eq!(p.trouble(), Some(Trouble::Settling));
    assert_eq!(p.answered(1, standby(), at(2)), [Change::Found { server: 0 }]);
    assert_eq!(p.standing(), Standing { server: Some(0), epoch: 1, is_suspect: false });
    assert_eq!((p.seat(0), p.seat(1), p.trouble()), (Seat::Primary, Seat::Standby, None));
    p
}

/// Ticks each 50 ms in `(from, to]`.
fn ticks(p: &mut Primary, from: u64, to: u64) -> Vec<(u64, Change)> {
    let steps = (from + 1..=to).filter(|ms| ms % 50 == 0);
    steps.flat_map(|ms| p.tick(at(ms)).into_iter().map(move |change| (ms, change))).collect()
}

#[test]
fn after_a_start_a_server_that_is_not_heard_of_is_waited_for() {
    let mut p = Primary::new(RULE, 2, at(0));
    p.answered(0, primary(1), at(1));
    assert_eq!(ticks(&mut p, 0, 1_500), [(1_000, Change::Found { server: 0 })]);

    let mut p = Primary::new(RULE, 2, at(0));
    p.answered(0, primary(1), at(1));
    assert_eq!(p.answered(1, primary(2), at(900)).first(), Some(&Change::Found { server: 1 }), "the later timeline");
    assert_eq!(p.seat(0), Seat::Fenced);

    let mut p = Primary::new(RULE, 2, at(0));
    p.answered(0, primary(1), at(1));
    assert_eq!(p.failed(1, Failure::Gone, at(3)), [Change::Found { server: 0 }], "it is not there");
}

#[test]
fn a_promotion_beside_a_primary_that_goes_on_is_followed_and_the_old_one_fenced() {
    let mut p = pair();
    let changes = p.answered(1, primary(2), at(500));
    assert_eq!(changes, [Change::Promoted { from: 0, to: 1 }, Change::Fenced { server: 0, timeline: 1, latest: 2 }]);
    assert_eq!(p.standing(), Standing { server: Some(1), epoch: 2, is_suspect: false });
    assert_eq!(p.answered(0, primary(1), at(510)), [], "it is told once");
}

#[test]
fn a_frozen_primary_is_suspect_given_up_replaced_and_fenced_when_it_goes_on() {
    let mut p = pair();
    p.tick(at(0));
    p.asked(0, at(1_000));
    let changes: Vec<_> = (0..1_000).step_by(50).flat_map(|ms| p.tick(at(ms))).collect();
    assert_eq!(changes, []);
    let changes = ticks(&mut p, 999, 3_000);
    assert_eq!(
        changes,
        [(1_250, Change::Suspected { server: 0 }), (2_000, Change::Lost { server: 0, why: Why::Silent })]
    );
    assert_eq!((p.seat(0), p.trouble()), (Seat::Unreachable, Some(Trouble::Standbys)));
    let changes = p.answered(1, primary(2), at(3_010));
    assert_eq!(changes, [Change::Promoted { from: 0, to: 1 }]);
    let epoch = p.standing().epoch;
    assert_eq!(p.answered(0, primary(1), at(4_000)), [Change::Fenced { server: 0, timeline: 1, latest: 2 }]);
    assert_eq!(p.seat(0), Seat::Fenced);
    // Also when the new one goes.
    assert_eq!(p.failed(1, Failure::Gone, at(4_100)), [Change::Lost { server: 1, why: Why::Gone }]);
    assert_eq!(p.answered(0, primary(1), at(4_200)), []);
    assert_eq!(ticks(&mut p, 4_200, 9_000), []);
    assert_eq!((p.standing().server, p.trouble()), (None, Some(Trouble::Fenced(0))));
    assert!(p.standing().epoch > epoch);
    // It becomes a standby of the new one, which comes back.
    assert_eq!(p.answered(0, standby(), at(9_100)), []);
    assert_eq!(p.answered(1, primary(2), at(9_200)), [Change::Found { server: 1 }]);
    // And is promoted one day.
    assert_eq!(p.answered(0, primary(3), at(9_900))[0], Change::Promoted { from: 1, to: 0 });
}

#[test]
fn a_promotion_while_the_primary_is_only_suspect_is_followed_at_once() {
    let mut p = pair();
    p.asked(0, at(100));
    assert_eq!(ticks(&mut p, 0, 400), [(350, Change::Suspected { server: 0 })]);
    assert!(p.is_urgent() && p.standing().is_suspect);
    assert_eq!(p.answered(1, primary(2), at(401))[0], Change::Promoted { from: 0, to: 1 });
    assert!(!p.standing().is_suspect);
}

#[test]
fn both_gone_and_the_first_that_comes_back() {
    let mut p = pair();
    assert_eq!(p.failed(0, Failure::Gone, at(100)), [Change::Lost { server: 0, why: Why::Gone }]);
    p.failed(1, Failure::Gone, at(101));
    assert_eq!(p.trouble(), Some(Trouble::Unreachable));
    assert_eq!(p.answered(1, standby(), at(200)), []);
    assert_eq!(p.trouble(), Some(Trouble::Standbys));
    assert_eq!(p.answered(0, primary(1), at(300)), [Change::Found { server: 0 }], "nobody is waited for now");
    assert_eq!(p.standing().epoch, 3);
}

#[test]
fn a_restart_of_the_primary_is_noticed_also_between_two_answers() {
    let mut p = pair();
    assert_eq!(p.failed(0, Failure::Broken, at(100)), [Change::Suspected { server: 0 }]);
    assert_eq!(p.failed(0, Failure::Gone, at(101)), [Change::Lost { server: 0, why: Why::Gone }]);
    let again = Facts { started: Some(2), ..primary(1) };
    assert_eq!(p.answered(0, again, at(400)), [Change::Found { server: 0 }]);
    let epoch = p.standing().epoch;
    assert_eq!(p.failed(0, Failure::Broken, at(500)), [Change::Suspected { server: 0 }]);
    let third = Facts { started: Some(3), ..again };
    assert_eq!(p.answered(0, third, at(501)), [Change::Restarted { server: 0 }, Change::Cleared { server: 0 }]);
    assert_eq!(p.standing().epoch, epoch + 1);
    assert_eq!(p.failed(0, Failure::Broken, at(600)), [Change::Suspected { server: 0 }]);
    assert_eq!(p.answered(0, third, at(601)), [Change::Cleared { server: 0 }], "only that session had ended");
    assert_eq!(p.standing().epoch, epoch + 1);
}

#[test]
fn who_is_full_or_locked_out_of_stays_primary_and_who_was_never_asked_cannot_be() {
    let mut p = pair();
    for ms in 0..40 {
        p.asked(0, at(ms * 100));
        assert_eq!(p.failed(0, Failure::Denied, at(ms * 100 + 10)), []);
        assert_eq!(p.tick(at(ms * 100 + 50)), []);
    }
    assert_eq!(p.standing().server, Some(0));
    let mut p = Primary::new(RULE, 1, at(0));
    p.failed(0, Failure::Denied, at(1));
    assert_eq!((p.standing().server, p.seat(0)), (None, Seat::Unreachable));
}

#[test]
fn single_answers_that_are_late_change_nothing() {
    let mut p = pair();
    let mut changes = Vec::new();
    for round in 0..50 {
        let start = 1_000 + round * 500;
        changes.extend(ticks(&mut p, start - 500, start).into_iter().map(|(_, change)| change));
        p.asked(0, at(start));
        // Every second answer takes 400 ms, and other signs of life fail in between.
        let end = start + if round % 2 == 0 { 400 } else { 5 };
        changes.extend(ticks(&mut p, start, end).into_iter().map(|(_, change)| change));
        changes.extend(p.answered(0, primary(1), at(end)));
    }
    assert_eq!(p.standing(), Standing { server: Some(0), epoch: 1, is_suspect: false });
    assert_eq!(changes.len(), 50, "25 times suspect and cleared: {changes:?}");
    assert!(changes.iter().all(|c| matches!(c, Change::Suspected { .. } | Change::Cleared { .. })));
}

#[test]
fn a_role_that_flaps_is_followed_and_the_epoch_tells_each_change() {
    let mut p = pair();
    for round in 0..10 {
        let epoch = p.standing().epoch;
        assert_eq!(p.answered(0, standby(), at(round * 10 + 10)), [Change::Lost { server: 0, why: Why::Demoted }]);
        assert_eq!(p.answered(0, primary(1), at(round * 10 + 15)), [Change::Found { server: 0 }]);
        assert_eq!(p.standing().epoch, epoch + 2);
    }
}

#[test]
fn equal_timelines_keep_the_current_one_until_one_goes() {
    let mut p = pair();
    let conflict = Change::Conflict { server: 1, with: 0, is_stranger: false };
    assert_eq!(p.answered(1, primary(1), at(100)), [conflict]);
    assert_eq!(p.answered(1, primary(1), at(200)), [], "told once");
    assert_eq!(p.standing().server, Some(0));
    let changes = p.failed(0, Failure::Gone, at(300));
    assert_eq!(changes, [Change::Lost { server: 0, why: Why::Gone }, Change::Found { server: 1 }]);
    assert_eq!(p.answered(0, primary(1), at(400)), [Change::Conflict { server: 0, with: 1, is_stranger: false }]);

    // At a start there is no current one: nobody is chosen, until an operator says who.
    let mut p = Primary::new(RULE, 2, at(0));
    p.answered(0, primary(4), at(1));
    assert_eq!(p.answered(1, primary(4), at(2)), [conflict_of(1, 0)]);
    assert_eq!((p.standing().server, p.trouble()), (None, Some(Trouble::Conflict(0, 1))));
    let changes = p.failover(Some(1), at(5));
    assert_eq!(changes[0], Change::Found { server: 1 });
    assert_eq!(p.seat(0), Seat::Fenced, "it was left by the order");
}

#[test]
fn two_names_of_one_server_are_no_conflict() {
    let facts = Facts { started: Some(5), ..primary(1) };
    let mut p = Primary::new(RULE, 2, at(0));
    p.answered(1, facts, at(1));
    assert_eq!(p.answered(0, facts, at(2)), [Change::Found { server: 0 }]);
    assert_eq!((p.seat(0), p.seat(1)), (Seat::Primary, Seat::Primary));
    let changes = p.failed(0, Failure::Gone, at(3));
    assert_eq!(changes, [Change::Lost { server: 0, why: Why::Gone }, Change::Found { server: 1 }]);
}

fn conflict_of(server: usize, with: usize) -> Change {
    Change::Conflict { server, with, is_stranger: false }
}

#[test]
fn another_cluster_is_never_followed_unless_it_stands_in_the_place_of_the_last() {
    let mut p = pair();
    let stranger = Facts { system: Some(99), ..primary(5) };
    assert_eq!(p.answered(1, stranger, at(100)), [Change::Conflict { server: 1, with: 0, is_stranger: true }]);
    p.failed(0, Failure::Gone, at(200));
    assert_eq!((p.standing().server, p.seat(1)), (None, Seat::Fenced));
    let made_anew = Facts { system: Some(100), started: Some(9), ..primary(1) };
    assert_eq!(p.answered(0, made_anew, at(300))[0], Change::Found { server: 0 });
    assert!(p.failover(Some(1), at(400)).contains(&Change::Promoted { from: 0, to: 1 }));
}

#[test]
fn an_operator_can_move_the_primary_and_the_old_one_is_left() {
    let mut p = pair();
    assert_eq!(p.failover(Some(0), at(50)), [], "it is the primary");
    let changes = p.failover(Some(1), at(100));
    assert_eq!(changes[0], Change::Lost { server: 0, why: Why::Ordered });
    assert_eq!(p.trouble(), Some(Trouble::Awaited(1)));
    assert_eq!(p.answered(0, primary(1), at(200)), []);
    assert_eq!(p.answered(1, primary(2), at(300))[0], Change::Promoted { from: 0, to: 1 });
    // Back to the old one, against the timelines: by order only.
    let changes = p.failover(Some(0), at(400));
    assert_eq!(changes[..2], [Change::Lost { server: 1, why: Why::Ordered }, Change::Found { server: 0 }]);
    assert_eq!(p.seat(1), Seat::Fenced);
    p.answered(1, primary(2), at(500));
    assert_eq!(p.standing().server, Some(0));
    assert_eq!(p.answered(1, primary(3), at(600))[0], Change::Promoted { from: 0, to: 1 }, "promoted anew");
}

#[test]
fn without_a_target_anybody_but_the_present_one_is_followed() {
    let mut p = pair();
    p.failover(None, at(100));
    assert_eq!((p.standing().server, p.trouble()), (None, Some(Trouble::Fenced(0))));
    assert_eq!(p.undrain(0, at(200)), [Change::Found { server: 0 }], "the order is taken back");
}

#[test]
fn a_drained_server_is_not_the_primary() {
    let mut p = pair();
    assert_eq!(p.drain(0, at(100)), [Change::Lost { server: 0, why: Why::Ordered }]);
    assert_eq!((p.seat(0), p.trouble()), (Seat::Drained, Some(Trouble::Drained(0))));
    assert_eq!(p.answered(0, primary(1), at(200)), []);
    assert_eq!(p.undrain(0, at(300)), [Change::Found { server: 0 }]);
}

#[test]
fn time_in_which_the_process_stood_still_is_nobodys_silence() {
    let mut p = pair();
    p.asked(0, at(100));
    ticks(&mut p, 0, 150);
    assert_eq!(p.tick(at(60_000)), []);
    assert_eq!(ticks(&mut p, 60_000, 60_300), [(60_200, Change::Suspected { server: 0 })]);
}

#[test]
fn traffic_is_a_sign_of_life() {
    let mut p = pair();
    p.asked(0, at(100));
    for ms in (150..5_000).step_by(50) {
        p.heard(at(ms - 10));
        assert_eq!(p.tick(at(ms)), []);
    }
    assert_eq!(ticks(&mut p, 4_999, 5_300), [(5_200, Change::Suspected { server: 0 })]);
}

#[test]
fn a_reload_keeps_whom_it_knows() {
    let mut p = pair();
    assert_eq!(p.reload(RULE, &[None, Some(1), Some(0)], at(10)), []);
    assert_eq!(p.standing(), Standing { server: Some(2), epoch: 1, is_suspect: false });
    assert_eq!((p.seat(0), p.seat(1)), (Seat::Unknown, Seat::Standby));
    let changes = p.reload(RULE, &[Some(1)], at(20));
    assert_eq!(changes, [Change::Lost { server: 2, why: Why::Removed }]);
    assert_eq!(p.answered(0, primary(2), at(30)), [Change::Found { server: 0 }]);
}

/// A server of the simulation.
#[derive(Clone, Copy, Debug)]
struct Server {
    role: Role,
    timeline: u32,
    is_up: bool,
    is_frozen: bool,
    /// Asked, and the answer is due at this time unless it is frozen.
    due: Option<u64>,
}

proptest! {
    /// Whatever freezes, stops, starts and is promoted: no server is followed on an earlier timeline than one that was
    /// followed before, each change has a new epoch, and once things are quiet the latest primary that is up is followed.
    #[test]
    fn the_latest_timeline_is_followed_and_no_earlier_one_ever_again(seed in any::<u64>()) {
        let mut entropy = Entropy::from_seed(seed);
        let mut servers = [Server { role: Role::Standby, timeline: 1, is_up: true, is_frozen: false, due: None }; 3];
        servers[0].role = Role::Primary;
        let (mut p, mut newest) = (Primary::new(RULE, 3, at(0)), 1);
        let (mut followed, mut before) = (0, p.standing());
        for ms in (0..30_000_u64).step_by(10) {
            if ms < 25_000 && entropy.below(40) == 0 {
                let server = &mut servers[entropy.below(3) as usize];
                match entropy.below(5) {
                    0 => server.is_frozen = true,
                    1 | 2 => server.is_frozen = false,
                    3 => server.is_up = !server.is_up,
                    _ if server.is_up && !server.is_frozen && server.role == Role::Standby => {
                        newest += 1;
                        (server.role, server.timeline) = (Role::Primary, newest);
                    }
                    _ => {}
                }
            }
            for (i, server) in servers.iter_mut().enumerate() {
                match server.due {
                    _ if !server.is_up => {
                        server.due = None;
                        p.failed(i, Failure::Gone, at(ms));
                    }
                    Some(due) if due <= ms && !server.is_frozen => {
                        server.due = None;
                        p.answered(i, Facts { role: server.role, timeline: server.timeline, ..primary(1) }, at(ms));
                    }
                    None if entropy.below(8) == 0 => {
                        p.asked(i, at(ms));
                        server.due = Some(ms + entropy.below(60));
                    }
                    _ => {}
                }
            }
            if ms % 50 == 0 {
                p.tick(at(ms));
            }
            let standing = p.standing();
            prop_assert!(standing.epoch >= before.epoch, "seed {seed}");
            if standing.server != before.server {
                prop_assert!(standing.epoch > before.epoch, "seed {seed}");
            }
            if let Some(server) = standing.server {
                let timeline = p.facts(server).unwrap().timeline;
                prop_assert!(timeline >= followed, "seed {seed}: {timeline} after {followed}");
                followed = timeline;
            }
            before = standing;
        }
        let up = servers.iter().enumerate().filter(|(_, s)| s.is_up && !s.is_frozen && s.role == Role::Primary);
        let best = up.max_by_key(|(_, s)| s.timeline).filter(|(_, s)| s.timeline >= followed);
        prop_assert_eq!(p.standing().server, best.map(|(i, _)| i), "seed {}: {:?} {:?}", seed, servers, p);
    }
}
