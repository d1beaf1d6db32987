//! The run after which the clients' counts are held against the node's: every fault in a minute, one after the other, and
//! answers of every class. Clients wait longer than the gateway does, so that each request ends by the gateway's word.
//! It compares nobody and so is no row of the table.

use std::time::Duration;

use serde_json::json;

use super::{Event, Scenario};
use crate::load::{Expect, Flow};

/// Its name.
pub(crate) const KEY: &str = "counts";
/// Beyond the 30 s after which the gateway answers 504.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) fn scenario() -> Scenario {
    let flow = |rate: f64| Flow { profile: vec![(0.0, rate)], timeout: PATIENCE, ..Flow::default() };
    let orders = Flow { name: "orders", method: "POST", path: "/orders", orders: true, ..flow(20.0) };
    // An order without an id is a mistake of the client's.
    let mistakes = Flow { name: "mistakes", method: "POST", path: "/orders", ..flow(5.0) };
    let any = |flow: Flow| Flow { expect: Expect::Anything, ..flow };
    let one = |index: usize, from: f64, to: f64, fault: serde_json::Value| {
        [(from, Event::Fault(index, fault)), (to, Event::Fault(index, json!({})))]
    };
    let all = |from: f64, to: f64, fault: serde_json::Value| {
        [(from, Event::FaultAll(fault)), (to, Event::FaultAll(json!({})))]
    };
    let mut events = vec![(4.0, Event::Kill(0)), (10.0, Event::Restart(0))];
    events.extend(one(1, 13.0, 19.0, json!({"error_rate": 0.5})));
    events.extend([(21.0, Event::Stop(2)), (26.0, Event::Continue(2))]);
    events.extend(all(29.0, 34.0, json!({"error_rate": 0.3, "error_status": 500})));
    events.extend(one(0, 36.0, 41.0, json!({"reset_rate": 0.5})));
    // Longer than anybody may wait for an endpoint.
    events.extend(all(43.0, 47.0, json!({"refuse": true})));
    events.extend(one(1, 50.0, 55.0, json!({"close_rate": 0.5})));
    Scenario {
        key: KEY,
        title: "a minute of every fault; what clients counted against what the node counted",
        flows: vec![flow(150.0), any(orders), any(mistakes)],
        secs: 60.0,
        inject: 4.0,
        heal: 55.0,
        events,
        ..Scenario::default()
    }
}
