//! What clients say that they should not.

use super::*;

fn begun(verifier: &Verifier) -> ClientLogin {
    ClientLogin::begin("ada", Some(verifier), None, &mut Vec::new()).unwrap()
}

fn initial(mechanism: &str, response: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frontend::put_sasl_initial(&mut out, mechanism, response);
    out.split_off(wire::HEADER)
}

#[test]
fn a_message_is_bounded() {
    let nonce = "a".repeat(MOST_MESSAGE - "n,,n=,r=".len());
    let longest = initial(SCRAM, format!("n,,n=,r={nonce}").as_bytes());
    assert!(begun(&scram("s")).message(&longest, &mut Vec::new()).is_ok());
    let long = vec![b'a'; crate::login::client::MOST_BODY + 1];
    assert_eq!(begun(&scram("s")).message(&long, &mut Vec::new()), Err(LoginError::Long));
    assert_eq!(begun(&md5_of("s", "ada")).message(&long, &mut Vec::new()), Err(LoginError::Long));
}

#[test]
fn a_mechanism_may_be_chosen_without_a_first_message() {
    let mut login = begun(&scram("s"));
    let mut body = SCRAM.as_bytes().to_vec();
    body.extend_from_slice(&[0, 255, 255, 255, 255]);
    let mut out = Vec::new();
    assert_eq!(login.message(&body, &mut out), Ok(None));
    let asked = backend::Authentication::SaslContinue(b"");
    assert_eq!(backend::authentication(&messages(&out)[0].1), Ok(asked));
    out.clear();
    assert_eq!(login.message(b"n,,n=,r=abc", &mut out), Ok(None));
    assert!(out.windows(6).any(|w| w == b"r=abc".as_slice() || w.starts_with(b"r=abc")));
}

#[test]
fn what_cannot_be_read_is_refused_and_ends_the_login() {
    for body in [&b""[..], b"no end", &initial("SCRAM-SHA-1", b"n,,n=,r=a"), &initial(SCRAM, b"junk"), b"s\0"] {
        let mut login = begun(&scram("s"));
        let error = login.message(body, &mut Vec::new()).unwrap_err();
        assert_eq!(error.sqlstate(), "08P01", "{error}");
        assert!(!error.is_about_the_verifier());
        let again = login.message(&initial(SCRAM, b"n,,n=,r=a"), &mut Vec::new());
        assert_eq!(again, Err(LoginError::Over));
    }
    let unended = begun(&md5_of("s", "ada")).message(b"md5", &mut Vec::new()).unwrap_err();
    assert_eq!(unended.sqlstate(), "08P01");
}

#[test]
fn an_md5_answer_is_good_for_its_salt_only() {
    let mut out = Vec::new();
    let mut login = ClientLogin::begin("ada", Some(&md5_of("s", "ada")), None, &mut out).unwrap();
    let Ok(backend::Authentication::Md5(salt)) = backend::authentication(&out[wire::HEADER..]) else { panic!() };
    let other = [salt[0] ^ 1, salt[1], salt[2], salt[3]];
    let mut said = md5::answer(&md5::digest("s", "ada"), other).to_vec();
    said.push(0);
    let error = login.message(&said, &mut out).unwrap_err();
    assert!(error.is_about_the_verifier());
}
