//! `cargo xtask storm`: what clients see when replicas fail, behind Evenkeel and behind its peers, in one run.
//! `docs/benchmarks.md` says how to read what it prints. This file reads the options and goes through the scenarios; the runs
//! themselves, the table and the bounds are those of `tools/storm`.

mod lanes;
mod peers;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::lanes::{Isolation, Job, Times};
use self::peers::{NAMES, OWN, Peer};
use crate::args::Args;
use crate::clock::Stopwatch;
use crate::sh;
use crate::workspace::{Profile, Workspace};

/// Those that go together take so much CPU time that more would disturb each other.
const HEAVY_AT_A_TIME: usize = 2;
/// What CI runs, with the end of the run, the beginning and the end of the fault.
const SHORT: [(&str, Times); 4] = [
    ("1-kill", Times { secs: 7.0, inject: 1.5, heal: 4.5 }),
    ("4-flaky", Times { secs: 7.0, inject: 1.5, heal: 4.5 }),
    ("6-reset", Times { secs: 7.0, inject: 1.5, heal: 4.5 }),
    ("8-outage", Times { secs: 7.5, inject: 1.5, heal: 3.1 }),
];

/// What to run.
#[derive(Debug, Clone)]
struct Options {
    scenarios: Vec<String>,
    peers: Vec<String>,
    repeats: u32,
    parallel: usize,
    profile: Profile,
    is_short: bool,
    /// Only whether Evenkeel counts what its clients count.
    is_counting: bool,
}

/// A scenario as `storm list` tells it.
#[derive(Debug, Clone)]
struct Scenario {
    key: String,
    is_limited: bool,
    is_heavy: bool,
    has_reload: bool,
    /// Whether the run fails unless clients and node have counted the same.
    is_exact: bool,
}

/// The scenario after which counts are compared; it is no row of the table.
const COUNTS: &str = "counts";

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    let (is_short, is_counting) = (args.flag("--short"), args.flag("--counts"));
    let options = Options {
        scenarios: args.list("--scenario")?,
        peers: args.list("--peers")?,
        repeats: args.value("--repeats")?.unwrap_or(if is_short || is_counting { 1 } else { 2 }),
        parallel: args.value("--parallel")?.unwrap_or(NAMES.len()),
        profile: if args.flag("--dist") { Profile::Dist } else { Profile::Release },
        is_short,
        is_counting,
    };
    args.end()?;
    run(workspace, &options)
}

/// What CI runs: a few seconds of four faults, on Evenkeel alone.
pub(crate) fn short(workspace: &Workspace) -> Result<()> {
    let options = Options {
        scenarios: Vec::new(),
        peers: Vec::new(),
        repeats: 1,
        parallel: 2,
        profile: Profile::Release,
        is_short: true,
        is_counting: false,
    };
    run(workspace, &options)
}

fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    ensure!((1..=20).contains(&options.repeats), "--repeats is 1 to 20");
    ensure!((1..=NAMES.len()).contains(&options.parallel), "--parallel is 1 to {}", NAMES.len());
    for name in &options.peers {
        ensure!(NAMES.contains(&name.as_str()), "--peers: there is no `{name}`; there are {}", NAMES.join(", "));
    }
    let isolation = Isolation::find()?;
    sh::run(&mut workspace.cargo(&["build", "--release", "--package", "evenkeel-storm"]))?;
    let storm = workspace.binary(Profile::Release, "storm");
    let scenarios = if options.is_counting { vec![counts()] } else { chosen(&listed(&storm)?, options)? };
    let peers = contestants(workspace, options)?;
    let folder = workspace.target.join("storm");
    let results = folder.join("results");
    for old in [&results, &folder.join("run")] {
        drop(fs::remove_dir_all(old));
        fs::create_dir_all(old).with_context(|| format!("making {}", old.display()))?;
    }
    let mut failed = Vec::new();
    for repeat in 1..=options.repeats {
        for scenario in &scenarios {
            let watch = Stopwatch::start();
            let jobs: Vec<Job<'_>> = peers
                .iter()
                .filter(|peer| !(scenario.has_reload && peer.is_direct()))
                .map(|peer| Job {
                    storm: &storm,
                    folder: &folder,
                    scenario,
                    peer,
                    repeat,
                    times: times(scenario, options),
                })
                .collect();
            let width = if scenario.is_heavy { HEAVY_AT_A_TIME } else { options.parallel };
            let must_be_prompt = !options.is_short && !options.is_counting;
            failed.extend(lanes::run(&jobs, width, isolation, must_be_prompt));
            println!("{}, repeat {repeat} of {}, took {watch}\n", scenario.key, options.repeats);
        }
    }
    println!("results are in {}\n", results.display());
    if options.is_counting {
        ensure!(failed.is_empty(), "clients and node have not counted the same");
        return Ok(());
    }
    let mut report = Command::new(&storm);
    report.arg("report").arg(&results).args(["--own", OWN]);
    if options.is_short {
        report.arg("--short");
    }
    let status = report.status().with_context(|| format!("starting {}", storm.display()))?;
    ensure!(failed.is_empty(), "runs that did not come to an end: {}", failed.join(", "));
    ensure!(status.success(), "a bound was missed, or its runs were void");
    Ok(())
}

