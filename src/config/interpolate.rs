//! `${env:NAME}` and `${file:/path}` in texts: what must not stand in the file is put in when it is read. `$${` writes
//! `${`. Every text may hold references; what they stand for is never shown: messages and the effective configuration
//! have the reference in its place. Limits: 64 KiB for each value; a file's last line break is left out.

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::path::PathBuf;

use kernel::{Finding, Rule, Severity};
use toml::de::DeValue;

use super::World;
use super::document::{Document, MAX_FINDINGS, Path, Source, placed};

/// What a reference may stand for, at most, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// Values shorter than this are hidden only where they stand; longer ones wherever they turn up.
const SECRET_BY_ITSELF: usize = 4;

pub(super) const UNREADABLE_SECRET: Rule = Rule {
    id: "unreadable-secret",
    severity: Severity::Error,
    title: "A reference to a secret cannot be read",
    what: "A text holds `${env:NAME}` or `${file:/path}`, and the variable is not set, or the file cannot be read, \
           is larger than 64 KiB or is not UTF-8.",
    why: "Evenkeel does not start, and takes over no new configuration, with a secret missing: an empty one would be \
          wrong in ways that show up late.",
    remedy: "Set the variable in the environment of the process (in a unit file: `Environment=` or \
             `EnvironmentFile=`), or make the file readable to the user that Evenkeel runs as. A reload reads files \
             again, but the environment is that of the start.",
    example: "[token.deploy]\nhash = \"${file:/run/secrets/deploy-token-hash}\"\nscopes = [\"operator\"]",
};

pub(super) const BAD_REFERENCE: Rule = Rule {
    id: "bad-reference",
    severity: Severity::Error,
    title: "A reference is not written as one",
    what: "A text holds `${` but not as a whole `${env:NAME}` or `${file:/path}`.",
    why: "Taking the text as it stands would send the reference itself to a service, or compare a token with it.",
    remedy: "Write `${env:NAME}` or `${file:/path}`. If `${` is meant, write `$${`.",
    example: "[token.deploy]\nhash = \"${env:DEPLOY_TOKEN_HASH}\"   # not \"${DEPLOY_TOKEN_HASH}\"\n\
              scopes = [\"operator\"]",
};

/// What was put in where.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    /// By span of the text in the file: the text as it was written, and what it became. The span survives whatever is
    /// taken out of the document.
    texts: HashMap<(usize, usize), (String, String)>,
    /// Values and the references that stand for them.
    values: Vec<(String, String)>,
    /// Files that were read.
    pub(super) files: Vec<PathBuf>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let references: Vec<&str> = self.values.iter().map(|(_, reference)| reference.as_str()).collect();
        f.debug_struct("Secrets").field("references", &references).finish_non_exhaustive()
    }
}

impl Secrets {
    /// The text as it was written, if the one with this span holds references.
    pub(super) fn written(&self, span: &std::ops::Range<usize>) -> Option<&str> {
        self.texts.get(&(span.start, span.end)).map(|(written, _)| written.as_str())
    }

    /// Hides every secret that a message for people would show.
    pub(super) fn hide(&self, message: &str, span: Option<&std::ops::Range<usize>>) -> String {
        let mut hidden = message.to_owned();
        let mut replace = |value: &str, shown: &str| {
            for form in [value.to_owned(), value.escape_debug().to_string()] {
                if !form.is_empty() && hidden.contains(&form) {
                    hidden = hidden.replace(&form, shown);
                }
            }
        };
        if let Some((written, value)) = span.and_then(|s| self.texts.get(&(s.start, s.end))) {
            replace(value, written);
        }
        for (value, reference) in self.values.iter().filter(|(value, _)| value.len() >= SECRET_BY_ITSELF) {
            replace(value, reference);
        }
        hidden
    }
}

