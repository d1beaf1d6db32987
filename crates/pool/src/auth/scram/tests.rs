//! Both ends: the vectors of RFC 7677, each against the other, and everything that must not be believed.

use super::*;

const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn pencil() -> ScramVerifier {
    ScramVerifier::of_password("pencil", &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096)
}

fn quick(password: &str) -> ScramVerifier {
    ScramVerifier::of_password(password, b"0123456789abcdef", 3)
}

fn password(text: &str) -> ProverSecret {
    ProverSecret::Password(text.to_owned())
}

fn rfc_prover() -> Prover {
    let (prover, first) = Prover::begin_with(password("pencil"), Binding::Unable, "user", CLIENT_NONCE.to_owned());
    assert_eq!(first, FIRST);
    prover
}

fn rfc_checker() -> Checker {
    let mut checker = Checker::new(pencil(), true, None);
    assert_eq!(checker.first_with(SCRAM, FIRST.as_bytes(), SERVER_NONCE.to_owned()).as_deref(), Ok(SERVER_FIRST));
    checker
}

/// A whole exchange: the server's verdict, and the client's.
fn exchange(checker: &mut Checker, secret: ProverSecret, binding: Binding) -> Result<Proven, ScramError> {
    let (mut prover, first) = Prover::begin(secret, binding)?;
    let server_first = checker.first(prover.mechanism(), first.as_bytes())?;
    let last = prover.answer(server_first.as_bytes())?;
    let (server_final, proven) = checker.last(last.as_bytes())?;
    prover.check(server_final.as_bytes())?;
    Ok(proven)
}

#[test]
fn the_clients_end_says_what_rfc_7677_says() {
    let mut prover = rfc_prover();
    assert_eq!(prover.answer(SERVER_FIRST.as_bytes()).as_deref(), Ok(FINAL));
    assert_eq!(prover.check(SERVER_FINAL.as_bytes()), Ok(()));
}

#[test]
fn the_servers_end_says_what_rfc_7677_says() {
    let (last, proven) = rfc_checker().last(FINAL.as_bytes()).unwrap();
    assert_eq!(last, SERVER_FINAL);
    let derived = keys::derive("pencil", &pencil().salt, 4096);
    assert_eq!(proven, Proven { client_key: derived.client, server_key: derived.server });
}

#[test]
fn a_verifier_is_written_as_it_is_read() {
    // What PostgreSQL makes of `pencil` with the salt of RFC 7677.
    let text = pencil().to_string();
    assert_eq!(ScramVerifier::parse(&text), Some(pencil()));
    assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"), "{text}");
    for broken in [
        text.replace("4096", "0"),
        text.replace("4096", "+4096"),
        text.replace("4096", "2147483648"),
        text.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
        text.replace("==$", "$"),
        text[..text.len() - 1].to_owned(),
        format!("{text}:x"),
    ] {
        assert_eq!(ScramVerifier::parse(&broken), None, "{broken}");
    }
    assert!(!format!("{:?}", pencil()).contains("W22Z"));
}

#[test]
fn a_password_and_the_keys_that_it_revealed_both_do() {
    let proven = exchange(&mut Checker::new(quick("s"), true, None), password("s"), Binding::Unable).unwrap();
    let keys = ProverSecret::Keys { client_key: proven.client_key, server_key: proven.server_key };
    let again = exchange(&mut Checker::new(quick("s"), true, None), keys.clone(), Binding::NotOffered).unwrap();
    assert_eq!(proven, again);
    let other = ScramVerifier::of_password("s", b"another salt", 3);
    assert_eq!(exchange(&mut Checker::new(other, true, None), keys, Binding::Unable), Err(ScramError::Proof));
}

#[test]
fn a_wrong_password_and_an_exchange_that_cannot_succeed_fail_at_the_proof() {
    let wrong = exchange(&mut Checker::new(quick("s"), true, None), password("t"), Binding::Unable);
    assert_eq!(wrong, Err(ScramError::Proof));
    let unknown = exchange(&mut Checker::new(quick("s"), false, None), password("s"), Binding::Unable);
    assert_eq!(unknown, Err(ScramError::Proof));
}

