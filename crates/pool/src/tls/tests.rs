//! Which certificates will do, what is read out of them, and what is agreed on.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd};
use sha2::{Digest as _, Sha256, Sha384};

use super::testing::{Authority, Pair, client_plan, connect_with, ends, parameters, self_signed, server_plan, shake};
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A self-signed certificate of version 1, by `openssl x509 -req`.
const VERSION_1: &str = "\
    MIIBEzCBuwIUQjzejxcH2q7mEQZsB1mXbBYNt7owCgYIKoZIzj0EAwIwDTELMAkGA1UEAwwCdjEwHhcNMjYxMTI1MjI0ODAwWhcN\
    NDYxMTIwMjI0ODAwWjANMQswCQYDVQQDDAJ2MTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABK6LxPoS38y3AE5giMDroudrMmuQ\
    BiZyYUfIcjdJgMEeTptJvYvH/NeO7xlQ/wj16atysK5WyTaxwKbH11rK6vQwCgYIKoZIzj0EAwIDRwAwRAIgQ7fSwvtQ91adapai\
    oUQU/uE0qKHjQYMozMNgEKLeMMwCIARZ8DuNW8/hGP4F7QdZJIr3F8cXtGMdJIIaj28fQo4z";

/// Its key, made for this test.
const VERSION_1_KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4h1dqOosPQt0RpqvaKFbNWSv3BLJHUBafigGf3ojpN+hRANCAASu\
    i8T6Et/MtwBOYIjA66LnazJrkAYmcmFHyHI3SYDBHk6bSb2Lx/zXju8ZUP8I9emrcrCuVsk2scCmx9dayur0";

/// A certificate signed with RSASSA-PSS and SHA-384.
const PSS: &str = "\
    MIICYDCCAZWgAwIBAgIUD41JLquPFeoufbPx3EgyOguiWKQwQQYJKoZIhvcNAQEKMDSgDzANBglghkgBZQMEAgIFAKEcMBoGCSqG\
    SIb3DQEBCDANBglghkgBZQMEAgIFAKIDAgFOMA4xDDAKBgNVBAMMA3BzczAeFw0yNjExMjUyMjQ4MDBaFw00NjExMjAyMjQ4MDBa\
    MA4xDDAKBgNVBAMMA3BzczCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkCgYEA3hvdjqMrkYTpXnW9NU3mznGeS+itAG8Db5m7ISoW\
    6Ad2Y6Fk9XOzUecJ4gNJ2gUQKMXdPJpIi+xQ2hQBceHDdOIXqRH8axZUvDXAmZtBcCMOqwK4QM8DYJ02dIvhnxP2AT/FL364Lcl2\
    MqpayN99CQFeDKJfddbs9RVnqIAt6g0CAwEAAaNTMFEwHQYDVR0OBBYEFDkKcDTHtC+XrWeNQgLEGpLuD/WjMB8GA1UdIwQYMBaA\
    FDkKcDTHtC+XrWeNQgLEGpLuD/WjMA8GA1UdEwEB/wQFMAMBAf8wQQYJKoZIhvcNAQEKMDSgDzANBglghkgBZQMEAgIFAKEcMBoG\
    CSqGSIb3DQEBCDANBglghkgBZQMEAgIFAKIDAgFOA4GBABJZTzAB3PI0gQNkC0SasNYK9AWamC4A9h1BDWS1PpYlzhx/kphmqjrO\
    daHYDEqhC2BlHMwsNz0frJo8Tlg+vDcZkGR04tigMElD6PNsI6hlV519JpqoDex4ICd3uNNFu+iVOYxyzOT5wkJDPJ2M7FqEV3oA\
    cok9dKhyEuP4kRVi";

/// Whether a client of this mode takes this certificate for `host`.
fn takes(mode: ServerTlsMode, ca: &[&[u8]], pair: &Pair, host: &str) -> Result<(), String> {
    let plan = server_plan(mode, ca.iter().map(|der| der.to_vec()).collect());
    let (mut client, mut server) = ends(&client_plan(pair, vec![]), &plan, host);
    shake(&mut client, &mut server).map_err(|error| explain(&error))
}

