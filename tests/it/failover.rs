//! A service with a primary and a standby tier: the primary is lost and comes back, comes and goes, an operator moves the
//! service with a reason, and a restart in between keeps it there. Every step is seen on real sockets.

use testkit::binary::Signal;
use testkit::{Binary, ServingUpstream, eventually};

use crate::support::{Config, SOON, ask, json, run, saying};

struct Tiers {
    primary: [ServingUpstream; 2],
    standby: [ServingUpstream; 2],
    config: Config,
    _store: tempfile::TempDir,
}

impl Tiers {
    /// Two endpoints in each tier; the primary takes its requests back after it was whole for a second.
    fn new() -> Tiers {
        let primary = [saying("primary"), saying("primary")];
        let standby = [saying("standby"), saying("standby")];
        let store = tempfile::tempdir().unwrap();
        let name = |u: &ServingUpstream| format!("\"{}\"", u.addr());
        let second = |u: &ServingUpstream| format!("{{ address = \"{}\", tier = 1 }}", u.addr());
        let endpoints: Vec<String> = primary.iter().map(name).chain(standby.iter().map(second)).collect();
        let config = Config::new().with(&format!(
            "[store]\ndirectory = \"{}\"\n[service.shop]\nendpoints = [{}]\n\
             health = {{ tcp = true, interval = \"200ms\", fast_interval = \"100ms\" }}\n\
             failover = {{ fail_back_delay = \"1s\" }}\noutlier = {{ base_ejection = \"200ms\" }}\n",
            store.path().join("data").display(),
            endpoints.join(", ")
        ));
        Tiers { primary, standby, config, _store: store }
    }

    fn primary_down(&self) {
        self.primary.iter().for_each(ServingUpstream::down);
    }

    fn primary_up(&self) {
        self.primary.iter().for_each(|u| u.up().unwrap());
    }
}

/// Who answers one request; it is answered in any case.
#[track_caller]
fn answer(node: &Binary) -> String {
    let answer = ask(node.gateway(), "GET /");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

fn until(node: &Binary, who: &str) {
    eventually(SOON, &format!("the {who} tier to answer"), || (answer(node) == who).then_some(()));
}

/// The tier in use, and the one that an operator chose.
fn tiers(node: &Binary) -> (Option<u64>, Option<u64>) {
    let status = json(&ask(node.console(), "GET /v1/status"));
    let shop = &status["services"][0];
    (shop["active_tier"].as_u64(), shop["forced_tier"].as_u64())
}

#[test]
fn a_lost_primary_is_left_at_once_and_taken_back_after_a_while() {
    let shop = Tiers::new();
    let node = shop.config.up();
    assert!((0..6).all(|_| answer(&node) == "primary"));
    assert_eq!(tiers(&node), (Some(0), None));
    shop.primary_down();
    // Nobody notices: the first requests find the connections refused and go on.
    assert!((0..12).all(|_| answer(&node) == "standby"));
    eventually(SOON, "the standby tier to be in use", || (tiers(&node).0 == Some(1)).then_some(()));
    shop.primary_up();
    until(&node, "primary");
    eventually(SOON, "the primary tier to be in use", || (tiers(&node) == (Some(0), None)).then_some(()));
}

#[test]
fn a_primary_that_comes_and_goes_does_not_bounce_the_requests() {
    let shop = Tiers::new();
    let node = shop.config.up();
    assert_eq!(answer(&node), "primary");
    for _ in 0..3 {
        shop.primary_down();
        until(&node, "standby");
        eventually(SOON, "the standby tier to be in use", || (tiers(&node).0 == Some(1)).then_some(()));
        // Up for a moment only: not for as long as it takes to be trusted again.
        shop.primary_up();
        assert_eq!(answer(&node), "standby");
    }
    // Now it stays.
    until(&node, "primary");
}

#[test]
fn an_operators_choice_of_a_tier_outlives_a_restart_until_it_is_taken_back() {
    let shop = Tiers::new();
    let mut node = shop.config.up();
    let tell = |node: &Binary, args: &[&str]| {
        let done = run(&[args, &["--admin", &format!("http://{}", node.console())]].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
    };
    tell(&node, &["service", "failover", "shop", "--reason", "maintenance in rack 4"]);
    assert!((0..6).all(|_| answer(&node) == "standby"));
    assert_eq!(tiers(&node), (Some(1), Some(1)));
    node.signal(Signal::Kill).unwrap();
    assert_eq!(node.wait_exit(SOON).unwrap(), None);

    let before: usize = shop.primary.iter().map(ServingUpstream::requests).sum();
    let node = shop.config.up();
    assert!((0..6).all(|_| answer(&node) == "standby"));
    assert_eq!(tiers(&node), (Some(1), Some(1)));
    let after: usize = shop.primary.iter().map(ServingUpstream::requests).sum();
    assert_eq!(after, before, "a request came through before the decision was in force");
    let status = ask(node.console(), "GET /v1/status").text();
    assert!(status.contains("maintenance in rack 4"), "{status}");
    // The primary fails and returns meanwhile; the choice stands.
    shop.primary_down();
    assert_eq!(answer(&node), "standby");
    shop.primary_up();
    assert_eq!(answer(&node), "standby");
    assert!(shop.standby.iter().all(|u| u.requests() > 0));
    tell(&node, &["service", "failback", "shop"]);
    until(&node, "primary");
    assert_eq!(tiers(&node), (Some(0), None));
}
