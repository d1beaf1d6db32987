//! `evenkeel status`: the home page of a running node for terminals: the text that the node itself makes of it. With
//! `--watch` it is drawn anew each [`EVERY`]; on a terminal in place, on a screen of its own that is given back at the end.
//!
//! A node that cannot be reached is said, and asked again; that is an error only for who does not watch.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use console::words::tame;
use rustix::termios::tcgetwinsize;
use serde_json::Value;

use super::remote::{Remote, RemoteArgs, Said, print};

/// Between two looks: the figures are those of the last minute.
const EVERY: Duration = Duration::from_secs(2);

/// A screen of its own, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Show the state of a running node, once or as it changes
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show it anew every two seconds, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks the node, and shows its answer.
///
/// # Errors
/// When the node cannot be reached or does not let the caller in, or the output cannot be written.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::of(&args.remote)?;
    let json = args.remote.json;
    if !args.watch {
        let text = if json { format!("{:#}\n", remote.status()?) } else { state(remote.text("/", false)?)? };
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    remote.run(watch(&remote, json))
}

fn state(said: Said) -> anyhow::Result<String> {
    match said {
        Said::Yes(text) => Ok(text),
        Said::No { detail, .. } => anyhow::bail!("{detail}"),
    }
}

async fn watch(remote: &Remote, json: bool) -> anyhow::Result<ExitCode> {
    let on_screen = !json && io::stdout().is_terminal();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    if on_screen {
        print(ENTER)?;
    }
    let mut trouble = String::new();
    let outcome = loop {
        let path = if json { "/v1/status" } else { "/" };
        let look = async {
            let text = match remote.ask_text(path, json).await.and_then(state) {
                Ok(text) if json => {
                    trouble.clear();
                    serde_json::from_str::<Value>(&text)?.to_string() + "\n"
                }
                Ok(text) => text,
                // In lines of JSON there is no room for words: they go elsewhere, and there is one line less.
                Err(error) if json => {
                    let now = format!("{error:#}");
                    if std::mem::replace(&mut trouble, now.clone()) != now {
                        super::complain(&error.context("the node is waited for"));
                    }
                    String::new()
                }
                Err(error) => format!("{}\n", tame(&format!("{error:#}"))),
            };
            print(&if on_screen { drawn(&text, size()) } else { text })?;
            tokio::time::sleep(EVERY).await;
            anyhow::Ok(())
        };
        tokio::select! {
            _ = interrupted.as_mut() => break Ok(ExitCode::SUCCESS),
            looked = look => if let Err(error) = looked { break Err(error) },
        }
    };
    if on_screen {
        print(LEAVE)?;
    }
    outcome
}

/// Columns and rows of the terminal; plenty if it does not say.
fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (usize::MAX, usize::MAX),
    }
}

/// The text over what stood there before: sentences are broken at the edge, lines of tables cut there; the rest of each
/// line is cleared, then all below it.
fn drawn(text: &str, (columns, rows): (usize, usize)) -> String {
    let mut out = String::from("\x1b[H");
    for (at, line) in text.lines().flat_map(|line| broken(line, columns)).take(rows).enumerate() {
        if at > 0 {
            out.push_str("\r\n");
        }
        out.extend(line.chars().take(columns));
        out.push_str("\x1b[K");
    }
    out.push_str("\x1b[J");
    out
}

/// A sentence in lines of so many columns; a line of a table, whose columns stand two blanks apart, as it is.
fn broken(line: &str, columns: usize) -> Vec<String> {
    if line.contains("  ") || line.chars().count() <= columns {
        return vec![line.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 1 + word.chars().count() <= columns => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_within_its_edges() {
        let text = "all  is well\n\nshop  ok\nmore\n";
        assert_eq!(drawn(text, (5, 3)), "\x1b[Hall  \x1b[K\r\n\x1b[K\r\nshop \x1b[K\x1b[J");
        assert_eq!(drawn("x\n", (80, 24)), "\x1b[Hx\x1b[K\x1b[J");
        let broken = "\x1b[Ha:1 of\x1b[K\r\nshop was\x1b[K\r\nremarkab\x1b[K\x1b[J";
        assert_eq!(drawn("a:1 of shop was remarkable\n", (8, 9)), broken);
    }
}
