//! A node under a service manager: what it is told, and the sockets that it passes.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use testkit::{Binary, Load, LoadOptions, RawClient, Resend, Signal, eventually};

use crate::handover::{ends, store, with_store};
use crate::support::{Config, SOON, ask, saying};

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Manager {
    #[track_caller]
    fn listen() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Manager { socket, path, _directory: directory }
    }

    /// The next thing it is told, as lines; signs of life are passed over.
    #[track_caller]
    fn hears(&self) -> Vec<String> {
        loop {
            let lines = self.hears_all();
            if lines != ["WATCHDOG=1"] {
                return lines;
            }
        }
    }

    #[track_caller]
    fn hears_all(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let n = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).lines().map(str::to_owned).collect()
    }

    fn env(&self) -> (&str, &str) {
        ("NOTIFY_SOCKET", self.path.to_str().unwrap())
    }
}

#[test]
fn start_reload_and_stop_are_told() {
    let (manager, store, shop) = (Manager::listen(), store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut node = Binary::up_with(&config.text(), &[], &[manager.env()]).unwrap();
    let serving = format!("STATUS=Serving on {}.", node.gateway());
    assert_eq!(manager.hears(), ["READY=1", &serving]);

    node.signal(Signal::Hup).unwrap();
    let begin = manager.hears();
    assert_eq!(begin[0], "RELOADING=1");
    let at = begin[1].strip_prefix("MONOTONIC_USEC=").and_then(|us| us.parse::<u64>().ok());
    assert!(at.is_some_and(|us| us > 0), "{begin:?}");
    assert_eq!(manager.hears(), ["READY=1", &serving]);

    node.write_config("nonsense").unwrap();
    node.signal(Signal::Hup).unwrap();
    assert_eq!(manager.hears()[0], "RELOADING=1");
    let refused = manager.hears();
    assert!(refused[0] == "READY=1" && refused[1].contains("the last configuration was refused"), "{refused:?}");

    node.signal(Signal::Term).unwrap();
    // The file is watched as well, and may have been read a second time.
    let stopping = std::iter::repeat_with(|| manager.hears()).take(3).find(|lines| lines[0] == "STOPPING=1");
    assert!(stopping.unwrap()[1].starts_with("STATUS=Stopping"));
    ends(&mut node);
}

#[test]
fn the_process_that_takes_over_says_that_it_is_the_one() {
    let (manager, store, shop) = (Manager::listen(), store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let mut old = Binary::up_with(&config.text(), &[], &[manager.env()]).unwrap();
    assert_eq!(manager.hears()[0], "READY=1");
    let new = Binary::up_with(&config.text(), &["--take-over"], &[manager.env()]).unwrap();
    assert_eq!(manager.hears()[..2], [format!("MAINPID={}", new.pid()), "READY=1".to_owned()]);
    // The one before goes without a word: STOPPING=1 would be about the service.
    ends(&mut old);
    new.signal(Signal::Hup).unwrap();
    assert_eq!(manager.hears()[0], "RELOADING=1");
}

#[test]
fn signs_of_life_come_in_time_and_stop_when_the_process_stands_still() {
    let (manager, shop) = (Manager::listen(), saying("x"));
    let config = Config::new().service("shop", &[shop.addr()], "");
    // Two seconds, as workers come round at least once in one.
    let env = [manager.env(), ("WATCHDOG_USEC", "2000000")];
    let mut node = Binary::up_with(&config.text(), &[], &env).unwrap();
    assert_eq!(manager.hears_all()[0], "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.hears_all(), ["WATCHDOG=1"]);
    }
    node.signal(Signal::Stop).unwrap();
    manager.socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    // One may have been on its way.
    let silent = std::iter::repeat_with(|| manager.socket.recv(&mut [0; 64])).take(3).any(|heard| heard.is_err());
    assert!(silent, "a process that stands still says that it lives");
    node.signal(Signal::Cont).unwrap();
    node.signal(Signal::Term).unwrap();
    ends(&mut node);
}

#[track_caller]
fn passed() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

#[test]
fn a_passed_socket_serves_by_its_name_or_by_its_address() {
    let shop = saying("x");
    let config = Config::new().service("shop", &[shop.addr()], "");
    for (name, listen) in [("gateway", None), ("evenkeel.socket", Some(()))] {
        let socket = passed();
        let addr = socket.local_addr().unwrap();
        let config = match listen {
            // The name is enough; where the configuration would listen does not count then.
            None => config.clone(),
            Some(()) => config.clone().gateway(&format!("listen = \"{addr}\"")),
        };
        let node = Binary::up_with_socket(&config.text(), socket, name, &[]).unwrap();
        assert_eq!(node.addrs("gateway"), [addr], "{name}");
        assert_eq!(ask(addr, "GET /").status, 200);
    }
}

#[test]
fn a_passed_socket_that_nobody_wants_is_said() {
    let shop = saying("x");
    let config = Config::new().service("shop", &[shop.addr()], "");
    let socket = passed();
    let addr = socket.local_addr().unwrap();
    let node = Binary::up_with_socket(&config.text(), socket, "other", &[]).unwrap();
    assert_ne!(node.gateway(), addr);
    node.wait_log("is for no listener of the configuration", SOON).unwrap();
}

#[test]
fn restarts_under_load_on_a_passed_socket_fail_nobody() {
    let shop = saying("x");
    let config = Config::new().service("shop", &[shop.addr()], "");
    // What the service manager holds on to.
    let socket = passed();
    let gateway = socket.local_addr().unwrap();
    let up = || Binary::up_with_socket(&config.text(), socket.try_clone().unwrap(), "gateway", &[]).unwrap();
    let mut node = up();
    let options =
        LoadOptions { resend: Resend::Never, requests_per_connection: Some(1), ..LoadOptions::new(gateway, 4) };
    let load = Load::start(options).unwrap();
    for _ in 0..5 {
        let before = load.report().ok;
        eventually(SOON, "load to flow", || (load.report().ok > before + 20).then_some(()));
        node.signal(Signal::Term).unwrap();
        ends(&mut node);
        // Nobody is there: who connects now waits.
        let mut waiting = RawClient::connect(gateway).unwrap();
        node = up();
        assert_eq!(waiting.get("/", SOON).unwrap().status, 200);
    }
    load.stop().assert_clean();
}

#[test]
fn a_passed_socket_stays_the_service_managers_through_a_hand_over() {
    let (store, shop) = (store(), saying("x"));
    let config = with_store(&Config::new().service("shop", &[shop.addr()], ""), store.path());
    let socket = passed();
    let addr = socket.local_addr().unwrap();
    let mut old = Binary::up_with_socket(&config.text(), socket.try_clone().unwrap(), "gateway", &[]).unwrap();
    let same = config.gateway(&format!("listen = \"{addr}\""));
    let mut new = crate::handover::next(&same);
    ends(&mut old);
    assert_eq!(ask(addr, "GET /").status, 200);
    new.signal(Signal::Term).unwrap();
    ends(&mut new);
    // No filter is left on it: whoever holds it is connected to.
    let client = std::thread::spawn(move || RawClient::connect(addr).is_ok());
    socket.set_nonblocking(false).unwrap();
    socket.accept().unwrap();
    assert!(client.join().unwrap());
}
