//! `evenkeel token new`: makes a token, shows it once, and prints the stanza that lets it in. The configuration keeps the
//! hash only, so whoever reads it learns no token.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use console::NewToken;

use crate::config::model::{Name, Scope};

/// Make tokens for the operator API and the API
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token: prints it once, and the stanza for the configuration
    New(NewArgs),
}

#[derive(Debug, Args)]
struct NewArgs {
    /// What logs call whoever presents it
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// What it may do: operator, services:read, deploys:write, register:SERVICE or register:*; repeat it for more
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = Scope::parse)]
    scopes: Vec<Scope>,
}

/// Makes a token.
///
/// # Errors
/// When the operating system has no randomness, or the output cannot be written.
pub fn run(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let TokenCommand::New(args) = &args.command;
    let token = NewToken::generate().context("cannot make a token")?;
    let mut out = io::stdout().lock();
    let for_people = out.is_terminal();
    out.write_all(shown(args, &token, for_people).as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What is printed. In a pipe it is TOML as a whole, with the token in a comment.
fn shown(args: &NewArgs, token: &NewToken, for_people: bool) -> String {
    let mut scopes: Vec<String> = args.scopes.iter().map(|scope| format!("\"{scope}\"")).collect();
    scopes.dedup();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = match for_people {
        true => writeln!(
            text,
            "The token, which is shown only this once:\n\n    {}\n\nCallers send it as `Authorization: Bearer evk_…`. Add this to the configuration:\n",
            token.text
        ),
        false => writeln!(text, "# token, shown only this once: {}", token.text),
    };
    let _infallible =
        writeln!(text, "[token.{}]\nhash = \"{}\"\nscopes = [{}]", args.name, token.hash, scopes.join(", "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stanza_lets_the_token_in_and_does_not_hold_it() {
        let name = Name::parse("deploy").unwrap();
        let args = NewArgs { name, scopes: vec![Scope::Operator, Scope::ServicesRead] };
        let token = NewToken::generate().unwrap();
        let text = shown(&args, &token, false);
        assert!(token.text.starts_with("evk_") && text.contains(&token.text));
        let read: toml::Table = text.parse().unwrap();
        let stanza = &read["token"]["deploy"];
        assert_eq!(stanza["hash"].as_str(), Some(token.hash.to_string().as_str()));
        assert_eq!(stanza["scopes"].as_array().map(Vec::len), Some(2));
        assert!(!read.to_string().contains(&token.text));
    }

    #[test]
    fn scopes_are_those_of_the_configuration() {
        for name in ["operator", "services:read", "deploys:write", "register:shop", "register:*"] {
            let scope: Scope = serde_json::from_value(name.into()).unwrap();
            assert_eq!((scope.to_string().as_str(), Scope::parse(name)), (name, Ok(scope)));
        }
        for bad in ["", "operators", "register", "register:", "register:Shop", "register:shop:x", "services:write"] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }
}
