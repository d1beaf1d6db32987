//! What servers say that must not be believed.

use super::*;
use crate::login::server::MOST_BODY;

fn begun(secret: Secret, channel: Channel) -> ServerLogin {
    ServerLogin::begin(secret, "ada", channel)
}

/// Says one message that a builder makes.
fn say(login: &mut ServerLogin, put: impl FnOnce(&mut Vec<u8>)) -> Result<ServerStep, ServerLoginError> {
    let mut said = Vec::new();
    put(&mut said);
    let (tag, body) = messages(&said).remove(0);
    login.message(tag, &body, &mut Vec::new())
}

fn trusted() -> ServerLogin {
    let mut login = begun(Secret::None, Channel::Open);
    say(&mut login, backend::put_authentication_ok).unwrap();
    login
}

#[test]
fn a_server_that_asks_for_nothing_is_logged_in_to() {
    let mut login = begun(Secret::None, Channel::Open);
    say(&mut login, |out| backend::put_negotiate(out, 0, &[])).unwrap();
    say(&mut login, |out| backend::put_notice(out, "NOTICE", "00000", "welcome", None, None)).unwrap();
    say(&mut login, backend::put_authentication_ok).unwrap();
    say(&mut login, |out| backend::put_parameter_status(out, "TimeZone", "UTC")).unwrap();
    say(&mut login, |out| backend::put_parameter_status(out, "in_hot_standby", "on")).unwrap();
    say(&mut login, |out| backend::put_parameter_status(out, "TimeZone", "Europe/Berlin")).unwrap();
    say(&mut login, |out| backend::put_key_data(out, -5, &[9; 32])).unwrap();
    let Ok(ServerStep::Ready(session)) = say(&mut login, |out| backend::put_ready(out, b'I')) else { panic!() };
    assert_eq!((session.pid, session.key.len(), session.minor), (-5, 32, Some(0)));
    let shown: Vec<(&str, &str)> = session.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(shown, [("TimeZone", "Europe/Berlin"), ("in_hot_standby", "on")]);
    assert!(!format!("{session:?}").contains("9, 9"));
    assert!(say(&mut login, |out| backend::put_ready(out, b'I')).is_err(), "once");
}

#[test]
fn a_server_that_lets_us_in_without_its_proof_is_left() {
    let mut login = begun(password("s"), Channel::Open);
    say(&mut login, |out| backend::put_authentication_sasl(out, &[SCRAM])).unwrap();
    assert_eq!(say(&mut login, backend::put_authentication_ok).unwrap_err(), ServerLoginError::Unproven);
    let mut login = begun(password("s"), Channel::Open);
    say(&mut login, |out| backend::put_authentication_sasl(out, &[SCRAM])).unwrap();
    let early = say(&mut login, |out| backend::put_authentication_sasl_final(out, b"v=AAAA")).unwrap_err();
    assert!(matches!(early, ServerLoginError::Scram(_)), "{early}");
}

#[test]
fn a_server_that_does_not_know_the_verifier_is_left() {
    let mut to_prover = Vec::new();
    let known = ScramVerifier::of_password("s", b"0123456789abcdef", 5);
    // It has what lets clients in, but not what it would have to show.
    let half = Verifier::Scram(ScramVerifier { server_key: [0; 32], ..known });
    let mut fake = ClientLogin::begin("ada", Some(&half), None, &mut to_prover).unwrap();
    let mut login = begun(password("s"), Channel::Open);
    let error = loop {
        let mut said = Vec::new();
        let mut result = Ok(ServerStep::More);
        for (tag, body) in messages(&std::mem::take(&mut to_prover)) {
            result = login.message(tag, &body, &mut said);
            if result.is_err() {
                break;
            }
        }
        if let Err(error) = result {
            break error;
        }
        fake.message(&messages(&said)[0].1, &mut to_prover).unwrap();
    };
    assert_eq!(error, ServerLoginError::Scram(ScramError::Signature));
}

#[test]
fn what_is_not_known_cannot_be_shown_and_the_error_says_so() {
    let ask = |secret: Secret, put: &dyn Fn(&mut Vec<u8>)| {
        say(&mut begun(secret, Channel::Open), put).unwrap_err().to_string()
    };
    let for_scram = |out: &mut Vec<u8>| backend::put_authentication_sasl(out, &[SCRAM]);
    let for_md5 = |out: &mut Vec<u8>| backend::put_authentication_md5(out, [1; 4]);
    let keys = || Secret::Scram { client_key: [1; 32], server_key: [2; 32] };
    assert!(ask(Secret::None, &for_scram).starts_with("no key of user \"ada\" is known yet"));
    assert!(ask(Secret::None, &for_md5).starts_with("no key of user \"ada\" is known yet"));
    assert!(ask(Secret::None, &backend::put_authentication_cleartext).starts_with("no key of user \"ada\""));
    assert!(ask(Secret::Md5([b'a'; 32]), &for_scram).contains("SCRAM-SHA-256, and only an md5 digest is known"));
    assert!(ask(keys(), &for_md5).contains("md5, and only a SCRAM key is known"));
}

#[test]
fn a_password_is_not_shown_where_others_listen() {
    let cleartext = backend::put_authentication_cleartext;
    let exposed = say(&mut begun(password("s"), Channel::Open), cleartext).unwrap_err();
    assert_eq!(exposed, ServerLoginError::Exposed { user: "ada".into() });
    for channel in [Channel::Local, Channel::Tls(None), Channel::Tls(Some(HASH.to_vec()))] {
        let mut said = Vec::new();
        let mut asked = Vec::new();
        cleartext(&mut asked);
        begun(password("s"), channel).message(tag::AUTHENTICATION, &asked[wire::HEADER..], &mut said).unwrap();
        assert_eq!(messages(&said), [(tag::PASSWORD, b"s\0".to_vec())]);
    }
}