#[test]
fn modes_look_at_what_libpqs_look_at() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let pair = authority.sign(&parameters("db", &["db.internal", "10.0.0.1"]));
    let ca: &[&[u8]] = &[&authority.certificate];
    let wrong: &[&[u8]] = &[&other.certificate];
    for mode in [ServerTlsMode::Prefer, ServerTlsMode::Require] {
        assert_eq!(takes(mode, &[], &pair, "elsewhere"), Ok(()));
        assert_eq!(takes(mode, wrong, &pair, "elsewhere"), Ok(()));
    }
    assert_eq!(takes(ServerTlsMode::VerifyCa, ca, &pair, "elsewhere"), Ok(()));
    assert!(takes(ServerTlsMode::VerifyCa, wrong, &pair, "db.internal").unwrap_err().contains("a known authority"));
    let namesake = Authority::new("one");
    assert!(
        takes(ServerTlsMode::VerifyCa, &[&namesake.certificate], &pair, "db")
            .unwrap_err()
            .contains("the authority that it names")
    );
    for host in ["db.internal", "DB.internal", "10.0.0.1"] {
        assert_eq!(takes(ServerTlsMode::VerifyFull, ca, &pair, host), Ok(()), "{host}");
    }
    for host in ["db", "elsewhere", "10.0.0.2"] {
        let error = takes(ServerTlsMode::VerifyFull, ca, &pair, host).unwrap_err();
        assert!(error.contains("not valid for name"), "{host}: {error}");
    }
    assert!(takes(ServerTlsMode::VerifyFull, wrong, &pair, "db.internal").is_err());
}

#[test]
fn a_certificate_that_is_listed_itself_is_taken_while_it_is_valid() {
    let mut made = parameters("db.internal", &[]);
    made.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pair = self_signed(&made, &PKCS_ECDSA_P256_SHA256);
    let listed: &[&[u8]] = &[&pair.certificate];
    assert_eq!(takes(ServerTlsMode::VerifyCa, listed, &pair, "elsewhere"), Ok(()));
    assert_eq!(takes(ServerTlsMode::VerifyFull, listed, &pair, "db.internal"), Ok(()), "by its common name");
    assert!(takes(ServerTlsMode::VerifyFull, listed, &pair, "elsewhere").is_err());
    let (impostor, other) = (self_signed(&made, &PKCS_ECDSA_P256_SHA256), Authority::new("one"));
    assert!(takes(ServerTlsMode::VerifyCa, listed, &impostor, "db.internal").is_err(), "the same names, another key");
    assert!(takes(ServerTlsMode::VerifyCa, &[&other.certificate], &pair, "db.internal").is_err());
    made.not_after = date_time_ymd(2020, 1, 1);
    let past = self_signed(&made, &PKCS_ECDSA_P256_SHA256);
    assert!(
        takes(ServerTlsMode::VerifyCa, &[&past.certificate], &past, "db.internal").unwrap_err().contains("has expired")
    );
}

#[test]
fn an_expired_certificate_of_an_authority_is_refused_and_not_looked_at_where_nothing_is() {
    let authority = Authority::new("one");
    let mut made = parameters("db", &["db"]);
    made.not_after = date_time_ymd(2020, 1, 1);
    let pair = authority.sign(&made);
    assert!(
        takes(ServerTlsMode::VerifyCa, &[&authority.certificate], &pair, "db").unwrap_err().contains("has expired")
    );
    assert_eq!(takes(ServerTlsMode::Require, &[], &pair, "db"), Ok(()));
}

