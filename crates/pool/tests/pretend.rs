//! A server that is none: it says what a test wants, to see how many log in at once and what is asked of whom.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kernel::event::EventKind;
use pool::auth::Secret;
use pool::connect::OpenError;
use pool::plan::{PoolPlan, ServerAddress, ServerPlan};
use pool::wire::{HEADER, Startup, backend, frame, frontend, startup, tag};
use testkit::Gate;

use crate::kit::{POOLER, SOON, Watched, block_on, control, plan, watch};

struct Pretender {
    address: SocketAddr,
    seen: Arc<Seen>,
}

struct Seen {
    /// Whether the cluster's identity may be read.
    is_open: AtomicBool,
    /// Logins of users that wait at the gate, the most that ever did, and all.
    waiting: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
    gate: Gate,
    asked: Mutex<Vec<String>>,
}

fn pretend(is_open: bool) -> Pretender {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let zero = || AtomicUsize::new(0);
    let seen = Arc::new(Seen {
        is_open: AtomicBool::new(is_open),
        waiting: zero(),
        most: zero(),
        all: zero(),
        gate: Gate::default(),
        asked: Mutex::default(),
    });
    let shared = Arc::clone(&seen);
    // It ends with the process.
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let seen = Arc::clone(&shared);
            std::thread::spawn(move || serve(socket.unwrap(), &seen));
        }
    });
    Pretender { address, seen }
}

/// One session, until the other end is gone.
fn serve(mut socket: TcpStream, seen: &Seen) {
    let (mut buf, mut more) = (Vec::new(), [0; 4096]);
    let is_pooler = loop {
        match startup(&buf).unwrap() {
            Some((Startup::Session { parameters, .. }, length)) => {
                let is_pooler = parameters.contains(&("user", POOLER.0));
                buf.drain(..length);
                break is_pooler;
            }
            Some(other) => panic!("{other:?}"),
            None => match socket.read(&mut more) {
                Ok(count) if count > 0 => buf.extend_from_slice(&more[..count]),
                _ => return,
            },
        }
    };
    if !is_pooler {
        seen.all.fetch_add(1, Ordering::SeqCst);
        seen.most.fetch_max(seen.waiting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        assert!(seen.gate.wait(SOON * 3), "nobody opened the gate");
        seen.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    let mut out = Vec::new();
    backend::put_authentication_ok(&mut out);
    backend::put_parameter_status(&mut out, "in_hot_standby", "off");
    backend::put_ready(&mut out, b'I');
    while socket.write_all(&out).is_ok() {
        out.clear();
        while frame(&buf).unwrap().is_none_or(|frame| frame.len > buf.len()) {
            match socket.read(&mut more) {
                Ok(count) if count > 0 => buf.extend_from_slice(&more[..count]),
                _ => return,
            }
        }
        let message = frame(&buf).unwrap().unwrap();
        if message.tag == tag::TERMINATE {
            return;
        }
        let text = String::from_utf8(frontend::query_text(&buf[HEADER..message.len]).unwrap().to_vec()).unwrap();
        buf.drain(..message.len);
        answer(&text, seen, &mut out);
        seen.asked.lock().unwrap().push(text);
    }
}

fn answer(text: &str, seen: &Seen, out: &mut Vec<u8>) {
    if text.contains("pg_control_system") && !seen.is_open.load(Ordering::SeqCst) {
        backend::put_error(out, "ERROR", "42501", "permission denied for function pg_control_system", None, None);
    } else if text.contains("max_connections") {
        backend::put_data_row(out, &[Some("100"), Some("3"), Some("2"), Some("1700000000000000"), None]);
    } else {
        backend::put_data_row(out, &[Some("f"), Some("00000003000000000000000A"), Some("12345")]);
    }
    backend::put_ready(out, b'I');
}

impl Pretender {
    fn watched(&self) -> Watched {
        let address = ServerAddress::Tcp { host: self.address.ip().to_string(), port: self.address.port() };
        let servers = vec![ServerPlan { name: "pretender".into(), address }];
        // Patient: these tests are not about silence.
        watch(PoolPlan { servers, probe_interval: SOON, ..plan(&[]) })
    }
}

#[test]
fn few_log_in_at_once_and_all_of_them_in_the_end() {
    let pretender = pretend(true);
    let watched = pretender.watched();
    watched.until("a primary", |standing| standing.is_open());
    let open = || {
        let cluster = Arc::clone(&watched.cluster);
        control().spawn(async move { cluster.open_at_primary("d", "u", Secret::None).await })
    };
    let opening: Vec<_> = (0..20).map(|_| open()).collect();
    let seen = &pretender.seen;
    testkit::eventually(SOON, "eight", || (seen.waiting.load(Ordering::SeqCst) == 8).then_some(()));
    seen.gate.open();
    for opened in opening {
        block_on(opened).unwrap().unwrap();
    }
    assert_eq!((seen.most.load(Ordering::SeqCst), seen.all.load(Ordering::SeqCst)), (8, 20));
}

#[test]
fn a_server_whose_identity_must_not_be_read_is_asked_for_the_rest() {
    let pretender = pretend(false);
    let watched = pretender.watched();
    watched.until("a primary", |standing| standing.is_open());
    let view = &watched.cluster.views()[0];
    assert_eq!((view.timeline, view.lsn, view.max_connections), (Some(3), Some(12_345), Some(95)));
    let asked = pretender.seen.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|text| text.contains("pg_control_system")).count(), 1, "{asked:?}");
    assert_eq!(watched.journal.told(EventKind::PoolPrimaryFound), 1);
}

#[test]
fn who_waits_for_a_login_does_not_wait_for_ever() {
    let pretender = pretend(true);
    let watched = pretender.watched();
    watched.until("a primary", |standing| standing.is_open());
    let mut plan = (*watched.cluster.plan()).clone();
    plan.connect_timeout = std::time::Duration::from_millis(200);
    watched.cluster.reload(Arc::new(plan)).unwrap();
    let error = block_on(watched.cluster.open_at_primary("d", "u", Secret::None)).unwrap_err();
    assert!(matches!(error, OpenError::Timeout { .. }) && error.is_transient(), "{error}");
    assert!(watched.cluster.primary().is_open(), "its probe is answered");
    pretender.seen.gate.open();
}