#[test]
fn what_is_not_spoken_is_named() {
    let ask = |channel: Channel, put: &dyn Fn(&mut Vec<u8>)| {
        say(&mut begun(password("s"), channel), put).unwrap_err().to_string()
    };
    let sasl = |mechanisms: &'static [&'static str]| {
        move |out: &mut Vec<u8>| backend::put_authentication_sasl(out, mechanisms)
    };
    assert!(ask(Channel::Open, &sasl(&["OAUTHBEARER"])).ends_with("SASL with OAUTHBEARER"));
    assert!(ask(Channel::Open, &sasl(&[SCRAM_PLUS, SCRAM])).ends_with("SCRAM-SHA-256-PLUS without TLS"));
    assert!(ask(Channel::Tls(None), &sasl(&[SCRAM_PLUS])).contains("SASL with SCRAM-SHA-256-PLUS"));
    let gssapi = |out: &mut Vec<u8>| out.extend_from_slice(&[b'R', 0, 0, 0, 8, 0, 0, 0, 7]);
    assert!(ask(Channel::Open, &gssapi).ends_with("GSSAPI"));
}

#[test]
fn an_error_is_kept_whole() {
    let mut login = begun(Secret::None, Channel::Open);
    let put = |out: &mut Vec<u8>| {
        backend::put_error(out, "FATAL", "57P03", "the database system is starting up", Some("why"), Some("wait"));
    };
    let error = say(&mut login, put).unwrap_err();
    assert_eq!(error.to_string(), "the database system is starting up");
    assert_eq!(error.sqlstate(), "57P03");
    let ServerLoginError::Refused { detail, hint, .. } = error else { panic!() };
    assert_eq!((detail.as_deref(), hint.as_deref()), (Some("why"), Some("wait")));
    assert!(say(&mut login, backend::put_authentication_ok).is_err(), "it is over");
    // Behind the proof as well: the database may not exist.
    let error = say(&mut trusted(), put).unwrap_err();
    assert_eq!(error.sqlstate(), "57P03");
}

#[test]
fn what_is_out_of_turn_or_out_of_bounds_ends_the_login() {
    let early = say(&mut begun(Secret::None, Channel::Open), |out| backend::put_ready(out, b'I'));
    assert!(matches!(early, Err(ServerLoginError::Unexpected { tag: tag::READY, .. })));
    for put in [
        (|out: &mut Vec<u8>| backend::put_parameter_status(out, "a", "b")) as fn(&mut Vec<u8>),
        |out| backend::put_key_data(out, 1, &[1; 4]),
        |out| backend::put_authentication_sasl_continue(out, b"r=a,s=b,i=1"),
        |out| backend::put_command_complete(out, "SELECT 1"),
    ] {
        let error = say(&mut begun(password("s"), Channel::Open), put).unwrap_err();
        assert_eq!(error.sqlstate(), "08P01", "{error}");
    }
    assert!(say(&mut trusted(), backend::put_authentication_ok).is_err());
    assert!(say(&mut trusted(), |out| backend::put_negotiate(out, 0, &[])).is_err());
    assert!(trusted().message(tag::READY, b"", &mut Vec::new()).is_err());
    assert!(trusted().message(tag::KEY_DATA, b"abc", &mut Vec::new()).is_err());

    let notice = |length: usize| {
        let mut body = vec![b'M'];
        body.resize(length - 2, b'a');
        body.extend_from_slice(&[0, 0]);
        trusted().message(tag::NOTICE, &body, &mut Vec::new())
    };
    assert!(notice(MOST_BODY).is_ok());
    assert!(notice(MOST_BODY + 1).is_err());
}

#[test]
fn parameters_are_bounded_and_need_not_be_utf_8() {
    let mut login = trusted();
    for i in 0..256 {
        say(&mut login, |out| backend::put_parameter_status(out, &format!("p{i}"), "v")).unwrap();
    }
    say(&mut login, |out| backend::put_parameter_status(out, "p7", "w")).unwrap();
    assert!(say(&mut login, |out| backend::put_parameter_status(out, "p256", "v")).is_err());
    let mut login = trusted();
    login.message(tag::PARAMETER_STATUS, b"application_name\0\xff\0", &mut Vec::new()).unwrap();
    let Ok(ServerStep::Ready(session)) = say(&mut login, |out| backend::put_ready(out, b'I')) else { panic!() };
    assert_eq!(session.parameters, []);
}

#[test]
fn a_server_cannot_make_us_work_for_it() {
    let mut login = begun(password("s"), Channel::Open);
    let mut said = Vec::new();
    let mut asked = Vec::new();
    backend::put_authentication_sasl(&mut asked, &[SCRAM]);
    login.message(tag::AUTHENTICATION, &asked[wire::HEADER..], &mut said).unwrap();
    let initial = messages(&said).remove(0).1;
    let (_, first) = frontend::sasl_initial(&initial).unwrap();
    let nonce = std::str::from_utf8(first.unwrap()).unwrap().rsplit_once("r=").unwrap().1.to_owned();
    let costly = format!("r={nonce}x,s=AAAA,i=2000000000");
    let error = say(&mut login, |out| backend::put_authentication_sasl_continue(out, costly.as_bytes())).unwrap_err();
    assert_eq!(error, ServerLoginError::Scram(ScramError::Iterations(2_000_000_000)));
}
