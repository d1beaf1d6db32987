//! Verifiers, asked of a real server.

use std::sync::Arc;

use pool::auth::Verifier;
use pool::verifiers::{LookupError, Verifiers};
use testkit::postgres::Instance;

use crate::kit::{APP, POOLER, Watched, block_on, plan, prepared, shared, watch};

fn verifiers(watched: &Watched) -> Verifiers {
    Verifiers::new(Arc::clone(&watched.cluster), watched.clock.clone())
}

#[test]
fn a_user_is_looked_up_once_and_remembered() {
    let watched = watch(plan(&[shared()]));
    let verifiers = verifiers(&watched);
    assert!(verifiers.known(APP.0).is_none());
    let found = block_on(verifiers.lookup(APP.0)).unwrap().unwrap();
    assert!(matches!(*found, Verifier::Scram(_)));
    assert!(verifiers.known(APP.0).is_some());
    assert!(block_on(verifiers.lookup("nobody")).unwrap().is_none());
    assert!(verifiers.known("nobody").is_some());
    assert!(block_on(verifiers.lookup("'; DROP TABLE x; --")).unwrap().is_none());
}

#[test]
fn who_would_be_too_powerful_or_cannot_log_in_is_nobody() {
    let instance = shared();
    instance.psql("create role expired login password 'x' valid until '2001-01-01'; create role no_login password 'x'; create role boss superuser login password 'x'; create role empty login");
    let watched = watch(plan(&[instance]));
    let verifiers = verifiers(&watched);
    for user in ["expired", "no_login", "boss", "postgres"] {
        assert!(block_on(verifiers.lookup(user)).unwrap().is_none(), "{user}");
    }
    assert!(matches!(*block_on(verifiers.lookup("empty")).unwrap().unwrap(), Verifier::None));
}

#[test]
fn only_the_poolers_user_may_ask_and_asking_is_safe_to_set_up_twice() {
    let instance = shared();
    let text = pool::verifiers::create_function(POOLER.0);
    instance
        .try_psql(APP.2, "drop schema if exists evenkeel cascade; create schema evenkeel authorization app")
        .unwrap();
    let mine = "set role app; create function evenkeel.user_lookup(name text, out usename text, out passwd text) \
                returns setof record language sql as 'select name, name'";
    instance.try_psql(APP.2, mine).unwrap();
    instance.try_psql(APP.2, &text).unwrap();
    instance.try_psql(APP.2, &text).unwrap();
    let owner = "select proowner::regrole from pg_proc where oid = 'evenkeel.user_lookup'::regproc";
    assert_eq!(instance.try_psql(APP.2, owner).unwrap(), "postgres");
    let refused = instance.try_psql(APP.2, "set role app; select * from evenkeel.user_lookup('app')").unwrap_err();
    assert!(format!("{refused:#}").contains("permission denied"), "{refused:#}");
    let found = instance.try_psql(APP.2, "set role evenkeel; select usename from evenkeel.user_lookup('app')").unwrap();
    assert_eq!(found, "app");
}

#[test]
fn users_of_the_file_come_first_and_many_ask_at_once() {
    let mut plan = plan(&[shared()]);
    plan.auth.users = vec![(APP.0.to_owned(), "plain".to_owned())];
    let watched = watch(plan);
    let verifiers = Arc::new(verifiers(&watched));
    assert!(matches!(*block_on(verifiers.lookup(APP.0)).unwrap().unwrap(), Verifier::Plain(_)));
    block_on(async {
        let ask = |i: usize| {
            let verifiers = Arc::clone(&verifiers);
            tokio::spawn(async move { verifiers.lookup(if i < 50 { POOLER.0 } else { "nobody" }).await })
        };
        for (i, asked) in (0..100).map(ask).collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(asked.await.unwrap().unwrap().is_some(), i < 50);
        }
    });
}

#[test]
fn a_missing_function_says_what_to_do() {
    let mut plan = plan(&[shared()]);
    plan.auth.query = "SELECT usename, passwd FROM no_such.lookup($1)".into();
    let watched = watch(plan);
    let error = block_on(verifiers(&watched).lookup(APP.0)).unwrap_err();
    assert!(matches!(error, LookupError::Refused(_)) && !error.is_transient());
    assert!(error.to_string().contains("evenkeel check"), "{error}");
}

#[test]
fn the_session_is_replaced_after_a_restart_and_what_is_known_outlives_the_server() {
    let mut instance = prepared(Instance::start().unwrap());
    let watched = watch(plan(&[&instance]));
    let verifiers = verifiers(&watched);
    assert!(block_on(verifiers.lookup(APP.0)).unwrap().is_some());
    instance.restart_fast().unwrap();
    assert!(block_on(verifiers.lookup(POOLER.0)).unwrap().is_some(), "asked at a new session");
    instance.psql("alter role app password 'another'");
    instance.stop_fast().unwrap();
    let error = block_on(verifiers.lookup("later")).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(block_on(verifiers.lookup(APP.0)).unwrap().is_some());
}
