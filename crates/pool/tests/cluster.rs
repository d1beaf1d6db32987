//! One server as a cluster sees it: found, restarted, full, locked out of.

use std::sync::Arc;
use std::time::Duration;

use kernel::event::EventKind;
use pool::auth::Secret;
use pool::connect::OpenError;
use pool::plan::ServerAddress;
use testkit::postgres::{Instance, Options};

use crate::kit::{APP, POOLER, SOON, block_on, plan, prepared, shared, watch};

fn secret() -> Secret {
    Secret::Password(APP.1.to_owned())
}

#[test]
fn a_primary_is_found_and_what_clients_are_told_is_known() {
    let watched = watch(plan(&[shared()]));
    assert!(!watched.cluster.primary().is_open());
    let standing = watched.until("a primary", |standing| standing.is_open());
    assert_eq!((standing.server, standing.trouble.clone()), (Some(0), None));
    let welcome = watched.cluster.welcome().unwrap();
    let value = |name: &str| welcome.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!((value("server_encoding"), value("in_hot_standby")), (Some("UTF8"), Some("off")));
    assert_eq!((value("application_name"), value("session_authorization")), (None, None));
    let view = &watched.cluster.views()[0];
    assert_eq!((view.role, view.timeline, view.error.as_deref()), ("primary", Some(1), None));
    assert!(view.max_connections.is_some_and(|takes| takes > 10) && view.lsn.is_some() && view.answered.is_some());
    let (opened, server, epoch) = watched.open();
    assert!(server == 0 && epoch >= standing.epoch);
    assert_eq!(opened.server.name, view.name);
    let probes = "select count(*) from pg_stat_activity where application_name = 'evenkeel' and usename = 'evenkeel'";
    assert_ne!(shared().psql(probes), "0");
}

#[test]
fn a_restart_is_told_survived_and_has_a_new_epoch() {
    let mut instance = prepared(Instance::start().unwrap());
    let watched = watch(plan(&[&instance]));
    let before = watched.until("a primary", |standing| standing.is_open());
    instance.stop_fast().unwrap();
    let lost = watched.until("a loss", |standing| standing.server.is_none());
    assert!(lost.epoch > before.epoch);
    let trouble = watched.until("the reason", |s| s.trouble.as_ref().is_some_and(|t| t.contains("cannot connect")));
    assert!(trouble.trouble.as_ref().unwrap().contains("refused"), "{trouble:?}");
    let error = block_on(watched.cluster.open_at_primary(APP.2, APP.0, secret())).unwrap_err();
    assert!(matches!(error, OpenError::NoPrimary(_)) && error.is_transient(), "{error}");
    assert_eq!(error.sqlstate(), "57P03");
    instance.start_again().unwrap();
    let started = watched.clock.now();
    let found = watched.until("the primary again", |standing| standing.is_open());
    let took = watched.clock.now().since(started);
    assert!(found.epoch > lost.epoch);
    // Asked each 100 ms; the rest is a busy machine's.
    assert!(took < Duration::from_secs(1), "{took:?}");
    watched.open();
    let told = watched.kinds();
    for kind in ["pool.primary_found", "pool.primary_lost"] {
        assert!(told.iter().any(|k| k == kind), "{told:?}");
    }
}

#[test]
fn a_crash_is_a_restart() {
    let mut instance = prepared(Instance::start().unwrap());
    let watched = watch(plan(&[&instance]));
    let before = watched.until("a primary", |standing| standing.is_open());
    instance.stop_immediate().unwrap();
    watched.until("a loss", |standing| standing.server.is_none());
    instance.start_again().unwrap();
    let after = watched.until("the primary again", |standing| standing.is_open());
    assert!(after.epoch > before.epoch);
}

#[test]
fn a_probe_that_is_ended_is_not_the_end_of_its_server() {
    let instance = prepared(Instance::start().unwrap());
    let watched = watch(plan(&[&instance]));
    let before = watched.until("a primary", |standing| standing.is_open());
    let pid = "select coalesce(max(pid), 0) from pg_stat_activity where application_name = 'evenkeel'";
    let first = instance.psql(pid);
    instance.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'evenkeel'");
    testkit::eventually(SOON, "another probe", || Some(instance.psql(pid)).filter(|pid| *pid != first && pid != "0"));
    let after = watched.until("the primary", |standing| standing.is_open());
    assert_eq!(after.epoch, before.epoch);
    assert_eq!(watched.journal.told(EventKind::PoolPrimaryLost), 0);
}

