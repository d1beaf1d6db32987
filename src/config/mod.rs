//! Configuration: from the file as it was written to the plan that runs, with everything that is wrong or unwise about it
//! said at once and in place.
//!
//! ```text
//! text --syntax--> document --interpolate--> --shape--> --types--> Config --compile--> Compiled (gateway::Plan and the rest)
//!                                                                  Config --lint-----> findings
//! ```
//! Each step reports all it can, takes out what cannot be used, and hands the rest on. There is a [`Compiled`] only if
//! nothing was an error. All that is outside the text (environment, files, name resolution) comes through a [`World`], so
//! that tests have their own. Limits: a file of 1 MiB, 100 findings.

pub mod catalogue;
pub mod compile;
mod context;
pub(crate) mod diff;
pub mod document;
pub mod effective;
mod interpolate;
pub mod lint;
pub mod model;
pub mod reference;
pub mod report;
pub mod schema;
mod shape;
mod syntax;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};

use kernel::{Finding, Rule, Severity};

pub use compile::{Compiled, Listening, cannot_listen};
use context::Context;
use document::{Document, MAX_FILE_BYTES, MAX_FINDINGS, Source, Spot, placed};
use interpolate::Secrets;
pub use model::Config;

const UNREADABLE_FILE: Rule = Rule {
    id: "unreadable-file",
    severity: Severity::Error,
    title: "The configuration file cannot be read",
    what: "The file does not exist, may not be read, is not UTF-8, or is larger than 1 MiB.",
    why: "There is nothing to run by. A running process keeps the configuration it has.",
    remedy: "Name the file with `-c`, and make it readable to the user that Evenkeel runs as.",
    example: "# evenkeel up -c /etc/evenkeel/evenkeel.toml\n[gateway]\nlisten = \"127.0.0.1:8080\"",
};

/// What a configuration may ask of the machine.
pub struct World<'a> {
    /// Where relative paths in the file begin.
    pub directory: PathBuf,
    /// An environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The content of a file, at most so many bytes ([`io::ErrorKind::FileTooLarge`] beyond). A directory is
    /// [`io::ErrorKind::IsADirectory`].
    pub read: &'a dyn Fn(&FilePath, usize) -> io::Result<Vec<u8>>,
    /// The addresses of `host:port`.
    pub resolve: &'a dyn Fn(&str) -> io::Result<Vec<SocketAddr>>,
}

/// All that came of reading a configuration.
#[derive(Debug)]
pub struct Outcome {
    /// The text, for showing findings in place.
    pub source: Source,
    /// What there is to say, in the order of the file.
    pub findings: Vec<Finding>,
    /// The configuration as far as it could be read.
    pub config: Config,
    /// What to run by; `None` if anything is an error.
    pub compiled: Option<Compiled>,
    /// The effective configuration as TOML: every value in force, defaults marked, references in the place of secrets.
    pub effective: String,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl World<'_> {
    /// Whether there is a directory at `path`.
    pub(crate) fn is_directory(&self, path: &FilePath) -> bool {
        (self.read)(path, 0).is_err_and(|error| error.kind() == io::ErrorKind::IsADirectory)
    }
}

impl World<'static> {
    /// The machine, for a file in `directory`. Resolution is the system's and blocks.
    pub fn real(directory: PathBuf) -> World<'static> {
        World {
            directory,
            env: &|name| std::env::var(name).ok(),
            read: &read_at_most,
            resolve: &|name| Ok(std::net::ToSocketAddrs::to_socket_addrs(name)?.collect()),
        }
    }
}

impl Outcome {
    /// Whether anything is an error.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Error)
    }

    /// The findings as text, each with the line it is about.
    pub fn text(&self) -> String {
        report::text::render(&self.findings, Some(&self.source))
    }
}

/// Reads the file at `path`, with the machine's environment, files and resolution. Blocks.
pub fn load_file(path: &FilePath) -> Outcome {
    let name = path.display().to_string();
    let text = read_at_most(path, MAX_FILE_BYTES)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into()));
    match text {
        Ok(text) => load(&name, text, &World::real(path.parent().map(FilePath::to_path_buf).unwrap_or_default())),
        Err(error) => nothing(Source::new(&name, String::new()), vec![unreadable(path, &error)]),
    }
}

/// What to say of a configuration file that cannot be read.
pub fn unreadable(path: &FilePath, error: &io::Error) -> Finding {
    let (problem, remedy) = match error.kind() {
        io::ErrorKind::NotFound => ("does not exist".to_owned(), "create it, or name another one with `-c FILE`"),
        io::ErrorKind::FileTooLarge => ("is larger than 1 MiB".to_owned(), "name a configuration file with `-c FILE`"),
        io::ErrorKind::InvalidData => ("is not UTF-8".to_owned(), "save it as UTF-8 text"),
        _ => why_unreadable(error, 0),
    };
    UNREADABLE_FILE.finding(format!("the configuration file `{}` {problem}", path.display()), remedy)
}

