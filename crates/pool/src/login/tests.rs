//! Both ends of a login against each other, plain and through TLS in memory, and what must not be believed.

mod client;
mod server;

use super::*;
use crate::auth::scram::{MOST_MESSAGE, SCRAM, SCRAM_PLUS, ScramError, ScramVerifier};
use crate::auth::{Secret, Verifier, md5};
use crate::login::client::Reason;
use crate::login::server::Channel;
use crate::tls::end_point_hash;
use crate::wire::{self, backend, frontend, tag};

const HASH: [u8; 32] = [7; 32];

fn scram(password: &str) -> Verifier {
    Verifier::Scram(ScramVerifier::of_password(password, b"0123456789abcdef", 5))
}

fn md5_of(password: &str, user: &str) -> Verifier {
    Verifier::Md5(md5::digest(password, user))
}

fn password(text: &str) -> Secret {
    Secret::Password(text.to_owned())
}

/// The messages in a buffer, which ends with a whole one.
fn messages(mut buf: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(frame) = wire::frame(buf).unwrap() {
        all.push((frame.tag, buf[wire::HEADER..frame.len].to_vec()));
        buf = &buf[frame.len..];
    }
    assert!(buf.is_empty());
    all
}

/// What came of a login, at each end.
struct Outcome {
    client: Result<Secret, LoginError>,
    server: Result<ServerSession, ServerLoginError>,
}

/// Logs `user` in with a secret, against a verifier.
fn login(secret: Secret, channel: Channel, user: &str, verifier: Option<&Verifier>, offered: Option<&[u8]>) -> Outcome {
    let mut to_client = Vec::new();
    let mut checking = ClientLogin::begin(user, verifier, offered, &mut to_client).unwrap();
    let mut proving = ServerLogin::begin(secret, user, channel);
    let mut verdict = None;
    for _ in 0..10 {
        let mut to_server = Vec::new();
        for (tag, body) in messages(&std::mem::take(&mut to_client)) {
            match proving.message(tag, &body, &mut to_server) {
                Ok(ServerStep::More) => {}
                Ok(ServerStep::Ready(session)) => {
                    return Outcome { client: verdict.unwrap(), server: Ok(session) };
                }
                Err(error) => {
                    let unfinished = LoginError::Over;
                    return Outcome { client: verdict.unwrap_or(Err(unfinished)), server: Err(error) };
                }
            }
        }
        for (tag, body) in messages(&to_server) {
            assert_eq!(tag, tag::PASSWORD);
            match checking.message(&body, &mut to_client) {
                Ok(None) => {}
                Ok(Some(secret)) => {
                    verdict = Some(Ok(secret));
                    backend::put_parameter_status(&mut to_client, "server_version", "18.1");
                    backend::put_key_data(&mut to_client, 77, &[1, 2, 3, 4]);
                    backend::put_ready(&mut to_client, b'I');
                }
                Err(error) => {
                    error.put(&mut to_client);
                    verdict = Some(Err(error));
                }
            }
        }
    }
    panic!("no end");
}

#[test]
fn every_verifier_takes_the_secrets_that_fit_it() {
    let keys = login(password("s"), Channel::Open, "ada", Some(&scram("s")), None).client.unwrap();
    assert!(matches!(keys, Secret::Scram { .. }));
    let tls = || Channel::Tls(Some(HASH.to_vec()));
    for (secret, verifier, gives) in [
        (password("s"), scram("s"), keys.clone()),
        (keys.clone(), scram("s"), keys.clone()),
        (password("s"), Verifier::Plain("s".into()), password("s")),
        (password("s"), md5_of("s", "ada"), Secret::Md5(md5::digest("s", "ada"))),
        (Secret::Md5(md5::digest("s", "ada")), md5_of("s", "ada"), Secret::Md5(md5::digest("s", "ada"))),
    ] {
        for (channel, offered) in [
            (Channel::Open, None),
            (Channel::Local, None),
            (tls(), Some(HASH.as_slice())),
            (tls(), None),
            (Channel::Tls(None), Some(HASH.as_slice())),
            (Channel::Tls(None), None),
        ] {
            let outcome = login(secret.clone(), channel.clone(), "ada", Some(&verifier), offered);
            assert_eq!(outcome.client, Ok(gives.clone()), "{verifier:?} {channel:?}");
            let session = outcome.server.unwrap();
            assert_eq!((session.pid, session.key.as_slice(), session.status), (77, [1, 2, 3, 4].as_slice(), b'I'));
            assert_eq!(session.parameters, [("server_version".to_owned(), "18.1".to_owned())]);
        }
    }
}

