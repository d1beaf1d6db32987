//! What `[service.NAME]` says about failing endpoints: the defaults are those of the rules, what is written is in the plan,
//! and slips are found where they are.

use std::path::Path;
use std::time::Duration;

use gateway::plan::{HealthKind, ServicePlan};
use insta::assert_snapshot;
use policy::budget::BudgetRule;
use policy::failover::FailoverRule;
use policy::gate::GateRule;
use policy::hold::HoldRule;
use policy::outlier::OutlierRule;
use policy::park::ParkRule;
use policy::retry::RetryRule;

use super::{ids, read};
use crate::config::load_file;

const BASE: &str = "[gateway]\nlisten = \"127.0.0.1:8080\"\n";

fn service(text: &str) -> ServicePlan {
    let outcome = read(&format!("{BASE}[service.shop]\n{text}"));
    let compiled = outcome.compiled.clone().unwrap_or_else(|| panic!("{}", outcome.text()));
    compiled.plan.services[0].clone()
}

#[test]
fn the_defaults_are_those_of_the_rules() {
    let plan = service("endpoints = [\"10.0.0.1:80\"]\nhealth = { path = \"/up\" }\n");
    assert_eq!(plan.outlier, OutlierRule::default());
    assert_eq!(plan.retry, RetryRule::default());
    assert_eq!(plan.hold, HoldRule::default());
    assert_eq!(plan.park, ParkRule::default());
    assert_eq!(plan.gate, GateRule::default());
    assert_eq!(plan.failover, FailoverRule::default());
    assert!(plan.fail_open);
    assert_eq!((plan.endpoints[0].weight, plan.endpoints[0].tier), (1, 0));
    assert_eq!(plan.health.unwrap().fast_interval, Duration::from_millis(500));
    let outcome = read(&format!("{BASE}[service.shop]\nendpoints = [\"10.0.0.1:80\"]\n"));
    assert_eq!(outcome.compiled.unwrap().plan.edge.deadline_header.as_deref(), Some("x-request-timeout-ms"));
}

#[test]
fn the_example_can_be_used_and_has_nothing_to_complain_of() {
    let outcome = load_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/resilient.toml"));
    assert_eq!(outcome.text(), "");
    let services = outcome.compiled.unwrap().plan.services;
    let [api, _, legacy] = services.as_slice() else { panic!("{services:?}") };
    let endpoints: Vec<(u32, u8)> = api.endpoints.iter().map(|e| (e.weight, e.tier)).collect();
    assert_eq!(endpoints, [(1, 0), (1, 0), (2, 0), (1, 1), (1, 1)]);
    assert_eq!(api.gate.per_endpoint, Some(16));
    assert_eq!(api.retry.per_try_timeout, Some(Duration::from_secs(3)));
    assert_eq!(api.outlier, OutlierRule::default(), "it shows the defaults");
    assert_eq!((legacy.retry.attempts, legacy.fail_open), (1, false));
    assert_eq!(legacy.health.as_ref().unwrap().kind, HealthKind::Tcp);
}

#[test]
fn what_is_written_is_in_the_plan() {
    let plan = service(
        r#"
endpoints = ["10.0.0.1:80", { address = "two.internal:80", weight = 100, tier = 9 }]
attempts = 5
hedge = false
max_replay = "0B"
retry_budget = { share = 0.1, per_second = 2.5, ceiling = "10%" }
max_requests = 7
queue = { max = 0, timeout = "1s" }
outlier = { enabled = false, consecutive_failures = 3, max_ejected = 0.25, base_ejection = "1s", max_ejection = "5m", slow_start = "0s" }
hold = { max_body = "0B", max_wait = "50ms" }
park = { max_wait = "0s", max_requests = 1, max_bytes = "1KiB" }
failover = { spill_below = "72.5%", fail_back_delay = "1m" }
health = { tcp = true, interval = "200ms" }
"#,
    );
    let far = &plan.endpoints[1];
    assert_eq!((far.name.as_str(), far.addresses.len(), far.weight, far.tier), ("two.internal:80", 2, 100, 9));
    let budget = BudgetRule { share: 0.1, per_second: 2.5, ceiling: 0.1 };
    assert_eq!(plan.retry, RetryRule { attempts: 5, per_try_timeout: None, hedge: false, max_replay: 0, budget });
    assert_eq!(plan.gate, GateRule { per_endpoint: Some(7), max_queue: 0, max_wait: Duration::from_secs(1) });
    assert_eq!(
        plan.outlier,
        OutlierRule {
            enabled: false,
            consecutive_failures: 3,
            max_ejected: 0.25,
            base_ejection: Duration::from_secs(1),
            max_ejection: Duration::from_secs(300),
            slow_start: Duration::ZERO,
        }
    );
    assert_eq!((plan.hold.max_body, plan.hold.max_wait), (0, Duration::from_millis(50)));
    assert_eq!(plan.park, ParkRule { max_wait: Duration::ZERO, max_requests: 1, max_bytes: 1024 });
    assert_eq!(plan.failover, FailoverRule { spill_below: 0.725, fail_back_delay: Duration::from_secs(60) });
    let health = plan.health.unwrap();
    assert_eq!((health.kind, health.fast_interval), (HealthKind::Tcp, health.interval), "never slower than the rest");
}