#[test]
fn that_nobody_is_there_at_the_start_is_told_once() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = plan(&[shared()]);
    plan.servers[0].address =
        ServerAddress::Tcp { host: "127.0.0.1".into(), port: nobody.local_addr().unwrap().port() };
    drop(nobody);
    let watched = watch(plan.clone());
    let told = || (watched.journal.told(EventKind::PoolPrimaryMissing) == 1).then_some(());
    testkit::poll_until(SOON, told).expect("it is told");
    plan.servers = vec![crate::kit::server(shared())];
    watched.cluster.reload(Arc::new(plan)).unwrap();
    watched.until("a primary", |standing| standing.is_open());
    assert_eq!(watched.journal.told(EventKind::PoolPrimaryMissing), 1);
    assert_eq!(watched.journal.told(EventKind::PoolPrimaryFound), 1);
}

#[test]
fn who_may_not_log_in_says_so_once() {
    let mut plan = plan(&[shared()]);
    plan.auth.password = "wrong".into();
    let watched = watch(plan);
    let standing =
        watched.until("the reason", |s| s.trouble.as_ref().is_some_and(|trouble| trouble.contains("password")));
    assert_eq!(standing.server, None);
    let view = &watched.cluster.views()[0];
    assert_eq!(view.role, "unreachable");
    assert!(view.error.as_ref().unwrap().contains("password authentication failed for user \"evenkeel\""));
    assert_eq!(watched.journal.told(EventKind::PoolServerDenied), 1);
    let mut right = (*watched.cluster.plan()).clone();
    right.auth.password = POOLER.1.into();
    watched.cluster.reload(Arc::new(right)).unwrap();
    watched.until("a primary", |standing| standing.is_open());
}

#[test]
fn more_connections_than_the_server_takes_are_told_once() {
    let instance = prepared(Options::new().set("max_connections", "20").start().unwrap());
    let watched = watch(plan(&[&instance]));
    watched.until("a primary", |standing| standing.is_open());
    let told = || watched.journal.told(EventKind::PoolCapTooHigh);
    testkit::eventually(SOON, "a warning", || (told() == 1).then_some(()));
    assert_eq!(watched.cluster.views()[0].max_connections, Some(17));
    // A full server refuses, and is the primary all the same.
    let mut held = Vec::new();
    let error = loop {
        match block_on(watched.cluster.open_at_primary(APP.2, APP.0, secret())) {
            Ok(opened) => held.push(opened),
            Err(OpenError::NoPrimary(_)) => drop(watched.until("a primary", |standing| standing.is_open())),
            Err(error) => break error,
        }
    };
    assert!(error.is_transient() && error.sqlstate() == "53300", "{error}");
    watched.until("a primary", |standing| standing.is_open());
    assert_eq!(told(), 1);
}

#[test]
fn nobody_waits_for_a_server_that_is_not_the_primary_any_more() {
    let instance = prepared(Instance::start().unwrap());
    let mut plan = plan(&[&instance]);
    plan.connect_timeout = Duration::from_secs(60);
    let watched = watch(plan);
    watched.until("a primary", |standing| standing.is_open());
    instance.freeze().unwrap();
    let cluster = Arc::clone(&watched.cluster);
    let opening = crate::kit::control().spawn(async move { cluster.open_at_primary(APP.2, APP.0, secret()).await });
    watched.until("silence", |standing| !standing.is_open());
    watched.cluster.drain(&watched.cluster.plan().servers[0].name, "a test", "frozen").unwrap();
    let error = block_on(opening).unwrap().unwrap_err();
    assert!(matches!(error, OpenError::NotPrimary { .. } | OpenError::NoPrimary(_)), "{error}");
    instance.thaw().unwrap();
    watched.cluster.undrain(&watched.cluster.plan().servers[0].name, "a test", "thawed").unwrap();
    watched.until("a primary", |standing| standing.is_open());
}