fn times(scenario: &Scenario, options: &Options) -> Option<Times> {
    SHORT.iter().find(|(key, _)| options.is_short && *key == scenario.key).map(|(_, times)| *times)
}

/// All scenarios that there are.
fn listed(storm: &std::path::Path) -> Result<Vec<Scenario>> {
    let list: Value = serde_json::from_str(&sh::output(Command::new(storm).args(["list", "--json"]))?)?;
    let list = list.as_array().context("`storm list --json` gave no list")?;
    let flag = |value: &Value, key: &str| value[key].as_bool().unwrap_or(false);
    Ok(list
        .iter()
        .map(|value| Scenario {
            key: value["key"].as_str().unwrap_or_default().to_owned(),
            is_limited: flag(value, "limited"),
            is_heavy: flag(value, "heavy"),
            has_reload: flag(value, "reloads"),
            is_exact: false,
        })
        .collect())
}

/// The one that is not listed.
fn counts() -> Scenario {
    Scenario { key: COUNTS.to_owned(), is_limited: false, is_heavy: false, has_reload: false, is_exact: true }
}

/// Those that are asked for, by key, number or name, in the order of the list.
fn chosen(all: &[Scenario], options: &Options) -> Result<Vec<Scenario>> {
    let is_called = |scenario: &Scenario, name: &str| {
        let parts = scenario.key.split_once('-');
        scenario.key == name || parts.is_some_and(|(number, word)| number == name || word == name)
    };
    for name in &options.scenarios {
        if !all.iter().any(|scenario| is_called(scenario, name)) {
            let keys: Vec<&str> = all.iter().map(|scenario| scenario.key.as_str()).collect();
            bail!("--scenario: there is no `{name}`; there are {}", keys.join(", "));
        }
    }
    let is_chosen = |scenario: &Scenario| match (options.scenarios.as_slice(), options.is_short) {
        ([], true) => SHORT.iter().any(|(key, _)| *key == scenario.key),
        ([], false) => true,
        (names, _) => names.iter().any(|name| is_called(scenario, name)),
    };
    Ok(all.iter().filter(|scenario| is_chosen(scenario)).cloned().collect())
}

/// Those that `--peers` names, or all; Evenkeel alone in a short run. A peer that cannot be had is left out.
fn contestants(workspace: &Workspace, options: &Options) -> Result<Vec<Peer>> {
    let is_alone = options.is_short || options.is_counting;
    let is_asked = |name: &&str| match (options.peers.as_slice(), is_alone) {
        ([], true) => **name == *OWN,
        ([], false) => true,
        (names, _) => names.iter().any(|asked| asked == name),
    };
    let mut peers: Vec<Peer> = Vec::new();
    for name in NAMES.iter().filter(|name| is_asked(name)) {
        match Peer::install(workspace, name, options.profile) {
            Ok(peer) => {
                println!("{name} {}", peer.version());
                peers.push(peer);
            }
            Err(error) if *name == OWN => return Err(error),
            Err(error) => println!("{name} is left out: {error:#}"),
        }
    }
    ensure!(!peers.is_empty(), "there is nothing to run");
    Ok(peers)
}

/// The file of a result.
fn result_file(folder: &std::path::Path, scenario: &str, peer: &str, repeat: u32) -> PathBuf {
    folder.join("results").join(format!("{scenario}.{peer}.{repeat}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(key: &str) -> Scenario {
        Scenario { key: key.to_owned(), is_limited: false, is_heavy: false, has_reload: false, is_exact: false }
    }

    fn options(scenarios: &[&str], is_short: bool) -> Options {
        Options {
            scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
            peers: Vec::new(),
            repeats: 1,
            parallel: 1,
            profile: Profile::Release,
            is_short,
            is_counting: false,
        }
    }

    #[test]
    fn scenarios_are_chosen_by_key_number_or_name() {
        let all = ["0-baseline", "1-kill", "4-flaky", "7b-priority"].map(scenario);
        let keys = |names: &[&str], is_short: bool| -> Result<Vec<String>> {
            Ok(chosen(&all, &options(names, is_short))?.into_iter().map(|scenario| scenario.key).collect())
        };
        assert_eq!(keys(&[], false).unwrap().len(), 4);
        assert_eq!(keys(&[], true).unwrap(), ["1-kill", "4-flaky"]);
        assert_eq!(keys(&["7b", "kill"], false).unwrap(), ["1-kill", "7b-priority"]);
        assert!(keys(&["calm"], false).unwrap_err().to_string().contains("there are 0-baseline, 1-kill"));
    }

    #[test]
    fn short_runs_move_the_fault_and_others_do_not() {
        assert!(times(&scenario("1-kill"), &options(&[], true)).is_some_and(|times| times.heal < times.secs));
        assert!(times(&scenario("1-kill"), &options(&[], false)).is_none());
    }
}