#[test]
fn who_cannot_log_in_is_told_the_same_for_every_reason() {
    for (verifier, reason) in [
        (Some(scram("other")), Reason::Wrong),
        (Some(Verifier::Plain("other".into())), Reason::Wrong),
        (Some(md5_of("s", "bob")), Reason::Wrong),
        (Some(Verifier::None), Reason::NoPassword),
        (None, Reason::Unknown),
    ] {
        let outcome = login(password("s"), Channel::Open, "ada", verifier.as_ref(), None);
        let error = outcome.client.unwrap_err();
        assert_eq!(error, LoginError::Password { user: "ada".into(), reason });
        assert!(error.is_about_the_verifier());
        let ServerLoginError::Refused { sqlstate, message, detail, hint } = outcome.server.unwrap_err() else {
            panic!()
        };
        assert_eq!(sqlstate, "28P01");
        assert_eq!(message, "password authentication failed for user \"ada\"");
        assert_eq!((detail, hint), (None, None));
    }
}

#[test]
fn an_unknown_user_looks_like_one_with_a_password() {
    let first = |user: &str, verifier: Option<&Verifier>| {
        let mut out = Vec::new();
        let mut login = ClientLogin::begin(user, verifier, Some(&HASH), &mut out).unwrap();
        let offer = std::mem::take(&mut out);
        let mut said = Vec::new();
        frontend::put_sasl_initial(&mut said, SCRAM, b"n,,n=,r=abc");
        login.message(&said[wire::HEADER..], &mut out).unwrap();
        let text = String::from_utf8(out[wire::HEADER + 4..].to_vec()).unwrap();
        (offer, text.split_once(",s=").unwrap().1.to_owned())
    };
    assert_eq!(first("nobody", None), first("nobody", None), "salt and iterations are the same at each try");
    assert_eq!(first("nobody", None), first("nobody", Some(&Verifier::Plain("s".into()))));
    assert_eq!(first("nobody", None), first("nobody", Some(&Verifier::None)));
    assert_ne!(first("nobody", None).1, first("somebody", None).1);
}

#[test]
fn binding_to_another_certificate_and_a_changed_offer_are_refused() {
    let other = login(password("s"), Channel::Tls(Some(vec![8; 32])), "ada", Some(&scram("s")), Some(&HASH));
    assert_eq!(other.client.unwrap_err(), LoginError::Scram(ScramError::Binding));
    let refused = other.server.unwrap_err();
    assert_eq!(refused.sqlstate(), "28000");

    // Somebody in between takes -PLUS out of the offer: the prover says `y`, and the checker knows better.
    let mut out = Vec::new();
    let mut checking = ClientLogin::begin("ada", Some(&scram("s")), Some(&HASH), &mut out).unwrap();
    assert_eq!(
        backend::authentication(&messages(&out)[0].1),
        Ok(backend::Authentication::Sasl(vec![SCRAM_PLUS, SCRAM]))
    );
    let mut changed = Vec::new();
    backend::put_authentication_sasl(&mut changed, &[SCRAM]);
    let mut proving = ServerLogin::begin(password("s"), "ada", Channel::Tls(Some(HASH.to_vec())));
    let mut said = Vec::new();
    proving.message(tag::AUTHENTICATION, &changed[wire::HEADER..], &mut said).unwrap();
    let error = checking.message(&messages(&said)[0].1, &mut out).unwrap_err();
    assert_eq!(error, LoginError::Scram(ScramError::Downgrade));
    assert_eq!(error.sqlstate(), "28000");
}

#[test]
fn channel_binding_holds_over_real_tls() {
    use crate::plan::ServerTlsMode;
    use crate::tls::testing::{client_plan, ends, parameters, self_signed, server_plan, shake};
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let pair = self_signed(&parameters("server", &[]), algorithm);
        let plan = client_plan(&pair, vec![]);
        let (mut client, mut server) = ends(&plan, &server_plan(ServerTlsMode::Require, vec![]), "server");
        shake(&mut client, &mut server).unwrap();
        let (_, offered) = crate::tls::accept_config(&plan).unwrap();
        assert_eq!(offered.is_none(), algorithm == &rcgen::PKCS_ED25519);
        let seen = client.peer_certificate().and_then(end_point_hash);
        let outcome = login(password("s"), Channel::Tls(seen), "ada", Some(&scram("s")), offered.as_deref());
        assert!(outcome.client.is_ok() && outcome.server.is_ok());
    }
    // Somebody in between ends TLS with a certificate of their own.
    let (ours, theirs) = (
        self_signed(&parameters("server", &[]), &rcgen::PKCS_ECDSA_P256_SHA256),
        self_signed(&parameters("server", &[]), &rcgen::PKCS_ECDSA_P256_SHA256),
    );
    let seen = Channel::Tls(end_point_hash(&theirs.certificate));
    let offered = end_point_hash(&ours.certificate);
    let outcome = login(password("s"), seen, "ada", Some(&scram("s")), offered.as_deref());
    assert_eq!(outcome.client.unwrap_err(), LoginError::Scram(ScramError::Binding));
}

