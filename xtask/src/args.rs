//! Command-line options without a library: `--flag`, `--name VALUE` or `--name=VALUE`, and plain words. A command takes
//! what it knows and then calls [`Args::end`], which refuses the rest, so that no option is ignored.

use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// The words after the command, less those already taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Args {
    words: Vec<String>,
}

impl Args {
    pub(crate) fn new(words: Vec<String>) -> Args {
        Args { words }
    }

    /// Takes `--name`; says whether it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() < before
    }

    /// Takes `--name VALUE`.
    pub(crate) fn value<T>(&mut self, name: &str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let Some(at) = self.words.iter().position(|word| word.split('=').next() == Some(name)) else { return Ok(None) };
        let word = self.words.remove(at);
        let text = match word.split_once('=') {
            Some((_, text)) => text.to_owned(),
            None if at < self.words.len() => self.words.remove(at),
            None => bail!("{name} wants a value"),
        };
        text.parse().map(Some).with_context(|| format!("{name} {text}"))
    }

    /// Takes `--name A,B,C`; empty if it is not there.
    pub(crate) fn list(&mut self, name: &str) -> Result<Vec<String>> {
        let list = self.value::<String>(name)?.unwrap_or_default();
        Ok(list.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }

    /// Takes the next plain word.
    pub(crate) fn word(&mut self) -> Option<String> {
        let at = self.words.iter().position(|word| !word.starts_with('-'))?;
        Some(self.words.remove(at))
    }

    /// Refuses what is left.
    pub(crate) fn end(self) -> Result<()> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => bail!("`{word}` is not known here; `cargo xtask help` lists what is"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn takes_what_is_asked_for_and_refuses_the_rest() {
        let mut given = args("gateway --rounds 3 --only=a,b --smoke --surprise");
        assert_eq!(given.value::<u32>("--rounds").unwrap(), Some(3));
        assert_eq!(given.list("--only").unwrap(), ["a", "b"]);
        assert!(given.flag("--smoke") && !given.flag("--smoke"));
        assert_eq!(given.word().as_deref(), Some("gateway"));
        assert!(given.end().unwrap_err().to_string().contains("--surprise"));
    }

    #[test]
    fn a_value_that_is_missing_or_wrong_is_named() {
        assert!(args("--rounds").value::<u32>("--rounds").unwrap_err().to_string().contains("wants a value"));
        assert!(args("--rounds x").value::<u32>("--rounds").unwrap_err().to_string().contains("--rounds x"));
    }
}
