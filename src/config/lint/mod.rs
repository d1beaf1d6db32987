//! What is legal but unwise, and what can only be judged when the whole file is known. A lint is one declaration: id,
//! severity, the page that explains it, and the check; adding it to the list of its table is all that makes it run, be
//! explained by `evenkeel explain` and have a page in the documentation.
//!
//! Lints that are no errors wait until the file has its right shape: on half a file they would see things that are not
//! there.

mod discovery;
mod gateway;
mod node;
mod pool;
mod resilience;
mod route;
mod service;

use kernel::{Rule, Severity};

use super::context::Context;

/// A rule and how it is checked.
pub(super) struct Lint {
    pub(super) rule: Rule,
    check: fn(&Context<'_>, &Rule),
}

/// Every lint, by table.
pub(super) fn all() -> impl Iterator<Item = &'static Lint> {
    let all =
        [gateway::LINTS, node::LINTS, service::LINTS, discovery::LINTS, pool::LINTS, resilience::LINTS, route::LINTS];
    all.into_iter().flatten()
}

/// Runs every lint; only those that are errors if the file is not whole.
pub(super) fn run(context: &Context<'_>, is_whole: bool) {
    for lint in all().filter(|lint| is_whole || lint.rule.severity == Severity::Error) {
        (lint.check)(context, &lint.rule);
    }
}
