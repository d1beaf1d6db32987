//! `cargo xtask ci`: what must hold before a change lands, cheapest first. It prints each step with its time, stops at the
//! first failure, and ends with a table and the count of tests as the last line.

use anyhow::{Context, Result, ensure};

use crate::args::Args;
use crate::clock::Stopwatch;
use crate::test::Count;
use crate::workspace::{Profile, Workspace};
use crate::{bench, browser, fuzz, r#gen, interop, sh, storm, test, tidy};

/// Fuzzing in CI only shows that the targets work and that the corpus passes.
const FUZZ_MINUTES: f64 = 0.5;

/// What runs, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Fmt,
    Tidy,
    Clippy,
    Test,
    Gen,
    Interop,
    Browser,
    Storm,
    Fuzz,
    Bench,
}

const STEPS: [Step; 10] = [
    Step::Fmt,
    Step::Tidy,
    Step::Clippy,
    Step::Test,
    Step::Gen,
    Step::Interop,
    Step::Browser,
    Step::Storm,
    Step::Fuzz,
    Step::Bench,
];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Fmt => "fmt",
            Step::Tidy => "tidy",
            Step::Clippy => "clippy",
            Step::Test => "test",
            Step::Gen => "gen",
            Step::Interop => "interop",
            Step::Browser => "browser",
            Step::Storm => "storm",
            Step::Fuzz => "fuzz",
            Step::Bench => "bench",
        }
    }

    fn run(self, workspace: &Workspace, count: &mut Count) -> Result<()> {
        match self {
            Step::Fmt => sh::run(&mut workspace.cargo(&["fmt", "--all", "--check"])).context("run `cargo fmt --all`"),
            Step::Tidy => tidy::run(workspace),
            Step::Clippy => {
                let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
                sh::run(&mut workspace.cargo(&args))
            }
            Step::Test => match test::run(workspace, None) {
                Ok(all) => {
                    *count = all;
                    Ok(())
                }
                Err((some, error)) => {
                    *count = some;
                    Err(error)
                }
            },
            Step::Gen => {
                // The tests' build has made it; without them it is made here.
                let built = workspace.binary(Profile::Dev, "evenkeel");
                let binary = if count.passed > 0 { built } else { workspace.build(Profile::Dev)? };
                r#gen::check(workspace, &binary)
            }
            Step::Interop => interop::run(workspace, true),
            Step::Browser => browser::run(workspace, Profile::Dev, false),
            Step::Storm => storm::short(workspace),
            Step::Fuzz => fuzz::run(workspace, FUZZ_MINUTES, None, false),
            Step::Bench => bench::smoke(workspace),
        }
    }
}

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    let steps = chosen(&args.list("--only")?, &args.list("--skip")?)?;
    args.end()?;
    let whole = Stopwatch::start();
    let mut table: Vec<(Step, String)> = Vec::new();
    let mut count = Count::default();
    let mut failure = None;
    for step in steps {
        println!("\n== {}", step.name());
        let watch = Stopwatch::start();
        let result = step.run(workspace, &mut count);
        println!("== {} {watch}", step.name());
        table.push((step, format!("{} {watch}", if result.is_ok() { "ok    " } else { "FAILED" })));
        if let Err(error) = result {
            failure = Some((step, error));
            break;
        }
    }
    println!("\nstep      result");
    for (step, line) in &table {
        println!("{:<9} {line}", step.name());
    }
    println!("{:<9}        {whole}", "all");
    if let Some((step, _)) = &failure {
        println!("\n`cargo xtask ci --only {}` repeats the step that failed", step.name());
    }
    if count != Count::default() {
        println!("{count}");
    }
    failure.map_or(Ok(()), |(step, error)| Err(error.context(format!("step `{}`", step.name()))))
}

fn chosen(only: &[String], skip: &[String]) -> Result<Vec<Step>> {
    for name in only.iter().chain(skip) {
        let known = STEPS.map(Step::name);
        ensure!(known.contains(&name.as_str()), "there is no step `{name}`; there are {}", known.join(", "));
    }
    let named = |list: &[String], step: Step| list.iter().any(|name| name == step.name());
    let steps: Vec<Step> =
        STEPS.into_iter().filter(|step| (only.is_empty() || named(only, *step)) && !named(skip, *step)).collect();
    ensure!(!steps.is_empty(), "no step is left");
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn steps_are_chosen_by_name_and_keep_their_order() {
        assert_eq!(chosen(&[], &[]).unwrap(), STEPS);
        assert_eq!(chosen(&names(&["test", "fmt"]), &[]).unwrap(), [Step::Fmt, Step::Test]);
        assert_eq!(chosen(&[], &names(&["fuzz"])).unwrap().len(), STEPS.len() - 1);
        assert!(chosen(&names(&["lint"]), &[]).unwrap_err().to_string().contains("there are fmt, tidy"));
        assert!(chosen(&names(&["fmt"]), &names(&["fmt"])).is_err());
    }
}
