//! Logging in at a real server, and what is said when that does not come about.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use pool::auth::Secret;
use pool::connect::{self, Account, OpenError, OpenSocket, Opened};
use pool::plan::{ServerAddress, ServerPlan};

use crate::kit::{APP, NO_TLS, SOON, Tls, block_on, server, shared};

fn attempt(
    server: &ServerPlan,
    database: &str,
    user: &str,
    secret: Secret,
    timeout: Duration,
) -> Result<Opened, OpenError> {
    let tls = Tls::new(NO_TLS);
    let settings = [("application_name", "evenkeel")];
    let account = Account { database, user, secret, settings: &settings };
    block_on(connect::open(server, tls.security(), account, timeout))
}

fn password(text: &str) -> Secret {
    Secret::Password(text.to_owned())
}

#[test]
fn a_connection_is_handed_over_logged_in_and_free() {
    let server = server(shared());
    let opened = attempt(&server, APP.2, APP.0, password(APP.1), SOON).unwrap();
    assert!(opened.session.pid > 0 && !opened.session.key.is_empty());
    assert_eq!(opened.session.status, b'I');
    assert!(opened.rest.is_empty() && opened.tls.is_none());
    let reported = |name: &str| opened.session.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(reported("in_hot_standby"), Some("off"));
    assert_eq!(reported("application_name"), Some("evenkeel"));
    let OpenSocket::Tcp(mut socket) = opened.socket else { panic!("not TCP") };
    assert!(socket.nodelay().unwrap());
    socket.set_nonblocking(false).unwrap();
    let mut question = Vec::new();
    pool::wire::frontend::put_query(&mut question, b"SELECT 'here'");
    pool::wire::frontend::put_terminate(&mut question);
    socket.write_all(&question).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    assert!(answer.windows(4).any(|four| four == b"here"));
}

#[test]
fn a_unix_socket_will_do() {
    let path = shared().socket();
    let server = ServerPlan { name: path.display().to_string(), address: ServerAddress::Unix(path) };
    let opened = attempt(&server, "postgres", "postgres", Secret::None, SOON).unwrap();
    assert!(matches!(opened.socket, OpenSocket::Unix(_)));
}

#[test]
fn a_name_leads_to_its_addresses() {
    let port = shared().port();
    let server = ServerPlan { name: "db".into(), address: ServerAddress::Tcp { host: "localhost".into(), port } };
    attempt(&server, APP.2, APP.0, password(APP.1), SOON).unwrap();
    let server =
        ServerPlan { name: "db".into(), address: ServerAddress::Tcp { host: "no-such-host.invalid".into(), port } };
    let error = attempt(&server, APP.2, APP.0, password(APP.1), SOON).unwrap_err();
    assert!(matches!(error, OpenError::Resolve { .. }) && error.is_transient(), "{error}");
    assert_eq!(error.sqlstate(), "08001");
}

#[test]
fn what_the_server_refuses_is_said_in_its_words() {
    let server = server(shared());
    let error = attempt(&server, APP.2, APP.0, password("wrong"), SOON).unwrap_err();
    assert_eq!((error.sqlstate(), error.is_transient()), ("28P01", false));
    assert!(error.to_string().contains("password authentication failed for user \"app\""), "{error}");
    let error = attempt(&server, "nowhere", APP.0, password(APP.1), SOON).unwrap_err();
    assert_eq!((error.sqlstate(), error.is_transient()), ("3D000", false));
    assert!(error.to_string().contains("database \"nowhere\" does not exist"), "{error}");
    let error = attempt(&server, APP.2, APP.0, Secret::None, SOON).unwrap_err();
    assert!(error.to_string().contains("no key of user \"app\" is known yet"), "{error}");
}

#[test]
fn nobody_there_and_nobody_who_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let host = ServerAddress::Tcp { host: address.ip().to_string(), port: address.port() };
    let server = ServerPlan { name: address.to_string(), address: host };
    let error = attempt(&server, "d", "u", Secret::None, Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, OpenError::Timeout { .. }) && error.is_transient() && !error.is_gone(), "{error}");
    drop(listener);
    let error = attempt(&server, "d", "u", Secret::None, SOON).unwrap_err();
    assert!(matches!(error, OpenError::Connect { .. }) && error.is_transient() && error.is_gone(), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn what_is_not_postgres_is_refused() {
    for (answer, is_endless) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false), (b"N\0\0\0\x05\0", true)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut startup = [0; 1024];
            assert!(socket.read(&mut startup).unwrap() > 0);
            // Until it hangs up, or once.
            while socket.write_all(answer).is_ok() && is_endless {}
        });
        let host = ServerAddress::Tcp { host: address.ip().to_string(), port: address.port() };
        let server = ServerPlan { name: address.to_string(), address: host };
        let error = attempt(&server, "d", "u", Secret::None, SOON).unwrap_err();
        assert!(!matches!(error, OpenError::Timeout { .. }), "{error}");
        assert_eq!(matches!(error, OpenError::Endless { .. }), is_endless, "{error}");
        peer.join().unwrap();
    }
}