#[test]
fn a_deadline_header_may_be_turned_off_but_not_be_one_of_ours() {
    let with = |name: &str| {
        let text = format!("{BASE}deadline_header = \"{name}\"\n[service.shop]\nendpoints = [\"10.0.0.1:80\"]\n");
        let outcome = read(&text);
        let header = outcome.compiled.as_ref().map(|compiled| compiled.plan.edge.deadline_header.clone());
        (header, ids(&outcome).contains(&"managed-header"))
    };
    assert_eq!(with(""), (Some(None), false));
    assert_eq!(with("X-Wait"), (Some(Some("x-wait".to_owned())), false));
    assert_eq!(with("Content-Length"), (None, true));
}

#[test]
fn slips_are_found_where_they_are() {
    let outcome = read(&format!(
        "{BASE}{}",
        r#"
deadline_header = "X Timeout"

[service.shop]
endpoints = [{ address = "10.0.0.1", weight = 0 }, { adress = "10.0.0.2:80" }, { address = "10.0.0.3:80", tear = 1 }, 4, { address = "10.0.0.5:80", tier = 10 }]
balance = { hash = "header:" }
attempts = 9
max_replay = "2MiB"
weight = 2
hedging = true
retry_budget = { share = "20", per_second = -1, ceiling = 45 }
queue = { size = 100, timeout = 250 }
outlier = { max_ejected = "150%", base_ejection = "1ms", consecutive_failure = 5 }
hold = "64KiB"
park = { max_wait = "5m", max_bytes = 1048576 }
failover = { spill_below = "half" }
health = { tcp = "true", fast_interval = "1ms" }

[service.next]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
balance = { hash = "cookie:sid", key = "x" }
health = { path = "up" }
retry_budget = { share = "20%", ceiling = "110%" }

[service.last]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
balance = ["round_robin"]
health = {}
"#
    ));
    assert_snapshot!(outcome.text());
}

#[test]
fn what_cannot_act_is_said() {
    let outcome = read(&format!(
        "{BASE}{}",
        r#"
[service.alone]
endpoints = [{ address = "10.0.0.1:80", tier = 3 }]
health = { tcp = true, fast_interval = "5s" }
balance = { hash = "address" }
timeout = "2s"
per_try_timeout = "2s"
attempts = 1
retry_budget = { share = 0 }
queue = { max = 10 }
outlier = { base_ejection = "5s", max_ejection = "1s" }
hold = { max_wait = "2s" }
park = { max_wait = "1001ms" }
failover = { spill_below = "20%" }

[service.far]
endpoints = [{ address = "10.0.0.1:80", tier = 1 }, { address = "10.0.0.1:80", tier = 3 }]
health = { path = "/up" }
max_requests = 1000
outlier = { max_ejected = 0 }

[[route]]
path = "/alone"
service = "alone"

[[route]]
service = "far"
"#
    ));
    assert!(outcome.compiled.is_some(), "{}", outcome.text());
    assert_snapshot!(outcome.text());
}

#[test]
fn what_is_set_for_one_check_does_nothing_in_another() {
    let outcome = read(&format!(
        "{BASE}[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = {{ tcp = true, host = \"a.example\", expect = [\"200\"] }}\n"
    ));
    assert_eq!(ids(&outcome), ["without-effect", "without-effect"]);
    let outcome = read(&format!(
        "{BASE}[service.shop]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nhealth = {{ interval = \"1s\" }}\n"
    ));
    assert_eq!(ids(&outcome), ["health-kind"]);
}

#[test]
fn the_effective_configuration_keeps_the_form_and_the_secrets() {
    let outcome = read(&format!(
        "{BASE}{}",
        r#"
[service.shop]
endpoints = ["10.0.0.1:80", { address = "${env:SECRET}.internal:80" }, { address = "10.0.0.3:80", weight = 3 }]
balance = { hash = "cookie:sid" }
max_requests = 16
retry_budget = { share = 0.25 }
outlier = { slow_start = "0s" }
hold = { max_wait = "100ms" }
health = { tcp = true }

[service.next]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]

[[route]]
split = { shop = 1, next = 1 }
"#
    ));
    assert!(outcome.compiled.is_some(), "{}", outcome.text());
    assert_snapshot!(outcome.effective);
    let again = read(&outcome.effective);
    assert_eq!(again.config, outcome.config, "what is printed reads back as the same");
    assert_eq!(ids(&again), ids(&outcome), "and there is no more to say about it");
}
