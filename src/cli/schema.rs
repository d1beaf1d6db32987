//! `evenkeel schema`: the JSON schema of the configuration, for editors and other tools.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::schema;

/// Print the JSON schema of the configuration
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {}

/// Prints it.
///
/// # Errors
/// When the output cannot be written.
pub fn run(_: &SchemaArgs) -> anyhow::Result<ExitCode> {
    io::stdout().lock().write_all(schema::text().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