#[test]
fn channel_binding_holds_both_ends_to_one_certificate() {
    let here = || Some(vec![7; 32]);
    let mut bound = Checker::new(quick("s"), true, here());
    assert_eq!(bound.mechanisms(), [SCRAM_PLUS, SCRAM]);
    assert!(exchange(&mut bound, password("s"), Binding::EndPoint(vec![7; 32])).is_ok());
    let mut elsewhere = Checker::new(quick("s"), true, here());
    let other = exchange(&mut elsewhere, password("s"), Binding::EndPoint(vec![8; 32]));
    assert_eq!(other, Err(ScramError::Binding));
}

#[test]
fn an_offer_that_was_changed_on_its_way_is_noticed() {
    let mut offered = Checker::new(quick("s"), true, Some(vec![7; 32]));
    assert_eq!(exchange(&mut offered, password("s"), Binding::NotOffered), Err(ScramError::Downgrade));
    // A client that cannot bind is welcome all the same.
    let mut offered = Checker::new(quick("s"), true, Some(vec![7; 32]));
    assert!(exchange(&mut offered, password("s"), Binding::Unable).is_ok());
    let mut not_offered = Checker::new(quick("s"), true, None);
    assert_eq!(not_offered.mechanisms(), [SCRAM]);
    assert!(exchange(&mut not_offered, password("s"), Binding::NotOffered).is_ok());
}

#[test]
fn mechanism_and_flag_have_to_fit() {
    let with = |channel: Option<Vec<u8>>, mechanism: &str, first: &str| {
        Checker::new(quick("s"), true, channel).first(mechanism, first.as_bytes()).unwrap_err()
    };
    let here = || Some(vec![7; 32]);
    let is_mechanism = |error| matches!(error, ScramError::Mechanism(_));
    assert!(is_mechanism(with(None, SCRAM_PLUS, "p=tls-server-end-point,,n=,r=a")));
    assert!(is_mechanism(with(None, SCRAM, "p=tls-server-end-point,,n=,r=a")));
    assert!(is_mechanism(with(here(), SCRAM, "p=tls-server-end-point,,n=,r=a")));
    assert!(is_mechanism(with(here(), SCRAM_PLUS, "n,,n=,r=a")));
    assert!(is_mechanism(with(here(), SCRAM_PLUS, "y,,n=,r=a")));
    assert!(is_mechanism(with(here(), "SCRAM-SHA-1", "n,,n=,r=a")));
    let unique = with(here(), SCRAM_PLUS, "p=tls-unique,,n=,r=a");
    assert_eq!(unique, ScramError::Malformed("an unsupported kind of channel binding"));
}

#[test]
fn a_first_message_that_is_not_one_is_refused() {
    for broken in [
        "",
        "n",
        "n,",
        "n,,",
        "x,,n=,r=a",
        "n,a=admin,n=,r=a",
        "n,,m=x,n=,r=a",
        "n,,r=a",
        "n,,n=",
        "n,,n=,r=",
        "n,,n=,m=x,r=a",
        "n,,n=,r=a b",
        "n,,n=,r=\u{e9}",
        "n,,n=,r=a\0",
        "p,,n=,r=a",
    ] {
        let error = Checker::new(quick("s"), true, None).first(SCRAM, broken.as_bytes()).unwrap_err();
        assert!(matches!(error, ScramError::Malformed(_)), "{broken:?}: {error}");
        assert_eq!(error.sqlstate(), "08P01");
    }
    assert!(Checker::new(quick("s"), true, None).first(SCRAM, b"n,,n=,r=a\xff").is_err());
    assert!(Checker::new(quick("s"), true, None).first(SCRAM, b"n,,n=any=2Cone,r=a,x=extension").is_ok());
    let long = |nonce: usize| format!("n,,n=,r={}", "a".repeat(nonce));
    let longest = MOST_MESSAGE - long(0).len();
    assert!(Checker::new(quick("s"), true, None).first(SCRAM, long(longest).as_bytes()).is_ok());
    assert!(Checker::new(quick("s"), true, None).first(SCRAM, long(longest + 1).as_bytes()).is_err());
}

