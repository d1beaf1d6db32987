//! `storm report`: a folder of results as one table, and the bounds that the proxy under judgement has to keep. A result is
//! `SCENARIO.PROXY.REPEAT.json`; repeats stand side by side, as `first / second`.

mod bounds;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::scenario;

/// A generator that was later than this at p99 did not make the load that the scenario asks for.
const MOST_LAG_US: u64 = 2000;

/// The repeats of each scenario and proxy, by the place of the scenario and the proxy's name.
type Results = BTreeMap<(usize, String), Vec<Value>>;

/// The table, the bounds, and whether all of them are kept. `short`: results of short runs, of which only some bounds are
/// asked and none is void.
pub(crate) fn of_folder(folder: &Path, own: &str, short: bool) -> Result<(String, bool)> {
    let results = read(folder)?;
    ensure!(!results.is_empty(), "there is no result in {}", folder.display());
    let titles: Vec<(&str, &str)> = scenario::all().iter().map(|scenario| (scenario.key, scenario.title)).collect();
    let (bounds, kept) = bounds::check(&results, &titles, own, short);
    Ok((format!("{}\n{bounds}", table::markdown(&results, &titles, short)), kept))
}

fn read(folder: &Path) -> Result<Results> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    let keys: Vec<&str> = scenario::all().iter().map(|scenario| scenario.key).collect();
    let mut results = Results::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        if let Some(place) = keys.iter().position(|key| *key == text("scenario")) {
            results.entry((place, text("proxy"))).or_default().push(value);
        }
    }
    Ok(results)
}

/// Whether the generator was too late for the result to mean anything.
fn is_void(report: &Value) -> bool {
    is_too_late(&report["result"])
}

/// The same of the figures alone.
pub(crate) fn is_too_late(result: &Value) -> bool {
    result["generator_lag_us"]["p99"].as_u64().is_none_or(|lag| lag > MOST_LAG_US)
}

/// One figure of each repeat, side by side.
fn beside(results: &[Value], figure: impl Fn(&Value) -> String) -> String {
    results.iter().map(figure).collect::<Vec<_>>().join(" / ")
}
