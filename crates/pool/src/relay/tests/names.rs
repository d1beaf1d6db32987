//! Prepared statements: shared, renamed, closed, lost by an error, and not confused with anybody else's.

use super::*;

#[test]
fn a_statement_is_prepared_once_and_answered_here_the_second_time() {
    script(&[
        Up("P a select 1 / D S a / S", "P _ek0 select 1 / D S _ek0 / S", ""),
        Down("1 / t / T / Z I", "1 / t / T / Z I", "over"),
        Up("P b select 1 / B _ b / D P / E / S", "B _ _ek0 / D P _ / E _ / S", ""),
        Down("2 / T / D x / C SELECT 1 / Z I", "1 / 2 / T / D x / C SELECT 1 / Z I", "over"),
        // Elsewhere it is not there yet.
        Elsewhere,
        Up("B _ a / E / S", "P _ek0 select 1 / B _ _ek0 / E _ / S", ""),
        Down("1 / 2 / D x / C SELECT 1 / Z I", "2 / D x / C SELECT 1 / Z I", "over"),
    ]);
}

#[test]
fn what_is_answered_here_is_told_in_its_turn() {
    script(&[
        Up("P a one / S", "P _ek0 one / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Up("B _ a / P b one / E / C S b / H", "B _ _ek0 / E _ / H", ""),
        Down("2", "2 / 1", ""),
        Down("D x / C SELECT 1", "D x / C SELECT 1 / 3", ""),
        Up("S", "S", ""),
        Down("Z I", "Z I", "over"),
    ]);
}

#[test]
fn a_statement_that_fails_is_not_prepared_and_what_was_passed_over_is_as_it_was() {
    script(&[
        Up("P a good / P _ old / S", "P _ek0 good / P _ old / S", ""),
        Down("1 / 1 / Z I", "1 / 1 / Z I", "over"),
        // What fails is dropped; what stands behind it has not happened: `a` is not closed, the unnamed one is the old one.
        Up("P x bad / C S a / P y good / P _ new / S", "P _ek2 bad / P _ new / S", ""),
        Down("E 42601 no / Z I", "E 42601 no / Z I", "over"),
        Up("B _ _ / E / B _ a / E / B _ x / S", "P _ old / B _ _ / E _ / B _ _ek0 / E _ / B _ x / S", ""),
        Down("1 / 2 / C A / 2 / C B / E 26000 no / Z I", "2 / C A / 2 / C B / E 26000 no / Z I", "over"),
        Up("B _ y / S", "B _ y / S", ""),
        Down("E 26000 no / Z I", "E 26000 no / Z I", "over"),
    ]);
}

#[test]
fn an_unnamed_statement_that_failed_is_none() {
    script(&[
        Up("P _ old / S", "P _ old / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Up("P _ bad / S", "P _ bad / S", ""),
        Down("E 42601 no / Z I", "E 42601 no / Z I", "over"),
        Up("B _ _ / S", "B _ _ / S", ""),
        Down("E 26000 no / Z I", "E 26000 no / Z I", "over"),
    ]);
}

#[test]
fn an_unnamed_statement_follows_its_client_and_nobody_else() {
    script(&[
        Up("P _ mine / S", "P _ mine / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Elsewhere,
        Up("B _ _ / E / S", "P _ mine / B _ _ / E _ / S", ""),
        Down("1 / 2 / C A / Z I", "2 / C A / Z I", "over"),
        Up("Q select 1", "Q select 1", ""),
        Down("T / D 1 / C SELECT 1 / Z I", "T / D 1 / C SELECT 1 / Z I", "over"),
        Up("B _ _ / S", "B _ _ / S", ""),
        Down("E 26000 no / Z I", "E 26000 no / Z I", "over"),
    ]);
    // A query that is passed over drops nothing, so that what is there is not known: the next client must not have it.
    script(&[
        Up("P _ mine / S", "P _ mine / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Up("B _ gone / Q select 1 / S", "B _ gone / Q select 1 / S", ""),
        Down("E 26000 no / Z I", "E 26000 no / Z I", "over"),
        Up("B _ _ / S", "P _ mine / B _ _ / S", ""),
        Down("1 / 2 / Z I", "2 / Z I", "over"),
    ]);
}

#[test]
fn a_name_that_is_taken_is_refused_in_the_servers_words() {
    script(&[
        Up("P a one / S", "P _ek0 one / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Up("P a two / S", "P a / P a / S", ""),
        Down("1 / E 42P05 taken / Z I", "E 42P05 taken / Z I", "over"),
        Up("B _ a / S", "B _ _ek0 / S", ""),
        Down("2 / Z I", "2 / Z I", "over"),
    ]);
}

#[test]
fn the_poolers_names_are_nobodys() {
    script(&[
        Up("P a one / S", "P _ek0 one / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Up("B _ _ek0 / D S _ek0 / C S _ek0 / S", "B _ _ek0? / D S _ek0? / S", ""),
        Down("E 26000 no / Z I", "E 26000 no / Z I", "over"),
    ]);
}

#[test]
fn room_is_made_and_what_was_not_closed_is_still_known() {
    let few = |shared: &mut Shared| shared.max_prepared = 1;
    script_with(
        &[
            Up(
                "P a one / P b two / B _ a / S",
                "P _ek0 one / C S _ek0 / P _ek1 two / C S _ek1 / P _ek0 one / B _ _ek0 / S",
                "",
            ),
            Down("1 / 3 / 1 / 3 / 1 / 2 / Z I", "1 / 1 / 2 / Z I", "over"),
            // The Close is passed over, as all is behind an error.
            Up("B _ gone / B _ b / S / Q select 1", "B _ gone / C S _ek0 / P _ek1 two / B _ _ek1 / S / Q select 1", ""),
            Down("E 26000 no / Z I", "E 26000 no / Z I", ""),
            Down("C SELECT 1 / Z I", "C SELECT 1 / Z I", "over"),
            Up("B _ a / S", "B _ _ek0 / S", ""),
            Down("2 / Z I", "2 / Z I", "over"),
        ],
        few,
    );
}

#[test]
fn deallocate_takes_what_the_client_means() {
    script(&[
        Up("P a one / S", "P _ek0 one / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Up("Q deallocate A", "Q DEALLOCATE _ek0", ""),
        Down("C DEALLOCATE / Z I", "C DEALLOCATE / Z I", "over"),
        Up("P a two / S", "P _ek1 two / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        // Where it is not prepared it is, and the client hears of its DEALLOCATE only.
        Elsewhere,
        Up("Q deallocate a", "P _ek1 two / S / Q DEALLOCATE _ek1", ""),
        Down("1 / Z I / C DEALLOCATE / Z I", "C DEALLOCATE / Z I", "over"),
        Up("B _ a / S", "B _ a / S", ""),
        Down("E 26000 no / Z I", "E 26000 no / Z I", "over"),
    ]);
}

#[test]
fn deallocate_that_fails_takes_nothing() {
    script(&[
        Up("P a one / S", "P _ek0 one / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Elsewhere,
        Up("Q begin", "Q begin", ""),
        Down("C BEGIN / Z T", "C BEGIN / Z T", ""),
        Up("Q fails", "Q fails", ""),
        Down("E 22012 no / Z E", "E 22012 no / Z E", ""),
        Up("Q deallocate a", "P _ek0 one / S / Q DEALLOCATE _ek0", ""),
        Down("E 25P02 aborted / Z E / E 25P02 aborted / Z E", "E 25P02 aborted / Z E", ""),
        Up("Q rollback", "Q rollback", ""),
        Down("C ROLLBACK / Z I", "C ROLLBACK / Z I", "over"),
        Up("B _ a / E / S", "P _ek0 one / B _ _ek0 / E _ / S", ""),
        Down("1 / 2 / C SELECT 1 / Z I", "2 / C SELECT 1 / Z I", "over"),
    ]);
}

#[test]
fn what_takes_all_statements_away_is_waited_for() {
    // The Parse behind it waits; sent at once, it would be answered here for a statement that is about to go.
    script(&[
        Up("P a one / S", "P _ek0 one / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Up("Q DISCARD ALL / P b one / B _ b / E / S", "Q DISCARD ALL", ""),
    ]);
    let mut bench = Bench::new();
    bench.client_sends(&front("P a one / S"));
    bench.server_sends(&back("1 / Z I"));
    bench.client_sends(&front("Q DISCARD ALL / P b one / B _ b / E / S"));
    bench.to_server.clear();
    bench.server_sends(&back("C DISCARD ALL / Z I"));
    assert_eq!(shown(&bench.to_server, true), "P _ek1 one / B _ _ek1 / E _ / S");
    bench.to_client.clear();
    bench.server_sends(&back("1 / 2 / C SELECT 1 / Z I"));
    assert_eq!(shown(&bench.to_client, false), "1 / 2 / C SELECT 1 / Z I");
    assert!(!bench.session.statements.contains_key(&b"a"[..]));
}

#[test]
fn a_statement_that_was_deallocated_unseen_is_prepared_again() {
    script(&[
        Up("P a one / S", "P _ek0 one / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Up("Q begin", "Q begin", ""),
        Down("C BEGIN / Z T", "C BEGIN / Z T", ""),
        Up("B _ a / S", "B _ _ek0 / S", ""),
        Down("E 26000 Anweisung „_ek0“ existiert nicht / Z E", "E 26000 Anweisung „_ek0“ existiert nicht / Z E", ""),
        Up("Q rollback", "Q rollback", ""),
        Down("C ROLLBACK / Z I", "C ROLLBACK / Z I", "over"),
        Up("B _ a / S", "P _ek0 one / B _ _ek0 / S", ""),
        Down("1 / 2 / Z I", "2 / Z I", "over"),
    ]);
}

#[test]
fn a_stale_statement_is_prepared_again_only_for_a_client_that_asks_what_it_returns() {
    let prepared = [Up("P a select 1 / S", "P _ek0 select 1 / S", ""), Down("1 / Z I", "1 / Z I", "over")];
    let with = |more: &[Step]| [&prepared[..], more].concat();
    script(&with(&[Up("B _ a / D P / E / S", "B _ _ek0 / D P _ / E _ / S", ""), Down("STALE / Z I", "", "again")]));
    const TOLD: &str = "E 0A000 cached plan must not change result type / Z I";
    script(&with(&[Up("B _ a / E / S", "B _ _ek0 / E _ / S", ""), Down("STALE / Z I", TOLD, "over")]));
    // Behind the Sync there is more, which the server has run by then.
    script(&with(&[
        Up("B _ a / D P / E / S / B _ a / E", "B _ _ek0 / D P _ / E _ / S / B _ _ek0 / E _", ""),
        Down("STALE / Z I", TOLD, ""),
    ]));
    // The client has heard something.
    script(&with(&[
        Up("B _ a / D P / E / S", "B _ _ek0 / D P _ / E _ / S", ""),
        Down("N hear", "N hear", ""),
        Down("STALE / Z I", TOLD, "over"),
    ]));
}
