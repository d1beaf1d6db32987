//! The scenarios, as data: what load, which faults, when. Those with a fault are in `faults`, those in which nothing is
//! wrong and a proxy must not make it so are in `harmless`.

pub(crate) mod counts;
mod faults;
mod harmless;

use serde_json::{Value, json};

use crate::load::Flow;

/// Something that happens to the upstreams or the proxy.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// SIGKILL.
    Kill(usize),
    /// Started again on the same ports.
    Restart(usize),
    /// SIGSTOP: the kernel still accepts, nobody answers.
    Stop(usize),
    Continue(usize),
    Fault(usize, Value),
    FaultAll(Value),
    /// SIGTERM, wait for the exit, 1 s, start again.
    Roll(usize),
    /// The proxy's own reload or hot restart.
    Reload,
}

/// A load, faults and a timetable.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Its number and name.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) flows: Vec<Flow>,
    pub(crate) secs: f64,
    pub(crate) inject: f64,
    pub(crate) heal: f64,
    /// What recovery counts from.
    pub(crate) recover_from: f64,
    /// Slower answers are no goodput.
    pub(crate) good_ms: u64,
    /// Set on all upstreams before second 0.
    pub(crate) init: Value,
    pub(crate) events: Vec<(f64, Event)>,
    /// Requests a second that all upstreams can serve, if there is a limit.
    pub(crate) capacity: Option<f64>,
    /// Whether proxies get the limit of 16 concurrent requests for each endpoint.
    pub(crate) is_limited: bool,
    /// Whether it takes so much CPU time that few can run at a time.
    pub(crate) is_heavy: bool,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            key: "",
            title: "",
            flows: vec![Flow::default()],
            secs: 20.0,
            inject: 5.0,
            heal: 13.0,
            recover_from: 5.0,
            good_ms: 500,
            init: json!({}),
            events: Vec::new(),
            capacity: None,
            is_limited: false,
            is_heavy: false,
        }
    }
}

impl Scenario {
    /// Whether the name is its key, its number or its name.
    fn is_called(&self, name: &str) -> bool {
        self.key == name || self.key.split_once('-').is_some_and(|(number, word)| number == name || word == name)
    }

    /// Moves the fault; what happened at the old moments happens at the new ones.
    pub(crate) fn retime(&mut self, secs: Option<f64>, inject: Option<f64>, heal: Option<f64>) {
        let (old_inject, old_heal) = (self.inject, self.heal);
        self.secs = secs.unwrap_or(self.secs);
        self.inject = inject.unwrap_or(old_inject);
        self.heal = heal.unwrap_or(old_heal);
        let moved = |at: f64, inject: f64, heal: f64| match at {
            at if at == old_inject => inject,
            at if at == old_heal => heal,
            at => at,
        };
        self.events.iter_mut().for_each(|(at, _)| *at = moved(*at, self.inject, self.heal));
        self.recover_from = moved(self.recover_from, self.inject, self.heal);
    }
}

/// Every scenario, in the order of the table.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = faults::scenarios();
    all.extend(harmless::scenarios());
    all
}

/// By key, number or name; also the one that is no row of the table.
pub(crate) fn find(name: &str) -> Option<Scenario> {
    all().into_iter().chain([counts::scenario()]).find(|scenario| scenario.is_called(name))
}

/// What a driver needs to know, as JSON.
pub(crate) fn list() -> Value {
    let entry = |scenario: Scenario| {
        json!({
            "key": scenario.key, "title": scenario.title, "secs": scenario.secs,
            "limited": scenario.is_limited, "heavy": scenario.is_heavy,
            "reloads": scenario.events.iter().any(|(_, event)| matches!(event, Event::Reload)),
        })
    };
    Value::Array(all().into_iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::fault::Fault;

    #[test]
    fn every_fault_is_one_that_upstreams_know() {
        for scenario in all().into_iter().chain([counts::scenario()]) {
            let faults = scenario.events.iter().filter_map(|(_, event)| match event {
                Event::Fault(_, fault) | Event::FaultAll(fault) => Some(fault),
                _ => None,
            });
            for fault in faults.chain([&scenario.init]) {
                assert!(serde_json::from_value::<Fault>(fault.clone()).is_ok(), "{}: {fault}", scenario.key);
            }
        }
    }

    #[test]
    fn keys_differ_and_timetables_are_in_order() {
        let all: Vec<Scenario> = all().into_iter().chain([counts::scenario()]).collect();
        for (index, scenario) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|other| other.key != scenario.key), "{}", scenario.key);
            assert!(scenario.inject <= scenario.heal && scenario.heal <= scenario.secs, "{}", scenario.key);
            assert!(scenario.events.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{}", scenario.key);
            assert_eq!(find(scenario.key).unwrap().key, scenario.key);
        }
        assert_eq!(find("kill").unwrap().key, "1-kill");
        assert_eq!(find("7b").unwrap().key, "7b-priority");
        assert!(find("storm").is_none());
    }

    #[test]
    fn a_fault_can_be_moved() {
        let mut scenario = find("kill").unwrap();
        scenario.retime(Some(8.0), Some(2.0), Some(5.0));
        let times: Vec<f64> = scenario.events.iter().map(|event| event.0).collect();
        assert_eq!((times, scenario.recover_from, scenario.secs), (vec![2.0, 5.0], 2.0, 8.0));
        let mut outage = find("outage").unwrap();
        outage.retime(None, None, Some(8.0));
        assert_eq!((outage.inject, outage.recover_from), (5.0, 8.0));
    }
}
