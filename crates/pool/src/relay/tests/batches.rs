//! Batches of the extended protocol, simple queries, and what servers say on their own.

use super::*;

#[test]
fn after_an_error_everything_is_passed_over_until_sync() {
    script(&[
        Up("P _ bad / B _ _ / E / H", "P _ bad / B _ _ / E _ / H", ""),
        Down("E 42601 no", "E 42601 no", ""),
        Up("B _ _ / E / Q select 1 / S", "S", ""),
        Down("Z I", "Z I", "over"),
    ]);
    // Sent before the error is known, the server passes it over.
    script(&[
        Up(
            "P _ bad / B _ _ / E / Q one / S / P _ good / B _ _ / E / S",
            "P _ bad / B _ _ / E _ / Q one / S / P _ good / B _ _ / E _ / S",
            "",
        ),
        Down("E 42601 no / Z I", "E 42601 no / Z I", ""),
        Down("1 / 2 / C GOOD / Z I", "1 / 2 / C GOOD / Z I", "over"),
    ]);
}

#[test]
fn a_batch_without_sync_is_not_over() {
    script(&[
        Up("P _ one / B _ _ / E / H", "P _ one / B _ _ / E _ / H", ""),
        Down("1 / 2 / C INSERT 0 1", "1 / 2 / C INSERT 0 1", ""),
    ]);
    let mut bench = Bench::new();
    bench.client_sends(&front("P _ one / B _ _ / E / H"));
    bench.server_sends(&back("1 / 2 / C INSERT 0 1"));
    assert!(bench.backend.replies.is_empty() && !bench.backend.is_at_rest(), "the insert is not committed");
    bench.client_sends(&front("S"));
    bench.server_sends(&back("Z I"));
    assert!(bench.backend.is_at_rest());
    bench.client_sends(&front("P _ bad / H"));
    bench.server_sends(&back("E 42601 no"));
    assert!(!bench.backend.is_at_rest(), "it passes everything over until Sync");
}

#[test]
fn several_batches_are_under_way_at_once() {
    script(&[
        Up("P a one / S", "P _ek0 one / S", ""),
        Down("1 / Z I", "1 / Z I", "over"),
        Up(
            "B _ a / E / S / B _ x / E / S / B _ a / E / S",
            "B _ _ek0 / E _ / S / B _ x / E _ / S / B _ _ek0 / E _ / S",
            "",
        ),
        Down("2 / D v / C SELECT 1 / Z I", "2 / D v / C SELECT 1 / Z I", ""),
        Down("E 26000 no / Z I / 2 / C SELECT 0 / Z I", "E 26000 no / Z I / 2 / C SELECT 0 / Z I", "over"),
    ]);
}

#[test]
fn suspended_empty_and_described() {
    script(&[
        Up("P _ q / D S _ / B _ _ / D P / E / H", "P _ q / D S _ / B _ _ / D P _ / E _ / H", ""),
        Down("1 / t / n / 2 / T / D a / s", "1 / t / n / 2 / T / D a / s", ""),
        Up("E / C P / S", "E _ / C P _ / S", ""),
        Down("D b / C SELECT 1 / 3 / Z I", "D b / C SELECT 1 / 3 / Z I", "over"),
        Up("P _ / B _ _ / E / S", "P _ / B _ _ / E _ / S", ""),
        Down("1 / 2 / I / Z I", "1 / 2 / I / Z I", "over"),
        Up("Q", "Q", ""),
        Down("I / Z I", "I / Z I", "over"),
    ]);
}

#[test]
fn simple_queries_in_a_row() {
    script(&[
        Up("Q begin / Q fails / Q rollback", "Q begin / Q fails / Q rollback", ""),
        Down(
            "C BEGIN / Z T / E 42601 no / Z E / C ROLLBACK / Z I",
            "C BEGIN / Z T / E 42601 no / Z E / C ROLLBACK / Z I",
            "over",
        ),
        Up("Q select 1; select 2", "Q select 1; select 2", ""),
        Down(
            "T / D 1 / C SELECT 1 / T / D 2 / C SELECT 1 / Z I",
            "T / D 1 / C SELECT 1 / T / D 2 / C SELECT 1 / Z I",
            "over",
        ),
    ]);
}

