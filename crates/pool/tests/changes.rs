//! Plans that change while clients are there, and the end.

use pool::plan::{Listen, Mode, Plan};

use crate::kit::{APP, SOON, block_on, shared};
use crate::through::through;

/// How many connections lead to a database.
fn open(database: &str) -> String {
    shared().psql(&format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")).trim().to_owned()
}

#[test]
fn a_pool_that_is_taken_out_closes_what_it_has_open() {
    shared().psql(&format!("CREATE DATABASE gone OWNER {}", APP.0));
    let own = through(|plan| plan.min_size = 3);
    let mut clients = [own.login("gone"), own.login("gone")];
    clients[0].query("BEGIN").unwrap();
    clients[1].query("SELECT 1").unwrap();
    testkit::poll_until(SOON, || (open("gone") == "3").then_some(())).expect("the least is open");
    own.pools.apply(&Plan::default()).unwrap();
    for mut client in clients {
        assert!(std::iter::from_fn(|| client.next()).any(|(tag, _)| tag == b'E'));
    }
    testkit::poll_until(SOON, || (open("gone") == "0").then_some(())).expect("nothing is open");
    // It comes back as another one, and what is counted of its statements is seen.
    own.reload(|_| {});
    own.login("gone").query("SELECT 'back'").unwrap();
    let counted = || own.pools.statements("main").iter().any(|s| s.text.contains("select ?")).then_some(());
    testkit::poll_until(SOON, counted).expect("statements are counted");
}

#[test]
fn a_pool_listens_where_it_did_until_a_restart() {
    let own = through(|_| {});
    own.reload(|plan| plan.listen = vec![Listen::Tcp("127.0.0.1:1".parse().unwrap())]);
    own.login(APP.2).query("SELECT 1").unwrap();
}

#[test]
fn a_reload_lets_more_shapes_of_statements_be_counted_apart() {
    let own = through(|plan| plan.statements = 1);
    let mut client = own.login(APP.2);
    for text in ["SELECT 1", "SELECT 1, 2"] {
        client.query(text).unwrap();
    }
    let apart = |shape: &str| own.pools.statements("main").iter().any(|s| s.text == shape && s.calls == 1);
    testkit::poll_until(SOON, || apart("select ?").then_some(())).expect("the first has its own place");
    assert!(!apart("select ?, ?"), "there is one place");
    own.reload(|plan| plan.statements = 100);
    // One that is called takes the place of one that is not, if there is only one.
    testkit::poll_until(SOON, || {
        ["SELECT 1, 2, 3", "SELECT 1, 2, 3, 4"].iter().for_each(|text| drop(client.query(text).unwrap()));
        let shapes: Vec<String> = own.pools.statements("main").into_iter().map(|s| s.text).collect();
        ["select ?", "select ?, ?, ?", "select ?, ?, ?, ?"].iter().all(|s| shapes.iter().any(|t| t == s)).then_some(())
    })
    .expect("there are more places");
}

#[test]
fn connections_beyond_what_a_smaller_plan_allows_are_closed() {
    shared().psql(&format!("CREATE DATABASE smaller OWNER {}", APP.0));
    let own = through(|plan| plan.size = 40);
    let mut clients: Vec<_> = (0..12).map(|_| own.login("smaller")).collect();
    clients.iter_mut().for_each(|client| drop(client.query("BEGIN").unwrap()));
    assert_eq!(open("smaller"), "12");
    own.reload(|plan| plan.size = 4);
    // They are at several workers, and stay there; each gets its turn.
    for client in &mut clients {
        client.query("COMMIT").unwrap();
    }
    testkit::poll_until(SOON, || (open("smaller") == "4").then_some(())).expect("the rest is closed");
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| drop(client.query("SELECT 1").unwrap()));
    }
}

#[test]
fn a_client_that_keeps_its_connection_leaves_at_a_stop_when_it_has_nothing_under_way() {
    let own = through(|plan| plan.mode = Mode::Session);
    let mut client = own.login(APP.2);
    client.query("SELECT 1").unwrap();
    own.drain();
    assert!(std::iter::from_fn(|| client.next()).any(|(tag, _)| tag == b'E'));
    testkit::poll_until(SOON, || (own.pools.client_count() == 0).then_some(())).expect("nobody is there");
}

#[test]
fn a_group_that_has_nothing_gets_its_share_of_a_full_pool() {
    shared().psql(&format!("CREATE DATABASE greedy OWNER {0}; ", APP.0));
    shared().psql(&format!("CREATE DATABASE modest OWNER {0}; ", APP.0));
    let own = through(|plan| (plan.size, plan.max_connections) = (2, 2));
    // Two connections, and always somebody who waits for them.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let greedy: Vec<_> = (0..8).map(|_| own.login("greedy")).collect();
        for mut client in greedy {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    client.query("SELECT pg_sleep(0.005)").unwrap();
                }
            });
        }
        let waits = || {
            let clients = block_on(own.pools.clients("main"));
            clients.iter().any(|client| client.state == "waiting").then_some(())
        };
        let is_full = testkit::poll_until(SOON, waits);
        let modest = || own.login("modest").query("SELECT 1").is_ok();
        let served = is_full.and_then(|()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(modest)).ok());
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(served, Some(true));
    });
}