#[test]
fn a_common_name_counts_only_without_other_names() {
    let with = |name: &str, others: &[&str], host: &str| {
        let pair = self_signed(&parameters(name, others), &PKCS_ECDSA_P256_SHA256);
        certificate::is_for_by_common_name(&pair.certificate, host)
    };
    assert!(with("db.internal", &[], "DB.internal"));
    assert!(!with("db.internal", &[], "db.internal.evil"));
    assert!(!with("db.internal", &["other"], "db.internal"));
    assert!(!with("db.internal", &["10.0.0.1"], "db.internal"));
    assert!(with("*.internal.example", &[], "db.internal.example"));
    for host in ["internal.example", "a.b.internal.example", ".internal.example"] {
        assert!(!with("*.internal.example", &[], host), "{host}");
    }
    assert!(!with("*.example", &[], "db.example"), "a whole top level");
    assert!(!certificate::is_for_by_common_name(b"no certificate", "db"));
}

#[test]
fn the_hash_is_the_one_of_the_signature() {
    let made = parameters("db", &[]);
    let p256 = self_signed(&made, &PKCS_ECDSA_P256_SHA256).certificate;
    assert_eq!(end_point_hash(&p256), Some(Sha256::digest(&p256).to_vec()));
    let p384 = self_signed(&made, &PKCS_ECDSA_P384_SHA384).certificate;
    assert_eq!(end_point_hash(&p384), Some(Sha384::digest(&p384).to_vec()));
    let edwards = self_signed(&made, &PKCS_ED25519).certificate;
    assert_eq!(end_point_hash(&edwards), None);
    let pss = STANDARD.decode(PSS).unwrap();
    assert_eq!(end_point_hash(&pss), Some(Sha384::digest(&pss).to_vec()));
    assert_eq!(end_point_hash(b"no certificate"), None);
}

#[test]
fn a_subject_has_one_common_name_or_none() {
    let one = self_signed(&parameters("ada", &["x"]), &PKCS_ECDSA_P256_SHA256);
    assert_eq!(common_name(&one.certificate).as_deref(), Some("ada"));
    let mut made = parameters("ada", &[]);
    made.distinguished_name = rcgen::DistinguishedName::new();
    assert_eq!(common_name(&self_signed(&made, &PKCS_ECDSA_P256_SHA256).certificate), None);
    let zero = self_signed(&parameters("ada\0.evil", &[]), &PKCS_ECDSA_P256_SHA256);
    assert_eq!(common_name(&zero.certificate), None);
    assert_eq!(common_name(b"no certificate"), None);
}

#[test]
fn a_clients_certificate_is_asked_for_and_not_needed() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let own = self_signed(&parameters("server", &["server"]), &PKCS_ECDSA_P256_SHA256);
    let (config, hash) = accept_config(&client_plan(&own, vec![authority.certificate.clone()])).unwrap();
    assert_eq!(hash, end_point_hash(&own.certificate));
    let ada = authority.sign(&parameters("ada", &[]));
    let (mut client, mut server) = connect_with(&config, Some(&ada));
    shake(&mut client, &mut server).unwrap();
    assert_eq!(server.peer_certificate().and_then(common_name).as_deref(), Some("ada"));
    assert_eq!(client.peer_certificate(), Some(own.certificate.as_slice()));

    let (mut client, mut server) = connect_with(&config, None);
    shake(&mut client, &mut server).unwrap();
    assert_eq!(server.peer_certificate(), None);

    let stranger = other.sign(&parameters("ada", &[]));
    let (mut client, mut server) = connect_with(&config, Some(&stranger));
    assert!(shake(&mut client, &mut server).is_err());
}

#[test]
fn the_protocol_is_agreed_on_with_those_that_offer_any() {
    let (client, server) = super::testing::agreed();
    assert_eq!((client.alpn(), server.alpn()), (Some(ALPN), Some(ALPN)));
    assert!(server.description().unwrap().starts_with("TLSv1.3/TLS13_"), "{:?}", server.description());

    let own = self_signed(&parameters("server", &[]), &PKCS_ECDSA_P256_SHA256);
    let (config, _) = accept_config(&client_plan(&own, vec![])).unwrap();
    let (mut client, mut server) = connect_with(&config, None);
    shake(&mut client, &mut server).unwrap();
    assert_eq!(server.alpn(), None);
}

