//! Scenarios in which nothing is wrong, or nothing that a proxy could help: long and short requests on one route, streams,
//! a sudden rise, errors everywhere, a slow body. What is measured is whether the proxy makes it worse.

use std::time::Duration;

use serde_json::json;

use super::{Event, Scenario};
use crate::load::{Expect, Flow};
use crate::upstream::EVENT;

/// Long enough for every answer here.
const PATIENT: Duration = Duration::from_secs(30);

/// The usual answer after 2 ms of work.
fn quick(rate: f64) -> Flow {
    Flow { name: "quick", path: "/item?ms=2", profile: vec![(0.0, rate)], timeout: PATIENT, ..Flow::default() }
}

/// The whole run is looked at.
fn throughout(secs: f64) -> Scenario {
    Scenario { secs, inject: 0.0, heal: secs, recover_from: 0.0, ..Scenario::default() }
}

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            key: "14-long-get",
            title: "a GET of 8 s every 3 s beside those of 2 ms",
            flows: vec![
                quick(500.0),
                Flow { name: "long", path: "/item?ms=8000", profile: vec![(1.0, 1.0 / 3.0)], ..quick(0.0) },
            ],
            ..throughout(20.0)
        },
        Scenario {
            key: "15-bimodal",
            title: "one route; 95 % take 2 ms and 5 % take 3 s",
            flows: vec![
                quick(190.0),
                Flow { name: "slow", path: "/item?ms=3000", profile: vec![(0.0, 10.0)], ..quick(0.0) },
            ],
            ..throughout(20.0)
        },
        Scenario {
            key: "16-streams",
            title: "long polls of 20 s and streams of 20 events in 20 s beside requests of 2 ms",
            flows: vec![
                quick(200.0),
                Flow { name: "poll", path: "/item?ms=20000", profile: vec![(0.0, 1.0), (8.0, 0.0)], ..quick(0.0) },
                Flow {
                    name: "events",
                    path: "/events?count=20&every_ms=1000",
                    profile: vec![(0.5, 1.0), (8.0, 0.0)],
                    expect: Expect::Length(20 * EVENT.len()),
                    ..quick(0.0)
                },
            ],
            ..throughout(30.0)
        },
        Scenario {
            key: "17-surge",
            title: "from 20 to 2,000 requests a second within one second; the upstreams keep up",
            flows: vec![Flow { profile: surge(), ..quick(0.0) }],
            heal: 11.0,
            secs: 14.0,
            is_heavy: true,
            ..Scenario::default()
        },
        Scenario {
            key: "18-errors-60",
            title: "all three answer 503 to 60 %",
            flows: vec![Flow { timeout: PATIENT, ..Flow::default() }],
            events: vec![(5.0, Event::FaultAll(json!({"error_rate": 0.6}))), (13.0, Event::FaultAll(json!({})))],
            ..Scenario::default()
        },
        Scenario {
            key: "19-drip",
            title: "a body of 40 bytes with a Content-Length, one byte each 50 ms",
            flows: vec![
                quick(50.0),
                Flow {
                    name: "drip",
                    path: "/drip?bytes=40&every_ms=50",
                    profile: vec![(0.0, 10.0)],
                    expect: Expect::Xs(40),
                    ..quick(0.0)
                },
            ],
            ..throughout(15.0)
        },
    ]
}

/// Rates in steps of a tenth of a second.
fn surge() -> Vec<(f64, f64)> {
    let rise = (0..10).map(|step| (5.0 + f64::from(step) / 10.0, 20.0 + 198.0 * f64::from(step + 1)));
    [(0.0, 20.0)].into_iter().chain(rise).chain([(11.0, 20.0)]).collect()
}

#[cfg(test)]
mod tests {
    use super::surge;

    #[test]
    fn the_surge_reaches_its_top_within_a_second() {
        let steps = surge();
        assert_eq!(steps.first(), Some(&(0.0, 20.0)));
        assert!(steps.iter().any(|(at, rate)| *at < 6.0 && *rate == 2000.0));
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