#[test]
fn a_last_message_that_was_tampered_with_is_refused() {
    let with = |from: &str, to: &str| rfc_checker().last(FINAL.replace(from, to).as_bytes()).unwrap_err();
    assert_eq!(with("c=biws", "c=eSws"), ScramError::Binding, "y instead of n");
    assert_eq!(with("hNlF$k0", "hNlF$k1"), ScramError::Nonce);
    assert_eq!(with("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""), ScramError::Nonce);
    assert_eq!(with("p=dHzb", "p=dHzc"), ScramError::Proof);
    assert_eq!(with(",p=", ",x=y,p="), ScramError::Proof, "an extension is allowed, and is part of what is signed");
    for (from, to) in
        [(",p=", ",q="), ("c=biws,", ""), ("c=biws", "m=x"), ("VQ=", "VQ"), ("VQ=", "VQ=,x=y"), ("r=", "s=")]
    {
        assert!(matches!(with(from, to), ScramError::Malformed(_)), "{from} {to}");
    }
    let mut checker = rfc_checker();
    assert!(checker.last(FINAL.replace("dHzb", "dHzc").as_bytes()).is_err());
    assert!(checker.last(FINAL.as_bytes()).is_err(), "there is one try");
    assert!(Checker::new(quick("s"), true, None).last(FINAL.as_bytes()).is_err());
    assert!(rfc_checker().first(SCRAM, FIRST.as_bytes()).is_err());
}

#[test]
fn a_servers_first_message_that_must_not_be_believed_is_refused() {
    let with = |from: &str, to: &str| rfc_prover().answer(SERVER_FIRST.replace(from, to).as_bytes()).unwrap_err();
    assert_eq!(with(SERVER_NONCE, ""), ScramError::Nonce, "the server has to add to the nonce");
    assert_eq!(with("r=rOpr", "r=rOps"), ScramError::Nonce);
    assert_eq!(with("i=4096", "i=1000001"), ScramError::Iterations(1_000_001));
    assert_eq!(with("i=4096", "i=4294967297"), ScramError::Iterations(4_294_967_297));
    for (from, to) in [
        ("i=4096", "i=0"),
        ("i=4096", "i=-1"),
        ("i=4096", "i="),
        ("i=4096", "x=1"),
        ("i=4096", "i=99999999999999999999"),
        ("s=W22ZaJ0SNY7soEsUEjb6gQ==", "s="),
        ("s=W", "s=*"),
        ("r=", "m=x,r="),
        ("r=", "q="),
    ] {
        assert!(matches!(with(from, to), ScramError::Malformed(_)), "{from} {to}");
    }
    let salted = |bytes: usize| format!("r={CLIENT_NONCE}x,s={},i=1", STANDARD.encode(vec![1; bytes]));
    assert!(rfc_prover().answer(salted(700).as_bytes()).is_ok());
    assert!(rfc_prover().answer(salted(800).as_bytes()).is_err(), "longer than a message");
}

#[test]
fn keys_cost_nothing_whatever_the_server_asks_for() {
    let keys = ProverSecret::Keys { client_key: [1; 32], server_key: [2; 32] };
    let (mut prover, _) = Prover::begin_with(keys, Binding::Unable, "", CLIENT_NONCE.to_owned());
    assert!(prover.answer(SERVER_FIRST.replace("4096", "1000000").as_bytes()).is_ok());
}

#[test]
fn a_server_that_does_not_show_the_verifier_is_refused() {
    let proven = || {
        let mut prover = rfc_prover();
        prover.answer(SERVER_FIRST.as_bytes()).unwrap();
        prover
    };
    assert_eq!(
        proven().check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="),
        Err(ScramError::Malformed("a signature that is not base64"))
    );
    assert_eq!(proven().check(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(ScramError::Signature));
    assert_eq!(proven().check(b"v="), Err(ScramError::Signature));
    assert_eq!(proven().check(b"e=other-error\x07"), Err(ScramError::Refused("other-error".into())));
    assert!(matches!(proven().check(b""), Err(ScramError::Malformed(_))));
    assert!(matches!(rfc_prover().check(SERVER_FINAL.as_bytes()), Err(ScramError::Malformed(_))), "before the proof");
    let mut once = proven();
    assert_eq!(once.check(SERVER_FINAL.as_bytes()), Ok(()));
    assert!(once.check(SERVER_FINAL.as_bytes()).is_err());
}

#[test]
fn nonces_are_new_each_time() {
    let first = || Prover::begin(password("s"), Binding::Unable).unwrap().1;
    assert_ne!(first(), first());
    let server = || Checker::new(quick("s"), true, None).first(SCRAM, b"n,,n=,r=a").unwrap();
    assert_ne!(server(), server());
}