/// Puts in what references stand for. A text whose references cannot be read is taken out of the document.
pub(super) fn interpolate(
    doc: &mut Document<'_>,
    source: &Source,
    world: &World<'_>,
    findings: &mut Vec<Finding>,
) -> Secrets {
    let mut texts = Vec::new();
    collect(doc.root(), &Path::default(), &mut texts);
    let mut secrets = Secrets::default();
    // Backwards, so that taking out one item of a list moves none that is still to come.
    for (path, span, text) in texts.into_iter().rev() {
        match expand(&text, world, &mut secrets) {
            Ok(value) => {
                doc.replace_text(&path, value.clone());
                secrets.texts.insert((span.start, span.end), (text, value));
            }
            Err((rule, message, remedy)) => {
                if findings.len() < MAX_FINDINGS {
                    let mut finding = placed(rule, source, Some(span), message, remedy);
                    finding.subject = Some(path.to_string());
                    findings.push(finding);
                }
                doc.remove(&path);
            }
        }
    }
    secrets
}

fn collect(value: &DeValue<'_>, path: &Path, texts: &mut Vec<(Path, std::ops::Range<usize>, String)>) {
    let mut look = |value: &toml::Spanned<DeValue<'_>>, path: Path| match value.get_ref() {
        DeValue::String(text) if text.contains("${") => texts.push((path, value.span(), text.to_string())),
        inner => collect(inner, &path, texts),
    };
    match value {
        DeValue::Table(table) => table.iter().for_each(|(key, value)| look(value, path.then(key.get_ref().as_ref()))),
        DeValue::Array(list) => list.iter().enumerate().for_each(|(i, value)| look(value, path.then(i))),
        _ => {}
    }
}

type Problem = (&'static Rule, String, String);

fn expand(text: &str, world: &World<'_>, secrets: &mut Secrets) -> Result<String, Problem> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = inner.find('}').ok_or_else(|| bad(rest[at..].to_owned(), "close it with `}`".to_owned()))?;
        let reference = format!("${{{}}}", &inner[..end]);
        let value = look_up(&inner[..end], &reference, world, secrets)?;
        out.push_str(&value);
        if !value.is_empty() {
            secrets.values.push((value, reference));
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn bad(reference: String, remedy: String) -> Problem {
    let shown: String = reference.chars().take(60).collect();
    (&BAD_REFERENCE, format!("`{shown}` is not a reference"), remedy)
}

fn look_up(inner: &str, reference: &str, world: &World<'_>, secrets: &mut Secrets) -> Result<String, Problem> {
    let unreadable = |message: String, remedy: String| Err((&UNREADABLE_SECRET, message, remedy));
    match inner.split_once(':') {
        Some(("env", name)) if !name.is_empty() => match (world.env)(name) {
            Some(value) if value.len() <= MAX_VALUE => Ok(value),
            Some(value) => unreadable(
                format!("the environment variable `{name}` holds {} bytes", value.len()),
                format!("shorten it to at most {MAX_VALUE} bytes"),
            ),
            None => unreadable(
                format!("the environment variable `{name}` is not set"),
                format!(
                    "set `{name}` in the environment that Evenkeel is started in, or read a file with `${{file:/path}}`"
                ),
            ),
        },
        Some(("file", path)) if !path.is_empty() => {
            let full = world.directory.join(path);
            secrets.files.push(full.clone());
            read_text(&full, path, world)
        }
        _ if inner.contains(':') => Err(bad(reference.to_owned(), "write `${env:NAME}` or `${file:/path}`".to_owned())),
        _ => Err(bad(
            reference.to_owned(),
            format!("write `${{env:{inner}}}` for an environment variable, or `$${{` for a plain `${{`"),
        )),
    }
}

fn read_text(full: &FilePath, written: &str, world: &World<'_>) -> Result<String, Problem> {
    let fail = |what: String, remedy: &str| {
        Err((&UNREADABLE_SECRET, format!("the file `{written}` {what}"), remedy.to_owned()))
    };
    let bytes = match (world.read)(full, MAX_VALUE) {
        Ok(bytes) => bytes,
        Err(error) => {
            let (what, remedy) = super::why_unreadable(&error, MAX_VALUE);
            return fail(what, remedy);
        }
    };
    let Ok(mut text) = String::from_utf8(bytes) else {
        return fail("is not UTF-8".to_owned(), "store the secret as text");
    };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
