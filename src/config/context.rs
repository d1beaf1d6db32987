//! What the checks of meaning share: the configuration, the document it came from, and a way to say something about a place
//! in it. Checks run on what is left of a wrong file too, so each asks whether what it misses was there and was taken out.

use std::cell::RefCell;

use kernel::{Finding, Rule};

use super::World;
use super::document::{Document, MAX_FINDINGS, Path, Source, placed};
use super::interpolate::Secrets;
use super::model::Config;

/// What a check may look at, and where it says what it finds.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) document: &'a Document<'a>,
    pub(super) source: &'a Source,
    pub(super) secrets: &'a Secrets,
    pub(super) world: &'a World<'a>,
    findings: RefCell<Vec<Finding>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        config: &'a Config,
        document: &'a Document<'a>,
        source: &'a Source,
        secrets: &'a Secrets,
        world: &'a World<'a>,
    ) -> Context<'a> {
        Context { config, document, source, secrets, world, findings: RefCell::default() }
    }

    /// Says something about the value at `path`, or about the table around it if the file does not have it.
    pub(super) fn say(&self, rule: &Rule, path: &Path, message: impl Into<String>, remedy: impl Into<String>) {
        let span = self.document.span(path);
        self.push(rule, path, span, message.into(), remedy.into());
    }

    /// Says something about the key at `path`.
    pub(super) fn say_of_key(&self, rule: &Rule, path: &Path, message: impl Into<String>, remedy: impl Into<String>) {
        let span = self.document.key_span(path).or_else(|| self.document.span(path));
        self.push(rule, path, span, message.into(), remedy.into());
    }

    fn push(&self, rule: &Rule, path: &Path, span: Option<std::ops::Range<usize>>, message: String, remedy: String) {
        let hide = |text: &str| self.secrets.hide(text, span.as_ref());
        let mut finding = placed(rule, self.source, span.clone(), hide(&message), hide(&remedy));
        let subject = self.document.as_written(path).to_string();
        finding.subject = (!subject.is_empty()).then_some(subject);
        let mut findings = self.findings.borrow_mut();
        if findings.len() < 10 * MAX_FINDINGS {
            findings.push(finding);
        }
    }

    /// Whether something that the file says at `path` could not be used.
    pub(super) fn is_damaged(&self, path: &Path) -> bool {
        self.document.is_damaged(path)
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings.into_inner()
    }
}
