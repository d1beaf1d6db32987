//! TLS towards a real server, in every mode, and SCRAM that is bound to it.

use std::sync::OnceLock;

use pool::auth::Secret;
use pool::connect::{self, Account, OpenError, Opened};
use pool::plan::{ServerAddress, ServerPlan, ServerTlsMode, ServerTlsPlan};
use testkit::postgres::Instance;

use crate::kit::{APP, SOON, Tls, block_on, prepared, shared};

/// A server with TLS, and its certificate.
fn secure() -> &'static (Instance, Vec<u8>) {
    static SECURE: OnceLock<(Instance, Vec<u8>)> = OnceLock::new();
    SECURE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let instance = Instance::with_ssl(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
        (prepared(instance), made.cert.der().to_vec())
    })
}

fn attempt(instance: &Instance, host: &str, mode: ServerTlsMode, ca: &[u8]) -> Result<Opened, OpenError> {
    let address = ServerAddress::Tcp { host: host.to_owned(), port: instance.port() };
    let server = ServerPlan { name: format!("{host}:{}", instance.port()), address };
    let ca = if ca.is_empty() { Vec::new() } else { vec![ca.to_vec()] };
    let tls = Tls::new(ServerTlsPlan { mode, direct: false, ca });
    let secret = Secret::Password(APP.1.to_owned());
    let account = Account { database: APP.2, user: APP.0, secret, settings: &[] };
    block_on(connect::open(&server, tls.security(), account, SOON))
}

fn other_certificate() -> Vec<u8> {
    rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.der().to_vec()
}

#[test]
fn a_server_with_tls_in_each_mode() {
    let (instance, certificate) = secure();
    let is_tls = |mode, host: &str, ca: &[u8]| attempt(instance, host, mode, ca).map(|opened| opened.tls.is_some());
    assert!(!is_tls(ServerTlsMode::Disable, "127.0.0.1", &[]).unwrap());
    assert!(is_tls(ServerTlsMode::Prefer, "127.0.0.1", &[]).unwrap());
    assert!(is_tls(ServerTlsMode::Require, "127.0.0.1", &[]).unwrap());
    assert!(is_tls(ServerTlsMode::VerifyCa, "127.0.0.1", certificate).unwrap(), "the name does not count");
    assert!(is_tls(ServerTlsMode::VerifyFull, "localhost", certificate).unwrap());
}

#[test]
fn a_certificate_that_does_not_fit_is_refused() {
    let (instance, certificate) = secure();
    let refused = [
        (ServerTlsMode::VerifyFull, "127.0.0.1", certificate.clone()),
        (ServerTlsMode::VerifyFull, "localhost", other_certificate()),
        (ServerTlsMode::VerifyCa, "localhost", other_certificate()),
    ];
    for (mode, host, ca) in refused {
        let error = attempt(instance, host, mode, &ca).unwrap_err();
        assert!(matches!(error, OpenError::Tls { .. }), "{mode:?}: {error}");
        assert!(!error.is_transient(), "{mode:?}: {error}");
        assert_eq!(error.sqlstate(), "08001");
    }
}

#[test]
fn a_server_without_tls() {
    let is_tls = |mode| attempt(shared(), "localhost", mode, &other_certificate()).map(|opened| opened.tls.is_some());
    assert!(!is_tls(ServerTlsMode::Prefer).unwrap());
    for mode in [ServerTlsMode::Require, ServerTlsMode::VerifyCa, ServerTlsMode::VerifyFull] {
        let error = is_tls(mode).unwrap_err();
        assert!(matches!(error, OpenError::NoTls { .. }) && !error.is_transient(), "{error}");
    }
}

/// A server that saw a binding where it should have, or none where it should not, would refuse the login; that -PLUS was
/// taken is seen in that it is refused for another certificate than the server's.
#[test]
fn scram_is_bound_to_the_channel() {
    use pool::login::server::{Channel, ServerLogin, ServerStep};
    use pool::wire::{HEADER, frame, frontend};
    use std::io::{Read as _, Write as _};

    let (instance, certificate) = secure();
    let log_in = |hash: Option<Vec<u8>>| {
        let tls = Tls::new(ServerTlsPlan { mode: ServerTlsMode::Require, direct: false, ca: Vec::new() });
        let mut socket = std::net::TcpStream::connect(instance.addr()).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut out = Vec::new();
        frontend::put_ssl_request(&mut out);
        socket.write_all(&out).unwrap();
        let mut answer = [0];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"S");
        let name = pool::tls::server_name("localhost").unwrap();
        let session = rustls::ClientConnection::new(tls.security().config.clone(), name).unwrap();
        let mut stream = rustls::StreamOwned::new(session, socket);
        out.clear();
        frontend::put_startup(&mut out, 0, &[("user", APP.0), ("database", APP.2)]);
        let mut login = ServerLogin::begin(Secret::Password(APP.1.to_owned()), APP.0, Channel::Tls(hash));
        let mut read = Vec::new();
        loop {
            stream.write_all(&out).unwrap();
            out.clear();
            while frame(&read).unwrap().is_none_or(|frame| frame.len > read.len()) {
                let mut more = [0; 4096];
                let count = stream.read(&mut more).unwrap();
                read.extend_from_slice(&more[..count]);
            }
            let message = frame(&read).unwrap().unwrap();
            let step = login.message(message.tag, &read[HEADER..message.len], &mut out)?;
            read.drain(..message.len);
            if matches!(step, ServerStep::Ready(_)) {
                return Ok::<(), pool::login::ServerLoginError>(());
            }
        }
    };
    log_in(pool::tls::end_point_hash(certificate)).unwrap();
    log_in(pool::tls::end_point_hash(&other_certificate())).unwrap_err();
}
