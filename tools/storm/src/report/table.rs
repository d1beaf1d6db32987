//! The table of all results, a row for each scenario and proxy.

use serde_json::Value;

use super::{Results, beside, is_void};

const HEAD: &str = "\
| scenario | proxy | success % | lost | kinds (first run) | slower than 500 ms | p50 · p99 · p99.9 during, ms | worst second % \
| recover s (lost later) | amplification | during the fault | duplicates | goodput % during |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// Rows in the order of the scenarios; the titles of those that have results follow as a list.
pub(super) fn markdown(results: &Results, titles: &[(&str, &str)], short: bool) -> String {
    let rows: String =
        results.iter().map(|((place, proxy), repeats)| row(titles[*place].0, proxy, repeats, short)).collect();
    let mut places: Vec<usize> = results.keys().map(|(place, _)| *place).collect();
    places.dedup();
    let list: String = places.iter().map(|place| format!("- {}: {}\n", titles[*place].0, titles[*place].1)).collect();
    format!("{HEAD}{rows}\n{list}")
}

/// A number as it is, `-` if there is none.
fn number(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { value.to_string() }
}

fn row(key: &str, proxy: &str, repeats: &[Value], short: bool) -> String {
    let all = |figure: &dyn Fn(&Value) -> String| beside(repeats, |repeat| figure(&repeat["result"]));
    let latency = |result: &Value| {
        let ok = &result["during"]["latency_ok"];
        if ok.is_null() { "-".to_owned() } else { format!("{} · {} · {}", ok["p50_ms"], ok["p99_ms"], ok["p999_ms"]) }
    };
    let recover = |result: &Value| match result["recover_s"].as_f64() {
        Some(time) => format!("{time} ({})", number(&result["failed_after_recovery"])),
        None => "never".to_owned(),
    };
    let cells = [
        key.to_owned(),
        if !short && repeats.iter().any(is_void) { format!("{proxy} (VOID)") } else { proxy.to_owned() },
        all(&|result| number(&result["total"]["success_pct"])),
        all(&|result| number(&result["total"]["failed"])),
        kinds(&repeats[0]["result"]),
        all(&|result| number(&result["total"]["slow"])),
        all(&latency),
        all(&|result| number(&result["worst_second"]["success_pct"])),
        all(&recover),
        all(&|result| number(&result["amplification"])),
        all(&|result| number(&result["amplification_during"])),
        all(&|result| number(&result["duplicate_effects"])),
        all(&|result| number(&result["during"]["good_pct"])) + &priority(repeats),
    ];
    format!("| {} |\n", cells.join(" | "))
}

fn kinds(result: &Value) -> String {
    let Some(kinds) = result["total"]["kinds"].as_object() else { return String::new() };
    let failed = kinds.iter().filter(|(name, _)| *name != "2xx");
    failed.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// Goodput of each class, where there are classes.
fn priority(repeats: &[Value]) -> String {
    if repeats[0]["result"]["priority"].is_null() {
        return String::new();
    }
    let class = |name: &str| beside(repeats, |repeat| number(&repeat["result"]["priority"][name]["good_pct"]));
    format!("; high {}; low {}", class("high_during"), class("low_during"))
}
