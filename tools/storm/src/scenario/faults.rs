//! Scenarios in which replicas fail. Unless they say otherwise: 500 requests a second for 20 s, the fault from second 5 to
//! 13, clients that wait 2 s. The check stays green in all but those that end a process: a grey failure on purpose.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Event, Scenario};
use crate::load::{Expect, Flow};

/// Requests a second that three upstreams serve with two workers of 20 ms each.
const CAPACITY: f64 = 300.0;

/// One upstream has the fault, for as long as a fault lasts.
fn one(fault: Value) -> Vec<(f64, Event)> {
    vec![(5.0, Event::Fault(0, fault)), (13.0, Event::Fault(0, json!({})))]
}

/// All have it, from and to these seconds.
fn everywhere(fault: Value, from: f64, to: f64) -> Vec<(f64, Event)> {
    vec![(from, Event::FaultAll(fault)), (to, Event::FaultAll(json!({})))]
}

fn at_rate(rate: f64) -> Vec<Flow> {
    vec![Flow { profile: vec![(0.0, rate)], ..Flow::default() }]
}

fn orders() -> Flow {
    Flow { method: "POST", path: "/orders", orders: true, expect: Expect::Anything, ..Flow::default() }
}

/// A killed, a frozen, a slow and a flaky replica, with their keys and titles.
fn single(rate: f64, names: [(&'static str, &'static str); 4]) -> Vec<Scenario> {
    let events = [
        vec![(5.0, Event::Kill(0)), (13.0, Event::Restart(0))],
        vec![(5.0, Event::Stop(0)), (13.0, Event::Continue(0))],
        one(json!({"latency_ms": 1500.0})),
        one(json!({"error_rate": 0.5})),
    ];
    let both = names.into_iter().zip(events);
    both.map(|((key, title), events)| Scenario { key, title, events, flows: at_rate(rate), ..Scenario::default() })
        .collect()
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut all = vec![Scenario { key: "0-baseline", title: "no fault", ..Scenario::default() }];
    all.extend(single(
        500.0,
        [
            ("1-kill", "SIGKILL one of three, restarted at heal"),
            ("2-freeze", "SIGSTOP one of three, SIGCONT at heal"),
            ("3-slow", "one of three answers 1,500 ms later"),
            ("4-flaky", "one of three answers 503 to 50 %"),
        ],
    ));
    all.extend(single(
        20.0,
        [
            ("1r-kill-20", "as 1, 20 requests a second"),
            ("2r-freeze-20", "as 2, 20 requests a second"),
            ("3r-slow-20", "as 3, 20 requests a second"),
            ("4r-flaky-20", "as 4, 20 requests a second"),
        ],
    ));
    all.extend(of_the_fleet());
    all.extend(overload());
    all.extend(lifecycle());
    all.extend(ambiguous());
    all
}

fn of_the_fleet() -> Vec<Scenario> {
    vec![
        Scenario {
            key: "5-brownout",
            title: "all three answer 503 to 30 %",
            events: everywhere(json!({"error_rate": 0.3}), 5.0, 13.0),
            ..Scenario::default()
        },
        Scenario {
            key: "5b-brownout-60s",
            title: "as 5, for 60 s",
            events: everywhere(json!({"error_rate": 0.3}), 5.0, 65.0),
            heal: 65.0,
            secs: 72.0,
            ..Scenario::default()
        },
        Scenario {
            key: "6-reset",
            title: "one of three resets 50 % in the middle of the body",
            events: one(json!({"reset_rate": 0.5})),
            ..Scenario::default()
        },
        Scenario {
            key: "8-outage",
            title: "all three refuse for 5 s; recovery counts from its end",
            events: everywhere(json!({"refuse": true}), 5.0, 10.0),
            heal: 10.0,
            recover_from: 10.0,
            ..Scenario::default()
        },
    ]
}

fn overload() -> Vec<Scenario> {
    let capacity = |queue: usize| json!({"capacity": {"workers": 2, "service_ms": 20.0, "queue": queue}});
    let peak = Flow {
        profile: vec![(0.0, 200.0), (5.0, 600.0), (13.0, 200.0)],
        timeout: Duration::from_secs(1),
        ..Flow::default()
    };
    let base = Scenario { recover_from: 13.0, capacity: Some(CAPACITY), ..Scenario::default() };
    let limited = Scenario { init: capacity(1000), is_limited: true, ..base.clone() };
    // Steady from the beginning: the first seconds are when the proxy settles, the rest is looked at.
    let refusing = Scenario { init: capacity(10), heal: 20.0, recover_from: 5.0, ..base };
    vec![
        Scenario {
            key: "7-overload",
            title: "300 a second can be served; 200, then 600, then 200 are asked for; clients wait 1 s",
            flows: vec![peak.clone()],
            ..limited.clone()
        },
        Scenario {
            key: "7b-priority",
            title: "as 7; 10 % carry x-priority: high",
            flows: vec![Flow { high_share: 0.1, ..peak }],
            ..limited
        },
        Scenario {
            key: "13-refusing-330",
            title: "300 a second can be served, beyond a queue of 10 comes a fast 503; 330 are asked for",
            flows: at_rate(330.0),
            ..refusing.clone()
        },
        Scenario { key: "13b-refusing-600", title: "as 13, 600 are asked for", flows: at_rate(600.0), ..refusing },
    ]
}

fn lifecycle() -> Vec<Scenario> {
    vec![
        Scenario {
            key: "9-rolling",
            title: "each upstream in turn: SIGTERM, back 1 s after its exit",
            events: vec![(5.0, Event::Roll(0)), (7.7, Event::Roll(1)), (10.4, Event::Roll(2))],
            ..Scenario::default()
        },
        Scenario {
            key: "10-reload",
            title: "the proxy's own reload or hot restart at 5 s and 9 s",
            events: vec![(5.0, Event::Reload), (9.0, Event::Reload)],
            ..Scenario::default()
        },
    ]
}

/// What may have happened although no answer came.
fn ambiguous() -> Vec<Scenario> {
    let stale = |flow: Flow| Scenario {
        flows: vec![Flow { profile: vec![(0.0, 40.0)], poisson: true, ..flow }],
        inject: 0.0,
        heal: 20.0,
        recover_from: 0.0,
        init: json!({"idle_close_ms": 50.0, "idle_close_lag_ms": 2.0}),
        ..Scenario::default()
    };
    vec![
        Scenario {
            key: "11-duplicates",
            title: "POST, the client retries with its key; one of three closes after the effect for 50 %",
            flows: vec![Flow { retries: 3, ..orders() }],
            events: one(json!({"close_rate": 0.5})),
            ..Scenario::default()
        },
        Scenario {
            key: "12-stale",
            title: "GET, 40 a second at random; upstreams close idle connections after 50 ms",
            ..stale(Flow::default())
        },
        Scenario { key: "12b-stale-post", title: "as 12 with POST, no client retry", ..stale(orders()) },
    ]
}
