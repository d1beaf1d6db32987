//! The sentences on the first page, whole, for states that somebody will read under pressure.

use std::time::SystemTime;

use kernel::event::Event;
use kernel::journal::{Boot, Journal};
use kernel::{Clock, Entropy, Moment};

use super::*;
use crate::view::{EndpointView, NodeView, Readiness, ServiceView, TrafficView};
use crate::vitals::Window;

const NOW_MS: u64 = 1_772_366_460_000;

fn endpoint(name: &str, state: EndpointState, reason: &str) -> EndpointView {
    EndpointView {
        traffic: TrafficView { name: name.into(), ..TrafficView::default() },
        state,
        reason: reason.into(),
        since: Some(Duration::from_secs(7)),
        ..EndpointView::default()
    }
}

fn said(service: ServiceView, records: &[Record]) -> Headline {
    let view = NodeView { services: vec![service], ..NodeView::default() };
    let window = Window { samples: Vec::new(), now: Moment::ZERO, uptime: Duration::from_secs(60) };
    Headline::of(&Status::new(view, Readiness::yes(), &window), records, NOW_MS)
}

fn shop(endpoints: Vec<EndpointView>) -> ServiceView {
    let traffic = TrafficView { name: "shop".into(), by_class: [0, 9_998, 0, 0, 2, 0], ..TrafficView::default() };
    ServiceView { traffic, endpoints, ..ServiceView::default() }
}

#[test]
fn what_is_out_is_said_with_its_moment_and_with_who_takes_the_requests() {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS - 40_000));
    let journal = Journal::unkept(clock, Boot::new(&mut Entropy::from_seed(1)));
    journal.tell(Event::EndpointEjected {
        service: "shop".into(),
        endpoint: "c:3".into(),
        from: "healthy".into(),
        reason: "refused".into(),
    });
    let endpoints = vec![
        endpoint("a:1", EndpointState::Healthy, "ok"),
        endpoint("b:2", EndpointState::Healthy, "ok"),
        endpoint("c:3", EndpointState::Ejected, "5 attempts to connect failed in a row"),
    ];
    let headline = said(shop(endpoints), &journal.recent(9));
    assert_eq!(headline.headline, "c:3 of shop was taken out 40 s ago: 5 attempts to connect failed in a row.");
    assert_eq!(
        headline.doing,
        ["Its 2 others take the requests; clients of shop saw 0.02 % failures in the last minute."]
    );
}

#[test]
fn the_worst_comes_first_and_the_rest_is_counted() {
    let states = [
        ("a:1", EndpointState::Down),
        ("b:2", EndpointState::Suspect),
        ("c:3", EndpointState::Unhealthy),
        ("d:4", EndpointState::Probation),
        ("e:5", EndpointState::Healthy),
    ];
    let endpoints = states.into_iter().map(|(name, state)| endpoint(name, state, "")).collect();
    let headline = said(shop(endpoints), &[]);
    assert_eq!(headline.headline, "c:3 of shop began to fail its checks 7 s ago.");
    assert_eq!(
        headline.doing,
        [
            "Its 2 others take the requests; clients of shop saw 0.02 % failures in the last minute.",
            "Also: d:4 of shop was put on trial 7 s ago.",
            "Also: b:2 of shop became suspect 7 s ago.",
            "One more endpoint is not healthy."
        ]
    );
}

#[test]
fn a_service_that_nobody_serves_is_said_to_be_so() {
    let lost = ServiceView { parked: 3, ..shop(vec![endpoint("a:1", EndpointState::Ejected, "refused")]) };
    assert_eq!(
        said(lost, &[]).doing,
        [
            "No endpoint of shop takes requests.",
            "3 requests wait for one that can be reached; it is tried again all the time."
        ]
    );
    // They are sent requests all the same, and answer them.
    assert_eq!(
        said(shop(vec![endpoint("a:1", EndpointState::Unhealthy, "too slow")]), &[]).doing,
        [
            "No endpoint of shop is healthy; its requests are sent to them all the same, and 99.98 % succeeded in the last minute."
        ]
    );
}

#[test]
fn failures_are_said_though_nothing_is_held_against_an_endpoint() {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS - 9_000));
    let journal = Journal::unkept(clock, Boot::new(&mut Entropy::from_seed(1)));
    for turned_away in [7, 8] {
        let (service, limit) = ("shop".to_owned(), "max_requests of shop".to_owned());
        journal.tell(Event::LimitReached { service, limit, turned_away });
    }
    let mut shop = shop(vec![endpoint("a:1", EndpointState::Healthy, ""), endpoint("b:2", EndpointState::Healthy, "")]);
    shop.traffic.by_class = [0, 50, 0, 0, 50, 0];
    let headline = said(shop, &journal.recent(9));
    assert_eq!(
        headline.headline,
        "Clients of shop saw 50.00 % failures in the last minute, while its 2 endpoints count as healthy: they fail alike, or requests are turned away before them."
    );
    assert_eq!(headline.doing[0], "The journal says: max_requests of shop turned requests or connections away.");
    assert_eq!(headline.doing.len(), 2);
}

