//! The result of a run: what the clients saw, what reached the upstreams, what it cost.

use serde_json::{Value, json};

use super::{Measured, RunArgs};
use crate::load::{Marks, summary};
use crate::scenario::Scenario;

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Everything as JSON.
pub(super) fn report(args: &RunArgs, scenario: &Scenario, measured: &Measured) -> Value {
    let marks = Marks {
        inject: scenario.inject,
        heal: scenario.heal,
        recover_from: scenario.recover_from,
        end: scenario.secs,
        good_ms: scenario.good_ms,
    };
    let mut result = summary(&measured.outcome.records, &scenario.flows, &marks);
    let number = |result: &Value, key: &str| result[key].as_f64().unwrap_or(0.0).max(1.0);
    let [at_inject, at_heal] = measured.requests_at;
    let during = at_heal.saturating_sub(at_inject) as f64;
    result["amplification"] = json!(rounded(measured.requests as f64 / number(&result, "client_attempts")));
    result["amplification_during"] = json!(rounded(during / number(&result, "client_attempts_during")));
    result["client_connections"] = measured.outcome.connections.into();
    result["upstream_connections"] = measured.upstream_connections.into();
    result["duplicate_effects"] = measured.effects.values().map(|times| times - 1).sum::<u64>().into();
    result["orders_with_effect"] = measured.effects.len().into();
    if let Some(capacity) = scenario.capacity {
        let served = result["during"]["ok"].as_f64().unwrap_or(0.0) / (scenario.heal - scenario.inject);
        result["served_pct_of_capacity"] = json!(rounded(served / capacity * 100.0));
    }
    let share = |cpu: f64| rounded(cpu / measured.wall.as_secs_f64() * 100.0);
    let [load, upstreams, proxy] = measured.cpu.map(|cpu| cpu.map(share));
    json!({
        "scenario": scenario.key,
        "title": scenario.title,
        "proxy": args.name,
        "parameters": {
            "secs": scenario.secs, "inject": scenario.inject, "heal": scenario.heal,
            "recover_from": scenario.recover_from, "good_ms": scenario.good_ms, "seed": args.seed,
            "proxy_cmd": args.proxy_cmd, "proxy_url": args.proxy_url,
            "flows": scenario.flows.iter().map(|flow| format!("{flow:?}")).collect::<Vec<_>>(),
        },
        "is_void": crate::report::is_too_late(&result),
        "result": result,
        "events": measured.notes,
        "upstreams": measured.upstreams,
        "gateway": measured.gateway,
        "counts": measured.counts.as_ref().map(|counts| counts.as_ref().map_or(Value::Null, Value::clone)),
        "cpu_pct_of_one_core": {"load": load, "upstreams": upstreams, "proxy": proxy},
        "peak_resident_bytes": measured.peak_bytes,
        "proxy_alive_at_end": measured.is_alive,
    })
}

/// One line for a person who waits.
pub(super) fn line(report: &Value) -> String {
    let result = &report["result"];
    let kinds = result["total"]["kinds"].as_object().map(|kinds| {
        let failed = kinds.iter().filter(|(name, _)| *name != "2xx");
        failed.map(|(name, count)| format!(", {count} {name}")).collect::<String>()
    });
    format!(
        "{} | {} | failed {}{} | slow {} | during: success {} %, p99 {} ms | recover {} s | amplification {} | \
         duplicates {} | CPU % proxy {} | lag p99 {} us",
        report["scenario"].as_str().unwrap_or_default(),
        report["proxy"].as_str().unwrap_or_default(),
        result["total"]["failed"],
        kinds.unwrap_or_default(),
        result["total"]["slow"],
        result["during"]["success_pct"],
        result["during"]["latency_ok"]["p99_ms"],
        result["recover_s"],
        result["amplification"],
        result["duplicate_effects"],
        report["cpu_pct_of_one_core"]["proxy"],
        result["generator_lag_us"]["p99"],
    )
}