/// Why a file that a configuration names cannot be read, and what to do.
pub(crate) fn why_unreadable(error: &io::Error, most: usize) -> (String, &'static str) {
    match error.kind() {
        io::ErrorKind::NotFound => (
            "does not exist".to_owned(),
            "create it, or correct the path; a relative one counts from the directory of this file",
        ),
        io::ErrorKind::FileTooLarge => (format!("is larger than {} KiB", most / 1024), "name a smaller one"),
        io::ErrorKind::IsADirectory => ("is a directory".to_owned(), "name the file in it"),
        _ => (format!("cannot be read: {}", plain(error)), "make it readable to the user that Evenkeel runs as"),
    }
}

/// Reads a text that is known as `name`.
pub fn load(name: &str, text: String, world: &World<'_>) -> Outcome {
    let source = Source::new(name, text);
    let (mut document, errors) = Document::parse(source.text());
    if !errors.is_empty() {
        let findings = syntax::findings(&source, &errors);
        return nothing(source, findings);
    }
    let mut findings = Vec::new();
    let secrets = interpolate::interpolate(&mut document, &source, world, &mut findings);
    shape::check(&mut document, &schema::root(), &source, &secrets, &mut findings);
    let config = read(&mut document, &source, &secrets, &mut findings);
    let is_whole = findings.is_empty();
    let context = Context::new(&config, &document, &source, &secrets, world);
    let compiled = compile::compile(&context);
    lint::run(&context, is_whole);
    findings.extend(context.into_findings());
    sort(&mut findings);
    let broken = findings.iter().any(|f| f.severity == Severity::Error);
    findings.truncate(MAX_FINDINGS);
    let compiled = compiled.filter(|_| !broken);
    let effective = effective::render(&config, &document, &secrets);
    Outcome { source, findings, config, compiled, effective }
}

fn nothing(source: Source, mut findings: Vec<Finding>) -> Outcome {
    sort(&mut findings);
    Outcome { source, findings, config: Config::default(), compiled: None, effective: String::new() }
}

/// Errors first where they share a place; what has no place comes last.
fn sort(findings: &mut Vec<Finding>) {
    findings.sort_by_key(|f| {
        let place = f.place.as_ref().map_or((usize::MAX, 0), |p| (p.line, p.column));
        (place, std::cmp::Reverse(f.severity), f.id, f.message.clone())
    });
    findings.dedup();
}

/// Reads the document as a [`Config`], taking out what the types refuse until the rest is accepted.
fn read(document: &mut Document<'_>, source: &Source, secrets: &Secrets, findings: &mut Vec<Finding>) -> Config {
    // Each round takes something out, so this ends; the bound is for files that are wrong all over.
    for _ in 0..10 * MAX_FINDINGS {
        let error = match document.read::<Config>() {
            Ok(config) => return config,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let spot = document.find(&span);
        let consequence = error.message().starts_with("missing field");
        if !consequence && findings.len() < 10 * MAX_FINDINGS {
            let (message, remedy) = split_remedy(&secrets.hide(error.message(), Some(&span)));
            let mut finding = placed(&shape::BAD_VALUE, source, Some(span), message, remedy);
            finding.subject = spot.as_ref().map(|spot| match spot {
                Spot::Key(path) | Spot::Value(path) => document.as_written(path).to_string(),
            });
            findings.push(finding);
        }
        // A list of which something was taken out, or a table that lacks what was, cannot be used either.
        match spot {
            Some(Spot::Key(path) | Spot::Value(path)) => document.remove(&path),
            None => break,
        }
    }
    Config::default()
}

/// Messages of the types end with what to do; a finding keeps the two apart.
pub(crate) fn split_remedy(message: &str) -> (String, String) {
    const VERBS: [&str; 14] = [
        "write ",
        "use ",
        "leave ",
        "put ",
        "name ",
        "give ",
        "remove ",
        "choose ",
        "a parameter ",
        "slashes ",
        "methods ",
        "see ",
        "take ",
        "the query ",
    ];
    let cuts = message.match_indices([':', ';']).filter_map(|(at, _)| {
        let rest = message[at + 1..].strip_prefix(' ')?;
        VERBS.iter().any(|verb| rest.starts_with(verb)).then_some((at, rest))
    });
    match cuts.into_iter().next() {
        Some((at, rest)) => (message[..at].to_owned(), rest.to_owned()),
        None => (message.to_owned(), "see the reference page for what it takes".to_owned()),
    }
}

/// An I/O error in plain words, without the number of the operating system.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    format!("{first}{}", chars.as_str())
}

fn read_at_most(path: &FilePath, most: usize) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if read > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
