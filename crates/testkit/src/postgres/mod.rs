//! Postgres in tests: private instances of the installed server ([`Instance`]).

mod install;
mod instance;

pub use instance::{Instance, Options};

#[cfg(test)]
mod tests;