#[test]
fn a_function_call_and_its_large_result() {
    let large: &'static str = Box::leak(format!("V {}", "x".repeat(40_000)).into_boxed_str());
    let whole: &'static str = Box::leak(format!("{large} / Z I").into_boxed_str());
    run(&[Up("F call", "F call", ""), Down(whole, whole, "over")], &|_| (), |_, bytes| {
        if bytes.len() > 20_000 { vec![20_000, bytes.len()] } else { vec![bytes.len()] }
    });
    script(&[Up("F call", "F call", ""), Down("E 42883 no / Z I", "E 42883 no / Z I", "over")]);
}

#[test]
fn many_parameters_are_described() {
    let mut described = Vec::new();
    told::put_parameter_description(&mut described, &vec![23; 8_000]);
    let mut bench = Bench::new();
    bench.client_sends(&front("P a one / D S a / S"));
    bench.server_sends(&back("1"));
    bench.to_client.clear();
    described.extend(back("T / Z I"));
    for chunk in described.chunks(17_000) {
        bench.server_sends(chunk);
    }
    assert_eq!((bench.to_client, bench.marks), (described, vec!["over"]));
}

#[test]
fn notices_parameters_and_notifications_come_at_any_time() {
    script(&[
        Up("Q select 1", "Q select 1", ""),
        Down(
            "S TimeZone UTC / N beware / T / D 1 / C SELECT 1 / Z I",
            "S TimeZone UTC / N beware / T / D 1 / C SELECT 1 / Z I",
            "over",
        ),
        // What it was told already it is not told again; what others listen to it is not told at all.
        Up("Q select 2", "Q select 2", ""),
        Down("S TimeZone UTC / A secret / C SELECT 1 / Z I", "C SELECT 1 / Z I", "over"),
        Up("Q LISTEN x", "Q LISTEN x", ""),
        Down("C LISTEN / Z I", "C LISTEN / Z I", "over"),
    ]);
    let mut bench = Bench::new();
    bench.session.pinned = Some("LISTEN".into());
    bench.server_sends(&back("A mine"));
    assert_eq!(shown(&bench.to_client, false), "A mine");
}

#[test]
fn what_nobody_asked_for_reaches_nobody() {
    for stray in ["D secret", "C SELECT 1", "1", "T", "Z I"] {
        let mut bench = Bench::new();
        let (mut context, cells, interner, teller) = bench.shared.context();
        let mut below = Below { context: &mut context, cells, interner, is_rewinding: &mut false, teller: &teller };
        let mut out = Vec::new();
        let done = down(Some(&mut bench.session), &mut bench.backend, &back(stray), &mut out, &mut below);
        assert!(done.is_err() && out.is_empty(), "{stray}");
    }
}

#[test]
fn settings_of_a_portal_that_is_run_later_are_seen() {
    let mut bench = Bench::new();
    bench.client_sends(&front("P s set work_mem = 1 / P q select 1 / B p s / B _ q / E p / S"));
    assert!(bench.backend.turn.touches.has(crate::sql::Touches::SET));
}

#[test]
fn what_a_transaction_leaves_open_is_known_before_it_is_answered() {
    let open = |text: &str| {
        let mut bench = Bench::new();
        bench.client_sends(&front(text));
        bench.backend.turn.leaves_open
    };
    assert_eq!(open("Q begin / Q insert"), Some(true));
    assert_eq!(open("Q begin / Q insert / Q commit"), Some(false));
    assert_eq!(open("Q begin; insert; commit"), Some(false));
    assert_eq!(open("Q begin / Q commit and chain"), Some(true));
    assert_eq!(open("Q insert"), None);
}

#[test]
fn what_may_happen_by_halves_is_not_repeated() {
    let may = |text: &str| {
        let mut bench = Bench::new();
        bench.client_sends(&front(text));
        bench.backend.turn.can_replay
    };
    for text in ["Q insert into t values (1)", "Q begin / Q update t set a = 1", "P a select 1 / B _ a / E / S"] {
        assert!(may(text), "{text}");
    }
    for text in [
        "Q commit",
        "Q call x()",
        "Q do $$ $$",
        "Q copy t from stdin",
        "Q create index concurrently if not exists i on t (a)",
        "F x",
    ] {
        assert!(!may(text), "{text}");
    }
}
