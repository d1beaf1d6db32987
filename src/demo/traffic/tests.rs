//! Traffic straight to a replica.

use super::*;
use crate::demo::shop::{Faults, Shop};

fn options(target: SocketAddr) -> TrafficOptions {
    TrafficOptions { target, rate: 400, seed: 5, replicas: 2, mix: Mix::Shop }
}

/// Waits until the traffic is as wanted; a test that waits in vain fails after 20 s.
async fn until(traffic: &Traffic, wanted: impl Fn(&TrafficReport) -> bool) {
    let poll = async {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while !wanted(&traffic.report()) {
            look.tick().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), poll).await;
    assert!(in_time.is_ok(), "waited in vain: {:?}", traffic.report());
}

#[tokio::test]
async fn a_sound_shop_answers_everything() {
    let shop = Shop::start(2, 1).await.unwrap();
    let traffic = Traffic::start(options(shop.handle().addr()));
    until(&traffic, |report| report.ok >= 100).await;
    let report = traffic.stop(Duration::from_secs(10)).await;
    assert_eq!((report.failed, report.waiting, &report.first_failure), (0, 0, &None));
    assert_eq!(report.by_replica, [0, report.ok]);
    assert_eq!(report.latencies.seen(), report.ok);
    assert!(report.latencies.quantile(0.0).unwrap() >= Duration::from_millis(1));
}

#[tokio::test]
async fn failures_are_counted_and_the_first_is_told() {
    let shop = Shop::start(1, 1).await.unwrap();
    let handle = shop.handle();
    handle.set(Faults { error_rate: 1.0, ..Faults::default() }).unwrap();
    let traffic = Traffic::start(options(handle.addr()));
    until(&traffic, |report| report.failed >= 5).await;
    handle.set(Faults { down: true, ..Faults::default() }).unwrap();
    assert!(handle.settled().await);
    let before = traffic.report().failed;
    until(&traffic, |report| report.failed >= before + 5).await;
    let report = traffic.stop(Duration::from_secs(10)).await;
    assert_eq!(report.ok, 0);
    assert!(report.first_failure.as_ref().unwrap().contains("status 500"), "{report:?}");
}

#[tokio::test]
async fn a_standstill_is_bounded_and_does_not_hold_the_end_up() {
    let shop = Shop::start(1, 1).await.unwrap();
    let handle = shop.handle();
    handle.set(Faults { freeze: true, ..Faults::default() }).unwrap();
    let traffic = Traffic::start(TrafficOptions { rate: FASTEST, ..options(handle.addr()) });
    until(&traffic, |report| report.failed > 0).await;
    let report = traffic.stop(Duration::ZERO).await;
    assert_eq!((report.ok, report.waiting, report.unsent), (0, OUTSTANDING_LIMIT as u64, report.failed));
    assert!(report.first_failure.unwrap().contains("waiting already"));
}

#[tokio::test]
async fn laps_add_up_to_the_whole() {
    let shop = Shop::start(1, 1).await.unwrap();
    let handle = shop.handle();
    let traffic = Traffic::start(options(handle.addr()));
    let first = traffic.lap();
    until(&traffic, |_| first.report().ok >= 30).await;
    handle.set(Faults { error_rate: 1.0, ..Faults::default() }).unwrap();
    let second = traffic.lap();
    until(&traffic, |_| second.report().by_status.get(&500).is_some_and(|n| *n >= 30)).await;
    let whole = traffic.stop(Duration::from_secs(10)).await;
    let (first, second) = (first.report(), second.report());
    // What was asked before the first lap began, at most what one tick of the schedule had due.
    let before = whole.finished() - first.finished() - second.finished();
    assert!(before <= 1, "{whole:?}");
    assert_eq!((first.waiting, second.waiting), (0, 0));
    assert_eq!(whole.failed, first.failed + second.failed);
    assert_eq!(second.ok + second.failed, second.by_status.values().sum::<u64>());
    assert!(whole.slowest >= first.slowest.max(second.slowest) && second.slowest >= Duration::from_millis(1));
}

#[test]
fn the_mix_is_as_stated() {
    let mut entropy = Entropy::from_seed(9);
    let draws: Vec<Errand> = (0..100_000).map(|_| Errand::draw(Mix::Shop, &mut entropy)).collect();
    let count = |wanted: fn(&Errand) -> bool| draws.iter().filter(|e| wanted(e)).count();
    // Expected 14,500 (sigma 111) and 500 (sigma 22): five sigma either way.
    assert!((13_945..15_055).contains(&count(|e| matches!(e, Errand::Buy { .. }))));
    assert!((390..610).contains(&count(|e| *e == Errand::Report)));
}
