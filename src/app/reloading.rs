//! Reloads: the same source is read again. A configuration that is wrong changes nothing; one that is right is taken over as
//! a whole, except for what only a restart can change. Both are told to the journal, with what is different.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kernel::{Drain, DrainPhase, Event, Finding, Moment, Severity};

use super::{Fixed, Inner, Settable, Stopping, log_warnings, read, settings_of};
use crate::config::{self, Outcome};
use console::AdminSettings;

/// How often the configuration file is looked at for a change.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What came of the last reload.
#[derive(Debug, Clone)]
pub(super) struct LastReload {
    pub(super) applied: bool,
    pub(super) message: String,
    pub(super) findings: Vec<Finding>,
    pub(super) at: Moment,
}

/// What was read when the configuration in force was taken over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    text: String,
    /// Pages and secrets beside it, and what they looked like.
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// Enough of a file's state to see that it changed.
type Stamp = (std::time::SystemTime, u64);

impl Read {
    pub(super) fn of(outcome: &Outcome, files: &[PathBuf]) -> Read {
        Read {
            text: outcome.source.text().to_owned(),
            files: files.iter().map(|path| (path.clone(), stamp(path))).collect(),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok()
}

/// Reloads by outcome, as metrics.
#[derive(Debug, Default)]
pub(super) struct ReloadCells {
    pub(super) applied: kernel::metrics::Shared,
    pub(super) refused: kernel::metrics::Shared,
    /// 1 if the last one was taken over.
    pub(super) valid: kernel::metrics::Shared,
}

impl kernel::metrics::Collect for ReloadCells {
    fn collect(&self, sink: &mut dyn kernel::metrics::Sink) {
        use kernel::metrics::{Family, MetricKind};
        sink.family(Family {
            name: "evenkeel_config_reloads_total",
            help: "Attempts to take over another configuration, by outcome",
            kind: MetricKind::Counter,
        });
        sink.sample(&[("outcome", "applied")], self.applied.get() as f64);
        sink.sample(&[("outcome", "refused")], self.refused.get() as f64);
        sink.family(Family {
            name: "evenkeel_config_valid",
            help: "1 if the last configuration that was read is in force, 0 if it was refused",
            kind: MetricKind::Gauge,
        });
        sink.sample(&[], self.valid.get() as f64);
    }
}

/// A configuration that was taken over.
struct Applied {
    message: String,
    changes: Vec<String>,
}

/// Takes over what is written to the file, or to a file that it names, once it has changed.
pub(super) async fn watch(inner: Arc<Inner>, path: PathBuf, mut drain: Drain) {
    // The first look compares the text: what was written between the start and now has no older stamp to differ from.
    let mut seen = None;
    loop {
        tokio::select! {
            () = drain.reached(DrainPhase::Announced) => return,
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
        let (inner, path) = (inner.clone(), path.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let now = stamp(&path);
            if now.is_some() && (now != seen || inner.files_changed()) && inner.differs(&path) {
                // The outcome is logged and counted by the reload itself.
                let _outcome = inner.reload().is_ok();
            }
            now
        });
        if let Ok(Some(now)) = looked.await {
            seen = Some(now);
        }
    }
}

impl Inner {
    /// Whether a page or a secret looks different from when it was read.
    fn files_changed(&self) -> bool {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.files.iter().any(|(path, then)| stamp(path) != *then)
    }

    /// Whether the file holds something else than what was read last, right or wrong. A touch alone is no change.
    fn differs(&self, path: &Path) -> bool {
        let text = std::fs::read_to_string(path).ok();
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        text.is_some_and(|t| t != read.text) || read.files.iter().any(|(path, then)| stamp(path) != *then)
    }

    pub(super) fn reload(&self) -> Result<String, Vec<Finding>> {
        self.manager.reloading();
        let outcome = self.try_reload().map(|applied| self.tell_applied(applied));
        let (applied, message, findings) = match &outcome {
            Ok(message) => (true, message.clone(), Vec::new()),
            Err(findings) => {
                let summary = config::report::summary(findings);
                (false, format!("refused, nothing has changed: {summary}"), findings.clone())
            }
        };
        if applied {
            self.reloads.applied.add(1);
        } else {
            self.reloads.refused.add(1);
            self.tell_refused(&findings);
            for finding in &findings {
                let place = finding.place.as_ref().map(|p| format!("{}:{}:{}", p.file, p.line, p.column));
                tracing::error!(
                    id = finding.id,
                    place,
                    remedy = finding.remedy,
                    "configuration refused: {}",
                    finding.message
                );
            }
        }
        self.reloads.valid.set(i64::from(applied));
        let last = LastReload { applied, message, findings, at: self.clock.now() };
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        self.manager.ready(&self.status(), false);
        outcome
    }

    fn tell_applied(&self, applied: Applied) -> String {
        let Applied { message, changes } = applied;
        let changes = match changes.is_empty() {
            true => "nothing in its text; the files that it names were read again".to_owned(),
            false => changes.join("; "),
        };
        let event = Event::ConfigApplied { config: self.source.name(), outcome: message.clone(), changes };
        self.journal.tell(event);
        message
    }

    fn tell_refused(&self, findings: &[Finding]) {
        let problem = findings.first().map(|f| match &f.place {
            Some(place) => format!("{}:{}: {}", place.file, place.line, f.message),
            None => f.message.clone(),
        });
        let (problem, problems) = (problem.unwrap_or_default(), findings.len() as u64);
        self.journal.tell(Event::ConfigRefused { config: self.source.name(), problem, problems });
    }

    fn try_reload(&self) -> Result<Applied, Vec<Finding>> {
        // One at a time: the lock on what was read last is held until the new plan is in force.
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = read(&self.source);
        // A wrong text is remembered too, so that it is complained about once and not at every look. So are the files
        // from before: one that was missing may come back.
        let before: Vec<PathBuf> = known.files.iter().map(|(path, _)| path.clone()).collect();
        *known = Read::of(&outcome, outcome.compiled.as_ref().map_or(&before, |c| &c.files));
        let Some(mut compiled) = outcome.compiled.clone() else {
            // What is merely unwise is no reason for a refusal and would hide the one there is.
            return Err(outcome.findings.into_iter().filter(|f| f.severity == Severity::Error).collect());
        };
        log_warnings(&outcome);
        let kept = self.fixed.differences(&Fixed::of(&compiled));
        let (admin, api) = settings_of(&compiled);
        for server in self.servers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            match server {
                Settable::Admin(server) => {
                    // Whether a token is needed follows from where it listens, which has not changed.
                    let require_token = !self.fixed.admin.ip().is_loopback();
                    server.update(AdminSettings { require_token, ..admin.clone() });
                }
                Settable::Api(server) => server.update(api.clone()),
            }
        }
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = Stopping::of(&compiled);
        let applied = self.operations.put_in_force(&mut compiled.plan, |plan| self.gateway.apply(plan.clone()));
        if let Err(error) = applied {
            tracing::warn!(%error, "the new configuration is in force, but not all health checks could be started");
        }
        self.discovery.configure(&compiled.discovery);
        if let Err(error) = self.pools.apply(&compiled.pools) {
            tracing::error!(%error, "the new configuration is in force, but not for every pool");
        }
        let message = match kept.as_slice() {
            [] => "in force".to_owned(),
            kept => format!("in force, but a restart is needed for {}", kept.join(", ")),
        };
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = config::diff::changes(&in_force, outcome.source.text());
        outcome.source.text().clone_into(&mut in_force);
        Ok(Applied { message, changes })
    }
}