#[test]
fn what_cannot_be_a_configuration_says_why() {
    let pair = self_signed(&parameters("server", &[]), &PKCS_ECDSA_P256_SHA256);
    let other = self_signed(&parameters("server", &[]), &PKCS_ECDSA_P256_SHA256);
    let broken = |certificate: &[u8], key: &[u8], ca: Vec<Vec<u8>>| {
        let pair = Pair { certificate: certificate.to_vec(), key: key.to_vec() };
        accept_config(&client_plan(&pair, ca)).unwrap_err()
    };
    assert!(matches!(broken(&pair.certificate, b"no key", vec![]), TlsError::Key(_)));
    assert!(matches!(broken(&pair.certificate, &other.key, vec![]), TlsError::Certificate(_)));
    assert!(matches!(broken(b"no certificate", &pair.key, vec![]), TlsError::Certificate(_)));
    assert!(matches!(
        accept_config(&ClientTlsPlan { certificates: vec![], ..client_plan(&pair, vec![]) }),
        Err(TlsError::Certificate(rustls::Error::NoCertificatesPresented))
    ));
    assert!(matches!(
        broken(&pair.certificate, &pair.key, vec![pair.certificate.clone(), b"none".to_vec()]),
        TlsError::Authority { number: 2, .. }
    ));
    let plan = server_plan(ServerTlsMode::VerifyCa, vec![b"none".to_vec()]);
    assert!(matches!(connect_config(&plan), Err(TlsError::Authority { number: 1, .. })));
    assert!(connect_config(&server_plan(ServerTlsMode::Disable, vec![])).is_ok());
    assert!(!format!("{:?}", client_plan(&pair, vec![])).contains("key"));
}

#[test]
fn names_are_dns_names_or_addresses() {
    for name in ["db", "db.internal", "10.0.0.1", "::1", "[::1]"] {
        assert!(server_name(name).is_ok(), "{name}");
    }
    for name in ["", "a b", "/run/postgresql", "db:5432"] {
        assert!(matches!(server_name(name), Err(TlsError::Name(_))), "{name}");
    }
}

#[test]
fn a_certificate_of_version_1_will_do_where_it_is_not_looked_at_or_listed() {
    let pair = Pair { certificate: STANDARD.decode(VERSION_1).unwrap(), key: STANDARD.decode(VERSION_1_KEY).unwrap() };
    assert_eq!(takes(ServerTlsMode::Require, &[], &pair, "elsewhere"), Ok(()));
    assert_eq!(takes(ServerTlsMode::VerifyCa, &[&pair.certificate], &pair, "elsewhere"), Ok(()));
    let other = Authority::new("other");
    assert!(takes(ServerTlsMode::VerifyCa, &[&other.certificate], &pair, "elsewhere").is_err());
}

#[test]
fn errors_are_told_so_that_somebody_can_put_them_right() {
    let own = self_signed(&parameters("server", &[]), &PKCS_ECDSA_P256_SHA256);
    let plan = server_plan(ServerTlsMode::VerifyCa, vec![Authority::new("one").certificate]);
    let (mut client, mut server) = ends(&client_plan(&own, vec![]), &plan, "server");
    shake(&mut client, &mut server).unwrap_err();
    let told = server.read(&mut [0; 8]).unwrap_err();
    assert_eq!(explain(&told), "the other side does not accept our certificate (UnknownCA)");
    let (config, _) = accept_config(&client_plan(&own, vec![])).unwrap();
    let http = TlsStream::new(
        rustls::ServerConnection::new(config).unwrap(),
        super::testing::wires().0,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(explain(&http.unwrap_err()), "what the other side sends is not TLS");
    assert_eq!(explain(&std::io::Error::other("reset")), "reset");
}