#[test]
fn whom_something_else_vouches_for_needs_no_message() {
    let ok = |verifier: Option<&Verifier>| {
        let mut out = Vec::new();
        let secret = vouched(verifier, &mut out);
        assert_eq!(backend::authentication(&messages(&out)[0].1), Ok(backend::Authentication::Ok));
        secret
    };
    assert_eq!(ok(None), Secret::None);
    assert_eq!(ok(Some(&scram("s"))), Secret::None);
    assert_eq!(ok(Some(&Verifier::Plain("s".into()))), password("s"));
    assert_eq!(ok(Some(&md5_of("s", "ada"))), Secret::Md5(md5::digest("s", "ada")));
    let certificate = LoginError::Certificate { user: "ada".into(), found: Some("bob".into()) };
    assert_eq!((certificate.sqlstate(), certificate.is_about_the_verifier()), ("28000", false));
    assert_eq!(certificate.to_string(), "certificate authentication failed for user \"ada\"");
    assert!(certificate.reason().contains("bob"));
}

proptest::proptest! {
    #[test]
    fn any_message_at_any_time_is_answered_or_refused(
        kind in 0..3_usize,
        rounds in 0..3_usize,
        tag in proptest::sample::select(vec![b'R', b'S', b'K', b'Z', b'E', b'N', b'v', b'T']),
        step in 0..14_u8,
        rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
    ) {
        let verifier = [scram("s"), md5_of("s", "ada"), Verifier::None][kind].clone();
        let mut to_client = Vec::new();
        let mut checking = ClientLogin::begin("ada", Some(&verifier), Some(&HASH), &mut to_client).unwrap();
        let mut proving = ServerLogin::begin(password("s"), "ada", Channel::Tls(Some(HASH.to_vec())));
        for _ in 0..rounds {
            let mut to_server = Vec::new();
            for (tag, body) in messages(&std::mem::take(&mut to_client)) {
                proving.message(tag, &body, &mut to_server).unwrap();
            }
            for (_, body) in messages(&to_server) {
                drop(checking.message(&body, &mut to_client));
            }
        }
        let mut body = if tag == b'R' { vec![0, 0, 0, step] } else { Vec::new() };
        body.extend_from_slice(&rest);
        let result = proving.message(tag, &body, &mut Vec::new());
        proptest::prop_assert!(!matches!(result, Ok(ServerStep::Ready(_))) || rounds > 0);
        let result = checking.message(&rest, &mut Vec::new());
        proptest::prop_assert!(!matches!(result, Ok(Some(_))));
    }

    #[test]
    fn no_byte_of_an_exchange_can_be_changed(which in 1..4_usize, position in 0..200_usize, flip in 1..=255_u8) {
        // 1: the client's first message, 2: the server's, 3: the client's last.
        let mut to_client = Vec::new();
        let mut checking = ClientLogin::begin("ada", Some(&scram("s")), Some(&HASH), &mut to_client).unwrap();
        let mut proving = ServerLogin::begin(password("s"), "ada", Channel::Tls(Some(HASH.to_vec())));
        let mut is_changed = false;
        for round in 1..5 {
            let mut to_server = Vec::new();
            let mut body = messages(&std::mem::take(&mut to_client)).remove(0).1;
            if which == 2 && round == 2 && position < body.len() {
                body[position] ^= flip;
                is_changed = true;
            }
            if proving.message(tag::AUTHENTICATION, &body, &mut to_server).is_err() {
                break;
            }
            let mut body = messages(&to_server).remove(0).1;
            let is_meant = (which, round) == (1, 1) || (which, round) == (3, 2);
            if let Some(byte) = body.get_mut(position).filter(|_| is_meant) {
                *byte ^= flip;
                is_changed = true;
            }
            match checking.message(&body, &mut to_client) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    proptest::prop_assert!(!is_changed, "a changed exchange succeeded");
                    return Ok(());
                }
                Err(_) => break,
            }
        }
        proptest::prop_assert!(is_changed, "an exchange that nobody changed failed");
    }
}
