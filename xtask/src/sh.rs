//! Running other programs: what is run is shown first, and a failure names the command and its exit status.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The `cargo` that runs this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this program about itself is not meant for the builds it starts.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_")
            || name == "CARGO_MANIFEST_DIR"
            || name == "CARGO_MANIFEST_PATH"
        {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it with the terminal's input and output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("starting `{}`", shown(command)))?;
    succeeded(command, status)
}

/// Runs it and returns its standard output; its standard error is shown.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, .. } =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("starting `{}`", shown(command)))?;
    succeeded(command, status)?;
    String::from_utf8(stdout).with_context(|| format!("the output of `{}` is not UTF-8", shown(command)))
}

/// Runs it, passes what it writes on as it comes, and gives each line to `line` as well.
pub(crate) fn watched(command: &mut Command, mut line: impl FnMut(&str) + Send) -> Result<ExitStatus> {
    println!("$ {}", shown(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{}`", shown(command)))?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("`{}` was started without pipes", shown(command))
    };
    let line = std::sync::Mutex::new(&mut line);
    std::thread::scope(|scope| {
        let take = |text: &str| (*line.lock().unwrap_or_else(std::sync::PoisonError::into_inner))(text);
        scope.spawn(move || pass_on(out, std::io::stdout(), take));
        pass_on(err, std::io::stderr(), take);
    });
    child.wait().with_context(|| format!("waiting for `{}`", shown(command)))
}

fn pass_on(from: impl Read, mut to: impl Write, mut line: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    // A pipe that fails has ended, and a terminal that is gone is no reason to stop the command.
    while from.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        drop(to.write_all(&bytes));
        line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
}

/// An error unless `status` is success.
pub(crate) fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_watched_and_the_status_is_returned() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let status = watched(&mut command, |line| lines.push(line.to_owned())).unwrap();
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(status.code(), Some(3));
        let error = succeeded(&command, status).unwrap_err().to_string();
        assert!(error.contains("sh -c echo one") && error.contains('3'), "{error}");
    }
}
