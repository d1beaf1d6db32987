//! Postgres in tests: private instances of the installed server ([`Instance`]), and ports for what is tested in front of them
//! ([`Port`]).

mod install;
mod instance;

pub use install::Port;
pub use instance::{Instance, Options};

#[cfg(test)]
mod tests;