#[test]
fn a_calm_node_says_that_there_is_nothing_to_do() {
    let headline = said(shop(vec![endpoint("a:1", EndpointState::Healthy, "ok")]), &[]);
    assert!(headline.headline.starts_with("The only endpoint of shop is healthy"), "{headline:?}");
    // Drained on purpose is no trouble.
    let drained = vec![endpoint("a:1", EndpointState::Healthy, ""), endpoint("b:2", EndpointState::Drained, "ops")];
    assert_eq!(said(shop(drained), &[]).doing, ["Nothing needs to be done."]);
}

#[test]
fn a_store_that_is_lost_is_something_to_do() {
    let file = |file, state, trouble: &str| FileHealth {
        file,
        path: format!("/data/{file}.db"),
        state,
        trouble: trouble.into(),
        since_ms: 1,
        bytes: 0,
        cap_bytes: 1,
        waiting: 0,
        dropped: 0,
    };
    let well = Headline { headline: "All is well.".into(), doing: vec![NOTHING.into()] };
    let kept = [file("ledger", FileState::Kept, ""), file("journal", FileState::Memory, "")];
    assert_eq!(well.clone().and_store(&kept), well);
    let lost = [file("ledger", FileState::Kept, ""), file("journal", FileState::Lost, "no space\n")];
    let said = "Not kept on disk: journal is lost (/data/journal.db: no space ). Requests are served all the same.";
    assert_eq!(well.clone().and_store(&lost).doing, [said]);
    let both = [file("journal", FileState::Full, "it is as large as it may be"), file("series", FileState::Lost, "x")];
    let doing = well.and_store(&both).doing;
    assert!(doing.len() == 1 && doing[0].starts_with("Not kept on disk: journal, series are full ("), "{doing:?}");
}

#[test]
fn a_pool_without_a_primary_comes_first_and_one_in_doubt_comes_after() {
    use crate::view::{PoolServer, PoolView};
    let server = |role: &str| PoolServer { name: "p:5432".into(), role: role.into(), ..PoolServer::default() };
    let pool = |name: &str, role: &str, primary: Option<usize>, trouble: Option<&str>| PoolView {
        name: name.into(),
        servers: vec![server(role)],
        primary,
        trouble: trouble.map(str::to_owned),
        ..PoolView::default()
    };
    let said = |services: Vec<ServiceView>, pools: Vec<PoolView>| {
        let view = NodeView { services, pools, ..NodeView::default() };
        let window = Window { samples: Vec::new(), now: Moment::ZERO, uptime: Duration::from_secs(60) };
        Headline::of(&Status::new(view, Readiness::yes(), &window), &[], NOW_MS)
    };
    let lost = pool("main", "unreachable", None, Some("p:5432 refuses connections"));
    let held = pool("other", "primary", Some(0), Some("p:5432 has not answered for 400 ms"));
    let fine = pool("third", "primary", Some(0), None);
    let headline = said(Vec::new(), vec![held.clone(), lost.clone(), fine.clone()]);
    assert_eq!(headline.headline, "The pool main has no primary: p:5432 refuses connections.");
    assert_eq!(
        headline.doing,
        ["Also: The primary of the pool other is held back: p:5432 has not answered for 400 ms."]
    );
    let troubled =
        shop(vec![endpoint("a:1", EndpointState::Healthy, "ok"), endpoint("b:2", EndpointState::Suspect, "silent")]);
    let headline = said(vec![troubled.clone()], vec![lost]);
    assert!(headline.headline.starts_with("The pool main has no primary"), "{headline:?}");
    assert!(headline.doing[0].starts_with("Also: b:2 of shop became suspect"), "{headline:?}");
    let headline = said(vec![troubled], vec![held]);
    assert!(headline.headline.starts_with("b:2 of shop"), "{headline:?}");
    assert!(headline.doing.iter().any(|s| s.starts_with("Also: The primary of the pool other")), "{headline:?}");
    let headline = said(Vec::new(), vec![PoolView { is_paused: true, ..fine }]);
    assert_eq!(headline.headline, "The primary of third is p:5432, 0 transactions/s.");
    assert_eq!(headline.doing[1], "The pool third is paused: transactions that have not begun wait (0 clients now).");
}
